"""The figure of a pruned network: a point for each number of units, and what was taken away below it."""

from __future__ import annotations

import math
from itertools import pairwise

import numpy as np
import pytest
from figures import texts
from matplotlib.figure import Figure

from lightning_alrnn.analysis import Removal
from lightning_alrnn.plotting import plot_pruning
from lightning_alrnn.plotting.style import render
from lightning_alrnn.sweep import Pruning, PruningPoint, pruning_rules


def drawn(scores: list[float], name: str = "accuracy") -> Figure:
    last = len(scores) - 1
    points = tuple(
        PruningPoint(
            last - index,
            Removal(last - index, "silence" if index % 2 else "linearise") if index else None,
            {f"val/{name}": score},
            {f"test/{name}": score, "test/constant_mse": 1.0},
        )
        for index, score in enumerate(scores)
    )
    figure = plot_pruning(Pruning(points, pruning_rules(points[0])))
    render(figure)
    return figure


def test_each_point_names_the_unit_that_was_taken_away() -> None:
    figure = drawn([0.95, 0.94, 0.7, 0.5])
    (axes,) = figure.axes
    labels = texts(axes.get_xticklabels())
    assert labels == ["0\nunit 0\nsilenced", "1\nunit 1\nlinearised", "2\nunit 2\nsilenced", "3\nas\ntrained"]
    marks = [line for line in axes.lines if line.get_marker() in ("o", "X")]
    assert "".join(str(mark.get_marker()) for mark in marks) == "XXoo"
    assert [float(np.asarray(mark.get_ydata())[0]) for mark in marks] == [0.5, 0.7, 0.94, 0.95]
    legend = axes.get_legend()
    assert legend is not None
    assert "typical run (median)" not in [text.get_text() for text in legend.get_texts()]  # each is one network
    assert "2 of 3 nonlinear units are enough" in figure.get_suptitle()


@pytest.mark.parametrize("units", [1, 8, 9, 40])
def test_labels_do_not_touch(units: int) -> None:
    figure = drawn([0.9 - 0.01 * index for index in range(units + 1)])
    labels = figure.axes[0].get_xticklabels()
    assert len(labels) == units + 1
    boxes = [label.get_window_extent() for label in labels]
    assert all(left.x1 < right.x0 + 1 for left, right in pairwise(boxes))
    assert min(box.y0 for box in boxes) >= 0


def test_networks_that_diverge_stand_at_the_worse_end() -> None:
    axes = drawn([0.1, 0.11, math.nan], "mse").axes[0]
    assert "diverged" in texts(axes.get_yticklabels())
    assert texts(axes.texts) == ["1 of 1"]
