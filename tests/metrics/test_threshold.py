"""From when on a network counts as having learned its task, and when its training may end."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pytest
import torch

from lightning_alrnn.metrics.threshold import LearningWatch, StopWhen, has_threshold, reaches_threshold


@pytest.mark.parametrize(
    ("scores", "reached"),
    [
        ({"val/sequence_accuracy": 0.9}, True),
        ({"val/sequence_accuracy": 0.8999}, False),
        ({"val/sequence_accuracy": 0.5, "val/accuracy": 1.0}, False),  # whole sequences are what the task asks for
        ({"val/accuracy": 0.9, "val/mse": 1.0, "val/constant_mse": 1.0}, True),
        ({"val/accuracy": 0.89}, False),
        ({"val/accuracy": float(torch.tensor(0.9))}, True),  # 0.899999976
        ({"val/accuracy": math.nan, "val/mse": 0.0, "val/constant_mse": 1.0}, False),
        ({"val/mse": 0.2, "val/constant_mse": 2.0}, True),
        ({"val/mse": 0.21, "val/constant_mse": 2.0}, False),
        ({"val/mse": math.nan, "val/constant_mse": 1.0}, False),
        ({"val/mse": 0.0, "val/constant_mse": math.nan}, False),
        ({"val/mse": 0.0}, False),
        ({"val/constant_mse": 1.0}, False),
        ({"train/accuracy": 1.0, "test/accuracy": 1.0, "val/task_loss": 0.0}, False),
        ({}, False),
    ],
)
def test_nine_tenths_of_what_there_is_to_learn(scores: dict[str, float], reached: bool) -> None:
    assert reaches_threshold(scores) == reached
    assert has_threshold(scores) or not reached


def test_which_scores_can_reach_the_threshold() -> None:
    for scores in (["val/sequence_accuracy"], ["val/accuracy"], ["val/mse", "val/constant_mse"]):
        assert has_threshold(dict.fromkeys(scores, math.nan))
        assert not has_threshold({"val/task_loss": 1.0} | dict.fromkeys(scores[:-1], 1.0))
    assert not has_threshold({"val/constant_mse": 1.0})


def ends(watch: LearningWatch, key: str, values: Sequence[float]) -> int | None:
    """Number of epochs, each with a validation, after which training may end."""
    return next((epoch for epoch, value in enumerate(values, 1) if watch.update(epoch, {key: value})), None)


@pytest.mark.parametrize(
    ("accuracies", "end", "reached"),
    [
        ([1.0, 1.0, 1.0, 1.0], 3, 1),
        ([0.5, 1.0, 1.0, 0.5, 1.0, 1.0, 1.0], 7, 2),  # the first row is broken; it was reached in it nevertheless
        ([1.0, 1.0, math.nan, 1.0, 1.0], None, 1),
        ([0.5, 0.89, 0.5, 0.89], None, None),
    ],
)
def test_solved_after_three_validations_in_a_row(accuracies: list[float], end: int | None, reached: int | None) -> None:
    watch = LearningWatch(100, "solved")
    assert ends(watch, "val/accuracy", accuracies) == end
    assert watch.epochs_to_threshold == reached


def test_without_a_rule_training_goes_on() -> None:
    watch = LearningWatch(4)
    assert not any(watch.update(epoch, {"val/accuracy": 1.0, "val/task_loss": 1.0}) for epoch in range(1, 100))
    with pytest.raises(ValueError, match="stop_when must be 'solved', 'plateau' or None, got 'done'"):
        LearningWatch(10, "done")  # type: ignore[arg-type]


@pytest.mark.parametrize(("max_epochs", "patience"), [(None, 10), (4, 10), (40, 10), (43, 10), (44, 11), (400, 100)])
def test_the_patience_is_a_quarter_of_the_epochs_and_ten_at_least(max_epochs: int | None, patience: int) -> None:
    for best in (1, 7):  # number of epochs after which the loss was lowest
        losses = [1.0 / epoch for epoch in range(1, best + 1)] + [1.0] * 200
        assert ends(LearningWatch(max_epochs, "plateau"), "val/task_loss", losses) == best + patience


@pytest.mark.parametrize("first", [1.0, -1.0])
def test_a_plateau_is_left_by_one_per_cent(first: float) -> None:
    # within the patience of ten epochs, and below the loss that was lowest at its beginning
    for step, end in ((0.0009, 11), (0.0011, None)):
        losses = [first - step * epoch for epoch in range(40)]
        assert ends(LearningWatch(40, "plateau"), "val/task_loss", losses) == end


def test_the_first_validation_comes_late() -> None:
    for rule, end in (("plateau", 40 + 25), ("solved", 40 + 2 * 5)):
        watch = LearningWatch(100, rule)  # type: ignore[arg-type]
        scores = {"val/task_loss": 1.0, "val/accuracy": 1.0}
        assert next(epoch for epoch in range(40, 200, 5) if watch.update(epoch, scores)) == end
        assert watch.epochs_to_threshold == 40


@pytest.mark.parametrize("rule", [None, "solved", "plateau"])
@pytest.mark.parametrize("cut", range(0, 24, 3))
def test_what_was_noted_is_gone_on_with(rule: StopWhen | None, cut: int) -> None:
    accuracies = [0.5] * 5 + [0.95, 0.95, 0.5] + [0.5] * 8 + [0.95] * 8
    losses = [1.0, 0.9, 0.8, 0.7] + [0.7] * 20
    scores = [{"val/accuracy": a, "val/task_loss": b} for a, b in zip(accuracies, losses, strict=True)]
    whole, watch = LearningWatch(44, rule), LearningWatch(44, rule)
    expected = [whole.update(epoch, each) for epoch, each in enumerate(scores, 1)]
    assert any(expected) == (rule is not None)
    got = [watch.update(epoch, each) for epoch, each in enumerate(scores[:cut], 1)]
    resumed = LearningWatch(44, rule)
    resumed.load_state_dict(watch.state_dict())
    got += [resumed.update(epoch, each) for epoch, each in enumerate(scores[cut:], cut + 1)]
    assert got == expected
    assert resumed.epochs_to_threshold == whole.epochs_to_threshold == 6
    assert resumed.state_dict() == whole.state_dict()
