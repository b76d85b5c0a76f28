"""The statistics of a sweep: plain functions on arrays of scores, a row a seed and a column a choice such as P.

In all of them a higher score is better: an error is given with its sign changed.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import special, stats

MIN_SCORES = 9
"""How many scores :func:`find_split` needs to tell two peaks from one."""

_DRAWS = 9_999

_Number = TypeVar("_Number", np.float64, np.intp)

_MIN_SEEDS = 3
_ADDED = 0.2
_MIN_PEAK = 2
_MIN_GAP = 3.0
_MIN_SEPARATION = 5.0


class Interval(NamedTuple):
    """Limits of a confidence interval.

    Attributes:
        low: lower limit.
        high: upper limit.
    """

    low: float
    high: float


class Split(NamedTuple):
    """Two peaks of scores.

    Attributes:
        threshold: midpoint of the gap between them; a score above it belongs to the upper one.
        gap: width of the gap, in standard deviations within the peaks.
        separation: distance between the peaks' means, in the same unit.
        below: how many scores lie below.
        above: how many lie above.
    """

    threshold: float
    gap: float
    separation: float
    below: int
    above: int


class Comparison(NamedTuple):
    """One column against the best of the others.

    Attributes:
        best: index of the other column with the highest mean; ``None`` where no seed has a score of the column and of
            another.
        difference: its mean minus that of the column compared; NaN then.
        p_value: probability of a difference as large if the column is worse than none by more than the margin.
    """

    best: int | None
    difference: float
    p_value: float


class NotWorse(NamedTuple):
    """For each column, whether it is shown to be no worse than any other beyond a tolerance.

    Attributes:
        p_values: one for each column, adjusted for their number (Holm), shape ``(columns,)``.
        limits: one-sided upper confidence limit of what the column lacks to the others, without the adjustment, shape
            ``(columns,)``.
    """

    p_values: NDArray[np.float64]
    limits: NDArray[np.float64]


class Band(NamedTuple):
    """Pointwise confidence band of the columns' means.

    Attributes:
        low: lower limits, shape ``(columns,)``.
        high: upper limits, shape ``(columns,)``.
    """

    low: NDArray[np.float64]
    high: NDArray[np.float64]


def wilson_interval(successes: int, trials: int, confidence: float = 0.95) -> Interval:
    r"""Wilson's score interval of a share.

    (p̂ + z²/2n ± z √(p̂(1−p̂)/n + z²/4n²)) / (1 + z²/n); without a trial it is from 0 to 1.

    Args:
        successes: how many of the trials succeeded.
        trials: n.
        confidence: two-sided level.

    Raises:
        ValueError: if there are more successes than trials, or fewer than none.

    Example:
        >>> low, high = wilson_interval(3, 3)
        >>> f"{low:.3f} {high:.3f}"
        '0.439 1.000'

    Reference:
        Wilson 1927; Brown, Cai & DasGupta 2001.
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"successes must lie between 0 and trials, got {successes} of {trials}")
    if trials == 0:
        return Interval(0.0, 1.0)
    z = float(stats.norm.isf((1 - confidence) / 2))
    share = successes / trials
    centre = share + z**2 / (2 * trials)
    half = z * np.sqrt(share * (1 - share) / trials + z**2 / (4 * trials**2))
    scale = 1 + z**2 / trials
    return Interval(max(0.0, float((centre - half) / scale)), min(1.0, float((centre + half) / scale)))


def fisher_fewer(successes: int, trials: int, other_successes: int, other_trials: int) -> float:
    """Fisher's exact test, one-sided: p-value of the first share being no lower than the second.

    Args:
        successes: how many of the first trials succeeded.
        trials: how many there were.
        other_successes: how many of the second trials succeeded.
        other_trials: how many there were.

    Returns:
        The p-value, small where the first share is the lower one.

    Example:
        >>> round(fisher_fewer(0, 5, 5, 5), 4)  # 1 of the 252 ways to place five successes in ten trials
        0.004

    Reference:
        Fisher 1935.
    """
    together = successes + other_successes
    return float(stats.hypergeom.cdf(successes, trials + other_trials, together, trials))


def holm(p_values: ArrayLike) -> NDArray[np.float64]:
    """Holm's adjustment: reject where the adjusted value is at most α, and the family-wise error rate is at most α.

    Args:
        p_values: of a family of hypotheses, shape ``(hypotheses,)``.

    Returns:
        Adjusted p-values, in the same order, shape ``(hypotheses,)``.

    Example:
        >>> holm([0.01, 0.04, 0.03]).round(2).tolist()
        [0.03, 0.06, 0.06]

    Reference:
        Holm 1979.
    """
    values = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(values)
    factors = np.arange(len(values), 0, -1)
    adjusted = np.empty_like(values)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(values[order] * factors))
    return adjusted


def find_split(scores: ArrayLike) -> Split | None:
    """Where scores have two peaks, such as *solved* and *not solved*, what lies between them.

    The sorted scores are cut where the variance within the two parts is smallest (Otsu), each of at least 2 scores.
    They count as two peaks if there are at least 9, the gap at the cut is at least 3 standard deviations within the
    parts wide and the parts' means are at least 5 apart. Of normal or uniform samples of 9 scores less than 1 in 10
    passes, of 15 less than 1 in 40.

    Args:
        scores: shape ``(runs,)``.

    Returns:
        The split, or ``None`` where the scores have one peak.

    Example:
        >>> find_split([0.5, 0.51, 0.5, 0.94, 0.95, 0.94, 0.95, 0.96, 0.95]).threshold
        0.725
        >>> find_split([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]) is None
        True

    Reference:
        Otsu 1979.
    """
    values = np.sort(np.asarray(scores, dtype=np.float64))
    if len(values) < MIN_SCORES:
        return None
    sizes = range(_MIN_PEAK, len(values) - _MIN_PEAK + 1)
    within = [float(values[:cut].var() * cut + values[cut:].var() * (len(values) - cut)) for cut in sizes]
    cut = sizes[int(np.argmin(within))]
    lower, upper = values[:cut], values[cut:]
    gap, separation = float(upper[0] - lower[-1]), float(upper.mean() - lower.mean())
    deviation = float(np.sqrt(min(within) / (len(values) - 2)))
    if not gap > 0 or gap < _MIN_GAP * deviation or separation < _MIN_SEPARATION * deviation:
        return None
    unit = deviation if deviation > 0 else np.nan
    return Split(float(lower[-1] + upper[0]) / 2, gap / unit, separation / unit, cut, len(values) - cut)


def worse_than_best(
    scores: ArrayLike, column: int, margin: float = 0.0, draws: int = _DRAWS, seed: int = 0
) -> Comparison:
    """Test whether a column is worse than the best of the others by more than a margin.

    The statistic is max_j t_j over the other columns j, t_j being the mean of S_j − S_c − margin within seeds over its
    standard error (plus a fifth of that of all scores, as with few seeds a spread may be small by chance). Its
    distribution is that over random orders of each row's entries, once the margin is added to column c. So picking
    among the others costs nothing further, and the test is exact, whatever the scores' distribution, where the columns
    do not differ but by the margin. The smallest p-value there can be is about columns^−rows.

    A score may be NaN, where a run has none. Two columns are then compared over the seeds that both have, and the
    scores of a seed change places among those columns that have one: the test stays exact, given which are missing.

    Args:
        scores: shape ``(seeds, columns)``.
        column: c.
        margin: how much worse does not count.
        draws: number of random orders.
        seed: seed of the orders.

    Raises:
        ValueError: if there are fewer than two columns.

    Example:
        >>> scores = [[0.5, 0.9, 0.91], [0.5, 0.92, 0.9], [0.5, 0.91, 0.9]]
        >>> found = worse_than_best(scores, 0)
        >>> found.best, round(found.difference, 2), round(found.p_value, 2)
        (1, 0.41, 0.04)

    Reference:
        Westfall & Young 1993 for the largest of several statistics; Phipson & Smyth 2010 for p-values from random
        orders.
    """
    values = _table(scores, finite=False)
    if values.shape[1] < 2:
        raise ValueError(f"scores must have at least 2 columns to compare, got {values.shape[1]}")
    both = np.isfinite(values) & np.isfinite(values[:, [column]])
    others = np.array([other for other in np.flatnonzero(both.any(axis=0)) if other != column], dtype=np.intp)
    if not len(others):
        return Comparison(None, np.nan, 1.0)
    values = np.where(np.isfinite(values), values, np.nan)
    means = {int(place): float(np.nanmean(values[:, place])) for place in (*others, column)}
    best = max(map(int, others), key=means.__getitem__)
    shifted = values.copy()
    shifted[:, column] += margin
    permuted = _row_permutations(shifted, draws, seed)
    observed = float(_largest_lead(shifted[None], column, others)[0])
    drawn = _largest_lead(permuted, column, others)
    return Comparison(best, means[best] - means[column], _p_value(drawn, observed))


def seeds_needed(columns: int, alpha: float = 0.05) -> int:
    """How many seeds :func:`worse_than_best` needs at least to reach the level α: columns^−seeds ≤ α, and 3 or more.

    Args:
        columns: how many are compared, at least 2.
        alpha: level.

    Returns:
        Number of seeds.

    Example:
        >>> seeds_needed(2), seeds_needed(7)
        (5, 3)
    """
    return max(_MIN_SEEDS, math.ceil(-math.log(alpha) / math.log(columns) - 1e-9))


def can_reach(counts: Sequence[int], alpha: float = 0.05) -> bool:
    """Whether so many scores are enough for :func:`worse_than_best` to reach the level α.

    Args:
        counts: how many columns have a score, of each seed, 2 or more.
        alpha: level.

    Returns:
        Whether there are 3 seeds or more and 1/Π counts ≤ α; for a table without NaN, :func:`seeds_needed` of them.

    Example:
        >>> can_reach([7, 6, 6]), can_reach([2, 2, 2, 2])
        (True, False)
    """
    return len(counts) >= _MIN_SEEDS and 1 / math.prod(counts) <= alpha * (1 + 1e-9)


def not_worse(scores: ArrayLike, tolerance: float, alpha: float = 0.05) -> NotWorse:
    """Test for each column whether it is no worse than any other by the tolerance or more.

    One-sided tests on the differences within seeds: column c is not worse than j if the mean of S_j − S_c lies below
    the tolerance (t with n−1 degrees of freedom). Not worse than *any* other needs all of these, so that the largest
    of their p-values is the column's own and no correction is due for having several others (intersection–union). The
    columns' p-values are then adjusted by Holm's method. The differences are taken for normal.

    A score may be NaN, where a run is not to be compared. Two columns are compared over the seeds that both have; a
    column with fewer than two scores is shown nothing, and no other is held against it.

    Args:
        scores: shape ``(seeds, columns)``.
        tolerance: how much worse does not count, positive.
        alpha: level of the limits.

    Returns:
        p-values and limits; where nothing can be shown the p-value is 1 and the limit infinite.

    Raises:
        ValueError: if the tolerance is not positive.

    Example:
        >>> scores = [[0.5, 0.90, 0.91], [0.5, 0.92, 0.91], [0.5, 0.91, 0.91]]
        >>> (not_worse(scores, tolerance=0.05).p_values < 0.05).tolist()
        [False, True, True]

    Reference:
        Berger 1982 for intersection–union tests; Holm 1979.
    """
    values = _table(scores, finite=False)
    if not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    compared = np.isfinite(values).sum(axis=0) > 1
    p_values = np.ones(values.shape[1])
    limits = np.full(values.shape[1], np.inf)
    for column in np.flatnonzero(compared):
        others = values[:, compared & (np.arange(values.shape[1]) != column)]
        single = [_falls_short(other - values[:, column], tolerance, alpha) for other in others.T]
        p_values[column] = max((p_value for p_value, _ in single), default=1.0)
        limits[column] = max((limit for _, limit in single), default=np.inf)
    return NotWorse(holm(p_values), limits)


def depends_on_column(scores: ArrayLike, draws: int = _DRAWS, seed: int = 0, *, paired: bool = True) -> float:
    """Test whether scores depend on the column at all: p-value.

    The statistic is the sum over groups of the variance of the columns' means. Its distribution is that over random
    orders of the columns, drawn for each seed and the same for all groups, as runs that share a seed are not
    independent. The smallest p-value there can be is about columns!^(1−seeds), for two columns 0.0625 with 5 seeds.

    Without pairing, the scores change places across seeds too, those of one seed and column together. Then 4 seeds are
    enough for two columns at the level 0.05. Where a seed makes scores alike this test is the more cautious one.

    Args:
        scores: shape ``(seeds, columns)``, or ``(seeds, columns, groups)`` with groups such as P that the columns are
            compared within; without NaN.
        draws: number of random orders.
        seed: seed of the orders.
        paired: whether scores change places within seeds alone.

    Returns:
        The p-value, small where scores depend on the column.

    Raises:
        ValueError: if a score is not finite.

    Example:
        >>> depends_on_column([[0.1, 0.9]] * 8) < 0.05
        True
        >>> depends_on_column([[0.1, 0.9]] * 4) < 0.05, depends_on_column([[0.1, 0.9]] * 4, paired=False) < 0.05
        (False, True)
        >>> depends_on_column([[0.1, 0.9], [0.9, 0.1]])
        1.0

    Reference:
        Phipson & Smyth 2010 for p-values from random orders.
    """
    values = np.asarray(scores, dtype=np.float64)
    values = values[..., None] if values.ndim == 2 else values
    _check_finite(values)
    seeds, columns, groups = values.shape
    if paired:
        orders = _row_permutations(np.tile(np.arange(columns), (seeds, 1)), draws, seed)
        placed = values[np.arange(seeds)[:, None], orders]
    else:
        orders = _row_permutations(np.arange(seeds * columns)[None], draws, seed)[:, 0]
        placed = values.reshape(-1, groups)[orders].reshape(draws, seeds, columns, groups)
    drawn = placed.mean(axis=1).var(axis=1).sum(axis=-1)
    observed = float(values.mean(axis=0).var(axis=0).sum())
    return _p_value(drawn, observed)


def bootstrap_band(scores: ArrayLike, confidence: float = 0.95, draws: int = _DRAWS, seed: int = 0) -> Band:
    """Percentile bootstrap over seeds: a band for the mean of each column.

    Whole rows are drawn, so that what the columns of a seed share stays together. With few seeds the band is too
    narrow, and with one it has no width.

    Args:
        scores: shape ``(seeds, columns)``, without NaN.
        confidence: two-sided level, for each column by itself.
        draws: number of resamples.
        seed: seed of the resamples.

    Raises:
        ValueError: if a score is not finite, or the shape is another.

    Example:
        >>> band = bootstrap_band([[0.0], [1.0], [0.0], [1.0]])
        >>> float(band.low[0]), float(band.high[0])
        (0.0, 1.0)

    Reference:
        Efron & Tibshirani 1993.
    """
    values = _table(scores)
    seeds = len(values)
    counts = np.random.default_rng(seed).multinomial(seeds, np.full(seeds, 1 / seeds), size=draws)
    means = counts @ values / seeds
    low, high = np.quantile(means, [(1 - confidence) / 2, (1 + confidence) / 2], axis=0)
    return Band(low, high)


def _falls_short(differences: NDArray[np.float64], tolerance: float, alpha: float) -> tuple[float, float]:
    """p-value of a mean difference of at least the tolerance, and the upper limit of that mean."""
    own = differences[np.isfinite(differences)]
    if len(own) < 2:
        return 1.0, np.inf
    mean, error = float(own.mean()), float(own.std(ddof=1) / np.sqrt(len(own)))
    if error == 0:  # without any spread the mean alone decides
        return float(mean >= tolerance), mean
    freedom = len(own) - 1
    return float(special.stdtr(freedom, (mean - tolerance) / error)), mean - float(
        special.stdtrit(freedom, alpha)
    ) * error


def _largest_lead(tables: NDArray[np.float64], column: int, others: NDArray[np.intp]) -> NDArray[np.float64]:
    """How far the column lies behind others, in standard errors: the largest, for ``(draws, seeds, columns)``."""
    differences = tables[:, :, others] - tables[:, :, [column]]
    seeds = np.isfinite(differences[0]).sum(axis=0)  # that both columns have, at least one: the same in all tables
    means = np.nansum(differences, axis=1) / seeds
    squares = np.nansum((differences - means[:, None]) ** 2, axis=1)
    deviation = np.sqrt(squares / np.maximum(seeds - 1, 1))
    # the same for every order of the rows' entries
    scored = tables[0][np.isfinite(tables[0]).any(axis=1)]
    overall = np.nanstd(scored - np.nanmean(scored, axis=1, keepdims=True))
    error = (deviation + _ADDED * overall) / np.sqrt(seeds)
    leads: NDArray[np.float64] = (means / (error if overall > 0 else 1.0)).max(axis=1)
    return leads


def _row_permutations(values: NDArray[_Number], draws: int, seed: int) -> NDArray[_Number]:
    """The values with each row in random order, NaN in its place, ``draws`` times: ``(draws, rows, columns)``."""
    rng = np.random.default_rng(seed)
    orders = np.tile(values, (draws, 1, 1))
    for row, finite in enumerate(np.isfinite(values)):
        orders[:, row, finite] = rng.permuted(orders[:, row, finite], axis=-1)
    return orders


def _p_value(drawn: NDArray[np.float64], observed: float) -> float:
    # rounding must not tell apart what is equal
    slack = 1e-12 * max(1.0, abs(observed))
    return float((1 + (drawn >= observed - slack).sum()) / (1 + len(drawn)))


def _table(scores: ArrayLike, finite: bool = True) -> NDArray[np.float64]:
    values = np.asarray(scores, dtype=np.float64)
    if values.ndim != 2 or not values.size:
        raise ValueError(f"scores must have shape (seeds, columns), got {values.shape}")
    if finite:
        _check_finite(values)
    return values


def _check_finite(values: NDArray[np.float64]) -> None:
    if not np.isfinite(values).all():
        raise ValueError("scores must be finite: leave out the seeds whose runs have none")
