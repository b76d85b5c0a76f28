"""Transients are found where the answer hangs on a state that would not last, and not where an attractor holds it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mechanisms import Planted, chains, cue
from networks import build
from torch import Tensor

from lightning_alrnn.analysis.primitives import Transients, transients

TIME = 12


def remember(planted: Planted, target: Tensor) -> Transients:
    (trials,) = planted.trials()
    return transients(trials, planted.row.unsqueeze(0), target)


def test_a_cue_that_travels_along_rectified_units() -> None:
    planted = chains(TIME)
    found = remember(planted, cue(120, TIME)[1])
    assert found.found
    assert found.effect == pytest.approx(1.0, abs=0.05)
    assert found.p == pytest.approx(1 / 201)
    assert found.answer > 0.95
    assert max(found.present, found.settled) < 0.1
    assert found.intervention == pytest.approx(1.0, abs=0.05)


def test_targets_that_have_nothing_to_do_with_it() -> None:
    found = remember(chains(TIME), torch.arange(120) // 2 % 2)
    assert found.found is False
    assert found.effect < 0.1


def test_an_attractor_holds_the_answer() -> None:
    inputs, target = cue(120, TIME)
    rnn = build([0.5, 0.5], [[0.0, -1.0], [-1.0, 0.0]], [1.0, 1.0], 2, C=np.array([[1.0], [-1.0]]))
    found = remember(Planted(rnn, inputs, torch.tensor([1.0, -1.0])), target)
    assert found.found is False
    assert found.settled > 0.95


@pytest.mark.parametrize(("decay", "lost"), [(0.99, False), (0.5, True)])
def test_linear_memory_beside_units_without_effect(decay: float, lost: bool) -> None:
    W = np.zeros((3, 3))
    W[0, 0] = decay
    rnn = build([0.0, 0.0], W, np.zeros(3), 2, C=np.array([[1.0], [1.0], [-1.0]]))
    inputs, target = cue(120, TIME)
    found = remember(Planted(rnn, inputs, torch.tensor([1.0, 0.0, 0.0])), target)
    assert found.found is False
    assert found.reason.startswith("intervention" if lost else "effect")


def test_the_present_input_tells_the_answer() -> None:
    planted = chains(TIME)
    inputs, target = cue(120, TIME)
    found = remember(planted._replace(inputs=inputs + inputs.roll(-1, dims=1)), target)
    assert found.present > 0.95
    assert found.found is False


@pytest.mark.parametrize(
    ("units", "steps", "target", "reason"),
    [
        (0, TIME, [0, 1] * 60, "P = 0"),
        (1, TIME, [0] * 120, "nothing to remember"),
        (1, 2, [0, 1] * 60, "three steps"),
    ],
)
def test_where_it_cannot_be_told(units: int, steps: int, target: list[int], reason: str) -> None:
    rnn = build([0.0] * units, [[0.5]], [0.0], units, C=np.ones((1, 1)))
    found = remember(Planted(rnn, cue(120, steps)[0], torch.ones(1)), torch.tensor(target))
    assert found.found is None
    assert reason in found.reason
