"""Where trajectories come to rest when the input stays as it is."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import FixedPointSet
from lightning_alrnn.analysis.system import read_states, read_system, tensor
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence, jvp

LONGEST_PERIOD = 64
DIVERGED = 1e9
"""Largest entry of a state of a trajectory that has not diverged."""


class Settling(NamedTuple):
    """Where trajectories are after many steps under a constant input.

    Attributes:
        at_point: which of the given fixed points each is at, int64 of shape ``(batch,)``; −1 where at none of them.
        period: the least period up to 64 with which each repeats, int64 of shape ``(batch,)``; 1 at a fixed point, of
            the list or not, 0 where it does not repeat.
        diverged: whether |z| has grown beyond 1e9, bool of shape ``(batch,)``.
        tail: the last 128 states, float64 of shape ``(batch, 128, M)``; NaN where it diverged.
        steps: number of steps taken.
    """

    at_point: Tensor
    period: Tensor
    diverged: Tensor
    tail: Tensor
    steps: int


def settle(
    rnn: ALRNN | Recurrence,
    states: Tensor,
    found: FixedPointSet,
    inputs: Tensor | None = None,
    *,
    steps: int = 1000,
    tolerance: float = 1e-6,
) -> Settling:
    """Let trajectories run on under a constant input, and see where they end.

    Args:
        rnn: the network, or its parameters.
        states: where they start, shape ``(batch, M)``.
        found: fixed points under that input.
        inputs: the constant input s, shape ``(K,)``; ``None`` for zeros.
        steps: number of steps, at least 128.
        tolerance: distance, relative to 1 + |z|, within which two states are the same.

    Raises:
        ValueError: if a parameter or a state is not finite, a shape does not fit, or ``steps`` is below 128.

    Example:
        Two units that inhibit each other: the one that is ahead wins.

        >>> import torch
        >>> from lightning_alrnn.analysis import fixed_points
        >>> W = torch.tensor([[0.0, -1.0], [-1.0, 0.0]])
        >>> rnn = Recurrence(torch.full((2,), 0.5), W, None, torch.ones(2), P=2)
        >>> end = settle(rnn, torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 1.0]]), fixed_points(rnn))
        >>> end.at_point.tolist(), end.period.tolist()
        ([0, 1, 1], [1, 1, 1])
    """
    kept = 2 * LONGEST_PERIOD
    if steps < kept:
        raise ValueError(f"steps must be at least {kept}, got {steps}")
    system = read_system(rnn, inputs)
    if states.ndim != 2:
        raise ValueError(f"states must have shape (batch, M), got {tuple(states.shape)}")
    z = read_states("states", states, system.size).numpy()
    A, slopes = system.recurrence.A.numpy(), np.ones_like(z)
    tail = np.zeros((len(z), kept, z.shape[1]))
    diverged = np.zeros(len(z), dtype=np.bool_)
    for step in range(steps):
        slopes[:, system.linear :] = z[:, system.linear :] > 0
        z = jvp(A, system.coupling, z, slopes) + system.drive
        diverged |= np.abs(z).max(axis=1, initial=0.0) > DIVERGED
        z = np.where(diverged[:, None], 0.0, z)  # held, so that nothing overflows
        if step >= steps - kept:
            tail[:, step - steps + kept] = z
    close = tolerance * (1 + np.linalg.norm(z, axis=1))
    period = np.zeros(len(z), dtype=np.int64)
    for candidate in range(LONGEST_PERIOD, 0, -1):  # the least one stays
        apart = np.linalg.norm(tail[:, candidate:] - tail[:, :-candidate], axis=2).max(axis=1)
        period[(apart <= close) & ~diverged] = candidate
    at_point = np.full(len(z), -1, dtype=np.int64)
    if len(found.z):
        distance = np.linalg.norm(z[:, None] - found.z.numpy(), axis=2)
        nearest = distance.argmin(axis=1)
        near = (distance.min(axis=1) <= 100 * close) & (period == 1)
        at_point[near] = nearest[near]
    tail[diverged] = np.nan
    return Settling(tensor(at_point), tensor(period), tensor(diverged), tensor(tail), steps)
