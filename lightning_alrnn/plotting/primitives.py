"""Figures of the computational primitives: gates, kernels, and what an input counts in each condition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from lightning_alrnn.analysis.primitives import Gating, Integration, Routing
from lightning_alrnn.plotting.style import BLUE, GREY, SERIES_COLOURS, legend_beside, new_figure, plain, tidy

_MOST = 8


def plot_gating(found: Gating, channels: Sequence[str] | None = None) -> Figure:
    """Effect of each input on the gain of each other one, and the gain of the pair with the largest effect."""
    figure = new_figure(8.4, 3.4)
    left, right = figure.subplots(1, 2, width_ratios=(1.3, 1))
    effects = found.effects.numpy()
    rows, columns = (np.nonzero(~np.isnan(effects).all(axis=axis))[0] for axis in (1, 0))
    names = [f"input {index}" for index in range(len(effects))] if channels is None else list(map(plain, channels))
    image = left.imshow(effects[np.ix_(rows, columns)], cmap="Blues", vmin=0, vmax=1, aspect="auto")
    left.set_xticks(
        range(len(columns)), [names[index] for index in columns], fontsize=8, rotation=90 if len(columns) > 4 else 0
    )
    left.set_yticks(range(len(rows)), [names[index] for index in rows], fontsize=8)
    left.set(xlabel="gated", ylabel="controlling")
    left.set_title("effect of one input on the gain of another", fontsize=10)
    figure.colorbar(image, ax=left, shrink=0.85)
    tidy(right).bar((0, 1), found.gain, 0.6, color=(GREY, BLUE))
    right.axhline(0, color="black", linewidth=0.8)
    right.set_xticks((0, 1), (f"{names[found.control]} low", f"{names[found.control]} high"))
    right.set_ylabel(f"mean ∂y/∂s of {names[found.gated]}")
    right.set_title(f"{names[found.control]} {found.when}", fontsize=10)
    return figure


def plot_integration(found: Integration, channels: Sequence[str] | None = None) -> Figure:
    """Gain of each input with evidence, by quarter: level in a network that integrates, rising in one that forgets."""
    figure = new_figure(5.2, 3.2)
    axes = tidy(figure.subplots())
    for row, channel in enumerate(found.channels.tolist()[: len(SERIES_COLOURS)]):
        name = f"input {channel}" if channels is None else plain(channels[channel])
        kernel = found.kernel[row].numpy()
        axes.plot(range(1, 5), kernel, "o-", color=SERIES_COLOURS[row], label=f"{name}, flat {found.flatness[row]:.2f}")
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_xticks(range(1, 5), ("first", "second", "third", "last"))
    axes.set(xlabel="quarter of the evidence", ylabel="mean ∂y/∂s")
    axes.legend(frameon=False, fontsize=8)
    return figure


def plot_routing(found: Routing, names: Sequence[str] | None = None, channels: Sequence[str] | None = None) -> Figure:
    """Gain of the eight inputs that differ most, a bar for each condition, and the effect of the condition on each."""
    effects = found.effects.nan_to_num(0.0).numpy()
    shown = np.sort(np.argsort(-effects, kind="stable")[:_MOST])
    gain = found.gain.numpy()[: len(SERIES_COLOURS)]
    figure = new_figure(max(5.0, 1.6 + 0.9 * len(shown)), 3.6)
    axes = tidy(figure.subplots())
    width = 0.8 / max(len(gain), 1)
    for row, values in enumerate(gain):
        label = str(int(found.groups[row])) if names is None else names[row]
        place = np.arange(len(shown)) + (row - (len(gain) - 1) / 2) * width
        axes.bar(place, values[shown], width, color=SERIES_COLOURS[row], label=plain(label[:24]))
    axes.axhline(0, color="black", linewidth=0.8)
    labels = [f"input {index}" if channels is None else plain(channels[index]) for index in shown]
    axes.set_xticks(
        range(len(shown)),
        [f"{label}\n{effects[index]:.2f}" for label, index in zip(labels, shown, strict=True)],
        fontsize=8,
    )
    axes.set_ylabel("mean ∂y/∂s")
    axes.set_title("what an input counts for the answer, and the effect of the condition", fontsize=10)
    legend_beside(axes, title="condition")
    return figure
