"""Measure how the time of a forward and backward pass grows with T, M, B and P.

Each is varied around B=64, T=100, M=50, P=5, K=2.
"""

from __future__ import annotations

import torch
from common import arguments, cell, measure, save
from recurrence import candidates

SWEEPS = {
    "T": (25, 100, 400, 1600),
    "M": (25, 50, 100, 200, 400),
    "B": (1, 6, 16, 64, 256),
    "P": (0, 5, 25, 50),
}
NAMES = ("eager", "fused", "native", "nn.RNN(relu)", "floor")


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, repeats=7)
    data, rows, columns = [], [], [""]
    for threads in options.threads:
        torch.set_num_threads(threads)
        for varied, values in SWEEPS.items():
            for value in values:
                size = {"B": 64, "T": 100, "M": 50, "P": 5} | {varied: value}
                runs = candidates(*size.values(), 2)
                times = measure({name: runs[name] for name in NAMES if name in runs}, options.repeats)
                data.append({"threads": threads, "varied": varied, **size, "milliseconds": times})
                columns = ["threads", "varied", *times]
                rows.append([str(threads), f"{varied}={value}", *map(cell, times.values())])
                print(*rows[-1], sep=" | ", flush=True)
    text = (
        "Forward and backward in milliseconds, one size varied around B=64, T=100, M=50, P=5, K=2: minimum (median) of "
        f"{options.repeats} interleaved repeats."
    )
    save("scaling", text, columns, rows, data)


if __name__ == "__main__":
    main()
