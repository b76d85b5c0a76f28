"""Errors of a regression and of the best constant prediction."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class MaskedMSE(Metric):
    """Mean squared error of the predictions that count, over batches and processes; NaN without predictions.

    Example:
        >>> metric = MaskedMSE()
        >>> metric.update(torch.tensor([[1.0], [5.0]]), torch.zeros(2, 1), torch.tensor([True, False]))
        >>> metric.compute()
        tensor(1.)
    """

    # not torchmetrics.MeanSquaredError: to select the predictions that count would wait for the device
    full_state_update = False

    count: Tensor
    total: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.tensor(0.0), dist_reduce_fx="sum")

    def update(self, outputs: Tensor, targets: Tensor, counted: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            outputs: Predictions, shape ``(…, d)``.
            targets: Targets, shape ``(…, d)``.
            counted: Mask of the predictions that count, bool of shape ``(…)``; ``None`` if all count.
        """
        errors, count = _counted_rows((outputs - targets).square(), counted)
        self.count += count * errors.shape[1]
        self.total = self.total + errors.sum()  # not in place, which would keep a sum of float64 in float32

    def compute(self) -> Tensor:
        """Return the error, a scalar."""
        return self.total / self.count


class ConstantMSE(Metric):
    """Mean squared error of the best constant prediction, over batches and processes: the variance of the targets.

    For d outputs with targets y, the best constants are the means of the targets, and the error is
    (1/d) Σ_i (E[y_i²] − E[y_i]²). Without targets it is 0.

    Args:
        outputs: Number d of outputs.

    Example:
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

    def update(self, outputs: Tensor, targets: Tensor, counted: Tensor | None = None) -> None:
        """Add the targets of a batch.

        Args:
            outputs: Predictions, shape ``(…, d)``. They are not used, but all metrics of a regression get them.
            targets: Targets, shape ``(…, d)``.
            counted: Mask of the targets that count, bool of shape ``(…)``; ``None`` if all count.
        """
        targets, count = _counted_rows(targets, counted)
        self.count += count
        self.total += targets.sum(dim=0)
        self.squares += targets.square().sum(dim=0)

    def compute(self) -> Tensor:
        """Return the error, a scalar."""
        count = self.count.clamp(min=1)
        return (self.squares / count - (self.total / count).square()).clamp(min=0).mean()


def _counted_rows(values: Tensor, counted: Tensor | None) -> tuple[Tensor, Tensor | int]:
    """Values ``(…, d)`` as rows, zero where they do not count, and the number of rows that count."""
    rows = values.flatten(0, -2)
    if counted is None:
        return rows, len(rows)
    return torch.where(counted.flatten().unsqueeze(-1), rows, 0.0), counted.sum()
