"""A weighted mean that does not halt the device."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class WeightedMean(Metric):
    """Σ w x / Σ w over batches and processes; 0 where all weights are 0.

    ``torchmetrics.MeanMetric`` looks for NaN at every update, which waits for the device, and leaves the weights out
    when told not to (``nan_strategy="disable"``, torchmetrics 1.9).

    Example:
        >>> mean = WeightedMean()
        >>> mean.update(torch.tensor(1.0), torch.tensor(3.0))
        >>> mean.update(torch.tensor(5.0), torch.tensor(1.0))
        >>> mean.compute()
        tensor(2.)
    """

    full_state_update = False

    total: Tensor
    weight: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")
        self.add_state("weight", default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor) -> None:
        """Add a mean ``value`` with its total ``weight``, both scalars."""
        self.total += value * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The mean so far."""
        return self.total / torch.where(self.weight > 0, self.weight, 1.0)
