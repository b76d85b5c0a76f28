"""Counting of regimes against loops over single states."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from lightning_alrnn.analysis.regimes import (
    bitcode,
    count_regimes,
    merge_rows,
    pack_bits,
    summarize_regimes,
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


def test_bit_order() -> None:
    bits = torch.tensor([True, False, True, True])
    assert pack_bits(bits).tolist() == [0b1101]  # bit 0, the first nonlinear unit, is lowest
    assert bitcode(bits) == "1011"  # and the first character


@pytest.mark.parametrize("nonlinear", [0, 1, 3, 8])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 6), (6, 1), (9, 13)])
def test_counts_equal_brute_force(by_hand: Callable[..., object], nonlinear: int, batch: int, time: int) -> None:
    torch.manual_seed(batch * time + nonlinear)
    states, lengths = torch.randn(batch, time, 8), torch.randint(1, time + 1, (batch,))
    found = count_regimes(states, nonlinear, lengths)
    expected = by_hand(states, lengths, nonlinear)
    codes = [bitcode(code) for code in found.codes]
    assert dict(zip(codes, found.counts.tolist(), strict=True)) == expected.counts  # type: ignore[attr-defined]
    pairs = [(codes[i], codes[j]) for i, j in found.transitions.tolist()]
    assert Counter(dict(zip(pairs, found.transition_counts.tolist(), strict=True))) == expected.transitions  # type: ignore[attr-defined]
    assert found.counts.tolist() == sorted(found.counts.tolist(), reverse=True)
    assert (found.steps, found.moves) == (expected.steps, expected.moves)  # type: ignore[attr-defined]
    assert found.switches == sum(n for (a, b), n in expected.transitions.items() if a != b)  # type: ignore[attr-defined]


def test_more_units_than_one_word_holds(by_hand: Callable[..., object]) -> None:
    torch.manual_seed(0)
    states = torch.randn(3, 4, 150)
    states[1] = states[0]
    states[2, :, 120:] = states[0, :, 120:]  # regimes that differ in the first words only
    found = count_regimes(states, 140)
    expected = by_hand(states, torch.tensor([4, 4, 4]), 140)
    assert {bitcode(c): n for c, n in zip(found.codes, found.counts.tolist(), strict=True)} == expected.counts  # type: ignore[attr-defined]
    assert found.counts.tolist() == [2] * 4 + [1] * 4


def test_steps_past_the_length_and_between_sequences_do_not_count() -> None:
    states = torch.tensor([[[1.0], [1.0], [-1.0]], [[-1.0], [-1.0], [-1.0]]])
    found = count_regimes(states, 1, torch.tensor([2, 3]))
    assert found.switches == 0
    assert dict(zip(map(bitcode, found.codes), found.counts.tolist(), strict=True)) == {"1": 2, "0": 3}


def test_summary_in_closed_form() -> None:
    uniform = torch.tensor([[[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]]])
    summary = summarize_regimes(count_regimes(uniform, 2))
    assert summary.visited == 4
    assert summary.possible_log2 == 2
    assert summary.entropy == pytest.approx(2.0)
    assert summary.effective == pytest.approx(4.0)
    assert summary.switch_rate == 1.0
    assert summary.top_occupancy == 0.25

    skewed = torch.tensor([[[1.0], [1.0], [1.0], [-1.0]]])
    summary = summarize_regimes(count_regimes(skewed, 1))
    assert summary.entropy == pytest.approx(-(0.75 * math.log2(0.75) + 0.25 * math.log2(0.25)))
    assert summary.switch_rate == pytest.approx(1 / 3)
    assert summary.top_occupancy == 0.75


def test_a_linear_network_has_one_regime() -> None:
    summary = summarize_regimes(count_regimes(torch.randn(3, 5, 4), 0))
    assert summary == (1, 0, 0.0, 1.0, 0.0, 1.0)


def test_one_step_has_no_switches() -> None:
    summary = summarize_regimes(count_regimes(torch.randn(30, 1, 4), 4))
    assert summary.switch_rate == 0.0
    assert summary.visited > 1


def test_transition_matrix_rows() -> None:
    # A A B A C: from A to A 1/3, to B 1/3, to C 1/3; from B to A; C is never left
    codes = {"A": [1.0, 1.0], "B": [1.0, -1.0], "C": [-1.0, 1.0]}
    found = count_regimes(torch.tensor([[codes[name] for name in "AABAC"]]), 2)
    matrix = transition_matrix(found, 3)
    names = ["ABC"[["11", "10", "01"].index(bitcode(code))] for code in found.codes]
    expected = {"A": {"A": 1 / 3, "B": 1 / 3, "C": 1 / 3}, "B": {"A": 1.0}, "C": {}}
    for i, start in enumerate(names):
        for j, end in enumerate(names):
            assert float(matrix[i, j]) == pytest.approx(expected[start].get(end, 0.0))
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
