"""Figures of slow modes and of memory show the numbers that they are given, at every edge."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from figures import check_drawn, y_of
from networks import build

from lightning_alrnn.analysis import count_regimes, input_memory, nonnormality, slow_modes
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.plotting.modes import plot_memory, plot_slow_modes


def test_points_are_timescales_and_cosines() -> None:
    rnn = build(np.zeros(0), np.diag([0.9, 1.1]), [0.0, 0.0], 0, C=[[1.0], [0.0]])
    found = slow_modes(rnn, torch.zeros(1, 0), readout_weight=torch.tensor([[0.0, 1.0]]))
    left, right = plot_slow_modes(found, torch.ones(1), 10.0).axes
    decays, grows, length = left.lines
    assert y_of(decays) == pytest.approx([-1 / np.log(0.9)])
    assert y_of(grows) == pytest.approx([1 / np.log(1.1)])
    assert grows.get_markerfacecolor() == "none"
    assert y_of(length) == [10.0, 10.0]
    reached, seen = (np.asarray(line.get_ydata()) for line in right.lines)
    order = np.argsort(found.eigenvalues[0].abs().numpy())
    assert reached[order].tolist() == [1.0, 0.0]
    assert seen[order].tolist() == [0.0, 1.0]


def test_lines_are_memory_and_growth() -> None:
    rnn = build(np.zeros(0), [[0.5]], [0.0], 0, C=[[2.0]])
    memory = input_memory(rnn, torch.zeros(1, 4, 1), 3)
    growth = nonnormality(rnn, torch.zeros(1, 0), torch.tensor([2]))
    left, right = plot_memory(memory, growth, torch.zeros(1, 0), ["marker"]).axes
    assert y_of(left.lines[0]) == [2.0, 1.0, 0.5, 0.25]
    assert left.get_legend().get_texts()[0].get_text() == "marker"
    assert left.get_ylabel() == "r.m.s. of ∂z/∂s"
    assert np.asarray(right.lines[0].get_xdata()).tolist() == [0, 1, 2]
    assert y_of(right.lines[0]) == [1.0, 0.5, 0.25]


@pytest.mark.parametrize(("hidden", "units", "channels"), [(1, 0, 1), (1, 1, 1), (6, 3, 2), (30, 30, 40)])
@pytest.mark.parametrize("gain", [0.0, 0.8, 50.0])
def test_figures_of_modes_draw(hidden: int, units: int, channels: int, gain: float) -> None:
    torch.manual_seed(0)
    rnn = ALRNN(channels, hidden, units)
    with torch.no_grad():
        rnn.W.normal_(std=gain / hidden**0.5)
        rnn.A.zero_()
    states = torch.randn(3, 5, hidden)
    codes = count_regimes(states, units).codes[:8]
    modes = slow_modes(rnn, codes, min(4, hidden))
    check_drawn(
        plot_slow_modes(modes, torch.full((len(codes),), 0.1), 5.0),
        plot_memory(input_memory(rnn, states, 4), nonnormality(rnn, codes), codes),
    )
