"""Weighted means that do not halt the device."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class WeightedMean(Metric):
    """Σ w x / Σ w over batches and processes; 0 where all weights are 0.

    ``torchmetrics.MeanMetric`` looks for NaN at every update, which waits for the device, and leaves the weights out
    when told not to (``nan_strategy="disable"``, torchmetrics 1.9).

    Args:
        *shape: Of the values, none for scalars: means of several networks are kept side by side.

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

    def __init__(self, *shape: int) -> None:
        super().__init__()
        self.add_state("total", default=torch.zeros(shape), dist_reduce_fx="sum")
        self.add_state("weight", default=torch.zeros(shape), dist_reduce_fx="sum")

    def update(self, value: Tensor, weight: Tensor) -> None:
        """Add the mean of a batch.

        Args:
            value: The mean, of the metric's shape ``(…)``.
            weight: Its total weight, of the same shape.
        """
        self.total += value * weight
        self.weight += weight

    def compute(self) -> Tensor:
        """The mean so far."""
        return self.total / torch.where(self.weight > 0, self.weight, 1.0)


class WeightedSum(Metric):
    """Σ_i c_i · (mean of term i) over batches and processes, each term a weighted mean of its own.

    A loss of several terms, of which one is a mean over steps and another over sequences, is exact so for batches of
    any size; the mean of the batches' losses is not.

    Args:
        coefficients: c_i of each term.

    Example:
        >>> loss = WeightedSum([1.0, 10.0])
        >>> loss.update(torch.tensor([1.0, 0.5]), torch.tensor([3.0, 1.0]))
        >>> loss.update(torch.tensor([5.0, 0.7]), torch.tensor([1.0, 1.0]))
        >>> loss.compute()
        tensor(8.)
    """

    full_state_update = False

    total: Tensor
    weight: Tensor

    def __init__(self, coefficients: Sequence[float]) -> None:
        super().__init__()
        self.coefficients = list(coefficients)
        self.add_state("total", default=torch.zeros(len(self.coefficients)), dist_reduce_fx="sum")
        self.add_state("weight", default=torch.zeros(len(self.coefficients)), dist_reduce_fx="sum")

    def update(self, values: Tensor, weights: Tensor) -> None:
        """Add the terms of a batch.

        Args:
            values: The terms' means, shape ``(terms,)``.
            weights: Their total weights, shape ``(terms,)``.
        """
        self.total += values * weights
        self.weight += weights

    def compute(self) -> Tensor:
        """The sum so far."""
        means = self.total / torch.where(self.weight > 0, self.weight, 1.0)
        return (means * means.new_tensor(self.coefficients)).sum()
