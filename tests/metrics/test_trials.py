"""Accuracy by trial and by group, against counts one trial at a time."""

from __future__ import annotations

import math
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_alrnn.metrics import TrialAccuracy

NAMES = ["a", "b", "rare", "never"]


def draw(size: int = 41) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    counted = torch.randint(0, 4, (size,), generator=generator)
    right = (torch.rand(size, generator=generator) * (counted + 1)).long()
    group = torch.randint(0, 2, (size,), generator=generator)
    group[1] = 2  # on one process only
    group[5], group[6] = -1, 7  # of no group that has a name
    return right, counted, group


def by_hand(right: Tensor, counted: Tensor, group: Tensor | None) -> dict[str, float]:
    trials = list(zip(right.tolist(), counted.tolist(), strict=True))
    owners = [None] * len(trials) if group is None else group.tolist()

    def share(of: list[tuple[int, int]]) -> float:
        return sum(r for r, _ in of) / sum(c for _, c in of) if any(c for _, c in of) else math.nan

    with_predictions = [(r, c) for r, c in trials if c > 0]
    return {
        "accuracy": share(trials),
        "sequence_accuracy": sum(r == c for r, c in with_predictions) / len(with_predictions),
    } | {
        f"accuracy/{name}": share([trial for trial, owner in zip(trials, owners, strict=True) if owner == index])
        for index, name in enumerate(NAMES)
    }


def values(metric: TrialAccuracy) -> dict[str, float]:
    return {name: float(value) for name, value in metric.compute().items()}


@pytest.mark.parametrize("grouped", [True, False])
def test_batches_add_up(grouped: bool) -> None:
    right, counted, group = draw()
    expected = by_hand(right, counted, group if grouped else None)
    metric = TrialAccuracy(NAMES, whole_sequences=True)
    for part in torch.arange(41).split(6):
        metric.update(right[part], counted[part], group[part] if grouped else None)
    assert values(metric) == pytest.approx(expected, nan_ok=True)
    assert values(pickle.loads(pickle.dumps(metric))) == pytest.approx(expected, nan_ok=True)
    assert math.isnan(expected["accuracy/never"])
    metric.reset()
    metric.update(right[:3], counted[:3], group[:3])
    assert values(metric) == pytest.approx(by_hand(right[:3], counted[:3], group[:3]), nan_ok=True)


def test_counts_are_exact_where_floats_are_not() -> None:
    metric = TrialAccuracy(["a"])
    size = 2**24
    metric.update(torch.tensor([size]), torch.tensor([size]), torch.tensor([0]))
    for _ in range(3):
        metric.update(torch.tensor([1]), torch.tensor([1]), torch.tensor([0]))
    assert metric.group_counted.tolist() == [size + 3]
    assert int(metric.right) == size + 3


def test_names_are_optional_and_must_differ() -> None:
    metric = TrialAccuracy()
    metric.update(torch.tensor([1, 0]), torch.tensor([1, 1]), torch.tensor([0, 1]))
    assert values(metric) == {"accuracy": 0.5}
    with pytest.raises(ValueError, match=r"group_names must differ from each other, got \['a', 'b', 'a'\]"):
        TrialAccuracy(["a", "b", "a"])


def count_shares(rank: int, world_size: int) -> list[dict[str, float]]:
    """Every second trial on each process; then all of them on the second, none on the first."""
    right, counted, group = draw()
    shares = [torch.arange(41)[rank::world_size], torch.arange(41 if rank == 1 else 0)]
    found = []
    for mine in shares:
        metric = TrialAccuracy(NAMES, whole_sequences=True)
        for part in mine.split(4) if len(mine) else ():
            metric.update(right[part], counted[part], group[part])
        found.append(values(metric))
    return found


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")  # a process without data
def test_two_processes_count_as_one(processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    metric = TrialAccuracy(NAMES, whole_sequences=True)
    metric.update(*draw())
    alone = values(metric)
    for shares in processes(count_shares, tmp_path):
        for found in shares:
            assert found == pytest.approx(alone, rel=0, abs=0, nan_ok=True)
