"""What a sweep's runs are judged by: the score, the tolerance, and from where on a run counts as good."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lightning_alrnn.scores import SCORES

Value = str | int | float | bool | None

_ERRORS = {"loss", "mse", "mae", "rmse", "nll", "error", "distance", "divergence", "perplexity", "regularization"}


class Run(NamedTuple):
    """A run of a sweep, as the verdict sees it.

    Attributes:
        core: "ALRNN", or the core of a baseline.
        nonlinear_units: P; ``None`` for a baseline.
        seed: Seed of the run.
        settings: What else was varied, such as ``{"data.train_size": 100, "model.init": "gaussian"}``.
        metrics: Metrics of the best weights by key: ``test/…``, ``val/…``, ``regime/…`` and so on. Empty where the run
            failed.
        diverged: Whether it failed because training diverged. Such a run is the worst that a run can be, and so is one
            whose score is not finite.
        hidden_size: M, where it is known.
        epochs_to_threshold: How many epochs of training it took until the score in validation first reached the
            threshold, see :func:`~lightning_alrnn.metrics.threshold.reaches_threshold`; ``None`` where it never did.
        epochs: How many epochs it was trained for; ``None`` where it is unknown when it reached the threshold.
    """

    core: str
    nonlinear_units: int | None
    seed: int
    settings: Mapping[str, Value]
    metrics: Mapping[str, float]
    diverged: bool = False
    hidden_size: int | None = None
    epochs_to_threshold: int | None = None
    epochs: int | None = None


class Rules(NamedTuple):
    """The rules that scores are judged by.

    Attributes:
        score: Key of the metric.
        higher_is_better: Direction of the metric.
        tolerance: How much worse does not count.
        tolerance_rule: Where the tolerance comes from.
        exploratory: Whether the tolerance was derived from the scores that it is to judge, or stated after a verdict on
            them.
        solved: Score from which on a run solves the task, where one is stated.
        alpha: Probability of a wrong claim that is accepted.
    """

    score: str
    higher_is_better: bool
    tolerance: float
    tolerance_rule: str
    exploratory: bool
    solved: float | None
    alpha: float

    @property
    def sign(self) -> float:
        """Factor that makes higher scores better."""
        return 1.0 if self.higher_is_better else -1.0

    @property
    def margin(self) -> float:
        """The tolerance with room for rounding, as metrics are of single precision."""
        return self.tolerance * (1 + 1e-4)

    @property
    def validation_score(self) -> str:
        """Key of the same metric in validation, by which settings are chosen."""
        return self.score.replace("test/", "val/", 1)


def higher_is_better(key: str) -> bool:
    """Whether a metric should be high, judged by its name: ``test/mse`` and losses should be low.

    Args:
        key: Key of the metric.

    Returns:
        ``False`` where a part of the key names an error.

    Example:
        >>> higher_is_better("test/accuracy"), higher_is_better("test/task_loss")
        (True, False)
    """
    return not _ERRORS & set(re.split(r"[/_]", key.lower()))


def choose_score(runs: Sequence[Run]) -> str:
    """The metric that runs are judged by where none is named.

    It is the first that every run has of the test's ``sequence_accuracy`` (left out where it is 0 in all of them),
    ``accuracy``, ``mse``, ``task_loss`` and ``loss``.

    Args:
        runs: All runs of a sweep.

    Returns:
        Key of the metric.

    Raises:
        ValueError: If the runs have none of these.
    """
    scored = [run for run in runs if run.metrics]
    names = (*SCORES, "loss")
    for name in names:
        key = f"test/{name}"
        values = [run.metrics.get(key) for run in scored]
        if values and all(value is not None for value in values) and (name != "sequence_accuracy" or any(values)):
            return key
    raise ValueError(
        f"no metric to judge the runs by: expected one of {', '.join(f'test/{name}' for name in names)} in each of "
        f"them, got {_test_keys(scored)}; name one with --score"
    )


def find_score(runs: Sequence[Run], score: str | None) -> str:
    """Key of the metric that is asked for, with or without ``test/``; ``None`` asks for :func:`choose_score`."""
    if not any(run.metrics or run.diverged for run in runs):
        raise ValueError("there is no finished run of an ALRNN to judge")
    key = f"test/{score}" if score and "/" not in score else score
    if not any(run.metrics for run in runs):  # a verdict all the same: that every run diverged
        return key or "no score"
    if key is None:
        key = choose_score(runs)
    else:
        if not any(key in run.metrics for run in runs):
            raise ValueError(f"no run has the metric {key!r}; there are {_test_keys(runs)}")
    if not any(math.isfinite(run.metrics.get(key, math.nan)) for run in runs):
        raise ValueError(f"there is no run of an ALRNN with a finite {key} to judge")
    return key


def make_rules(
    scores: Mapping[int, Sequence[float]],
    key: str,
    constants: Sequence[float],
    tolerance: float | None,
    solved: float | None,
    alpha: float,
) -> Rules:
    """Fill in what is not stated; ``constants`` are errors of the best constant prediction, where they were logged.

    Example:
        >>> make_rules({0: [0.8], 5: [0.9]}, "test/accuracy", [], None, None, 0.05).tolerance
        0.02
    """
    upward, exploratory = higher_is_better(key), False
    values = [score for column in scores.values() for score in column]
    if tolerance is not None:
        rule = "as stated"
    elif not values:
        tolerance, rule = 1e-12, "none: every run diverged"
    elif upward and min(values) >= 0 and max(values) <= 1:
        tolerance, rule = 0.02, "0.02 of a share"
    elif key == "test/mse" and constants:
        tolerance, rule = 0.05 * max(constants), "5 % of the error of the best constant prediction"
    else:
        medians = [float(np.median(column)) for column in scores.values() if len(column)]
        span = max(medians) - min(medians)
        tolerance, exploratory = 0.05 * span, True
        rule = (
            "derived from the scores it judges, as 5 % of the distance between the typical runs of the best and worst P"
        )
        if not span > 0:
            tolerance, rule = 1e-12, "that of rounding, as the typical runs of all P are equal"
    return Rules(key, upward, tolerance, rule, exploratory, solved, alpha)


def _test_keys(runs: Sequence[Run]) -> str:
    return ", ".join(sorted({key for run in runs for key in run.metrics if key.startswith("test/")})) or "none"
