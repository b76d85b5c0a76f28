"""Mean and covariance of states over batches and processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_alrnn.analysis.spectrum import PrincipalComponents, components_of_moments, sum_moments


class StateMoments(Metric):
    """Sums of states and of their outer products, which determine the principal components.

    The sums are in float64: with a million steps, they resolve variances down to about 1e-12 of the mean square.

    Args:
        size: Number M of units.

    Example:
        >>> moments = StateMoments(size=2)
        >>> moments.update(torch.tensor([[[3.0, 1.0], [-3.0, 1.0]]]), torch.tensor([2]))
        >>> moments.components().share.tolist()
        [1.0, 0.0]
    """

    full_state_update = False

    count: Tensor
    total: Tensor
    outer: Tensor

    def __init__(self, size: int) -> None:
        super().__init__()
        self.add_state("count", default=torch.tensor(0), dist_reduce_fx="sum")
        self.add_state("total", default=torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("outer", default=torch.zeros(size, size, dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, states: Tensor, lengths: Tensor) -> None:
        """Add a batch.

        Args:
            states: States z_1 … z_T, shape ``(batch, time, M)``.
            lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
        """
        # first to the metric's device: one without float64 (Apple's MPS) leaves the sums to the CPU
        states, lengths = states.to(self.total.device), lengths.to(self.total.device)
        count, total, outer = sum_moments(states, lengths)
        self.count += count
        self.total += total
        self.outer += outer

    def compute(self) -> dict[str, Tensor]:
        """Return the total ``variance`` and the ``share`` of the leading component, over all batches and processes."""
        components = self._components()
        return {"variance": components.variance.sum(), "share": components.share[0]}

    def components(self) -> PrincipalComponents:
        """Return the principal components over all batches and processes, on the CPU. Call this on every process."""
        with self.sync_context():
            return self._components()

    def _components(self) -> PrincipalComponents:
        return components_of_moments(int(self.count), self.total.cpu(), self.outer.cpu())
