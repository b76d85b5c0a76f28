"""Interleaved timing, tables and result files of the benchmarks."""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
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
    """Restart the benchmark where numpy has more threads, which ``torch.set_num_threads`` leaves alone.

    They wait for each other: beside another process, solving a small system takes a hundred times as long.
    """
    if os.environ.get("OMP_NUM_THREADS") != "1":
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | {"OMP_NUM_THREADS": "1"})


def measure(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each run; the runs take turns, so that a slow moment of the machine affects all alike."""
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


def table(columns: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Lines of a table in Markdown."""
    lines = [f"| {' | '.join(row)} |" for row in (columns, *rows)]
    return [lines[0], "|---" * len(columns) + "|", *lines[1:]]


def save(name: str, text: str, columns: Sequence[str], rows: Sequence[Sequence[str]], data: Any) -> None:
    """Print a line of text and a table, and write them to ``results/name.md`` and ``data`` to ``results/name.json``."""
    machine = f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}"
    lines = [f"{text} `python benchmarks/{name}.py`; {machine}.", "", *table(columns, rows)]
    content = {"command": f"python benchmarks/{name}.py", "machine": machine, "results": data}
    write(name, lines, content)


def write(name: str, lines: Sequence[str], content: Any) -> None:
    """Print lines, and write them to ``results/name.md`` and the content to ``results/name.json``."""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / f"{name}.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (RESULTS / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    print("\n".join(["", *lines]), flush=True)
