"""Run twice by test_base.py, as the two processes of one job; writes the sequences that each process saw."""

import json
import os
import sys
from pathlib import Path

import torch
from pytorch_lightning import LightningModule, Trainer

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.datamodules import SequenceDataModule
from lightning_alrnn.datamodules.base import SPLITS, full_lengths


class Renewed(SequenceDataModule):
    """Sequence i of epoch e holds 100·e + i."""

    input_size = 1
    output_size = 1
    objective = "regression"
    target_step = "last"

    def build(self, split: Split) -> SequenceBatch:
        number = torch.arange((20, 11, 5)[SPLITS.index(split)], dtype=torch.float32)
        inputs = torch.zeros(len(number), 3, 1)
        return SequenceBatch(inputs, number[:, None], full_lengths(inputs))

    def build_epoch(self, epoch: int) -> SequenceBatch:
        batch = self.build("train")
        return batch._replace(targets=batch.targets + 100 * epoch)


class Recorder(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.steps: list[list[int]] = []
        self.seen: dict[str, list[int]] = {"val": [], "test": []}

    def training_step(self, batch: SequenceBatch) -> torch.Tensor:
        self.steps.append(batch.targets[:, 0].int().tolist())
        loss: torch.Tensor = self.layer(batch.inputs).square().mean()
        return loss

    def validation_step(self, batch: SequenceBatch) -> None:
        self.seen["val"] += batch.targets[:, 0].int().tolist()

    def test_step(self, batch: SequenceBatch) -> None:
        self.seen["test"] += batch.targets[:, 0].int().tolist()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def run(epochs: int) -> Trainer:
    return Trainer(
        accelerator="cpu",
        devices=2,
        strategy="ddp",
        max_epochs=epochs,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
    )


def main(folder: Path) -> None:
    # they meet in a file: a port found free beforehand may be taken by the time it is used
    torch.distributed.init_process_group(
        "gloo", init_method=f"file://{folder / 'store'}", rank=int(os.environ["LOCAL_RANK"]), world_size=2
    )
    data = Renewed(batch_size=2, num_workers=0, seed=0)
    first = run(1)
    module = Recorder()
    first.fit(module, data)
    first.save_checkpoint(folder / "first.ckpt")
    first.test(module, data, verbose=False)
    seen = {split: module.seen[split] for split in ("val", "test")}

    whole, resumed = Recorder(), Recorder()
    run(3).fit(whole, data)
    last = run(3)
    last.fit(resumed, Renewed(batch_size=2, num_workers=1, seed=0), ckpt_path=folder / "first.ckpt", weights_only=True)
    record = {**seen, "train": whole.steps, "resumed": resumed.steps}
    (folder / f"seen-{last.global_rank}.json").write_text(json.dumps(record))
    torch.distributed.barrier()
    torch.distributed.destroy_process_group()  # left to the interpreter's end, gloo's threads can abort the process


if __name__ == "__main__":
    main(Path(sys.argv[1]))
