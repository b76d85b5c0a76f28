"""Figures of fixed points: their eigenvalues, and where they lie among the trajectories."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure
from sklearn.decomposition import PCA
from torch import Tensor

from lightning_alrnn.analysis.fixed_points import FixedPointSet
from lightning_alrnn.batch import valid_steps
from lightning_alrnn.plotting.style import BLUE, SKY, STABILITY_STYLE, draw_unit_circle, new_figure, tidy


def plot_eigenvalues(found: FixedPointSet, regimes: Tensor | None = None) -> Figure:
    """Eigenvalues against the unit circle.

    A mode λ decays where it lies inside the circle, grows outside, and holds its value on it.

    Args:
        found: the fixed points.
        regimes: eigenvalues of the visited regimes' matrices, most frequent first, complex of shape ``(regimes, M)``.

    Returns:
        Figure with the fixed points' eigenvalues (left) and the regimes' (right).
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

    if regimes is not None and len(regimes):
        points = regimes.cpu().numpy().ravel()
        rank = np.repeat(np.arange(len(regimes)), regimes.shape[1])
        scatter = right.scatter(
            points.real,
            points.imag,
            c=rank,
            s=12,
            cmap="viridis_r",
            vmin=0,
            vmax=max(len(regimes) - 1, 1),
        )
        figure.colorbar(scatter, ax=right, label="regime (0 = most frequent)", shrink=0.85)
        right.set_title(
            f"{len(regimes)} most visited regimes" if len(regimes) > 1 else "the visited regime", fontsize=10
        )
    return figure


def plot_state_space(states: Tensor, lengths: Tensor, found: FixedPointSet) -> Figure:
    """Trajectories and fixed points in the plane of the trajectories' leading two principal components.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``.
        found: the fixed points.

    Returns:
        Figure; fixed points that lie far from all trajectories are left out and counted in the title.
    """
    figure = new_figure(5.6, 4.6)
    axes = tidy(figure.subplots())
    trajectories = states.double().cpu().numpy()
    valid = valid_steps(lengths.cpu(), states.shape[1]).numpy()
    samples = trajectories[valid]
    components = min(2, len(samples), states.shape[-1])
    pca = PCA(components, svd_solver="full" if states.shape[-1] < 500 else "auto", random_state=0)
    with np.errstate(invalid="ignore", divide="ignore"):  # states that do not vary have no explained share
        pca.fit(samples)

    def project(points: np.ndarray) -> np.ndarray:
        plane = pca.transform(points)
        return plane if components == 2 else np.column_stack((plane, np.zeros(len(plane))))

    for trajectory, steps in zip(trajectories, valid, strict=True):
        line = project(trajectory[steps])
        axes.plot(*line.T, color=SKY, linewidth=0.7, alpha=0.6, zorder=1)
    ends = project(trajectories[np.arange(len(trajectories)), lengths.cpu().numpy() - 1])
    axes.plot(*ends.T, ".", color=BLUE, markersize=5, label="last step", zorder=2)

    plane = project(samples)
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
    share: list[float] = np.nan_to_num(pca.explained_variance_ratio_).tolist()
    axes.set_xlabel(f"principal component 1 ({share[0]:.0%} of variance)")
    axes.set_ylabel(f"principal component 2 ({share[1]:.0%})" if components == 2 else "")
    axes.legend(frameon=False, fontsize=8)
    return figure


def _claim(found: FixedPointSet) -> str:
    return "" if found.complete else " (there may be more)"
