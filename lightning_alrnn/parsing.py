"""Files that were written elsewhere, or long ago: they are checked before anything uses what they hold."""

from __future__ import annotations

import zipfile
from pathlib import Path

_MOST_SAID = 150


def check_archive(path: Path) -> None:
    """Raise ``ValueError`` unless each file of a zip archive has its checksum, in bounded memory."""
    try:
        with zipfile.ZipFile(path) as archive:
            damage = archive.testzip()
    except FileNotFoundError:
        raise
    except Exception as error:  # a damaged archive can raise anything, such as a wish for a password
        raise ValueError(f"{path} is damaged ({reason_of(error)})") from error
    if damage is not None:
        raise ValueError(f"{path} is damaged ({damage} has another checksum)")


def reason_of(error: BaseException) -> str:
    """The kind of an error and the beginning of what it says, which may be as long as a damaged file."""
    said = " ".join(str(error)[:_MOST_SAID].split())
    return f"{type(error).__name__}: {said}" if said else type(error).__name__
