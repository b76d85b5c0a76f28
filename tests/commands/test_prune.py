"""``alrnn prune`` from a checkpoint to a smaller one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command_runs import LAST, fit, fit_tokens, refused
from pytorch_lightning import Trainer
from undrawn import undrawn

from lightning_alrnn import ALRNNModule
from lightning_alrnn.analysis import Removal
from lightning_alrnn.cli import run_cli
from lightning_alrnn.commands.entry import main
from lightning_alrnn.commands.prune import prune_module, prune_network
from lightning_alrnn.datamodules import Addition

DATA = ["--data=Addition", *(f"--data.{size}" for size in ("sequence_length=4", "val_size=24", "test_size=40"))]


def metrics(checkpoint: Path) -> dict[str, float]:
    """What the test of a checkpoint gives, as from the command line."""
    config = str(checkpoint.parents[1] / "config.yaml")
    options = ["--trainer.logger=false", "--trainer.callbacks=RegimeOccupancy", "--trainer.enable_progress_bar=false"]
    cli = run_cli(["test", "--config", config, "--ckpt_path", str(checkpoint), *options], save_config=False)
    return {name: float(value) for name, value in cli.trainer.callback_metrics.items() if name.startswith("test/")}


def plant(checkpoint: Path, adding: list[int], path: Path) -> None:
    """Write a network that adds, with equal parts by some of its five nonlinear units; unit 1 is on if it is free.

    relu(v + m − 1) is the value v, from 0 to 1, where it is marked (m = 1), and 0 elsewhere. Marks are not at the last
    step.
    """
    content = torch.load(checkpoint, weights_only=True)
    weights = content["state_dict"]
    for value in weights.values():
        value.zero_()
    units = [2 + unit for unit in adding]
    weights["core.C"][units] = 1.0
    weights["core.h"][units] = -1.0
    weights["core.W"][0, 0] = weights["readout.weight"][0, 0] = 1.0
    weights["core.W"][0, units] = 1.0 / len(units)
    weights["readout.bias"][0] = 0.05  # there is something to learn
    if 1 not in adding:  # it is one at each step, which the sum does without
        weights["core.h"][[0, 3]] = torch.tensor([-1.0, 1.0])
        weights["core.W"][0, 3] = 1.0
        weights["readout.bias"][0] += 1.0  # at the first step it was not yet
    torch.save(content, path)


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = ("--model.hidden_size=7", "--model.nonlinear_units=5", "--model.mar_strength=0")
    with undrawn():
        path = fit(tmp_path_factory.mktemp("planted"), *DATA, "--data.train_size=32", *sizes) / LAST
    plant(path, [0, 3], path)
    return path


def test_from_a_checkpoint_to_a_smaller_one(planted: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["prune", "--ckpt_path", str(planted)])
    said = capsys.readouterr().out
    folder = planted.parents[1] / "pruning"
    smaller = folder / "checkpoints" / "pruned.ckpt"
    figures = {"prune.html", "prune.json", "prune.png", "prune.svg"}
    assert {path.name for path in folder.iterdir()} == figures | {"checkpoints", "config.yaml"}
    report = json.loads((folder / "prune.json").read_text())
    assert report["enough"] == 2
    assert "\n2 of 5 nonlinear units are enough: without the others (" in said
    assert f"checkpoint  {smaller}" in said
    assert report["answer"] in (folder / "prune.html").read_text()
    points = report["points"]
    assert [point["nonlinear_units"] for point in points] == [5, 4, 3, 2, 1, 0]
    removals = {(point["removal"]["unit"], point["removal"]["kind"]) for point in points[1:4]}
    assert removals == {(1, "linearise"), (2, "silence"), (4, "silence")}
    assert points[0]["test"]["test/mse"] == pytest.approx(0.05**2, rel=1e-4)
    assert points[3]["test"]["test/mse"] == pytest.approx(points[0]["test"]["test/mse"], rel=1e-4)
    assert points[4]["gap"] > report["rules"]["tolerance"]
    # the checkpoint is an ordinary one, with the score that is reported
    content = torch.load(smaller, weights_only=True)
    assert content["hyper_parameters"]["nonlinear_units"] == 2
    assert content["state_dict"]["core.A"].shape == (2,)
    assert content["state_dict"]["readout.weight"].shape == (1, content["hyper_parameters"]["hidden_size"])
    assert metrics(smaller) == pytest.approx(points[3]["test"])
    assert metrics(planted) == pytest.approx(points[0]["test"])


@undrawn()
def test_training_anew(planted: Path, tmp_path: Path) -> None:
    pruned = prune_network(["--ckpt_path", str(planted), "--output_dir", str(tmp_path / "out"), "--epochs", "1"])
    points = pruned.pruning.points
    trained = next(point for point in points if point.nonlinear_units == pruned.pruning.enough)
    assert metrics(pruned.checkpoint) == pytest.approx(dict(trained.test))
    # weights moved: units that were silenced without loss have changed the score
    assert points[1].test["test/mse"] != pytest.approx(points[0].test["test/mse"], rel=1e-4)


@undrawn()
def test_training_anew_that_diverges(planted: Path, tmp_path: Path) -> None:
    arguments = ["--ckpt_path", str(planted), "--output_dir", str(tmp_path), "--epochs", "1"]
    with pytest.warns(
        UserWarning, match=r"^unit \d (silenced|linearised): the network keeps its weights, because .* diverged"
    ):
        pruned = prune_network([*arguments, "--model.optimizer=Adam", "--model.optimizer.lr=1e30"])
    scores = [point.test["test/mse"] for point in pruned.pruning.points]
    assert scores[:4] == pytest.approx([0.05**2] * 4, rel=1e-4)  # the weights are those before


@undrawn()
def test_a_network_that_needs_all_units(planted: Path, tmp_path: Path) -> None:
    plant(planted, [0, 1, 2, 3, 4], tmp_path / "all.ckpt")
    config = str(planted.parents[1] / "config.yaml")
    pruned = prune_network(["--ckpt_path", str(tmp_path / "all.ckpt"), "--config", config, "--tolerance", "0.001"])
    assert pruned.checkpoint is None
    assert pruned.pruning.enough == 5
    assert {path.name for path in pruned.folder.iterdir()} == {f"prune.{end}" for end in ("html", "json", "png", "svg")}
    assert pruned.pruning.rules.tolerance == 0.001


@undrawn()
def test_tokens_that_are_added_to_the_units_until_none_is_left(tmp_path: Path) -> None:
    path = fit_tokens(tmp_path, "--model.nonlinear_units=5") / LAST
    pruned = prune_network(["--ckpt_path", str(path), "--score", "accuracy", "--tolerance", "1"])
    assert pruned.pruning.enough == 0
    assert metrics(pruned.checkpoint) == pytest.approx(dict(pruned.pruning.points[-1].test))
    with pytest.raises(ValueError, match=r"removes nonlinear units, but this network has none \(P = 0\)"):
        prune_network(["--ckpt_path", str(pruned.checkpoint)])


def test_a_module_is_pruned_in_place() -> None:
    torch.manual_seed(0)
    module = ALRNNModule(2, 1, 6, 4, objective="regression", mar_units=3, initial_state="learned").eval()
    inputs = torch.randn(3, 5, 2)
    module.core.W.data.normal_(std=0.4)
    module.readout.bias.data.fill_(0.3)
    # unit 2 is at zero all the time, and unit 5 always on: without their nonlinearity nothing changes
    for values in (module.core.W, module.core.C, module.core.h, module.core.z0):
        values.data[2] = 0.0
    module.core.z0.data[5] = module.core.h.data[5] = 50.0
    module.core.W.data[5] = module.core.C.data[5] = 0.0
    outputs = module(inputs).outputs
    prune_module(module, (Removal(0, "silence"), Removal(3, "linearise")))
    assert module.mar_units == 2
    assert (module.core.hidden_size, module.core.nonlinear_units, module.readout.in_features) == (5, 2, 5)
    torch.testing.assert_close(module(inputs).outputs, outputs)
    data = Addition(sequence_length=5, train_size=8, val_size=8, test_size=8, batch_size=8)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.fit(module.train(), data)


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    missing = ["prune", "--ckpt_path", "runs/none.ckpt"]
    assert "runs/none.ckpt: no such file. Checkpoints are in" in refused(missing, capsys)
    assert "--epochs must not be negative, got -1" in refused([*missing, "--epochs", "-1"], capsys)
