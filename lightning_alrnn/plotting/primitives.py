"""Figures of the computational primitives: gates, and what an input counts in each condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lightning_alrnn.analysis.primitives import ALPHA, Gating, Routing
from lightning_alrnn.plotting.style import BLUE, GREY, ORANGE, SERIES_COLOURS, new_figure, tidy

_MOST = 20


def plot_gating(found: Gating, channels: Sequence[str] | None = None) -> Figure:
    """Which unit is locked to which input, and what an input counts where a gate's controlling input is low and high.

    Args:
        found: the measures.
        channels: names of the inputs; ``None`` for their indices.

    Returns:
        Figure with the locking of units (rows) to inputs (columns; ringed where it exceeds chance) and, of the
        strongest gate's controlling input, the mean gain of each input where it is at its lowest and highest level.
        Of more than 20 units or inputs, the most locked are shown.
    """
    figure = new_figure(9.4, 3.8)
    left, right = figure.subplots(1, 2, width_ratios=(1.1, 1))
    locking = found.locking.nan_to_num(0.0).numpy()
    units, width = locking.shape
    names = [f"input {index}" for index in range(width)] if channels is None else list(channels)
    if units == 0:
        for axes in (left, right):
            axes.set_axis_off()
        left.text(0.5, 0.5, "P = 0: no nonlinear units", ha="center", color=GREY)
        return figure
    rows = np.sort(np.argsort(-locking.max(axis=1), kind="stable")[:_MOST])
    columns = np.sort(np.argsort(-locking.max(axis=0), kind="stable")[:_MOST])
    image = left.imshow(locking[np.ix_(rows, columns)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    beyond = (found.locking_p <= ALPHA).numpy()[np.ix_(rows, columns)]
    y, x = np.nonzero(beyond)
    left.plot(x, y, "o", color=ORANGE, markerfacecolor="none", markersize=9, label="beyond chance")
    left.set_xticks(
        range(len(columns)), [names[index] for index in columns], fontsize=8, rotation=90 if width > 4 else 0
    )
    left.set_yticks(range(len(rows)), [str(index) for index in rows], fontsize=8)
    left.set_ylabel("nonlinear unit")
    left.set_title("locking of a unit to an input, I/H", fontsize=10)
    if len(x):
        left.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(0, -0.12))
    figure.colorbar(image, ax=left, shrink=0.85)

    control = found.gates[0][1] if found.gates else int(np.argmax(locking.max(axis=0)))
    gain = found.controlled[control].numpy()
    shown = np.sort(np.argsort(-gain.max(axis=1), kind="stable")[:8])
    place = np.arange(len(shown))
    tidy(right).bar(place - 0.2, gain[shown, 0], 0.38, color=GREY, label=f"{names[control]} low")
    right.bar(place + 0.2, gain[shown, 1], 0.38, color=BLUE, label=f"{names[control]} high")
    right.set_xticks(place, [names[index] for index in shown], fontsize=8, rotation=90 if len(shown) > 4 else 0)
    right.set_ylabel("mean |∂y/∂s|")
    right.set_title("what an input counts for the answer", fontsize=10)
    right.legend(frameon=False, fontsize=8)
    return figure


def plot_routing(found: Routing, names: Sequence[str] | None = None, channels: Sequence[str] | None = None) -> Figure:
    """What each input counts for the answer, in each condition.

    Args:
        found: the measures.
        names: of the conditions in ``found.groups``; ``None`` for their indices.
        channels: names of the inputs; ``None`` for their indices.

    Returns:
        Figure with the mean ∂y/∂s of each input (the eight that differ most), a bar a condition (seven at most); an
        asterisk where the difference exceeds chance.
    """
    difference = found.difference.nan_to_num(0.0).numpy()
    shown = np.sort(np.argsort(-difference, kind="stable")[:8])
    gain = found.gain.numpy()[: len(SERIES_COLOURS)]
    figure = new_figure(max(5.0, 1.6 + 0.9 * len(shown)), 3.6)
    axes = tidy(figure.subplots())
    width = 0.8 / max(len(gain), 1)
    for row, values in enumerate(gain):
        label = str(int(found.groups[row])) if names is None else names[row]
        place = np.arange(len(shown)) + (row - (len(gain) - 1) / 2) * width
        axes.bar(place, values[shown], width, color=SERIES_COLOURS[row], label=label[:24].replace("$", r"\$"))
    axes.axhline(0, color="black", linewidth=0.8)
    labels = [f"input {index}" if channels is None else channels[index] for index in shown]
    beyond = (found.difference_p <= ALPHA).numpy()[shown]
    axes.set_xticks(
        range(len(shown)),
        [f"{label}{' *' if star else ''}" for label, star in zip(labels, beyond, strict=True)],
        fontsize=8,
    )
    axes.set_ylabel("mean ∂y/∂s")
    axes.set_title("what an input counts for the answer (* differs beyond chance)", fontsize=10)
    axes.legend(title="condition", frameon=False, fontsize=8, title_fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
    return figure
