"""What a network does without its nonlinearity, unit by unit or step by step.

The effect on the task score, the regimes and the fixed points shows what the nonlinearity is for.
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
    """Change of what rectified units do.

    Created by :func:`linearise`, :func:`silence`, :func:`clamp_regime` and :func:`freeze_switching`.

    Attributes:
        kind: "linearise", "silence", "clamp" or "freeze".
        units: Nonlinear units that are changed, from 0 to P−1 (unit i is unit M−P+i of all); empty for all.
        code: Bits of the regime that is held; ``None`` except for "clamp".
        start: First step of the intervention; step 0 is the one of the first input.
        stop: Step after the last one of the intervention; ``None`` for the end.
    """

    kind: Literal["linearise", "silence", "clamp", "freeze"]
    units: tuple[int, ...] = ()
    code: tuple[bool, ...] | None = None
    start: int = 0
    stop: int | None = None


class Trajectories(NamedTuple):
    """States of a batch of sequences, and the regimes that led to them.

    Attributes:
        states: States z_1 … z_T, float64 of shape ``(batch, time, M)``, on the CPU; zero in padding.
        codes: Regime in effect at each step, that is, which units pass z_{t−1} on, bool of shape ``(batch, time, P)``.
    """

    states: Tensor
    codes: Tensor


class InterventionEffect(NamedTuple):
    """Effect of an intervention.

    Attributes:
        intervention: Intervention.
        baseline: Score of the intact network.
        score: Score under the intervention.
        change: ``score − baseline``.
        occupancy_shift: Jensen–Shannon divergence in bits between the shares of steps spent in each regime with and
            without the intervention, from 0 (the same) to 1 (no regime in common), of the regimes in effect, see
            :class:`Trajectories`.
        visited: Number of regimes in effect under the intervention.
        baseline_visited: Number of regimes in effect without it.
        fixed_points: Fixed points of the changed network, see :func:`fixed_points_under`; for "freeze", of the regime
            that most sequences are frozen in.
        baseline_fixed_points: Fixed points of the intact network.
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
    """Make nonlinear units linear: they pass on z itself instead of max(0, z).

    Args:
        *units: Nonlinear units, 0 to P−1, where 0 is unit M−P.

    Returns:
        Intervention for :func:`intervene` and :func:`fixed_points_under`.

    Raises:
        ValueError: If no unit is given.
    """
    return Intervention("linearise", _several(units))


def silence(*units: int) -> Intervention:
    """Hold nonlinear units at z = 0: they affect neither other units nor the readout.

    Args:
        *units: Nonlinear units, 0 to P−1, where 0 is unit M−P.

    Returns:
        Intervention for :func:`intervene` and :func:`fixed_points_under`.

    Raises:
        ValueError: If no unit is given.
    """
    return Intervention("silence", _several(units))


def clamp_regime(code: Tensor | Sequence[bool], start: int = 0, stop: int | None = None) -> Intervention:
    """Hold the network in one regime, whatever the signs of its units.

    Args:
        code: Bits of the regime, bool or 0/1 of shape ``(P,)``.
        start: First step, 0 for the one of the first input.
        stop: Step after the last one; ``None`` for the end.

    Raises:
        ValueError: If not 0 ≤ ``start`` < ``stop``.
    """
    if start < 0 or (stop is not None and stop <= start):
        raise ValueError(f"start and stop must be steps with 0 ≤ start < stop, got {start} and {stop}")
    bits = code.tolist() if isinstance(code, Tensor) else list(code)
    return Intervention("clamp", code=tuple(bool(bit) for bit in bits), start=start, stop=stop)


def freeze_switching(start: int) -> Intervention:
    """Keep each sequence in the regime that it is in at a step, so that the network is linear from there on.

    Args:
        start: First step, 0 for the one of the first input.

    Returns:
        Intervention for :func:`intervene`.

    Raises:
        ValueError: If ``start`` is negative.
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
    """Run a network over inputs under an intervention.

    Args:
        rnn: Network or its parameters.
        inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``; ``(batch, time, M)`` if they are added directly.
        intervention: Intervention; ``None`` for the intact network.
        state: Initial state z_0, shape ``(batch, M)``; ``None`` for the learned one of the network or zeros.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

    Raises:
        ValueError: If a parameter, an input or a state is not finite, a shape does not fit, or the intervention does
            not fit the network or the number of steps.

    Example:
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.zero_(), rnn.W.fill_(1.0), rnn.C.fill_(1.0), rnn.h.zero_()
        >>> intervene(rnn, torch.tensor([[[1.0], [-3.0], [0.5]]]), linearise(0)).states.flatten().tolist()
        [1.0, -2.0, -1.5]
    """
    recurrence = read_recurrence(rnn)
    size, (name, width) = len(recurrence.h), input_width(recurrence)
    if inputs.ndim != 3 or inputs.shape[1] == 0:
        raise ValueError(
            f"inputs must have shape (batch, time, {name}={width}) with at least one step, got {tuple(inputs.shape)}"
        )
    batch, time = inputs.shape[:2]
    if state is None:
        learned = rnn.z0 if isinstance(rnn, ALRNN) else None
        state = (torch.zeros(size) if learned is None else learned).expand(batch, size)
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
    """Find the fixed points of a network under an intervention that lasts.

    The result is in terms of all units of the network: in codes, linear units count as on and silenced ones as off. The
    eigenvalues are those of the units that are not silenced; if all units are, zero is the only one.

    Args:
        rnn: Network or its parameters.
        intervention: Result of :func:`linearise`, :func:`silence` or :func:`clamp_regime`.
        inputs: Constant input s, shape ``(K,)``; ``None`` for zeros.
        **options: Options of :func:`~lightning_alrnn.analysis.fixed_points`: ``method``, ``box``, ``restarts``,
            ``seed``, ``time_limit``, ``max_exhaustive_units`` and tolerances.

    Raises:
        ValueError: If the intervention does not fit the network or is a frozen regime, which depends on the run, or
            :func:`~lightning_alrnn.analysis.fixed_points` raises it.

    Example:
        Without their nonlinearity, two units that inhibit each other have no winner.

        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=2)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.5), rnn.h.fill_(1.0), rnn.W.copy_(torch.tensor([[0.0, -1.0], [-1.0, 0.0]]))
        >>> fixed_points(rnn).stability, fixed_points_under(rnn, linearise(0, 1)).stability
        (['stable', 'stable', 'saddle'], ['saddle'])
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
    else:  # silenced units are gone, but one stays if no other unit is left
        order = order or [0]
        changed = recurrence.silenced(units).permuted(order)._replace(P=len(switching))
    points = cast(FixedPointSet, fixed_points(changed, inputs, **options))
    places = _Places(size, order, switching, fixed)
    return points._replace(
        z=places.states(points.z),
        code=places.codes(points.code),
        eigenvectors=places.states(points.eigenvectors.mT).mT,
        border=places.codes(points.border) & ~places.codes(torch.zeros_like(points.border)),
        continua=tuple(
            Continuum(places.codes(piece.code), places.states(piece.z), places.states(piece.directions), piece.extent)
            for piece in points.continua
        ),
        ghosts=VirtualFixedPoints(places.states(points.ghosts.z), places.codes(points.ghosts.code), *points.ghosts[2:]),
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
    """Measure the effect of an intervention on the task score, the occupancy of regimes, and the fixed points.

    Args:
        rnn: Network or its parameters.
        inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``.
        intervention: Intervention.
        score: Function of the states, float64 of shape ``(batch, time, M)``, that returns one number.
        state: Initial state z_0, shape ``(batch, M)``; ``None`` as in :func:`intervene`.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        fixed_point_input: Constant input for fixed points, shape ``(K,)``; ``None`` for zeros.
        **options: Options of :func:`~lightning_alrnn.analysis.fixed_points`.

    Raises:
        ValueError: As in :func:`intervene` and :func:`fixed_points_under`.

    Example:
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.zero_(), rnn.W.fill_(0.5), rnn.C.fill_(1.0), rnn.h.zero_()
        >>> inputs = torch.tensor([[[-1.0], [0.0]]])
        >>> effect = intervention_effect(rnn, inputs, linearise(0), score=lambda states: states[0, -1, 0])
        >>> effect.baseline, effect.score, effect.occupancy_shift
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
    """Places of the units of a changed network in the original one."""

    size: int  # M of the original
    order: list[int]  # the original index of each unit of the changed network
    switching: list[int]  # the original index, among the P, of each of its nonlinear units
    fixed: Tensor  # bits of the units that no longer switch, (P,)

    def states(self, values: Tensor) -> Tensor:
        """Map ``(…, changed M)`` to ``(…, M)``, zero for units that are gone."""
        full = values.new_zeros(*values.shape[:-1], self.size)
        full[..., self.order] = values
        return full

    def codes(self, bits: Tensor) -> Tensor:
        """Map ``(…, changed P)`` to ``(…, P)``."""
        full = self.fixed.expand(*bits.shape[:-1], -1).clone()
        full[..., self.switching] = bits
        return full


def _several(units: tuple[int, ...]) -> tuple[int, ...]:
    if not units:
        raise ValueError("units must name at least one nonlinear unit (0 … P−1), got none")
    return tuple(sorted(set(units)))


def _check(intervention: Intervention | None, recurrence: Recurrence, time: int | None) -> None:
    """Raise ``ValueError`` if the intervention does not fit a network with that many units and steps."""
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
