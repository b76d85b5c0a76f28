"""The processes of this machine that do runs: copies of one that has torch and Lightning imported.

This module imports neither, so that ``alrnn sweep`` can start that process before it imports them itself.
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
    """Start the process that workers are copied from, unless it runs. It imports torch and Lightning, unwaited for."""
    forkserver.set_forkserver_preload(["lightning_alrnn.sweep.run_population"])
    with _alone():
        before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C in a terminal is for the copies
        forkserver.ensure_running()
        signal.signal(signal.SIGINT, before)


def start_worker(work: Callable[[], None], log: Path, gpus: Sequence[str]) -> BaseProcess:
    """Start a process of this machine that does one item of work, such as a run, and need not import anything for it.

    Importing torch and Lightning takes seconds. One process does so for all workers, and then does nothing but copy
    itself by ``fork``, which takes hundredths of a second. With the copy ends all that its work has set or broken:
    seeds, environment variables, settings of torch, warnings, signals, open files, memory. It goes on to its end where
    the process that asked for it, or the one that was copied, is killed. What the work writes is appended to ``log``.
    """
    prepare_workers()
    process = multiprocessing.get_context("forkserver").Process(target=_do, args=(work, log, gpus))
    try:
        with _uninterrupted(), _alone():
            process.start()
    except KeyboardInterrupt:  # nobody would know of the process, which would go on to its end
        if process.pid is not None:  # the signal may have ended the one that is copied before it was
            process.kill()
        raise
    return process


def _do(work: Callable[[], None], log: Path, gpus: Sequence[str]) -> None:
    """Do an item of work, in a process of its own."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        for output in (1, 2):
            os.dup2(file.fileno(), output)
    os.environ["CUDA_VISIBLE_DEVICES"] = ",".join(gpus)  # before anything asks CUDA, which reads it once
    sys.argv = ["alrnn"]  # what the card of a model calls the program
    work()


@contextmanager
def _uninterrupted() -> Iterator[None]:
    """Put Ctrl-C and SIGTERM off to the end."""
    pending: list[int] = []
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = {number: signal.signal(number, lambda number, frame: pending.append(number)) for number in numbers}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
        for came in pending:
            signal.raise_signal(came)


@contextmanager
def _alone() -> Iterator[None]:
    """Let processes that are started have one thread each, unless the user says otherwise, and no part in this one.

    In an allocation of SLURM with several tasks Lightning would expect as many processes of each run. A script that
    starts a sweep, and is not guarded by ``if __name__ == "__main__"``, would be run in each process.
    """
    names = ("OMP_NUM_THREADS", "SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")
    before = {name: os.environ.pop(name) for name in names if name in os.environ}
    os.environ["OMP_NUM_THREADS"] = before.get("OMP_NUM_THREADS", "1")
    script = sys.modules["__main__"]
    sys.modules["__main__"] = ModuleType("__main__")
    try:
        yield
    finally:
        sys.modules["__main__"] = script
        del os.environ["OMP_NUM_THREADS"]
        os.environ.update(before)
