"""The command that a verdict ends with is one that the sweep takes, and differs in what it should alone."""

from __future__ import annotations

import shlex
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.sweep.seeds import parse_seeds
from lightning_alrnn.sweep.suggestion import next_command


def options_of(line: str) -> tuple[dict[str, object], list[str]]:
    """Options and what is passed on to ``alrnn fit``, as the sweep reads them."""
    words = shlex.split(line)
    assert words[:2] == ["alrnn", "sweep"]
    options, shared = parser_of("sweep").parse_known_args(words[2:])
    return vars(options), shared


@given(
    st.sampled_from(["5", "3,4", "3,", "0,1,2"]),
    st.booleans(),
    st.integers(6, 60),
    st.lists(st.integers(0, 50), min_size=2, unique=True).map(sorted) | st.none(),
    st.text("ab /'\"$", min_size=1, max_size=6),
)
def test_the_rest_stays_as_it_was(seeds: str, equals: bool, more: int, units: list[int] | None, directory: str) -> None:
    pairs = [("--config", "digits"), ("--seeds", seeds), ("--output_dir", directory), ("--nonlinear_units", "0,7")]
    words = [f"{k}={v}" for k, v in pairs] if equals else [word for pair in pairs for word in pair]
    line = next_command(words, folder=directory, seeds=more, nonlinear_units=units, tolerance=0.1)
    before, shared = options_of(shlex.join(["alrnn", "sweep", *words]))
    after, passed_on = options_of(line or "")
    assert passed_on == shared
    assert after["nonlinear_units"] == ("0,7" if units is None else ",".join(map(str, units)))
    extended = parse_seeds(str(after["seeds"]))
    assert len(extended) == more
    assert set(parse_seeds(seeds)) <= set(extended)
    changed = {"seeds", "nonlinear_units"}
    assert {k: v for k, v in after.items() if k not in changed} == {k: v for k, v in before.items() if k not in changed}


@pytest.mark.parametrize("words", ["--seeds 5..40 --output_dir d", "--seeds=5..40 --output_dir=d/"])
def test_a_sweep_that_has_spent_its_level_goes_elsewhere(words: str) -> None:
    line = next_command(words.split(), folder="d", seeds=90, nonlinear_units=None, tolerance=None)
    after, _ = options_of(line or "")
    assert after["output_dir"] == "d-2"
    assert parse_seeds(str(after["seeds"])) == list(range(40, 130))  # none of those that were looked at


@pytest.mark.parametrize(
    ("words", "asked", "line"),
    [
        # other P are another sweep where the level is spent
        ("--seeds 5..40 --output_dir d --nonlinear_units 0,1", {"nonlinear_units": [0, 1, 50]},
         "alrnn sweep --seeds 40,41,42,43,44,45,46,47 --output_dir d-2 --nonlinear_units 0,1,50"),
        # there are looks left
        ("--seeds 5..40 --output_dir d", {"seeds": 20}, "alrnn sweep --seeds 5..40 --output_dir d"),
        # what was stated is kept
        ("--seeds 5 --output_dir d", {"seeds": 9, "stated": ["--solved", "0.9"]},
         "alrnn sweep --seeds 9 --output_dir d && alrnn verdict d --solved 0.9"),
        # of ten seeds some runs are missing: the same command goes on
        ("--seeds 10 --output_dir d", {"seeds": 8}, "alrnn sweep --seeds 10 --output_dir d"),
        ("--seeds 5", {"folder": "a b", "tolerance": 0.004}, "alrnn verdict 'a b' --tolerance 0.004"),
        ("", {}, None),
    ],
)  # fmt: skip
def test_the_command(words: str, asked: dict[str, Any], line: str | None) -> None:
    nothing = {"folder": "d", "seeds": None, "nonlinear_units": None, "tolerance": None}
    assert next_command(words.split(), **(nothing | asked)) == line
