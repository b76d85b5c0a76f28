"""The GPUs of this machine, and the share of a GPU that each process has."""

from __future__ import annotations

import os
from typing import NamedTuple

import torch


class Gpu(NamedTuple):
    """A process's share of a GPU."""

    memory: int
    multiprocessors: int  # processes on the same GPU use them in turn


ASSUMED_GPU = Gpu(16 << 30, 80)
"""A V100, one of the smallest GPUs of clusters, for jobs that are prepared on a login node without a GPU."""


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, each as CUDA_VISIBLE_DEVICES takes it, such as ``0`` or ``GPU-…``."""
    count = torch.cuda.device_count()
    variable = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    if count == 0 or not variable:
        return [str(number) for number in range(count)]
    names = [name.strip() for name in variable.split(",")]
    # a process sees only the first of several parts of GPUs (MIG), but each process may have another one
    return names if names[0].startswith("MIG-") else names[:count]


def read_gpu(processes: int) -> Gpu | None:
    """Share of a GPU that each process has, by the smallest GPU of this machine; ``None`` without a GPU."""
    names = visible_gpus()
    if not names:
        return None
    # this makes no CUDA context, which would take memory for as long as the sweep runs
    devices = [torch.cuda.get_device_properties(number) for number in range(torch.cuda.device_count())]
    sharing = -(-processes // len(names))
    memory = min(device.total_memory for device in devices) // sharing
    return Gpu(memory, min(device.multi_processor_count for device in devices))
