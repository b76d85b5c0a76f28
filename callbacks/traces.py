"""Targets and outputs of single trials over time, in TensorBoard."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks.base import PeriodicCallback, names_of
from lightning_alrnn.callbacks.unit_ablation import Ablatable
from lightning_alrnn.plotting.traces import plot_traces

_TRIALS = 64  # that three of each condition are chosen from


class TraceFigures(PeriodicCallback):
    """Draws the figure ``val/traces`` for tasks with targets at every step: targets and outputs of single trials.

    :class:`Dashboard` runs this callback. The trials are from the first batch of the first process, three of each
    group. The LightningModule is an :class:`ALRNNModule` or has its methods; with others there is no figure.
    """

    def __init__(self) -> None:
        super().__init__()
        self._traces: tuple[Tensor, Tensor, Tensor, Tensor | None] | None = None

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._due = self.is_due(trainer)
        self._names = names_of(trainer, pl_module, "group_names")
        kind = "class_names" if getattr(pl_module, "objective", None) == "classification" else "output_names"
        self._channels = names_of(trainer, pl_module, kind)

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        if not self._due or batch_idx > 0 or dataloader_idx > 0 or not isinstance(batch, SequenceBatch):
            return
        if not isinstance(pl_module, Ablatable) or getattr(pl_module, "target_step", None) != "every":
            return
        states = outputs.get("states") if isinstance(outputs, Mapping) else None
        if not isinstance(states, Tensor):
            return
        some = SequenceBatch(*(None if field is None else field[:_TRIALS] for field in batch))  # type: ignore[arg-type]
        rows = torch.arange(len(some.inputs), device=states.device)
        predicted = pl_module.read_out(states[:_TRIALS], states[rows, some.lengths - 1])
        counted = pl_module.task_loss(predicted, some)[1] > 0
        self._traces = predicted, some.targets, counted, some.group

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self._due:
            self.report(trainer, pl_module, {})

    def figures(self) -> dict[str, Figure]:
        if self._traces is None:
            return {}
        outputs, targets, counted, group = self._traces
        labels = None if group is None else group.cpu()
        channels = self._channels if self._channels is not None and len(self._channels) == outputs.shape[-1] else None
        return {"val/traces": plot_traces(outputs.cpu(), targets.cpu(), counted.cpu(), labels, self._names, channels)}
