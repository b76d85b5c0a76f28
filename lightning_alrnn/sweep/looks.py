"""The numbers of seeds at which a sweep that adds seeds looks at its runs."""

from __future__ import annotations

import math

_FIRST, _GROWTH = 8, 1.5


def plan_looks(first: int, last: int) -> tuple[int, ...]:
    """Numbers of seeds in ascending order, each half as large again as the one before.

    The first is at least 8, because 8 seeds can support a claim at a twelfth of the level 0.05.

    Example:
        >>> plan_looks(5, 40)
        (8, 12, 18, 27, 40)
    """
    looks = [max(first, _FIRST)]
    while looks[-1] < last:
        looks.append(math.ceil(_GROWTH * looks[-1]))
    return (*looks[:-1], last)
