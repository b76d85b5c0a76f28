"""Scores of predictors without a network, on the test data of the first seeds: baselines/NAME.json of a sweep."""

from __future__ import annotations

import statistics
import warnings
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from lightning_alrnn.files import write_json
from lightning_alrnn.parsing import read_json
from lightning_alrnn.sweep.rules import Value
from lightning_alrnn.sweep.verdict import TRAIN_SIZE, Baseline, Verdict

_MOST_SEEDS = 5
"""They affect no claim, so a few data sets are enough."""


class _Scores(NamedTuple):
    """The scores of the predictors on the test data of a seed, by predictor and metric."""

    train_size: Value
    seed: int
    scores: Mapping[str, Mapping[str, float]]


def write_baselines(folder: Path, seed: int, settings: Mapping[str, Value], data: Any, most: int = _MOST_SEEDS) -> None:
    """Score the baselines on the data of a run, unless another run of that seed has, or ``most`` seeds are done."""
    from lightning_alrnn.readings.yardstick import baselines_of  # the verdict, which needs none, does without PyTorch

    size = settings.get(TRAIN_SIZE)
    if any(key.startswith("data.") and key != TRAIN_SIZE for key in settings):
        return  # the predictors of the verdict would have other tasks than its networks
    paths = folder / "baselines"
    path = paths / f"size{size}-seed{seed}.json"
    if path.is_file() or len([*paths.glob(f"size{size}-*.json")]) >= most:
        return
    try:
        scores = baselines_of(data, "test")
    except Exception as error:  # a network has been trained, and its record is worth more
        warnings.warn(f"there are no baselines of seed {seed}: {error}", stacklevel=2)
        return
    paths.mkdir(exist_ok=True)
    write_json(path, _Scores(size, seed, scores))


def with_baselines(verdict: Verdict, folder: Path) -> Verdict:
    """Add the predictors that have the verdict's score to its baselines."""
    stage, _, metric = verdict.rules.score.rpartition("/")
    levels: dict[Any, dict[str, dict[int, float]]] = defaultdict(lambda: defaultdict(dict))
    for path in sorted((folder / "baselines").glob("*.json")) if stage == "test" else ():
        try:
            content: _Scores = read_json(path, _Scores)
        except ValueError as error:
            warnings.warn(f"{error}: its predictors are left out; without the file, a sweep scores them", stacklevel=2)
            continue
        for name, scores in content.scores.items():
            if metric in scores:
                levels[content.train_size][name][content.seed] = scores[metric]
    sizes = (size._replace(baselines=(*size.baselines, *_baselines(levels[size.train_size]))) for size in verdict.sizes)
    return verdict._replace(sizes=tuple(sizes))


def _baselines(levels: Mapping[str, Mapping[int, float]]) -> list[Baseline]:
    return [
        Baseline(name, {}, statistics.median(scores.values()), scores, len(scores)) for name, scores in levels.items()
    ]
