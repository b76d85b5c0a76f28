"""Matching fixed points: against brute force over all assignments, along a drift, and at the edges."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from networks import build, flip_flop, random_map
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import FixedPointSet, fixed_points
from lightning_alrnn.analysis.tracking import FixedPointPlaces, match_fixed_points, places


def at(z: Tensor, units: int = 0, stability: str = "stable") -> FixedPointPlaces:
    z = z.double()
    return FixedPointPlaces(z, z[:, z.shape[1] - units :] > 0, [stability] * len(z))


def all_points(rnn: object) -> FixedPointSet:
    found = fixed_points(rnn)  # type: ignore[arg-type]
    assert isinstance(found, FixedPointSet)
    return found


@pytest.mark.parametrize("seed", range(8))
def test_assignment_by_place_is_the_cheapest(seed: int) -> None:
    rng = np.random.default_rng(seed)
    before, after = (torch.from_numpy(rng.normal(size=(count, 2))) for count in rng.integers(1, 6, 2))
    limit = float(rng.uniform(0.3, 2.0))
    # without units all are of one code, which tells none from another where there are several
    found = match_fixed_points(at(before), at(after), scale=1.0, limit=limit)
    if len(before) == len(after) == 1:
        assert found.by_code.tolist() == [True]
        return
    distance = torch.cdist(before, after).clamp(max=limit)
    if len(before) > len(after):
        distance = distance.T
    rows, columns = distance.shape
    cheapest = min(
        sum(float(distance[i, j]) for i, j in enumerate(chosen)) for chosen in permutations(range(columns), rows)
    )
    cost = float(found.distance.sum()) + limit * (rows - len(found.pairs))
    assert cost == pytest.approx(cheapest)
    assert not found.by_code.any()
    assert bool((found.distance <= limit).all())
    for side, count, left in ((0, len(before), found.died), (1, len(after), found.born)):
        assert sorted([*found.pairs[:, side].tolist(), *left.tolist()]) == list(range(count))


def test_fixed_points_keep_their_identity_as_a_border_moves_through_all_of_them() -> None:
    """A memory of one bit, and a unit that only looks on: its border moves past one fixed point at a time."""
    bit = flip_flop(1)
    W = torch.zeros(4, 4).double()
    W[:3, :3] = bit.W.detach()
    W[3, :3] = W[0, :3]
    found, crossed = None, []
    for offset in torch.linspace(-3, 3, 13).add(0.1).tolist():
        now = all_points(build([0.0] * 3, W.numpy(), [*bit.h.tolist(), offset - 1.0], 3))
        assert len(now.z) == 3
        if found is not None:
            match = match_fixed_points(found, now, scale=2.0)
            assert not len(match.born)
            assert not len(match.died)
            x = [(round(float(found.z[i, 0]), 6), round(float(now.z[j, 0]), 6)) for i, j in match.pairs.tolist()]
            assert all(old == new for old, new in x)
            crossed += [x[row][0] for row in (~match.by_code).nonzero()[:, 0].tolist()]
        found = now
    assert sorted(crossed) == [-2.0, 0.0, 2.0]


def test_a_fixed_point_that_crosses_a_border_is_the_same() -> None:
    before, after = (all_points(build([0.5], [[-0.3]], [h], 1)) for h in (0.05, -0.05))
    assert before.code.tolist() != after.code.tolist()
    match = match_fixed_points(before, after, scale=1.0)
    assert match.pairs.tolist() == [[0, 0]]
    assert match.by_code.tolist() == [False]
    assert float(match.distance) == pytest.approx(abs(float(before.z - after.z)))
    for scale, limit in ((1.0, 0.01), (0.0, 0.5), (math.nan, 0.5)):
        far = match_fixed_points(before, after, scale=scale, limit=limit)
        assert (far.pairs.tolist(), far.died.tolist(), far.born.tolist()) == ([], [0], [0])


def test_a_pair_of_fixed_points_is_born() -> None:
    """Inhibition grows: the symmetric fixed point loses its stability to one on each side."""
    weak = all_points(build([0.0, 0.0], [[0.0, -0.5], [-0.5, 0.0]], [1.0, 1.0], 2))
    strong = all_points(build([0.0, 0.0], [[0.0, -2.0], [-2.0, 0.0]], [1.0, 1.0], 2))
    assert (weak.stability, sorted(strong.stability)) == (["stable"], ["stable", "stable", "unstable"])
    match = match_fixed_points(weak, strong, scale=1.0)
    assert match.changed_stability.tolist() == [True]
    assert [strong.stability[index] for index in match.born.tolist()] == ["stable", "stable"]
    assert len(match.died) == 0
    back = match_fixed_points(strong, weak, scale=1.0)
    assert (back.pairs.flip(1).tolist(), back.died.tolist()) == (match.pairs.tolist(), match.born.tolist())


def test_a_network_beside_itself() -> None:
    found = all_points(random_map(8, 6, 2.0, 1))
    match = match_fixed_points(found, found)
    assert match.pairs.tolist() == [[index, index] for index in range(len(found.z))]
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
    line = all_points(build([0.0, 0.5], [[1.0, 0.0], [0.0, 0.0]], [0.0, 1.0], 1))
    assert len(line.continua) == 1
    assert places(line).stability == ["marginal"]
    assert places(line).z.shape == (1, 2)
    flip = all_points(flip_flop())
    kept = places(flip, most=10)
    assert kept.stability.count("stable") == 8
    assert len(kept.z) == len(kept.code) == 10
    visited = flip.z[:, :3].eq(0).all(dim=1)  # the one in the middle
    (middle,) = (
        index for index, name in enumerate(places(flip._replace(visited=visited), 9).stability) if name != "stable"
    )
    assert places(flip._replace(visited=visited), 9).z[middle, :3].tolist() == [0.0, 0.0, 0.0]
    assert places(flip, most=27).z.shape == (27, 9)


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="the same M, got 2 and 3"):
        match_fixed_points(at(torch.ones(1, 2)), at(torch.ones(1, 3)))
    with pytest.raises(ValueError, match="the same P, got 0 and 1"):
        match_fixed_points(at(torch.ones(1, 2)), at(torch.ones(1, 2), 1))
    with pytest.raises(ValueError, match="must not be negative, got -1"):
        match_fixed_points(at(torch.ones(1, 2)), at(torch.ones(1, 2)), limit=-1)
