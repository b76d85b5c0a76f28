"""SIGTERM to all processes of a run stops it after a step, with a checkpoint; the workers of its DataLoaders stay."""

from __future__ import annotations

import multiprocessing
import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from contextlib import chdir
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch
from command_runs import ADDITION, CPU, LAST
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.utilities.exceptions import SIGTERMException
from tiny_runs import QUIET
from torch.utils.data import DataLoader, TensorDataset

from lightning_alrnn import ALRNNModule
from lightning_alrnn.commands.entry import main
from lightning_alrnn.datamodules import Addition
from lightning_alrnn.datamodules.base import collate
from lightning_alrnn.extensions.checkpoints import read_checkpoint
from lightning_alrnn.extensions.loader_workers import _Worker, shield_workers
from lightning_alrnn.sweep.workers import start_worker

DATA = {"sequence_length": 6, "train_size": 160, "val_size": 48, "test_size": 16, "batch_size": 16}


def loader_workers() -> list[BaseProcess]:
    """The workers of DataLoaders; other tests keep processes of their own."""
    return [child for child in multiprocessing.active_children() if isinstance(child, _Worker)]


def terminate_all() -> None:
    """Send SIGTERM to this process and its children from another one."""
    children = [str(worker.pid) for worker in loader_workers()]
    assert len(children) >= 2
    subprocess.run(["/bin/kill", "-TERM", *children, str(os.getpid())], check=True)


def terminating(hook: str, step: int) -> Callback:
    """Sends it in a hook after a number of steps."""

    def send(trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == step and not trainer.sanity_checking:
            terminate_all()
            time.sleep(0.2)  # the workers would be gone

    return LambdaCallback(**{hook: send})


@pytest.mark.parametrize(
    ("hook", "step", "saved"),
    [
        ("on_train_batch_start", 3, 4),
        pytest.param("on_validation_batch_start", 10, 10, marks=pytest.mark.slow),
    ],
)
@pytest.mark.parametrize("own_loaders", [False, True])
def test_sigterm_to_all_processes_leaves_a_checkpoint(
    hook: str, step: int, saved: int, own_loaders: bool, tmp_path: Path
) -> None:
    data = Addition(**DATA, num_workers=2)
    data.setup("fit")
    loaders: dict[str, Any] = {"datamodule": data}
    if own_loaders:
        options: dict[str, Any] = {"batch_size": 16, "num_workers": 1, "collate_fn": collate}
        train, val = (DataLoader(data.dataset(split), **options) for split in ("train", "val"))
        loaders = {"train_dataloaders": train, "val_dataloaders": val}
    model = ALRNNModule(2, 1, 6, 2, objective="regression", target_step="last")
    trainer = Trainer(
        default_root_dir=tmp_path, max_epochs=2, logger=False, callbacks=[terminating(hook, step)], **QUIET
    )
    before = signal.getsignal(signal.SIGTERM)
    with pytest.raises(SIGTERMException):
        trainer.fit(model, **loaders)
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == saved
    assert signal.getsignal(signal.SIGTERM) == before


class Note:
    """Notes that a worker has begun, as a ``worker_init_fn`` of a user."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __call__(self, number: int) -> None:
        (self.folder / str(number)).touch()


@pytest.mark.parametrize("method", ["fork", pytest.param("spawn", marks=pytest.mark.slow)])
def test_workers_end_by_their_parent_alone(method: str, tmp_path: Path) -> None:
    noted = tmp_path / "noted"
    noted.mkdir()
    loader = DataLoader(
        TensorDataset(torch.arange(64.0)),
        num_workers=2,
        batch_size=1,
        worker_init_fn=Note(noted),
        multiprocessing_context=method,
    )
    shield_workers(loader)
    batches = iter(loader)
    next(batches)
    workers = loader_workers()
    subprocess.run(["/bin/kill", "-TERM", *(str(worker.pid) for worker in workers)], check=True)
    assert len(list(batches)) == 63
    assert {path.name for path in noted.iterdir()} == {"0", "1"}
    loader = DataLoader(TensorDataset(torch.arange(64.0)), num_workers=1, multiprocessing_context=method)
    shield_workers(loader)
    batches = iter(loader)
    next(batches)
    (worker,) = loader_workers()
    os.kill(worker.pid or 0, signal.SIGTERM)  # as torch does to a worker that hangs
    worker.join(10)
    assert worker.exitcode == 0


def train(folder: Path, train_size: int, steps: int) -> None:
    """The command in a process group of its own, as a service manager starts it."""
    os.setpgid(0, 0)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    folder.mkdir(exist_ok=True)
    data = [*ADDITION, "--data.num_workers=2", f"--data.train_size={train_size}"]
    last = sorted(folder.rglob("last.ckpt"))
    with chdir(folder):
        options = [f"--trainer.max_steps={steps}", "--model.hidden_size=6"]
        options += ["--trainer.callbacks=misbehaving.Begun", "--trainer.callbacks.path=begun"]
        main(["fit", *data, *CPU, *options, "--trainer.logger.version=a", *(f"--ckpt_path={path}" for path in last)])


def stop_at(moment: float, process: BaseProcess, started: Callable[[], bool]) -> int | None:
    """Exit code of a process whose group gets SIGTERM a moment after it has started."""
    until = time.monotonic() + 60
    while not started():
        assert process.is_alive()
        assert time.monotonic() < until
        time.sleep(0.005)
    time.sleep(moment)
    os.killpg(process.pid or 0, signal.SIGTERM)
    process.join(60)
    return process.exitcode


@pytest.mark.slow
@pytest.mark.parametrize("train_size", [64, 100_000])  # epochs of 4 steps, and of 6,250
def test_sigterm_to_the_group_at_20_random_moments(train_size: int, tmp_path: Path) -> None:
    draw = random.Random(train_size)
    outcomes = []
    for number in range(20):
        folder = tmp_path / str(number)
        process = start_worker(partial(train, folder, train_size, 1_000_000), tmp_path / "log", [])
        code = stop_at(draw.uniform(0.0, 2.0), process, (folder / "begun").is_file)
        last = folder / "runs" / "Addition" / "a" / LAST
        outcomes.append((code, last.is_file() and read_checkpoint(last)["global_step"] > 0))
    assert outcomes == [(143, True)] * 20
    assert "Traceback" not in (tmp_path / "log").read_text()


@pytest.mark.slow
def test_a_run_that_was_stopped_ends_as_one_that_was_not(tmp_path: Path) -> None:
    whole = start_worker(partial(train, tmp_path / "whole", 480, 1200), tmp_path / "log", [])
    whole.join(120)
    draw = random.Random(0)
    folder = tmp_path / "stopped"
    codes = []
    for _ in range(5):
        (folder / "begun").unlink(missing_ok=True)
        process = start_worker(partial(train, folder, 480, 1200), tmp_path / "log", [])
        codes.append(stop_at(draw.uniform(0.0, 0.3), process, (folder / "begun").is_file))
    process = start_worker(partial(train, folder, 480, 1200), tmp_path / "log", [])
    process.join(120)
    assert codes == [143] * 5
    one, other = (read_checkpoint(tmp_path / name / "runs/Addition/a" / LAST) for name in ("whole", "stopped"))
    assert one["global_step"] == other["global_step"] == 1200
    torch.testing.assert_close(one["state_dict"], other["state_dict"], rtol=0, atol=0)
