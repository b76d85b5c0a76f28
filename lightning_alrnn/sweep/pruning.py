"""The verdict on a pruned network: the number of its nonlinear units that are enough."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lightning_alrnn.analysis.pruning import Removal
from lightning_alrnn.sweep.rules import Rules, Run, find_score, make_rules
from lightning_alrnn.sweep.verdict import ALPHA
from lightning_alrnn.sweep.words import counted, number


class PruningPoint(NamedTuple):
    """A network with some of the nonlinear units that it was trained with.

    Attributes:
        nonlinear_units: Number of remaining nonlinear units.
        removal: Last removal, with the index of the unit in the trained network; ``None`` for the trained network.
        validation: Metrics of the validation by key, such as ``val/accuracy``.
        test: Metrics of the test by key.
    """

    nonlinear_units: int
    removal: Removal | None
    validation: Mapping[str, float]
    test: Mapping[str, float]


class Pruning(NamedTuple):
    """The score of a network for each number of remaining nonlinear units.

    Attributes:
        points: The network as trained, and after each removal.
        rules: Rules that the networks are judged by.
    """

    points: tuple[PruningPoint, ...]
    rules: Rules

    @property
    def validation_gaps(self) -> tuple[float, ...]:
        """Difference between each network and the best one in validation; infinite if it diverges."""
        return self._gaps([point.validation[self.rules.validation_score] for point in self.points])

    @property
    def gaps(self) -> tuple[float, ...]:
        """Difference between each network and the best one in the test; infinite if it diverges."""
        return self._gaps([point.test[self.rules.score] for point in self.points])

    @property
    def chosen(self) -> PruningPoint:
        """The network with the fewest nonlinear units that is within the tolerance of the best in validation."""
        gaps = zip(self.points, self.validation_gaps, strict=True)
        return [point for point, gap in gaps if gap <= self.rules.margin][-1]

    @property
    def enough(self) -> int | None:
        """Number of units of :attr:`chosen`, if it is within the tolerance in the test, too; otherwise ``None``."""
        return self.chosen.nonlinear_units if self._gap_of(self.chosen) <= self.rules.margin else None

    @property
    def answer(self) -> str:
        """The number of nonlinear units that are enough, and the scores that it rests on."""
        rules, chosen, total = self.rules, self.chosen, self.points[0].nonlinear_units
        remaining, tolerance = chosen.nonlinear_units, f"the tolerance is {number(rules.tolerance)}"
        if remaining == total:
            return (
                f"None of the {total} nonlinear units can be removed: without the one with the least effect "
                f"({describe(self.points[1].removal)}), {rules.validation_score} is worse by "
                f"{number(self.validation_gaps[1])}; {tolerance}."
            )
        gap = self._gap_of(chosen)
        behind = f"worse than the best by {number(gap)}" if gap else "the best"
        score = f"{rules.score} is {number(chosen.test[rules.score])}, {behind}; {tolerance}"
        if self.enough is None:
            return (
                f"Fewer than {total} nonlinear units are not shown to be enough: {remaining} of {total} are enough in "
                f"validation, but in the test {score}."
            )
        kinds = [point.removal.kind for point in self.points[1 : 1 + total - remaining] if point.removal]
        removed = ", ".join(f"{kinds.count(kind)} {kind}d" for kind in ("linearise", "silence") if kind in kinds)
        verb, others = "is" if remaining == 1 else "are", "others" if total - remaining > 1 else "other"
        said = f"{remaining} of {total} nonlinear units {verb} enough: without the {others} ({removed}), {score}."
        if remaining:
            following = self.points[total - remaining + 1]
            loss = self._gap_of(following)
            said += f" With {counted(remaining - 1, 'unit')} ({describe(following.removal)}) "
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
        tolerance: Difference in score that does not count; ``None`` for the default of the metric.

    Returns:
        The rules.

    Raises:
        ValueError: If there is no such metric, it has no default tolerance, or the tolerance is not positive.

    Example:
        >>> rules = pruning_rules(PruningPoint(5, None, {}, {"test/accuracy": 0.96}))
        >>> rules.score, rules.tolerance
        ('test/accuracy', 0.02)
    """
    units, metrics = trained.nonlinear_units, trained.test
    key = find_score([Run("ALRNN", units, 0, {}, metrics)], score)
    constants = [metrics["test/constant_mse"]] if metrics.get("test/constant_mse", 0.0) > 0 else []
    rules = make_rules({units: [metrics[key]]}, key, constants, tolerance, None, ALPHA)
    if rules.exploratory:
        raise ValueError(f"{key} has no default tolerance: state the difference that does not count with --tolerance")
    return rules


def describe(removal: Removal | None) -> str:
    """A removal in words, such as "unit 2 silenced"; "as trained" for ``None``."""
    return "as trained" if removal is None else f"unit {removal.unit} {removal.kind}d"
