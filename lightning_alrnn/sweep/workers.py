"""Worker processes, which are copies of a process that has imported torch and Lightning.

This module imports neither, so ``alrnn sweep`` can start that process before it imports them itself.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from types import ModuleType


def prepare_workers() -> None:
    """Start the process that workers are copied from, unless it is running, and do not wait for its imports."""
    forkserver.set_forkserver_preload(["lightning_alrnn.sweep.run_population"])
    with _alone():
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal must reach only the copies
        forkserver.ensure_running()
        signal.signal(signal.SIGINT, before)


def start_worker(work: Callable[[], None], log: Path, gpus: Sequence[str]) -> BaseProcess:
    """Start a process for one item of work, which appends its output to ``log``; it survives its parent."""
    prepare_workers()
    process = multiprocessing.get_context("forkserver").Process(target=_do, args=(work, log, gpus))
    try:
        with _uninterrupted(), _alone():
            process.start()
    except KeyboardInterrupt:  # the caller would not know of the process, which would run to its end
        if process.pid is not None:  # the signal may have ended the process that is copied
            process.kill()
        raise
    return process


def _do(work: Callable[[], None], log: Path, gpus: Sequence[str]) -> None:
    """Do an item of work in the new process."""
    for number in (signal.SIGINT, signal.SIGTERM):  # where training does not delay them
        signal.signal(number, signal.default_int_handler)
    # as in `alrnn fit`: if they came from a server as well, workers of DataLoaders would import torch one by one
    multiprocessing.set_start_method(None, force=True)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for output in (1, 2):
            os.dup2(file.fileno(), output)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)  # CUDA reads it once, at its first use
    sys.argv = ["alrnn"]  # name of the program in the model card
    work()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Delay Ctrl-C and SIGTERM until the end."""
    pending: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: pending.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for signal_number in pending:
            signal.raise_signal(signal_number)


@contextmanager
def _alone() -> Iterator[None]:
    """Give new processes one thread each, unless the user says otherwise, and nothing of this script or SLURM task."""
    # with several SLURM tasks, Lightning would expect as many processes of each run
    names = ("OMP_NUM_THREADS", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["OMP_NUM_THREADS"] = before.get("OMP_NUM_THREADS", "1")
    script = sys.modules["__main__"]  # without ``if __name__ == "__main__"`` it would run in each process
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        del os.environ["OMP_NUM_THREADS"]
        os.environ.update(before)
