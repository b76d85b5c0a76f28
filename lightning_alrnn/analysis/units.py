"""Activity of each nonlinear unit: how often it is on and how often it switches."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import regime_bits, to_number
from lightning_alrnn.batch import valid_steps


class UnitStatistics(NamedTuple):
    """Activity of the nonlinear units.

    Attributes:
        duty: Share of steps in which each unit is on (z > 0), float64 of shape ``(P,)``.
        switching: Share of steps (from t to t+1 within a sequence) in which each unit switches, of the same shape.
        active: Number of units that switch in at least a fraction ε of steps.
        always_on: Number of units that are on in every step.
        always_off: Number of units that are on in no step.
        mean_duty: Mean of ``duty``; 0 if P=0.
    """

    duty: Tensor
    switching: Tensor
    active: int
    always_on: int
    always_off: int
    mean_duty: float


def count_units(states: Tensor, lengths: Tensor, nonlinear_units: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Steps in which each unit is on and moves in which it switches, ``(P,)`` each, and all steps and moves."""
    valid = valid_steps(lengths, states.shape[1])
    bits = regime_bits(states, nonlinear_units)
    on = _count(bits, valid)
    switches = _count(bits[:, 1:] ^ bits[:, :-1], valid[:, 1:])
    return on, switches, valid.sum(), valid[:, 1:].sum()


def unit_statistics(on: Tensor, switches: Tensor, steps: int, moves: int, threshold: float) -> UnitStatistics:
    """Turn counts into :class:`UnitStatistics`; active units switch in a share ``threshold`` of the moves."""
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
    """Measure the activity of the nonlinear units along trajectories.

    Args:
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: Number P of nonlinear units.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        threshold: Share ε of steps in which an active unit switches at least.

    Example:
        >>> activity = unit_activity(torch.tensor([[[1.0, 5.0], [-1.0, 5.0], [2.0, 5.0]]]), nonlinear_units=2)
        >>> activity.active, activity.always_on, activity.switching.tolist()
        (1, 1, [1.0, 0.0])
    """
    if lengths is None:
        lengths = torch.full((len(states),), states.shape[1], dtype=torch.int64, device=states.device)
    on, switches, steps, moves = count_units(states, lengths, nonlinear_units)
    return unit_statistics(on, switches, int(steps), int(moves), threshold)


def _count(bits: Tensor, valid: Tensor) -> Tensor:
    """Number of valid steps in which each bit ``(batch, time, P)`` is set, by a product, which is faster than a sum."""
    dtype = torch.float32 if valid.numel() < 2**24 else torch.float64  # in which the counts are exact
    return (to_number(valid.flatten(), dtype) @ to_number(bits.flatten(0, 1), dtype)).long()
