"""What one forward and backward pass of the recurrence costs, beside what it replaces: ``make bench``.

Milliseconds, minimum and median of repeats that are interleaved in one run, with a fixed gradient on every state. The
``floor`` is three products of (B·T, M) by (M, M): arithmetic that no implementation can leave out. Writes
``benchmarks/results.json`` and ``benchmarks/results.md``.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from lightning_alrnn.nn import ALRNN, available_backends

CASES = {  # B, T, M, P, K
    "addition": (64, 100, 50, 5, 2),
    "copy": (64, 117, 50, 5, 21),
    "multi-task": (64, 100, 64, 8, 18),
    "sMNIST": (64, 392, 100, 10, 100),
    "Lorenz-63": (16, 200, 20, 2, 3),
}


def candidates(batch: int, steps: int, hidden: int, nonlinear: int, inputs: int) -> dict[str, Callable[[], object]]:
    """What is timed, by name."""
    torch.manual_seed(0)
    sequences, weight = torch.randn(batch, steps, inputs), torch.randn(batch, steps, hidden)
    flat, square = torch.randn(batch * steps, hidden), torch.randn(hidden, hidden)

    def passes(layer: nn.Module) -> Callable[[], object]:
        parameters = list(layer.parameters())
        return lambda: torch.autograd.grad(layer(sequences)[0], parameters, weight)

    def floor() -> None:
        torch.mm(flat, square)
        torch.mm(flat, square)
        torch.mm(flat.t(), flat)

    layers: dict[str, nn.Module] = {
        name: ALRNN(inputs, hidden, nonlinear, backend=name)  # type: ignore[arg-type]
        for name in available_backends()
    }
    layers["nn.RNN(relu)"] = nn.RNN(inputs, hidden, nonlinearity="relu", batch_first=True)
    layers["nn.GRU"] = nn.GRU(inputs, hidden, batch_first=True)
    layers["nn.LSTM"] = nn.LSTM(inputs, hidden, batch_first=True)
    return {name: passes(layer) for name, layer in layers.items()} | {"floor": floor}


def measure(runs: dict[str, Callable[[], object]], repeats: int) -> dict[str, dict[str, float]]:
    """Interleaved timings in milliseconds."""
    times: dict[str, list[float]] = {name: [] for name in runs}
    for repeat in range(repeats + 2):
        for name, run in runs.items():
            start = time.perf_counter()
            run()
            if repeat >= 2:  # the first ones warm up
                times[name].append(1e3 * (time.perf_counter() - start))
    return {name: {"min": min(values), "median": statistics.median(values)} for name, values in times.items()}


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--repeats", type=int, default=20)
    options = parser.parse_args()
    rows, lines = [], []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name, case in CASES.items():
            found = measure(candidates(*case), options.repeats)
            rows.append({"threads": threads, "name": name, "B,T,M,P,K": case, "milliseconds": found})
            if not lines:
                lines = [
                    "| threads | B, T, M, P, K | " + " | ".join(found) + " |",
                    "|---" * (len(found) + 2) + "|",
                ]
            sizes = ", ".join(map(str, case))
            cells = " | ".join(f"{value['min']:.2f} ({value['median']:.2f})" for value in found.values())
            lines.append(f"| {threads} | {sizes} ({name}) | {cells} |")
            print(lines[-1], flush=True)
    head = (
        f"Forward and backward, milliseconds: minimum (median) of {options.repeats} interleaved repeats; "
        f"torch {torch.__version__}, Python {platform.python_version()}, {platform.machine()}.\n"
    )
    folder = Path(__file__).parent
    (folder / "results.json").write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    (folder / "results.md").write_text("\n".join([head, *lines]) + "\n", encoding="utf-8")
    print("\n".join(["", head, *lines]))


if __name__ == "__main__":
    main()
