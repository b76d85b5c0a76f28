"""Files that are written whole, and results as JSON."""

from __future__ import annotations

import errno
import json
import math
import os
import re
import secrets
import socket
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

_MOST_LISTED = 1000
_TEMPORARY = re.compile(r"\..+\.(\d+)-[0-9a-f]{8}-(.+)")  # of `replacing`
_OLD = 24 * 3600
_LARGE = {"gains", "tail", "eigenvectors", "duration", "regime", "cut"}


def write_file(path: Path, content: str | bytes | memoryview, durable: bool = True) -> None:
    """Replace a file as a whole, and wait for the disk if it must survive a power cut (``durable``)."""
    with replacing(path, durable) as file:
        file.write(content.encode() if isinstance(content, str) else content)


@contextmanager
def replacing(path: Path, durable: bool = True) -> Iterator[IO[bytes]]:
    """A new file, which takes the place of another one as a whole if the block ends without an error."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}-{secrets.token_hex(4)}-{socket.gethostname()}")
    try:
        with temporary.open("x+b") as file:
            yield file
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
        if durable:
            sync_folder(path.parent)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):  # the error of a full disk has no file name
            error.filename = os.fspath(path)
            del error.filename2  # None would be shown as a second name
        raise


def remove_leftovers(*folders: Path) -> None:
    """Remove the unfinished files of processes of this machine that are gone, and old ones of other machines."""
    for folder in folders:
        for path in folder.glob(".*"):
            if (written := _TEMPORARY.fullmatch(path.name)) and _is_abandoned(path, int(written[1]), written[2]):
                path.unlink(missing_ok=True)


def _is_abandoned(path: Path, process: int, host: str) -> bool:
    if host == socket.gethostname() and os.name != "nt":  # where signal 0 would end the process
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            return False  # another user's
        return False
    try:
        return time.time() - path.stat().st_mtime > _OLD
    except FileNotFoundError:  # its process has just finished it
        return False


def sync_files(paths: Iterable[Path]) -> None:
    """Wait until files are on the disk, which is faster for many files than waiting for each one."""
    listed = list(paths)
    for path in listed:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    for folder in dict.fromkeys(path.parent for path in listed):
        sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Wait until the names of the files in a folder are on the disk: a file that was synced can still lose its name."""
    if os.name == "nt":  # Windows has no handles of folders
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno != errno.EINVAL:  # some network file systems cannot sync folders
            raise
    finally:
        os.close(handle)


def write_json(path: Path, value: Any) -> None:
    """Write results as JSON."""
    write_file(path, json.dumps(to_json(value), indent=1, allow_nan=False) + "\n")


def to_json(value: Any) -> Any:
    """Convert results to JSON: named tuples to objects, λ to {"re": …, "im": …}, NaN to null, infinity to "inf"."""
    # large fields and entries after the first 1,000 are left out
    # a tensor is of a module that has been imported; it takes seconds, and most results have none
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(value, torch.Tensor):
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
