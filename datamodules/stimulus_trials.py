"""The trials of the stimulus-selection task: sounds, rules, choices and input channels."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

STIMULI = (
    *("lo_pc_go", "hi_pc_no", "le_lc_go", "ri_lc_no"),
    *("le_hi_pc", "ri_hi_pc", "le_lo_pc", "ri_lo_pc"),
    *("le_hi_lc", "ri_hi_lc", "le_lo_lc", "ri_lo_lc"),
)
"""Conditions with the names and the order of the data set: sounds (left, right, low, high) and rule (lc or pc)."""

RULES = ("localisation", "pitch")
CHOICES = ("left", "right", "no-go")
CHANNELS = ("left", "right", "low", "high", "hold", "response", "rule localisation", "rule pitch")
SOUND_MS = 250

_PARTS = [set(name.split("_")) for name in STIMULI]

SOUNDS = np.array([[sound in parts for sound in ("le", "ri", "lo", "hi")] for parts in _PARTS])
"""Mask of the sounds left, right, low and high of each stimulus, shape ``(12, 4)``."""

RULE_OF = np.array([RULES.index("pitch" if "pc" in parts else "localisation") for parts in _PARTS])
"""The rule of each stimulus, shape ``(12,)``."""

ANSWERS = np.array(
    [CHOICES.index("left" if {"le", "lc"} <= p else "right" if {"lo", "pc"} <= p else "no-go") for p in _PARTS]
)
"""The correct choice of each stimulus, shape ``(12,)``."""


class RecordedTrials(NamedTuple):
    """Trials of a recording; spikes and inputs are 0 after the end of a trial."""

    spikes: NDArray[Any]  # counts in each bin, (trials, time, N)
    inputs: NDArray[np.float32]  # (trials, time, K)
    lengths: NDArray[np.int64]
    labels: NDArray[np.int64]  # the choice of each trial
    classes: int
    class_names: list[str] | None
    group: NDArray[np.int64] | None
    group_names: list[str] | None
    block: NDArray[np.int64]  # a block stays in one split
    kind: NDArray[np.int64]  # of the block; every split gets blocks of each kind


def steps_of(milliseconds: float, bin_ms: int) -> int:
    """The nearest number of bins, at least 1."""
    return max(1, round(milliseconds / bin_ms))


def show_trials(
    stimulus: NDArray[np.int64], hold: NDArray[np.int64], lengths: NDArray[np.int64], steps: int, sound_steps: int
) -> NDArray[np.float32]:
    """The input channels of trials, shape ``(trials, T, 8)``: hold, then sounds, then response, and the rule."""
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
    """Counts as uint8 if possible, else as int32."""
    return counts.astype(np.uint8 if counts.max(initial=0) <= np.iinfo(np.uint8).max else np.int32)
