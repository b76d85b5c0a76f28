"""Run twice by test_base.py, as the two processes of one job: an epoch and a test; writes what each process saw."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.datamodules import Arrays


class Recorder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: dict[str, list[int]] = {"train": [], "val": [], "test": []}

    def _step(self, split: str, batch: SequenceBatch) -> torch.Tensor:
        self.seen[split] += batch.targets[:, 0].int().tolist()
        loss: torch.Tensor = self.layer(batch.inputs).square().mean()
        return loss

    def training_step(self, batch: SequenceBatch) -> torch.Tensor:
        return self._step("train", batch)

    def validation_step(self, batch: SequenceBatch) -> None:
        self._step("val", batch)

    def test_step(self, batch: SequenceBatch) -> None:
        self._step("test", batch)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def main(folder: Path) -> None:
    # they meet in a file: a port found free beforehand may be taken by the time it is used
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=int(os.environ["LOCAL_RANK"]), world_size=2
    )
    data = Arrays(
        str(folder / "inputs.npy"),
        targets=np.arange(36.0),
        train_index=np.arange(20),
        val_index=np.arange(20, 31),
        test_index=np.arange(31, 36),
        batch_size=2,
    )
    trainer = Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=1,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )
    module = Recorder()
    trainer.fit(module, data)
    trainer.test(module, data, verbose=False)
    (folder / f"seen-{trainer.global_rank}.json").write_text(json.dumps(module.seen))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()  # left to the interpreter's end, gloo's threads can abort the process


if __name__ == "__main__":
    main(Path(sys.argv[1]))
