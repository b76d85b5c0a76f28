"""Estimates for each P: the gap between its typical run and the best one, and the share of its good runs."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.scores import REGIMES_BY_SIZE, UNITS_BY_SIZE
from lightning_alrnn.sweep.intervals import gap_intervals, share_interval
from lightning_alrnn.sweep.rules import Rules, Run, Value

_UNIT_KEYS = (*REGIMES_BY_SIZE, *UNITS_BY_SIZE)


class Estimate(NamedTuple):
    """The runs with one number of nonlinear units.

    Attributes:
        nonlinear_units: P.
        typical: Median of the scores; NaN if at least half of the runs diverged.
        gap: Difference between the typical run and the typical run of the best P, 0 for the best; infinite if the
            typical run diverges, NaN if P is not compared.
        gap_low: Lower limit of the gap.
        gap_high: Upper limit of the gap; the upper limits hold for all P together. Infinite if there is no limit.
        good: Number of runs within the tolerance of the best P's typical run, or, if ``solved`` is stated, number of
            runs that solve the task.
        tried: Number of all runs, including those that diverged.
        share_low: Lower limit of the share of good runs.
        share_high: Upper limit of the share of good runs.
        compared: Whether P has at least half as many runs as the P with the most runs. Other P affect no claim.
        diverged: Number of runs that diverged.
        scores: Scores by seed, with the chosen setting.
        setting: Setting that validation chose for this P.
        other_scores: Scores of the runs with other settings.
        regimes: Number of visited regimes of each run that logged it.
        effective_regimes: 2^entropy of the regime occupancy of each run that logged it.
        active: Number of switching nonlinear units of each run that logged it.
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
    """The fields of an :class:`Estimate` that claims are read off; the defaults are those of a P not compared."""

    gap: float = math.nan
    gap_low: float = math.nan
    gap_high: float = math.nan
    good: int = 0
    share_low: float = 0.0
    share_high: float = 1.0


def estimate(columns: Mapping[int, Sequence[Run]], rules: Rules, levels: int = 1) -> tuple[tuple[Estimate, ...], float]:
    """Estimates in the order of P, and the level of each claim, after division by ``levels`` and by the settings."""
    chosen, settings = _choose_settings(columns, rules)
    runs = {p: [run for run in columns[p] if run.settings == chosen[p]] for p in columns}
    samples = {p: signed_scores(runs[p], rules) for p in columns}
    most = max(map(len, samples.values()))
    compared = {p: sample for p, sample in samples.items() if 2 * len(sample) >= most} if settings else {}
    alpha = rules.alpha / levels / max(1, settings)
    measures = measure(compared, rules, alpha) if compared else {}
    estimates = []
    for p, sample in samples.items():
        scores = {run.seed: run.metrics[rules.score] for run in runs[p] if not run.diverged}
        regimes, effective, active = (
            tuple(value for run in runs[p] if (value := _logged(run.metrics, key)) is not None) for key in _UNIT_KEYS
        )
        estimates.append(
            Estimate(
                nonlinear_units=p,
                typical=typical_score(runs[p], rules),
                tried=len(sample),
                compared=p in measures,
                diverged=int(np.isinf(sample).sum()),
                scores={seed: scores[seed] for seed in sorted(scores)},
                setting=chosen[p],
                other_scores=tuple(
                    run.metrics[rules.score] for run in columns[p] if not run.diverged and run.settings != chosen[p]
                ),
                regimes=regimes,
                effective_regimes=effective,
                active=active,
                **measures.get(p, Measures())._asdict(),
            )
        )
    return tuple(estimates), alpha


def measure(samples: Mapping[int, NDArray[np.float64]], rules: Rules, alpha: float) -> dict[int, Measures]:
    """Gaps and shares of the P that are compared, from scores as :func:`signed_scores` returns them."""
    gaps = gap_intervals(list(samples.values()), rules.tolerance, alpha)
    if rules.solved is not None:
        limit = rules.sign * rules.solved
    else:
        limit = max(float(np.median(sample)) for sample in samples.values()) - rules.margin
    measures = {}
    for place, (p, sample) in enumerate(samples.items()):
        good = int(((sample >= limit) & np.isfinite(sample)).sum())
        gap, gap_low, gap_high = (float(values[place]) for values in gaps)
        measures[p] = Measures(gap, gap_low, gap_high, good, *share_interval(good, len(sample), alpha))
    return measures


def signed_scores(runs: Sequence[Run], rules: Rules) -> NDArray[np.float64]:
    """Scores with the sign that makes higher better, shape ``(runs,)``; −∞ for a run that diverged."""
    return np.array([-math.inf if run.diverged else rules.sign * run.metrics[rules.score] for run in runs])


def typical_score(runs: Sequence[Run], rules: Rules) -> float:
    """The median score; NaN if at least half of the runs diverged."""
    median = float(np.median(signed_scores(runs, rules)))
    return rules.sign * median if math.isfinite(median) else math.nan


def by_units(runs: Sequence[Run]) -> dict[int, list[Run]]:
    """The runs of ALRNNs by P, in order; without baselines."""
    columns: dict[int, list[Run]] = defaultdict(list)
    for run in runs:
        if run.nonlinear_units is not None:
            columns[run.nonlinear_units].append(run)
    return {p: columns[p] for p in sorted(columns)}


def choose_setting(runs: Sequence[Run], rules: Rules) -> Mapping[str, Value]:
    """The setting whose typical run is best in validation, among those with at least half of the most runs."""
    by_setting: dict[str, list[Run]] = defaultdict(list)
    for run in runs:
        by_setting[_name(run.settings)].append(run)
    if len(by_setting) == 1:
        return runs[0].settings
    key = rules.validation_score
    lacking = sum(not run.diverged and key not in run.metrics for run in runs)
    if lacking or key == rules.score:
        raise ValueError(
            f"the sweep has {len(by_setting)} settings. The best one is chosen by {key}, because the test must not "
            f"choose it, but {lacking or len(runs)} of {len(runs)} runs have no such metric besides {rules.score}: log "
            "it in validation, or judge the runs of one setting"
        )
    most = max(map(len, by_setting.values()))
    enough = {name: same for name, same in by_setting.items() if 2 * len(same) >= most}

    def typical(name: str) -> float:
        values = [-math.inf if run.diverged else rules.sign * run.metrics[key] for run in enough[name]]
        return float(np.sort(np.nan_to_num(values, nan=-math.inf, neginf=-math.inf, posinf=math.inf))[len(values) // 2])

    return enough[max(sorted(enough), key=typical)][0].settings


def _choose_settings(columns: Mapping[int, Sequence[Run]], rules: Rules) -> tuple[dict[int, Mapping[str, Value]], int]:
    """A setting for each P, chosen among those that all P were run with, and the number of these."""
    tried = [{_name(run.settings) for run in runs} for runs in columns.values()]
    common = set.intersection(*tried)
    chosen = {}
    for p, runs in columns.items():
        chosen[p] = choose_setting([run for run in runs if not common or _name(run.settings) in common], rules)
    return chosen, len(common)


def _name(setting: Mapping[str, Value]) -> str:
    return repr(sorted(setting.items()))


def _logged(metrics: Mapping[str, float], key: str) -> float | None:
    """A metric of the callbacks; for a model with several networks, that of the first one."""
    if key in metrics:
        return metrics[key]
    return next((metrics[name] for name in metrics if name.endswith(f"/{key}")), None)
