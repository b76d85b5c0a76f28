"""A callback that delays signals to the end of a step, from where a run can be resumed exactly."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

_Handler = Callable[[int, FrameType | None], Any]

_LIGHTNING = "pytorch_lightning.trainer.connectors.signal_connector"


class SignalsAtStepEnd(Callback):
    """Delays the response of Lightning to SIGUSR1 and SIGTERM until all processes have finished the same step.

    On SIGUSR1, under SLURM, Lightning writes a checkpoint and requeues the job; on SIGTERM it stops. A signal during
    validation waits for its end, so SLURM must send it early enough (``--signal=SIGUSR1@SECONDS``). The
    LightningModules of this package add the callback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, _Handler] = {}
        self._pending: set[int] = set()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch:  # Lightning would resume after it without the validation of the epoch
            self._respond(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._respond(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._handlers.clear()
        self._pending.clear()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self.on_train_end(trainer, pl_module)

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        # in a single process, Lightning itself delays SIGTERM to the end of the step
        numbers = (signal.SIGUSR1, signal.SIGTERM) if trainer.world_size > 1 else (signal.SIGUSR1,)
        for number in numbers:
            handler = signal.getsignal(number)
            if callable(handler) and type(handler).__module__ == _LIGHTNING:
                self._handlers[number] = handler
                signal.signal(number, self._note)

    on_train_start = on_sanity_check_start

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._pending.add(number)

    def _respond(self, trainer: Trainer) -> None:
        for number, handler in self._handlers.items():
            if trainer.strategy.reduce_boolean_decision(number in self._pending, all=False):
                self._pending.discard(number)
                handler(number, None)
