"""Estimates for each P: how far its typical run lies behind the best, and how many of its runs do as well."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.readings import Regimes, Units
from lightning_alrnn.sweep.intervals import gap_intervals, share_interval
from lightning_alrnn.sweep.rules import Rules, Run, Value

_UNIT_KEYS = (*Regimes.by_size, *Units.by_size)


class Estimate(NamedTuple):
    """The runs with one number of nonlinear units.

    Attributes:
        nonlinear_units: P.
        typical: Median of the scores; NaN where half of the runs or more diverged.
        gap: How much worse the typical run is than that of the best P, 0 for the best; infinite where it diverges, NaN
            where P is not compared.
        gap_low: Lower limit of the gap.
        gap_high: Upper limit of the gap, which holds for all P together; infinite where the runs bound nothing.
        good: Number of runs that are as good as the typical run of the best P within the tolerance; where a score is
            stated from which on a run solves the task, the number of runs that solve it.
        tried: Number of all runs, those that diverged among them.
        share_low: Lower limit of the share of good runs.
        share_high: Upper limit of the share.
        compared: Whether P has at least half as many runs as the P with most; other P bear on no claim.
        diverged: Number of runs that diverged.
        scores: Scores by seed, of the setting that was chosen.
        setting: What else was varied, as chosen for this P in validation.
        other_scores: Scores of the runs with other settings.
        regimes: Number of regimes visited, of each run that logged it.
        effective_regimes: 2^entropy of the occupancy of regimes, of each run that logged it.
        active: Number of nonlinear units that switch, of each run that logged it.
    """

    nonlinear_units: int
    typical: float
    gap: float
    gap_low: float
    gap_high: float
    good: int
    tried: int
    share_low: float
    share_high: float
    compared: bool
    diverged: int
    scores: Mapping[int, float]
    setting: Mapping[str, Value]
    other_scores: tuple[float, ...]
    regimes: tuple[float, ...]
    effective_regimes: tuple[float, ...]
    active: tuple[float, ...]


class Measures(NamedTuple):
    """The numbers that claims are read off, each by P; :class:`Estimate` says what they are."""

    gap: Mapping[int, float]
    gap_low: Mapping[int, float]
    gap_high: Mapping[int, float]
    good: Mapping[int, int]
    share_low: Mapping[int, float]
    share_high: Mapping[int, float]


def estimate(columns: Mapping[int, Sequence[Run]], rules: Rules, levels: int = 1) -> tuple[tuple[Estimate, ...], float]:
    """Estimates in the order of P, and the level of each claim.

    That level is the rules', divided by ``levels`` (such as sizes of training data) and the number of settings to
    choose from.
    """
    chosen, settings = _choose_settings(columns, rules)
    runs = {p: [run for run in columns[p] if run.settings == chosen[p]] for p in columns}
    samples = {p: signed_scores(runs[p], rules) for p in columns}
    most = max(map(len, samples.values()))
    compared = {p: sample for p, sample in samples.items() if 2 * len(sample) >= most} if settings else {}
    alpha = rules.alpha / levels / max(1, settings)
    measures = measure(compared, rules, alpha) if compared else None
    estimates = []
    for p, sample in samples.items():
        finite = sample[np.isfinite(sample)]
        one = measures if measures is not None and p in compared else None
        scores = {run.seed: run.metrics[rules.score] for run in runs[p] if not run.diverged}
        regimes, effective, active = (
            tuple(value for run in runs[p] if (value := _logged(run.metrics, key)) is not None) for key in _UNIT_KEYS
        )
        estimates.append(
            Estimate(
                nonlinear_units=p,
                typical=typical_score(runs[p], rules),
                gap=one.gap[p] if one else math.nan,
                gap_low=one.gap_low[p] if one else math.nan,
                gap_high=one.gap_high[p] if one else math.nan,
                good=one.good[p] if one else 0,
                tried=len(sample),
                share_low=one.share_low[p] if one else 0.0,
                share_high=one.share_high[p] if one else 1.0,
                compared=one is not None,
                diverged=len(sample) - len(finite),
                scores={seed: scores[seed] for seed in sorted(scores)},
                setting=chosen[p],
                other_scores=tuple(
                    run.metrics[rules.score] for run in columns[p] if not run.diverged and run.settings != chosen[p]
                ),
                regimes=regimes,
                effective_regimes=effective,
                active=active,
            )
        )
    return tuple(estimates), alpha


def measure(samples: Mapping[int, NDArray[np.float64]], rules: Rules, alpha: float) -> Measures:
    """Gaps and shares of the P that are compared, from scores as :func:`signed_scores` returns them."""
    gaps = gap_intervals(list(samples.values()), rules.tolerance, alpha)
    if rules.solved is not None:
        limit = rules.sign * rules.solved
    else:
        limit = max(float(np.median(sample)) for sample in samples.values()) - rules.margin
    good = {p: int(((sample >= limit) & np.isfinite(sample)).sum()) for p, sample in samples.items()}
    shares = {p: share_interval(good[p], len(sample), alpha) for p, sample in samples.items()}
    gap, low, high = (dict(zip(samples, values.tolist(), strict=True)) for values in gaps)
    return Measures(
        gap,
        low,
        high,
        good,
        {p: share.low for p, share in shares.items()},
        {p: share.high for p, share in shares.items()},
    )


def signed_scores(runs: Sequence[Run], rules: Rules) -> NDArray[np.float64]:
    """Scores such that higher is better, shape ``(runs,)``; −∞ for a run that diverged."""
    return np.array([-math.inf if run.diverged else rules.sign * run.metrics[rules.score] for run in runs])


def typical_score(runs: Sequence[Run], rules: Rules) -> float:
    """The median score; NaN where half of the runs or more diverged."""
    median = float(np.median(signed_scores(runs, rules)))
    return rules.sign * median if math.isfinite(median) else math.nan


def by_units(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """The AL-RNN's runs by P, in order; baselines are left out."""
    columns: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        if run.nonlinear_units is not None:
            columns[run.nonlinear_units].append(run)
    return {p: columns[p] for p in sorted(columns)}


def choose_setting(runs: Sequence[Run], rules: Rules) -> Mapping[str, Value]:
    """The setting whose typical run is best in validation.

    Settings with less than half as many runs as others are left out.
    """
    by_setting: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_setting[_name(run.settings)].append(run)
    if len(by_setting) == 1:
        return runs[0].settings
    key = rules.validation_score
    lacking = sum(not run.diverged and key not in run.metrics for run in runs)
    if lacking or key == rules.score:
        raise ValueError(
            f"{len(by_setting)} settings were run, of which one is chosen by {key} so that the test stays unseen, "
            f"and {lacking or len(runs)} of {len(runs)} runs have no such metric beside {rules.score}: log it in "
            "validation, or judge the runs of one setting"
        )
    most = max(map(len, by_setting.values()))
    enough = {name: same for name, same in by_setting.items() if 2 * len(same) >= most}

    def typical(name: str) -> float:
        values = [-math.inf if run.diverged else rules.sign * run.metrics[key] for run in enough[name]]
        return float(np.sort(np.nan_to_num(values, nan=-math.inf, neginf=-math.inf, posinf=math.inf))[len(values) // 2])

    return enough[max(sorted(enough), key=typical)][0].settings


def _choose_settings(columns: Mapping[int, Sequence[Run]], rules: Rules) -> tuple[dict[int, Mapping[str, Value]], int]:
    """A setting for each P, and how many were chosen from: those tried at all P, as more tries are more chances."""
    tried = [{_name(run.settings) for run in runs} for runs in columns.values()]
    common = set.intersection(*tried)
    chosen = {}
    for p, runs in columns.items():
        chosen[p] = choose_setting([run for run in runs if not common or _name(run.settings) in common], rules)
    return chosen, len(common)


def _name(setting: Mapping[str, Value]) -> str:
    return repr(sorted(setting.items()))


def _logged(metrics: Mapping[str, float], key: str) -> float | None:
    """A metric of the callbacks; of a model with several networks, that of the first."""
    if key in metrics:
        return metrics[key]
    return next((metrics[name] for name in metrics if name.endswith(f"/{key}")), None)
