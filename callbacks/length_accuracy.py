"""Accuracy by the length of the target."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, TypeVar

from lightning_fabric.utilities.exceptions import MisconfigurationException
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_alrnn.callbacks.base import PeriodicCallback
from lightning_alrnn.metrics.length import LengthCounter
from lightning_alrnn.readings.lengths import BINS, LengthScores

_Value = TypeVar("_Value")


class LengthAccuracy(PeriodicCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.lengths.LengthScores`: accuracy by length of the target.

    In a test the keys and figures begin with ``test/`` instead of ``val/``. The figures ``val/accuracy_by_length`` and
    ``test/accuracy_by_length`` show each length. ``validation_step`` and ``test_step`` of the LightningModule return a
    dict with ``"correct"``, bool of shape ``(batch,)``, and ``"target_lengths"``, int64 of shape ``(batch,)``, as
    :class:`ALRNNSeq2Seq` does.

    Args:
        bins: Shortest length of each bin, in increasing order; the last bin has no end.
        longest: Largest length that the figure shows separately.
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.

    Raises:
        ValueError: If the bins do not increase, or ``longest`` does not reach the last of them.
    """

    def __init__(
        self, bins: Sequence[int] = BINS, longest: int = 100, every_n_epochs: int = 1, figure_every_n_epochs: int = 25
    ) -> None:
        super().__init__(every_n_epochs, figure_every_n_epochs)
        if not bins or bins[0] < 0 or any(low >= high for low, high in pairwise(bins)):
            raise ValueError(f"bins must be lengths in increasing order, such as (1, 7, 13), got {tuple(bins)}")
        if longest < max(bins[-1], 1):
            raise ValueError(
                f"longest must be at least {max(bins[-1], 1)}, to reach the last of the bins, got {longest}"
            )
        self.reading = LengthScores(bins)
        self.bins = self.reading.bins
        self.longest = longest
        self._stage = "val"

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stage = "test" if trainer.testing else "val"
        self._due = self.is_due(trainer)
        if self._due:
            self._counter = LengthCounter(self.longest).to(pl_module.device)

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, *batch: Any, **indices: Any
    ) -> None:
        if self._due:
            self._counter.update(*_counts_of(outputs, pl_module, self._stage))

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._due:
            self.result: tuple[Tensor, Tensor] = self._counter.compute()
            self.report(trainer, pl_module, self._of_stage(self.reading.values(self.result)))

    on_test_epoch_start = on_validation_epoch_start
    on_test_batch_end = on_validation_batch_end
    on_test_epoch_end = on_validation_epoch_end

    def figures(self) -> dict[str, Figure]:
        return self._of_stage(self.reading.figures(self.result))

    def _of_stage(self, named: dict[str, _Value]) -> dict[str, _Value]:
        return {name.replace("val", self._stage, 1): value for name, value in named.items()}


def _counts_of(outputs: Any, pl_module: LightningModule, stage: str) -> tuple[Tensor, Tensor]:
    entries = outputs if isinstance(outputs, Mapping) else {}
    correct, lengths = entries.get("correct"), entries.get("target_lengths")
    if not all(isinstance(values, Tensor) and values.ndim == 1 for values in (correct, lengths)):
        step = {"val": "validation_step", "test": "test_step"}[stage]
        raise MisconfigurationException(
            f"LengthAccuracy needs {type(pl_module).__name__}.{step} to return a dict with "
            '"correct", bool of shape (batch,), and "target_lengths", int64 of shape (batch,): '
            "use ALRNNSeq2Seq, return them, or leave this callback out"
        )
    return correct, lengths  # type: ignore[return-value]
