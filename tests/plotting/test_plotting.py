"""Figures: they draw at every edge, and show the numbers that they are given."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from matplotlib.image import imread

from lightning_alrnn.analysis.fixed_points import eigenvalues_of_regimes, fixed_points
from lightning_alrnn.analysis.regimes import count_regimes
from lightning_alrnn.analysis.units import unit_activity
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.plotting import (
    plot_eigenvalues,
    plot_length_accuracy,
    plot_regimes,
    plot_state_space,
    plot_units,
)
from lightning_alrnn.plotting.style import encode_png, render


def trained(hidden: int, nonlinear: int) -> ALRNN:
    torch.manual_seed(0)
    rnn = ALRNN(2, hidden, nonlinear)
    with torch.no_grad():
        rnn.W.normal_(std=0.8 / hidden**0.5)
        rnn.h.normal_()
    return rnn


@pytest.mark.parametrize(("hidden", "nonlinear"), [(6, 0), (6, 3), (6, 6), (1, 0), (1, 1), (40, 30)])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (9, 12)])
def test_all_figures_draw(hidden: int, nonlinear: int, batch: int, time: int) -> None:
    rnn = trained(hidden, nonlinear)
    states = rnn(torch.randn(batch, time, 2)).states.detach()
    lengths = torch.full((batch,), time)
    regimes = count_regimes(states, nonlinear)
    points = fixed_points(rnn, visited=regimes.codes)
    for figure in (
        plot_regimes(regimes),
        plot_units(unit_activity(states, nonlinear)),
        plot_eigenvalues(points, eigenvalues_of_regimes(rnn, regimes.codes)),
        plot_eigenvalues(points),
        plot_state_space(states, lengths, points),
    ):
        image = render(figure)
        assert image.ndim == 3
        assert image.std() > 5  # something is drawn


def test_occupancy_bars_are_the_shares() -> None:
    states = torch.tensor([[[1.0, 1.0], [1.0, 1.0], [1.0, 1.0], [-1.0, 1.0]]])
    axes = plot_regimes(count_regimes(states, 2)).axes[0]
    assert [patch.get_height() for patch in axes.patches] == [0.75, 0.25]  # type: ignore[attr-defined]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["11", "01"]
    assert "2 of" in axes.get_title()


def test_many_regimes_show_the_most_frequent() -> None:
    torch.manual_seed(0)
    axes = plot_regimes(count_regimes(torch.randn(9, 50, 20), 20), top=5).axes[0]
    assert len(axes.patches) == 5
    assert "the 5 shown hold" in axes.texts[0].get_text()


def test_states_that_never_move() -> None:
    rnn = trained(4, 2)
    states = torch.ones(3, 5, 4)
    render(plot_state_space(states, torch.full((3,), 5), fixed_points(rnn)))


def test_png_holds_the_image(tmp_path: object) -> None:
    from pathlib import Path

    image = np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)
    Path("image.png").write_bytes(encode_png(image))
    assert np.array_equal((imread("image.png")[..., :3] * 255).round().astype(np.uint8), image)


def test_accuracy_by_length() -> None:
    right, total = torch.tensor([0, 3, 0, 0]), torch.tensor([0, 4, 0, 2])
    figure = plot_length_accuracy(right, total)
    top, bottom = figure.axes
    bars = [(round(bar.get_x() + bar.get_width() / 2, 6), bar.get_height()) for bar in top.patches]  # type: ignore[attr-defined]
    assert bars == [(1, 0.75), (3, 0.0)]
    assert [bar.get_height() for bar in bottom.patches] == [4, 2]  # type: ignore[attr-defined]
    assert "50.0% of 6 sequences" in top.get_title()
    assert render(figure).std() > 5
    render(plot_length_accuracy(torch.zeros(4), torch.zeros(4)))
