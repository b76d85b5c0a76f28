"""Callbacks that stop a run in the middle, for the tests of sweeps."""

from __future__ import annotations

import os
import time
from pathlib import Path

from pytorch_lightning import Callback, LightningModule, Trainer


class Pausing(Callback):
    """Before its second epoch a run waits for as long as there is a file ``folder``/pause.

    Args:
        folder: there it leaves a file reached-PID, too.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            (self._folder / f"reached-{os.getpid()}").touch()
            while (self._folder / "pause").exists():
                time.sleep(0.05)


class Breaking(Callback):
    """Before its second epoch a run takes away a file, if it is there, and stops in the way that the file says.

    Args:
        path: holds "error" or "interrupt".
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1 and self._path.exists():
            kind = self._path.read_text()
            self._path.unlink()
            raise KeyboardInterrupt if kind == "interrupt" else RuntimeError("no space left")
