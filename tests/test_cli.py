"""The ``alrnn`` command as a user types it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from command_runs import ADDITION, CPU, ONE_EPOCH
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from undrawn import undrawn

from lightning_alrnn.cli import resolve_configs, run_cli
from lightning_alrnn.commands.entry import main
from lightning_alrnn.configs import shipped_configs

TINY = [*ADDITION, *ONE_EPOCH, "--model.hidden_size=6"]
REGIMES = "--trainer.callbacks=RegimeOccupancy"  # instead of all callbacks


def test_fit_with_nothing_but_the_data(caplog: pytest.LogCaptureFixture) -> None:
    cli = run_cli(["fit", *TINY])
    assert "GPU available" in caplog.text
    for advertisement in ("Tip:", "TPU available", "will override"):
        assert advertisement not in caplog.text
    names = [type(callback).__name__ for callback in cli.trainer.callbacks]  # type: ignore[attr-defined]
    assert {"RegimeOccupancy", "ActiveUnits", "FixedPoints", "PredictionWriter"} <= set(names)
    assert cli.model.readout.out_features == 1
    assert cli.model.objective == "regression"
    folder = Path("runs/Addition/version_0")
    assert list(folder.glob("events*"))
    assert {path.name for path in (folder / "checkpoints").iterdir()} == {"best-epoch=000.ckpt", "last.ckpt"}
    assert len(list((folder / "figures").iterdir())) == 5
    assert (folder / "config.yaml").is_file()


@undrawn()
def test_a_checkpoint_brings_its_own_sizes_to_validate_test_and_predict(capsys: pytest.CaptureFixture[str]) -> None:
    main(["fit", *TINY, "--model.nonlinear_units=2", "--model.init=near_identity", "--trainer.callbacks=ActiveUnits"])
    checkpoint = "runs/Addition/version_0/checkpoints/last.ckpt"
    config = Path("runs/Addition/version_0/config.yaml").read_bytes()
    capsys.readouterr()
    for command in ("validate", "test"):
        main([command, f"--ckpt_path={checkpoint}"])  # the data are those of the run
        printed = capsys.readouterr().out
        assert f"{'val' if command == 'validate' else 'test'}/mse" in printed
    main(["test", "--ckpt_path", checkpoint, "--trainer.logger=CSVLogger", "--trainer.logger.save_dir=runs"])
    main(["predict", *ADDITION, *CPU, f"--ckpt_path={checkpoint}"])  # of the default callbacks, one writes a file
    assert Path("runs/Addition/version_0/test/metrics.csv").is_file()
    assert Path("runs/Addition/version_0/config.yaml").read_bytes() == config
    assert not Path("runs/Addition/version_1").exists()
    with np.load("runs/Addition/version_0/predictions.npz") as archive:
        predictions = dict(archive)
    assert predictions["outputs"].shape == (16, 1)
    assert predictions["states"].shape == (16, 6, 6)
    assert predictions["index"].tolist() == list(range(16))


STEPS = ("lr_scheduler=StepLR", "lr_scheduler.step_size=1")
PLATEAU = ("=pytorch_lightning.cli.ReduceLROnPlateau", ".monitor=val/loss")


@pytest.mark.parametrize(
    ("options", "core"),
    [
        (["--model.core=torch.nn.GRU"], "GRU"),
        (["--model.core=LSTM"], "LSTM"),
        (["--model.nonlinear_units=0"], "ALRNN"),
        (["--model.nonlinear_units=6", "--model.self_connections=all", "--model.backend=eager"], "ALRNN"),
        ([f"--model.{option}" for option in ("optimizer=SGD", "optimizer.lr=0.1", *STEPS)], "ALRNN"),
        ([f"--model.lr_scheduler{option}" for option in PLATEAU], "ALRNN"),
    ],
)
@undrawn()
def test_options(options: list[str], core: str) -> None:
    all_callbacks = any("nonlinear" in option for option in options)  # at P = 0 and P = M
    few = [] if all_callbacks else ["--model.nonlinear_units=2", REGIMES, "--trainer.logger=false"]
    cli = run_cli(["fit", *TINY, *few, *options])
    assert type(cli.model.core).__name__ == core
    logged = set(cli.trainer.callback_metrics)
    assert ("regime/visited" in logged) == (core == "ALRNN")


SCAN = [
    "--data=SCAN",
    "--data.split=tiny",
    "--data.data_dir=.",
    "--data.val_fraction=0.4",
    "--model=ALRNNSeq2Seq",
    "--model.hidden_size=6",
    "--model.nonlinear_units=2",
    "--model.decoder_nonlinear_units=3",
    *ONE_EPOCH,
]


def write_scan() -> None:
    verbs, sides = ("walk", "look", "run", "jump"), ("left", "right")
    lines = [f"IN: {v} {s} OUT: I_TURN_{s.upper()} I_{v.upper()}\n" for v in verbs for s in sides]
    for part in ("train", "test"):
        Path(f"tasks_{part}_tiny.txt").write_text("".join(lines))


@undrawn()
def test_sequence_to_sequence() -> None:
    write_scan()
    cli = run_cli(["fit", *SCAN])
    assert cli.model.network.embedding.num_embeddings == 14
    assert cli.model.network.readout.out_features == 7
    logged = cli.trainer.callback_metrics
    assert logged["encoder/regime/possible_log2"] == 2
    assert logged["decoder/regime/possible_log2"] == 3
    for group in ("regime/visited", "units/active", "fixed_points/total"):
        assert {f"encoder/{group}", f"decoder/{group}"} <= set(logged)
    folder = Path("runs/SCAN/version_0")
    assert len(list((folder / "figures").iterdir())) == 11

    # what was run is what was saved: each network with callbacks of its own
    saved = yaml.safe_load((folder / "config.yaml").read_text())
    watched = [(c["class_path"], c.get("init_args", {}).get("module")) for c in saved["trainer"]["callbacks"]]
    assert len(watched) == len(set(watched)) == 8
    again = run_cli(["fit", f"--config={folder}/config.yaml"])
    assert set(again.trainer.callback_metrics) == set(logged)

    main(["predict", *(a for a in SCAN if "max_epochs" not in a), f"--ckpt_path={folder}/checkpoints/last.ckpt"])
    (path,) = Path("runs").rglob("predictions.npz")
    with np.load(path) as predictions:
        assert predictions["tokens"].shape == predictions["outputs"].shape[:2]
        assert predictions["encoder_states"].shape == (8, 2, 6)


@undrawn()
def test_a_callback_that_names_its_network_is_left_alone() -> None:
    write_scan()
    given = [
        "--trainer.callbacks=RegimeOccupancy",
        "--trainer.callbacks.module=decoder",
        "--trainer.callbacks+=ActiveUnits",
    ]
    logged = set(run_cli(["fit", *SCAN, *given]).trainer.callback_metrics)
    assert "decoder/regime/visited" in logged
    assert "encoder/regime/visited" not in logged
    assert {"encoder/units/active", "decoder/units/active"} <= logged


@undrawn()
def test_a_logger_without_a_folder_leaves_the_configuration_in_the_root_folder() -> None:
    """As MLflow's that writes to a database."""
    logger = "--trainer.logger=pytorch_lightning.loggers.logger.DummyLogger"
    run_cli(["fit", *ADDITION, *ONE_EPOCH, logger, "--trainer.default_root_dir=root"])
    config = yaml.safe_load(Path("root/config.yaml").read_text(encoding="utf-8"))
    assert config["data"]["init_args"]["train_size"] == 32


@undrawn()
def test_an_encoder_by_its_name() -> None:
    data = ["--data=SequentialDigits", "--data.order=pixel"]
    common = [*data, *(f"--trainer.limit_{stage}_batches=1" for stage in ("train", "val")), *ONE_EPOCH]
    Path("mine.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"encoder": {"class_path": "ImageEncoder"}}}}))
    by_option = ["--model.encoder=ImageEncoder", "--model.encoder.output_size=6"]
    for given, width in ((by_option, 6), (["--config=mine.yaml", REGIMES], 100)):
        cli = run_cli(["fit", *common, *given, "--model.hidden_size=6"])
        assert type(cli.model.encoder).__name__ == "ImageEncoder"
        assert cli.model.core.input_size == width
    short = [*CPU, "--trainer.limit_predict_batches=1"]
    main(["predict", *data, *short, *by_option, "--ckpt_path=runs/SequentialDigits/version_0/checkpoints/last.ckpt"])
    (path,) = Path("runs").rglob("predictions.npz")
    with np.load(path) as predictions:
        assert predictions["states"].shape[1:] == (32, 6)


def test_ones_own_array(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    np.savez(tmp_path / "mine.npz", inputs=rng.normal(size=(40, 5, 3)).astype("f"), targets=np.arange(40) % 4)
    index = ["--data.train_index=[0, 1, 2, 3]", "--data.val_index=[4]", "--data.test_index=[5, 6]"]
    data = ["--data=Arrays", f"--data.inputs={tmp_path}/mine.npz", f"--data.lengths={[5] * 40}", *index]
    cli = run_cli(["fit", *data, *ONE_EPOCH, "--model.hidden_size=6", REGIMES, "--trainer.logger=false"])
    assert len(cli.datamodule.dataset("train")) == 4
    assert cli.model.core.input_size == 3
    assert cli.model.readout.out_features == 4


@undrawn()
def test_criterion_and_names_of_groups_come_from_the_data(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    np.savez(
        tmp_path / "mine.npz",
        inputs=rng.normal(size=(40, 5, 3)).astype("f"),
        targets=rng.normal(size=40),
        group=np.array(["left", "right"] * 20),
    )
    data = ["--data=Arrays", f"--data.inputs={tmp_path}/mine.npz", "--data.criterion=sign"]
    cli = run_cli(["fit", *data, *ONE_EPOCH, "--model.hidden_size=6", REGIMES])
    assert (cli.model.criterion, cli.model.group_names) == ("sign", ["left", "right"])
    keys = {"val/accuracy", "val/accuracy/left", "val/accuracy/right", "regime/sharing_jaccard", "regime/sharing_js"}
    assert keys <= set(cli.trainer.callback_metrics)
    checkpoint = "runs/Arrays/version_0/checkpoints/last.ckpt"
    content = torch.load(checkpoint, weights_only=True)
    assert content["hyper_parameters"]["group_names"] == ["left", "right"]
    assert content["hyper_parameters"]["criterion"] == "sign"
    assert not [name for name in content["state_dict"] if "trials" in name]
    capsys.readouterr()
    main(["test", *data, *CPU, f"--ckpt_path={checkpoint}", REGIMES])
    printed = capsys.readouterr().out
    for key in keys:
        assert (key.replace("val/", "test/") in printed) == key.startswith("val/")


ONES_OWN = """
import torch
from pytorch_lightning import LightningDataModule, LightningModule
from torch.utils.data import DataLoader

from lightning_alrnn import ALRNN, SequenceBatch


class Plain(LightningDataModule):  # without any of the attributes that are linked
    def val_dataloader(self):
        lengths, group = torch.full((8,), 5), torch.arange(8) % 2
        batch = SequenceBatch(torch.randn(8, 5, 2), torch.randn(8, 1), lengths, None, group)
        return DataLoader([batch], batch_size=None)


class Bare(LightningModule):  # without any of the arguments that are linked
    def __init__(self, width: int = 4):
        super().__init__()
        self.rnn = ALRNN(2, width, 2)

    def validation_step(self, batch, batch_idx):
        return {"states": self.rnn(batch.inputs).states}
"""


@undrawn()
def test_modules_and_data_of_ones_own_need_not_have_what_is_linked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "ones_own.py").write_text(ONES_OWN)
    monkeypatch.syspath_prepend(tmp_path)
    run_cli(["validate", "--model=ones_own.Bare", *ADDITION, *CPU])
    run_cli(["validate", "--model=ones_own.Bare", "--data=ones_own.Plain", *CPU])
    sizes = ["--model.input_size=2", "--model.output_size=1", "--model.objective=regression"]
    asked = ["--model.criterion=sign", "--model.group_names=[a, b]"]
    cli = run_cli(["validate", *sizes, *asked, "--data=ones_own.Plain", *CPU])
    assert {"val/accuracy", "val/accuracy/a", "val/accuracy/b"} <= set(cli.trainer.callback_metrics)


def test_two_processes_from_the_command_line() -> None:
    options = ["--trainer.devices=2", "--trainer.strategy=ddp", REGIMES, "--trainer.callbacks+=Dashboard"]
    command = [sys.executable, "-m", "lightning_alrnn", "fit", *TINY, *options]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    assert "MEMBER: 2/2" in done.stderr
    assert Path("runs/Addition/version_0/checkpoints/last.ckpt").is_file()
    assert not Path("runs/Addition/version_1").exists()


def test_configs_are_listed_with_their_descriptions(capsys: pytest.CaptureFixture[str]) -> None:
    main(["configs"])
    head, *lines, blank, advice = capsys.readouterr().out.splitlines()
    assert head.split() == ["name", "M", "P", "input", "→", "target"]
    assert [line.split()[0] for line in lines] == sorted(shipped_configs())
    assert {"addition", "addition_quick", "digits"} <= set(shipped_configs())
    for line in lines:
        assert line.split()[1].isdigit()
        assert " → " in line
        assert "#" not in line
        assert len(line) <= 120
    assert (blank, "alrnn fit --config NAME" in advice) == ("", True)


def test_config_names_and_files() -> None:
    known = str(shipped_configs()["addition"])
    assert resolve_configs(["fit", "--config", "addition", "-c=addition", "--x", "addition"]) == [
        "fit", "--config", known, f"-c={known}", "--x", "addition",
    ]  # fmt: skip
    Path("addition").write_text("trainer: {}")  # a file of that name comes first
    assert resolve_configs(["--config", "addition"]) == ["--config", "addition"]
    assert resolve_configs(["--config"]) == ["--config"]


def test_later_configs_and_options_win() -> None:
    Path("mine.yaml").write_text(yaml.safe_dump({"model": {"init_args": {"nonlinear_units": 4}}}))
    cli = run_cli(["fit", "--config=addition_quick", "--config=mine.yaml", "--trainer.fast_dev_run=true"])
    assert cli.model.core.nonlinear_units == 4
    assert cli.model.core.hidden_size == 50


NEURAL = """
data:
  class_path: StimulusSelection
  init_args: {neural: true, units: 4, train_size: 8, val_size: 8, test_size: 8}
"""


@pytest.mark.parametrize("how", ["option", "file", "subcommand", "text", "name"])
def test_a_model_has_its_own_defaults_not_those_of_the_default_model(how: str) -> None:
    """jsonargparse hands the values of one class on to the next wherever both have an argument of that name."""
    named = "model: {class_path: ALRNNNeural}\n"
    data = ["--config", "data.yaml", "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"]
    Path("data.yaml").write_text(NEURAL)
    Path("model.yaml").write_text(named if how == "file" else "model: ALRNNNeural\n")
    model = {"option": ["--model=ALRNNNeural"], "text": [f"--config={named}"]}.get(how, ["--config", "model.yaml"])
    if how == "subcommand":
        Path("model.yaml").write_text("fit:\n  " + named)
        cli = run_cli(["--config", "model.yaml", "fit", *data])
    else:
        cli = run_cli(["fit", *model, *data])
    assert type(cli.model).__name__ == "ALRNNNeural"
    assert (cli.model.core.hidden_size, cli.model.core.nonlinear_units, cli.model.mar_strength) == (6, 1, 0.0)
    assert cli.model.observation.readout.out_features == 4


def test_the_command_line_of_the_caller_is_left_alone() -> None:
    before = list(sys.argv)
    with pytest.raises(SystemExit):
        main(["fit", "--help", "all"])
    assert sys.argv == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data=Copy", "--data.delay=-1"], "delay must be at least 0, got -1"),
        (["--data=SCAN", "--data.split=odd"], "tasks_train_odd.txt"),
        (["--data=SCAN", "--data.split=x", "--data.data_dir=files"], "tasks_train_x.txt, line 2"),
        (["--data=Arrays", "--data.inputs=absent.npz"], "absent.npz"),
        ([*TINY, "--model.nonlinear_units=7"], "nonlinear_units (P) must lie between"),
    ],
)
def test_what_is_wrong_is_said_in_a_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    Path("files").mkdir()
    for part in ("train", "test"):
        Path(f"files/tasks_{part}_x.txt").write_text("IN: jump OUT: I_JUMP\nIN: jump I_JUMP\n", encoding="utf-8")
    with pytest.raises(SystemExit, match="2"):
        main(["fit", "--trainer.max_epochs=1", *arguments])
    error = capsys.readouterr().err
    assert "alrnn: error: " in error
    assert message in error
    assert "Traceback" not in error


def test_what_is_wrong_has_a_traceback_if_one_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALRNN_TRACEBACK", "1")
    with pytest.raises(ValueError, match="delay must be at least 0"):
        main(["fit", "--trainer.max_epochs=1", "--data=Copy", "--data.delay=-1"])


def test_an_error_of_other_code_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(arguments: list[str]) -> None:
        raise ValueError("not ours")

    monkeypatch.setattr("lightning_alrnn.cli.run_cli", fails)
    with pytest.raises(ValueError, match="not ours"):
        main(["fit"])


def test_the_exit_code_is_that_of_another_process_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    launcher = _SubprocessScriptLauncher(LightningEnvironment(), 3, 1)
    launcher.procs = [subprocess.Popen(["sh", "-c", f"sleep 0.1; exit {code}"]) for code in (0, 3)]
    strategy = SimpleNamespace(launcher=launcher)
    monkeypatch.setattr("lightning_alrnn.cli.run_cli", lambda args: SimpleNamespace(trainer=Mock(strategy=strategy)))
    with pytest.raises(SystemExit) as stopped:
        main(["predict"])
    assert stopped.value.code == 3


@pytest.mark.slow
def test_an_error_of_the_second_process_of_predict_is_an_error_of_the_command() -> None:
    main(["fit", *ADDITION, *CPU, "--trainer.max_epochs=1", "--trainer.callbacks=ActiveUnits"])
    (checkpoint,) = Path("runs").rglob("last.ckpt")
    options = ["--trainer.devices=2", "--trainer.strategy=ddp", "--trainer.callbacks=misbehaving.FailingPrediction"]
    command = [sys.executable, "-m", "lightning_alrnn", "predict", *ADDITION, *CPU, f"--ckpt_path={checkpoint}"]
    helpers = Path(__file__).parent / "helpers"
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(helpers), os.environ.get("PYTHONPATH", "")])}
    done = subprocess.run([*command, *options], env=environment, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1
    assert "only process 1 fails" in done.stderr


@undrawn()
def test_callbacks_that_are_not_on_by_default() -> None:
    write_scan()
    given = [f"--trainer.callbacks+={name}" for name in ("LatentTrajectories", "Spectrum", "UnitAblation")]
    logged = set(run_cli(["fit", *TINY, *given]).trainer.callback_metrics)
    keys = {"latent/pc1_variance", "spectrum/pc1_angle"}
    assert {*keys, "ablation/silence_max", "fixed_points/bifurcation", "regime/visited"} <= logged
    logged = set(run_cli(["fit", *TINY, *given, "--model.core=torch.nn.GRU"]).trainer.callback_metrics)
    assert not any(key.startswith(("latent", "spectrum", "ablation")) for key in logged)
    logged = set(run_cli(["fit", *SCAN, *given[:2], "--trainer.logger=false"]).trainer.callback_metrics)
    other = set(run_cli(["fit", *SCAN, *given, "--model.core=GRU"]).trainer.callback_metrics)
    assert {"val/sequence_accuracy", "val/accuracy_length_1_6"} <= other
    assert not any("coder/" in key for key in other)
    assert {f"{network}/{key}" for network in ("encoder", "decoder") for key in keys} <= logged
    with pytest.raises(MisconfigurationException, match="ALRNNSeq2Seq does not: use ALRNNModule"):
        run_cli(["fit", *SCAN, *given])
