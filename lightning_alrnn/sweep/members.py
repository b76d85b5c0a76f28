"""The members of a population: their parts as ``alrnn fit`` would make them, and their files as of a single run."""

from __future__ import annotations

import copy
import io
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

import torch
import yaml
from lightning_fabric.utilities.seed import seed_everything
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary

from lightning_alrnn.callbacks.base import further_readings
from lightning_alrnn.callbacks.dashboard import Dashboard, model_card
from lightning_alrnn.callbacks.member_callbacks import MemberCallbacks
from lightning_alrnn.cli import run_cli
from lightning_alrnn.extensions.exact_resume import ExactResume, drop_later_steps, resume_state
from lightning_alrnn.files import sync_files, write_file
from lightning_alrnn.modules.population import PopulationModule
from lightning_alrnn.modules.sequence import ALRNNModule
from lightning_alrnn.readings import READINGS, chart_layout
from lightning_alrnn.sweep.plan import SEED, UNITS, FitCLI, Spec, logging_options, short_key
from lightning_alrnn.sweep.progress import ProgressFile, RunState, shown_score
from lightning_alrnn.sweep.rules import DATA_SEED

# the command line is parsed once for runs that differ only in these integers; their place in the configuration
_NUMBERS = {SEED: (SEED,), DATA_SEED: ("data", "init_args", "seed"), UNITS: ("model", "init_args", "nonlinear_units")}
_VERSION = ("trainer", "logger", "init_args", "version")
_TRAINING = ("epoch", "pytorch-lightning_version", "loops")
_HEAD = f"# pytorch_lightning=={metadata.version('pytorch-lightning')}\n"
_DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)  # the C library, if it is there, is five times faster


class Member(NamedTuple):
    """The parts of a run before training."""

    spec: Spec
    module: LightningModule
    data: Any
    callbacks: list[Callback]  # callbacks of its configuration
    logger: TensorBoardLogger  # logger to its folder
    trainer: dict[str, Any]  # further arguments of the Trainer
    config: Mapping[str, Any]  # configuration by key, as :func:`~lightning_alrnn.sweep.plan.read_config` returns it
    text: str  # content of config.yaml


class MemberFactory:
    """Makes the parts of the runs of a sweep."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lines: dict[tuple[str, ...], _MemberCLI] = {}

    def make(self, spec: Spec) -> Member:
        """New parts of a run; the network has its initial weights."""
        numbers: dict[str, int] = {}
        configs = [place for place, argument in enumerate(spec.arguments) if argument.startswith(("--config", "-c"))]
        begin = max(configs, default=-1) + 1  # a file overrides the options before it
        rest = list(spec.arguments[:begin])
        for argument in spec.arguments[begin:]:
            key, _, value = argument.partition("=")
            if short_key(key.lstrip("-")) in _NUMBERS and value.isdecimal():
                numbers[short_key(key.lstrip("-"))] = int(value)
            else:
                rest.append(argument)
        if (*rest, *numbers) not in self._lines:
            arguments = ["fit", *spec.arguments, *logging_options(self._folder, spec.name)]
            self._lines[*rest, *numbers] = run_cli(arguments, summary=False, cli=_MemberCLI)  # type: ignore[assignment]
        return self._lines[*rest, *numbers].make(spec, numbers)


class _MemberCLI(FitCLI):
    """``alrnn fit`` that makes its classes in :meth:`make`, any number of times, and trains nothing."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        self._values: dict[str, Any] = {}
        super().__init__(*args, note=self._values.update, **kwargs)
        self._dump_config()  # Lightning takes the hyper-parameters from it
        self._saved = yaml.safe_load(self._parser("fit").dump(self.config["fit"], skip_none=False))
        self._trainer: dict[str, Any] | None = None  # its callbacks and logger are copied instead of made again

    def _set_seed(self) -> None: ...

    def instantiate_classes(self) -> None: ...

    def _run_subcommand(self, subcommand: str) -> None: ...

    def make(self, spec: Spec, numbers: Mapping[str, int]) -> Member:
        config, values = self.config["fit"].clone(), dict(self._values)
        places = {_VERSION: spec.name, **{_NUMBERS[key]: number for key, number in numbers.items()}}
        for place, value in places.items():
            config[".".join(place)] = value
            values[short_key(".".join(place))] = value
            for holder in (self.config_dump, self._saved):
                _put(holder, place, value)
        seed_everything(config[SEED], workers=True, verbose=False)
        if self._trainer is not None:
            del config["trainer"]
        made = self._parser("fit").instantiate(config)
        self._trainer = self._trainer or dict(made.trainer)
        trainer = dict(self._trainer)
        callbacks = copy.deepcopy(trainer.pop("callbacks") or [])
        logger = type(trainer.pop("logger"))(**self._saved["trainer"]["logger"]["init_args"])
        text = _HEAD + yaml.dump(self._saved, Dumper=_DUMPER, sort_keys=False)
        return Member(spec, made.model, made.data, callbacks, logger, trainer, values, text)


def _put(values: dict[str, Any], place: Sequence[str], value: Any) -> None:
    for name in place[:-1]:
        values = values[name]
    values[place[-1]] = value


class MemberFolders(Checkpoint):
    """Logs each member to TensorBoard during training, and writes its checkpoints after training.

    It is a checkpoint callback, because Lightning calls these last, when all values of an epoch are known.
    """

    def __init__(self, members: Sequence[Member], looks: MemberCallbacks, progress: ProgressFile) -> None:
        super().__init__()
        self._members = members
        self._looks = looks
        self._progress = progress
        self._training: dict[str, Any] = {}
        self._validated = False
        self._charts = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._training = {key: checkpoint[key] for key in _TRAINING}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._training = {key: checkpoint[key] for key in _TRAINING}
        population = cast(PopulationModule, pl_module)
        ended = [k for k, stopped in enumerate(population.stopped) if stopped and self._is_trained(population, k)]
        if ended:  # in this epoch; later the state of their optimizers changes with that of the others
            modules = population.members()
            for k in ended:
                self._write(population, k, modules[k], best=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        population = cast(PopulationModule, pl_module)
        for k, member in enumerate(self._members):
            logger = member.logger
            folder = Path(logger.log_dir)
            write_file(folder / "config.yaml", member.text, durable=False)
            options = {**member.module.hparams_initial, **member.data.hparams_initial}
            del options["_class_path"]  # as Lightning does
            write_file(folder / "hparams.yaml", yaml.dump(options, Dumper=_DUMPER), durable=False)
            if trainer.global_step > 0:
                drop_later_steps(logger, trainer.global_step)
            elif any(isinstance(callback, Dashboard) for callback in member.callbacks):
                command = ["alrnn", "fit", *member.spec.arguments]
                card = model_card(member.module, member.data, [population.optimizer_of(k)], trainer, command)
                logger.experiment.add_text("model card", card, 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        population = cast(PopulationModule, pl_module)
        prefixes = ("train/", "val/") if self._validated else ("train/",)
        epoch, step = trainer.current_epoch, trainer.global_step - 1  # as Lightning counts what it logs
        progress = {}
        for k, member in enumerate(self._members):
            scores = population.scores[k]
            limit = max(trainer.max_epochs or 0, 0)
            status: Literal["running", "diverged"] = "running" if population.diverged[k] is None else "diverged"
            progress[member.spec.name] = RunState(status, population.epochs[k], limit, shown_score(scores))
            if population.epochs[k] <= epoch:  # it has stopped or diverged
                continue
            values = {key: value for key, value in scores.items() if key.startswith(prefixes)}
            values |= self._looks.values.get(k, {}) if self._validated else {}
            writer: Any = member.logger.experiment
            if not self._charts and any(isinstance(callback, Dashboard) for callback in member.callbacks):
                writer.add_custom_scalars(chart_layout([*READINGS, *further_readings(member.callbacks)], values))
            # one event for all values takes a fifth of the time of an event for each
            summary = Summary(value=[Summary.Value(tag=key, simple_value=value) for key, value in values.items()])
            summary.value.add(tag="epoch", simple_value=epoch)
            writer.file_writer.add_summary(summary, step)
        self._charts = self._charts or self._validated
        self._validated = False
        self._progress.write(progress)

    def close(self) -> None:
        """Close TensorBoard's files."""
        for member in self._members:
            member.logger.experiment.close()

    def write_checkpoints(self, population: PopulationModule) -> list[Path]:
        """Write the last and the best checkpoint of each member; the paths of the best ones, or else of the last."""
        stopped = population.stopped
        last = [
            self._write(population, k, module, best=False)
            for k, module in enumerate(population.members("last"))
            if not stopped[k] or self._is_trained(population, k)
        ]
        best = [self._write(population, k, module, best=True) for k, module in enumerate(population.members("best"))]
        sync_files([*last, *best])
        return best

    def _is_trained(self, population: PopulationModule, k: int) -> bool:
        """Whether the member was trained in the last epoch."""
        return population.epochs[k] > int(self._training["epoch"])

    def _write(self, population: PopulationModule, k: int, module: ALRNNModule, best: bool) -> Path:
        member = self._members[k]
        folder = Path(member.logger.log_dir) / "checkpoints"
        epoch = population.best_epoch[k]
        if best and epoch is None:
            return folder / "last.ckpt"
        checkpoint: dict[str, Any] = {
            "epoch": epoch if best else population.epochs[k] - 1,
            "global_step": population.best_step[k] if best else population.steps[k],
            "pytorch-lightning_version": self._training["pytorch-lightning_version"],
            "state_dict": module.state_dict(),
            "loops": self._training["loops"],
            "hparams_name": module._hparams_name,
            "hyper_parameters": dict(module.hparams),
            "datamodule_hparams_name": member.data._hparams_name,
            "datamodule_hyper_parameters": dict(member.data.hparams),
        }
        module.on_save_checkpoint(checkpoint)
        if data_state := member.data.state_dict():
            checkpoint[type(member.data).__qualname__] = data_state  # as Lightning does
        if not best and self._is_trained(population, k):  # training can resume from it
            states = {callback.state_key: callback.state_dict() for callback in self._looks.callbacks[k]}
            states[ExactResume().state_key] = resume_state(module)
            checkpoint |= {"callbacks": states, **population.optimizer_states(k)}
        path = folder / (f"best-epoch={epoch:03d}.ckpt" if best else "last.ckpt")
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_file(path, content.getbuffer(), durable=False)
        return path
