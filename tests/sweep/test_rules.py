"""What is judged, in which direction, and how much worse does not count."""

from __future__ import annotations

import math

import numpy as np
import pytest
from sweep_runs import ADDITION, baseline, runs

from lightning_alrnn.sweep import Run, choose_score, higher_is_better, judge


def test_metrics_that_should_be_high_and_low() -> None:
    assert all(map(higher_is_better, ["test/accuracy", "val/r2", "test/go/accuracy", "test/rate_correlation"]))
    low = ["test/mse", "test/task_loss", "test/loss/poisson", "val/nll", "test/Hellinger_distance"]
    assert not any(map(higher_is_better, low))


def test_the_score_is_the_first_that_every_run_has() -> None:
    exact = {"test/sequence_accuracy": 0.5, "test/accuracy": 0.9, "test/loss": 0.1}
    assert choose_score([Run("ALRNN", 0, 0, {}, exact)]) == "test/sequence_accuracy"
    # exact in none of the runs, it tells nothing
    assert choose_score([Run("ALRNN", 0, 0, {}, exact | {"test/sequence_accuracy": 0.0})]) == "test/accuracy"
    two = [Run("ALRNN", 0, 0, {}, {"test/mse": 1.0, "test/loss": 1.0}), Run("ALRNN", 1, 0, {}, {"test/loss": 1.0})]
    assert choose_score(two) == "test/loss"
    with pytest.raises(ValueError, match=r"got test/f1; name one with --score"):
        choose_score([Run("ALRNN", 0, 0, {}, {"test/f1": 1.0})])


def test_tolerances() -> None:
    made = runs(ADDITION, "test/mse")
    with_constant = [run._replace(metrics={**run.metrics, "test/constant_mse": 0.1667}) for run in made]
    for judged, tolerance, exploratory in (
        (made, 0.05 * (0.163 - 0.0006), True),
        (with_constant, 0.05 * 0.1667, False),
        (runs({0: [0.5], 1: [0.9]}), 0.02, False),
        (runs({0: [50.0], 1: [90.0]}), 2.0, True),  # an accuracy in percent is no share
    ):
        rules = judge(judged).rules
        assert rules.tolerance == pytest.approx(tolerance, rel=0.02 if judged is made else 1e-6)
        assert rules.exploratory == exploratory
    assert judge(made, tolerance=0.01).rules[2:5] == (0.01, "as stated", False)


def test_rounding_decides_nothing() -> None:
    """Accuracies of 300 trials in single precision, as they are logged, 6 trials apart: exactly the tolerance."""
    better, worse = (float(np.float32(count / 300)) for count in (292, 286))
    assert better - worse > 0.02
    verdict = judge(runs({0: [worse] * 6, 1: [better] * 6, 2: [better] * 6}))
    assert verdict.claims.sufficient == (0, 1, 2)
    assert verdict.estimates[0].good == 6


def test_what_cannot_be_judged() -> None:
    for made, options, message in (
        (baseline("GRU", [0.9]), {}, "no finished run of an ALRNN"),
        (runs({0: [0.9]}), {"score": "f1"}, "no run has the metric 'test/f1'; there are test/accuracy"),
        (runs({0: [math.nan], 1: [math.inf]}, "test/mse"), {}, "with a finite test/mse"),
        (runs({0: [0.9]}), {"alpha": 5}, "alpha must lie between 0 and 1"),
        (runs({0: [0.9]}), {"tolerance": 0}, "tolerance must be positive"),
    ):
        with pytest.raises(ValueError, match=message):
            judge(made, **options)
