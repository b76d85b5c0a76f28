"""Gates are found where one input decides what another counts, at any lag, and not where nothing does."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mechanisms import Planted, gating_adder, late_gate, marked, ruled
from networks import build, random_network

from lightning_alrnn.analysis.primitives import gating
from lightning_alrnn.analysis.primitives.gates import _levels
from lightning_alrnn.nn import ALRNN

READ = torch.tensor([1.0, 0.0])


def test_the_gate_of_an_adder() -> None:
    found = gating(Planted(gating_adder(), marked(200, 20), READ).trials())
    assert found.found
    assert (found.control, found.gated, found.when, found.reason) == (1, 0, "at the same step", "")
    assert found.gain == pytest.approx((0.0, 0.95), abs=0.06)  # the last step is not added yet
    assert found.effect > 0.7
    assert found.p == pytest.approx(1 / 201)
    assert found.carriers is not None
    assert found.carriers.units == (0,)
    assert found.intervention == pytest.approx(1.0, abs=0.05)


def test_a_gate_that_a_later_mark_opens_and_one_in_padded_sequences() -> None:
    later = gating(Planted(late_gate(), marked(200, 20), torch.eye(4)[0]).trials())
    assert (later.found, later.control, later.gated, later.when) == (True, 1, 0, "2 steps later")
    lengths = torch.randint(12, 21, (200,), generator=torch.Generator().manual_seed(0))
    padded = gating(Planted(gating_adder(), marked(200, 20), READ, lengths).trials())
    assert (padded.found, padded.control, padded.gated, padded.when) == (True, 1, 0, "at the same step")


@pytest.mark.parametrize("seed", range(3))
def test_steps_that_few_trials_have_do_not_hide_the_gate(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.empty(90).geometric_(0.15, generator=generator).long().clamp(3, 60)
    found = gating(Planted(gating_adder(), marked(90, 60, seed), READ, lengths).trials())
    assert (found.found, found.control, found.gated, found.when) == (True, 1, 0, "at the same step")
    assert found.effect > 0.65  # 0.54 at most if a step counts as much where three trials have it


def test_a_gate_that_stays_open() -> None:
    """Once a pulse has come, what follows counts: the state of the gate is the past of its input."""
    W = np.array([[1.0, 0.0, 1.0], [0.0, 1.0, 0.0], [0.0, 1.0, 0.0]])
    rnn = build([0.0], W, [0.0, 0.0, -2.0], 1, C=np.array([[0.0, 0.0], [0.0, 2.0], [1.0, 0.0]]))
    inputs = torch.rand(200, 20, 2, generator=torch.Generator().manual_seed(0))
    inputs[..., 1] = 0.0
    inputs[torch.arange(200), torch.randint(0, 19, (200,), generator=torch.Generator().manual_seed(1)), 1] = 1.0
    found = gating(Planted(rnn, inputs, torch.eye(3)[0]).trials())
    assert (found.found, found.control, found.gated, found.when) == (True, 1, 0, "up to then")


@pytest.mark.parametrize(("units", "shift", "reason"), [(0, 0, "P = 0"), (1, 5, "no nonlinear unit switches")])
def test_a_linear_network_and_one_that_never_switches_have_no_gates(units: int, shift: int, reason: str) -> None:
    found = gating(Planted(gating_adder(units), marked(50, 12) + shift, READ).trials())
    assert found.found is None
    assert reason in found.reason


CLOCK = build([0.0], [[1, 0, 1], [0, 1, 0], [0, 1, 0]], [0.0, 0.25, -2.5], 1, C=np.array([[0.0], [0.0], [0.001]]))
RECTIFIER = build([0.0], [[1.0, 1.0], [0.0, 0.0]], [0.0, 0.0], 1, C=np.array([[0.0], [1.0]]))
IDLE = build([0.0], [[1.0, 0.0], [0.0, 0.0]], [0.0, -1.0], 1, C=np.array([[1.0, 0.0], [1.0, 1.0]]))


@pytest.mark.parametrize(
    ("rnn", "inputs", "largest"),
    [
        (CLOCK, torch.rand(100, 20, 1, generator=torch.Generator().manual_seed(0)), 0.1),  # it opens halfway
        (RECTIFIER, torch.randn(200, 20, 1, generator=torch.Generator().manual_seed(0)), 0.3),  # z_0 += φ(s)
        (IDLE, marked(100, 12), 1e-6),  # the unit has no effect
    ],
)
def test_what_is_no_gate(rnn: ALRNN, inputs: torch.Tensor, largest: float) -> None:
    found = gating(Planted(rnn, inputs, torch.eye(rnn.hidden_size)[0]).trials())
    assert found.found is False
    assert found.effect <= largest


def test_more_is_asked_of_a_network_that_has_not_learned() -> None:
    """Beside an input that counts as much, the gate of half the trials has an effect of 1/2."""
    rnn = build([0.0], [[1.0, 1.0], [0.0, 0.0]], [0.0, -9.0], 1, C=np.array([[0.0, 0.0, 1.0], [1.0, 18.0, 0.0]]))
    generator = torch.Generator().manual_seed(0)
    mark = (torch.rand(300, 12, generator=generator) < 0.5).float()
    noise = torch.randn(2, 300, 12, generator=generator)
    planted = Planted(rnn, torch.stack((noise[0], mark, noise[1]), dim=-1), READ)
    assert gating(planted.trials(1.0)).found
    unlearned = gating(planted.trials(0.0))
    assert unlearned.found is False
    assert unlearned.reason.startswith(("effect: 0.4", "effect: 0.5"))
    assert "explain little of the targets" in unlearned.reason


def test_chance_is_as_large_as_it_says() -> None:
    alarms = 0
    for seed in range(60):
        rnn = random_network(6 * seed + 1)
        inputs = torch.randn(30, 6, rnn.C.shape[1], generator=torch.Generator().manual_seed(seed))  # type: ignore[union-attr]
        (trials,) = Planted(rnn, inputs, torch.ones(rnn.hidden_size)).trials()
        order = torch.from_numpy(np.random.default_rng(seed).permutation(30))
        found = gating([trials._replace(gains=trials.gains[order])], draws=20, seed=seed)
        alarms += found.p <= 0.05
    assert alarms <= 8  # of 60 at 0.048: the chance of more is below 1 %


def test_the_best_of_several_answers_is_taken_and_paid_for() -> None:
    planted, _ = ruled()
    (first,) = planted.trials()
    (second,) = planted._replace(row=torch.tensor([0.0, 1.0, 0.0])).trials()
    found = gating([second, first])
    assert (found.found, found.output) == (True, 1)
    assert found.p == pytest.approx(2 / 201)


@pytest.mark.parametrize(
    ("values", "levels"),
    [
        ([3.0, -1.0, 3.0, 0.0], [2, 0, 2, 1]),
        (list(range(20)), [0] * 5 + [1] * 5 + [2] * 5 + [3] * 5),
        ([0.0] * 90 + [float(value) for value in range(-5, 0)] + [float(value) for value in range(1, 6)], None),
    ],
)
def test_levels_of_inputs(values: list[float], levels: list[int] | None) -> None:
    found = _levels(torch.tensor(values).unsqueeze(1))[:, 0].tolist()
    assert found == (levels or [1] * 90 + [0] * 5 + [2] * 5)  # rare ones on both sides of a frequent value
