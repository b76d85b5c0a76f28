"""How few units are enough, chosen in validation and told by the test."""

from __future__ import annotations

import math

import pytest

from lightning_alrnn.analysis import Removal
from lightning_alrnn.sweep import Pruning, PruningPoint, pruning_rules


def pruned(validation: list[float], test: list[float], name: str = "accuracy") -> Pruning:
    """Networks from all units to none; every other unit is silenced."""
    points = []
    for index, (chosen_by, score) in enumerate(zip(validation, test, strict=True)):
        kind = "silence" if index % 2 else "linearise"
        removal = Removal(index - 1, kind) if index else None  # type: ignore[arg-type]
        remaining = len(test) - 1 - index
        points.append(PruningPoint(remaining, removal, {f"val/{name}": chosen_by}, {f"test/{name}": score}))
    if name == "mse":
        points[0] = points[0]._replace(test={**points[0].test, "test/constant_mse": 1.0})
    return Pruning(tuple(points), pruning_rules(points[0]))


def test_the_fewest_within_the_tolerance_are_enough() -> None:
    pruning = pruned([0.95, 0.94, 0.96, 0.90, 0.95, 0.5], [0.93, 0.94, 0.95, 0.92, 0.94, 0.6])
    assert pruning.chosen.nonlinear_units == pruning.enough == 1
    assert pruning.gaps == pytest.approx((0.02, 0.01, 0, 0.03, 0.01, 0.35))
    assert pruning.answer == (
        "1 of 5 nonlinear units is enough: without the others (2 linearised, 2 silenced), test/accuracy is 0.94, worse "
        "than the best by 0.01; the tolerance is 0.02. With 0 units (unit 4 silenced) it is worse by 0.35."
    )


def test_the_test_chooses_nothing() -> None:
    few_in_test = pruned([0.95, 0.9, 0.8], [0.95, 0.95, 0.95])
    assert few_in_test.enough == 2
    assert few_in_test.answer == (
        "None of the 2 nonlinear units can be removed: without the one with the least effect (unit 0 silenced), "
        "val/accuracy is worse by 0.05; the tolerance is 0.02."
    )
    few_in_validation = pruned([0.95, 0.95, 0.8], [0.95, 0.9, 0.95])
    assert few_in_validation.chosen.nonlinear_units == 1
    assert few_in_validation.enough is None
    assert few_in_validation.answer == (
        "Fewer than 2 nonlinear units are not shown to be enough: 1 of 2 are enough in validation, but in the test "
        "test/accuracy is 0.9, worse than the best by 0.05; the tolerance is 0.02."
    )


def test_errors_are_low_and_networks_may_diverge() -> None:
    pruning = pruned([0.1, 0.12, math.nan], [0.1, 0.09, math.inf], "mse")
    assert (pruning.rules.tolerance, pruning.enough) == (0.05, 1)
    assert pruning.gaps == pytest.approx((0.01, 0, math.inf))
    assert pruning.answer.endswith("With 0 units (unit 1 linearised) the network diverges.")
    linear = pruned([0.1, 0.12], [0.1, 0.09], "mse")
    assert linear.answer == (
        "0 of 1 nonlinear units are enough: without the other (1 silenced), test/mse is 0.09, the best; the tolerance "
        "is 0.05."
    )


def test_rules_are_those_of_the_verdict() -> None:
    trained = PruningPoint(3, None, {}, {"test/accuracy": 0.9, "test/sequence_accuracy": 0.4, "test/loss": 2.0})
    assert pruning_rules(trained)[:3] == ("test/sequence_accuracy", True, 0.02)
    assert pruning_rules(trained, "loss", 0.5).tolerance == 0.5
    for options, message in (
        (("loss",), r"^test/loss has no default tolerance: state .* with --tolerance$"),
        ((None, 0.0), "tolerance must be positive, got 0"),
        (("none",), "no run has the metric 'test/none'"),
    ):
        with pytest.raises(ValueError, match=message):
            pruning_rules(trained, *options)  # type: ignore[arg-type]
