"""``alrnn completion``: print a script with which a shell completes ``alrnn`` commands.

jsonargparse's own script takes minutes, because it expands the options of every class that an option accepts, and
theirs in turn. This one has the classes of the package, and optimizers, schedulers and loggers.
"""

from __future__ import annotations

import argparse
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from types import ModuleType
from typing import Any, Literal, NamedTuple, get_args, get_origin

import jsonargparse
import torch
from pytorch_lightning import Callback, loggers
from pytorch_lightning.cli import ReduceLROnPlateau
from torch.optim import lr_scheduler

from lightning_alrnn import callbacks, datamodules, modules
from lightning_alrnn.cli import run_cli
from lightning_alrnn.commands.help import COMMANDS
from lightning_alrnn.commands.options import OPTIONS, parser_of
from lightning_alrnn.configs import shipped_configs
from lightning_alrnn.nn import encoders

_CLASSES: dict[str, tuple[ModuleType, type, int]] = {  # module, base class, and number of arguments that are no options
    "--model": (modules, modules.SequenceModule, 0),
    "--model.encoder": (encoders, torch.nn.Module, 0),
    "--model.optimizer": (torch.optim, torch.optim.Optimizer, 1),
    "--model.lr_scheduler": (lr_scheduler, lr_scheduler.LRScheduler, 1),
    "--data": (datamodules, datamodules.SequenceDataModule, 0),
    "--trainer.callbacks": (callbacks, Callback, 0),
    "--trainer.logger": (loggers, loggers.Logger, 0),
}
_PATHS = {
    "--ckpt_path": "file",
    "--output_dir": "directory",
    "--data.inputs": "file",
    "--data.data_dir": "directory",
    "--data.cache_dir": "directory",
    "--trainer.default_root_dir": "directory",
    "folder": "directory",
    "paths": "file",
}


class Option(NamedTuple):
    """An option or a positional argument of a command."""

    text: str
    values: list[str]  # values that can be completed
    nargs: int | str | None  # number of values, as in argparse


def run_completion(arguments: Sequence[str]) -> None:
    """Run ``alrnn completion``."""
    sys.stdout.write(completion_script(parser_of("completion").parse_args(arguments).shell) + "\n")


def completion_script(shell: str) -> str:
    """The script for bash, zsh or tcsh."""
    try:
        import shtab
    except ImportError:
        raise RuntimeError("alrnn completion needs shtab: pip install shtab") from None
    names = " ".join(shipped_configs())
    functions = {  # because of "files" in its name, bash ends a folder with a slash
        "bash": f'_alrnn_config_files() {{\n  compgen -W "{names}" -- "$1"\n  compgen -f -- "$1"\n}}',
        "zsh": f"_alrnn_config_files() {{\n  _alternative 'names:configuration:({names})' 'files:file:_files'\n}}",
    }
    configs = {**shtab.FILE, **dict.fromkeys(functions, "_alrnn_config_files")}
    script = shtab.complete(_command_parser(configs), shell, preamble=functions.get(shell, ""))
    # zsh takes a + at the end of an option's name for a modifier, unless another one, =, follows
    return script.replace("+[", "+=[") if shell == "zsh" else script


def options_of_commands() -> dict[str, dict[str, Option]]:
    """The options of each command by name, from its parser and from the signatures of the classes."""
    (commands,) = (a for a in jsonargparse.capture_parser(run_cli, [])._actions if a.dest == "subcommand")
    assert isinstance(commands.choices, Mapping)
    of_classes = [action for option in _CLASSES for action in _options_of_classes(option)]
    actions = {name: [*parser._actions, *of_classes] for name, parser in commands.choices.items()}
    further = {"analyze": "test", "ask": "data", "prune": "test", "sweep": "fit"}
    actions["data"] = [a for a in actions["fit"] if a.option_strings and a.option_strings[0].startswith("--data.")]
    actions |= {name: [*parser_of(name)._actions, *actions.get(further.get(name, ""), [])] for name in OPTIONS}
    return {name: _by_name(actions[name]) for name in COMMANDS}


def _command_parser(configs: Mapping[str, Any]) -> argparse.ArgumentParser:
    """A plain parser of all commands with all options, for shtab and not for parsing."""
    parser = argparse.ArgumentParser("alrnn")
    commands = parser.add_subparsers()
    for name, options in options_of_commands().items():
        described = commands.add_parser(name, help=COMMANDS[name], description=COMMANDS[name], add_help=False)
        for option, (text, values, nargs) in options.items():
            if nargs == 0:
                described.add_argument(option, action="store_true", help=text)
                continue
            is_config = option in ("-c", "--config")
            repeated = is_config or option.endswith("+")
            added = described.add_argument(option, action="append" if repeated else "store", nargs=nargs, help=text)
            added.choices = values or None
            if is_config or option in _PATHS:
                added.complete = configs if is_config else _PATHS[option]  # type: ignore[attr-defined]
    return parser


def _options_of_classes(option: str) -> list[argparse.Action]:
    """The options of the classes that an option accepts, such as ``--data.sequence_length``."""
    actions = []
    for each in _classes(option).values():
        parser = jsonargparse.ArgumentParser()
        parser.add_class_arguments(each, option[2:], skip={_CLASSES[option][2]}, fail_untyped=False)
        for action in parser._actions:
            owner, _, last = action.dest.rpartition(".")
            if owner and (last != "help" or f"--{owner}" in _CLASSES):
                actions.append(action)
    return actions


def _classes(option: str) -> dict[str, type]:
    """The classes that an option accepts, by name."""
    package, base, _ = _CLASSES[option]
    classes = {
        name: each
        for name, each in inspect.getmembers(package, inspect.isclass)
        if issubclass(each, base) and each is not base
        if not name.startswith("_") and not each.__module__.endswith(".base")
    }
    if classes.pop(ReduceLROnPlateau.__name__, None):  # Lightning has one, too, so its short name is refused
        classes[f"{ReduceLROnPlateau.__module__}.{ReduceLROnPlateau.__name__}"] = ReduceLROnPlateau
    return classes


def _by_name(actions: Iterable[argparse.Action]) -> dict[str, Option]:
    """Options by name; an option of several classes has the values of each."""
    options: dict[str, Option] = {}
    for action in actions:
        if action.help == argparse.SUPPRESS:
            continue
        for name in action.option_strings or [action.dest]:
            of_class = name.removesuffix("+").removesuffix(".help")
            if of_class in _CLASSES:
                values = list(_classes(of_class))
            else:
                values = list(map(str, action.choices or ())) or _values(getattr(action, "_typehint", None))
            text = " ".join((action.help or "").split()).replace("%", "%%")
            nargs = None if action.nargs == "?" else action.nargs
            if name == "--print_config":
                nargs = 0  # its value is optional and follows =
            before = options.setdefault(name, Option(text, [], nargs)).values
            before += [value for value in values if value not in before]
    return options


def _values(hint: Any) -> list[str]:
    """The values that an annotation lists."""
    if hint is bool:
        return ["true", "false"]
    if get_origin(hint) is Literal:
        return list(map(str, get_args(hint)))
    return [value for part in get_args(hint) for value in _values(part)]
