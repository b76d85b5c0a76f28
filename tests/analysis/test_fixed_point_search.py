"""Fixed points against brute force over all regimes, closed forms and planted points."""

from __future__ import annotations

import importlib
import itertools
import math
from collections import Counter
from typing import NamedTuple

import numpy as np
import pytest
import torch
from networks import Array, build, plain, random_network, regime_map
from numpy.typing import NDArray
from scipy.optimize import linprog

from lightning_alrnn.analysis import pivots
from lightning_alrnn.analysis.fixed_point_search import (
    Continuum,
    FixedPointSet,
    eigenvalues_of_regimes,
    fixed_points,
    timescales,
)
from lightning_alrnn.analysis.system import read_system
from lightning_alrnn.nn.alrnn import ALRNN

# the package exports the function under the name of its module
implementation = importlib.import_module("lightning_alrnn.analysis.fixed_point_search")

KINDS = ("stable", "saddle", "unstable", "marginal")


class Point(NamedTuple):
    code: tuple[bool, ...]
    z: Array
    eigenvalues: NDArray[np.complex128]


def brute_force(rnn: ALRNN, drive: Array | None = None, tolerance: float = 1e-9) -> list[Point]:
    """One M×M solve for each of the 2^P regimes; a sign may be wrong by the tolerance; equal points are one."""
    h = plain(rnn)[2] if drive is None else drive
    found: list[Point] = []
    for code in itertools.product((False, True), repeat=rnn.nonlinear_units):
        code = code[::-1]
        J = regime_map(rnn, code)
        K = np.eye(len(h)) - J
        if np.linalg.cond(K) > 1e9:
            continue
        z = np.linalg.solve(K, h)
        nonlinear = z[len(h) - len(code) :]
        sign = np.where(code, 1.0, -1.0)
        slack = tolerance * max(1.0, np.abs(z).max())
        if (sign * nonlinear >= -slack).all() and not any(
            np.abs(z - other.z).max() <= 1e-6 * max(1.0, np.abs(z).max()) for other in found
        ):
            strict = tuple(bool(value > slack) for value in nonlinear)
            found.append(Point(strict, z, np.linalg.eigvals(regime_map(rnn, strict))))
    return sorted(found, key=lambda point: point.code[::-1])


def check_against(found: FixedPointSet, expected: list[Point], rnn: ALRNN, *, accuracy: float = 1e-8) -> None:
    """All fields that follow from z and the code."""
    assert [tuple(code) for code in found.code.tolist()] == [point.code for point in expected]
    for index, point in enumerate(expected):
        z = found.z[index].numpy()
        size = max(1.0, np.abs(point.z).max())
        np.testing.assert_allclose(z, point.z, rtol=0, atol=accuracy * size)
        moduli = np.sort(np.abs(point.eigenvalues))[::-1]
        eigenvalues = found.eigenvalues[index].numpy()
        np.testing.assert_allclose(np.abs(eigenvalues), moduli, atol=1e-5)
        np.testing.assert_allclose(
            np.poly(eigenvalues), np.poly(point.eigenvalues), atol=1e-6 * np.abs(np.poly(point.eigenvalues)).max()
        )
        if np.abs(moduli - 1).min() > 1e-5:
            inside = (moduli < 1).sum()
            kind = {len(moduli): "stable", 0: "unstable"}.get(int(inside), "saddle")
            assert found.stability[index] == kind
        assert float(found.residual[index]) <= 1e-8 * size
    counts = Counter(found.stability)
    assert sum(counts[kind] for kind in KINDS) == len(found.z)
    assert torch.equal(found.code, rnn.regime(found.z))


def trained_like_network(seed: int) -> ALRNN:
    rng = np.random.default_rng(10_000 + seed)
    size = int(rng.integers(4, 13))
    units = int(rng.integers(1, min(size, 8) + 1))
    low_rank = rng.normal(size=(size, 2)) @ rng.normal(size=(2, size)) / size
    A = rng.uniform(0.85, 0.98, size)
    return build(A, rng.uniform(0.1, 1.0) * low_rank, 0.1 * rng.normal(size=size), units)


# --- brute force ---


def test_random_networks_have_the_fixed_points_of_brute_force() -> None:
    total, kinds = 0, Counter[str]()
    for seed in range(180):
        rnn = random_network(seed)
        found = fixed_points(rnn)
        expected = brute_force(rnn)
        check_against(found, expected, rnn)
        assert found.complete
        assert found.regimes_searched == 2**rnn.nonlinear_units
        assert not found.continua
        determinants = [np.linalg.det(np.eye(rnn.hidden_size) - regime_map(rnn, point.code)) for point in expected]
        assert found.index_sum == sum(np.sign(determinants))
        total += len(found.z)
        kinds.update(found.stability)
    assert total > 180  # the comparison is about something
    assert min(kinds[kind] for kind in ("stable", "saddle", "unstable")) > 5


def test_trained_like_networks_have_the_fixed_points_of_brute_force() -> None:
    total = 0
    for seed in range(60):
        rnn = trained_like_network(seed)
        found = fixed_points(rnn)
        check_against(found, brute_force(rnn), rnn, accuracy=1e-7)
        assert found.complete
        total += len(found.z)
    assert total > 30


def test_many_fixed_points() -> None:
    """P uncoupled units with two fixed points each: 2^P, one in every regime."""
    units = 9
    rnn = build(np.zeros(units), 3.0 * np.eye(units), -np.ones(units), units)  # z = 3 φ(z) − 1: −1 and 0.5
    found = fixed_points(rnn)
    assert len(found.z) == 2**units
    weight = 2 ** torch.arange(units)
    assert (found.code * weight).sum(1).tolist() == list(range(2**units))  # sorted by code
    assert torch.equal(found.z, torch.where(found.code, 0.5, -1.0).double())
    assert found.index_sum == 0
    assert Counter(found.stability) == {"stable": 1, "unstable": 1, "saddle": 2**units - 2}


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
            patch.setattr(implementation, "base_regime", lambda system, code=code: code)
            found = fixed_points(rnn)
        assert torch.equal(found.code, expected.code)
        torch.testing.assert_close(found.z, expected.z, rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("units", [13, 14])
def test_the_tree_is_the_same_in_subtrees(units: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """More units than one chunk takes, and small pivots everywhere, against solving each regime directly."""
    rng = np.random.default_rng(units)
    W = 3.0 * np.eye(units) + 0.3 * rng.normal(size=(units, units))
    rnn = build(np.zeros(units), W, -rng.uniform(0.5, 1.5, units), units)
    found = fixed_points(rnn, max_exhaustive_units=units)
    monkeypatch.setattr(pivots, "_SMALL_PIVOT", math.inf)
    directly = fixed_points(rnn, max_exhaustive_units=units)
    assert len(found.z) > 1
    assert torch.equal(found.code, directly.code)
    assert found.regimes_searched == 2**units
    assert found.complete


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
                patch.setattr(implementation, "base_regime", lambda system: np.zeros(3, dtype=np.bool_))
                found = fixed_points(build(np.zeros(3), np.eye(3) - K, K @ z, 3))
            where = [tuple(code) for code in found.code.tolist()].index((True, True, True))
            np.testing.assert_allclose(found.z[where].numpy(), z, atol=1e-9)


def test_ill_conditioned_regimes_are_solved_accurately() -> None:
    """I − J with a singular value of 1e-7, and a fixed point of moderate size nevertheless."""
    for seed in range(20):
        rng = np.random.default_rng(seed)
        left, values, right = np.linalg.svd(rng.normal(size=(6, 6)))
        values[-1] = 1e-7
        K, z = left @ np.diag(values) @ right, rng.uniform(0.5, 1.5, 6)
        found = fixed_points(build(np.zeros(6), np.eye(6) - K, K @ z, 2))
        assert float(found.residual[-1]) < 1e-14
        np.testing.assert_allclose(found.z[-1].numpy(), z, atol=1e-7)


# --- closed forms ---


@pytest.mark.parametrize("size", [1, 2])
def test_skew_tent_map(size: int) -> None:
    """z = x − 0.25 has slope 2 to the left of the kink and −1.5 to the right, where its fixed point is x = 0.4."""
    if size == 1:
        # z' = 2 z − 3.5 φ(z) + 0.375: right branch z = 0.375/2.5 = 0.15, x = 0.4; left branch z = −0.375
        rnn = build([2.0], [[-3.5]], [0.375], 1)
        expected = [-0.375, 0.15]
    else:
        # x linear, y = x − 0.25 rectified one step later: x' = 2 x − 3.5 φ(y) + 0.125, y' = x' − 0.25
        rnn = build([0.0, 0.0], [[2.0, -3.5], [2.0, -3.5]], [0.125, 0.125 - 0.25], 1)
        expected = [-0.375, 0.15]
    found = fixed_points(rnn)
    assert found.z[:, -1].tolist() == pytest.approx(expected)
    assert float(found.z[1, -1]) + 0.25 == pytest.approx(0.4)
    assert found.eigenvalues[:, 0].real.tolist() == pytest.approx([2.0, -1.5])
    assert found.stability == (["unstable"] * 2 if size == 1 else ["saddle"] * 2)
    assert found.index_sum == 0


def test_mutual_inhibition_has_two_stable_points_and_a_saddle() -> None:
    rnn = build([0.5, 0.5], [[0.0, -1.0], [-1.0, 0.0]], [1.0, 1.0], 2)
    found = fixed_points(rnn)
    assert found.stability == ["stable", "stable", "saddle"]
    np.testing.assert_allclose(found.z.numpy(), [[2.0, -2.0], [-2.0, 2.0], [2 / 3, 2 / 3]], atol=1e-14)
    assert found.code.tolist() == [[True, False], [False, True], [True, True]]
    np.testing.assert_allclose(found.eigenvalues[2].numpy(), [1.5, -0.5], atol=1e-14)
    np.testing.assert_allclose(found.timescales[0].numpy(), [-1 / math.log(0.5)] * 2)
    assert float(found.timescales[2, 0]) == pytest.approx(-1 / math.log(1.5))  # grows
    assert found.condition.tolist() == pytest.approx([np.linalg.cond([[0.5, 0], [1, 0.5]])] * 2 + [1.5 / 0.5])
    assert found.index_sum == 1


@pytest.mark.parametrize("units", [0, 3])
def test_inputs_and_single_regimes(units: int) -> None:
    """P=0 has one fixed point, (I − A − W)⁻¹ (C s + h); so has a network whose units stay on."""
    rng = np.random.default_rng(units)
    W, C, h, s = 0.1 * rng.normal(size=(3, 3)), rng.normal(size=(3, 2)), rng.normal(size=3), rng.normal(size=2)
    h += 10 if units else 0
    rnn = build(np.full(3, 0.5), W, h, units, C=C)
    found = fixed_points(rnn, torch.from_numpy(s).float())
    drive = C @ torch.from_numpy(s).float().double().numpy() + h
    np.testing.assert_allclose(found.z[0].numpy(), np.linalg.solve(0.5 * np.eye(3) - W, drive), rtol=1e-12)
    assert found.code.tolist() == [[True] * units]
    assert found.regimes_searched == 2**units
    assert found.complete
    torch.testing.assert_close(rnn.step(found.z, torch.from_numpy(s).float().double()), found.z)


def test_inputs_of_full_width() -> None:
    rnn = ALRNN(None, 3, 1)
    found = fixed_points(rnn, torch.tensor([1.0, 2.0, 3.0]))
    torch.testing.assert_close(rnn.double().step(found.z, torch.tensor([1.0, 2.0, 3.0]).double()), found.z)


def test_index_sum_does_not_depend_on_h() -> None:
    for seed in range(12):
        rnn = random_network(6 * seed + 1 if seed % 2 else 6 * seed)
        sums, counts = set(), set()
        for trial in range(12):
            generator = torch.Generator().manual_seed(trial)
            with torch.no_grad():
                rnn.h.normal_(generator=generator)
            found = fixed_points(rnn)
            sums.add(found.index_sum)
            counts.add(len(found.z))
        assert len(sums) == 1
    bounded = build([0.3] * 3, -np.ones((3, 3)), [1.0, 2.0, 3.0], 3)
    assert fixed_points(bounded).index_sum == 1


def test_marginal_and_timescales() -> None:
    rnn = build([0.0], [[-1.0]], [1.0], 0, C=None)
    assert fixed_points(rnn).stability == ["marginal"]  # λ = −1: a flip, no continuum
    assert timescales(torch.tensor([1.0, -1.0, 1j, 0.0, math.e, 1 / math.e])).tolist() == pytest.approx(
        [math.inf, math.inf, math.inf, 0.0, -1.0, 1.0]
    )
    nearly = build([0.0], [[-1.0 + 1e-4]], [1.0], 0)
    assert fixed_points(nearly).stability == ["stable"]
    assert fixed_points(nearly, marginal_tolerance=1e-3).stability == ["marginal"]


def test_rotations_are_judged_by_modulus() -> None:
    """Eigenvalues ±1.2i: their real part says nothing."""
    rnn = build([], [[0.0, -1.2], [1.2, 0.0]], [1.0, 0.0], 0)
    found = fixed_points(rnn)
    assert found.stability == ["unstable"]
    np.testing.assert_allclose(np.abs(found.eigenvalues.numpy()), 1.2)


def test_eigenvalues_of_regimes() -> None:
    rnn = random_network(7).float()
    codes = torch.randint(0, 2, (9, rnn.nonlinear_units), generator=torch.Generator().manual_seed(0))
    values = eigenvalues_of_regimes(rnn, codes)
    assert values.dtype == torch.complex128
    for code, row in zip(codes.tolist(), values.numpy(), strict=True):
        expected = np.linalg.eigvals(regime_map(rnn, tuple(map(bool, code))))
        np.testing.assert_allclose(np.poly(row), np.poly(expected), atol=1e-10)
        assert (np.diff(np.abs(row)) <= 0).all()
    assert eigenvalues_of_regimes(rnn, codes[:0]).shape == (0, rnn.hidden_size)


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
        found = fixed_points(rnn)
        near = np.abs(found.z.numpy() - z).max(axis=1) <= 1e-6 * max(1.0, np.abs(z).max())
        assert near.sum() == 1, seed
        assert found.on_border.tolist() == near.tolist(), seed
        assert found.code[near].tolist() == [(z[rnn.linear_units :] > 0).tolist()]
        others = [point for point in brute_force(rnn) if np.abs(point.z - z).max() > 1e-5 * max(1.0, np.abs(z).max())]
        assert len(found.z) == 1 + len(others)


def test_folds_split_into_two_points_or_none() -> None:
    """z' = 2 φ(z) + h: at h = 0 one point on the border; at h < 0 one on either side; at h > 0 none."""
    for h, count in ((0.0, 1), (-1e-4, 2), (1e-4, 0), (-1e-12, 2), (1e-12, 0)):
        found = fixed_points(build([0.0], [[2.0]], [h], 1))
        assert len(found.z) == count, h
        assert found.on_border.tolist() == [h == 0.0] * count


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
        found = fixed_points(rnn)
        assert int((found.z == 0).all(dim=1).sum()) == 1
        assert found.on_border.tolist() == [units > 0] * len(found.z)
        assert len(found.z) == 1
        system = read_system(rnn)
        candidates = pivots.screen(pivots.reduce_system(system, pivots.base_regime(system)))
        assert len(candidates) == 1  # and is solved for once


# --- single precision ---


def test_float32_weights_lose_no_point() -> None:
    """Computed in float64 from the float32 values: the same fixed points, to float64 accuracy."""
    for seed in range(60):
        rnn = (trained_like_network if seed % 2 else random_network)(seed).float()
        found = fixed_points(rnn)
        assert found.z.dtype == torch.float64
        expected = brute_force(rnn)
        assert [tuple(code) for code in found.code.tolist()] == [point.code for point in expected]
        for z, point in zip(found.z.numpy(), expected, strict=True):
            np.testing.assert_allclose(z, point.z, rtol=0, atol=1e-7 * max(1.0, np.abs(point.z).max()))


def test_float32_sums_are_not_rounded() -> None:
    """0.9 + 0.1 in float32 is 1 − 2.2e-8 or 1, depending on where it is added."""
    rnn = build([0.9], [[0.1]], [1.0], 1, dtype=torch.float32)
    exact = float(np.float64(np.float32(0.9)) + np.float64(np.float32(0.1)))
    found = fixed_points(rnn)
    assert float(found.z[-1, 0]) == pytest.approx(1 / (1 - exact), rel=1e-6)
    assert found.stability[-1] == "marginal"


# --- integrators ---


def test_line_attractor() -> None:
    """A unit that holds its value where the other is off: a half-line of fixed points, ending at the border."""
    # z1' = z1, z2' = 0.5 z1 + 0.2 φ(z2) − 1: off (z2 = 0.5 z1 − 1 ≤ 0) up to z1 = 2, on from there
    found = fixed_points(build([0.0, 0.0], [[1.0, 0.0], [0.5, 0.2]], [0.0, -1.0], 1))
    assert len(found.z) == 0  # nothing is isolated, nor is the point that both lines share
    assert found.complete
    off, on = found.continua
    for piece, ends in ((off, [(-math.inf), 2.0]), (on, [2.0, math.inf])):
        slope = 0.5 / (1 - 0.2 * float(piece.code[0]))
        direction = np.array([1.0, slope]) / math.hypot(1.0, slope)
        np.testing.assert_allclose(piece.directions.numpy(), [direction], atol=1e-12)
        along = piece.z.numpy()[0] + piece.extent.numpy()[0] * direction[0]
        np.testing.assert_allclose(along, ends, atol=1e-9)
        torch.testing.assert_close(build([0.0, 0.0], [[1.0, 0.0], [0.5, 0.2]], [0.0, -1.0], 1).step(piece.z), piece.z)
    assert off.code.tolist() == [False]
    assert on.code.tolist() == [True]


@pytest.mark.parametrize("h", [0.0, 0.5])
@pytest.mark.parametrize("perturbation", [0.0, 2e-17, 2e-16])
def test_a_single_integrator(h: float, perturbation: float) -> None:
    """I − J is tiny as a whole, so that it has no larger singular value to be singular by."""
    found = fixed_points(build([1.0], [[perturbation]], [h], 0))
    assert [piece.extent.tolist() for piece in found.continua] == [[[-math.inf, math.inf]]] * (h == 0)
    assert len(found.z) == 0
    assert found.complete


def test_nearly_an_integrator() -> None:
    """z' = (1 + 1e-10) z + h rests at −1e10 h, unless the tolerance has it for an integrator."""
    rnn = build([1.0], [[1e-10]], [0.5], 0)
    found = fixed_points(rnn)
    assert found.z.tolist() == [[pytest.approx(-5e9)]]
    assert found.complete
    tolerated = fixed_points(rnn, border_tolerance=1e-9, singular_tolerance=1e-9)
    assert len(tolerated.z) == 0
    assert not tolerated.complete  # there is a point, however far


def test_a_line_where_the_reduced_problem_vanishes() -> None:
    """One nonlinear unit: all that is left of I − J in the regime is a single entry of rounding error."""
    for W in ([[1.0, 0.0], [-0.5, 1.0]], [[1.0, 1.0], [-0.5, 0.0]]):
        found = fixed_points(build([0.5, 0.0], W, [0.0, 0.0], 1))
        assert [piece.code.tolist() for piece in found.continua] == [[True]]
        assert len(found.z) == 0


@pytest.mark.parametrize("perturbation", [0.0, 1e-10])
def test_segment_attractor(perturbation: float) -> None:
    """Two ReLUs push back outside of |z1| ≤ 1: a segment. Perturbed by less than a tolerance it stays one."""
    W = np.array([[1.0 + perturbation, -0.5, 0.5], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    rnn = build(np.zeros(3), W, [0.0, -1.0, -1.0], 2)  # z2 = z1 − 1, z3 = −z1 − 1
    found = fixed_points(rnn, border_tolerance=1e-9, singular_tolerance=1e-9)
    (piece,) = found.continua
    assert piece.code.tolist() == [False, False]
    np.testing.assert_allclose(piece.z.numpy(), [0.0, -1.0, -1.0], atol=1e-8)
    np.testing.assert_allclose(piece.directions.numpy(), [np.array([1.0, 1.0, -1.0]) / math.sqrt(3)], atol=1e-8)
    np.testing.assert_allclose(piece.extent.numpy(), [[-math.sqrt(3), math.sqrt(3)]], atol=1e-8)
    assert len(found.z) == 0
    assert found.complete == (perturbation == 0.0)
    kept = fixed_points(rnn)
    assert len(kept.continua) == (0 if perturbation else 1)
    assert len(kept.z) == (3 if perturbation else 0)  # its middle and its ends


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
    found = fixed_points(integrators_between_borders(lower))
    (piece,) = found.continua
    assert len(found.z) == 0
    assert found.complete
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
    found = fixed_points(build([], np.eye(2), [0.0, 0.0], 0))
    (piece,) = found.continua
    assert piece.extent.tolist() == [[-math.inf, math.inf]] * 2
    W = np.eye(4)
    W[2:] = [[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0]]  # z3 = z1 − 1 and z4 = z2 − 2 push back from above
    W[0, 2] = W[1, 3] = -0.5
    (piece,) = fixed_points(build(np.zeros(4), W, [0.0, 0.0, -1.0, -2.0], 2)).continua
    assert piece.code.tolist() == [False, False]
    assert bool((piece.z[2:] < 0).all())
    assert bool(piece.extent.isinf().any(dim=1).all())


def test_driven_integrator_has_no_fixed_point() -> None:
    for units in (0, 1, 4):
        size = 5
        W = 0.1 * np.random.default_rng(units).normal(size=(size, size))
        W[0] = 0.0
        W[0, 0] = 1.0
        found = fixed_points(build(np.zeros(size), W, [0.01] + [1.0] * (size - 1), units))
        assert len(found.z) == 0
        assert not found.continua
        assert found.complete  # decided, not given up


def test_integrator_that_is_read_by_none() -> None:
    """z1' = z1 + w·φ(z) + h1 with a column of zeros elsewhere: singular in every regime, consistent in one."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        W = rng.normal(size=(5, 5))
        W[:, 0] = [1.0, 0, 0, 0, 0]
        h = rng.normal(size=5)
        assert not fixed_points(build(np.zeros(5), W, h, 3)).continua
        z = rng.normal(size=5)
        rectified = np.where(np.arange(5) >= 2, np.maximum(z, 0), z)
        found = fixed_points(build(np.zeros(5), W, z - W @ rectified, 3))
        own = [piece for piece in found.continua if piece.code.tolist() == (z[2:] > 0).tolist()]
        assert len(own) == 1
        np.testing.assert_allclose(own[0].directions.numpy(), [[1.0, 0, 0, 0, 0]], atol=1e-12)
        assert own[0].extent.tolist() == [[-math.inf, math.inf]]
        np.testing.assert_allclose(own[0].z[1:].numpy(), z[1:], atol=1e-10)


def consistent_regimes(rnn: ALRNN) -> list[tuple[bool, ...]]:
    """By a linear program each: the singular regimes whose closure holds a fixed point."""
    h = plain(rnn)[2]
    found = []
    for code in itertools.product((False, True), repeat=rnn.nonlinear_units):
        K = np.eye(len(h)) - regime_map(rnn, code)
        if np.linalg.cond(K) > 1e9:
            bounds = [(None, None)] * rnn.linear_units + [(0, None) if bit else (None, 0) for bit in code]
            if linprog(np.zeros(len(h)), A_eq=K, b_eq=h, bounds=bounds).status == 0:
                found.append(code)
    return sorted(found, key=lambda code: code[::-1])


@pytest.mark.parametrize("perturbation", [0.0, 1e-10])
def test_integrators_against_linear_programs(perturbation: float) -> None:
    """One undriven integrator that the others read: singular in every regime, lines of fixed points in some."""
    total = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        size, units = int(rng.integers(2, 7)), 0
        units = int(rng.integers(1, min(size - 1, 4) + 1))
        W = rng.normal(size=(size, size)) * rng.uniform(0.3, 1.5)
        W[0] = 0.0
        W[0, 0] = 1.0
        h = np.concatenate(([0.0], rng.normal(size=size - 1)))
        expected = consistent_regimes(build(np.zeros(size), W, h, units))
        W[0, 0] += perturbation
        rnn = build(np.zeros(size), W, h, units)
        found = fixed_points(rnn, border_tolerance=1e-9, singular_tolerance=1e-9)
        assert [tuple(piece.code.tolist()) for piece in found.continua] == expected
        assert len(found.z) == 0
        assert found.complete == (perturbation == 0.0 or not expected)
        for piece in found.continua:
            middle = piece.extent[0].clamp(-1e3, 1e3).mean()
            for z in (piece.z, piece.z + middle * piece.directions[0]):
                torch.testing.assert_close(rnn.step(z), z, rtol=1e-8, atol=1e-8)
        total += len(expected)
    assert total > 40


def test_pairs_of_integrators_against_linear_programs() -> None:
    """Two undriven integrators: planes of fixed points."""
    total = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(3, 7))
        W = rng.normal(size=(size, size))
        W[:2] = np.eye(2, size)
        h = np.concatenate(([0.0, 0.0], rng.normal(size=size - 2)))
        rnn = build(np.zeros(size), W, h, int(rng.integers(1, min(size - 2, 3) + 1)))
        found = fixed_points(rnn)
        assert [tuple(piece.code.tolist()) for piece in found.continua] == consistent_regimes(rnn)
        assert all(len(piece.directions) == 2 for piece in found.continua)
        assert found.complete
        total += len(found.continua)
    assert total > 30


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
    points = lines = planes = 0
    for seed in range(250):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(1, 6))
        units = int(rng.integers(0, min(size, 4) + 1))
        W = rng.choice([-1.0, -0.5, 0.0, 0.0, 0.0, 0.5, 1.0, 1.0], size=(size, size))
        h = rng.choice([-1.0, 0.0, 0.0, 0.5, 1.0], size=size)
        rnn = build(rng.choice([0.0, 0.0, 0.5, 1.0], size=size), W, h, units)
        found = fixed_points(rnn)
        assert found.complete
        for code in itertools.product((False, True), repeat=units):
            bounds = [(-40.0, 40.0)] * (size - units) + [(0.0, 40.0) if bit else (-40.0, 0.0) for bit in code]
            K = np.eye(size) - regime_map(rnn, code)
            for objective in (np.zeros(size), rng.normal(size=size)):
                solution = linprog(objective, A_eq=K, b_eq=h, bounds=bounds)
                if solution.status == 0:
                    isolated = np.abs(found.z.numpy() - solution.x).max(axis=1) < 1e-6
                    assert isolated.sum() <= 1
                    assert isolated.any() != any(is_part_of(solution.x, piece) for piece in found.continua), seed
        for z in [*found.z, *(piece.z for piece in found.continua)]:
            torch.testing.assert_close(rnn.step(z), z, rtol=1e-6, atol=1e-8)
        points += len(found.z)
        lines += sum(len(piece.directions) == 1 for piece in found.continua)
        planes += sum(len(piece.directions) > 1 for piece in found.continua)
    assert min(points, 4 * lines, 100 * planes) > 100


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
        found = fixed_points(rnn)
        check_against(found, brute_force(rnn), rnn)
        assert [tuple(piece.code.tolist()) for piece in found.continua] == consistent_regimes(rnn)
        assert found.complete


def test_a_continuum_within_a_border_is_reported_once() -> None:
    """An integrator beside a unit that rests exactly at zero."""
    found = fixed_points(build([0.0, 0.0], [[1.0, 0.0], [0.0, 0.5]], [0.0, 0.0], 1))
    (piece,) = found.continua
    assert piece.code.tolist() == [False]
    assert piece.extent.tolist() == [[-math.inf, math.inf]]
    assert len(found.z) == 0


def test_a_line_that_touches_its_regime_in_one_point() -> None:
    """z2 = z1 and z3 = −z1 are both off only at z1 = 0; where either is on, it pushes on."""
    W = np.array([[1.0, 0.5, -0.5], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    found = fixed_points(build(np.zeros(3), W, np.zeros(3), 2))
    assert not found.continua
    assert found.z.tolist() == [[0.0, 0.0, 0.0]]
    assert found.on_border.tolist() == [True]
    assert found.stability == ["marginal"]


# --- visited regimes ---


def test_visited_regimes_mark_points() -> None:
    rnn = build([0.5, 0.5], [[0.0, -1.0], [-1.0, 0.0]], [1.0, 1.0], 2)
    found = fixed_points(rnn, visited=torch.tensor([[0, 0], [0, 1], [1, 1]]))
    assert found.visited.tolist() == [False, True, True]
    assert fixed_points(rnn).visited.tolist() == [False] * 3
    on_border, z = plant_on_border(3, 1)
    code = torch.from_numpy(z[on_border.linear_units :] >= 0)[None]  # visited on the other side only
    found = fixed_points(on_border, visited=code)
    assert found.visited.tolist() == found.on_border.tolist()


def test_too_many_units_for_all_regimes() -> None:
    units = 3
    rnn = build(np.zeros(units), 3.0 * np.eye(units), -np.ones(units), units)
    everything = fixed_points(rnn)
    assert len(everything.z) == 8
    visited = torch.cat((everything.code[:1], everything.code[:1], ~everything.code[:1]))
    found = fixed_points(rnn, visited=visited, max_exhaustive_units=units - 1, restarts=0)
    assert not found.complete
    assert (found.method, found.certificate, found.box) == ("heuristic", "not certified", None)
    torch.testing.assert_close(found.z, everything.z)  # a neighbour leads to the next
    assert found.visited.tolist() == [code in visited.tolist() for code in everything.code.tolist()]
    nothing = fixed_points(rnn, max_exhaustive_units=units - 1, restarts=0)
    assert not nothing.complete
    assert nothing.z.shape == (0, rnn.hidden_size)
    assert nothing.code.shape == (0, units)
    assert nothing.eigenvalues.shape == (0, rnn.hidden_size)
    assert nothing.regimes_searched == 0


def test_more_units_than_a_word_has_bits() -> None:
    units = 150
    rnn = build(np.zeros(units), 3.0 * np.eye(units), -np.ones(units), units)
    visited = torch.rand(40, units, generator=torch.Generator().manual_seed(0)) > 0.5
    visited[:, :130] = visited[0, :130]
    found = fixed_points(rnn, visited=visited, restarts=300)
    assert len(found.z) == 340  # one in every regime; there are too many to follow all their neighbours
    codes = {tuple(code) for code in found.code[found.visited].tolist()}
    assert codes == {tuple(code) for code in visited.tolist()}
    keys = [code[::-1] for code in found.code.tolist()]
    assert keys == sorted(keys)


# --- around it ---


def test_errors_say_what_is_wrong() -> None:
    rnn = random_network(3)
    for name in "AWCh":
        broken = random_network(3)
        with torch.no_grad():
            getattr(broken, name).view(-1)[0] = math.nan
        with pytest.raises(ValueError, match=f"parameter {name} must be finite"):
            fixed_points(broken)
    with pytest.raises(ValueError, match=r"inputs must have shape \(input_size,\) = \(1,\)"):
        fixed_points(rnn, torch.zeros(1, 1, 1))
    with pytest.raises(ValueError, match=r"inputs must have shape \(hidden_size,\) = \(3,\)"):
        fixed_points(ALRNN(None, 3, 1), torch.zeros(2))
    with pytest.raises(ValueError, match="inputs must be finite"):
        fixed_points(rnn, torch.full((1,), math.inf))
    with pytest.raises(ValueError, match="regimes must have shape"):
        fixed_points(rnn, visited=torch.zeros(2, rnn.nonlinear_units + 1))
    with pytest.raises(ValueError, match="regimes must have shape"):
        eigenvalues_of_regimes(rnn, torch.zeros(rnn.nonlinear_units))
    with pytest.raises(ValueError, match="max_exhaustive_units"):
        fixed_points(rnn, max_exhaustive_units=21)
    with pytest.raises(ValueError, match="border_tolerance"):
        fixed_points(rnn, border_tolerance=-1.0)


def test_the_network_is_left_alone() -> None:
    rnn = random_network(7).float().requires_grad_(True)
    before = {name: value.clone() for name, value in rnn.state_dict().items()}
    default, threads = torch.get_default_dtype(), torch.get_num_threads()
    found = fixed_points(rnn)
    again = fixed_points(rnn)
    assert not found.z.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in rnn.state_dict().items())
    assert (torch.get_default_dtype(), torch.get_num_threads()) == (default, threads)
    assert torch.equal(found.z, again.z)
    assert torch.equal(found.eigenvalues, again.eigenvalues)
