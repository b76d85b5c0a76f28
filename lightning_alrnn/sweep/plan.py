"""The runs of a sweep and their configurations, from the options of ``alrnn sweep``."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple

import yaml
from pytorch_lightning.cli import LightningArgumentParser

from lightning_alrnn.cli import ALRNNCLI, run_cli
from lightning_alrnn.modules.sequence import build_core
from lightning_alrnn.nn.options import ALRNN_DEFAULTS
from lightning_alrnn.sweep.rules import DATA_SEED, Value
from lightning_alrnn.sweep.seeds import check_unique

UNITS = "model.nonlinear_units"
CORE = "model.core"
SEED = "seed_everything"

# options of the ALRNN layer and of its regularisation: baselines have none of them and do not vary with them
_ALRNN_ONLY = {UNITS, "model.input_matrix", "model.mar_strength", "model.mar_units"} | {
    f"model.{name}" for name in ALRNN_DEFAULTS
}
_OWN_OPTIONS = {UNITS: "--nonlinear_units 0,1,5", CORE: "--core ALRNN,GRU", SEED: "--seeds 5"}
_SET_BY_SWEEP = {
    **_OWN_OPTIONS,
    "ckpt_path": "nothing, because an interrupted run resumes from its last checkpoint",
    "trainer.logger": "--output_dir, which holds the log of each run",
}
# options that do not affect the result
_IRRELEVANT = (
    "ckpt_path",
    "data.num_workers",
    "trainer.accelerator",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.logger",
)
_LONGEST_NAME = 120


class Spec(NamedTuple):
    """The specification of a run."""

    name: str
    core: str  # "ALRNN", or the core of a baseline
    nonlinear_units: int | None  # P; ``None`` for a baseline
    seed: int  # seed of the weights and the data
    settings: Mapping[str, Value]
    arguments: tuple[str, ...]  # arguments of ``alrnn fit``


class FitCLI(ALRNNCLI):
    """``alrnn fit`` that calls ``note`` with the parsed configuration."""

    def __init__(self, *args: Any, note: Callable[[dict[str, Any]], None], **kwargs: Any) -> None:
        self._note = note
        super().__init__(*args, **kwargs)

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        text = self._parser("fit").dump(self.config["fit"], skip_none=False)
        self._note(dict(_flat(yaml.safe_load(text))))


class Plan(NamedTuple):
    """The plan of a sweep."""

    runs: tuple[Spec, ...]  # in the order of their start: all runs of the first seed, then of the second
    varied: tuple[str, ...]  # varied keys other than core, P and ``seed_everything``
    configs: Mapping[str, Mapping[str, Any]]  # by core, the shared configuration that affects the result
    accelerator: str  # accelerator of the Trainer


def parse_grid(items: Sequence[str]) -> dict[str, list[Value]]:
    """The values of each key of texts such as ``"model.init=gaussian,near_identity"``.

    Example:
        >>> parse_grid(["model.init_args.init=gaussian,near_identity", "model.optimizer.lr=1e-3,0.002"])
        {'model.init': ['gaussian', 'near_identity'], 'model.optimizer.lr': [0.001, 0.002]}
    """
    grid: dict[str, list[Value]] = {}
    for item in items:
        name, separator, text = item.partition("=")
        key = short_key(name.removeprefix("--"))
        if not separator or not key or not text:
            raise ValueError(
                f"--grid must be KEY=VALUE,VALUE,…, such as model.init=gaussian,near_identity, got {item!r}"
            )
        if key in grid:
            raise ValueError(f"--grid has {key} twice: list all its values after one of them")
        if key in _OWN_OPTIONS:
            raise ValueError(f"--grid {item}: use {_OWN_OPTIONS[key]} instead")
        grid[key] = check_unique([_value(part) for part in _split(text)], f"--grid {key}")
    return grid


def short_key(key: str) -> str:
    """A key of the command line without ``init_args``."""
    return ".".join(part for part in key.split(".") if part != "init_args")


def make_plan(
    arguments: Sequence[str],
    nonlinear_units: Sequence[int],
    seeds: Sequence[int],
    cores: Sequence[str] = ("ALRNN",),
    grid: Mapping[str, Sequence[Value]] | None = None,
) -> Plan:
    """All combinations of P, seeds, cores and grid, with their options checked; a seed is also that of the data."""
    grid = dict(grid or {})
    _check_free(arguments, grid)
    configs: dict[str, dict[str, Any]] = {}
    by_seed: dict[int, list[Spec]] = {seed: [] for seed in seeds}
    varied = {*grid}
    for core in cores:
        base, config = _read_base(arguments, core)
        recurrent = is_alrnn(core)
        axes = {key: values for key, values in grid.items() if recurrent or key not in _ALRNN_ONLY}
        units: list[int | None] = [*nonlinear_units] if recurrent else [None]
        _check_grid(base, config, axes, units)
        if DATA_SEED in config and DATA_SEED not in _option_keys(arguments):
            varied.add(DATA_SEED)
        configs[core] = shared(config, varied)
        for seed in seeds:
            seeded = [_option(SEED, seed), *([_option(DATA_SEED, seed)] if DATA_SEED in varied - {*grid} else [])]
            for values, p in product(product(*axes.values()), units):
                settings = dict(zip(axes, values, strict=True))
                options = [_option(key, value) for key, value in settings.items()]
                options += [] if p is None else [_option(UNITS, p)]
                name = _name(core, p, seed, settings)
                by_seed[seed].append(Spec(name, core, p, seed, settings, (*base, *seeded, *options)))
    runs = tuple(spec for specs in by_seed.values() for spec in specs)
    return Plan(runs, tuple(sorted(varied)), configs, str(config.get("trainer.accelerator")))


def is_alrnn(core: str) -> bool:
    """Whether a core, given by its name or path, is the ALRNN."""
    return core.rpartition(".")[2] == "ALRNN"


def read_config(arguments: Sequence[str]) -> dict[str, Any]:
    """The configuration that ``alrnn fit`` parses from arguments, by dotted key without ``init_args``."""
    config: dict[str, Any] = {}

    def note(parsed: dict[str, Any]) -> None:
        config.update(parsed)
        raise SystemExit

    errors = io.StringIO()
    try:
        with contextlib.redirect_stderr(errors):
            run_cli(["fit", *arguments], cli=partial(FitCLI, note=note))
    except SystemExit as stopped:
        if stopped.code:
            raise ValueError(errors.getvalue().rpartition("error: ")[2].strip()) from None
    return config


def logging_options(folder: Path, name: str) -> list[str]:
    """Options that make a run log to its folder."""
    # the row in TensorBoard's HPARAMS is written at the end, with metrics
    options = {"save_dir": folder, "name": "runs", "version": name, "default_hp_metric": "false"}
    return [f"--trainer.logger.init_args.{option}={value}" for option, value in options.items()]


def shared(config: Mapping[str, Any], varied: Iterable[str]) -> dict[str, Any]:
    """The part of a configuration that affects the result and is the same for all runs of the core."""
    return {key: value for key, value in config.items() if not _under(key, (*_IRRELEVANT, UNITS, SEED, *varied))}


def config_hash(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of the configuration that affects the result."""
    relevant = {key: value for key, value in config.items() if not _under(key, _IRRELEVANT)}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each key whose value differs. A missing key counts as null, because newer versions add options.

    Example:
        >>> differences({"a": 1, "b": 2}, {"a": 1, "b": 3, "c": 4, "d": None})
        ['b: 2 there, 3 now', 'c: absent there, 4 now']
    """
    lines = []
    for key in sorted({*old, *new}):
        if old.get(key) != new.get(key):
            there, now = (json.dumps(config[key]) if key in config else "absent" for config in (old, new))
            lines.append(f"{key}: {there} there, {now} now")
    return lines


def _read_base(arguments: Sequence[str], core: str) -> tuple[list[str], dict[str, Any]]:
    """The arguments and the configuration that all runs with a core share."""
    base = list(arguments)
    config = read_config(base)
    if config.get(CORE, "ALRNN") != core:
        if not is_alrnn(core):
            build_core(core, 1, 1)  # raises if there is no such core
        base.append(_option(CORE, core))
    if config.get("trainer.devices") == "auto":
        base.append("--trainer.devices=1")
    config = read_config(base)
    logger = config.get("trainer.logger.class_path", config.get("trainer.logger"))
    if str(logger).rpartition(".")[2] != "TensorBoardLogger":
        raise ValueError(f"a sweep logs with TensorBoardLogger, but the configuration has {logger}: remove it")
    return base, config


def _under(key: str, heads: Sequence[str]) -> bool:
    return any(key == head or key.startswith(f"{head}.") for head in heads)


def _flat(config: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in config.items():
        name = prefix if key == "init_args" else f"{prefix}.{key}" if prefix else str(key)
        if isinstance(value, dict) and value:
            yield from _flat(value, name)
        else:
            yield name, value


def _check_free(arguments: Sequence[str], grid: Mapping[str, Sequence[Value]]) -> None:
    """Raise ``ValueError`` if an option conflicts with those that the sweep sets."""
    for key in _option_keys(arguments):
        for head, instead in _SET_BY_SWEEP.items():
            if _under(key, [head]):
                raise ValueError(f"--{key} is set by the sweep: use {instead}")
        if key in grid:
            raise ValueError(f"--{key} has one value but is also in --grid: remove one of them")


def _option_keys(arguments: Sequence[str]) -> list[str]:
    """Keys of the options among arguments."""
    return [short_key(argument.partition("=")[0].lstrip("-")) for argument in arguments if argument.startswith("--")]


def _check_grid(
    base: Sequence[str],
    config: Mapping[str, Any],
    grid: Mapping[str, Sequence[Value]],
    units: Sequence[int | None],
) -> None:
    """Raise ``ValueError`` if a key is not an option or does not accept one of its values."""
    for key in [*grid, *([UNITS] if units != [None] else [])]:
        part, _, rest = key.partition(".")
        kind = str(config.get(f"{part}.class_path", "")).rpartition(".")[2]
        options = {other.split(".")[1] for other in config if other.startswith(f"{part}.")} - {"class_path"}
        if not options:
            raise ValueError(f"{key} is not an option of `alrnn fit`, whose keys begin with model., data. or trainer.")
        if rest.partition(".")[0] not in options:
            raise ValueError(f"{kind or part} has no option {rest} ({key}); it has {', '.join(sorted(options))}")
    sizes = grid.get("model.hidden_size", [config.get("model.hidden_size")])
    smallest = min((size for size in sizes if isinstance(size, int)), default=math.inf)
    largest = max((p for p in units if p is not None), default=0)
    if largest > smallest:
        raise ValueError(
            f"--nonlinear_units must lie between 0 and model.hidden_size (M={smallest}), got {largest}: remove it, or "
            "set --model.hidden_size"
        )
    for key, values in grid.items():
        for value in values:  # a wrong value shows without trying all combinations
            try:
                read_config([*base, _option(key, value)])
            except ValueError as error:
                raise ValueError(f"--grid {_option(key, value).removeprefix('--')}: {error}") from None


def _option(key: str, value: Value) -> str:
    return f"--{key}={_text(value)}"


def _text(value: Value) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _name(core: str, units: int | None, seed: int, settings: Mapping[str, Value]) -> str:
    parts = [core.rpartition(".")[2], *([] if units is None else [f"P{units}"]), f"seed{seed}"]
    parts += [f"{key.removeprefix('model.').removeprefix('data.')}={_text(value)}" for key, value in settings.items()]
    plain = "-".join(parts)
    name = re.sub(r"[^\w.=+-]", "_", plain)
    if name != plain or len(name) > _LONGEST_NAME:  # the names of two runs could be the same
        digest = hashlib.sha256(json.dumps([core, units, seed, settings]).encode()).hexdigest()[:8]
        name = f"{name[:_LONGEST_NAME]}-{digest}"
    return name


def _split(text: str) -> list[str]:
    """Parts between commas outside brackets, braces and quotes."""
    parts, depth, quote = [""], 0, ""
    for character in text:
        if quote:
            quote = "" if character == quote else quote
        elif character in "'\"":
            quote = character
        elif character in "[{(":
            depth += 1
        elif character in "]})":
            depth -= 1
        elif character == "," and depth == 0:
            parts.append("")
            continue
        parts[-1] += character
    if "" in (stripped := [part.strip() for part in parts]):
        raise ValueError(f"--grid: a value is missing between the commas of {text!r}")
    return stripped


def _value(text: str) -> Value:
    with contextlib.suppress(ValueError):
        return int(text)
    with contextlib.suppress(ValueError):
        if math.isfinite(number := float(text)):
            return number
    return {"true": True, "false": False, "null": None}.get(text.lower(), text)
