"""What callbacks share: counted once, anew in each epoch, and on a device that can."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_alrnn.analysis.regime_statistics import count_regimes
from lightning_alrnn.analysis.spectrum import principal_components
from lightning_alrnn.callbacks import FixedPoints, RegimeOccupancy, Spectrum
from lightning_alrnn.metrics import RegimeCounter
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.readings import share_evidence


class Plain(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.rnn = ALRNN(2, 5, 3)
        torch.nn.init.normal_(self.rnn.W, std=0.5)

    def validation_step(self, batch: Tensor, batch_idx: int) -> dict[str, Tensor]:
        return {"states": self.rnn(batch).states}

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.rnn(batch).states.square().mean()

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def loader() -> DataLoader[Tensor]:
    return DataLoader(torch.randn(9, 6, 2, generator=torch.Generator().manual_seed(0)), batch_size=4)  # type: ignore[arg-type]


def test_each_batch_is_counted_once_for_all_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[int] = []
    update = RegimeCounter.update

    def spy(self: RegimeCounter, states: Tensor, *args: Any) -> None:
        updates.append(len(states))
        update(self, states, *args)

    monkeypatch.setattr(RegimeCounter, "update", spy)
    occupancy, spectrum = RegimeOccupancy(), Spectrum(every_n_epochs=2)
    trainer = Trainer(
        max_epochs=3,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[occupancy, FixedPoints(), spectrum],
    )
    made = Plain()
    trainer.fit(made, loader(), loader())
    assert updates == [4, 4, 1] * 3
    states = torch.cat([made.rnn(batch).states for batch in loader()]).detach()
    # the last validation follows the last update
    expected = count_regimes(states, 3)
    assert torch.equal(occupancy.result.counts, expected.counts)
    assert spectrum.result is not None
    torch.testing.assert_close(spectrum.components.variance, principal_components(states).variance)


def test_what_nobody_wants_is_not_accumulated() -> None:
    rnn = ALRNN(2, 4, 1)
    evidence = share_evidence(rnn, torch.device("cpu"))
    assert share_evidence(rnn, torch.device("cpu")) is evidence
    evidence.need("moments")
    evidence.update((0, 0), torch.ones(2, 3, 4), torch.tensor([3, 1]), None)
    evidence.update((0, 0), torch.ones(2, 3, 4), torch.tensor([3, 1]), None)
    assert evidence.components().mean.tolist() == [1.0] * 4
    assert evidence.regimes().steps == 0
    assert share_evidence(rnn, torch.device("cpu")) is not evidence


def test_a_device_without_float64_leaves_the_sums_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_evidence(ALRNN(2, 4, 0), torch.device("meta"))._moments.outer.device.type == "meta"
    for metric in ("regimes.RegimeCounter", "units.UnitActivity"):
        monkeypatch.setattr(f"lightning_alrnn.metrics.{metric}.to", lambda self, device: self)
    assert share_evidence(ALRNN(2, 4, 0), torch.device("mps"))._moments.outer.device.type == "cpu"
