"""What primitives are read from: exact gains, with and without what an intervention takes away, and fair chances."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mechanisms import Planted, gating_adder, marked
from networks import build

from lightning_alrnn.analysis import linearise, silence
from lightning_alrnn.analysis.primitives import agreement, input_gain
from lightning_alrnn.analysis.primitives.trials import (
    blocks,
    changed_share,
    explained,
    find_carriers,
    orders,
    p_value,
    prediction,
    to_end,
    under,
)
from lightning_alrnn.nn import ALRNN


def randomised(units: int, seed: int, size: int = 5) -> Planted:
    generator = np.random.default_rng(seed)
    W = generator.normal(size=(size, size)) * 0.9 / size**0.5
    rnn = build(np.zeros(units), W, 0.3 * generator.normal(size=size), units, C=generator.normal(size=(size, 2)))
    inputs = torch.randn(6, 7, 2, generator=torch.Generator().manual_seed(seed))
    lengths = torch.tensor([7, 1, 4, 7, 2, 6])
    return Planted(rnn, inputs, torch.from_numpy(generator.normal(size=size)), lengths)


@pytest.mark.parametrize("units", [0, 2, 5])
def test_gains_are_those_of_autograd(units: int) -> None:
    planted = randomised(units, seed=units)
    inputs = planted.inputs.double().requires_grad_()
    assert planted.lengths is not None
    states = planted.rnn(inputs, lengths=planted.lengths).states
    (states[torch.arange(6), planted.lengths - 1] @ planted.row).sum().backward()
    gains = input_gain(planted.rnn, states, planted.row, planted.lengths)
    torch.testing.assert_close(gains, inputs.grad, rtol=1e-10, atol=1e-12)


def test_gains_of_inputs_that_are_added_directly() -> None:
    rnn = ALRNN(None, 2, 0)
    rnn.W.data.copy_(0.5 * torch.eye(2))
    assert input_gain(rnn, torch.zeros(1, 2, 2), torch.tensor([1.0, 3.0])).tolist() == [[[0.5, 1.5], [1.0, 3.0]]]
    with pytest.raises(ValueError, match=r"readout_weight must have shape \(M,\) = \(2,\), got \(3,\)"):
        input_gain(rnn, torch.zeros(1, 3, 2), torch.ones(3))


@pytest.mark.parametrize("kind", [silence, linearise])
def test_gains_under_an_intervention_are_those_of_finite_differences(kind: object) -> None:
    planted = randomised(3, seed=1)
    (trials,) = planted.trials()
    changed = kind(0, 2)  # type: ignore[operator]
    before = under(trials, changed)
    for channel in (0, 1):
        inputs = trials.inputs.clone()
        inputs[:, 0, channel] += 1e-6
        difference = (under(trials._replace(inputs=inputs), changed).answer - before.answer) / 1e-6
        torch.testing.assert_close(before.gains[:, 0, channel], difference, rtol=1e-4, atol=1e-6)


def test_the_unit_that_carries_is_named() -> None:
    W = np.zeros((5, 5))
    W[0, 0], W[0, 1:] = 1.0, [0.0, 0.0, 1.0, 0.01]
    rnn = build([0.0] * 4, W, [0, 0, 0, -1.0, 0], 4, C=np.array([[0, 0], [1, 0], [0, 1], [1, 1], [1, 1.0]]))
    (trials,) = Planted(rnn, marked(100, 10), torch.eye(5)[0]).trials()
    found = find_carriers(trials, 0, lambda one: float(one.gains[..., 0].var(dim=0).sum()))
    assert (found.units, found.removed) == ((2,), pytest.approx(1.0, abs=0.02))
    assert found.change > 0.5
    (trials,) = Planted(gating_adder(), marked(20, 6) + 5, torch.tensor([1.0, 0.0])).trials()  # no unit switches
    assert find_carriers(trials, 0, lambda one: 1.0).units == ()


def test_trials_are_exchanged_within_their_blocks() -> None:
    lengths = torch.tensor([5] * 20 + [9] * 3 + [7] * 20)
    block = blocks(lengths)
    assert block.tolist() == [0] * 20 + [1] * 23
    for order in orders(block, 20, seed=0):
        assert sorted(order.tolist()) == list(range(43))
        assert torch.equal(block[order], block)
    assert blocks(torch.tensor([4, 1, 3])).tolist() == [0, 0, 0]


def test_sequences_end_together() -> None:
    values = torch.tensor([[[1.0], [2.0], [0.0]], [[3.0], [4.0], [5.0]]])
    assert to_end(values, torch.tensor([2, 3])).flatten().tolist() == [0, 1, 2, 3, 4, 5]


def test_p_values() -> None:
    assert p_value(1.0, [0.0] * 199) == pytest.approx(1 / 200)
    assert p_value(1.0, [1.0] + [0.0] * 98, tests=3) == pytest.approx(0.06)
    assert p_value(0.0, [1.0] * 9, tests=3) == 1.0
    assert math.isnan(p_value(math.nan, [0.0]))


def test_held_out_predictions_tell_what_there_is_to_tell() -> None:
    generator = torch.Generator().manual_seed(0)
    signal, noise = torch.randn(2, 500, 1, generator=generator).double()
    assert explained(prediction(signal), signal + noise) == pytest.approx(0.5, abs=0.06)
    assert explained(prediction(torch.randn(500, 30, generator=generator)), signal + noise) < 0.02
    assert explained(prediction(torch.ones(500, 2)), signal + noise) == pytest.approx(0.0, abs=0.02)
    assert math.isnan(explained(prediction(signal), torch.ones(500, 1).double()))
    target = torch.arange(90) % 3
    assert agreement(torch.nn.functional.one_hot(target).float(), target) == pytest.approx(1.0, abs=0.01)
    assert agreement(torch.randn(90, 1, generator=generator), target) < 0.05


def test_answers_on_another_scale_are_the_same() -> None:
    answer = torch.randn(50, generator=torch.Generator().manual_seed(0)).double()
    assert changed_share(answer, -3 * answer + 1) == pytest.approx(0.0, abs=1e-12)
    assert changed_share(answer, torch.ones(50).double()) == 1.0
