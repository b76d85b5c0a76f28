"""Named in the configuration of a job, which imports it: lets a test send a signal in the middle of a known step."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer


class Pause(Callback):
    """Waits on the first process, between the gradient and the update of a step, until the file ``go`` is there.

    Only before the job is requeued. From then on each step takes half a second, so that SLURM has time to end the job.
    """

    def __init__(self, step: int) -> None:
        self.step = step

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        if "SLURM_RESTART_COUNT" in os.environ or trainer.global_step < self.step:
            return
        if trainer.global_step > self.step:
            time.sleep(0.5)
        elif trainer.is_global_zero:
            Path("reached").touch()
            while not Path("go").is_file():
                time.sleep(0.1)
