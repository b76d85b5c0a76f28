"""The verdict on a sweep: estimates, claims and an answer from its runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from lightning_alrnn.sweep import words
from lightning_alrnn.sweep.claims import Claims, find_untold, make_claims, seeds_needed
from lightning_alrnn.sweep.estimates import Estimate, by_units, choose_setting, estimate, typical_score
from lightning_alrnn.sweep.learning_time import LearningTime, learning_times
from lightning_alrnn.sweep.rules import Rules, Run, Value, find_score, make_rules, sort_key

TRAIN_SIZE = "data.train_size"
ALPHA = 0.05


class Baseline(NamedTuple):
    """The runs with another core, or the scores of a predictor without a network on the data of some seeds.

    Attributes:
        core: Name of the core or of the predictor.
        setting: Setting that validation chose.
        typical: Median of the scores; NaN if at least half of the runs diverged.
        scores: Scores by seed.
        tried: Number of runs, including those that diverged.
    """

    core: str
    setting: Mapping[str, Value]
    typical: float
    scores: Mapping[int, float]
    tried: int


class SizeVerdict(NamedTuple):
    """The verdict for one size of training data.

    Attributes:
        train_size: Number of training sequences; ``None`` if it was not varied.
        claims: Claims at this size.
        estimates: Estimates for each P.
        baselines: Runs with other cores, and predictors without a network.
        hidden_size: M, or ``None`` if it is unknown or differs between runs.
        alpha: Level of each claim at this size.
        learning_times: Learning time of each P; empty if the runs do not say.
    """

    train_size: int | None
    claims: Claims
    estimates: tuple[Estimate, ...]
    baselines: tuple[Baseline, ...]
    hidden_size: int | None
    alpha: float
    learning_times: tuple[LearningTime, ...] = ()


class Dependence(NamedTuple):
    """The verdicts for each value of another setting that was varied.

    Attributes:
        axis: Key of the setting, such as "model.init".
        claims: Claims by value, at the level divided by the numbers of values and of settings.
        estimates: Estimates by value.
        differs: Whether the values contradict each other on whether nonlinearity is needed, or on whether few
            nonlinear units beat all.
    """

    axis: str
    claims: Mapping[str, Claims]
    estimates: Mapping[str, tuple[Estimate, ...]]
    differs: bool


class Verdict(NamedTuple):
    """The verdict on a sweep.

    Attributes:
        rules: Rules that the runs are judged by.
        sizes: Verdict for each size of training data, in ascending order. The last one is the answer of the sweep.
        dependence: Verdicts for the values of other settings, at the largest size.
        finished: Number of runs with a score.
        diverged: Number of runs that diverged.
        without_score: Number of other runs, which failed or are not done; they are not counted.
        next_command: Command that would answer an open question; ``None`` if there is none or the folder of the sweep
            is not known.
        earlier_looks: Numbers of seeds at which the sweep was judged before, at the full level.
        looks: Numbers of seeds at which a sweep that adds seeds is judged; the level is divided by their number.
        seeds_change: What the seeds of the sweep change, "the weights and the data" or "the weights, not the data"; ""
            if the folder of the sweep is not known.
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
    seeds_change: str = ""

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
        """Learning time of each P at the largest size of training data."""
        return self.sizes[-1].learning_times

    @property
    def untold(self) -> tuple[str, ...]:
        """Questions of the sweep that the runs leave open, as phrases."""
        return find_untold(self.claims, self.estimates, self.sizes[-1].hidden_size)

    @property
    def seeds_by_question(self) -> dict[str, int | None]:
        """Total number of seeds that would answer each question of :attr:`untold`; ``None`` if 1,000 would not."""
        size = self.sizes[-1]
        return seeds_needed(size.estimates, self.rules, size.hidden_size, size.alpha)

    @property
    def seeds_needed(self) -> int | None:
        """Number of seeds that would answer all questions that seeds can answer; ``None`` without such a question."""
        return max((seeds for seeds in self.seeds_by_question.values() if seeds is not None), default=None)

    def __repr__(self) -> str:
        return f"Verdict: {self.answer}"

    @property
    def answer(self) -> str:
        """The claims and the estimates that they rest on, in a few sentences."""
        size = self.sizes[-1]
        said = words.answer(size.claims, size.estimates, self.rules, size.alpha, size.hidden_size)
        if len(self.sizes) > 1:
            said = words.with_size(said, size.train_size)
            sparse = [one.train_size for one in self.sizes[:-1] if one.claims.sparse_beats_full]
            if sparse:
                said += f" With {words.listed(sparse)} training sequences, fewer nonlinear units beat all of them."
        differs = [one.axis for one in self.dependence if one.differs]
        if differs:
            said += f" The answer depends on {words.listed(differs)}."
        return f"{said} {self.level}" if self.level else said

    @property
    def level(self) -> str:
        """The probability of a wrong claim in a sweep that was judged before; "" if it was not."""
        if not self.earlier_looks:
            return ""
        alpha = min(1.0, self.rules.alpha * (1 + len(self.earlier_looks)))
        return (
            f"The sweep was judged before with {words.listed(self.earlier_looks)} seeds, so a claim is wrong with "
            f"probability at most {alpha:.3g}."
        )

    @property
    def learning(self) -> str:
        """Which P reach the threshold in validation, and how late, in a few sentences; "" if the runs do not say."""
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
    """Judge the runs of a sweep.

    P is *enough* (sufficient) if its typical run, the median, is within the tolerance of the best P's typical run.
    Nonlinearity is *needed* if P=0 is not enough. A claim is made only if the limits of both
    :func:`~lightning_alrnn.sweep.intervals.gap_intervals` and :func:`~lightning_alrnn.sweep.intervals.share_interval`
    allow it.

    Args:
        runs: Runs of the sweep, including those that diverged. Baselines affect no claim.
        score: Key of the metric, with or without ``test/``; ``None`` for
            :func:`~lightning_alrnn.sweep.rules.choose_score`.
        tolerance: Difference in score that does not count; ``None`` for 0.02 for a share such as the accuracy, 5 % of
            the error of the best constant prediction, or, for other scores, 5 % of the difference between the typical
            runs of the best and the worst P; the answer is then called exploratory.
        solved: Score that a run must reach to be good; ``None`` for the tolerance.
        alpha: Largest probability of a wrong claim. It is divided by the number of sizes of training data and by the
            number of settings that validation chooses from.

    Returns:
        The verdict.

    Raises:
        ValueError: If no run of an ALRNN has a score, an argument is out of range, or validation lacks the metric that
            chooses a setting.

    Example:
        >>> scores = {0: [0.5, 0.52, 0.51, 0.5, 0.5], 1: [0.9, 0.91, 0.9, 0.9, 0.9], 5: [0.9, 0.91, 0.91, 0.9, 0.9]}
        >>> runs = [Run("ALRNN", p, seed, {}, {"test/accuracy": x}) for p in scores for seed, x in enumerate(scores[p])]
        >>> claims = judge(runs).claims
        >>> claims.nonlinearity_needed, claims.sufficient
        (True, (1, 5))
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    key = find_score([run for run in runs if run.nonlinear_units is not None], score)
    usable = [_without_infinite(run, key) for run in runs if run.diverged or key in run.metrics]
    by_size: dict[Value, list[Run]] = defaultdict(list)
    for run in usable:
        by_size[run.settings.get(TRAIN_SIZE)].append(run)
    # baselines may be done at a size at which no ALRNN is
    by_size = {size: same for size, same in by_size.items() if by_units(same)}
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
    """A run without infinite metrics; a run whose score is not finite counts as diverged."""
    if run.diverged or not math.isfinite(run.metrics[key]):
        return run._replace(metrics={}, diverged=True)
    # a validation that is not finite is the worst one, not a missing one
    metrics = {name: value for name, value in run.metrics.items() if math.isfinite(value) or name.startswith("val/")}
    return run._replace(metrics=metrics)


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
    """The verdicts for each value of every setting that was varied, except P, seed, core and size."""
    alrnn = [run for run in runs if run.nonlinear_units is not None]
    axes = []
    keys = sorted({key for run in alrnn for key in run.settings} - {TRAIN_SIZE})
    varied = {key: sorted({run.settings.get(key) for run in alrnn}, key=sort_key) for key in keys}
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
        # the sufficient P are not compared: a P that is not shown to be enough may still be enough
        answers_by_claim = [
            {getattr(one, name) for one in claims.values()} - {None}
            for name in ("nonlinearity_needed", "sparse_beats_full")
        ]
        axes.append(Dependence(axis, claims, estimates, any(len(answers) > 1 for answers in answers_by_claim)))
    return tuple(axes)


def _hidden_size(runs: Sequence[Run]) -> int | None:
    widths = {run.hidden_size for run in runs if run.nonlinear_units is not None}
    return widths.pop() if len(widths) == 1 else None
