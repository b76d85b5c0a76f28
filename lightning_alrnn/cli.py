"""The ``alrnn`` command: fit, validate, test and predict through LightningCLI, and what stands beside them."""

from __future__ import annotations

import copy
import difflib
import errno
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from pkgutil import resolve_name
from typing import Any, NoReturn

import yaml
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import LightningDataModule, LightningModule
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback

# imported so that --model, --data and --trainer.callbacks find the classes by their short names
from lightning_alrnn import callbacks, datamodules, modules  # noqa: F401
from lightning_alrnn.checkpoints import read_checkpoint
from lightning_alrnn.help import COMMANDS, ask_for_all, find_screen
from lightning_alrnn.slurm import slurm_folders

_DEFAULT_CALLBACKS = ("RegimeOccupancy", "ActiveUnits", "FixedPoints", "PredictionWriter", "Dashboard")
_COMMANDS = {  # those that LightningCLI does not have; imported when they are called, which takes its time
    "analyze": "lightning_alrnn.analyze_command:run_analyze",
    "compare": "lightning_alrnn.compare_command:run_compare",
    "completion": "lightning_alrnn.completion:print_completion",
    "configs": "lightning_alrnn.cli:print_configs",
    "prune": "lightning_alrnn.prune_command:run_prune",
    "sweep": "lightning_alrnn.sweep.command:sweep",
    "verdict": "lightning_alrnn.sweep.verdict_command:run_verdict",
}
_SURROUNDINGS = {  # of errors that are the machine's, not a program's: the disk is full, a folder may not be written to
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOENT, errno.EEXIST, errno.ENOTDIR, errno.EISDIR),
    *(errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ENAMETOOLONG),
}
_STATES_CALLBACKS = ("RegimeOccupancy", "ActiveUnits", "FixedPoints", "Spectrum", "LatentTrajectories")
_REGIME_CALLBACKS = (*_STATES_CALLBACKS, "UnitAblation")
_LINKED = ("input_size", "output_size", "objective", "target_step", "criterion", "group_names", "num_units")
_CONFIGS_HELP = """\
usage: alrnn configs

List the configurations that come with the package: name, number of units M and of
nonlinear units P, and what the task is.

example:
  alrnn configs
  alrnn fit --config addition_quick
  alrnn fit --config addition_quick --print_config
"""


class ALRNNCLI(LightningCLI):
    """LightningCLI with the sizes linked from the data, and the regimes logged to TensorBoard by default.

    Args:
        *args: as LightningCLI takes them.
        summary: whether a ``Dashboard`` sums the run up at its end.
        **kwargs: as LightningCLI takes them.
    """

    def __init__(self, *args: Any, summary: bool = True, **kwargs: Any) -> None:
        self._summary = summary
        super().__init__(*args, **kwargs)

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        # all options would bury the error below them
        return super().init_parser(**kwargs, usage="%(prog)s")

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in _LINKED:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")
        if not _names_model(sys.argv[1:]):  # with it, its options' defaults would become those of any other model
            parser.set_defaults({"model": {"class_path": "lightning_alrnn.modules.ALRNNModule"}})
        parser.set_defaults(
            {
                "trainer.callbacks": [
                    {"class_path": f"lightning_alrnn.callbacks.{name}"} for name in _DEFAULT_CALLBACKS
                ],
                "trainer.logger": {
                    "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
                    "init_args": {"save_dir": "runs", "name": None, "default_hp_metric": False},
                },
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        config = self.config[self.config.subcommand] if self.config.get("subcommand") else self.config
        path = config.get("ckpt_path")
        if path is None or path in ("best", "last", "hpc") or path.startswith("registry") or "://" in path:
            return
        # LightningCLI is about to take the model's arguments from it
        written = read_checkpoint(path).get("hyper_parameters", {}).get("_class_path")
        asked = config.model.class_path
        if written is not None and written != asked and _names_model(sys.argv[1:]):
            raise ValueError(
                f"{path} was written by {written.rpartition('.')[2]}, which is not the model asked for, "
                f"{asked.rpartition('.')[2]}: leave --model out, or take another checkpoint"
            )

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand] if self.subcommand else self.config
        logger = config.trainer.get("logger")
        if hasattr(logger, "class_path") and logger.init_args.get("name", "") is None:
            logger.init_args.name = config.data.class_path.rpartition(".")[2]  # runs/Addition/version_0
        given = config.trainer.get("callbacks") or []
        if not isinstance(given, list):  # one alone, as `--trainer.callbacks Spectrum` gives it
            given = config.trainer.callbacks = [given]
        for callback in given:
            if callback.class_path.rpartition(".")[2] == "Dashboard" and not self._summary:
                callback.init_args.summary = False
        if config.model.get("init_args", {}).get("core", "ALRNN").rpartition(".")[2] != "ALRNN":
            kept = [callback for callback in given if callback.class_path.rpartition(".")[2] not in _REGIME_CALLBACKS]
            if len(kept) < len(given):
                names = [callback.class_path.rpartition(".")[2] for callback in given if callback not in kept]
                rank_zero_info(f"core is no ALRNN: {', '.join(names)} have no regimes to log and are off")
                config.trainer.callbacks = kept
        networks = getattr(resolve_name(config.model.class_path), "alrnns", ())
        if networks and config.trainer.get("callbacks"):
            config.trainer.callbacks = _one_for_each(networks, config.trainer.callbacks)

    def instantiate_classes(self) -> None:
        config = self.config[self.subcommand] if self.subcommand else self.config
        with slurm_folders(config, self.subcommand):  # not for config.yaml: another job's folder is another one
            super().instantiate_classes()


def shipped_configs() -> dict[str, Path]:
    """The configurations that come with the package: name, without suffix, and path."""
    folder = Path(str(resources.files("lightning_alrnn.configs")))
    return {path.relative_to(folder).with_suffix("").as_posix(): path for path in sorted(folder.rglob("*.yaml"))}


def resolve_configs(args: Sequence[str]) -> list[str]:
    """Replace the names of shipped configurations behind ``--config`` by their paths.

    A file of that name comes first. Paths and YAML text are left alone.

    Args:
        args: the arguments, such as ``["fit", "--config", "digits"]``.

    Returns:
        As many, in the same order.

    Raises:
        SystemExit: if it is neither a file nor a shipped configuration; the message lists those there are.
    """
    resolved: list[str] = []
    expected = False
    for argument in args:
        flag, separator, value = argument.partition("=")
        if expected:
            resolved.append(_config_path(argument))
        elif flag in ("--config", "-c") and separator:
            resolved.append(f"{flag}={_config_path(value)}")
        else:
            resolved.append(argument)
        expected = argument in ("--config", "-c")
    return resolved


def main(args: Sequence[str] | None = None) -> None:
    """Run the ``alrnn`` command.

    Args:
        args: the arguments, as after ``alrnn`` on the command line; ``None`` takes them from there.

    Raises:
        SystemExit: where an argument or a file is wrong: the message goes to the terminal, without a traceback unless
            the environment variable ``ALRNN_TRACEBACK`` is set.

    Example:
        >>> main(["fit", "--config", "addition_quick", "--trainer.max_epochs", "5"])  # doctest: +SKIP
    """
    arguments = list(sys.argv[1:] if args is None else args)
    try:
        if arguments and arguments[0] in _COMMANDS:
            resolve_name(_COMMANDS[arguments[0]])(arguments[1:])
        elif arguments and not arguments[0].startswith("-") and arguments[0] not in COMMANDS:
            _fail(_no_command(arguments[0]))
        elif (screen := find_screen(arguments)) is not None:
            sys.stdout.write(screen)
        else:
            run_cli(ask_for_all(arguments) or arguments)
    except BrokenPipeError:  # whoever read the output has seen enough: `alrnn configs | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    except (ValueError, TypeError, OSError, FloatingPointError, RuntimeError, MisconfigurationException) as error:
        message = None if os.environ.get("ALRNN_TRACEBACK") else _message(error)
        if message is None:
            raise
        _fail(message)


def run_cli(
    args: Sequence[str], save_config: bool = True, summary: bool = True, cli: Callable[..., ALRNNCLI] = ALRNNCLI
) -> ALRNNCLI:
    """Run a command of :class:`ALRNNCLI`.

    Args:
        args: the arguments, such as ``["fit", "--config", "digits"]``.
        save_config: whether to write the configuration into the log directory.
        summary: whether a ``Dashboard`` sums the run up at its end.
        cli: what is called to make the CLI.

    Returns:
        The CLI, with its ``trainer``, ``model`` and ``datamodule``.
    """
    with _command_line(resolve_configs(args)):
        return cli(
            LightningModule,
            LightningDataModule,
            summary=summary,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=SaveConfigCallback if save_config else None,
            save_config_kwargs={"overwrite": True},  # a requeued SLURM job meets the file of its first start
            parser_kwargs={"prog": "alrnn"},
        )


@contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    """Make ``arguments`` the process's own: LightningCLI reads them there, and so do the processes that DDP starts."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _one_for_each(networks: Sequence[str], given: Sequence[Any]) -> list[Any]:
    """Repeat each callback that looks at regimes, and names no network, for every one of the model's networks."""
    repeated = []
    for callback in given:
        if callback.class_path.rpartition(".")[2] in _STATES_CALLBACKS and callback.init_args.get("module") is None:
            for name in networks:
                repeated.append(copy.deepcopy(callback))
                repeated[-1].init_args.module = name
        else:
            repeated.append(callback)
    return repeated


def _message(error: BaseException) -> str | None:
    """What to say of an error in a line; ``None`` where it is none of this package's, nor of what it runs on."""
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
        error: what was raised, by this package or by what it was called from.

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


def _names_model(arguments: Sequence[str]) -> bool:
    """Whether the class of the model is named, by an option or in a configuration."""
    flags = ("--model", "--model.class_path")
    for argument, following in zip(arguments, [*arguments, ""][1:], strict=True):
        flag, separator, value = argument.partition("=")
        if flag in flags:
            return True
        if flag in ("--config", "-c") and _holds_model(value if separator else following):
            return True
    return False


def _holds_model(config: str) -> bool:
    """Whether a configuration, a path or YAML text, names the class of the model; at its top or for a subcommand."""
    try:
        content = yaml.safe_load(Path(config).read_text(encoding="utf-8") if Path(config).is_file() else config)
    except (OSError, yaml.YAMLError):
        return False  # whoever reads it for its values says what is wrong
    if not isinstance(content, dict):
        return False
    models = [part.get("model") for part in (content, *content.values()) if isinstance(part, dict)]
    return any(isinstance(model, str) or (isinstance(model, dict) and "class_path" in model) for model in models)


def _config_path(value: str) -> str:
    known = shipped_configs()
    if value in known and not Path(value).is_file():
        return str(known[value])
    if not Path(value).is_file() and "\n" not in value and not value.lstrip().startswith("{"):
        _fail(f"--config {value}: no such file, and no configuration of that name; known names are {', '.join(known)}")
    try:
        if Path(value).is_file():
            Path(value).read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        _fail(f"--config {value}: no text in UTF-8, so no YAML ({error})")
    return value


def print_configs(arguments: Sequence[str]) -> None:
    """Run ``alrnn configs``: list the configurations that come with the package.

    Args:
        arguments: those behind ``configs``: none, or ``--help``.

    Raises:
        SystemExit: where there are others.
    """
    if arguments:
        if list(arguments) in (["--help"], ["-h"]):
            sys.stdout.write(_CONFIGS_HELP)
            return
        _fail(f"alrnn configs takes no arguments, got {' '.join(arguments)}")
    rows: list[tuple[str, ...]] = [("name", "M", "P", "input → target")]
    for name, path in shipped_configs().items():
        text = path.read_text(encoding="utf-8")
        options = yaml.safe_load(text)["model"]["init_args"]
        units = [_sizes(options, key) for key in ("hidden_size", "nonlinear_units")]
        rows.append((name, *units, text.splitlines()[1].lstrip("# ")))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        _write("  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip())
    _write("\nalrnn fit --config NAME runs one; alrnn fit --config NAME --print_config shows all that it sets.")


def _sizes(options: dict[str, Any], key: str) -> str:
    """The value of an option, and the decoder's own where there are two networks."""
    return " / ".join(str(value) for name, value in options.items() if name.endswith(key)) or "–"


def _no_command(name: str) -> str:
    close = difflib.get_close_matches(name, COMMANDS, n=1)
    meant = f"; did you mean {close[0]!r}?" if close else "."
    return f"there is no command {name!r}{meant} Commands are {', '.join(COMMANDS)}; alrnn --help says what they do"


def _write(line: str) -> None:
    sys.stdout.write(line + "\n")


def _fail(message: str) -> NoReturn:
    sys.stderr.write(f"alrnn: error: {message}\n")
    raise SystemExit(2)
