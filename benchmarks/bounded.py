"""Measure what is large and must not need much memory: the verdict of 10,000 runs.

The records are synthetic: ten P, up to 1,000 seeds, the scores of test and validation, and 23 other metrics. The peak
is the largest resident size of the process of ``alrnn verdict``.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from common import arguments, cell, save, summary

from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import Record, write_record, write_table

UNITS = (0, 1, 2, 3, 4, 5, 10, 20, 50, 100)


def write_records(folder: Path, seeds: int) -> None:
    """Write a sweep whose runs with P < 2 stay at 0.5 and of whose others a tenth do."""
    rng = np.random.default_rng(0)
    for p in UNITS:
        for seed in range(seeds):
            score = 0.5 if p < 2 or rng.random() < 0.1 else 0.95
            value = score + 0.01 * rng.normal()
            # as many keys as a run of `alrnn sweep` has
            metrics = {f"{split}/{name}": value for split in ("val", "test") for name in ("accuracy", "task_loss")}
            metrics |= {"regime/visited": p + 1.0, "regime/effective": p + 0.5, "units/active": float(p)}
            metrics |= {f"further/{index}": rng.random() for index in range(20)}
            run = Run("ALRNN", p, seed, {}, metrics, hidden_size=100)
            record = Record(f"P{p}-seed{seed}", run, "done", seconds=1.0, epochs=10, versions={"torch": "2"})
            write_record(folder, record, durable=False)


def run_and_measure(command: Sequence[str]) -> tuple[float, float]:
    """Seconds of one core and largest resident size, in MiB, of a process."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, env=environment)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1024


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, repeats=3)
    data, rows = [], []
    for runs in (100, 1_000, 10_000):
        with tempfile.TemporaryDirectory() as place:
            write_records(Path(place), runs // len(UNITS))
            command = [sys.executable, "-m", "lightning_alrnn", "verdict", place]
            measured = [run_and_measure(command) for _ in range(options.repeats)]
            tables = []
            for _ in range(options.repeats):
                start = time.process_time()
                write_table(Path(place))
                tables.append(time.process_time() - start)
        seconds, peaks, table = (summary(values) for values in (*zip(*measured, strict=True), tables))
        data.append({"runs": runs, "verdict": seconds, "MiB": peaks, "table": table})
        rows.append([f"{runs:,}", cell(seconds), cell(peaks), cell(table)])
    text = (
        f"Seconds of one core and peak memory of `alrnn verdict`, and the seconds that results.csv takes: minimum "
        f"(median) of {options.repeats}."
    )
    save("bounded", text, ["runs", "verdict (s)", "peak (MiB)", "results.csv (s)"], rows, data)


if __name__ == "__main__":
    main()
