"""The verdict on a sweep: from its runs to estimates, claims and an answer."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lightning_alrnn.sweep import words
from lightning_alrnn.sweep.claims import Claims, find_untold, make_claims, seeds_needed
from lightning_alrnn.sweep.estimates import Estimate, by_units, choose_setting, estimate, typical_score
from lightning_alrnn.sweep.learning_time import LearningTime, learning_times
from lightning_alrnn.sweep.rules import Rules, Run, Value, find_score, make_rules

TRAIN_SIZE = "data.train_size"
ALPHA = 0.05


class Baseline(NamedTuple):
    """The runs with another core.

    Attributes:
        core: Name of the core.
        setting: What else was varied, as chosen in validation.
        typical: Median of the scores; NaN where half of the runs or more diverged.
        scores: Scores by seed.
        tried: Number of runs, those that diverged among them.
    """

    core: str
    setting: Mapping[str, Value]
    typical: float
    scores: Mapping[int, float]
    tried: int


class SizeVerdict(NamedTuple):
    """The verdict for one size of training data.

    Attributes:
        train_size: Number of training sequences, ``None`` where it was not varied.
        claims: What is claimed.
        estimates: Estimates for each P.
        baselines: The other cores.
        hidden_size: M, or ``None`` where it is unknown or differs.
        alpha: Level of each claim at this size.
        learning_times: How many epochs each P took to reach the threshold; empty where the runs do not say.
    """

    train_size: int | None
    claims: Claims
    estimates: tuple[Estimate, ...]
    baselines: tuple[Baseline, ...]
    hidden_size: int | None
    alpha: float
    learning_times: tuple[LearningTime, ...] = ()


class Dependence(NamedTuple):
    """What each value of something else that was varied leads to.

    Attributes:
        axis: Key of what was varied, such as "model.init".
        claims: Claims by value; each at the level divided by the numbers of values and of axes.
        estimates: Estimates by value.
        differs: Whether values contradict each other on whether nonlinearity is needed, or on whether few nonlinear
            units beat all.
    """

    axis: str
    claims: Mapping[str, Claims]
    estimates: Mapping[str, tuple[Estimate, ...]]
    differs: bool


class Verdict(NamedTuple):
    """What a sweep says.

    Attributes:
        rules: What runs are judged by.
        sizes: Verdict for each size of training data, in order. The last is the sweep's own.
        dependence: What the values of other axes lead to, at the largest size.
        finished: Number of runs with a score.
        diverged: Number of runs that diverged.
        without_score: Number of the other runs, which failed or are not done; they count for nothing.
        next_command: Command line that would tell what cannot be told; ``None`` where there is none, and outside a
            sweep's folder.
        earlier_looks: Numbers of seeds at which the sweep was judged before, at the full level.
        looks: Numbers of seeds at which a sweep that adds seeds is judged, by which the level is divided.
    """

    rules: Rules
    sizes: tuple[SizeVerdict, ...]
    dependence: tuple[Dependence, ...]
    finished: int
    diverged: int
    without_score: int
    next_command: str | None = None
    earlier_looks: tuple[int, ...] = ()
    looks: tuple[int, ...] = ()

    @property
    def claims(self) -> Claims:
        """Claims at the largest size of training data."""
        return self.sizes[-1].claims

    def status(self, estimate: Estimate) -> str:
        """Whether the runs show a P to be enough.

        Args:
            estimate: Estimate for that P.

        Returns:
            "enough", "not enough", "not shown" to be either, or "not compared".
        """
        return words.status(estimate, self.rules).partition(":")[0]

    @property
    def estimates(self) -> tuple[Estimate, ...]:
        """Estimates for each P at the largest size of training data."""
        return self.sizes[-1].estimates

    @property
    def learning_times(self) -> tuple[LearningTime, ...]:
        """How many epochs each P took to reach the threshold, at the largest size of training data."""
        return self.sizes[-1].learning_times

    @property
    def untold(self) -> tuple[str, ...]:
        """What was asked, by the P that were run, and cannot be told yet; a phrase for each question."""
        return find_untold(self.claims, self.estimates, self.sizes[-1].hidden_size)

    @property
    def seeds_by_question(self) -> dict[str, int | None]:
        """Number of seeds in all that would tell it, for each of :attr:`untold`; ``None`` where 1,000 would not."""
        size = self.sizes[-1]
        return seeds_needed(size.estimates, self.rules, size.hidden_size, size.alpha)

    @property
    def seeds_needed(self) -> int | None:
        """Number of seeds that would tell all that seeds can tell; ``None`` if there is nothing of that kind."""
        return max((seeds for seeds in self.seeds_by_question.values() if seeds is not None), default=None)

    @property
    def answer(self) -> str:
        """The claims and what they rest on, in a few sentences."""
        size = self.sizes[-1]
        said = words.answer(size.claims, size.estimates, self.rules, size.alpha, size.hidden_size)
        if len(self.sizes) > 1:
            said = words.with_size(said, size.train_size)
            sparse = [str(one.train_size) for one in self.sizes[:-1] if one.claims.sparse_beats_full]
            if sparse:
                said += f" With {words.listed(sparse)} training sequences, fewer nonlinear units beat all of them."
        differs = [one.axis for one in self.dependence if one.differs]
        if differs:
            said += f" The answer depends on {words.listed(differs)}."
        if self.earlier_looks:
            looks = words.listed([str(look) for look in self.earlier_looks])
            said += (
                f" As the sweep was judged with {looks} seeds before, a claim is wrong with probability "
                f"{min(1.0, self.rules.alpha * (1 + len(self.earlier_looks))):.3g} at most."
            )
        return said

    @property
    def learning(self) -> str:
        """Which P reach the threshold in validation, and how late, in a few sentences; "" where the runs do not say."""
        size = self.sizes[-1]
        said = words.learning(size.learning_times)
        return words.with_size(said, size.train_size) if said and len(self.sizes) > 1 else said


def judge(
    runs: Sequence[Run],
    *,
    score: str | None = None,
    tolerance: float | None = None,
    solved: float | None = None,
    alpha: float = ALPHA,
) -> Verdict:
    """Come to a verdict on the runs of a sweep.

    The typical run of a P is the median of the scores that its runs would have; one that diverged is the worst. P is
    *enough* (sufficient) if its typical run is within the tolerance of the best P's. Nonlinearity is *needed* if P=0
    is not enough. For each P there are two estimates with limits: by how much its typical run is worse than the best
    P's (:func:`~lightning_alrnn.sweep.intervals.gap_intervals`), and the share of its runs that are as good as that
    (:func:`~lightning_alrnn.sweep.intervals.share_interval`). A claim is made where both allow it.

    Args:
        runs: Runs of the sweep, those that diverged among them. Baselines are shown beside and bear on no claim.
        score: Key of the metric, with or without ``test/``; ``None`` for
            :func:`~lightning_alrnn.sweep.rules.choose_score`. It should be low if its name says that it is an error or
            a loss.
        tolerance: How much worse does not count; ``None`` for 0.02 of a share such as the accuracy, for 5 % of the
            error of the best constant prediction, and for other scores for 5 % of the distance between the typical
            runs of the best and the worst P, in which case the answer is called exploratory.
        solved: Score from which on a run solves the task. Where it is stated, the share is that of the runs that do.
        alpha: Probability with which a claim may be wrong. It is divided by the number of sizes of training data, and
            by the number of settings that each P chose from in validation.

    Returns:
        The verdict; what the runs do not show is not claimed.

    Raises:
        ValueError: If there is no run of an AL-RNN with a score, an argument is out of range, or settings are to be
            chosen and the metric is missing in validation.

    Example:
        >>> scores = {0: [0.5, 0.52, 0.51, 0.5, 0.5], 1: [0.9, 0.91, 0.9, 0.9, 0.9], 5: [0.9, 0.91, 0.91, 0.9, 0.9]}
        >>> runs = [Run("ALRNN", p, seed, {}, {"test/accuracy": x}) for p in scores for seed, x in enumerate(scores[p])]
        >>> claims = judge(runs).claims
        >>> claims.nonlinearity_needed, claims.sufficient
        (True, (1, 5))
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    key = find_score([run for run in runs if run.nonlinear_units is not None], score)
    usable = [_without_infinite(run, key) for run in runs if run.diverged or key in run.metrics]
    by_size: dict[Value, list[Run]] = defaultdict(list)
    for run in usable:
        by_size[run.settings.get(TRAIN_SIZE)].append(run)
    sizes = sorted(by_size, key=lambda size: -1.0 if size is None else float(size))
    # with several sizes the tolerance is that of the largest with a score
    scored = [size for size in sizes if any(key in run.metrics for run in by_size[size])]
    columns = by_units(by_size[(scored or sizes)[-1]])
    rules = make_rules(
        {p: [run.metrics[key] for run in same if not run.diverged] for p, same in columns.items()},
        key,
        [run.metrics["test/constant_mse"] for run in usable if run.metrics.get("test/constant_mse", 0.0) > 0],
        tolerance,
        solved,
        alpha,
    )
    verdicts = tuple(_judge_size(by_size[size], size, rules, len(sizes)) for size in sizes)
    diverged = sum(run.diverged for run in usable)
    return Verdict(
        rules,
        verdicts,
        _dependence(by_size[sizes[-1]], rules, len(sizes)),
        finished=len(usable) - diverged,
        diverged=diverged,
        without_score=len(runs) - len(usable),
    )


def _without_infinite(run: Run, key: str) -> Run:
    """A run without what is not finite; one whose score is not finite is one that diverged."""
    if run.diverged or not math.isfinite(run.metrics[key]):
        return run._replace(metrics={}, diverged=True)
    # a validation that is not finite is the worst, not a missing one
    kept = {name: value for name, value in run.metrics.items() if math.isfinite(value) or name.startswith("val/")}
    return run._replace(metrics=kept)


def _judge_size(runs: Sequence[Run], size: Value, rules: Rules, sizes: int) -> SizeVerdict:
    columns = by_units(runs)
    estimates, alpha = estimate(columns, rules, sizes)
    hidden_size = _hidden_size(runs)
    cores: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.nonlinear_units is None:
            cores[run.core].append(run)
    return SizeVerdict(
        None if size is None else int(size),
        make_claims(estimates, rules, hidden_size),
        estimates,
        tuple(_baseline(core, same, rules) for core, same in sorted(cores.items())),
        hidden_size,
        alpha,
        learning_times(columns, estimates, alpha),
    )


def _baseline(core: str, runs: Sequence[Run], rules: Rules) -> Baseline:
    setting = choose_setting(runs, rules)
    chosen = sorted((run for run in runs if run.settings == setting), key=lambda run: run.seed)
    scores = {run.seed: run.metrics[rules.score] for run in chosen if not run.diverged}
    return Baseline(core, setting, typical_score(chosen, rules), scores, len(chosen))


def _dependence(runs: Sequence[Run], rules: Rules, sizes: int) -> tuple[Dependence, ...]:
    """What each value leads to, for everything that was varied beside P, seed, core and size."""
    alrnn = [run for run in runs if run.nonlinear_units is not None]
    axes = []
    keys = sorted({key for run in alrnn for key in run.settings} - {TRAIN_SIZE})
    varied = {key: sorted({run.settings.get(key) for run in alrnn}, key=_order) for key in keys}
    varied = {key: values for key, values in varied.items() if len(values) > 1}
    for axis, values in varied.items():
        claims: dict[str, Claims] = {}
        estimates: dict[str, tuple[Estimate, ...]] = {}
        for value in values:
            same = [run for run in alrnn if run.settings.get(axis) == value]
            if all(run.diverged for run in same):
                continue
            estimates[str(value)], _ = estimate(by_units(same), rules, sizes * len(varied) * len(values))
            claims[str(value)] = make_claims(estimates[str(value)], rules, _hidden_size(same))
        # not the sets of P: that one value shows fewer does not say that the others are too few
        told = [
            {getattr(one, name) for one in claims.values()} - {None}
            for name in ("nonlinearity_needed", "sparse_beats_full")
        ]
        axes.append(Dependence(axis, claims, estimates, any(len(answers) > 1 for answers in told)))
    return tuple(axes)


def _hidden_size(runs: Sequence[Run]) -> int | None:
    widths = {run.hidden_size for run in runs if run.nonlinear_units is not None}
    return widths.pop() if len(widths) == 1 else None


def _order(value: Value) -> tuple[bool, float, str]:
    number = isinstance(value, (int, float))
    return not number, float(value or 0) if isinstance(value, (int, float)) else 0.0, "" if number else str(value)
