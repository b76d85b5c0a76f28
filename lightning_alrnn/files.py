"""Files that are whole or not there."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterable
from pathlib import Path


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
