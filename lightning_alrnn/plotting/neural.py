"""Figures of recorded spikes and those of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.analysis.neural import SpikeStatistics, pearson, tuning
from lightning_alrnn.plotting.style import BLUE, GREY, new_figure, shorten, tidy, write_in_middle

_SHOWN = 8
_NAME_CHARACTERS = 16


class ExampleTrial(NamedTuple):
    """One trial, recorded and of the model.

    Attributes:
        condition: Index of the condition.
        spikes: Recorded counts, shape ``(bins, N)``.
        drawn: Counts drawn from the free-running model with the same inputs, shape ``(bins, N)``.
    """

    condition: int
    spikes: Tensor
    drawn: Tensor


def plot_neural_fit(
    averages: dict[str, Tensor],
    examples: Sequence[ExampleTrial] = (),
    names: Sequence[str] | None = None,
    *,
    data: str = "recorded",
) -> Figure:
    """Draw recorded spikes and those of the model by condition, and the regimes of the model.

    Args:
        averages: Result of :meth:`lightning_alrnn.metrics.ConditionAverages.compute`.
        examples: Trials to show, one for each condition.
        names: Names of the conditions; ``None`` for indices.
        data: Word for the spikes that the model is compared with: "recorded" or "simulated".

    Returns:
        Figure with a row for each condition, at most the eight with most trials, and units in the order of their rates.
        From left to right: counts of one trial, recorded and of the model; mean counts over trials, recorded and of the
        model; and the share of trials in which each nonlinear unit is on.
    """
    trials = averages["trials"].cpu()
    ranked = trials.sum(dim=1).argsort(descending=True, stable=True)[:_SHOWN]
    shown = [int(condition) for condition in ranked.sort().values if int(trials[condition].sum()) > 0]
    figure = new_figure(13.0, min(1.1 + 1.55 * max(len(shown), 1), 13.0))
    more = "" if len(shown) == int((trials.sum(dim=1) > 0).sum()) else f", the {len(shown)} with most trials"
    figure.suptitle(
        f"{averages['spikes'].shape[-1]} units, {len(trials)} conditions{more}; {data} and of the free-running "
        f"model; mean counts by unit, condition and bin: r = {float(averages['psth_correlation']):.2f}",
        fontsize=10,
    )
    if not shown:
        axes = figure.subplots()
        axes.set_axis_off()
        write_in_middle(axes, "no trials")
        return figure

    steps = int((trials[shown] > 0).sum(dim=1).max())
    spikes, rates, on = (averages[name].cpu()[:, :steps] for name in ("spikes", "rates", "on"))
    order = spikes.nanmean(dim=(0, 1)).argsort(descending=True, stable=True)
    top = max(float(np.nanquantile(rates[shown].numpy(), 0.995)), float(np.nanquantile(spikes[shown].numpy(), 0.98)))
    example_of = {example.condition: example for example in examples}
    panels = figure.subplots(len(shown), 5, squeeze=False, width_ratios=(1, 1, 1, 1, 0.9), sharex=True)
    titles = (f"one trial, {data}", "one trial, model", f"mean counts, {data}", "mean counts, model", "regimes")
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    for row, condition in zip(panels, shown, strict=True):
        name = str(condition) if names is None else names[condition]
        row[0].set_ylabel(f"{shorten(name, _NAME_CHARACTERS)}\nunit, by rate", fontsize=7)
        example = example_of.get(condition)
        for axes, counts in zip(row[:2], (None, None) if example is None else example[1:], strict=True):
            if counts is None:
                axes.set_yticks([])
            else:
                _draw_raster(axes, counts.cpu()[:steps, order], steps)
        for axes, mean in zip(row[2:4], (spikes, rates), strict=True):
            style: dict[str, Any] = {"aspect": "auto", "cmap": "cividis", "interpolation": "nearest"}
            image = axes.imshow(mean[condition][:, order].T.numpy(), vmin=0, vmax=max(top, 1e-6), **style)
        _draw_regimes(row[4], on[condition].T.numpy())
        for axes in row:
            axes.tick_params(labelsize=7)
            axes.set_xlim(-0.5, steps - 0.5)
        for axes in row[1:4]:
            axes.set_yticks([])
    for axes in panels[-1]:
        axes.set_xlabel("bin", fontsize=8)
    figure.colorbar(image, ax=panels[:, 2:4], location="bottom", label="counts a bin", shrink=0.5, aspect=40, pad=0.01)
    return figure


def plot_spike_agreement(found: SpikeStatistics, *, data: str = "recorded") -> Figure:
    """Draw rates, coefficients of variation and Fano factors of the model against those of the data.

    Args:
        found: Statistics of the spikes.
        data: Word for the spikes that the model is compared with: "recorded" or "simulated".

    Returns:
        Figure with a point for each unit and condition (rates, and rates without the mean of each unit over conditions)
        or for each unit (coefficient of variation, and Fano factor of the counts in bins), and the line of equality.
    """
    figure = new_figure(13.0, 3.5)
    panels: list[tuple[str, Tensor, Tensor]] = [
        ("mean counts a bin", found.rates, found.expected_rates),
        ("the same less each unit's mean", tuning(found.rates), tuning(found.expected_rates)),
        ("coefficient of variation", found.cv, found.expected_cv),
        ("Fano factor", found.fano, found.expected_fano),
    ]
    if len(found.rates) < 2:
        del panels[1]
    for axes, (title, recorded, model) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        tidy(axes)
        x, y = (values.flatten().cpu().numpy() for values in (recorded, model))
        finite = np.isfinite(x) & np.isfinite(y)
        low, high = _limits(np.concatenate((x[finite], y[finite])))
        axes.plot([low, high], [low, high], color=GREY, linewidth=0.8)
        axes.plot(x[finite], y[finite], "o", color=BLUE, markersize=3, alpha=0.7, markeredgewidth=0)
        axes.set(xlim=(low, high), ylim=(low, high), aspect="equal")
        axes.set_title(f"{title}, r = {float(pearson(recorded, model)):.2f}", fontsize=9)
        axes.set(xlabel=data, ylabel="free-running model")
    return figure


def _draw_raster(axes: Axes, counts: Tensor, steps: int) -> None:
    """Counts ``(bins, N)`` as marks, darker for more spikes; the steps past the end of the trial are shaded."""
    axes.imshow(counts.T.numpy(), aspect="auto", cmap="Greys", vmin=0, vmax=3, interpolation="nearest")
    if len(counts) < steps:
        axes.axvspan(len(counts) - 0.5, steps - 0.5, color="0.85", linewidth=0)


def _draw_regimes(axes: Axes, on: NDArray[Any]) -> None:
    """Shares ``(P, bins)``: a line for one unit, a row for each of several."""
    units = len(on)
    if units == 0:
        axes.set_yticks([])
        axes.text(0.5, 0.5, "P = 0: one regime", ha="center", va="center", transform=axes.transAxes, color=GREY)
    elif units == 1:
        tidy(axes).fill_between(np.arange(on.shape[1]), 0, on[0], step="mid", color=BLUE, alpha=0.85, linewidth=0)
        axes.set_ylim(0, 1)
        axes.set_ylabel("share on", fontsize=7)
    else:
        axes.imshow(on, aspect="auto", cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
        axes.set_ylabel("nonlinear unit", fontsize=7)
        axes.set_yticks(range(0, units, max(1, units // 4)))


def _limits(values: NDArray[Any]) -> tuple[float, float]:
    if len(values) == 0:
        return 0.0, 1.0
    low, high = float(values.min()), float(values.max())
    margin = 0.05 * (high - low) or 0.5
    return low - margin, high + margin
