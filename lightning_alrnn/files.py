"""Files that are written whole, and results as JSON."""

from __future__ import annotations

import json
import math
import os
import secrets
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

_MOST_LISTED = 1000
_LARGE = {"gains", "tail", "eigenvectors", "duration", "regime", "cut"}


def write_file(path: Path, content: str | bytes | memoryview, durable: bool = True) -> None:
    """Replace a file as a whole, and wait for the disk if it must survive a power cut (``durable``)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}")
    try:
        with temporary.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # the error of a full disk has no file name
            error.filename, error.filename2 = os.fspath(path), None
        raise


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until files are on the disk, which is faster for many files than waiting for each one."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write results as JSON."""
    write_file(path, json.dumps(to_json(value), indent=1, allow_nan=False) + "\n")


def to_json(value: Any) -> Any:
    """Convert results to JSON: named tuples to objects, λ to {"re": …, "im": …}, NaN to null, infinity to "inf"."""
    # large fields and entries after the first 1,000 are left out
    if isinstance(value, Tensor):
        first = value[(slice(_MOST_LISTED),) * value.ndim].detach()
        plain = not first.is_complex() and bool(torch.isfinite(first).all())
        return first.tolist() if plain else to_json(first.tolist())
    if hasattr(value, "_asdict"):
        return {name: to_json(field) for name, field in value._asdict().items() if name not in _LARGE}
    if isinstance(value, Mapping):
        return {str(name): to_json(field) for name, field in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(entry) for entry in value]
    if isinstance(value, complex):
        return {"re": to_json(value.real), "im": to_json(value.imag)}
    if isinstance(value, float) and not math.isfinite(value):
        return None if math.isnan(value) else ("inf" if value > 0 else "-inf")
    return value
