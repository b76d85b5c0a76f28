"""Fixtures: brute-force counts, a group of two processes, and a folder for each test."""

from __future__ import annotations

import itertools
import os
import pickle
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from itertools import pairwise
from multiprocessing.connection import Connection
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NamedTuple

import pytest

os.environ.setdefault("OMP_NUM_THREADS", "1")  # small tensors: a second thread costs more than it brings
os.environ.setdefault("TRITON_INTERPRET", "1")  # the GPU kernels run on the CPU, slowly

import torch
import torch.distributed
import torch.multiprocessing
from torch import Tensor


class BruteForce(NamedTuple):
    """Regimes counted one state at a time."""

    counts: Counter[str]
    transitions: Counter[tuple[str, str]]
    on: list[int]
    switches: list[int]
    steps: int
    moves: int


@pytest.fixture
def by_hand() -> Callable[[Tensor, Tensor, int], BruteForce]:
    return count_by_hand


def count_by_hand(states: Tensor, lengths: Tensor, nonlinear: int) -> BruteForce:
    """Count the bitcodes of valid states with Python loops."""
    counts, transitions = Counter[str](), Counter[tuple[str, str]]()
    on, switches = [0] * nonlinear, [0] * nonlinear
    for sequence, length in zip(states.tolist(), lengths.tolist(), strict=True):
        codes = ["".join("01"[value > 0] for value in z[len(z) - nonlinear :]) for z in sequence[:length]]
        counts.update(codes)
        transitions.update(pairwise(codes))
        for unit in range(nonlinear):
            on[unit] += sum(code[unit] == "1" for code in codes)
            switches[unit] += sum(a[unit] != b[unit] for a, b in pairwise(codes))
    return BruteForce(counts, transitions, on, switches, counts.total(), transitions.total())


def _serve(rank: int, store: str, asked: Connection) -> None:
    """Run functions in a process of a group of two; each has a new group, as a test may leave its group."""
    torch.set_num_threads(1)
    environment = dict(os.environ)
    for number in itertools.count():
        try:
            function, folder, args = asked.recv()
        except EOFError:
            return
        os.chdir(folder)
        torch.distributed.init_process_group(
            "gloo", init_method=f"file://{store}-{number}", rank=rank, world_size=2, timeout=timedelta(seconds=120)
        )
        try:
            answer: Any = function(rank, 2, *args)
        except BaseException:
            answer = RuntimeError(traceback.format_exc())
        torch.distributed.destroy_process_group()
        os.environ.clear()
        os.environ.update(environment)
        asked.send_bytes(pickle.dumps(answer))


@pytest.fixture(scope="session")
def processes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., list[Any]]]:
    """Run ``function(rank, world_size, *args)`` in two gloo processes, which are kept, and return their answers."""
    context, store = torch.multiprocessing.get_context("spawn"), tmp_path_factory.mktemp("processes") / "store"
    ends: list[Connection] = []

    def run(function: Callable[..., Any], folder: Path, *args: Any) -> list[Any]:
        folder.mkdir(parents=True, exist_ok=True)
        if not ends:
            for rank in range(2):
                ours, theirs = context.Pipe()
                context.Process(target=_serve, args=(rank, str(store), theirs), daemon=True).start()
                theirs.close()
                ends.append(ours)
        for end in ends:
            end.send((function, folder, args))
        answers = [pickle.loads(end.recv_bytes()) for end in ends]
        for answer in answers:
            if isinstance(answer, RuntimeError):
                raise answer
        return answers

    yield run
    for end in ends:
        end.close()


@pytest.fixture
def no_verdict_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    """A verdict is judged and written as JSON, and neither drawn nor made a page of."""
    report = "lightning_alrnn.sweep.verdict_page"
    monkeypatch.setattr(f"{report}.make_page", lambda *arguments: SimpleNamespace(html=lambda: ""))


@pytest.fixture(autouse=True)
def _leave_no_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder of its own, so that no test writes into the tree."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
