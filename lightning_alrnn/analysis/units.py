"""What each nonlinear unit does on its own: how often it is on, how often it switches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import regime_bits, to_number
from lightning_alrnn.batch import valid_steps


class UnitStatistics(NamedTuple):
    """Activity of the nonlinear units.

    A rectified unit that never switches is linear in effect, so the number of *active* units is the number of
    nonlinearities that the network makes use of.

    Attributes:
        duty: share of steps in which each unit is on (z > 0), float64 of shape ``(P,)``.
        switching: share of steps (from t to t+1 within a sequence) in which each unit goes on or off, float64 of shape
            ``(P,)``; 0 where no sequence has two steps.
        active: number of units that switch in at least a fraction ε of steps.
        always_on: number of units that are on in every step.
        always_off: number of units that are on in no step.
        mean_duty: mean of ``duty``; 0 where P=0.
    """

    duty: Tensor
    switching: Tensor
    active: int
    always_on: int
    always_off: int
    mean_duty: float


def count_units(states: Tensor, lengths: Tensor, nonlinear_units: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Count, for each nonlinear unit, the steps in which it is on and those in which it switches."""
    valid = valid_steps(lengths, states.shape[1])
    bits = regime_bits(states, nonlinear_units)
    on = _count(bits, valid)
    switches = _count(bits[:, 1:] ^ bits[:, :-1], valid[:, 1:])
    return on, switches, valid.sum(), valid[:, 1:].sum()


def unit_statistics(on: Tensor, switches: Tensor, steps: int, moves: int, threshold: float) -> UnitStatistics:
    """Turn counts into :class:`UnitStatistics`."""
    duty = on.double() / max(steps, 1)
    switching = switches.double() / max(moves, 1)
    return UnitStatistics(
        duty=duty,
        switching=switching,
        active=int(((switching >= threshold) & (switches > 0)).sum()),
        always_on=int((on == steps).sum()),
        always_off=int((on == 0).sum()),
        mean_duty=float(duty.mean()) if len(duty) else 0.0,
    )


def unit_activity(
    states: Tensor, nonlinear_units: int, lengths: Tensor | None = None, threshold: float = 1e-3
) -> UnitStatistics:
    """Activity of the nonlinear units along trajectories.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: P.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        threshold: ε, the share of steps from which a unit that switches counts as active.

    Example:
        >>> states = torch.tensor([[[1.0, 5.0], [-1.0, 5.0], [2.0, 5.0]]])
        >>> found = unit_activity(states, nonlinear_units=2)
        >>> found.active, found.always_on, found.switching.tolist()
        (1, 1, [1.0, 0.0])
    """
    if lengths is None:
        lengths = torch.full((len(states),), states.shape[1], dtype=torch.int64, device=states.device)
    on, switches, steps, moves = count_units(states, lengths, nonlinear_units)
    return unit_statistics(on, switches, int(steps), int(moves), threshold)


def _count(bits: Tensor, valid: Tensor) -> Tensor:
    """How often each bit ``(batch, time, P)`` is set in valid steps ``(batch, time)``: a product, not a slow sum."""
    dtype = torch.float32 if valid.numel() < 2**24 else torch.float64  # in which the counts are exact
    return (to_number(valid.flatten(), dtype) @ to_number(bits.flatten(0, 1), dtype)).long()
