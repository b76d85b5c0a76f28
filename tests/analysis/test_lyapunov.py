"""Lyapunov exponents against eigenvalues, multipliers and integrals."""

from __future__ import annotations

import math
from functools import partial

import networks
import numpy as np
import pytest
import torch

from lightning_alrnn.analysis.cycle_search import cycles
from lightning_alrnn.analysis.lyapunov import LargestExponent, largest_exponent, lyapunov_spectrum
from lightning_alrnn.nn import ALRNN


def skew_tent(p: float) -> tuple[ALRNN, float]:
    """Slopes 1/p and −1/(1−p) on (−p, 1−p), and the exponent."""
    left, right = 1 / p, -1 / (1 - p)
    return networks.build([left], [[right - left]], [1.0 - p], 1), -p * math.log(p) - (1 - p) * math.log(1 - p)


def test_a_fixed_point_has_the_logarithms_of_its_eigenvalues() -> None:
    rng = np.random.default_rng(0)
    basis = rng.normal(size=(4, 4))
    values = np.array([1.5, -0.8, 0.3, 0.05])
    W = basis @ np.diag(values) @ np.linalg.inv(basis)
    spectrum = lyapunov_spectrum(networks.linear(W), torch.zeros(2, 400, 4), warm_up=200)
    expected = torch.from_numpy(np.log(np.abs(values)))
    for exponents in (spectrum.mean, *spectrum.exponents):
        torch.testing.assert_close(exponents, expected, atol=1e-6, rtol=0)
    assert spectrum.steps == 200


def test_skew_tent_map() -> None:
    rnn, exact = skew_tent(0.4)
    orbit = [torch.linspace(-0.39, 0.59, 100, dtype=torch.float64)[:, None] + 1e-3 * math.sqrt(2)]
    for _ in range(400):
        orbit.append(rnn.step(orbit[-1]).detach())
    spectrum = lyapunov_spectrum(rnn, torch.stack(orbit, dim=1), warm_up=20)
    assert float(spectrum.mean) == pytest.approx(exact, abs=0.01)
    assert spectrum.kaplan_yorke.tolist() == [1.0] * 100


def test_a_cycle_has_those_of_its_multipliers() -> None:
    rnn = networks.build([0.4], [[-2.4]], [1.0], 1)
    orbit = cycles(rnn, 2)
    stable = orbit.z[orbit.stability.index("stable")].repeat(50, 1)[None]
    assert lyapunov_spectrum(rnn, stable).mean.tolist() == pytest.approx([math.log(0.8) / 2])


def test_a_part_of_the_spectrum_and_its_dimension() -> None:
    rnn, states = networks.linear(np.diag([1.2, 0.9, 0.5])), torch.zeros(1, 300, 3)
    spectrum = lyapunov_spectrum(rnn, states, warm_up=200)
    first, second, third = np.log([1.2, 0.9, 0.5])
    assert spectrum.kaplan_yorke.tolist() == pytest.approx([2 + (first + second) / abs(third)])
    part = lyapunov_spectrum(rnn, states, count=2, warm_up=200)
    torch.testing.assert_close(part.mean, spectrum.mean[:2], atol=1e-6, rtol=0)
    assert part.kaplan_yorke.tolist() == [2.0]
    for factor, exponent in ((0.5, math.log(0.5)), (0.0, -math.inf)):
        falling = lyapunov_spectrum(networks.linear([[factor]]), torch.zeros(1, 5, 1))
        assert (falling.mean.tolist(), falling.kaplan_yorke.tolist()) == ([pytest.approx(exponent)], [0.0])


def spiral(factor: float, angle: float, back: float) -> ALRNN:
    """A spiral in the plane that a third, rectified unit pushes back where its first entry was above 1."""
    W = np.zeros((3, 3))
    W[:2, :2] = networks.rotation(factor, angle)
    W[:2, 2] = -back, 0.3 * back
    W[2, 0] = 1.0
    return networks.build([0.0], W, [0.01, 0.0, -1.0], 1)


def agrees(result: LargestExponent, exact: float) -> bool:
    return result.exponent == exact or abs(result.exponent - exact) <= 3 * result.error + 1e-6


@pytest.mark.parametrize("p", [0.1, 0.23, 0.4, 0.47])
@pytest.mark.parametrize("batch", [1, 3, 16])
def test_chaos_within_three_standard_errors(p: float, batch: int) -> None:
    rnn, exact = skew_tent(p)
    starts = torch.from_numpy(np.random.default_rng(int(100 * p)).uniform(-p, 1 - p, (batch, 1)))
    result = largest_exponent(rnn, starts, max_steps=8192)
    assert agrees(result, exact)
    assert 0 < result.error < 0.02
    assert result.trajectories == batch
    assert result.settled == (result.error <= 0.02 * result.exponent)


def test_more_steps_until_the_error_is_small() -> None:
    rnn, exact = skew_tent(0.1)
    start = torch.full((1, 1), 0.3)
    rough, settled = (largest_exponent(rnn, start, max_error=bound) for bound in (0.02, 0.005))
    assert rough.steps == 8192 < settled.steps
    assert settled.error < 0.0065 < rough.error
    never = largest_exponent(rnn, start, max_steps=8192)
    assert (rough.settled, settled.settled, never.settled) == (True, True, False)
    assert all(agrees(result, exact) for result in (rough, settled, never))


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
    exact, orbit = torch.full((4,), torch.nan, dtype=torch.float64), [starts]
    for _ in range(2060):
        orbit.append(rnn.step(orbit[-1]).detach())
    z = orbit[-61]
    for row in range(4):
        states = torch.stack(orbit[-61:])[:, row]
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
    result = largest_exponent(rnn, starts, max_steps=8192)
    on_cycle = ~exact.isnan()
    assert on_cycle.any()
    assert (result.errors[on_cycle] == 0).all()
    torch.testing.assert_close(result.exponents[on_cycle], exact[on_cycle], atol=1e-6, rtol=0)
    if bool(on_cycle.all()):
        assert (result.exponent, result.error, result.settled) == (pytest.approx(float(exact.max()), abs=1e-6), 0, True)


@pytest.mark.parametrize("period", [2, 3, 5, 64])
def test_a_cycle_that_a_switch_drives(period: int) -> None:
    """A pulse that goes round a ring of rectified units and is half as large each time, so that it switches all."""
    W = np.roll(np.eye(period), 1, axis=0)
    W[0, -1] = 0.5
    starts = torch.zeros(1, period)
    starts[0, 0] = 1.0
    result = largest_exponent(networks.build(np.zeros(period), W, np.zeros(period), period), starts)
    assert (result.exponent, result.error) == (pytest.approx(math.log(0.5) / period), 0)


@pytest.mark.parametrize("factor", [0.5, 0.97, 0.9999, 0.999999, 1.0])
def test_slow_spirals_rings_and_lines(factor: float) -> None:
    for W in (networks.rotation(factor, 0.01), np.diag([factor, 0.5])):
        result = largest_exponent(networks.linear(W), torch.randn(3, 2))
        assert agrees(result, math.log(factor))
        assert (result.error, result.trajectories, result.settled) == (0, 3, True)


def test_all_directions_lost() -> None:
    for W, units in (([[0.0]], 0), ([[0.0]], 1), (np.diag([2.0, 2.0], -1), 0)):
        size = len(W)
        result = largest_exponent(networks.build([0.0] * units, W, np.ones(size), units), torch.randn(2, size))
        assert (result.exponent, result.error, result.trajectories) == (-math.inf, 0, 2)


@pytest.mark.parametrize("factor", [1.003, 1.01, 1.03])
def test_an_unstable_spiral_that_a_unit_catches(factor: float) -> None:
    """What a stretch within the spiral says, its own logarithm, is not what 30,000 further steps do."""
    rnn = spiral(factor, 0.2, 0.8)
    starts = 0.1 * torch.randn(8, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    result = largest_exponent(rnn, starts)
    W, h = rnn.W.detach().numpy(), rnn.h.detach().numpy()
    z, direction, log = starts.numpy(), np.ones((8, 3)), np.zeros(8)
    for step in range(40_000):
        slopes = np.stack((np.ones(8), np.ones(8), z[:, 2] > 0), axis=1)
        z, direction = (slopes * z) @ W.T + h, (slopes * direction) @ W.T
        length = np.linalg.norm(direction, axis=1, keepdims=True)
        direction /= length
        log += np.log(length[:, 0]) * (step >= 10_000)
    assert result.settled
    assert abs(result.exponent - (log / 30_000).mean()) <= 3 * result.error + 1e-4
    assert math.log(factor) - result.exponent > 3 * result.error


def test_a_spiral_that_has_yet_to_be_caught_is_not_settled() -> None:
    rnn = spiral(1.0001, 0.2, 0.8)
    rnn.h.data[0] = 0.0
    starts = torch.tensor([[1e-6, 0.0, -1.0]], dtype=torch.float64)
    result = largest_exponent(rnn, starts, max_steps=16384)
    assert (result.settled, result.error) == (False, math.inf)
    assert result.exponent == pytest.approx(math.log(1.0001), rel=0.2)


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
    result = largest_exponent(rnn, torch.from_numpy(starts))
    low, high = (skew_tent(value)[1] / 2 for value in (p, q))
    assert agrees(result, high)
    assert result.trajectories == 6
    for exponents, errors, exact in zip(result.exponents.chunk(2), result.errors.chunk(2), (low, high), strict=True):
        assert ((exponents - exact).abs() <= 3 * errors + 1e-6).all()
        assert exponents.unique().numel() == 1


def test_those_that_diverge_do_not_count() -> None:
    rnn = networks.build([0.5], [[1.5]], [0.0], 1)  # 2 z above 0, z / 2 below
    result = largest_exponent(rnn, torch.tensor([[1.0], [-1.0]]))
    assert result.exponents.isnan().tolist() == [True, False]
    assert (result.exponent, result.trajectories) == (pytest.approx(math.log(0.5)), 1)
    for starts in (torch.ones(3, 1), torch.zeros(0, 1)):
        with pytest.raises(ValueError, match=f"all {len(starts)} trajectories grow beyond"):
            largest_exponent(rnn, starts)


def test_a_constant_input_moves_the_attractor() -> None:
    rnn = networks.build([0.5], [[-1.3]], [0.0], 1, C=[[1.0]])
    on, off = (largest_exponent(rnn, torch.zeros(1, 1), torch.tensor([value])).exponent for value in (1.0, -1.0))
    assert (on, off) == (pytest.approx(math.log(0.8)), pytest.approx(math.log(0.5)))


def test_a_large_network_follows_some_of_its_trajectories() -> None:
    rnn = networks.linear(0.9 * np.linalg.qr(np.random.default_rng(0).normal(size=(150, 150)))[0])
    result = largest_exponent(rnn, torch.randn(70, 150))
    assert (result.exponent, result.trajectories) == (pytest.approx(math.log(0.9)), 70)


def test_refusals() -> None:
    rnn, states, undefined = networks.tent_map(), torch.zeros(1, 3, 1), torch.full((1, 1), math.nan)
    for function, arguments, message in (
        (lyapunov_spectrum, (states[0],), r"states must have shape \(batch, time, M\), got \(3, 1\)"),
        (lyapunov_spectrum, (states, 2), "count must lie between 1 and M=1, got 2"),
        (lyapunov_spectrum, (states, 1, 3), "warm_up must lie between 0 and T−1=2, got 3"),
        (lyapunov_spectrum, (undefined[None],), "states must be finite"),
        (largest_exponent, (states[0, 0],), r"states must have shape \(batch, M\), got \(1,\)"),
        (partial(largest_exponent, max_steps=1000), (states[0],), "max_steps must be at least 1024, got 1000"),
        (largest_exponent, (undefined,), "states must be finite"),
    ):
        with pytest.raises(ValueError, match=message):
            function(rnn, *arguments)
