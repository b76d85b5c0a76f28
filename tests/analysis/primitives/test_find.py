"""All primitives in one call: every edge has an answer, and each answer says why."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from mechanisms import gating_adder, marked, ruled
from networks import build, random_network

from lightning_alrnn.analysis.primitives import find_primitives, leading_outputs


def test_a_gate_before_an_integrator_is_both() -> None:
    rnn, inputs = gating_adder(), marked(200, 20).double()
    states = rnn(inputs).states.detach()
    found = find_primitives(rnn, inputs, states, torch.tensor([[1.0, 0.0]]), states[:, -1, :1])
    assert (found.gating.found, found.integration.found) == (True, True)
    assert (found.routing.found, found.transients.found) == (None, False)
    assert found.agreement == pytest.approx(1.0, abs=0.01)


def test_two_outputs_are_looked_at_one_by_one() -> None:
    planted, group = ruled()
    weight = torch.tensor([[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]])
    states = planted.states
    found = find_primitives(planted.rnn, planted.inputs, states, weight, states[:, -1, :1], group=group)
    assert len(found.directions) == 2
    assert found.routing.found


def test_of_classes_only_the_differences_between_outputs_count() -> None:
    """What both outputs share decides nothing, however much it varies."""
    W, C = np.array([[1, 0, 1], [0, 0, 0], [0, 0, 0]]), np.array([[0, 0], [9, 0], [1, 1]])
    rnn = build([0.0], W, [0, 0, -1], 1, C=C)  # unit 0 adds up what the gate passes, unit 1 shows the last value
    inputs = marked(200, 20).double()
    states = rnn(inputs).states.detach()
    weight = torch.tensor([[0.5, 1.0, 0.0], [-0.5, 1.0, 0.0]])
    targets = (states[:, -1, 0] > states[:, -1, 0].median()).long()
    found = find_primitives(rnn, inputs, states, weight, targets)
    torch.testing.assert_close(found.directions.abs(), torch.full((1, 2), 0.5**0.5).double())
    as_values = find_primitives(rnn, inputs, states, weight, states[:, -1, :2])
    assert len(as_values.directions) == 2  # of values, the common part is an answer like any other
    one_output = find_primitives(rnn, inputs, states, torch.tensor([[1.0, 0.0, 0.0]]), targets)
    assert one_output.directions.abs().tolist() == [[1.0]]  # its sign tells the classes
    assert one_output.gating.found


@pytest.mark.parametrize(("batch", "time"), [(1, 1), (2, 1), (1, 5), (3, 4), (12, 3)])
@pytest.mark.parametrize("seed", [0, 4, 5])
def test_every_edge_has_an_answer(batch: int, time: int, seed: int) -> None:
    rnn = random_network(seed)
    inputs = torch.randn(batch, time, 1, generator=torch.Generator().manual_seed(seed)).double()
    states = rnn(inputs).states.detach()
    weight = torch.randn(2, rnn.hidden_size)
    group = torch.arange(batch) % 2
    found = find_primitives(rnn, inputs, states, weight, group, group=group, draws=5)
    for one in (found.gating, found.integration, found.routing, found.transients):
        assert one.found is not True or one.reason == ""
        assert one.found is True or one.reason
        assert one.found is not None or math.isnan(one.effect)


def test_leading_outputs() -> None:
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(500, 3, generator=generator) * torch.tensor([5.0, 1.0, 0.01])
    found = leading_outputs(values)
    assert found.shape == (2, 3)
    torch.testing.assert_close(found[0], torch.tensor([1.0, 0.0, 0.0]).double(), atol=0.05, rtol=0)
    assert float(leading_outputs(torch.ones(5, 3))[0].norm()) == pytest.approx(1.0)
