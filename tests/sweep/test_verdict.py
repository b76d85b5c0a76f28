"""The verdict on synthetic sweeps whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sweep_runs import ADDITION, GAUSSIAN, NEAR_IDENTITY, around, baseline, jitter, runs

from lightning_alrnn.sweep.statistics import bootstrap_band, depends_on_column, worse_than_best
from lightning_alrnn.sweep.verdict import Run, choose_score, higher_is_better, judge


def test_an_error_that_falls_with_the_first_nonlinear_unit() -> None:
    made = runs(ADDITION, "test/mse", hidden_size=50)
    made = [run._replace(metrics={**run.metrics, "test/constant_mse": 0.1667}) for run in made]
    verdict = judge(made)
    assert not verdict.rules.higher_is_better
    assert verdict.rules.tolerance == pytest.approx(0.05 * 0.1667)
    assert 0.001 < (verdict.rules.threshold or 0) < 0.161
    assert verdict.nonlinearity_needed is True
    assert verdict.smallest_sufficient == 1
    assert verdict.claims.sparse_beats_full is False
    linear, first = verdict.sizes[0].units[:2]
    assert (linear.capable, linear.solved, linear.tried) == (False, 0, 3)
    assert (first.capable, first.solved, first.tried) == (True, 3, 3)
    assert linear.mean == pytest.approx(0.163)
    assert linear.best == 0.161  # the lowest error
    assert linear.worse_p < 0.05 < first.worse_p
    assert (first.regimes, first.active) == (2.0, 1.0)
    assert "Nonlinearity is needed" in verdict.claims.reasons[0]


def test_no_difference_is_no_need() -> None:
    verdict = judge(runs({p: around(0.96, 0.003, 5, p) for p in (0, 2, 5, 10)}))
    assert verdict.nonlinearity_needed is False
    assert verdict.smallest_sufficient == 0
    assert verdict.rules.threshold is None
    assert all(units.capable is None and units.solved is None for units in verdict.sizes[0].units)


def test_capability_and_reliability_are_kept_apart() -> None:
    verdict = judge(runs(jitter(NEAR_IDENTITY)))
    by_p = {units.nonlinear_units: units for units in verdict.sizes[0].units}
    assert verdict.rules.threshold == pytest.approx(0.725, abs=0.01)
    assert {p: units.capable for p, units in by_p.items()} == {0: False, 1: True, 2: True, 5: True, 10: True}
    assert (by_p[10].solved, by_p[10].tried) == (3, 5)
    assert by_p[10].solved_mean == pytest.approx(0.95, abs=0.005)
    assert by_p[10].mean == pytest.approx(0.77, abs=0.005)
    assert by_p[10].solved_low == pytest.approx(0.2307, abs=1e-3)  # Wilson, 3 of 5
    assert by_p[0].less_reliable_p < 0.05 < by_p[10].less_reliable_p
    assert {p: units.sufficient for p, units in by_p.items()} == {0: False, 1: True, 2: True, 5: True, 10: False}
    assert verdict.nonlinearity_needed is True
    assert verdict.smallest_sufficient == 1


def test_networks_that_do_not_train_are_no_proof() -> None:
    verdict = judge(runs(jitter(GAUSSIAN)))
    assert verdict.nonlinearity_needed is None
    assert verdict.smallest_sufficient is None
    assert "Not enough seeds" in verdict.claims.reasons[0]
    assert "none solves the task in half of its runs and in 3 or more" in verdict.claims.reasons[1]
    by_p = {units.nonlinear_units: units for units in verdict.sizes[0].units}
    assert by_p[5].capable is True


def test_one_linear_network_that_solves_it_is_proof_enough() -> None:
    curve = jitter(NEAR_IDENTITY)
    curve[0][3] = 0.951
    verdict = judge(runs(curve))
    assert verdict.nonlinearity_needed is False
    assert "1 of 5 runs with P=0 do" in verdict.claims.reasons[0]
    assert "more reliable" in verdict.claims.reasons[0]
    assert verdict.smallest_sufficient == 1


@pytest.mark.parametrize("seeds", [1, 2])
def test_too_few_seeds_make_no_claim(seeds: int) -> None:
    verdict = judge(runs({p: scores[:seeds] for p, scores in ADDITION.items()}, "test/mse"))
    assert verdict.nonlinearity_needed is None
    assert verdict.smallest_sufficient is None
    assert verdict.claims.sparse_beats_full is None
    assert not verdict.claims.enough_seeds
    assert "Not enough seeds" in verdict.claims.reasons[0]
    assert math.isnan(verdict.sizes[0].units[0].low) == (seeds == 1)


def test_two_columns_need_five_seeds() -> None:
    curve = {0: around(0.5, 0.01, 4, 0), 5: around(0.9, 0.01, 4, 1)}
    verdict = judge(runs(curve))
    assert not verdict.claims.enough_seeds
    assert "needs at least 5" in verdict.claims.reasons[0]
    curve = {0: around(0.5, 0.01, 5, 0), 5: around(0.9, 0.01, 5, 1)}
    assert judge(runs(curve)).nonlinearity_needed is True


def test_sparse_beats_full_with_little_data() -> None:
    few = {p: around(mean, 0.004, 5, p) for p, mean in ((0, 0.6), (2, 0.9), (5, 0.9), (10, 0.7))}
    many = {p: around(mean, 0.004, 5, p) for p, mean in ((0, 0.6), (2, 0.95), (5, 0.95), (10, 0.95))}
    made = [*runs(many, settings={"data.train_size": 1000}), *runs(few, settings={"data.train_size": 100})]
    verdict = judge(made, solved=0.8)
    assert [size.train_size for size in verdict.sizes] == [100, 1000]
    assert [size.claims.sparse_beats_full for size in verdict.sizes] == [True, False]
    assert [size.claims.smallest_sufficient for size in verdict.sizes] == [2, 2]
    assert verdict.rules.threshold_rule == "as stated"


def test_what_it_depends_on() -> None:
    good = runs(jitter(NEAR_IDENTITY), settings={"model.init": "near_identity"})
    bad = runs(jitter({p: GAUSSIAN.get(p, [0.5] * 5) for p in NEAR_IDENTITY}), settings={"model.init": "gaussian"})
    verdict = judge([*good, *bad])
    assert verdict.nonlinearity_needed is True
    assert all(units.setting == {"model.init": "near_identity"} for units in verdict.sizes[0].units[1:4])
    (init,) = verdict.dependence
    assert init.axis == "model.init"
    assert init.claims["near_identity"].nonlinearity_needed is True
    assert init.claims["gaussian"].nonlinearity_needed is None
    assert init.solved == {"gaussian": (4, 25), "near_identity": (18, 25)}
    assert init.means["near_identity"] > init.means["gaussian"]
    assert init.p_value is not None
    assert init.p_value < 0.05
    assert init.claims_differ
    assert not init.answer_differs  # one of them makes no claim
    assert "depends on model.init" in verdict.answer
    # all runs of a P count for capability, whatever their start
    assert {units.attempts for units in verdict.sizes[0].units} == {10}


def test_starts_that_were_tried_at_different_p() -> None:
    """The measured example as it stands: the gaussian start was tried at P=0, 5 and 10 alone."""
    good = runs(jitter(NEAR_IDENTITY), settings={"model.init": "near_identity"})
    bad = runs(jitter(GAUSSIAN), settings={"model.init": "gaussian"})
    verdict = judge([*good, *bad])
    assert verdict.nonlinearity_needed is True
    assert verdict.smallest_sufficient == 1
    assert {units.setting["model.init"] for units in verdict.sizes[0].units} == {"near_identity"}
    assert [len(units.other_scores) for units in verdict.sizes[0].units] == [5, 0, 0, 5, 5]
    (init,) = verdict.dependence
    near, gaussian = init.claims["near_identity"], init.claims["gaussian"]
    assert (near.nonlinearity_needed, near.smallest_sufficient) == (True, 1)
    assert (gaussian.nonlinearity_needed, gaussian.smallest_sufficient) == (None, None)
    assert gaussian.compared == (0, 5, 10)
    # what is compared across starts is compared at the P that both were tried at
    assert init.matched == (0, 5, 10)
    assert init.solved == {"gaussian": (4, 15), "near_identity": (8, 15)}
    assert init.means["near_identity"] == pytest.approx((0.5 + 0.95 + 0.77) / 3, abs=0.005)
    assert init.claims_differ
    assert "What can be told depends on model.init" in verdict.answer


def test_starts_that_contradict_each_other() -> None:
    works = {p: [0.95] * 5 for p in (0, 2, 10)}
    fails = {0: [0.5] * 5, 2: [0.95] * 5, 10: [0.95] * 5}
    made = [*runs(jitter(works), settings={"init": "a"}), *runs(jitter(fails), settings={"init": "b"})]
    verdict = judge(made)
    assert verdict.dependence[0].answer_differs
    assert "The answer depends on init" in verdict.answer
    assert verdict.nonlinearity_needed is False  # capable is who solves it with any start


def test_the_smallest_p_is_no_contradiction() -> None:
    a = runs(jitter({0: [0.5] * 5, 1: [0.95] * 5, 2: [0.95] * 5}), settings={"init": "a"})
    b = runs(jitter({0: [0.5] * 5, 1: [0.5, 0.95, 0.5, 0.95, 0.95], 2: [0.95] * 5}), settings={"init": "b"})
    (init,) = judge([*a, *b]).dependence
    assert [init.claims[level].smallest_sufficient for level in ("a", "b")] == [1, 2]
    assert init.claims_differ
    assert not init.answer_differs


def test_every_p_chooses_among_the_same_settings() -> None:
    first = runs({p: [0.6, 0.61, 0.62] for p in (0, 1, 2)}, settings={"lr": 0.01})
    only_here = runs({1: [0.9, 0.91, 0.92]}, settings={"lr": 0.1})
    units = judge([*first, *only_here], solved=0.8).sizes[0].units
    assert [one.setting for one in units] == [{"lr": 0.01}] * 3
    assert [one.best for one in units] == [0.62, 0.92, 0.62]
    assert [one.capable for one in units] == [False, True, False]
    apart = runs({0: [0.6] * 5}, settings={"lr": 0.01}) + runs({1: [0.9] * 5}, settings={"lr": 0.1})
    verdict = judge(apart)
    assert verdict.nonlinearity_needed is None
    assert "no setting of what else was varied" in verdict.answer
    # a setting that diverged was tried all the same: the linear network keeps the one that suits it
    suits = runs({0: [0.9] * 5, 5: [None] * 5}, settings={"lr": 0.1})
    other = runs({0: [0.5] * 5, 5: [0.9] * 5}, settings={"lr": 0.01})
    assert [one.setting["lr"] for one in judge([*suits, *other]).sizes[0].units] == [0.1, 0.01]


def test_settings_are_chosen_by_validation() -> None:
    lucky = runs({p: [0.9] * 3 for p in (0, 1, 2)}, settings={"lr": 0.1}, validation=0.1)
    honest = runs({p: [0.6] * 3 for p in (0, 1, 2)}, settings={"lr": 0.01}, validation=0.5)
    verdict = judge([*lucky, *honest], solved=0.8)
    assert [units.mean for units in verdict.sizes[0].units] == pytest.approx([0.6] * 3)
    assert all(units.capable for units in verdict.sizes[0].units)


def test_runs_that_diverged_count_as_not_solved() -> None:
    curve: dict[int, list[float | None]] = {
        0: [0.5] * 5,
        2: [0.95] * 5,
        5: [0.95] * 5,
        10: [0.95, None, None, None, None],
    }
    verdict = judge(runs(curve))
    assert (verdict.finished, verdict.diverged) == (16, 4)
    full = verdict.sizes[0].units[-1]
    assert (full.solved, full.tried, full.capable) == (1, 5, True)
    assert math.isnan(full.not_worse_p)  # too few scores to be compared
    assert verdict.nonlinearity_needed is True
    assert verdict.claims.seeds == (0, 1, 2, 3, 4)


def test_single_runs_that_diverged_do_not_spoil_the_verdict() -> None:
    whole = judge(runs({p: [0.5] * 3 if p == 0 else [0.95, 0.951, 0.952] for p in (0, 1, 2, 5, 10, 25, 50)}))
    curve: dict[int, list[float | None]] = {p: [0.95, 0.951, 0.952] for p in (1, 2, 5, 10, 25, 50)}
    curve |= {0: [0.5] * 3, 2: [None, 0.951, 0.952], 10: [0.95, None, 0.952], 25: [0.95, 0.951, None]}
    verdict = judge(runs(dict(sorted(curve.items()))))  # each seed lacks one of its runs
    assert (verdict.nonlinearity_needed, verdict.smallest_sufficient) == (True, 1)
    assert (whole.nonlinearity_needed, whole.smallest_sufficient) == (True, 1)
    assert verdict.claims.seeds == (0, 1, 2)
    assert verdict.claims.compared == (0, 1, 2, 5, 10, 25, 50)


def test_a_p_that_shares_no_seed_with_another_is_shown_nothing() -> None:
    curve: dict[int, list[float | None]] = {
        0: [0.5, 0.5, 0.5, None, None, None],
        1: [None, None, None, 0.9, 0.9, 0.9],
        2: [None, None, None, 0.91, 0.9, 0.9],
    }
    verdict = judge(runs(curve), tolerance=0.05)
    assert verdict.nonlinearity_needed is None


def test_a_p_that_always_diverged_stays_in_the_table() -> None:
    verdict = judge(runs({**jitter(NEAR_IDENTITY), 5: [None] * 5}))
    lost = verdict.sizes[0].units[3]
    assert (lost.nonlinear_units, lost.scores, lost.solved, lost.tried) == (5, {}, 0, 5)
    assert lost.capable is False
    assert math.isnan(lost.mean)
    assert math.isnan(lost.best)
    assert verdict.claims.compared == (0, 1, 2, 10)
    assert (verdict.nonlinearity_needed, verdict.smallest_sufficient) == (True, 1)
    linear = judge(runs({**jitter(NEAR_IDENTITY), 0: [None] * 5}))
    assert linear.nonlinearity_needed is None  # that it did not train does not say that it is unable
    assert "P=0 diverged in all of its 5 runs" in linear.claims.reasons[0]


def test_a_score_that_is_not_finite_is_a_run_that_diverged() -> None:
    made = runs(jitter(NEAR_IDENTITY))
    broken = made[7]._replace(metrics={**made[7].metrics, "test/accuracy": math.nan})
    assert broken.nonlinear_units == 1
    verdict = judge([*made[:7], broken, *made[8:]])
    assert (verdict.finished, verdict.diverged) == (24, 1)
    assert verdict.claims.seeds == (0, 1, 2, 3, 4)
    assert verdict.rules.threshold == pytest.approx(0.725, abs=0.01)
    odd = made[7]._replace(metrics={**made[7].metrics, "regime/visited": math.inf, "val/accuracy": math.nan})
    assert judge([*made[:7], odd, *made[8:]]).sizes[0].units[1].regimes == 2.0
    with pytest.raises(ValueError, match="with a finite test/mse"):
        judge(runs({0: [math.nan], 1: [math.inf]}, "test/mse"))


def test_runs_that_are_not_done_count_for_nothing() -> None:
    made = runs(jitter(NEAR_IDENTITY))
    waiting = [made[0]._replace(seed=seed, metrics={}) for seed in (5, 6)]
    verdict = judge([*made, *waiting])
    assert (verdict.finished, verdict.diverged, verdict.without_score) == (25, 0, 2)
    assert verdict.sizes == judge(made).sizes


def test_seeds_that_differ_between_p() -> None:
    few = {p: scores[:5] for p, scores in jitter(NEAR_IDENTITY).items()}
    more = {**few, 0: around(0.5, 0.002, 10, 0), 1: around(0.95, 0.002, 10, 1)}
    claims = judge(runs(more)).claims
    assert (claims.compared, claims.seeds) == ((0, 1, 2, 5, 10), tuple(range(10)))  # half as many are enough
    fewer = {**more, 10: more[10][:4]}
    claims = judge(runs(fewer)).claims
    assert claims.compared == (0, 1, 2, 5)
    assert claims.reasons[2].startswith("P=M=10 has too few scores")
    apart = [run._replace(seed=run.seed + 5) if run.nonlinear_units == 0 else run for run in runs(few)]
    claims = judge(apart).claims
    assert (claims.seeds, claims.nonlinearity_needed) == ((0, 1, 2, 3, 4), None)
    assert claims.reasons[0].startswith("Not enough seeds to tell whether nonlinearity is needed")
    two = judge([run for run in apart if run.nonlinear_units in (0, 1)]).claims
    assert (two.seeds, two.nonlinearity_needed) == ((), None)
    assert two.reasons[0].startswith("Not enough seeds to tell: 0 with scores to compare, and a claim needs")


def test_a_p_that_seldom_solves_it_holds_nothing_back() -> None:
    curve = {0: [0.5] * 3, 1: [0.95, 0.951, 0.949], 2: [0.951, 0.95, 0.95], 5: [0.9, 0.5, 0.99]}
    verdict = judge(runs(curve), solved=0.8)
    units = verdict.sizes[0].units
    assert [one.solved for one in units] == [0, 3, 3, 2]
    assert [math.isnan(one.not_worse_p) for one in units] == [True, False, False, True]
    assert verdict.smallest_sufficient == 1
    alone = judge(runs({**curve, 2: [0.5, 0.95, 0.5]}), solved=0.8)
    assert alone.smallest_sufficient == 1
    assert "it alone solves the task" in alone.claims.reasons[1]
    assert [one.sufficient for one in alone.sizes[0].units] == [False, True, False, False]


def test_baselines_bear_on_no_claim() -> None:
    made = runs(jitter(NEAR_IDENTITY))
    made += [Run("GRU", None, seed, {}, {"test/accuracy": 0.955, "val/accuracy": 0.95}) for seed in range(5)]
    verdict = judge(made)
    (gru,) = verdict.sizes[0].baselines
    assert (gru.core, gru.solved, gru.tried) == ("GRU", 5, 5)
    assert gru.mean == pytest.approx(0.955)
    alone = runs({p: around(0.8, 0.003, 5, p) for p in (0, 2, 5, 10)})
    # they would make a second peak, change the tolerance, and have no accuracy
    for extra in (baseline("LSTM", [1.0] * 12), baseline("LSTM", [7.0] * 12), baseline("LSTM", [0.1] * 12, "test/mse")):
        beside = judge([*alone, *extra])
        assert beside.rules == judge(alone).rules
        assert beside.sizes[0].units == judge(alone).sizes[0].units
        assert beside.claims == judge(alone).claims


def test_the_threshold_is_found_at_the_largest_size() -> None:
    sizes = {100: 0.6, 1000: 0.95}  # of themselves two peaks
    made = []
    for size, mean in sizes.items():
        made += runs({p: around(mean, 0.003, 5, p) for p in (0, 2, 10)}, settings={"data.train_size": size})
    verdict = judge(made)
    assert verdict.rules.threshold is None
    assert [size.claims.smallest_sufficient for size in verdict.sizes] == [0, 0]
    assert verdict.answer.startswith("With 1000 training sequences: nonlinearity is not needed")


def test_peaks_of_the_seeds_are_no_threshold() -> None:
    """Measured on addition after 3 epochs: nothing is learnt, and the data of one seed have less variance."""
    curve = {0: [0.1699, 0.1674, 0.1558], 1: [0.1682, 0.1685, 0.1560], 2: [0.1690, 0.1685, 0.1558]}
    verdict = judge(runs(curve, "test/mse"))
    assert verdict.rules.threshold is None
    assert "it is the seed that decides" in verdict.rules.threshold_rule
    assert verdict.nonlinearity_needed is None
    assert judge(runs(curve, "test/mse"), tolerance=0.01).nonlinearity_needed is False


def test_the_level_is_divided_among_the_sizes() -> None:
    # with two P and 5 seeds no p-value is below 1/32
    curve = {2: around(0.95, 0.002, 5, 0), 10: around(0.8, 0.002, 5, 1)}
    one = judge(runs(curve), solved=0.5)
    assert one.claims.sparse_beats_full is True
    assert "Few nonlinear units beat all of them." in one.answer
    made = [run for size in (1, 2, 3) for run in runs(curve, settings={"data.train_size": size})]
    three = judge(made, solved=0.5)
    assert [size.claims.sparse_beats_full for size in three.sizes] == [None] * 3
    assert "P=0 was not run" in three.claims.reasons[0]


def test_tolerances() -> None:
    assert judge(runs({0: [0.9] * 3, 1: [1.0] * 3})).rules.tolerance == 0.02
    percent = judge(runs({0: [50.0] * 3, 1: [70.0] * 3, 2: [90.0] * 3})).rules
    assert percent.tolerance == pytest.approx(0.05 * 40)  # no shares
    one_outlier = judge(runs({0: [3.0, 3.0, 1e6], 1: [1.0] * 3}, "test/loss")).rules
    assert one_outlier.tolerance == pytest.approx(0.1)
    assert judge(runs({0: [0.0] * 3, 1: [0.0] * 3}, "test/mse")).rules.tolerance > 0


def test_an_error_of_zero_is_perfect() -> None:
    verdict = judge(runs({0: [0.16, 0.17, 0.15], 1: [0.0] * 3, 2: [0.0] * 3, 10: [0.0] * 3}, "test/mse"))
    assert (verdict.nonlinearity_needed, verdict.smallest_sufficient) == (True, 1)
    assert verdict.claims.sparse_beats_full is False


def test_claims_cite_the_means_of_the_table() -> None:
    # one seed of P=1 diverged
    curve = {0: [0.4, 0.5, 0.5, 0.5, 0.5], 1: [None, 0.9, 0.9, 0.9, 0.9], 10: [0.8, 0.9, 0.9, 0.9, 0.9]}
    verdict = judge(runs(curve), solved=0.7)
    units = verdict.sizes[0].units
    assert "0.48 at P=0, 0.9 at the best, P=1" in verdict.claims.reasons[0]
    assert [f"{one.mean:.3g}" for one in units] == ["0.48", "0.9", "0.88"]
    assert "0.88 at P=M=10" in verdict.claims.reasons[2]


@pytest.mark.parametrize(
    ("curve", "solved", "answer"),
    [
        (NEAR_IDENTITY, None, "Nonlinearity is needed, and P=1 of M=10 is enough."),
        ({0: [0.5] * 5, 1: [0.9, 0.8, 0.95, 0.85, 0.99], 10: [0.8, 0.9, 0.85, 0.99, 0.95]}, 0.7,
         "Nonlinearity is needed; how much of it is enough cannot be told."),
        ({p: [0.95] * 5 for p in (0, 1, 10)}, None, "Nonlinearity is not needed: the linear network, P=0, is enough."),
        ({**NEAR_IDENTITY, 0: [0.95] + [0.5] * 4}, None,
         "Nonlinearity is not needed: a linear network can solve the task. The smallest P shown to do so reliably is "
         "1."),
        (GAUSSIAN, None, "Not enough seeds to tell whether nonlinearity is needed, nor how much of it is enough."),
        ({1: [0.95] * 5, 2: [0.95] * 5}, None,
         "P=1 of M=10 is enough; whether nonlinearity is needed at all cannot be told."),
    ],
)  # fmt: skip
def test_the_answer(curve: dict[int, list[float]], solved: float | None, answer: str) -> None:
    assert judge(runs(jitter(curve)), solved=solved).answer == answer


def test_the_score_and_its_direction() -> None:
    both = [Run("ALRNN", 0, 0, {}, {"test/accuracy": 0.9, "test/sequence_accuracy": 0.2, "test/loss": 1.0})]
    assert choose_score(both) == "test/sequence_accuracy"
    none = [Run("ALRNN", 0, 0, {}, {"test/accuracy": 0.9, "test/sequence_accuracy": 0.0})]
    assert choose_score(none) == "test/accuracy"
    with pytest.raises(ValueError, match=r"found test/r2.*--score"):
        choose_score([Run("ALRNN", 0, 0, {}, {"test/r2": 0.9})])
    with pytest.raises(ValueError, match="no run has the metric 'test/f1'"):
        judge(both, score="f1")
    assert [higher_is_better(key) for key in ("test/mse", "val/task_loss", "test/accuracy/left")] == [
        False,
        False,
        True,
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [({"alpha": 1.0}, "alpha must lie"), ({"tolerance": 0.0}, "tolerance must be positive")],
)
def test_arguments_out_of_range(arguments: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        judge(runs(ADDITION, "test/mse"), **arguments)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no finished run of an ALRNN to judge, among 0 runs"):
        judge([])
    with pytest.raises(ValueError, match="no finished run of an ALRNN"):
        judge([Run("GRU", None, 0, {}, {"test/accuracy": 0.9})])


@pytest.mark.parametrize("kind", ["one peak", "two peaks", "spreads", "starts", "uneven starts", "diverging"])
def test_with_no_difference_a_need_is_claimed_no_more_often_than_stated(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    few_draws(monkeypatch)
    rng = np.random.default_rng(0)
    alarms, trials = 0, 120
    for _ in range(trials):
        made = []
        for start in ("a", "b") if "starts" in kind else ("a",):
            scores = (
                rng.choice([0.5, 0.95], size=(4, 3)) if kind not in ("one peak", "spreads") else np.full((4, 3), 0.9)
            )
            scores = scores + 0.02 * rng.normal(size=(4, 3)) * (np.arange(1, 5)[:, None] if kind == "spreads" else 1)
            lost = rng.random(size=(4, 3)) < (0.15 if kind == "diverging" else 0.0)
            tried = (1, 2, 3) if kind == "uneven starts" and start == "b" else range(4)
            curve = {p: [None if gone else x for x, gone in zip(scores[p], lost[p], strict=True)] for p in tried}
            made += runs(curve, settings={"init": start})
        # where some run with P=0 solves it no need is claimed: a threshold that none reaches leaves the test alone
        alarms += judge(made, solved=2.0, tolerance=1e-6).nonlinearity_needed is True
    assert alarms <= 13  # 120 at 0.05: more have a probability below 0.005


def test_with_no_difference_no_size_is_picked_at_which_few_beat_all(monkeypatch: pytest.MonkeyPatch) -> None:
    few_draws(monkeypatch)
    rng = np.random.default_rng(0)
    alarms, trials = 0, 100
    for _ in range(trials):
        made = []
        for size in (1, 2, 3):
            scores = rng.normal(size=(3, 4))
            made += runs(dict(zip((0, 2, 10), scores.tolist(), strict=True)), settings={"data.train_size": size})
        alarms += any(size.claims.sparse_beats_full for size in judge(made, tolerance=1e-6).sizes)
    assert alarms <= 11  # 100 at 0.05: more have a probability below 0.005


def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worse_than_best, "__defaults__", (0.0, 199, 0))  # for speed
    monkeypatch.setattr(depends_on_column, "__defaults__", (9, 0))
    monkeypatch.setattr(bootstrap_band, "__defaults__", (0.95, 9, 0))
