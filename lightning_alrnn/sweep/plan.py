"""From the options of ``alrnn sweep`` to the runs: which there are, and how each is configured."""

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
from lightning_alrnn.sweep.looks import plan_looks
from lightning_alrnn.sweep.rules import Value

UNITS = "model.nonlinear_units"
CORE = "model.core"
SEED = "seed_everything"
DATA_SEED = "data.seed"

# a baseline has none of these: it is not run again for each of their values. They are what the layer takes beyond the
# sizes, which every core has, and what its matrices are regularised by
_ALRNN_ONLY = {UNITS, "model.input_matrix", "model.mar_strength", "model.mar_units"} | {
    f"model.{name}" for name in ALRNN_DEFAULTS
}
_OWN_OPTIONS = {UNITS: "--nonlinear_units 0,1,5", CORE: "--core ALRNN,GRU", SEED: "--seeds 5"}
_SET_BY_SWEEP = {
    **_OWN_OPTIONS,
    "ckpt_path": "nothing: an interrupted run goes on from its last checkpoint by itself",
    "trainer.logger": "--output_dir: each run logs to a folder in there",
}
# where and how a run is done, not what is done
_IRRELEVANT = (
    "ckpt_path",
    "data.num_workers",
    "trainer.accelerator",
    "trainer.enable_model_summary",
    "trainer.enable_progress_bar",
    "trainer.logger",
)
_LONGEST_NAME = 120
# of jsonargparse's messages
_NOISE = (
    "- Expected a <class 'NoneType'>",
    "Does not validate against any of the Union subtypes",
    "Errors:",
    "Given value",
    "Subtypes:",
)


class Spec(NamedTuple):
    """A run that is to be done."""

    name: str
    core: str  # "ALRNN", or that of a baseline
    nonlinear_units: int | None  # P; ``None`` for a baseline
    seed: int  # of weights and data
    settings: Mapping[str, Value]
    arguments: tuple[str, ...]  # of the command line, as for ``alrnn fit``


class FitCLI(ALRNNCLI):
    """``alrnn fit`` without the other commands, as setting up their options takes its time.

    ``note`` is called with the configuration, as :func:`read_config` returns it, before anything is made of it.
    """

    def __init__(self, *args: Any, note: Callable[[dict[str, Any]], None], **kwargs: Any) -> None:
        self._note = note
        super().__init__(*args, **kwargs)

    @staticmethod
    def subcommands() -> dict[str, set[str]]:
        return {"fit": ALRNNCLI.subcommands()["fit"]}

    def parse_arguments(self, parser: LightningArgumentParser, args: Any) -> None:
        super().parse_arguments(parser, args)
        text = self._parser("fit").dump(self.config["fit"], skip_none=False)
        self._note(dict(_flat(yaml.safe_load(text))))


class Plan(NamedTuple):
    """A sweep."""

    runs: tuple[Spec, ...]  # in the order in which they are started: all of the first seed, then all of the second
    varied: tuple[str, ...]  # keys of what is varied beside core, P and ``seed_everything``
    # by core, what all runs with it share, as far as it bears on the result: a value for each key
    configs: Mapping[str, Mapping[str, Any]]
    accelerator: str  # what they run on, as the Trainer has it


def parse_counts(text: str, option: str) -> list[int]:
    """The whole numbers in ``"0,1,5"``, in order.

    Example:
        >>> parse_counts("0,1,5", "--nonlinear_units")
        [0, 1, 5]
    """
    parts = [part.strip() for part in text.split(",")]
    if not all(re.fullmatch(r"\d+", part) for part in parts):
        raise ValueError(f"{option} must be whole numbers with commas between them, such as 0,1,5, got {text!r}")
    return _check_unique([int(part) for part in parts], option)


def parse_seeds(text: str) -> list[int]:
    """The seeds: ``"5"`` is the first five, from 0 on; ``"3,4"`` these two, ``"3,"`` the one; ``"5..40"`` the first 40.

    Example:
        >>> parse_seeds("3"), parse_seeds("3,4"), parse_seeds("3,"), parse_seeds("2..3")
        ([0, 1, 2], [3, 4], [3], [0, 1, 2])
    """
    if ".." in text:
        return list(range(parse_looks(text)[-1]))
    if "," in text:
        return parse_counts(text.removesuffix(","), "--seeds")
    (count,) = parse_counts(text, "--seeds")
    if count == 0:
        raise ValueError("--seeds must be at least 1, got 0")
    return list(range(count))


def parse_looks(text: str) -> tuple[int, ...]:
    """The numbers of seeds at which a sweep looks at its runs, such as for ``"5..40"``; none where the seeds are fixed.

    Example:
        >>> parse_looks("5..40"), parse_looks("5")
        ((8, 12, 18, 27, 40), ())
    """
    if ".." not in text:
        return ()
    first, _, last = text.partition("..")
    if not (first.strip().isdecimal() and last.strip().isdecimal() and 1 <= int(first) < int(last)):
        raise ValueError(f"--seeds must be the smallest and the largest number of seeds, such as 5..40, got {text!r}")
    return plan_looks(int(first), int(last))


def parse_grid(items: Sequence[str]) -> dict[str, list[Value]]:
    """What is varied, from texts such as ``"model.init=gaussian,near_identity"``: values by key without ``init_args``.

    A comma inside brackets, braces or quotes does not part values. Numbers, ``true``, ``false`` and ``null`` are what
    they look like; all else is text.

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
            raise ValueError(f"--grid names {key} twice: put all its values behind one")
        if key in _OWN_OPTIONS:
            raise ValueError(f"--grid {item}: use {_OWN_OPTIONS[key]} for it")
        grid[key] = _check_unique([_value(part) for part in _split(text)], f"--grid {key}")
    return grid


def short_key(key: str) -> str:
    """A key of the command line without ``init_args``, as a plan and the results have it.

    Example:
        >>> short_key("model.init_args.optimizer.init_args.lr")
        'model.optimizer.lr'
    """
    return ".".join(part for part in key.split(".") if part != "init_args")


def make_plan(
    arguments: Sequence[str],
    nonlinear_units: Sequence[int],
    seeds: Sequence[int],
    cores: Sequence[str] = ("ALRNN",),
    grid: Mapping[str, Sequence[Value]] | None = None,
) -> Plan:
    """All combinations, each checked as far as that can be done without starting it.

    A seed draws the weights (``seed_everything``) and the data (``data.seed``, where the DataModule has it and
    ``arguments`` do not set it). So the runs of a seed share their data, and those of several seeds do not. A baseline
    is not multiplied by the grid's keys that an AL-RNN alone has.
    """
    grid = dict(grid or {})
    _check_free(arguments, grid)
    configs: dict[str, dict[str, Any]] = {}
    by_seed: dict[int, list[Spec]] = {seed: [] for seed in seeds}
    varied = {*grid}
    for core in cores:
        base, config = _read_base(arguments, core)
        recurrent = is_alrnn(core)
        own = {key: values for key, values in grid.items() if recurrent or key not in _ALRNN_ONLY}
        units: list[int | None] = [*nonlinear_units] if recurrent else [None]
        _check_grid(base, config, own, units)
        if DATA_SEED in config and DATA_SEED not in _given(arguments):
            varied.add(DATA_SEED)
        configs[core] = shared(config, varied)
        for seed in seeds:
            seeded = [_option(SEED, seed), *([_option(DATA_SEED, seed)] if DATA_SEED in varied - {*grid} else [])]
            for values, p in product(product(*own.values()), units):
                settings = dict(zip(own, values, strict=True))
                options = [_option(key, value) for key, value in settings.items()]
                options += [] if p is None else [_option(UNITS, p)]
                name = _name(core, p, seed, settings)
                by_seed[seed].append(Spec(name, core, p, seed, settings, (*base, *seeded, *options)))
    runs = tuple(spec for specs in by_seed.values() for spec in specs)
    return Plan(runs, tuple(sorted(varied)), configs, str(config.get("trainer.accelerator")))


def is_alrnn(core: str) -> bool:
    """Whether a core, by its name or path, is the AL-RNN."""
    return core.rpartition(".")[2] == "ALRNN"


def read_config(arguments: Sequence[str]) -> dict[str, Any]:
    """What ``alrnn fit`` makes of arguments, defaults included: a value for each dotted key, without ``init_args``."""
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
            raise ValueError(_reason(errors.getvalue())) from None
    return config


def logging_options(folder: Path, name: str) -> list[str]:
    """Options by which a run logs to its folder.

    It is listed among TensorBoard's hyper-parameters at its end, with metrics, and not before.
    """
    options = {"save_dir": folder, "name": "runs", "version": name, "default_hp_metric": "false"}
    return [f"--trainer.logger.init_args.{option}={value}" for option, value in options.items()]


def shared(config: Mapping[str, Any], varied: Iterable[str]) -> dict[str, Any]:
    """What a run's configuration shares with the others of its core, as far as it bears on the result."""
    apart = (*_IRRELEVANT, UNITS, SEED, *varied)
    return {key: value for key, value in config.items() if not _under(key, apart)}


def config_hash(config: Mapping[str, Any]) -> str:
    """16 hexadecimal digits of the SHA-256 of a configuration, without what does not bear on the result."""
    relevant = {key: value for key, value in config.items() if not _under(key, _IRRELEVANT)}
    return hashlib.sha256(json.dumps(relevant, sort_keys=True, default=str).encode()).hexdigest()[:16]


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> list[str]:
    """A line for each key whose value differs. A key that is absent, as of an option that came later, counts as null.

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
            build_core(core, 1, 1)  # knows the names that there are
        base.append(_option(CORE, core))
    if config.get("trainer.devices") == "auto":
        base.append("--trainer.devices=1")
    config = read_config(base)
    logger = config.get("trainer.logger.class_path", config.get("trainer.logger"))
    if str(logger).rpartition(".")[2] != "TensorBoardLogger":
        raise ValueError(f"a sweep logs with TensorBoardLogger, and the configuration names {logger}: leave it out")
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
    """Raise ``ValueError`` where an option would undo what the sweep sets itself."""
    for key in _given(arguments):
        for head, instead in _SET_BY_SWEEP.items():
            if _under(key, [head]):
                raise ValueError(f"--{key} is set by the sweep itself: use {instead}")
        if key in grid:
            raise ValueError(f"--{key} has one value there and is varied: leave one of them out")


def _given(arguments: Sequence[str]) -> list[str]:
    """Keys of the options among arguments."""
    return [short_key(argument.partition("=")[0].lstrip("-")) for argument in arguments if argument.startswith("--")]


def _check_grid(
    base: Sequence[str],
    config: Mapping[str, Any],
    grid: Mapping[str, Sequence[Value]],
    units: Sequence[int | None],
) -> None:
    """Raise ``ValueError`` if a key is not among the options, or a value is none that it takes."""
    for key in [*grid, *([UNITS] if units != [None] else [])]:
        part, _, rest = key.partition(".")
        kind = str(config.get(f"{part}.class_path", "")).rpartition(".")[2]
        options = {other.split(".")[1] for other in config if other.startswith(f"{part}.")} - {"class_path"}
        if not options:
            raise ValueError(f"{key} is no option of `alrnn fit`: its keys begin with model., data. or trainer.")
        if rest.partition(".")[0] not in options:
            raise ValueError(f"{kind or part} has no option {rest} ({key}); it has {', '.join(sorted(options))}")
    _check_units(units, grid.get("model.hidden_size", [config.get("model.hidden_size")]))
    for key, values in grid.items():
        for value in values:  # each once: a wrong one shows without trying all combinations
            try:
                read_config([*base, _option(key, value)])
            except ValueError as error:
                raise ValueError(f"--grid {_option(key, value).removeprefix('--')}: {error}") from None


def _check_units(units: Sequence[int | None], sizes: Sequence[Any]) -> None:
    whole = [size for size in sizes if isinstance(size, int)]
    largest = max((p for p in units if p is not None), default=0)
    if whole and largest > min(whole):
        raise ValueError(
            f"--nonlinear_units must lie between 0 and model.hidden_size (M={min(whole)}), got {largest}: leave it "
            "out, or set --model.hidden_size"
        )


def _option(key: str, value: Value) -> str:
    return f"--{key}={_text(value)}"


def _text(value: Value) -> str:
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _name(core: str, units: int | None, seed: int, settings: Mapping[str, Value]) -> str:
    parts = [core.rpartition(".")[2], *([] if units is None else [f"P{units}"]), f"seed{seed}"]
    parts += [f"{key.removeprefix('model.').removeprefix('data.')}={_text(value)}" for key, value in settings.items()]
    plain = "-".join(parts)
    name = re.sub(r"[^\w.=+-]", "_", plain)
    if name != plain or len(name) > _LONGEST_NAME:  # two of them might be the same
        digest = hashlib.sha256(json.dumps([core, units, seed, settings]).encode()).hexdigest()[:8]
        name = f"{name[:_LONGEST_NAME]}-{digest}"
    return name


def _split(text: str) -> list[str]:
    """Parts between commas that stand in no brackets, braces or quotes."""
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


def _check_unique(values: list[Any], option: str) -> list[Any]:
    for index, value in enumerate(values):
        if value in values[:index]:
            raise ValueError(f"{option} has {value} twice")
    return values


def _reason(message: str) -> str:
    """What jsonargparse says, without the usage before it and the types that did not fit by themselves."""
    _, found, reason = message.partition("error: ")
    lines = [line.strip() for line in (reason if found else message).splitlines()]
    kept = [line for line in lines if line and not line.startswith(_NOISE)]
    return " ".join(kept)
