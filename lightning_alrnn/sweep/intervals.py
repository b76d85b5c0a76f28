"""Intervals for typical runs and for shares of runs: plain functions on arrays, in which a higher score is better.

The *typical run* of a choice such as P is the median of the scores that its runs would have. A run that diverged has
the score −∞, so that medians stay what they are where means would not.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, special, stats

MIN_RUNS = 5
"""Runs that a claim needs at the level 0.05: 2^−5 is the first power of ½ below it."""

# part of the level that goes to the one column that a claim is about; the rest goes to those it is held against
_COLUMN_PART = 2 / 3
# part of that rest that goes to the best of the others; what is then left goes to the second best
_BEST_PART = 0.6
# level at which the gap of means is checked against that of medians, as skewed scores have means of their own
_CHECK_LEVEL = 0.2


class Gaps(NamedTuple):
    """How far the typical run of each column lies behind that of the best other.

    Attributes:
        gap: Estimate, 0 for the best, shape ``(columns,)``; infinite where the typical run diverged.
        low: Lower limits, at least 0, shape ``(columns,)``.
        high: Upper limits, shape ``(columns,)``; infinite where the runs bound nothing.
    """

    gap: NDArray[np.float64]
    low: NDArray[np.float64]
    high: NDArray[np.float64]


class Interval(NamedTuple):
    """Limits of an estimate.

    Attributes:
        low: Lower limit.
        high: Upper limit.
    """

    low: float
    high: float


@lru_cache(maxsize=4096)  # scipy takes a millisecond
def share_interval(good: int, tried: int, alpha: float = 0.05) -> Interval:
    """Exact limits of a share (Clopper–Pearson), each wrong with probability alpha at most.

    Args:
        good: Number of runs that count.
        tried: Number of all runs, at least 1.
        alpha: Level of each limit.

    Returns:
        The limits.

    Example:
        >>> low, high = share_interval(0, 10)
        >>> low, round(high, 3)
        (0.0, 0.259)

    Reference:
        Clopper & Pearson 1934.
    """
    limits = stats.binomtest(good, tried).proportion_ci(confidence_level=1 - 2 * alpha, method="exact")
    return Interval(float(limits.low), float(limits.high))


def gap_intervals(columns: Sequence[NDArray[np.float64]], tolerance: float, alpha: float = 0.05) -> Gaps:
    r"""By how much the typical run of each column lies behind the best other's, with limits.

    All upper limits together are wrong with probability alpha at most, and so is each lower limit by itself.

    *Order statistics* give limits whatever the scores' distribution. The j-th smallest of n runs lies above the median
    with probability P(Binomial(n, ½) < j). A gap is at least max_q L_q − U_p and at most max_q U_q − L_p, where the
    level is divided between the column p and those it is held against. For the lower limit max_q L_q is the larger of
    two: the largest L_q, each at its part of the level, and the second largest (with many columns and few runs the
    third, and so on) of limits that are less strict, as several columns seldom err at once.

    *Where runs are steady*, that is where the standard deviation of a column is at most the tolerance, differences of
    means give upper limits that need fewer runs: Hsu's multiple comparisons with the best, with Dunnett's critical
    value and the larger of the pooled and the two columns' own variances. Means stand in for medians there, so that
    the limit is at least the distance between order statistics of the two columns, each at the level 0.2. The smaller
    of the two upper limits counts.

    Args:
        columns: Scores of the runs of each column, −∞ for one that diverged; each of shape ``(runs,)``.
        tolerance: How much worse does not count, positive.
        alpha: Level.

    Returns:
        Estimates and limits.

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
    """Lower limit of how far a column's typical run lies behind the best of the others'; −∞ where nothing bounds it.

    ``ordered`` holds the scores of each column in ascending order, −∞ for a run that diverged.

    Example:
        >>> gap_lower_limit([np.arange(6), np.arange(10, 16)], 0, 0.05), gap_lower_limit([np.arange(6)] * 2, 0, 0.05)
        (5.0, -5.0)
    """
    column = ordered[place]
    others = [other for index, other in enumerate(ordered) if index != place]
    rank = bound_rank(len(column), _COLUMN_PART * alpha)
    if rank < 0 or not others:
        return -math.inf
    left = alpha - _error(rank, len(column))
    ranks = [bound_rank(len(other), _BEST_PART * left / len(others)) for other in others]
    best = max(_lower(other, rank) for other, rank in zip(others, ranks, strict=True))
    left -= sum(_error(rank, len(other)) for other, rank in zip(others, ranks, strict=True))
    best = max(best, _several_lower(others, left, _COLUMN_PART * alpha))
    upper = _upper(column, rank)
    return math.inf if upper == -math.inf < best else best - upper if best > -math.inf else -math.inf


def bound_rank(runs: int, level: float) -> int:
    """Largest j for which the (j+1)-th smallest of n runs exceeds their median with at most this probability; −1: none.

    Example:
        >>> bound_rank(4, 0.05), bound_rank(5, 0.05), bound_rank(10, 0.05)
        (-1, 0, 1)
    """
    rank = -1
    while rank + 1 < runs and _error(rank + 1, runs) <= level:
        rank += 1
    return rank


@lru_cache(maxsize=4096)
def _error(rank: int, runs: int) -> float:
    """P(Binomial(runs, ½) ≤ rank): how often the limit at this rank lies on the wrong side of the median."""
    return 0.0 if rank < 0 else float(special.bdtr(rank, runs, 0.5))


def _lower(column: NDArray[np.float64], rank: int) -> float:
    return float(column[rank]) if rank >= 0 else -math.inf


def _upper(column: NDArray[np.float64], rank: int) -> float:
    return float(column[len(column) - 1 - rank]) if rank >= 0 else math.inf


def _median(column: NDArray[np.float64]) -> float:
    middle = column[(len(column) - 1) // 2 : len(column) // 2 + 1]
    return float(middle.mean()) if np.isfinite(middle).all() else -math.inf


def _several_lower(others: Sequence[NDArray[np.float64]], left: float, most: float) -> float:
    """The k-th largest of lower limits: k of the columns would have to be wrong at once for it to be wrong.

    k is the smallest for which so many columns have a limit, which depends on their numbers of runs alone.
    """
    for several in range(2, len(others) + 1):
        level = min(most, (left / math.comb(len(others), several)) ** (1 / several))
        limits = sorted(_lower(other, bound_rank(len(other), level)) for other in others)
        if bound_rank(sorted(map(len, others))[-several], level) >= 0:
            return limits[-several]
    return -math.inf


def _order_upper(ordered: Sequence[NDArray[np.float64]], alpha: float) -> NDArray[np.float64]:
    """Upper limits by order statistics alone."""
    ranks = [bound_rank(len(column), _COLUMN_PART * alpha) for column in ordered]
    uppers = [_upper(column, rank) for column, rank in zip(ordered, ranks, strict=True)]
    # one column alone is the best, so that its limit alone has to hold; those behind it are several
    left = alpha - max(_error(rank, len(column)) for column, rank in zip(ordered, ranks, strict=True))
    limits = []
    for place, column in enumerate(ordered):
        most = max((upper for index, upper in enumerate(uppers) if index != place), default=math.inf)
        lower = _lower(column, bound_rank(len(column), left / len(ordered)))
        limits.append(most - lower if most < math.inf and lower > -math.inf else math.inf)
    return np.array(limits)


def _steady_upper(ordered: Sequence[NDArray[np.float64]], tolerance: float, alpha: float) -> NDArray[np.float64]:
    """Upper limits by means, infinite for the columns that are not steady."""
    steady = {
        place: float(column.var(ddof=1))
        for place, column in enumerate(ordered)
        if len(column) >= MIN_RUNS and np.isfinite(column).all() and column.std(ddof=1) <= tolerance
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
        # a column of two peaks may show its upper one alone, and there may be several such columns
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
                limit = float(other[-1]) - lower  # each run of the other is worse than a typical one of this column
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
    """One-sided critical value of Dunnett for the largest of several t statistics that share a column and a variance.

    It is c with P(max_i T_i ≤ c) = 1 − alpha, where T_i = (Z_i − Z_0) / (√2 S), Z are normal and S² is χ²/freedom.
    """
    nodes, weights = np.polynomial.hermite_e.hermegauss(64)
    weights = weights / weights.sum()
    quantiles = (np.arange(400) + 0.5) / 400
    deviation = np.sqrt(special.chdtri(freedom, 1 - quantiles) / freedom)

    def excess(critical: float) -> float:
        below = special.ndtr(critical * math.sqrt(2) * deviation[None, :] + nodes[:, None]) ** comparisons
        return float((weights @ below).mean()) - (1 - alpha)

    return float(optimize.brentq(excess, 0.0, 1e4))
