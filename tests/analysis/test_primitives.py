"""Computational primitives: found in networks built to have them, and where there are none no more than by chance."""

from __future__ import annotations

from typing import cast

import numpy as np
import pytest
import torch
from networks import build
from torch import Tensor

from lightning_alrnn.analysis import FixedPointSet, fixed_points
from lightning_alrnn.analysis.primitives import (
    Routing,
    Transients,
    _blocks,
    _levels,
    _orders,
    gating,
    input_gain,
    integration,
    routing,
    transients,
)
from lightning_alrnn.nn import ALRNN

ADDED = torch.tensor([1.0, 0.0])


def gating_adder(units: int = 1) -> ALRNN:
    """z_0 += φ(s_0 + s_1 − 1), one step later; P=0 leaves the gate open for good."""
    C = np.array([[0.0, 0.0], [1.0, 1.0]])
    return build([0.0] * units, [[1.0, 1.0], [0.0, 0.0]], [0.0, -1.0], units, C=C)


def marked(batch: int, time: int, seed: int = 0) -> Tensor:
    """Values within 0 … 1, and marks of two steps."""
    generator = torch.Generator().manual_seed(seed)
    marks = torch.zeros(batch, time).scatter(1, torch.rand(batch, time - 1, generator=generator).topk(2).indices, 1.0)
    return torch.stack((0.05 + 0.9 * torch.rand(batch, time, generator=generator), marks), dim=-1)


def run(rnn: ALRNN, inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
    with torch.no_grad():
        return rnn(inputs.double(), lengths=lengths).states


def randomised(units: int, seed: int, size: int = 5, channels: int = 2) -> ALRNN:
    generator = np.random.default_rng(seed)
    W = generator.normal(size=(size, size)) * 0.9 / size**0.5
    C = generator.normal(size=(size, channels))
    return build(np.zeros(units), W, 0.3 * generator.normal(size=size), units, C=C)


# --- how much an input counts ---


@pytest.mark.parametrize("units", [0, 2, 5])
def test_gains_are_those_of_autograd(units: int) -> None:
    rnn = randomised(units, seed=units)
    torch.manual_seed(0)
    inputs = torch.randn(6, 7, 2, dtype=torch.float64, requires_grad=True)
    lengths, row = torch.tensor([7, 1, 4, 7, 2, 6]), torch.randn(5, dtype=torch.float64)
    rnn = rnn.double()
    states = rnn(inputs, lengths=lengths).states
    (states[torch.arange(6), lengths - 1] @ row).sum().backward()
    assert inputs.grad is not None
    gains = input_gain(rnn, states, row, lengths)
    torch.testing.assert_close(gains, inputs.grad, rtol=1e-10, atol=1e-12)


def test_gains_of_inputs_that_are_added_directly() -> None:
    rnn = ALRNN(None, 2, 0)
    with torch.no_grad():
        rnn.W.copy_(0.5 * torch.eye(2))
    gains = input_gain(rnn, torch.zeros(1, 2, 2), torch.tensor([1.0, 3.0]))
    assert gains.tolist() == [[[0.5, 1.5], [1.0, 3.0]]]


def test_refuses_a_readout_of_another_width() -> None:
    with pytest.raises(ValueError, match=r"readout_weight must have shape \(M,\) = \(2,\), got \(3,\)"):
        input_gain(gating_adder(), torch.zeros(1, 3, 2), torch.ones(3))


# --- gating ---


def test_the_gate_of_an_adder() -> None:
    rnn, inputs = gating_adder(), marked(200, 20)
    states = run(rnn, inputs)
    found = gating(rnn, inputs, states, input_gain(rnn, states, ADDED))
    assert found.found
    assert found.gates == [(0, 1, 0)]
    assert float(found.locking[0, 1]) == pytest.approx(1.0)
    assert float(found.locking_p[0, 1]) == pytest.approx(1 / 201)
    assert float(found.gain_on[0, 0]) == 1.0
    assert float(found.gain_off[0, 0]) == 0.0
    assert float(found.contrast[0, 0]) == 1.0
    assert float(found.contrast_p[0, 0]) == pytest.approx(1 / 201)
    assert found.controlled[1, 0].tolist() == [0.0, 1.0]


def test_the_gate_is_found_in_padded_sequences() -> None:
    rnn, inputs = gating_adder(), marked(200, 20)
    lengths = torch.randint(15, 21, (200,), generator=torch.Generator().manual_seed(0))
    inputs[torch.arange(20) >= lengths.unsqueeze(1)] = 7.0  # padding is not looked at
    states = run(rnn, inputs, lengths)
    found = gating(rnn, inputs, states, input_gain(rnn, states, ADDED, lengths), lengths)
    assert found.gates == [(0, 1, 0)]
    assert float(found.locking[0, 1]) == pytest.approx(1.0)
    assert float(found.gain_off[0, 0]) == 0.0


def test_a_linear_network_has_no_gate() -> None:
    rnn, inputs = gating_adder(units=0), marked(50, 12)
    states = run(rnn, inputs)
    found = gating(rnn, inputs, states, input_gain(rnn, states, ADDED))
    assert found.found is None
    assert found.locking.shape == (0, 2)
    assert found.gates == []


def test_the_units_of_other_trials_are_no_gates() -> None:
    rnn, inputs = gating_adder(), marked(200, 20)
    states = run(rnn, inputs)
    gains = input_gain(rnn, states, ADDED)
    other = torch.arange(200).roll(1)
    found = gating(rnn, inputs, states[other], gains)
    assert found.found is False
    assert float(found.locking.max()) < 0.05


def test_what_is_locked_to_the_time_alone_is_chance() -> None:
    """Long sequences are few: without trials of like length beside them, their late steps would seem locked."""
    lengths = torch.tensor([40] * 180 + [100] * 20)
    late = (torch.arange(100) >= 50).float().expand(200, 100)
    states, gains = (late - 0.5).unsqueeze(-1), (late + 0.1).unsqueeze(-1).double()
    rnn = build([0.0], [[0.5]], [0.0], 1, C=np.ones((1, 1)))
    found = gating(rnn, late.unsqueeze(-1), states, gains, lengths)
    assert float(found.locking) == pytest.approx(1.0)
    assert float(found.locking_p.nan_to_num(1.0)) == 1.0
    assert found.found is False


def test_a_unit_that_hardly_ever_switches_hides_no_gate() -> None:
    rnn, inputs = gating_adder(), marked(100, 20)
    states = run(rnn, inputs)
    gains = input_gain(rnn, states, ADDED)
    rare = torch.full((100, 20, 1), -1.0)
    rare[3, 5] = 1.0
    wider = build([0.0, 0.0], np.zeros((3, 3)), np.zeros(3), 2, C=np.zeros((3, 2)))
    found = gating(wider, inputs, torch.cat((states, rare), dim=-1), gains)
    assert found.gates == [(0, 1, 0)]
    assert found.locking_p[1].isnan().all()


def test_false_alarms_of_gating() -> None:
    alarms = 0
    for seed in range(100):
        rnn = randomised(3, seed)
        inputs = torch.randn(24, 6, 2, generator=torch.Generator().manual_seed(seed))
        states = run(rnn, inputs)
        gains = input_gain(rnn, states, torch.ones(5))
        order = torch.from_numpy(np.random.default_rng(seed).permutation(24))
        found = gating(rnn, inputs[order], states, gains[order], draws=60, seed=seed)
        alarms += bool((found.locking_p <= 0.05).any())
    assert alarms <= 11  # of 100 at 0.05: the chance of more is 0.5 %


def test_many_channels_are_looked_at_in_fewer_steps() -> None:
    inputs = torch.randn(300, 300, 40, generator=torch.Generator().manual_seed(0))
    inputs[..., 7] = (inputs[..., 7] > 0).float()
    states = inputs[..., 7:8] - 0.5
    rnn = build([0.0], [[0.0]], [-0.5], 1, C=np.eye(40)[7:8])
    gains = torch.zeros_like(inputs, dtype=torch.float64)
    gains[..., 7] = inputs[..., 7]
    found = gating(rnn, inputs, states, gains, draws=40)
    assert found.gates == [(0, 7, 7)]
    assert float(found.locking[0, 7]) == pytest.approx(1.0)


def test_a_gate_that_opens_twice_in_a_long_sequence_of_many_channels() -> None:
    """Of 400 steps a few are looked at, in most trials none at which the gate is open."""
    inputs = torch.cat((marked(300, 400), torch.rand(300, 400, 60)), dim=-1)
    states = inputs[..., 1:2] - 0.5
    gains = torch.zeros_like(inputs, dtype=torch.float64)
    gains[..., 0] = inputs[..., 1]
    rnn = build([0.0], [[0.0]], [-0.5], 1, C=np.eye(62)[1:2])
    found = gating(rnn, inputs, states, gains, draws=40)
    assert found.gates == [(0, 1, 0)]


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


def test_trials_are_exchanged_within_their_blocks() -> None:
    lengths = torch.tensor([5] * 20 + [9] * 3 + [7] * 20)
    block = _blocks(lengths)
    assert block.tolist() == [0] * 20 + [1] * 23
    for order in _orders(block, 20, seed=0):
        assert sorted(order.tolist()) == list(range(43))
        assert torch.equal(block[order], block)
    assert _blocks(torch.tensor([4, 1, 3])).tolist() == [0, 0, 0]


def test_gating_refuses_shapes_that_do_not_agree() -> None:
    with pytest.raises(ValueError, match="must agree in shape"):
        gating(gating_adder(), torch.zeros(2, 3, 2), torch.zeros(2, 3, 2), torch.zeros(2, 4, 2))


# --- integration ---


def leaky(decay: float, size: int = 30) -> ALRNN:
    """The first unit keeps a share of what it has, the others half."""
    return build(np.zeros(0), np.diag([decay] + [0.5] * (size - 1)), np.zeros(size), 0, C=np.ones((size, 1)))


@pytest.mark.parametrize(("decay", "found", "early"), [(1.0, True, 0.5), (0.5, False, 0.0), (0.8, False, 0.0)])
def test_an_integrator_and_networks_that_forget(decay: float, found: bool, early: float) -> None:
    rnn, row = leaky(decay), torch.eye(30)[0]
    states = run(rnn, torch.randn(40, 50, 1, generator=torch.Generator().manual_seed(0)))
    result = integration(rnn, states, input_gain(rnn, states, row), row)
    assert result.found is found
    assert result.early == pytest.approx(early, abs=0.02)
    assert int(result.slow[0]) == int(found)
    if found:
        assert float(result.share[0]) == pytest.approx(1.0)
        assert float(result.share_p[0]) == pytest.approx(1 / 201)
        assert abs(float(result.share_null[0])) < 0.2


def test_a_slow_mode_that_is_not_read() -> None:
    rnn, row = leaky(1.0), torch.eye(30)[1]
    states = run(rnn, torch.randn(40, 50, 1, generator=torch.Generator().manual_seed(0)))
    result = integration(rnn, states, input_gain(rnn, states, row), row)
    assert result.found is False
    assert float(result.share[0]) == pytest.approx(0.0, abs=1e-12)


def test_a_slow_rotation_holds_the_answer() -> None:
    W = np.zeros((20, 20))
    W[:2, :2] = [[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]]
    rnn = build(np.zeros(0), W, np.zeros(20), 0, C=np.ones((20, 1)))
    row = torch.eye(20)[0]
    states = run(rnn, torch.randn(40, 30, 1, generator=torch.Generator().manual_seed(0)))
    result = integration(rnn, states, input_gain(rnn, states, row), row)
    assert result.found
    assert int(result.slow[0]) == 2
    assert float(result.share[0]) == pytest.approx(1.0)


def test_an_answer_that_never_varies() -> None:
    rnn, row = leaky(1.0), torch.eye(30)[0]
    states = torch.ones(9, 12, 30)
    result = integration(rnn, states, input_gain(rnn, states, row), row)
    assert result.found is False
    assert result.share.isnan().all()


def test_the_first_half_of_padded_sequences() -> None:
    rnn, row = leaky(1.0), torch.eye(30)[0]
    lengths = torch.tensor([4, 10])
    states = torch.randn(2, 10, 30)
    result = integration(rnn, states, input_gain(rnn, states, row, lengths), row, lengths)
    assert result.early == pytest.approx(0.5)
    assert result.steps == 3.5 or result.steps == 2.0  # half the median length


# --- routing ---


def rule_network() -> ALRNN:
    """z_0 += φ(s_0 + r), one step later: with the rule r = −9 the input is cut off, with r = 9 it counts."""
    C = np.array([[0.0, 0.0], [1.0, 1.0]])
    return build([0.0], [[1.0, 1.0], [0.0, 0.0]], [0.0, 0.0], 1, C=C)


def ruled(batch: int, time: int) -> tuple[Tensor, Tensor]:
    group = torch.arange(batch) % 2
    values = torch.rand(batch, time, generator=torch.Generator().manual_seed(0))
    return torch.stack((values, (18.0 * group - 9).unsqueeze(1).expand(batch, time)), dim=-1), group


def route(rnn: ALRNN, inputs: Tensor, group: Tensor, lengths: Tensor | None = None) -> Routing:
    states = run(rnn, inputs, lengths)
    return routing(rnn, states, input_gain(rnn, states, ADDED, lengths), group, lengths)


def test_a_rule_that_decides_what_counts() -> None:
    inputs, group = ruled(60, 10)
    found = route(rule_network(), inputs, group)
    assert found.found
    assert found.occupancy_js == pytest.approx(1.0)
    assert found.occupancy_p == pytest.approx(1 / 201)
    assert found.gain[0].tolist() == [0.0, 0.0]
    assert found.gain[1].tolist() == pytest.approx([0.9, 0.9])  # the last input is not added yet
    assert found.difference.tolist() == pytest.approx([1.0, 1.0])
    assert float(found.difference_null.max()) < 0.5


def test_rules_that_are_named_at_random_decide_nothing() -> None:
    inputs, _ = ruled(60, 10)
    found = route(rule_network(), inputs, torch.arange(60) // 30)
    assert found.found is False
    assert found.occupancy_js == pytest.approx(0.0, abs=1e-12)
    assert found.occupancy_p == 1.0
    assert found.difference.tolist() == [0.0, 0.0]


@pytest.mark.parametrize("units", [0, 1])
def test_lengths_alone_make_no_difference(units: int) -> None:
    """One condition's sequences are longer; early inputs count less, which is no routing."""
    rnn = build([0.0] * units, [[0.8, 0.0], [0.0, 0.0]], [0.0, 9.0], units, C=np.ones((2, 2)))
    group = torch.arange(40) % 2
    lengths = 5 + 10 * group
    found = route(rnn, torch.rand(40, 15, 2), group, lengths)
    assert found.difference.tolist() == [0.0, 0.0]
    assert found.found is False


def test_sequences_of_no_condition_are_left_out() -> None:
    inputs, group = ruled(60, 10)
    found = route(rule_network(), torch.cat((inputs, 99 + inputs)), torch.cat((3 * group, torch.full((60,), -1))))
    assert found.groups.tolist() == [0, 3]
    assert found.gain[0].tolist() == [0.0, 0.0]
    assert found.gain[1].tolist() == pytest.approx([0.9, 0.9])  # the last input is not added yet


@pytest.mark.parametrize("group", [0, -1])
def test_fewer_than_two_conditions(group: int) -> None:
    inputs, _ = ruled(8, 4)
    found = route(rule_network(), inputs, torch.full((8,), group))
    assert found.found is None
    assert len(found.groups) == (group >= 0)


def test_a_condition_of_one_trial() -> None:
    inputs, _ = ruled(21, 4)
    found = route(rule_network(), inputs, (torch.arange(21) == 20).long())
    assert found.found is False
    assert found.difference.isfinite().all()


def test_false_alarms_of_routing() -> None:
    apart, different = 0, 0
    for seed in range(100):
        rnn = randomised(3, seed)
        states = run(rnn, torch.randn(24, 6, 2, generator=torch.Generator().manual_seed(seed)))
        group = torch.from_numpy(np.random.default_rng(seed).integers(0, 3, 24))
        found = routing(rnn, states, input_gain(rnn, states, torch.ones(5)), group, draws=60, seed=seed)
        apart += found.occupancy_p <= 0.05
        different += bool((found.difference_p <= 0.05).any())
    assert apart <= 11
    assert different <= 11


# --- transients ---


def passing() -> ALRNN:
    """Each of two rectified units is on for 22 steps after its input was 1; the only fixed point has both off."""
    W = np.diag([0.0, 0.9, 0.9])
    C = np.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]])
    return build([0.0, 0.0], W, [0.0, -0.01, -0.01], 2, C=C)


def first_input(target: Tensor, time: int) -> Tensor:
    inputs = torch.zeros(len(target), time, 2)
    inputs[torch.arange(len(target)), 0, target] = 1.0
    return inputs


def remember(target: Tensor, told: Tensor, time: int = 12, rnn: ALRNN | None = None) -> Transients:
    rnn = passing() if rnn is None else rnn
    states = run(rnn, first_input(told, time))
    return transients(rnn, states, target, [(None, cast(FixedPointSet, fixed_points(rnn)))])


def test_regimes_that_are_passed_through_and_tell_the_target() -> None:
    target = torch.arange(60) % 2
    found = remember(target, target)
    assert found.found
    assert found.outside == 1.0
    assert found.memory == pytest.approx(1.0)
    assert found.memory_p == pytest.approx(1 / 201)
    assert found.memory_null < 0.2
    assert found.steps == 1


def test_regimes_that_tell_something_else() -> None:
    found = remember(torch.arange(60) // 2 % 2, torch.arange(60) % 2)
    assert found.found is False
    assert found.memory == pytest.approx(0.0, abs=1e-12)


def test_states_that_have_come_to_rest() -> None:
    target = torch.arange(60) % 2
    found = remember(target, target, time=120)
    assert found.outside == 0.0
    assert found.found is None  # no unit switches any longer


def test_a_flip_flop_answers_from_where_it_rests() -> None:
    rnn = build([0.5, 0.5], [[0.0, -1.0], [-1.0, 0.0]], [1.0, 1.0], 2, C=np.eye(2))
    target = torch.arange(60) % 2
    found = remember(target, target, time=40, rnn=rnn)
    assert found.found is False
    assert found.outside == 0.0
    assert found.memory == pytest.approx(1.0)


def test_a_list_that_is_not_complete_is_made_up_for() -> None:
    """Every regime that is looked at is solved for by itself, whether or not the search came by."""
    rnn = build([0.5, 0.5], [[0.0, -1.0], [-1.0, 0.0]], [1.0, 1.0], 2, C=np.eye(2))
    target = torch.arange(60) % 2
    states = run(rnn, first_input(target, 40))
    points = cast(FixedPointSet, fixed_points(rnn))
    missing = points._replace(z=points.z[:0], code=points.code[:0], complete=False)
    assert transients(rnn, states, target, [(None, missing)]).outside == 0.0
    assert transients(rnn, states, target, [(None, points)]).outside == 0.0
    wrong = missing._replace(complete=True)
    assert transients(rnn, states, target, [(None, wrong)]).outside == 1.0


def test_nothing_to_tell() -> None:
    target = torch.arange(10) % 2
    assert remember(torch.zeros(10, dtype=torch.int64), target).found is None
    assert remember(target, target, time=1).found is None
    empty = transients(passing(), run(passing(), first_input(target, 9)), target, [])
    assert empty.found is None
    assert np.isnan(empty.outside)


def test_growth_beside_that_of_orthogonal_modes() -> None:
    W = np.array([[0.5, 4.0], [0.0, 0.5]])
    rnn = build(np.zeros(0), W, np.zeros(2), 0, C=np.ones((2, 2)))
    found = transients(rnn, torch.zeros(3, 4, 2), torch.arange(3), [(None, cast(FixedPointSet, fixed_points(rnn)))])
    powers = [np.linalg.norm(np.linalg.matrix_power(W, n), 2) for n in range(20)]
    assert found.growth == pytest.approx(max(powers))
    assert found.growth_normal == 1.0


def test_targets_of_another_number() -> None:
    with pytest.raises(ValueError, match=r"targets must have shape \(batch,\) = \(2,\), got \(3,\)"):
        transients(passing(), torch.zeros(2, 4, 3), torch.zeros(3, dtype=torch.int64), [])
