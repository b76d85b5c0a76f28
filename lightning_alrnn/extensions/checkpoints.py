"""Checkpoints that are always whole on the disk, and are checked before they are loaded."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning.plugins.io import TorchCheckpointIO

from lightning_alrnn.files import write_file
from lightning_alrnn.parsing import check_archive

_MOST_LISTED = 3
_REQUIRED = ("state_dict", "pytorch-lightning_version")


def _to_cpu(storage: Any, location: str) -> Any:
    return storage


class WholeCheckpointIO(TorchCheckpointIO):
    """Writes checkpoints that are whole at any time and reads them with :func:`read_checkpoint`."""

    # Lightning writes to the folder for temporary files. If that is on another disk, the file is copied to its place,
    # and a process that is killed meanwhile leaves half a file. URLs are left to Lightning.

    def save_checkpoint(self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any | None = None) -> None:
        if storage_options is not None or "://" in str(path):
            super().save_checkpoint(checkpoint, path, storage_options)
            return
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_file(Path(path), content.getbuffer())

    def load_checkpoint(
        self, path: str | Path, map_location: Any = _to_cpu, weights_only: bool | None = None
    ) -> dict[str, Any]:
        if weights_only is False or "://" in str(path) or map_location is not _to_cpu:
            return super().load_checkpoint(path, map_location, weights_only)
        return read_checkpoint(path)


def read_checkpoint(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a checkpoint onto the CPU without running code from it; raise ``ValueError`` if it is broken."""
    if Path(path).is_dir():
        raise IsADirectoryError(_checkpoints_below(Path(path)))
    if not Path(path).is_file():
        raise FileNotFoundError(
            f"{path}: no such file. Checkpoints are in <log directory>/checkpoints, such as "
            "runs/Addition/version_0/checkpoints/last.ckpt"
        )
    try:
        complete = zipfile.is_zipfile(path)  # the table of contents is at its end
    except zipfile.BadZipFile:  # the table lists further files
        complete = False
    if not complete:
        raise ValueError(
            f"{path} ({Path(path).stat().st_size} bytes) is not a complete checkpoint: use another one, "
            "such as best-….ckpt or last.ckpt of its folder"
        )
    try:
        check_archive(Path(path))  # torch does not compare checksums
    except ValueError as error:
        raise ValueError(f"{error}: use another checkpoint") from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a file with other contents can raise anything
        reason = next((line for line in str(error).splitlines() if "GLOBAL" in line), type(error).__name__)
        raise ValueError(
            f"{path} has other contents than numbers, text and tensors, or is not a checkpoint. It is not loaded, "
            f"because this could run foreign code ({reason})"
        ) from error
    missing = [name for name in _REQUIRED if name not in content] if isinstance(content, dict) else _REQUIRED
    if missing:
        raise ValueError(
            f"{path} is not a checkpoint of Lightning: it lacks {' and '.join(missing)}. To load weights only, use "
            "module.load_state_dict(torch.load(path, weights_only=True))"
        )
    return content  # type: ignore[no-any-return]


def _checkpoints_below(folder: Path) -> str:
    """What to say of a folder instead of a checkpoint: those below it, the best first."""
    below = [path for levels in range(4) for path in folder.glob(f"{'*/' * levels}*.ckpt")]  # of up to all runs
    found = sorted(below, key=lambda path: (not path.name.startswith("best"), -path.stat().st_mtime))
    if not found:
        return f"{folder} is a folder without checkpoints: name the file of one"
    listed = ", ".join(map(str, found[:_MOST_LISTED]))
    more = f" and {len(found) - _MOST_LISTED} more" if len(found) > _MOST_LISTED else ""
    return f"{folder} is a folder: name one of its checkpoints, {listed}{more}"


def config_of(checkpoint: Path) -> Path | None:
    """The configuration in the log directory of a checkpoint; ``None`` if there is none."""
    config = log_directory(checkpoint) / "config.yaml"
    return config if config.is_file() else None


def log_directory(checkpoint: Path) -> Path:
    """The directory that a checkpoint, or its folder ``checkpoints``, lies in."""
    return checkpoint.parent.parent if checkpoint.parent.name == "checkpoints" else checkpoint.parent
