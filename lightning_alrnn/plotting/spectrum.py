"""The figure of eigenvalues and the slowest mode."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from lightning_alrnn.analysis.spectrum import PrincipalComponents, RegimeSpectrum, principal_angle
from lightning_alrnn.plotting.palette import draw_regime_eigenvalues
from lightning_alrnn.plotting.style import (
    BLUE,
    ORANGE,
    PURPLE,
    RED,
    draw_unit_circle,
    legend_beside,
    new_figure,
    tidy,
    write_in_middle,
)

_COMPONENTS = 10
_SHORTEST = 0.1  # steps
_BELOW: dict[str, Any] = {"frameon": False, "fontsize": 8, "loc": "upper center", "bbox_to_anchor": (0.5, -0.13)}


def plot_spectrum(found: RegimeSpectrum, components: PrincipalComponents) -> Figure:
    """Draw the eigenvalues of the most visited regimes, and the slowest mode among the principal components.

    Args:
        found: Eigenvalues of the regimes.
        components: Principal components of the states.

    Returns:
        Figure with three panels. Left: the eigenvalues against the unit circle, each regime in its colour, the slowest
        mode ringed. Middle: share of the variance (bars) of the ten leading components, and cos² of the angle between
        each and the slowest mode (points), which adds up to 1 over all components, or to 2 for a complex pair. Right:
        timescales of the modes of each regime, from a tenth of a step on, with a square at the top for a mode that
        holds its value.
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
    style = {"markersize": 11, "markerfacecolor": "none", "markeredgewidth": 1.6, "zorder": 3}
    left.plot([value.real for value in ring], [value.imag for value in ring], "o", color=ORANGE, label=label, **style)
    *regimes, mode = left.get_legend_handles_labels()[0]
    left.add_artist(left.legend(handles=[mode], **_BELOW))
    legend_beside(left, handles=regimes, title="regime, share of steps")
    held = float(found.occupancy.sum())
    several = f"the {count} most visited regimes, {held:.0%} of steps"
    left.set_title(several if count > 1 else "the most visited regime", fontsize=10)

    shown = min(_COMPONENTS, size)
    position = np.arange(1, shown + 1)
    tidy(right).set_ylim(0, 1.05)
    right.set(xlabel="principal component of the states", xticks=position)
    if math.isnan(float(components.share[0])):
        write_in_middle(right, "the states do not vary")
        return figure
    angles = [principal_angle(direction, found.slowest.directions) for direction in components.directions[:shown]]
    right.bar(position, components.share[:shown].numpy(), color=BLUE, width=0.8, label="share of variance")
    overlap = np.cos(np.radians(angles)) ** 2
    label = "cos² of the angle to the slowest mode"
    right.plot(position, overlap, "o", color=ORANGE, markersize=5, label=label, clip_on=False)
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
    axes.set(yscale="log", ylim=(_SHORTEST, 1.3 * top), xlim=(0.4, len(found.codes) + 0.6))
    axes.xaxis.set_major_locator(MaxNLocator(8, integer=True))
    axes.set(xlabel="regime (1 = most visited)", ylabel="timescale (steps)")
    axes.set_title("timescales of the regimes' modes", fontsize=10)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(ncols=3, **_BELOW)


def _number(value: complex) -> str:
    return f"λ = {value.real:.4f}" + (f" ± {value.imag:.4f}i" if value.imag else "")


def _time(steps: float) -> str:
    if math.isinf(steps):
        return "holds its value"
    return f"{'grows' if steps < 0 else 'decays'} in {abs(steps):.3g} steps"
