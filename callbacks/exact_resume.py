"""What a checkpoint needs beside Lightning's own so that a resumed run is the run that never stopped."""

from __future__ import annotations

import time
from typing import Any

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.event_pb2 import Event, SessionLog
from torch import Tensor


class ExactResume(Callback):
    """Keeps the random generators in the checkpoint, and TensorBoard's curves free of steps that are taken twice.

    The LightningModules of this package add it by themselves. A run that was killed in mid-epoch and goes on from its
    last checkpoint then ends with the weights, metrics and logged steps of one that never stopped: the DataModules of
    this package give the batches that were left of the epoch, and the module keeps what it has summed up of the epoch's
    metrics. With another loader, Lightning resumes at the epoch's first batch and says so.

    Saved are the state of torch's generator of each process and of its GPU. Python's and numpy's are not: nothing in
    this package draws from them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._trainer: Trainer | None = None
        self._states: list[list[Tensor]] = []

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._trainer = trainer

    def state_dict(self) -> dict[str, Any]:
        if self._trainer is None or not self._trainer.training:
            return {"generators": self._states}
        device = self._trainer.strategy.root_device
        own = [torch.get_rng_state()]
        if device.type == "cuda":
            own.append(torch.cuda.get_rng_state(device))
        # all processes take part: the first one writes the checkpoint
        gathered = [self._trainer.strategy.all_gather(state.to(device)).cpu() for state in own]
        processes = self._trainer.world_size
        return {
            "generators": [[part.view(processes, -1)[rank].clone() for part in gathered] for rank in range(processes)]
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._states = state_dict["generators"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if not self._states:
            return
        states, self._states = self._states, []
        if len(states) != trainer.world_size:
            rank_zero_warn(
                f"the checkpoint was written by {len(states)} processes and is resumed by {trainer.world_size}: random "
                "draws, such as those of uniform initial states, are not those of the run that it continues"
            )
        else:
            own = states[trainer.global_rank]
            torch.set_rng_state(own[0].cpu())
            if len(own) > 1 and trainer.strategy.root_device.type == "cuda":
                torch.cuda.set_rng_state(own[1].cpu(), trainer.strategy.root_device)
        for logger in trainer.loggers:
            if isinstance(logger, TensorBoardLogger) and trainer.is_global_zero:
                _drop_later_steps(logger, trainer.global_step)


def _drop_later_steps(logger: TensorBoardLogger, step: int) -> None:
    """Tell TensorBoard that the run begins again at a step, whatever it has of later ones."""
    writer: Any = logger.experiment  # TensorBoard's rule: events from this step on, written before this one, are void
    event = Event(wall_time=time.time(), step=step, session_log=SessionLog(status=SessionLog.START))
    writer.file_writer.add_event(event, step)
