"""Figures of regimes and of nonlinear units."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.axis import Axis
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.analysis.phases import Phases
from lightning_alrnn.analysis.regime_statistics import (
    GroupOccupancy,
    RegimeCounts,
    RegimeSharing,
    bitcode,
    summarize_regimes,
    transition_matrix,
)
from lightning_alrnn.analysis.units import UnitStatistics
from lightning_alrnn.plotting.palette import regime_colours
from lightning_alrnn.plotting.style import BLUE, GREY, ORANGE, legend_beside, new_figure, shorten, tidy, write_in_middle

_LABEL_CHARACTERS = 12
_NAME_CHARACTERS = 24
_WRITTEN_GROUPS = 20
_WRITTEN_COLUMNS = 16


def plot_regimes(found: RegimeCounts, *, top: int = 16) -> Figure:
    """Draw how often each regime is visited, and the transitions among the most frequent ones.

    Args:
        found: Counts of regimes and transitions.
        top: Number of regimes shown, the most frequent first.

    Returns:
        Figure with the sorted occupancy (left; bitcodes as labels where they fit, otherwise ranks) and the transition
        matrix (right; from row to column, the regime of each row marked in its colour).
    """
    figure = new_figure(9.5, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    summary = summarize_regimes(found)
    shown = min(top, len(found.codes))
    labels, name = _regime_labels(found.codes[:shown])

    occupancy = found.counts[:shown].double().numpy() / max(found.steps, 1)
    colours = regime_colours(found.codes[:shown])
    tidy(left).bar(np.arange(shown), occupancy, color=colours, width=0.8)
    if len(found.codes) > shown:
        note = f"the {shown} shown hold {occupancy.sum():.0%} of steps"
        left.text(1.0, 0.98, note, ha="right", va="top", transform=left.transAxes, fontsize=8, color=GREY)
    rotation = 0 if sum(map(len, labels)) < 40 else 90
    left.set_xticks(range(shown), labels, rotation=rotation, fontsize=8, family="monospace")
    left.set(xlabel=name, ylabel="share of steps")
    title = f"{summary.visited} of $2^{{{found.codes.shape[1]}}}$ regimes visited"
    left.set_title(f"{title}, effectively {summary.effective:.1f}", fontsize=10)

    matrix = transition_matrix(found, top).numpy()
    image = right.imshow(matrix, cmap="cividis", vmin=0, aspect="equal")
    fits = 0 < shown * max(map(len, labels), default=0) <= 80
    right.set_xticks(range(shown), labels if fits else [""] * shown, rotation=90, fontsize=7, family="monospace")
    right.set_yticks(range(shown), labels, fontsize=7, family="monospace")
    _mark(right, colours)
    right.set(xlabel="to" if fits else "to (same order)", ylabel="from")
    right.set_title(f"transitions, {summary.switch_rate:.3f} switches a step", fontsize=10)
    figure.colorbar(image, ax=right, label="probability", shrink=0.85)
    return figure


def plot_units(found: UnitStatistics) -> Figure:
    """Draw how often each nonlinear unit is on, and how often it switches.

    Args:
        found: Statistics of the units.

    Returns:
        Figure with the share of steps at which each unit is on (bars) and at which it switches (points).
    """
    units = len(found.duty)
    figure = new_figure(min(max(6.5, 2.5 + 0.3 * units), 14.0), 3.4)
    axes = tidy(figure.subplots())
    axes.set_title(
        f"{found.active} of {units} nonlinear units active, {found.always_on} always on, {found.always_off} always off",
        fontsize=10,
    )
    axes.set(xlabel="nonlinear unit", ylabel="share of steps", ylim=(0, 1.05))
    if units:
        position = np.arange(units)
        axes.bar(position, found.duty.numpy(), color=BLUE, width=0.8, alpha=0.85, label="on (duty cycle)")
        axes.plot(position, found.switching.numpy(), "o", color=ORANGE, markersize=5, label="switches", clip_on=False)
        axes.set_xticks(position[:: max(1, units // 25)])
        legend_beside(axes)
    else:
        axes.set_xticks([])
        write_in_middle(axes, "P = 0: no nonlinear units")
    return figure


def plot_group_regimes(found: GroupOccupancy, names: Sequence[str] | None = None, *, top: int = 32) -> Figure:
    """Draw the share of steps that each group spends in the most frequent regimes.

    Args:
        found: Counts of the groups.
        names: Name of each group, in the order of ``found``; ``None`` for indices.
        top: Number of regimes shown, the most frequent first.

    Returns:
        Figure with a row for each group and a column for each regime, darker for a larger share, in per cent from 1 %
        on and white where a group never visits the regime. The right axis says how many regimes each group visits.
    """
    groups, regimes = found.counts.shape
    shown = min(top, regimes)
    figure = new_figure(min(4.2 + 0.36 * max(shown, 6), 16.0), min(1.9 + 0.27 * max(groups, 3), 12.0))
    axes = figure.subplots()
    held = found.counts[:, :shown].sum() / found.steps.sum().clamp(min=1)
    rest = f", the {shown} shown hold {float(held):.0%} of steps" if regimes > shown else ""
    axes.set_title(f"{groups} groups visit {regimes} of $2^{{{found.codes.shape[1]}}}$ regimes{rest}", fontsize=10)
    if shown == 0:
        axes.set_axis_off()
        write_in_middle(axes, "no group has steps")
        return figure

    share = _shares(found, shown)
    image = _matrix(axes, share, top=float(np.nanmax(share)), missing="white")
    _write_cells(axes, image, share, lambda value: f"{100 * value:.0f}" if value >= 0.005 else "")
    labels, name = _regime_labels(found.codes[:shown])
    _label(axes.xaxis, labels, rotation=0 if sum(map(len, labels)) < 60 else 90, family="monospace")
    axes.set_xlabel(name)
    _label(axes.yaxis, _group_labels(found.groups, names))
    right = axes.secondary_yaxis("right")
    right.tick_params(length=0)
    right.set_ylabel("regimes visited", fontsize=8)
    _label(right.yaxis, [str(number) for number in (found.counts > 0).sum(dim=1).tolist()])
    figure.colorbar(image, ax=axes, label="share of the group's steps", shrink=0.85)
    return figure


def plot_regime_sharing(found: RegimeSharing, names: Sequence[str] | None = None) -> Figure:
    """Draw to what extent each pair of groups uses the same regimes.

    Args:
        found: Measures of all pairs.
        names: Name of each group, in the order of ``found``; ``None`` for indices.

    Returns:
        Figure with the Jaccard index of the visited regimes (left) and the Jensen–Shannon divergence of the occupancies
        (right). Dark cells have much in common in both; groups without steps are grey.
    """
    groups = len(found.groups)
    side = 1.3 + 0.3 * max(groups, 6)
    figure = new_figure(min(2 * side + 2.6, 18.0), min(side + 1.2, 9.0))
    axes = figure.subplots(1, 2)
    labels = _group_labels(found.groups, names)
    panels = (
        ("Jaccard index", found.jaccard, found.mean_jaccard, "shared / visited regimes", False),
        ("Jensen–Shannon divergence", found.js, found.mean_js, "bits", True),
    )
    for panel, (title, matrix, mean, unit, reverse) in zip(axes, panels, strict=True):
        image = _matrix(panel, matrix.numpy(), top=1.0, missing="0.88", aspect="equal", reverse=reverse)
        if groups <= _WRITTEN_GROUPS:
            _write_cells(panel, image, matrix.numpy(), "{:.2f}".format)
        _label(panel.xaxis, labels, rotation=90)
        _label(panel.yaxis, labels if panel is axes[0] else [""] * groups)
        panel.set_title(f"{title}, " + ("no pairs" if math.isnan(mean) else f"mean {mean:.2f}"), fontsize=10)
        figure.colorbar(image, ax=panel, label=unit, shrink=0.8)
    return figure


def plot_phases(found: Phases, names: Sequence[str] | None = None, *, top: int = 16) -> Figure:
    """Draw where the network is in each phase of a trial, which units are on there, and which inputs count.

    Args:
        found: Activity in each phase.
        names: Name of each phase, in the order of ``found``; ``None`` for indices.
        top: Number of regimes shown, the most frequent first.

    Returns:
        Figure with a row for each phase: the share of its steps in each regime (left; white where it is never visited),
        the share at which each unit is on (middle), both in per cent, and the mean |∂y/∂s| of each input (right, the
        only panel without nonlinear units). Numbers are written where there is room.
    """
    share = _shares(found.occupancy, top)
    labels, name = _regime_labels(found.occupancy.codes[:top])
    percent: Callable[[float], str] = lambda value: f"{100 * value:.0f}"  # noqa: E731
    panels = [
        ("share of the phase's steps", share, labels, name, 1.0, percent),
        ("unit is on", found.on.numpy(), [], "nonlinear unit", 1.0, percent),
        ("mean |∂y/∂s|", found.gain.numpy(), [], "input", float(found.gain.max()), "{:.2g}".format),
    ]
    if found.on.shape[1] == 0:
        panels = panels[2:]
    rows = len(found.occupancy.groups)
    widths = [1.2 + 0.25 * min(max(panel[1].shape[1], 4), 20) for panel in panels]
    figure = new_figure(1.6 + sum(widths), min(1.9 + 0.3 * max(rows, 3), 12.0))
    axes = figure.subplots(1, len(panels), squeeze=False, width_ratios=widths)[0]
    for panel, (title, values, ticks, unit, highest, write) in zip(axes, panels, strict=True):
        columns = values.shape[1]
        image = _matrix(panel, values, top=highest or 1.0, missing="white")
        if rows <= _WRITTEN_GROUPS and columns <= _WRITTEN_COLUMNS:
            _write_cells(panel, image, values, write)
        if ticks:
            _label(panel.xaxis, ticks, rotation=90 if sum(map(len, ticks)) > 3 * columns else 0, family="monospace")
        else:
            panel.set_xticks(range(0, columns, 1 + columns // 25))
            panel.tick_params(axis="x", labelsize=7)
        _label(panel.yaxis, _group_labels(found.occupancy.groups, names) if panel is axes[0] else [""] * rows)
        panel.set_xlabel(unit)
        panel.set_title(title, fontsize=10)
        figure.colorbar(image, ax=panel, shrink=0.85)
    return figure


def _shares(found: GroupOccupancy, top: int) -> NDArray[np.float64]:
    """Share of each group's steps in the most frequent regimes, NaN where a group never visits one."""
    counts = found.counts[:, :top]
    shares: NDArray[np.float64] = (counts / found.steps[:, None].clamp(min=1)).numpy()
    return np.where(counts.numpy() == 0, math.nan, shares)


def _regime_labels(codes: Tensor) -> tuple[list[str], str]:
    """Bitcodes where they fit, ranks elsewhere, and what the axis is called."""
    if 0 < codes.shape[1] <= _LABEL_CHARACTERS:
        return [bitcode(code) for code in codes], "regime (bitcode)"
    return [str(rank + 1) for rank in range(len(codes))], "regime (by rank)"


def _group_labels(groups: Tensor, names: Sequence[str] | None) -> list[str]:
    return [shorten(label, _NAME_CHARACTERS) for label in (map(str, groups.tolist()) if names is None else names)]


def _mark(axes: Axes, colours: Sequence[str]) -> None:
    """A square in the colour of each row's regime, between the rows and their labels."""
    if colours:
        beside, rows = np.full(len(colours), -0.025), np.arange(len(colours))
        axes.scatter(beside, rows, s=18, c=colours, marker="s", transform=axes.get_yaxis_transform(), clip_on=False)
        axes.tick_params(axis="y", length=0, pad=9)


def _label(axis: Axis, labels: Sequence[str], **options: Any) -> None:
    axis.set_ticks(range(len(labels)), labels, fontsize=7, **options)


def _matrix(
    axes: Axes, values: NDArray[Any], top: float, missing: str, aspect: Any = "auto", *, reverse: bool = False
) -> AxesImage:
    """A matrix in blue from 0 to ``top``, NaN in the colour ``missing``, from which the lightest blue stands out."""
    blues = matplotlib.colormaps["Blues"](np.linspace(0.15, 1, 256))
    colours = ListedColormap(blues[::-1] if reverse else blues).with_extremes(bad=missing)
    return axes.imshow(values, cmap=colours, vmin=0, vmax=top, aspect=aspect)


def _write_cells(axes: Axes, image: AxesImage, values: NDArray[Any], write: Callable[[float], str]) -> None:
    """Write the numbers of a matrix into its cells, in a colour that can be read there."""
    dark = np.asarray(image.cmap(image.norm(values)))[..., :3] @ [0.299, 0.587, 0.114] < 0.5
    for row, column in np.argwhere(np.isfinite(values)):
        text, colour = write(float(values[row, column])), "white" if dark[row, column] else "black"
        cell = axes.text(column, row, text, ha="center", va="center", fontsize=6, color=colour)
        cell.set_in_layout(False)  # the layout is slow if it looks at each of them
