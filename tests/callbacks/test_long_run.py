"""10,000 steps with every callback: memory, open files and figures do not grow, and the event file stays in bounds."""

from __future__ import annotations

import ctypes
import gc
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from observed import KINDS, QUIET
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tiny_runs import Sequences, build

from lightning_alrnn.callbacks import DivergenceGuard, UnitAblation

EPOCHS, STEPS = 200, 50  # 10,000 steps
WARM_UP = 75  # epochs, the first three figures of each callback among them
BYTES_A_STEP = 600  # 6 MB in 10,000 steps
SCALAR = 100  # bytes of a scalar in an event file, at most, where its name has up to 40 letters
EVENT = 1_000  # bytes of an image's or a text's event beside what it holds
IMAGE = 200_000  # bytes of a figure
TEXTS = 100_000  # bytes of what callbacks say of fixed points


class Measure(Callback):
    """Memory, open files and figures at the end of each epoch."""

    def __init__(self) -> None:
        self.rows: list[tuple[int, int, int]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        gc.collect()
        ctypes.CDLL(None).malloc_trim(0)  # hands freed memory back to the system, so that it does not count
        resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
        figures = sum(issubclass(type(thing), Figure) for thing in gc.get_objects())
        self.rows.append((resident, len(list(Path("/proc/self/fd").iterdir())), figures))


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads the process's memory from /proc")
def test_nothing_grows(tmp_path: Path) -> None:
    measure = Measure()
    logger = TensorBoardLogger(tmp_path, name=None)
    trainer = Trainer(
        max_epochs=EPOCHS,
        logger=logger,
        callbacks=[*(kind() for kind in (*KINDS, UnitAblation, DivergenceGuard)), measure],
        **QUIET | {"log_every_n_steps": 50},
    )
    trainer.fit(build("sequence"), Sequences("sequence", (4 * STEPS, 7, 5), 4))
    assert trainer.global_step == EPOCHS * STEPS

    resident, files, figures = np.array(measure.rows).T
    later = np.arange(WARM_UP, EPOCHS)
    assert np.polyfit(later * STEPS, resident[later], 1)[0] < BYTES_A_STEP, (resident[later] / 2**20).round(1)
    assert files[-1] <= files[WARM_UP]
    assert figures.max() == 0  # those of the epoch are gone by its end

    (events,) = tmp_path.rglob("events.out.tfevents*")
    found: Any = EventAccumulator(str(events), size_guidance={"scalars": 0, "images": 0, "tensors": 0})
    found.Reload()
    tags = found.Tags()
    scalars = sum(len(found.Scalars(tag)) for tag in tags["scalars"])
    assert EPOCHS * 20 < scalars <= (EPOCHS + 1) * len(tags["scalars"])
    images = [len(image.encoded_image_string) for tag in tags["images"] for image in found.Images(tag)]
    assert len(images) <= (EPOCHS / 25 + 1) * len(tags["images"])
    texts = [len(text.tensor_proto.string_val[0]) for tag in tags["tensors"] for text in found.Tensors(tag)]
    assert sum(texts) < TEXTS
    assert events.stat().st_size < SCALAR * scalars + sum(images) + sum(texts) + EVENT * (len(images) + len(texts))
    assert max(images) < IMAGE
