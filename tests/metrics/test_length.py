"""Counts of exact sequences by length."""

from __future__ import annotations

import pickle
from collections import Counter

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from lightning_alrnn.metrics import LengthCounter


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.lists(st.tuples(st.booleans(), st.integers(-2, 12)), max_size=20), min_size=1, max_size=4),
    st.integers(1, 12),
)
def test_counts(batches: list[list[tuple[bool, int]]], longest: int) -> None:
    counter = LengthCounter(longest)
    for batch in batches:
        correct, lengths = torch.tensor([c for c, _ in batch], dtype=torch.bool), torch.tensor([n for _, n in batch])
        counter.update(correct, lengths.long())
    right: Counter[int] = Counter()
    total: Counter[int] = Counter()
    for correct_, length in (pair for batch in batches for pair in batch):
        if length >= 0:
            total[min(length, longest)] += 1
            right[min(length, longest)] += correct_
    for counts, expected in zip(pickle.loads(pickle.dumps(counter)).compute(), (right, total), strict=True):
        assert counts.tolist() == [expected[length] for length in range(longest + 1)]
    counter.reset()
    assert not counter.total.any()


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="longest must be at least 1, got 0"):
        LengthCounter(0)
