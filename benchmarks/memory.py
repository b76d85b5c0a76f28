"""Peak memory of a forward and backward pass: how much more the process holds at its height than before the pass.

Each candidate runs in a process of its own, which reports the growth of its largest resident size.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import torch
from common import arguments, cell, save, summary
from recurrence import CASES, candidates

SIZES = {"addition": CASES["addition"], "sMNIST": CASES["sMNIST"]}


def growth(name: str, case: tuple[int, int, int, int, int]) -> float:
    """Mebibytes; the first call, on a fresh process."""
    torch.set_num_threads(1)
    small = candidates(2, 3, 4, 1, 2)[name]
    small()  # libraries load their code and get their work space
    run = candidates(*case)[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    run()
    return (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024


def main() -> None:
    """Measure, print, write."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(growth(sys.argv[2], SIZES[sys.argv[3]])))
        return
    options = arguments(__doc__, repeats=3)
    names = [name for name in candidates(2, 3, 4, 1, 2) if name != "floor"]
    data, rows = [], []
    for case, size in SIZES.items():
        found = {}
        for name in names:
            command = [sys.executable, __file__, "--one", name, case]
            found[name] = summary(
                [
                    float(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])
                    for _ in range(options.repeats)
                ]
            )
        batch, time, hidden, _, _ = size
        states = batch * time * hidden * 4 / 2**20
        data.append({"name": case, "B,T,M,P,K": size, "states": states, "mebibytes": found})
        rows.append(
            [f"{', '.join(map(str, size))} ({case})", f"{states:.1f}", *(cell(value, 1) for value in found.values())]
        )
    text = (
        "Growth of the peak memory by a forward and backward pass in MiB: minimum (median) of "
        f"{options.repeats} processes."
    )
    save("memory", text, ["B, T, M, P, K", "the states alone", *names], rows, data)


if __name__ == "__main__":
    main()
