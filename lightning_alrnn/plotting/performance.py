"""Figures of how well a network does."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from lightning_alrnn.plotting.style import BLUE, GREY, ORANGE, new_figure, plain, tidy

_WRITTEN_CLASSES = 12
_MOST_POINTS = 2000
_MOST_PANELS = 3


def plot_confusion(classes: Tensor, targets: Tensor, names: Sequence[str], title: str | None = None) -> Figure:
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
    if title is None:
        title = f"{float(np.trace(table) / max(table.sum(), 1)):.1%} of {int(table.sum())} right"
    axes.set_title(title, fontsize=10)
    figure.colorbar(image, ax=axes, label="share of the true class", shrink=0.8)
    return figure


def plot_values(
    outputs: Tensor, targets: Tensor, names: Sequence[str] | None = None, title: str | None = None
) -> Figure:
    """Outputs against targets, both of shape ``(n,)`` or ``(n, outputs)``, for the three outputs that vary most."""
    answers, wanted = (values.double().reshape(len(values), -1).numpy() for values in (outputs, targets))
    shown = np.sort(np.argsort(-wanted.var(axis=0), kind="stable")[:_MOST_PANELS])
    # evenly spaced, as steps of a sequence follow each other
    some = np.linspace(0, len(wanted) - 1, min(len(wanted), _MOST_POINTS)).round().astype(int)
    figure = new_figure(4.6 if len(shown) == 1 else 3.0 * len(shown), 4.2 if len(shown) == 1 else 3.4)
    for place, (axes, output) in enumerate(zip(figure.subplots(1, len(shown), squeeze=False)[0], shown, strict=True)):
        y, x = answers[:, output], wanted[:, output]
        low, high = min(y.min(), x.min()), max(y.max(), x.max())
        tidy(axes).plot([low, high], [low, high], color=GREY, linewidth=0.8, zorder=1)
        axes.axhline(x.mean(), color=ORANGE, linewidth=0.9, linestyle="--", label="always the mean", zorder=1)
        axes.plot(x[some], y[some], ".", color=BLUE, markersize=3, alpha=0.6, zorder=2)
        axes.set_xlabel("target")
        if place == 0:
            axes.set_ylabel("answer")
            axes.legend(frameon=False, fontsize=8, loc="upper left")
        if len(shown) > 1 or names is not None:
            axes.set_title(f"output {output}" if names is None else plain(names[output]), fontsize=9)
    if title is None:
        error, spread = float(np.mean((answers - wanted) ** 2)), float(wanted.var(axis=0).mean())
        title = f"mean squared error {error:.2g}, always the mean {spread:.2g}"
    figure.suptitle(title, fontsize=10)
    return figure
