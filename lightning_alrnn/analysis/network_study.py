"""All analyses of a trained network, from its parameters and the sequences it ran over, in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lightning_alrnn import analysis
from lightning_alrnn.analysis.primitives import class_contrasts, input_gain, leading_outputs
from lightning_alrnn.analysis.settling import Settling, settle
from lightning_alrnn.batch import valid_steps
from lightning_alrnn.nn.alrnn import ALRNN

_REGIMES = 8
_MODES = 4
_PERIODS = (2, 3, 4)
_STARTS = 64
_MOST_GROUPS = 8
_LONGEST_MEMORY = 200
_MOST_CHANNELS = 8
_MOST_OPERATIONS = 2e10


class Sequences(NamedTuple):
    """Inputs, states and targets of a network; all tensors are on the CPU."""

    inputs: Tensor  # s_1 … s_T as the recurrent layer takes them, (batch, time, K)
    states: Tensor  # z_1 … z_T, (batch, time, M)
    lengths: Tensor  # valid steps of each sequence, int64 (batch,)
    outputs: Tensor  # readout at each sequence's last step, (batch, outputs)
    targets: Tensor  # of these outputs: int64 classes (batch,) or values (batch, outputs)
    group: Tensor | None  # condition of each sequence, int64 (batch,), below 0 for none
    phase: Tensor | None = None  # phase of the trial at each step, int64 (batch, time), below 0 for none


class Study(NamedTuple):
    """Results of all analyses. Entries that could not be computed are missing, and ``refused`` says why."""

    regimes: analysis.RegimeCounts
    summary: analysis.RegimeSummary
    units: analysis.UnitStatistics
    dwell: analysis.DwellTimes
    transitions: analysis.TransitionGraph
    by_group: analysis.GroupOccupancy | None  # regimes of each condition; None without conditions, as sharing
    sharing: analysis.RegimeSharing | None
    phases: analysis.Phases | None  # None without phases
    constant_inputs: dict[str, Tensor]  # the inputs that fixed points were searched under, (K,) each, by name
    fixed_points: dict[str, analysis.FixedPointSet]  # by the same names
    settling: Settling | None  # where trajectories go from their last states when the input is zero
    cycles: dict[int, analysis.CycleSet]  # those under the input zero, by period
    lyapunov: analysis.LargestExponent | None  # of the attractors that they go to; None if all diverge
    modes: analysis.SlowModes  # of the most visited regimes, as line, spectrum and nonnormality
    line: analysis.LineAttractorScore
    spectrum: analysis.RegimeSpectrum
    components: analysis.PrincipalComponents
    slow_angle: float  # degrees between the leading component and the slowest mode
    nonnormality: analysis.Nonnormality  # with growth within the longest stretch of each regime
    memory_channels: Tensor  # the inputs that affect the answer most, eight at most, int64
    memory: analysis.InputMemory  # of these inputs
    readout: Tensor  # direction of the outputs that varies most, of classes between them, (outputs,)
    answers: Tensor  # directions of the outputs that the primitives are about, (n, outputs)
    output_row: Tensor  # D of that output, (M,)
    gains: Tensor  # ∂y_T/∂s_t of it, (batch, time, K)
    agreement: float  # share of the targets' variance that the outputs explain, linearly and held out
    gating: analysis.Gating
    integration: analysis.Integration
    routing: analysis.Routing
    transients: analysis.Transients
    refused: dict[str, str]  # why something could not be computed, by name

    @property
    def primitives(self) -> dict[str, analysis.Gating | analysis.Integration | analysis.Routing | analysis.Transients]:
        """The four computational primitives, by the names that the paper gives them."""
        return {
            "gating": self.gating,
            "integration": self.integration,
            "rule-dependent routing": self.routing,
            "memory-dependent transients": self.transients,
        }


def study(
    rnn: ALRNN,
    sequences: Sequences,
    readout_weight: Tensor,
    group_names: list[str] | None = None,
    *,
    time_limit: float = 10.0,
    seed: int = 0,
    progress: Callable[[str], Any] = lambda part: None,
) -> Study:
    """Run all analyses; ``time_limit`` is that of all searches for fixed points together, and of those for cycles."""
    units, size = rnn.nonlinear_units, rnn.hidden_size
    states, lengths, group = sequences.states, sequences.lengths, sequences.group
    if group is not None and not bool((group >= 0).any()):
        group = None
    refused = dict[str, str]()
    weight = readout_weight.detach().cpu().double()
    for name, value in (*rnn.named_parameters(), ("of the readout", readout_weight)):
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"parameter {name} has NaN or infinite entries: training has diverged, use an earlier checkpoint"
            )
    overflowing = int((~torch.isfinite(states).all(dim=2).all(dim=1)).sum())
    if overflowing:
        raise ValueError(
            f"the states of {overflowing} of {len(states)} sequences are not finite: the network is unstable, use "
            "shorter sequences or a checkpoint of a stable network"
        )

    progress("regimes")
    regimes = analysis.count_regimes(states, units, lengths)
    by_group = None if group is None else analysis.count_regimes_by_group(states, units, group, lengths)
    codes = regimes.codes[:_REGIMES]

    progress("fixed points")
    constant = constant_inputs(sequences, group_names)
    points = dict[str, analysis.FixedPointSet]()
    options = dict[str, Any](
        visited=regimes.codes[:1000],
        readout=lambda z: z @ weight.T,
        time_limit=time_limit / len(constant),
        seed=seed,
    )
    for name, value in constant.items():
        try:
            points[name] = cast(analysis.FixedPointSet, analysis.fixed_points(rnn, value, **options))  # of one input
        except ValueError as error:
            refused[f"fixed points under the input {name}"] = str(error)
    settling, lyapunov, cycle_sets = None, None, dict[int, analysis.CycleSet]()
    if "zero" in points:
        progress("attractors")
        ends = states[torch.arange(len(states)), lengths - 1][:_STARTS]
        settling = settle(rnn, ends, points["zero"])
        tails = settling.tail[~settling.diverged]
        if len(tails):
            try:
                lyapunov = analysis.largest_exponent(rnn, tails[:, -1])
            except ValueError as error:
                refused["Lyapunov exponent"] = str(error)
        progress("cycles")
        for period in _PERIODS:
            try:
                seeds, limit = tails if len(tails) else None, time_limit / len(_PERIODS)
                cycle_sets[period] = analysis.cycles(rnn, period, seed_states=seeds, time_limit=limit, seed=seed)
            except ValueError as error:
                refused[f"cycles of period {period}"] = str(error)

    progress("modes")
    components = analysis.principal_components(states, lengths)
    spectrum = analysis.regime_spectrum(rnn, regimes, 2 * _REGIMES)
    direction = leading_outputs(class_contrasts(sequences.outputs, sequences.targets))[0]
    row = direction @ weight
    gains = input_gain(rnn, states, row, lengths)
    if not bool(torch.isfinite(gains).all()):
        raise ValueError(
            f"the effect of an input overflows within {states.shape[1]} steps: the network is unstable, use shorter "
            "sequences or a checkpoint of a stable network"
        )
    phases = (
        None if sequences.phase is None else analysis.phase_activity(states, units, sequences.phase, gains, lengths)
    )
    channels = gains.abs().sum(dim=(0, 1)).argsort(descending=True, stable=True)[:_MOST_CHANNELS].sort().values
    dwell = analysis.dwell_times(states, units, lengths)

    progress("computational primitives")
    primitives = analysis.find_primitives(
        rnn, sequences.inputs, states, weight, sequences.targets, lengths, group, seed=seed
    )
    return Study(
        regimes=regimes,
        summary=analysis.summarize_regimes(regimes),
        units=analysis.unit_activity(states, units, lengths),
        dwell=dwell,
        transitions=analysis.transition_graph(states, units, lengths),
        by_group=by_group,
        sharing=None if by_group is None else analysis.regime_sharing(by_group),
        phases=phases if phases is not None and len(phases.occupancy.groups) else None,
        constant_inputs=constant,
        fixed_points=points,
        settling=settling,
        cycles=cycle_sets,
        lyapunov=lyapunov,
        modes=analysis.slow_modes(rnn, codes, min(_MODES, size), weight),
        line=analysis.line_attractor_score(rnn, codes, states[valid_steps(lengths, states.shape[1])]),
        spectrum=spectrum,
        components=components,
        slow_angle=analysis.principal_angle(components.directions[0], spectrum.slowest.directions),
        nonnormality=analysis.nonnormality(rnn, codes, dwell.longest[: len(codes)]),
        memory_channels=channels,
        memory=_memory(rnn, states, lengths, weight, channels),
        readout=direction,
        output_row=row,
        gains=gains,
        answers=primitives.directions,
        agreement=primitives.agreement,
        gating=primitives.gating,
        integration=primitives.integration,
        routing=primitives.routing,
        transients=primitives.transients,
        refused=refused,
    )


def constant_inputs(sequences: Sequences, group_names: list[str] | None = None) -> dict[str, Tensor]:
    """Constant inputs to search fixed points under: zero, and the means over all steps, late steps and conditions."""
    valid = valid_steps(sequences.lengths, sequences.inputs.shape[1])
    late = valid & ~valid_steps((0.9 * sequences.lengths).floor().long(), sequences.inputs.shape[1])
    inputs = sequences.inputs.double()
    named = {
        "zero": torch.zeros(inputs.shape[2], dtype=torch.float64),
        "mean": inputs[valid].mean(dim=0),
        "before the answer": inputs[late].mean(dim=0),
    }
    if sequences.group is not None:
        groups = torch.unique(sequences.group[sequences.group >= 0]).tolist()
        for index in groups if len(groups) <= _MOST_GROUPS else []:
            name = f"mean of {group_names[index] if group_names else f'condition {index}'}"
            named[name] = inputs[valid & (sequences.group == index).unsqueeze(1)].mean(dim=0)
    distinct = dict[str, Tensor]()
    for name, value in named.items():
        if not any(torch.allclose(value, other) for other in distinct.values()):
            distinct[name] = value
    return distinct


def _memory(rnn: ALRNN, states: Tensor, lengths: Tensor, weight: Tensor, channels: Tensor) -> analysis.InputMemory:
    """Memory of some channels, over as many sequences as keep the number of operations within bounds."""
    lags = min(states.shape[1] - 1, _LONGEST_MEMORY)
    cost = states.shape[1] * len(channels) * states.shape[2] ** 2 * (lags + 1)
    count = max(1, min(len(states), int(_MOST_OPERATIONS / cost)))
    some = torch.linspace(0, len(states) - 1, count).round().long()
    recurrence = rnn.recurrence()
    recurrence = recurrence._replace(C=recurrence.input_weights[:, channels])
    return analysis.input_memory(recurrence, states[some], lags, lengths[some], weight)
