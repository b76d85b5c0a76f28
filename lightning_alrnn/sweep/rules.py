"""The rules that runs are judged by: the score, its direction and the tolerance."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from lightning_alrnn.scores import SCORES

Value = str | int | float | bool | None

DATA_SEED = "data.seed"

_ERRORS = {"loss", "mse", "mae", "rmse", "nll", "error", "distance", "divergence", "perplexity", "regularization"}


class Run(NamedTuple):
    """A run of a sweep, as the verdict sees it.

    Attributes:
        core: "ALRNN", or the core of a baseline.
        nonlinear_units: P; ``None`` for a baseline.
        seed: Seed of the run.
        settings: Other varied settings, such as ``{"data.train_size": 100, "model.init": "gaussian"}``.
        metrics: Metrics of the best weights by key, such as ``test/mse``; empty if the run failed.
        diverged: Whether training diverged. Such a run is the worst of all, like a run whose score is not finite.
        hidden_size: M, or ``None`` if it is unknown.
        epochs_to_threshold: Number of epochs until a validation first reached the threshold, see
            :func:`~lightning_alrnn.metrics.threshold.reaches_threshold`; ``None`` if none did.
        epochs: Number of epochs of training; ``None`` if the run does not say when it reached the threshold.
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
        tolerance: Difference in score that does not count.
        tolerance_rule: Origin of the tolerance.
        exploratory: Whether the tolerance depends on the scores that it judges.
        solved: Score that a run must reach to solve the task, or ``None``.
        alpha: Largest accepted probability of a wrong claim.
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
        """The tolerance, plus a margin for the rounding of metrics in single precision."""
        return self.tolerance * (1 + 1e-4)

    @property
    def validation_score(self) -> str:
        """Key of the same metric in validation, which chooses the settings."""
        return self.score.replace("test/", "val/", 1)


def higher_is_better(key: str) -> bool:
    """Whether a metric should be high, judged by its name.

    Args:
        key: Key of the metric.

    Returns:
        ``False`` if a part of the key names an error or a loss.

    Example:
        >>> higher_is_better("test/accuracy"), higher_is_better("test/task_loss")
        (True, False)
    """
    return not _ERRORS & set(re.split(r"[/_]", key.lower()))


def choose_score(runs: Sequence[Run]) -> str:
    """The metric that runs are judged by if none is named.

    Args:
        runs: All runs of a sweep.

    Returns:
        The first of ``test/sequence_accuracy`` (unless it is 0 in all runs), ``test/accuracy``, ``test/mse``,
        ``test/task_loss`` and ``test/loss`` that every run has.

    Raises:
        ValueError: If the runs have none of these.

    Example:
        >>> choose_score([Run("ALRNN", 5, 0, {}, {"test/mse": 0.1, "test/loss": 0.2})])
        'test/mse'
    """
    scored = [run for run in runs if run.metrics]
    names = (*SCORES, "loss")
    for name in names:
        key = f"test/{name}"
        values = [run.metrics.get(key) for run in scored]
        if values and all(value is not None for value in values) and (name != "sequence_accuracy" or any(values)):
            return key
    raise ValueError(
        f"the runs have no common metric to judge them by: expected one of "
        f"{', '.join(f'test/{name}' for name in names)} in each run, got {_test_keys(scored)}; name one with --score"
    )


def find_score(runs: Sequence[Run], score: str | None) -> str:
    """Key of the requested metric, whose ``test/`` may be missing; ``None`` means :func:`choose_score`."""
    if not any(run.metrics or run.diverged for run in runs):
        raise ValueError("there is no finished run of an ALRNN to judge")
    key = f"test/{score}" if score and "/" not in score else score
    if not any(run.metrics for run in runs):  # that every run diverged is a verdict, too
        return key or "no score"
    key = choose_score(runs) if key is None else key
    values = [run.metrics[key] for run in runs if key in run.metrics]
    if not values:
        raise ValueError(f"no run has the metric {key!r}; there are {_test_keys(runs)}")
    if not any(map(math.isfinite, values)):
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
    """Rules with a tolerance for the score; ``constants`` are the logged errors of the best constant prediction."""
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    upward, exploratory = higher_is_better(key), False
    values = [score for column in scores.values() for score in column]
    if tolerance is not None:
        rule = "as stated"
    elif not values:
        tolerance, rule = 1e-12, "none: every run diverged"
    elif upward and min(values) >= 0 and max(values) <= 1:
        tolerance, rule = 0.02, "default for a share such as the accuracy"
    elif key == "test/mse" and constants:
        tolerance, rule = 0.05 * max(constants), "5 % of the error of the best constant prediction"
    else:
        medians = [float(np.median(column)) for column in scores.values() if len(column)]
        span = max(medians) - min(medians)
        tolerance, exploratory = 0.05 * span, True
        rule = (
            "derived from the scores it judges, as 5 % of the difference between the typical runs of the best and the "
            "worst P"
        )
        if not span > 0:
            tolerance, rule = 1e-12, "limited to rounding, because the typical runs of all P are equal"
    return Rules(key, upward, tolerance, rule, exploratory, solved, alpha)


def sort_key(value: Value) -> tuple[bool, float, str]:
    """Sort key of the values of a setting: numbers first, then text."""
    return (False, float(value), "") if isinstance(value, int | float) else (True, 0.0, str(value))


def _test_keys(runs: Sequence[Run]) -> str:
    return ", ".join(sorted({key for run in runs for key in run.metrics if key.startswith("test/")})) or "none"
