"""At how many seeds a sweep looks at its runs."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_alrnn.sweep.looks import plan_looks


@pytest.mark.parametrize(
    ("first", "last", "looks"),
    [(5, 40, (8, 12, 18, 27, 40)), (3, 6, (6,)), (1, 8, (8,)), (5, 9, (8, 9)), (10, 12, (10, 12)), (20, 21, (20, 21))],
)
def test_looks(first: int, last: int, looks: tuple[int, ...]) -> None:
    assert plan_looks(first, last) == looks


@given(st.integers(1, 100), st.integers(1, 200))
def test_looks_grow_from_eight_seeds_to_the_last(first: int, more: int) -> None:
    looks = plan_looks(first, first + more)
    assert looks[-1] == first + more
    assert list(looks) == sorted(set(looks))
    assert looks[0] == min(max(first, 8), first + more)
    assert all(after <= 1.5 * before + 1 for before, after in itertools.pairwise(looks))
