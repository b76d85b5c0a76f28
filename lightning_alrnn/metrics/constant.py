"""What a regression is worth without looking at the inputs."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class ConstantMSE(Metric):
    """Mean squared error of the best constant prediction, over batches and processes: the variance of the targets.

    For d outputs with targets y, the best constants are their means, and the error is (1/d) Σ_i (E[y_i²] − E[y_i]²); 0
    before any targets.

    Args:
        outputs: d.

    Example:
        >>> import torch
        >>> metric = ConstantMSE(1)
        >>> metric.update(torch.zeros(2, 1), torch.tensor([[1.0], [3.0]]))
        >>> metric.compute()
        tensor(1.)
    """

    full_state_update = False

    count: Tensor
    total: Tensor
    squares: Tensor

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.zeros(outputs), dist_reduce_fx="sum")
        self.add_state("squares", default=torch.zeros(outputs), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor) -> None:
        """Add the targets of a batch.

        Args:
            outputs: shape ``(n, d)``; not looked at, as all metrics of a regression are given them.
            targets: shape ``(n, d)``.
        """
        self.count += len(targets)
        self.total += targets.sum(dim=0)
        self.squares += targets.square().sum(dim=0)

    def compute(self) -> Tensor:
        """The error so far, a scalar."""
        count = self.count.clamp(min=1)
        return (self.squares / count - (self.total / count).square()).clamp(min=0).mean()
