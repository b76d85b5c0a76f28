"""Figures of trajectories in the plane of their leading principal components."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import bitcode, regime_bits, regimes
from lightning_alrnn.analysis.spectrum import PrincipalComponents
from lightning_alrnn.plotting.palette import OTHERS, regime_colours, regime_label
from lightning_alrnn.plotting.style import GREY, SERIES_COLOURS, new_figure, shorten, tidy

_COLOURS = (*SERIES_COLOURS, "black")
_MARKERS = ("o", "^", "s")  # each colour again with the next marker
_LABEL_CHARACTERS = 12
_NAME_CHARACTERS = 16


class Trajectory(NamedTuple):
    """Some states of one sequence.

    Attributes:
        states: States, shape ``(steps, M)``.
        steps: Index of each step, from 1, int64 of shape ``(steps,)``.
        class_index: Class of the sequence, −1 for none.
        group_index: Group of the sequence, −1 for none.
    """

    states: Tensor
    steps: Tensor
    class_index: int = -1
    group_index: int = -1


def plot_trajectories(
    trajectories: Sequence[Trajectory],
    components: PrincipalComponents,
    nonlinear_units: int,
    class_names: Sequence[str] | None = None,
    group_names: Sequence[str] | None = None,
) -> Figure:
    """Draw trajectories in the plane of two principal components, by class, group and regime.

    Args:
        trajectories: Trajectories, at least one.
        components: Principal components of these states, or of more.
        nonlinear_units: Number of nonlinear units P.
        class_names: Names of the classes; ``None`` for indices.
        group_names: Names of the groups; ``None`` for indices.

    Returns:
        Figure with a panel each for class and group where any trajectory has one, otherwise for time, and one for the
        regime of each state, the most frequent in colour. Large marks are the last steps.
    """
    labels = (
        ("class", [one.class_index for one in trajectories], class_names),
        ("group", [one.group_index for one in trajectories], group_names),
    )
    by = [(title, indices, names) for title, indices, names in labels if max(indices) >= 0]
    panels = max(len(by), 1) + 1
    figure = new_figure(4.4 * panels, 4.3)
    axes = figure.subplots(1, panels, sharex=True, sharey=True)
    planes = [_project(one.states, components) for one in trajectories]
    for panel, (title, indices, names) in zip(axes, by, strict=False):
        _by_label(panel, planes, indices, names)
        panel.set_title(f"by {title}", fontsize=10)
    if not by:
        _by_time(figure, axes[0], planes, trajectories)
    _by_regime(axes[-1], planes, trajectories, nonlinear_units)
    share = np.nan_to_num(components.share.numpy())
    for panel in axes:
        tidy(panel)
        panel.set_xlabel(f"principal component 1 ({share[0]:.0%} of variance)")
    axes[0].set_ylabel(f"principal component 2 ({share[1]:.0%})" if len(share) > 1 else "")
    return figure


def regime_names(states: Tensor, nonlinear_units: int) -> list[str]:
    """Bits of the regime of each state (hexadecimal above P=12), or "linear" for P=0."""
    codes = map(bitcode, regime_bits(states, nonlinear_units))
    if nonlinear_units == 0:
        return ["linear"] * len(states)
    if nonlinear_units <= _LABEL_CHARACTERS:
        return list(codes)
    return [f"0x{int(code, 2):0{-(-nonlinear_units // 4)}x}" for code in codes]


def _project(states: Tensor, components: PrincipalComponents) -> NDArray[np.float64]:
    """Coordinates in the plane, ``(steps, 2)``."""
    directions = components.directions[:2]
    # a component's sign is arbitrary: its largest entry is made positive, so that figures of different epochs agree
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    plane = (states.double() - components.mean) @ (directions * largest.sign()).T
    return np.pad(plane.numpy(), ((0, 0), (0, 2 - len(directions))))


def _by_label(
    axes: Axes, planes: Sequence[NDArray[np.float64]], labels: Sequence[int], names: Sequence[str] | None
) -> None:
    common = [label for label, _ in Counter(labels).most_common(len(_COLOURS) * len(_MARKERS))]
    looks = ((colour, marker) for marker in _MARKERS for colour in _COLOURS)
    styles = dict(zip(sorted(common), looks, strict=False))
    colours = [styles.get(label, (GREY, ""))[0] for label in labels]
    axes.add_collection(LineCollection(planes, colors=colours, linewidths=0.7, alpha=0.5, zorder=1))
    ends = np.array([plane[-1] for plane in planes])
    for label, (colour, marker) in styles.items():
        x, y = ends[[other == label for other in labels]].T
        name = _name(label, names)
        axes.plot(x, y, marker, color=colour, markersize=5, markeredgecolor="white", markeredgewidth=0.4, label=name)
    if len(rest := set(labels) - styles.keys()):
        axes.plot([], [], "o", color=GREY, label=f"{len(rest)} others")
    _legend(axes, len(styles))


def _by_time(
    figure: Figure, axes: Axes, planes: Sequence[NDArray[np.float64]], trajectories: Sequence[Trajectory]
) -> None:
    axes.add_collection(LineCollection(planes, colors="0.85", linewidths=0.6, zorder=1))
    x, y = np.concatenate(planes).T
    time = np.concatenate([one.steps.numpy() for one in trajectories])
    shades = axes.scatter(x, y, c=time, s=5, cmap="viridis", linewidths=0, zorder=2, rasterized=True)
    figure.colorbar(shades, ax=axes, label="step", shrink=0.8)
    axes.set_title("by time", fontsize=10)


def _by_regime(
    axes: Axes, planes: Sequence[NDArray[np.float64]], trajectories: Sequence[Trajectory], nonlinear_units: int
) -> None:
    visits = regimes(torch.cat([one.states for one in trajectories]).unsqueeze(0), nonlinear_units)
    labels = visits.labels[0].numpy()
    colours = regime_colours(visits.codes)
    coloured = [rank for rank, colour in enumerate(colours) if colour != OTHERS]
    x, y = np.concatenate(planes).T
    axes.add_collection(LineCollection(planes, colors="0.85", linewidths=0.6, zorder=1))
    rest = ~np.isin(labels, coloured)
    if rest.any():
        label = f"{visits.visited - len(coloured)} others"
        axes.plot(x[rest], y[rest], "o", color=OTHERS, markersize=2, markeredgewidth=0, label=label)
    for rank in reversed(coloured):
        chosen = labels == rank
        label = f"{regime_label(visits.codes[rank], rank + 1)} ({chosen.mean():.0%})"
        axes.plot(x[chosen], y[chosen], "o", color=colours[rank], markersize=2.2, markeredgewidth=0, label=label)
    axes.set_title(f"by regime, {visits.visited} visited", fontsize=10)
    _legend(axes, len(coloured) + 1, reverse=True)


def _legend(axes: Axes, entries: int, *, reverse: bool = False) -> None:
    lines = [line for line in axes.lines if not str(line.get_label()).startswith("_")]
    handles = [
        Line2D([], [], ls="", marker=line.get_marker(), color=line.get_color(), markersize=5, label=line.get_label())
        for line in (lines[::-1] if reverse else lines)
    ]
    place: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.14), "ncols": min(max(entries, 1), 4)}
    axes.legend(handles=handles, frameon=False, fontsize=7, columnspacing=1.0, handletextpad=0.2, **place)


def _name(index: int, names: Sequence[str] | None) -> str:
    if index < 0:
        return "none"
    name = " ".join(str(names[index]).split()) if names is not None and index < len(names) else str(index)
    return shorten(name, _NAME_CHARACTERS)
