"""Figures of how well a network does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from lightning_alrnn.plotting.style import BLUE, GREY, ORANGE, new_figure, plain, tidy

_WRITTEN_CLASSES = 12
_MOST_POINTS = 2000


def plot_confusion(classes: Tensor, targets: Tensor, names: Sequence[str]) -> Figure:
    """Share of each true class (row) for which each class (column) was predicted; classes of shape ``(n,)``."""
    count = len(names)
    table = np.zeros((count, count))
    np.add.at(table, (targets.numpy(), classes.numpy()), 1)
    share = table / np.maximum(table.sum(axis=1, keepdims=True), 1)
    side = min(2.6 + 0.32 * count, 9.0)
    figure = new_figure(side + 0.8, side)
    axes = figure.subplots()
    image = axes.imshow(share, cmap="Blues", vmin=0, vmax=1)
    if count <= _WRITTEN_CLASSES:
        for (row, column), value in np.ndenumerate(share):
            colour = "white" if value > 0.6 else "black"
            axes.text(column, row, f"{value:.2f}", ha="center", va="center", fontsize=7, color=colour)
    step = max(1, count // 20)
    ticks = range(0, count, step)
    labels = [plain(names[index]) for index in ticks]
    axes.set_xticks(ticks, labels, fontsize=8, rotation=90 if max(map(len, labels)) > 3 else 0)
    axes.set_yticks(ticks, labels, fontsize=8)
    axes.set(xlabel="answer", ylabel="true class")
    axes.set_title(f"{float(np.trace(table) / max(table.sum(), 1)):.1%} of {int(table.sum())} right", fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def plot_values(outputs: Tensor, targets: Tensor) -> Figure:
    """Outputs against targets, both of shape ``(n,)``, and the line on which they are equal."""
    answers, wanted = outputs.double().numpy(), targets.double().numpy()
    figure = new_figure(4.6, 4.2)
    axes = tidy(figure.subplots())
    low, high = min(answers.min(), wanted.min()), max(answers.max(), wanted.max())
    axes.plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=1)
    axes.axhline(wanted.mean(), color=ORANGE, linewidth=0.9, linestyle="--", label="always the mean", zorder=1)
    axes.plot(wanted[:_MOST_POINTS], answers[:_MOST_POINTS], ".", color=BLUE, markersize=3, alpha=0.6, zorder=2)
    axes.set(xlabel="target", ylabel="answer")
    error, spread = float(np.mean((answers - wanted) ** 2)), float(wanted.var())
    axes.set_title(f"mean squared error {error:.2g}, always the mean {spread:.2g}", fontsize=10)
    axes.legend(frameon=False, fontsize=8, loc="upper left")
    return figure
