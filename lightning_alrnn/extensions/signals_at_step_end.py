"""A callback that delays signals to the end of a step, from where a run can be resumed exactly."""

from __future__ import annotations

import signal
from collections.abc import Callable
from contextlib import suppress
from types import FrameType
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_alrnn.extensions.loader_workers import shield_workers

_Handler = Callable[[int, FrameType | None], Any]

_LIGHTNING = "pytorch_lightning.trainer.connectors.signal_connector"


class SignalsAtStepEnd(Callback):
    """Delays the response of Lightning to SIGUSR1 and SIGTERM until all processes have finished the same step.

    On SIGUSR1, under SLURM, Lightning writes a checkpoint and requeues the job; on SIGTERM it stops, with a checkpoint
    of this package's modules. A signal during validation waits for its end, so it must be sent early enough (with
    SLURM, ``--signal=SIGUSR1@SECONDS``). A SIGTERM to all processes of the run leaves the workers of its DataLoaders
    alone. The LightningModules of this package add the callback.
    """

    def __init__(self) -> None:
        super().__init__()
        self._handlers: dict[int, _Handler] = {}
        self._pending: set[int] = set()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self._handlers.clear()  # of a call that an error has ended
        self._pending.clear()
        strategy: Any = trainer.strategy
        process = type(strategy).process_dataloader

        def process_and_shield(loader: object) -> object:
            shield_workers(loader)
            return process(strategy, loader)

        strategy.process_dataloader = process_and_shield  # Lightning calls it for each DataLoader before its first use

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch:  # Lightning would resume after it without the validation of the epoch
            self._stop(trainer)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._stop(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number, handler in self._handlers.items():
            if signal.getsignal(number) == self._note:
                signal.signal(number, handler)
        self._respond(trainer)
        self._handlers.clear()

    # After an exception the handlers stay: a second SIGTERM must not stop the writing of the checkpoint. Lightning
    # gives all signals their handlers of before the fit.

    def on_sanity_check_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        for number in (signal.SIGUSR1, signal.SIGTERM):
            handler = signal.getsignal(number)
            if callable(handler) and type(handler).__module__ == _LIGHTNING:
                self._handlers[number] = handler
                signal.signal(number, self._note)

    on_train_start = on_sanity_check_start

    def _note(self, number: int, frame: FrameType | None) -> None:
        self._pending.add(number)

    def _stop(self, trainer: Trainer) -> None:
        """Respond, and let Lightning stop where it can, whatever else SIGTERM meant before."""
        with suppress(KeyboardInterrupt):  # of a handler that Lightning's one calls at its end
            self._respond(trainer)

    def _respond(self, trainer: Trainer) -> None:
        for number, handler in self._handlers.items():
            if trainer.strategy.reduce_boolean_decision(number in self._pending, all=False):
                self._pending.discard(number)
                handler(number, None)
