"""The trials of the stimulus-selection task: its sounds, rules and choices, and what a network is shown of them."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

STIMULI = (
    *("lo_pc_go", "hi_pc_no", "le_lc_go", "ri_lc_no"),
    *("le_hi_pc", "ri_hi_pc", "le_lo_pc", "ri_lo_pc"),
    *("le_hi_lc", "ri_hi_lc", "le_lo_lc", "ri_lo_lc"),
)
"""The conditions, by the names and in the order of the data set (its ``stim_number`` counts from 1).

The first four are cue trials with one sound. "le", "ri", "lo" and "hi" are the sounds left, right, low and high; "lc"
is the localisation rule, "pc" the pitch rule.
"""

RULES = ("localisation", "pitch")
"""Rules by number."""

CHOICES = ("left", "right", "no-go")
"""Choices by number."""

CHANNELS = ("left", "right", "low", "high", "hold", "response", "rule localisation", "rule pitch")
"""Input channels by number."""

SOUND_MS = 250

_PARTS = [set(name.split("_")) for name in STIMULI]

SOUNDS = np.array([[sound in parts for sound in ("le", "ri", "lo", "hi")] for parts in _PARTS])
"""Which of the sounds left, right, low and high each stimulus plays, bool of shape ``(12, 4)``."""

RULE_OF = np.array([RULES.index("pitch" if "pc" in parts else "localisation") for parts in _PARTS])
"""The rule of each stimulus, of shape ``(12,)``."""

ANSWERS = np.array(
    [CHOICES.index("left" if {"le", "lc"} <= p else "right" if {"lo", "pc"} <= p else "no-go") for p in _PARTS]
)
"""The right choice of each stimulus, of shape ``(12,)``."""


class RecordedTrials(NamedTuple):
    """Trials of a recording, N units and K input channels.

    Attributes:
        spikes: counts in each bin, whole numbers of shape ``(trials, time, N)``, zero past a trial's length.
        inputs: float32 of shape ``(trials, time, K)``, zero past a trial's length.
        lengths: steps of each trial, int64 of shape ``(trials,)``.
        labels: the choice of each trial, int64 of shape ``(trials,)``.
        classes: how many choices there are.
        class_names: their names, or ``None``.
        group: condition of each trial, int64 of shape ``(trials,)``, or ``None``.
        group_names: names of the conditions, or ``None``.
        block: which block each trial is of, int64 of shape ``(trials,)``; a block stays in one split.
        kind: what kind of block that is, int64 of shape ``(trials,)``; every split gets some of each kind.
    """

    spikes: NDArray[Any]
    inputs: NDArray[np.float32]
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]
    classes: int
    class_names: list[str] | None
    group: NDArray[np.int64] | None
    group_names: list[str] | None
    block: NDArray[np.int64]
    kind: NDArray[np.int64]


def steps_of(milliseconds: float, bin_ms: int) -> int:
    """The nearest number of bins, at least one."""
    return max(1, round(milliseconds / bin_ms))


def show_trials(
    stimulus: NDArray[np.int64], hold: NDArray[np.int64], lengths: NDArray[np.int64], steps: int, sound_steps: int
) -> NDArray[np.float32]:
    """The input channels of trials, float32 of shape ``(trials, T, 8)``; see :data:`CHANNELS`.

    The centre port is held, then the sounds play, then the animal may respond until the trial ends; the rule is on
    throughout. All channels are 0 or 1, and 0 past a trial's length.

    Example:
        >>> one = np.array([STIMULI.index("le_hi_pc")]), np.array([1]), np.array([4])
        >>> show_trials(*one, steps=5, sound_steps=2)[0].astype(int)
        array([[0, 0, 0, 0, 1, 0, 0, 1],
               [1, 0, 0, 1, 0, 0, 0, 1],
               [1, 0, 0, 1, 0, 0, 0, 1],
               [0, 0, 0, 0, 0, 1, 0, 1],
               [0, 0, 0, 0, 0, 0, 0, 0]])
    """
    step = np.arange(steps)
    hold = hold[:, None]
    valid = step < lengths[:, None]
    sound = valid & (step >= hold) & (step < hold + sound_steps)
    inputs = np.zeros((len(stimulus), steps, len(CHANNELS)), dtype=np.float32)
    inputs[..., :4] = sound[..., None] & SOUNDS[stimulus][:, None]
    inputs[..., 4] = step < hold
    inputs[..., 5] = valid & (step >= hold + sound_steps)
    inputs[..., 6:] = valid[..., None] & (RULE_OF[stimulus][:, None, None] == np.arange(2))
    return inputs


def compact_counts(counts: NDArray[Any]) -> NDArray[Any]:
    """Counts in the smallest of uint8 and int32 that holds them."""
    return counts.astype(np.uint8 if counts.max(initial=0) <= np.iinfo(np.uint8).max else np.int32)
