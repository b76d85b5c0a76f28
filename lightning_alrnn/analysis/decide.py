"""Deciding which of some candidate regimes hold fixed points, by an M×M solve each, and reporting each point once.

A sign test at zero would lose points on the border between regimes to rounding, or count them once from each side. Here
a unit within a tolerance of zero counts as on either side, and what is found from several sides is merged. Where I − J
is singular the regime holds no fixed point or a continuum of them.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.optimize import linprog

from lightning_alrnn.analysis.pivots import interval
from lightning_alrnn.analysis.system import Bools, Floats, System, apply, equations, in_chunks, regime_slopes

_LP_TOLERANCE = 1e-6
"""Relative. The linear programs are solved to about 1e-7."""


class Solutions(NamedTuple):
    """Isolated fixed points, a row each.

    Attributes:
        z: shape ``(n, M)``.
        code: the regimes in which they solve the equation, shape ``(n, P)``.
        border: units that are zero within the tolerance, shape ``(n, P)``.
    """

    z: Floats
    code: Bools
    border: Bools


class Piece(NamedTuple):
    """A :class:`~lightning_alrnn.analysis.fixed_points.Continuum`, and the units that are zero all over it.

    Attributes:
        code: the regime, shape ``(P,)``.
        z: one of its points, shape ``(M,)``.
        directions: what it extends in, shape ``(k, M)``.
        extent: how far, shape ``(k, 2)``.
        border: the units that are zero all over it, shape ``(P,)``.
    """

    code: Bools
    z: Floats
    directions: Floats
    extent: Floats
    border: Bools


class Decided(NamedTuple):
    """What some regimes hold.

    Attributes:
        solutions: isolated fixed points, perhaps several times each.
        continua: fixed points that are not isolated, by regime, perhaps several times each.
        complete: whether all regimes were decided.
    """

    solutions: Solutions
    continua: list[Piece]
    complete: bool


def decide(system: System, codes: Bools, border_tolerance: float, singular_tolerance: float) -> Decided:
    """Solve in each of the regimes and see whether the solution lies in it.

    Args:
        system: the map under a constant input.
        codes: the regimes, shape ``(n, P)``.
        border_tolerance: as in :func:`~lightning_alrnn.analysis.fixed_points.fixed_points`.
        singular_tolerance: as there.
    """
    size = len(system.W)
    found = [Solutions(np.zeros((0, size)), codes[:0], codes[:0])]
    continua = []
    complete = True
    for chunk in in_chunks(codes, size):
        matrices = equations(system, chunk)
        invertible = np.linalg.slogdet(matrices).sign != 0  # numpy refuses the whole batch for one zero pivot
        inverse = np.linalg.inv(np.where(invertible[:, None, None], matrices, np.eye(size)))
        size_of = np.maximum(np.abs(matrices).sum(axis=1).max(axis=1), 1.0)
        regular = invertible & (size_of * np.abs(inverse).sum(axis=1).max(axis=1) < 1e6)
        for index in np.flatnonzero(~regular):
            left, values, right = np.linalg.svd(matrices[index])
            rank = int((values > singular_tolerance * max(values[0], 1.0)).sum())
            if rank == size:
                regular[index] = True
                continue
            result = _decide_singular(
                system, chunk[index], (left, values, right), rank, border_tolerance, singular_tolerance
            )
            if isinstance(result, Solutions):
                found.append(result)
            elif isinstance(result, Piece):
                continua.append(result)
            else:
                complete &= result
        found.append(_solve_regular(system, chunk[regular], matrices[regular], inverse[regular], border_tolerance))
    return Decided(Solutions(*map(np.concatenate, zip(*found, strict=True))), continua, complete)


def _solve_regular(
    system: System, codes: Bools, matrices: Floats, inverse: Floats, border_tolerance: float
) -> Solutions:
    z = inverse @ system.drive
    for _ in range(2):  # a product with the inverse is not backward stable, with refinement it is
        z = z + apply(inverse, system.drive - apply(matrices, z))
    terms = _terms(system, z, codes)
    rounding = np.finfo(np.float64).eps * len(system.W) * apply(np.abs(inverse), terms + np.abs(z))
    tolerance = (border_tolerance * terms + rounding)[:, system.linear :]
    nonlinear = z[:, system.linear :]
    inside = (np.where(codes, nonlinear, -nonlinear) >= -tolerance).all(axis=1)
    return Solutions(z[inside], codes[inside], (np.abs(nonlinear) <= tolerance)[inside])


def _terms(system: System, z: Floats, codes: Bools) -> Floats:
    """|A z| + |W| |φ*(z)| + |C| |s| + |h|, shape ``(…, M)``: the sizes of the terms that add up to z."""
    size = np.abs(z)
    return size @ np.abs(system.A).T + (size * regime_slopes(system, codes)) @ np.abs(system.W).T + system.terms


def _decide_singular(
    system: System,
    code: Bools,
    decomposition: tuple[Floats, Floats, Floats],
    rank: int,
    border_tolerance: float,
    singular_tolerance: float,
) -> Solutions | Piece | bool:
    """The fixed points in a regime in which I − J is singular.

    Args:
        system: the map.
        code: the regime.
        decomposition: the singular value decomposition of I − J.
        rank: number of its singular values that are not zero.
        border_tolerance: as in :func:`~lightning_alrnn.analysis.fixed_points.fixed_points`.
        singular_tolerance: as in :func:`~lightning_alrnn.analysis.fixed_points.fixed_points`.

    Returns:
        A continuum; a point, where the regime holds no more of it; ``True`` where there is none; ``False`` where that
        could not be decided.
    """
    left, values, right = decomposition
    z = right[:rank].T @ (left[:, :rank].T @ system.drive / values[:rank])
    size = system.terms.max() + max(values[0], 1.0) * np.abs(z).max()
    if np.abs(left[:, rank:].T @ system.drive).max() > singular_tolerance * size:
        return True
    directions = right[rank:]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1, keepdims=True), axis=1)
    directions = directions * np.sign(largest)

    sign = np.where(code, 1.0, -1.0)
    inside, slopes = sign * z[system.linear :], sign * directions[:, system.linear :]
    tolerance = border_tolerance * (_terms(system, z, code)[system.linear :] + np.abs(z).max())
    if len(directions) == 1:
        least, greatest = map(float, interval(inside + tolerance, slopes[0], singular_tolerance))
        if least > greatest:
            return True
        # the ends themselves lie where the units are zero, not where they are within the tolerance
        inside = np.where(np.abs(inside) <= tolerance, np.maximum(inside, 0.0), inside)
        exact = tuple(map(float, interval(inside, slopes[0], singular_tolerance)))
        least, greatest = exact if exact[0] <= exact[1] else ((least + greatest) / 2,) * 2
        bounded = np.isfinite(least) and np.isfinite(greatest)
        shift = np.array([(least + greatest) / 2 if bounded else min(max(0.0, least), greatest)])
        extent = np.array([[least, greatest]]) - shift
        limit = border_tolerance
    else:
        piece = (_polygon if len(directions) == 2 else _polyhedron)(inside, slopes)
        if isinstance(piece, bool):
            return piece
        shift, extent = piece
        limit = _LP_TOLERANCE
    z = z + shift @ directions
    border = np.abs(z[system.linear :]) <= tolerance
    if np.abs(extent).max() <= limit * np.abs(z).max():
        return Solutions(z[None], code[None], border[None])
    return Piece(code, z, directions, extent, border & (np.abs(slopes) <= singular_tolerance).all(axis=0))


def _polygon(values: Floats, slopes: Floats) -> tuple[Floats, Floats] | bool:
    """As :func:`_polyhedron`, for k = 2 and much faster: by the crossings of the borders."""
    scale = float(np.abs(values).max(initial=0.0)) or 1.0
    far = 1e6  # in units of scale, counts as infinite
    values = values / scale
    corners = _corners(values, slopes, np.zeros(2), far)
    if len(corners) == 0:
        return True
    ends = np.stack((corners.min(axis=0), corners.max(axis=0)), axis=1)
    # the corners of what is near the point that is nearest to the origin: the origin itself, or on a border, or one
    length = np.maximum((slopes**2).sum(axis=0), 1e-300)
    feet = np.vstack((np.zeros((1, 2)), (-values / length * slopes).T, corners))
    feet = feet[np.isfinite(feet).all(axis=1)]
    feet = feet[(values + feet @ slopes >= -_LP_TOLERANCE).all(axis=1)]
    nearest = feet[np.argmin((feet**2).sum(axis=1))]
    near = _corners(values, slopes, nearest, max(1.0, float(np.abs(nearest).max())))
    point = near.mean(axis=0) if len(near) else nearest
    reached = np.where(np.abs(ends) > 0.99 * far, np.copysign(np.inf, ends), ends - point[:, None])
    return point * scale, reached * scale


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


def _polyhedron(values: Floats, slopes: Floats) -> tuple[Floats, Floats] | bool:
    """The c, of k > 1 entries, with values + c · slopes ≥ 0, by linear programs.

    Args:
        values: shape ``(P,)``.
        slopes: shape ``(k, P)``.

    Returns:
        One such c, shape ``(k,)``, and the extent in each of its entries relative to it, shape ``(k, 2)``; ``True``
        where there is no such c, ``False`` where a program failed.
    """
    dimensions, units = slopes.shape
    scale = float(np.abs(values).max(initial=0.0)) or 1.0
    far = 1e6  # in units of scale, counts as infinite
    rows, limits = -slopes.T, values / scale

    # as far from the borders as possible, up to 1 …
    deepest = linprog(
        np.append(np.zeros(dimensions), -1.0),
        A_ub=np.column_stack((rows, np.ones(units))),
        b_ub=limits,
        bounds=[(-far, far)] * dimensions + [(-far, 1.0)],
    )
    if deepest.x is None:
        return False
    depth = float(deepest.x[-1])
    if depth < -_LP_TOLERANCE:
        return True
    limits = limits + max(0.0, -depth) + 1e-9
    # … and of the points half as far from them the one of the smallest Σ |c|, as the first may be anywhere
    centre = linprog(
        np.ones(2 * dimensions), A_ub=np.hstack((rows, -rows)), b_ub=limits - max(0.0, depth) / 2, bounds=(0.0, far)
    )
    if centre.x is None:
        return False
    point = centre.x[:dimensions] - centre.x[dimensions:]
    extent = np.zeros((dimensions, 2))
    for axis in range(dimensions):
        for side, direction in enumerate((1.0, -1.0)):
            end = linprog(direction * np.eye(dimensions)[axis], A_ub=rows, b_ub=limits, bounds=(-far, far))
            if end.x is None:
                return False
            reached = float(end.x[axis])
            extent[axis, side] = -direction * np.inf if abs(reached) > 0.99 * far else reached - point[axis]
    return point * scale, extent * scale


def merge(solutions: Solutions) -> Solutions:
    """Report a point once that solves the equation in several regimes, and put units on the border to zero.

    Args:
        solutions: n of them, as :func:`decide` finds them.

    Returns:
        At most n, in the order of the first finding of each.
    """
    z, code, border = solutions
    linear = z.shape[1] - code.shape[1]
    nonlinear = z[:, linear:]
    if border.any():
        # a solution is the same as that of the regime it really lies in, and of the one with units on the border off
        names = np.stack((code, nonlinear > 0, code & ~border), axis=1)
        group: dict[bytes, int] = {}
        parent = list(range(len(z)))

        def root(index: int) -> int:
            while parent[index] != index:
                index = parent[index]
            return index

        for index in range(len(z)):
            for name in names[index]:
                first, second = root(group.setdefault(name.tobytes(), index)), root(index)
                parent[max(first, second)] = min(first, second)
        chosen = [index for index in range(len(z)) if root(index) == index]
        z, nonlinear, border = z[chosen], nonlinear[chosen], border[chosen]
    nonlinear = np.where(border, 0.0, nonlinear)
    return Solutions(np.hstack((z[:, :linear], nonlinear)), nonlinear > 0, border)


def merge_continua(continua: list[Piece]) -> list[Piece]:
    """Leave out continua that are part of another: its edge, or the same one from the other side of a border.

    Args:
        continua: as :func:`decide` finds them.

    Returns:
        Those that are left, without the bits of units on the border, ordered by their bits, that of the last unit
        first.
    """
    kept: list[Piece] = []
    for piece in sorted(continua, key=lambda piece: (-len(piece.directions), piece.code.tolist()[::-1])):
        if not within_continua(piece.code[None], piece.border[None], kept)[0]:
            kept.append(piece)
    kept = [piece._replace(code=piece.code & ~piece.border) for piece in kept]
    return sorted(kept, key=lambda piece: piece.code.tolist()[::-1])


def within_continua(code: Bools, border: Bools, continua: list[Piece]) -> Bools:
    """Which of some solutions are part of a continuum.

    Where they are in its regime too, being zero in the units that tell the regimes apart, they solve its equation too.

    Args:
        code: regimes of the solutions, shape ``(n, P)``.
        border: units that are zero, of the same shape.
        continua: any number of them.

    Returns:
        Shape ``(n,)``.
    """
    within = np.zeros(len(code), dtype=np.bool_)
    for piece in continua:
        within |= ((code == piece.code) | border).all(axis=1)
    return within
