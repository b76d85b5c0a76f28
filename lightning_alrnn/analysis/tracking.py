"""Matching the fixed points of one network with those of another, such as the same one after some training steps."""

from __future__ import annotations

import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import torch
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import FixedPointSet
from lightning_alrnn.analysis.system import pack_codes, tensor

STABILITIES = ("stable", "saddle", "unstable", "marginal")


class FixedPointPlaces(NamedTuple):
    """Positions, regimes and stability of fixed points, as :func:`match_fixed_points` needs them.

    Attributes:
        z: Fixed points, float64 of shape ``(n, M)``.
        code: Their regimes, bool of shape ``(n, P)``.
        stability: n strings, "stable", "saddle", "unstable" or "marginal".
    """

    z: Tensor
    code: Tensor
    stability: list[str]


class FixedPointMatch(NamedTuple):
    """Fixed points that are the same before and after a change of the network.

    Attributes:
        pairs: Index before and index after, int64 of shape ``(m, 2)``, sorted by the index before.
        by_code: Whether the pair was matched by its regime, bool of shape ``(m,)``; otherwise by its place.
        distance: Euclidean distance between the two of a pair, float64 of shape ``(m,)``.
        changed_stability: Whether the two differ in stability, bool of shape ``(m,)``.
        died: Indices before of the unmatched fixed points, int64 of shape ``(d,)``.
        born: Indices after of the unmatched fixed points, int64 of shape ``(b,)``.
    """

    pairs: Tensor
    by_code: Tensor
    distance: Tensor
    changed_stability: Tensor
    died: Tensor
    born: Tensor


class TrackedFixedPoints(NamedTuple):
    """Fixed points of one evaluation, with identities that last over training.

    Attributes:
        epoch: Epoch of training.
        step: Number of updates so far.
        identities: Number of each tracked fixed point, which it keeps as long as it is matched.
        stability: Stability of each.
        coordinates: Coordinate of each along the leading principal component of the states.
        counts: Number of all fixed points by stability, in the order of :data:`STABILITIES`.
        bifurcation: Whether the counts or the stability of one of them changed since the last evaluation.
    """

    epoch: int
    step: int
    identities: list[int]
    stability: list[str]
    coordinates: list[float]
    counts: list[int]
    bifurcation: bool


def places(found: FixedPointSet, most: int | None = None) -> FixedPointPlaces:
    """List the isolated fixed points, followed by one point of each continuum with stability "marginal".

    Args:
        found: Fixed points.
        most: Largest number of points to list, stable ones first, then those in visited regimes; ``None`` for all.
    """
    z = torch.cat((found.z, *(piece.z.unsqueeze(0) for piece in found.continua)))
    code = torch.cat((found.code, *(piece.code.unsqueeze(0) for piece in found.continua)))
    stability = [*found.stability, *("marginal" for _ in found.continua)]
    if most is not None and len(z) > most:
        visited = [*found.visited.tolist(), *(False for _ in found.continua)]
        ranked = sorted(range(len(z)), key=lambda index: (stability[index] != "stable", not visited[index]))
        rows = sorted(ranked[:most])
        z, code, stability = z[rows], code[rows], [stability[row] for row in rows]
    return FixedPointPlaces(z, code, stability)


def match_fixed_points(
    before: FixedPointPlaces | FixedPointSet,
    after: FixedPointPlaces | FixedPointSet,
    *,
    scale: float = math.inf,
    limit: float = 0.5,
) -> FixedPointMatch:
    """Find which fixed points are the same after a small change of the network.

    Regimes that hold one fixed point before and after hold the same one, as it moves continuously with the parameters.
    The other points may have crossed a switching border: they are matched by place, such that the sum of distances is
    smallest and none is above ``limit · scale``. Points without a match have vanished or appeared.

    Args:
        before: Fixed points of one network; :func:`places` adds its continua.
        after: Fixed points of the other network, with the same M and P.
        scale: Size of the region that matters, such as the root of the states' summed variances. NaN matches no point
            by place.
        limit: Largest distance, as a share of ``scale``.

    Raises:
        ValueError: If M or P differ, or a limit is negative.

    Example:
        A fixed point crosses the border at z = 0, and another one is born.

        >>> before = FixedPointPlaces(torch.tensor([[0.1, 1.0]]).double(), torch.tensor([[True, True]]), ["stable"])
        >>> z = torch.tensor([[-0.1, 1.0], [-3.0, -2.0]]).double()
        >>> match = match_fixed_points(before, FixedPointPlaces(z, z > 0, ["saddle", "stable"]), scale=1.0)
        >>> match.pairs.tolist(), match.by_code.tolist(), match.changed_stability.tolist(), match.born.tolist()
        ([[0, 0]], [False], [True], [1])
    """
    if not limit >= 0 or scale < 0:
        raise ValueError(f"limit and scale must not be negative, got {limit} and {scale}")
    for name, width in (("z", "M"), ("code", "P")):
        sizes = [getattr(points, name).shape[1] for points in (before, after)]
        if sizes[0] != sizes[1]:
            raise ValueError(f"both networks must have the same {width}, got {sizes[0]} and {sizes[1]}")
    old, new = (_only_in_regime(points.code) for points in (before, after))
    pairs = [(index, new[key], True) for key, index in old.items() if key in new]
    matched_old, matched_new = ({pair[side] for pair in pairs} for side in (0, 1))
    old_rows = [index for index in range(len(before.z)) if index not in matched_old]
    new_rows = [index for index in range(len(after.z)) if index not in matched_new]
    farthest = limit * scale
    if not math.isnan(farthest):
        distance = cdist(before.z[old_rows].numpy(), after.z[new_rows].numpy())
        # the cost is constant beyond the limit, so that a point without a near partner takes none from another
        chosen = zip(*linear_sum_assignment(np.minimum(distance, farthest)), strict=True)
        pairs += [(old_rows[i], new_rows[j], False) for i, j in chosen if distance[i, j] <= farthest]
    pairs.sort()
    ends = np.array([pair[:2] for pair in pairs], dtype=np.int64).reshape(-1, 2)
    changed = [before.stability[i] != after.stability[j] for i, j in ends]
    return FixedPointMatch(
        pairs=tensor(ends),
        by_code=torch.tensor([pair[2] for pair in pairs], dtype=torch.bool),
        distance=(before.z[ends[:, 0]] - after.z[ends[:, 1]]).norm(dim=1),
        changed_stability=torch.tensor(changed, dtype=torch.bool),
        died=tensor(np.setdiff1d(np.arange(len(before.z)), ends[:, 0])),
        born=tensor(np.setdiff1d(np.arange(len(after.z)), ends[:, 1])),
    )


def _only_in_regime(code: Tensor) -> dict[bytes, int]:
    """Index of the only fixed point of each regime; regimes with several points on a border are omitted."""
    keys = pack_codes(code.numpy())
    counts = Counter(keys)
    return {key: index for index, key in enumerate(keys) if counts[key] == 1}
