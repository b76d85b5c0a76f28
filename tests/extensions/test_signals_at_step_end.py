"""What Lightning does on a signal waits for the end of the step. With SLURM itself: tests/slurm."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything

from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import SignalsAtStepEnd
from lightning_alrnn.datamodules import Addition

STEPS = 5  # an epoch


class Signal(Callback):
    """Sends a signal in the middle of a step, or in the validation that follows that many steps."""

    def __init__(self, step: int, hook: str = "on_before_optimizer_step") -> None:
        self.step = step
        self.hook = hook

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Any) -> None:
        self._send("on_before_optimizer_step", trainer)

    def on_validation_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if not trainer.sanity_checking:
            self._send("on_validation_batch_start", trainer)

    def _send(self, hook: str, trainer: Trainer) -> None:
        if hook == self.hook and trainer.global_step == self.step:
            signal.raise_signal(signal.SIGUSR1)


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


def fit(folder: Path, *callbacks: Callback, checkpoint: Path | None = None) -> dict[str, Any]:
    seed_everything(0, verbose=False)
    data = Addition(sequence_length=8, train_size=STEPS * 8, val_size=8, test_size=8, batch_size=8)
    model = ALRNNModule(2, 1, 6, 2, objective="regression", initial_state="uniform")
    trainer = Trainer(
        default_root_dir=folder,
        max_epochs=2,
        accelerator="cpu",
        logger=False,
        callbacks=list(callbacks),
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
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
    whole = fit(tmp_path / "whole")
    fit(tmp_path / "run", Signal(step, hook))  # goes on until SLURM ends it, here to its end
    assert requeued.read_text().split() == ["requeue", "17"]
    (path,) = (tmp_path / "run").glob("hpc_ckpt_*.ckpt")
    assert torch.load(path, weights_only=True)["global_step"] == saved
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL
    resumed = fit(tmp_path / "resumed", checkpoint=path)
    for name, value in whole.items():
        torch.testing.assert_close(resumed[name], value, rtol=0, atol=0, msg=name)


def test_an_error_gives_the_handler_back(tmp_path: Path, requeued: Path) -> None:
    class Break(Callback):
        def on_train_batch_end(self, *_: Any) -> None:
            raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        fit(tmp_path, Break())
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


def test_handlers_that_are_not_lightnings_stay(tmp_path: Path) -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGUSR1, lambda number, frame: heard.append(number))
    try:
        fit(tmp_path, Signal(2), SignalsAtStepEnd())
    finally:
        signal.signal(signal.SIGUSR1, before)
    assert heard == [signal.SIGUSR1]
