"""What Lightning does on a signal waits for the end of the step. With SLURM itself: tests/slurm."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer, seed_everything
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.utilities.exceptions import SIGTERMException
from tiny_runs import QUIET

from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import SignalsAtStepEnd
from lightning_alrnn.datamodules import Addition

STEPS = 5  # an epoch


def signalling(step: int, hook: str = "on_before_optimizer_step", number: int = signal.SIGUSR1) -> Callback:
    """Sends a signal in the middle of a step, or in the validation that follows that many steps."""

    def send(trainer: Trainer, *_: Any) -> None:
        if trainer.global_step == step and not trainer.sanity_checking:
            signal.raise_signal(number)

    return LambdaCallback(**{hook: send})


@pytest.fixture
def requeued(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An environment as of SLURM, and where its ``scontrol`` notes what it was called with."""
    for name, value in {"JOB_ID": "17", "NTASKS": "1", "PROCID": "0", "LOCALID": "0", "NODEID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")  # Lightning would set them, and leave them
    monkeypatch.setenv("MASTER_PORT", "12910")
    said = tmp_path / "said"
    command = tmp_path / "bin" / "scontrol"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\necho "$@" >> {said}\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", str(command.parent), prepend=":")
    return said


def fit(folder: Path, *callbacks: Callback, checkpoint: Path | None = None, max_steps: int = -1) -> dict[str, Any]:
    seed_everything(0, verbose=False)
    data = Addition(sequence_length=8, train_size=STEPS * 8, val_size=8, test_size=8, batch_size=8)
    model = ALRNNModule(2, 1, 6, 2, objective="regression", initial_state="uniform")
    length: dict[str, int] = {"max_epochs": 2} if max_steps < 0 else {"max_steps": max_steps}
    trainer = Trainer(default_root_dir=folder, **length, logger=False, callbacks=list(callbacks), **QUIET)
    trainer.fit(model, data, ckpt_path=checkpoint, weights_only=True)
    return model.state_dict()


@pytest.mark.parametrize(
    ("step", "hook", "saved"),
    [
        (2, "on_before_optimizer_step", 3),
        (STEPS - 1, "on_before_optimizer_step", STEPS),  # the last of an epoch: its validation comes first
        (STEPS, "on_validation_batch_start", STEPS),
    ],
)
def test_the_checkpoint_is_one_of_a_whole_step(
    step: int, hook: str, saved: int, tmp_path: Path, requeued: Path
) -> None:
    uninterrupted = fit(tmp_path / "whole")
    fit(tmp_path / "run", signalling(step, hook))  # goes on until SLURM ends it, here to its end
    assert requeued.read_text().split() == ["requeue", "17"]
    (path,) = (tmp_path / "run").glob("hpc_ckpt_*.ckpt")
    assert torch.load(path, weights_only=True)["global_step"] == saved
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    resumed = fit(tmp_path / "resumed", checkpoint=path)
    torch.testing.assert_close(resumed, uninterrupted, rtol=0, atol=0)


@pytest.mark.parametrize("step", [STEPS - 1, STEPS])  # between two epochs and within one
def test_a_run_of_a_number_of_steps_that_sigterm_stops_resumes_exactly(step: int, tmp_path: Path) -> None:
    uninterrupted = fit(tmp_path / "whole", max_steps=3 * STEPS)
    with pytest.raises(SIGTERMException):
        fit(tmp_path / "run", signalling(step, number=signal.SIGTERM), max_steps=3 * STEPS)
    path = tmp_path / "run" / "checkpoints" / "last.ckpt"
    assert torch.load(path, weights_only=True)["global_step"] == step + 1
    resumed = fit(tmp_path / "resumed", checkpoint=path, max_steps=3 * STEPS)
    torch.testing.assert_close(resumed, uninterrupted, rtol=0, atol=0)


def test_an_error_gives_the_handler_back(tmp_path: Path, requeued: Path) -> None:
    with pytest.raises(KeyError, match="broken"):
        fit(tmp_path, LambdaCallback(on_train_batch_end=lambda *_: {}["broken"]))
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_handlers_that_are_not_lightnings_stay(tmp_path: Path) -> None:
    received: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: received.append(number))
    try:
        fit(tmp_path, signalling(2), SignalsAtStepEnd())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert received == [signal.SIGUSR1]
