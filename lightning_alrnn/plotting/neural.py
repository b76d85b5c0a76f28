"""Figures of spikes: recorded and of a model."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.analysis.neural import SpikeStatistics, pearson, tuning
from lightning_alrnn.plotting.style import BLUE, GREY, new_figure, tidy

_SHOWN = 8
_NAME_CHARACTERS = 16


class ExampleTrial(NamedTuple):
    """One trial, recorded and of the model.

    Attributes:
        condition: its condition.
        spikes: recorded counts, shape ``(bins, N)``.
        drawn: counts drawn from the free-running model with the same inputs, of the same shape.
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
    """Recorded and model spikes by condition, beside the regimes visited.

    Args:
        averages: as :class:`ConditionAverages` computes them.
        examples: trials to show, one a condition.
        names: names of the conditions; ``None`` for their numbers.
        data: what the spikes are that the model is compared with: "recorded" or "simulated".

    Returns:
        Figure with a row for each condition, the eight with most trials at most. From left to right: the counts of one
        recorded trial; counts drawn from the free-running model with the same inputs; the mean counts over trials,
        recorded and of the model; and the share of trials in which each nonlinear unit is on, whose pattern is the
        regime. Units are in the order of their rates.
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
        axes.text(0.5, 0.5, "no trials", ha="center", transform=axes.transAxes, color=GREY)
        return figure

    steps = int((trials[shown] > 0).sum(dim=1).max())
    spikes, rates, on = (averages[name].cpu()[:, :steps] for name in ("spikes", "rates", "on"))
    order = spikes.nanmean(dim=(0, 1)).argsort(descending=True, stable=True)
    top = max(float(np.nanquantile(rates[shown].numpy(), 0.995)), float(np.nanquantile(spikes[shown].numpy(), 0.98)))
    found = {example.condition: example for example in examples}
    panels = figure.subplots(len(shown), 5, squeeze=False, width_ratios=(1, 1, 1, 1, 0.9), sharex=True)
    titles = (f"one trial, {data}", "one trial, model", f"mean counts, {data}", "mean counts, model", "regimes")
    for axes, title in zip(panels[0], titles, strict=True):
        axes.set_title(title, fontsize=9)
    for row, condition in zip(panels, shown, strict=True):
        name = str(condition) if names is None else names[condition]
        row[0].set_ylabel(f"{_short(name)}\nunit, by rate", fontsize=7)
        example = found.get(condition)
        for axes, counts in zip(row[:2], (None, None) if example is None else example[1:], strict=True):
            _raster(axes, None if counts is None else counts.cpu()[:steps, order], steps)
        for axes, mean in zip(row[2:4], (spikes, rates), strict=True):
            image = axes.imshow(
                mean[condition][:, order].T.numpy(),
                aspect="auto",
                cmap="cividis",
                vmin=0,
                vmax=max(top, 1e-6),
                interpolation="nearest",
            )
        _regimes(row[4], on[condition].T.numpy())
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
    """Rates, coefficients of variation and Fano factors of the model against those of the data.

    Args:
        found: the statistics.
        data: what the spikes are that the model is compared with: "recorded" or "simulated".

    Returns:
        Figure with a point for each unit and condition (rates, and rates without each unit's mean over conditions) or
        for each unit (coefficient of variation and Fano factor of the counts in bins); on the line the two are equal.
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
    for axes, (title, own, model) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        tidy(axes)
        x, y = (values.flatten().cpu().numpy() for values in (own, model))
        known = np.isfinite(x) & np.isfinite(y)
        low, high = _limits(np.concatenate((x[known], y[known])))
        axes.plot([low, high], [low, high], color=GREY, linewidth=0.8)
        axes.plot(x[known], y[known], "o", color=BLUE, markersize=3, alpha=0.7, markeredgewidth=0)
        axes.set_xlim(low, high)
        axes.set_ylim(low, high)
        axes.set_aspect("equal")
        axes.set_title(f"{title}, r = {float(pearson(own, model)):.2f}", fontsize=9)
        axes.set_xlabel(data)
        axes.set_ylabel("free-running model")
    return figure


def _raster(axes: Axes, counts: Tensor | None, steps: int) -> None:
    """Counts ``(bins, N)`` as marks, the darker the more spikes; what lies past the trial's end is shaded."""
    if counts is None:
        axes.set_yticks([])
        return
    axes.imshow(counts.T.numpy(), aspect="auto", cmap="Greys", vmin=0, vmax=3, interpolation="nearest")
    if len(counts) < steps:
        axes.axvspan(len(counts) - 0.5, steps - 0.5, color="0.85", linewidth=0)


def _regimes(axes: Axes, on: NDArray[Any]) -> None:
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


def _short(name: str) -> str:
    short = name if len(name) <= _NAME_CHARACTERS else name[: _NAME_CHARACTERS - 1] + "…"
    return short.replace("$", r"\$")  # else matplotlib reads a formula
