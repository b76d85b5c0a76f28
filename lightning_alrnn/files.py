"""Files that are whole or not there, and results as JSON."""

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
    """Write a file so that whoever reads it, at any time, meets all of it or what was there before.

    It is written under a name of its own beside it, brought to the disk where it is to be ``durable`` (whole also after
    a power cut), and then renamed. Text is written as UTF-8, and missing folders are made.
    """
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
        if isinstance(error, OSError):  # of a full disk, say, which does not tell where
            error.filename, error.filename2 = os.fspath(path), None
        raise


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until files are on the disk: for many of them, much faster than waiting for each as it is written."""
    for path in paths:
        with path.open("rb") as file:
            os.fsync(file.fileno())


def write_json(path: Path, value: Any) -> None:
    """Write results as a file of JSON."""
    write_file(path, json.dumps(to_json(value), indent=1, allow_nan=False) + "\n")


def to_json(value: Any) -> Any:
    """Results as JSON: tuples with names as objects, tensors as lists, λ as {"re": …, "im": …}, NaN as null.

    Infinite numbers become the strings "inf" and "-inf". What is a number for each sequence, step and unit is left out,
    and of what is longer than 1,000, such as the list of regimes, the first 1,000 are kept.

    Example:
        >>> to_json({"tau": torch.tensor([1.0, math.inf]), "p": math.nan})
        {'tau': [1.0, 'inf'], 'p': None}
    """
    if isinstance(value, Tensor):
        kept = value[(slice(_MOST_LISTED),) * value.ndim].detach()
        plain = not kept.is_complex() and bool(torch.isfinite(kept).all())
        return kept.tolist() if plain else to_json(kept.tolist())
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
