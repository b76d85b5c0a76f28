"""Fixed points against brute force, rational arithmetic, linear programs, closed forms and planted points."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from networks import Array, build, mutual_inhibition, plain, random_network, regime_map
from numpy.typing import NDArray
from scipy.optimize import linprog
from scripts import load_script

from lightning_alrnn.analysis import fixed_point_search, pivots
from lightning_alrnn.analysis.fixed_point_search import Continuum, FixedPointSet, fixed_points, timescales
from lightning_alrnn.analysis.system import balance, exact_residual, read_system
from lightning_alrnn.nn import ALRNN, Recurrence

rescaled = load_script(Path(__file__).parents[2] / "benchmarks" / "rescaled.py")
Parameters = tuple[Array, Array, Array]


class Point(NamedTuple):
    code: tuple[bool, ...]
    z: Array
    eigenvalues: NDArray[np.complex128]


def brute_force(rnn: ALRNN) -> list[Point]:
    """One M×M solve for each of the 2^P regimes; a sign may be wrong by the tolerance; equal points are one."""
    h = plain(rnn)[2]
    points: list[Point] = []
    for code in itertools.product((False, True), repeat=rnn.nonlinear_units):
        code = code[::-1]
        J = regime_map(rnn, code)
        K = np.eye(len(h)) - J
        if np.linalg.cond(K) > 1e9:
            continue
        z = np.linalg.solve(K, h)
        nonlinear = z[len(h) - len(code) :]
        sign = np.where(code, 1.0, -1.0)
        slack = 1e-9 * max(1.0, np.abs(z).max())
        if (sign * nonlinear >= -slack).all() and not any(
            np.abs(z - other.z).max() <= 1e-6 * max(1.0, np.abs(z).max()) for other in points
        ):
            strict = tuple(bool(value > slack) for value in nonlinear)
            points.append(Point(strict, z, np.linalg.eigvals(regime_map(rnn, strict))))
    return sorted(points, key=lambda point: point.code[::-1])


def check_against(points: FixedPointSet, expected: list[Point], rnn: ALRNN, *, accuracy: float) -> None:
    """All fields that follow from z and the code."""
    assert points.z.dtype == torch.float64
    assert [tuple(code) for code in points.code.tolist()] == [point.code for point in expected]
    assert torch.equal(points.code, rnn.regime(points.z))
    for index, point in enumerate(expected):
        size = max(1.0, np.abs(point.z).max())
        np.testing.assert_allclose(points.z[index].numpy(), point.z, rtol=0, atol=accuracy * size)
        moduli = np.sort(np.abs(point.eigenvalues))[::-1]
        eigenvalues, polynomial = points.eigenvalues[index].numpy(), np.poly(point.eigenvalues)
        np.testing.assert_allclose(np.abs(eigenvalues), moduli, atol=1e-5)
        np.testing.assert_allclose(np.poly(eigenvalues), polynomial, atol=1e-6 * np.abs(polynomial).max())
        if np.abs(moduli - 1).min() > 1e-5:
            inside = int((moduli < 1).sum())
            assert points.stability[index] == {len(moduli): "stable", 0: "unstable"}.get(inside, "saddle")
        assert float(points.residual[index]) <= 1e-8 * size


def trained_like_network(seed: int) -> ALRNN:
    rng = np.random.default_rng(10_000 + seed)
    size = int(rng.integers(4, 13))
    units = int(rng.integers(1, min(size, 8) + 1))
    low_rank = rng.normal(size=(size, 2)) @ rng.normal(size=(2, size)) / size
    A = rng.uniform(0.85, 0.98, size)
    return build(A, rng.uniform(0.1, 1.0) * low_rank, 0.1 * rng.normal(size=size), units)


def random_singles(seed: int) -> ALRNN:
    return (trained_like_network if seed % 2 else random_network)(seed).float()


# --- brute force ---


@pytest.mark.parametrize(
    ("network", "count", "accuracy"),
    [(random_network, 180, 1e-8), (trained_like_network, 60, 1e-7), (random_singles, 60, 1e-7)],
)
def test_random_networks_against_brute_force(network: Callable[[int], ALRNN], count: int, accuracy: float) -> None:
    kinds = Counter[str]()
    for seed in range(count):
        rnn = network(seed)
        points, expected = fixed_points(rnn), brute_force(rnn)
        check_against(points, expected, rnn, accuracy=accuracy)
        assert points.complete
        assert points.regimes_searched == 2**rnn.nonlinear_units
        assert not points.continua
        determinants = [np.linalg.det(np.eye(rnn.hidden_size) - regime_map(rnn, point.code)) for point in expected]
        assert points.index_sum == sum(np.sign(determinants))
        kinds.update(points.stability)
    assert kinds.total() > count / 2  # the comparison is about something
    if network is random_network:
        assert kinds.total() > count
        assert min(kinds[kind] for kind in ("stable", "saddle", "unstable")) > 5


@pytest.mark.parametrize("base", ["off", "on", "mixed", "singular"])
def test_the_base_regime_does_not_matter(base: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(40):
        rnn = random_network(seed)
        units = rnn.nonlinear_units
        expected = fixed_points(rnn)
        if base == "singular" and units:  # the off-regime's matrix gets an eigenvalue of 1, as of an integrator
            J = regime_map(rnn, (False,) * units)
            left, values, right = np.linalg.svd(np.eye(len(J)) - J)
            with torch.no_grad():
                change = torch.from_numpy(values[-1] * np.outer(left[:, -1], right[-1]))
                linear = rnn.linear_units
                rnn.W[:, :linear] += change[:, :linear]
            expected = fixed_points(rnn)
        code = np.zeros(units, dtype=np.bool_)
        if base in ("on", "mixed"):
            code[:: 1 if base == "on" else 2] = True
        with monkeypatch.context() as patch:
            patch.setattr(fixed_point_search, "base_regime", lambda system, code=code: code)
            points = fixed_points(rnn)
        assert torch.equal(points.code, expected.code)
        torch.testing.assert_close(points.z, expected.z, rtol=1e-7, atol=1e-8)


def test_the_tree_is_the_same_in_subtrees(monkeypatch: pytest.MonkeyPatch) -> None:
    """More units than one chunk takes, and small pivots everywhere, against solving each regime directly."""
    rng = np.random.default_rng(14)
    W = 3.0 * np.eye(14) + 0.3 * rng.normal(size=(14, 14))
    rnn = build(np.zeros(14), W, -rng.uniform(0.5, 1.5, 14), 14)
    points = fixed_points(rnn)
    monkeypatch.setattr(pivots, "_SMALL_PIVOT", math.inf)
    assert len(points.z) > 1
    assert torch.equal(points.code, fixed_points(rnn).code)
    assert points.regimes_searched == 2**14
    assert points.complete


@pytest.mark.parametrize("threshold", [1e-4, 0.0])
def test_small_pivots_lose_nothing(threshold: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """A pivot of exactly zero on the way to a regular regime, and pivots that would cost all digits.

    They are noticed by their size and, without a threshold, by what they do to the solution.
    """
    monkeypatch.setattr(pivots, "_SMALL_PIVOT", threshold)
    rng = np.random.default_rng(0)
    for small in (0.0, 1e-17, 1e-16, 1e-15, 1e-12, 1e-8, 1e-5):
        for _ in range(10):
            # I − W has a block [[small, 1], [1, small]]: each unit alone is all but singular, both together are not
            K = rng.normal(size=(3, 3))
            K[:2, :2] = [[small, 1.0], [1.0, small]]
            z = rng.uniform(0.1, 1.5, 3)
            with monkeypatch.context() as patch:  # the pivots are those of K if the base regime is off
                patch.setattr(fixed_point_search, "base_regime", lambda system: np.zeros(3, dtype=np.bool_))
                points = fixed_points(build(np.zeros(3), np.eye(3) - K, K @ z, 3))
            where = [tuple(code) for code in points.code.tolist()].index((True, True, True))
            np.testing.assert_allclose(points.z[where].numpy(), z, atol=1e-9)


# --- closed forms ---


def test_mutual_inhibition_has_two_stable_points_and_a_saddle() -> None:
    points = fixed_points(mutual_inhibition())
    assert points.stability == ["stable", "stable", "saddle"]
    np.testing.assert_allclose(points.z.numpy(), [[2.0, -2.0], [-2.0, 2.0], [2 / 3, 2 / 3]], atol=1e-14)
    assert points.code.tolist() == [[True, False], [False, True], [True, True]]
    np.testing.assert_allclose(points.eigenvalues[2].numpy(), [1.5, -0.5], atol=1e-14)
    np.testing.assert_allclose(points.timescales[0].numpy(), [-1 / math.log(0.5)] * 2)
    assert float(points.timescales[2, 0]) == pytest.approx(-1 / math.log(1.5))  # grows
    assert points.condition.tolist() == pytest.approx([np.linalg.cond([[0.5, 0], [1, 0.5]])] * 2 + [1.5 / 0.5])
    assert points.index_sum == 1


@pytest.mark.parametrize("units", [0, 3])
def test_inputs_and_single_regimes(units: int) -> None:
    """P=0 has one fixed point, (I − A − W)⁻¹ (C s + h); so has a network whose units stay on."""
    rng = np.random.default_rng(units)
    W, C, h = 0.1 * rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=3) + (10 if units else 0)
    s = torch.from_numpy(rng.normal(size=2)).float().double()
    rnn = build(np.full(3, 0.5), W, h, units, C=C)
    points = fixed_points(rnn, s.float())
    np.testing.assert_allclose(points.z[0].numpy(), np.linalg.solve(0.5 * np.eye(3) - W, C @ s.numpy() + h), rtol=1e-12)
    assert points.code.tolist() == [[True] * units]
    assert (points.complete, points.regimes_searched) == (True, 2**units)
    torch.testing.assert_close(rnn.step(points.z, s), points.z)


def test_inputs_of_full_width() -> None:
    rnn = ALRNN(None, 3, 1)
    points = fixed_points(rnn, torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(rnn.double().step(points.z, torch.tensor([1.0, 2.0, 3.0]).double()), points.z)


def test_marginal_and_timescales() -> None:
    rnn = build([0.0], [[-1.0]], [1.0], 0, C=None)
    assert fixed_points(rnn).stability == ["marginal"]  # λ = −1: a flip, no continuum
    assert timescales(torch.tensor([1.0, -1.0, 1j, 0.0, math.e, 1 / math.e])).tolist() == pytest.approx(
        [math.inf, math.inf, math.inf, 0.0, -1.0, 1.0]
    )
    nearly = build([0.0], [[-1.0 + 1e-4]], [1.0], 0)
    assert fixed_points(nearly).stability == ["stable"]
    assert fixed_points(nearly, marginal_tolerance=1e-3).stability == ["marginal"]


# --- borders ---


def plant_on_border(seed: int, at_border: int) -> tuple[ALRNN, Array]:
    """A network with a fixed point at which some nonlinear units are exactly zero."""
    rng = np.random.default_rng(20_000 + seed)
    size = int(rng.integers(2, 10))
    units = int(rng.integers(at_border, min(size, 7) + 1)) if size >= at_border else size
    W = rng.normal(size=(size, size)) * rng.uniform(0.5, 2.5) / math.sqrt(size)
    A = rng.uniform(0.0, 0.9, size)
    z = rng.normal(size=size)
    z[size - units :][rng.permutation(units)[:at_border]] = 0.0
    rectified = np.where(np.arange(size) >= size - units, np.maximum(z, 0.0), z)
    return build(A, W, z - A * z - W @ rectified, units), z


@pytest.mark.parametrize("at_border", [1, 2])
def test_points_on_a_border_are_found_once(at_border: int) -> None:
    for seed in range(100):
        rnn, z = plant_on_border(seed, at_border)
        points = fixed_points(rnn)
        near = np.abs(points.z.numpy() - z).max(axis=1) <= 1e-6 * max(1.0, np.abs(z).max())
        assert near.sum() == 1, seed
        assert points.on_border.tolist() == near.tolist(), seed
        assert points.code[near].tolist() == [(z[rnn.linear_units :] > 0).tolist()]
        others = [point for point in brute_force(rnn) if np.abs(point.z - z).max() > 1e-5 * max(1.0, np.abs(z).max())]
        assert len(points.z) == 1 + len(others)


def test_folds_split_into_two_points_or_none() -> None:
    """z' = 2 φ(z) + h: at h = 0 one point on the border; at h < 0 one on either side; at h > 0 none."""
    for h, count in ((0.0, 1), (-1e-4, 2), (1e-4, 0), (-1e-12, 2), (1e-12, 0)):
        points = fixed_points(build([0.0], [[2.0]], [h], 1))
        assert len(points.z) == count, h
        assert points.on_border.tolist() == [h == 0.0] * count


def test_almost_on_the_border_relative_to_the_other_terms() -> None:
    """A unit that its input and bias cancel in to 1e-15 is on the border, one that is small by itself is not."""
    cancelled = build([0.0, 0.0], [[0.0, 0.0], [1.0, 2.0]], [1.0, -1.0 + 1e-15], 1)
    assert fixed_points(cancelled).on_border.tolist() == [True]
    nearly = build([0.0, 0.0], [[0.0, 0.0], [1.0, 2.0]], [1.0, -1.0 + 1e-12], 1)
    assert fixed_points(nearly, border_tolerance=1e-9).on_border.tolist() == [True]
    assert len(fixed_points(nearly).z) == 0
    small = build([0.0, 0.0], [[0.0, 0.0], [0.0, 0.5]], [1.0, 1e-12], 1)
    assert fixed_points(small).on_border.tolist() == [False]


def test_no_drive_has_its_fixed_point_at_zero_once() -> None:
    """h = 0: z = 0 solves the equation in every regime."""
    for units in (0, 1, 6, 12):
        torch.manual_seed(units)
        rnn = ALRNN(2, 14, units, init="near_identity")
        points = fixed_points(rnn)
        assert points.z.tolist() == [[0.0] * 14]
        assert points.on_border.tolist() == [units > 0]
        system = read_system(rnn)
        candidates = pivots.screen(pivots.reduce_system(system, pivots.base_regime(system)))
        assert len(candidates) == 1  # and is solved for once


def test_float32_sums_are_not_rounded() -> None:
    """0.9 + 0.1 in float32 is 1 − 2.2e-8 or 1, depending on where it is added."""
    rnn = build([0.9], [[0.1]], [1.0], 1, dtype=torch.float32)
    exact = float(np.float64(np.float32(0.9)) + np.float64(np.float32(0.1)))
    points = fixed_points(rnn)
    assert float(points.z[-1, 0]) == pytest.approx(1 / (1 - exact), rel=1e-6)
    assert points.stability[-1] == "marginal"


# --- integrators ---


def test_line_attractor() -> None:
    """A unit that holds its value where the other is off: a half-line of fixed points, ending at the border."""
    # z1' = z1, z2' = 0.5 z1 + 0.2 φ(z2) − 1: off (z2 = 0.5 z1 − 1 ≤ 0) up to z1 = 2, on from there
    rnn = build([0.0, 0.0], [[1.0, 0.0], [0.5, 0.2]], [0.0, -1.0], 1)
    points = fixed_points(rnn)
    assert len(points.z) == 0  # nothing is isolated, nor is the point that both lines share
    assert points.complete
    off, on = points.continua
    for piece, ends in ((off, [-math.inf, 2.0]), (on, [2.0, math.inf])):
        slope = 0.5 / (1 - 0.2 * float(piece.code[0]))
        direction = np.array([1.0, slope]) / math.hypot(1.0, slope)
        np.testing.assert_allclose(piece.directions.numpy(), [direction], atol=1e-12)
        along = piece.z.numpy()[0] + piece.extent.numpy()[0] * direction[0]
        np.testing.assert_allclose(along, ends, atol=1e-9)
        torch.testing.assert_close(rnn.step(piece.z), piece.z)
    assert (off.code.tolist(), on.code.tolist()) == ([False], [True])


@pytest.mark.parametrize("h", [0.0, 0.5])
@pytest.mark.parametrize("perturbation", [0.0, 2e-17, 2e-16])
def test_a_single_integrator(h: float, perturbation: float) -> None:
    """I − J is tiny as a whole, so that it has no larger singular value to be singular by."""
    points = fixed_points(build([1.0], [[perturbation]], [h], 0))
    assert [piece.extent.tolist() for piece in points.continua] == [[[-math.inf, math.inf]]] * (h == 0)
    assert len(points.z) == 0
    assert points.complete


def test_nearly_an_integrator() -> None:
    """z' = (1 + 1e-10) z + h rests at −1e10 h, unless the tolerance has it for an integrator."""
    rnn = build([1.0], [[1e-10]], [0.5], 0)
    points = fixed_points(rnn)
    assert points.z.tolist() == [[pytest.approx(-5e9)]]
    assert points.complete
    tolerated = fixed_points(rnn, border_tolerance=1e-9, singular_tolerance=1e-9)
    assert len(tolerated.z) == 0
    assert not tolerated.complete  # there is a point, however far


def test_a_line_where_the_reduced_problem_vanishes() -> None:
    """One nonlinear unit: I − J in the regime reduces to a single entry of rounding error."""
    for W in ([[1.0, 0.0], [-0.5, 1.0]], [[1.0, 1.0], [-0.5, 0.0]]):
        points = fixed_points(build([0.5, 0.0], W, [0.0, 0.0], 1))
        assert [piece.code.tolist() for piece in points.continua] == [[True]]
        assert len(points.z) == 0


@pytest.mark.parametrize("perturbation", [0.0, 1e-10])
def test_segment_attractor(perturbation: float) -> None:
    """Two ReLUs push back outside of |z1| ≤ 1: a segment. Perturbed by less than a tolerance it stays one."""
    W = np.array([[1.0 + perturbation, -0.5, 0.5], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    rnn = build(np.zeros(3), W, [0.0, -1.0, -1.0], 2)  # z2 = z1 − 1, z3 = −z1 − 1
    points = fixed_points(rnn, border_tolerance=1e-9, singular_tolerance=1e-9)
    (piece,) = points.continua
    assert piece.code.tolist() == [False, False]
    np.testing.assert_allclose(piece.z.numpy(), [0.0, -1.0, -1.0], atol=1e-8)
    np.testing.assert_allclose(piece.directions.numpy(), [np.array([1.0, 1.0, -1.0]) / math.sqrt(3)], atol=1e-8)
    np.testing.assert_allclose(piece.extent.numpy(), [[-math.sqrt(3), math.sqrt(3)]], atol=1e-8)
    assert len(points.z) == 0
    assert points.complete == (perturbation == 0.0)
    exact = fixed_points(rnn)
    assert len(exact.continua) == (0 if perturbation else 1)
    assert len(exact.z) == (3 if perturbation else 0)  # its middle and its ends


def integrators_between_borders(lower: float) -> ALRNN:
    """z1 ≤ 1, z2 ≤ 2 and z1 ≥ −lower, z2 ≥ −2·lower: two integrators that four ReLUs push back to within."""
    W = np.zeros((6, 6))
    W[0, 0] = W[1, 1] = 1.0
    W[2:, :2] = [[1.0, 0.0], [-1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]
    W[0, 2:4] = W[1, 4:6] = [-0.5, 0.5]
    return build(np.zeros(6), W, [0.0, 0.0, -1.0, -lower, -2.0, -2.0 * lower], 4)


@pytest.mark.parametrize("lower", [1.0, -0.5])
def test_plane_attractor_with_borders(lower: float) -> None:
    """A rectangle; its edges and corners, which the neighbouring regimes hold, are part of it."""
    points = fixed_points(integrators_between_borders(lower))
    (piece,) = points.continua
    assert len(points.z) == 0
    assert points.complete
    assert piece.code.tolist() == [False] * 4
    torch.testing.assert_close(piece.directions @ piece.directions.T, torch.eye(2).double())
    corners = np.array([[1.0, 2.0], [1.0, -2.0 * lower], [-lower, 2.0], [-lower, -2.0 * lower]])
    z = piece.z.numpy()
    assert (z[2:] < -0.05).all()  # well inside
    np.testing.assert_allclose(z[2:], [z[0] - 1, -z[0] - lower, z[1] - 2, -z[1] - 2 * lower], atol=1e-12)
    coefficients = np.linalg.solve(piece.directions[:, :2].numpy().T, (corners - z[:2]).T)
    extent = np.stack((coefficients.min(axis=1), coefficients.max(axis=1)), axis=1)
    np.testing.assert_allclose(piece.extent.numpy(), extent, atol=1e-5)


def test_plane_attractor_without_an_end() -> None:
    (piece,) = fixed_points(build([], np.eye(2), [0.0, 0.0], 0)).continua
    assert piece.extent.tolist() == [[-math.inf, math.inf]] * 2
    W = np.eye(4)
    W[2:] = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]  # z3 = z1 − 1 and z4 = z2 − 2 push back from above
    W[0, 2] = W[1, 3] = -0.5
    (piece,) = fixed_points(build(np.zeros(4), W, [0.0, 0.0, -1.0, -2.0], 2)).continua
    assert piece.code.tolist() == [False, False]
    assert bool((piece.z[2:] < 0).all())
    assert bool(piece.extent.isinf().any(dim=1).all())


def test_integrator_that_is_read_by_none() -> None:
    """z1' = z1 + w·φ(z) + h1 with a column of zeros elsewhere: singular in every regime, consistent in one."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        W = rng.normal(size=(5, 5))
        W[:, 0] = [1.0, 0, 0, 0, 0]
        h = rng.normal(size=5)
        driven = fixed_points(build(np.zeros(5), W, h, 3))
        assert (len(driven.z), driven.continua, driven.complete) == (0, (), True)  # decided, not given up
        z = rng.normal(size=5)
        rectified = np.where(np.arange(5) >= 2, np.maximum(z, 0), z)
        points = fixed_points(build(np.zeros(5), W, z - W @ rectified, 3))
        (piece,) = (piece for piece in points.continua if piece.code.tolist() == (z[2:] > 0).tolist())
        np.testing.assert_allclose(piece.directions.numpy(), [[1.0, 0, 0, 0, 0]], atol=1e-12)
        assert piece.extent.tolist() == [[-math.inf, math.inf]]
        np.testing.assert_allclose(piece.z[1:].numpy(), z[1:], atol=1e-10)


def consistent_regimes(rnn: ALRNN) -> list[tuple[bool, ...]]:
    """By a linear program each: the singular regimes whose closure holds a fixed point."""
    h = plain(rnn)[2]
    consistent = []
    for code in itertools.product((False, True), repeat=rnn.nonlinear_units):
        K = np.eye(len(h)) - regime_map(rnn, code)
        if np.linalg.cond(K) > 1e9:
            bounds = [(None, None)] * rnn.linear_units + [(0, None) if bit else (None, 0) for bit in code]
            if linprog(np.zeros(len(h)), A_eq=K, b_eq=h, bounds=bounds).status == 0:
                consistent.append(code)
    return sorted(consistent, key=lambda code: code[::-1])


@pytest.mark.parametrize(("integrators", "perturbation"), [(1, 0.0), (1, 1e-10), (2, 0.0)])
def test_integrators_against_linear_programs(integrators: int, perturbation: float) -> None:
    """Undriven integrators that the others read: singular in every regime, lines or planes of points in some."""
    total = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(1 + integrators, 7))
        units = int(rng.integers(1, min(size - integrators, 4) + 1))
        W = rng.normal(size=(size, size)) * rng.uniform(0.3, 1.5)
        W[:integrators] = np.eye(integrators, size)
        h = np.concatenate((np.zeros(integrators), rng.normal(size=size - integrators)))
        expected = consistent_regimes(build(np.zeros(size), W, h, units))
        W[0, 0] += perturbation
        rnn = build(np.zeros(size), W, h, units)
        points = fixed_points(rnn, border_tolerance=1e-9, singular_tolerance=1e-9)
        assert [tuple(piece.code.tolist()) for piece in points.continua] == expected
        assert len(points.z) == 0
        assert points.complete == (perturbation == 0.0 or not expected)
        for piece in points.continua:
            assert len(piece.directions) == integrators
            middle = piece.extent[0].clamp(-1e3, 1e3).mean() if integrators == 1 else 0.0
            for z in (piece.z, piece.z + middle * piece.directions[0]):
                torch.testing.assert_close(rnn.step(z), z, rtol=1e-8, atol=1e-8)
        total += len(expected)
    assert total > 40


def is_part_of(z: Array, piece: Continuum) -> bool:
    offset, directions = z - piece.z.numpy(), piece.directions.numpy()
    along = directions @ offset
    sign = np.where(piece.code.numpy(), 1.0, -1.0)
    return bool(
        np.abs(offset - along @ directions).max() <= 1e-5 * max(1.0, np.abs(z).max())
        and (sign * z[len(z) - len(sign) :] >= -1e-5).all()
        and (along >= piece.extent[:, 0].numpy() - 1e-5).all()
        and (along <= piece.extent[:, 1].numpy() + 1e-5).all()
    )


def test_degenerate_networks_against_linear_programs() -> None:
    """Weights of few values: integrators, dead units, borders. Any solution in a closed regime is covered once."""
    isolated_points = lines = planes = 0
    for seed in range(250):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(1, 6))
        units = int(rng.integers(0, min(size, 4) + 1))
        W = rng.choice([-1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0], size=(size, size))
        h = rng.choice([-1.0, 0.0, 0.0, 0.5, 1.0], size=size)
        rnn = build(rng.choice([0.0, 0.0, 0.5, 1.0], size=size), W, h, units)
        points = fixed_points(rnn)
        assert points.complete
        for code in itertools.product((False, True), repeat=units):
            bounds = [(-40.0, 40.0)] * (size - units) + [(0.0, 40.0) if bit else (-40.0, 0.0) for bit in code]
            K = np.eye(size) - regime_map(rnn, code)
            for objective in (np.zeros(size), rng.normal(size=size)):
                solution = linprog(objective, A_eq=K, b_eq=h, bounds=bounds)
                if solution.status == 0:
                    isolated = np.abs(points.z.numpy() - solution.x).max(axis=1) < 1e-6
                    assert isolated.sum() <= 1
                    assert isolated.any() != any(is_part_of(solution.x, piece) for piece in points.continua), seed
        for z in [*points.z, *(piece.z for piece in points.continua)]:
            torch.testing.assert_close(rnn.step(z), z, rtol=1e-6, atol=1e-8)
        isolated_points += len(points.z)
        lines += sum(len(piece.directions) == 1 for piece in points.continua)
        planes += sum(len(piece.directions) > 1 for piece in points.continua)
    assert min(isolated_points, 4 * lines, 100 * planes) > 100


def test_integrator_in_some_regimes_only() -> None:
    """A rectified integrator: I − J is regular where it is off, singular where it is on."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(2, 8))
        units = int(rng.integers(1, min(size, 5) + 1))
        W = rng.normal(size=(size, size)) / math.sqrt(size)
        W[:, -1] = 0.0
        W[-1, -1] = 1.0
        rnn = build(np.zeros(size), W, rng.normal(size=size), units)
        points = fixed_points(rnn)
        check_against(points, brute_force(rnn), rnn, accuracy=1e-8)
        assert [tuple(piece.code.tolist()) for piece in points.continua] == consistent_regimes(rnn)
        assert points.complete


def test_a_continuum_within_a_border_is_reported_once() -> None:
    """An integrator beside a unit that rests exactly at zero."""
    points = fixed_points(build([0.0, 0.0], [[1.0, 0.0], [0.0, 0.5]], [0.0, 0.0], 1))
    (piece,) = points.continua
    assert piece.code.tolist() == [False]
    assert piece.extent.tolist() == [[-math.inf, math.inf]]
    assert len(points.z) == 0


def test_a_line_that_touches_its_regime_in_one_point() -> None:
    """z2 = z1 and z3 = −z1 are both off only at z1 = 0; where either is on, it pushes on."""
    W = np.array([[1.0, 0.5, -0.5], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    points = fixed_points(build(np.zeros(3), W, np.zeros(3), 2))
    assert not points.continua
    assert points.z.tolist() == [[0.0, 0.0, 0.0]]
    assert points.on_border.tolist() == [True]
    assert points.stability == ["marginal"]


# --- rational arithmetic: scales and nearly singular regimes ---


def parameters(A: Array, W: Array, h: Array, units: int) -> Recurrence:
    return Recurrence(torch.tensor(A), torch.tensor(W), None, torch.tensor(h), units)


def find(A: Array, W: Array, h: Array, units: int, **options: object) -> FixedPointSet:
    return fixed_points(parameters(A, W, h, units), **options)  # type: ignore[arg-type, return-value]


def solve(matrix: list[list[Fraction]], side: list[Fraction]) -> list[Fraction] | None:
    size = len(side)
    rows = [[*row, value] for row, value in zip(matrix, side, strict=True)]
    for column in range(size):
        pivot = next((row for row in range(column, size) if rows[row][column]), None)
        if pivot is None:
            return None
        rows[column], rows[pivot] = rows[pivot], rows[column]
        for row in range(size):
            if row != column and rows[row][column]:
                factor = rows[row][column] / rows[column][column]
                rows[row] = [a - factor * b for a, b in zip(rows[row], rows[column], strict=True)]
    return [row[-1] / row[index] for index, row in enumerate(rows)]


def exactly(A: Array, W: Array, h: Array, units: int) -> dict[tuple[bool, ...], Array]:
    """The isolated fixed points in rational arithmetic."""
    size = len(h)
    points = {}
    for code in itertools.product((False, True), repeat=units):
        slopes = [True] * (size - units) + list(code)
        matrix = [
            [
                Fraction(int(i == j)) * (1 - Fraction(float(A[i]))) - Fraction(float(W[i, j])) * slopes[j]
                for j in range(size)
            ]
            for i in range(size)
        ]
        z = solve(matrix, [Fraction(float(value)) for value in h])
        if z is not None and all((value > 0) == bit for value, bit in zip(z[size - units :], code, strict=True)):
            points[code] = np.array([float(value) for value in z])
    return points


def check_exactly(A: Array, W: Array, h: Array, units: int, accuracy: float = 1e-12) -> int:
    points, expected = find(A, W, h, units), exactly(A, W, h, units)
    assert {tuple(code) for code in points.code.tolist()} == set(expected)
    for code, z in zip(points.code.tolist(), points.z.numpy(), strict=True):
        np.testing.assert_allclose(z, expected[tuple(code)], rtol=accuracy)
    assert not points.continua
    return int(points.complete)


def rescale(A: Array, W: Array, h: Array, decades: float, rng: np.random.Generator) -> Parameters:
    scale = 10.0 ** rng.uniform(-decades, decades, len(h))
    return A, W * scale[:, None] / scale, h * scale


def random_parameters(rng: np.random.Generator) -> tuple[Array, Array, Array, int]:
    size = int(rng.integers(2, 7))
    units = int(rng.integers(1, min(size, 4) + 1))
    return (
        rng.uniform(0.0, 0.9, size),
        1.5 * rng.normal(size=(size, size)) / np.sqrt(size),
        rng.normal(size=size),
        units,
    )


@pytest.mark.parametrize("decades", [0, 3, 5])
def test_results_do_not_depend_on_the_scales_of_units(decades: int) -> None:
    kinds = Counter[str]()
    for system in rescaled.systems(80, decades, seed=1):
        points, expected = rescaled.search(system), rescaled.brute_force(system)
        assert rescaled.differences(system, points, expected) == []
        assert points.complete
        kinds[system.kind] += len(expected.points) + len(expected.continua)
    assert min(kinds[kind] for kind in rescaled.KINDS) > 10


def test_brute_force_is_compared_in_full() -> None:
    """A result with a point less, a point more, or another index sum is seen to be wrong."""
    system = next(rescaled.systems(1, 3))
    points, expected = rescaled.search(system), rescaled.brute_force(system)
    less = expected._replace(points={}, index_sum=expected.index_sum + 7)
    assert len(rescaled.differences(system, points, less)) == len(expected.points) + 1
    more = expected._replace(points=expected.points | {(True,) * 30: system.h})
    assert rescaled.differences(system, points, more) == [f"missed point {(True,) * 30}"]


@pytest.mark.parametrize("units", [0, 1, 8, 21])
def test_a_chain_in_which_each_unit_is_twice_the_one_before(units: int) -> None:
    W = np.diag(np.full(20, 2.0), k=-1)
    W[0, 0] = 0.999
    h = np.zeros(21)
    h[0] = 0.001
    points = find(np.zeros(21), W, h, units)
    np.testing.assert_allclose(points.z.numpy(), [2.0 ** np.arange(21)], rtol=1e-12)
    assert (points.complete, points.index_sum) == (units <= 20, 1)


def test_chains_of_slow_units() -> None:
    """1 − λ down to 1e-8 and weights of 1e-3 to 1e3: states up to 1e31."""
    for seed in range(60):
        rng = np.random.default_rng(seed)
        order = rng.permutation(8)
        W = np.zeros((8, 8))
        W[order, order] = 1.0 - 10.0 ** rng.uniform(-8.0, 0.0, 8)
        W[order[1:], order[:-1]] = rng.choice([-1.0, 1.0], 7) * 10.0 ** rng.uniform(-3.0, 3.0, 7)
        assert check_exactly(np.zeros(8), W, rng.normal(size=8), 1 + seed % 3)


def test_large_and_small_parameters() -> None:
    for seed in range(40):
        rng = np.random.default_rng(seed)
        A, W, h, units = random_parameters(rng)
        assert check_exactly(A, W, h * 10.0 ** rng.uniform(-12.0, 12.0, len(h)), units)
        assert check_exactly(A, W * 10.0 ** rng.uniform(-6.0, 6.0, W.shape), h, units)
        single = (np.float64(np.float32(values)) for values in rescale(A, W, h, 5.0, rng))
        assert check_exactly(*single, units)


def test_the_balanced_system_is_the_same_map() -> None:
    for seed in range(20):
        rng = np.random.default_rng(seed)
        A, W, h, units = random_parameters(rng)
        A, W, h = rescale(A, W, h, 5.0, rng)
        plain = read_system(parameters(A, W, h, units))
        balanced = balance(plain)
        assert (np.log2(balanced.scale) % 1 == 0).all()
        np.testing.assert_array_equal(balanced.coupling * balanced.scale[:, None] / balanced.scale, plain.coupling)
        np.testing.assert_array_equal(balanced.drive * balanced.scale, plain.drive)


def test_residuals_have_twice_the_digits() -> None:
    rng = np.random.default_rng(0)
    A, W, h, units = random_parameters(rng)
    system = read_system(parameters(A, W, h, units))
    z, codes = rng.normal(size=(5, len(h))), rng.random((5, units)) < 0.5
    for state, code, rest in zip(z, codes, exact_residual(system, z, codes), strict=True):
        slopes = np.append(np.ones(len(h) - units), code)
        for i in range(len(h)):
            terms = [Fraction(h[i]), -Fraction(state[i]), Fraction(A[i]) * Fraction(state[i])]
            terms += [Fraction(W[i, j]) * Fraction(state[j]) * int(slopes[j]) for j in range(len(h))]
            assert rest[i] == pytest.approx(float(sum(terms)), rel=1e-15)


@pytest.mark.parametrize("share", [1e-6, 1e-8, 1e-10, 1e-12])
@pytest.mark.parametrize("decades", [0, 5])
def test_nearly_singular_regimes_are_solved(share: float, decades: float) -> None:
    """I − J with all units on has a singular value of that share of the largest one, and a fixed point there."""
    for seed in range(15):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(2, 7))
        left, values, right = np.linalg.svd(rng.normal(size=(size, size)))
        values[-1] = share * values[0]
        K, z = left @ np.diag(values) @ right, np.abs(rng.normal(size=size))
        parameters = rescale(np.zeros(size), np.eye(size) - K, K @ z, decades, rng)
        assert check_exactly(*parameters, int(rng.integers(1, min(size, 4) + 1)), accuracy=1e-10)


@pytest.mark.parametrize("share", [1e-15, 1e-16])
def test_regimes_that_are_singular_up_to_rounding_hold_a_line(share: float) -> None:
    """The fixed point, wherever rounding puts it, lies on the line that is reported."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        left, values, right = np.linalg.svd(rng.normal(size=(4, 4)))
        values[-1] = share * values[0]
        K, z = left @ np.diag(values) @ right, np.abs(rng.normal(size=4))
        points = find(np.zeros(4), np.eye(4) - K, K @ z, 1)
        piece = next(piece for piece in points.continua if piece.code.tolist() == [True])
        offset = z - piece.z.numpy()
        along = piece.directions.numpy() @ offset
        np.testing.assert_allclose(offset, along @ piece.directions.numpy(), atol=1e-10)
        assert piece.extent[0, 0] <= along[0] <= piece.extent[0, 1]
        if share == 1e-15:
            assert not points.complete


@pytest.mark.parametrize("integrators", [1, 2])
@pytest.mark.parametrize("driven", [False, True])
def test_integrators_in_mixed_directions(integrators: int, driven: bool) -> None:
    """They stay after rescaling; with a drive there is no fixed point. Rounding makes some not quite singular."""
    certain = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        linear, units = int(rng.integers(3, 6)), int(rng.integers(1, 4))
        size = linear + units
        Q, _ = np.linalg.qr(rng.normal(size=(linear, linear)))
        values = np.append(np.ones(integrators), rng.uniform(-0.9, 0.9, linear - integrators))
        W, h = 0.8 * rng.normal(size=(size, size)) / np.sqrt(size), rng.normal(size=size)
        across = np.eye(linear) - Q[:, :integrators] @ Q[:, :integrators].T
        W[:linear, :linear] = Q @ np.diag(values) @ Q.T
        W[:linear, linear:] = across @ W[:linear, linear:]
        h[:linear] = across @ h[:linear] + 0.1 * driven * Q[:, 0]
        plain = find(np.zeros(size), W, h, units)
        scaled = find(*rescale(np.zeros(size), W, h, 5.0, rng), units)
        for points in (plain, scaled):
            certain += points.complete
            assert len(points.z) == 0
            assert bool(points.continua) or driven
        codes = [[(piece.code.tolist(), len(piece.directions)) for piece in one.continua] for one in (plain, scaled)]
        assert codes[0] == codes[1]
        assert not (driven and codes[0])
    assert certain > 15


def test_a_point_that_rounding_decides_is_not_complete() -> None:
    """A drive of 1e-10 beside terms of 1: an integrator, or a point that is as far away as rounding puts it."""
    assert len(find(np.zeros(2), np.array([[1.0, 0.0], [1.0, 0.5]]), np.array([0.0, 1.0]), 0).continua) == 1
    W = np.array([[1.0 - 1e-14, 1.0, -1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert not find(np.zeros(3), W, np.array([0.0, 1.0, 1.0 - 1e-11]), 0).complete
