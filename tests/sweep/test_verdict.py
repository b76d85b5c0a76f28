"""The verdict on synthetic sweeps whose answer is known, and what is read off which estimate."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sweep_runs import GAUSSIAN, NEAR_IDENTITY, around, baseline, jitter, runs

from lightning_alrnn.sweep import Run, Verdict, judge
from lightning_alrnn.sweep.claims import NEEDED, SPARSE, SUFFICIENT

STEADY = {0: around(0.163, 0.002, 5, 0), **{p: around(0.0006, 0.0002, 5, p) for p in (1, 2, 5, 10, 25, 50)}}
SOLVED = {p: scores * 2 for p, scores in NEAR_IDENTITY.items()}  # ten seeds
Scores = dict[int, list[float | None]]


def addition() -> list[Run]:
    made = runs(STEADY, "test/mse", hidden_size=50)
    return [run._replace(metrics={**run.metrics, "test/constant_mse": 0.1667}) for run in made]


def claims_of(verdict: Verdict) -> tuple[bool | None, tuple[int, ...], bool | None]:
    claims = verdict.claims
    assert claims.smallest_sufficient == min(claims.sufficient, default=None)
    return claims.nonlinearity_needed, claims.sufficient, claims.sparse_beats_full


def test_an_error_that_falls_with_the_first_nonlinear_unit() -> None:
    verdict = judge(addition())
    assert claims_of(verdict) == (True, (1, 2, 5, 10, 25, 50), False)
    linear, first = verdict.estimates[:2]
    assert linear.typical == pytest.approx(np.median(STEADY[0]))
    assert linear.gap == pytest.approx(np.median(STEADY[0]) - min(np.median(STEADY[p]) for p in (1, 2, 5, 10, 25, 50)))
    assert linear.gap_low < linear.gap < linear.gap_high
    assert (linear.good, linear.tried, first.good, first.tried) == (0, 5, 5, 5)
    assert first.share_low == pytest.approx(0.05 ** (1 / 5))
    assert (first.regimes, first.active) == ((2.0,) * 5, (1.0,) * 5)
    assert verdict.untold == ()
    assert verdict.seeds_needed is None
    assert "Nonlinearity is needed: a typical run of P=0 is worse than the best by 0.163 (" in verdict.answer
    assert "at most 45 % of its runs do as well as the best (0 of 5)" in verdict.answer
    assert "P=1, 2, 5, 10, 25 and 50 are enough in a typical run" in verdict.answer


def test_no_difference_is_no_need() -> None:
    verdict = judge(runs({p: around(0.96, 0.003, 5, p) for p in (0, 2, 5, 10)}))
    assert claims_of(verdict) == (False, (0, 2, 5, 10), False)
    assert "Nonlinearity is not needed in a typical run" in verdict.answer
    assert "5 of its 5 runs do as well as the best (at least 55 %)" in verdict.answer


def test_two_peaks_need_ten_seeds() -> None:
    assert claims_of(judge(runs(jitter(NEAR_IDENTITY)))) == (True, (), None)
    verdict = judge(runs(jitter(SOLVED)))
    assert claims_of(verdict) == (True, (1, 2, 5), None)
    full = verdict.estimates[-1]
    assert (full.good, full.tried) == (6, 10)
    assert full.share_low < 0.5 < full.share_high
    assert verdict.untold == (SPARSE,)


def test_how_often_is_part_of_the_claim() -> None:
    """P=0 fails in one of ten runs: in a typical run it is enough, and the sentence says how often it is."""
    scores = around(0.95, 0.002, 20, 0)
    scores[3] = scores[11] = 0.65
    verdict = judge(runs({0: scores, 1: around(0.95, 0.002, 20, 1), 2: around(0.95, 0.002, 20, 2)}))
    assert verdict.claims.nonlinearity_needed is False
    assert "18 of its 20 runs do as well as the best (at least 72 %)" in verdict.answer


@pytest.mark.parametrize("seeds", [1, 4])
def test_too_few_seeds_make_no_claim(seeds: int) -> None:
    verdict = judge(runs({p: scores[:seeds] for p, scores in STEADY.items()}, "test/mse", hidden_size=50))
    assert claims_of(verdict) == (None, (), None)
    assert verdict.answer.startswith("No claim can be made with")
    assert "at least 5" in verdict.answer
    assert verdict.untold == (NEEDED, SUFFICIENT, SPARSE)
    assert verdict.seeds_by_question == {NEEDED: 5, SUFFICIENT: 5, SPARSE: 5}


def test_the_number_of_p_decides_how_many_seeds_a_difference_needs() -> None:
    """With many P the second best of them may be so by chance: the third or fourth is not."""
    for columns, seeds, needed in ((2, 5, None), (2, 6, True), (9, 5, True), (16, 5, True), (41, 5, True)):
        curve = {p: around(0.9 if p else 0.5, 0.003, seeds, p) for p in range(columns)}
        assert judge(runs(curve)).claims.nonlinearity_needed is needed


def test_false_claims_of_earlier_verdicts_are_not_made() -> None:
    steady = around(0.85, 0.004, 10, 0)
    lucky = [0.95] * 9 + [0.75]
    one_peak = {0: steady, 1: [0.95, 0.75] * 5, 2: lucky, 3: [0.75, 0.95] * 5}
    assert judge(runs(jitter(one_peak))).claims.nonlinearity_needed is None  # one of several may do so by chance
    diverged: Scores = {0: [0.9] * 3 + [None] * 3, 1: [0.9] * 6, 2: [0.9] * 6}
    assert claims_of(judge(runs(diverged)))[0] is None


def test_runs_that_diverged_count_as_failures() -> None:
    verdict = judge(runs({0: [None] * 6, 2: [0.9] * 6, 10: [0.9] * 6}))
    assert claims_of(verdict) == (True, (2, 10), False)
    linear = verdict.estimates[0]
    assert (linear.good, linear.tried, linear.diverged, linear.scores) == (0, 6, 6, {})
    assert linear.gap == linear.gap_low == linear.gap_high == math.inf
    assert math.isnan(linear.typical)
    assert "a typical run of P=0 diverges" in verdict.answer
    assert "(0 of 6; 6 diverged)" in verdict.answer
    some = judge(runs({0: [0.9] * 8 + [None] * 2, 2: [0.9] * 10, 10: [0.9] * 10}))
    assert (some.estimates[0].good, some.estimates[0].tried) == (8, 10)
    assert (some.finished, some.diverged) == (28, 2)
    everything = judge(runs({0: [None] * 6, 1: [None] * 6, 10: [None] * 6}))
    assert claims_of(everything) == (None, (), None)
    assert everything.answer.startswith("No claim can be made: a typical run of every P diverges.")
    assert [one.good for one in everything.estimates] == [0, 0, 0]


def test_a_score_that_is_not_finite_is_a_run_that_diverged() -> None:
    made = runs(jitter(SOLVED))

    def with_metrics(**values: float) -> Verdict:
        changed = {key.replace("_", "/"): value for key, value in values.items()}
        return judge([*made[:12], made[12]._replace(metrics={**made[12].metrics, **changed}), *made[13:]])

    verdict = with_metrics(test_accuracy=math.nan)
    assert (verdict.finished, verdict.diverged, verdict.estimates[1].diverged) == (49, 1, 1)
    assert with_metrics(regime_visited=math.inf, val_accuracy=math.nan).estimates[1].regimes == (2.0,) * 9


def test_runs_that_are_not_done_and_sizes_with_baselines_only_count_for_nothing() -> None:
    made = runs(jitter(SOLVED), settings={"data.train_size": 1000})
    waiting = [made[0]._replace(seed=seed, metrics={}) for seed in (10, 11)]
    gru = [run._replace(settings={"data.train_size": 100}) for run in baseline("GRU", [0.9] * 5)]
    verdict = judge([*made, *waiting, *gru])
    assert (verdict.finished, verdict.diverged, verdict.without_score) == (55, 0, 2)
    assert verdict.sizes == judge(made).sizes


def test_a_p_with_few_runs_is_not_compared() -> None:
    few = {**SOLVED, 5: SOLVED[5][:4]}
    verdict = judge(runs(jitter(few)))
    assert [one.compared for one in verdict.estimates] == [True, True, True, False, True]
    assert math.isnan(verdict.estimates[3].gap)
    assert claims_of(verdict)[:2] == (True, (1, 2))
    assert judge(runs({**SOLVED, 5: SOLVED[5][:5]})).estimates[3].compared  # half as many are enough
    alone = judge(runs({5: [0.9] * 5}))
    assert claims_of(alone) == (None, (), None)
    assert "P=5 cannot be compared" in alone.answer


def test_a_threshold_that_is_stated() -> None:
    verdict = judge(runs(jitter(SOLVED)), solved=0.96)  # none reaches it
    assert claims_of(verdict) == (True, (), None)
    assert [one.good for one in verdict.estimates] == [0] * 5
    error = judge(addition(), solved=0.01)
    assert [one.good for one in error.estimates] == [0, *[5] * 6]
    assert "of its runs solve the task" in error.answer
    # two of ten runs leave it open whether half of them would, however large the gap
    often = judge(runs({0: [0.5] * 8 + [0.56] * 2, 2: [0.95] * 10, 5: [0.95] * 10}), solved=0.55)
    assert often.estimates[0].gap_low > 0.3
    assert often.claims.nonlinearity_needed is None


def test_sparse_beats_full_with_little_data() -> None:
    few = {p: around(mean, 0.004, 8, p) for p, mean in ((0, 0.6), (2, 0.9), (5, 0.9), (10, 0.7))}
    many = {p: around(mean, 0.004, 8, p) for p, mean in ((0, 0.6), (2, 0.95), (5, 0.95), (10, 0.95))}
    made = [*runs(many, settings={"data.train_size": 1000}), *runs(few, settings={"data.train_size": 100})]
    verdict = judge(made)
    by_size = [(size.train_size, size.claims.sparse_beats_full, size.alpha) for size in verdict.sizes]
    assert by_size == [(100, True, 0.025), (1000, False, 0.025)]  # one level for all sizes together
    assert verdict.answer.startswith("With 1000 training sequences, nonlinearity is needed")
    assert verdict.answer.endswith("With 100 training sequences, fewer nonlinear units beat all of them.")


def test_settings_are_chosen_by_validation_alone() -> None:
    lucky = runs({p: [0.9] * 8 for p in (0, 1, 2)}, settings={"lr": 0.1}, validation=0.1)
    honest = runs({p: around(0.6, 0.001, 8, p) for p in (0, 1, 2)}, settings={"lr": 0.01}, validation=0.5)
    verdict = judge([*lucky, *honest])
    assert [one.setting for one in verdict.estimates] == [{"lr": 0.01}] * 3
    assert [one.typical for one in verdict.estimates] == pytest.approx([0.6] * 3, abs=0.002)
    assert [len(one.other_scores) for one in verdict.estimates] == [8] * 3
    assert verdict.sizes[0].alpha == 0.025  # of two settings the better might be so by chance
    blind = [run._replace(metrics={"test/accuracy": 0.9}) for run in lucky]
    with pytest.raises(ValueError, match=r"2 settings.* chosen by val/accuracy, .* 8 of 16 runs have no such metric"):
        judge([*blind, *honest])
    with pytest.raises(ValueError, match=r"16 of 16 runs"):
        judge([*lucky, *honest], score="val/accuracy")


def test_every_p_chooses_among_the_same_settings() -> None:
    first = runs({p: around(0.6, 0.001, 6, p) for p in (0, 1, 2)}, settings={"lr": 0.01})
    only_here = runs({1: [0.9] * 6}, settings={"lr": 0.1})
    verdict = judge([*first, *only_here])
    assert [one.setting for one in verdict.estimates] == [{"lr": 0.01}] * 3
    assert verdict.sizes[0].alpha == 0.05
    apart = judge(runs({0: [0.6] * 6}, settings={"lr": 0.01}) + runs({1: [0.9] * 6}, settings={"lr": 0.1}))
    assert claims_of(apart) == (None, (), None)
    assert "no combination of the other settings" in apart.answer


def test_what_each_value_of_an_axis_leads_to() -> None:
    works, fails = {p: [0.95] * 10 for p in (0, 2, 10)}, {0: [0.5] * 10, 2: [0.95] * 10, 10: [0.95] * 10}
    made = [*runs(jitter(works), settings={"init": "a"}), *runs(jitter(fails), settings={"init": "b"})]
    verdict = judge(made)
    (axis,) = verdict.dependence
    assert axis.axis == "init"
    assert {value: claims.nonlinearity_needed for value, claims in axis.claims.items()} == {"a": False, "b": True}
    assert axis.differs
    assert "The answer depends on init." in verdict.answer
    near = runs(jitter(SOLVED), settings={"model.init": "near_identity"})
    gaussian = runs(jitter({p: GAUSSIAN[p] * 2 for p in GAUSSIAN}), settings={"model.init": "gaussian"})
    (init,) = judge([*near, *gaussian]).dependence
    assert init.claims["gaussian"].nonlinearity_needed is None
    assert not init.differs  # a value that tells nothing contradicts nothing


def test_baselines_bear_on_no_claim() -> None:
    made = addition()
    verdict = judge([*made, *baseline("GRU", [1e-5] * 5, "test/mse")])
    assert verdict.claims == judge(made).claims
    (gru,) = verdict.sizes[0].baselines
    assert (gru.core, gru.tried, set(gru.scores.values())) == ("GRU", 5, {1e-5})


def test_seeds_that_would_tell() -> None:
    rng = np.random.default_rng(0)
    curve = {p: (0.9 + 0.015 * rng.normal(size=6)).tolist() for p in (0, 1, 2)}
    verdict = judge(runs(curve, hidden_size=2))
    assert verdict.untold
    assert 6 < verdict.seeds_needed < 100
    # at the tolerance no number of seeds would
    spread = np.linspace(-0.03, 0.03, 6)
    undecided = judge(runs({0: (0.88 + spread).tolist(), 1: [0.9] * 6, 2: [0.9] * 6}))
    assert undecided.seeds_by_question == {NEEDED: None, SUFFICIENT: 7}
    assert undecided.seeds_needed == 7
