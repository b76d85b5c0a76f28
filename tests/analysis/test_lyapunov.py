"""Lyapunov exponents against eigenvalues, multipliers and integrals."""

from __future__ import annotations

import math

import networks
import numpy as np
import pytest
import torch

from lightning_alrnn.analysis.cycles import cycles
from lightning_alrnn.analysis.lyapunov import lyapunov_spectrum


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
