"""Trials made of periods, in which every channel keeps its value."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

CONTEXT, STIMULUS, DELAY, SECOND_STIMULUS, SECOND_DELAY, RESPONSE = range(6)
"""The periods of a trial, in this order; a task without one of them gives it no steps."""


class Trials(NamedTuple):
    """Trials of one suite, a row each; inputs, targets and mask are 0 and the period is −1 after the end of a trial."""

    inputs: NDArray[np.float32]  # (trials, time, K)
    targets: NDArray[np.float32]  # (trials, time, outputs)
    mask: NDArray[np.float32]  # weights in the loss, (trials, time) or (trials, time, outputs)
    lengths: NDArray[np.int64]
    answers: NDArray[np.float32]  # targets of the last step, (trials, outputs)
    group: NDArray[np.int64]  # index among the chosen tasks
    period: NDArray[np.int64]  # (trials, time)


def draw_tasks(rng: np.random.Generator, size: int, tasks: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """The task and the side of a coin of each trial, in random order; both are balanced."""
    group, coin = np.divmod(rng.permutation(size) % (2 * tasks), 2)
    return group, coin == 1


def lay_out(
    durations: NDArray[np.int64],
    values: NDArray[np.float32],
    time: int,
    noise: tuple[np.random.Generator, float] | None = None,
) -> NDArray[np.float32]:
    """Trials ``(trials, time, …)`` from durations ``(trials, periods)`` and values ``(trials, periods, …)``."""
    steps = np.repeat(values.reshape(-1, *values.shape[2:]), durations.ravel(), axis=0)
    if noise is not None:
        rng, deviation = noise
        steps += np.float32(deviation) * rng.standard_normal(steps.shape, dtype=np.float32)
    padded = np.zeros((len(durations), time, *steps.shape[1:]), dtype=np.float32)
    padded[np.arange(time) < durations.sum(axis=1, keepdims=True)] = steps
    return padded


def label_steps(durations: NDArray[np.int64], time: int) -> NDArray[np.int64]:
    """The period of each step, shape ``(trials, time)``, −1 after the end of a trial."""
    step = np.arange(time)
    labels = np.zeros((len(durations), time), dtype=np.int64)
    for end in durations.cumsum(axis=1).T:  # many times as fast as np.repeat
        labels += step >= end[:, None]
    labels[labels == durations.shape[1]] = -1
    return labels
