"""UnitAblation: what it logs, against interventions on stored sequences, on one and two processes, and its refusals."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from observed import QUIET, Plain, arrays, figure_files, model, rows_of, validated, validated_on
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from torch import Tensor, nn

from lightning_alrnn.analysis import intervene, linearise, silence
from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks import UnitAblation
from lightning_alrnn.datamodules import Arrays
from lightning_alrnn.modules import ALRNNModule, ALRNNNeural, ALRNNSeq2Seq
from lightning_alrnn.readings import Ablation

KEYS = {key.name for key in Ablation.keys}


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
    made.eval()
    callback = UnitAblation(sequences=10, threshold=0.01)
    logged = validated(made, arrays(), callback)
    batch = arrays().build("val")
    first = SequenceBatch(*(None if field is None else field[:10] for field in batch))  # type: ignore[arg-type]
    with torch.no_grad():
        linear, silent = increases(made, first, linearise), increases(made, first, silence)
    assert callback.result.linearise.tolist() == pytest.approx(linear, abs=1e-5)
    assert callback.result.silence.tolist() == pytest.approx(silent, abs=1e-5)
    expected = {"linearise_max": max(linear), "linearise_mean": sum(linear) / 3}
    expected |= {"silence_max": max(silent), "silence_mean": sum(silent) / 3}
    loss = callback.result.loss
    expected["important_units"] = sum(max(pair) > 0.01 * loss for pair in zip(linear, silent, strict=True))
    assert {key: value for key, value in logged.items() if "ablation" in key} == pytest.approx(
        {f"ablation/{name}": value for name, value in expected.items()}, abs=1e-5
    )
    assert 0 <= callback.result.accuracy <= 1


@pytest.mark.parametrize(("nonlinear", "W"), [(0, None), (6, None), (3, math.nan)])
def test_edges(nonlinear: int, W: float | None) -> None:
    callback = UnitAblation()
    logged = validated(model(nonlinear, W=W), arrays(), callback, logger=CSVLogger("csv"))
    assert all(math.isnan(logged[key]) if W else math.isfinite(logged[key]) for key in KEYS)
    assert len(callback.result.silence) == nonlinear
    assert nonlinear > 0 or all(logged[key] == 0 for key in KEYS)
    assert set(callback.figures()) == {"ablation/units"}


def test_regression_at_every_step_counts_the_mask() -> None:
    generator = torch.Generator().manual_seed(0)
    data = Arrays(
        mask=torch.rand(12, 7, generator=generator).round(),
        inputs=torch.randn(12, 7, 2, generator=generator),
        targets=torch.randn(12, 7, 3, generator=generator),
        train_index=range(2),
        val_index=range(2, 11),
        test_index=[11],
        batch_size=4,
    )
    callback = UnitAblation()
    logged = validated(model(objective="regression", target_step="every"), data, callback)
    assert callback.result.loss == pytest.approx(logged["val/task_loss"], rel=1e-5)
    assert math.isnan(callback.result.accuracy)
    assert callback.figures()


def test_every_tenth_epoch_and_the_last() -> None:
    logger = CSVLogger("csv", name=None)
    Trainer(max_epochs=12, logger=logger, callbacks=[UnitAblation(sequences=2)], **QUIET).fit(model(), arrays())
    assert [epoch for epoch, _ in rows_of(logger, "ablation/silence_max")] == [9, 11]
    assert figure_files(logger) == {"ablation_units-epoch=011.png"}


@pytest.mark.parametrize(
    ("made", "message"),
    [
        (Plain(), "Plain does not: use ALRNNModule"),
        (ALRNNSeq2Seq(5, 4, 6, 2, 2, embedding_size=4), "ALRNNSeq2Seq does not: use ALRNNModule"),
        (ALRNNNeural(2, 2, 5, hidden_size=4), "ALRNNNeural does not: use ALRNNModule"),
        (ALRNNModule(2, 3, 6, core="GRU"), "its core is GRU"),
    ],
)
def test_modules_of_another_kind_are_refused(made: LightningModule, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        UnitAblation().setup(Trainer(logger=False, **QUIET), made, "fit")


def test_wrong_arguments() -> None:
    with pytest.raises(ValueError, match="sequences must be at least 1, got 0"):
        UnitAblation(sequences=0)
    with pytest.raises(ValueError, match=r"threshold must be a share .* got -1"):
        UnitAblation(threshold=-1.0)


def on_two(rank: int, world_size: int) -> dict[str, float]:
    return validated_on(rank, world_size, model(), arrays(24), UnitAblation(sequences=9))  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders:UserWarning")
def test_two_processes_log_what_one_does(processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    alone = validated(model(), arrays(24), UnitAblation(sequences=9))
    for logged in processes(on_two, tmp_path):
        for key in KEYS:
            assert logged[key] == pytest.approx(alone[key], rel=1e-5, abs=1e-6), key
