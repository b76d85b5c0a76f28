"""10,000 steps with every callback: memory, open files and figures do not grow, and the event file stays in bounds."""

from __future__ import annotations

import ctypes
import gc
import os
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import Sequences, build

from lightning_alrnn.callbacks import (
    ActiveUnits,
    DivergenceGuard,
    FixedPoints,
    LatentTrajectories,
    RegimeOccupancy,
    Spectrum,
    UnitAblation,
)

EPOCHS, STEPS = 200, 50  # 10,000 steps
WARM_UP = 75  # epochs, the first three figures of each callback among them
SCALAR = 100  # bytes of a scalar in an event file, at most, where its name has up to 40 letters
IMAGE = 1_000  # bytes of an image's event beside the image


def _trim() -> None:
    """Hand back to the system what was freed, so that it does not count."""
    ctypes.CDLL(None).malloc_trim(0)


class Measure(Callback):
    """Memory, open files and figures at the end of each epoch."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gc.collect()
        _trim()
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        figures = sum(issubclass(type(thing), Figure) for thing in gc.get_objects()) if trainer.current_epoch % 25 == 0 else 0
        self.rows.append((resident, len(list(Path("/proc/self/fd").iterdir())), figures))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the process's memory from /proc")
def test_nothing_grows(tmp_path: Path) -> None:
    measure = Measure()
    looks = (RegimeOccupancy, ActiveUnits, FixedPoints, Spectrum, LatentTrajectories, UnitAblation)
    logger = TensorBoardLogger(tmp_path, name=None)
    trainer = Trainer(
        accelerator="cpu",
        devices=1,
        max_epochs=EPOCHS,
        logger=logger,
        callbacks=[*(look() for look in looks), DivergenceGuard(), measure],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    began = time.perf_counter()
    trainer.fit(build("sequence"), Sequences("sequence", (4 * STEPS, 7, 5), 4))
    print(f"{time.perf_counter() - began:.0f} s")
    assert trainer.global_step == EPOCHS * STEPS

    resident, files, figures = np.array(measure.rows).T
    slope = np.polyfit(np.arange(EPOCHS - WARM_UP), resident[WARM_UP:], 1)[0] / STEPS
    print([round(r/2**20,1) for r in resident[::12]])
    print(f"memory {resident[WARM_UP] / 2**20:.1f} to {resident[-1] / 2**20:.1f} MB, {slope:.1f} bytes a step; ", end="")
    print(f"files {files[WARM_UP]} to {files[-1]}; figures at most {figures.max()}")
    assert files[-1] <= files[WARM_UP]

    (events,) = tmp_path.rglob("events.out.tfevents*")
    found: Any = EventAccumulator(str(events), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    tags = found.Tags()
    scalars = sum(len(found.Scalars(tag)) for tag in tags["scalars"])
    images = [image for tag in tags["images"] for image in found.Images(tag)]
    texts = sum(len(text.tensor_proto.string_val[0]) for tag in tags["tensors"] for text in found.Tensors(tag))
    bound = SCALAR * scalars + sum(len(image.encoded_image_string) + IMAGE for image in images) + texts
    print(f"{len(tags['scalars'])} keys, {scalars} scalars, {len(images)} images, texts of {texts} bytes: ", end="")
    print(f"{events.stat().st_size} bytes, at most {bound}", )
    assert False
