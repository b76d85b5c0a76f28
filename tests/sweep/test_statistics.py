"""The statistics of a sweep: published numbers, enumeration, and rates of false alarm."""

from __future__ import annotations

from itertools import combinations, permutations, product

import numpy as np
import pytest
from numpy.typing import NDArray

from lightning_alrnn.sweep.statistics import (
    bootstrap_band,
    can_reach,
    depends_on_column,
    find_split,
    fisher_fewer,
    holm,
    not_worse,
    seeds_needed,
    wilson_interval,
    worse_than_best,
)


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    # Newcombe 1998, table I, method 3: 81/263, 15/148, 0/20, 1/29
    [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605), (0, 20, 0.0, 0.1611), (1, 29, 0.0061, 0.1718)],
)
def test_wilson_interval_as_published(successes: int, trials: int, low: float, high: float) -> None:
    assert wilson_interval(successes, trials) == pytest.approx((low, high), abs=5e-5)


def test_wilson_interval_at_its_edges() -> None:
    assert wilson_interval(0, 0) == (0.0, 1.0)
    assert wilson_interval(4, 4).high == pytest.approx(1.0)
    with pytest.raises(ValueError, match="3 of 2"):
        wilson_interval(3, 2)


@pytest.mark.parametrize(("a", "n", "b", "m"), [(0, 5, 5, 5), (2, 5, 3, 5), (1, 3, 4, 4), (3, 3, 0, 4), (0, 2, 0, 3)])
def test_fisher_by_enumeration(a: int, n: int, b: int, m: int) -> None:
    placed = list(combinations(range(n + m), a + b))
    fewer = sum(sum(index < n for index in one) <= a for one in placed)
    assert fisher_fewer(a, n, b, m) == pytest.approx(fewer / len(placed))


def test_holm_by_hand() -> None:
    assert holm([0.01, 0.02, 0.03, 0.2]).tolist() == pytest.approx([0.04, 0.06, 0.06, 0.2])
    assert holm([0.9, 0.8]).tolist() == [1.0, 1.0]
    assert holm([]).tolist() == []


def test_two_peaks_are_found_and_one_is_not() -> None:
    solved = [0.95, 0.96, 0.94, 0.95, 0.955, 0.96]
    failed = [0.50, 0.51, 0.49]
    split = find_split([*solved, *failed])
    assert split is not None
    assert (split.threshold, split.below, split.above) == (pytest.approx((0.51 + 0.94) / 2), 3, 6)
    same = find_split([1.0] * 6 + [0.5] * 3)  # without any spread inside
    assert same is not None
    assert same.threshold == 0.75
    assert find_split([0.95] * 9) is None
    assert find_split([*solved, *failed][1:]) is None  # 8 are too few
    assert find_split([*solved, 0.94, 0.95, 0.5]) is None  # one outlier is no peak
    rng = np.random.default_rng(0)
    found = sum(find_split(rng.normal(size=21)) is not None for _ in range(300))
    assert found <= 6


def test_the_permutation_test_against_all_permutations() -> None:
    scores = np.array([[0.1, 0.5, 0.4], [0.2, 0.3, 0.6], [0.35, 0.3, 0.5]])
    overall = (scores - scores.mean(axis=1, keepdims=True)).std()

    def statistic(table: NDArray[np.float64]) -> float:
        leads = []
        for other in (1, 2):
            difference = table[:, other] - table[:, 0]
            leads.append(difference.mean() / ((difference.std(ddof=1) + 0.2 * overall) / np.sqrt(3)))
        return float(max(leads))

    observed = statistic(scores)
    tables = product(*(list(permutations(row)) for row in scores.tolist()))
    exact = float(np.mean([statistic(np.array(table)) >= observed - 1e-12 for table in tables]))
    found = worse_than_best(scores, 0, draws=50_000)
    assert found.best == 2
    assert found.difference == pytest.approx(scores[:, 2].mean() - scores[:, 0].mean())
    assert 0.05 < exact < 0.5
    assert found.p_value == pytest.approx(exact, abs=0.006)


def test_a_poor_third_does_not_hide_a_difference() -> None:
    rng = np.random.default_rng(0)
    scores = np.array([0.7, 0.6, 0.9, 0.9]) + 0.004 * rng.normal(size=(3, 4))
    assert worse_than_best(scores, 0, margin=0.02).p_value < 0.05


def test_equal_scores_do_not_differ() -> None:
    assert worse_than_best(np.full((4, 3), 0.9), 1).p_value == 1.0


def test_a_margin_must_be_exceeded() -> None:
    rng = np.random.default_rng(0)
    scores = 0.9 + 0.001 * rng.normal(size=(6, 4))
    scores[:, 2] -= 0.05
    assert worse_than_best(scores, 2, margin=0.02).p_value < 0.01
    assert worse_than_best(scores, 2, margin=0.08).p_value > 0.5
    for column in (0, 1, 3):
        assert worse_than_best(scores, column, margin=0.02).p_value > 0.5


def test_so_many_seeds_can_reach_the_level() -> None:
    for columns in (2, 3, 7):
        seeds = seeds_needed(columns)
        scores = np.ones((seeds, columns))
        scores[:, 0] = 0.0
        assert worse_than_best(scores, 0).p_value < 0.05
    assert worse_than_best([[0.0, 1.0]] * 4, 0).p_value > 0.05  # one seed fewer, with two columns


def test_missing_scores_by_enumeration() -> None:
    """All orders of the observed entries of each row, with the statistic written out."""
    scores = np.array([[0.1, 0.5, np.nan], [0.2, 0.15, 0.4], [0.3, np.nan, 0.35], [np.nan, 0.1, 0.2]])

    def lead(table: NDArray[np.float64]) -> float:
        centred = [row[np.isfinite(row)] - np.nanmean(row) for row in scores]
        added = 0.2 * np.concatenate(centred).std()
        found = []
        for other in (1, 2):
            differences = table[:, other] - table[:, 0]
            own = differences[np.isfinite(differences)]
            found.append(own.mean() / ((own.std(ddof=1) + added) / np.sqrt(len(own))))
        return float(max(found))

    rows = [list(permutations(row[np.isfinite(row)])) for row in scores]
    leads = []
    for orders in product(*rows):
        table = scores.copy()
        for row, order in zip(table, orders, strict=True):
            row[np.isfinite(row)] = order
        leads.append(lead(table))
    exact = float(np.mean(np.array(leads) >= lead(scores) - 1e-12))
    found = worse_than_best(scores, 0, draws=40_000)
    assert found.p_value == pytest.approx(exact, abs=0.01)
    assert found.best == 2
    assert found.difference == pytest.approx((0.4 + 0.35 + 0.2) / 3 - 0.2)
    assert worse_than_best([[0.1, np.nan], [np.nan, 0.9]], 0) == (None, pytest.approx(np.nan, nan_ok=True), 1.0)


def test_what_can_reach_the_level() -> None:
    for columns in (2, 3, 7):
        seeds = seeds_needed(columns)
        assert can_reach([columns] * seeds)
        assert not can_reach([columns] * (seeds - 1))


def test_not_worse() -> None:
    rng = np.random.default_rng(1)
    scores = 0.95 + 0.003 * rng.normal(size=(5, 1)) + 0.001 * rng.normal(size=(5, 4))
    scores[:, 0] -= 0.4
    scores[:, 1] -= 0.01  # within the tolerance
    found = not_worse(scores, tolerance=0.02)
    assert (found.p_values < 0.05).tolist() == [False, True, True, True]
    assert found.limits[0] > 0.4
    assert 0.01 < found.limits[1] < 0.02
    assert (not_worse(scores, tolerance=0.005).p_values < 0.05).tolist()[:2] == [False, False]
    # no spread at all: the means decide
    assert not_worse(np.ones((3, 3)), tolerance=0.01).p_values.tolist() == [0.0, 0.0, 0.0]
    assert not_worse(np.ones((1, 3)), tolerance=0.01).p_values.tolist() == [1.0, 1.0, 1.0]
    # two columns are compared over the seeds that both have, and none is held against one without two scores
    scores[0, 2], scores[1:, 3] = np.nan, np.nan
    found = not_worse(scores, tolerance=0.02)
    assert (found.p_values < 0.05).tolist() == [False, True, True, False]
    assert found.limits[3] == np.inf
    with pytest.raises(ValueError, match="tolerance must be positive"):
        not_worse(scores, tolerance=0.0)


def test_dependence_on_a_column_within_groups() -> None:
    rng = np.random.default_rng(2)
    groups = np.array([0.0, 5.0, 10.0])
    scores = groups + 0.1 * rng.normal(size=(6, 2, 3))
    assert depends_on_column(scores) > 0.1
    scores[:, 1] += 0.5
    assert depends_on_column(scores) < 0.05


def test_unpaired_dependence_by_enumeration() -> None:
    scores = np.array([[0.1, 0.4], [0.2, 0.25], [0.33, 0.3]])
    flat = scores.ravel()
    observed = abs(scores.mean(axis=0) @ [1, -1])
    splits = [flat[list(chosen)].mean() - np.delete(flat, chosen).mean() for chosen in combinations(range(6), 3)]
    exact = float(np.mean(np.abs(splits) >= observed - 1e-12))
    assert 0.1 < exact < 0.5
    assert depends_on_column(scores, draws=20_000, paired=False) == pytest.approx(exact, abs=0.01)
    # runs of one seed and column stay together: a second group that is the same changes nothing
    twice = np.stack([scores, scores], axis=-1)
    assert depends_on_column(twice, draws=20_000, paired=False) == pytest.approx(exact, abs=0.01)


def test_bootstrap_band() -> None:
    rng = np.random.default_rng(3)
    scores = rng.normal(loc=[0.0, 3.0], size=(40, 2))
    band = bootstrap_band(scores)
    half = 1.96 * scores.std(axis=0) / np.sqrt(40)
    np.testing.assert_allclose(band.low, scores.mean(0) - half, atol=0.05)
    np.testing.assert_allclose(band.high, scores.mean(0) + half, atol=0.05)
    assert bootstrap_band([[0.3, 0.4]]).low.tolist() == [0.3, 0.4]


def test_scores_must_be_finite_and_a_table() -> None:
    with pytest.raises(ValueError, match="finite"):
        bootstrap_band([[0.0, np.nan]])
    with pytest.raises(ValueError, match="at least 2 columns"):
        worse_than_best([[0.0], [1.0]], 0)
    with pytest.raises(ValueError, match="shape"):
        not_worse([0.0, 1.0], 0.1)


def normal(rng: np.random.Generator, seeds: int, columns: int) -> NDArray[np.float64]:
    return rng.normal(size=(seeds, 1)) + rng.normal(size=(seeds, columns))


def two_peaks(rng: np.random.Generator, seeds: int, columns: int) -> NDArray[np.float64]:
    return rng.choice([0.5, 0.95], size=(seeds, columns)) + 0.01 * rng.normal(size=(seeds, columns))


def heavy_tails(rng: np.random.Generator, seeds: int, columns: int) -> NDArray[np.float64]:
    return rng.standard_t(2, size=(seeds, columns))


# 400 trials at a level of 0.05: more than 33 false alarms have a probability below 0.003
TRIALS, ALLOWED = 400, 33


@pytest.mark.parametrize("draw", [normal, two_peaks, heavy_tails])
@pytest.mark.parametrize(("seeds", "columns", "missing"), [(3, 7, 0.0), (5, 4, 0.0), (3, 7, 0.15), (5, 4, 0.3)])
def test_false_alarms_of_worse_than_best_are_as_stated(draw, seeds: int, columns: int, missing: float) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(seeds)
    alarms = 0
    for trial in range(TRIALS):
        scores = draw(rng, seeds, columns)
        scores[rng.random(scores.shape) < missing] = np.nan
        scores[:, 0] -= 0.02  # as much worse as does not count
        alarms += worse_than_best(scores, 0, margin=0.02, draws=299, seed=trial).p_value <= 0.05
    assert alarms <= ALLOWED


@pytest.mark.parametrize("draw", [normal, two_peaks])
@pytest.mark.parametrize(("seeds", "columns"), [(3, 7), (5, 2)])
def test_false_alarms_of_not_worse_are_as_stated(draw, seeds: int, columns: int) -> None:  # type: ignore[no-untyped-def]
    rng = np.random.default_rng(columns)
    alarms = 0
    for _ in range(TRIALS):
        scores = draw(rng, seeds, columns)
        scores[:, :-1] -= 0.3  # all but the last are worse, and by exactly the tolerance: none may be let through
        alarms += (not_worse(scores, tolerance=0.3).p_values[:-1] <= 0.05).any()
    assert alarms <= ALLOWED


@pytest.mark.parametrize(("seeds", "paired"), [(6, True), (4, False)])
def test_false_alarms_of_depends_on_column_are_as_stated(seeds: int, paired: bool) -> None:
    rng = np.random.default_rng(0)
    alarms = 0
    for trial in range(TRIALS):
        scores = 0.5 * rng.normal(size=(seeds, 1, 1)) + rng.normal(size=(seeds, 2, 3))  # seeds make scores alike
        alarms += depends_on_column(scores, draws=299, seed=trial, paired=paired) <= 0.05
    assert alarms <= ALLOWED
