"""The figure of a sweep's verdict."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lightning_alrnn.plotting.style import BLUE, GREEN, GREY, ORANGE, PURPLE, RED, SKY, new_figure, tidy
from lightning_alrnn.sweep.verdict import SizeVerdict, Units, Verdict

_SERIES = ((BLUE, "o"), (ORANGE, "s"), (GREEN, "^"), (PURPLE, "D"), (SKY, "v"), (RED, "P"))
_LINES = ("-", "--", ":", "-.")
_DECADES = 30.0
_SPREAD = 0.3
_CHARACTERS = 96
_LINE_HEIGHT = 0.062


def plot_verdict(verdict: Verdict) -> Figure:
    """Score, share of solved runs, regimes and active units against P, a curve for each size of training data.

    Args:
        verdict: as :func:`lightning_alrnn.sweep.verdict.judge` returns it.

    Returns:
        Figure with, on top, the score of every run, those with other settings than the chosen one hollow, the mean and
        its 95 % bootstrap band, the baselines' means and bands at the largest size, the threshold and the smallest
        sufficient P. Below, as far as there are any, the share of runs that solve the task with its 95 % Wilson
        interval, the regimes visited and the active units. P is spaced by rank.

    Example:
        >>> from lightning_alrnn.sweep.verdict import Run, judge
        >>> figure = plot_verdict(judge([Run("ALRNN", p, 0, {}, {"test/accuracy": 0.9}) for p in (0, 1, 5)]))
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['0', '1', '5']
    """
    grid = sorted({units.nonlinear_units for size in verdict.sizes for units in size.units})
    lower = _lower_panels(verdict)
    figure = new_figure(7.2, 6.2 if lower else 4.2)
    rows = figure.subplot_mosaic(
        [["score"] * len(lower), [name for name, _, _ in lower]] if lower else [["score"]],
        height_ratios=(1.65, 1) if lower else (1,),
    )
    figure.suptitle(textwrap.fill(verdict.answer, _CHARACTERS), fontsize=9.5, x=0.01, ha="left")
    _draw_scores(rows["score"], verdict, grid)
    for name, label, draw in lower:
        axes = tidy(rows[name])
        draw(axes)
        axes.set_title(label, fontsize=9)
        _mark_units(axes, grid, None)
    return figure


def _lower_panels(verdict: Verdict) -> list[tuple[str, str, Callable[[Axes], None]]]:
    """Name, title and drawing of the panels that there is something for."""
    grid = sorted({units.nonlinear_units for size in verdict.sizes for units in size.units})
    panels: list[tuple[str, str, Callable[[Axes], None]]] = []
    if verdict.rules.threshold is not None:
        panels.append(("solved", "share of runs that solve it", lambda axes: _draw_solved(axes, verdict, grid)))
    every = [units for size in verdict.sizes for units in size.units]
    if any(units.regimes_runs for units in every):
        panels.append(
            (
                "regimes",
                "regimes visited",
                lambda axes: _draw_counts(axes, verdict, grid, lambda units: units.regimes_runs, doubling=True),
            )
        )
    if any(units.active_runs for units in every):
        panels.append(
            (
                "active",
                "active nonlinear units",
                lambda axes: _draw_counts(axes, verdict, grid, lambda units: units.active_runs, doubling=False),
            )
        )
    return panels


def _draw_scores(axes: Axes, verdict: Verdict, grid: Sequence[int]) -> None:
    rules = verdict.rules
    tidy(axes)
    last = verdict.sizes[-1]
    _choose_scale(axes, verdict)
    several = len(verdict.sizes) > 1
    for index, size in enumerate(verdict.sizes):
        colour, marker = _SERIES[index % len(_SERIES)]
        shift = _shift(index, len(verdict.sizes))
        scored = [units for units in size.units if units.scores]
        place = np.array([grid.index(units.nonlinear_units) for units in scored]) + shift
        low, high = [units.low for units in scored], [units.high for units in scored]
        axes.fill_between(place, low, high, color=colour, alpha=0.18, lw=0)
        label = f"{size.train_size} training sequences{_enough(size)}" if several else "mean, 95 % band"
        axes.plot(place, [units.mean for units in scored], color=colour, marker=marker, ms=3, lw=1.4, label=label)
        for units in size.units:
            x = grid.index(units.nonlinear_units) + shift
            scores, others = list(units.scores.values()), units.other_scores
            axes.scatter(_jittered(x, len(scores), verdict), scores, s=13, c=colour, marker=marker, alpha=0.65, lw=0)
            jittered = _jittered(x, len(others), verdict)
            axes.scatter(jittered, others, s=15, marker=marker, fc="none", ec=colour, alpha=0.6, lw=0.6)
    labels = []
    for line, baseline in zip(_cycle(_LINES, len(last.baselines)), last.baselines, strict=True):
        if not math.isnan(baseline.low):
            axes.axhspan(baseline.low, baseline.high, color=GREY, alpha=0.15, lw=0)
        axes.axhline(baseline.mean, color=GREY, lw=1.1, ls=line, zorder=0)
        labels.append((baseline.mean, baseline.core, "0.35"))
    if rules.threshold is not None:
        axes.axhline(rules.threshold, color=RED, lw=0.9, ls=(0, (6, 3)), zorder=0)
        labels.append((rules.threshold, f"solved {'≥' if rules.higher_is_better else '≤'} {rules.threshold:.3g}", RED))
    axes.margins(y=0.08)
    axes.set_ylim(*axes.get_ylim())  # what is written beside the curves does not change the scale
    _mark_units(axes, grid, last.hidden_size)
    _write_beside(axes, labels)
    _mark_diverged(axes, verdict, grid)
    _mark_sufficient(axes, verdict.sizes, grid)
    axes.set_ylabel(f"{rules.score} ({'higher' if rules.higher_is_better else 'lower'} is better)", fontsize=9)
    axes.set_xlabel("nonlinear units P", fontsize=9)
    _write_legend(axes, verdict)


def _write_legend(axes: Axes, verdict: Verdict) -> None:
    """Names of the curves, and of the points that no curve goes through; none where there is nothing to tell apart."""
    handles, labels = axes.get_legend_handles_labels()
    if any(units.other_scores for size in verdict.sizes for units in size.units):
        handles.append(Line2D([], [], ls="", marker="o", ms=4, mfc="none", mec=GREY))
        labels.append("runs with other settings")
    if len(labels) > 1:
        axes.legend(handles, labels, frameon=False, fontsize=8, ncols=2, loc="lower left", bbox_to_anchor=(-0.01, 1.06))


def _enough(size: SizeVerdict) -> str:
    smallest = size.claims.smallest_sufficient
    return "" if smallest is None else f", P={smallest} is enough"


def _draw_solved(axes: Axes, verdict: Verdict, grid: Sequence[int]) -> None:
    for index, size in enumerate(verdict.sizes):
        colour, marker = _SERIES[index % len(_SERIES)]
        tried = [units for units in size.units if units.solved is not None and units.tried]
        place = np.array([grid.index(units.nonlinear_units) for units in tried]) + _shift(index, len(verdict.sizes))
        share = np.array([(units.solved or 0) / units.tried for units in tried])
        limits = np.array([[units.solved_low for units in tried], [units.solved_high for units in tried]])
        # the interval of a share of 0 or 1 begins there but for rounding
        errors = np.abs(limits - share)
        axes.errorbar(place, share, yerr=errors, fmt=marker, ms=4, color=colour, lw=1, capsize=2)
    axes.set_ylim(-0.05, 1.05)


def _draw_counts(
    axes: Axes, verdict: Verdict, grid: Sequence[int], runs: Callable[[Units], tuple[float, ...]], *, doubling: bool
) -> None:
    """A number that each run has, such as that of active units: every run, and the means."""
    if doubling:
        axes.set_yscale("log", base=2)
    for index, size in enumerate(verdict.sizes):
        colour, marker = _SERIES[index % len(_SERIES)]
        place = np.array([grid.index(units.nonlinear_units) for units in size.units]) + _shift(
            index, len(verdict.sizes)
        )
        means = [float(np.mean(values)) if (values := runs(units)) else math.nan for units in size.units]
        axes.plot(place, means, color=colour, marker=marker, ms=3, lw=1.2)
        for x, units in zip(place, size.units, strict=True):
            values = runs(units)
            axes.scatter(
                _jittered(x, len(values), verdict),
                values,
                s=9,
                c=colour,
                marker=marker,
                alpha=0.55,
                lw=0,
                clip_on=False,
            )
    if not doubling:
        axes.set_ylim(bottom=-0.02 * axes.get_ylim()[1])
    elif axes.get_ylim()[1] < 4:  # one regime alone leaves the axis without a tick
        axes.set_ylim(0.8, 4)


def _choose_scale(axes: Axes, verdict: Verdict) -> None:
    """A logarithmic scale for errors that span decades."""
    size_scores = [score for size in verdict.sizes for units in size.units for score in units.scores.values()]
    scores = size_scores + [baseline.mean for baseline in verdict.sizes[-1].baselines]
    positive = [score for score in scores if score > 0]
    if verdict.rules.higher_is_better or not positive or max(positive) < _DECADES * min(positive) or min(scores) < 0:
        return
    if min(scores) > 0:
        axes.set_yscale("log")
    else:  # an error of 0 has its place below the smallest other
        axes.set_yscale("symlog", linthresh=min(positive))


def _mark_units(axes: Axes, grid: Sequence[int], hidden_size: int | None) -> None:
    """Ticks of P by rank; where M is given, the linear and the fully nonlinear end by name."""
    names = {0: "linear", hidden_size: "fully nonlinear"} if hidden_size is not None else {}
    labels = [f"{p}\n{names[p]}" if p in names else str(p) for p in grid]
    axes.set_xticks(range(len(grid)), labels, fontsize=8)
    axes.tick_params(axis="y", labelsize=8)
    axes.set_xlim(-0.5, len(grid) - 0.5)


def _mark_diverged(axes: Axes, verdict: Verdict, grid: Sequence[int]) -> None:
    """How many runs of a P diverged, at the worse end of the scale."""
    edge = 0.03 if verdict.rules.higher_is_better else 0.97
    for index, size in enumerate(verdict.sizes):
        for units in size.units:
            lost = units.tried - len(units.scores)
            if lost:
                axes.text(
                    grid.index(units.nonlinear_units) + _shift(index, len(verdict.sizes)),
                    edge,
                    f"× {lost}\ndiverged" if len(verdict.sizes) == 1 else f"× {lost}",
                    color=_SERIES[index % len(_SERIES)][0],
                    fontsize=7,
                    ha="center",
                    va="bottom" if verdict.rules.higher_is_better else "top",
                    transform=axes.get_xaxis_transform(),
                )


def _mark_sufficient(axes: Axes, sizes: Sequence[SizeVerdict], grid: Sequence[int]) -> None:
    """A line at the smallest sufficient P of each size; with several the legend says what it is."""
    for index, size in enumerate(sizes):
        smallest = size.claims.smallest_sufficient
        if smallest is None:
            continue
        place = grid.index(smallest) + _shift(index, len(sizes))
        colour = "black" if len(sizes) == 1 else _SERIES[index % len(_SERIES)][0]
        axes.axvline(place, color=colour, lw=0.9, ls=":", zorder=0)
        if len(sizes) == 1:
            # at the ends the text would leave the axes
            side = "left" if place == 0 else "right" if place == len(grid) - 1 else "center"
            text = f"P={smallest} is enough"
            axes.text(place, 1.01, text, fontsize=8, ha=side, va="bottom", transform=axes.get_xaxis_transform())


def _write_beside(axes: Axes, labels: Sequence[tuple[float, str, str]]) -> None:
    """Names of horizontal lines, right of the axes, moved apart where they would overlap."""
    low, high = axes.transData.transform([(0, limit) for limit in axes.get_ylim()])[:, 1]
    ordered = sorted(labels)
    wanted = [(axes.transData.transform((0, value))[1] - low) / (high - low) for value, _, _ in ordered]
    places: list[float] = []
    for height in wanted:
        places.append(max(height, places[-1] + _LINE_HEIGHT) if places else height)
    # upwards as far as needed, and all back down by half of that
    excess = max((place - height for place, height in zip(places, wanted, strict=True)), default=0.0) / 2
    for place, height, (_, text, colour) in zip(places, wanted, ordered, strict=True):
        axes.annotate(
            text,
            xy=(1.0, height),
            xytext=(1.035, place - excess),
            xycoords="axes fraction",
            fontsize=8,
            color=colour,
            va="center",
            arrowprops={"arrowstyle": "-", "color": colour, "lw": 0.5, "shrinkA": 0, "shrinkB": 0},
        )


def _shift(index: int, sizes: int) -> float:
    """How far the curves of a size stand from the tick, so that those of several do not cover each other."""
    return 0.0 if sizes == 1 else _SPREAD * (2 * index / (sizes - 1) - 1) * 0.7


def _jittered(place: float, runs: int, verdict: Verdict) -> list[float]:
    """Places of runs around a tick, in the order of their seeds."""
    width = _SPREAD / max(1.0, 1.5 * (len(verdict.sizes) - 1))
    return (place + width * np.linspace(-0.5, 0.5, runs)).tolist() if runs > 1 else [place] * runs


def _cycle(items: Sequence[str], length: int) -> list[str]:
    return [items[index % len(items)] for index in range(length)]
