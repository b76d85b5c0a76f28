"""Simulated trials of the stimulus-selection task, and a simulated population of neurons."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.signal import lfilter

from lightning_alrnn.batch import Split
from lightning_alrnn.datamodules import stimulus_trials as task
from lightning_alrnn.datamodules.base import SPLITS
from lightning_alrnn.datamodules.held_out import divide_trials

CUE_TRIALS, MIXED_TRIALS = 20, 60  # number of trials with one sound, and then with two, in a block
LAPSES = 0.1  # share of the trials in which the animal makes a wrong choice
_HOLD_MS = 250, 350
_RESPONSE_MS = 200, 600

_CUES = np.array([[i for i in range(4) if task.RULE_OF[i] == rule] for rule in range(2)])
_MIXED = np.array([[i for i in range(4, 12) if task.RULE_OF[i] == rule] for rule in range(2)])

_MEDIAN_RATE, _RATE_SPREAD = 4.0, 0.7  # of the baseline, in Hz and in natural-log units
_TUNING = (0.3,) + (0.5,) * 4 + (0.8,) * 3  # standard deviation of the weights of rule, sounds and choices
_SOUND_TAU_MS, _CHOICE_TAU_MS = 100.0, 200.0
_CHOICE_NOISE = 0.3  # stationary standard deviation
_MAX_RATE = 200.0


class Layout(NamedTuple):
    """The steps of the parts of a trial: the range of the hold, the sounds, and the range of the response."""

    hold: tuple[int, int]
    sound: int
    response: tuple[int, int]

    @classmethod
    def of(cls, bin_ms: int) -> Layout:
        hold, response = (
            (task.steps_of(low, bin_ms), task.steps_of(high, bin_ms)) for low, high in (_HOLD_MS, _RESPONSE_MS)
        )
        return cls(hold, task.steps_of(task.SOUND_MS, bin_ms), response)

    @property
    def longest(self) -> int:
        return self.hold[1] + self.sound + self.response[1]


class Population(NamedTuple):
    """Poisson units: rate = baseline · exp(Σ weight · signal) Hz, with signals of the rule (±1), sounds and choices."""

    baseline: NDArray[np.float64]  # (N,)
    weights: NDArray[np.float64]  # (8, N)


def draw_population(units: int, seed: int) -> Population:
    """Draw units with log-normal baselines and random weights; unit i is the same for any number of units."""
    # not the streams of the trials and of the order of training
    drawn = np.random.default_rng((seed, len(SPLITS) + 1)).standard_normal((units, 1 + len(_TUNING)))
    return Population(_MEDIAN_RATE * np.exp(_RATE_SPREAD * drawn[:, 0]), (drawn[:, 1:] * _TUNING).T)


def divide_durations(layout: Layout, seed: int) -> dict[Split, NDArray[np.bool_]]:
    """The durations of each stimulus in each split, by their number: masks of shape ``(12, holds · responses)``."""
    count = (1 + layout.hold[1] - layout.hold[0]) * (1 + layout.response[1] - layout.response[0])
    masks = [divide_trials(count, seed, stimulus) for stimulus in range(len(task.STIMULI))]
    return {split: np.stack([mask[split] for mask in masks]) for split in SPLITS}


def draw_single_trials(
    rng: np.random.Generator, size: int, layout: Layout, allowed: NDArray[np.bool_] | None = None
) -> tuple[NDArray[np.float32], NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Draw inputs ``(size, T, 8)``, stimulus, hold and lengths with the odds of the 160-trial cycle.

    ``allowed``, one mask of :func:`divide_durations`, limits the durations of each stimulus.
    """
    rule = rng.integers(0, 2, size)
    stimulus = _draw_stimuli(rng, rule, rng.random(size) < CUE_TRIALS / (CUE_TRIALS + MIXED_TRIALS))
    hold, lengths = _draw_lengths(rng, size, layout)
    if allowed is not None:
        number = np.argmax(rng.random((size, allowed.shape[1])) * allowed[stimulus], axis=1)
        longer, response = np.divmod(number, 1 + layout.response[1] - layout.response[0])
        hold = layout.hold[0] + longer
        lengths = hold + layout.sound + layout.response[0] + response
    return task.show_trials(stimulus, hold, lengths, layout.longest, layout.sound), stimulus, hold, lengths


def draw_blocks(rng: np.random.Generator, size: int, layout: Layout) -> tuple[NDArray[Any], ...]:
    """Draw blocks of one rule: inputs without the rule ``(size, T, 6)``, targets, mask of responses, rule, lengths."""
    trials = CUE_TRIALS + MIXED_TRIALS
    rule = rng.integers(0, 2, size)
    cued = np.broadcast_to(np.arange(trials) < CUE_TRIALS, (size, trials))
    stimulus = _draw_stimuli(rng, np.repeat(rule[:, None], trials, axis=1), cued).ravel()
    hold, lengths = _draw_lengths(rng, size * trials, layout)
    shown = task.show_trials(stimulus, hold, lengths, layout.longest, layout.sound)[..., :6]
    steps = layout.longest * trials
    total = lengths.reshape(size, trials).sum(axis=1)
    valid = np.arange(steps) < total[:, None]
    # both selections have the steps of a block in the same order, one trial after the other
    inputs = np.zeros((size, steps, shown.shape[-1]), dtype=np.float32)
    inputs[valid] = shown[np.arange(layout.longest) < lengths[:, None]]
    mask = inputs[..., 5].copy()
    answers = np.zeros((size, steps), dtype=np.int64)
    answers[valid] = np.repeat(task.ANSWERS[stimulus], lengths)
    return inputs, np.where(mask > 0, answers, 0), mask, rule, total


def draw_choices(rng: np.random.Generator, stimulus: NDArray[np.int64]) -> NDArray[np.int64]:
    """The choices of the simulated animal, indices into CHOICES: the correct ones, except for lapses."""
    lapse = (rng.random(len(stimulus)) < LAPSES) * rng.integers(1, len(task.CHOICES), len(stimulus))
    return np.asarray((task.ANSWERS[stimulus] + lapse) % len(task.CHOICES))


def draw_spikes(
    rng: np.random.Generator,
    population: Population,
    stimulus: NDArray[np.int64],
    choice: NDArray[np.int64],
    hold: NDArray[np.int64],
    lengths: NDArray[np.int64],
    layout: Layout,
    bin_ms: int,
) -> NDArray[np.uint8]:
    """Draw spike counts ``(size, T, N)``, zero after the end of a trial; docs/tasks has the signals."""
    step = np.arange(layout.longest)
    hold = hold[:, None]
    sound = (step >= hold) & (step < hold + layout.sound)
    sounds = _follow(sound[..., None] * task.SOUNDS[stimulus][:, None], _SOUND_TAU_MS, bin_ms)
    chosen = (step >= hold)[..., None] & (choice[:, None, None] == np.arange(len(task.CHOICES)))
    noise = _ornstein_uhlenbeck(rng, (len(stimulus), len(step), len(task.CHOICES)), _CHOICE_TAU_MS, bin_ms)
    choices = _follow(chosen, _CHOICE_TAU_MS, bin_ms) + _CHOICE_NOISE * noise
    rule = np.broadcast_to(2.0 * task.RULE_OF[stimulus][:, None, None] - 1.0, (len(stimulus), len(step), 1))
    signals = np.concatenate([rule, sounds, choices], axis=-1)
    rates = np.minimum(population.baseline * np.exp(signals @ population.weights), _MAX_RATE)
    counts = rng.poisson(rates * (bin_ms / 1000))
    return (counts * (step < lengths[:, None])[..., None]).astype(np.uint8)


def _draw_stimuli(rng: np.random.Generator, rule: NDArray[np.int64], cued: NDArray[np.bool_]) -> NDArray[np.int64]:
    number = rng.integers(0, _MIXED.shape[1], rule.shape)
    return np.where(cued, _CUES[rule, number % _CUES.shape[1]], _MIXED[rule, number])


def _draw_lengths(rng: np.random.Generator, count: int, layout: Layout) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Steps of the hold and of the whole trial."""
    hold = rng.integers(*layout.hold, count, endpoint=True)
    return hold, hold + layout.sound + rng.integers(*layout.response, count, endpoint=True)


def _follow(signal: NDArray[Any], tau_ms: float, bin_ms: int) -> NDArray[np.float64]:
    """Leaky integration along time: x_t = a·x_{t−1} + (1−a)·s_t with a = exp(−bin / τ)."""
    keep = np.exp(-bin_ms / tau_ms)
    return np.asarray(lfilter([1 - keep], [1, -keep], signal.astype(np.float64), axis=1))


def _ornstein_uhlenbeck(
    rng: np.random.Generator, shape: tuple[int, ...], tau_ms: float, bin_ms: int
) -> NDArray[np.float64]:
    """Noise along time with the stationary variance 1."""
    keep = np.exp(-bin_ms / tau_ms)
    white = rng.standard_normal(shape)
    white[:, 1:] *= np.sqrt(1 - keep**2)
    return np.asarray(lfilter([1.0], [1, -keep], white, axis=1))
