"""Pruned networks against interventions step by step, and the greedy order against all subsets."""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from itertools import product
from typing import Any, Literal

import pytest
import torch
from torch import Tensor

from lightning_alrnn.analysis import Removal, greedy_removals, remove_units
from lightning_alrnn.analysis.pruning import Removals
from lightning_alrnn.nn import ALRNN

KINDS: tuple[Literal["linearise", "silence"], ...] = ("linearise", "silence")


def network(hidden: int, nonlinear: int, **options: Any) -> ALRNN:
    torch.manual_seed(0)
    rnn = ALRNN(options.pop("input_size", 2), hidden, nonlinear, **options).eval().double()
    for value in rnn.state_dict().values():
        value.normal_(std=0.4)
    return rnn


def every_way(units: int) -> list[Removals]:
    """Each unit left as it is, linearised or silenced."""
    ways = product((None, *KINDS), repeat=units)
    return [tuple(Removal(unit, kind) for unit, kind in enumerate(way) if kind) for way in ways]


def step_by_step(rnn: ALRNN, inputs: Tensor, removals: Sequence[Removal]) -> Tensor:
    """States of the original network with units changed at each step."""
    rectified = torch.zeros(rnn.hidden_size, dtype=torch.bool)
    rectified[rnn.linear_units :] = True
    remains = torch.ones(rnn.hidden_size).double()
    for unit, kind in removals:
        rectified[rnn.linear_units + unit] = False
        remains[rnn.linear_units + unit] = float(kind == "linearise")
    C = torch.eye(rnn.hidden_size).double() if rnn.C is None else rnn.C
    z, states = rnn.start(len(inputs)) * remains, []
    for step in range(inputs.shape[1]):
        let_through = torch.where(rectified, z.clamp(min=0), z)
        z = (rnn.diagonal() * z + let_through @ rnn.W.T + inputs[:, step] @ C.T + rnn.h) * remains
        states.append(z)
    return torch.stack(states, dim=1)


@pytest.mark.parametrize(
    ("hidden", "nonlinear", "options"),
    [
        (6, 3, {}),
        (3, 3, {"initial_state": "learned"}),
        (1, 1, {}),
        (5, 0, {}),
        (6, 3, {"self_connections": "all", "initial_state": "uniform"}),
        (4, 2, {"input_size": None}),
        (2, 2, {"input_size": None, "self_connections": "all", "initial_state": "learned"}),
    ],
)
@pytest.mark.parametrize("shape", [(3, 6), (1, 1)])
def test_the_smaller_network_has_the_states_of_the_changed_one(
    hidden: int, nonlinear: int, options: Any, shape: tuple[int, int]
) -> None:
    rnn = network(hidden, nonlinear, **options)
    inputs = torch.randn(*shape, options.get("input_size", 2) or hidden, dtype=torch.float64)
    for removals in every_way(nonlinear):
        small, units = remove_units(rnn, removals)
        silenced = sum(kind == "silence" for _, kind in removals)
        assert small.hidden_size == max(hidden - silenced, 1) == len(units)
        assert small.nonlinear_units == nonlinear - len(removals)
        expected = step_by_step(rnn, inputs, removals)
        states, last = small(inputs)
        torch.testing.assert_close(states, expected[..., units])
        torch.testing.assert_close(last, expected[:, -1, units])
        lost = [unit for unit in range(hidden) if unit not in units.tolist()]
        assert not expected[..., lost].any()


def test_the_network_is_left_as_it_is() -> None:
    rnn = network(4, 2).float()
    before = copy.deepcopy(rnn.state_dict())
    small = remove_units(rnn, [Removal(0, "linearise"), Removal(1, "silence")]).rnn
    small(torch.randn(1, 3, 2)).last.sum().backward()  # it can be trained
    assert small.W.grad is not None
    assert rnn.W.grad is None
    assert all(torch.equal(value, before[name]) for name, value in rnn.state_dict().items())


def test_wrong_units() -> None:
    for removals in ([Removal(2, "silence")], [Removal(0, "silence"), Removal(0, "linearise")]):
        with pytest.raises(ValueError, match=r"nonlinear units, 0 … P−1 with P=2, each at most once, got [20] among"):
            remove_units(network(4, 2), removals)


def test_each_step_is_the_best_of_its_tries() -> None:
    asked: list[list[Removals]] = []

    def losses(tried: list[Removals]) -> list[float]:
        asked.append(tried)
        return [math.sin(sum(7.3 * unit + len(kind) for unit, kind in one) ** 2) for one in tried]

    order = tuple(greedy_removals(4, losses))
    assert [len(tried) for tried in asked] == [8, 6, 4, 2]
    assert {unit for unit, _ in order} == {0, 1, 2, 3}
    for count, tried in enumerate(asked[:]):
        assert {one[:-1] for one in tried} == {order[:count]}
        assert losses([order[: count + 1]])[0] == min(losses(tried))


def test_networks_that_diverge_come_last_and_equal_ones_are_silenced() -> None:
    nan, first = math.nan, Removal(0, "linearise")
    order = [*greedy_removals(2, lambda tried: [1.0 if first in one else nan for one in tried])]
    assert order == [first, Removal(1, "silence")]
    assert [*greedy_removals(1, lambda tried: [nan] * len(tried))] == [Removal(0, "silence")]
