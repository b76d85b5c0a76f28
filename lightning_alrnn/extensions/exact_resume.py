"""A callback with which a resumed run equals a run that was never interrupted."""

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
    """Makes a resumed run end with the weights, metrics and logged steps of an uninterrupted run.

    The callback saves the random state of PyTorch and the sums of ``train_metrics`` of each process. Resuming within an
    epoch needs a DataModule of this package. The LightningModules of this package add the callback.
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
        state = {"generator": torch.get_rng_state(), "sums": _flatten(_train_metrics(trainer.lightning_module))}
        if trainer.strategy.root_device.type == "cuda":
            state["device_generator"] = torch.cuda.get_rng_state(trainer.strategy.root_device)
        return {name: _gather(trainer, value) for name, value in state.items()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._saved = state_dict

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._saved:
            return
        loop = trainer.fit_loop
        if loop.restarted_on_epoch_end:
            # with max_steps, Lightning would end this epoch once more, and the next one would have the data of its next
            loop.epoch_progress.increment_completed()
            loop.epoch_loop.restarting = False
            loop.reset_restart_stage()
        saved, self._saved = self._saved, {}
        if len(saved["generator"]) != trainer.world_size:
            rank_zero_warn(
                f"the checkpoint was written by {len(saved['generator'])} processes and is resumed by "
                f"{trainer.world_size}: random initial states and the order of the data differ from those of the run "
                "that it continues"
            )
        else:
            state = {name: values[trainer.global_rank].cpu() for name, values in saved.items()}
            torch.set_rng_state(state["generator"])
            if "device_generator" in state and trainer.strategy.root_device.type == "cuda":
                torch.cuda.set_rng_state(state["device_generator"], trainer.strategy.root_device)
            _unflatten(state["sums"], _train_metrics(pl_module))
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                drop_later_steps(logger, trainer.global_step)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # a checkpoint from the end of an epoch holds its sums; a run that resumes within an epoch does not start one
        for metric in _train_metrics(pl_module):
            metric.reset()


def resume_state(pl_module: LightningModule) -> dict[str, list[Tensor]]:
    """Return the state of the callback at the end of an epoch for a module that was trained without a Trainer."""
    return {"generator": [torch.get_rng_state()], "sums": [_flatten(_train_metrics(pl_module))]}


def _train_metrics(pl_module: LightningModule) -> list[Metric]:
    return [metric for metric in cast(nn.ModuleDict, pl_module.train_metrics).values() if isinstance(metric, Metric)]


def _flatten(metrics: list[Metric]) -> Tensor:
    """Return the states of metrics in one tensor; float64 on the CPU holds float32 and counts exactly."""
    states = [value for metric in metrics for value in metric.metric_state.values() if isinstance(value, Tensor)]
    return torch.cat([torch.zeros(0), *(state.flatten().cpu().double() for state in states)]).double()


def _unflatten(numbers: Tensor, metrics: list[Metric]) -> None:
    for metric in metrics:
        metric.reset()  # it is logged again at its first update
        for name, value in metric.metric_state.items():
            if isinstance(value, Tensor):
                part, numbers = numbers[: value.numel()], numbers[value.numel() :]
                setattr(metric, name, part.view(value.shape).to(value))


def _gather(trainer: Trainer, value: Tensor) -> list[Tensor]:
    """Return the value of each process, on the CPU."""
    if trainer.world_size == 1:
        return [value]
    value = value.to(trainer.strategy.root_device)  # NCCL cannot gather tensors on the CPU
    parts = [torch.empty_like(value) for _ in range(trainer.world_size)]
    torch.distributed.all_gather(parts, value)
    return [part.cpu() for part in parts]


def drop_later_steps(logger: TensorBoardLogger, step: int) -> None:
    """Make TensorBoard ignore the events from a step on that were written so far."""
    writer: Any = logger.experiment
    event = Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))
    writer.file_writer.add_event(event, step)
