"""UnitAblation: what it logs, against interventions on stored sequences, on one and two processes, and its refusals."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lightning_alrnn.analysis import intervene, linearise, silence
from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks import UnitAblation
from lightning_alrnn.datamodules import Arrays
from lightning_alrnn.modules import ALRNNModule, ALRNNNeural, ALRNNSeq2Seq
from lightning_alrnn.nn import ALRNN

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}
KEYS = {
    f"ablation/{name}" for name in ("linearise_max", "linearise_mean", "silence_max", "silence_mean", "important_units")
}


def data(size: int = 24) -> Arrays:
    generator = torch.Generator().manual_seed(1)
    return Arrays(
        inputs=torch.randn(size, 7, 2, generator=generator),
        targets=torch.randint(0, 3, (size,), generator=generator),
        lengths=torch.randint(2, 8, (size,), generator=generator),
        train_index=range(4),
        val_index=range(4, size - 1),
        test_index=[size - 1],
        batch_size=4,
    )


def model(nonlinear: int = 3, **options: Any) -> ALRNNModule:
    torch.manual_seed(0)
    made = ALRNNModule(2, 3, 6, nonlinear, **options).eval()
    with torch.no_grad():
        made.core.W.normal_(std=0.5)  # type: ignore[operator,union-attr]
        made.core.h.normal_(std=0.5)  # type: ignore[operator,union-attr]
        made.readout.weight.normal_()
    return made


class Halved(nn.Module):
    """An encoder that halves the number of steps and has other widths."""

    output_size = 4

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(2, 4)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.linear(inputs[:, ::2])  # type: ignore[no-any-return]

    def output_lengths(self, lengths: Tensor) -> Tensor:
        return (lengths + 1) // 2


def increases(made: ALRNNModule, batch: SequenceBatch, kind: Callable[[int], Any]) -> list[float]:
    """By the float64 interventions, the module's readout and cross-entropy by hand."""
    inputs, lengths = (batch.inputs, batch.lengths)
    if made.encoder is not None:
        inputs, lengths = made.encoder(inputs), made.encoder.output_lengths(lengths)  # type: ignore[operator]
    losses = []
    for intervention in [None, *map(kind, range(made.core.nonlinear_units))]:  # type: ignore[arg-type]
        states = intervene(made.core, inputs, intervention, lengths=lengths).states.float()  # type: ignore[arg-type]
        scores = made.readout(states[torch.arange(len(states)), lengths - 1])
        losses.append(float(nn.functional.cross_entropy(scores, batch.targets)))
    return [loss - losses[0] for loss in losses[1:]]


@pytest.mark.parametrize("encoder", [False, True])
def test_scalars_equal_interventions_on_the_first_sequences(encoder: bool) -> None:
    made = model(encoder=Halved()) if encoder else model()
    callback = UnitAblation(sequences=10, threshold=0.01)
    (logged,) = Trainer(logger=False, callbacks=[callback], **QUIET).validate(made, data(), verbose=False)
    assert {key for key in logged if "ablation" in key} == KEYS
    whole = data().build("val")
    first = SequenceBatch(*(None if field is None else field[:10] for field in whole))  # type: ignore[arg-type]
    with torch.no_grad():
        linear, silent = increases(made, first, linearise), increases(made, first, silence)
    assert callback.result.linearise.tolist() == pytest.approx(linear, abs=1e-5)
    assert callback.result.silence.tolist() == pytest.approx(silent, abs=1e-5)
    assert logged["ablation/linearise_max"] == pytest.approx(max(linear), abs=1e-5)
    assert logged["ablation/silence_mean"] == pytest.approx(sum(silent) / 3, abs=1e-5)
    important = sum(max(pair) > 0.01 * callback.result.loss for pair in zip(linear, silent, strict=True))
    assert logged["ablation/important_units"] == important
    assert 0 <= callback.result.accuracy <= 1
    assert set(callback.figures()) == {"ablation/units"}


@pytest.mark.parametrize("nonlinear", [0, 6])
def test_edges(nonlinear: int) -> None:
    callback = UnitAblation()
    (logged,) = Trainer(logger=False, callbacks=[callback], **QUIET).validate(model(nonlinear), data(), verbose=False)
    assert set(logged) >= KEYS
    assert all(math.isfinite(logged[key]) for key in KEYS)
    assert len(callback.result.silence) == nonlinear
    if nonlinear == 0:
        assert all(logged[key] == 0 for key in KEYS)
    assert callback.figures()


def test_regression_at_every_step_counts_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(12, 7, generator=generator).round()
    arrays = Arrays(
        inputs=torch.randn(12, 7, 2, generator=generator),
        targets=torch.randn(12, 7, 3, generator=generator),
        mask=mask,
        train_index=range(2),
        val_index=range(2, 11),
        test_index=[11],
        batch_size=4,
    )
    made, callback = model(objective="regression", target_step="every"), UnitAblation()
    (logged,) = Trainer(logger=False, callbacks=[callback], **QUIET).validate(made, arrays, verbose=False)
    assert callback.result.loss == pytest.approx(logged["val/task_loss"], rel=1e-5)
    assert math.isnan(callback.result.accuracy)
    assert callback.figures()


def test_weights_that_are_not_finite() -> None:
    broken = model()
    with torch.no_grad():
        broken.core.W.fill_(math.nan)  # type: ignore[operator,union-attr]
    (logged,) = Trainer(logger=CSVLogger("csv"), callbacks=[UnitAblation()], **QUIET).validate(broken, data())
    assert all(math.isnan(logged[key]) for key in KEYS)


def test_every_tenth_epoch_and_the_last() -> None:
    logger = CSVLogger("csv", name=None)
    trainer = Trainer(max_epochs=12, logger=logger, callbacks=[UnitAblation(sequences=2)], **QUIET)
    trainer.fit(model().train(), data())
    rows = [row.split(",") for row in (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()]
    column, epoch = rows[0].index("ablation/silence_max"), rows[0].index("epoch")
    assert [int(row[epoch]) for row in rows[1:] if row[column]] == [9, 11]
    drawn = [path.name for path in (Path(logger.log_dir) / "figures").iterdir()]
    assert drawn == ["ablation_units-epoch=011.png"]


class Other(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.rnn = ALRNN(2, 6, 3)


@pytest.mark.parametrize(
    "made", [Other(), ALRNNSeq2Seq(5, 4, 6, 2, 2, embedding_size=4), ALRNNNeural(2, 2, 5, hidden_size=4)]
)
def test_modules_of_another_kind_are_refused(made: LightningModule) -> None:
    with pytest.raises(MisconfigurationException, match=rf"{type(made).__name__} does not: use ALRNNModule"):
        UnitAblation().setup(Trainer(logger=False, **QUIET), made, "fit")
    with pytest.raises(MisconfigurationException, match="its core is GRU"):
        UnitAblation().setup(Trainer(logger=False, **QUIET), ALRNNModule(2, 3, 6, core="GRU"), "fit")


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="sequences must be at least 1, got 0"):
        UnitAblation(sequences=0)
    with pytest.raises(ValueError, match=r"threshold must be a share .* got -1"):
        UnitAblation(threshold=-1.0)


def start(rank: int, world_size: int) -> dict[str, float]:
    # the process group is up already; Lightning learns from the environment which process this is
    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(world_size),
        "RANK": str(rank),
        "TORCHELASTIC_RUN_ID": "test",
        "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(world_size),
    }
    trainer = Trainer(logger=False, callbacks=[UnitAblation(sequences=9)], devices=world_size, strategy="ddp", **QUIET)
    (logged,) = trainer.validate(model(), data(), verbose=False)
    return {key: float(logged[key]) for key in KEYS}


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders:UserWarning")
def test_two_processes_log_what_one_does(processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    trainer = Trainer(logger=False, callbacks=[UnitAblation(sequences=9)], **QUIET)
    (alone,) = trainer.validate(model(), data(), verbose=False)
    for logged in processes(start, tmp_path):
        for key in KEYS:
            assert logged[key] == pytest.approx(alone[key], rel=1e-5, abs=1e-6), key
