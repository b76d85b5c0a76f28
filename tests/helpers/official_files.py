"""Files in the formats of public data sets."""

from __future__ import annotations

import io
import struct
import tarfile
import wave
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def write_tar(path: Path, files: Iterable[tuple[str, bytes]]) -> Path:
    """A compressed archive of files in the order given, with the folder that it lies in."""
    path.parent.mkdir(exist_ok=True, parents=True)
    with tarfile.open(path, "w:gz", compresslevel=1) as tar:
        for name, content in files:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def write_files(folder: Path, files: dict[str, bytes]) -> None:
    """Files below a folder."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)


def idx_bytes(values: NDArray[np.uint8]) -> bytes:
    """Images or labels as MNIST has them."""
    return struct.pack(f">HBB{values.ndim}I", 0, 8, values.ndim, *values.shape) + values.tobytes()


def wav_bytes(data: bytes | NDArray[Any], width: int = 2, channels: int = 1, rate: int = 16_000) -> bytes:
    """A WAV file of samples, or of their bytes."""
    file = io.BytesIO()
    with wave.open(file, "wb") as writer:
        writer.setparams((channels, width, rate, 0, "NONE", ""))
        writer.writeframes(data if isinstance(data, bytes) else data.astype("<i2").tobytes())
    return file.getvalue()
