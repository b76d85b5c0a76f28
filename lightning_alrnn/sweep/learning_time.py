"""The number of epochs that each P needs to learn its task: a smaller P is often late rather than unable."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from lightning_alrnn.metrics.threshold import has_threshold
from lightning_alrnn.sweep.estimates import Estimate
from lightning_alrnn.sweep.intervals import Interval, bound_rank, gap_lower_limit
from lightning_alrnn.sweep.rules import Run

# part of the level for tests that stop at the first P that fails; the rest is divided equally between all P
_SEQUENCE_PART = 2 / 3


class LearningTime(NamedTuple):
    """Epochs until the runs with one number of nonlinear units reached the threshold in validation.

    A run that diverged or never reached the threshold counts as later than all others.

    Attributes:
        nonlinear_units: P.
        reached: Number of runs that reached the threshold.
        tried: Number of all runs, including those that diverged.
        epochs: Smallest number of epochs that a run without success was trained for; the largest number of all runs if
            there is no such run.
        typical: Median of the epochs; infinite if at least half of the runs did not reach the threshold.
        low: Lower limit of the median; 0 if there is no limit, infinite if it is not within ``epochs``.
        high: Upper limit of the median; infinite if there is no limit within ``epochs``.
        reaches: Whether more than half of the runs reach the threshold; ``False`` if fewer than half do within
            ``epochs``, ``None`` if the runs do not tell.
        later: Whether the median is higher than that of the fastest P.
        delay: Lower limit of the difference in epochs; 0 if ``later`` is ``False``.
    """

    nonlinear_units: int
    reached: int
    tried: int
    epochs: int
    typical: float
    low: float
    high: float
    reaches: bool | None
    later: bool
    delay: float


def learning_times(
    columns: Mapping[int, Sequence[Run]], estimates: Sequence[Estimate], alpha: float
) -> tuple[LearningTime, ...]:
    """Learning time of each P; none if the runs lack a threshold. docs/verdict.md explains the order of the tests."""
    chosen = {
        one.nonlinear_units: [run for run in columns[one.nonlinear_units] if run.settings == one.setting]
        for one in estimates
    }
    trained = [run for runs in chosen.values() for run in runs if not run.diverged]
    if not trained or not all(map(_says_when, trained)):
        return ()
    longest = max(run.epochs or 0 for run in trained)
    compared = [one.nonlinear_units for one in estimates if one.compared]
    earliest, latest = ({p: _times(runs, end) for p, runs in chosen.items()} for end in (False, True))
    in_vain = {
        p: [run.epochs or 0 for run in runs if run.epochs_to_threshold is None and not run.diverged]
        for p, runs in chosen.items()
    }
    epochs = {p: min(of_runs, default=longest) for p, of_runs in in_vain.items()}
    unable = {p: float(special.bdtr((earliest[p] <= epochs[p]).sum(), len(earliest[p]), 0.5)) for p in compared}
    able = {p: float(special.bdtr(np.isinf(latest[p]).sum(), len(latest[p]), 0.5)) for p in compared}
    reaches = dict.fromkeys(_shown(unable, alpha), False)
    reaches |= dict.fromkeys(_shown(dict(reversed(able.items())), alpha), True)
    delays = {}
    for place, p in enumerate(compared):  # its earliest times against the latest times of the other P
        ordered = [np.sort(-(earliest if q == p else latest)[q]) for q in compared]
        delays[p] = max(0.0, gap_lower_limit(ordered, place, alpha))
    later = set(takewhile(lambda p: delays[p] > 0, compared))
    times = []
    for p, runs in chosen.items():
        low, high = _limits(earliest[p], latest[p], alpha)
        typical = float(np.median(latest[p]))
        times.append(
            LearningTime(
                nonlinear_units=p,
                reached=int(np.isfinite(latest[p]).sum()),
                tried=len(runs),
                epochs=epochs[p],
                typical=typical,
                low=math.inf if low > epochs[p] and math.isinf(typical) else low,
                high=high,
                reaches=reaches.get(p),
                later=p in later,
                delay=delays[p] if p in later else 0.0,
            )
        )
    return tuple(times)


def _says_when(run: Run) -> bool:
    """Whether the run says when it reached the threshold, or that it did not."""
    return bool(run.epochs) and (run.epochs_to_threshold is not None or has_threshold(run.metrics))


def _times(runs: Sequence[Run], latest: bool) -> NDArray[np.float64]:
    """Sorted epochs to the threshold; a run without success reaches it in the next epoch at the earliest, or never."""
    times = []
    for run in runs:
        if run.epochs_to_threshold is not None and not run.diverged:
            times.append(float(run.epochs_to_threshold))
        else:
            times.append(math.inf if latest or run.diverged else 1.0 + (run.epochs or 0))
    return np.sort(times)


def _limits(earliest: NDArray[np.float64], latest: NDArray[np.float64], alpha: float) -> Interval:
    """Limits of a median by order statistics."""
    rank = bound_rank(len(latest), alpha)
    return Interval(float(earliest[rank]), float(latest[-1 - rank])) if rank >= 0 else Interval(0.0, math.inf)


def _shown(errors: Mapping[int, float], alpha: float) -> list[int]:
    """The P whose claim holds at the level alpha, given the probability of a false claim for each P."""
    first = takewhile(lambda p: errors[p] <= _SEQUENCE_PART * alpha, errors)
    return [*first, *(p for p, error in errors.items() if error <= (1 - _SEQUENCE_PART) * alpha / len(errors))]
