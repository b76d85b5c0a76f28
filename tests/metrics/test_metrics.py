"""Metrics over batches, pickled, and across processes, against brute force on all states."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import bitcode, count_regimes_by_group
from lightning_alrnn.analysis.spectrum import principal_components
from lightning_alrnn.analysis.units import unit_activity
from lightning_alrnn.metrics import RegimeCounter, StateMoments, UnitActivity


def draw(nonlinear: int) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(nonlinear)
    return torch.randn(23, 7, 70, generator=generator), torch.randint(1, 8, (23,), generator=generator)


def as_dicts(counter: RegimeCounter) -> tuple[dict[str, int], dict[tuple[str, str], int], int, int, int]:
    found = counter.regimes()
    codes = [bitcode(code) for code in found.codes]
    pairs = [(codes[i], codes[j]) for i, j in found.transitions.tolist()]
    return (
        dict(zip(codes, found.counts.tolist(), strict=True)),
        dict(zip(pairs, found.transition_counts.tolist(), strict=True)),
        found.steps,
        found.moves,
        found.switches,
    )


def expected_dicts(by_hand: Callable[..., Any], states: Tensor, lengths: Tensor, nonlinear: int) -> tuple[Any, ...]:
    found = by_hand(states, lengths, nonlinear)
    switches = sum(n for (a, b), n in found.transitions.items() if a != b)
    return found.counts, found.transitions, found.steps, found.moves, switches


def draw_groups() -> Tensor:
    """Groups of the 23 sequences; some have no group, and group 2 has no sequence."""
    return torch.tensor([0, 1, 3, -1]).repeat(6)[:23]


def groups_as_dicts(counter: RegimeCounter) -> tuple[dict[int, dict[str, int]], dict[int, int]]:
    found = counter.group_occupancy(groups=4)
    codes = [bitcode(code) for code in found.codes]
    groups = found.groups.tolist()
    rows = zip(groups, found.counts.tolist(), strict=True)
    return (
        {group: {code: n for code, n in zip(codes, row, strict=True) if n} for group, row in rows},
        dict(zip(groups, found.steps.tolist(), strict=True)),
    )


def expected_groups(by_hand: Callable[..., Any], states: Tensor, lengths: Tensor, nonlinear: int) -> tuple[Any, Any]:
    belongs = [draw_groups() == group for group in range(4)]
    counts = [by_hand(states[these], lengths[these], nonlinear) for these in belongs]
    return {g: dict(c.counts) for g, c in enumerate(counts)}, {g: c.steps for g, c in enumerate(counts)}


def test_of_many_groups_those_with_most_steps_are_listed() -> None:
    counter = RegimeCounter(1)
    lengths = torch.cat((torch.full((40,), 1), torch.full((60,), 2)))
    counter.update(torch.ones(100, 2, 1), lengths, torch.arange(100))
    found = counter.group_occupancy(groups=100)
    assert found.groups.tolist() == [0, 1, 2, 3, *range(40, 100)]
    assert found.counts[:, 0].tolist() == found.steps.tolist() == [1] * 4 + [2] * 60


@pytest.mark.parametrize("nonlinear", [0, 1, 4, 70])
def test_batches_add_up(by_hand: Callable[..., Any], nonlinear: int) -> None:
    states, lengths = draw(nonlinear)
    counter, grouped, activity = RegimeCounter(nonlinear), RegimeCounter(nonlinear), UnitActivity(nonlinear)
    for part in torch.arange(23).split(5):
        counter.update(states[part], lengths[part])
        grouped.update(states[part], lengths[part], draw_groups()[part])
        activity.update(states[part], lengths[part])
    expected = expected_dicts(by_hand, states, lengths, nonlinear)
    of_groups = expected_groups(by_hand, states, lengths, nonlinear)
    assert as_dicts(counter) == as_dicts(grouped) == expected  # which groups leave as they are
    assert groups_as_dicts(grouped) == of_groups
    for metric in (counter, grouped):
        assert as_dicts(pickle.loads(pickle.dumps(metric))) == expected
    assert groups_as_dicts(pickle.loads(pickle.dumps(grouped))) == of_groups
    together = count_regimes_by_group(states, nonlinear, draw_groups(), lengths)
    assert all(map(torch.equal, grouped.group_occupancy(), together))
    assert int(counter.compute()["visited"]) == len(expected[0])
    for got, wanted in zip(activity.statistics(), unit_activity(states, nonlinear, lengths), strict=True):
        torch.testing.assert_close(got, wanted)
    counter.reset()
    counter.update(states[:1], lengths[:1])
    assert as_dicts(counter) == expected_dicts(by_hand, states[:1], lengths[:1], nonlinear)


@pytest.mark.parametrize("at_once", [1, 50])
def test_many_batches_are_merged_on_the_way(
    by_hand: Callable[..., Any], at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lightning_alrnn.metrics.regimes._COUNT_AT_ONCE", at_once)
    states, lengths = torch.randn(300, 4, 3), torch.full((300,), 4)
    counter = RegimeCounter(3)
    for index in range(300):
        time = 3 + index % 2  # batches that are counted together may differ in their number of steps
        lengths[index] = time
        counter.update(states[index : index + 1, :time], lengths[index : index + 1])
    assert len(counter.waiting) < 50
    assert len(counter.codes) < 100
    assert as_dicts(counter) == expected_dicts(by_hand, states, lengths, 3)


@pytest.mark.parametrize("grouped", [False, True])
def test_memory_is_bounded(grouped: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    if not grouped:
        monkeypatch.setattr("lightning_alrnn.metrics.regimes._COUNT_AT_ONCE", 1)
    torch.manual_seed(0)
    counter = RegimeCounter(12, max_regimes=50)
    frequent, group = torch.ones(4, 10, 12), torch.tensor([0, 0, 1, 1, 0, 0, 1, 1]) if grouped else None
    for _ in range(200):
        counter.update(torch.cat((frequent, torch.randn(4, 10, 12))), torch.full((8,), 10), group)
    if grouped:
        of_groups = counter.group_occupancy()
        assert len(of_groups.codes) < 50 + 64 * 40
        assert bitcode(of_groups.codes[0]) == "1" * 12
        assert bool((of_groups.counts[:, 0] >= 200 * 20).all())
        assert of_groups.steps.tolist() == [200 * 40, 200 * 40]  # what was dropped still counts
    found = counter.regimes()
    assert len(found.codes) < 50 + 64 * 40
    assert bitcode(found.codes[0]) == "1" * 12
    assert int(found.counts[0]) >= 200 * 40
    assert found.steps == 200 * 80  # what was dropped still counts
    assert found.moves == 200 * 72


def count_share(rank: int, world_size: int, nonlinear: int, empty_rank: int | None) -> tuple[Any, ...]:
    states, lengths = draw(nonlinear)
    counter, activity = RegimeCounter(nonlinear), UnitActivity(nonlinear)
    mine = torch.arange(23)[rank::world_size]
    if empty_rank is not None:
        mine = torch.arange(23 if rank != empty_rank else 0)
    for part in mine.split(4) if len(mine) else ():
        counter.update(states[part], lengths[part])
        activity.update(states[part], lengths[part])
    grouped = RegimeCounter(nonlinear)
    for part in mine.split(4) if len(mine) else ():
        grouped.update(states[part], lengths[part], draw_groups()[part])
    result = (
        as_dicts(counter),
        tuple(activity.statistics()),
        {k: float(v) for k, v in counter.compute().items()},
        groups_as_dicts(grouped),
        len(counter.group_occupancy().groups),
    )
    assert counter.steps == lengths[mine].sum()  # reading the counts leaves each process its own
    return result


SHARES = ((4, None), (0, None), (70, None), (70, 0), (4, 1))
"""P, and the process that has no data."""


def count_shares(rank: int, world_size: int) -> list[tuple[Any, ...]]:
    return [count_share(rank, world_size, *share) for share in SHARES]


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")  # a process without data
def test_two_processes_count_as_one(
    by_hand: Callable[..., Any], processes: Callable[..., list[Any]], tmp_path: Path
) -> None:
    for of_process in processes(count_shares, tmp_path):
        for (nonlinear, _), found in zip(SHARES, of_process, strict=True):
            counts, statistics, scalars, groups, ungrouped = found
            states, lengths = draw(nonlinear)
            expected = expected_dicts(by_hand, states, lengths, nonlinear)
            assert groups == expected_groups(by_hand, states, lengths, nonlinear)
            assert ungrouped == 0
            assert counts == expected
            assert scalars["visited"] == len(expected[0])
            for got, value in zip(statistics, unit_activity(states, nonlinear, lengths), strict=True):
                torch.testing.assert_close(got, value)


def moments_of_shares(rank: int, world_size: int) -> list[tuple[Any, ...]]:
    states, lengths = draw(0)
    found = []
    for mine in (torch.arange(23)[rank::world_size], torch.arange(23 if rank == world_size - 1 else 0)):
        moments = StateMoments(70)
        for part in mine.split(4) if len(mine) else ():
            moments.update(states[part], lengths[part])
        before = moments.outer.clone()
        found.append(tuple(moments.components()))
        assert torch.equal(moments.outer, before)  # reading the sums leaves each process its own
    return found


def test_moments_of_batches_and_processes_add_up(processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    expected = principal_components(*draw(0))
    for results in (moments_of_shares(0, 1), *processes(moments_of_shares, tmp_path)):
        for found in results:
            for name, got, wanted in zip(expected._fields, found, expected, strict=True):
                if name != "directions":  # of equal or no variance they are arbitrary
                    torch.testing.assert_close(got, wanted, rtol=1e-9, atol=1e-9)
            torch.testing.assert_close(found[1][0].abs(), expected.directions[0].abs(), rtol=1e-6, atol=1e-9)
    moments = StateMoments(70)
    moments.update(*draw(0))
    again = pickle.loads(pickle.dumps(moments))
    assert float(again.compute()["share"]) == pytest.approx(float(expected.share[0]))
    assert float(again.compute()["variance"]) == pytest.approx(float(expected.variance.sum()))
