"""The pivot tree: all 2^P regimes of a network, screened for fixed points at O(P²) each.

Inside one linear regime the map is affine, so it has one fixed point there, (I − J) z = d with the regime's matrix
J = A + W D and the drive d = C s + h. Let J and D be those of one regime, the base, and let u = φ*(z_N) − D_N z_N ≥ 0
be what the P rectified units add to it. Then

    (I − J) z = W_N u + d

leaves the P unknowns u alone: for every unit either u or its complement w ≥ 0 is zero, w = q + Q u. This is a linear
complementarity problem, its 2^P cases differ by principal pivots of Q, and a tree of pivots visits them at O(P²) each.
Whatever comes out of it is a candidate only, to be decided by an M×M solve in its own regime.

Where I − J is singular in the base regime, perhaps in every regime (a perfect integrator), its null directions stay as
further unknowns t: with the singular value decomposition I − J = U₁ Σ₁ V₁ᵀ + U₀ Σ₀ V₀ᵀ, small values in Σ₀,

    z = V₁ Σ₁⁻¹ U₁ᵀ (W_N u + d) + V₀ t,    U₀ᵀ (W_N u + d) = Σ₀ t.

The systems are balanced ones, and rows and columns of I − J are scaled for the decomposition.
"""

from __future__ import annotations

import math
import time
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.analysis.system import (
    Bools,
    Floats,
    System,
    apply,
    equations,
    equilibrate,
    in_chunks,
    magnitudes,
    scaling_of,
    unique_codes,
)

_CHUNK_LEVELS = 12  # the tree is worked off in subtrees of 2^12 regimes, which bounds the memory
# screening: by what relative change of the parameters a sign may be wrong in a candidate; M×M solves decide then
_SLACK = 1e-8
_SMALL_PIVOT = 1e-4  # pivots below this share of their row and column make the tree's arithmetic unsafe
_ROUNDING = 1e-13  # screening: singular values below this share of the largest, or of 1, are zero up to rounding


class Reduced(NamedTuple):
    """The P×P form with k unknowns t: w = q + Q u + T t ≥ 0, 0 = c + S u − Σ₀ t."""

    table: Floats  # [[Q, T], [S, −Σ₀]], (P+k, P+k)
    constant: Floats  # [q, c], (P+k,)
    # of the terms that add up to table and constant, (P+k, P+k+1): a relative change of the parameters moves the
    # entries by that share of them
    sizes: Floats
    base: Bools  # the regime in which u = 0, (P,)
    spread: float  # bound on |z|_∞ / |u|_∞ where drive and t are zero
    offset: float  # |z|_∞ where u and t are zero
    drive: float  # |C s + h|_∞, in the scales of the conditions


class _Nodes(NamedTuple):
    """Nodes of one level of the pivot tree."""

    # coefficients of the undecided units and of t; a row for each unit (of u or w, whichever is not zero, once the unit
    # is decided) and each condition, (nodes, P+k, undecided+k)
    table: Floats
    constant: Floats  # (nodes, P+k)
    probe: Floats  # the same for a random constant, which grows where errors do
    active: NDArray[np.int64]  # bits of the decided units with u > 0, (nodes,)
    unsafe: Bools  # whether a pivot was small, (nodes,)


def base_regime(system: System) -> Bools:
    """Of a few regimes the one whose I − J is best conditioned, to start from."""
    unit = np.arange(system.size - system.linear)
    codes = np.stack((unit < 0, unit >= 0, unit % 2 == 0, unit % 2 == 1, unit % 4 < 2, unit % 4 > 1))
    values = np.linalg.svd(equations(system, codes), compute_uv=False)
    best: Bools = codes[np.argmax(values[:, -1] / np.maximum(values[:, 0], 1.0))]
    return best


def reduce_system(system: System, base: Bools, singular_tolerance: float = 0.0) -> Reduced:
    """Eliminate z from the equation, with u = 0 in the base regime."""
    linear, units = system.linear, len(base)
    matrix = equations(system, base)
    rows, columns = scaling_of(matrix, magnitudes(system, base), singular_tolerance)
    scaled = matrix * rows[:, None] * columns
    left, values, right = np.linalg.svd(scaled)
    # exact with any threshold; this one keeps Σ₁⁻¹ well conditioned
    rank = int((values > 1e-4 * max(values[0], 1.0)).sum())
    left, right = rows[:, None] * left, right * columns
    sources = np.column_stack((system.coupling[:, linear:], system.drive))
    if rank == len(rows):  # by elimination, which leaves zeros zero
        inverse = columns[:, None] * np.linalg.inv(scaled) * rows
    else:
        inverse = right[:rank].T / values[:rank] @ left[:, :rank].T
    solved = inverse @ sources
    conditions = left[:, rank:].T @ sources
    moved = np.abs(np.column_stack((sources[:, :units], np.zeros_like(right[rank:].T), sources[:, units:])))
    largest = (rows[:, None] * moved).max(axis=0)
    moved += magnitudes(system, base) @ np.abs(np.column_stack((solved[:, :units], right[rank:].T, solved[:, units:])))
    sizes = np.vstack(((np.abs(inverse) @ moved)[linear:], np.abs(left[:, rank:].T) @ moved))
    sizes[:units, :units] += np.eye(units)
    if rank < len(rows):  # singular vectors are right to the digits of their largest entries
        largest[units:-1] = 1.0
        rounding = np.concatenate((columns[linear:] / values[:rank].min(initial=1.0), np.ones(len(rows) - rank)))
        sizes += 1e-14 / _SLACK * np.outer(rounding, largest)
    # w is z + u in a unit that is on in the base regime, and u − z in one that is off
    sign = np.where(base, 1.0, -1.0)
    complement = sign[:, None] * np.hstack((solved, right[rank:].T))[linear:]
    complement[:, :units] += np.eye(units)
    blocks = [
        [complement[:, :units], complement[:, units + 1 :]],
        [conditions[:, :units], -np.diag(values[rank:])],
    ]
    return Reduced(
        table=np.block(blocks),
        constant=np.concatenate((complement[:, units], conditions[:, units])),
        sizes=sizes,
        base=base,
        spread=float(np.abs(solved[:, :units]).sum(axis=1).max()),
        offset=float(np.abs(solved[:, units]).max()),
        drive=float(np.abs(rows * system.drive).max()),
    )


def screen(reduced: Reduced, time_limit: float = math.inf) -> Bools | None:
    """The regimes ``(n, P)`` that may hold a fixed point, few false ones among them and none missing.

    ``None`` once the first 2^12 regimes, which are searched in any case, show that the time limit is too short.
    Reference: Cottle, Pang & Stone, "The Linear Complementarity Problem", 1992, principal pivots.
    """
    start = time.monotonic()
    units = len(reduced.base)
    top = max(0, units - _CHUNK_LEVELS)
    probe = np.random.default_rng(0).normal(size=len(reduced.constant)) * _row_sizes(reduced)
    fields = reduced.table, reduced.constant, probe, np.int64(0), np.False_
    root = _Nodes._make(np.asarray(field)[None] for field in fields)
    codes = []
    with np.errstate(all="ignore"):  # unsafe nodes may overflow; they are screened again
        for unit in range(top):
            root = _branch(root, unit)
        for index in range(len(root.active)):
            if (time.monotonic() - start) * len(root.active) > time_limit * max(index, 1) and index > 0:
                return None
            nodes = _Nodes._make(field[index : index + 1] for field in root)
            for unit in range(top, units):
                nodes = _branch(nodes, unit)
            if _is_free(reduced):
                codes.append(unique_codes(_screen_lines(reduced, nodes)))
                continue
            for row in range(units, len(reduced.constant)):
                nodes = _eliminate(nodes, row)
            codes.append(unique_codes(_screen_leaves(reduced, nodes)))
    return unique_codes(np.concatenate(codes))


def _row_sizes(reduced: Reduced) -> Floats:
    """The size of the terms of each equation for u and t of 1, shape ``(P+k,)``."""
    sizes: Floats = np.maximum(reduced.sizes.sum(axis=1), np.finfo(np.float64).tiny)
    return sizes


def _branch(nodes: _Nodes, unit: int) -> _Nodes:
    """Decide a unit both ways: u = 0, or w = 0 and its u eliminated."""
    off = nodes._replace(table=nodes.table[:, :, 1:])
    on = _eliminate(nodes, unit)._replace(active=nodes.active | 1 << unit)
    return _Nodes._make(map(np.concatenate, zip(off, on, strict=True)))


def _eliminate(nodes: _Nodes, row: int) -> _Nodes:
    """Set a row to zero, solve it for the variable of the first column, and put the variable in the row's place."""
    column, pivot, pivot_row = nodes.table[:, :, 0], nodes.table[:, row, 0], nodes.table[:, row, 1:]
    scale = np.maximum(np.abs(column).max(axis=1), np.abs(nodes.table[:, row]).max(axis=1))
    small = ~(np.abs(pivot) > _SMALL_PIVOT * np.maximum(scale, 1.0))
    pivot = np.where(small, 1.0, pivot)  # of no use, but finite
    factor = column / pivot[:, None]
    table = nodes.table[:, :, 1:] - factor[:, :, None] * pivot_row[:, None, :]
    constant = nodes.constant - factor * nodes.constant[:, row, None]
    table[:, row] = -pivot_row / pivot[:, None]
    constant[:, row] = -nodes.constant[:, row] / pivot
    probe = nodes.probe - factor * nodes.probe[:, row, None]
    probe[:, row] = -nodes.probe[:, row] / pivot
    return _Nodes(table, constant, probe, nodes.active, nodes.unsafe | small)


def _screen_leaves(reduced: Reduced, leaves: _Nodes) -> Bools:
    """Screen fully decided nodes by the signs of their solutions."""
    units, size = len(reduced.base), len(reduced.constant)
    values = leaves.constant
    active = (leaves.active[:, None] >> np.arange(units) & 1).astype(np.bool_)
    if size == 0:  # P=0 and I − J is regular: the one regime there is
        return active
    # elimination without a choice of pivots may lose all digits, which shows in the equations
    u = np.where(unknowns(active, size), values, 0.0)
    w = values - u
    w[:, units:] = 0.0
    terms = np.abs(u) @ reduced.sizes[:, :-1].T + np.abs(w) + reduced.sizes[:, -1]
    right = np.abs(u @ reduced.table.T + reduced.constant - w) <= 1e-11 * terms
    # an error in the equations grows to an error in the solution as the probe did
    growth = np.abs(leaves.probe)
    unsafe = leaves.unsafe | ~right.all(axis=1) | ~np.isfinite(growth).all(axis=1)
    error = growth * (terms / _row_sizes(reduced)).max(axis=1, keepdims=True)
    possible = (values >= -_SLACK * (error + terms))[:, :units].all(axis=1)
    safe = possible & ~unsafe
    again = [_screen_directly(reduced, chunk) for chunk in in_chunks(active[unsafe], size)]
    return np.concatenate((regimes_of(reduced, active[safe], values[safe]), *again))


def _is_free(reduced: Reduced) -> bool:
    """Whether all conditions are 0 = 0, of one or two t: integrators without a drive. Any t then solves them."""
    units = len(reduced.base)
    directions = len(reduced.constant) - units
    conditions = np.abs(reduced.table[units:]).max(initial=0.0), np.abs(reduced.constant[units:]).max(initial=0.0)
    return 0 < directions <= 2 and conditions[0] <= _ROUNDING and conditions[1] <= _ROUNDING * reduced.drive


def _screen_lines(reduced: Reduced, leaves: _Nodes) -> Bools:
    """Screen where t is free: the line or plane of solutions has to meet the regime."""
    units = len(reduced.base)
    active = (leaves.active[:, None] >> np.arange(units) & 1).astype(np.bool_)
    values, directions = leaves.constant[:, :units], np.moveaxis(leaves.table[:, :units], 1, 2)
    finite = np.isfinite(values).all(axis=1) & np.isfinite(directions).all(axis=(1, 2))
    safe = finite & ~leaves.unsafe
    values, directions = values[safe], directions[safe]
    directions = directions / np.maximum(np.abs(directions).max(axis=2, keepdims=True, initial=0.0), 1.0)
    values = values + _SLACK * solution_size(reduced, values)
    meets = _meets(values, directions)
    again = [_screen_directly(reduced, chunk) for chunk in in_chunks(active[~safe], len(reduced.constant))]
    return np.concatenate((active[safe][meets] ^ reduced.base, *again))


def _meets(values: Floats, directions: Floats) -> Bools:
    """Whether values + Σ_j c_j directions_j ≥ 0 has a solution, shapes ``(n, P)`` and ``(n, k, P)``, k 1 or 2."""
    if directions.shape[1] == 1:
        least, greatest = interval(values, directions[:, 0], 1e-12)
        return np.asarray(least <= greatest)
    # within a large square there is a solution if there is one at a crossing of two borders
    far = 1e6 * np.maximum(np.abs(values).max(axis=1, keepdims=True, initial=0.0), 1.0)
    square = np.broadcast_to(np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]]), (len(values), 2, 4))
    values = np.hstack((values, np.repeat(far, 4, axis=1)))
    directions = np.concatenate((directions, square), axis=2)
    length = np.maximum(np.linalg.norm(directions, axis=1), 1e-9)
    values, directions = values / length, directions / length[:, None]
    result = np.zeros(len(values), dtype=np.bool_)
    first, second = np.triu_indices(values.shape[1], k=1)
    rows = max(1, 2**20 // (len(first) * values.shape[1]))
    for start in range(0, len(values), rows):
        some = slice(start, start + rows)
        (a, b), c = np.moveaxis(directions[some], 1, 0), values[some]
        determinant = a[:, first] * b[:, second] - a[:, second] * b[:, first]
        parallel = np.abs(determinant) < 1e-12
        scale = np.where(parallel, 1.0, determinant)
        x = (b[:, first] * c[:, second] - b[:, second] * c[:, first]) / scale
        y = (a[:, second] * c[:, first] - a[:, first] * c[:, second]) / scale
        reached = c[:, None] + x[..., None] * a[:, None] + y[..., None] * b[:, None]
        tolerance = 1e-9 * (1.0 + np.abs(x) + np.abs(y))
        result[some] = ((reached >= -tolerance[..., None]).all(axis=2) & ~parallel).any(axis=1)
    return result


def unknowns(active: Bools, size: int) -> Bools:
    """Which of u and t may differ from zero, shape ``(n, P+k)``, given which of u may."""
    return np.concatenate((active, np.ones((len(active), size - active.shape[1]), dtype=np.bool_)), axis=1)


def solution_size(reduced: Reduced, values: Floats) -> Floats:
    """Bound on |z|_∞ of solutions given as u or w, and t, shape ``(n, 1)``."""
    size: Floats = np.abs(values).max(axis=1, keepdims=True, initial=0.0) * (1.0 + reduced.spread) + reduced.offset
    return size


def regimes_of(reduced: Reduced, active: Bools, values: Floats) -> Bools:
    """Codes of candidates. Exact zeros (h = 0 solves to z = 0 in every regime) get one code, not one from each side."""
    codes: Bools = (active ^ reduced.base) & (values[:, : active.shape[1]] != 0)
    return codes


def _screen_directly(reduced: Reduced, active: Bools) -> Bools:
    """Screen by a singular value decomposition of the reduced problem of each regime, which is safe but slower."""
    units, size = active.shape[1], len(reduced.constant)
    free = unknowns(active, size)
    matrices = np.where(free[:, None, :], reduced.table, -np.eye(size))
    # factors are positive, so that signs stay as they are; entries that are rounding error have no say
    certain = np.where(free[:, None, :], np.abs(reduced.table) > 1e-14 * reduced.sizes[:, :-1], True)
    rows, columns = equilibrate(np.abs(matrices) * certain)
    left, singular, right = np.linalg.svd(rows[:, :, None] * matrices * columns[:, None, :])
    share = singular / np.maximum(singular[:, :1], 1.0)  # Q is the identity and more
    projected = apply(left.mT, -rows * reduced.constant)
    lowest = share[:, -1:]

    def error_of(values: Floats, inverse: Floats) -> tuple[Floats, Floats]:
        """How far a change of the parameters by the slack moves the sides of the equations, and a solution."""
        plain = np.abs(values * columns)
        terms = (plain * free) @ reduced.sizes[:, :-1].T + plain * ~free + reduced.sizes[:, -1]
        moved = _SLACK * rows * terms
        return moved, apply(np.abs(inverse), moved)

    # as a regular regime, the looser the closer it is to a singular one
    regular = lowest[:, 0] > _ROUNDING
    values = apply(right.mT, projected / np.where(regular[:, None], singular, 1.0))
    _, slack = error_of(values, (right.mT / np.where(regular[:, None], singular, 1.0)[:, None, :]) @ left.mT)
    slack = slack + 1e-12 / np.maximum(lowest, _ROUNDING) * np.abs(values).max(axis=1, keepdims=True)
    possible = regular & (values >= -slack)[:, :units].all(axis=1)

    # as a singular regime: the equations have to be consistent, and their line of solutions has to meet the regime
    null = share < 1e-6
    values = np.where(null.any(axis=1, keepdims=True), 1.0, values)  # no exact zeros
    reciprocal = np.where(null, 0.0, 1.0 / np.where(null, 1.0, singular))
    particular = apply(right.mT, reciprocal * projected)
    moved, slack = error_of(particular, (right.mT * reciprocal[:, None, :]) @ left.mT)
    sides = rows * np.abs(reduced.constant)
    length = np.abs(particular).max(axis=1)
    error = np.abs(apply(left, np.where(null, projected, 0.0))).max(axis=1)
    consistent = error <= 1e-6 * (length * np.maximum(singular[:, 0], 1.0) + sides.max(axis=1)) + moved.sum(axis=1)
    slack = particular + slack + _SLACK * length[:, None]
    least, greatest = interval(slack[:, :units], right[:, -1, :units], 1e-12)
    meets = (least <= greatest) | (null.sum(axis=1) > 1)
    plane = consistent & (null.sum(axis=1) == 2)
    if units:
        meets[plane] = _meets(slack[plane, :units], right[plane, -2:, :units])
    possible |= null.any(axis=1) & consistent & meets
    possible |= (lowest[:, 0] > 1e-15) & (lowest[:, 0] < 1e-11)  # not for this arithmetic to tell
    return regimes_of(reduced, active[possible], values[possible])


def interval(values: Floats, slopes: Floats, flat: float) -> tuple[Floats, Floats]:
    """The least and the greatest c with values + c · slopes ≥ 0 in all entries of the last dimension.

    Slopes within ±``flat`` count as zero. If there is no such c, the least exceeds the greatest.
    """
    rising, falling = slopes > flat, slopes < -flat
    level = ~rising & ~falling
    bound = -values / np.where(level, 1.0, slopes)
    least = np.where(rising, bound, -np.inf).max(axis=-1, initial=-np.inf)
    greatest = np.where(falling, bound, np.inf).min(axis=-1, initial=np.inf)
    impossible = (level & (values < 0)).any(axis=-1)
    return np.where(impossible, np.inf, least), np.where(impossible, -np.inf, greatest)
