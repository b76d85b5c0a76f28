"""Figures of eigenvalues, and of the states beside the slowest mode."""

from __future__ import annotations

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_alrnn.analysis.spectrum import PrincipalComponents, RegimeSpectrum, principal_angle
from lightning_alrnn.plotting.palette import draw_regime_eigenvalues
from lightning_alrnn.plotting.style import BLUE, GREY, ORANGE, PURPLE, RED, draw_unit_circle, new_figure, tidy

_COMPONENTS = 10
_SHORTEST = 0.1  # steps


def plot_spectrum(found: RegimeSpectrum, components: PrincipalComponents) -> Figure:
    """Eigenvalues of the most visited regimes, beside the principal components of the states and the slowest mode.

    Args:
        found: eigenvalues of the regimes.
        components: principal components of the states.

    Returns:
        Figure with the eigenvalues against the unit circle (left; those of the slowest mode ringed, each regime in its
        colour); of the ten leading
        components, the share of the variance (bars) and cos² of the angle to the slowest mode (points), which add up to
        1 over all components, or to 2 where the mode is a complex pair (middle); and the timescales of each regime's
        modes, those of a tenth of a step or more (right; a mode that holds its value has a square at the top).
    """
    figure = new_figure(13.2, 4.4)
    left, right, beside = figure.subplots(1, 3, width_ratios=(1.15, 1, 1))
    _draw_timescales(tidy(beside), found)
    draw_unit_circle(left)
    left.set_ylabel("Im λ")
    count, size = found.eigenvalues.shape
    draw_regime_eigenvalues(left, found.codes, found.eigenvalues, found.occupancy)
    slowest = found.slowest.eigenvalue
    ring = [slowest] if slowest.imag == 0 else [slowest, slowest.conjugate()]
    label = f"slowest mode: {_number(slowest)}, {_time(found.slowest.timescale)}"
    left.plot(
        [value.real for value in ring],
        [value.imag for value in ring],
        "o",
        color=ORANGE,
        markersize=11,
        markerfacecolor="none",
        markeredgewidth=1.6,
        label=label,
        zorder=3,
    )
    handles, labels = left.get_legend_handles_labels()
    left.add_artist(
        left.legend(
            handles[-1:], labels[-1:], frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13)
        )
    )
    left.legend(
        handles[:-1],
        labels[:-1],
        frameon=False,
        fontsize=8,
        title="regime, share of steps",
        title_fontsize=8,
        loc="upper left",
        bbox_to_anchor=(1, 1),
    )
    held = float(found.occupancy.sum())
    left.set_title(
        f"the {count} most visited regimes, {held:.0%} of steps" if count > 1 else "the most visited regime",
        fontsize=10,
    )

    shown = min(_COMPONENTS, size)
    position = np.arange(1, shown + 1)
    tidy(right).set_ylim(0, 1.05)
    right.set_xlabel("principal component of the states")
    right.set_xticks(position)
    if math.isnan(float(components.share[0])):
        right.text(0.5, 0.5, "the states do not vary", ha="center", transform=right.transAxes, color=GREY)
        return figure
    angles = [principal_angle(direction, found.slowest.directions) for direction in components.directions[:shown]]
    right.bar(position, components.share[:shown].numpy(), color=BLUE, width=0.8, label="share of variance")
    overlap = np.cos(np.radians(angles)) ** 2
    right.plot(
        position,
        overlap,
        "o",
        color=ORANGE,
        markersize=5,
        label="cos² of the angle to the slowest mode",
        clip_on=False,
    )
    right.legend(frameon=False, fontsize=8)
    right.set_title(f"component 1 is {angles[0]:.1f}° from the slowest mode", fontsize=10)
    return figure


def _draw_timescales(axes: Axes, found: RegimeSpectrum) -> None:
    steps = found.timescales.numpy()
    rank = np.repeat(np.arange(1, len(steps) + 1), steps.shape[1])
    steps = steps.ravel()
    finite = np.isfinite(steps)
    top = max(10.0, 3 * float(np.abs(steps[finite]).max(initial=0.0)))
    for label, colour, marker, chosen in (
        ("decays", BLUE, "o", finite & (steps >= _SHORTEST)),
        ("grows", RED, "^", finite & (steps <= -_SHORTEST)),
        ("holds its value", PURPLE, "s", ~finite),
    ):
        if chosen.any():
            height = np.where(finite, np.abs(steps), top)[chosen]
            axes.plot(rank[chosen], height, marker, color=colour, markersize=4, alpha=0.7, label=label)
    axes.set_yscale("log")
    axes.set_ylim(_SHORTEST, 1.3 * top)
    axes.set_xlim(0.4, len(found.codes) + 0.6)
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set_xlabel("regime (1 = most visited)")
    axes.set_ylabel("timescale (steps)")
    axes.set_title("timescales of the regimes' modes", fontsize=10)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.13), ncols=3)


def _number(value: complex) -> str:
    return f"λ = {value.real:.4f}" + (f" ± {value.imag:.4f}i" if value.imag else "")


def _time(steps: float) -> str:
    if math.isinf(steps):
        return "holds its value"
    return f"{'grows' if steps < 0 else 'decays'} in {abs(steps):.3g} steps"
