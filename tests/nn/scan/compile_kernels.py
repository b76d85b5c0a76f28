"""Compile the GPU kernels ahead of time, which needs no GPU, and print what each would take there, as JSON."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from lightning_alrnn.nn.scan.triton import ROWS, WARPS, backward_kernel, forward_kernel


def resources(kernel: Any, capability: int, units: int, **flags: bool) -> dict[str, Any]:
    """Bytes of shared memory and stack, registers of a thread, and what the code must not hold."""
    block = max(16, triton.next_power_of_2(units))
    constants = {"UNITS": units, "BLOCK": block, "ROWS": ROWS, **flags}
    kinds = dict.fromkeys(kernel.arg_names, "*fp32") | dict.fromkeys(constants, "constexpr")
    kinds |= dict.fromkeys(("P", "lengths"), "*i64") | dict.fromkeys(("batch", "time", "tiles"), "i32")
    compiled = triton.compile(
        ASTSource(kernel, kinds, constants),
        target=GPUTarget("cuda", capability, 32),
        options={"num_warps": WARPS[block], "enable_fp_fusion": True},
    )
    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(compiled.asm["cubin"])
        file.flush()
        usage = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True).stdout
    return {
        "name": f"{kernel.fn.__name__} M={units} sm_{capability}",
        "shared": compiled.metadata.shared,
        "warps": WARPS[block],
        **{key.lower(): int(value) for key, value in re.findall(r"(REG|STACK):(\d+)", usage)},
        "inexact": sorted(set(re.findall(r"tf32|mma|atom|red\.global", compiled.asm["ptx"]))),
    }


if __name__ == "__main__":
    rows = []
    for capability in (80, 90):
        for units in (50, 128):
            rows.append(resources(forward_kernel, capability, units, PADDED=True))
            flags = {"PADDED": True, "FROM_STATES": True, "FROM_LAST": True}
            rows.append(resources(backward_kernel, capability, units, **flags))
    json.dump(rows, sys.stdout)
