"""How far runs have come, and when they end early."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor
from torch.utils.data import DataLoader

from lightning_alrnn.callbacks.figures import log_figures
from lightning_alrnn.metrics.threshold import StopWhen
from lightning_alrnn.sweep import progress
from lightning_alrnn.sweep.progress import ProgressFile, RunProgress, RunState, shown_score


def test_a_file_is_written_twice_a_second_at_most(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds = [100.0]
    monkeypatch.setattr(progress, "time", SimpleNamespace(monotonic=lambda: seconds[0]))
    file = ProgressFile(tmp_path)
    assert file.read() == {}
    read = []
    for epochs in range(1, 6):
        runs = {"a": RunState("running", epochs, 20, 0.5), "b": RunState("diverged", epochs)}
        file.write(runs)
        read.append(ProgressFile(tmp_path).read())
        seconds[0] += 0.25
    assert [runs["a"].epochs for runs in read] == [1, 1, 3, 3, 5]
    assert read[-1] == runs  # all that was written, as it was


@pytest.mark.parametrize(
    "content", [b"", b"{", b"[1]", b'{"a": 1}', b'{"a": []}', b'{"a": [1, 2, 3, false, 5]}', b"\xff", b"null"]
)
def test_a_damaged_file_says_nothing(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "progress.json").write_bytes(content)
    assert ProgressFile(tmp_path).read() == {}


def test_the_moment_of_a_file(tmp_path: Path) -> None:
    file = ProgressFile(tmp_path)
    assert not file.written_after(0)
    file.write({})
    os.utime(tmp_path / "progress.json", (50, 50))
    assert [file.written_after(moment) for moment in (49.0, 50.0, 51.0)] == [True, True, False]


def test_the_score_that_is_shown() -> None:
    scores: dict[str, Any] = {"val/task_loss": 3.0, "train/accuracy": 1.0}
    for key, value in (("val/mse", torch.tensor(2.0)), ("val/accuracy", 0.5), ("val/sequence_accuracy", 0.25)):
        scores[key] = value
        assert shown_score(scores) == float(value)
    assert shown_score({"val/task_loss": 3.0}) == 3.0
    for none in ({}, {"train/loss": 1.0}, {"val/mse": math.inf}, {"val/accuracy": math.nan, "val/mse": 1.0}):
        assert shown_score(none) is None


class Scripted(LightningModule):
    """A weight that is moved by each step, and an accuracy for each epoch."""

    def __init__(self, accuracies: Sequence[float]) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(1))
        self.accuracies = accuracies

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return (self.weight * batch.mean()).square().sum()

    def validation_step(self, batch: Tensor, batch_idx: int) -> None:
        values = [0.1] * 2 if self.trainer.sanity_checking else [self.accuracies[self.current_epoch]] * 2
        self.log("val/accuracy", values[0])
        self.log("val/task_loss", 1 - values[1])

    def configure_optimizers(self) -> Any:
        return torch.optim.SGD(self.parameters(), lr=0.01)


def fit(
    accuracies: Sequence[float], stop_when: StopWhen | None, epochs: int, folder: Path, **options: Any
) -> tuple[Trainer, RunProgress]:
    noting = RunProgress("a", folder, stop_when)
    keep = ModelCheckpoint(folder, "{epoch}", save_top_k=-1)
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        callbacks=[noting, keep],
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        log_every_n_steps=1,
    )
    loader = DataLoader(torch.ones(4, 1), batch_size=2)  # type: ignore[arg-type,var-annotated]
    trainer.fit(Scripted(accuracies), loader, loader, **options)
    return trainer, noting


@pytest.mark.parametrize(
    ("stop_when", "accuracies", "end", "reached"),
    [
        (None, [0.5, 0.95] + [1.0] * 10, 12, 2),
        ("solved", [0.5, 0.95, 0.5, 0.95, 1.0, 1.0] + [0.5] * 6, 6, 2),
        ("solved", [0.5] * 12, 12, None),
        ("plateau", [0.5, 0.6] + [0.6] * 14, 12, None),
        ("plateau", [0.9] * 16, 11, 1),
    ],
)
@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_run_ends_early_and_goes_on_as_if_it_had_not_been_stopped(
    stop_when: StopWhen | None, accuracies: list[float], end: int, reached: int | None, tmp_path: Path
) -> None:
    trainer, noting = fit(accuracies, stop_when, len(accuracies), tmp_path)
    assert trainer.current_epoch == end
    assert noting.watch.epochs_to_threshold == reached
    weight = trainer.lightning_module.weight.detach().clone()  # type: ignore[operator]
    # at each end of an epoch, the last among them
    for epoch in (0, 1, end - 2, end - 1):
        path = tmp_path / f"epoch={epoch}.ckpt"
        resumed, again = fit(accuracies, stop_when, len(accuracies), tmp_path / str(epoch), ckpt_path=path)
        assert resumed.current_epoch == end
        assert resumed.global_step == trainer.global_step
        assert again.watch.epochs_to_threshold == reached
        assert resumed.lightning_module.weight.equal(weight)  # type: ignore[operator]


def test_a_checkpoint_of_another_command_and_what_a_run_says_of_itself(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written: list[dict[str, RunState]] = []
    monkeypatch.setattr(ProgressFile, "write", lambda self, runs: written.append(dict(runs)))
    fit([0.25], None, 1, tmp_path)
    path = tmp_path / "plain.ckpt"
    content = torch.load(tmp_path / "epoch=0.ckpt", weights_only=True)
    del content["learning_watch"]
    torch.save(content, path)
    trainer, noting = fit([0.5, 1.0, 1.0, 1.0, 1.0], "solved", 5, tmp_path / "on", ckpt_path=path)
    assert (trainer.current_epoch, noting.watch.epochs_to_threshold) == (4, 2)
    assert written[:2] == [{"a": RunState("running", 1, 1, 0.25)}, {"a": RunState("running", 2, 5, 1.0)}]


def test_a_run_draws_nothing(tmp_path: Path) -> None:
    trainer = Trainer(accelerator="cpu", default_root_dir=tmp_path, callbacks=[RunProgress("a", tmp_path, None)])
    log_figures(trainer, lambda: pytest.fail("drawn in a sweep"))  # type: ignore[arg-type,return-value]
