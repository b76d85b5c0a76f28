"""The figure of whether networks solve a task in the same way."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy.cluster.hierarchy import dendrogram

from lightning_alrnn.analysis.comparison import MEASURES, SAME, Comparison
from lightning_alrnn.plotting.style import GREY, RED, new_figure, plain, tidy

_MOST_WRITTEN = 6


def plot_comparison(comparisons: Mapping[str, Comparison], labels: Mapping[str, Sequence[str]]) -> Figure:
    """Draw the clustering and the distances of the networks with each P.

    Args:
        comparisons: Results of :func:`lightning_alrnn.analysis.compare_portraits`, by title.
        labels: Names of the networks, by the same titles.

    Returns:
        Figure with a row for each title: the dendrogram of complete linkage, with the criterion ``SAME`` as a line,
        and matrices of the distances and of each measure, all in the order of the dendrogram.
    """
    sizes = [max(1.3, 0.5 + 0.16 * len(comparison.distance)) for comparison in comparisons.values()]
    figure = new_figure(11.5, sum(sizes) + 0.35 * len(sizes) + 0.5)
    grid = figure.add_gridspec(len(sizes), 2 + len(MEASURES), height_ratios=sizes, width_ratios=(1.3, *[1] * 5))
    image = None
    for row, (title, comparison) in enumerate(comparisons.items()):
        order = comparison.order.tolist()
        names = [plain(labels[title][index]) for index in order]
        tree = tidy(figure.add_subplot(grid[row, 0]))
        _draw_tree(tree, comparison)
        tree.set_title(title, fontsize=10, loc="left", fontweight="bold")
        matrices = {"distance": comparison.distance, **{name: comparison.measures.get(name) for name in MEASURES}}
        for column, (name, values) in enumerate(matrices.items(), start=1):
            axes = figure.add_subplot(grid[row, column])
            if row == 0:
                axes.set_title(name, fontsize=10)
            if values is None:
                axes.set_axis_off()
                axes.text(0.5, 0.5, "left out", ha="center", va="center", color=GREY, fontsize=8)
                continue
            matrix = values[order][:, order].numpy()
            image = axes.imshow(matrix, cmap="Blues_r", vmin=0, vmax=1)
            axes.set_xticks([])
            axes.set_yticks(range(len(order)), names if column == 1 else [""] * len(order), fontsize=7)
            axes.tick_params(length=0)
            if len(order) <= _MOST_WRITTEN:
                for (y, x), value in np.ndenumerate(matrix):
                    colour = "white" if value < SAME else "black"
                    axes.text(x, y, f"{value:.2f}", ha="center", va="center", fontsize=6, color=colour)
    if image is not None:
        bar = figure.colorbar(image, ax=figure.axes, shrink=0.8, aspect=40, pad=0.01, extend="max")
        bar.set_label("0: the same    1: nothing in common", fontsize=8)
        bar.ax.tick_params(labelsize=7)
    return figure


def _draw_tree(axes: Axes, comparison: Comparison) -> None:
    merges = comparison.merges
    if len(merges):
        dendrogram(merges, orientation="left", ax=axes, no_labels=True, color_threshold=0, above_threshold_color="k")
        axes.set_xlim(max(1.0, 1.05 * float(merges[-1, 2])), 0)
        axes.invert_yaxis()  # the first network on top, as in the matrices
    axes.axvline(SAME, color=RED, linewidth=0.8, linestyle="--")
    axes.spines["left"].set_visible(False)
    axes.set_yticks([])
    axes.tick_params(labelsize=7)
    axes.set_xlabel("distance", fontsize=8)
