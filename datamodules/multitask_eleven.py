"""The eleven tasks of the AL-RNN paper."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.datamodules import multitask_periods as periods

Durations = Literal["simple", "hard"]

TASKS = (
    *("DelayPro", "DelayAnti", "ReactPro", "ReactAnti", "CatPro", "CatAnti"),
    *("Match2Sample", "NonMatch2Sample", "CtxIntMod1", "CtxIntMod2", "GoNogo"),
)
PERIODS = ("context", "stimulus", "delay", "second stimulus", "second delay", "response")
INPUTS = (
    *("fixation", "cos", "sin", "pro, or second cos", "anti, or second sin", "attend to 1", "attend to 2"),
    *TASKS,
)
OUTPUTS = ("fixation", "cos", "sin")

_RULE = np.array([3, 4, 3, 4, 3, 4, 3, 4, 5, 6, 3])  # the input channel that carries each task's rule
_REACT = (TASKS.index("ReactPro"), TASKS.index("ReactAnti"))
_CATEGORY = (TASKS.index("CatPro"), TASKS.index("CatAnti"))
_MATCH = (TASKS.index("Match2Sample"), TASKS.index("NonMatch2Sample"))
_CONTEXT_1, _CONTEXT_2 = TASKS.index("CtxIntMod1"), TASKS.index("CtxIntMod2")
_CONTEXTUAL = (_CONTEXT_1, _CONTEXT_2)
_GO = TASKS.index("GoNogo")
_AMPLITUDE, _WEAKER_AMPLITUDE = 0.8, 0.3  # of the modality that counts in the contextual tasks, and of the other one


def period_ranges(durations: Durations) -> NDArray[np.int64]:
    """The range low … high − 1 of the steps of each period of each task, shape ``(11, 6, 2)``."""
    if durations == "simple":
        context, stimulus, delay, response = (5, 10), (10, 15), (10, 15), (5, 10)
    else:
        context, stimulus, delay, response = (10, 20), (10, 40), (20, 50), (10, 20)
    none = (0, 1)
    ranges = np.array([[context, stimulus, delay, none, none, response]] * len(TASKS))
    ranges[_REACT, :] = [context, none, none, none, none, stimulus]
    ranges[_MATCH, :] = [context, stimulus, delay, stimulus, (5, 15), response]
    ranges[_CONTEXTUAL, :] = [context, stimulus, (10, 20), stimulus, none, response]
    return ranges


def draw(
    rng: np.random.Generator, size: int, chosen: NDArray[np.int64], durations: Durations, equal_amplitudes: bool = False
) -> periods.Trials:
    """Draw trials of the chosen tasks, which are indices into TASKS."""
    group, coin = periods.draw_tasks(rng, size, len(chosen))
    task = chosen[group]
    trial = np.arange(size)
    ranges = period_ranges(durations)
    steps = rng.integers(ranges[task, :, 0], ranges[task, :, 1])

    angle, other = rng.uniform(0, 2 * np.pi, (2, size))
    offset = np.where(
        coin, rng.uniform(-np.pi / 8, np.pi / 8, size), rng.uniform(np.pi / 4, 2 * np.pi - np.pi / 4, size)
    )
    strength = rng.uniform(0.2, 1, size)
    contextual = np.isin(task, _CONTEXTUAL)
    weaker = _AMPLITUDE if equal_amplitudes else _WEAKER_AMPLITUDE
    of_context = [task == _CONTEXT_1, task == _CONTEXT_2]
    first = np.where(task == _GO, strength, np.select(of_context, [_AMPLITUDE, weaker], 1.0))
    second = np.select(of_context, [weaker, _AMPLITUDE], 0.0)

    inputs = np.zeros((size, 6, len(INPUTS)), dtype=np.float32)
    inputs[:, periods.CONTEXT : periods.RESPONSE, 0] = 1.0
    inputs[:, periods.STIMULUS, 1:3] = first[:, None] * _direction(angle)
    inputs[:, periods.STIMULUS, 3:5] = second[:, None] * _direction(other)
    react, matching = np.isin(task, _REACT), np.isin(task, _MATCH)
    inputs[react, periods.RESPONSE, 1:3] = inputs[react, periods.STIMULUS, 1:3]
    inputs[contextual, periods.SECOND_STIMULUS, 1:5] = inputs[contextual, periods.STIMULUS, 1:5]
    inputs[matching, periods.SECOND_STIMULUS, 1:3] = _direction((angle + offset)[matching])
    inputs[trial, :, _RULE[task]] = 1.0
    inputs[trial, :, 7 + task] = 1.0

    swapped = _RULE[task] == 4  # anti and non-match: the other side
    side = np.select(
        [task == _GO, task == _CONTEXT_2, np.isin(task, _CATEGORY), matching],
        [0, other, np.where(angle < np.pi, 0, np.pi), np.where(coin, 0, np.pi)],
        angle,
    )
    side += np.where(swapped, np.pi, 0)
    answers = np.zeros((size, len(OUTPUTS)), dtype=np.float32)
    answers[:, 1:] = _direction(side)
    answers[(task == _GO) & (strength <= 0.5)] = (1.0, 0.0, 0.0)

    lengths = steps.sum(axis=1)
    time = int((ranges[chosen, :, 1] - 1).sum(axis=1).max())
    before_after = np.stack([lengths - steps[:, periods.RESPONSE], steps[:, periods.RESPONSE]], axis=1)
    targets = np.zeros((size, 2, len(OUTPUTS)), dtype=np.float32)
    targets[:, 0, 0] = 1.0
    targets[:, 1] = answers
    mask = np.zeros((size, 2), dtype=np.float32)
    mask[:, 1] = 1.0
    return periods.Trials(
        inputs=periods.lay_out(steps, inputs, time),
        targets=periods.lay_out(before_after, targets, time),
        mask=periods.lay_out(before_after, mask, time),
        lengths=lengths,
        answers=answers,
        group=group,
        period=periods.label_steps(steps, time),
    )


def _direction(angle: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.stack([np.cos(angle), np.sin(angle)], axis=-1)
