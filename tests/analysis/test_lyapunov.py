"""Lyapunov exponents against eigenvalues, multipliers and integrals."""

from __future__ import annotations

import math

import networks
import numpy as np
import pytest
import torch

from lightning_alrnn.analysis.cycle_search import cycles
from lightning_alrnn.analysis.lyapunov import LargestExponent, largest_exponent, lyapunov_spectrum
from lightning_alrnn.nn import ALRNN


def test_a_fixed_point_has_the_logarithms_of_its_eigenvalues() -> None:
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(4, 4))
    values = np.array([1.5, -0.8, 0.3, 0.05])
    W = basis @ np.diag(values) @ np.linalg.inv(basis)
    found = lyapunov_spectrum(networks.build([], W, np.zeros(4), 0), torch.zeros(2, 400, 4), warm_up=200)
    expected = torch.from_numpy(np.log(np.abs(values)))
    torch.testing.assert_close(found.mean, expected, atol=1e-6, rtol=0)
    torch.testing.assert_close(found.exponents, expected.expand(2, 4), atol=1e-6, rtol=0)
    assert found.steps == 200


def test_skew_tent_map() -> None:
    """Slopes 1/p and −1/(1−p) have uniform density: λ = −p ln p − (1−p) ln(1−p)."""
    p = 0.4
    # x = z + p; z' = (z + p)/p − p below 0, (1 − p − z)/(1 − p) − p above
    left, right = 1 / p, -1 / (1 - p)
    rnn = networks.build([left], [[right - left]], [1.0 - p], 1)
    z = torch.linspace(-0.39, 0.59, 100, dtype=torch.float64)[:, None] + 1e-3 * math.sqrt(2)
    orbit = [z]
    for _ in range(400):
        orbit.append(rnn.step(orbit[-1]).detach())
    found = lyapunov_spectrum(rnn, torch.stack(orbit, dim=1), warm_up=20)
    expected = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert float(found.mean) == pytest.approx(expected, abs=0.01)
    assert found.kaplan_yorke.tolist() == [1.0] * 100


def test_a_cycle_has_those_of_its_multipliers() -> None:
    rnn = networks.build([0.4], [[-2.4]], [1.0], 1)
    (index,) = [row for row, kind in enumerate(cycles(rnn, 2).stability) if kind == "stable"]
    orbit = cycles(rnn, 2).z[index].repeat(50, 1)[None]
    assert lyapunov_spectrum(rnn, orbit).mean.tolist() == pytest.approx([math.log(0.8) / 2])


def test_a_part_of_the_spectrum_and_its_dimension() -> None:
    W = np.diag([1.2, 0.9, 0.5])
    rnn = networks.build([], W, np.zeros(3), 0)
    states = torch.zeros(1, 300, 3)
    found = lyapunov_spectrum(rnn, states, warm_up=200)
    first, second, third = np.log([1.2, 0.9, 0.5])
    assert found.kaplan_yorke.tolist() == pytest.approx([2 + (first + second) / abs(third)])
    part = lyapunov_spectrum(rnn, states, count=2, warm_up=200)
    torch.testing.assert_close(part.mean, found.mean[:2], atol=1e-6, rtol=0)
    assert part.kaplan_yorke.tolist() == [2.0]
    settled = lyapunov_spectrum(networks.build([], [[0.5]], [0.0], 0), torch.zeros(1, 5, 1))
    assert settled.kaplan_yorke.tolist() == [0.0]
    lost = lyapunov_spectrum(networks.build([], [[0.0]], [0.0], 0), torch.zeros(1, 5, 1))
    assert lost.mean.tolist() == [-math.inf]
    assert lost.kaplan_yorke.tolist() == [0.0]


def test_errors_say_what_is_wrong() -> None:
    rnn = networks.tent_map()
    with pytest.raises(ValueError, match=r"states must have shape \(batch, time, M\), got \(3, 1\)"):
        lyapunov_spectrum(rnn, torch.zeros(3, 1))
    with pytest.raises(ValueError, match="count must lie between 1 and M=1, got 2"):
        lyapunov_spectrum(rnn, torch.zeros(1, 3, 1), count=2)
    with pytest.raises(ValueError, match="warm_up must lie between 0 and T−1=2, got 3"):
        lyapunov_spectrum(rnn, torch.zeros(1, 3, 1), warm_up=3)
    with pytest.raises(ValueError, match="states must be finite"):
        lyapunov_spectrum(rnn, torch.full((1, 3, 1), math.nan))


def skew_tent(p: float) -> tuple[ALRNN, float]:
    """Slopes 1/p and −1/(1−p) on (−p, 1−p), and the exponent."""
    left, right = 1 / p, -1 / (1 - p)
    return networks.build([left], [[right - left]], [1.0 - p], 1), -p * math.log(p) - (1 - p) * math.log(1 - p)


def turn(factor: float, angle: float) -> np.ndarray:
    return factor * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def spiral(factor: float, angle: float, back: float) -> ALRNN:
    """A spiral in the plane that a third, rectified unit pushes back where its first entry was above 1."""
    W = np.zeros((3, 3))
    W[:2, :2] = turn(factor, angle)
    W[:2, 2] = -back, 0.3 * back
    W[2, 0] = 1.0
    return networks.build([0.0], W, [0.01, 0.0, -1.0], 1)


def agrees(found: LargestExponent, exact: float) -> bool:
    return found.exponent == exact or abs(found.exponent - exact) <= 3 * found.error + 1e-6


@pytest.mark.parametrize("p", [0.1, 0.23, 0.4, 0.47])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_chaos_within_three_standard_errors(p: float, batch: int) -> None:
    rnn, exact = skew_tent(p)
    starts = torch.from_numpy(np.random.default_rng(int(100 * p)).uniform(-p, 1 - p, (batch, 1)))
    found = largest_exponent(rnn, starts, max_steps=8192)
    assert agrees(found, exact)
    assert 0 < found.error < 0.02
    assert found.trajectories == batch
    assert found.settled == (found.error <= 0.02 * found.exponent)


def test_more_steps_until_the_error_is_small() -> None:
    rnn, exact = skew_tent(0.1)
    start = torch.full((1, 1), 0.3)
    rough, settled = (largest_exponent(rnn, start, max_error=bound) for bound in (0.02, 0.005))
    assert rough.steps == 8192 < settled.steps
    assert settled.error < 0.0065 < rough.error
    never = largest_exponent(rnn, start, max_steps=8192)
    assert (rough.settled, settled.settled, never.settled) == (True, True, False)
    assert all(agrees(found, exact) for found in (rough, settled, never))


@pytest.mark.parametrize("seed", range(30))
def test_points_and_cycles_have_the_logarithms_of_their_multipliers(seed: int) -> None:
    """Where a long run ends on a cycle, the product of its Jacobians says what the exponent is."""
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 6))
    units = [0, size, int(rng.integers(0, size + 1))][seed % 3]
    W = rng.normal(size=(size, size)) * rng.uniform(0.3, 1.2) / math.sqrt(size)
    if units == 0:
        W *= 0.9 / np.abs(np.linalg.eigvals(W)).max()
    rnn = networks.build(rng.uniform(-0.6, 0.6, units), W, rng.normal(size=size), units)
    starts = torch.from_numpy(rng.normal(size=(4, size)))
    z, exact = starts, torch.full((4,), torch.nan, dtype=torch.float64)
    for _ in range(2000):
        z = rnn.step(z).detach()
    orbit = [z]
    for _ in range(60):
        orbit.append(rnn.step(orbit[-1]).detach())
    for row in range(4):
        states = torch.stack(orbit)[:, row]
        period = next((k for k in range(1, 31) if (states[k:] - states[:-k]).abs().max() < 1e-9), 0)
        if period:
            product = torch.eye(size, dtype=torch.float64)
            for state in states[:period]:
                product = rnn.jacobian(state).detach() @ product
            exact[row] = torch.linalg.eigvals(product).abs().max().log() / period
    if not torch.isfinite(z).all(dim=1).any() or (z.abs() > 1e9).all():
        with pytest.raises(ValueError, match=r"all 4 trajectories grow beyond \|z\| = 1e\+09: there is no attractor"):
            largest_exponent(rnn, starts)
        return
    found = largest_exponent(rnn, starts, max_steps=8192)
    known = ~exact.isnan()
    assert known.any()
    assert (found.errors[known] == 0).all()
    torch.testing.assert_close(found.exponents[known], exact[known], atol=1e-6, rtol=0)
    if bool(known.all()):
        assert (found.exponent, found.error, found.settled) == (pytest.approx(float(exact.max()), abs=1e-6), 0, True)


@pytest.mark.parametrize("period", [2, 3, 5, 64])
def test_a_cycle_that_a_switch_drives(period: int) -> None:
    """A pulse that goes round a ring of rectified units and is half as large each time, so that it switches all."""
    W = np.roll(np.eye(period), 1, axis=0)
    W[0, -1] = 0.5
    starts = torch.zeros(1, period)
    starts[0, 0] = 1.0
    found = largest_exponent(networks.build(np.zeros(period), W, np.zeros(period), period), starts)
    assert (found.exponent, found.error) == (pytest.approx(math.log(0.5) / period), 0)


@pytest.mark.parametrize("factor", [0.5, 0.97, 0.9999, 0.999999, 1.0])
def test_slow_spirals_and_rings(factor: float) -> None:
    found = largest_exponent(networks.build([], turn(factor, 0.01), [0.0, 0.0], 0), torch.randn(3, 2))
    assert agrees(found, math.log(factor))
    assert (found.error, found.trajectories) == (0, 3)


def test_a_continuum_neither_parts_nor_joins() -> None:
    found = largest_exponent(networks.build([], np.diag([1.0, 0.5]), [0.0, 0.0], 0), torch.randn(5, 2))
    assert (found.exponent, found.error, found.settled) == (pytest.approx(0.0, abs=1e-12), 0, True)


def test_all_directions_lost() -> None:
    for W, units in (([[0.0]], 0), ([[0.0]], 1), (np.diag([2.0, 2.0], -1), 0)):
        size = len(W)
        found = largest_exponent(networks.build([0.0] * units, W, np.ones(size), units), torch.randn(2, size))
        assert (found.exponent, found.error, found.trajectories) == (-math.inf, 0, 2)


@pytest.mark.parametrize("factor", [1.003, 1.01, 1.03])
def test_an_unstable_spiral_that_a_unit_catches(factor: float) -> None:
    """What a stretch within the spiral says, its own logarithm, is not what 30,000 further steps do."""
    rnn = spiral(factor, 0.2, 0.8)
    starts = 0.1 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = largest_exponent(rnn, starts)
    W, h = rnn.W.detach().numpy(), rnn.h.detach().numpy()
    z, direction, log = starts.numpy(), np.ones((8, 3)), np.zeros(8)
    for step in range(40_000):
        slopes = np.stack((np.ones(8), np.ones(8), z[:, 2] > 0), axis=1)
        z, direction = (slopes * z) @ W.T + h, (slopes * direction) @ W.T
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction /= length
        log += np.log(length[:, 0]) * (step >= 10_000)
    assert found.settled
    assert abs(found.exponent - (log / 30_000).mean()) <= 3 * found.error + 1e-4
    assert math.log(factor) - found.exponent > 3 * found.error


def test_a_spiral_that_has_yet_to_be_caught_is_not_settled() -> None:
    rnn = spiral(1.0001, 0.2, 0.8)
    rnn.h.data[0] = 0.0
    starts = torch.tensor([[1e-6, 0.0, -1.0]], dtype=torch.float64)
    found = largest_exponent(rnn, starts, max_steps=16384)
    assert (found.settled, found.error) == (False, math.inf)
    assert found.exponent == pytest.approx(math.log(1.0001), rel=0.2)


def test_the_largest_of_several_attractors() -> None:
    """x → f(x) two steps later, f a skew tent map both on (0, 1) and on (2, 3): λ = λ_p / 2."""
    p, q = 0.1, 0.4
    breaks, slopes = np.array([p, 1.0, 2.0, 2.0 + q]), [1 / p, -1 / (1 - p), 2.0, 1 / q, -1 / (1 - q)]
    # x one step ago and x, then x one step ago less each break, rectified
    W = np.zeros((6, 6))
    W[0, 1], W[1, 0], W[1, 2:], W[2:, 1] = 1.0, slopes[0], np.diff(slopes), 1.0
    rnn = networks.build(np.zeros(4), W, [0.0, 0.0, *-breaks], 4)
    x = np.random.default_rng(0).uniform(0, 1, (12, 2)) + np.repeat([[0.0], [2.0]], 6, axis=0)
    starts = np.concatenate((x, x[:, :1] - breaks), axis=1)
    found = largest_exponent(rnn, torch.from_numpy(starts))
    low, high = (skew_tent(value)[1] / 2 for value in (p, q))
    assert agrees(found, high)
    assert found.trajectories == 6
    for exponents, errors, exact in zip(found.exponents.chunk(2), found.errors.chunk(2), (low, high), strict=True):
        assert ((exponents - exact).abs() <= 3 * errors + 1e-6).all()
        assert exponents.unique().numel() == 1


def test_those_that_diverge_do_not_count() -> None:
    rnn = networks.build([0.5], [[1.5]], [0.0], 1)  # 2 z above 0, z / 2 below
    found = largest_exponent(rnn, torch.tensor([[1.0], [-1.0]]))
    assert found.exponents.isnan().tolist() == [True, False]
    assert (found.exponent, found.trajectories) == (pytest.approx(math.log(0.5)), 1)
    for starts in (torch.ones(3, 1), torch.zeros(0, 1)):
        with pytest.raises(ValueError, match=f"all {len(starts)} trajectories grow beyond"):
            largest_exponent(rnn, starts)


def test_a_constant_input_moves_the_attractor() -> None:
    rnn = networks.build([0.5], [[-1.3]], [0.0], 1, C=[[1.0]])
    on, off = (largest_exponent(rnn, torch.zeros(1, 1), torch.tensor([value])).exponent for value in (1.0, -1.0))
    assert (on, off) == (pytest.approx(math.log(0.8)), pytest.approx(math.log(0.5)))


def test_a_large_network_follows_some_of_its_trajectories() -> None:
    rnn = networks.build([], 0.9 * np.linalg.qr(np.random.default_rng(0).normal(size=(150, 150)))[0], np.ones(150), 0)
    found = largest_exponent(rnn, torch.randn(70, 150))
    assert (found.exponent, found.trajectories) == (pytest.approx(math.log(0.9)), 70)


def test_what_the_largest_exponent_refuses() -> None:
    rnn = networks.tent_map()
    with pytest.raises(ValueError, match=r"states must have shape \(batch, M\), got \(1,\)"):
        largest_exponent(rnn, torch.zeros(1))
    with pytest.raises(ValueError, match="max_steps must be at least 1024, got 1000"):
        largest_exponent(rnn, torch.zeros(1, 1), max_steps=1000)
    with pytest.raises(ValueError, match="states must be finite"):
        largest_exponent(rnn, torch.full((1, 1), math.nan))
