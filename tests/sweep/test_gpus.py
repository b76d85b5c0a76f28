"""Which GPUs there are, and what each process has of one: of a machine that is made up."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from lightning_alrnn.commands import sweep
from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.sweep.gpus import ASSUMED_GPU, Gpu, read_gpu, visible_gpus
from lightning_alrnn.sweep.plan import Plan

SMALL, LARGE = (SimpleNamespace(total_memory=size << 30, multi_processor_count=3 * size) for size in (24, 80))


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> list[SimpleNamespace]:
    """The GPUs that CUDA would show this process."""
    devices: list[SimpleNamespace] = []
    monkeypatch.setattr("torch.cuda.device_count", lambda: len(devices))
    monkeypatch.setattr("torch.cuda.get_device_properties", devices.__getitem__)
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    return devices


@pytest.mark.parametrize(
    ("variable", "count", "expected"),
    [
        (None, 2, ["0", "1"]),
        (None, 0, []),
        ("", 0, []),
        ("3, 5", 2, ["3", "5"]),
        ("3,9,5", 1, ["3"]),  # CUDA leaves out what follows one that is not there
        ("-1", 0, []),
        ("GPU-1a,GPU-2b", 2, ["GPU-1a", "GPU-2b"]),
        ("MIG-1a,MIG-2b", 1, ["MIG-1a", "MIG-2b"]),  # one process sees the first alone
    ],
)
def test_names_of_gpus(
    variable: str | None,
    count: int,
    expected: list[str],
    gpus: list[SimpleNamespace],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if variable is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", variable)
    gpus.extend([LARGE] * count)
    assert visible_gpus() == expected


def test_what_a_process_has_of_a_gpu(gpus: list[SimpleNamespace]) -> None:
    assert read_gpu(1) is None
    gpus.extend([LARGE, SMALL])
    assert read_gpu(1) == read_gpu(2) == Gpu(24 << 30, 72)
    assert read_gpu(3) == read_gpu(4) == Gpu(12 << 30, 72)  # two processes on a GPU


@pytest.mark.parametrize(
    ("options", "accelerator", "expected"),
    [
        ("", "auto", Gpu(80 << 30, 240)),
        ("", "gpu", Gpu(80 << 30, 240)),
        ("", "cpu", None),
        ("--jobs=2", "gpu", Gpu(40 << 30, 240)),
        ("--executor=inline", "auto", Gpu(80 << 30, 240)),
        ("--executor=slurm --gpus=1", "gpu", ASSUMED_GPU),  # that of a login node tells nothing
        ("--executor=slurm", "auto", None),
    ],
)
def test_the_gpu_of_a_sweep(options: str, accelerator: str, expected: Gpu | None, gpus: list[SimpleNamespace]) -> None:
    gpus.append(LARGE)
    parsed = parser_of("sweep").parse_args(["--seeds=1", "--output_dir=swept", *options.split()])
    assert sweep._gpu(parsed, Plan((), (), {}, accelerator)) == expected
