"""All of an analysis in one call: at every edge it answers, or says clearly why it cannot."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from networks import build, flip_flop

from lightning_alrnn.analysis.network_study import Sequences, Study, constant_inputs, study
from lightning_alrnn.analysis.phases import phase_activity
from lightning_alrnn.nn import ALRNN


def sequences(
    rnn: ALRNN, batch: int = 20, steps: int = 8, outputs: int = 1, lengths: Any = None, group: Any = None
) -> tuple[Sequences, torch.Tensor]:
    torch.manual_seed(0)
    inputs = torch.randn(batch, steps, rnn.input_size or rnn.hidden_size, dtype=rnn.W.dtype)
    lengths = torch.full((batch,), steps) if lengths is None else torch.tensor(lengths)
    with torch.no_grad():
        states = rnn(inputs, lengths=lengths).states
    weight = torch.randn(outputs, rnn.hidden_size, dtype=rnn.W.dtype)
    ends = states[torch.arange(batch), lengths - 1]
    group = None if group is None else torch.tensor(group)
    return Sequences(inputs, states, lengths, ends @ weight.T, torch.randn(batch, outputs), group), weight


def network(inputs: int | None, hidden: int, units: int, gain: float = 0.8) -> ALRNN:
    torch.manual_seed(0)
    rnn = ALRNN(inputs, hidden, units)
    with torch.no_grad():
        rnn.W.normal_(std=gain / hidden**0.5)
        rnn.h.normal_(std=0.3)
        if rnn.C is not None:
            rnn.C.normal_()
    return rnn


def look(rnn: ALRNN, **options: Any) -> Study:
    return study(rnn, *sequences(rnn, **options), ["a", "b", "c", "d"], time_limit=1.0)


@pytest.mark.parametrize(
    ("inputs", "hidden", "units", "options"),
    [
        (2, 6, 3, {}),
        (2, 6, 0, {"group": [0, 1] * 10}),
        (2, 6, 6, {"group": [0, 1, 3, -1] * 5}),
        (1, 1, 1, {"batch": 2, "steps": 1}),
        (1, 1, 0, {"batch": 1, "steps": 1, "group": [0]}),
        (2, 4, 2, {"batch": 1, "steps": 6, "group": [-1]}),
        (2, 4, 2, {"batch": 3, "steps": 6, "lengths": [1, 6, 3], "outputs": 30}),
        (None, 4, 2, {}),
    ],
)
def test_every_edge_has_an_answer(inputs: int | None, hidden: int, units: int, options: dict[str, Any]) -> None:
    found = look(network(inputs, hidden, units), **options)
    assert found.refused == {}
    varies = (found.units.duty > 0) & (found.units.duty < 1)
    assert (found.gating.found is None) == (not varies.any())
    assert found.routing.groups.tolist() == sorted({index for index in options.get("group", []) if index >= 0})
    assert found.gains.shape[2] == (inputs or hidden)
    assert all(points.complete for points in found.fixed_points.values())


def test_phases() -> None:
    rnn = network(2, 6, 3)
    data, weight = sequences(rnn, lengths=[8, 3, 1, 5] * 5)
    phase = torch.tensor([0, 0, 2, 2, 2, -1, -1, 3]).repeat(20, 1)
    found = study(rnn, data._replace(phase=phase), weight, time_limit=1.0)
    assert found.phases is not None
    expected = phase_activity(data.states, 3, phase, found.gains, data.lengths)
    assert found.phases.occupancy.groups.tolist() == [0, 2, 3]
    for field, other in zip(found.phases[2:], expected[2:], strict=True):
        assert torch.equal(field, other)
    assert study(rnn, data._replace(phase=phase.clamp(max=-1)), weight, time_limit=1.0).phases is None
    assert study(rnn, data, weight, time_limit=1.0).phases is None


def test_a_memory_is_read() -> None:
    rnn = flip_flop(2)
    found = look(rnn, batch=40, steps=20)
    rest = found.fixed_points["zero"]
    assert (len(rest.z), rest.stability.count("stable"), rest.complete) == (9, 4, True)
    assert found.settling is not None
    assert found.lyapunov is not None
    assert {rest.stability[index] for index in found.settling.at_point.tolist()} == {"stable"}
    assert (found.lyapunov.exponent, found.lyapunov.error) == (pytest.approx(math.log(0.5)), 0)
    assert found.lyapunov.trajectories == 40
    assert {period: len(cycles.z) for period, cycles in found.cycles.items()} == {2: 0, 3: 0, 4: 0}


def test_what_is_not_finite_is_refused() -> None:
    rnn = network(2, 4, 2)
    data, weight = sequences(rnn)
    with pytest.raises(ValueError, match="parameter of the readout has NaN"):
        study(rnn, data, weight * math.inf)
    rnn.W.data[0, 0] = math.nan
    with pytest.raises(ValueError, match="parameter W has NaN or infinite entries: training has diverged"):
        study(rnn, data, weight)
    with pytest.raises(ValueError, match=r"the states of 20 of 20 sequences are not finite: the network is unstable"):
        look(network(2, 4, 2, gain=30.0), steps=90)
    growing = build([0.0], [[50.0, 0.0], [0.0, 0.5]], [0.0, 0.0], 1, C=[[0.0, 1.0], [1.0, 0.0]])
    rest = torch.zeros(3, 250, 2)  # it stays where it is, on the edge
    data = Sequences(rest, rest, torch.full((3,), 250), torch.zeros(3, 1), torch.zeros(3, 1), None)
    with pytest.raises(ValueError, match="the effect of an input overflows within 250 steps"):
        study(growing, data, torch.ones(1, 2))


def test_an_unstable_network_is_read_while_its_states_are_finite() -> None:
    found = look(network(2, 4, 2, gain=3.0), steps=12)
    assert found.settling is not None
    assert found.settling.diverged.all()
    assert found.lyapunov is None


def test_many_units_come_to_an_end_and_claim_nothing() -> None:
    found = look(network(3, 74, 64), batch=30, steps=10)
    assert found.gating.effects.shape == (3, 3)
    for points in found.fixed_points.values():
        assert not points.complete
        assert points.certificate == "not certified"


def test_constant_inputs() -> None:
    rnn = network(2, 4, 2)
    data, _ = sequences(rnn, lengths=[8, 3] * 10, group=[0, 2] * 10)
    data.inputs[1::2, 3:] = 1e6  # padding counts for nothing
    named = constant_inputs(data, ["a", "b", "c"])
    assert list(named) == ["zero", "mean", "before the answer", "mean of a", "mean of c"]
    assert not named["zero"].any()
    late = torch.cat((data.inputs[::2, 7], data.inputs[1::2, 2])).double()
    torch.testing.assert_close(named["before the answer"], late.mean(dim=0))
    torch.testing.assert_close(named["mean of c"], data.inputs[1::2, :3].double().mean(dim=(0, 1)))
    assert list(constant_inputs(data._replace(group=torch.arange(20)))) == ["zero", "mean", "before the answer"]
    assert list(constant_inputs(data._replace(inputs=torch.zeros(20, 8, 2)))) == ["zero"]


def test_the_memory_is_of_the_channels_that_count_most() -> None:
    rnn = network(12, 5, 2)
    rnn.C.data[:, [3, 7]] *= 100
    rnn.C.data[:, [0, 1, 4, 5]] = 0
    found = look(rnn)
    assert found.memory_channels.tolist() == [2, 3, 6, 7, 8, 9, 10, 11]
    assert found.memory.states.shape == (8, 8)
    torch.testing.assert_close(found.memory.states[0], rnn.C.detach().double().norm(dim=0)[found.memory_channels])
