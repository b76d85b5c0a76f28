"""Processes that runs are done in: copies of one, with nothing of each other."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from multiprocessing.context import ForkServerProcess
from pathlib import Path

import misbehaving
import pytest

from lightning_alrnn.sweep import workers
from lightning_alrnn.sweep.workers import start_worker


def test_workers_leave_nothing_to_each_other(tmp_path: Path) -> None:
    def do(work: Callable[[], None]) -> None:
        start_worker(work, tmp_path / "logs" / "log", ["GPU-2b", "3"]).join(60)

    do(partial(misbehaving.describe, tmp_path / "before"))
    do(misbehaving.spoil)  # which ends by a signal: the next one starts all the same
    do(partial(misbehaving.describe, tmp_path / "after"))
    before, after = (json.loads((tmp_path / name).read_text()) for name in ("before", "after"))
    assert after.pop("memory") == pytest.approx(before.pop("memory"), abs=20_000_000)  # bytes; what is left takes 80 MB
    assert after == before
    assert before["start"] is None  # from this server, each process of a DataLoader would import torch
    assert before["threads"] == 1  # of the process that is copied: others would be missing in the copy
    assert before["environment"]["CUDA_VISIBLE_DEVICES"] == "GPU-2b,3"
    assert (tmp_path / "logs" / "log").read_text() == "spoilt\n"


def test_an_interrupt_while_a_worker_starts_ends_the_worker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    start, started = ForkServerProcess.start, []

    def interrupted(process: ForkServerProcess) -> None:
        signal.raise_signal(signal.SIGINT)  # in the middle of it
        start(process)
        started.append(process)

    monkeypatch.setattr(ForkServerProcess, "start", interrupted)
    handler = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt):
            start_worker(partial(time.sleep, 600), tmp_path / "log", [])
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, handler)
    started[0].join(10)
    assert not started[0].is_alive()


@pytest.mark.parametrize("threads", [None, "3"])
def test_one_thread_unless_the_user_says_otherwise_and_nothing_of_an_allocation(
    threads: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS")
    if threads:
        monkeypatch.setenv("OMP_NUM_THREADS", threads)
    monkeypatch.setenv("SLURM_NTASKS", "4")
    script, environment = sys.modules["__main__"], dict(os.environ)
    with workers._alone():
        assert os.environ["OMP_NUM_THREADS"] == (threads or "1")
        assert "SLURM_NTASKS" not in os.environ
        assert sys.modules["__main__"] is not script
    assert sys.modules["__main__"] is script
    assert os.environ == environment
