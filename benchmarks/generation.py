"""Time how long it takes to generate the sequences of the generated tasks, a whole split at a time."""

from __future__ import annotations

from collections.abc import Callable

import torch
from common import arguments, cell, measure, save

from lightning_alrnn.datamodules import SCAN, Addition, ContextualIntegration, Copy, MultiTask


def candidates() -> dict[str, Callable[[], object]]:
    """Functions that are timed, by name."""
    return {
        "addition, 10,000 trials": lambda: Addition(train_size=10_000).build("train"),
        "copy, 2,000 trials": lambda: Copy(train_size=2_000).build("train"),
        "contextual, 1,000 trials": lambda: ContextualIntegration(train_size=1_000).build("train"),
        "multi-task, simple, 5,000 trials": lambda: MultiTask(train_size=5_000).build_epoch(1),
        "multi-task, hard, 5,000 trials": lambda: MultiTask(durations="hard", train_size=5_000).build_epoch(1),
        "multi-task, yang19, 1,000 trials": lambda: MultiTask(suite="yang19", train_size=1_000).build_epoch(1),
        "SCAN, all 20,910 commands": lambda: [SCAN().build(split) for split in ("train", "val", "test")],
    }


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, repeats=7)
    torch.set_num_threads(options.threads[0])
    times = measure(candidates(), options.repeats)
    text = f"Generation in milliseconds on one thread: minimum (median) of {options.repeats} interleaved repeats."
    save("generation", text, ["", "ms"], [[name, cell(value, 0)] for name, value in times.items()], times)


if __name__ == "__main__":
    main()
