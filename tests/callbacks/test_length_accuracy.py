"""Accuracy by length: counted by hand, on one and two processes, in validation and testing."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from observed import QUIET, figure_files, rows_of, validated, validated_on
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor
from torch.utils.data import DataLoader, TensorDataset

from lightning_alrnn.callbacks import LengthAccuracy


class Replay(LightningModule):
    """Returns what it is given, in every second epoch the opposite."""

    def __init__(self, returns: str = "dict") -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.returns = returns

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        return self.weight.sum()

    def validation_step(self, batch: Any, batch_idx: int) -> Any:
        correct = batch[0] ^ (self.current_epoch % 2 == 1)
        return {"correct": correct, "target_lengths": batch[1]} if self.returns == "dict" else self.weight.sum()

    test_step = validation_step

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def outcomes() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    lengths = torch.randint(-1, 30, (200,), generator=generator)
    return torch.rand(200, generator=generator) < 0.4, lengths


def data() -> DataLoader[Any]:
    return DataLoader(TensorDataset(*outcomes()), batch_size=7)


def expected(stage: str) -> dict[str, float]:
    shares = {}
    for name, low, high in (("0_3", 0, 3), ("4_9", 4, 9), ("10_24", 10, 24), ("25_up", 25, 999)):
        counted = [bool(c) for c, n in zip(*outcomes(), strict=True) if low <= n <= high]
        shares[f"{stage}/accuracy_length_{name}"] = sum(counted) / len(counted)
    return shares


def callback(**options: Any) -> LengthAccuracy:
    return LengthAccuracy(bins=(0, 4, 10, 25), **options)


@pytest.mark.parametrize(("function", "stage"), [("validate", "val"), ("test", "test")])
def test_shares_by_hand(function: str, stage: str) -> None:
    logger = CSVLogger("csv", name=None)
    logged = validated(Replay(), data(), callback(longest=27), function=function, logger=logger)
    assert logged == pytest.approx(expected(stage))
    assert figure_files(logger) == {f"{stage}_accuracy_by_length-{function}.png"}


def test_lengths_outside_the_bins() -> None:
    logged = validated(Replay(), data(), LengthAccuracy(bins=(2, 5, 500), longest=500))
    inside = [bool(c) for c, n in zip(*outcomes(), strict=True) if 2 <= n <= 4]
    assert logged["val/accuracy_length_2_4"] == pytest.approx(sum(inside) / len(inside))
    assert math.isnan(logged["val/accuracy_length_500_up"])
    assert len(logged) == 3


def test_epochs_start_anew_and_intervals_hold() -> None:
    logger = CSVLogger("csv", name=None)
    periodic = callback(every_n_epochs=2, figure_every_n_epochs=4)
    Trainer(max_epochs=5, logger=logger, callbacks=[periodic], **QUIET).fit(Replay(), data(), data())
    share = expected("val")["val/accuracy_length_4_9"]
    logged = rows_of(logger, "val/accuracy_length_4_9")
    assert logged == [(1, pytest.approx(1 - share)), (3, pytest.approx(1 - share)), (4, pytest.approx(share))]
    assert figure_files(logger) == {f"val_accuracy_by_length-epoch={epoch:03d}.png" for epoch in (3, 4)}


@pytest.mark.parametrize(("function", "step"), [("validate", "validation_step"), ("test", "test_step")])
def test_a_step_that_returns_something_else_is_an_error(function: str, step: str) -> None:
    with pytest.raises(MisconfigurationException, match=rf"Replay.{step} to return a dict with .*correct"):
        validated(Replay("loss"), data(), callback(), function=function)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"bins": ()}, "bins must be lengths in increasing order"),
        ({"bins": (3, 3)}, r"in increasing order, such as \(1, 7, 13\), got \(3, 3\)"),
        ({"bins": (-1, 3)}, "bins must be lengths"),
        ({"longest": 36}, "longest must be at least 37, to reach the last of the bins, got 36"),
        ({"bins": (0,), "longest": 0}, "longest must be at least 1, .* got 0"),
        ({"every_n_epochs": 0}, "every_n_epochs must be at least 1"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        LengthAccuracy(**options)


def on_two(rank: int, world_size: int) -> dict[str, float]:
    share = slice(0, 150) if rank == 0 else slice(150, 200)
    mine = DataLoader(TensorDataset(*(values[share] for values in outcomes())), batch_size=50)
    return validated_on(rank, world_size, Replay(), mine, callback())  # type: ignore[no-any-return]


def test_two_processes_count_together(processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    for logged in processes(on_two, tmp_path):
        assert logged == pytest.approx(expected("val"))
