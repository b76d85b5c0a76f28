"""What the runs of a sweep say: is nonlinearity needed, how much of it is enough, and what do further units do?"""

from __future__ import annotations

import math
import re
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.sweep.statistics import (
    MIN_SCORES,
    Interval,
    bootstrap_band,
    can_reach,
    depends_on_column,
    find_split,
    fisher_fewer,
    holm,
    not_worse,
    seeds_needed,
    wilson_interval,
    worse_than_best,
)

TRAIN_SIZE = "data.train_size"

_ERRORS = {"loss", "mse", "mae", "rmse", "nll", "error", "distance", "divergence", "perplexity", "regularization"}
_SCORES = ("sequence_accuracy", "accuracy", "mse", "task_loss", "loss")
_UNIT_KEYS = ("regime/visited", "regime/effective", "units/active")

_HALF, _FEWEST, _SHARE_TOLERANCE = 0.5, 3, 0.1

Value = str | int | float | bool | None


class Run(NamedTuple):
    """A run of a sweep, as far as the verdict looks at it.

    Attributes:
        core: "ALRNN", or the core of a baseline.
        nonlinear_units: P; ``None`` for a baseline.
        seed: seed of the run.
        settings: what else was varied, such as ``{"data.train_size": 100, "model.init": "gaussian"}``.
        metrics: by key, those of the best weights: ``test/…``, ``val/…``, ``regime/…`` and so on. Empty where the run
            failed.
        diverged: whether it failed because training diverged. Such a run counts as one that does not solve the task,
            and so does one whose score is not finite.
        hidden_size: M, where it is known.
    """

    core: str
    nonlinear_units: int | None
    seed: int
    settings: Mapping[str, Value]
    metrics: Mapping[str, float]
    diverged: bool = False
    hidden_size: int | None = None


class Rules(NamedTuple):
    """By which rules scores are judged.

    Attributes:
        score: key of the metric.
        higher_is_better: its direction.
        threshold: from where on a run counts as one that solves the task, or ``None`` where there is no such point.
        threshold_rule: where that comes from.
        tolerance: how much worse does not count.
        tolerance_rule: where that comes from.
        alpha: family-wise level of the tests.
    """

    score: str
    higher_is_better: bool
    threshold: float | None
    threshold_rule: str
    tolerance: float
    tolerance_rule: str
    alpha: float

    def solves(self, score: float) -> bool:
        """Whether a score lies on the better side of the threshold.

        Args:
            score: of a run.

        Returns:
            ``False`` where there is no threshold.
        """
        if self.threshold is None:
            return False
        return score >= self.threshold if self.higher_is_better else score <= self.threshold

    @property
    def sign(self) -> float:
        """What a score is multiplied by so that higher is better."""
        return 1.0 if self.higher_is_better else -1.0


class Units(NamedTuple):
    """The runs with one number of nonlinear units.

    Attributes:
        nonlinear_units: P.
        setting: what else was varied, as chosen for this P by validation, among the settings tried at every P.
        scores: of the setting's runs, by seed; empty where all of them diverged.
        other_scores: of the runs with other settings.
        mean: mean of the setting's scores.
        low: lower limit of its bootstrap band (95 %).
        high: upper limit.
        best: the best score of any seed and setting; NaN where all runs diverged.
        capable: whether any seed and setting solves the task; ``None`` without a threshold.
        attempts: how many runs that is of.
        solved: how many of the setting's runs solve it; ``None`` without a threshold.
        tried: how many runs the setting has, those that diverged among them.
        solved_low: lower limit of the share (Wilson, 95 %).
        solved_high: upper limit.
        solved_mean: mean score of the runs that solve it; NaN where there is none.
        less_reliable_p: p-value of solving it no less often than all other P together (Fisher's exact test, adjusted
            over P by Holm's method).
        worse_p: p-value of being no worse than the best of the others beyond the tolerance (adjusted by Holm's method).
        not_worse_p: p-value of being worse than another beyond the tolerance (adjusted by Holm's method); with a
            threshold, over the runs that solve the task and the P that are reliable, see :class:`Claims`.
        sufficient: whether this P is shown to be enough, see :class:`Claims`.
        regimes: mean number of regimes visited; NaN where it is not logged.
        effective_regimes: mean of 2^entropy of the occupancy.
        active: mean number of nonlinear units that switch.
        active_runs: the number in each run.
        regimes_runs: the number of regimes in each run.
    """

    nonlinear_units: int
    setting: Mapping[str, Value]
    scores: Mapping[int, float]
    other_scores: tuple[float, ...]
    mean: float
    low: float
    high: float
    best: float
    capable: bool | None
    attempts: int
    solved: int | None
    tried: int
    solved_low: float
    solved_high: float
    solved_mean: float
    less_reliable_p: float
    worse_p: float
    not_worse_p: float
    sufficient: bool
    regimes: float
    effective_regimes: float
    active: float
    active_runs: tuple[float, ...]
    regimes_runs: tuple[float, ...]


class Baseline(NamedTuple):
    """The runs with another core.

    Attributes:
        core: its name.
        setting: what else was varied, as chosen by validation.
        scores: by seed.
        mean: their mean.
        low: lower limit of its bootstrap band (95 %).
        high: upper limit.
        solved: how many solve the task; ``None`` without a threshold.
        tried: how many runs there are, those that diverged among them.
    """

    core: str
    setting: Mapping[str, Value]
    scores: Mapping[int, float]
    mean: float
    low: float
    high: float
    solved: int | None
    tried: int


class Claims(NamedTuple):
    """What is claimed, and why.

    Attributes:
        nonlinearity_needed: whether the linear network (P=0) falls short of the best; ``None`` if that cannot be told.
        smallest_sufficient: the smallest P that is shown to be enough, or ``None``. It is one that is not worse than
            any other beyond the tolerance. Where there is a threshold this is asked of the reliable P alone, those that
            solve the task in at least half of their runs and in 3 or more, and of their runs that solve it; and the
            share that solves it must be at most 0.1 below that of any other P. A P that alone is reliable is enough.
        sparse_beats_full: whether fewer nonlinear units do better than P=M, beyond the tolerance; ``None`` if that
            cannot be told or P=M was not run.
        reasons: a sentence for each of the three.
        linear_p: p-value of P=0 being no worse than the best beyond the tolerance; ``None`` if not tested.
        full_p: that of P=M; ``None`` if not tested.
        compared: the P that are compared: those with a score for at least half as many seeds as the P with most.
        seeds: the seeds that have a score at two or more of them.
        enough_seeds: whether there are enough for any claim.
    """

    nonlinearity_needed: bool | None
    smallest_sufficient: int | None
    sparse_beats_full: bool | None
    reasons: tuple[str, str, str]
    linear_p: float | None
    full_p: float | None
    compared: tuple[int, ...]
    seeds: tuple[int, ...]
    enough_seeds: bool


class SizeVerdict(NamedTuple):
    """The verdict for one size of training data.

    Attributes:
        train_size: number of training sequences, ``None`` where it was not varied.
        claims: what is claimed.
        units: the runs, by P.
        baselines: the other cores.
        hidden_size: M, or ``None`` where it is unknown or differs.
    """

    train_size: int | None
    claims: Claims
    units: tuple[Units, ...]
    baselines: tuple[Baseline, ...]
    hidden_size: int | None


class Dependence(NamedTuple):
    """How the verdict depends on something else that was varied.

    Attributes:
        axis: its key, such as "model.init".
        claims: the claims by level, the other axes chosen by validation.
        matched: the P that have runs at every level, all else being equal.
        solved: runs that solve the task and all runs, by level, over the matched P; ``None`` without a threshold.
        means: mean score by level, over the matched P.
        p_value: p-value of the score not depending on it (adjusted by Holm's method over the axes); ``None`` where no
            seed has a run for each.
        answer_differs: whether levels contradict each other on whether nonlinearity is needed, or on whether few
            nonlinear units beat all.
        claims_differ: whether any claim is not the same at all levels. Of itself it is no sign that the levels differ,
            as a claim may be missed by chance.
    """

    axis: str
    claims: Mapping[str, Claims]
    matched: tuple[int, ...]
    solved: Mapping[str, tuple[int, int]] | None
    means: Mapping[str, float]
    p_value: float | None
    answer_differs: bool
    claims_differ: bool


class Verdict(NamedTuple):
    """What a sweep says.

    Attributes:
        rules: by which rules.
        sizes: the verdict for each size of training data, in order; the last is the sweep's own.
        dependence: on what else that was varied it depends, at the largest size.
        finished: number of runs with a score.
        diverged: number of runs that diverged.
        without_score: number of the others, which failed in some other way or are not done; they count for nothing.
    """

    rules: Rules
    sizes: tuple[SizeVerdict, ...]
    dependence: tuple[Dependence, ...]
    finished: int
    diverged: int
    without_score: int

    @property
    def claims(self) -> Claims:
        """The claims at the largest size of training data."""
        return self.sizes[-1].claims

    @property
    def nonlinearity_needed(self) -> bool | None:
        """Whether the linear network falls short; ``None`` if that cannot be told."""
        return self.claims.nonlinearity_needed

    @property
    def smallest_sufficient(self) -> int | None:
        """The smallest P shown to be enough, or ``None``."""
        return self.claims.smallest_sufficient

    @property
    def answer(self) -> str:
        """The claims at the largest size of training data, in a sentence or two."""
        size = self.sizes[-1]
        said = _answer(size.claims, size.hidden_size)
        if len(self.sizes) > 1:
            said = f"With {size.train_size} training sequences: {said[0].lower()}{said[1:]}"
        fewer = [str(one.train_size) for one in self.sizes if one.claims.sparse_beats_full]
        if fewer:
            where = f" with {_listed(fewer)} training sequences" if len(self.sizes) > 1 else ""
            said += f" Few nonlinear units beat all of them{where}."
        differs = [one.axis for one in self.dependence if one.answer_differs]
        told = [one.axis for one in self.dependence if one.claims_differ and not one.answer_differs]
        if differs:
            said += f" The answer depends on {_listed(differs)}."
        if told:
            said += f" What can be told depends on {_listed(told)}."
        return said


def _answer(claims: Claims, hidden_size: int | None) -> str:
    smallest = claims.smallest_sufficient
    units = f"P={smallest}" + (f" of M={hidden_size}" if hidden_size is not None else "")
    if not claims.enough_seeds:
        return claims.reasons[0]
    if claims.nonlinearity_needed is None:
        if smallest is None:
            return "Not enough seeds to tell whether nonlinearity is needed, nor how much of it is enough."
        return f"{units} is enough; whether nonlinearity is needed at all cannot be told."
    if claims.nonlinearity_needed:
        return "Nonlinearity is needed" + (
            "; how much of it is enough cannot be told." if smallest is None else f", and {units} is enough."
        )
    if smallest == 0:
        return "Nonlinearity is not needed: the linear network, P=0, is enough."
    return "Nonlinearity is not needed: a linear network can solve the task. " + (
        "No P is shown to do so reliably."
        if smallest is None
        else f"The smallest P shown to do so reliably is {smallest}."
    )


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def higher_is_better(key: str) -> bool:
    """Whether a metric is one that should be high, judged by its name: ``test/mse`` and losses should be low.

    Args:
        key: of the metric.

    Returns:
        ``False`` where a part of the key names an error.

    Example:
        >>> higher_is_better("test/accuracy"), higher_is_better("test/task_loss")
        (True, False)
    """
    return not _ERRORS & set(re.split(r"[/_]", key.lower()))


def choose_score(runs: Sequence[Run]) -> str:
    """The metric by which runs are judged where none is named.

    The first that every run has of the test's ``sequence_accuracy`` (left out where it is 0 in all of them),
    ``accuracy``, ``mse``, ``task_loss`` and ``loss``.

    Args:
        runs: all of a sweep.

    Returns:
        Its key.

    Raises:
        ValueError: if they have none of these.
    """
    scored = [run for run in runs if run.metrics]
    for name in _SCORES:
        key = f"test/{name}"
        values = [run.metrics.get(key) for run in scored]
        if values and all(value is not None for value in values) and (name != "sequence_accuracy" or any(values)):
            return key
    raise ValueError(
        f"no metric to judge the runs by: expected one of {', '.join(f'test/{name}' for name in _SCORES)} in each of "
        f"them, found {_known_keys(scored)}; name one with --score"
    )


def judge(
    runs: Sequence[Run],
    score: str | None = None,
    solved: float | None = None,
    tolerance: float | None = None,
    alpha: float = 0.05,
) -> Verdict:
    """Come to a verdict on the runs of a sweep.

    Args:
        runs: the runs, those that diverged among them. Those of baselines are shown beside and bear on no claim.
        score: key of the metric, with or without ``test/``; ``None`` for :func:`choose_score`. It should be low if its
            name says that it is an error or a loss.
        solved: the score from which on a run solves the task; ``None`` to look for two peaks (:func:`find_split`).
        tolerance: how much worse does not count; ``None`` for 0.02 of a share such as the accuracy, for 5 % of the
            error of the best constant prediction, and for other scores 5 % of the distance between the medians of the
            best and the worst P.
        alpha: family-wise level of each claim; that few nonlinear units beat all is one claim over all sizes.

    Returns:
        The verdict; claims that the runs do not bear out are ``None``.

    Raises:
        ValueError: if there is no run of an AL-RNN with a score, or an argument is out of range.

    Example:
        >>> scores = {0: [0.5, 0.52, 0.51], 1: [0.9, 0.91, 0.9], 5: [0.9, 0.91, 0.91]}
        >>> runs = [Run("ALRNN", p, seed, {}, {"test/accuracy": x}) for p in scores for seed, x in enumerate(scores[p])]
        >>> verdict = judge(runs)
        >>> verdict.nonlinearity_needed, verdict.smallest_sufficient
        (True, 1)
    """
    if not 0 < alpha < 1:
        raise ValueError(f"alpha must lie between 0 and 1, got {alpha}")
    if tolerance is not None and not tolerance > 0:
        raise ValueError(f"tolerance must be positive, got {tolerance}")
    if not any(run.nonlinear_units is not None and run.metrics for run in runs):
        raise ValueError(f"there is no finished run of an ALRNN to judge, among {len(runs)} runs")
    key = _score_key(runs, score)
    if not any(run.nonlinear_units is not None and math.isfinite(run.metrics.get(key, math.nan)) for run in runs):
        raise ValueError(f"there is no run of an ALRNN with a finite {key} to judge")
    usable = [_without_infinite(run, key) for run in runs if run.diverged or key in run.metrics]
    by_size: dict[Value, list[Run]] = defaultdict(list)
    for run in usable:
        by_size[run.settings.get(TRAIN_SIZE)].append(run)
    judged = {size: of_size for size, of_size in by_size.items() if _is_scored(_columns(of_size), key)}
    ordered = sorted(judged, key=lambda size: -1.0 if size is None else float(size))
    rules = _rules(judged[ordered[-1]], key, solved, tolerance, alpha)
    sizes = tuple(_judge_size(judged[size], size, rules, len(judged)) for size in ordered)
    diverged = sum(key not in run.metrics for run in usable)
    return Verdict(
        rules,
        sizes,
        _dependence(judged[ordered[-1]], rules),
        finished=len(usable) - diverged,
        diverged=diverged,
        without_score=len(runs) - len(usable),
    )


def _score_key(runs: Sequence[Run], score: str | None) -> str:
    own = [run for run in runs if run.nonlinear_units is not None]
    if score is None:
        return choose_score(own)
    key = score if "/" in score else f"test/{score}"
    if not any(key in run.metrics for run in own):
        raise ValueError(f"no run has the metric {key!r}; there are {_known_keys(own)}")
    return key


def _without_infinite(run: Run, key: str) -> Run:
    """A run without what is not finite; one whose score is not finite is one that diverged."""
    if run.diverged or not math.isfinite(run.metrics[key]):
        return run._replace(metrics={}, diverged=True)
    return run._replace(metrics={name: value for name, value in run.metrics.items() if math.isfinite(value)})


def _rules(runs: Sequence[Run], key: str, solved: float | None, tolerance: float | None, alpha: float) -> Rules:
    """The rules, found from runs of one size: with several, how much data there is would make peaks of its own."""
    columns = _columns(runs)
    scores = {p: [run.metrics[key] for run in own if key in run.metrics] for p, own in columns.items()}
    values = [score for own in scores.values() for score in own]
    upward = higher_is_better(key)
    constants = [run.metrics["test/constant_mse"] for run in runs if run.metrics.get("test/constant_mse", 0.0) > 0]
    if tolerance is not None:
        tolerance_rule = "as stated"
    elif upward and min(values) >= 0 and max(values) <= 1:
        tolerance, tolerance_rule = 0.02, "0.02 of a share"
    elif key == "test/mse" and constants:
        tolerance, tolerance_rule = 0.05 * max(constants), "5 % of the error of the best constant prediction"
    else:
        medians = [float(np.median(own)) for own in scores.values() if own]
        span = max(medians) - min(medians)
        tolerance = 0.05 * span if span > 0 else 1e-12
        tolerance_rule = "5 % of the distance between the medians of the best and the worst P"
    if solved is not None:
        rule = "as stated"
    else:
        split = find_split([value if upward else -value for value in values])
        if split is None:
            rule = (
                "none: the scores have one peak"
                if len(values) >= MIN_SCORES
                else f"none: with {len(values)} scores two peaks cannot be told from one"
            )
        elif _seeds_decide(runs, key, split.threshold if upward else -split.threshold):
            rule = "none: the scores have two peaks, but it is the seed that decides on which side a run lies"
        else:
            solved = split.threshold if upward else -split.threshold
            rule = (
                f"found: the midpoint between two peaks of {split.above} better and {split.below} worse runs, the gap "
                + ("without spread inside them" if math.isnan(split.gap) else f"{split.gap:.1f} standard deviations")
            )
    return Rules(key, upward, solved, rule, tolerance, tolerance_rule, alpha)


def _seeds_decide(runs: Sequence[Run], key: str, threshold: float) -> bool:
    """Whether most seeds have all their runs on one side: then the peaks are those of the data a seed draws."""
    sides: dict[int, list[bool]] = defaultdict(list)
    for run in runs:
        if run.nonlinear_units is not None and key in run.metrics:
            sides[run.seed].append(run.metrics[key] > threshold)
    several = [side for side in sides.values() if len(side) > 1]
    return 2 * sum(len(set(side)) > 1 for side in several) < len(several)


def _judge_size(runs: Sequence[Run], size: Value, rules: Rules, sizes: int) -> SizeVerdict:
    columns = _columns(runs)
    hidden_size = _hidden_size(runs)
    chosen, _ = _choose_settings(columns, rules)
    claims, worse, not_worse_p, sufficient = _claim(columns, hidden_size, rules, sizes)
    solved = {units: _count_solved(_with(columns[units], chosen[units]), rules) for units in columns}
    less = _less_reliable(list(solved.values()))
    units = tuple(
        _units(
            p,
            columns[p],
            chosen[p],
            rules,
            solved[p],
            (less[index], worse.get(p, math.nan), not_worse_p.get(p, math.nan)),
            p in sufficient,
        )
        for index, p in enumerate(columns)
    )
    cores: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        if run.nonlinear_units is None:
            cores[run.core].append(run)
    baselines = tuple(
        _baseline(core, own, rules) for core, own in sorted(cores.items()) if any(rules.score in r.metrics for r in own)
    )
    return SizeVerdict(None if size is None else int(size), claims, units, baselines, hidden_size)


def _claim(
    columns: Mapping[int, Sequence[Run]], hidden_size: int | None, rules: Rules, sizes: int
) -> tuple[Claims, dict[int, float], dict[int, float], set[int]]:
    """The claims, for each P the p-values of being and of not being worse than the best, and which P are enough."""
    chosen, alike = _choose_settings(columns, rules)
    scores = {p: _scores(_with(columns[p], chosen[p]), rules) for p in columns}
    # a P with few scores, as most of its runs diverged or are not done, must not keep the others from being compared
    most = max(map(len, scores.values()))
    units = [p for p in columns if scores[p] and 2 * len(scores[p]) >= most]
    counted = Counter(seed for p in units for seed in scores[p])
    seeds = sorted(seed for seed, count in counted.items() if count > 1)
    reason = None
    if len(units) < 2:
        reason = f"Only P={units[0]} has scores enough: there is nothing to compare it with."
    elif not alike:
        reason = "There is no setting of what else was varied that every P was run with: they cannot be compared."
    elif not can_reach([counted[seed] for seed in seeds], rules.alpha):
        reason = (
            f"Not enough seeds to tell: {len(seeds)} with scores to compare, and a claim needs at least "
            f"{seeds_needed(len(units), rules.alpha)} at the level {rules.alpha:g}."
        )
    if reason is not None:
        return Claims(None, None, None, (reason,) * 3, None, None, tuple(units), tuple(seeds), False), {}, {}, set()

    table = rules.sign * np.array([[scores[p].get(seed, math.nan) for p in units] for seed in seeds])
    comparisons = [worse_than_best(table, column, rules.tolerance) for column in range(len(units))]
    worse = dict(zip(units, holm([comparison.p_value for comparison in comparisons]).tolist(), strict=True))
    counts = {p: _count_solved(_with(columns[p], chosen[p]), rules) for p in units}
    shares = {p: solved / tried for p, (solved, tried) in counts.items()}
    reliable = set(units)
    held = table
    if rules.threshold is not None:
        # among the runs that solve the task, where there is such a thing, and the P that do so often enough: how often
        # is asked beside, and the few solutions of one that seldom does would tell nothing
        reliable = {p for p in units if shares[p] >= _HALF and counts[p][0] >= _FEWEST}
        solving = table >= rules.sign * rules.threshold
        held = np.where(solving & np.array([p in reliable for p in units]), table, np.nan)
    shown = not_worse(held, rules.tolerance, rules.alpha).p_values.tolist()
    not_worse_p = {p: p_value if p in reliable else math.nan for p, p_value in zip(units, shown, strict=True)}
    sufficient = {p for p in units if not_worse_p[p] <= rules.alpha}
    if rules.threshold is not None:
        sufficient = {p for p in sufficient if shares[p] >= max(shares.values()) - _SHARE_TOLERANCE}
    if len(reliable) == 1:  # nothing to compare it with
        sufficient, not_worse_p = reliable, dict.fromkeys(units, math.nan)

    smallest = min(sufficient, default=None)
    linear, linear_p = None, None
    linear_reason = f"{_absent(0, columns)}: whether nonlinearity is needed cannot be told."
    means = {p: _mean(list(scores[p].values())) for p in units}  # of all seeds, as the tables have them
    if 0 in units:
        linear_p = comparisons[0].p_value
        linear, linear_reason = _is_needed(columns[0], means, len(seeds), linear_p, not_worse_p[0], rules)
    full, full_reason, full_p = _beats_full(table, columns, means, hidden_size, sufficient, rules, sizes)
    beyond = f"beyond the tolerance of {rules.tolerance:.3g}"
    whom = " reliable one" if rules.threshold is not None else ""
    if not reliable:
        enough_reason = "No P is shown to be enough: none solves the task in half of its runs and in 3 or more."
    elif smallest is None:
        enough_reason = (
            f"No P is shown to be enough, that is, not worse than any other{whom} {beyond}, with {len(seeds)} seeds."
        )
    elif len(reliable) == 1:
        enough_reason = f"P={smallest} is enough: it alone solves the task in half of its runs and in 3 or more"
    else:
        enough_reason = (
            f"P={smallest} is enough: the smallest that is not worse than any other{whom} {beyond} "
            f"(p = {not_worse_p[smallest]:.2g}, {len(seeds)} seeds)"
        )
    if smallest is not None:
        if rules.threshold is not None:
            solved, tried = counts[smallest]
            low, high = wilson_interval(solved, tried)
            enough_reason += f"; it solves the task in {solved} of {tried} runs (95 %: {low:.0%} to {high:.0%})"
        enough_reason += "."
    reasons = (linear_reason, enough_reason, full_reason)
    claims = Claims(linear, smallest, full, reasons, linear_p, full_p, tuple(units), tuple(seeds), True)
    return claims, worse, not_worse_p, sufficient


def _is_needed(
    linear: Sequence[Run],
    means: Mapping[int, float],
    seeds: int,
    worse_p: float,
    not_worse_p: float,
    rules: Rules,
) -> tuple[bool | None, str]:
    """Whether the linear network falls short, and why."""
    best = max(means, key=lambda p: rules.sign * means[p])
    shown = f"mean {_short(rules.score)} {means[0]:.3g} at P=0, {means[best]:.3g} at the best, P={best}"
    if rules.threshold is not None:
        solved, tried = _count_solved(linear, rules)
        if solved:
            more = "" if worse_p > rules.alpha else " Nonlinear units make it more reliable or better."
            return False, (
                f"Nonlinearity is not needed: a linear network can solve the task, {solved} of {tried} runs "
                f"with P=0 do ({shown}).{more}"
            )
    if worse_p <= rules.alpha:
        incapable = f", and none of its {len(linear)} runs solves the task" if rules.threshold is not None else ""
        return True, (
            f"Nonlinearity is needed: the linear network is worse than the best beyond the tolerance of "
            f"{rules.tolerance:.3g} (p = {worse_p:.2g}){incapable} ({shown})."
        )
    if not_worse_p <= rules.alpha and rules.threshold is None:
        return False, (
            f"Nonlinearity is not needed: the linear network is not worse than any other P beyond the tolerance of "
            f"{rules.tolerance:.3g} (p = {not_worse_p:.2g}; {shown})."
        )
    return None, (
        f"Not enough seeds to tell whether nonlinearity is needed ({seeds} seeds; {shown}; p = {worse_p:.2g} for "
        f"a difference beyond the tolerance of {rules.tolerance:.3g}, p = {not_worse_p:.2g} for none)."
    )


def _beats_full(
    table: NDArray[np.float64],
    columns: Mapping[int, Sequence[Run]],
    means: Mapping[int, float],
    hidden_size: int | None,
    sufficient: set[int],
    rules: Rules,
    sizes: int,
) -> tuple[bool | None, str, float | None]:
    """Whether fewer nonlinear units do better than P=M, why, and the p-value.

    It is looked for at each size of data, so that the level is divided among them.
    """
    if hidden_size is None or hidden_size not in means:
        absent = "M is unknown or differs" if hidden_size is None else _absent(hidden_size, columns, "=M")
        return None, f"{absent}: whether few nonlinear units beat all cannot be told.", None
    p_value = worse_than_best(table, list(means).index(hidden_size), rules.tolerance).p_value
    best = max((p for p in means if p != hidden_size), key=lambda p: rules.sign * means[p])
    shown = (
        f"mean {_short(rules.score)} {means[hidden_size]:.3g} at P=M={hidden_size}, {means[best]:.3g} at P={best}, the "
        f"best of the others"
    )
    if p_value <= rules.alpha / sizes:
        return True, f"Few nonlinear units beat all (p = {p_value:.2g}; {shown}).", p_value
    if hidden_size in sufficient:
        return False, f"Few nonlinear units do not beat all beyond the tolerance ({shown}).", p_value
    return None, f"Not enough seeds to tell whether few nonlinear units beat all (p = {p_value:.2g}; {shown}).", p_value


def _absent(p: int, columns: Mapping[int, Sequence[Run]], name: str = "") -> str:
    """Why a P is not compared."""
    if p not in columns:
        return f"P{name}={p} was not run"
    if not any(run.metrics for run in columns[p]):
        return f"P{name}={p} diverged in all of its {len(columns[p])} runs"
    return f"P{name}={p} has too few scores"


def _units(
    p: int,
    runs: Sequence[Run],
    setting: Mapping[str, Value],
    rules: Rules,
    solved: tuple[int, int],
    p_values: tuple[float, float, float],
    sufficient: bool,
) -> Units:
    own = _with(runs, setting)
    scores = _scores(own, rules)
    low, high = _band(list(scores.values()))
    everything = [run.metrics[rules.score] for run in runs if rules.score in run.metrics]
    count, tried = solved
    interval = wilson_interval(count, tried) if rules.threshold is not None else Interval(math.nan, math.nan)
    solving = [score for score in scores.values() if rules.solves(score)]
    logged = [[value for run in own if (value := _logged(run.metrics, key)) is not None] for key in _UNIT_KEYS]
    regimes, effective, active = logged
    return Units(
        nonlinear_units=p,
        setting=setting,
        scores=scores,
        other_scores=tuple(
            run.metrics[rules.score]
            for run in runs
            if rules.score in run.metrics and dict(run.settings) != dict(setting)
        ),
        mean=_mean(list(scores.values())),
        low=low,
        high=high,
        best=max(everything, key=lambda score: rules.sign * score, default=math.nan),
        capable=None if rules.threshold is None else any(map(rules.solves, everything)),
        attempts=len(runs),
        solved=None if rules.threshold is None else count,
        tried=tried,
        solved_low=interval.low,
        solved_high=interval.high,
        solved_mean=_mean(solving),
        less_reliable_p=math.nan if rules.threshold is None else p_values[0],
        worse_p=p_values[1],
        not_worse_p=p_values[2],
        sufficient=sufficient,
        regimes=_mean(regimes),
        effective_regimes=_mean(effective),
        active=_mean(active),
        active_runs=tuple(active),
        regimes_runs=tuple(regimes),
    )


def _baseline(core: str, runs: Sequence[Run], rules: Rules) -> Baseline:
    setting = _choose_setting(runs, rules)
    own = _with(runs, setting)
    scores = _scores(own, rules)
    low, high = _band(list(scores.values()))
    count, tried = _count_solved(own, rules)
    solved = None if rules.threshold is None else count
    return Baseline(core, setting, scores, _mean(list(scores.values())), low, high, solved, tried)


def _dependence(runs: Sequence[Run], rules: Rules) -> tuple[Dependence, ...]:
    """For each axis that was varied beside P, seed, core and size: what its levels say."""
    own = [run for run in runs if run.nonlinear_units is not None]
    found = []
    for axis in sorted({key for run in own for key in run.settings} - {TRAIN_SIZE}):
        levels = _ordered({run.settings.get(axis) for run in own})
        if len(levels) < 2:
            continue
        by_level = {level: [run for run in own if run.settings.get(axis) == level] for level in levels}
        claims: dict[str, Claims] = {}
        for level, of_level in by_level.items():
            columns = _columns(of_level)
            if _is_scored(columns, rules.score):
                claims[str(level)] = _claim(columns, _hidden_size(of_level), rules, 1)[0]
        matched = _matched(own, axis, levels)
        cells = {level: [run for run in matched if run.settings.get(axis) == level] for level in levels}
        answers = [
            {getattr(claim, name) for claim in claims.values()}
            for name in ("nonlinearity_needed", "smallest_sufficient", "sparse_beats_full")
        ]
        found.append(
            Dependence(
                axis,
                claims,
                tuple(sorted({run.nonlinear_units for run in matched if run.nonlinear_units is not None})),
                None
                if rules.threshold is None
                else {str(level): _count_solved(of_level, rules) for level, of_level in cells.items()},
                {
                    str(level): _mean([run.metrics[rules.score] for run in of_level if run.metrics])
                    for level, of_level in cells.items()
                },
                _axis_p_value(matched, axis, levels, rules),
                # not of the smallest P: that one level shows a smaller one does not say that it is too small at another
                answer_differs=any(len(answer - {None}) > 1 for answer in (answers[0], answers[2])),
                claims_differ=any(len(answer) > 1 for answer in answers),
            )
        )
    tested = [index for index, one in enumerate(found) if one.p_value is not None]
    adjusted = holm([found[index].p_value or 0.0 for index in tested])
    for index, p_value in zip(tested, adjusted.tolist(), strict=True):
        found[index] = found[index]._replace(p_value=p_value)
    return tuple(found)


def _matched(runs: Sequence[Run], axis: str, levels: Sequence[Value]) -> list[Run]:
    """The runs that have others like them, in P and all other settings, at every level of an axis."""
    there: dict[str, set[Value]] = defaultdict(set)
    for run in runs:
        there[_rest(run, axis)].add(run.settings.get(axis))
    return [run for run in runs if len(there[_rest(run, axis)]) == len(levels)]


def _rest(run: Run, axis: str) -> str:
    return repr((run.nonlinear_units, sorted((key, value) for key, value in run.settings.items() if key != axis)))


def _axis_p_value(runs: Sequence[Run], axis: str, levels: Sequence[Value], rules: Rules) -> float | None:
    """Whether scores depend on an axis, within P and whatever else was varied, over the seeds that have all runs."""
    cells: dict[str, dict[tuple[Value, int], float]] = defaultdict(dict)
    for run in runs:
        if rules.score in run.metrics:
            cells[_rest(run, axis)][(run.settings.get(axis), run.seed)] = run.metrics[rules.score]
    # a cell in which most runs diverged must not keep the others from being compared
    most = max(map(len, cells.values()), default=0)
    kept = [cell for _, cell in sorted(cells.items()) if 2 * len(cell) >= most]
    seeds = sorted(
        seed for seed in {run.seed for run in runs} if all((level, seed) in cell for cell in kept for level in levels)
    )
    if not kept or not seeds:
        return None
    table = [[[cell[(level, seed)] for cell in kept] for level in levels] for seed in seeds]
    return depends_on_column(table, paired=math.factorial(len(levels)) ** (1 - len(seeds)) <= rules.alpha)


def _columns(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """The AL-RNN's runs by P, in order."""
    columns: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        if run.nonlinear_units is not None:
            columns[run.nonlinear_units].append(run)
    return {p: columns[p] for p in sorted(columns)}


def _is_scored(columns: Mapping[int, Sequence[Run]], key: str) -> bool:
    return any(key in run.metrics for own in columns.values() for run in own)


def _hidden_size(runs: Sequence[Run]) -> int | None:
    widths = {run.hidden_size for run in runs if run.nonlinear_units is not None}
    return widths.pop() if len(widths) == 1 else None


def _choose_settings(columns: Mapping[int, Sequence[Run]], rules: Rules) -> tuple[dict[int, Mapping[str, Value]], bool]:
    """A setting for each P, and whether each P had the same ones to choose from.

    Where P differ in what was tried, those tried at all of them are chosen from: more tries would be more chances.
    """
    tried = {p: {_name(run.settings) for run in own} for p, own in columns.items()}
    common = set.intersection(*tried.values())
    chosen = {}
    for p, own in columns.items():
        chosen[p] = _choose_setting([run for run in own if not common or _name(run.settings) in common], rules)
    return chosen, bool(common)


def _name(setting: Mapping[str, Value]) -> str:
    return repr(sorted(setting.items()))


def _choose_setting(runs: Sequence[Run], rules: Rules) -> Mapping[str, Value]:
    """Of what else was varied, the setting with the best mean score in validation, among those with most scores."""
    key = rules.score.replace("test/", "val/", 1)
    if any(rules.score in run.metrics and key not in run.metrics for run in runs):
        key = rules.score
    by_setting: dict[str, tuple[Mapping[str, Value], list[float]]] = {}
    for run in runs:
        values = by_setting.setdefault(_name(run.settings), (run.settings, []))[1]
        if rules.score in run.metrics:
            values.append(rules.sign * run.metrics[key])
    most = max(len(values) for _, values in by_setting.values())
    complete = {name: entry for name, entry in by_setting.items() if len(entry[1]) == most}
    return max(sorted(complete.items()), key=lambda item: _mean(item[1][1]) if most else 0.0)[1][0]


def _less_reliable(solved: Sequence[tuple[int, int]]) -> list[float]:
    """For each P the p-value of solving the task no less often than the others together."""
    total, tried = (sum(numbers) for numbers in zip(*solved, strict=True))
    return [float(p) for p in holm([fisher_fewer(k, n, total - k, tried - n) for k, n in solved])]


def _with(runs: Sequence[Run], setting: Mapping[str, Value]) -> list[Run]:
    return [run for run in runs if dict(run.settings) == dict(setting)]


def _scores(runs: Sequence[Run], rules: Rules) -> dict[int, float]:
    found = {run.seed: run.metrics[rules.score] for run in runs if rules.score in run.metrics}
    return {seed: found[seed] for seed in sorted(found)}


def _count_solved(runs: Sequence[Run], rules: Rules) -> tuple[int, int]:
    return sum(rules.score in run.metrics and rules.solves(run.metrics[rules.score]) for run in runs), len(runs)


def _band(scores: Sequence[float]) -> tuple[float, float]:
    if len(scores) < 2:
        return math.nan, math.nan
    band = bootstrap_band(np.array(scores)[:, None])
    return float(band.low[0]), float(band.high[0])


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values)) if len(values) else math.nan


def _logged(metrics: Mapping[str, float], key: str) -> float | None:
    """A metric of the callbacks; of a model with several networks, that of the first."""
    if key in metrics:
        return metrics[key]
    return next((metrics[name] for name in metrics if name.endswith(f"/{key}")), None)


def _ordered(values: set[Value]) -> list[Value]:
    numbers = all(isinstance(value, (int, float)) for value in values)
    return sorted(values, key=(lambda value: (float(value or 0), "")) if numbers else (lambda value: (0.0, str(value))))


def _short(key: str) -> str:
    return key.replace("test/", "test ", 1)


def _known_keys(runs: Sequence[Run]) -> str:
    return ", ".join(sorted({key for run in runs for key in run.metrics if key.startswith("test/")})) or "none"
