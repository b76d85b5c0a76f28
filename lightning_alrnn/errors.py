"""Errors that a command says in a line, and others that need their traceback."""

from __future__ import annotations

import errno
import re
import sys
from typing import NoReturn

_SURROUNDINGS = {  # of errors that are the machine's, not a program's: the disk is full, a folder may not be written to
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG),
}


def fail(message: str) -> NoReturn:
    """End the command with code 2 and an error in one line, which says what is wrong and what to do."""
    sys.stderr.write(f"alrnn: error: {message}\n")
    raise SystemExit(2)


def message_of(error: BaseException) -> str | None:
    """One line on an error; ``None`` where it is neither of this package nor of the machine it runs on."""
    from lightning_fabric.utilities.exceptions import (
        MisconfigurationException,  # not before it is needed: it takes time
    )

    said = (ValueError, TypeError, OSError, FloatingPointError, RuntimeError, ImportError, MisconfigurationException)
    if not isinstance(error, said):
        return None
    own = own_error(error)
    if own is not None:
        return str(own)
    if isinstance(error, OSError) and error.errno in _SURROUNDINGS:
        return str(error)
    text = str(error)
    if isinstance(error, RuntimeError) and text.startswith("Error(s) in loading state_dict"):
        return _other_network(text)
    if text.startswith("Does not validate against any") or re.match("Requirement '.*' not met", text):
        from lightning_alrnn.option_errors import explain

        return explain(text)
    if isinstance(error, MisconfigurationException) or text.startswith("You selected an invalid"):
        no_device = "No supported gpu backend" in text or "can not run on your system" in text
        return f"{text} --trainer.accelerator auto uses what this machine has" if no_device else text
    return None


def _other_network(text: str) -> str:
    """What to do about the weights of a network that has other sizes."""
    difference = re.search(r"for (\S+): .*?torch\.Size\((.*?)\).*?torch\.Size\((.*?)\)", text, re.DOTALL)
    sizes = f": {difference[1]} has the shape {difference[2]} there and {difference[3]} here" if difference else ""
    return (
        f"the checkpoint is of another network{sizes}; use the model and the data that it was trained with, which are "
        "in the config.yaml of its run"
    )


def own_error(error: BaseException | None) -> BaseException | None:
    """The error of this package behind one that was raised, or ``None``.

    It says what to do, and a traceback would bury it.
    """
    while error is not None:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        if frame is not None and str(frame.tb_frame.f_globals.get("__name__")).startswith("lightning_alrnn."):
            return error
        error = error.__cause__ or error.__context__
    return None
