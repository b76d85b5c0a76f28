"""A network beside predictors without a network."""

from __future__ import annotations

import math

import pytest

from lightning_alrnn.readings.yardstick import baselines_of, compare

MSE = {"mean": {"mse": 4.0, "accuracy": 0.1}, "linear model": {"mse": 2.0, "accuracy": 0.6}}
SHARE = {"most frequent class": {"accuracy": 0.5}, "linear model": {"accuracy": 0.6}}


@pytest.mark.parametrize(
    ("metrics", "baselines", "skill"),
    [
        ({"val/mse": 0.5, "val/accuracy": 0.0}, MSE, 0.75),  # the error before the accuracy of a criterion
        ({"val/mse": 2.0}, MSE, 0.0),
        ({"val/mse": math.inf}, MSE, -math.inf),
        ({"val/mse": 0.0}, {"mean": {"mse": 0.0}}, 0.0),
        ({"val/mse": 0.1}, {"mean": {"mse": 0.0}}, -math.inf),
        ({"val/accuracy": 0.9}, SHARE, 0.75),
        ({"val/accuracy": 0.5}, SHARE, -0.25),
        ({"val/accuracy": 1.0}, {"linear model": {"accuracy": 1.0}}, 0.0),
    ],
)
def test_skill_is_the_share_of_the_error_of_the_best_baseline(
    metrics: dict[str, float], baselines: dict[str, dict[str, float]], skill: float
) -> None:
    comparison = compare(metrics, baselines, "val")
    assert comparison is not None
    assert comparison.skill == pytest.approx(skill)
    assert ("no better" in comparison.warning) == bool(comparison.warning) == (skill <= 0)
    if len(baselines) > 1:
        assert next(iter(comparison.baselines)) == "linear model"


def test_what_is_said() -> None:
    texts = {}
    for value in (0.5, 1.95, 3.0):
        comparison = compare({"test/mse": value}, MSE, "test")
        assert comparison is not None
        texts[value] = comparison.warning, comparison.sentence(), comparison.row()
    baselines = "a linear model has 2 and always giving the mean of the targets has 4."
    assert texts[0.5][:2] == (
        "",
        f"The mean squared error is 0.5; {baselines} The network removes 75% of the error of the best of these.",
    )
    assert texts[0.5][2] == (
        "mse: linear model 2, mean 4; skill 0.75 (1 is perfect, 0 no better than the best of these), R² 0.88"
    )
    ending = "than a linear model: its mean squared error is"
    assert texts[1.95][0] == f"The network is hardly better {ending} 1.95, against 2."
    assert texts[3.0][0] == f"The network is no better {ending} 3, against 2."
    assert texts[3.0][1] == f"The mean squared error is 3; {baselines}"
    perfect = compare({"val/accuracy": 0.8}, {"linear model": {"accuracy": 1.0}}, "val")
    assert perfect is not None
    assert perfect.row() == "accuracy: linear model 100.0%; a linear model makes no error, so no network can be better"
    shares = compare({"val/accuracy": 0.8}, {"own": {"accuracy": 0.5}}, "val")
    assert shares is not None
    assert shares.sentence() == (
        "The share of right answers is 80.0%; own has 50.0%. The network removes 60% of the error of it."
    )


@pytest.mark.parametrize(
    ("metrics", "baselines"),
    [({}, MSE), ({"val/mse": 1.0}, {}), ({"val/mse": math.nan}, MSE), ({"val/mse": 1.0}, SHARE)],
)
def test_nothing_to_compare(metrics: dict[str, float], baselines: dict[str, dict[str, float]]) -> None:
    assert compare(metrics, baselines, "val") is None


def test_a_datamodule_without_baselines_has_none() -> None:
    assert baselines_of(None, "val") == {}
    assert baselines_of(object(), "val") == {}
