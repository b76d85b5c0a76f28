"""The seeded search: guess a regime, solve for its fixed point, read the signs of the solution, start again there.

This is Newton's method on the piecewise linear map, in the P×P space of :mod:`lightning_alrnn.analysis.pivots` and with
many starts at once. It stops at a regime that holds its own fixed point. It cannot tell what it has missed.
"""

from __future__ import annotations

import time

import numpy as np

from lightning_alrnn.analysis.pivots import Reduced, regimes_of, solution_size, unknowns
from lightning_alrnn.analysis.system import Bools, Floats, pack_codes, unique_codes

_BATCH_ELEMENTS = 2**20
"""Entries of the matrices solved between two looks at the clock, 8 MB."""

_ITERATIONS = 20
"""A start that has not reached a fixed point by then probably goes round in circles."""

_MANY = 256
"""The neighbours of fixed points are no longer followed once there are more fixed points than this."""

_HUGE = 1e8
"""Regimes whose inverse is this large are left to a singular value decomposition of I − J."""

_SLACK = 1e-7
"""How far, relative to the solution, a sign may be wrong in a candidate. M×M solves decide afterwards."""


def search(reduced: Reduced, seeds: Bools, restarts: int, seed: int, time_limit: float) -> tuple[Bools, int]:
    """Search from given and random regimes, and then from the neighbours of the regimes that hold a fixed point.

    Returns the regimes ``(n, P)`` that may hold a fixed point, and the number of regimes that were solved.

    Reference: Eisenmann, Monfared, Göring & Durstewitz, NeurIPS 2023 (arXiv:2310.17561), SCYFI.
    """
    deadline = time.monotonic() + time_limit
    units = len(reduced.base)
    rows = max(1, _BATCH_ELEMENTS // max(len(reduced.constant) ** 2, 1))
    random = np.random.default_rng(seed).random((restarts, units)) < 0.5
    front = np.concatenate((seeds, random))
    solved: set[bytes] = set()
    candidates = [front[:0]]
    if len(reduced.constant) > units:  # all regimes may be singular, and their solutions then say nothing
        candidates.append(unique_codes(seeds))
    while len(front):  # a neighbour leads on to its own neighbours
        fresh = [front[:0]]
        for _ in range(_ITERATIONS):
            front = _unsolved(front, solved)
            if not len(front):
                break
            following = [front[:0]]
            for start in range(0, len(front), rows):
                batch = front[start : start + rows]
                if solved and time.monotonic() > deadline:
                    return unique_codes(np.concatenate((*candidates, *fresh))), len(solved)
                solved.update(pack_codes(batch))
                holding, next_codes = _solve(reduced, batch)
                fresh.append(holding)
                following.append(next_codes)
            front = np.concatenate(following)
        candidates += fresh
        if sum(map(len, candidates)) > _MANY:
            break
        flips = unique_codes(np.concatenate(fresh))[:, None, :] ^ np.eye(units, dtype=np.bool_)
        front = flips.reshape(-1, units)
    return unique_codes(np.concatenate(candidates)), len(solved)


def _unsolved(codes: Bools, solved: set[bytes]) -> Bools:
    """Each code once whose key is not among those solved, in order."""
    first = {key: row for row, key in reversed(list(enumerate(pack_codes(codes)))) if key not in solved}
    return codes[sorted(first.values())]


def _solve(reduced: Reduced, codes: Bools) -> tuple[Bools, Bools]:
    """The regimes that hold their own fixed point or are singular, and the regimes that the others lead to."""
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
