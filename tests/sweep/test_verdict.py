"""The verdict on synthetic sweeps whose answer is known."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pytest

from lightning_alrnn.sweep.statistics import bootstrap_band, depends_on_column, worse_than_best
from lightning_alrnn.sweep.verdict import Run, Value, choose_score, higher_is_better, judge


def runs(
    curve: Mapping[int, Sequence[float | None]],
    key: str = "test/accuracy",
    settings: Mapping[str, Value] | None = None,
    validation: float | None = None,
    hidden_size: int = 10,
) -> list[Run]:
    """A run for each score of each P; ``None`` is one that diverged."""
    made = []
    for p, scores in curve.items():
        for seed, score in enumerate(scores):
            metrics = {} if score is None else {key: score, key.replace("test", "val"): validation or score}
            if score is not None:
                metrics |= {"regime/visited": 2.0**p, "units/active": float(p), "regime/effective": p + 1.0}
            made.append(Run("ALRNN", p, seed, settings or {}, metrics, score is None, hidden_size))
    return made


def around(mean: float, spread: float, seeds: int, seed: int) -> list[float]:
    return (mean + spread * np.random.default_rng(seed).normal(size=seeds)).tolist()


ADDITION = {0: [0.163, 0.161, 0.165], **{p: around(0.0006, 0.0002, 3, p) for p in (1, 2, 5, 10, 25, 50)}}


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


# shares solved as they were measured on contextual integration
NEAR_IDENTITY = {0: [0.5] * 5, 1: [0.95] * 5, 2: [0.95] * 5, 5: [0.95] * 5, 10: [0.95, 0.95, 0.95, 0.5, 0.5]}
GAUSSIAN = {0: [0.5] * 5, 5: [0.95, 0.5, 0.5, 0.95, 0.5], 10: [0.5, 0.95, 0.5, 0.5, 0.95]}


def jitter(curve: Mapping[int, Sequence[float]]) -> dict[int, list[float]]:
    rng = np.random.default_rng(0)
    return {p: (np.array(scores) + 0.002 * rng.normal(size=len(scores))).tolist() for p, scores in curve.items()}


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
    assert not init.answer_differs  # one of them makes no claim
    # all runs of a P count for capability, whatever their start
    assert {units.attempts for units in verdict.sizes[0].units} == {10}


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


def test_baselines_stand_beside() -> None:
    made = runs(NEAR_IDENTITY)
    made += [Run("GRU", None, seed, {}, {"test/accuracy": 0.955, "val/accuracy": 0.95}) for seed in range(5)]
    verdict = judge(made)
    (gru,) = verdict.sizes[0].baselines
    assert (gru.core, gru.solved, gru.tried) == ("GRU", 5, 5)
    assert gru.mean == pytest.approx(0.955)
    assert verdict.claims.seeds == (0, 1, 2, 3, 4)


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
    with pytest.raises(ValueError, match="no finished run"):
        judge([])
    with pytest.raises(ValueError, match="no finished run of an ALRNN"):
        judge([Run("GRU", None, 0, {}, {"test/accuracy": 0.9})])


@pytest.mark.parametrize("kind", ["one peak", "two peaks", "starts"])
def test_with_no_difference_a_need_is_claimed_no_more_often_than_stated(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worse_than_best, "__defaults__", (0.0, 199, 0))  # fewer draws, for speed
    monkeypatch.setattr(depends_on_column, "__defaults__", (9, 0))
    monkeypatch.setattr(bootstrap_band, "__defaults__", (0.95, 9, 0))
    rng = np.random.default_rng(0)
    alarms, trials = 0, 120
    for _ in range(trials):
        made = []
        for start in ("a", "b") if kind == "starts" else ("a",):
            scores = rng.choice([0.5, 0.95], size=(4, 3)) if kind != "one peak" else np.full((4, 3), 0.9)
            scores = scores + 0.02 * rng.normal(size=(4, 3))
            made += runs({p: scores[p].tolist() for p in range(4)}, settings={"init": start})
        # where some run with P=0 solves it no need is claimed: a threshold that none reaches leaves the test alone
        alarms += judge(made, solved=2.0, tolerance=1e-6).nonlinearity_needed is True
    assert alarms <= 13  # 120 at 0.05: more have a probability below 0.005
