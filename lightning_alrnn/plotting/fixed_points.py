"""Figures of fixed points: their eigenvalues, their places among the trajectories, and how training moves them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import FixedPointSet
from lightning_alrnn.analysis.spectrum import principal_components
from lightning_alrnn.analysis.tracking import TrackedFixedPoints
from lightning_alrnn.batch import valid_steps
from lightning_alrnn.plotting.palette import draw_regime_eigenvalues
from lightning_alrnn.plotting.style import (
    GREY,
    SERIES_COLOURS,
    STABILITY_STYLE,
    counted,
    draw_unit_circle,
    legend_beside,
    new_figure,
    tidy,
)
from lightning_alrnn.plotting.traces import choose_trials, condition_name

_MOST_MARKED = 200  # bifurcations, the last ones
_MAY_BE_MORE = " (there may be more)"
_SEQUENCES = 6
_PER_CONDITION = 3


def plot_eigenvalues(found: FixedPointSet, codes: Tensor | None = None, eigenvalues: Tensor | None = None) -> Figure:
    """Draw eigenvalues against the unit circle: a mode λ decays inside it, grows outside and holds its value on it.

    Args:
        found: Fixed points.
        codes: Visited regimes, most frequent first, bool of shape ``(regimes, P)``.
        eigenvalues: Eigenvalues of the regimes, complex of shape ``(regimes, M)``.

    Returns:
        Figure with the eigenvalues of the fixed points (left) and of the regimes (right, each regime in its colour).
    """
    figure = new_figure(9.0, 4.4)
    left, right = figure.subplots(1, 2, sharex=True, sharey=True)
    for axes in (left, right):
        draw_unit_circle(axes)
    left.set_ylabel("Im λ")

    values = found.eigenvalues.numpy()
    for name, (colour, marker) in STABILITY_STYLE.items():
        rows = [index for index, stability in enumerate(found.stability) if stability == name]
        if rows:
            points = values[rows].ravel()
            label = f"{len(rows)} {name}"
            left.plot(points.real, points.imag, marker, color=colour, markersize=4, alpha=0.8, label=label)
    left.set_title(_title(found), fontsize=10)
    if len(found.z):
        left.legend(frameon=False, fontsize=8)

    if codes is not None and eigenvalues is not None and len(codes):
        draw_regime_eigenvalues(right, codes, eigenvalues)
        legend_beside(right, title="regime")
        right.set_title(f"{len(codes)} most visited regimes" if len(codes) > 1 else "the visited regime", fontsize=10)
    return figure


def plot_state_space(
    states: Tensor,
    lengths: Tensor,
    found: FixedPointSet,
    labels: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Draw trajectories and fixed points in the plane of the trajectories' leading two principal components.

    Args:
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
        found: Fixed points.
        labels: Condition of each sequence, int64 of shape ``(batch,)``, negative for none; ``None`` without conditions.
        names: Names of the conditions; ``None`` for their indices.

    Returns:
        Figure with the mean trajectory of each of up to seven conditions and three of its sequences (thin), or else
        with six sequences. An open circle is the start, a dot the end. A mean stops when half of the sequences have
        ended. The title counts the fixed points that lie far from all trajectories and are not drawn.
    """
    figure = new_figure(7.2, 4.8)
    axes = tidy(figure.subplots())
    trajectories, lengths = states.double().cpu().numpy(), lengths.cpu()
    valid = valid_steps(lengths, states.shape[1]).numpy()
    components = principal_components(states.cpu(), lengths)
    mean, directions = components.mean.numpy(), components.directions[:2].numpy()

    def project(points: np.ndarray) -> np.ndarray:
        plane = (points - mean) @ directions.T
        return np.pad(plane, ((0, 0), (0, 2 - len(directions))))

    conditions = None if labels is None or not bool((labels >= 0).any()) else labels.cpu()
    if conditions is None:
        for place, trial in enumerate(range(min(len(states), _SEQUENCES))):
            path = project(trajectories[trial][valid[trial]])
            _draw_path(axes, path, SERIES_COLOURS[place], f"sequence {trial}", linewidth=1.0)
    else:
        trials_of = choose_trials(len(states), conditions, _PER_CONDITION, len(SERIES_COLOURS))
        for (label, trials), colour in zip(trials_of.items(), SERIES_COLOURS, strict=False):
            for trial in trials:
                axes.plot(*project(trajectories[trial][valid[trial]]).T, color=colour, linewidth=0.6, alpha=0.45)
            members = (conditions == label).numpy()
            running = valid[members].sum(axis=0)
            steps = int((running >= max(running[0] / 2, 1)).sum())  # the mean of a few sequences would jump
            weights = valid[members][:, :steps, None]
            path = project((trajectories[members][:, :steps] * weights).sum(axis=0) / weights.sum(axis=0))
            _draw_path(axes, path, colour, condition_name(label, names), linewidth=2.0)

    plane = project(trajectories[valid])
    low, high = plane.min(axis=0), plane.max(axis=0)
    margin = np.where(high > low, high - low, 1.0)
    points = project(found.z.numpy())
    near = ((points >= low - margin) & (points <= high + margin)).all(axis=1)
    for stability, (_, marker) in STABILITY_STYLE.items():  # colours stand for conditions here
        chosen = near & np.array([other == stability for other in found.stability], dtype=bool)
        if chosen.any():
            style: dict[str, Any] = {"color": "black", "markeredgecolor": "white", "markersize": 8, "zorder": 5}
            axes.plot(*points[chosen].T, marker, label=f"fixed point, {stability}", **style)
    outside = int((~near).sum())
    axes.set_title(f"state space with {_title(found)}" + (f", {outside} far outside" if outside else ""), fontsize=10)
    share: list[float] = components.share.nan_to_num().tolist()
    axes.set_xlabel(f"principal component 1 ({share[0]:.0%} of variance)")
    axes.set_ylabel(f"principal component 2 ({share[1]:.0%})" if len(directions) == 2 else "")
    for text, face in (("start", "white"), ("end", GREY)):
        axes.plot([], [], "o", color=GREY, markerfacecolor=face, markersize=6, label=text)
    legend_beside(axes)
    return figure


def _draw_path(axes: Axes, path: np.ndarray, colour: str, label: str, *, linewidth: float) -> None:
    """Draw a path ``(steps, 2)`` with its start, its direction and its end."""
    axes.plot(*path.T, color=colour, linewidth=linewidth, label=label, zorder=2)
    travelled = np.concatenate(([0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()))
    around = max(len(path) // 12, 1)  # steps on both sides of an arrow: single ones of a noisy path go back and forth
    for share in (0.25, 0.6) if travelled[-1] > 0 else ():
        step = int(np.searchsorted(travelled, share * travelled[-1]))
        direction = path[min(step + around, len(path) - 1)] - path[max(step - around, 0)]
        arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": 0, "mutation_scale": 22, "shrinkA": 0, "shrinkB": 0}
        axes.annotate("", path[step] + direction / 20, path[step] - direction / 2, arrowprops=arrow, zorder=3)
    axes.plot(*path[0], "o", color=colour, markerfacecolor="white", markersize=7, markeredgewidth=1.5, zorder=4)
    axes.plot(*path[-1], "o", color=colour, markeredgecolor="white", markersize=7, zorder=4)


def plot_tracking(
    evaluations: Sequence[TrackedFixedPoints], bifurcations: Sequence[int] = (), *, complete: bool = True
) -> Figure:
    """Draw the fixed points over the epochs of training.

    Args:
        evaluations: Tracked fixed points of each evaluation, at least one.
        bifurcations: Epochs at which the number or the stability of fixed points changed.
        complete: Whether all fixed points were found; otherwise the title says that there may be more.

    Returns:
        Figure with the coordinate of each fixed point along the leading principal component of the states (top; a line
        joins one fixed point over the epochs; the scale is logarithmic beyond its linear part where a point lies far
        out) and the number of fixed points by stability (bottom). Dashed lines are epochs with a bifurcation.
    """
    figure = new_figure(7.2, 4.6)
    top, bottom = figure.subplots(2, 1, sharex=True, height_ratios=(2.2, 1))
    epochs = np.array([one.epoch for one in evaluations], dtype=float)
    lines: dict[int, list[tuple[float, float]]] = {}
    points: dict[str, list[tuple[float, float]]] = {}
    for one in evaluations:
        for identity, stability, coordinate in zip(one.identities, one.stability, one.coordinates, strict=True):
            lines.setdefault(identity, []).append((one.epoch, coordinate))
            points.setdefault(stability, []).append((one.epoch, coordinate))
    for axes in (top, bottom):
        tidy(axes)
        for epoch in bifurcations[-_MOST_MARKED:]:
            axes.axvline(epoch, color=GREY, linewidth=0.7, linestyle=(0, (2, 3)), zorder=0)
    top.add_collection(LineCollection(list(lines.values()), colors=GREY, linewidths=0.8, zorder=1))
    for name, (colour, marker) in STABILITY_STYLE.items():
        if name in points:
            size = 5.0 if len(points[name]) <= 100 else 3.0
            x, y = np.array(points[name]).T
            top.plot(x, y, marker, color=colour, markersize=size, markeredgewidth=0, label=name, zorder=2)
        counts = np.array([one.counts[list(STABILITY_STYLE).index(name)] for one in evaluations])
        if counts.any():
            bottom.step(epochs, counts, where="mid", color=colour, linewidth=1.4)
            bottom.plot(epochs, counts, marker, color=colour, markersize=3, clip_on=False)
    values = np.array([y for line in lines.values() for _, y in line])
    values = np.abs(values[np.isfinite(values)])
    if len(values) and values.max() > 30 * max(np.median(values), 1e-12):
        top.set_yscale("symlog", linthresh=max(float(np.median(values)), 1e-12), linscale=2)
    top.set_ylabel("along component 1")
    bottom.set(ylabel="number", ylim=(0, None))
    bottom.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    bottom.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    bottom.set(xlim=(epochs.min() - 0.5, epochs.max() + 0.5), xlabel="epoch")
    title = f"{counted(len(lines), 'fixed point')} followed, {counted(len(bifurcations), 'bifurcation')}"
    top.set_title(title + ("" if complete else _MAY_BE_MORE), fontsize=10)
    if points:
        legend_beside(top)
    return figure


def _title(found: FixedPointSet) -> str:
    return counted(len(found.z), "fixed point") + ("" if found.complete else _MAY_BE_MORE)
