"""``alrnn analyze`` from a checkpoint to its report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from command_runs import LAST, fit, fit_tokens, refused
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import LightningModule, Trainer
from undrawn import undrawn

from lightning_alrnn import ALRNNModule
from lightning_alrnn.analysis.network_study import study
from lightning_alrnn.cli import run_cli
from lightning_alrnn.commands.analyze import SequenceCollector, _spread, analyze_network
from lightning_alrnn.commands.entry import main
from lightning_alrnn.datamodules import Addition

SMALL = ["--data.train_size=32", "--data.val_size=16", "--data.test_size=24"]
ADDITION = ["--data=Addition", "--data.sequence_length=7", *SMALL]


@pytest.fixture(scope="module")
def addition(tmp_path_factory: pytest.TempPathFactory) -> Path:
    sizes = ("--model.hidden_size=6", "--model.nonlinear_units=2")
    with undrawn():
        return fit(tmp_path_factory.mktemp("addition"), *ADDITION, *sizes) / LAST


@pytest.fixture
def no_report(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The arguments of each report, which is not drawn."""
    calls: list[Any] = []
    monkeypatch.setattr("lightning_alrnn.commands.analyze.write_report", lambda *call: calls.append(call) or {})
    return calls


def test_from_a_checkpoint_to_a_report(addition: Path, capsys: pytest.CaptureFixture[str]) -> None:
    config = (addition.parents[1] / "config.yaml").read_text()
    main(["analyze", "--ckpt_path", str(addition)])
    folder = addition.parents[1] / "analysis"
    assert {path.name for path in folder.iterdir()} == {"report.html", "report.json", "figures"}
    report = json.loads((folder / "report.json").read_text())
    out = capsys.readouterr().out
    assert f"report   {folder / 'report.html'}" in out
    assert report["answer"] in " ".join(out.split())
    assert list(report["source"]) == ["checkpoint", "config", "data", "epoch"]
    assert [*report["source"].values()] == [str(addition), str(addition.parents[1] / "config.yaml"), "Addition", 0]
    assert report["sequences"] == 24
    assert set(report["performance"]["metrics"]) >= {"test/mse", "test/loss"}
    assert report["study"]["summary"]["possible_log2"] == 2
    assert len(report["study"]["output_row"]) == 6
    assert (addition.parents[1] / "config.yaml").read_text() == config


def test_what_is_looked_at_is_what_the_network_computes(addition: Path, no_report: list[Any]) -> None:
    analyze_network(["--ckpt_path", str(addition), "--max_sequences", "10", "--output_dir", "out"])
    folder, results, sequences, performance, *_ = no_report[0]
    assert folder == Path("out")
    assert sequences.states.shape == (10, 7, 6)
    cli = run_cli(["test", "--config", str(addition.parents[1] / "config.yaml"), "--ckpt_path", str(addition)])
    batch = cli.datamodule.build("test")
    chosen = torch.linspace(0, 23, 10).round().long()
    torch.testing.assert_close(sequences.inputs, batch.inputs[chosen])
    torch.testing.assert_close(sequences.targets, batch.targets[chosen])
    assert torch.equal(sequences.phase, batch.phase[chosen])
    assert performance.phase_names == cli.datamodule.phase_names
    assert len(results.phases.gain) == len(batch.phase[chosen].unique())
    with torch.no_grad():
        prediction, all_predictions = cli.model(batch.inputs[chosen]), cli.model(batch.inputs)
    torch.testing.assert_close(sequences.outputs, prediction.outputs)
    torch.testing.assert_close(sequences.states, prediction.states)
    assert results.gains.shape == (10, 7, 2)
    torch.testing.assert_close(results.output_row, cli.model.readout.weight.detach()[0].double())
    # the metrics are those of the whole split
    error = float((all_predictions.outputs - batch.targets).square().mean())
    assert performance.metrics["test/mse"] == pytest.approx(error, rel=1e-5)


def test_other_data_than_it_was_trained_on(addition: Path, no_report: list[Any]) -> None:
    longer = ["--data.init_args.sequence_length=11", "--trainer.limit_test_batches=1"]
    analyze_network(["--ckpt_path", str(addition), "--max_sequences", "5", "--output_dir", "out", *longer])
    assert no_report[0][2].states.shape == (5, 11, 6)  # spread over the one batch


def test_a_configuration_that_lies_elsewhere(addition: Path, no_report: list[Any], tmp_path: Path) -> None:
    alone = tmp_path / "alone.ckpt"
    alone.write_bytes(addition.read_bytes())
    config = addition.parents[1] / "config.yaml"
    analysis = analyze_network(["--ckpt_path", str(alone), "--config", str(config)])
    assert analysis.folder == tmp_path / "analysis"
    assert no_report[0][4].config == str(config)
    analyze_network(["--ckpt_path", str(alone), "--data=Addition", "--data.sequence_length=5", "--data.test_size=8"])
    assert no_report[1][4].config is None
    assert no_report[1][2].states.shape == (8, 5, 6)


@undrawn()
def test_two_conditions_and_a_long_code(tmp_path: Path, no_report: list[Any]) -> None:
    sizes = ("--model.hidden_size=72", "--model.nonlinear_units=70")
    path = fit(tmp_path, "--data=ContextualIntegration", *SMALL, *sizes) / LAST
    analyze_network(["--ckpt_path", str(path), "--time_limit", "0.1"])
    _, results, sequences, performance, *_ = no_report[0]
    assert set(sequences.group.tolist()) == {0, 1}
    assert performance.group_names == ["normal", "inverted"]
    assert results.routing.groups.tolist() == [0, 1]
    assert {"mean of normal", "mean of inverted"} <= set(results.constant_inputs)
    assert results.gating.found is not None or results.gating.reason


@undrawn()
def test_tokens_through_an_embedding(tmp_path: Path, no_report: list[Any]) -> None:
    analyze_network(["--ckpt_path", str(fit_tokens(tmp_path, "--model.nonlinear_units=2") / LAST)])
    _, results, sequences, performance, *_ = no_report[0]
    assert sequences.inputs.shape == (18, int(sequences.lengths.max()), 5)  # what the core takes, not tokens
    assert sequences.targets.shape == (18,)  # of each sequence's last step
    assert sequences.outputs.shape == (18, 3)
    assert performance.objective == "classification"
    assert results.gains.shape == sequences.inputs.shape
    assert ((sequences.phase < 0).sum(dim=1) == sequences.phase.shape[1] - sequences.lengths).all()
    assert results.phases.occupancy.steps.sum() == sequences.lengths.sum()


class Halving(torch.nn.Module):
    """Takes every other step."""

    output_size = 2

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        return inputs[:, ::2]

    def output_lengths(self, lengths: torch.Tensor) -> torch.Tensor:
        return (lengths + 1) // 2


def test_an_encoder_that_changes_the_number_of_steps() -> None:
    data = Addition(sequence_length=7, train_size=8, val_size=8, test_size=8, batch_size=3)
    model = ALRNNModule(2, 1, hidden_size=4, nonlinear_units=2, objective="regression", encoder=Halving())
    collector = SequenceCollector()
    trainer = Trainer(callbacks=[collector], logger=False, enable_checkpointing=False, enable_progress_bar=False)
    trainer.test(model, data, verbose=False)
    sequences = collector.sequences
    assert sequences.inputs.shape == (8, 4, 2)
    assert sequences.states.shape == (8, 4, 4)
    assert sequences.lengths.tolist() == [4] * 8
    assert sequences.phase is None  # of steps that are no more
    results = study(model.core.double(), sequences, model.readout.weight)
    assert results.gains.shape == (8, 4, 2)


def test_a_module_of_another_kind() -> None:
    with pytest.raises(MisconfigurationException, match="a network trained as ALRNNModule, got LightningModule: the"):
        SequenceCollector().setup(Trainer(logger=False), LightningModule(), "test")


def test_a_missing_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    message = refused(["analyze", "--ckpt_path", "runs/none.ckpt"], capsys)
    assert "runs/none.ckpt: no such file. Checkpoints are in" in message
    assert not Path("runs").exists()


@undrawn()
def test_a_core_without_regimes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = fit(tmp_path, *ADDITION, "--model.core=GRU") / LAST
    message = refused(["analyze", "--ckpt_path", str(path)], capsys)
    assert "needs the regimes of an ALRNN, but core is GRU, which has none" in message
    assert not (path.parents[1] / "analysis").exists()


def test_a_network_that_is_no_number(addition: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    broken = torch.load(addition, weights_only=True)
    broken["state_dict"]["core.W"][0, 0] = torch.nan
    torch.save(broken, tmp_path / "broken.ckpt")
    config = str(addition.parents[1] / "config.yaml")
    message = refused(["analyze", "--ckpt_path", str(tmp_path / "broken.ckpt"), "--config", config], capsys)
    assert "parameter W has NaN or infinite entries" in message


def test_sequences_are_spread_over_the_split() -> None:
    assert _spread(5, 9).tolist()[:5] == [0, 1, 2, 3, 4]
    assert _spread(101, 5).tolist() == [0, 25, 50, 75, 100]
    assert _spread(None, 3).tolist() == [0, 1, 2]
