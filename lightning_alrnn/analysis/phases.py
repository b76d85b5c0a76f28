"""Activity of a network in each phase of the trial, such as stimulus, delay and response."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import (
    GroupOccupancy,
    RegimeSharing,
    count_regimes_by_group,
    regime_bits,
    regime_sharing,
)
from lightning_alrnn.batch import valid_steps


class Phases(NamedTuple):
    """Regimes, units and gains in each phase of the trial. The rows of all fields are the phases that occur.

    Attributes:
        occupancy: Number of steps of each phase in each regime; the ``groups`` are the phases.
        sharing: Overlap between the regimes of the phases.
        switches: Share of the steps into a phase, from t−1 in any phase to t in this one, that change the regime,
            float64 of shape ``(phases,)``; NaN if no step leads into it.
        on: Share of each phase's steps in which each nonlinear unit is on, float64 of shape ``(phases, P)``.
        gain: Mean |∂y_T/∂s_t| over each phase's steps t, the weight of an input for the answer, float64 of shape
            ``(phases, K)``.
    """

    occupancy: GroupOccupancy
    sharing: RegimeSharing
    switches: Tensor
    on: Tensor
    gain: Tensor


def phase_activity(
    states: Tensor, nonlinear_units: int, phase: Tensor, gains: Tensor, lengths: Tensor | None = None
) -> Phases:
    """Compute regimes, switches, units and gains by the phase of the trial.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: Number P of nonlinear units.
        phase: Phase of each step, int64 of shape ``(batch, time)``; a step below 0 belongs to no phase.
        gains: ∂y_T/∂s_t of an output y, shape ``(batch, time, K)``.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all are valid.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> states = torch.tensor([[[1.0], [-1.0], [-2.0], [3.0]]])
        >>> gains = torch.tensor([[[0.0], [4.0], [-2.0], [1.0]]])
        >>> phases = phase_activity(states, 1, torch.tensor([[0, 1, 1, 2]]), gains)
        >>> phases.switches.tolist(), phases.on[:, 0].tolist(), phases.gain[:, 0].tolist()
        ([nan, 0.5, 1.0], [1.0, 0.0, 1.0], [0.0, 3.0, 1.0])
    """
    for name, value in (("phase", phase), ("gains", gains)):
        if value.shape[:2] != states.shape[:2]:
            raise ValueError(
                f"{name} must have one entry for each of the {tuple(states.shape[:2])} states (batch, time), got "
                f"{tuple(value.shape)}"
            )
    if lengths is not None:
        phase = phase.where(valid_steps(lengths, states.shape[1]), -1)
    # each step is a sequence of its own
    occupancy = count_regimes_by_group(states.flatten(0, 1).unsqueeze(1), nonlinear_units, phase.flatten())
    bits = regime_bits(states, nonlinear_units)
    changed = (bits[:, 1:] != bits[:, :-1]).any(dim=2, keepdim=True)
    return Phases(
        occupancy,
        regime_sharing(occupancy),
        _means(changed, phase[:, 1:], occupancy.groups).squeeze(1),
        _means(bits, phase, occupancy.groups),
        _means(gains.abs(), phase, occupancy.groups),
    )


def _means(values: Tensor, phase: Tensor, phases: Tensor) -> Tensor:
    """Mean over the steps of each phase, ``(batch, time, n)`` to ``(phases, n)``; NaN where it has none."""
    belongs = phase >= 0
    row = torch.searchsorted(phases, phase[belongs])
    sums = torch.zeros(len(phases), values.shape[2], dtype=torch.float64).index_add_(0, row, values[belongs].double())
    return sums / row.bincount(minlength=len(phases)).unsqueeze(1)
