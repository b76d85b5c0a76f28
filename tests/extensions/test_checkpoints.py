"""Checkpoints are whole at any time, and what is none is refused before anything in it runs."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from disks import mounted_disk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.plugins.io import TorchCheckpointIO
from tiny_runs import Sequences, build

from lightning_alrnn import ALRNNModule
from lightning_alrnn.extensions.checkpoints import WholeCheckpointIO, read_checkpoint

QUIET: dict[str, Any] = tiny_runs.QUIET | {"devices": 1, "num_sanity_val_steps": 0}
RAN = Path("code-ran")


class Payload:
    """What runs a command where it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {RAN}",)


def data() -> Sequences:
    return Sequences("sequence", (16, 7, 5), 4)


def fit(folder: Path, epochs: int = 1, callbacks: list[Callback] | None = None, **options: Any) -> Trainer:
    trainer = Trainer(
        max_epochs=epochs, default_root_dir=folder, logger=False, callbacks=callbacks or [], **QUIET, **options
    )
    trainer.fit(build("sequence"), data())
    return trainer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fit(folder)
    return folder / "checkpoints" / "last.ckpt"


def spoiled(good: Path, path: Path, how: str) -> Path:
    """A file beside a good one that is none."""
    whole, content = good.read_bytes(), torch.load(good, weights_only=True)
    if how == "cut":
        path.write_bytes(whole[: len(whole) // 2])
    elif how == "empty":
        path.touch()
    elif how == "text":
        path.write_text("accuracy 0.98\n")
    elif how == "folder":
        path.mkdir()
    elif how == "a pickle":
        path.write_bytes(pickle.dumps(Payload()))
    elif how == "with code":
        torch.save({**content, "callbacks": Payload()}, path)
    elif how == "weights alone":
        torch.save(content["state_dict"], path)
    elif how == "a list":
        torch.save([1, 2], path)
    elif how == "without weights":
        torch.save({key: value for key, value in content.items() if key != "state_dict"}, path)
    return path


SPOILED = {
    "cut": "is not a complete checkpoint",
    "empty": r"\(0 bytes\) is not a complete checkpoint",
    "text": "is not a (complete )?checkpoint",
    "folder": "no such file",
    "absent": "no such file",
    "a pickle": "is not a (complete )?checkpoint",
    "with code": "could run foreign code .*GLOBAL posix.system",
    "weights alone": "lacks state_dict and pytorch-lightning_version",
    "a list": "is not a checkpoint of Lightning",
    "without weights": "lacks state_dict",
}


@pytest.mark.parametrize("how", SPOILED)
def test_what_is_no_checkpoint_is_refused_and_nothing_in_it_runs(how: str, good: Path, tmp_path: Path) -> None:
    path = spoiled(good, tmp_path / "spoiled.ckpt", how)
    with pytest.raises((ValueError, FileNotFoundError), match=SPOILED[how]):
        read_checkpoint(path)
    if how not in ("folder", "absent"):  # Lightning speaks of these itself
        with pytest.raises(ValueError, match=SPOILED[how]):
            Trainer(max_epochs=2, logger=False, **QUIET).fit(build("sequence"), data(), ckpt_path=path)
    assert not RAN.exists()


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(where=st.floats(0, 1, exclude_max=True), bit=st.integers(0, 7) | st.none())
@example(where=0.998046875, bit=0)  # the table of contents speaks of further files
def test_a_file_that_was_cut_or_changed_anywhere(where: float, bit: int | None, good: Path, tmp_path: Path) -> None:
    """It is refused, or what is read is what was written: a changed bit may be one of the padding."""
    content = bytearray(good.read_bytes())
    place = int(where * len(content))
    if bit is None:
        del content[place:]
    else:
        content[place] ^= 1 << bit
    path = tmp_path / "changed.ckpt"
    path.write_bytes(content)
    try:
        found = read_checkpoint(path)
    except ValueError:
        return
    assert bit is not None
    for name, value in torch.load(good, weights_only=True)["state_dict"].items():
        assert torch.equal(found["state_dict"][name], value), name


def test_of_another_size_or_class(good: Path) -> None:
    trainer = Trainer(logger=False, **QUIET)
    with pytest.raises(RuntimeError, match=r"core.W.*\[6, 6\].*\[7, 7\]"):
        trainer.test(ALRNNModule(2, 3, 7, 3), data(), ckpt_path=good, verbose=False)
    with pytest.raises(RuntimeError, match=r"loading state_dict for ALRNNSeq2Seq"):
        trainer.test(build("seq2seq"), Sequences("seq2seq", (16, 7, 5), 4), ckpt_path=good, verbose=False)


class Fill(Callback):
    """Makes the disk full after the first epoch."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.monkeypatch = monkeypatch

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        def full(handle: int) -> None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

        if trainer.current_epoch == 1:
            self.monkeypatch.setattr(os, "fsync", full)


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(OSError, match=r"No space left on device: .*\.ckpt"):
        fit(tmp_path, 3, [Fill(monkeypatch)])
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.suffix != ".ckpt"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of its own, of 1 MB."""
    with mounted_disk(tmp_path / "disk", "size=1m") as folder:
        yield folder


class FillDisk(Callback):
    """Leaves 20 kB, less than a checkpoint, on the disk after the first epoch."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.current_epoch == 1:
            free = os.statvfs(self.folder)
            (self.folder / "filler").write_bytes(b"0" * (free.f_bavail * free.f_frsize - 20_000))


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
def test_a_disk_that_is_really_full(small_disk: Path) -> None:
    """And one other than that of temporary files."""
    with pytest.raises(OSError, match=r"No space left on device: .*\.ckpt"):
        fit(small_disk, 3, [FillDisk(small_disk)])
    last = small_disk / "checkpoints" / "last.ckpt"
    assert read_checkpoint(last)["global_step"] == 4
    (small_disk / "filler").unlink()
    trainer = Trainer(max_epochs=2, default_root_dir=small_disk, logger=False, **QUIET)
    trainer.fit(build("sequence"), data(), ckpt_path=last)
    assert trainer.global_step == 8


def test_ones_own_way_of_writing_checkpoints_stays(tmp_path: Path) -> None:
    class Own(TorchCheckpointIO):
        pass

    assert type(fit(tmp_path / "own", plugins=[Own()]).strategy.checkpoint_io) is Own
    assert type(fit(tmp_path / "default").strategy.checkpoint_io) is WholeCheckpointIO
