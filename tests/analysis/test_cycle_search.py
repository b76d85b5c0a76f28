"""Cycles against brute force over all sequences of regimes, and closed forms."""

from __future__ import annotations

import itertools
import math

import networks
import numpy as np
import pytest
import torch

from lightning_alrnn.analysis.cycle_search import cycles
from lightning_alrnn.analysis.fixed_point_search import fixed_points
from lightning_alrnn.nn.alrnn import ALRNN


def lowest(codes: np.ndarray) -> bytes:
    return min(np.roll(codes, shift, axis=0).tobytes() for shift in range(len(codes)))


def brute_force(rnn: ALRNN, period: int) -> dict[bytes, np.ndarray]:
    """Solve for each of the 2^{kP} sequences; multipliers of the cycles that stay within their regimes."""
    _, _, h = networks.plain(rnn)
    units, size = rnn.nonlinear_units, rnn.hidden_size
    multipliers = {}
    for bits in itertools.product((False, True), repeat=period * units):
        codes = np.array(bits, dtype=bool).reshape(period, units)
        matrix, offset = np.eye(size), np.zeros(size)
        for code in codes:
            J = networks.regime_map(rnn, tuple(code))
            matrix, offset = J @ matrix, J @ offset + h
        if np.linalg.cond(np.eye(size) - matrix) > 1e9:
            continue
        z = np.linalg.solve(np.eye(size) - matrix, offset)
        states = [z]
        for _ in range(period - 1):
            states.append(rnn.step(torch.from_numpy(states[-1])).detach().numpy())
        nonlinear = np.stack(states)[:, size - units :]
        shorter = any(period % shift == 0 and np.allclose(states[shift], z) for shift in range(1, period))
        if ((nonlinear > 0) == codes).all() and not shorter:
            multipliers[lowest(codes)] = np.linalg.eigvals(matrix)
    return multipliers


def check(rnn: ALRNN, period: int) -> int:
    result, expected = cycles(rnn, period), brute_force(rnn, period)
    assert (result.method, result.certificate, result.complete) == ("exhaustive", "complete", True)
    assert result.sequences_searched == 2 ** (period * rnn.nonlinear_units)
    keys = [lowest(code) for code in result.code.numpy()]
    assert len(set(keys)) == len(keys)
    assert set(keys) == set(expected)
    for index, key in enumerate(keys):
        polynomial, polynomial_of_search = np.poly(expected[key]), np.poly(result.multipliers[index].numpy())
        np.testing.assert_allclose(polynomial_of_search, polynomial, atol=1e-7 * np.abs(polynomial).max())
        torch.testing.assert_close(rnn.step(result.z[index]), result.z[index].roll(-1, 0), rtol=1e-8, atol=1e-8)
    assert torch.equal(rnn.regime(result.z), result.code)
    return len(keys)


@pytest.mark.parametrize(("period", "count"), [*enumerate((2, 1, 2, 3, 6, 9, 18, 30), start=1)])
def test_tent_map(period: int, count: int) -> None:
    """x' = 1 − 2|x|: (1/k) Σ_{d|k} μ(d) 2^{k/d} cycles, with multipliers ±2^k."""
    result = cycles(networks.tent_map(), period)
    assert len(result.z) == count
    assert result.complete
    np.testing.assert_allclose(np.abs(result.multipliers.numpy()), 2.0**period)
    assert result.stability == ["unstable"] * count
    np.testing.assert_allclose(result.timescales.numpy(), -1 / math.log(2))
    assert float(result.residual.max()) < 1e-14
    heuristic = cycles(networks.tent_map(), period, method="heuristic", restarts=2000)
    assert (heuristic.complete, heuristic.certificate) == (False, "not certified")
    assert torch.equal(heuristic.code, result.code)


def test_random_networks_have_the_cycles_of_brute_force() -> None:
    total = 0
    for seed in range(30):
        rng = np.random.default_rng(seed)
        size = int(rng.integers(1, 6))
        units = int(rng.integers(1, min(size, 3) + 1))
        rnn = networks.random_map(size, units, float(rng.uniform(1.0, 4.0)), seed)
        for period in range(1, 7 // units):
            total += check(rnn, period)
    assert total > 40


def test_cycles_of_rescaled_networks() -> None:
    total = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        A, W, h = rng.uniform(0.0, 0.9, 4), 2.0 * rng.normal(size=(4, 4)), rng.normal(size=4)
        scale = 10.0 ** rng.uniform(-4.0, 4.0, 4)
        expected = cycles(networks.build(A, W, h, 2), 3)
        scaled = cycles(networks.build(A, W * scale[:, None] / scale, h * scale, 2), 3)
        assert expected.complete
        assert scaled.complete
        assert torch.equal(scaled.code, expected.code)
        torch.testing.assert_close(scaled.z / torch.tensor(scale), expected.z, rtol=1e-8, atol=1e-9)
        total += len(expected.z)
    assert total > 2


def test_period_one_is_the_fixed_points() -> None:
    for seed in range(20):
        rnn = networks.random_network(seed)
        result, points = cycles(rnn, 1), fixed_points(rnn)
        torch.testing.assert_close(result.z[:, 0], points.z)
        assert result.stability == points.stability


def test_a_stable_cycle_is_where_trajectories_end() -> None:
    """x' = 1 + 0.4 x below 0 and 1 − 2 x above: 7/9 → −5/9 → 7/9, with multiplier −0.8."""
    rnn = networks.build([0.4], [[-2.4]], [1.0], 1)
    assert cycles(rnn, 1).stability == ["unstable"]
    orbit = [torch.tensor([0.3], dtype=torch.float64)]
    for _ in range(400):
        orbit.append(rnn.step(orbit[-1]).detach())
    result = cycles(rnn, 2, seed_states=torch.stack(orbit[300:])[None], restarts=0, max_exhaustive_units=0)
    assert result.method == "heuristic"
    (index,) = [row for row, kind in enumerate(result.stability) if kind == "stable"]
    assert result.z[index, :, 0].tolist() == pytest.approx([7 / 9, -5 / 9])
    assert sorted(orbit[-1].tolist() + orbit[-2].tolist()) == pytest.approx([-5 / 9, 7 / 9])
    assert result.multipliers[index].real.tolist() == pytest.approx([-0.8])
    assert result.timescales[index].tolist() == pytest.approx([-2 / math.log(0.8)])


def test_cycles_that_are_not_isolated() -> None:
    """x' = 1 − φ(x): every x of 0 … 1 comes back after two steps."""
    result = cycles(networks.build([0.0], [[-1.0]], [1.0], 1), 2)
    assert len(result.z) == 0
    (piece,) = result.continua
    ends = piece.z + piece.extent[0][:, None, None] * piece.directions[0]
    assert sorted(ends[:, 0, 0].tolist()) == pytest.approx([0.0, 1.0])
    isolated = cycles(networks.build([0.0], [[-2.0]], [2.0], 1), 2)  # x' = 2 − 2 φ(x)
    assert isolated.z[:, :, 0].tolist() == [[2.0, -2.0]]


def test_a_three_cycle_on_the_border() -> None:
    """x' = 1 + 2x/3 below 0 and 1 − 2.5 x above: 0 → 1 → −1.5 → 0."""
    slope = 2.0 / 3.0
    rnn = networks.build([slope], [[-2.5 - slope]], [1.0], 1)
    result = cycles(rnn, 3)
    (row,) = [row for row, z in enumerate(result.z[:, :, 0].tolist()) if sorted(z) == pytest.approx([-1.5, 0.0, 1.0])]
    assert bool(result.on_border[row])


def test_linear_networks() -> None:
    """A rotation by 1/k of a turn makes every state a cycle of period k; other networks have none."""
    for period in (2, 3, 4, 6):
        angle = 2 * math.pi / period
        rotation = [[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]
        rnn = networks.build([], rotation, [1.0, 0.0], 0)
        result = cycles(rnn, period)
        assert len(result.z) == 0
        (piece,) = result.continua
        assert piece.directions.shape == (2, period, 2)
        for point in (piece.z, piece.z + piece.directions[0]):
            torch.testing.assert_close(rnn.step(point), point.roll(-1, 0))
        assert not cycles(rnn, 5).continua  # five steps do not close
        assert not cycles(rnn, 2 * period).continua  # twice round is not minimal
    assert len(cycles(networks.build([], [[0.5]], [1.0], 0), 1).z) == 1
    assert len(cycles(networks.build([], [[0.5]], [1.0], 0), 2).z) == 0


def test_inputs_and_parameters() -> None:
    rnn = networks.build([2.0], [[-4.0]], [0.0], 1, C=[[1.0]])
    result = cycles(rnn, 3, torch.tensor([1.0]))
    assert len(result.z) == 2
    torch.testing.assert_close(cycles(rnn.recurrence(), 3, torch.tensor([1.0])).z, result.z)


def test_long_cycles_do_not_overflow() -> None:
    rnn = networks.build([1e8], [[-2e8]], [1.0], 1)
    result = cycles(rnn, 40, restarts=10)
    assert (result.complete, len(result.z) > 0) == (False, True)
    assert not bool(result.multipliers.isnan().any())


def test_errors_say_what_is_wrong() -> None:
    for period, options, message in (
        (0, {}, "period must be at least 1, got 0"),
        (21, {"method": "exhaustive"}, "up to 20 nonlinear units, got 21"),
        (2, {"method": "certified"}, "'auto', 'exhaustive', 'heuristic', got 'certified'"),
        (2, {"max_exhaustive_units": 21}, "max_exhaustive_units must lie between 0 and 20, got 21"),
        (2, {"restarts": -1}, "restarts must not be negative, got -1"),
        (2, {"seed_states": torch.zeros(4, 1)}, r"seed_states must have shape \(batch, time, M\)"),
        (2, {"inputs": torch.full((1,), math.nan)}, "inputs must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            cycles(networks.tent_map(), period, **options)  # type: ignore[arg-type]


def test_trajectories_of_a_linear_network() -> None:
    turning = networks.build(np.zeros(0), [[0.0, -0.9], [0.9, 0.0]], [1.0, 0.0], 0)
    result = cycles(turning, 4, seed_states=torch.randn(3, 9, 2))
    assert result.certificate == "complete"
    assert len(result.z) == 0
