"""Options of commands that are tiny, and networks trained by them."""

from __future__ import annotations

from contextlib import chdir
from pathlib import Path

import numpy as np
import pytest

from lightning_alrnn.cli import run_cli
from lightning_alrnn.commands.entry import main

SIZES = ("sequence_length=6", "train_size=32", "val_size=16", "test_size=16", "batch_size=16")
ADDITION = ["--data=Addition", *(f"--data.{size}" for size in SIZES)]
CPU = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--trainer.log_every_n_steps=1"]
ONE_EPOCH = [*CPU, "--trainer.max_epochs=1"]
LAST = Path("checkpoints") / "last.ckpt"


def exit_code(*arguments: str) -> int:
    """The exit code of ``alrnn``."""
    try:
        main(arguments)
    except SystemExit as stopped:
        return int(stopped.code or 0)
    return 0


def written_records(folder: Path) -> dict[Path, int]:
    """The time at which each record of a sweep was written."""
    return {path: path.stat().st_mtime_ns for path in folder.glob("runs/*/record.json")}


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """The message with which ``alrnn`` refuses arguments."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as stopped:
        main(arguments)
    assert stopped.value.code == 2
    return capsys.readouterr().err


def fit(folder: Path, *options: str) -> Path:
    """Train for an epoch; the log directory."""
    with chdir(folder):
        run_cli(["fit", *options, *ONE_EPOCH, "--data.batch_size=16", "--trainer.callbacks=RegimeOccupancy"])
    return max(folder.glob("runs/*/version_*"), key=lambda path: int(path.name.partition("_")[2]))


def fit_tokens(folder: Path, *options: str) -> Path:
    """Train on random tokens that an embedding adds to the units; the log directory."""
    generator = np.random.default_rng(0)
    arrays = {
        "inputs": generator.integers(0, 7, (120, 9)),
        "targets": generator.integers(0, 3, (120, 9)),
        "lengths": generator.integers(3, 10, 120),
        "phase": np.arange(9) // 4 * np.ones((120, 1), dtype=int),
    }
    for name, values in arrays.items():
        np.save(folder / f"{name}.npy", values)
    encoder = ("encoder=torch.nn.Embedding", "encoder.num_embeddings=7", "encoder.embedding_dim=5")
    model = (*encoder, "hidden_size=5", "input_matrix=identity")
    files = (f"--data.{name}={folder / name}.npy" for name in arrays)
    return fit(folder, "--data=Arrays", *files, *(f"--model.{option}" for option in model), *options)
