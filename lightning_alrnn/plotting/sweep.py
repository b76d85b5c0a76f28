"""The figure of a sweep's verdict."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lightning_alrnn.plotting.style import GREEN, GREY, RED, SERIES_COLOURS, new_figure, tidy
from lightning_alrnn.sweep.estimates import Estimate
from lightning_alrnn.sweep.learning_time import LearningTime
from lightning_alrnn.sweep.verdict import Verdict
from lightning_alrnn.sweep.words import number, status

_DARK = "0.3"
_MARKS = {  # colour, and marker and its size so that colours are not all that tells them apart; label
    "enough": (GREEN, "o", 7.5, "P is enough"),
    "not enough": (RED, "X", 7.5, "P is not enough"),
    "not shown": (_DARK, "D", 5.5, "neither is shown"),
    "not compared": (_DARK, "_", 14.0, "not compared"),
}
_CHARACTERS = 104
_DECADES = 30.0
_SPREAD = 0.3  # of the runs around a tick
_ROOM = 0.2  # part of the axes' height that is kept for what has no finite place


class Column(NamedTuple):
    """The runs with one P at one size of training data, and how they are drawn.

    Attributes:
        estimate: The runs.
        size: Index of the size of training data.
        place: Place on the horizontal axis.
        width: Width that the runs are spread over.
        colour: Colour of the runs.
        line: Colour of what belongs to all P.
        shown: Mark of the typical run: "enough", "not enough", "not shown" or "not compared".
    """

    estimate: Estimate
    size: int
    place: float
    width: float
    colour: str
    line: str
    shown: str


_Panel = tuple[str, Callable[[Axes], None]]


def plot_verdict(verdict: Verdict) -> Figure:
    """The runs by P, and what claims rest on: how good a typical run is, and how often runs are good.

    Args:
        verdict: What :func:`lightning_alrnn.sweep.judge` returns.

    Returns:
        Figure with the answer in its title. P is spaced by rank. Top: each run, hollow where it has other settings than
        the chosen one, and the typical run of each P, whose marker says whether P is shown to be enough. Runs that
        diverged are counted at the worse end, and baselines stand on the right. Middle: the gap between the typical run
        and the best one, and the share of good runs, with their limits; where two P or more reach the threshold, the
        epochs until a typical run does. Bottom: regimes visited and active units, where they were logged. Several sizes
        of training data have a colour each.

    Example:
        >>> from lightning_alrnn.sweep import Run, judge
        >>> figure = plot_verdict(judge([Run("ALRNN", p, 0, {}, {"test/accuracy": 0.9}) for p in (0, 1, 5)]))
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['0', '1', '5']
    """
    grid = sorted({one.nonlinear_units for size in verdict.sizes for one in size.estimates})
    columns = _columns(verdict, grid)
    rows = _lower_rows(verdict, columns)
    title = textwrap.fill(verdict.answer, _CHARACTERS)
    heights = (2.45, 1.35, *[0.95] * len(rows))[: 1 + len(rows)]
    figure = new_figure(7.2, sum(heights) + 0.4 * len(rows) + 0.9 + 0.15 * title.count("\n"))
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    panels = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    size = verdict.sizes[-1].hidden_size
    names = {0: "\nlinear", size: "\nfully nonlinear"} if size is not None else {}
    labels = [f"{p}{names.get(p, '')}" for p in grid]
    draw_scores(tidy(figure.add_subplot(panels[0, :])), verdict, columns, labels)
    for index, row in enumerate(rows, start=1):
        for place, (name, draw) in enumerate(row):
            axes = tidy(figure.add_subplot(panels[index, place] if len(row) > 1 else panels[index, :]))
            axes.set_title(name, fontsize=9)
            draw(axes)
            _set_ticks(axes, [str(p) for p in grid], most=14)
    return figure


def _columns(verdict: Verdict, grid: Sequence[int]) -> list[Column]:
    """Columns of runs, where there are several sizes side by side; where there is one, colours say what is shown."""
    sizes = len(verdict.sizes)
    columns = []
    for index, size in enumerate(verdict.sizes):
        shift = 0.44 * index / (sizes - 1) - 0.22 if sizes > 1 else 0.0
        for one in size.estimates:
            shown = status(one, verdict.rules).split(":")[0]
            colour, line = (SERIES_COLOURS[index % len(SERIES_COLOURS)],) * 2 if sizes > 1 else (_MARKS[shown][0], GREY)
            place, width = grid.index(one.nonlinear_units) + shift, _SPREAD / max(1.0, 1.5 * (sizes - 1))
            columns.append(Column(one, index, place, width, colour, line, shown))
    return columns


def _lower_rows(verdict: Verdict, columns: Sequence[Column]) -> list[list[_Panel]]:
    """Titles and drawings of the panels that there is something for."""
    compared = [column for column in columns if column.estimate.compared]
    good = "that solve the task" if verdict.rules.solved is not None else "as good as the best's typical run"
    layers: list[_Panel] = [
        ("a typical run is worse than the best by", partial(_draw_gaps, compared, verdict.rules.tolerance)),
        (f"share of runs {good}", partial(_draw_shares, compared)),
    ]
    counts: list[_Panel] = [
        (title, partial(_draw_counts, columns, read, base))
        for title, read, base in (
            ("regimes visited", attrgetter("regimes"), 2),
            ("active nonlinear units", attrgetter("active"), None),
        )
        if any(read(column.estimate) for column in columns)
    ]
    times = {
        (index, one.nonlinear_units): one for index, size in enumerate(verdict.sizes) for one in size.learning_times
    }
    learning: list[_Panel] = []
    if any(sum(math.isfinite(one.typical) for one in size.learning_times) > 1 for size in verdict.sizes):
        learning = [("epochs until a typical run reaches the threshold", partial(_draw_learning, columns, times))]
    return [row for row in (layers if compared else [], learning, counts) if row]


def draw_scores(axes: Axes, verdict: Verdict, columns: Sequence[Column], labels: Sequence[str]) -> None:
    """Draw score against P: the runs, the typical one of each P, baselines, and what they are held against.

    Args:
        axes: Axes to draw on.
        verdict: Verdict on the runs.
        columns: Runs with each P.
        labels: Label of each P on the horizontal axis.
    """
    rules, last = verdict.rules, verdict.sizes[-1]
    for column in columns:
        _scatter(axes, column.place, column.width, [*column.estimate.scores.values()], column.colour)
        _scatter(axes, column.place, column.width, column.estimate.other_scores, column.colour, "none")
    for place, baseline in enumerate(last.baselines, start=len(labels)):
        scores = [*baseline.scores.values()]
        _scatter(axes, place, _SPREAD, scores, _DARK)
        axes.plot([place - 0.2, place + 0.2], [baseline.typical] * 2, color=_DARK, lw=1.4)
    if last.baselines:
        axes.axvline(len(labels) - 0.5, color=GREY, lw=0.5)
    _draw_best(axes, verdict, columns)
    _choose_scale(axes, higher_is_better=rules.higher_is_better)
    edge = _mark_diverged(axes, verdict, columns, len(labels))
    for column in columns:
        typical = column.estimate.typical
        _draw_mark(axes, column, edge if math.isnan(typical) else typical)
    _set_ticks(axes, [*labels, *(baseline.core for baseline in last.baselines)], most=28)
    axes.set_xlabel("nonlinear units P" + (", and other cores" if last.baselines else ""), fontsize=9)
    axes.set_ylabel(f"{rules.score} ({'higher' if rules.higher_is_better else 'lower'} is better)", fontsize=9)
    _write_legend(axes, verdict, columns)


def _draw_best(axes: Axes, verdict: Verdict, columns: Sequence[Column]) -> None:
    """What runs are held against: the best typical run of each size with the tolerance, and the stated score."""
    rules = verdict.rules
    _draw_lines(axes, columns, lambda one: one.typical)
    for same in _by_size(columns):
        compared = [column.estimate for column in same if column.estimate.compared]
        best = min(compared, key=lambda one: one.gap).typical if compared else math.nan
        if rules.tolerance > 1e-6 * abs(best):  # or there is nothing to be seen of it
            axes.axhspan(best, best - rules.sign * rules.tolerance, color=same[0].line, alpha=0.15, lw=0, zorder=0)
    if rules.solved is not None:
        axes.axhline(rules.solved, color="black", lw=0.9, ls="--", zorder=0)


def _choose_scale(axes: Axes, *, higher_is_better: bool) -> None:
    """A logarithmic scale for errors of which the points that are drawn span decades."""
    scores = np.concatenate([np.asarray(points.get_offsets())[:, 1] for points in axes.collections])
    positive = scores[scores > 0]
    if higher_is_better or scores.min() < 0 or positive.max(initial=0.0) <= _DECADES * positive.min(initial=math.inf):
        axes.ticklabel_format(style="plain", useOffset=False)  # a power of ten would stand in the legend
    elif scores.min() > 0:
        axes.set_yscale("log")
    else:  # an error of 0 has its place below the smallest other
        axes.set_yscale("symlog", linthresh=positive.min())


def _mark_diverged(axes: Axes, verdict: Verdict, columns: Sequence[Column], units: int) -> float:
    """Write at the worse end how many runs diverged; returns the height at which a typical run that did so stands."""
    lost, tried = Counter[int](), Counter[int]()
    for column in columns:
        lost[round(column.place)] += column.estimate.diverged
        tried[round(column.place)] += column.estimate.tried
    for place, baseline in enumerate(verdict.sizes[-1].baselines, start=units):
        lost[place], tried[place] = baseline.tried - len(baseline.scores), baseline.tried
    upward = verdict.rules.higher_is_better
    edge = _keep_room(axes, "diverged", below=upward) if lost.total() else math.nan
    height, side = (0.01, "bottom") if upward else (0.99, "top")
    for place in +lost:
        text = f"{lost[place]} of {tried[place]}"
        axes.text(place, height, text, fontsize=7, ha="center", va=side, transform=axes.get_xaxis_transform())
    return edge


def _keep_room(axes: Axes, name: str, *, below: bool = False) -> float:
    """Room at one end of the vertical axis for what has no finite place; returns a value in the midst of it."""
    scale, (low, high) = axes.yaxis.get_transform(), axes.get_ylim()
    ticks = [tick for tick in axes.get_yticks() if low <= tick <= high]
    labels = axes.yaxis.get_major_formatter().format_ticks(ticks)
    bounds = scale.transform([low, high])
    room = _ROOM / (1 - _ROOM) * (bounds[1] - bounds[0])
    edge, away = (bounds[0], -room) if below else (bounds[1], room)
    middle, end = scale.inverted().transform([edge + away / 2, edge + away])
    axes.set_yticks([*ticks, middle], [*labels, name])
    axes.set_ylim(*((end, high) if below else (low, end)))
    axes.axhline(low if below else high, color="0.8", lw=0.5, zorder=0)
    return float(middle)


def _write_legend(axes: Axes, verdict: Verdict, columns: Sequence[Column]) -> None:
    rules, several = verdict.rules, len(verdict.sizes) > 1
    handles: list[Artist] = []
    for same, size in zip(_by_size(columns), verdict.sizes, strict=True):
        label = f"{size.train_size} sequences" if several else "typical run (median)"
        if several or any(column.estimate.tried > 1 for column in same):
            handles.append(Line2D([], [], color=same[0].line, lw=1.2, label=label))
    for shown, (colour, _, _, label) in _MARKS.items():
        if any(column.shown == shown for column in columns):
            handles.append(Line2D([], [], label=label, **_mark_style(shown, _DARK if several else colour)))
    if any(column.estimate.other_scores for column in columns):
        handles.append(Line2D([], [], ls="", marker="o", ms=4, mfc="none", mec=GREY, label="other settings"))
    handles.append(Patch(color=GREY, alpha=0.3, lw=0, label="within the tolerance of the best"))
    if rules.solved is not None:
        label = f"solved: {'≥' if rules.higher_is_better else '≤'} {number(rules.solved)}"
        handles.append(Line2D([], [], color="black", lw=0.9, ls="--", label=label))
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": 4}
    axes.legend(handles=handles, frameon=False, fontsize=8, columnspacing=1.4, handlelength=1.6, **place)


def _draw_gaps(columns: Sequence[Column], tolerance: float, axes: Axes) -> None:
    """Gaps with their limits, on a scale that is linear up to the tolerance and logarithmic beyond."""
    gaps = [column.estimate.gap for column in columns]
    values = [*gaps, *(limit for column in columns for limit in (column.estimate.gap_low, column.estimate.gap_high))]
    top = 1.6 * max(tolerance, *filter(math.isfinite, values))
    base = 10 if top > 10 * tolerance else 3
    powers = range(1, 1 + int(math.log(top / tolerance, base)))
    ticks = [0.0, tolerance, *(tolerance * base**power for power in powers[:: 1 + len(powers) // 4])]
    axes.set_yscale("symlog", linthresh=tolerance)
    axes.set_ylim(-0.12 * tolerance, top)
    axes.set_yticks(ticks, ["0", f"tolerance\n{number(tolerance)}", *map(number, ticks[2:])])
    edge = _keep_room(axes, "diverged" if math.inf in gaps else "") if math.inf in values else math.nan
    for column in columns:
        gap, low = (edge if math.isinf(value) else value for value in (column.estimate.gap, column.estimate.gap_low))
        high = edge if math.isinf(column.estimate.gap) else column.estimate.gap_high
        if math.isinf(high):
            arrow = {"arrowstyle": "->", "color": column.colour, "shrinkA": 0, "shrinkB": 0}
            axes.annotate("", (column.place, axes.get_ylim()[1]), (column.place, low), arrowprops=arrow)
        _draw_mark(axes, column, gap, () if math.isinf(high) else (low, high))
    axes.axhline(tolerance, color="black", lw=0.9, ls=":", zorder=0)


def _draw_shares(columns: Sequence[Column], axes: Axes) -> None:
    for column in columns:
        one = column.estimate
        _draw_mark(axes, column, one.good / one.tried, (one.share_low, one.share_high))
    axes.axhline(0.5, color="black", lw=0.9, ls=":", zorder=0)
    axes.set_ylim(-0.06, 1.06)
    axes.set_yticks([0, 0.5, 1])


def _draw_counts(
    columns: Sequence[Column], read: Callable[[Estimate], Sequence[float]], base: int | None, axes: Axes
) -> None:
    """A number that each run has, such as that of active units, and a line through its medians."""
    if base:
        axes.set_yscale("log", base=base)
    for column in columns:
        _scatter(axes, column.place, column.width, read(column.estimate), column.colour)
    _draw_lines(axes, columns, lambda one: float(np.median(read(one))) if read(one) else math.nan)
    axes.margins(y=0.12)
    high = axes.get_ylim()[1]
    axes.set_ylim((0.7, max(4.0, high)) if base else (-0.06 * high, high))  # one regime alone would have no tick


def _draw_learning(columns: Sequence[Column], times: Mapping[tuple[int, int], LearningTime], axes: Axes) -> None:
    """Epochs of a typical run with their limits; what is not within the epochs of training stands above them."""
    places = ((column, times.get((column.size, column.estimate.nonlinear_units))) for column in columns)
    rows = [(column, one) for column, one in places if one is not None]
    spans = [(one.typical, one.low, one.high) for _, one in rows]
    top = 1.15 * max(value for span in spans for value in span if math.isfinite(value))
    axes.set_ylim(0, top)
    axes.locator_params(axis="y", nbins=3)
    axes.set_yticks([tick for tick in axes.get_yticks() if tick <= 0.75 * top])  # the label above has two lines
    beyond = any(math.isinf(value) for span in spans for value in span)
    edge = _keep_room(axes, f"not within\n{max(one.epochs for _, one in rows)}") if beyond else math.nan
    for (column, one), span in zip(rows, spans, strict=True):
        typical, low, high = (edge if math.isinf(value) else value for value in span)
        _draw_mark(axes, column, typical, (low, high) if one.low else ())


def _scatter(axes: Axes, place: float, width: float, values: Sequence[float], colour: str, face: str = "") -> None:
    """A point for each run, around a tick in the order of their seeds."""
    places = place + width * np.linspace(-0.5, 0.5, len(values)) if len(values) > 1 else [place] * len(values)
    axes.scatter(places, values, s=13, alpha=0.6, lw=0.6, facecolors=face or colour, edgecolors=colour)


def _draw_lines(axes: Axes, columns: Sequence[Column], height: Callable[[Estimate], float]) -> None:
    for same in _by_size(columns):
        heights = [height(column.estimate) for column in same]
        axes.plot([column.place for column in same], heights, color=same[0].line, lw=0.8, zorder=1)


def _draw_mark(axes: Axes, column: Column, height: float, limits: Sequence[float] = ()) -> None:
    """What is estimated of a typical run, by a marker that says whether P is shown to be enough, and its limits."""
    axes.plot([column.place] * len(limits), limits, color=column.colour, lw=1.2, marker="_", ms=5)
    axes.plot(column.place, height, **_mark_style(column.shown, column.colour), zorder=3)


def _mark_style(shown: str, colour: str) -> dict[str, Any]:
    _, marker, size, _ = _MARKS[shown]
    face, edge = (colour, "white") if marker in "oX" else ("white", colour)
    return {"ls": "", "marker": marker, "ms": size, "mfc": face, "mec": edge, "mew": 0.9}


def _by_size(columns: Sequence[Column]) -> list[list[Column]]:
    return [list(same) for _, same in groupby(columns, key=attrgetter("size"))]


def _set_ticks(axes: Axes, labels: Sequence[str], most: int) -> None:
    """Ticks of the columns, where there are too many of every second or third and the last."""
    step = 1 + (len(labels) - 1) // most
    places = [*range(0, len(labels) - step, step), len(labels) - 1]
    axes.set_xticks(places, [labels[place] for place in places], fontsize=8)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.tick_params(axis="y", which="both", labelsize=8)
