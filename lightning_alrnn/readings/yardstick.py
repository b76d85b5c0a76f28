"""The score of a network beside those of predictors without a network."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from lightning_alrnn.batch import Split
from lightning_alrnn.readings.base import Reading, key_table
from lightning_alrnn.readings.text import number
from lightning_alrnn.scores import phrase

_HARDLY = 0.05
_METRICS = {"mse": "mean squared error", "accuracy": "share of right answers"}


class Baselines(Reading):
    """The scores of predictors without a network, which ``Dashboard`` logs and the report compares with the network."""

    title = "task"
    keys = key_table(
        """
        baseline/<metric>/<name> | that of `val/<metric>` | score of a predictor without a network on the same steps,
            such as `baseline/mse/linear_model`; the same in all epochs | A network that is better than all of them need
            not be good
        """
    )
    place = 1.5
    callback = "Dashboard"


class Comparison(NamedTuple):
    """A score of a network and the same score of the baselines.

    Attributes:
        metric: Name of the score, "mse" or "accuracy".
        value: Score of the network.
        baselines: Scores of the baselines by name, the best one first.
    """

    metric: str
    value: float
    baselines: dict[str, float]

    @property
    def skill(self) -> float:
        """Share of the error of the best baseline that the network removes: 1 is perfect, 0 no better than it.

        The error is the mean squared error, or the share of wrong answers.
        """
        best = self._error(next(iter(self.baselines.values())))
        error = self._error(self.value)
        if best == 0:
            return 0.0 if error == 0 else -math.inf
        return 1 - error / best

    @property
    def warning(self) -> str:
        """A sentence if the network is no better, or hardly better, than the best baseline; empty otherwise."""
        if self.skill >= _HARDLY:
            return ""
        name, score = next(iter(self.baselines.items()))
        degree = "no better" if self.skill <= 0 else "hardly better"
        return (
            f"The network is {degree} than {phrase(name)}: its {_METRICS[self.metric]} is {self._text(self.value)}, "
            f"against {self._text(score)}."
        )

    def sentence(self) -> str:
        """Return the score of the network and those of the baselines in words."""
        others = [f"{phrase(name)} has {self._text(score)}" for name, score in self.baselines.items()]
        listed = " and ".join([", ".join(others[:-1]), others[-1]] if len(others) > 1 else others)
        text = f"The {_METRICS[self.metric]} is {self._text(self.value)}; {listed}."
        if self.skill < _HARDLY:
            return text
        which = "it" if len(others) == 1 else "the best of these"
        return f"{text} The network removes {self.skill:.0%} of the error of {which}."

    def row(self) -> str:
        """Return the scores of the baselines and the skill of the network, in one line."""
        scores = ", ".join(f"{name} {self._text(score)}" for name, score in self.baselines.items())
        best, level = next(iter(self.baselines.items()))
        if self._error(level) == 0:
            return f"{self.metric}: {scores}; {phrase(best)} makes no error, so no network can be better"
        text = f"{self.metric}: {scores}; skill {self.skill:.2f} (1 is perfect, 0 no better than the best of these)"
        if self.metric == "mse" and self.baselines.get("mean"):
            text += f", R² {1 - self.value / self.baselines['mean']:.2f}"
        return text

    def _error(self, score: float) -> float:
        return score if self.metric == "mse" else 1 - score

    def _text(self, score: float) -> str:
        return number(score) if self.metric == "mse" else f"{score:.1%}"


def compare(
    metrics: Mapping[str, float], baselines: Mapping[str, Mapping[str, float]], stage: Split
) -> Comparison | None:
    """Compare a network with baselines, by the mean squared error or else by the accuracy.

    Args:
        metrics: Metrics of the network, such as "val/mse".
        baselines: Scores of each baseline by metric, by name of the baseline.
        stage: Name of the stage, as in the keys of the metrics.

    Returns:
        The comparison, or ``None`` if no score is known of both.
    """
    for metric in _METRICS:
        value = metrics.get(f"{stage}/{metric}", math.nan)
        scores = {name: each[metric] for name, each in baselines.items() if not math.isnan(each.get(metric, math.nan))}
        if scores and not math.isnan(value):
            order = sorted(scores, key=lambda name: scores[name], reverse=metric != "mse")
            return Comparison(metric, value, {name: scores[name] for name in order})
    return None


def baselines_of(data: Any, split: Split) -> dict[str, dict[str, float]]:
    """Return the scores of the baselines that a DataModule knows, which are none for most DataModules of users."""
    method = getattr(data, "baselines", None)
    return method(split) if callable(method) else {}
