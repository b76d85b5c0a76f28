"""Lists of whole numbers in the options of ``alrnn sweep``: numbers of units and of sequences, seeds, and looks."""

from __future__ import annotations

import math
import re
from typing import Any

_MOST_SEEDS = 100_000
_FIRST_LOOK, _LOOK_GROWTH = 8, 1.5  # 8 seeds can support a claim at a twelfth of the level 0.05


def parse_counts(text: str, option: str) -> list[int]:
    """The integers in a text such as ``"0,1,5"``."""
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d+", part) for part in parts):
        raise ValueError(f"{option} must be integers separated by commas, such as 0,1,5, got {text!r}")
    return check_unique([int(part) for part in parts], option)


def parse_seeds(text: str) -> list[int]:
    """The seeds of ``"5"`` (five seeds from 0), ``"3,4"`` (these two), ``"3,"`` (this one) or ``"5..40"`` (40 seeds).

    Example:
        >>> parse_seeds("3"), parse_seeds("3,4"), parse_seeds("3,"), parse_seeds("2..3")
        ([0, 1, 2], [3, 4], [3], [0, 1, 2])
    """
    if ".." in text:
        return list(range(parse_looks(text)[-1]))
    if "," in text:
        return parse_counts(text.removesuffix(","), "--seeds")
    (count,) = parse_counts(text, "--seeds")
    if not 1 <= count <= _MOST_SEEDS:
        raise ValueError(f"--seeds must be at least 1 and at most {_MOST_SEEDS:,}, got {count:,}")
    return list(range(count))


def parse_looks(text: str) -> tuple[int, ...]:
    """The numbers of seeds at which a sweep with a range such as ``"5..40"`` looks at its runs; otherwise none."""
    if ".." not in text:
        return ()
    first, _, last = text.partition("..")
    if not (first.strip().isdecimal() and last.strip().isdecimal() and 1 <= int(first) < int(last)):
        raise ValueError(f"--seeds must be the smallest and the largest number of seeds, such as 5..40, got {text!r}")
    if int(last) > _MOST_SEEDS:
        raise ValueError(f"--seeds must be at most {_MOST_SEEDS:,}, got {text!r}")
    return plan_looks(int(first), int(last))


def plan_looks(first: int, last: int) -> tuple[int, ...]:
    """Numbers of seeds at which a sweep looks at its runs, each half as large again as the one before.

    Example:
        >>> plan_looks(5, 40)
        (8, 12, 18, 27, 40)
    """
    looks = [max(first, _FIRST_LOOK)]
    while looks[-1] < last:
        looks.append(math.ceil(_LOOK_GROWTH * looks[-1]))
    return (*looks[:-1], last)


def check_unique(values: list[Any], option: str) -> list[Any]:
    """The values of an option, none of which may occur twice."""
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{option} has {value} twice")
    return values
