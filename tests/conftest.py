"""What the tests share: brute-force counts and processes."""

from __future__ import annotations

import os
import socket
from collections import Counter
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
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


def count_by_hand(states: Tensor, lengths: Tensor, nonlinear: int) -> BruteForce:
    """Count the bitcodes of valid states with Python loops."""
    first = states.shape[-1] - nonlinear
    counts: Counter[str] = Counter()
    transitions: Counter[tuple[str, str]] = Counter()
    on, switches = [0] * nonlinear, [0] * nonlinear
    for sequence, length in zip(states.tolist(), lengths.tolist(), strict=True):
        codes = ["".join("1" if value > 0 else "0" for value in z[first:]) for z in sequence[:length]]
        counts.update(codes)
        transitions.update(pairwise(codes))
        for unit in range(nonlinear):
            on[unit] += sum(code[unit] == "1" for code in codes)
            switches[unit] += sum(a[unit] != b[unit] for a, b in pairwise(codes))
    return BruteForce(counts, transitions, on, switches, sum(counts.values()), sum(transitions.values()))


@pytest.fixture
def by_hand() -> Callable[[Tensor, Tensor, int], BruteForce]:
    return count_by_hand


def _start(rank: int, port: int, world_size: int, function: Callable[..., Any], folder: str, args: Any) -> None:
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", rank=rank, world_size=world_size)
    try:
        torch.save(function(rank, world_size, *args), Path(folder) / f"{rank}.pt")
    finally:
        torch.distributed.destroy_process_group()


def run_processes(function: Callable[..., Any], folder: Path, *args: Any, world_size: int = 2) -> list[Any]:
    """Run ``function(rank, world_size, *args)`` in gloo processes and return what each returned."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        port = sock.getsockname()[1]
    folder.mkdir(parents=True, exist_ok=True)
    torch.multiprocessing.spawn(_start, (port, world_size, function, str(folder), args), nprocs=world_size)
    return [torch.load(folder / f"{rank}.pt", weights_only=False) for rank in range(world_size)]


@pytest.fixture(scope="session")
def processes() -> Callable[..., list[Any]]:
    return run_processes


@pytest.fixture(autouse=True)
def _leave_no_traces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run in a folder of its own, so that no test writes into the tree."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "user-cache"))
