"""Limits of gaps and shares against closed forms, brute force and simulation."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from lightning_alrnn.sweep.intervals import _dunnett_critical, bound_rank, gap_intervals, share_interval

TOLERANCE = 0.02


@given(st.integers(1, 40), st.data())
def test_limits_of_a_share_are_exact(tried: int, data: st.DataObject) -> None:
    good = data.draw(st.integers(0, tried))
    low, high = share_interval(good, tried)
    if good:
        assert stats.binom.sf(good - 1, tried, low) == pytest.approx(0.05)
    if good < tried:
        assert stats.binom.cdf(good, tried, high) == pytest.approx(0.05)
    assert low <= good / tried <= high


@pytest.mark.parametrize("runs", [1, 4, 5, 8, 11])
def test_rank_of_a_limit_by_counting_all_outcomes(runs: int) -> None:
    below = [sum(outcome) for outcome in itertools.product((0, 1), repeat=runs)]  # how many runs lie below the median
    for level in (0.01, 0.05, 0.2):
        errors = [sum(count <= rank for count in below) / 2**runs for rank in range(runs)]
        assert bound_rank(runs, level) == max((rank for rank, error in enumerate(errors) if error <= level), default=-1)


def test_dunnett_critical_values() -> None:
    assert _dunnett_critical(1, 12, 0.05) == pytest.approx(stats.t.isf(0.05, 12), abs=1e-3)
    # Dunnett 1955, table 1a
    assert _dunnett_critical(2, 20, 0.05) == pytest.approx(2.03, abs=0.01)
    assert _dunnett_critical(5, 20, 0.05) == pytest.approx(2.39, abs=0.02)
    rng = np.random.default_rng(0)
    means, spread = rng.normal(size=(100_000, 5)), np.sqrt(rng.chisquare(12, size=100_000) / 12)
    largest = (means[:, 1:] - means[:, :1]).max(axis=1) / math.sqrt(2) / spread
    assert (largest > _dunnett_critical(4, 12, 0.05)).mean() == pytest.approx(0.05, abs=0.003)


def test_gaps_by_hand() -> None:
    worse = np.array([0.5, 0.52, 0.51, 0.5, 0.49])
    good = np.array([0.9, 0.91, 0.92, 0.9, 0.93])
    better = np.array([0.91, 0.92, 0.92, 0.93, 0.94])
    gaps = gap_intervals([worse, good, better], TOLERANCE)
    assert gaps.gap.tolist() == pytest.approx([0.42, 0.01, 0.0])
    # five runs: the second largest minimum of the others, less the column's maximum
    assert gaps.low.tolist() == pytest.approx([0.9 - 0.52, 0.0, 0.0])
    deviation = math.sqrt(np.mean([column.var(ddof=1) for column in (worse, good, better)]))
    half = _dunnett_critical(2, 12, 0.05) * deviation * math.sqrt(2 / 5)
    pairwise = _dunnett_critical(2, 12, 0.05) * math.sqrt((good.var(ddof=1) + better.var(ddof=1)) / 5)
    assert gaps.high[2] == pytest.approx(good.mean() - better.mean() + max(half, pairwise))
    # of means it would be 0.0283; the second largest of the better and the second smallest lie further apart
    assert better.mean() - good.mean() + max(half, pairwise) < 0.03
    assert gaps.high[1] == pytest.approx(0.93 - 0.90)
    # two columns and five runs bound nothing from below: one run of each may be on the wrong side too often
    assert gap_intervals([worse, better], TOLERANCE).low.tolist() == [0.0, 0.0]


def test_order_statistics_alone_where_runs_are_not_steady() -> None:
    rng = np.random.default_rng(0)
    columns = [np.sort(rng.normal(centre, 0.1, size=20)) for centre in (0.0, 1.0, 1.05)]
    gaps = gap_intervals(columns, TOLERANCE)
    upper, rest = bound_rank(20, 0.05 * 2 / 3), 0.05 - stats.binom.cdf(bound_rank(20, 0.05 * 2 / 3), 20, 0.5)
    lower = bound_rank(20, rest / 3)
    assert gaps.high[1] == pytest.approx(columns[2][19 - upper] - columns[1][lower])
    assert gaps.high[0] == pytest.approx(max(columns[1][19 - upper], columns[2][19 - upper]) - columns[0][lower])


# multiples of a power of 2: moved, they differ by exactly as much as before
@given(
    st.lists(
        st.lists(st.integers(-1024, 1024).map(lambda n: n / 1024), min_size=1, max_size=12), min_size=2, max_size=4
    ),
    st.floats(1e-3, 1.0),
    st.floats(0.01, 0.3),
)
def test_limits_enclose_the_estimate_and_move_with_the_scores(
    scores: list[list[float]], tolerance: float, alpha: float
) -> None:
    columns = [np.array(column) for column in scores]
    gap, low, high = gap_intervals(columns, tolerance, alpha)
    assert (low <= gap + 1e-9).all()
    assert (gap <= high + 1e-9).all()
    assert (low >= 0).all()
    assert gap.min() == 0.0
    moved = gap_intervals([3 * column + 2 for column in columns], 3 * tolerance, alpha)
    for before, after in zip((gap, low, high), moved, strict=True):
        np.testing.assert_allclose(after, 3 * before, atol=1e-6)


def test_runs_that_diverged_are_the_worst() -> None:
    steady = np.full(10, 0.9)
    mostly = np.where(np.arange(10) < 6, -math.inf, 0.9)
    gap, low, high = gap_intervals([mostly, steady, steady], TOLERANCE)
    assert (gap[0], high[0]) == (math.inf, math.inf)
    assert low[0] == 0  # four of ten do as well: no claim that the typical one does not
    assert gap_intervals([np.full(10, -math.inf), steady, steady], TOLERANCE).low[0] == math.inf
    everything = gap_intervals([np.full(5, -math.inf)] * 3, TOLERANCE)
    assert everything.gap.tolist() == everything.high.tolist() == [math.inf] * 3
    assert everything.low.tolist() == [0.0] * 3


@pytest.mark.parametrize("shape", ["normal", "two peaks", "skewed"])
def test_limits_hold_together(shape: str) -> None:
    """That some upper limit is wrong, or the lower limit of the first, in at most 5 % of tables with 8 runs."""
    rng = np.random.default_rng(0)
    draws = {
        "normal": lambda size: rng.normal(size=size) * 0.012,
        "two peaks": lambda size: np.where(rng.random(size) < 0.45, 0.1, -0.1) + 0.004 * rng.normal(size=size),
        "skewed": lambda size: 0.02 * (math.log(2) - rng.exponential(size=size)),
    }
    centres, tables, wrong_high, wrong_low = np.array([-0.021, -0.02, 0.0, 0.0]), 2000, 0, 0
    median = float(np.median(draws[shape](400_000)))
    for _ in range(tables):
        columns = [centre - median + draws[shape](8) for centre in centres]
        gaps = gap_intervals(columns, TOLERANCE)
        wrong_high += bool((gaps.high < -centres - 1e-12).any())
        wrong_low += bool(gaps.low[0] > 0.021)
    bound = 0.05 + 2 * math.sqrt(0.05 * 0.95 / tables)
    assert wrong_high / tables <= bound
    assert wrong_low / tables <= bound
