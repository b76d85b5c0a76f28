"""The commands fit, validate, test and predict of LightningCLI."""

from __future__ import annotations

import argparse
import copy
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from pkgutil import resolve_name
from typing import Any

from jsonargparse import get_loader, set_loader
from jsonargparse._util import CaptureParserException
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only
from pytorch_lightning import LightningDataModule, LightningModule, Trainer
from pytorch_lightning.cli import LightningArgumentParser, LightningCLI, SaveConfigCallback
from pytorch_lightning.strategies.launchers import _SubprocessScriptLauncher
from pytorch_lightning.utilities.exceptions import SIGTERMException

# imported so that --model, --data and --trainer.callbacks find the classes by their short names
from lightning_alrnn import callbacks
from lightning_alrnn.configs import shipped_configs
from lightning_alrnn.errors import fail, own_error
from lightning_alrnn.extensions.checkpoint_classes import check_classes
from lightning_alrnn.extensions.checkpoints import config_of, log_directory, read_checkpoint
from lightning_alrnn.extensions.messages import without_advertisements
from lightning_alrnn.extensions.slurm import FOLDER_LOGGERS, slurm_folders
from lightning_alrnn.modules.base import SET_BY_DATA, SequenceModule
from lightning_alrnn.modules.sequence import find_core
from lightning_alrnn.option_errors import explain, guess_name
from lightning_alrnn.parsing import load_yaml, reason_of
from lightning_alrnn.readings.configured import default_callbacks

_DEFAULT_CALLBACKS = ("PredictionWriter", "Dashboard")  # after those that log readings
_SCORES = ("validate", "test", "predict")
_STOPPED = 128 + signal.SIGTERM
_NOT_OF_TRAINING = tuple(  # how and where a run is done, and what it shows
    f"trainer.{name}" for name in ("logger", "callbacks", "default_root_dir", "enable_", "plugins", "profiler")
)

_load = partial(load_yaml, load=get_loader("yaml"))
set_loader("yaml", _load, exceptions=(ValueError,))


class ALRNNCLI(LightningCLI):
    """LightningCLI that takes the sizes from the data and logs the regimes to TensorBoard by default.

    ``summary`` says whether the ``Dashboard`` prints a summary at the end of the run.
    """

    def __init__(self, *args: Any, summary: bool = True, **kwargs: Any) -> None:
        self._summary = summary
        super().__init__(*args, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        every = LightningCLI.subcommands()
        # the parsers of the other three take 0.2 s
        return {name: options for name, options in every.items() if name in sys.argv[1:2]} or every

    def init_parser(self, **kwargs: Any) -> LightningArgumentParser:
        return super().init_parser(**kwargs, usage="%(prog)s", exit_on_error=False)  # `--help all` is long enough

    def add_arguments_to_parser(self, parser: LightningArgumentParser) -> None:
        for name in SET_BY_DATA:
            parser.link_arguments(f"data.{name}", f"model.init_args.{name}", apply_on="instantiate")
        if not _names_model(sys.argv[1:]):  # with it, its options' defaults would become those of any other model
            parser.set_defaults({"model": {"class_path": "lightning_alrnn.modules.ALRNNModule"}})
        parser.set_defaults(
            {
                "trainer.callbacks": [
                    *default_callbacks(),
                    *({"class_path": f"lightning_alrnn.callbacks.{name}"} for name in _DEFAULT_CALLBACKS),
                ],
                "trainer.logger": {
                    "class_path": "pytorch_lightning.loggers.TensorBoardLogger",
                    "init_args": {"save_dir": "runs", "name": None, "default_hp_metric": False},
                },
            }
        )

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        try:
            super().parse_arguments(parser, args)
        except argparse.ArgumentError as error:
            fail(explain(str(error)))
        except Exception as error:  # jsonargparse can raise anything at a value such as `!!int many`
            if own_error(error) is not None or isinstance(error, CaptureParserException):
                raise  # the latter hands the parser to who asked for it, such as alrnn completion
            raise ValueError(f"the options cannot be read ({reason_of(error)})") from error
        config = self.config[self.config.subcommand] if self.config.get("subcommand") else self.config
        seed = config.get("seed_everything")
        if not isinstance(seed, bool) and seed is not None and not 0 <= seed < 2**32:
            raise ValueError(f"--seed_everything must lie between 0 and {2**32 - 1}, got {seed}")
        path = config.get("ckpt_path")
        if path is None or not _names_file(path):
            return
        # LightningCLI is about to take the model's arguments from it
        content, asked = read_checkpoint(path), config.model.class_path
        core = config.model.get("init_args", {}).get("core")
        if isinstance(core, str) and "." in core:
            find_core(core)  # imports its module, because the user names it, which a checkpoint may not do
        check_classes(content, resolve_name(asked))
        written = content.get("hyper_parameters", {}).get("_class_path")
        if written not in (None, asked) and (self.config.subcommand == "fit" or _names_model(sys.argv[1:])):
            one, other = (name.rpartition(".")[2] for name in (written, asked))
            raise ValueError(
                f"{path} is a checkpoint of {one}, but --model is {other}: set --model {one}, or use another checkpoint"
            )

    def _parse_ckpt_path(self) -> None:
        if self.config.get("subcommand") != "fit":  # a run that resumes is compared with its checkpoint
            super()._parse_ckpt_path()

    def _set_seed(self) -> None:
        self._draws_seed = self._get(self.config, "seed_everything") is True  # then it is another one at each start
        super()._set_seed()

    def before_instantiate_classes(self) -> None:
        config = self.config[self.subcommand] if self.subcommand else self.config
        if self.subcommand == "predict" and config.get("return_predictions") is None:
            config.return_predictions = False  # nobody takes them, and they would fill the memory
        logger = config.trainer.get("logger")
        if hasattr(logger, "class_path"):
            if self.subcommand in _SCORES and config.get("ckpt_path") and _names_file(config.ckpt_path):
                self._log_beside_the_run(Path(config.ckpt_path), logger)
            if logger.init_args.get("name", "") is None:
                logger.init_args.name = config.data.class_path.rpartition(".")[2]  # runs/Addition/version_0
        entries = config.trainer.get("callbacks") or []
        if not isinstance(entries, list):  # one alone, as `--trainer.callbacks Spectrum` gives it
            entries = config.trainer.callbacks = [entries]
        for callback in entries:
            if callback.class_path.rpartition(".")[2] == "Dashboard" and not self._summary:
                callback.init_args.summary = False
        if config.model.get("init_args", {}).get("core", "ALRNN").rpartition(".")[2] != "ALRNN":
            of_regimes = (callbacks.StatesCallback, callbacks.UnitAblation)
            allowed = [entry for entry in entries if not issubclass(resolve_name(entry.class_path), of_regimes)]
            if len(allowed) < len(entries):
                names = [entry.class_path.rpartition(".")[2] for entry in entries if entry not in allowed]
                rank_zero_info(f"the core is not an ALRNN and has no regimes: {', '.join(names)} are off")
                config.trainer.callbacks = allowed
        networks = getattr(resolve_name(config.model.class_path), "alrnns", ())
        if networks and config.trainer.get("callbacks"):
            config.trainer.callbacks = _one_for_each(networks, config.trainer.callbacks)

    def _log_beside_the_run(self, checkpoint: Path, logger: Any) -> None:
        """Let a logger of folders write into the folder of the run that a checkpoint is of."""
        kind = logger.class_path.rpartition(".")[2]
        if config_of(checkpoint) is None or kind not in FOLDER_LOGGERS or logger.init_args.get("version") is not None:
            return
        run = log_directory(checkpoint.resolve())
        # the CSVLogger deletes what an earlier one has written into its folder
        version = run.name if kind == "TensorBoardLogger" else f"{run.name}/{self.subcommand}"
        options = logger.init_args
        options.save_dir, options.name, options.version = _shortest(run.parent), "", version
        self.save_config_callback = None  # the run's own stays

    def instantiate_classes(self) -> None:
        config = self.config[self.subcommand] if self.subcommand else self.config
        with slurm_folders(config, self.subcommand):  # not for config.yaml: another job's folder is another one
            super().instantiate_classes()
            if self.subcommand == "fit" and isinstance(self.model, SequenceModule):
                self.model.run_options = self._run_options()
                path = self._get(self.config_init, "ckpt_path")
                if path is not None and _names_file(path):  # before anything is written; training says what changes
                    self.model.compare_options(read_checkpoint(path), self.datamodule, config.trainer.max_epochs)

    def _run_options(self) -> dict[str, Any]:
        """The options of the run that are no arguments of the data or the optimizer, and no hyperparameters."""
        self._dump_config()
        trainer = {f"trainer.{name}": value for name, value in self.config_dump["trainer"].items()}
        options = {name: value for name, value in trainer.items() if not name.startswith(_NOT_OF_TRAINING)}
        encoder = self.config_dump["model"].get("init_args", {}).get("encoder")
        seed = {} if self._draws_seed else {"seed_everything": self.config_dump["seed_everything"]}
        return {**seed, "model.encoder": encoder, **options}


class _SaveConfig(SaveConfigCallback):
    """Writes config.yaml to the Trainer's root folder if its logger has no folder, as that of a database."""

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        self.save_to_log_dir = trainer.log_dir is not None
        super().setup(trainer, pl_module, stage)

    def save_config(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if not self.save_to_log_dir:
            path = Path(trainer.default_root_dir, self.config_filename)
            path.parent.mkdir(parents=True, exist_ok=True)
            self.parser.save(self.config, path, skip_none=False, overwrite=self.overwrite, multifile=self.multifile)


def resolve_configs(args: Sequence[str]) -> list[str]:
    """Replace the names of shipped configurations after ``--config`` by their paths.

    A file with the name of a configuration takes precedence. Paths and YAML text do not change.
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


def run_cli(
    args: Sequence[str], save_config: bool = True, summary: bool = True, cli: Callable[..., ALRNNCLI] = ALRNNCLI
) -> ALRNNCLI:
    """Run a command of :class:`ALRNNCLI`, such as ``["fit", "--config", "digits"]``, and return the CLI.

    ``save_config`` says whether the configuration is written into the log directory, ``summary`` whether the
    ``Dashboard`` prints a summary at the end of the run.
    """
    with without_advertisements(), _command_line(resolve_configs(_with_config_of_run([*args]))):
        return cli(
            LightningModule,
            LightningDataModule,
            summary=summary,
            subclass_mode_model=True,
            subclass_mode_data=True,
            auto_configure_optimizers=False,
            seed_everything_default=0,
            save_config_callback=_SaveConfig if save_config else None,
            save_config_kwargs={"overwrite": True},  # a requeued SLURM job meets the file of its first start
            parser_kwargs={"prog": "alrnn"},
        )


def run_command(args: Sequence[str]) -> None:
    """Run a command of :class:`ALRNNCLI` as a process of its own.

    It exits with 143 if SIGTERM stops it, and with the code of a process that it has started if that one fails.
    """
    try:
        cli = run_cli(args)
    except SIGTERMException:
        # Lightning kills the first process at once if another one exits with an error, maybe while it writes
        raise SystemExit(0 if getattr(rank_zero_only, "rank", 0) else _STOPPED) from None
    launcher = cli.trainer.strategy.launcher
    if isinstance(launcher, _SubprocessScriptLauncher):
        # after its last exchange with them, this process would not notice an error of the others
        failed = [code for process in launcher.procs if (code := process.wait()) != 0]
        if failed:
            raise SystemExit(max(failed[0], 1))


def _with_config_of_run(arguments: list[str]) -> list[str]:
    """Add the configuration that a checkpoint was trained with where the command says nothing about the data."""
    if not arguments or arguments[0] not in _SCORES:
        return arguments
    flags = [argument.partition("=")[0] for argument in arguments]
    if {"--config", "-c", "--data", "--data.class_path"} & set(flags) or "--ckpt_path" not in flags:
        return arguments
    place = flags.index("--ckpt_path")
    checkpoint = arguments[place].partition("=")[2] or "".join(arguments[place + 1 : place + 2])
    if not _names_file(checkpoint):
        return arguments
    read_checkpoint(checkpoint)  # says what is wrong with it
    config = config_of(Path(checkpoint))
    return arguments if config is None else [arguments[0], f"--config={config}", *arguments[1:]]


def _names_file(ckpt_path: str) -> bool:
    """Whether the value of ``--ckpt_path`` is a file and none of Lightning's keywords or an address."""
    return not (ckpt_path in ("best", "last", "hpc") or ckpt_path.startswith("registry") or "://" in ckpt_path)


def _shortest(folder: Path) -> str:
    """A folder as seen from the current one where it lies in it."""
    return str(folder.relative_to(Path.cwd()) if folder.is_relative_to(Path.cwd()) else folder)


@contextmanager
def _command_line(arguments: list[str]) -> Iterator[None]:
    """Make ``arguments`` the process's own: LightningCLI reads them there, and so do the processes that DDP starts."""
    before = sys.argv
    sys.argv = [before[0], *arguments]
    try:
        yield
    finally:
        sys.argv = before


def _one_for_each(networks: Sequence[str], entries: Sequence[Any]) -> list[Any]:
    """Repeat each callback that looks at regimes, and names no network, for every one of the model's networks."""
    repeated = []
    for callback in entries:
        looks_at_one = issubclass(resolve_name(callback.class_path), callbacks.StatesCallback)
        if looks_at_one and callback.init_args.get("module", "") is None:
            for name in networks:
                repeated.append(copy.deepcopy(callback))
                repeated[-1].init_args.module = name
        else:
            repeated.append(callback)
    return repeated


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
        content = _load(Path(config).read_text(encoding="utf-8") if Path(config).is_file() else config)
    except (OSError, ValueError):
        return False  # whoever reads it for its values says what is wrong
    if not isinstance(content, dict):
        return False
    models = [part.get("model") for part in (content, *content.values()) if isinstance(part, dict)]
    return any(isinstance(model, str) or (isinstance(model, dict) and "class_path" in model) for model in models)


def _config_path(value: str) -> str:
    configs = shipped_configs()
    if value in configs and not Path(value).is_file():
        return str(configs[value])
    if not Path(value).is_file() and "\n" not in value and not value.lstrip().startswith("{"):
        guess = guess_name(value, configs) or "; alrnn configs lists the configurations"
        fail(f"--config {value}: there is no such file or configuration{guess}")
    if Path(value).is_file():
        try:
            _load(Path(value).read_text(encoding="utf-8"))
        except UnicodeDecodeError as error:
            fail(f"--config {value}: the file is not UTF-8 text and therefore not YAML ({error})")
        except ValueError as error:
            fail(f"--config {value}: {error}")
    return value
