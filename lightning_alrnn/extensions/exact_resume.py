"""What a checkpoint needs beside Lightning's own so that a resumed run is the run that never stopped."""

from __future__ import annotations

import time
from typing import Any, cast

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch import Tensor, nn
from torchmetrics import Metric


class ExactResume(Callback):
    """Keeps what else a run needs in the checkpoint, and TensorBoard's curves free of steps that are taken twice.

    The LightningModules of this package add it by themselves. A run that was killed in mid-epoch and goes on from its
    last checkpoint then ends with the weights, metrics and logged steps of one that never stopped, as the DataModules
    of this package give the batches that were left of the epoch. With another loader, Lightning resumes at the epoch's
    first batch and says so.

    Saved are, of each process, the state of torch's generators (on the CPU and on its GPU) and what ``train_metrics``
    of the LightningModule have summed up of the epoch. Python's and numpy's generators are not: nothing in this package
    draws from them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._trainer: Trainer | None = None
        self._saved: dict[str, list[Tensor]] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer
        self._saved = {}  # of a checkpoint that an earlier call of this Trainer has read

    def state_dict(self) -> dict[str, Any]:
        trainer = self._trainer
        if trainer is None or not trainer.training:
            return self._saved
        own = {"generator": torch.get_rng_state(), "sums": _flatten(_train_metrics(trainer.lightning_module))}
        if trainer.strategy.root_device.type == "cuda":
            own["device_generator"] = torch.cuda.get_rng_state(trainer.strategy.root_device)
        # all processes take part: the first one writes the checkpoint
        return {name: _gather(trainer, value) for name, value in own.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._saved:
            return
        saved, self._saved = self._saved, {}
        if len(saved["generator"]) != trainer.world_size:
            rank_zero_warn(
                f"the checkpoint was written by {len(saved['generator'])} processes and is resumed by "
                f"{trainer.world_size}: random draws, such as those of uniform initial states, and the order of the "
                "data are not those of the run that it continues"
            )
        else:
            own = {name: values[trainer.global_rank].cpu() for name, values in saved.items()}
            torch.set_rng_state(own["generator"])
            if "device_generator" in own and trainer.strategy.root_device.type == "cuda":
                torch.cuda.set_rng_state(own["device_generator"], trainer.strategy.root_device)
            _unflatten(own["sums"], _train_metrics(pl_module))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                drop_later_steps(logger, trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # a checkpoint from the end of an epoch holds that epoch's sums; within an epoch this is not called on resuming
        for metric in _train_metrics(pl_module):
            metric.reset()


def resume_state(pl_module: LightningModule) -> dict[str, list[Tensor]]:
    """The state of the callback for a LightningModule at the end of an epoch that it was trained without a Trainer.

    Args:
        pl_module: LightningModule of this package.

    Returns:
        What :meth:`ExactResume.load_state_dict` takes.
    """
    return {"generator": [torch.get_rng_state()], "sums": [_flatten(_train_metrics(pl_module))]}


def _train_metrics(pl_module: LightningModule) -> list[Metric]:
    return [metric for metric in cast(nn.ModuleDict, pl_module.train_metrics).values() if isinstance(metric, Metric)]


def _flatten(metrics: list[Metric]) -> Tensor:
    """The states of metrics, as numbers in a row: float64 on the CPU holds float32 and counts exactly."""
    states = [
        value.flatten() for metric in metrics for value in metric.metric_state.values() if isinstance(value, Tensor)
    ]
    return torch.cat([state.cpu().double() for state in states]) if states else torch.zeros(0, dtype=torch.float64)


def _unflatten(numbers: Tensor, metrics: list[Metric]) -> None:
    place = 0
    for metric in metrics:
        metric.reset()  # which is logged again at its first update
        for name, value in metric.metric_state.items():
            if isinstance(value, Tensor):
                part = numbers[place : place + value.numel()]
                setattr(metric, name, part.view(value.shape).to(value))
                place += value.numel()


def _gather(trainer: Trainer, value: Tensor) -> list[Tensor]:
    """The value of each process, on the CPU."""
    if trainer.world_size == 1:
        return [value]
    own = value.to(trainer.strategy.root_device)  # NCCL cannot gather what lies on the CPU
    parts = [torch.empty_like(own) for _ in range(trainer.world_size)]
    torch.distributed.all_gather(parts, own)
    return [part.cpu() for part in parts]


def drop_later_steps(logger: TensorBoardLogger, step: int) -> None:
    """Tell TensorBoard that the run begins again at a step, whatever it has of later ones.

    Args:
        logger: Logger of the run.
        step: First step that is logged anew.
    """
    writer: Any = logger.experiment  # TensorBoard's rule: events from this step on, written before this one, are void
    event = Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))
    writer.file_writer.add_event(event, step)
