"""Time one forward and backward pass of the recurrence, beside the layers that it replaces.

A fixed gradient comes in on every state. The ``floor`` is three products of (B·T, M) by (M, M): arithmetic that no
implementation can leave out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from common import arguments, cell, measure, save
from torch import nn

from lightning_alrnn.nn import ALRNN, available_backends

CASES = {  # B, T, M, P, K
    "addition": (64, 100, 50, 5, 2),
    "copy": (64, 117, 50, 5, 21),
    "multi-task": (64, 100, 64, 8, 18),
    "sMNIST": (64, 392, 100, 10, 100),
    "Lorenz-63": (16, 200, 20, 2, 3),
}


def layers(hidden: int, nonlinear: int, inputs: int, backends: Iterable[str], device: Any = "cpu") -> dict[str, Any]:
    """The layer with each backend, and layers that it replaces."""
    networks = {
        **{name: ALRNN(inputs, hidden, nonlinear, backend=name) for name in backends},  # type: ignore[arg-type]
        "nn.RNN(relu)": nn.RNN(inputs, hidden, nonlinearity="relu", batch_first=True),
        "nn.GRU": nn.GRU(inputs, hidden, batch_first=True),
    }
    return {name: network.to(device) for name, network in networks.items()}


def candidates(batch: int, steps: int, hidden: int, nonlinear: int, inputs: int) -> dict[str, Callable[[], object]]:
    """Passes that are timed, by name."""
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

    backends = [name for name in available_backends() if name != "triton"]  # benchmarks/gpu.py times that
    networks = layers(hidden, nonlinear, inputs, backends)
    networks["nn.LSTM"] = nn.LSTM(inputs, hidden, batch_first=True)
    return {name: passes(layer) for name, layer in networks.items()} | {"floor": floor}


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, repeats=30, threads=(1, 2))
    data, rows, columns = [], [], [""]
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name, case in CASES.items():
            times = measure(candidates(*case), options.repeats)
            data.append({"threads": threads, "name": name, "B,T,M,P,K": case, "milliseconds": times})
            columns = ["threads", "B, T, M, P, K", *times]
            rows.append([str(threads), f"{', '.join(map(str, case))} ({name})", *map(cell, times.values())])
            print(*rows[-1], sep=" | ", flush=True)
    text = f"Forward and backward in milliseconds: minimum (median) of {options.repeats} interleaved repeats."
    save("recurrence", text, columns, rows, data)


if __name__ == "__main__":
    main()
