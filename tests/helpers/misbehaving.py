"""Runs and processes that do not do as they should, for the tests of sweeps."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import torch
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


class Begun(Callback):
    """Leaves a file after each step.

    Args:
        path: the file.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)

    def on_train_batch_end(self, *_: object) -> None:
        self._path.touch()


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


class FailingPrediction(Callback):
    """An error of the second process after its last prediction."""

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_rank == 1:
            time.sleep(1)  # the first process is done
            raise RuntimeError("only process 1 fails")


def describe(path: Path) -> None:
    """Write down what a worker has that the one before it might have set, and of which process it is a copy."""
    state = {
        "draws": [float(np.random.random()), float(torch.rand(()))],  # noqa: NPY002
        "environment": dict(os.environ),
        "folder": str(Path.cwd()),
        "precision": torch.get_float32_matmul_precision(),
        "signal": str(signal.getsignal(signal.SIGTERM)),
        "start": multiprocessing.get_start_method(allow_none=True),
        "filters": len(warnings.filters),
        "threads": len(list(Path(f"/proc/{os.getppid()}/task").iterdir())),
        "original": os.getppid(),
        "memory": int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE"),
    }
    path.write_text(json.dumps(state))


def spoil() -> None:
    """Leave as much behind as a process can, and end by a signal."""
    np.random.seed(1)  # noqa: NPY002
    torch.manual_seed(1)
    os.environ["LEFT"] = "behind"
    os.chdir("/")
    torch.set_float32_matmul_precision("medium")
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    globals()["hoard"] = np.ones(10_000_000)
    sys.stderr.write("spoilt\n")
    os.kill(os.getpid(), signal.SIGKILL)


def ignore_interrupts() -> None:
    """Go on whatever is asked."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, signal.SIG_IGN)
    sys.stderr.write("going on\n")
    time.sleep(600)
