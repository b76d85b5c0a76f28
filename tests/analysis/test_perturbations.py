"""Jacobians, perturbations, memory and non-normality against autograd, products and closed forms."""

from __future__ import annotations

import math

import networks
import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_alrnn.analysis.perturbations import input_memory, jacobians, nonnormality, propagate
from lightning_alrnn.nn.alrnn import ALRNN


def driven(units: int = 3, seed: int = 0, time: int = 7) -> tuple[ALRNN, Tensor, Tensor]:
    """A network of M=5, K=2 with random weights, inputs and its states."""
    rng = np.random.default_rng(seed)
    rnn = networks.build(
        rng.uniform(0, 0.9, 5), rng.normal(size=(5, 5)) / 2, rng.normal(size=5), units, C=rng.normal(size=(5, 2))
    )
    inputs = torch.from_numpy(rng.normal(size=(4, time, 2)))
    return rnn, inputs, rnn(inputs).states.detach()


@pytest.mark.parametrize("units", [0, 3, 5])
def test_jacobians_are_those_of_autograd(units: int) -> None:
    rnn, _, states = driven(units)
    found = jacobians(rnn, states)
    assert found.shape == (4, 7, 5, 5)
    for z, J in zip(states.flatten(0, 1), found.flatten(0, 1), strict=True):
        expected = torch.autograd.functional.jacobian(rnn.step, z)
        torch.testing.assert_close(J, expected)
    assert jacobians(rnn, states[0, 0]).shape == (5, 5)
    single = jacobians(rnn.float(), states.float())
    assert single.dtype == torch.float64


def test_perturbations_travel_as_finite_differences_do() -> None:
    rnn, inputs, _ = driven()
    start = torch.full((4, 5), 1e-9, dtype=torch.float64)  # away from the border at z_0 = 0
    trajectory = torch.cat((start[:, None], rnn(inputs, start).states.detach()), dim=1)
    delta = torch.tensor([1.0, -2.0, 0.5, 0.0, 1.0], dtype=torch.float64)
    found = propagate(rnn, trajectory, delta)
    assert found.shape == (4, 8, 5)
    assert torch.equal(found[:, 0], delta.expand(4, 5))
    shifted = rnn(inputs, start + 1e-10 * delta).states.detach()
    torch.testing.assert_close((shifted - trajectory[:, 1:]) / 1e-10, found[:, 1:], rtol=1e-4, atol=1e-4)


def test_shapes_of_perturbations() -> None:
    rnn, _, states = driven()
    product = torch.eye(5, dtype=torch.float64)
    for J in jacobians(rnn, states[0, :-1]):
        product = J @ product
    several = propagate(rnn, states, torch.eye(5, dtype=torch.float64).expand(4, 5, 5))
    assert several.shape == (4, 7, 5, 5)
    torch.testing.assert_close(several[0, -1].T, product)
    one_each = propagate(rnn, states, torch.eye(5, dtype=torch.float64)[:4])
    torch.testing.assert_close(one_each[0], several[0, :, 0])
    torch.testing.assert_close(propagate(rnn, states[:, :1], torch.ones(5)), torch.ones(4, 1, 5, dtype=torch.float64))
    for wrong in (torch.zeros(3, 5), torch.zeros(4)):
        with pytest.raises(ValueError, match=r"perturbation must have shape \(.*M=5"):
            propagate(rnn, states, wrong)
    with pytest.raises(ValueError, match=r"states must have shape \(batch, time, M\)"):
        propagate(rnn, states[0], torch.zeros(5))


@pytest.mark.parametrize("lengths", [None, [7, 1, 3, 6]])
def test_input_memory_is_that_of_autograd(lengths: list[int] | None, monkeypatch: pytest.MonkeyPatch) -> None:
    rnn, inputs, states = driven()
    weight = torch.from_numpy(np.random.default_rng(1).normal(size=(3, 5)))
    ends = lengths or [7] * 4
    squares, outputs, pairs = torch.zeros(7, 2).double(), torch.zeros(7, 2).double(), torch.zeros(7).double()
    for sequence in range(4):
        # (t, M, t', K)
        jacobian = torch.autograd.functional.jacobian(lambda s: rnn(s[None]).states[0], inputs[sequence])
        for t in range(ends[sequence]):
            for lag in range(t + 1):
                change = jacobian[t, :, t - lag]
                squares[lag] += change.square().sum(dim=0)
                outputs[lag] += (weight @ change).square().sum(dim=0)
                pairs[lag] += 1
    for elements in (2**23, 1):  # all at once, and a sequence at a time
        monkeypatch.setattr("lightning_alrnn.analysis.perturbations._CHUNK_ELEMENTS", elements)
        found = input_memory(rnn, states, 6, None if lengths is None else torch.tensor(lengths), weight)
        assert found.lags.tolist() == list(range(7))
        assert found.pairs.tolist() == pairs.tolist()
        torch.testing.assert_close(found.states, (squares / pairs[:, None]).sqrt())
        torch.testing.assert_close(found.outputs, (outputs / pairs[:, None]).sqrt())
    assert input_memory(rnn, states, 2).outputs is None
    torch.testing.assert_close(found.states[0], rnn.C.detach().norm(dim=0))


def test_memory_of_lags_that_no_sequence_has() -> None:
    rnn, _, states = driven()
    found = input_memory(rnn, states, 3, torch.tensor([1, 2, 1, 2]))
    assert found.pairs.tolist() == [6, 2, 0, 0]
    assert found.states.isnan().all(dim=1).tolist() == [False, False, True, True]
    with pytest.raises(ValueError, match="max_lag must lie between 0 and T−1=6, got 7"):
        input_memory(rnn, states, 7)
    with pytest.raises(ValueError, match="readout_weight must have shape"):
        input_memory(rnn, states, 1, readout_weight=torch.zeros(5))


def test_inputs_of_full_width() -> None:
    assert input_memory(ALRNN(None, 3, 1), torch.zeros(1, 2, 3), 0).states.tolist() == [[1.0, 1.0, 1.0]]


def test_each_regime_by_itself() -> None:
    rnn = networks.random_map(5, 3, 2.0, 0)
    codes = torch.tensor([[0, 0, 0], [1, 0, 1], [1, 1, 1]])
    found = nonnormality(rnn, codes, steps=8)
    for row, code in enumerate(codes):
        J = rnn.regime_matrix(code).detach()
        moduli = torch.linalg.eigvals(J).abs()
        departure = (J.square().sum() - moduli.square().sum()).sqrt() / J.norm()
        torch.testing.assert_close(found.henrici[row], departure)
        torch.testing.assert_close(found.spectral_radius[row], moduli.max())
        torch.testing.assert_close(found.numerical_abscissa[row], torch.linalg.eigvalsh((J + J.T) / 2).max())
        growth = torch.stack([torch.linalg.matrix_norm(torch.linalg.matrix_power(J, m), ord=2) for m in range(9)])
        torch.testing.assert_close(found.growth[row], growth)
        torch.testing.assert_close(found.norm[row], growth[1])
        torch.testing.assert_close(found.max_growth[row], growth[1:].max())
    assert nonnormality(rnn, codes[:0]).growth.shape == (0, 2)
    zero = nonnormality(networks.build([], np.zeros((2, 2)), np.zeros(2), 0), torch.zeros(1, 0))
    assert float(zero.henrici) == 0.0
    normal = nonnormality(networks.build([], [[0.0, -0.9], [0.9, 0.0]], np.zeros(2), 0), torch.zeros(1, 0))
    assert (float(normal.henrici), float(normal.max_growth)) == pytest.approx((0.0, 0.9), abs=1e-7)
    chain = nonnormality(networks.build([], np.diag([2.0, 2.0, 2.0], -1), np.zeros(4), 0), torch.zeros(1, 0))
    assert (float(chain.henrici), float(chain.max_growth)) == pytest.approx((1.0, 8.0))
    for steps in (0, torch.tensor([1, 0, 2]), torch.tensor([1, 2])):
        with pytest.raises(ValueError, match="steps must be at least 1, one number or one for each of 3 regimes"):
            nonnormality(rnn, codes, steps=steps)


def test_growth_ends_with_the_stretch_that_a_regime_was_held_for() -> None:
    """J^m of a chain that hands on fourfold, and of one unit that grows by 1 %, each as long as it was held."""
    rnn = networks.build([], np.diag([4.0, 4.0, 4.0], -1), np.zeros(4), 0)
    codes = torch.zeros(3, 0)
    found = nonnormality(rnn, codes, torch.tensor([1, 2, 5]))
    assert found.powers.tolist() == [0, 1, 2, 3, 4, 5]
    assert found.growth[0].nan_to_num(-1).tolist() == [1, 4, -1, -1, -1, -1]
    assert found.growth[2].tolist() == pytest.approx([1, 4, 16, 64, 0, 0])
    assert found.max_growth.tolist() == pytest.approx([4, 16, 64])
    assert found.max_growth[0] == found.norm[0]
    assert found.max_growth_step.tolist() == [1, 2, 3]
    grows = networks.build([], [[1.01]], [0.0], 0)
    long = nonnormality(grows, codes, torch.tensor([1, 150, 784]))
    assert long.max_growth.tolist() == pytest.approx([1.01, 1.01**150, 1.01**784])
    assert long.max_growth_step.tolist() == [1, 150, 784]
    expected = 1.01 ** long.powers.double()
    torch.testing.assert_close(long.growth[2], expected)
    torch.testing.assert_close(long.growth[1], expected.where(long.powers <= 150, torch.nan), equal_nan=True)
    huge = nonnormality(networks.build([], [[1e200]], [0.0], 0), codes[:1], steps=4)
    assert huge.growth[0].tolist() == [1.0, 1e200, math.inf, math.inf, math.inf]
