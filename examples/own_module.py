"""Callbacks on a LightningModule that knows nothing of this package but one layer.

``Tagger`` is an ordinary LightningModule with a loop of its own. Two things are asked of it: an ``ALRNN`` somewhere
within, and the states in what ``validation_step`` returns.

    python examples/own_module.py
"""

from __future__ import annotations

import logging
import warnings

import torch
from pytorch_lightning import LightningModule, Trainer, seed_everything
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from lightning_alrnn import ALRNN, ActiveUnits, FixedPoints, LatentTrajectories, RegimeOccupancy, Spectrum


class Tagger(LightningModule):
    """Says at each step whether an even or an odd number of pulses has come so far."""

    def __init__(self) -> None:
        super().__init__()
        self.rnn = ALRNN(input_size=1, hidden_size=16, nonlinear_units=8, init="near_identity")
        self.readout = torch.nn.Linear(16, 2)

    def forward(self, pulses: Tensor) -> tuple[Tensor, Tensor]:
        """Scores ``(batch, time, 2)``, and states ``(batch, time, M)``."""
        states, _ = self.rnn(pulses)
        return self.readout(states), states

    def training_step(self, batch: list[Tensor], batch_idx: int) -> Tensor:
        scores, _ = self(batch[0])
        return functional.cross_entropy(scores.flatten(0, 1), batch[1].flatten())

    def validation_step(self, batch: list[Tensor], batch_idx: int) -> dict[str, Tensor]:
        scores, states = self(batch[0])
        self.log("val/accuracy", (scores.argmax(-1) == batch[1]).float().mean())
        return {"states": states}  # this is what the callbacks look at

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=0.01)


def make_loader(sequences: int, seed: int, shuffle: bool = False) -> DataLoader[tuple[Tensor, ...]]:
    """Rare pulses, 20 steps, and their parity."""
    generator = torch.Generator().manual_seed(seed)
    pulses = (torch.rand(sequences, 20, 1, generator=generator) < 0.1).float()
    parity = pulses[..., 0].cumsum(dim=1).long() % 2
    return DataLoader(TensorDataset(pulses, parity), batch_size=64, shuffle=shuffle)


def main(epochs: int = 30) -> dict[str, float]:
    """Train, and print what the callbacks logged last."""
    warnings.filterwarnings("ignore", module="pytorch_lightning")
    logging.getLogger("pytorch_lightning").setLevel(logging.WARNING)
    seed_everything(0)
    trainer = Trainer(
        max_epochs=epochs,
        gradient_clip_val=1.0,
        callbacks=[RegimeOccupancy(), ActiveUnits(), FixedPoints(), Spectrum(), LatentTrajectories()],
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Tagger(), make_loader(2000, 0, shuffle=True), make_loader(500, 1))
    logged = {key: float(value) for key, value in sorted(trainer.callback_metrics.items())}
    print()
    for key, value in logged.items():
        print(f"{key:<36}{value:.4g}")
    return logged


if __name__ == "__main__":
    main()
