"""The figure of a sweep's verdict."""

from __future__ import annotations

import math
import textwrap
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from itertools import groupby
from operator import attrgetter
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lightning_alrnn.plotting.style import GREEN, GREY, RED, SERIES_COLOURS, new_figure, tidy

if TYPE_CHECKING:  # the package of sweeps draws with this one
    from lightning_alrnn.sweep import Baseline, Estimate, LearningTime, Rules, Verdict

_DARK = "0.3"
_MARKS = {  # colour, and marker and its size so that colours are not all that tells them apart; label
    "enough": (GREEN, "o", 7.5, "P is enough"),
    "not enough": (RED, "X", 7.5, "P is not enough"),
    "not shown": (_DARK, "D", 5.5, "neither is shown"),
    "not compared": (_DARK, "_", 14.0, "not compared"),
}
_CHARACTERS = 104
_DECADES = 30.0
_MOST_SHAPES = 200  # points of a column
_SPREAD = 0.3  # of the runs around a tick
_ROOM = 0.2  # part of the axes' height that is kept for values that are not finite


class Column(NamedTuple):
    """The runs with one P at one size of training data, and how they are drawn."""

    estimate: Estimate
    size: str  # label of the size of training data
    place: float
    width: float  # that the runs are spread over
    colour: str
    line: str  # colour of lines through all P
    status: str  # key of _MARKS


_Panel = tuple[str, Callable[[Axes], None]]


def plot_verdict(verdict: Verdict) -> Figure:
    """Draw the runs of a sweep by P, and the estimates that its claims rest on.

    Args:
        verdict: Result of :func:`lightning_alrnn.sweep.judge`.

    Returns:
        Figure with the answer in its title. Top: each run (hollow for settings that were not chosen) and the typical
        run of each P, with a marker for whether P is enough; runs that diverged are counted at the worse end, and
        baselines stand on the right. Middle: the gap between the typical run and the best one, the share of good runs,
        and, where two P or more reach the threshold, the epochs that a typical run takes. Bottom: regimes visited and
        active units, where they were logged. Several sizes of training data have a colour each.

    Example:
        >>> from lightning_alrnn.sweep import Run, judge
        >>> figure = plot_verdict(judge([Run("ALRNN", p, 0, {}, {"test/accuracy": 0.9}) for p in (0, 1, 5)]))
        >>> [label.get_text() for label in figure.axes[0].get_xticklabels()]
        ['0', '1', '5']
    """
    grid = sorted({one.nonlinear_units for size in verdict.sizes for one in size.estimates})
    columns = _columns(verdict, grid)
    rows = _lower_rows(verdict, columns)
    title = textwrap.fill(verdict.answer.replace(" %", "\u00a0%"), _CHARACTERS)  # a number and its % stay together
    heights = (2.45, 1.35, *[0.95] * len(rows))[: 1 + len(rows)]
    figure = new_figure(7.2, sum(heights) + 0.4 * len(rows) + 0.9 + 0.15 * title.count("\n"))
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    panels = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    last = verdict.sizes[-1]
    names = {0: "\nlinear", last.hidden_size: "\nfully nonlinear"} if last.hidden_size is not None else {}
    labels = [f"{p}{names.get(p, '')}" for p in grid]
    draw_scores(tidy(figure.add_subplot(panels[0, :])), verdict.rules, columns, labels, last.baselines)
    for index, row in enumerate(rows, start=1):
        for place, (name, draw) in enumerate(row):
            axes = tidy(figure.add_subplot(panels[index, place] if len(row) > 1 else panels[index, :]))
            axes.set_title(name, fontsize=9)
            draw(axes)
            _set_ticks(axes, [str(p) for p in grid], most=14)
    return figure


def _columns(verdict: Verdict, grid: Sequence[int]) -> list[Column]:
    """Columns of runs, side by side where there are several sizes; of a single size, colours show the status."""
    sizes = len(verdict.sizes)
    columns = []
    for index, size in enumerate(verdict.sizes):
        shift = 0.44 * index / (sizes - 1) - 0.22 if sizes > 1 else 0.0
        for one in size.estimates:
            status = verdict.status(one)
            colour, line = (
                (SERIES_COLOURS[index % len(SERIES_COLOURS)],) * 2 if sizes > 1 else (_MARKS[status][0], GREY)
            )
            label = f"{size.train_size} sequences" if sizes > 1 else ""
            place, width = grid.index(one.nonlinear_units) + shift, _SPREAD / max(1.0, 1.5 * (sizes - 1))
            columns.append(Column(one, label, place, width, colour, line, status))
    return columns


def _lower_rows(verdict: Verdict, columns: Sequence[Column]) -> list[list[_Panel]]:
    """Titles and drawings of the panels that there are data for."""
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
    times = [
        {one.nonlinear_units: one for one in size.learning_times}.get(estimate.nonlinear_units)
        for size in verdict.sizes
        for estimate in size.estimates
    ]
    learning: list[_Panel] = []
    if any(sum(math.isfinite(one.typical) for one in size.learning_times) > 1 for size in verdict.sizes):
        learning = [("epochs until a typical run reaches the threshold", partial(_draw_learning, columns, times))]
    return [row for row in (layers if compared else [], learning, counts) if row]


def draw_scores(
    axes: Axes, rules: Rules, columns: Sequence[Column], labels: Sequence[str], baselines: Sequence[Baseline] = ()
) -> None:
    """Draw score against P: the runs, the typical run of each P, baselines, the tolerance and the stated score."""
    for column in columns:
        _scatter(axes, column.place, column.width, [*column.estimate.scores.values()], column.colour)
        _scatter(axes, column.place, column.width, column.estimate.other_scores, column.colour, "none")
    for place, baseline in enumerate(baselines, start=len(labels)):
        scores = [*baseline.scores.values()]
        _scatter(axes, place, _SPREAD, scores, _DARK)
        axes.plot([place - 0.2, place + 0.2], [baseline.typical] * 2, color=_DARK, lw=1.4)
        axes.plot([-0.5, place], [baseline.typical] * 2, color=GREY, lw=0.6, ls=":", zorder=0)
    if baselines:
        axes.axvline(len(labels) - 0.5, color=GREY, lw=0.5)
    _draw_best(axes, rules, columns)
    _choose_scale(axes, higher_is_better=rules.higher_is_better)
    edge = _mark_diverged(axes, columns, baselines, len(labels), upward=rules.higher_is_better)
    for column in columns:
        typical = column.estimate.typical
        _draw_mark(axes, column, edge if math.isnan(typical) else typical)
    _set_ticks(axes, [*labels, *(textwrap.fill(baseline.core, 11) for baseline in baselines)], most=28)
    axes.set_xlabel("nonlinear units P" + (", and baselines" if baselines else ""), fontsize=9)
    axes.set_ylabel(f"{rules.score} ({'higher' if rules.higher_is_better else 'lower'} is better)", fontsize=9)
    _write_legend(axes, rules, columns)


def _draw_best(axes: Axes, rules: Rules, columns: Sequence[Column]) -> None:
    """The best typical run of each size with the tolerance, and the stated score."""
    _draw_lines(axes, columns, lambda one: one.typical)
    for same in _by_size(columns):
        compared = [column.estimate for column in same if column.estimate.compared]
        best = min(compared, key=lambda one: one.gap).typical if compared else math.nan
        if rules.tolerance > 1e-6 * abs(best):  # otherwise it cannot be seen
            axes.axhspan(best, best - rules.sign * rules.tolerance, color=same[0].line, alpha=0.15, lw=0, zorder=0)
    if rules.solved is not None:
        axes.axhline(rules.solved, color="black", lw=0.9, ls="--", zorder=0)


def _choose_scale(axes: Axes, *, higher_is_better: bool) -> None:
    """Choose a logarithmic scale for errors that span decades."""
    scores = np.concatenate([np.asarray(points.get_offsets())[:, 1] for points in axes.collections])
    positive = scores[scores > 0]
    if higher_is_better or scores.min() < 0 or positive.max(initial=0.0) <= _DECADES * positive.min(initial=math.inf):
        axes.ticklabel_format(style="plain", useOffset=False)  # a power of ten would cover the legend
    elif scores.min() > 0:
        axes.set_yscale("log")
    else:  # an error of 0 stands below the smallest other
        axes.set_yscale("symlog", linthresh=positive.min())


def _mark_diverged(
    axes: Axes, columns: Sequence[Column], baselines: Sequence[Baseline], units: int, *, upward: bool
) -> float:
    """Write at the worse end how many runs diverged; returns the height of a typical run that did."""
    lost, tried = Counter[int](), Counter[int]()
    for column in columns:
        lost[round(column.place)] += column.estimate.diverged
        tried[round(column.place)] += column.estimate.tried
    for place, baseline in enumerate(baselines, start=units):
        lost[place], tried[place] = baseline.tried - len(baseline.scores), baseline.tried
    edge = _keep_room(axes, "diverged", below=upward) if lost.total() else math.nan
    height, side = (0.01, "bottom") if upward else (0.99, "top")
    for place in +lost:
        text = f"{lost[place]} of {tried[place]}"
        axes.text(place, height, text, fontsize=7, ha="center", va=side, transform=axes.get_xaxis_transform())
    return edge


def _keep_room(axes: Axes, name: str, *, below: bool = False) -> float:
    """Keep room at one end of the vertical axis for values that are not finite; returns a height within it."""
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


def _write_legend(axes: Axes, rules: Rules, columns: Sequence[Column]) -> None:
    handles: list[Artist] = []
    for same in _by_size(columns):
        if same[0].size or any(column.estimate.tried > 1 for column in same):
            handles.append(Line2D([], [], color=same[0].line, lw=1.2, label=same[0].size or "typical run (median)"))
    for status, (colour, _, _, label) in _MARKS.items():
        if any(column.status == status for column in columns):
            handles.append(Line2D([], [], label=label, **_mark_style(status, _DARK if columns[0].size else colour)))
    if any(column.estimate.other_scores for column in columns):
        handles.append(Line2D([], [], ls="", marker="o", ms=4, mfc="none", mec=GREY, label="other settings"))
    handles.append(Patch(color=GREY, alpha=0.3, lw=0, label="within the tolerance of the best"))
    if rules.solved is not None:
        label = f"solved: {'≥' if rules.higher_is_better else '≤'} {_number(rules.solved)}"
        handles.append(Line2D([], [], color="black", lw=0.9, ls="--", label=label))
    place: dict[str, Any] = {"loc": "lower left", "bbox_to_anchor": (-0.02, 1.0), "ncols": 4}
    axes.legend(handles=handles, frameon=False, fontsize=8, columnspacing=1.4, handlelength=1.6, **place)


def _draw_gaps(columns: Sequence[Column], tolerance: float, axes: Axes) -> None:
    """Draw gaps with their limits, on a scale that is linear up to the tolerance and logarithmic beyond."""
    gaps = [column.estimate.gap for column in columns]
    values = [*gaps, *(limit for column in columns for limit in (column.estimate.gap_low, column.estimate.gap_high))]
    top = 1.6 * max(tolerance, *filter(math.isfinite, values))
    base = 10 if top > 10 * tolerance else 3
    powers = range(1, 1 + int(math.log(top / tolerance, base)))
    ticks = [0.0, tolerance, *(tolerance * base**power for power in powers[:: 1 + len(powers) // 4])]
    axes.set_yscale("symlog", linthresh=tolerance)
    axes.set_ylim(-0.12 * tolerance, top)
    axes.set_yticks(ticks, ["0", f"tolerance\n{_number(tolerance)}", *map(_number, ticks[2:])])
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
    axes.set(ylim=(-0.06, 1.06), yticks=[0, 0.5, 1])


def _draw_counts(
    columns: Sequence[Column], read: Callable[[Estimate], Sequence[float]], base: int | None, axes: Axes
) -> None:
    """Draw a number of each run, such as that of active units, and a line through the medians."""
    if base:
        axes.set_yscale("log", base=base)
    for column in columns:
        _scatter(axes, column.place, column.width, read(column.estimate), column.colour)
    _draw_lines(axes, columns, lambda one: float(np.median(read(one))) if read(one) else math.nan)
    axes.margins(y=0.12)
    high = axes.get_ylim()[1]
    axes.set_ylim((0.7, max(4.0, high)) if base else (-0.06 * high, high))  # one regime alone would have no tick


def _draw_learning(columns: Sequence[Column], times: Sequence[LearningTime | None], axes: Axes) -> None:
    """Draw the epochs of a typical run with their limits; what lies beyond the epochs of training stands above them."""
    rows = [(column, one) for column, one in zip(columns, times, strict=True) if one is not None]
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
    """Draw a point for each run, around a tick in the order of the seeds."""
    places = place + width * np.linspace(-0.5, 0.5, len(values)) if len(values) > 1 else [place] * len(values)
    colours: dict[str, Any] = {"facecolors": face or colour, "edgecolors": colour}
    # in a drawing, thousands of runs are an image: as shapes they would take megabytes and seconds
    axes.scatter(places, values, s=13, alpha=0.6, lw=0.6, rasterized=len(values) > _MOST_SHAPES, **colours)


def _draw_lines(axes: Axes, columns: Sequence[Column], height: Callable[[Estimate], float]) -> None:
    for same in _by_size(columns):
        heights = [height(column.estimate) for column in same]
        axes.plot([column.place for column in same], heights, color=same[0].line, lw=0.8, zorder=1)


def _draw_mark(axes: Axes, column: Column, height: float, limits: Sequence[float] = ()) -> None:
    """Draw the estimate for a typical run with its limits, by the marker of its status."""
    axes.plot([column.place] * len(limits), limits, color=column.colour, lw=1.2, marker="_", ms=5)
    axes.plot(column.place, height, **_mark_style(column.status, column.colour), zorder=3)


def _mark_style(status: str, colour: str) -> dict[str, Any]:
    _, marker, size, _ = _MARKS[status]
    face, edge = (colour, "white") if marker in "oX" else ("white", colour)
    return {"ls": "", "marker": marker, "ms": size, "mfc": face, "mec": edge, "mew": 0.9}


def _by_size(columns: Sequence[Column]) -> list[list[Column]]:
    return [list(same) for _, same in groupby(columns, key=attrgetter("size"))]


def _set_ticks(axes: Axes, labels: Sequence[str], most: int) -> None:
    """Label the columns; of many only every second or third and the last."""
    step = 1 + (len(labels) - 1) // most
    places = [*range(0, len(labels) - step, step), len(labels) - 1]
    axes.set_xticks(places, [labels[place] for place in places], fontsize=8)
    axes.set_xlim(-0.5, len(labels) - 0.5)
    axes.tick_params(axis="y", which="both", labelsize=8)


def _number(value: float) -> str:
    return f"{value:.0f}" if 1e3 <= abs(value) < 1e6 else f"{value:.3g}"
