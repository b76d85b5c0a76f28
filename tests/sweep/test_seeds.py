"""Lists of numbers, seeds and looks, as options write them."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_alrnn.sweep.seeds import parse_counts, parse_seeds, plan_looks


@given(st.lists(st.integers(0, 10_000), min_size=1, unique=True))
def test_counts(values: list[int]) -> None:
    text = ",".join(map(str, values))
    assert parse_counts(text, "--nonlinear_units") == values
    assert parse_seeds(f"{text},") == values


@pytest.mark.parametrize(
    ("parse", "texts", "option"),
    [
        (lambda text: parse_counts(text, "--nonlinear_units"), "a 1,a -1 1.5 1,,2 2,2", "--nonlinear_units"),
        (parse_seeds, "0 a 1,1 , 5.. ..5 5..5 6..5 0..5 1...5", "--seeds"),
    ],
)
def test_texts_that_are_refused(parse: Callable[[str], object], texts: str, option: str) -> None:
    for text in texts.split():
        with pytest.raises(ValueError, match=option):
            parse(text)


@given(st.integers(1, 100), st.integers(1, 200))
def test_looks_grow_from_eight_seeds_to_the_last(first: int, more: int) -> None:
    looks = plan_looks(first, first + more)
    assert looks[-1] == first + more
    assert list(looks) == sorted(set(looks))
    assert looks[0] == min(max(first, 8), first + more)
    assert all(after <= 1.5 * before + 1 for before, after in itertools.pairwise(looks))
