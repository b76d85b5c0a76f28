"""What a network does when its nonlinearity is taken away, unit by unit or step by step.

An intervention changes how the rectified units act while a network runs over its inputs: a unit is made linear or held
at zero, the network is held in one regime for some steps, or it keeps, from some step on, the regime it is in. What the
task score, the regimes and the fixed points are then tells what the nonlinearity was for.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, NamedTuple, cast

import torch
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import Continuum, FixedPointSet, VirtualFixedPoints, fixed_points
from lightning_alrnn.analysis.regime_statistics import count_regimes_by_group, regime_sharing, regimes
from lightning_alrnn.analysis.system import check_constant, input_width, read_recurrence, read_states
from lightning_alrnn.nn.alrnn import ALRNN, check_lengths
from lightning_alrnn.nn.recurrence import Recurrence


class Intervention(NamedTuple):
    """A change of what rectified units do.

    Made by :func:`linearise`, :func:`silence`, :func:`clamp_regime` and :func:`freeze_switching`.

    Attributes:
        kind: "linearise", "silence", "clamp" or "freeze".
        units: the nonlinear units it is about, from 0 to P−1 (unit i is unit M−P+i of all); none where it is about all.
        code: the regime that is held, P bits; ``None`` but for "clamp".
        start: the first step that it is about; step 0 is the one of the first input.
        stop: the first step that it is no longer about; ``None`` for the end.
    """

    kind: Literal["linearise", "silence", "clamp", "freeze"]
    units: tuple[int, ...] = ()
    code: tuple[bool, ...] | None = None
    start: int = 0
    stop: int | None = None


class Trajectories(NamedTuple):
    """States of a batch of sequences, and the regimes that led to them.

    Attributes:
        states: z_1 … z_T, float64 of shape ``(batch, time, M)``, on the CPU; zero past a sequence's length.
        codes: the regime in effect at each step: which units let z_{t−1} through, bool of shape ``(batch, time, P)``.
    """

    states: Tensor
    codes: Tensor


class InterventionEffect(NamedTuple):
    """What an intervention changes.

    Attributes:
        intervention: which.
        baseline: score without it.
        score: score with it.
        change: ``score − baseline``.
        occupancy_shift: Jensen–Shannon divergence in bits between the shares of steps spent in each regime with and
            without it, 0 (the same) to 1 (no regime in common). Regimes are those in effect, see :class:`Trajectories`.
        visited: number of regimes in effect with it.
        baseline_visited: and without it.
        fixed_points: of the changed network, see :func:`fixed_points_under`; of a frozen one in the regime that most
            sequences are frozen in.
        baseline_fixed_points: of the network as it is.
    """

    intervention: Intervention
    baseline: float
    score: float
    change: float
    occupancy_shift: float
    visited: int
    baseline_visited: int
    fixed_points: FixedPointSet
    baseline_fixed_points: FixedPointSet


def linearise(*units: int) -> Intervention:
    """Some nonlinear units (0 … P−1) become linear: they pass on z itself, not max(0, z).

    Args:
        *units: which, 0 for unit M−P.

    Returns:
        The intervention, for :func:`intervene` and :func:`fixed_points_under`.

    Raises:
        ValueError: if no unit is given.

    Example:
        >>> linearise(0, 2).units
        (0, 2)
    """
    return Intervention("linearise", _several(units))


def silence(*units: int) -> Intervention:
    """Some nonlinear units (0 … P−1) are held at z = 0: they affect neither other units nor the readout.

    Args:
        *units: which, 0 for unit M−P.

    Returns:
        The intervention, for :func:`intervene` and :func:`fixed_points_under`.

    Raises:
        ValueError: if no unit is given.
    """
    return Intervention("silence", _several(units))


def clamp_regime(code: Tensor | Sequence[bool], start: int = 0, stop: int | None = None) -> Intervention:
    """The network is held in one regime from step ``start`` to before step ``stop``, whatever the signs of its units.

    Args:
        code: the regime, bool or 0/1 of shape ``(P,)``.
        start: first step, 0 for that of the first input.
        stop: the step after the last one; ``None`` for the end.

    Raises:
        ValueError: if not 0 ≤ ``start`` < ``stop``.
    """
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"start and stop must be steps with 0 ≤ start < stop, got {start} and {stop}")
    bits = code.tolist() if isinstance(code, Tensor) else list(code)
    return Intervention("clamp", code=tuple(bool(bit) for bit in bits), start=start, stop=stop)


def freeze_switching(start: int) -> Intervention:
    """Each sequence keeps, from step ``start`` on, the regime of the state that enters it: the rest is linear.

    Args:
        start: first step, 0 for that of the first input.

    Returns:
        The intervention, for :func:`intervene`.

    Raises:
        ValueError: if ``start`` is negative.
    """
    if start < 0:
        raise ValueError(f"start must not be negative, got {start}")
    return Intervention("freeze", start=start)


def intervene(
    rnn: ALRNN | Recurrence,
    inputs: Tensor,
    intervention: Intervention | None = None,
    *,
    state: Tensor | None = None,
    lengths: Tensor | None = None,
) -> Trajectories:
    """Run over inputs with an intervention, or as the network is.

    Args:
        rnn: the network, or its parameters.
        inputs: s_1 … s_T, shape ``(batch, time, K)``; ``(batch, time, M)`` where they are added directly.
        intervention: what is changed; ``None`` for nothing.
        state: z_0, shape ``(batch, M)``; ``None`` for the network's learned one or zeros.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.

    Raises:
        ValueError: if a parameter, an input or a state is not finite, a shape does not fit, or the intervention is not
            one of this network and these steps.

    Example:
        Held at "on", the unit integrates what it would have forgotten.

        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.zero_(), rnn.W.fill_(1.0), rnn.C.fill_(1.0), rnn.h.zero_()
        >>> inputs = torch.tensor([[[1.0], [-3.0], [0.5]]])
        >>> intervene(rnn, inputs).states.flatten().tolist()
        [1.0, -2.0, 0.5]
        >>> intervene(rnn, inputs, linearise(0)).states.flatten().tolist()
        [1.0, -2.0, -1.5]
    """
    recurrence = read_recurrence(rnn)
    size, (name, width) = len(recurrence.h), input_width(recurrence)
    if inputs.ndim != 3 or inputs.shape[1] == 0:
        raise ValueError(
            f"inputs must have shape (batch, time, {name}={width}) with at least one step, got {tuple(inputs.shape)}"
        )
    batch, time = inputs.shape[:2]
    z = torch.zeros(batch, size, dtype=torch.float64)
    if state is None and isinstance(rnn, ALRNN) and rnn.z0 is not None:
        state = rnn.z0.expand(batch, size)
    if state is not None:
        if state.shape != (batch, size):
            raise ValueError(f"state must have shape (batch, M) = {(batch, size)}, got {tuple(state.shape)}")
        z = read_states("state", state, size)
    if lengths is not None:
        check_lengths(lengths, batch, time)
    _check(intervention, recurrence, time)
    if intervention is not None and intervention.kind == "silence":
        z = z.index_fill(1, recurrence.linear_units + torch.tensor(intervention.units), 0.0)
        recurrence = recurrence.silenced(intervention.units)
    drive = recurrence.drive(read_states("inputs", inputs, width))
    states, codes = [], list[Tensor]()
    for step in range(time):
        code = recurrence.regime(z)
        if intervention is not None and intervention.start <= step < (intervention.stop or time):
            if intervention.kind == "linearise":
                code[:, list(intervention.units)] = True
            elif intervention.kind == "clamp":
                code = torch.tensor(intervention.code, dtype=torch.bool).expand_as(code)
            elif intervention.kind == "freeze":
                code = code if step == intervention.start else codes[-1]
        z = recurrence.advance(z, drive[:, step], recurrence.regime_slopes(code))
        states.append(z)
        codes.append(code)
    result = torch.stack(states, dim=1)
    if lengths is not None:
        result = result * (torch.arange(time) < lengths.cpu().unsqueeze(-1)).unsqueeze(-1)
    return Trajectories(result, torch.stack(codes, dim=1))


def fixed_points_under(
    rnn: ALRNN | Recurrence, intervention: Intervention, inputs: Tensor | None = None, **options: Any
) -> FixedPointSet:
    """The fixed points of a network under an intervention that lasts.

    The result is in terms of all units of the network: linear units count as on and silenced ones as off in codes; the
    eigenvalues are those of the units that are left.

    Args:
        rnn: the network, or its parameters.
        intervention: made by :func:`linearise`, :func:`silence` or :func:`clamp_regime`, whose one regime has one fixed
            point or a continuum.
        inputs: the constant input s, shape ``(K,)``; ``None`` for zeros.
        **options: ``method``, ``box``, ``restarts``, ``seed``, ``time_limit``, ``max_exhaustive_units`` and tolerances
            of :func:`~lightning_alrnn.analysis.fixed_points`.

    Raises:
        ValueError: as there, if the intervention is not one of this network, or is a frozen regime, which depends on
            the run.

    Example:
        Without its nonlinearity, the unit that wins by inhibiting the other loses to it as much as it gains.

        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=2)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.5), rnn.h.fill_(1.0)
        ...     _ = rnn.W.copy_(torch.tensor([[0.0, -1.0], [-1.0, 0.0]]))
        >>> fixed_points(rnn).stability
        ['stable', 'stable', 'saddle']
        >>> fixed_points_under(rnn, linearise(0, 1)).stability
        ['saddle']
    """
    recurrence = read_recurrence(rnn)
    _check(intervention, recurrence, None)
    if intervention.kind == "freeze":
        raise ValueError("a frozen regime depends on the run: take its code from intervene(…).codes for clamp_regime")
    if inputs is not None:
        check_constant(recurrence, inputs)
    size, units, linear = len(recurrence.h), list(intervention.units), recurrence.linear_units
    switching = [unit for unit in range(size - linear) if unit not in units]
    order = [*range(linear), *(linear + unit for unit in switching)]
    fixed = torch.zeros(size - linear, dtype=torch.bool)  # bits of the units that no longer switch
    if intervention.kind == "linearise":
        order, changed = recurrence.linearised_order(units).tolist(), recurrence.linearised(units)
        fixed[units] = True
    elif intervention.kind == "clamp":
        fixed = torch.tensor(intervention.code, dtype=torch.bool)
        order, switching, changed = list(range(size)), [], recurrence.clamped(fixed)
    else:  # a silenced unit is gone
        changed = recurrence.permuted(order)._replace(P=len(switching))
    found = cast(FixedPointSet, fixed_points(changed, inputs, **options))
    places = _Places(size, order, switching, fixed)
    return found._replace(
        z=places.states(found.z),
        code=places.codes(found.code),
        eigenvectors=places.states(found.eigenvectors.mT).mT,
        border=places.codes(found.border) & ~places.codes(torch.zeros_like(found.border)),
        continua=tuple(
            Continuum(places.codes(piece.code), places.states(piece.z), places.states(piece.directions), piece.extent)
            for piece in found.continua
        ),
        ghosts=VirtualFixedPoints(places.states(found.ghosts.z), places.codes(found.ghosts.code), *found.ghosts[2:]),
    )


def intervention_effect(
    rnn: ALRNN | Recurrence,
    inputs: Tensor,
    intervention: Intervention,
    score: Callable[[Tensor], float | Tensor],
    *,
    state: Tensor | None = None,
    lengths: Tensor | None = None,
    fixed_point_input: Tensor | None = None,
    **options: Any,
) -> InterventionEffect:
    """What an intervention changes: task score, occupancy of regimes, fixed points.

    Args:
        rnn: the network, or its parameters.
        inputs: s_1 … s_T, shape ``(batch, time, K)``.
        intervention: what is changed.
        score: called with the states, float64 of shape ``(batch, time, M)``, gives one number, such as the accuracy of
            a readout of them.
        state: z_0, shape ``(batch, M)``; ``None`` as in :func:`intervene`.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        fixed_point_input: the constant input for fixed points, shape ``(K,)``; ``None`` for zeros.
        **options: of :func:`~lightning_alrnn.analysis.fixed_points`.

    Raises:
        ValueError: as :func:`intervene` and :func:`fixed_points_under`.

    Example:
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.zero_(), rnn.W.fill_(0.5), rnn.C.fill_(1.0), rnn.h.zero_()
        >>> inputs = torch.tensor([[[-1.0], [0.0]]])
        >>> found = intervention_effect(rnn, inputs, linearise(0), score=lambda states: states[0, -1, 0])
        >>> found.baseline, found.score, found.occupancy_shift
        (0.0, -0.5, 1.0)
    """
    plain = intervene(rnn, inputs, state=state, lengths=lengths)
    changed = intervene(rnn, inputs, intervention, state=state, lengths=lengths)
    baseline, after = float(score(plain.states)), float(score(changed.states))
    # the regimes in effect, as states with those signs
    signs = torch.cat((plain.codes, changed.codes)).double() - 0.5
    group = torch.arange(2).repeat_interleave(len(inputs))
    both = None if lengths is None else torch.cat((lengths, lengths)).cpu()
    occupancy = count_regimes_by_group(signs, signs.shape[-1], group, both, groups=2)
    lasting = intervention
    if intervention.kind == "freeze":
        lasting = clamp_regime(regimes(signs[len(inputs) :, intervention.start, None], signs.shape[-1]).codes[0])
    visited = (occupancy.counts > 0).sum(dim=1).tolist()
    return InterventionEffect(
        intervention=intervention,
        baseline=baseline,
        score=after,
        change=after - baseline,
        occupancy_shift=float(regime_sharing(occupancy).js[0, 1]),
        visited=visited[1],
        baseline_visited=visited[0],
        fixed_points=fixed_points_under(rnn, lasting, fixed_point_input, **options),
        baseline_fixed_points=cast(FixedPointSet, fixed_points(rnn, fixed_point_input, **options)),
    )


class _Places(NamedTuple):
    """Where the units of a changed network stand in the original one.

    Attributes:
        size: M of the original.
        order: the original index of each unit of the changed one.
        switching: the original index, among the P, of each of its nonlinear units.
        fixed: the bits of those that no longer switch, shape ``(P,)``.
    """

    size: int
    order: list[int]
    switching: list[int]
    fixed: Tensor

    def states(self, values: Tensor) -> Tensor:
        """Shape ``(…, changed M)`` to ``(…, M)``, zero for units that are gone."""
        full = values.new_zeros(*values.shape[:-1], self.size)
        full[..., self.order] = values
        return full

    def codes(self, bits: Tensor) -> Tensor:
        """Shape ``(…, changed P)`` to ``(…, P)``."""
        full = self.fixed.expand(*bits.shape[:-1], -1).clone()
        full[..., self.switching] = bits
        return full


def _several(units: tuple[int, ...]) -> tuple[int, ...]:
    if not units:
        raise ValueError("units must name at least one nonlinear unit (0 … P−1), got none")
    return tuple(sorted(set(units)))


def _check(intervention: Intervention | None, recurrence: Recurrence, time: int | None) -> None:
    """Raise ``ValueError`` unless the intervention is one of a network with so many units and steps."""
    if intervention is None:
        return
    units = int(recurrence.P)
    wrong = [unit for unit in intervention.units if not 0 <= unit < units]
    if wrong:
        raise ValueError(f"units must be nonlinear units, 0 … P−1 with P={units}, got {wrong[0]}")
    if intervention.code is not None and len(intervention.code) != units:
        raise ValueError(f"code must have P={units} bits, got {len(intervention.code)}")
    if time is not None and intervention.start >= time:
        raise ValueError(f"start must lie before the last of the {time} steps, got {intervention.start}")
