"""Correct sequences by length, over batches and processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class LengthCounter(Metric):
    """Numbers of sequences and of correct sequences by the length of their target.

    Args:
        longest: Largest length that is counted separately, at least 1. Longer sequences count as sequences of this
            length.

    Raises:
        ValueError: If ``longest`` is less than 1.

    Example:
        >>> counter = LengthCounter(longest=3)
        >>> counter.update(torch.tensor([True, False, True]), torch.tensor([1, 3, 8]))
        >>> counter.compute()
        (tensor([0, 1, 0, 1]), tensor([0, 1, 0, 2]))
    """

    full_state_update = False

    right: Tensor
    total: Tensor

    def __init__(self, longest: int = 100) -> None:
        super().__init__()
        if longest < 1:
            raise ValueError(f"longest must be at least 1, got {longest}")
        self.longest = longest
        for name in ("right", "total"):
            self.add_state(name, default=torch.zeros(longest + 1, dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, correct: Tensor, lengths: Tensor) -> None:
        """Count a batch.

        Args:
            correct: Whether each sequence is correct, bool of shape ``(batch,)``.
            lengths: Lengths of the targets, int64 of shape ``(batch,)``. Sequences with a negative length are left out.
        """
        index = lengths.clamp(0, self.longest)
        counted = lengths >= 0
        self.total.index_add_(0, index, counted.long())
        self.right.index_add_(0, index, (correct & counted).long())

    def compute(self) -> tuple[Tensor, Tensor]:
        """Return the numbers of correct and of all sequences by length, int64 of shape ``(longest + 1,)`` each."""
        return self.right.clone(), self.total.clone()
