"""Where trajectories end: at known fixed points, on known cycles, elsewhere, or nowhere."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
import pytest
import torch
from networks import build, flip_flop, mutual_inhibition, tent_map

from lightning_alrnn.analysis import FixedPointSet, fixed_points
from lightning_alrnn.analysis.settling import settle
from lightning_alrnn.nn import ALRNN


def listed(rnn: ALRNN) -> FixedPointSet:
    return cast(FixedPointSet, fixed_points(rnn))


def test_the_winner_of_a_competition() -> None:
    rnn = mutual_inhibition()
    points = listed(rnn)
    starts = torch.tensor([[3.0, 0.0], [0.0, 3.0], [1.0, 1.1]])
    end = settle(rnn, starts, points)
    for index, z in zip(end.at_point.tolist(), ([2.0, -2.0], [-2.0, 2.0], [-2.0, 2.0]), strict=True):
        assert points.z[index].tolist() == pytest.approx(z)
    assert end.period.tolist() == [1, 1, 1]
    assert not end.diverged.any()
    assert end.tail.shape == (3, 128, 2)
    assert end.steps == 1000


def test_memories_hold() -> None:
    rnn = flip_flop(2)
    points = listed(rnn)
    end = settle(rnn, points.z, points)
    stable = [index for index, kind in enumerate(points.stability) if kind == "stable"]
    assert [int(end.at_point[index]) for index in stable] == stable


def test_a_constant_input_moves_the_rest() -> None:
    rnn = build([0.5], [[0.0]], [0.0], 1, C=[[1.0]])
    under = cast(FixedPointSet, fixed_points(rnn, torch.tensor([2.0])))
    end = settle(rnn, torch.zeros(1, 1), under, torch.tensor([2.0]))
    assert end.at_point.tolist() == [0]
    assert float(end.tail[0, -1]) == pytest.approx(4.0)
    assert settle(rnn, torch.zeros(1, 1), under).at_point.tolist() == [-1]


@pytest.mark.parametrize("turn", [2, 3, 5, 64])
def test_the_least_period(turn: int) -> None:
    angle = 2 * math.pi / turn
    W = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
    rnn = build(np.zeros(0), W, [0.0, 0.0], 0)
    end = settle(rnn, torch.tensor([[1.0, 0.0], [0.0, 0.0]]), listed(rnn))
    assert end.period.tolist() == [turn, 1]
    assert end.at_point.tolist() == [-1, 0]


def test_no_period() -> None:
    rnn = tent_map()  # ends on the unstable point at −1 or moves on for ever in exact arithmetic; slopes of 2
    slower = build([1.9], [[-3.8]], [0.9], 1)
    end = settle(slower, torch.tensor([[0.1234]]), listed(slower))
    assert end.period.tolist() == [0]
    assert not end.diverged.any()
    assert settle(rnn, torch.tensor([[-1.0]]), listed(rnn)).period.tolist() == [1]


def test_trajectories_that_grow_without_bounds() -> None:
    rnn = build(np.zeros(0), [[1.5]], [0.0], 0)
    end = settle(rnn, torch.tensor([[1.0], [0.0]]), listed(rnn))
    assert end.diverged.tolist() == [True, False]
    assert end.period.tolist() == [0, 1]
    assert end.at_point.tolist() == [-1, 0]
    assert end.tail[0].isnan().all()
    assert not end.tail[1].any()


def test_at_rest_on_a_continuum() -> None:
    rnn = build(np.zeros(0), np.diag([1.0, 0.5]), [0.0, 0.0], 0)
    end = settle(rnn, torch.tensor([[3.0, 1.0]]), listed(rnn))
    assert end.at_point.tolist() == [-1]
    assert end.period.tolist() == [1]


def test_no_trajectories() -> None:
    rnn = mutual_inhibition()
    end = settle(rnn, torch.zeros(0, 2), listed(rnn))
    assert len(end.period) == len(end.at_point) == len(end.tail) == 0


def test_refusals() -> None:
    rnn = mutual_inhibition()
    with pytest.raises(ValueError, match="steps must be at least 128, got 100"):
        settle(rnn, torch.zeros(1, 2), listed(rnn), steps=100)
    with pytest.raises(ValueError, match=r"states must have shape \(batch, M\), got \(2,\)"):
        settle(rnn, torch.zeros(2), listed(rnn))
    with pytest.raises(ValueError, match="states must be finite"):
        settle(rnn, torch.full((1, 2), math.nan), listed(rnn))
