"""Exact sequences by length."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from lightning_fabric.utilities.exceptions import MisconfigurationException
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_alrnn.callbacks.base import PeriodicCallback
from lightning_alrnn.metrics.length import LengthCounter
from lightning_alrnn.plotting.length import plot_length_accuracy


class LengthAccuracy(PeriodicCallback):
    """Logs the share of sequences that are right in every token, by the length of their target.

    Logged every epoch of validation, and in testing under ``test/``, over all processes:

    - ``val/accuracy_length_1_6``, …, ``val/accuracy_length_37_up``: the share among targets of 1 to 6, …, 37 or more
      tokens; NaN where there is no such target.

    The figures ``val/accuracy_by_length`` and ``test/accuracy_by_length`` show each length. ``validation_step`` and
    ``test_step`` of the LightningModule have to return a dict with ``"correct"``, bool of shape ``(batch,)``, and
    ``"target_lengths"``, int64 of shape ``(batch,)``, as :class:`ALRNNSeq2Seq` does.

    Args:
        bins: the shortest length of each bin, in increasing order; the last bin has no end. The default has a border at
            22, the longest target that SCAN's length split trains on.
        longest: the greatest length that the figure tells apart.
        every_n_epochs: epochs between two evaluations.
        figure_every_n_epochs: epochs between two figures, 0 for none.

    Raises:
        ValueError: if the bins do not increase, or ``longest`` does not reach the last of them.
    """

    def __init__(
        self,
        bins: Sequence[int] = (1, 7, 13, 23, 29, 37),
        longest: int = 100,
        every_n_epochs: int = 1,
        figure_every_n_epochs: int = 25,
    ) -> None:
        super().__init__(every_n_epochs, figure_every_n_epochs)
        if not bins or bins[0] < 0 or any(low >= high for low, high in pairwise(bins)):
            raise ValueError(f"bins must be lengths in increasing order, such as (1, 7, 13), got {tuple(bins)}")
        if longest < max(bins[-1], 1):
            raise ValueError(
                f"longest must be at least {max(bins[-1], 1)}, to reach the last of the bins, got {longest}"
            )
        self.bins = tuple(bins)
        self.longest = longest
        self._stage = "val"

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer, pl_module, "val")

    def on_test_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._start(trainer, pl_module, "test")

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if self._due:
            self._counter.update(*_counts_of(outputs, pl_module, self._stage))

    on_test_batch_end = on_validation_batch_end

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._due:
            return
        self.result: tuple[Tensor, Tensor] = self._counter.compute()
        right, total = (counts.tolist() for counts in self.result)
        values = {}
        for low, high in pairwise((*self.bins, self.longest + 1)):
            name = f"{low}_up" if high > self.longest else f"{low}_{high - 1}"
            count = sum(total[low:high])
            values[f"{self._stage}/accuracy_length_{name}"] = sum(right[low:high]) / count if count else math.nan
        self.report(trainer, pl_module, values)

    on_test_epoch_end = on_validation_epoch_end

    def figures(self) -> dict[str, Figure]:
        return {f"{self._stage}/accuracy_by_length": plot_length_accuracy(*self.result)}

    def _start(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._stage = stage
        self._due = self.is_due(trainer)
        if self._due:
            self._counter = LengthCounter(self.longest).to(pl_module.device)


def _counts_of(outputs: Any, pl_module: LightningModule, stage: str) -> tuple[Tensor, Tensor]:
    found = (outputs.get("correct"), outputs.get("target_lengths")) if isinstance(outputs, Mapping) else (None, None)
    if not all(isinstance(values, Tensor) and values.ndim == 1 for values in found):
        step = {"val": "validation_step", "test": "test_step"}[stage]
        raise MisconfigurationException(
            f"LengthAccuracy needs {type(pl_module).__name__}.{step} to return a dict with "
            '"correct", bool of shape (batch,), and "target_lengths", int64 of shape (batch,): '
            "use ALRNNSeq2Seq, return them, or leave this callback out"
        )
    return found  # type: ignore[return-value]
