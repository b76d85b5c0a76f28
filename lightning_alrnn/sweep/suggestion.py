"""The command that would tell what a verdict does not."""

from __future__ import annotations

import shlex
from collections.abc import Sequence

from lightning_alrnn.sweep.plan import parse_looks, parse_seeds


def next_command(
    arguments: Sequence[str],
    *,
    folder: str,
    seeds: int | None,
    nonlinear_units: Sequence[int] | None,
    tolerance: float | None,
    stated: Sequence[str] = (),
) -> str | None:
    """The ``alrnn sweep`` or ``alrnn verdict`` that would tell more, ready to paste; ``None`` where nothing is given.

    ``arguments`` are what stood behind ``alrnn sweep``, ``stated`` the options of ``alrnn verdict`` that the runs were
    judged by. ``seeds``, ``nonlinear_units`` and ``tolerance`` are what would tell; the tolerance counts where neither
    of the others is given. A sweep that added seeds by itself has spent its level on them, so that for more of them, or
    other P, fresh seeds and a folder are named.

    Example:
        >>> arguments = ["--config", "digits", "--nonlinear_units", "0,5", "--seeds", "5", "--output_dir", "d"]
        >>> next_command(arguments, folder="d", seeds=12, nonlinear_units=None, tolerance=None)
        'alrnn sweep --config digits --nonlinear_units 0,5 --seeds 12 --output_dir d'
        >>> next_command(arguments, folder="d", seeds=None, nonlinear_units=None, tolerance=0.01)
        'alrnn verdict d --tolerance 0.01'
    """
    if seeds is None and nonlinear_units is None:
        if tolerance is None:
            return None
        return shlex.join(["alrnn", "verdict", folder, *stated, "--tolerance", f"{tolerance:g}"])
    words = list(arguments)
    written = _value(words, "--seeds")
    tried, looks = parse_seeds(written), parse_looks(written)
    # where there are as many already some runs are missing, and the same command goes on
    more = seeds is not None and seeds > len(tried)
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
    """As many seeds, those that there are among them."""
    if "," not in written:
        return str(seeds)
    listed = parse_seeds(written)
    unused = (seed for seed in range(max(listed) + seeds + 1) if seed not in listed)
    while len(listed) < seeds:
        listed.append(next(unused))
    return ",".join(map(str, listed))


def _value(words: Sequence[str], option: str) -> str:
    """The value of an option, which stands behind it or behind "="; the last one counts."""
    values = [
        word.partition("=")[2] if "=" in word else words[place + 1]
        for place, word in enumerate(words)
        if word == option or word.startswith(f"{option}=")
    ]
    return values[-1]


def _replaced(words: Sequence[str], option: str, value: str) -> list[str]:
    """Words with another value of an option."""
    replaced: list[str] = []
    is_value = False
    for word in words:
        if is_value:
            word = value
        elif word.startswith(f"{option}="):
            word = f"{option}={value}"
        is_value = word == option
        replaced.append(word)
    return replaced
