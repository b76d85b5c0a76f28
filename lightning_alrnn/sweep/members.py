"""The modules, data and callbacks of the members of a population, as ``alrnn fit`` would make them."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from lightning_fabric.utilities.seed import seed_everything
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.loggers import Logger

from lightning_alrnn.cli import run_cli
from lightning_alrnn.sweep.plan import DATA_SEED, SEED, UNITS, FitCLI, Spec, logging_options, short_key

# the command line is parsed once for runs that differ only in these integers; their place in the configuration
_NUMBERS = {SEED: (SEED,), DATA_SEED: ("data", "init_args", "seed"), UNITS: ("model", "init_args", "nonlinear_units")}
_VERSION = ("trainer", "logger", "init_args", "version")


class Member(NamedTuple):
    """The parts of a run before training."""

    spec: Spec
    module: LightningModule
    data: Any
    callbacks: list[Callback]  # callbacks of its configuration
    logger: Logger  # logger to its folder
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
        text = _HEAD + yaml.dump(self._saved, Dumper=DUMPER, sort_keys=False)
        return Member(spec, made.model, made.data, callbacks, logger, trainer, values, text)


_HEAD = f"# pytorch_lightning=={metadata.version('pytorch-lightning')}\n"
DUMPER = getattr(yaml, "CSafeDumper", yaml.SafeDumper)
"""Writes YAML, with the C library if it is there, which is five times faster."""


def _put(values: dict[str, Any], place: Sequence[str], value: Any) -> None:
    for name in place[:-1]:
        values = values[name]
    values[place[-1]] = value
