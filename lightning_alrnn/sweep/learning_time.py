"""When networks have learned their task: a further layer of a verdict, as a smaller P is often late and not unable."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import takewhile
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import special

from lightning_alrnn.metrics.threshold import has_threshold
from lightning_alrnn.sweep.estimates import Estimate
from lightning_alrnn.sweep.intervals import Interval, bound_rank, gap_lower_limit
from lightning_alrnn.sweep.rules import Run

# part of the level that goes to P after P in an order, each at the whole of it; the rest is divided between all P
_SEQUENCE_PART = 2 / 3


class LearningTime(NamedTuple):
    """How many epochs the runs with one number of nonlinear units took to reach the threshold in validation.

    A run that never reached it, or diverged, counts as later than all others.

    Attributes:
        nonlinear_units: P.
        reached: Number of runs that reached the threshold.
        tried: Number of all runs, those that diverged among them.
        epochs: Number of epochs within which the others did not: the fewest that one of them was trained for, or the
            most of all runs where there is none that did not diverge.
        typical: Median of the epochs; infinite where half of the runs or more did not reach the threshold.
        low: Lower limit of the median; 0 where the runs bound nothing, infinite where it is not within ``epochs``.
        high: Upper limit; infinite where the runs bound nothing, or not within ``epochs``.
        reaches: Whether more than half of the runs reach the threshold, ``False`` where fewer than half do within
            ``epochs``; ``None`` if that cannot be told.
        later: Whether the median is shown to be more than that of the fastest P.
        delay: Lower limit of how many epochs more; 0 where ``later`` is ``False``.
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
    """Epochs that the runs of each P took to reach the threshold, and what that shows; none without a threshold.

    Each limit of a median is wrong with probability alpha at most, whatever the distribution. A P is *later* than the
    fastest if :func:`~lightning_alrnn.sweep.intervals.gap_lower_limit` at alpha says so; P are tested from the smallest
    on, up to the first that is not shown to be later. That fewer than half of the runs reach the threshold is tested
    the same way at two thirds of alpha; the last third is divided between all P. That more than half do is tested from
    the largest P on.
    """
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
    epochs = {p: min(_epochs_in_vain(runs), default=longest) for p, runs in chosen.items()}
    unable = {p: float(special.bdtr((earliest[p] <= epochs[p]).sum(), len(earliest[p]), 0.5)) for p in compared}
    able = {p: float(special.bdtr(np.isinf(latest[p]).sum(), len(latest[p]), 0.5)) for p in compared}
    reaches = dict.fromkeys(_shown(unable, alpha), False)
    reaches |= dict.fromkeys(_shown(dict(reversed(able.items())), alpha), True)
    delays = {p: _delay(p, earliest, {q: latest[q] for q in compared}, alpha) for p in compared}
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
    """Whether it is known when the run reached the threshold, or that it did not."""
    return bool(run.epochs) and (run.epochs_to_threshold is not None or has_threshold(run.metrics))


def _times(runs: Sequence[Run], latest: bool) -> NDArray[np.float64]:
    """Epochs to the threshold in order; a run that did not reach it may have done so next, or at the latest never."""
    times = []
    for run in runs:
        if run.epochs_to_threshold is not None and not run.diverged:
            times.append(float(run.epochs_to_threshold))
        else:
            times.append(math.inf if latest or run.diverged else 1.0 + (run.epochs or 0))
    return np.sort(times)


def _epochs_in_vain(runs: Sequence[Run]) -> Iterator[int]:
    """How long each of the runs was trained that did not reach the threshold."""
    return (run.epochs or 0 for run in runs if run.epochs_to_threshold is None and not run.diverged)


def _limits(earliest: NDArray[np.float64], latest: NDArray[np.float64], alpha: float) -> Interval:
    """Limits of a median by order statistics."""
    rank = bound_rank(len(latest), alpha)
    return Interval(float(earliest[rank]), float(latest[-1 - rank])) if rank >= 0 else Interval(0.0, math.inf)


def _shown(errors: Mapping[int, float], alpha: float) -> list[int]:
    """The P for which something is shown, if each would be claimed falsely with these probabilities."""
    first = takewhile(lambda p: errors[p] <= _SEQUENCE_PART * alpha, errors)
    return [*first, *(p for p, error in errors.items() if error <= (1 - _SEQUENCE_PART) * alpha / len(errors))]


def _delay(
    p: int, earliest: Mapping[int, NDArray[np.float64]], latest: Mapping[int, NDArray[np.float64]], alpha: float
) -> float:
    """Lower limit of how much later a P is than the fastest other: at the earliest, and they at the latest."""
    ordered = [np.sort(-(earliest if q == p else latest)[q]) for q in latest]
    return max(0.0, gap_lower_limit(ordered, [*latest].index(p), alpha))
