"""Files are whole or not there, and results become JSON."""

from __future__ import annotations

import json
import math
import os
import socket
import stat
import subprocess
from pathlib import Path
from typing import NamedTuple
from unittest.mock import Mock

import pytest
import torch

from lightning_alrnn.files import _MOST_LISTED, remove_leftovers, replacing, sync_files, to_json, write_file


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "report.html"
    write_file(path, "first")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, "second")
    assert path.read_text() == "first"
    with pytest.raises(OSError, match=rf"^\[Errno 28\] No space left on device: '{path}'$"):  # not "… -> None"
        write_file(path, "second")
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


def test_files_and_their_names_are_on_the_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A power cut after the renaming keeps the new file, under its name: both it and its folder are synced."""
    synced: list[tuple[int, bool]] = []
    for name in "ab":
        write_file(tmp_path / name / "record.json", "old", durable=False)

    def record(handle: int) -> None:
        renamed = (tmp_path / "a" / "record.json").read_text() == "new"
        synced.append((os.fstat(handle).st_ino, renamed))

    monkeypatch.setattr(os, "fsync", record)
    a, b = tmp_path / "a" / "record.json", tmp_path / "b" / "record.json"
    write_file(a, "new")
    assert synced == [(a.stat().st_ino, False), (a.parent.stat().st_ino, True)]
    synced.clear()
    sync_files(iter([a, b]))
    assert [inode for inode, _ in synced] == [path.stat().st_ino for path in (a, b, a.parent, b.parent)]


def test_a_folder_that_cannot_be_synced_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(handle: int) -> None:  # as some network file systems do for folders
        if stat.S_ISDIR(os.fstat(handle).st_mode):
            raise OSError(22, "Invalid argument")

    monkeypatch.setattr(os, "fsync", refuse)
    write_file(tmp_path / "report", "first")
    assert (tmp_path / "report").read_text() == "first"


def test_a_file_is_as_readable_as_others(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    write_file(tmp_path / "report", b"bytes")
    modes = {stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("other", "report")}
    assert len(modes) == 1


class Pair(NamedTuple):
    numbers: torch.Tensor
    gains: torch.Tensor


def test_results_become_json() -> None:
    value = {
        2: Pair(torch.tensor([1.0, math.inf, -math.inf, math.nan]), torch.zeros(9)),
        "λ": torch.tensor([1 + 2j]),
        "codes": torch.tensor([[True, False]]),
        "none": None,
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
    }
    assert to_json(value) == {
        "2": {"numbers": [1.0, "inf", "-inf", None]},
        "λ": [{"re": 1.0, "im": 2.0}],
        "codes": [[True, False]],
        "none": None,
        "empty": [],
        "scalar": 3,
    }
    json.dumps(to_json(value), allow_nan=False)


def test_long_lists_end() -> None:
    assert to_json(torch.arange(5000)) == list(range(_MOST_LISTED))
    assert len(to_json(torch.zeros(2, 5000))[1]) == _MOST_LISTED


def test_leftovers_of_killed_processes_are_removed_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with subprocess.Popen(["sleep", "60"]) as living:
        dead = subprocess.Popen(["true"])
        dead.wait()
        here = socket.gethostname()
        left = f".best-epoch=001.ckpt.{dead.pid}-0123abcd-{here}"
        kept = [
            f".last.ckpt.{living.pid}-0123abcd-{here}",
            f".last.ckpt.{dead.pid}-0123abcd-other.host-1",
            f"last.ckpt.{dead.pid}-0123abcd-{here}",
            f".last.ckpt.{dead.pid}-{here}",
            ".sweep",
        ]
        old = f".record.json.{living.pid}-0123abcd-other.host-1"
        for name in (left, old, *kept):
            (tmp_path / name).touch()
        os.utime(tmp_path / old, (0, 0))
        remove_leftovers(tmp_path, tmp_path / "missing")
        assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)
        living.kill()
    monkeypatch.setattr(os, "kill", Mock(side_effect=ProcessLookupError))
    with pytest.raises(FileNotFoundError), replacing(tmp_path / "a.json"):  # the names are those that are written
        remove_leftovers(tmp_path)
