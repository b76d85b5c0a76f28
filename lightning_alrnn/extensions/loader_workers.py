"""Worker processes of DataLoaders that a SIGTERM to the whole process group does not end."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.process import BaseProcess
from typing import Any

from torch.utils.data import DataLoader

_SHIELDED: dict[type, Any] = {}  # contexts that start shielded processes, by those of Python


def shield_workers(loader: object) -> None:
    """Let the worker processes of a DataLoader end by SIGTERM only if their parent sends it.

    A service manager, ``kill -- -PGID`` and some schedulers send SIGTERM to every process of a run. With its workers
    gone, the run could not finish its step and write a checkpoint. Without the parent, they end as torch lets them.
    """
    if isinstance(loader, DataLoader) and loader.num_workers > 0:
        shielded = _SHIELDED.get(type(loader.multiprocessing_context or multiprocessing.get_context()))
        if shielded is not None:
            loader.multiprocessing_context = shielded


if sys.platform == "linux":  # elsewhere there is no sigwaitinfo
    from multiprocessing import context

    class _Worker(BaseProcess):
        """A process in which SIGTERM is blocked from its first instant on, and taken by a thread."""

        def start(self) -> None:
            self._owner = os.getpid()
            before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
            try:
                super().start()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)

        def run(self) -> None:
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})  # the server of forkserver has not blocked it
            threading.Thread(target=_end_with, args=(self._owner,), daemon=True).start()
            super().run()

    def _end_with(owner: int) -> None:
        """End this process as soon as its owner sends SIGTERM, as torch does to a worker that hangs."""
        while signal.sigwaitinfo({signal.SIGTERM}).si_pid != owner:
            pass
        os._exit(0)

    class _ForkWorker(_Worker, context.ForkProcess): ...

    class _SpawnWorker(_Worker, context.SpawnProcess): ...

    class _ForkServerWorker(_Worker, context.ForkServerProcess): ...

    class _Fork(context.ForkContext):
        Process = _ForkWorker

    class _Spawn(context.SpawnContext):
        Process = _SpawnWorker

    class _ForkServer(context.ForkServerContext):
        Process = _ForkServerWorker

    _SHIELDED[context.ForkContext] = _Fork()
    _SHIELDED[context.SpawnContext] = _Spawn()
    _SHIELDED[context.ForkServerContext] = _ForkServer()
