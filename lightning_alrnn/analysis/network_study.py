"""All that there is to say of a trained network from its parameters and the sequences it ran over, in one call."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor

from lightning_alrnn.analysis.cycle_search import CycleSet, cycles
from lightning_alrnn.analysis.fixed_point_search import FixedPointSet, fixed_points
from lightning_alrnn.analysis.lyapunov import LargestExponent, largest_exponent
from lightning_alrnn.analysis.modes import LineAttractorScore, SlowModes, line_attractor_score, slow_modes
from lightning_alrnn.analysis.perturbations import InputMemory, Nonnormality, input_memory, nonnormality
from lightning_alrnn.analysis.phases import Phases, phase_activity
from lightning_alrnn.analysis.primitives import (
    Gating,
    Integration,
    Routing,
    Transients,
    find_primitives,
    input_gain,
    leading_outputs,
)
from lightning_alrnn.analysis.regime_statistics import (
    DwellTimes,
    GroupOccupancy,
    RegimeCounts,
    RegimeSharing,
    RegimeSummary,
    TransitionGraph,
    count_regimes,
    count_regimes_by_group,
    dwell_times,
    regime_sharing,
    summarize_regimes,
    transition_graph,
)
from lightning_alrnn.analysis.settling import Settling, settle
from lightning_alrnn.analysis.spectrum import (
    PrincipalComponents,
    RegimeSpectrum,
    principal_angle,
    principal_components,
    regime_spectrum,
)
from lightning_alrnn.analysis.units import UnitStatistics, unit_activity
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
    """What a network was given and what it made of it; all tensors on the CPU.

    Attributes:
        inputs: s_1 … s_T as the recurrent layer takes them, shape ``(batch, time, K)``.
        states: z_1 … z_T, shape ``(batch, time, M)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``.
        outputs: readout at each sequence's last step, shape ``(batch, outputs)``.
        targets: what the outputs should be there: int64 classes of shape ``(batch,)`` or values ``(batch, outputs)``.
        group: condition of each sequence, int64 of shape ``(batch,)``, or ``None``.
        phase: phase of the trial at each step, int64 of shape ``(batch, time)``, below 0 for none; or ``None``.
    """

    inputs: Tensor
    states: Tensor
    lengths: Tensor
    outputs: Tensor
    targets: Tensor
    group: Tensor | None
    phase: Tensor | None = None


class Study(NamedTuple):
    """What was found. Entries that could not be computed are missing, and ``refused`` says why.

    Attributes:
        regimes: counts of regimes and transitions.
        summary: number of regimes, entropy and switches.
        units: duty cycle and switching of each nonlinear unit.
        dwell: how long regimes last.
        transitions: which regime follows which.
        by_group: occupancy of the regimes in each condition; ``None`` without conditions.
        sharing: how far conditions share regimes; ``None`` without.
        phases: regimes, switches, units and gains in each phase of the trial; ``None`` without phases.
        constant_inputs: the inputs that fixed points were looked for under, each of shape ``(K,)``, by name.
        fixed_points: those under each, by the same names.
        settling: where trajectories go from their last states when the input is zero.
        cycles: those under the input zero, by period.
        lyapunov: largest Lyapunov exponent of the attractors that they go to; ``None`` where all diverge.
        modes: the slowest modes of the most visited regimes.
        line: how much like a line attractor these regimes are.
        spectrum: eigenvalues of the most visited regimes, and the slowest mode.
        components: principal components of the states.
        slow_angle: degrees between the leading one and the slowest mode.
        nonnormality: of these regimes, and growth within the longest stretch of each.
        memory_channels: the inputs that count most for the answer, eight at most, int64.
        memory: how much each of them counts some steps later.
        readout: the direction of the outputs that varies most, shape ``(outputs,)``.
        output_row: D of that output, shape ``(M,)``.
        gains: ∂y_T/∂s_t of it, shape ``(batch, time, K)``.
        agreement: share of the targets' variance that the outputs tell, linearly and held out.
        gating: whether one input decides how much another one counts.
        integration: whether the answer is a sum over time that slow modes hold.
        routing: whether inputs count otherwise in other conditions.
        transients: whether the answer hangs on states that the present input would not hold.
        refused: what could not be computed, and why, by name.
    """

    regimes: RegimeCounts
    summary: RegimeSummary
    units: UnitStatistics
    dwell: DwellTimes
    transitions: TransitionGraph
    by_group: GroupOccupancy | None
    sharing: RegimeSharing | None
    phases: Phases | None
    constant_inputs: dict[str, Tensor]
    fixed_points: dict[str, FixedPointSet]
    settling: Settling | None
    cycles: dict[int, CycleSet]
    lyapunov: LargestExponent | None
    modes: SlowModes
    line: LineAttractorScore
    spectrum: RegimeSpectrum
    components: PrincipalComponents
    slow_angle: float
    nonnormality: Nonnormality
    memory_channels: Tensor
    memory: InputMemory
    readout: Tensor
    output_row: Tensor
    gains: Tensor
    agreement: float
    gating: Gating
    integration: Integration
    routing: Routing
    transients: Transients
    refused: dict[str, str]

    @property
    def primitives(self) -> dict[str, Gating | Integration | Routing | Transients]:
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
    """Look at a trained network from all sides."""
    units, size = rnn.nonlinear_units, rnn.hidden_size
    states, lengths, group = sequences.states, sequences.lengths, sequences.group
    if group is not None and not bool((group >= 0).any()):
        group = None
    refused: dict[str, str] = {}
    weight = readout_weight.detach().cpu().double()
    for name, value in (*rnn.named_parameters(), ("of the readout", readout_weight)):
        if not bool(torch.isfinite(value).all()):
            raise ValueError(
                f"parameter {name} has NaN or infinite entries: training has diverged, take an earlier one"
            )
    broken = int((~torch.isfinite(states).all(dim=2).all(dim=1)).sum())
    if broken:
        raise ValueError(
            f"the states of {broken} of {len(states)} sequences are not finite: the network is unstable, and they "
            "overflow; give shorter sequences, or a checkpoint of a stable network"
        )

    progress("regimes")
    regimes = count_regimes(states, units, lengths)
    by_group = None if group is None else count_regimes_by_group(states, units, group, lengths)
    codes = regimes.codes[:_REGIMES]

    progress("fixed points")
    constant = constant_inputs(sequences, group_names)
    points: dict[str, FixedPointSet] = {}
    for name, value in constant.items():
        try:
            found = fixed_points(
                rnn,
                value,
                visited=regimes.codes[:1000],
                readout=lambda z: z @ weight.T,
                time_limit=time_limit / len(constant),
                seed=seed,
            )
            points[name] = cast(FixedPointSet, found)  # of one input
        except ValueError as error:
            refused[f"fixed points under the input {name}"] = str(error)
    settling = None
    lyapunov, rings = None, dict[int, CycleSet]()
    if "zero" in points:
        progress("attractors")
        ends = states[torch.arange(len(states)), lengths - 1][:_STARTS]
        settling = settle(rnn, ends, points["zero"])
        tails = settling.tail[~settling.diverged]
        if len(tails):
            try:
                lyapunov = largest_exponent(rnn, tails[:, -1])
            except ValueError as error:
                refused["Lyapunov exponent"] = str(error)
        progress("cycles")
        for period in _PERIODS:
            try:
                seeds = tails if len(tails) else None
                rings[period] = cycles(rnn, period, seed_states=seeds, time_limit=time_limit / len(_PERIODS), seed=seed)
            except ValueError as error:
                refused[f"cycles of period {period}"] = str(error)

    progress("modes")
    components = principal_components(states, lengths)
    spectrum = regime_spectrum(rnn, regimes, 2 * _REGIMES)
    angle = principal_angle(components.directions[0], spectrum.slowest.directions)
    direction = leading_outputs(sequences.outputs)[0]
    row = direction @ weight
    gains = input_gain(rnn, states, row, lengths)
    if not bool(torch.isfinite(gains).all()):
        raise ValueError(
            f"the effect of an input overflows within {states.shape[1]} steps: the network is too unstable to be "
            "analysed; give shorter sequences, or a checkpoint of a stable network"
        )
    phases = None
    if sequences.phase is not None:
        phases = phase_activity(states, units, sequences.phase, gains, lengths)
    channels = gains.abs().sum(dim=(0, 1)).argsort(descending=True, stable=True)[:_MOST_CHANNELS].sort().values

    dwell = dwell_times(states, units, lengths)

    progress("computational primitives")
    primitives = find_primitives(rnn, sequences.inputs, states, weight, sequences.targets, lengths, group, seed=seed)
    return Study(
        regimes=regimes,
        summary=summarize_regimes(regimes),
        units=unit_activity(states, units, lengths),
        dwell=dwell,
        transitions=transition_graph(states, units, lengths),
        by_group=by_group,
        sharing=None if by_group is None else regime_sharing(by_group),
        phases=phases if phases is not None and len(phases.occupancy.groups) else None,
        constant_inputs=constant,
        fixed_points=points,
        settling=settling,
        cycles=rings,
        lyapunov=lyapunov,
        modes=slow_modes(rnn, codes, min(_MODES, size), weight),
        line=line_attractor_score(rnn, codes, states[valid_steps(lengths, states.shape[1])]),
        spectrum=spectrum,
        components=components,
        slow_angle=angle,
        nonnormality=nonnormality(rnn, codes, dwell.longest[: len(codes)]),
        memory_channels=channels,
        memory=_memory(rnn, states, lengths, weight, channels),
        readout=direction,
        output_row=row,
        gains=gains,
        agreement=primitives.agreement,
        gating=primitives.gating,
        integration=primitives.integration,
        routing=primitives.routing,
        transients=primitives.transients,
        refused=refused,
    )


def constant_inputs(sequences: Sequences, group_names: list[str] | None = None) -> dict[str, Tensor]:
    """Inputs under which to look for fixed points."""
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
    kept: dict[str, Tensor] = {}
    for name, value in named.items():
        if not any(torch.allclose(value, other) for other in kept.values()):
            kept[name] = value
    return kept


def _memory(rnn: ALRNN, states: Tensor, lengths: Tensor, weight: Tensor, channels: Tensor) -> InputMemory:
    """Of some channels, over as many sequences as keep the number of operations within bounds."""
    lags = min(states.shape[1] - 1, _LONGEST_MEMORY)
    cost = states.shape[1] * len(channels) * states.shape[2] ** 2 * (lags + 1)
    count = max(1, min(len(states), int(_MOST_OPERATIONS / cost)))
    some = torch.linspace(0, len(states) - 1, count).round().long()
    recurrence = rnn.recurrence()
    picked = recurrence._replace(C=recurrence.input_weights[:, channels])
    return input_memory(picked, states[some], lags, lengths[some], weight)
