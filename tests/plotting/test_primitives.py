"""Figures of gates and routes show the numbers that they are given, at every edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_alrnn.analysis.primitives import Gating, Routing, gating
from lightning_alrnn.plotting.primitives import plot_gating, plot_routing
from lightning_alrnn.plotting.style import render


def gates(units: int, channels: int) -> Gating:
    torch.manual_seed(0)
    on, off, locking = torch.rand(3, units, channels).double()
    p = torch.full((units, channels), 0.5).double()
    return Gating(False, locking, locking, p, on, off, on - off, p, torch.rand(channels, channels, 2).double(), [])


def routes(groups: list[int], channels: int) -> Routing:
    torch.manual_seed(0)
    difference, p = torch.rand(channels).double(), torch.full((channels,), 0.5).double()
    gain = torch.randn(len(groups), channels).double()
    return Routing(False, torch.tensor(groups), 0.1, 0.1, 0.5, gain, difference, difference, p)


def test_cells_are_locking_and_bars_what_the_gate_makes_of_the_inputs() -> None:
    found = gates(3, 2)
    p = found.locking_p.clone()
    p[2, 1] = 0.005
    left, right, *_ = plot_gating(found._replace(gates=[(2, 1, 0)], locking_p=p), ["value", "mark"]).axes
    np.testing.assert_array_equal(left.images[0].get_array(), found.locking.numpy())
    ring = left.lines[0]
    assert (np.asarray(ring.get_xdata()).tolist(), np.asarray(ring.get_ydata()).tolist()) == ([1], [2])
    low, high = ([bar.get_height() for bar in bars] for bars in right.containers)  # type: ignore[attr-defined]
    assert low == found.controlled[1, :, 0].tolist()
    assert high == found.controlled[1, :, 1].tolist()
    assert [text.get_text() for text in right.get_legend().get_texts()] == ["mark low", "mark high"]


def test_the_most_locked_are_shown_of_many() -> None:
    found = gates(100, 60)
    axes = plot_gating(found).axes[0]
    assert np.asarray(axes.images[0].get_array()).shape == (20, 20)
    best = str(int(found.locking.max(dim=1).values.argmax()))
    assert best in [label.get_text() for label in axes.get_yticklabels()]


@pytest.mark.parametrize(("units", "channels"), [(0, 1), (0, 30), (1, 1), (3, 9), (100, 60)])
def test_figures_of_gates_draw(units: int, channels: int) -> None:
    image = render(plot_gating(gates(units, channels)))
    assert max(image.shape) < 2200
    assert image.std() > 2


def test_units_that_never_switch_draw() -> None:
    rnn = torch.zeros(1), torch.zeros(1, 1), torch.zeros(1, 2), torch.zeros(1), 1
    found = gating(rnn, torch.randn(4, 3, 2), torch.ones(4, 3, 1), torch.zeros(4, 3, 2))
    assert found.locking.isnan().all()
    render(plot_gating(found))


def test_bars_are_gains_in_each_condition() -> None:
    found = routes([1, 3], 2)
    p = torch.tensor([0.5, 0.005])
    axes = plot_routing(found._replace(difference_p=p), ["one", "three"], ["value", "mark"]).axes[0]
    heights = [[bar.get_height() for bar in bars] for bars in axes.containers]  # type: ignore[attr-defined]
    assert heights == found.gain.tolist()
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["one", "three"]
    assert [label.get_text() for label in axes.get_xticklabels()] == ["value", "mark *"]
    unnamed = plot_routing(found).axes[0].get_legend()
    assert [text.get_text() for text in unnamed.get_texts()] == ["1", "3"]


@pytest.mark.parametrize(("groups", "channels"), [(2, 1), (20, 60)])
def test_figures_of_routes_draw(groups: int, channels: int) -> None:
    names = [f"{index}: a name that is far too long for $an axis" for index in range(groups)]
    image = render(plot_routing(routes(list(range(groups)), channels), names))
    assert max(image.shape) < 2200
    assert image.std() > 5
