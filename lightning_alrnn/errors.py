"""Errors that a command says in a line, and others that need their traceback."""

from __future__ import annotations

import errno
import sys
from typing import NoReturn

_SURROUNDINGS = {  # of errors that are the machine's, not a program's: the disk is full, a folder may not be written to
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG),
}


def fail(message: str) -> NoReturn:
    """End the command with an error in one line.

    Args:
        message: What is wrong, and what to do.

    Raises:
        SystemExit: with 2, always.
    """
    sys.stderr.write(f"alrnn: error: {message}\n")
    raise SystemExit(2)


def message_of(error: BaseException) -> str | None:
    """What to say of an error in one line.

    Args:
        error: What was raised.

    Returns:
        The line; ``None`` where the error is none of this package's, nor of the machine it runs on.
    """
    from lightning_fabric.utilities.exceptions import (
        MisconfigurationException,  # not before it is needed: it takes time
    )

    said = (ValueError, TypeError, OSError, FloatingPointError, RuntimeError, MisconfigurationException)
    if not isinstance(error, said):
        return None
    own = own_error(error)
    if own is not None:
        return str(own)
    if isinstance(error, OSError) and error.errno in _SURROUNDINGS:
        return str(error)
    if isinstance(error, RuntimeError) and str(error).startswith("Error(s) in loading state_dict"):
        return " ".join(str(error).split())
    return None


def own_error(error: BaseException | None) -> BaseException | None:
    """The error of this package behind one that was raised: it says what to do, and a traceback would bury it.

    Args:
        error: What was raised, by this package or by what it was called from.

    Returns:
        The error or one of its causes; ``None`` where none of them is of this package.
    """
    while error is not None:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        if frame is not None and str(frame.tb_frame.f_globals.get("__name__")).startswith("lightning_alrnn."):
            return error
        error = error.__cause__ or error.__context__
    return None
