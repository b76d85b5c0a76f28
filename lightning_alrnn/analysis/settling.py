"""Fixed points and cycles that trajectories settle on under a constant input."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import FixedPointSet
from lightning_alrnn.analysis.system import next_states, read_states, read_system, tensor
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

LONGEST_PERIOD = 64
DIVERGED = 1e9
"""A trajectory counts as diverged once an entry of its state is larger."""


class Settling(NamedTuple):
    """State of trajectories after many steps under a constant input.

    Attributes:
        at_point: Index of the fixed point that each trajectory is at, int64 of shape ``(batch,)``; −1 if it is at none.
        period: Least period up to 64 with which each trajectory repeats, int64 of shape ``(batch,)``; 1 at a fixed
            point, whether listed or not, and 0 if it does not repeat.
        diverged: Whether |z| has grown beyond 1e9, bool of shape ``(batch,)``.
        tail: Last 128 states, float64 of shape ``(batch, 128, M)``; NaN if the trajectory diverged.
        steps: Number of steps taken.
    """

    at_point: Tensor
    period: Tensor
    diverged: Tensor
    tail: Tensor
    steps: int


def settle(
    rnn: ALRNN | Recurrence,
    states: Tensor,
    points: FixedPointSet,
    inputs: Tensor | None = None,
    *,
    steps: int = 1000,
    tolerance: float = 1e-6,
) -> Settling:
    """Run trajectories from states ``(batch, M)`` under a constant input, and find what they settle on.

    The ``points`` are the fixed points under that input. Two states are the same within ``tolerance`` · (1 + |z|).
    """
    length = 2 * LONGEST_PERIOD
    if steps < length:
        raise ValueError(f"steps must be at least {length}, got {steps}")
    system = read_system(rnn, inputs)
    if states.ndim != 2:
        raise ValueError(f"states must have shape (batch, M), got {tuple(states.shape)}")
    z = read_states("states", states, system.size).numpy()
    tail = np.zeros((len(z), length, z.shape[1]))
    diverged = np.zeros(len(z), dtype=np.bool_)
    for step in range(steps):
        z = next_states(system, z)
        diverged |= np.abs(z).max(axis=1, initial=0.0) > DIVERGED
        z = np.where(diverged[:, None], 0.0, z)  # held, so that nothing overflows
        if step >= steps - length:
            tail[:, step - steps + length] = z
    close = tolerance * (1 + np.linalg.norm(z, axis=1))
    period = np.zeros(len(z), dtype=np.int64)
    for candidate in range(LONGEST_PERIOD, 0, -1):  # the least one stays
        apart = np.linalg.norm(tail[:, candidate:] - tail[:, :-candidate], axis=2).max(axis=1)
        period[(apart <= close) & ~diverged] = candidate
    at_point = np.full(len(z), -1, dtype=np.int64)
    if len(points.z):
        distance = np.linalg.norm(z[:, None] - points.z.numpy(), axis=2)
        nearest = distance.argmin(axis=1)
        near = (distance.min(axis=1) <= 100 * close) & (period == 1)
        at_point[near] = nearest[near]
    tail[diverged] = np.nan
    return Settling(tensor(at_point), tensor(period), tensor(diverged), tensor(tail), steps)
