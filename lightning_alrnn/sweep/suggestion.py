"""The command that would answer the open questions of a verdict."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lightning_alrnn.sweep.seeds import parse_looks, parse_seeds


def next_command(
    arguments: Sequence[str],
    *,
    folder: str,
    seeds: int | None,
    nonlinear_units: Sequence[int] | None,
    tolerance: float | None,
    stated: Sequence[str] = (),
) -> str | None:
    """The ``alrnn sweep`` with these seeds or P, or else ``alrnn verdict`` with this tolerance; or else ``None``."""
    if seeds is None and nonlinear_units is None:
        if tolerance is None:
            return None
        return shlex.join(["alrnn", "verdict", folder, *stated, "--tolerance", f"{tolerance:g}"])
    words = list(arguments)
    written = _value(words, "--seeds")
    tried, looks = parse_seeds(written), parse_looks(written)
    # with so many seeds already, some runs are missing: the same command continues them
    more = seeds is not None and seeds > len(tried)
    # a sweep that adds seeds has spent its level on them
    if looks and (more or nonlinear_units is not None):
        fresh = range(len(tried), len(tried) + (seeds or looks[0]))
        words = _replaced(words, "--seeds", ",".join(map(str, fresh)))
        folder = f"{_value(words, '--output_dir').rstrip('/')}-2"
        words = _replaced(words, "--output_dir", folder)
    elif seeds is not None and more:
        words = _replaced(words, "--seeds", _extended(written, seeds))
    if nonlinear_units is not None:
        words = _replaced(words, "--nonlinear_units", ",".join(map(str, nonlinear_units)))
    line = shlex.join(["alrnn", "sweep", *words])
    return f"{line} && {shlex.join(['alrnn', 'verdict', folder, *stated])}" if stated else line


def _extended(written: str, seeds: int) -> str:
    """The option ``--seeds`` with this number of seeds, including those of the sweep."""
    if "," not in written:
        return str(seeds)
    listed = parse_seeds(written)
    unused = (seed for seed in range(max(listed) + seeds + 1) if seed not in listed)
    while len(listed) < seeds:
        listed.append(next(unused))
    return ",".join(map(str, listed))


def _value(words: Sequence[str], option: str) -> str:
    """The last value of an option, which follows it after a space or "="."""
    values = [
        word.partition("=")[2] if "=" in word else following
        for word, following in zip(words, [*words[1:], ""], strict=False)
        if word == option or word.startswith(f"{option}=")
    ]
    if not values:
        raise ValueError(f"the arguments of the sweep, in its sweep.json, lack {option}: got {shlex.join(words)}")
    return values[-1]


def _replaced(words: Sequence[str], option: str, value: str) -> list[str]:
    """Words with another value of an option."""
    return [
        value if before == option else f"{option}={value}" if word.startswith(f"{option}=") else word
        for before, word in zip(["", *words], words, strict=False)
    ]
