"""The GPUs of this machine, as far as a sweep has to know them."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch


class Gpu(NamedTuple):
    """A process's share of a GPU."""

    memory: int
    multiprocessors: int  # processes on the same GPU use them in turn


ASSUMED_GPU = Gpu(16 << 30, 80)
"""A V100, among the smallest that clusters have: what is assumed where nobody can look, as on a login node."""


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, each as CUDA_VISIBLE_DEVICES takes it: a number or ``GPU-…``."""
    count = torch.cuda.device_count()
    variable = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if count == 0 or not variable:
        return [str(number) for number in range(count)]
    names = [name.strip() for name in variable.split(",")]
    # of several parts of GPUs (MIG) a process sees the first alone, but each process may have another
    return names if names[0].startswith("MIG-") else names[:count]


def read_gpu(processes: int) -> Gpu | None:
    """Each process's share of a GPU, by the smallest of this machine's GPUs; ``None`` where there is none.

    It makes no CUDA context, which would take memory of a GPU for as long as the sweep goes on.
    """
    names = visible_gpus()
    if not names:
        return None
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    sharing = -(-processes // len(names))
    memory = min(device.total_memory for device in devices) // sharing
    return Gpu(memory, min(device.multi_processor_count for device in devices))
