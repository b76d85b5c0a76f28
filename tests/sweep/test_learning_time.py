"""How late each P is: limits by counting all outcomes, claims on sweeps whose answer is known, and their words."""

from __future__ import annotations

import itertools
from math import comb, inf

import pytest
from sweep_runs import learned, runs

from lightning_alrnn.sweep import LearningTime, Verdict, judge
from lightning_alrnn.sweep.words import learning_span, learning_status

Times = list[int | None]
NEVER: Times = [None] * 10
LATE: Times = [60, 61, 55, 70, 58, 64, 66, 52, 59, 75]
FAST: Times = [12, 14, 11, 13, 15, 12, 12, 13, 11, 16]
HALF: Times = [60, None, 55, None, 58, None, 66, None, 59, None]


def status(verdict: Verdict) -> list[str]:
    return [learning_status(one) for one in verdict.learning_times]


def times_of(*columns: Times) -> tuple[LearningTime, ...]:
    return judge(learned(dict(enumerate(columns)))).learning_times


@pytest.mark.parametrize("slow", [40, None])
@pytest.mark.parametrize("runs_of_each", [4, 5, 8, 11])
def test_limits_of_a_median_by_counting_all_outcomes(runs_of_each: int, slow: int | None) -> None:
    """Epochs are 10 or more, at even odds: a limit is wrong if it is on one side with what is just between."""
    too_low, too_high = 0, 0
    for fast in range(runs_of_each + 1):
        one, _ = times_of([10] * fast + [slow] * (runs_of_each - fast), [10] * runs_of_each)
        too_low += comb(runs_of_each, fast) * (one.high < 25)
        too_high += comb(runs_of_each, fast) * (one.low > 25)
    assert too_low == too_high
    assert too_low / 2**runs_of_each <= 0.05
    errors = list(itertools.accumulate(comb(runs_of_each, rank) for rank in range(runs_of_each)))
    assert too_low == max((error for error in errors if error / 2**runs_of_each <= 0.05), default=0)


def test_false_claims_by_counting_all_outcomes() -> None:
    """P at even odds at one of two peaks, those of P=0 around those of P=1: neither is later."""
    ways = {
        (first, second): comb(6, first) * comb(6, second)
        for first, second in itertools.product(range(7), repeat=2)
        if any(one.later for one in times_of([10] * first + [90] * (6 - first), [30] * second + [70] * (6 - second)))
    }
    assert 0 < sum(ways.values()) / 2**12 <= 0.05
    assert {first for first, _ in ways} == {0}  # P=1 is held against P=0 only where that is later


def test_late_unable_and_what_cannot_be_told_are_kept_apart() -> None:
    verdict = judge(learned({0: NEVER, 1: LATE, 2: FAST, 5: FAST}))
    assert status(verdict) == ["unable within 100 epochs", "late", "reaches it", "reaches it"]
    assert [(one.reached, one.tried) for one in verdict.learning_times] == [(0, 10), (10, 10), (10, 10), (10, 10)]
    never, late, fast, _ = verdict.learning_times
    assert (never.typical, never.low, never.high, never.epochs) == (inf, inf, inf, 100)
    assert (late.typical, late.low, late.high) == (60.5, 55, 70)  # the second smallest and the second largest of ten
    assert (late.later, late.delay) == (True, 55 - 15)  # to the second largest of the others
    assert (fast.later, fast.delay) == (False, 0)
    assert verdict.learning == (
        "A typical run of P=1, 2 and 5 reaches the threshold; the fastest of these is P=2, after 12.5 (11 to 15) "
        "epochs. P=1 is late, not unable: a typical run takes 60.5 (55 to 70) epochs, at least 40 more than a typical "
        "run of the fastest P. P=0 is unable within 100 epochs: a typical run does not reach the threshold (0 of 10 "
        "runs did)."
    )
    open_verdict = judge(learned({0: HALF, 1: LATE, 2: FAST, 5: FAST}))
    assert status(open_verdict)[:2] == ["late or unable", "late"]
    assert (
        "P=0 is later than the fastest P, but the runs do not show whether it is late or unable (5 of 10 runs reached"
        in open_verdict.learning
    )
    mixed = judge(learned({0: [*HALF[:8], 3, 4], 1: LATE, 2: FAST}))
    assert status(mixed) == ["cannot be told", "reaches it", "reaches it"]  # nothing is said behind what is not told
    assert (
        "The runs do not show whether a typical run of P=0 reaches the threshold (6 of 10 runs did)." in mixed.learning
    )
    assert "The runs do not show that P=1 is later." in mixed.learning


def test_claims_pay_for_the_number_of_p() -> None:
    one_in_ten: Times = [*LATE[:9], None]
    verdict = judge(learned({0: one_in_ten, 1: LATE, 2: HALF, 5: one_in_ten}))
    # from the largest P on each is told at most of the level, and behind one that is not, at a part of the rest
    assert status(verdict) == ["cannot be told", "reaches it", "cannot be told", "reaches it"]


def test_few_seeds_show_nothing() -> None:
    verdict = judge(learned({0: NEVER[:3], 1: FAST[:3]}))
    assert status(verdict) == ["cannot be told"] * 2
    spans = [learning_span(one) for one in verdict.learning_times]
    assert spans == ["not within 100 (no limits yet)", "12 (no limits yet)"]
    assert verdict.learning == (
        "The runs do not show whether a typical run of P=0 or 1 reaches the threshold (0 of 3 and 3 of 3 runs did)."
    )


def test_training_that_ended_early_says_nothing_of_what_would_have_come() -> None:
    made = learned({0: NEVER, 1: LATE, 2: FAST})

    def ended_after(epochs: int) -> LearningTime:
        ended = [run._replace(epochs=epochs + run.seed) if run.epochs_to_threshold is None else run for run in made]
        return judge(ended).learning_times[0]

    never = ended_after(8)
    assert (never.epochs, never.later) == (8, False)  # others take 12
    assert learning_status(never) == "unable within 8 epochs"
    assert learning_span(never) == "not within 8"
    one = [run._replace(epochs_to_threshold=None, epochs=8) if run[1:3] == (1, 0) else run for run in made]
    assert learning_span(judge(one).learning_times[1]) == "62.5 (52 to 75)"  # it may have been the slowest or the first
    never = ended_after(40)
    assert (never.epochs, never.later, never.delay) == (40, True, 42 - 15)


def test_which_runs_count() -> None:
    made = learned({0: NEVER, 1: LATE, 2: FAST})
    lost = [run._replace(metrics={}, diverged=True, epochs=7) if run.nonlinear_units == 0 else run for run in made]
    diverged = judge(lost).learning_times[0]
    assert (diverged.reached, diverged.tried, diverged.low, diverged.epochs) == (0, 10, inf, 100)
    assert learning_status(diverged) == "unable within 100 epochs"
    few = judge([run for run in made if run.nonlinear_units != 1 or run.seed < 4])
    assert status(few) == ["unable within 100 epochs", "cannot be told", "reaches it"]  # P=1 is not compared
    other = [run._replace(settings={"lr": 1.0}, metrics=run.metrics | {"val/accuracy": 0.1}) for run in made]
    chosen = judge([*[run._replace(settings={"lr": 0.1}) for run in made], *other])
    assert [one.tried for one in chosen.learning_times] == [10] * 3
    assert chosen.sizes[0].alpha == 0.025


def test_runs_that_do_not_say_when() -> None:
    made = learned({0: NEVER, 1: FAST})
    assert judge(made).learning
    earlier = [run._replace(epochs=None) if run.nonlinear_units == 0 else run for run in made]
    assert judge(earlier).learning == ""
    assert judge(runs({0: [0.5] * 5, 1: [0.9] * 5})).learning_times == ()
    without = [run._replace(metrics={"test/accuracy": 0.9}, epochs_to_threshold=None) for run in made]
    assert judge(without).learning == ""  # no metric that has a threshold


def test_several_sizes() -> None:
    few, many = learned({0: NEVER, 1: NEVER}), learned({0: LATE, 1: FAST})
    made = [run._replace(settings={"data.train_size": 100}) for run in few]
    verdict = judge(made + [run._replace(settings={"data.train_size": 900}) for run in many])
    assert verdict.learning.startswith("With 900 training sequences, a typical run of P=0 and 1 reaches the threshold")
    assert [one.reached for one in verdict.sizes[0].learning_times] == [0, 0]
