"""The seeded search: guess a regime, solve for its fixed point, read the signs of the solution, start again there.

This is Newton's method on the piecewise linear map, in the P×P space of :mod:`lightning_alrnn.analysis.pivots` and with
many starts at once. It stops at a regime that holds its own fixed point. There is no telling what it has missed.
"""

from __future__ import annotations

import time
from typing import NamedTuple

import numpy as np

from lightning_alrnn.analysis.pivots import Reduced, regimes_of, solution_size, unknowns
from lightning_alrnn.analysis.system import Bools, Floats, pack_codes, unique_codes

_BATCH_ELEMENTS = 2**20
"""Entries of the matrices solved between two looks at the clock, 8 MB."""

_ITERATIONS = 20
"""What has not reached a fixed point by then goes round in circles or has far to go."""

_MANY = 256
"""Where there are more fixed points than this, their neighbours are not followed any further."""

_HUGE = 1e8
"""Regimes whose inverse is this large are left to a singular value decomposition of I − J."""

_SLACK = 1e-7
"""How far, relative to the solution, a sign may be wrong in a candidate. M×M solves decide afterwards."""


class Search(NamedTuple):
    """What a search came upon.

    Attributes:
        codes: regimes that may hold a fixed point, bool of shape ``(n, P)``.
        solved: number of regimes that were solved.
    """

    codes: Bools
    solved: int


def search(reduced: Reduced, seeds: Bools, restarts: int, seed: int, time_limit: float) -> Search:
    """Search from given regimes and from random ones, and then from the neighbours of what was found.

    Args:
        reduced: the network.
        seeds: regimes to start from, bool of shape ``(n, P)``.
        restarts: number of random regimes to start from as well.
        seed: of the random regimes.
        time_limit: seconds after which no further batch is begun, but for the first.

    Reference:
        Eisenmann, Monfared, Göring & Durstewitz, "Bifurcations and loss jumps in RNN training", NeurIPS 2023
        (arXiv:2310.17561), SCYFI.
    """
    deadline = time.monotonic() + time_limit
    units = len(reduced.base)
    random = np.random.default_rng(seed).random((restarts, units)) < 0.5
    front = np.concatenate((seeds, random))
    solved: set[bytes] = set()
    found = [front[:0]]
    if len(reduced.constant) > units:  # all regimes may be singular, and their solutions then say nothing
        found.append(unique_codes(seeds))
    while len(front):  # a neighbour leads on to its own neighbours
        fresh = [front[:0]]
        for _ in range(_ITERATIONS):
            front = unsolved(front, solved)
            if not len(front):
                break
            following = [front[:0]]
            for batch in _batches(front, len(reduced.constant)):
                if solved and time.monotonic() > deadline:
                    return Search(unique_codes(np.concatenate((*found, *fresh))), len(solved))
                solved.update(pack_codes(batch))
                candidates, next_codes = _solve(reduced, batch)
                fresh.append(candidates)
                following.append(next_codes)
            front = np.concatenate(following)
        found += fresh
        if sum(map(len, found)) > _MANY:
            break
        flips = unique_codes(np.concatenate(fresh))[:, None, :] ^ np.eye(units, dtype=np.bool_)
        front = flips.reshape(-1, units)
    return Search(unique_codes(np.concatenate(found)), len(solved))


def unsolved(codes: Bools, solved: set[bytes]) -> Bools:
    """Each code once that is not among those solved, in order.

    Args:
        codes: shape ``(n, P)``.
        solved: keys of those that are, of :func:`~lightning_alrnn.analysis.system.pack_codes`.

    Returns:
        Shape ``(m, P)``, m ≤ n.
    """
    first = {key: row for row, key in reversed(list(enumerate(pack_codes(codes)))) if key not in solved}
    return codes[sorted(first.values())]


def _batches(codes: Bools, size: int) -> list[Bools]:
    rows = max(1, _BATCH_ELEMENTS // max(size**2, 1))
    return [codes[start : start + rows] for start in range(0, len(codes), rows)]


def _solve(reduced: Reduced, codes: Bools) -> tuple[Bools, Bools]:
    """The regimes of a batch that hold their own fixed point, or are singular, and where the others lead to."""
    units, size = codes.shape[1], len(reduced.constant)
    active = codes ^ reduced.base
    matrices = np.where(unknowns(active, size)[:, None, :], reduced.table, -np.eye(size))
    # a second side tells regimes that are all but singular: nearly every one has a huge solution there
    sides = np.stack((-reduced.constant, np.random.default_rng(0).normal(size=size)), axis=1)
    sides = np.broadcast_to(sides, (len(codes), size, 2))
    try:
        solutions = np.linalg.solve(matrices, sides)
    except np.linalg.LinAlgError:  # numpy refuses the whole batch for one zero pivot
        singular = np.linalg.slogdet(matrices).sign == 0
        solutions = np.linalg.solve(np.where(singular[:, None, None], np.eye(size) / _HUGE**2, matrices), sides)
    values: Floats = np.asarray(solutions[..., 0], dtype=np.float64)
    regular = np.abs(solutions[..., 1]).max(axis=1, initial=0.0) < _HUGE
    with np.errstate(invalid="ignore", over="ignore"):  # regimes that are all but singular solve to anything
        slack = _SLACK * solution_size(reduced, values)
        inside = (values[:, :units] >= -slack).all(axis=1) | ~regular
    following: Bools = active ^ (values[:, :units] < 0) ^ reduced.base
    held = np.where(regular[:, None], regimes_of(reduced, active, values), codes)
    return held[inside], following[~inside]
