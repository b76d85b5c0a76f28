"""Trials made of periods: within each, every channel keeps its value."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

CONTEXT, STIMULUS, DELAY, SECOND_STIMULUS, SECOND_DELAY, RESPONSE = range(6)
"""The periods of a trial, in this order; a task that lacks one gives it no steps."""


class Trials(NamedTuple):
    """Trials of one suite, a row each.

    Attributes:
        inputs: float32 of shape ``(trials, time, K)``, zero past a trial's length.
        targets: float32 of shape ``(trials, time, outputs)``, zero past a trial's length.
        mask: weights in the loss, float32 of shape ``(trials, time)`` or ``(trials, time, outputs)``, zero past a
            trial's length.
        lengths: int64 of shape ``(trials,)``.
        answers: the target at a trial's last step, float32 of shape ``(trials, outputs)``.
        group: which of the chosen tasks, int64 of shape ``(trials,)``.
        period: period of each step, int64 of shape ``(trials, time)``; −1 past a trial's length.
    """

    inputs: NDArray[np.float32]
    targets: NDArray[np.float32]
    mask: NDArray[np.float32]
    lengths: NDArray[np.int64]
    answers: NDArray[np.float32]
    group: NDArray[np.int64]
    period: NDArray[np.int64]


def draw_tasks(rng: np.random.Generator, size: int, tasks: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The task of each trial, from 0 to ``tasks`` − 1, and a coin's side, bool, each of shape ``(size,)``.

    Balanced: among ``size`` trials, in random order, the numbers of two tasks differ by 2 at most, and so do heads and
    tails within a task by 1.
    """
    group, coin = np.divmod(rng.permutation(size) % (2 * tasks), 2)
    return group, coin == 1


def lay_out(durations: NDArray[np.int64], values: NDArray[np.float32]) -> NDArray[np.float32]:
    """The steps of all trials one after the other, shape ``(steps of all trials, …)``, each with its period's values.

    ``durations`` has shape ``(trials, periods)``, ``values`` ``(trials, periods, …)``.
    """
    return np.repeat(values.reshape(-1, *values.shape[2:]), durations.ravel(), axis=0)


def pad(steps: NDArray[np.float32], lengths: NDArray[Any], time: int) -> NDArray[np.float32]:
    """Part the steps of all trials into trials, shape ``(trials, T, …)``, with zeros past each one's length.

    Example:
        >>> pad(lay_out(np.array([[1, 2], [1, 0]]), np.array([[3.0, 4.0], [5.0, 6.0]])), np.array([3, 1]), 3)
        array([[3., 4., 4.],
               [5., 0., 0.]], dtype=float32)
    """
    padded = np.zeros((len(lengths), time, *steps.shape[1:]), dtype=np.float32)
    padded[np.arange(time) < lengths[:, None]] = steps
    return padded


def label_steps(durations: NDArray[np.int64], time: int) -> NDArray[np.int64]:
    """The period of each step, int64 of shape ``(trials, T)``, −1 past a trial's length.

    Example:
        >>> label_steps(np.array([[1, 2], [1, 0]]), 3)
        array([[ 0,  1,  1],
               [ 0, -1, -1]])
    """
    step = np.arange(time)
    labels = np.zeros((len(durations), time), dtype=np.int64)
    for end in durations.cumsum(axis=1).T:  # many times as fast as np.repeat
        labels += step >= end[:, None]
    labels[labels == durations.shape[1]] = -1
    return labels
