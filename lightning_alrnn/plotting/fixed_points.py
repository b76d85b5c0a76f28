"""Figures of fixed points: their eigenvalues, and where they lie among the trajectories."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
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
    draw_unit_circle,
    new_figure,
    tidy,
)
from lightning_alrnn.plotting.traces import choose_trials, condition_name

_MARKED = 200
"""Bifurcations that are marked, the last ones."""
_TRIALS = 6
_PER_CONDITION = 3


def plot_eigenvalues(found: FixedPointSet, codes: Tensor | None = None, eigenvalues: Tensor | None = None) -> Figure:
    """Eigenvalues against the unit circle.

    A mode λ decays where it lies inside the circle, grows outside, and holds its value on it.

    Args:
        found: the fixed points.
        codes: visited regimes, most frequent first, bool of shape ``(regimes, P)``.
        eigenvalues: of their matrices, complex of shape ``(regimes, M)``.

    Returns:
        Figure with the fixed points' eigenvalues (left) and the regimes' (right, each regime in its colour).
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
    count = len(found.z)
    left.set_title(f"{count} fixed point{'' if count == 1 else 's'}{_claim(found)}", fontsize=10)
    if count:
        left.legend(frameon=False, fontsize=8)

    if codes is not None and eigenvalues is not None and len(codes):
        draw_regime_eigenvalues(right, codes, eigenvalues)
        right.legend(
            frameon=False, fontsize=8, title="regime", title_fontsize=8, loc="upper left", bbox_to_anchor=(1, 1)
        )
        right.set_title(f"{len(codes)} most visited regimes" if len(codes) > 1 else "the visited regime", fontsize=10)
    return figure


def plot_state_space(
    states: Tensor,
    lengths: Tensor,
    found: FixedPointSet,
    labels: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Trajectories and fixed points in the plane of the trajectories' leading two principal components.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``.
        found: the fixed points.
        labels: condition of each sequence, int64 of shape ``(batch,)``, below 0 for none; ``None`` without conditions.
        names: of the conditions; ``None`` for their indices.

    Returns:
        Figure with the mean trajectory of each of up to seven conditions, over the sequences that last as long, and
        three of its sequences (thin); without conditions, six sequences in colours of their own. An open circle marks
        the start, arrows the direction and a dot the end. Fixed points that lie far from all trajectories are left out
        and counted in the title.
    """
    figure = new_figure(7.2, 4.8)
    axes = tidy(figure.subplots())
    trajectories = states.double().cpu().numpy()
    valid = valid_steps(lengths.cpu(), states.shape[1]).numpy()
    components = principal_components(states.cpu(), lengths.cpu())
    mean, directions = components.mean.numpy(), components.directions[:2].numpy()

    def project(points: np.ndarray) -> np.ndarray:
        plane = (points - mean) @ directions.T
        return plane if len(directions) == 2 else np.column_stack((plane, np.zeros(len(plane))))

    conditions = None if labels is None or not bool((labels >= 0).any()) else labels.cpu()
    if conditions is None:
        for place, trial in enumerate(range(min(len(states), _TRIALS))):
            path = project(trajectories[trial][valid[trial]])
            _draw_path(axes, path, SERIES_COLOURS[place], f"sequence {trial}", linewidth=1.0)
    else:
        chosen = choose_trials(len(states), conditions, _PER_CONDITION, len(SERIES_COLOURS))
        for (label, trials), colour in zip(chosen.items(), SERIES_COLOURS, strict=False):
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
    points = project(found.z.numpy()) if len(found.z) else np.zeros((0, 2))
    near = ((points >= low - margin) & (points <= high + margin)).all(axis=1)
    for name, (colour, marker) in STABILITY_STYLE.items():
        chosen = near & np.array([stability == name for stability in found.stability], dtype=bool)
        if chosen.any():
            axes.plot(
                *points[chosen].T, marker, color=colour, markeredgecolor="black", markersize=8, label=name, zorder=3
            )
    outside = int((~near).sum())
    axes.set_title(
        f"state space with {len(points)} fixed point{'' if len(points) == 1 else 's'}{_claim(found)}"
        + (f", {outside} far outside" if outside else ""),
        fontsize=10,
    )
    share: list[float] = components.share.nan_to_num().tolist()
    axes.set_xlabel(f"principal component 1 ({share[0]:.0%} of variance)")
    axes.set_ylabel(f"principal component 2 ({share[1]:.0%})" if len(directions) == 2 else "")
    handles, texts = axes.get_legend_handles_labels()
    for style, text in (({"marker": "o", "markerfacecolor": "white"}, "start"), ({"marker": "o"}, "end")):
        handles.append(Line2D([], [], color=GREY, linestyle="", markersize=6, **style))  # type: ignore[arg-type]
        texts.append(text)
    axes.legend(handles, texts, frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _draw_path(axes: Axes, path: np.ndarray, colour: str, label: str, *, linewidth: float) -> None:
    """Draw a path ``(steps, 2)`` with its start, its direction and its end."""
    axes.plot(*path.T, color=colour, linewidth=linewidth, label=label, zorder=2)
    travelled = np.concatenate(([0.0], np.linalg.norm(np.diff(path, axis=0), axis=1).cumsum()))
    for share in (0.25, 0.6):
        step = int(np.searchsorted(travelled, share * travelled[-1]))
        if 0 < step < len(path):
            arrow = {"arrowstyle": "-|>", "color": colour, "linewidth": linewidth, "mutation_scale": 12}
            axes.annotate("", path[step], path[step - 1], arrowprops=arrow, zorder=2)
    axes.plot(*path[0], "o", color=colour, markerfacecolor="white", markersize=7, markeredgewidth=1.5, zorder=4)
    axes.plot(*path[-1], "o", color=colour, markeredgecolor="white", markersize=7, zorder=4)


def plot_tracking(
    evaluations: Sequence[TrackedFixedPoints], bifurcations: Sequence[int] = (), *, complete: bool = True
) -> Figure:
    """Where each fixed point is over the epochs of training, and how many there are.

    Args:
        evaluations: the tracked fixed points of each evaluation, at least one.
        bifurcations: epochs in which their number or stability changed.
        complete: whether all fixed points were found; else the title says that there may be more.

    Returns:
        Figure with the coordinate of each along the states' leading principal component (top; a line joins what is the
        same fixed point, and the scale is linear near 0 and logarithmic beyond where one lies far out) and numbers of
        fixed points by stability (bottom). Epochs with a bifurcation are dashed.
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
        for epoch in bifurcations[-_MARKED:]:
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
    bottom.set_ylabel("number")
    bottom.set_ylim(bottom=0)
    bottom.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    bottom.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    bottom.set_xlim(epochs.min() - 0.5, epochs.max() + 0.5)
    bottom.set_xlabel("epoch")
    count = len(bifurcations)
    top.set_title(
        f"{len(lines)} fixed point{'' if len(lines) == 1 else 's'} followed, "
        f"{count} bifurcation{'' if count == 1 else 's'}{'' if complete else ' (there may be more)'}",
        fontsize=10,
    )
    if points:
        top.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    return figure


def _claim(found: FixedPointSet) -> str:
    return "" if found.complete else " (there may be more)"
