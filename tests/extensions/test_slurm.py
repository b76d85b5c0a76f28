"""Folders of runs under SLURM, from the variables that it sets. With SLURM itself: tests/slurm."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import yaml
from command_runs import ADDITION, ONE_EPOCH
from jsonargparse import Namespace

from lightning_alrnn.cli import ALRNNCLI, run_cli
from lightning_alrnn.extensions.slurm import newest_checkpoint, slurm_folders, step_name

SIZES = ("--data.train_size=8", "--data.val_size=8", "--model.hidden_size=4", "--model.nonlinear_units=2")
FIT = ["fit", *ADDITION, *SIZES, *ONE_EPOCH, "--trainer.callbacks=[]"]


def pretend(monkeypatch: pytest.MonkeyPatch, **variables: str) -> None:
    defaults = {"JOB_ID": "17", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0", "STEP_ID": "0"}
    for name, value in (defaults | variables).items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # Lightning would set them, and leave them
    monkeypatch.setenv("MASTER_PORT", "12910")


def fit(*more: str) -> ALRNNCLI:
    return run_cli([*FIT, *more])


@pytest.mark.parametrize(
    ("variables", "name"),
    [
        ({}, "job_17"),
        ({"STEP_ID": "2"}, "job_17.2"),
        ({"ARRAY_JOB_ID": "16", "ARRAY_TASK_ID": "3"}, "job_16_3"),
        ({"JOB_NAME": "interactive"}, None),
        ({"STEP_ID": ""}, None),  # not by srun
    ],
)
def test_step_name(variables: dict[str, str], name: str | None, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch, **variables)
    assert step_name() == name


def test_newest_checkpoint(tmp_path: Path) -> None:
    assert newest_checkpoint(tmp_path, tmp_path) is None
    paths = [tmp_path / "checkpoints" / "last.ckpt", tmp_path / "hpc_ckpt_1.ckpt", tmp_path / "hpc_ckpt_2.ckpt"]
    paths[0].parent.mkdir()
    for time, path in enumerate(paths):
        path.touch()
        os.utime(path, (time, time))
        assert newest_checkpoint(tmp_path, tmp_path) == path
    os.utime(paths[0], (9, 9))
    assert newest_checkpoint(tmp_path, tmp_path) == paths[0]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists:UserWarning")
def test_a_job_has_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(monkeypatch)
    log_dir = Path("runs", "Addition", "job_17")
    trainer = fit().trainer
    assert Path(str(trainer.log_dir)) == Path(trainer.default_root_dir) == log_dir
    saved = yaml.safe_load((log_dir / "config.yaml").read_text())
    assert saved["trainer"]["logger"]["init_args"]["version"] is None  # the file serves another job as well
    assert saved["trainer"]["default_root_dir"] is None

    pretend(monkeypatch, RESTART_COUNT="1")
    assert fit("--trainer.max_epochs=2").trainer.global_step == 2
    assert yaml.safe_load((log_dir / "config.yaml").read_text())["ckpt_path"] is None
    assert [path.name for path in log_dir.parent.iterdir()] == ["job_17"]


def config(
    version: Any = None, root: str | None = None, logger: str = "CSV", checkpoint: str | None = None
) -> Namespace:
    options = Namespace(save_dir="runs", name="Addition", version=version)
    logger_options = Namespace(class_path=f"pytorch_lightning.loggers.{logger}Logger", init_args=options)
    return Namespace(trainer=Namespace(logger=logger_options, default_root_dir=root), ckpt_path=checkpoint)


@pytest.mark.parametrize(
    ("options", "version", "root"),
    [
        (config(), "job_17", "runs/Addition/job_17"),
        (config(version="mine"), "mine", "runs/Addition/mine"),
        (config(version=3), 3, "runs/Addition/version_3"),
        (config(root="there"), "job_17", "there"),
        (config(logger="Wandb"), None, None),  # whose version is something else
    ],
)
def test_what_the_user_says_stays(
    options: Namespace, version: str | None, root: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch)
    before = options.clone()
    with slurm_folders(options, "fit"):
        assert options.trainer.logger.init_args.version == version
        assert options.trainer.default_root_dir == root
        assert options.ckpt_path is None
    assert options == before


@pytest.mark.parametrize(
    ("restarts", "options", "resumed_from"),
    [
        ("0", config(), None),
        ("1", config(), "runs/Addition/job_17/checkpoints/last.ckpt"),
        ("1", config(checkpoint="mine.ckpt"), "mine.ckpt"),
    ],
)
def test_only_a_requeued_job_goes_on(
    restarts: str, options: Namespace, resumed_from: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(monkeypatch, RESTART_COUNT=restarts)
    path = Path("runs/Addition/job_17/checkpoints/last.ckpt")
    path.parent.mkdir(parents=True)
    path.touch()
    with slurm_folders(options, "fit"):
        assert options.ckpt_path == resumed_from


def test_without_slurm_folders_are_numbered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SLURM_NTASKS", raising=False)
    assert Path(str(fit().trainer.log_dir)) == Path("runs", "Addition", "version_0")
