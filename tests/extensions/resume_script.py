"""A run that can be killed at a step, for test_exact_resume.py: resume_script.py FOLDER PROCESSES KILL [CHECKPOINT]."""

from __future__ import annotations

import os
import signal
import sys
import warnings
from typing import Any

from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger

from lightning_alrnn import ALRNNModule
from lightning_alrnn.datamodules import Addition
from lightning_alrnn.modules import base


class Kill(Callback):
    """Kills the process after a step; below 0, before the validation that follows that many steps."""

    def __init__(self, step: int) -> None:
        self.step = step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGKILL)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step == -self.step:
            os.kill(os.getpid(), signal.SIGKILL)


def run(folder: str, processes: int, kill: int, checkpoint: str | None = None) -> None:
    base._CHECKPOINT_STEPS = 4
    seed_everything(0, verbose=False)
    data = Addition(sequence_length=10, train_size=10 * 16, val_size=32, test_size=32, batch_size=16 // processes)
    model = ALRNNModule(2, 1, 8, 3, objective="regression", initial_state="uniform")
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=3,
        accelerator="cpu",
        devices=processes,
        strategy="ddp" if processes > 1 else "auto",
        logger=[CSVLogger(folder, "log", 0), TensorBoardLogger(folder, "log", 0)],
        log_every_n_steps=1,
        callbacks=[Kill(kill)],
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    run(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *sys.argv[4:])
