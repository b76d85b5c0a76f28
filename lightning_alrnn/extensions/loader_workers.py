"""Worker processes of DataLoaders that a SIGTERM to the whole process group does not end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
from multiprocessing.context import (
    ForkContext,
    ForkProcess,
    ForkServerContext,
    ForkServerProcess,
    SpawnContext,
    SpawnProcess,
)
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

_SIGTERM = {signal.SIGTERM}


def shield_workers(loader: object) -> None:
    """Let the worker processes of a DataLoader end by SIGTERM only if their parent sends it.

    A service manager, ``kill -- -PGID`` and some schedulers send SIGTERM to every process of a run. With its workers
    gone, the run could not finish its step and write a checkpoint. Without the parent, they end as torch lets them.
    """
    if isinstance(loader, DataLoader) and loader.num_workers > 0:
        context: Any = loader.multiprocessing_context or multiprocessing.get_context()
        shielded = _SHIELDED.get(type(context))
        if shielded is not None:
            loader.multiprocessing_context = shielded


class _Worker(BaseProcess):
    """A process in which SIGTERM is blocked from its first instant on, and taken by a thread."""

    def start(self) -> None:
        self._owner = os.getpid()
        before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGTERM)
        try:
            super().start()
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def run(self) -> None:
        signal.pthread_sigmask(signal.SIG_BLOCK, _SIGTERM)  # the server of forkserver has not blocked it
        threading.Thread(target=_end_with, args=(self._owner,), daemon=True).start()
        super().run()


def _end_with(owner: int) -> None:
    """End this process as soon as its owner sends SIGTERM, as torch does to a worker that hangs."""
    while signal.sigwaitinfo(_SIGTERM).si_pid != owner:
        pass
    os._exit(0)


class _ForkWorker(_Worker, ForkProcess): ...


class _SpawnWorker(_Worker, SpawnProcess): ...


class _ForkServerWorker(_Worker, ForkServerProcess): ...


class _Fork(ForkContext):
    Process = _ForkWorker


class _Spawn(SpawnContext):
    Process = _SpawnWorker


class _ForkServer(ForkServerContext):
    Process = _ForkServerWorker


_SHIELDED = {ForkContext: _Fork(), SpawnContext: _Spawn(), ForkServerContext: _ForkServer()}
