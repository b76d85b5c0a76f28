"""The ``alrnn`` command.

Importing torch and Lightning takes seconds. Help, the version, ``alrnn configs``, ``alrnn verdict`` and a mistyped
command do without.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from pkgutil import resolve_name

from lightning_alrnn import __version__
from lightning_alrnn.commands.help import COMMANDS, ask_for_all, find_screen
from lightning_alrnn.commands.options import OPTIONS
from lightning_alrnn.errors import fail, message_of


def main(args: Sequence[str] | None = None) -> None:
    """Run the ``alrnn`` command with these arguments, by default those of the command line.

    A wrong argument or file ends it with a message instead of a traceback, unless ``ALRNN_TRACEBACK`` is set.

    Example:
        >>> main(["fit", "--config", "addition_quick", "--trainer.max_epochs", "5"])  # doctest: +SKIP
    """
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        if arguments == ["--version"]:
            sys.stdout.write(f"{__version__}\n")
        elif (screen := find_screen(arguments)) is not None:
            sys.stdout.write(screen)
        elif not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            close = difflib.get_close_matches(arguments[0], COMMANDS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else "."
            fail(
                f"there is no command {arguments[0]!r}{hint} The commands are {', '.join(COMMANDS)}; alrnn --help "
                "explains them"
            )
        else:
            _run(arguments)
    except BrokenPipeError:  # the reader of the output has closed it, as in `alrnn configs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> None:
    """Run a command, and print an expected error as one line."""
    command, *rest = arguments
    if "torch" not in sys.modules and command not in ("configs", "verdict"):
        sys.stderr.write(f"alrnn {command}: importing PyTorch and Lightning takes some seconds\n")
    if command in ("ask", "sweep") and not {"inline", "slurm", "--executor=inline", "--executor=slurm"} & set(rest):
        from lightning_alrnn.sweep.workers import prepare_workers

        prepare_workers()  # they import PyTorch at the same time
    try:
        if command in OPTIONS:
            resolve_name(f"lightning_alrnn.commands.{command}:run_{command}")(rest)
        else:
            from lightning_alrnn.cli import run_command

            run_command(ask_for_all(arguments) or arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        message = None if os.environ.get("ALRNN_TRACEBACK") else message_of(error)
        if message is None:
            raise
        fail(message)
