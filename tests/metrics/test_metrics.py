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


def as_dicts(counter: RegimeCounter) -> tuple[Any, ...]:
    """Counts by bitcodes, of all sequences and of the four groups."""
    counts, groups = counter.regimes(), counter.group_occupancy(groups=4)
    codes, codes_of_groups = ([bitcode(code) for code in each.codes] for each in (counts, groups))
    pairs = [(codes[i], codes[j]) for i, j in counts.transitions.tolist()]
    rows = [dict(zip(codes_of_groups, row, strict=True)) for row in groups.counts.tolist()]
    return (
        dict(zip(codes, counts.counts.tolist(), strict=True)),
        dict(zip(pairs, counts.transition_counts.tolist(), strict=True)),
        (counts.steps, counts.moves, counts.switches),
        [{code: n for code, n in row.items() if n} for row in rows],
        groups.steps.tolist(),
    )


def expected_dicts(
    by_hand: Callable[..., Any], states: Tensor, lengths: Tensor, nonlinear: int, group: Tensor | None = None
) -> tuple[Any, ...]:
    counts = by_hand(states, lengths, nonlinear)
    switches = sum(n for (a, b), n in counts.transitions.items() if a != b)
    belongs = [lengths < 0 if group is None else group == index for index in range(4)]
    groups = [by_hand(states[these], lengths[these], nonlinear) for these in belongs]
    totals = (counts.steps, counts.moves, switches)
    return counts.counts, counts.transitions, totals, [dict(g.counts) for g in groups], [g.steps for g in groups]


GROUP = torch.tensor([0, 1, 3, -1]).repeat(6)[:23]
"""Groups of the 23 sequences; some have no group, and group 2 has no sequence."""


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
        grouped.update(states[part], lengths[part], GROUP[part])
        activity.update(states[part], lengths[part])
    for metric, group in ((counter, None), (grouped, GROUP)):
        expected = expected_dicts(by_hand, states, lengths, nonlinear, group)
        assert as_dicts(metric) == as_dicts(pickle.loads(pickle.dumps(metric))) == expected
        assert int(metric.compute()["visited"]) == len(expected[0])
    together = count_regimes_by_group(states, nonlinear, GROUP, lengths)
    assert all(map(torch.equal, grouped.group_occupancy(), together))
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


def shares(rank: int, world_size: int) -> list[Tensor]:
    """Sequences of a process: every second one, none on the first process, none on the second."""
    split = torch.arange(23)[rank::world_size]
    return [split, *(torch.arange(0 if rank == empty else 23) for empty in (0, world_size - 1))]


def count_shares(rank: int, world_size: int) -> list[tuple[Any, ...]]:
    found = []
    for nonlinear in (0, 4, 70):
        states, lengths = draw(nonlinear)
        for mine in shares(rank, world_size):
            counter, activity = RegimeCounter(nonlinear), UnitActivity(nonlinear)
            for part in mine.split(4) if len(mine) else ():
                counter.update(states[part], lengths[part], GROUP[part])
                activity.update(states[part], lengths[part])
            visited = float(counter.compute()["visited"])
            found.append((nonlinear, as_dicts(counter), visited, tuple(activity.statistics())))
            assert counter.steps == lengths[mine].sum()  # reading the counts leaves each process its own
    return found


def count_without_groups(rank: int, world_size: int) -> int:
    counter = RegimeCounter(4)
    counter.update(*draw(4))
    return len(counter.group_occupancy().groups)


@pytest.mark.filterwarnings("ignore:The ``compute`` method of metric:UserWarning")  # a process without data
def test_two_processes_count_as_one(
    by_hand: Callable[..., Any], processes: Callable[..., list[Any]], tmp_path: Path
) -> None:
    for of_process in processes(count_shares, tmp_path):
        for nonlinear, counts, visited, statistics in of_process:
            states, lengths = draw(nonlinear)
            expected = expected_dicts(by_hand, states, lengths, nonlinear, GROUP)
            assert counts == expected
            assert visited == len(expected[0])
            for got, value in zip(statistics, unit_activity(states, nonlinear, lengths), strict=True):
                torch.testing.assert_close(got, value)
    assert processes(count_without_groups, tmp_path) == [0, 0]


def moments_of_shares(rank: int, world_size: int) -> list[tuple[Any, ...]]:
    states, lengths = draw(0)
    found = []
    for mine in shares(rank, world_size) if world_size > 1 else (torch.arange(23),):
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
