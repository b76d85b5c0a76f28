"""Matching fixed points: against brute force over all assignments, along a drift, and at the edges."""

from __future__ import annotations

import math
from itertools import pairwise, permutations

import numpy as np
import pytest
import torch
from networks import build, flip_flop, random_map
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import fixed_points
from lightning_alrnn.analysis.tracking import FixedPointPlaces, match_fixed_points, places


def at(z: Tensor, units: int = 0, stability: str = "stable") -> FixedPointPlaces:
    z = z.double()
    return FixedPointPlaces(z, z[:, z.shape[1] - units :] > 0, [stability] * len(z))


@pytest.mark.parametrize("seed", range(8))
def test_assignment_by_place_is_the_cheapest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = (torch.from_numpy(rng.normal(size=(count, 2))) for count in rng.integers(1, 6, 2))
    limit = float(rng.uniform(0.3, 2.0))
    # without units all are of one code, which tells none from another where there are several
    match = match_fixed_points(at(before), at(after), scale=1.0, limit=limit)
    if len(before) == len(after) == 1:
        assert match.by_code.tolist() == [True]
        return
    distance = torch.cdist(before, after).clamp(max=limit)
    if len(before) > len(after):
        distance = distance.T
    rows, columns = distance.shape
    cheapest = min(
        sum(float(distance[i, j]) for i, j in enumerate(chosen)) for chosen in permutations(range(columns), rows)
    )
    cost = float(match.distance.sum()) + limit * (rows - len(match.pairs))
    assert cost == pytest.approx(cheapest)
    assert not match.by_code.any()
    assert bool((match.distance <= limit).all())
    for side, count, unmatched in ((0, len(before), match.died), (1, len(after), match.born)):
        assert sorted([*match.pairs[:, side].tolist(), *unmatched.tolist()]) == list(range(count))


def test_fixed_points_keep_their_identity_as_a_border_moves_through_all_of_them() -> None:
    """A memory of one bit, and a unit that only looks on: its border moves past one fixed point at a time."""
    bit = flip_flop(1)
    W = torch.zeros(4, 4).double()
    W[:3, :3] = bit.W.detach()
    W[3, :3] = W[0, :3]
    offsets, crossed = torch.linspace(-3, 3, 13).add(0.1).tolist(), []
    results = [fixed_points(build([0.0] * 3, W.numpy(), [*bit.h.tolist(), offset - 1.0], 3)) for offset in offsets]
    for before, after in pairwise(results):
        match = match_fixed_points(before, after, scale=2.0)
        assert len(match.pairs) == len(before.z) == len(after.z) == 3
        x = before.z[match.pairs[:, 0], 0]
        torch.testing.assert_close(after.z[match.pairs[:, 1], 0], x)
        crossed += x[~match.by_code].tolist()
    assert sorted(crossed) == pytest.approx([-2.0, 0.0, 2.0])


def test_a_fixed_point_that_crosses_a_border_is_the_same() -> None:
    before, after = (fixed_points(build([0.5], [[-0.3]], [h], 1)) for h in (0.05, -0.05))
    match = match_fixed_points(before, after, scale=1.0)
    assert (match.pairs.tolist(), match.by_code.tolist()) == ([[0, 0]], [False])
    assert float(match.distance) == pytest.approx(abs(float(before.z - after.z)))
    for scale, limit in ((1.0, 0.01), (0.0, 0.5), (math.nan, 0.5)):
        far = match_fixed_points(before, after, scale=scale, limit=limit)
        assert (far.pairs.tolist(), far.died.tolist(), far.born.tolist()) == ([], [0], [0])


def test_a_pair_of_fixed_points_is_born() -> None:
    """Inhibition grows: the symmetric fixed point loses its stability to one on each side."""
    weak = fixed_points(build([0.0, 0.0], [[0.0, -0.5], [-0.5, 0.0]], [1.0, 1.0], 2))
    strong = fixed_points(build([0.0, 0.0], [[0.0, -2.0], [-2.0, 0.0]], [1.0, 1.0], 2))
    assert (weak.stability, sorted(strong.stability)) == (["stable"], ["stable", "stable", "unstable"])
    match = match_fixed_points(weak, strong, scale=1.0)
    assert match.changed_stability.tolist() == [True]
    assert [strong.stability[index] for index in match.born.tolist()] == ["stable", "stable"]
    assert len(match.died) == 0
    back = match_fixed_points(strong, weak, scale=1.0)
    assert (back.pairs.flip(1).tolist(), back.died.tolist()) == (match.pairs.tolist(), match.born.tolist())


def test_a_network_beside_itself() -> None:
    points = fixed_points(random_map(8, 6, 2.0, 1))
    match = match_fixed_points(points, points)
    assert match.pairs.tolist() == [[index, index] for index in range(len(points.z))]
    assert bool(match.by_code.all())
    assert float(match.distance.sum()) == 0
    assert not match.changed_stability.any()


@pytest.mark.parametrize("units", [0, 2])
def test_none_before_or_after(units: int) -> None:
    none, some = at(torch.zeros(0, 2), units), at(torch.ones(3, 2), units)
    assert match_fixed_points(none, some).born.tolist() == [0, 1, 2]
    assert match_fixed_points(some, none).died.tolist() == [0, 1, 2]
    assert match_fixed_points(none, none).pairs.shape == (0, 2)


def test_continua_have_a_place_and_the_most_important_are_kept() -> None:
    line = fixed_points(build([0.0, 0.5], [[1.0, 0.0], [0.0, 0.0]], [0.0, 1.0], 1))
    assert (places(line).stability, places(line).z.shape) == (["marginal"], (1, 2))
    flip = fixed_points(flip_flop())
    listed = places(flip, most=10)
    assert listed.stability.count("stable") == 8
    assert len(listed.z) == len(listed.code) == 10
    visited = flip.z[:, :3].eq(0).all(dim=1)  # the one in the middle
    listed = places(flip._replace(visited=visited), 9)
    (middle,) = (index for index, name in enumerate(listed.stability) if name != "stable")
    assert listed.z[middle, :3].tolist() == [0.0, 0.0, 0.0]
    assert places(flip, most=27).z.shape == (27, 9)


def test_wrong_arguments() -> None:
    for after, limit, message in (
        (at(torch.ones(1, 3)), 0.5, "the same M, got 2 and 3"),
        (at(torch.ones(1, 2), 1), 0.5, "the same P, got 0 and 1"),
        (at(torch.ones(1, 2)), -1.0, "must not be negative, got -1"),
    ):
        with pytest.raises(ValueError, match=message):
            match_fixed_points(at(torch.ones(1, 2)), after, limit=limit)
