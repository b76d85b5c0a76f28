"""What predictors without a network score on a task: a network is worth something where it is better than these."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.batch import Objective, SequenceBatch, TargetStep, valid_steps
from lightning_alrnn.metrics.criteria import find_criterion

_SEQUENCES = 2_000
"""Training sequences that a baseline is fitted to: the first ones."""
_STEPS = 100_000
"""Steps that the linear model is fitted to, if each has a target; at least 20 sequences."""
_HISTORIES = (1, 2, 5, 10, 20)
_MAX_FEATURES = 256
_PENALTIES = (1e-6, 1e-4, 1e-2, 1.0)
_NUMBERS = 2**22
"""Features that are held at a time, 32 MB."""

Predictor = Callable[[SequenceBatch], Tensor]


def score_baselines(
    train: SequenceBatch,
    evaluation: SequenceBatch | Iterable[SequenceBatch],
    objective: Objective,
    target_step: TargetStep,
    *,
    outputs: int,
    criterion: str | None = None,
) -> dict[str, dict[str, float]]:
    """Score predictors that need no network, fitted to the training data.

    - ``"most frequent class"`` or ``"mean"``: the same prediction for every sequence and step.
    - ``"same as the last step"``: y_t = x_t, where the target is the next input.
    - ``"linear model"``: a ridge regression on the last k inputs, and on their mean over the sequence where the target
      is at the last step, all of them standardised. A fifth of the training sequences decides on k and the penalty. A
      classification takes the largest of the outputs. Tokens are one-hot; a vocabulary of more than 256 has no such
      model.

    Args:
        train: Training sequences, of which the first 2,000 are used. With targets at every step, the linear model uses
            as many of them as have 100,000 steps.
        evaluation: Sequences that the predictors are scored on, in one or more batches.
        objective: Kind of task, "classification" or "regression".
        target_step: Steps with targets, "last" or "every".
        outputs: Number of outputs or classes.
        criterion: Name of the rule by which a trial of a regression is correct, or ``None``.

    Returns:
        The scores of each predictor by name: ``mse`` and, with a criterion, ``accuracy`` in a regression; ``accuracy``
        and, with targets at every step, ``sequence_accuracy`` in a classification. They are computed on the same steps
        as the network's.

    Example:
        >>> x = torch.randn(300, 20, 1).cumsum(dim=1)
        >>> batch = SequenceBatch(x[:, :-1], x[:, 1:], torch.full((300,), 19))
        >>> scores = score_baselines(batch, batch, "regression", "every", outputs=1)
        >>> list(scores)
        ['mean', 'same as the last step', 'linear model']
    """
    train = _rows(train, slice(0, _SEQUENCES))
    task = _Task(objective, target_step, outputs)
    predictors: dict[str, Predictor] = {task.constant_name: task.fit_constant(train)}
    if _is_forecast(train, task):
        predictors["same as the last step"] = lambda batch: batch.inputs
    if task.width(train) <= _MAX_FEATURES and len(train.inputs) > 1:
        predictors["linear model"] = task.fit_linear(train)
    return task.score(predictors, [evaluation] if isinstance(evaluation, SequenceBatch) else evaluation, criterion)


class _Task:
    """The predictions and targets of a kind of task as rows ``(n, outputs)`` of numbers."""

    def __init__(self, objective: Objective, target_step: TargetStep, outputs: int) -> None:
        self.classes = objective == "classification"
        self.every = target_step == "every"
        self.outputs = outputs
        self.constant_name = "most frequent class" if self.classes else "mean"

    def width(self, batch: SequenceBatch) -> int:
        """Number of features of one step."""
        return batch.inputs.shape[2] if batch.inputs.is_floating_point() else int(batch.inputs.max()) + 1

    def fit_constant(self, train: SequenceBatch) -> Predictor:
        counted = self.counted(train)
        targets = self.numbers(train.targets)
        mean = (targets * counted).sum(dim=tuple(range(targets.ndim - 1))) / counted.expand_as(targets).flatten(
            0, -2
        ).sum(dim=0).clamp(min=1)
        return lambda batch: mean.expand(*self.shape(batch), self.outputs)

    def fit_linear(self, train: SequenceBatch) -> Predictor:
        """Ridge regression; one pass over the data for the longest history, whose blocks are those of shorter ones."""
        width = self.width(train)
        histories = [k for k in _HISTORIES if k == 1 or k * width <= _MAX_FEATURES]
        size = len(train.inputs)
        if self.every:
            size = min(size, max(_STEPS // train.inputs.shape[1], 20))
        held_out = max(size // 5, 1)
        parts = _rows(train, slice(0, size - held_out)), _rows(train, slice(size - held_out, size))
        fitted, judged = (self._moments(part, width, histories[-1]) for part in parts)
        best: tuple[float, int, float] | None = None
        for k in histories:
            for penalty in _PENALTIES:
                error = _error(judged, _solve(fitted, self._columns(k, width, histories[-1]), penalty))
                if best is None or error < best[0]:
                    best = error, k, penalty
        assert best is not None
        moments = tuple(one + other for one, other in zip(fitted, judged, strict=True))
        weights = _solve(moments, self._columns(best[1], width, histories[-1]), best[2])
        return lambda batch: self._features(batch, width, histories[-1]) @ weights

    def score(
        self, predictors: dict[str, Predictor], evaluation: Iterable[SequenceBatch], criterion: str | None
    ) -> dict[str, dict[str, float]]:
        totals = {name: torch.zeros(6, dtype=torch.float64) for name in predictors}
        for data in evaluation:
            for batch in _batches(data, self.width(data) * _HISTORIES[-1]):
                counted = self.counted(batch)
                for name, predict in predictors.items():
                    totals[name] += self._sums(predict(batch).double(), batch, counted, criterion)
        scores = {}
        for name, total in totals.items():
            squares, elements, correct, trials, whole, sequences = total.tolist()
            scores[name] = {} if self.classes else {"mse": squares / max(elements, 1)}
            scores[name] |= {"accuracy": correct / trials} if trials else {}
            scores[name] |= {"sequence_accuracy": whole / sequences} if sequences else {}
        return scores

    def _sums(self, outputs: Tensor, batch: SequenceBatch, counted: Tensor, criterion: str | None) -> Tensor:
        """Squared errors, correct predictions and sequences without a mistake, each with their number."""
        if self.classes:
            counts = counted[..., 0] > 0
            correct = (outputs.argmax(dim=-1) == batch.targets) & counts
            sums = [0, 0, correct.sum(), counts.sum(), 0, 0]
            if self.every:
                answered = counts.any(dim=1)
                sums[4:] = ((correct == counts).all(dim=1) & answered).sum(), answered.sum()
            return torch.tensor(sums, dtype=torch.float64)
        errors = (outputs - batch.targets.double()).square() * counted
        sums = [errors.sum(), counted.expand_as(errors).sum(), 0, 0, 0, 0]
        if criterion is not None:
            targets = batch.targets
            if self.every:
                last = torch.arange(len(outputs)), batch.lengths - 1
                outputs, targets = outputs[last], targets[last]
            correct = find_criterion(criterion)(outputs.to(targets.dtype), targets)
            sums[2:4] = correct.sum(), len(correct)
        return torch.tensor(sums, dtype=torch.float64)

    def shape(self, batch: SequenceBatch) -> tuple[int, ...]:
        return tuple(batch.inputs.shape[: 2 if self.every else 1])

    def numbers(self, targets: Tensor) -> Tensor:
        return (functional.one_hot(targets.clamp(min=0), self.outputs) if self.classes else targets).double()

    def counted(self, batch: SequenceBatch) -> Tensor:
        """1 where a target counts and 0 elsewhere, shape ``(batch, 1)``, ``(batch, time, 1 or outputs)``."""
        if not self.every:
            return torch.ones(len(batch.inputs), 1, dtype=torch.float64)
        counted = valid_steps(batch.lengths, batch.inputs.shape[1]).unsqueeze(-1)
        if batch.mask is not None:
            counted = counted & ((batch.mask if batch.mask.ndim == 3 else batch.mask.unsqueeze(-1)) > 0)
        return counted.double()

    def _features(self, batch: SequenceBatch, width: int, history: int) -> Tensor:
        """The last inputs, the newest first, a 1 and, for targets at the last step, the mean input."""
        inputs = batch.inputs
        if not inputs.is_floating_point():
            inputs = functional.one_hot(inputs.clamp(max=width - 1), width)
        valid = valid_steps(batch.lengths, inputs.shape[1]).unsqueeze(-1)
        inputs = inputs.double() * valid
        steps = torch.arange(inputs.shape[1]) if self.every else (batch.lengths - 1).unsqueeze(-1)
        index = steps.unsqueeze(-1) - torch.arange(history)  # (time or batch, 1, history)
        index = index.expand(len(inputs), -1, -1) if self.every else index
        rows = torch.arange(len(inputs)).view(-1, 1, 1)
        past = inputs[rows, index.clamp(min=0)] * (index >= 0).unsqueeze(-1)
        past = past.flatten(2)
        ones = torch.ones(*past.shape[:2], 1, dtype=torch.float64)
        if self.every:
            return torch.cat([ones, past], dim=-1)
        mean = inputs.sum(dim=1) / batch.lengths.unsqueeze(-1)
        return torch.cat([ones, past, mean.unsqueeze(1)], dim=-1).squeeze(1)

    def _columns(self, k: int, width: int, history: int) -> Tensor:
        """Columns of the features that a history of k steps uses."""
        columns = torch.arange(1 + k * width)
        if self.every:
            return columns
        return torch.cat([columns, 1 + history * width + torch.arange(width)])

    def _moments(self, data: SequenceBatch, width: int, history: int) -> tuple[Tensor, Tensor, Tensor]:
        """XᵀX, XᵀY and YᵀY's diagonal over the targets that count."""
        sums: tuple[Tensor, ...] | None = None
        for batch in _batches(data, width * history):
            counted = self.counted(batch).amax(dim=-1, keepdim=True)
            x = (self._features(batch, width, history) * counted).flatten(0, -2)
            y = (self.numbers(batch.targets) * counted).flatten(0, -2)
            parts = x.T @ x, x.T @ y, y.square().sum(dim=0)
            sums = parts if sums is None else tuple(a + b for a, b in zip(sums, parts, strict=True))
        assert sums is not None
        return sums[0], sums[1], sums[2]


def _solve(moments: tuple[Tensor, ...], columns: Tensor, penalty: float) -> Tensor:
    """Weights ``(features, outputs)`` of a ridge regression on the standardised columns; zero for the others."""
    square, cross = moments[0][columns][:, columns], moments[1][columns]
    count = square[0, 0].clamp(min=1)  # no step may count
    means, target_means = square[0, 1:] / count, cross[0] / count
    centred = square[1:, 1:] - count * means.outer(means)
    variances = centred.diagonal() / count
    # a channel that is constant but for rounding has no part
    scale = torch.where(variances > 1e-12 * means.square(), variances, torch.inf).sqrt()
    correlations = centred / count / scale.outer(scale) + penalty * torch.eye(len(scale), dtype=torch.float64)
    slopes = torch.linalg.solve(
        correlations, (cross[1:] / count - means.outer(target_means)) / scale.unsqueeze(-1)
    ) / scale.unsqueeze(-1)
    weights = torch.zeros(len(moments[0]), cross.shape[1], dtype=torch.float64)
    weights[columns] = torch.cat([(target_means - means @ slopes).unsqueeze(0), slopes])
    return weights


def _error(moments: tuple[Tensor, ...], weights: Tensor) -> float:
    """Sum of squared errors of ridge weights on the data of the moments."""
    square, cross, own = moments
    return float(((weights * (square @ weights)).sum(dim=0) - 2 * (weights * cross).sum(dim=0) + own).sum())


def _is_forecast(batch: SequenceBatch, task: _Task) -> bool:
    """Whether the target of each step is the next input."""
    if task.classes or not task.every or batch.inputs.shape[1] < 2 or batch.inputs.shape != batch.targets.shape:
        return False
    both = valid_steps(batch.lengths, batch.inputs.shape[1])[:, 1:]
    return bool((batch.targets[:, :-1] == batch.inputs[:, 1:])[both].all())


def _rows(batch: SequenceBatch, rows: slice) -> SequenceBatch:
    return SequenceBatch(*(None if field is None else field[rows] for field in batch))  # type: ignore[arg-type]


def _batches(data: SequenceBatch, features: int) -> Iterator[SequenceBatch]:
    size = max(_NUMBERS // (features * data.inputs.shape[1]), 1)
    edges = [*range(0, len(data.inputs), size), len(data.inputs)]
    for begin, end in pairwise(edges):
        yield _rows(data, slice(begin, end))
