"""Figures of how well a network does: they show the numbers given, at every edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from figures import check_drawn, texts, y_of

from lightning_alrnn.plotting.performance import plot_confusion, plot_values


def test_cells_are_shares_of_the_true_class() -> None:
    figure = plot_confusion(torch.tensor([0, 1, 1, 1]), torch.tensor([0, 0, 1, 1]), ["a", "b", "never"])
    axes = figure.axes[0]
    np.testing.assert_array_equal(axes.images[0].get_array(), [[0.5, 0.5, 0], [0, 1, 0], [0, 0, 0]])
    assert axes.get_title() == "75.0% of 4 right"
    assert texts(axes.texts[:2]) == ["0.50", "0.50"]
    assert texts(axes.get_yticklabels()) == ["a", "b", "never"]
    assert (axes.get_ylabel(), axes.get_xlabel()) == ("true class", "answer")


@pytest.mark.parametrize("classes", [1, 2, 35, 300])
def test_confusion_draws(classes: int) -> None:
    predicted, targets = torch.randint(classes, (2, 50), generator=torch.Generator().manual_seed(0))
    check_drawn(plot_confusion(predicted, targets, [f"class ${index}" for index in range(classes)]))


def test_points_are_answers_and_targets() -> None:
    figure = plot_values(torch.tensor([1.0, 2.0]), torch.tensor([1.0, 4.0]))
    axes = figure.axes[0]
    points = next(line for line in axes.lines if line.get_marker() == ".")
    assert np.asarray(points.get_xdata()).tolist() == [1.0, 4.0]
    assert y_of(points) == [1.0, 2.0]
    assert figure.get_suptitle() == "mean squared error 2, always the mean 2.2"


def test_a_panel_for_each_output_that_varies_most() -> None:
    targets = torch.randn(30, 4, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 9.0, 3.0, 2.0])
    figure = plot_values(targets + 1, targets, ["w", "x", "y", "z"], "the title")
    assert [axes.get_title() for axes in figure.axes] == ["x", "y", "z"]
    assert figure.get_suptitle() == "the title"
    assert y_of(figure.axes[1].lines[-1]) == pytest.approx((targets[:, 2] + 1).tolist())


@pytest.mark.parametrize("count", [1, 5000])
def test_values_draw(count: int) -> None:
    torch.manual_seed(0)
    check_drawn(plot_values(torch.randn(count), torch.randn(count)), least=2)
    check_drawn(plot_values(torch.zeros(count), torch.zeros(count)), least=0)
