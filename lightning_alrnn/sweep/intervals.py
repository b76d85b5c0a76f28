"""Confidence limits for typical runs (medians) and shares of runs; higher is better, and −∞ is a run that diverged."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special  # not stats, whose import takes half a second

_MIN_RUNS = 5  # 2^−5 is the first power of ½ below the level 0.05
# part of the level for the column that a claim is about; the rest is for the columns that it is compared with
_COLUMN_PART = 2 / 3
# part of that rest for the best of the other columns; the remainder is for the second best
_BEST_PART = 0.6
# level at which the gap of means is checked against that of medians, because they differ for skewed scores
_CHECK_LEVEL = 0.2


class Gaps(NamedTuple):
    """Gaps between the typical run of each column and that of the best column.

    Attributes:
        gap: Estimates, 0 for the best, shape ``(columns,)``; infinite if the typical run diverged.
        low: Lower limits, at least 0, shape ``(columns,)``.
        high: Upper limits, shape ``(columns,)``; infinite if there is no limit.
    """

    gap: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Interval(NamedTuple):
    """Confidence limits of an estimate.

    Attributes:
        low: Lower limit.
        high: Upper limit.
    """

    low: float
    high: float


@lru_cache(maxsize=4096)
def share_interval(good: int, tried: int, alpha: float = 0.05) -> Interval:
    """Exact limits of a share (Clopper & Pearson 1934).

    Args:
        good: Number of runs that count.
        tried: Number of all runs, at least 1.
        alpha: Largest probability that one of the limits is wrong.

    Returns:
        The limits.

    Example:
        >>> low, high = share_interval(0, 10)
        >>> low, round(high, 3)
        (0.0, 0.259)
    """
    low = special.betaincinv(good, tried - good + 1, alpha) if good > 0 else 0.0
    high = special.betaincinv(good + 1, tried - good, 1 - alpha) if good < tried else 1.0
    return Interval(float(low), float(high))


def gap_intervals(columns: Sequence[NDArray[np.float64]], tolerance: float, alpha: float = 0.05) -> Gaps:
    """Gaps between the typical run of each column and the best one, with limits.

    *Order statistics* hold for any distribution: the j-th smallest of n runs lies above the median with probability
    P(Binomial(n, ½) < j). The gap of column p is at least max_q L_q − U_p and at most max_q U_q − L_p, for limits L
    and U of the medians that divide the level. The lower limit also uses the k-th largest L_q at a less strict level,
    because k columns are rarely wrong at once. *Means* need fewer runs: if the standard deviation of a column is at
    most the tolerance, its upper limit may also come from Hsu's comparisons with the best, with Dunnett's critical
    value, but is at least the distance between order statistics at the level 0.2. docs/verdict.md has the reasons.

    Args:
        columns: Scores of the runs of each column, −∞ for a run that diverged; each of shape ``(runs,)``.
        tolerance: Difference in score that does not count, positive.
        alpha: Largest probability that any upper limit is wrong, and that a given lower limit is wrong.

    Returns:
        Estimates and limits, each of shape ``(columns,)``.

    Example:
        >>> columns = [np.array([0.50, 0.51, 0.5, 0.5, 0.49]), *[np.array([0.9, 0.91, 0.9, 0.9, 0.91])] * 2]
        >>> gaps = gap_intervals(columns, tolerance=0.02)
        >>> gaps.gap.round(3).tolist(), gaps.low.round(3).tolist(), gaps.high.round(3).tolist()
        ([0.4, 0.0, 0.0], [0.39, 0.0, 0.0], [0.412, 0.01, 0.01])

    Reference:
        Hsu 1984; Dunnett 1955; David & Nagaraja 2003 for order statistics.
    """
    ordered = [np.sort(np.asarray(column, dtype=np.float64)) for column in columns]
    medians = np.array([_median(column) for column in ordered])
    best = float(medians.max())
    gap = best - medians if math.isfinite(best) else np.full(len(medians), math.inf)
    low = np.array([gap_lower_limit(ordered, place, alpha) for place in range(len(ordered))])
    high = np.minimum(_order_upper(ordered, alpha), _steady_upper(ordered, tolerance, alpha))
    return Gaps(gap, np.clip(low, 0.0, None), np.clip(high, 0.0, None))


def gap_lower_limit(ordered: Sequence[NDArray[np.float64]], place: int, alpha: float) -> float:
    """Lower limit of the gap of one of the columns, which are sorted in ascending order; −∞ if there is no limit."""
    column = ordered[place]
    others = [other for index, other in enumerate(ordered) if index != place]
    rank = bound_rank(len(column), _COLUMN_PART * alpha)
    if rank < 0 or not others:
        return -math.inf
    rest = alpha - _error(rank, len(column))
    ranks = [bound_rank(len(other), _BEST_PART * rest / len(others)) for other in others]
    best = max(map(_lower, others, ranks))
    rest -= sum(map(_error, ranks, map(len, others)))
    best = max(best, _several_lower(others, rest, _COLUMN_PART * alpha))
    upper = _upper(column, rank)
    return math.inf if upper == -math.inf < best else best - upper if best > -math.inf else -math.inf


def bound_rank(runs: int, level: float) -> int:
    """Largest j for which the (j+1)-th smallest of n runs exceeds the median with at most this probability, or −1."""
    rank = -1
    while rank + 1 < runs and _error(rank + 1, runs) <= level:
        rank += 1
    return rank


@lru_cache(maxsize=4096)
def _error(rank: int, runs: int) -> float:
    """P(Binomial(runs, ½) ≤ rank): probability that the limit at this rank is on the wrong side of the median."""
    return 0.0 if rank < 0 else float(special.bdtr(rank, runs, 0.5))


def _lower(column: NDArray[np.float64], rank: int) -> float:
    return float(column[rank]) if rank >= 0 else -math.inf


def _upper(column: NDArray[np.float64], rank: int) -> float:
    return float(column[len(column) - 1 - rank]) if rank >= 0 else math.inf


def _median(column: NDArray[np.float64]) -> float:
    middle = column[(len(column) - 1) // 2 : len(column) // 2 + 1]
    return float(middle.mean()) if np.isfinite(middle).all() else -math.inf


def _several_lower(others: Sequence[NDArray[np.float64]], rest: float, most: float) -> float:
    """The k-th largest lower limit, which is wrong only if k columns are, for the smallest k at which k have one."""
    for several in range(2, len(others) + 1):
        level = min(most, (rest / math.comb(len(others), several)) ** (1 / several))
        limits = sorted(_lower(other, bound_rank(len(other), level)) for other in others)
        if bound_rank(sorted(map(len, others))[-several], level) >= 0:
            return limits[-several]
    return -math.inf


def _order_upper(ordered: Sequence[NDArray[np.float64]], alpha: float) -> NDArray[np.float64]:
    """Upper limits by order statistics."""
    ranks = [bound_rank(len(column), _COLUMN_PART * alpha) for column in ordered]
    uppers = list(map(_upper, ordered, ranks))
    # only one column is the best, so only its upper limit has to hold; several columns have a lower limit
    rest = alpha - max(map(_error, ranks, map(len, ordered)))
    limits = []
    for place, column in enumerate(ordered):
        most = max((upper for index, upper in enumerate(uppers) if index != place), default=math.inf)
        lower = _lower(column, bound_rank(len(column), rest / len(ordered)))
        limits.append(most - lower if most < math.inf and lower > -math.inf else math.inf)
    return np.array(limits)


def _steady_upper(ordered: Sequence[NDArray[np.float64]], tolerance: float, alpha: float) -> NDArray[np.float64]:
    """Upper limits by means; infinite for columns whose standard deviation exceeds the tolerance."""
    steady = {
        place: float(column.var(ddof=1))
        for place, column in enumerate(ordered)
        if len(column) >= _MIN_RUNS and np.isfinite(column).all() and column.std(ddof=1) <= tolerance
    }
    limits = np.full(len(ordered), math.inf)
    if len(ordered) < 2 or not steady:
        return limits
    freedom = sum(len(ordered[place]) - 1 for place in steady)
    pooled = sum((len(ordered[place]) - 1) * variance for place, variance in steady.items()) / freedom
    critical = _dunnett_critical(len(ordered) - 1, freedom, alpha)
    for place, variance in steady.items():
        column = ordered[place]
        mean, runs = float(column.mean()), len(column)
        lower = _lower(column, bound_rank(runs, _CHECK_LEVEL))
        # the runs of a column with two peaks may all lie at the upper one, and there may be several such columns
        separable = bound_rank(runs, _COLUMN_PART * alpha / len(ordered)) >= 0
        largest = -math.inf
        for index, other in enumerate(ordered):
            if index == place:
                continue
            shared = pooled * (1 / runs + 1 / len(other))
            if index in steady:
                half = critical * math.sqrt(max(shared, variance / runs + steady[index] / len(other)))
                check = _upper(other, bound_rank(len(other), _CHECK_LEVEL)) - lower
                limit = max(float(other.mean()) - mean + half, check)
            elif other[-1] <= mean:
                limit = float(other[-1]) - lower  # every run of the other column is worse than the mean of this one
            elif separable:
                most = _upper(other, bound_rank(len(other), _COLUMN_PART * alpha))
                limit = most - mean + critical * math.sqrt(shared)
            else:
                limit = math.inf
            largest = max(largest, limit)
        limits[place] = largest
    return limits


@lru_cache(maxsize=1024)
def _dunnett_critical(comparisons: int, freedom: int, alpha: float) -> float:
    """Dunnett's c: P(max_i T_i ≤ c) = 1 − alpha for T_i = (Z_i − Z_0) / (√2 S), normal Z and S² of χ²/freedom."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    weights = weights / weights.sum()
    quantiles = (np.arange(400) + 0.5) / 400
    deviation = np.sqrt(special.chdtri(freedom, 1 - quantiles) / freedom)

    def excess(critical: float) -> float:
        below = special.ndtr(critical * math.sqrt(2) * deviation[None, :] + nodes[:, None]) ** comparisons
        return float((weights @ below).mean()) - (1 - alpha)

    return float(optimize.brentq(excess, 0.0, 1e4))
