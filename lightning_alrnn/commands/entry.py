"""The ``alrnn`` command.

Importing torch and Lightning takes seconds. Help, the version, ``alrnn configs`` and a mistyped command do without.
"""

from __future__ import annotations

import difflib
import os
import sys
from collections.abc import Sequence
from pkgutil import resolve_name

from lightning_alrnn import __version__
from lightning_alrnn.commands.help import COMMANDS, ask_for_all, find_screen
from lightning_alrnn.errors import fail, message_of

OWN_COMMANDS = {
    "analyze": "lightning_alrnn.commands.analyze:run_analyze",
    "compare": "lightning_alrnn.commands.compare:run_compare",
    "completion": "lightning_alrnn.commands.completion:print_completion",
    "configs": "lightning_alrnn.commands.configs:print_configs",
    "prune": "lightning_alrnn.commands.prune:run_prune",
    "sweep": "lightning_alrnn.commands.sweep:run_sweep",
    "verdict": "lightning_alrnn.commands.verdict:run_verdict",
}
"""What runs each command that LightningCLI does not have."""


def main(args: Sequence[str] | None = None) -> None:
    """Run the ``alrnn`` command with the arguments behind it, by default those of the command line.

    A wrong argument or file ends it with a message and without a traceback, unless the environment variable
    ``ALRNN_TRACEBACK`` is set.

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
            fail(_no_command(arguments[0]))
        else:
            _run(arguments)
    except BrokenPipeError:  # whoever read the output has seen enough: `alrnn configs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _run(arguments: list[str]) -> None:
    """Run a command, and say in a line what is wrong where that is enough."""
    command, *rest = arguments
    if command == "sweep":
        _begin_sweep(rest)
    try:
        if command in OWN_COMMANDS:
            resolve_name(OWN_COMMANDS[command])(rest)
        else:
            from lightning_alrnn.cli import run_cli

            run_cli(ask_for_all(arguments) or arguments)
    except BrokenPipeError:
        raise
    except Exception as error:
        message = None if os.environ.get("ALRNN_TRACEBACK") else message_of(error)
        if message is None:
            raise
        fail(message)


def _begin_sweep(arguments: Sequence[str]) -> None:
    """Say that a sweep starts, and let the process of its workers import PyTorch while this one does."""
    sys.stderr.write("alrnn sweep: starting; PyTorch and Lightning take some seconds to import\n")
    if not {"inline", "slurm", "--executor=inline", "--executor=slurm"} & set(arguments):
        from lightning_alrnn.sweep.workers import prepare_workers

        prepare_workers()


def _no_command(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "."
    return f"there is no command {name!r}{meant} Commands are {', '.join(COMMANDS)}; alrnn --help says what they do"
