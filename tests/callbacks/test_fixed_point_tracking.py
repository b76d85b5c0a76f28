"""FixedPoints over epochs: what it logs, writes and keeps as a network goes through a known bifurcation."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from observed import QUIET, Plain, figure_files, validated
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_alrnn.analysis.spectrum import PrincipalComponents, principal_components
from lightning_alrnn.analysis.tracking import FixedPointPlaces
from lightning_alrnn.callbacks import FixedPoints
from lightning_alrnn.callbacks.fixed_point_history import FixedPointHistory
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.readings.attractors import CHANGES


class Inhibition(Plain):
    """Two units that inhibit each other, with a strength for each epoch."""

    def __init__(self, strengths: list[float]) -> None:
        super().__init__()
        self.strengths = strengths
        self.rnn = ALRNN(1, 2, 2)
        self.unused = torch.nn.Parameter(torch.zeros(()))
        with torch.no_grad():
            _ = self.rnn.A.fill_(0.5), self.rnn.h.fill_(1.0), self.rnn.C.fill_(1.0)  # type: ignore[union-attr]

    def on_train_epoch_start(self) -> None:
        strength = self.strengths[self.current_epoch]
        self.rnn.W.data = torch.tensor([[0.0, -strength], [-strength, 0.0]])

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.unused * 0.0


def loader() -> DataLoader[Tensor]:
    return DataLoader(torch.randn(4, 30, 1, generator=torch.Generator().manual_seed(0)), batch_size=4)  # type: ignore[arg-type]


class Log(Callback):
    def __init__(self) -> None:
        self.rows: list[list[float]] = []

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.rows.append([float(trainer.callback_metrics[key]) for key in CHANGES])


# below a strength of 0.5 the symmetric state is stable; beyond it is a saddle between two that are
STRENGTHS = [0.2, 0.3, 1.0, 1.2, 0.3, 0.3]
EXPECTED = [[0, 0, 0, 0], [0, 0, 0, 0], [2, 0, 1, 1], [0, 0, 0, 0], [0, 2, 1, 1], [0, 0, 0, 0]]


def fit(
    callback: FixedPoints, epochs: int, *further: Callback, strengths: list[float] = STRENGTHS, **options: Any
) -> Log:
    log = Log()
    checks = {"enable_checkpointing": bool(further), "num_sanity_val_steps": 0}
    start = {"ckpt_path": options.pop("ckpt_path", None), "weights_only": True}
    trainer = Trainer(
        max_epochs=epochs, callbacks=[callback, log, *further], **QUIET | checks | {"logger": False} | options
    )
    trainer.fit(Inhibition(strengths), loader(), loader(), **start)
    return log


def texts(events: EventAccumulator) -> list[str]:
    content = events.Tensors("fixed_points/bifurcation/text_summary")
    return [event.tensor_proto.string_val[0].decode() for event in content]


def read(logger: TensorBoardLogger) -> EventAccumulator:
    events = EventAccumulator(logger.log_dir, size_guidance={"tensors": 0, "images": 0})
    events.Reload()
    return events


def test_a_known_bifurcation_and_its_text() -> None:
    callback, logger = FixedPoints(), TensorBoardLogger("runs", name=None)
    assert fit(callback, 6, logger=logger).rows == EXPECTED
    events = read(logger)
    assert texts(events) == [
        "epoch 2: 1 stable → 2 stable, 1 saddle (born: 2, died: 0, changed stability: 1); all regimes searched",
        "epoch 4: 2 stable, 1 saddle → 1 stable (born: 0, died: 2, changed stability: 1); all regimes searched",
    ]
    assert "fixed_points/tracking" in events.Tags()["images"]
    first, _, middle, *_, last = callback.history.evaluations
    assert first.identities == last.identities == [0]  # the symmetric one, all along
    assert sorted(middle.identities) == [0, 1, 2]
    assert middle.stability[middle.identities.index(0)] == "saddle"
    assert callback.history.bifurcations == [2, 4]
    assert [one.epoch for one in callback.history.evaluations] == list(range(6))


def test_the_seeded_search_is_named_in_the_text() -> None:
    logger = TensorBoardLogger("runs", name=None)
    fit(FixedPoints(exhaustive_max_nonlinear_units=1, figure_every_n_epochs=0), 3, logger=logger)
    (text,) = texts(read(logger))
    assert text.endswith("; not all regimes searched: some may be missed")


def test_a_resumed_run_continues_the_history() -> None:
    first, resumed, uninterrupted = FixedPoints(), FixedPoints(), FixedPoints()
    fit(first, 2, ModelCheckpoint("saved", filename="last"))
    content = torch.load("saved/last.ckpt", weights_only=True)
    assert content["callbacks"]["FixedPoints"] == first.history.state_dict()
    logger = CSVLogger("csv")
    log = fit(resumed, 6, ModelCheckpoint("again"), ckpt_path="saved/last.ckpt", logger=logger)
    assert log.rows == EXPECTED[2:]
    fit(uninterrupted, 6)
    assert resumed.history.state_dict() == uninterrupted.history.state_dict()
    assert "fixed_points_tracking-epoch=005.png" in figure_files(logger)


def test_another_run_begins_anew_and_a_validation_adds_nothing() -> None:
    callback = FixedPoints()
    fit(callback, 4)
    fit(callback, 2)
    assert [one.epoch for one in callback.history.evaluations] == [0, 1]
    logged = validated(Inhibition(STRENGTHS), loader(), callback)
    assert [logged[key] for key in CHANGES] == [0, 0, 0, 0]
    assert not callback.history.evaluations  # of another network


def test_weights_that_are_not_finite_leave_the_history_alone() -> None:
    callback = FixedPoints()
    log = fit(callback, 3, strengths=[0.2, math.nan, 0.2])
    assert log.rows[0] == log.rows[2] == [0, 0, 0, 0]
    assert all(math.isnan(value) for value in log.rows[1])
    assert [one.epoch for one in callback.history.evaluations] == [0, 2]
    assert callback.figures()


def components(size: int) -> PrincipalComponents:
    torch.manual_seed(0)
    return principal_components(torch.randn(3, 9, size))


def random_places(count: int, size: int, units: int, generator: torch.Generator) -> FixedPointPlaces:
    z = torch.randn(count, size, generator=generator).double()
    return FixedPointPlaces(z, z[:, size - units :] > 0, ["stable"] * count)


@pytest.mark.parametrize("units", [0, 4])
@pytest.mark.parametrize("counts", [[0, 3, 0, 2], [3, 0, 0, 1]])
def test_states_of_any_length_come_back(units: int, counts: list[int]) -> None:
    generator, history = torch.Generator().manual_seed(0), FixedPointHistory()
    again = FixedPointHistory()
    for epoch, count in enumerate(counts):
        again.load_state_dict(history.state_dict())
        points = random_places(count, 6, units, generator)
        changes = [one.add(epoch, epoch, points, [count, 0, 0, 0], components(6)) for one in (history, again)]
        assert changes[0] == changes[1]
        assert history.state_dict() == again.state_dict()
        identities = history.evaluations[-1].identities
        assert len(set(identities)) == count
        assert changes[0].bifurcation == (epoch > 0 and count != counts[epoch - 1])


def test_a_history_of_thousands_of_epochs_stays_small(tmp_path: Path) -> None:
    generator, history = torch.Generator().manual_seed(0), FixedPointHistory()
    points = random_places(200, 100, 20, generator)
    of_states = components(100)
    for epoch in range(2000):
        if epoch == 1500:
            again = FixedPointHistory()
            again.load_state_dict(history.state_dict())
            history = again
        history.add(epoch, epoch, points, [200, epoch % 2, 0, 0], of_states)
    torch.save(history.state_dict(), tmp_path / "state.pt")
    assert (tmp_path / "state.pt").stat().st_size < 700_000
    epochs = [one.epoch for one in history.evaluations]
    assert epochs == [*range(0, 1999, 64), 1999]
    assert history.bifurcations == list(range(1000, 2000))
    assert history.evaluations[-1].identities == list(range(200))


def test_a_component_that_changes_its_sign_does_not_turn_the_figure_over() -> None:
    history, points = FixedPointHistory(), random_places(2, 3, 1, torch.Generator().manual_seed(0))
    found = components(3)
    for step, flipped in enumerate((found, found._replace(directions=-found.directions))):
        history.add(step, step, points, [2, 0, 0, 0], flipped)
    assert history.evaluations[0].coordinates == history.evaluations[1].coordinates
