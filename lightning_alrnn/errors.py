"""Errors that a command prints in one line, and checks of arguments."""

from __future__ import annotations

import errno
import re
import sys
from typing import Any, NoReturn, get_args

_OF_THE_MACHINE = {  # such as a full disk or a folder without write permission
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG),
}


def check_choice(name: str, value: object, choices: Any) -> None:
    """Raise ``ValueError`` unless a value is one of the choices of a ``Literal``."""
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")


def check_at_least(least: int, **values: int) -> None:
    """Raise ``ValueError`` unless all values are at least ``least``."""
    for name, value in values.items():
        if value < least:
            raise ValueError(f"{name} must be at least {least}, got {value}")


def check_not_negative(**values: float) -> None:
    """Raise ``ValueError`` if a value is negative or NaN."""
    for name, value in values.items():
        if not value >= 0:
            raise ValueError(f"{name} must not be negative, got {value}")


def check_tensor(name: str, tensor: Any, kind: str, shape: tuple[int, ...], floating: bool) -> None:
    """Raise ``ValueError`` unless a tensor has a shape and is floating or not."""
    if tuple(tensor.shape) != shape or tensor.is_floating_point() != floating:
        got = f"{tensor.dtype} of shape {tuple(tensor.shape)}"
        raise ValueError(f"{name} must be {kind} of shape {shape}, got {got}")


def fail(message: str) -> NoReturn:
    """End the command with exit code 2 and an error in one line."""
    sys.stderr.write(f"alrnn: error: {message}\n")
    raise SystemExit(2)


def message_of(error: BaseException) -> str | None:
    """Return the error in one line, or ``None`` unless it comes from this package or the machine it runs on."""
    # imported here because it takes time
    from lightning_fabric.utilities.exceptions import MisconfigurationException

    said = (ValueError, TypeError, OSError, FloatingPointError, RuntimeError, ImportError, MemoryError)
    if not isinstance(error, (*said, MisconfigurationException)):
        return None
    package_error = own_error(error)
    if package_error is not None:
        return str(package_error)
    if isinstance(error, OSError) and error.errno in _OF_THE_MACHINE:
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
    """Return the error of this package that led to an error, or ``None``. It says what to do, unlike a traceback."""
    while error is not None:
        frame = error.__traceback__
        while frame is not None and frame.tb_next is not None:
            frame = frame.tb_next
        if frame is not None and str(frame.tb_frame.f_globals.get("__name__")).startswith("lightning_alrnn."):
            return error
        error = error.__cause__ or error.__context__
    return None
