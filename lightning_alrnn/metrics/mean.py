"""Weighted means that do not wait for the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class WeightedMean(Metric):
    """Weighted mean Σ w x / Σ w over batches and processes; 0 if all weights are 0.

    Args:
        *shape: Shape of the values, such as the number of networks; nothing for scalars.

    Example:
        >>> mean = WeightedMean()
        >>> mean.update(torch.tensor(1.0), torch.tensor(3.0))
        >>> mean.update(torch.tensor(5.0), torch.tensor(1.0))
        >>> mean.compute()
        tensor(2.)
    """

    # not torchmetrics.MeanMetric: its check for NaN waits for the device, and without the check 1.9 ignores the weights
    full_state_update = False

    total: Tensor
    weight: Tensor

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros(shape), dist_reduce_fx="sum")
        self.add_state("weight", default=torch.zeros(shape), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor) -> None:
        """Add the mean of a batch.

        Args:
            value: Mean of the batch, of the shape of the metric ``(…)``.
            weight: Total weight of the batch, of the same shape.
        """
        self.total += value * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """Return the mean."""
        return self.total / torch.where(self.weight > 0, self.weight, 1.0)


class WeightedSum(WeightedMean):
    """Sum Σ_i c_i · (mean of term i) over batches and processes, in which each term is a separate weighted mean.

    This sum is the exact loss for batches of any size if one term is a mean over steps and another one a mean over
    sequences. The mean of the losses of the batches is not exact.

    Args:
        coefficients: Coefficient c_i of each term.

    Example:
        >>> loss = WeightedSum([1.0, 10.0])
        >>> loss.update(torch.tensor([1.0, 0.5]), torch.tensor([3.0, 1.0]))
        >>> loss.update(torch.tensor([5.0, 0.7]), torch.tensor([1.0, 1.0]))
        >>> loss.compute()
        tensor(8.)
    """

    def __init__(self, coefficients: Sequence[float]) -> None:
        super().__init__(len(coefficients))
        self.coefficients = list(coefficients)

    def update(self, values: Tensor, weights: Tensor) -> None:
        """Add the terms of a batch.

        Args:
            values: Means of the terms, shape ``(terms,)``.
            weights: Total weights of the terms, shape ``(terms,)``.
        """
        super().update(values, weights)

    def compute(self) -> Tensor:
        """Return the sum."""
        means = super().compute()
        return (means * means.new_tensor(self.coefficients)).sum()
