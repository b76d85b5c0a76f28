"""Deciding which candidate regimes hold fixed points, by an M×M solve each, and reporting each point once.

A sign test at zero would lose points on the border between regimes to rounding, or count them once from each side. Here
a unit counts as zero if a change of the parameters, each by a tolerated share of itself, puts it there, and what is
found from several sides is merged. If such a change makes I − J singular, the regime holds no fixed point or a
continuum. Neither depends on the scales of the units, as a tolerance for states or singular values would.
"""

from __future__ import annotations

from dataclasses import replace
from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from lightning_alrnn.analysis.pivots import interval
from lightning_alrnn.analysis.system import (
    Bools,
    Floats,
    System,
    apply,
    equations,
    exact_residual,
    in_chunks,
    magnitudes,
    scaling_of,
    tensor,
    term_sizes,
)

_EPSILON = float(np.finfo(np.float64).eps)
_TINY = float(np.finfo(np.float64).tiny)
_REFINEMENTS = 10  # each gains the digits that the inverse is right to
_LP_TOLERANCE = 1e-6  # relative; the linear programs are solved to about 1e-7
_FAR = 1e6  # counts as infinite, in units of the solution


class Solutions(NamedTuple):
    """Isolated fixed points, a row each."""

    z: Floats  # (n, M)
    code: Bools  # regimes in which they solve the equation, (n, P)
    border: Bools  # units that are zero within the tolerance, (n, P)
    side: Bools  # units that are above zero without any tolerance, (n, P)


class Piece(NamedTuple):
    """A :class:`~lightning_alrnn.analysis.fixed_point_search.Continuum`, and the units that are zero all over it."""

    code: Bools  # (P,)
    z: Floats  # one of its points, (M,)
    directions: Floats  # (k, M)
    extent: Floats  # (k, 2)
    border: Bools  # units that are zero all over it, (P,)


class Decided(NamedTuple):
    """Fixed points that some regimes hold, perhaps several times each."""

    solutions: Solutions
    continua: list[Piece]
    complete: bool  # whether all regimes were decided


def decide(system: System, codes: Bools, border_tolerance: float, singular_tolerance: float) -> Decided:
    """Solve in each of the regimes ``(n, P)`` of a balanced system and see whether the solution lies in it."""
    size = system.size
    change = max(border_tolerance, size * _EPSILON)
    points = [Solutions(np.zeros((0, size)), codes[:0], codes[:0], codes[:0])]
    continua = []
    complete = True
    for chunk in in_chunks(codes, size):
        matrices, inverse, certain = _invert(system, chunk, singular_tolerance)
        solved = certain.copy()
        for index in np.flatnonzero(~certain):
            regime = _decompose(system, chunk[index], singular_tolerance)
            if not regime.null.any():
                inverse[index], solved[index] = regime.inverse, True
                complete &= regime.certain
                continue
            result = _decide_singular(system, regime, change, singular_tolerance)
            if isinstance(result, Solutions):
                points.append(result)
            elif isinstance(result, Piece):
                continua.append(result)
            # where it is not singular as it stands there is a point, perhaps far away or in the next regime
            complete &= result if isinstance(result, bool) else regime.exact
        solutions, all_solved = _solve_regular(
            system, chunk[solved], matrices[solved], inverse[solved], certain[solved], change
        )
        points.append(solutions)
        complete &= all_solved
    return Decided(Solutions(*map(np.concatenate, zip(*points, strict=True))), continua, bool(complete))


def determinant_signs(system: System, codes: Bools, singular_tolerance: float) -> Floats:
    """The sign of det(I − J) in each of the regimes ``(n, P)`` of a balanced system, 0 if it is singular."""
    signs = [np.zeros(0)]
    for chunk in in_chunks(codes, system.size):
        matrices, _, certain = _invert(system, chunk, singular_tolerance)
        sign = np.linalg.slogdet(matrices).sign
        for index in np.flatnonzero(~certain):
            rows, columns = scaling_of(matrices[index], magnitudes(system, chunk[index]))
            sign[index] = np.linalg.slogdet(matrices[index] * rows[:, None] * columns).sign
            sign[index] *= not _decompose(system, chunk[index], singular_tolerance).null.any()
        signs.append(sign)
    return np.concatenate(signs)


def _invert(system: System, codes: Bools, singular_tolerance: float) -> tuple[Floats, Floats, Bools]:
    """I − J of each regime, its inverse, and whether that is good to some eight digits."""
    matrices, sizes = equations(system, codes), magnitudes(system, codes)
    rows = 1.0 / np.maximum(np.abs(matrices).max(axis=2), _TINY)
    scaled = matrices * rows[..., None]
    invertible = np.linalg.slogdet(scaled).sign != 0  # numpy refuses the whole batch for one zero pivot
    inverse = np.linalg.inv(np.where(invertible[:, None, None], scaled, np.eye(system.size))) * rows[:, None, :]
    sensitivity = apply(np.abs(inverse), sizes.sum(axis=2)).max(axis=1)
    certain: Bools = invertible & (sensitivity * max(singular_tolerance, 1e-8) < 1e-1)
    return matrices, inverse, certain


class _Regime(NamedTuple):
    """I − J of one regime, taken apart in scales of its own."""

    code: Bools  # (P,)
    left: Floats  # left singular vectors, times the factors of the rows, a column each, (M, M)
    right: Floats  # right singular vectors, times the factors of the columns, (M, M)
    null: Bools  # which singular values are zero within the tolerance, (M,)
    exact: bool  # whether those are zero up to one rounding of each parameter
    inverse: Floats  # of I − J without its null directions, (M, M)
    columns: Floats  # factors of the columns, (M,)
    flat: float  # share of a null direction's largest entry, over the columns, below which an entry is rounding error
    certain: bool  # whether the inverse proves that I − J is regular


def _decompose(system: System, code: Bools, singular_tolerance: float) -> _Regime:
    """Take I − J apart: a singular value is zero if changes of the parameters by that share make it so."""
    matrix, size = equations(system, code), magnitudes(system, code)
    rows, columns = scaling_of(matrix, size, singular_tolerance)
    scaled = matrix * rows[:, None] * columns
    left, values, right = np.linalg.svd(scaled)
    left, right = rows[:, None] * left, columns[:, None] * right.T
    # of those near zero with all its digits
    small = values < 1e-8 * values[0]
    codes = np.broadcast_to(code, (int(small.sum()), len(code)))
    undriven = replace(system, recurrence=system.recurrence._replace(h=tensor(np.zeros(system.size))))
    products = exact_residual(undriven, right.T[small], codes)
    values_exactly = values.copy()
    values_exactly[small] = np.abs((left[:, small] * products.T).sum(axis=0))
    reach = np.abs(left).T @ size @ np.abs(right)
    # the decomposition mixes the vectors of values that it cannot tell apart: what changes any pair of them counts
    rounding = 8 * len(rows) * _EPSILON
    mixed = values <= rounding * values[0]
    pairs = np.outer(mixed, mixed) | np.eye(len(values), dtype=bool)
    reach = np.where(pairs, np.sqrt(reach * reach.T), 0.0).max(axis=1)
    # where the vectors have nothing in common the entries change it in second order only
    reach = np.maximum(reach, 1e-3 * max(values[0], _TINY))
    share = np.minimum(values, values_exactly) / reach
    null = share <= singular_tolerance
    regular = ~null
    if regular.all():  # by elimination, which leaves zeros zero
        inverse = columns[:, None] * np.linalg.inv(scaled) * rows
    else:
        inverse = (right[:, regular] / values[regular]) @ left[:, regular].T
    flat = rounding * values[0] / values[regular].min(initial=values[0] or 1.0)
    exact = bool((share[null] <= _EPSILON).all())
    certain = not null.any() and _is_inverse(inverse, matrix, size)
    return _Regime(code, left, right, null, exact, inverse, columns, float(flat), certain)


def _is_inverse(inverse: Floats, matrix: Floats, size: Floats) -> bool:
    """Whether |1 − X K| x < x for some x > 0, rounding included: then K is regular."""
    error = np.abs(np.eye(len(matrix)) - inverse @ matrix)
    error += 2 * len(matrix) * _EPSILON * np.abs(inverse) @ size
    x = np.ones(len(matrix))
    for _ in range(50):
        following = error @ x
        if (following < 0.5 * x).all():
            return True
        x = following / following.max() + 1e-3 * x
    return False


def _solve_regular(
    system: System, codes: Bools, matrices: Floats, inverse: Floats, certain: Bools, change: float
) -> tuple[Solutions, bool]:
    """The solutions that lie in their regimes, and whether all of them could be decided."""
    z = inverse @ system.drive
    for _ in range(2):  # a product with the inverse is not backward stable, with refinement it is
        z = z + apply(inverse, system.drive - apply(matrices, z))
    sign = np.where(codes, 1.0, -1.0)
    reach = apply(np.abs(inverse), term_sizes(system, z, codes))[:, system.linear :]
    possible = ~(certain & (sign * z[:, system.linear :] < -4 * change * reach).any(axis=1))
    z, codes, inverse, sign = z[possible], codes[possible], inverse[possible], sign[possible]
    step = z
    for _ in range(_REFINEMENTS):
        step = apply(inverse, exact_residual(system, z, codes))
        z = z + step
        if (np.abs(step) <= 2 * _EPSILON * np.abs(z)).all():
            break
    sizes = term_sizes(system, z, codes)
    reach = apply(np.abs(inverse), sizes)[:, system.linear :]
    # what is not small beside its own terms is told by exact arithmetic, however ill-conditioned the regime
    border = np.abs(z[:, system.linear :]) <= np.minimum(change * reach, max(1e-10, change) * sizes[:, system.linear :])
    side = z[:, system.linear :] > 0
    for index in np.flatnonzero(border.any(axis=1)):
        z[index], border[index] = _onto_border(z[index], border[index], inverse[index], sizes[index], change)
    inside = ((sign * z[:, system.linear :] >= 0) | border).all(axis=1)
    uncertain = np.maximum(change * reach, 1e-3 * np.abs(z[:, system.linear :])) < np.abs(step)[:, system.linear :]
    z, codes, border, side, sizes = z[inside], codes[inside], border[inside], side[inside], sizes[inside]
    wrong = (np.abs(exact_residual(system, z, codes)) > 16 * change * sizes).any(axis=1)
    return Solutions(z[~wrong], codes[~wrong], border[~wrong], side[~wrong]), not (wrong.any() or uncertain.any())


def _onto_border(z: Floats, border: Bools, inverse: Floats, sizes: Floats, change: float) -> tuple[Floats, Bools]:
    """Set units to zero by the smallest relative change of the parameters, leaving out those that would take more."""
    border = border.copy()
    linear = len(z) - len(border)
    reach = np.abs(inverse) @ sizes
    while border.any():
        units = linear + np.flatnonzero(border)
        rows = inverse[units] * sizes
        norm = np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), _TINY)  # units of z
        shares = np.linalg.lstsq(rows / norm, z[units] / norm[:, 0], rcond=None)[0]
        moved = z - inverse @ (sizes * shares)
        if np.abs(shares).max() <= 2 * change and (np.abs(moved[units]) <= 1e-3 * change * reach[units]).all():
            moved[units] = 0.0
            return moved, border
        border[units[np.argmax(np.abs(z[units]) / reach[units])] - linear] = False
    return z, border


def _decide_singular(
    system: System, regime: _Regime, change: float, singular_tolerance: float
) -> Solutions | Piece | bool:
    """A continuum, or the only fixed point, if I − J is singular; ``True`` if there is none, ``False`` if undecided."""
    code, linear = regime.code, system.linear
    z = regime.inverse @ system.drive
    for _ in range(_REFINEMENTS):
        step = regime.inverse @ exact_residual(system, z[None], code[None])[0]
        z = z + step
        if np.abs(step).max() <= 4 * _EPSILON * np.abs(z).max():
            break
    sizes = term_sizes(system, z, code)
    left = regime.left[:, regime.null]
    residual = left.T @ exact_residual(system, z[None], code[None])[0]
    inconsistent = np.abs(residual) / np.maximum(np.abs(left).T @ sizes, _TINY)
    if inconsistent.max() > max(10 * singular_tolerance, 10 * change):
        # the solutions lie where the rounding of the parameters puts them, if anywhere
        return regime.exact and bool(inconsistent.max() > 1e-9)
    directions = regime.right[:, regime.null].T / regime.columns
    directions[np.abs(directions) <= regime.flat * np.abs(directions).max(axis=1, keepdims=True)] = 0.0
    directions = directions * regime.columns
    directions = directions / np.abs(directions).max(axis=1, keepdims=True)

    sign = np.where(code, 1.0, -1.0)
    inside, slopes = sign * z[linear:], sign * directions[:, linear:]
    tolerance = 4 * change * (np.abs(regime.inverse) @ sizes + sizes)[linear:]
    basis, change_of_basis = _orthonormal(directions * system.scale)
    if len(directions) == 1:
        widest = np.array(interval(inside + tolerance, slopes[0], 0.0))
        if widest[0] > widest[1]:
            return True
        # the ends themselves lie where the units are zero, not where they are within the tolerance
        inside = np.where(np.abs(inside) <= tolerance, np.maximum(inside, 0.0), inside)
        ends = np.array(interval(inside, slopes[0], 0.0))
        margins = np.abs(np.subtract(widest, ends, out=np.zeros(2), where=np.isfinite(ends)))
        point = not ends[1] - ends[0] > margins.sum()  # a length that the tolerance makes
        if point:
            ends = np.array([widest.mean()] * 2)
        along = directions[0] * system.scale
        nearest = -float(along @ (z * system.scale)) / float(along @ along)
        shift = np.array([ends.mean() if np.isfinite(ends).all() else np.clip(nearest, *ends)])
        extent = (ends - shift) * change_of_basis[0, 0]
        extent = np.sort(extent)[None]
    else:
        length = float(np.abs(z).max()) or 1.0
        rows = np.maximum(np.abs(inside) + length * np.abs(slopes).max(axis=0), _TINY)
        shape = _polygon if len(directions) == 2 else _polyhedron
        piece = shape(inside / rows, length * slopes / rows, change_of_basis)
        if isinstance(piece, bool):
            return piece
        shift, extent = piece[0] * length, piece[1] * length
        point = bool((np.abs(extent) <= _LP_TOLERANCE * length * np.abs(change_of_basis).sum(axis=1)[:, None]).all())
    z = z + shift @ directions
    border = np.abs(z[linear:]) <= tolerance
    if point:
        return Solutions(z[None], code[None], border[None], z[None, linear:] > 0)
    return Piece(code, z * system.scale, basis, extent, border & (slopes == 0).all(axis=0))


def _orthonormal(directions: Floats) -> tuple[Floats, Floats]:
    """An orthonormal basis of some directions, ``(k, M)``, and the matrix that takes coefficients to it, ``(k, k)``."""
    columns, change = np.linalg.qr(directions.T)
    largest = np.take_along_axis(columns, np.abs(columns).argmax(axis=0)[None], axis=0)[0]
    return (columns * np.sign(largest)).T, change * np.sign(largest)[:, None]


def _polygon(values: Floats, slopes: Floats, change_of_basis: Floats) -> tuple[Floats, Floats] | bool:
    """Do the same as :func:`_polyhedron`, for k = 2 and much faster, by the crossings of the borders."""
    corners = _corners(values, slopes, np.zeros(2), _FAR)
    if len(corners) == 0:
        return True
    # the corners of what is near the point that is nearest to the origin: the origin itself, or on a border, or one
    length = np.maximum((slopes**2).sum(axis=0), 1e-300)
    feet = np.vstack((np.zeros((1, 2)), (-values / length * slopes).T, corners))
    feet = feet[np.isfinite(feet).all(axis=1)]
    feet = feet[(values + feet @ slopes >= -_LP_TOLERANCE).all(axis=1)]
    nearest = feet[np.argmin((feet**2).sum(axis=1))]
    near = _corners(values, slopes, nearest, max(1.0, float(np.abs(nearest).max())))
    point = near.mean(axis=0) if len(near) else nearest
    reached = (corners - point) @ change_of_basis.T
    ends = np.stack((reached.min(axis=0), reached.max(axis=0)), axis=1)
    return point, _infinite(ends, change_of_basis)


def _infinite(ends: Floats, change_of_basis: Floats) -> Floats:
    """Replace what is as far as the search went by infinity."""
    far = 1e-3 * _FAR * np.abs(change_of_basis).max(axis=1, keepdims=True)
    return np.where(np.abs(ends) > far, np.copysign(np.inf, ends), ends)


def _corners(values: Floats, slopes: Floats, centre: Floats, far: float) -> Floats:
    """Corners of the polygon values + c · slopes ≥ 0 within a square around a point, shape ``(n, 2)``."""
    square = np.array([[1.0, -1.0, 0.0, 0.0], [0.0, 0.0, 1.0, -1.0]])
    slopes = np.hstack((slopes, square))
    values = np.concatenate((values, far - centre @ square))
    first, second = np.triu_indices(len(values), k=1)
    determinant = slopes[0, first] * slopes[1, second] - slopes[0, second] * slopes[1, first]
    crossing = np.abs(determinant) > 1e-12
    first, second, determinant = first[crossing], second[crossing], determinant[crossing]
    x = (slopes[1, first] * values[second] - slopes[1, second] * values[first]) / determinant
    y = (slopes[0, second] * values[first] - slopes[0, first] * values[second]) / determinant
    corners = np.column_stack((x, y))
    corners = corners[(np.abs(corners) <= 2 * far + np.abs(centre)).all(axis=1)]
    inside: Floats = corners[(values + corners @ slopes >= -_LP_TOLERANCE).all(axis=1)]
    return inside


def _polyhedron(values: Floats, slopes: Floats, change_of_basis: Floats) -> tuple[Floats, Floats] | bool:
    """One c ``(k,)`` with values + c · slopes ≥ 0 and the extent of B c around it ``(k, 2)``, by linear programs.

    Values ``(P,)`` and slopes ``(k, P)`` are at most about 1. ``True``: there is no such c. ``False``: an error.
    """
    dimensions, units = slopes.shape
    rows, limits = -slopes.T, values

    # as far from the borders as possible, up to 1 …
    deepest = linprog(
        np.append(np.zeros(dimensions), -1.0),
        A_ub=np.column_stack((rows, np.ones(units))),
        b_ub=limits,
        bounds=[(-_FAR, _FAR)] * dimensions + [(-_FAR, 1.0)],
    )
    if deepest.x is None:
        return False
    depth = float(deepest.x[-1])
    if depth < -_LP_TOLERANCE:
        return True
    limits = limits + max(0.0, -depth) + 1e-9
    # … and of the points half as far from them the one of the smallest Σ |c|, as the first may be anywhere
    centre = linprog(
        np.ones(2 * dimensions), A_ub=np.hstack((rows, -rows)), b_ub=limits - max(0.0, depth) / 2, bounds=(0.0, _FAR)
    )
    if centre.x is None:
        return False
    point = centre.x[:dimensions] - centre.x[dimensions:]
    extent = np.zeros((dimensions, 2))
    for axis, row in enumerate(change_of_basis):
        for side, direction in enumerate((1.0, -1.0)):
            size = np.abs(row).max()
            end = linprog(direction * row / size, A_ub=rows, b_ub=limits, bounds=(-_FAR, _FAR))
            if end.x is None:
                return False
            extent[axis, side] = row @ (end.x - point)
    return point, _infinite(extent, change_of_basis)


def merge(solutions: Solutions) -> Solutions:
    """Report a point once that solves the equation in several regimes, and set units on the border to zero."""
    z, code, border, side = solutions
    linear = z.shape[1] - code.shape[1]
    nonlinear = z[:, linear:]
    if border.any():
        # a solution is the same as that of the regime it really lies in, and of the one with units on the border off
        names = np.stack((code, nonlinear > 0, code & ~border, side), axis=1)
        _, name = np.unique(names.reshape(-1, names.shape[2]), axis=0, return_inverse=True)
        size = len(z) + name.size
        links = coo_array((np.ones(name.size), (np.arange(name.size) // 4, len(z) + name.ravel())), shape=(size, size))
        component = connected_components(links, directed=False)[1]
        best = {component[index]: index for index in reversed(range(len(z)))}
        # the one that takes no tolerance
        best |= {component[index]: index for index in np.flatnonzero(~border.any(axis=1))}
        chosen = [best[label] for label in sorted(best)]
        z, nonlinear, border = z[chosen], nonlinear[chosen], border[chosen]
    nonlinear = np.where(border, 0.0, nonlinear)
    return Solutions(np.hstack((z[:, :linear], nonlinear)), nonlinear > 0, border, nonlinear > 0)


def merge_continua(continua: list[Piece]) -> list[Piece]:
    """Drop continua that are part of another, as an edge or from across a border, and order them by their bits."""
    pieces: list[Piece] = []
    for piece in sorted(continua, key=lambda piece: (-len(piece.directions), piece.code.tolist()[::-1])):
        if not within_continua(piece.code[None], piece.border[None], pieces)[0]:
            pieces.append(piece)
    pieces = [piece._replace(code=piece.code & ~piece.border) for piece in pieces]
    return sorted(pieces, key=lambda piece: piece.code.tolist()[::-1])


def within_continua(code: Bools, border: Bools, continua: list[Piece]) -> Bools:
    """Whether each solution is part of a continuum: in its regime, but for units that are zero."""
    within = np.zeros(len(code), dtype=np.bool_)
    for piece in continua:
        within |= ((code == piece.code) | border).all(axis=1)
    return within
