"""Where trajectories end: at known fixed points, on known cycles, elsewhere, or nowhere."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from networks import build, flip_flop, linear, mutual_inhibition, rotation

from lightning_alrnn.analysis import fixed_points
from lightning_alrnn.analysis.settling import settle


def test_the_winner_of_a_competition() -> None:
    rnn = mutual_inhibition()
    points = fixed_points(rnn)
    starts = torch.tensor([[3.0, 0.0], [0.0, 3.0], [1.0, 1.1]])
    end = settle(rnn, starts, points)
    for index, z in zip(end.at_point.tolist(), ([2.0, -2.0], [-2.0, 2.0], [-2.0, 2.0]), strict=True):
        assert points.z[index].tolist() == pytest.approx(z)
    assert (end.period.tolist(), end.diverged.tolist()) == ([1, 1, 1], [False] * 3)
    assert (end.tail.shape, end.steps) == ((3, 128, 2), 1000)


def test_memories_hold() -> None:
    rnn = flip_flop(2)
    points = fixed_points(rnn)
    end = settle(rnn, points.z, points)
    stable = [index for index, kind in enumerate(points.stability) if kind == "stable"]
    assert [int(end.at_point[index]) for index in stable] == stable


def test_a_constant_input_moves_the_rest() -> None:
    rnn = build([0.5], [[0.0]], [0.0], 1, C=[[1.0]])
    points = fixed_points(rnn, torch.tensor([2.0]))
    end = settle(rnn, torch.zeros(1, 1), points, torch.tensor([2.0]))
    assert end.at_point.tolist() == [0]
    assert float(end.tail[0, -1]) == pytest.approx(4.0)
    assert settle(rnn, torch.zeros(1, 1), points).at_point.tolist() == [-1]


@pytest.mark.parametrize("turn", [2, 3, 5, 64])
def test_the_least_period(turn: int) -> None:
    rnn = linear(rotation(1.0, 2 * math.pi / turn))
    end = settle(rnn, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), fixed_points(rnn))
    assert end.period.tolist() == [turn, 1]
    assert end.at_point.tolist() == [-1, 0]


def test_no_period() -> None:
    rnn = build([1.9], [[-3.8]], [0.9], 1)  # a chaotic tent map
    end = settle(rnn, torch.tensor([[0.1234]]), fixed_points(rnn))
    assert (end.period.tolist(), end.diverged.tolist()) == ([0], [False])


def test_trajectories_that_grow_without_bounds() -> None:
    rnn = linear([[1.5]])
    end = settle(rnn, torch.tensor([[1.0], [0.0]]), fixed_points(rnn))
    assert end.diverged.tolist() == [True, False]
    assert (end.period.tolist(), end.at_point.tolist()) == ([0, 1], [-1, 0])
    assert end.tail[0].isnan().all()
    assert not end.tail[1].any()


def test_at_rest_on_a_continuum() -> None:
    rnn = linear(np.diag([1.0, 0.5]))
    end = settle(rnn, torch.tensor([[3.0, 1.0]]), fixed_points(rnn))
    assert (end.at_point.tolist(), end.period.tolist()) == ([-1], [1])


def test_no_trajectories() -> None:
    rnn = mutual_inhibition()
    end = settle(rnn, torch.zeros(0, 2), fixed_points(rnn))
    assert len(end.period) == len(end.at_point) == len(end.tail) == 0


def test_refusals() -> None:
    rnn = mutual_inhibition()
    for states, steps, message in (
        (torch.zeros(1, 2), 100, "steps must be at least 128, got 100"),
        (torch.zeros(2), 1000, r"states must have shape \(batch, M\), got \(2,\)"),
        (torch.full((1, 2), math.nan), 1000, "states must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            settle(rnn, states, fixed_points(rnn), steps=steps)
