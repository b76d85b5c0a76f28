"""What callbacks share: counted once, anew in each epoch, and on a device that can."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from observed import QUIET, Plain, plain_loader
from pytorch_lightning import Trainer
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import count_regimes
from lightning_alrnn.analysis.spectrum import principal_components
from lightning_alrnn.callbacks import FixedPoints, RegimeOccupancy, Spectrum
from lightning_alrnn.metrics import RegimeCounter
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.readings import Evidence, share_evidence


def test_each_batch_is_counted_once_for_all_callbacks(monkeypatch: pytest.MonkeyPatch) -> None:
    updates: list[int] = []
    update = RegimeCounter.update

    def spy(self: RegimeCounter, states: Tensor, *args: Any) -> None:
        updates.append(len(states))
        update(self, states, *args)

    monkeypatch.setattr(RegimeCounter, "update", spy)
    occupancy, spectrum = RegimeOccupancy(), Spectrum(every_n_epochs=2)
    made, callbacks = Plain(), [occupancy, FixedPoints(), spectrum]
    trainer = Trainer(max_epochs=3, logger=False, enable_checkpointing=False, callbacks=callbacks, **QUIET)
    trainer.fit(made, plain_loader(), plain_loader())
    assert updates == [4, 4, 1] * 3
    states = torch.cat([made.rnn(batch).states for batch in plain_loader()]).detach()
    # the last validation follows the last update
    assert torch.equal(occupancy.result.counts, count_regimes(states, 3).counts)
    assert spectrum.result is not None
    torch.testing.assert_close(spectrum.components.variance, principal_components(states).variance)


def test_only_needed_statistics_are_accumulated() -> None:
    rnn = ALRNN(2, 4, 1)
    evidence = share_evidence(rnn, torch.device("cpu"))
    assert share_evidence(rnn, torch.device("cpu")) is evidence
    evidence.need("moments")
    evidence.update((0, 0), torch.ones(2, 3, 4), torch.tensor([3, 1]), None)
    evidence.update((0, 0), torch.ones(2, 3, 4), torch.tensor([3, 1]), None)
    assert evidence.components().mean.tolist() == [1.0] * 4
    assert evidence.regimes().steps == 0
    assert share_evidence(rnn, torch.device("cpu")) is not evidence


def test_the_conditions_are_the_groups_or_else_the_classes() -> None:
    states, lengths, three = torch.ones(3, 2, 4), torch.full((3,), 2), torch.tensor([0, 2, 1])
    for group, classes, expected in (
        (three, three.flip(0), ([0, 2, 1], ["a", "b", "c"])),
        (None, three, ([0, 2, 1], ["x", "y", "z"])),
        (torch.full((3,), -1), three, ([0, 2, 1], ["x", "y", "z"])),
        (None, None, None),
    ):
        evidence = Evidence(ALRNN(2, 4, 1), torch.device("cpu"), ["a", "b", "c"], ["x", "y", "z"])
        evidence.need("trajectories")
        evidence.update((0, 0), states, lengths, group, classes)
        evidence.update((0, 1), states, lengths, None, None)  # trajectories are those of the first batch
        labels, names = evidence.conditions()
        assert (None if labels is None else (labels.tolist(), names)) == expected


def test_a_device_without_float64_leaves_the_sums_to_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    assert share_evidence(ALRNN(2, 4, 0), torch.device("meta"))._moments.outer.device.type == "meta"
    for metric in ("regimes.RegimeCounter", "units.UnitActivity"):
        monkeypatch.setattr(f"lightning_alrnn.metrics.{metric}.to", lambda self, device: self)
    assert share_evidence(ALRNN(2, 4, 0), torch.device("mps"))._moments.outer.device.type == "cpu"
