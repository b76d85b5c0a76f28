"""Networks with rescaled units, and their fixed points by brute force in extended precision.

Scaling units, z → S z with W → S W S⁻¹ and h → S h, leaves the dynamics as they are, but rounds the weights and puts
large units beside small ones. Brute force gets the network before the scaling.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog

from lightning_alrnn.analysis import FixedPointSet, fixed_points
from lightning_alrnn.nn import Recurrence

Array = NDArray[np.float64]
KINDS = ("random", "trained-like", "on a border", "integrator")


class Rescaled(NamedTuple):
    """A network before scaling, and the scale of each unit."""

    kind: str  # one of KINDS
    A: Array
    W: Array
    h: Array
    units: int
    scale: Array


class Expected(NamedTuple):
    """Fixed points by brute force; a unit within 1e-11 of the largest counts as zero and off."""

    points: dict[tuple[bool, ...], Array]  # z by code, before scaling
    index_sum: int  # Σ sign det(I − J) in these codes
    continua: set[tuple[bool, ...]]  # regimes with a line of fixed points


def systems(count: int, decades: float, seed: int = 0) -> Iterator[Rescaled]:
    """Networks of each kind in turn, scaled by 10^U(−decades, decades)."""
    for index in range(count):
        rng = np.random.default_rng([seed, index, int(decades)])
        kind = KINDS[index % len(KINDS)]
        size = int(rng.integers(2, 8 if kind == "integrator" else 21))
        units = int(rng.integers(1, min(size - 1, 4 if kind == "integrator" else 10) + 1))
        A = rng.uniform(0.0, 0.95, size)
        W = rng.normal(size=(size, size)) * rng.uniform(0.5, 2.5) / np.sqrt(size)
        h = rng.normal(size=size)
        if kind == "trained-like":
            A = rng.uniform(0.85, 0.999, size)
            W = rng.uniform(0.1, 1.0) * rng.normal(size=(size, 2)) @ rng.normal(size=(2, size)) / size
            h = 0.1 * h
        elif kind == "on a border":
            z = rng.normal(size=size)
            z[size - units :][rng.permutation(units)[: 1 + index // 4 % min(2, units)]] = 0.0
            h = z - A * z - W @ np.where(np.arange(size) >= size - units, np.maximum(z, 0.0), z)
        elif kind == "integrator":
            A[0], W[0] = 0.0, 0.0
            W[0, 0] = 1.0
            h[0] = 0.0 if index // 4 % 4 else 0.1  # one in four is driven
        yield Rescaled(kind, A, W, h, units, 10.0 ** rng.uniform(-decades, decades, size))


def search(system: Rescaled) -> FixedPointSet:
    """The fixed points of the scaled network."""
    W = system.W * system.scale[:, None] / system.scale
    A, W, h = map(torch.tensor, (system.A, W, system.h * system.scale))
    result = fixed_points(Recurrence(A, W, None, h, system.units))
    assert isinstance(result, FixedPointSet)
    return result


def brute_force(system: Rescaled) -> Expected:
    """One M×M solve in extended precision for each of the 2^P regimes; a linear program where that is singular."""
    size, units = len(system.h), system.units
    codes = (np.arange(2**units)[:, None] >> np.arange(units) & 1).astype(np.bool_)
    slopes = np.hstack((np.ones((len(codes), size - units)), codes))
    matrices = np.eye(size) - np.diag(system.A) - system.W * slopes[:, None, :]
    points: list[tuple[tuple[bool, ...], Array]] = []
    continua, signs = set(), {}
    z, sign = _solve(matrices, system.h)
    for code, solution, determinant, matrix in zip(codes, z, sign, matrices, strict=True):
        name = tuple(code.tolist())
        if determinant == 0:
            bounds = [(None, None)] * (size - units) + [(0, None) if bit else (None, 0) for bit in code]
            if linprog(np.zeros(size), A_eq=matrix, b_eq=system.h, bounds=bounds).status == 0:
                continua.add(name)
            continue
        nonlinear = solution[size - units :]
        slack = 1e-11 * np.abs(solution).max()
        signs[name] = determinant
        if (np.where(code, nonlinear, -nonlinear) >= -slack).all():
            strict = tuple((nonlinear > slack).tolist())
            if not any(np.abs(solution - other).max() <= 1e-9 * np.abs(solution).max() for _, other in points):
                points.append((strict, solution.astype(np.float64)))
    return Expected(dict(points), int(sum(signs[code] for code, _ in points)), continua)


def _solve(matrices: Array, side: Array) -> tuple[NDArray[np.longdouble], Array]:
    """Solutions by elimination with pivots, and signs of the determinants, 0 where a pivot is below 1e-13."""
    count, size = len(matrices), len(side)
    rows = np.arange(count)
    work = np.concatenate((matrices, np.broadcast_to(side[:, None], (count, size, 1))), axis=2).astype(np.longdouble)
    sign = np.ones(count)
    for column in range(size):
        pivot = column + np.abs(work[:, column:, column]).argmax(axis=1)
        work[rows, column], work[rows, pivot] = work[rows, pivot], work[rows, column].copy()
        value = work[:, column, column].copy()
        sign *= np.where(np.abs(value) < 1e-13, 0.0, np.sign(value)) * np.where(pivot == column, 1.0, -1.0)
        value[np.abs(value) < 1e-13] = 1.0
        factor = work[:, :, column] / value[:, None]
        factor[:, column] = 0.0
        work -= factor[:, :, None] * work[:, None, column]
        work[:, column] /= value[:, None]
    return work[:, :, -1], sign


def differences(system: Rescaled, found: FixedPointSet, expected: Expected) -> list[str]:
    """Errors of a result: missed or spurious points and continua, a wrong index sum."""
    codes = [tuple(code) for code in found.code.tolist()]
    wrong = [f"spurious point {code}" for code in codes if code not in expected.points]
    wrong += [f"missed point {code}" for code in expected.points if code not in codes]
    for code, z in zip(codes, found.z.numpy() / system.scale, strict=True):
        other = expected.points.get(code, z)
        if np.abs(z - other).max() > 1e-8 * np.abs(other).max() + 1e-300:
            wrong.append(f"point {code} is off by {np.abs(z - other).max():.1e}")
    continua = {tuple(piece.code.tolist()) for piece in found.continua}
    wrong += [f"spurious continuum {code}" for code in continua - expected.continua]
    wrong += [f"missed continuum {code}" for code in expected.continua - continua]
    if found.index_sum != expected.index_sum:
        wrong.append(f"index sum {found.index_sum} instead of {expected.index_sum}")
    return wrong
