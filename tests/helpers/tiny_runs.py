"""Tiny data and networks for each of the LightningModules."""

from __future__ import annotations

from typing import Any

import torch
from pytorch_lightning import LightningModule, seed_everything
from torch.utils.data import DataLoader

from lightning_alrnn import ALRNNModule, ALRNNNeural, ALRNNSeq2Seq
from lightning_alrnn.batch import AnyBatch, NeuralBatch, SequenceBatch, Split, valid_steps
from lightning_alrnn.datamodules import SequenceDataModule
from lightning_alrnn.datamodules.base import SPLITS, SequenceDataset, collate

TIME, UNITS = 6, 5
MODULES = ("sequence", "seq2seq", "neural")
QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}


class Sequences(SequenceDataModule):
    """Sequences for one of the modules; those of validation and test have lengths of their own."""

    input_size = 2
    output_size = 3
    objective = "classification"
    target_step = "last"

    def __init__(self, kind: str, sizes: tuple[int, int, int], batch_size: int) -> None:
        super().__init__(batch_size=batch_size, num_workers=0, seed=0)
        self.kind, self.sizes = kind, sizes
        self.group_names = None if kind == "seq2seq" else ["left", "right"]

    def build(self, split: Split) -> AnyBatch:
        size = self.sizes[SPLITS.index(split)]
        generator = torch.Generator().manual_seed(SPLITS.index(split))
        lengths = torch.full((size,), TIME)
        if split != "train":  # a mean over batches of the same size is then the mean over all, as gradients need it
            lengths = torch.randint(1, TIME + 1, (size,), generator=generator)
        group = torch.arange(size) % 2
        if self.kind == "seq2seq":
            targets = torch.randint(0, 2, (size, 4), generator=generator)
            targets[:, -1] = 2  # <end>
            return SequenceBatch(torch.randint(0, 5, (size, TIME), generator=generator), targets, lengths)
        valid = valid_steps(lengths, TIME).unsqueeze(-1)
        inputs = torch.randn(size, TIME, 2, generator=generator) * valid
        targets = torch.randint(0, 3, (size,), generator=generator)
        if self.kind == "sequence":
            return SequenceBatch(inputs, targets, lengths, None, group)
        spikes = torch.poisson(torch.ones(size, TIME, UNITS), generator) * valid
        return NeuralBatch(inputs, spikes, targets, lengths, group)


def loader(batch: AnyBatch, batch_size: int = 4) -> DataLoader[Any]:
    return DataLoader(SequenceDataset(batch), batch_size=batch_size, collate_fn=collate)


def build(kind: str, **options: Any) -> LightningModule:
    seed_everything(0, verbose=False)
    options = {"init": "near_identity"} | options
    if kind == "sequence":
        return ALRNNModule(2, 3, 6, 3, group_names=["left", "right"], **options)
    if kind == "seq2seq":
        return ALRNNSeq2Seq(5, 3, 6, 3, 2, embedding_size=4, **options)
    made = ALRNNNeural(2, 3, UNITS, group_names=["left", "right"], **options)
    torch.nn.init.normal_(made.observation.readout.weight)  # rates all but constant would all but leave out r
    return made
