"""The sweep from above: how many of its nonlinear units are enough for one trained network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lightning_alrnn.analysis.pruning import Removal
from lightning_alrnn.sweep.rules import Rules, Run, find_score, make_rules
from lightning_alrnn.sweep.verdict import ALPHA
from lightning_alrnn.sweep.words import number


class PruningPoint(NamedTuple):
    """A network with some of the nonlinear units that it was trained with.

    Attributes:
        nonlinear_units: Number of nonlinear units that are left.
        removal: The last unit that was taken away, by its index in the network as trained, and how; ``None`` for the
            network as trained.
        validation: Metrics of the validation by key, such as ``val/accuracy``.
        test: Metrics of the test by key.
    """

    nonlinear_units: int
    removal: Removal | None
    validation: Mapping[str, float]
    test: Mapping[str, float]


class Pruning(NamedTuple):
    """The score of a network against its nonlinear units that are left.

    Attributes:
        points: The network as trained, and after each removal.
        rules: What the networks are judged by.
    """

    points: tuple[PruningPoint, ...]
    rules: Rules

    @property
    def validation_gaps(self) -> tuple[float, ...]:
        """How much worse each network is than the best of them in validation; infinite where it diverges."""
        return self._gaps([point.validation[self.rules.validation_score] for point in self.points])

    @property
    def gaps(self) -> tuple[float, ...]:
        """How much worse each network is than the best of them in the test; infinite where it diverges."""
        return self._gaps([point.test[self.rules.score] for point in self.points])

    @property
    def chosen(self) -> PruningPoint:
        """The network with the fewest nonlinear units that is within the tolerance of the best in validation."""
        gaps = zip(self.points, self.validation_gaps, strict=True)
        return [point for point, gap in gaps if gap <= self.rules.margin][-1]

    @property
    def enough(self) -> int | None:
        """Number of nonlinear units that are enough.

        That of :attr:`chosen`, if it is within the tolerance in the test too; otherwise ``None``.
        """
        return self.chosen.nonlinear_units if self._gap_of(self.chosen) <= self.rules.margin else None

    @property
    def answer(self) -> str:
        """How many of the nonlinear units are enough, and what that rests on."""
        rules, chosen, total = self.rules, self.chosen, self.points[0].nonlinear_units
        left, tolerance = chosen.nonlinear_units, f"the tolerance is {number(rules.tolerance)}"
        if left == total:
            least = self.points[1]
            return (
                f"None of the {total} nonlinear units can be spared: without the one that is missed least "
                f"({describe(least.removal)}), {rules.validation_score} is worse by "
                f"{number(self.validation_gaps[1])}; {tolerance}."
            )
        gap = self._gap_of(chosen)
        behind = f"worse than the best by {number(gap)}" if gap else "the best"
        score = f"{rules.score} is {number(chosen.test[rules.score])}, {behind}; {tolerance}"
        if self.enough is None:
            return (
                f"No number below {total} is shown to be enough: {left} of {total} nonlinear units are enough in "
                f"validation, but in the test {score}."
            )
        kinds = [point.removal.kind for point in self.points[1 : 1 + total - left] if point.removal]
        counts = [(kinds.count("linearise"), "linearised"), (kinds.count("silence"), "silenced")]
        others = ", ".join(f"{count} {kind}" for count, kind in counts if count)
        verb, rest = "is" if left == 1 else "are", "others" if total - left > 1 else "other"
        said = f"{left} of {total} nonlinear units {verb} enough: without the {rest} ({others}), {score}."
        if left:
            following = self.points[total - left + 1]
            loss = self._gap_of(following)
            said += f" With one less ({describe(following.removal)}) "
            said += f"it is worse by {number(loss)}." if math.isfinite(loss) else "the network diverges."
        return said

    def _gaps(self, scores: Sequence[float]) -> tuple[float, ...]:
        signed = [self.rules.sign * score if math.isfinite(score) else -math.inf for score in scores]
        return tuple(max(signed) - score for score in signed)

    def _gap_of(self, point: PruningPoint) -> float:
        return self.gaps[self.points[0].nonlinear_units - point.nonlinear_units]


def pruning_rules(trained: PruningPoint, score: str | None = None, tolerance: float | None = None) -> Rules:
    """The rules of :func:`lightning_alrnn.sweep.judge`, for a single network.

    Args:
        trained: The network as trained.
        score: Key of the metric, with or without ``test/``; ``None`` for
            :func:`~lightning_alrnn.sweep.rules.choose_score`.
        tolerance: How much worse does not count; ``None`` for 0.02 of a share such as the accuracy, and for 5 % of the
            error of the best constant prediction.

    Returns:
        The rules.

    Raises:
        ValueError: If there is no such metric, it has no rule for the tolerance, or the tolerance is not positive.

    Example:
        >>> trained = PruningPoint(5, None, {"val/accuracy": 0.97}, {"test/accuracy": 0.96})
        >>> rules = pruning_rules(trained)
        >>> rules.score, rules.tolerance
        ('test/accuracy', 0.02)
    """
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    units, metrics = trained.nonlinear_units, trained.test
    key = find_score([Run("ALRNN", units, 0, {}, metrics)], score)
    constants = [metrics["test/constant_mse"]] if metrics.get("test/constant_mse", 0.0) > 0 else []
    rules = make_rules({units: [metrics[key]]}, key, constants, tolerance, None, ALPHA)
    if rules.exploratory:
        raise ValueError(f"{key} has no tolerance of its own: state how much worse does not count with --tolerance")
    return rules


def describe(removal: Removal | None) -> str:
    """A removal in words, such as "unit 2 silenced"; "as trained" for ``None``."""
    return "as trained" if removal is None else f"unit {removal.unit} {removal.kind}d"
