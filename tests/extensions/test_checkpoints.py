"""Checkpoints are whole at any time, and what is none is refused before anything in it runs."""

from __future__ import annotations

import errno
import os
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import tiny_runs
import torch
from disks import mounted_disk
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LambdaCallback
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


def fit(
    folder: Path, epochs: int = 1, callbacks: Any = None, checkpoint: Path | None = None, **options: Any
) -> Trainer:
    options |= {"max_epochs": epochs, "default_root_dir": folder, "callbacks": callbacks, "logger": False}
    trainer = Trainer(**QUIET, **options)
    trainer.fit(build("sequence"), data(), ckpt_path=checkpoint)
    return trainer


@pytest.fixture(scope="module")
def good(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    fit(folder)
    return folder / "checkpoints" / "last.ckpt"


Spoil = Callable[[bytes, dict[str, Any]], Any]
# from the bytes and the content of a good checkpoint
SPOILED: dict[str, tuple[Spoil, str]] = {
    "cut": (lambda complete, content: complete[: len(complete) // 2], "is not a complete checkpoint"),
    "empty": (lambda complete, content: b"", r"\(0 bytes\) is not a complete checkpoint"),
    "text": (lambda complete, content: b"accuracy 0.98\n", "is not a (complete )?checkpoint"),
    "a pickle": (lambda complete, content: pickle.dumps(Payload()), "is not a (complete )?checkpoint"),
    "code": (lambda complete, content: {**content, "callbacks": Payload()}, "foreign code .*GLOBAL posix.system"),
    "weights": (lambda complete, content: content["state_dict"], "lacks state_dict and pytorch-lightning_version"),
    "a list": (lambda complete, content: [1, 2], "is not a checkpoint of Lightning"),
    "no weights": (lambda complete, content: {k: content[k] for k in content if k != "state_dict"}, "lacks state_dict"),
}


@pytest.mark.parametrize(("make", "message"), SPOILED.values(), ids=SPOILED.keys())
def test_what_is_no_checkpoint_is_refused_and_nothing_in_it_runs(
    make: Spoil, message: str, good: Path, tmp_path: Path
) -> None:
    path = tmp_path / "spoiled.ckpt"
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_checkpoint(path)
    with pytest.raises(IsADirectoryError, match="is a folder without checkpoints: name the file of one"):
        read_checkpoint(tmp_path)
    content = make(good.read_bytes(), torch.load(good, weights_only=True))
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(ValueError, match=message):
        read_checkpoint(path)
    with pytest.raises(ValueError, match=message):
        fit(tmp_path, 2, checkpoint=path)
    assert not RAN.exists()


def test_a_folder_instead_of_a_checkpoint_is_answered_with_its_checkpoints(tmp_path: Path) -> None:
    """The best first, then the newest, also from the folder of all runs."""
    names = ("last", "best-epoch=3", "epoch=1", "epoch=2")
    paths = [tmp_path / "Arrays" / "version_0" / "checkpoints" / f"{name}.ckpt" for name in names]
    paths[0].parent.mkdir(parents=True)
    for age, path in enumerate(paths):
        path.touch()
        os.utime(path, (1e9 - age, 1e9 - age))
    last, best, newer, _ = paths
    for folder in (tmp_path, *paths[0].relative_to(tmp_path).parents[:3]):
        with pytest.raises(IsADirectoryError) as error:
            read_checkpoint(tmp_path / folder)
        said = f"{tmp_path / folder} is a folder: name one of its checkpoints, {best}, {last}, {newer} and 1 more"
        assert str(error.value) == said


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
        content_read = read_checkpoint(path)
    except ValueError:
        return
    assert bit is not None
    for name, value in torch.load(good, weights_only=True)["state_dict"].items():
        assert torch.equal(content_read["state_dict"][name], value), name


def after_first_epoch(action: Callable[[], Any]) -> Callback:
    """Do something once the first epoch is over."""
    return LambdaCallback(on_train_epoch_start=lambda trainer, _: trainer.current_epoch == 1 and action())


def test_a_full_disk_leaves_the_last_checkpoint_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(handle: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"No space left on device: .*\.ckpt"):
        fit(tmp_path, 3, [after_first_epoch(lambda: monkeypatch.setattr(os, "fsync", full))])
    assert read_checkpoint(tmp_path / "checkpoints" / "last.ckpt")["global_step"] == 4
    assert not [path for path in (tmp_path / "checkpoints").iterdir() if path.suffix != ".ckpt"]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    """And one other than that of temporary files."""
    with mounted_disk(tmp_path / "disk", "size=1m") as disk:

        def fill() -> None:  # all but 20 kB, which is less than a checkpoint
            free = os.statvfs(disk)
            (disk / "filler").write_bytes(b"0" * (free.f_bavail * free.f_frsize - 20_000))

        with pytest.raises(OSError, match=r"No space left on device: .*\.ckpt"):
            fit(disk, 3, [after_first_epoch(fill)])
        last = disk / "checkpoints" / "last.ckpt"
        assert read_checkpoint(last)["global_step"] == 4
        (disk / "filler").unlink()
        assert fit(disk, 2, checkpoint=last).global_step == 8


def test_ones_own_way_of_writing_checkpoints_stays(tmp_path: Path) -> None:
    class Own(TorchCheckpointIO):
        pass

    assert type(fit(tmp_path / "own", plugins=[Own()]).strategy.checkpoint_io) is Own
    assert type(fit(tmp_path / "default").strategy.checkpoint_io) is WholeCheckpointIO


def test_of_another_size_or_class(good: Path) -> None:
    trainer = Trainer(logger=False, **QUIET)
    with pytest.raises(RuntimeError, match=r"core.W.*\[6, 6\].*\[7, 7\]"):
        trainer.test(ALRNNModule(2, 3, 7, 3), data(), ckpt_path=good, verbose=False)
    with pytest.raises(RuntimeError, match=r"loading state_dict for ALRNNSeq2Seq"):
        trainer.test(build("seq2seq"), Sequences("seq2seq", (16, 7, 5), 4), ckpt_path=good, verbose=False)
