"""Predictors without a network, against closed forms and loops over the steps."""

from __future__ import annotations

import pytest
import torch

from lightning_alrnn import SequenceBatch
from lightning_alrnn.baselines import score_baselines


def autoregression(sequences: int, noise: float = 0.1) -> SequenceBatch:
    """x_t = 1.2 x_{t−1} − 0.5 x_{t−2} + noise, whose next value is the target."""
    x = torch.zeros(sequences, 63, 1)
    for t in range(2, 63):
        x[:, t] = 1.2 * x[:, t - 1] - 0.5 * x[:, t - 2] + noise * torch.randn(sequences, 1)
    x = x[:, 22:]
    return SequenceBatch(x[:, :-1], x[:, 1:], torch.full((sequences,), 40))


def test_a_linear_recording() -> None:
    train, evaluation = autoregression(300), autoregression(200)
    scores = score_baselines(train, evaluation, "regression", "every", outputs=1)
    assert list(scores) == ["mean", "same as the last step", "linear model"]
    assert scores["linear model"]["mse"] == pytest.approx(0.01, rel=0.1)  # the variance of the noise
    errors = (evaluation.inputs - evaluation.targets).square()
    assert scores["same as the last step"]["mse"] == pytest.approx(float(errors.mean()), rel=1e-5)
    errors = (train.targets.mean() - evaluation.targets).square()
    assert scores["mean"]["mse"] == pytest.approx(float(errors.mean()), rel=1e-5)


@pytest.mark.parametrize("per_output", [False, True])
def test_only_steps_that_count(per_output: bool) -> None:
    lengths = torch.tensor([3, 1, 5, 4])
    shape = (4, 5, 2) if per_output else (4, 5)
    mask = torch.rand(shape).round()
    batch = SequenceBatch(torch.randn(4, 5, 3), torch.randn(4, 5, 2), lengths, mask)
    valid = [(i, t, o) for i in range(4) for t in range(lengths[i]) for o in range(2)]
    counted = [(i, t, o) for i, t, o in valid if (mask[i, t, o] if per_output else mask[i, t]) > 0]
    values = [[float(batch.targets[index]) for index in counted if index[2] == o] for o in range(2)]
    means = [sum(column) / max(len(column), 1) for column in values]
    mse = sum((float(batch.targets[index]) - means[index[2]]) ** 2 for index in counted) / max(len(counted), 1)
    scores = score_baselines(batch, batch, "regression", "every", outputs=2)
    assert scores["mean"]["mse"] == pytest.approx(mse, rel=1e-6)
    # steps that do not count, or that come after the end, change nothing
    other = batch.targets.clone()
    other[2, 4] = 100 if mask[2, 4].sum() == 0 else other[2, 4]
    other[1, 1:] = 100
    inputs = batch.inputs.clone()
    inputs[1, 1:] = 100
    again = score_baselines(*[batch._replace(targets=other, inputs=inputs)] * 2, "regression", "every", outputs=2)
    for name in scores:
        assert again[name]["mse"] == pytest.approx(scores[name]["mse"], rel=1e-6)


def test_classes_at_the_last_step() -> None:
    inputs, lengths = torch.randn(600, 12, 2), torch.randint(3, 13, (600,))
    rows = torch.arange(600)
    targets = (inputs[rows, lengths - 3, 0] > 0.5).long()  # three steps before the end
    batch = SequenceBatch(inputs, targets, lengths)
    scores = score_baselines(batch, batch, "classification", "last", outputs=3)
    assert scores["most frequent class"] == {"accuracy": pytest.approx(1 - float(targets.double().mean()))}
    assert scores["linear model"]["accuracy"] > 0.85
    shuffled = batch._replace(targets=targets[torch.randperm(600)])
    fresh = SequenceBatch(torch.randn(600, 12, 2), shuffled.targets, lengths)
    assert score_baselines(shuffled, fresh, "classification", "last", outputs=3)["linear model"]["accuracy"] < 0.8


def test_classes_at_every_step_of_tokens() -> None:
    tokens = torch.randint(0, 4, (200, 9))
    targets = torch.cat([torch.zeros(200, 1, dtype=torch.int64), tokens[:, :-1]], dim=1)  # the token before
    batch = SequenceBatch(tokens, targets, torch.full((200,), 9))
    scores = score_baselines(batch, batch, "classification", "every", outputs=4)
    assert scores["linear model"] == {"accuracy": 1, "sequence_accuracy": 1}
    # of sequences in which a step counts, those without a mistake
    few = batch._replace(lengths=torch.randint(1, 4, (200,)), mask=torch.rand(200, 9).round())
    steps = [[t for t in range(few.lengths[i]) if few.mask[i, t]] for i in range(200)]
    whole = [not targets[i, of].any() for i, of in enumerate(steps) if of]  # the first token is the most frequent one
    constant = score_baselines(few, few, "classification", "every", outputs=4)["most frequent class"]
    assert constant["sequence_accuracy"] == pytest.approx(sum(whole) / len(whole))
    many = batch._replace(inputs=tokens * 1000)
    assert list(score_baselines(many, many, "classification", "every", outputs=4)) == ["most frequent class"]


def test_the_criterion_of_a_regression() -> None:
    inputs = torch.randn(400, 6, 1)
    targets = inputs.mean(dim=1)
    batch = SequenceBatch(inputs, targets, torch.full((400,), 6))
    scores = score_baselines(batch, batch, "regression", "last", outputs=1, criterion="sign")
    assert scores["linear model"]["accuracy"] > 0.99
    assert scores["linear model"]["mse"] < 1e-6
    assert scores["mean"]["accuracy"] == pytest.approx(0.5, abs=0.1)


@pytest.mark.parametrize(("sequences", "time"), [(1, 1), (1, 4), (2, 1)])
def test_the_smallest_data(sequences: int, time: int) -> None:
    x = torch.randn(sequences, time, 1)
    batch = SequenceBatch(x, x, torch.ones(sequences, dtype=torch.int64), torch.zeros(sequences, time))
    scores = score_baselines(batch, batch, "regression", "every", outputs=1)
    assert scores["mean"] == {"mse": 0.0}  # nothing counts


def test_channels_of_any_scale() -> None:
    inputs = torch.randn(300, 10, 2)
    targets = inputs[:, -1, :1] + inputs[:, -1, 1:]
    scaled = inputs * torch.tensor([1e3, 1e-3]) + torch.tensor([5e3, 0.0])
    batch = SequenceBatch(scaled.double(), targets, torch.full((300,), 10))
    # in two batches, as a larger data set is read
    parts = [SequenceBatch(*(field[rows] for field in batch[:3])) for rows in (slice(0, 100), slice(100, 300))]
    scores = score_baselines(batch, iter(parts), "regression", "last", outputs=1)
    assert scores["linear model"]["mse"] < 1e-8
    whole = score_baselines(batch, batch, "regression", "last", outputs=1)
    assert scores["mean"]["mse"] == pytest.approx(whole["mean"]["mse"], rel=1e-12)
