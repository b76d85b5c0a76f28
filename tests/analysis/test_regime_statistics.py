"""Counting of regimes against loops over single states."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import (
    bitcode,
    count_regimes,
    count_regimes_by_group,
    dwell_times,
    entropy_rate,
    merge_rows,
    pack_bits,
    regime_bits,
    regimes,
    shared_regimes,
    summarize_regimes,
    transition_graph,
    transition_matrix,
    unpack_bits,
    words_needed,
)


@given(st.integers(0, 200), st.integers(0, 5), st.integers(0, 2**31))
def test_packing_is_undone_by_unpacking(units: int, rows: int, seed: int) -> None:
    bits = torch.rand(rows, units, generator=torch.Generator().manual_seed(seed)) > 0.5
    words = pack_bits(bits)
    assert words.shape == (rows, words_needed(units))
    assert bool((words >= 0).all())
    assert torch.equal(unpack_bits(words, units), bits)


def test_bit_order_and_values_that_are_off() -> None:
    bits = torch.tensor([True, False, True, True])
    assert pack_bits(bits).tolist() == [0b1101]  # bit 0, the first nonlinear unit, is lowest
    assert bitcode(bits) == "1011"  # and the first character
    assert regime_bits(torch.tensor([9.0, math.nan, math.inf, -1.0, 0.0]), 4).tolist() == [False, True, False, False]


@pytest.mark.parametrize("nonlinear", [0, 1, 3, 8])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 6), (6, 1), (9, 13)])
def test_counts_equal_brute_force(by_hand: Callable[..., Any], nonlinear: int, batch: int, time: int) -> None:
    torch.manual_seed(batch * time + nonlinear)
    states, lengths = torch.randn(batch, time, 8), torch.randint(1, time + 1, (batch,))
    found = count_regimes(states, nonlinear, lengths)
    expected = by_hand(states, lengths, nonlinear)
    codes = [bitcode(code) for code in found.codes]
    assert dict(zip(codes, found.counts.tolist(), strict=True)) == expected.counts
    pairs = [(codes[i], codes[j]) for i, j in found.transitions.tolist()]
    assert Counter(dict(zip(pairs, found.transition_counts.tolist(), strict=True))) == expected.transitions
    assert found.counts.tolist() == sorted(found.counts.tolist(), reverse=True)
    assert (found.steps, found.moves) == (expected.steps, expected.moves)
    assert found.switches == sum(n for (a, b), n in expected.transitions.items() if a != b)


def test_more_units_than_one_word_holds(by_hand: Callable[..., Any]) -> None:
    torch.manual_seed(0)
    states = torch.randn(3, 4, 150)
    states[1] = states[0]
    states[2, :, 120:] = states[0, :, 120:]  # regimes that differ in the first words only
    found = count_regimes(states, 140)
    expected = by_hand(states, torch.tensor([4, 4, 4]), 140)
    assert {bitcode(c): n for c, n in zip(found.codes, found.counts.tolist(), strict=True)} == expected.counts
    assert found.counts.tolist() == [2] * 4 + [1] * 4
    labelled = regimes(states, 140)
    assert torch.equal(labelled.codes[labelled.labels], states[..., 10:] > 0)


def test_summary_in_closed_form() -> None:
    uniform = torch.tensor([[[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]])
    assert summarize_regimes(count_regimes(uniform, 2)) == pytest.approx((4, 2, 2.0, 4.0, 1.0, 0.25))
    skewed = summarize_regimes(count_regimes(torch.tensor([[[1.0], [1.0], [1.0], [-1.0]]]), 1))
    entropy = -(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25))
    assert skewed == pytest.approx((2, 1, entropy, 2**entropy, 1 / 3, 0.75))
    assert summarize_regimes(count_regimes(torch.randn(3, 5, 4), 0)) == (1, 0, 0.0, 1.0, 0.0, 1.0)
    assert summarize_regimes(count_regimes(torch.randn(30, 1, 4), 4)).switch_rate == 0.0


def test_transition_matrix_rows() -> None:
    # A A B A C: from A to A 1/3, to B 1/3, to C 1/3; from B to A; C is never left
    codes = {"A": [1.0, 1.0], "B": [1.0, -1.0], "C": [-1.0, 1.0]}
    found = count_regimes(torch.tensor([[codes[name] for name in "AABAC"]]), 2)
    order = [["11", "10", "01"].index(bitcode(code)) for code in found.codes]
    expected = torch.tensor([[1 / 3, 1 / 3, 1 / 3], [1, 0, 0], [0, 0, 0]], dtype=torch.float64)
    torch.testing.assert_close(transition_matrix(found, 3), expected[order][:, order])
    # cut to the most frequent regime, its row keeps the share of all steps that leave it
    assert transition_matrix(found, 1).tolist() == [[pytest.approx(1 / 3)]]


def test_merging_keeps_the_most_frequent_rows() -> None:
    rows, counts = merge_rows(torch.tensor([[5], [3], [5], [1]]), torch.tensor([2, 4, 3, 1]), limit=2)
    assert rows.tolist() == [[3], [5]]
    assert counts.tolist() == [4, 5]


def test_wrong_shapes() -> None:
    with pytest.raises(ValueError, match=r"states must have shape \(batch, time, M\), got \(3, 4\)"):
        count_regimes(torch.randn(3, 4), 1)
    with pytest.raises(ValueError, match="must lie between 0 and M=4, got 5"):
        count_regimes(torch.randn(2, 3, 4), 5)
    with pytest.raises(ValueError, match=r"group must have shape \(2,\), one index per sequence, got \(3,\)"):
        count_regimes_by_group(torch.randn(2, 3, 4), 2, torch.tensor([0, 1, 2]))


def sharing_by_hand(counts: dict[int, Counter[str]], g: int, h: int) -> tuple[float, float]:
    """Jaccard index on Python sets, and the divergence by scipy."""
    a, b = set(counts[g]), set(counts[h])
    codes = sorted(a | b)
    p, q = ([counts[k][code] / counts[k].total() for code in codes] for k in (g, h))
    return len(a & b) / len(a | b), float(jensenshannon(p, q, base=2)) ** 2


@settings(deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    nonlinear=st.sampled_from([0, 1, 2, 4, 70]),
    batch=st.integers(1, 8),
    time=st.integers(1, 6),
    owners=st.integers(1, 5),
    seed=st.integers(0, 2**31),
)
def test_groups_equal_brute_force(
    by_hand: Callable[..., Any], nonlinear: int, batch: int, time: int, owners: int, seed: int
) -> None:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(batch, time, 70, generator=generator)
    states[batch // 2 :, :, :68] = states[:1, :, :68]  # so that 70 units share regimes too
    lengths = torch.randint(1, time + 1, (batch,), generator=generator)
    group = torch.randint(-1, owners, (batch,), generator=generator)  # −1 for no group
    members = {owner: group == owner for owner in range(owners) if owner in group}
    expected = {owner: by_hand(states[rows], lengths[rows], nonlinear).counts for owner, rows in members.items()}

    found = count_regimes_by_group(states, nonlinear, group, lengths, groups=owners)
    codes = [bitcode(code) for code in found.codes]
    assert found.groups.tolist() == list(range(owners))
    assert len(set(codes)) == len(codes)
    totals = found.counts.sum(dim=0).tolist()
    assert totals == sorted(totals, reverse=True)
    assert 0 not in totals
    for index, (row, steps) in enumerate(zip(found.counts.tolist(), found.steps.tolist(), strict=True)):
        wanted = expected.get(index, Counter())
        assert {code: n for code, n in zip(codes, row, strict=True) if n} == wanted
        assert steps == wanted.total()
    assert count_regimes_by_group(states, nonlinear, group, lengths).groups.tolist() == sorted(expected)

    sharing = shared_regimes(states, nonlinear, group, lengths, owners)
    nothing = math.nan, math.nan
    for g, h in product(range(owners), repeat=2):
        wanted = sharing_by_hand(expected, g, h) if {g, h} <= set(expected) else nothing
        measures = float(sharing.jaccard[g, h]), float(sharing.js[g, h])
        assert measures == pytest.approx(wanted, abs=1e-9, nan_ok=True)
        assert not any(measure < 0 or measure > 1 for measure in measures)
    pairs = [sharing_by_hand(expected, g, h) for g, h in combinations(expected, 2)] or [nothing]
    means = [sum(measure) / len(pairs) for measure in zip(*pairs, strict=True)]
    assert [sharing.mean_jaccard, sharing.mean_js] == pytest.approx(means, abs=1e-9, nan_ok=True)


def test_one_group_and_none() -> None:
    one = shared_regimes(torch.randn(2, 3, 4), 2, torch.tensor([7, 7]))
    assert (one.groups.tolist(), one.jaccard.tolist(), one.js.tolist()) == ([7], [[1.0]], [[0.0]])
    none = shared_regimes(torch.randn(2, 3, 4), 2, torch.tensor([-1, -1]))
    assert none.jaccard.shape == none.js.shape == (0, 0)
    assert math.isnan(one.mean_jaccard)
    assert math.isnan(none.mean_js)


# --- dwell times, entropy rate, graphs ---


def random_states(seed: int, units: int = 2) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    states = torch.randn(5, 30, 3, generator=generator).cumsum(dim=1)
    return states, torch.tensor([30, 1, 17, 2, 30])


@pytest.mark.parametrize("units", [0, 1, 3])
def test_dwell_times_against_a_loop(units: int) -> None:
    for seed in range(5):
        states, lengths = random_states(seed)
        stretches: list[tuple[str, int, bool]] = []
        moves: list[tuple[str, str]] = []
        for sequence, length in zip(states, lengths.tolist(), strict=True):
            names = [bitcode(z[3 - units :] > 0) for z in sequence[:length]]
            parts = [(name, len(list(part))) for name, part in itertools.groupby(names)]
            moves += itertools.pairwise(names)
            stretches += [(name, steps, place in (0, len(parts) - 1)) for place, (name, steps) in enumerate(parts)]
        found = dwell_times(states, units, lengths)
        names = [bitcode(code) for code in found.codes]
        rows = zip(found.regime.tolist(), found.duration.tolist(), found.cut.tolist(), strict=True)
        assert stretches == [(names[regime], steps, cut) for regime, steps, cut in rows]
        for row, name in enumerate(names):
            durations = [(steps, cut) for other, steps, cut in stretches if other == name]
            assert int(found.visits[row]) == len(durations)
            assert int(found.longest[row]) == max(steps for steps, _ in durations)
            mean, nexts = float(found.mean[row]), [after for before, after in moves if before == name]
            left = sum(after != name for after in nexts)
            assert mean == pytest.approx(len(nexts) / left) if left else math.isnan(mean)


def test_mean_dwell_times_are_those_of_the_chain_although_sequences_are_short() -> None:
    """Sequences of 60 steps, in regimes that are left with the probabilities 1/60 and 1/100 at each step."""
    rng = np.random.default_rng(0)
    on = np.zeros((2000, 60), dtype=bool)
    for t in range(1, 60):
        on[:, t] = on[:, t - 1] ^ (rng.random(2000) < np.where(on[:, t - 1], 1 / 100, 1 / 60))
    states = torch.from_numpy(np.where(on, 1.0, -1.0))[..., None]
    found, counts = dwell_times(states, 1), count_regimes(states, 1)
    mean = {bitcode(code): float(steps) for code, steps in zip(found.codes, found.mean, strict=True)}
    assert mean == {"0": pytest.approx(60, rel=0.1), "1": pytest.approx(100, rel=0.1)}
    switches = 1 / summarize_regimes(counts).switch_rate  # what a report says beside them
    assert min(mean.values()) < switches < max(mean.values())
    complete = found.duration[~found.cut].double().mean()
    assert complete < 25


def test_entropy_rate_of_a_markov_chain(by_hand: Callable[..., Any]) -> None:
    """From the counts of all pairs, and for a chain whose rate is known."""
    states, lengths = random_states(0)
    pairs = by_hand(states, lengths, 2).transitions
    leaving: Counter[str] = Counter()
    for (source, _), count in pairs.items():
        leaving[source] += count
    expected = -sum(n / pairs.total() * math.log2(n / leaving[source]) for (source, _), n in pairs.items())
    assert entropy_rate(count_regimes(states, 2, lengths)) == pytest.approx(expected)

    coin = (torch.rand(1, 200_000, 1, generator=torch.Generator().manual_seed(0)) < 0.25).double() - 0.5
    assert entropy_rate(count_regimes(coin, 1)) == pytest.approx(2 - 0.75 * math.log2(3), abs=0.01)
    periodic = torch.tensor([[1.0], [-1.0]]).repeat(10, 1)[None]
    assert entropy_rate(count_regimes(periodic, 1)) == 0.0
    assert entropy_rate(count_regimes(periodic[:, :1], 1)) == 0.0  # no step


def test_regimes_label_every_state() -> None:
    states, lengths = random_states(1)
    found, counted = regimes(states, 3, lengths), count_regimes(states, 3, lengths)
    assert torch.equal(found.codes, counted.codes)
    assert torch.equal(found.counts, counted.counts)
    summary = summarize_regimes(counted)
    assert (found.visited, found.entropy, found.effective) == (summary.visited, summary.entropy, summary.effective)
    assert (found.dropped, found.switch_rate) == (0, summary.switch_rate)
    assert float(found.occupancy.sum()) == pytest.approx(1.0)
    for sequence, length, labels in zip(states, lengths.tolist(), found.labels, strict=True):
        assert torch.equal(found.codes[labels[:length]], sequence[:length] > 0)
        assert bool((labels[length:] == -1).all())
    few = regimes(states, 3, lengths, max_regimes=2)
    assert torch.equal(few.codes, counted.codes[:2])
    assert (few.dropped, few.visited) == (len(counted.codes) - 2, found.visited)
    assert torch.equal(few.labels, found.labels.masked_fill(found.labels >= 2, -1))
    assert regimes(states, 0, lengths).labels.max() == 0


def test_transition_graph_is_the_matrix_and_its_edges() -> None:
    states, lengths = random_states(2)
    counted = count_regimes(states, 3, lengths)
    for limit in (2, 64):
        graph = transition_graph(states, 3, lengths, max_regimes=limit)
        matrix = transition_matrix(counted, limit)
        assert torch.equal(graph.matrix, matrix)
        rebuilt = torch.zeros_like(matrix)
        rebuilt[graph.edges[:, 0], graph.edges[:, 1]] = graph.probability
        assert torch.equal(rebuilt, matrix)
        assert len(graph.edges) == int((matrix > 0).sum())
        assert graph.visited == len(counted.codes)
        assert graph.entropy_rate == entropy_rate(counted)
        assert torch.equal(graph.codes, counted.codes[:limit])
    assert int(graph.edge_counts.sum()) == counted.moves
