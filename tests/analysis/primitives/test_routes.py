"""Routing is found where an input counts otherwise, or takes another way, in another condition."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mechanisms import Planted, ruled
from networks import build

from lightning_alrnn.analysis.primitives import routing


def test_a_rule_that_turns_an_input_round() -> None:
    """Unit 1 or unit 2 passes it on, with opposite signs."""
    planted, group = ruled()
    found = routing(planted.trials(), group)
    assert (found.found, found.channel, found.path) == (True, 0, ())
    assert found.effect > 0.9
    assert found.p == pytest.approx(1 / 201)
    assert found.gain[:, 0].tolist() == pytest.approx([-11 / 12, 11 / 12], abs=0.01)  # the last input is not added yet
    assert found.occupancy_js == pytest.approx(1.0)
    assert found.carriers is not None
    assert found.intervention > 0.5


def test_another_way_with_the_same_effect_is_routing_too() -> None:
    planted, group = ruled()
    planted.rnn.W.data[0, 2] = -1.0  # what unit 2 turns round is turned back
    found = routing(planted.trials(), group)
    assert found.found
    assert found.path in ((0,), (1,))
    assert float(found.effects[0]) < 0.1
    assert found.intervention == pytest.approx(1.0)


def test_other_regimes_without_effect_on_an_input_are_none() -> None:
    """Two units tell the rule, and nothing hangs on them but a constant."""
    W = np.array([[1.0, 1.0, 0.0], [0, 0, 0], [0, 0, 0]])
    rnn = build([0.0, 0.0], W, np.zeros(3), 2, C=np.array([[1.0, 0.0], [0.0, 1.0], [0.0, -1.0]]))
    planted, group = ruled()
    found = routing(planted._replace(rnn=rnn).trials(), group)
    assert found.occupancy_js == pytest.approx(1.0)
    assert found.found is False
    assert found.reason.startswith("effect")


def test_rules_that_are_named_at_random_decide_nothing() -> None:
    planted, group = ruled()
    order = torch.from_numpy(np.random.default_rng(0).permutation(len(group)))
    found = routing(planted.trials(), group[order])
    assert found.found is False
    assert found.effect < 0.3


@pytest.mark.parametrize("units", [0, 1])
def test_lengths_alone_make_no_difference(units: int) -> None:
    """One condition's sequences are longer; early inputs count less, which is no routing."""
    rnn = build([0.0] * units, [[0.8, 0.0], [0.0, 0.0]], [0.0, -1.0], units, C=np.ones((2, 2)))
    group = torch.arange(40) % 2
    inputs = torch.rand(40, 15, 2, generator=torch.Generator().manual_seed(0))
    found = routing(Planted(rnn, inputs, torch.tensor([1.0, 0.0]), 5 + 10 * group).trials(), group)
    assert found.found is (False if units else None)
    if units:
        assert found.effects.tolist() == pytest.approx([0.0, 0.0], abs=1e-9)


def test_sequences_of_no_condition_are_left_out() -> None:
    planted, group = ruled(60)
    some = routing(planted.trials(), torch.where(torch.arange(60) < 40, 3 * group, -1))
    assert some.groups.tolist() == [0, 3]
    assert some.found


@pytest.mark.parametrize("group", [None, 0, -1])
def test_fewer_than_two_conditions(group: int | None) -> None:
    planted, _ = ruled(8, 4)
    found = routing(planted.trials(), None if group is None else torch.full((8,), group))
    assert found.found is None
    assert len(found.groups) == (group == 0)
    assert ("no conditions" in found.reason) == (group != 0)


def test_a_condition_of_one_trial() -> None:
    planted, _ = ruled(21, 4)
    found = routing(planted.trials(), (torch.arange(21) == 20).long())
    assert found.effects.isfinite().all()
