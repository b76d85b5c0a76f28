"""Measure the peak memory of a forward and backward pass: by how much the resident size of the process grows.

Each candidate runs in a process of its own, which reports its largest resident size during the pass less that before
it (Linux only).
"""

from __future__ import annotations

import ctypes
import json
import subprocess
import sys
from pathlib import Path

import torch
from common import arguments, cell, save, summary
from recurrence import CASES, candidates

SIZES = {"addition": CASES["addition"], "sMNIST": CASES["sMNIST"]}


def growth(name: str, case: tuple[int, int, int, int, int]) -> float:
    """Mebibytes; the first call of that size in a fresh process."""
    torch.set_num_threads(1)
    candidates(2, 3, 4, 1, 2)[name]()  # libraries load their code and get their work space
    run = candidates(*case)[name]
    ctypes.CDLL("libc.so.6").malloc_trim(0)  # what was freed is no room to hide in
    Path("/proc/self/clear_refs").write_text("5")  # forget the peak so far
    before = resident("VmRSS")
    run()
    return resident("VmHWM") - before


def resident(field: str) -> float:
    """Mebibytes, from Linux's account of this process."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(field))
    return float(line.split()[1]) / 1024


def main() -> None:
    """Measure, print, write."""
    if sys.argv[1:2] == ["--one"]:
        print(json.dumps(growth(sys.argv[2], SIZES[sys.argv[3]])))
        return
    options = arguments(__doc__, repeats=3)
    names = [name for name in candidates(2, 3, 4, 1, 2) if name != "floor"]
    data, rows = [], []
    for case, size in SIZES.items():
        growths = {}
        for name in names:
            command = [sys.executable, __file__, "--one", name, case]
            growths[name] = summary(
                [float(subprocess.check_output(command).split()[-1]) for _ in range(options.repeats)]
            )
        states = size[0] * size[1] * size[2] * 4 / 2**20
        data.append({"name": case, "B,T,M,P,K": size, "states": states, "mebibytes": growths})
        head = f"{', '.join(map(str, size))} ({case})"
        rows.append([head, f"{states:.1f}", *(cell(value, 1) for value in growths.values())])
    text = "Growth of the peak memory by a forward and backward pass in MiB: minimum (median) of "
    text += f"{options.repeats} processes."
    save("memory", text, ["B, T, M, P, K", "the states alone", *names], rows, data)


if __name__ == "__main__":
    main()
