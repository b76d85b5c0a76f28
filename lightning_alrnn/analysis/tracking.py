"""Which fixed point of one network is which of another, such as the same one after some steps of training."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import FixedPointSet

STABILITIES = ("stable", "saddle", "unstable", "marginal")
"""What a fixed point can be."""


class FixedPointPlaces(NamedTuple):
    """Where fixed points are, and what they are: what it takes to find them again.

    Attributes:
        z: float64 of shape ``(n, M)``.
        code: their regimes, bool of shape ``(n, P)``.
        stability: n strings, "stable", "saddle", "unstable" or "marginal".
    """

    z: Tensor
    code: Tensor
    stability: list[str]


class FixedPointMatch(NamedTuple):
    """Which fixed points are the same before and after a change of the network.

    Attributes:
        pairs: index before and index after, int64 of shape ``(m, 2)``, in the order of the former.
        by_code: whether the pair was found by its regime, bool of shape ``(m,)``; otherwise it was by its place.
        distance: Euclidean, between the two of a pair, float64 of shape ``(m,)``.
        changed_stability: whether the two differ in stability, bool of shape ``(m,)``.
        died: indices before of those that are in no pair, int64 of shape ``(d,)``.
        born: indices after of those that are in no pair, int64 of shape ``(b,)``.
    """

    pairs: Tensor
    by_code: Tensor
    distance: Tensor
    changed_stability: Tensor
    died: Tensor
    born: Tensor


class TrackedFixedPoints(NamedTuple):
    """The fixed points of one evaluation, with what they are called over training.

    Attributes:
        epoch: of training.
        step: number of updates by then.
        identities: a number for each tracked fixed point, which it keeps for as long as it is found again.
        stability: of each, as many strings.
        coordinates: of each, along the leading principal component of the states, as many floats.
        counts: of all fixed points, by stability in the order of :data:`STABILITIES`.
        bifurcation: whether counts or the stability of one of them changed since the evaluation before.
    """

    epoch: int
    step: int
    identities: list[int]
    stability: list[str]
    coordinates: list[float]
    counts: list[int]
    bifurcation: bool


def places(found: FixedPointSet, most: int | None = None) -> FixedPointPlaces:
    """The places of the isolated fixed points, followed by a point of each continuum, which is marginal.

    Args:
        found: the fixed points.
        most: how many to list: stable ones first, then those in visited regimes; ``None`` for all.
    """
    z = torch.cat((found.z, *(piece.z.unsqueeze(0) for piece in found.continua)))
    code = torch.cat((found.code, *(piece.code.unsqueeze(0) for piece in found.continua)))
    stability = [*found.stability, *("marginal" for _ in found.continua)]
    if most is not None and len(z) > most:
        visited = [*found.visited.tolist(), *(False for _ in found.continua)]
        ranked = sorted(range(len(z)), key=lambda index: (stability[index] != "stable", not visited[index]))
        kept = sorted(ranked[:most])
        z, code, stability = z[kept], code[kept], [stability[index] for index in kept]
    return FixedPointPlaces(z, code, stability)


def match_fixed_points(
    before: FixedPointPlaces | FixedPointSet,
    after: FixedPointPlaces | FixedPointSet,
    *,
    scale: float = math.inf,
    limit: float = 0.5,
) -> FixedPointMatch:
    """Find which fixed points are the same after a small change of the network.

    A regime without singular I − J holds one fixed point at most, which moves continuously with the parameters. So a
    regime that holds one before and after holds the same one. What is left may have crossed a switching border: it is
    assigned by place, such that the sum of distances is smallest, but never farther than ``limit · scale``. A fixed
    point that is left then has vanished or come up: in a pair of a stable one and a saddle, on a border or at infinity.

    Args:
        before: the fixed points of one network; :func:`places` adds its continua.
        after: those of the other, of the same M and P.
        scale: size of the region that matters, such as the root of the states' summed variances. NaN matches none by
            place.
        limit: the greatest distance, as a share of ``scale``.

    Raises:
        ValueError: if M or P differ, or a limit is negative.

    Example:
        A fixed point drifts across the border at z = 0 and changes its stability; another one is born.

        >>> before = FixedPointPlaces(torch.tensor([[0.1, 1.0]]).double(), torch.tensor([[True, True]]), ["stable"])
        >>> z = torch.tensor([[-0.1, 1.0], [-3.0, -2.0]]).double()
        >>> found = match_fixed_points(before, FixedPointPlaces(z, z > 0, ["saddle", "stable"]), scale=1.0)
        >>> found.pairs.tolist(), found.by_code.tolist(), found.changed_stability.tolist(), found.born.tolist()
        ([[0, 0]], [False], [True], [1])
    """
    if not limit >= 0 or scale < 0:
        raise ValueError(f"limit and scale must not be negative, got {limit} and {scale}")
    for name, width in (("z", "M"), ("code", "P")):
        sizes = [getattr(points, name).shape[1] for points in (before, after)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"both must be of networks with the same {width}, got {sizes[0]} and {sizes[1]}")
    old, new = (_only_in_regime(points.code) for points in (before, after))
    pairs = [(index, new[key], True) for key, index in old.items() if key in new]
    matched_old, matched_new = ({pair[side] for pair in pairs} for side in (0, 1))
    left = [index for index in range(len(before.z)) if index not in matched_old]
    right = [index for index in range(len(after.z)) if index not in matched_new]
    farthest = limit * scale
    if left and right and farthest >= 0:  # not NaN
        distance = cdist(before.z[left].numpy(), after.z[right].numpy())
        # beyond the limit all are alike, so that none of them is drawn in by a far one that has to go somewhere
        chosen = zip(*linear_sum_assignment(np.minimum(distance, farthest)), strict=True)
        pairs += [(left[i], right[j], False) for i, j in chosen if distance[i, j] <= farthest]
    pairs.sort()
    ends = torch.tensor([pair[:2] for pair in pairs], dtype=torch.int64).view(-1, 2)
    first, second = ends.unbind(dim=1)
    changed = [before.stability[i] != after.stability[j] for i, j in ends.tolist()]
    return FixedPointMatch(
        pairs=ends,
        by_code=torch.tensor([pair[2] for pair in pairs], dtype=torch.bool),
        distance=(before.z[first] - after.z[second]).norm(dim=1),
        changed_stability=torch.tensor(changed, dtype=torch.bool),
        died=_others(first, len(before.z)),
        born=_others(second, len(after.z)),
    )


def _only_in_regime(code: Tensor) -> dict[bytes, int]:
    """The index of the one fixed point of each regime; regimes with several (points on a border) are left out."""
    found: dict[bytes, list[int]] = {}
    for index, row in enumerate(np.packbits(code.numpy(), axis=1)):
        found.setdefault(row.tobytes(), []).append(index)
    return {key: indices[0] for key, indices in found.items() if len(indices) == 1}


def _others(indices: Tensor, count: int) -> Tensor:
    """Which of 0 … count−1 are not among ``indices``."""
    rest = torch.ones(count, dtype=torch.bool)
    rest[indices] = False
    return rest.nonzero()[:, 0]
