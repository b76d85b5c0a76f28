"""Rules that say whether a network has learned its task and whether its training may end."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Literal, get_args

from lightning_alrnn.scores import SHARES

StopWhen = Literal["solved", "plateau"]

_SHARE = 0.9
_ERROR = 0.1
THRESHOLD = f"an accuracy of {_SHARE:g}, or {100 * _ERROR:g} % of the error of the best constant prediction"
"""The threshold of :func:`reaches_threshold` in words."""

_IN_A_ROW = 3
_LEAST_PATIENCE = 10
_LOWER = 0.01


def reaches_threshold(scores: Mapping[str, float]) -> bool:
    """Return whether the scores of a validation reach the threshold.

    The threshold is 0.9 for ``val/sequence_accuracy`` or, without it, for ``val/accuracy``. For ``val/mse`` it is 10 %
    of ``val/constant_mse``, the error of the best constant prediction.

    Args:
        scores: Metrics of a validation by key.

    Returns:
        Whether the threshold is reached; ``False`` if there are none of these metrics.

    Example:
        >>> reaches_threshold({"val/accuracy": 0.95}), reaches_threshold({"val/mse": 0.2, "val/constant_mse": 1.0})
        (True, False)
    """
    for name in SHARES:
        if f"val/{name}" in scores:
            return scores[f"val/{name}"] >= _SHARE - 1e-6  # of single precision
    return scores.get("val/mse", math.inf) <= _ERROR * scores.get("val/constant_mse", -math.inf)


def has_threshold(scores: Mapping[str, float]) -> bool:
    """Whether the scores of a validation hold a metric that :func:`reaches_threshold` looks at."""
    shares = any(f"val/{name}" in scores for name in SHARES)
    return shares or {"val/mse", "val/constant_mse"} <= scores.keys()


class LearningWatch:
    """Follow the validations of a network: when it reaches the threshold, and whether its training may end.

    Args:
        max_epochs: Largest number of training epochs; ``None`` or -1 for no limit.
        stop_when: Rule that ends training early. "solved": three validations in a row reach the threshold (see
            :func:`reaches_threshold`). "plateau": ``val/task_loss`` has not decreased by 1 % for a quarter of
            ``max_epochs``, and at least for ten epochs. ``None``: no rule.

    Attributes:
        epochs_to_threshold: Number of epochs after which a validation first reached the threshold, or ``None``.

    Raises:
        ValueError: If ``stop_when`` is unknown.

    Example:
        >>> watch = LearningWatch(max_epochs=40, stop_when="solved")
        >>> [watch.update(epochs, {"val/accuracy": 0.8 + epochs / 40}) for epochs in range(1, 7)]
        [False, False, False, False, False, True]
        >>> watch.epochs_to_threshold
        4
    """

    def __init__(self, max_epochs: int | None, stop_when: StopWhen | None = None) -> None:
        if stop_when is not None and stop_when not in get_args(StopWhen):
            raise ValueError(f"stop_when must be 'solved', 'plateau' or None, got {stop_when!r}")
        self.epochs_to_threshold: int | None = None
        self._stop_when = stop_when
        self._patience = max(_LEAST_PATIENCE, (max_epochs or 0) // 4)
        self._in_a_row = 0
        self._lowest = math.inf
        self._lowered = 0

    def update(self, epochs: int, scores: Mapping[str, float]) -> bool:
        """Add a validation.

        Args:
            epochs: Number of epochs that the network was trained for.
            scores: Metrics of the validation by key.

        Returns:
            Whether training may end.
        """
        solved = reaches_threshold(scores)
        if solved and self.epochs_to_threshold is None:
            self.epochs_to_threshold = epochs
        self._in_a_row = self._in_a_row + 1 if solved else 0
        loss = scores.get("val/task_loss", math.inf)
        if self._lowered == 0 or loss < self._lowest - _LOWER * abs(self._lowest):
            self._lowest, self._lowered = loss, epochs
        if self._stop_when == "solved":
            return self._in_a_row >= _IN_A_ROW
        return self._stop_when == "plateau" and epochs - self._lowered >= self._patience

    def state_dict(self) -> dict[str, Any]:
        """Return the state, for checkpoints."""
        names = ("epochs_to_threshold", "_in_a_row", "_lowest", "_lowered")
        return {name: getattr(self, name) for name in names}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state.

        Args:
            state: Result of :meth:`state_dict`.
        """
        for name, value in state.items():
            setattr(self, name, value)
