"""SLURM's signals are answered at the end of a step, where a checkpoint can be taken up again exactly."""

from __future__ import annotations

import signal
from collections.abc import Callable
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

_Handler = Callable[[int, FrameType | None], Any]

_LIGHTNING = "pytorch_lightning.trainer.connectors.signal_connector"


class SignalsAtStepEnd(Callback):
    """Puts off what Lightning does on SIGUSR1 and SIGTERM until all processes have ended the same step.

    On SIGUSR1, under SLURM, Lightning writes a checkpoint and requeues the job; on SIGTERM it stops. It does so
    wherever the signal meets it. In the middle of a step that checkpoint would hold weights of one step and a loader's
    position of another. Of several processes, one would wait for the checkpoint, another for the gradients: for ever.

    With several processes they ask each other after each step whether one of them was signalled. Lightning does so too.
    A signal that comes during validation waits for its end, so SLURM must send it early enough
    (``--signal=SIGUSR1@SECONDS``).

    The LightningModules of this package add it by themselves.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, _Handler] = {}
        self._pending: set[int] = set()

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_over(trainer)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._take_over(trainer)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch:  # from there Lightning would resume without the epoch's validation
            self._answer(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._answer(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._give_back()

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._give_back()

    def _take_over(self, trainer: Trainer) -> None:
        # of a single process, SIGTERM is only noted by Lightning, which stops after the step or within validation
        numbers = (signal.SIGUSR1, signal.SIGTERM) if trainer.world_size > 1 else (signal.SIGUSR1,)
        for number in numbers:
            handler = signal.getsignal(number)
            if callable(handler) and type(handler).__module__ == _LIGHTNING:
                self._handlers[number] = handler
                signal.signal(number, self._note)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._pending.add(number)

    def _answer(self, trainer: Trainer) -> None:
        for number, handler in self._handlers.items():
            if trainer.strategy.reduce_boolean_decision(number in self._pending, all=False):
                self._pending.discard(number)
                handler(number, None)

    def _give_back(self) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._handlers.clear()
        self._pending.clear()
