"""How does the accuracy depend on the length of the target sequence?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

from matplotlib.figure import Figure
from torch import Tensor

from lightning_alrnn.plotting.length import plot_length_accuracy
from lightning_alrnn.readings.base import Reading, key_table

BINS = (1, 7, 13, 23, 29, 37)
"""Shortest length of each bin. The longest target that SCAN's length split trains on has 22 tokens."""


class LengthScores(Reading):
    """Share of sequences with every token correct, by the length of their target.

    Args:
        bins: Shortest length of each bin, in increasing order; the last bin has no end.
    """

    title = "lengths"
    keys = key_table(
        """
        val/accuracy_length_1_6, val/accuracy_length_7_12, val/accuracy_length_13_22, val/accuracy_length_23_28,
            val/accuracy_length_29_36, val/accuracy_length_37_up | share | sequences with every token correct, among
            targets with this number of tokens; NaN without such a target | Validation on SCAN's length split has the
            lengths of the training; only the test has longer ones
        """
    )
    place = 11
    callback = "LengthAccuracy"

    def __init__(self, bins: Sequence[int] = BINS) -> None:
        self.bins = tuple(bins)

    def values(self, result: tuple[Tensor, Tensor]) -> dict[str, float]:
        right, total = (counts.tolist() for counts in result)
        values = {}
        for low, high in pairwise((*self.bins, len(total))):
            count = sum(total[low:high])
            name = f"{low}_up" if high == len(total) else f"{low}_{high - 1}"
            values[f"val/accuracy_length_{name}"] = sum(right[low:high]) / count if count else math.nan
        return values

    def figures(self, result: tuple[Tensor, Tensor]) -> dict[str, Figure]:
        return {"val/accuracy_by_length": plot_length_accuracy(*result)}
