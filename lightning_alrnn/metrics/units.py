"""Activity of nonlinear units over batches and processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_alrnn.analysis.units import UnitStatistics, count_units, unit_statistics


class UnitActivity(Metric):
    """Numbers of steps in which each nonlinear unit is on and in which it switches.

    Args:
        nonlinear_units: Number P of nonlinear units.
        threshold: Share ε of steps in which a unit must switch to be active.

    Example:
        >>> activity = UnitActivity(nonlinear_units=1)
        >>> activity.update(torch.tensor([[[1.0], [-1.0], [-2.0]]]), torch.tensor([3]))
        >>> int(activity.compute()["active"])
        1
    """

    full_state_update = False

    on: Tensor
    switches: Tensor
    steps: Tensor
    moves: Tensor

    def __init__(self, nonlinear_units: int, threshold: float = 1e-3) -> None:
        super().__init__()
        self.nonlinear_units = nonlinear_units
        self.threshold = threshold
        for name in ("on", "switches"):
            self.add_state(name, default=torch.zeros(nonlinear_units, dtype=torch.int64), dist_reduce_fx="sum")
        for name in ("steps", "moves"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")

    def update(self, states: Tensor, lengths: Tensor) -> None:
        """Count a batch.

        Args:
            states: States z_1 … z_T, shape ``(batch, time, M)``.
            lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
        """
        on, switches, steps, moves = count_units(states, lengths, self.nonlinear_units)
        self.on += on
        self.switches += switches
        self.steps += steps
        self.moves += moves

    def compute(self) -> dict[str, Tensor]:
        """Return the scalar fields of :class:`UnitStatistics` over all batches and processes."""
        names = ("active", "always_on", "always_off", "mean_duty")
        statistics = self._statistics()
        return {name: torch.tensor(getattr(statistics, name)) for name in names}

    def statistics(self) -> UnitStatistics:
        """Return the statistics over all batches and processes, on the CPU. Call this method on every process."""
        with self.sync_context():
            return self._statistics()

    def _statistics(self) -> UnitStatistics:
        return unit_statistics(
            self.on.cpu(), self.switches.cpu(), int(self.steps), int(self.moves), threshold=self.threshold
        )
