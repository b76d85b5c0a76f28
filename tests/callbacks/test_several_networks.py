"""Callbacks on a LightningModule with several AL-RNNs: each looks at its own, under its own keys."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from observed import KINDS, QUIET, Store, figure_files, validated
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks import ActiveUnits, FixedPoints, RegimeOccupancy, StatesCallback
from lightning_alrnn.datamodules.base import SequenceDataset, collate
from lightning_alrnn.modules import ALRNNSeq2Seq
from lightning_alrnn.nn import ALRNN

UNITS = {"encoder": 3, "decoder": 5}


def data() -> DataLoader[SequenceBatch]:
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, 4, (18, 5), generator=generator)
    targets[:, -1] = 3
    batch = SequenceBatch(
        torch.randint(0, 5, (18, 7), generator=generator), targets, torch.randint(1, 8, (18,), generator=generator)
    )
    return DataLoader(SequenceDataset(batch), batch_size=4, collate_fn=collate)


def model() -> ALRNNSeq2Seq:
    torch.manual_seed(0)
    made = ALRNNSeq2Seq(5, 4, 6, UNITS["encoder"], UNITS["decoder"], embedding_size=4)
    with torch.no_grad():
        for rnn in (made.network.encoder, made.network.decoder):
            rnn.W.normal_(std=0.5)
            rnn.h.normal_(std=0.5)
    return made


@pytest.mark.parametrize("prefix", ["", "network."])
def test_each_looks_at_its_own_states(by_hand: Callable[..., Any], prefix: str) -> None:
    store = Store()
    callbacks = [kind(module=f"{prefix}{name}") for kind in KINDS for name in UNITS]
    logged = validated(model(), data(), *callbacks, store)
    visited = set()
    for name, units in UNITS.items():
        counts = by_hand(store.all_of("states", name), store.all_of("lengths", name), units)
        assert logged[f"{prefix}{name}/regime/visited"] == len(counts.counts)
        assert logged[f"{prefix}{name}/regime/possible_log2"] == units
        assert logged[f"{prefix}{name}/units/mean_duty"] == pytest.approx(sum(counts.on) / counts.steps / units)
        visited.add(len(counts.counts))
    assert len(visited) == 2
    for key in ("spectrum/pc1_angle", "latent/pc1_variance"):
        assert len({logged[f"{prefix}{name}/{key}"] for name in UNITS}) == 2
    assert not any(key.startswith(("regime", "units", "spectrum", "latent")) for key in logged)


def test_keys_figures_and_state_keys_are_kept_apart() -> None:
    callbacks = [kind(module=name) for kind in (RegimeOccupancy, ActiveUnits, FixedPoints) for name in UNITS]
    assert len({callback.state_key for callback in callbacks}) == 6
    assert (RegimeOccupancy().state_key, RegimeOccupancy().prefix) == ("RegimeOccupancy", "")
    logger = CSVLogger("csv", name=None)
    trainer = Trainer(max_epochs=1, logger=logger, callbacks=list(callbacks), **QUIET)
    trainer.fit(model(), data(), data())
    groups = {tuple(key.split("/")[:2]) for key in trainer.callback_metrics if key.count("/") == 2}
    assert groups == {(name, group) for name in UNITS for group in ("regime", "units", "fixed_points")}
    figures = ["regime_occupancy", "units_duty_cycle"]
    figures += [f"fixed_points_{name}" for name in ("eigenvalues", "state_space", "tracking")]
    assert figure_files(logger) == {f"{name}_{figure}-epoch=000.png" for name in UNITS for figure in figures} | {
        "val_accuracy_by_length-epoch=000.png"
    }


@pytest.mark.parametrize("kind", KINDS)
def test_which_network_must_be_said(kind: type[StatesCallback]) -> None:
    with pytest.raises(MisconfigurationException, match=r"one of 'network.decoder', 'network.encoder'"):
        validated(model(), data(), kind())


class Two(LightningModule):
    """Two AL-RNNs of the same last name."""

    def __init__(self, returns: str) -> None:
        super().__init__()
        self.left = nn.ModuleDict({"core": ALRNN(2, 6, 3)})
        self.right = nn.ModuleDict({"core": ALRNN(2, 6, 3)})
        self.core = ALRNN(2, 6, 3) if returns == "path" else None
        self.returns = returns

    def validation_step(self, batch: Tensor, batch_idx: int) -> Any:
        states = {f"{side}.core": getattr(self, side)["core"](batch).states for side in ("left", "right")}
        if self.returns == "path":
            return {"states": {**states, "core": torch.ones(len(batch), 5, 6)}}
        return {"states": {"left.core": states["left.core"]}}


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("core", "module='core' is several ALRNNs of Two"),
        ("eft.core", "module='eft.core' is no ALRNN of Two"),
        ("right.core", r"Two.validation_step to return a dict with \"states\""),  # it returns those of the other
    ],
)
def test_a_name_that_does_not_fit(name: str, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        validated(Two("dict"), DataLoader(torch.randn(4, 5, 2), batch_size=4), ActiveUnits(module=name))  # type: ignore[arg-type]


def test_a_whole_path_comes_before_the_end_of_another() -> None:
    batches: DataLoader[Any] = DataLoader(torch.randn(4, 5, 2), batch_size=4)  # type: ignore[arg-type]
    logged = validated(Two("path"), batches, *(ActiveUnits(module=name) for name in ("core", "left.core")))
    assert logged["core/units/always_on"] == 3
    assert logged["left.core/units/always_on"] < 3


def test_no_more_regimes_are_searched_than_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    import lightning_alrnn.readings.attractors as module

    searched: list[Tensor] = []
    search = module.fixed_points

    def spy(*args: Any, visited: Tensor, **options: Any) -> Any:
        searched.append(visited)
        return search(*args, visited=visited, **options)

    monkeypatch.setattr(module, "fixed_points", spy)
    names = ("decoder", "encoder")
    bounded = [FixedPoints(module=name, exhaustive_max_nonlinear_units=4, max_visited=2) for name in names]
    occupancy = [RegimeOccupancy(module=name) for name in names]
    validated(model(), data(), *bounded, *occupancy)
    visited = [callback.result.codes for callback in occupancy]
    assert min(map(len, visited)) > 2
    assert torch.equal(searched[0], visited[0][:2])
    assert torch.equal(searched[1], visited[1])  # all regimes are searched there, so none is cut
