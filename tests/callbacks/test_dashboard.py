"""What TensorBoard's tabs hold after a run, read from its event files, and what the terminal says at its end."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from observed import QUIET
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.custom_scalar import layout_pb2
from tensorboard.plugins.hparams import plugin_data_pb2

from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import ActiveUnits, Dashboard, FixedPoints, RegimeOccupancy, traces
from lightning_alrnn.callbacks.dashboard import _typed
from lightning_alrnn.cli import resolve_configs
from lightning_alrnn.datamodules import Addition, Arrays


def fit(folder: Path, **options: Any) -> Trainer:
    data = Addition(sequence_length=6, train_size=32, val_size=16, test_size=16, batch_size=16)
    model = ALRNNModule(2, 1, 6, 3, objective="regression")
    logger = TensorBoardLogger(folder, "run", 0, default_hp_metric=False)
    callbacks = [RegimeOccupancy(), ActiveUnits(), FixedPoints(), Dashboard()]
    trainer = Trainer(max_epochs=2, logger=logger, callbacks=callbacks, **QUIET, **options)
    trainer.fit(model, data)
    return trainer


@pytest.mark.parametrize("typed", ["--config digits --trainer.max_epochs 2", "--config=digits --data.seed=1"])
def test_the_card_has_the_command_as_it_was_typed(typed: str) -> None:
    command = ["/bin/alrnn", "fit", *resolve_configs(typed.split())]
    assert any(argument.endswith("digits.yaml") for argument in command)
    assert _typed(command) == f"alrnn fit {typed}"


def test_tabs_and_summary(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    trainer = fit(tmp_path)
    events = EventAccumulator(str(tmp_path / "run" / "version_0"), size_guidance={"tensors": 0})
    events.Reload()

    content = events.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]
    layout = layout_pb2.Layout.FromString(content)
    assert [category.title for category in layout.category] == ["task", "regimes", "units", "fixed points"]
    charts = {chart.title: list(chart.multiline.tag) for category in layout.category for chart in category.chart}
    assert "score by group" not in charts  # there is no such curve

    card = events.Tensors("model card/text_summary")[0].tensor_proto.string_val[0].decode()
    sizes = ("z_t = A z", "M = 6, P = 3, K = 2", "**parameters**: ")
    for part in (*sizes, "τ = 0.1, M_reg = 3", "Adam, lr 0.001", "train_size=32"):
        assert part in card

    start = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = plugin_data_pb2.HParamsPluginData.FromString(start).session_start_info.hparams
    assert values["nonlinear_units"].number_value == 3
    assert values["data/sequence_length"].number_value == 6
    steps = [event.step for event in events.Scalars("val/mse")]
    assert steps == [1, 3]  # nothing is logged once more
    assert events.Scalars("val/mse")[-1].value == pytest.approx(float(trainer.callback_metrics["val/mse"]))

    baselines = trainer.datamodule.baselines("val")  # type: ignore[attr-defined]
    assert set(baselines) == {"mean", "linear model"}
    assert "^baseline/.+" in charts["score"]
    for name, scores in baselines.items():
        logged = events.Scalars(f"baseline/mse/{name.replace(' ', '_')}")
        assert [event.step for event in logged] == [1, 3]
        assert [event.value for event in logged] == pytest.approx([scores["mse"]] * 2)

    first, *lines = capsys.readouterr().out.strip().splitlines()
    mse = float(trainer.callback_metrics["val/mse"])
    assert mse > min(scores["mse"] for scores in baselines.values())
    assert first.startswith("The network is no better than a linear model: its mean squared error is")
    said = dict(line.split("  ", 1) for line in lines)
    assert said["baselines"].strip().startswith("mse: linear model 0.")
    assert {"val/mse", "regimes", "active units", "fixed points", "log", "figures", "checkpoint", "next"} <= set(said)
    assert said["regimes"].strip().startswith(f"{int(trainer.callback_metrics['regime/visited'])} of 2^3")
    assert Path(said["checkpoint"].strip()).is_file()
    assert said["next"].strip().startswith("alrnn analyze --ckpt_path ")


@pytest.mark.parametrize("at_every_step", [True, False])
def test_traces_are_those_of_the_predictions(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_every_step: bool
) -> None:
    drawn: list[Any] = []
    monkeypatch.setattr(traces, "plot_traces", lambda *given: drawn.append(given) or Figure())
    rng = np.random.default_rng(0)
    inputs, group = rng.normal(size=(60, 7, 2)).astype("f"), ["left", "right"] * 30
    mask = (rng.random((60, 7)) < 0.5).astype("f") if at_every_step else None
    if mask is not None:
        mask[:, 0] = 1
    targets = inputs.cumsum(axis=1) if at_every_step else inputs.sum(axis=1)
    data = Arrays(inputs, targets, mask=mask, group=group, target_step="every" if at_every_step else "last")
    data.output_names = ["x", "y"]
    model = ALRNNModule(2, 2, 6, 3, objective="regression", target_step=data.target_step)
    logger = TensorBoardLogger(tmp_path, "run", 0)
    trainer = Trainer(max_epochs=2, logger=logger, callbacks=[Dashboard(summary=False)], **QUIET)
    trainer.fit(model, data)
    assert len(drawn) == int(at_every_step)  # once, at the end
    assert len(list(tmp_path.rglob("val_traces-epoch=001.png"))) == int(at_every_step)
    if at_every_step:
        batch = data.build("val")
        outputs, wanted, counted, labels, names, channels = drawn[0]
        torch.testing.assert_close(outputs, model(batch.inputs, batch.lengths).outputs.detach())
        assert torch.equal(wanted, batch.targets)
        assert torch.equal(counted, batch.mask > 0)  # type: ignore[operator]
        assert torch.equal(labels, batch.group)
        assert (names, channels) == (["left", "right"], ["x", "y"])


def test_nothing_is_said_of_a_dry_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    fit(tmp_path, fast_dev_run=True)
    assert capsys.readouterr().out == ""


def test_every_process_takes_part_in_finding_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trainer = fit(tmp_path)
    asked: list[Any] = []
    monkeypatch.setattr(trainer.strategy, "broadcast", lambda value, src=0: asked.append(value) or value)
    monkeypatch.setattr(Trainer, "is_global_zero", False)
    capsys.readouterr()
    Dashboard().on_fit_end(trainer, trainer.lightning_module)
    assert asked  # else the first process would wait for this one
    assert not capsys.readouterr().out
