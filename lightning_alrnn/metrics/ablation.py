"""Sums of scores with each unit ablated, over batches and processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class AblationSums(Metric):
    """Sum of the results of :func:`~lightning_alrnn.analysis.ablation.ablation_sums`.

    Args:
        nonlinear_units: Number P of nonlinear units.

    Example:
        >>> sums = AblationSums(nonlinear_units=0)
        >>> sums.update(torch.tensor([[1.0, 2.0, 1.0, 2.0]]))
        >>> sums.update(torch.tensor([[2.0, 2.0, 0.0, 2.0]]))
        >>> sums.total_of_all().tolist()
        [[3.0, 4.0, 1.0, 4.0]]
    """

    full_state_update = False

    total: Tensor

    def __init__(self, nonlinear_units: int) -> None:
        super().__init__()
        shape = (1 + 2 * nonlinear_units, 4)
        self.add_state("total", default=torch.zeros(shape, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, sums: Tensor) -> None:
        """Add the sums of a batch.

        Args:
            sums: Result of :func:`~lightning_alrnn.analysis.ablation.ablation_sums`, shape ``(1 + 2 P, 4)``.
        """
        self.total += sums.to(self.total)

    def compute(self) -> Tensor:
        """Return the sums."""
        return self.total

    def total_of_all(self) -> Tensor:
        """Return the sums ``(1 + 2 P, 4)`` over all batches and processes, on the CPU. Call this on every process."""
        with self.sync_context():
            return self.total.cpu().clone()
