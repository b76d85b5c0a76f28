"""Files are whole or not there, and results become JSON."""

from __future__ import annotations

import json
import math
import os
import stat
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from lightning_alrnn.files import _MOST_LISTED, to_json, write_file


def test_a_file_is_whole_or_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "new" / "report.html"
    write_file(path, "first")

    def full(handle: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        write_file(path, "second")
    assert path.read_text() == "first"
    assert [entry.name for entry in path.parent.iterdir()] == ["report.html"]


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
