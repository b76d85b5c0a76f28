"""What the benchmarks share: interleaved timing, tables, result files."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch

RESULTS = Path(__file__).parent / "results"


def arguments(description: str | None, repeats: int, threads: Sequence[int] = (1,)) -> argparse.Namespace:
    """Read ``--repeats`` and ``--threads`` from the command line."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=repeats)
    parser.add_argument("--threads", type=int, nargs="+", default=list(threads))
    return parser.parse_args()


def run_on_one_thread() -> None:
    """Start the benchmark anew where numpy's linear algebra would have more: ``torch.set_num_threads`` is not its own.

    Its threads wait for each other: beside another process, a solution of a small system takes a hundred times as long.
    """
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_NUM_THREADS": "1"})


def measure(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each run: all in turn, again and again, so that a slow moment of the machine hits all alike."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat >= 2:  # the first ones warm up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: summary(values) for name, values in times.items()}


def summary(values: Sequence[float]) -> dict[str, float]:
    """Minimum and median."""
    return {"min": min(values), "median": statistics.median(values)}


def cell(value: dict[str, float], digits: int = 2) -> str:
    """Minimum (median)."""
    return f"{value['min']:.{digits}f} ({value['median']:.{digits}f})"


def save(name: str, text: str, columns: Sequence[str], rows: Sequence[Sequence[str]], data: Any) -> None:
    """Print a table with a line above it, and write it to ``results/name.md``, the numbers to ``results/name.json``.

    Args:
        name: of the files, which is that of the benchmark.
        text: what the numbers are.
        columns: heads of the columns.
        rows: cells.
        data: all numbers, for JSON.
    """
    machine = f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}"
    lines = [
        f"{text} `python benchmarks/{name}.py`; {machine}.",
        "",
        "| " + " | ".join(columns) + " |",
        "|---" * len(columns) + "|",
        *("| " + " | ".join(row) + " |" for row in rows),
    ]
    RESULTS.mkdir(exist_ok=True)
    content = {"command": f"python benchmarks/{name}.py", "machine": machine, "results": data}
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(["", *lines]), flush=True)
