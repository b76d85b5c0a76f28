"""Fixed points of badly scaled and nearly singular networks, against extended precision and rational arithmetic."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from fractions import Fraction
from pathlib import Path

import networks
import numpy as np
import pytest
import torch
from networks import Array
from scripts import load_script

from lightning_alrnn.analysis import pivots
from lightning_alrnn.analysis.cycle_search import cycles
from lightning_alrnn.analysis.fixed_point_search import FixedPointSet, fixed_points
from lightning_alrnn.analysis.system import balance, exact_residual, read_system
from lightning_alrnn.nn import Recurrence

rescaled = load_script(Path(__file__).parents[2] / "benchmarks" / "rescaled.py")


def parameters(A: Array, W: Array, h: Array, units: int) -> Recurrence:
    return Recurrence(torch.tensor(A), torch.tensor(W), None, torch.tensor(h), units)


def find(A: Array, W: Array, h: Array, units: int, **options: object) -> FixedPointSet:
    found = fixed_points(parameters(A, W, h, units), **options)  # type: ignore[arg-type]
    assert isinstance(found, FixedPointSet)
    return found


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
    found = {}
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
            found[code] = np.array([float(value) for value in z])
    return found


def check_exactly(A: Array, W: Array, h: Array, units: int, accuracy: float = 1e-12) -> int:
    found, expected = find(A, W, h, units), exactly(A, W, h, units)
    assert {tuple(code) for code in found.code.tolist()} == set(expected)
    for code, z in zip(found.code.tolist(), found.z.numpy(), strict=True):
        np.testing.assert_allclose(z, expected[tuple(code)], rtol=accuracy)
    assert not found.continua
    return int(found.complete)


def rescale(A: Array, W: Array, h: Array, decades: float, rng: np.random.Generator) -> tuple[Array, Array, Array]:
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


# --- scales ---


@pytest.mark.parametrize("decades", [0, 3, 5])
def test_what_is_found_does_not_depend_on_the_scales_of_units(decades: int) -> None:
    kinds = Counter[str]()
    for system in rescaled.systems(80, decades, seed=1):
        found, expected = rescaled.search(system), rescaled.brute_force(system)
        assert rescaled.differences(system, found, expected) == []
        assert found.complete
        kinds[system.kind] += len(expected.points) + len(expected.continua)
    assert min(kinds[kind] for kind in rescaled.KINDS) > 10


def test_brute_force_is_compared_in_full() -> None:
    """A result with a point less, a point more, or another index sum is seen to be wrong."""
    system = next(system for system in rescaled.systems(40, 3) if system.kind == "random")
    found, expected = rescaled.search(system), rescaled.brute_force(system)
    assert rescaled.differences(system, found, expected) == []
    less = expected._replace(points={}, index_sum=expected.index_sum + 7)
    assert len(rescaled.differences(system, found, less)) == len(expected.points) + 1
    more = expected._replace(points=expected.points | {(True,) * 30: system.h})
    assert rescaled.differences(system, found, more) == [f"missed point {(True,) * 30}"]


def test_a_large_unit_behind_a_slow_one() -> None:
    found = find(np.zeros(2), np.array([[0.999, 0.0], [2000.0, 0.0]]), np.array([0.001, -1.0]), 1)
    np.testing.assert_allclose(found.z.numpy(), [[1.0, 1999.0]], rtol=1e-12)
    assert (found.complete, found.index_sum) == (True, 1)


@pytest.mark.parametrize("units", [0, 1, 8, 21])
def test_a_chain_in_which_each_unit_is_twice_the_one_before(units: int) -> None:
    W = np.diag(np.full(20, 2.0), k=-1)
    W[0, 0] = 0.999
    h = np.zeros(21)
    h[0] = 0.001
    found = find(np.zeros(21), W, h, units)
    np.testing.assert_allclose(found.z.numpy(), [2.0 ** np.arange(21)], rtol=1e-12)
    assert (found.complete, found.index_sum) == (units <= 20, 1)


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
    found = exact_residual(system, z, codes)
    for state, code, rest in zip(z, codes, found, strict=True):
        slopes = np.append(np.ones(len(h) - units), code)
        for i in range(len(h)):
            terms = [Fraction(h[i]), -Fraction(state[i]), Fraction(A[i]) * Fraction(state[i])]
            terms += [Fraction(W[i, j]) * Fraction(state[j]) * int(slopes[j]) for j in range(len(h))]
            assert rest[i] == pytest.approx(float(sum(terms)), rel=1e-15)


# --- nearly singular regimes ---


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
        found = find(np.zeros(4), np.eye(4) - K, K @ z, 1)
        piece = next(piece for piece in found.continua if piece.code.tolist() == [True])
        offset = z - piece.z.numpy()
        along = piece.directions.numpy() @ offset
        np.testing.assert_allclose(offset, along @ piece.directions.numpy(), atol=1e-10)
        assert piece.extent[0, 0] <= along[0] <= piece.extent[0, 1]
        if share == 1e-15:
            assert not found.complete


@pytest.mark.parametrize("integrators", [1, 2])
@pytest.mark.parametrize("driven", [False, True])
def test_integrators_in_mixed_directions(integrators: int, driven: bool) -> None:
    """They hold after rescaling; what drives them leaves no fixed point. Rounding leaves some not quite singular."""
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
        for found in (plain, scaled):
            certain += found.complete
            assert len(found.z) == 0
            assert bool(found.continua) or driven
        codes = [[(piece.code.tolist(), len(piece.directions)) for piece in one.continua] for one in (plain, scaled)]
        assert codes[0] == codes[1]
        assert not (driven and codes[0])
    assert certain > 15


def test_what_rounding_decides_is_not_complete() -> None:
    """A drive of 1e-10 beside terms of 1: an integrator, or a point that is as far away as rounding puts it."""
    found = find(np.zeros(2), np.array([[1.0, 0.0], [1.0, 0.5]]), np.array([0.0, 1.0]), 0)
    assert len(found.continua) == 1
    W = np.array([[1.0 - 1e-14, 1.0, -1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert not find(np.zeros(3), W, np.array([0.0, 1.0, 1.0 - 1e-11]), 0).complete


# --- time ---


def test_all_regimes_are_searched_where_the_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    rnn = networks.random_map(24, 15, 1.0, 0)
    everything = fixed_points(rnn)
    assert (everything.method, everything.complete, everything.regimes_searched) == ("exhaustive", True, 2**15)
    for options, method in (({}, "heuristic"), ({"box": 10.0}, "certified")):
        hurried = fixed_points(rnn, time_limit=0.0, **options)  # type: ignore[arg-type]
        assert (hurried.method, hurried.complete) == (method, False)
    assert fixed_points(rnn, method="exhaustive", time_limit=0.0).complete  # asked for

    calls = []
    leaves = pivots._screen_leaves

    def count(*args: object) -> object:
        calls.append(1)
        return leaves(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(pivots, "_screen_leaves", count)
    assert cycles(networks.random_map(6, 5, 1.0, 0), 3, time_limit=0.0).method == "heuristic"
    assert len(calls) == 1  # 2^12 of the 2^15 tell


def test_twenty_units_in_time() -> None:
    rnn = networks.random_map(50, 20, 1.0, 0)
    start = time.process_time()
    found = fixed_points(rnn)
    assert found.complete
    assert time.process_time() - start < 10.0  # measured: less than 2 s


# --- what else searches ---


def test_cycles_of_rescaled_networks() -> None:
    total = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        A, W, h = rng.uniform(0.0, 0.9, 4), 2.0 * rng.normal(size=(4, 4)), rng.normal(size=4)
        scale = 10.0 ** rng.uniform(-4.0, 4.0, 4)
        plain = cycles(parameters(A, W, h, 2), 3)
        scaled = cycles(parameters(A, W * scale[:, None] / scale, h * scale, 2), 3)
        assert plain.complete
        assert scaled.complete
        assert torch.equal(plain.code, scaled.code)
        torch.testing.assert_close(scaled.z / torch.tensor(scale), plain.z, rtol=1e-8, atol=1e-9)
        total += len(plain.z)
    assert total > 2


def test_certificates_of_rescaled_networks() -> None:
    """Whatever box is proven to hold no other point holds none."""
    proven = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        A, W, h, units = random_parameters(rng)
        A, W, h = rescale(A, W, h, 3.0, rng)
        everything = find(A, W, h, units)
        radius = 10.0 ** rng.uniform(0.0, 4.0)
        found = find(A, W, h, units, method="certified", box=radius, restarts=0)
        inside = everything.z[:, len(h) - units :].abs().amax(dim=1) <= radius
        codes = {tuple(code) for code in found.code.tolist()}
        if found.box is not None:
            proven += 1
            assert {tuple(code) for code in everything.code[inside].tolist()} <= codes
        assert codes <= {tuple(code) for code in everything.code.tolist()}
    assert proven > 10
