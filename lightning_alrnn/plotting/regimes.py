"""Figures of regimes and of the units that make them."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lightning_alrnn.analysis.regimes import RegimeCounts, bitcode, summarize_regimes, transition_matrix
from lightning_alrnn.analysis.units import UnitStatistics
from lightning_alrnn.plotting.style import BLUE, GREY, ORANGE, new_figure, tidy

_LABEL_CHARACTERS = 12


def plot_regimes(found: RegimeCounts, *, top: int = 16) -> Figure:
    """How often each regime is visited, beside the transitions among the most frequent ones.

    Args:
        found: counts of regimes and transitions.
        top: how many of the most frequent regimes are shown.

    Returns:
        Figure with sorted occupancy (left; bitcodes as labels where they fit, ranks elsewhere) and the transition
        matrix (right; from row to column).
    """
    figure = new_figure(9.5, 4.4)
    left, right = figure.subplots(1, 2, width_ratios=(1.25, 1))
    summary = summarize_regimes(found)
    shown = min(top, len(found.codes))
    units = found.codes.shape[1]
    if 0 < units <= _LABEL_CHARACTERS:
        labels, name = [bitcode(code) for code in found.codes[:shown]], "regime (bitcode)"
    else:
        labels, name = [str(rank + 1) for rank in range(shown)], "regime (by rank)"

    occupancy = found.counts[:shown].double().numpy() / max(found.steps, 1)
    tidy(left).bar(np.arange(shown), occupancy, color=BLUE, width=0.8)
    if len(found.codes) > shown:
        note = f"the {shown} shown hold {occupancy.sum():.0%} of steps"
        left.text(1.0, 0.98, note, ha="right", va="top", transform=left.transAxes, fontsize=8, color=GREY)
    rotation = 0 if sum(map(len, labels)) < 40 else 90
    left.set_xticks(range(shown), labels, rotation=rotation, fontsize=8, family="monospace")
    left.set_xlabel(name)
    left.set_ylabel("share of steps")
    left.set_title(
        f"{summary.visited} of $2^{{{units}}}$ regimes visited, effectively {summary.effective:.1f}", fontsize=10
    )

    matrix = transition_matrix(found, top).numpy()
    image = right.imshow(matrix, cmap="cividis", vmin=0, aspect="equal")
    fits = shown * max(len(label) for label in labels) <= 80 if labels else False
    right.set_xticks(range(shown), labels if fits else [""] * shown, rotation=90, fontsize=7, family="monospace")
    right.set_yticks(range(shown), labels, fontsize=7, family="monospace")
    right.set_xlabel("to" if fits else "to (same order)")
    right.set_ylabel("from")
    right.set_title(f"transitions, {summary.switch_rate:.3f} switches a step", fontsize=10)
    figure.colorbar(image, ax=right, label="probability", shrink=0.85)
    return figure


def plot_units(found: UnitStatistics) -> Figure:
    """Duty cycle of each nonlinear unit, and how often it switches.

    Args:
        found: statistics of the units.

    Returns:
        Figure with the share of steps in which each unit is on (bars) and in which it switches (points).
    """
    units = len(found.duty)
    figure = new_figure(min(max(6.5, 2.5 + 0.3 * units), 14.0), 3.4)
    axes = tidy(figure.subplots())
    axes.set_title(
        f"{found.active} of {units} nonlinear units active, {found.always_on} always on, {found.always_off} always off",
        fontsize=10,
    )
    axes.set_xlabel("nonlinear unit")
    axes.set_ylabel("share of steps")
    axes.set_ylim(0, 1.05)
    if units:
        position = np.arange(units)
        axes.bar(position, found.duty.numpy(), color=BLUE, width=0.8, alpha=0.85, label="on (duty cycle)")
        axes.plot(position, found.switching.numpy(), "o", color=ORANGE, markersize=5, label="switches", clip_on=False)
        axes.set_xticks(position[:: max(1, units // 25)])
        axes.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    else:
        axes.set_xticks([])
        axes.text(0.5, 0.5, "P = 0: no nonlinear units", ha="center", transform=axes.transAxes, color=GREY)
    return figure
