"""When a sweep that adds seeds looks at its runs."""

from __future__ import annotations

import math

_FIRST, _GROWTH = 8, 1.5


def plan_looks(first: int, last: int) -> tuple[int, ...]:
    """Numbers of seeds at which a sweep looks at its runs, in order; the last is the largest.

    The level of the claims is divided equally between the looks. The first is at 8 seeds or more, as so many can make a
    claim at a twelfth of 0.05; each further one has half as many seeds again.

    Example:
        >>> plan_looks(5, 40)
        (8, 12, 18, 27, 40)
    """
    looks = [max(first, _FIRST)]
    while looks[-1] < last:
        looks.append(math.ceil(_GROWTH * looks[-1]))
    return (*looks[:-1], last)
