"""``alrnn sweep``: read the options, keep the folder consistent, train the runs and print the results."""

from __future__ import annotations

import argparse
import json
import math
import os
import signal
import statistics
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.files import remove_leftovers, write_json
from lightning_alrnn.sweep.executors import (
    Slurm,
    default_jobs,
    queued_job,
    run_inline,
    run_local,
    run_slurm,
    slurm_jobs,
)
from lightning_alrnn.sweep.gpus import ASSUMED_GPU, Gpu, read_gpu
from lightning_alrnn.sweep.grouping import CHECKPOINT, REFUSED, Size, Work, divide, read_populations
from lightning_alrnn.sweep.live import SweepMonitor
from lightning_alrnn.sweep.plan import (
    Plan,
    Spec,
    differences,
    is_alrnn,
    make_plan,
    parse_grid,
)
from lightning_alrnn.sweep.rules import Run, choose_score
from lightning_alrnn.sweep.run import Surroundings, find_commit
from lightning_alrnn.sweep.seeds import parse_counts, parse_looks, parse_seeds
from lightning_alrnn.sweep.store import (
    LOG,
    SETTINGS,
    Claim,
    Record,
    is_done,
    locked,
    read_records,
    read_settings,
    run_folder,
    write_table,
)
from lightning_alrnn.sweep.verdict import ALPHA, TRAIN_SIZE
from lightning_alrnn.sweep.verdict_page import format_verdict, write_verdict
from lightning_alrnn.sweep.words import counted, listed

_INTERRUPTED = 130
_LISTED_DIFFERENCES = 8


def run_sweep(arguments: Sequence[str], *, report_interrupt: bool = True) -> None:
    """Run ``alrnn sweep``; it exits with 130 if it was interrupted, and with 1 if a run failed."""
    options, shared = parser_of("sweep").parse_known_args(list(arguments))
    plan = _plan(options, shared)
    looks = parse_looks(options.seeds)
    folder = Path(options.output_dir).resolve()
    _write_settings(folder, plan, looks, {"stop_when": options.stop_when, "tolerance": options.tolerance}, arguments)
    remove_leftovers(folder)
    surroundings = Surroundings(folder, plan.varied, plan.configs, find_commit(), options.stop_when)
    try:
        with _signals_as_interrupt():
            if looks:
                plan = _add_seeds(options, plan, looks, surroundings)
            else:
                _train(options, plan, surroundings)
    except KeyboardInterrupt:
        write_table(folder)
        if report_interrupt:
            _report_interrupt(folder, plan)
        raise SystemExit(_INTERRUPTED) from None
    write_table(folder)
    if _report(folder, plan, adds_seeds=bool(looks)):
        raise SystemExit(1)


def _report(folder: Path, plan: Plan, adds_seeds: bool) -> bool:
    """Print the results of a sweep, and return whether a run is missing."""
    records = {record.name: record for record in read_records(folder)}
    names = [spec.name for spec in plan.runs]
    seeds = len({spec.seed for spec in plan.runs if spec.nonlinear_units is not None})  # baselines are not judged
    begun = [records[name] for name in names if name in records]
    # the verdict has a row for each P with its best setting, this table a row for each setting
    if any(record.run.settings or record.run.nonlinear_units is None for record in begun):
        _write(_table(begun) + "\n")
    missing = [name for name in names if name not in records or records[name].status != "done"]
    for name in missing:
        if holder := Claim(folder, name).holder():
            _write(f"running: {name}: by another sweep on {holder[0]}")
        elif name in records and records[name].status == "failed":
            _write(f"failed: {name}: {records[name].error}")
        else:
            population = records[name].population if name in records else ""
            _write(f"stopped: {name}: {_last_words(run_folder(folder, name, population) / LOG)}")
    if missing:
        _write(
            f"{len(missing)} of {len(names)} runs are missing; repeat the command to run them again. The tracebacks "
            f"are in {folder}/runs/NAME/record.json, the output is in log.txt of runs/NAME or populations/NAME, or "
            "in jobs with SLURM"
        )
    for path in folder.glob(f"populations/*/{REFUSED}"):
        _write(
            f"one by one:   the runs of {path.parent} could not be trained in one step, which would have taken less "
            f"time; its {LOG} has the traceback of {path.read_text()}"
        )
    _write(f"results:      {folder / 'results.csv'}")
    _write(f"TensorBoard:  tensorboard --logdir {folder / 'runs'}")
    try:
        verdict = write_verdict(folder, seeds=seeds if adds_seeds else None)
    except ValueError as error:  # no run is done
        _write(f"no verdict:   {error}")
        return bool(missing)
    _write(f"verdict:      {folder / 'verdict.html'}\n\n{format_verdict(verdict)}")
    if seeds and not adds_seeds:  # judging again with more seeds costs another level, unless the looks have divided it
        with locked(folder / ".sweep"):
            if (settings := read_settings(folder)) is not None:
                judged = sorted({*settings.get("judged", ()), seeds})
                write_json(folder / SETTINGS, {**settings, "judged": judged})
    return bool(missing)


def _plan(options: argparse.Namespace, shared: Sequence[str]) -> Plan:
    """The runs that the options request."""
    cores = list(dict.fromkeys(core.strip() for core in options.core.split(",")))
    if any(map(is_alrnn, cores)) != (options.nonlinear_units is not None):
        raise ValueError(
            "--nonlinear_units is missing: state the numbers of nonlinear units, such as --nonlinear_units 0,1,5"
            if options.nonlinear_units is None
            else f"--nonlinear_units is for the core ALRNN, got --core {options.core}"
        )
    units = [] if options.nonlinear_units is None else parse_counts(options.nonlinear_units, "--nonlinear_units")
    if len(units) < 2 and parse_looks(options.seeds):
        got = f"--nonlinear_units {options.nonlinear_units}" if units else f"--core {options.core}"
        raise ValueError(
            f"--seeds {options.seeds} adds seeds until the verdict is clear, which compares at least two P, got {got}: "
            "state a number of seeds, such as --seeds 5"
        )
    grid = parse_grid(options.grid)
    if options.train_size is not None and TRAIN_SIZE in grid:
        raise ValueError(f"--train_size and --grid {TRAIN_SIZE}=… are the same: remove one of them")
    if options.train_size is not None:
        grid = {TRAIN_SIZE: [*parse_counts(options.train_size, "--train_size")], **grid}
    for name in ("jobs", "time", "nodes"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.population not in ("auto", "off") and not (
        options.population.isdecimal() and int(options.population) >= 1
    ):
        raise ValueError(f"--population must be auto, off or a number of networks, got {options.population!r}")
    for name in ("partition", "time", "gpus", "nodes", "slurm"):
        if options.executor != "slurm" and getattr(options, name):
            raise ValueError(f"--{name} is for --executor slurm, got --executor {options.executor}")
    defaults = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    if options.gpus:
        defaults += ["--trainer.accelerator=gpu", f"--trainer.devices={options.gpus}"]
    if options.nodes:
        defaults.append(f"--trainer.num_nodes={options.nodes}")
    plan = make_plan([*defaults, *shared], units, parse_seeds(options.seeds), cores, grid)
    for config in plan.configs.values():
        devices, nodes = config.get("trainer.devices"), config.get("trainer.num_nodes")
        if options.executor != "slurm" and not (devices in (1, "1") and nodes in (1, "1")):
            raise ValueError(
                f"--executor {options.executor} gives each run one device, got --trainer.devices {devices} and "
                f"--trainer.num_nodes {nodes}: runs on several devices need --executor slurm"
            )
    return plan


def _write_settings(
    folder: Path, plan: Plan, looks: Sequence[int], rules: Mapping[str, Any], arguments: Sequence[str]
) -> None:
    """Write sweep.json, unless the folder holds another sweep: cores, P, seeds and values may be added, not changed."""
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    path = folder / SETTINGS
    with locked(folder / ".sweep"):
        planned = {"varied": [*plan.varied], "configs": {}, "looks": [*looks], **rules}
        there: Mapping[str, Any] = read_settings(folder) or planned
        changes = []
        if there["varied"] != list(plan.varied):
            changes = [f"varied: {', '.join(there['varied'])} there, {', '.join(plan.varied)} now"]
        elif there.get("looks", []) != list(looks):
            old, new = (listed(some) if some else "none" for some in (there.get("looks"), looks))
            changes = [f"looks, by --seeds: {old} there, {new} now, with which claims would not hold their level"]
        else:
            changes = [
                f"--{name}: {there.get(name) or 'none'} there, {value or 'none'} now"
                for name, value in rules.items()
                if there.get(name) != value
            ]
        now = json.loads(json.dumps(plan.configs))
        for core in now.keys() & there["configs"].keys() if not changes else ():
            changes += [line for line in differences(there["configs"][core], now[core]) if line not in changes]
        if changes:
            more = len(changes) - _LISTED_DIFFERENCES
            lines = "; ".join(changes[:_LISTED_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
            raise ValueError(
                f"{folder} holds another sweep. {lines}. Use another --output_dir or the same options; cores, P, "
                f"{'' if looks else 'seeds '}and values of the varied settings may be added"
            )
        content = {
            "varied": list(plan.varied),
            "configs": there["configs"] | now,
            "looks": list(looks),
            **rules,
            "arguments": list(arguments),
            "judged": there.get("judged", []),
            "runs_per_seed": len(plan.runs) // len({spec.seed for spec in plan.runs}),
        }
        write_json(path, content)


def _add_seeds(options: argparse.Namespace, plan: Plan, looks: Sequence[int], surroundings: Surroundings) -> Plan:
    """Add seeds until no question is open; the plan of the runs that this took."""
    _write(
        f"The sweep looks at its runs with {listed(looks)} seeds, each time at the level {ALPHA / len(looks):.3g}, "
        "until no question is open."
    )
    part = plan
    for look, following in zip(looks, [*looks[1:], None], strict=True):
        part = plan._replace(runs=tuple(spec for spec in plan.runs if spec.seed < look))
        _train(options, part, surroundings)
        if not all(is_done(surroundings.folder, spec.name) for spec in part.runs):
            break  # the missing runs are listed at the end
        try:
            verdict = write_verdict(surroundings.folder, seeds=look)
        except ValueError:
            break  # more seeds would not help; the error is printed at the end
        if not verdict.untold or all(math.isnan(one.typical) for one in verdict.estimates):
            break  # if a typical run of every P diverges, more seeds would show nothing
        if following is not None:
            seeds, untold = counted(look, "seed"), listed(verdict.untold, "or")
            _write(f"With {seeds}, the runs do not show {untold} yet; adding seeds up to {following}.")
    return part


def _train(options: argparse.Namespace, plan: Plan, surroundings: Surroundings) -> None:
    """Train the runs that are not done, and show their progress."""
    undone = [spec for spec in plan.runs if not is_done(surroundings.folder, spec.name)]
    if not undone:
        return
    with SweepMonitor(surroundings.folder, plan.runs) as monitor:
        works = _works(options, plan, undone, surroundings.folder, monitor.write)
        monitor.watch(works)
        if options.executor == "inline":
            run_inline(surroundings, works, monitor)
        elif options.executor == "slurm":
            resources = (options.partition, options.time or 60, options.gpus or 0, options.nodes or 1)
            slurm = Slurm(*resources, options.jobs, _pairs(options.slurm))
            run_slurm(surroundings, works, slurm, monitor)
        else:
            run_local(surroundings, works, _slots(options, plan) or 1, monitor)


def _works(
    options: argparse.Namespace, plan: Plan, undone: Sequence[Spec], folder: Path, write: Callable[[str], None]
) -> list[Work]:
    """The works of the processes: first the populations that have begun and the works in SLURM's queue, unchanged."""
    slurm = options.executor == "slurm"
    names = {spec.name for spec in undone}
    begun = [
        work
        for work in read_populations(folder)
        if names & {spec.name for spec in work.specs}
        and ((work.folder(folder) / CHECKPOINT).is_file() or (slurm and queued_job(folder, work)))
    ]
    begun += [work for spec in undone if slurm and queued_job(folder, work := Work((spec,)))]
    members = {spec.name for work in begun for spec in work.specs}
    rest = [spec for spec in undone if spec.name not in members]
    size: Size = options.population if options.population in ("auto", "off") else int(options.population)
    if (options.gpus or 1) > 1 or (options.nodes or 1) > 1:
        size = "off"  # each run has several processes
    return [*begun, *divide(folder, rest, size, _slots(options, plan), write, _gpu(options, plan))]


def _slots(options: argparse.Namespace, plan: Plan) -> int | None:
    """Number of processes at a time; ``None`` if SLURM decides."""
    if options.executor == "inline":
        return 1
    if options.executor == "slurm":
        return None if options.jobs is None else int(options.jobs)
    return options.jobs or default_jobs(plan.accelerator)


def _gpu(options: argparse.Namespace, plan: Plan) -> Gpu | None:
    """Share of a GPU of each process; ``None`` for training on CPUs."""
    if options.executor == "slurm":
        return ASSUMED_GPU if plan.accelerator in ("gpu", "cuda") else None
    return None if plan.accelerator == "cpu" else read_gpu(_slots(options, plan) or 1)


def _report_interrupt(folder: Path, plan: Plan) -> None:
    count = sum(is_done(folder, spec.name) for spec in plan.runs)
    jobs = slurm_jobs(folder, [*read_populations(folder), *(Work((spec,)) for spec in plan.runs)])
    sys.stderr.write(
        f"\nalrnn sweep: interrupted; {count} of {len(plan.runs)} runs are done. Repeat the command to continue each "
        "run from its last checkpoint.\n"
    )
    if jobs:
        sys.stderr.write(f"The jobs stay in SLURM's queue; to end them: scancel {' '.join(jobs)}\n")


def _table(records: Sequence[Record]) -> str:
    """Mean, standard deviation and number of scores, with a row for each core, P and setting."""
    finished = [record.run for record in records if record.status == "done"]
    try:
        score = choose_score(finished)
    except ValueError as error:
        return str(error) if any(run.metrics for run in finished) else "no run has a score"
    rows: dict[tuple[str, ...], list[Run]] = defaultdict(list)
    axes = sorted({key for run in finished for key in run.settings})
    for run in finished:
        units = "" if run.nonlinear_units is None else str(run.nonlinear_units)
        rows[run.core, units, *(str(run.settings.get(key, "")) for key in axes)].append(run)
    cells: list[tuple[str, ...]] = [("core", "P", *axes, score, "sd", "n")]
    for row, runs in rows.items():
        values = [value for run in runs if math.isfinite(value := run.metrics.get(score, math.nan))]
        mean = f"{statistics.fmean(values):.4g}" if values else "–"
        deviation = f"{statistics.stdev(values):.2g}" if len(values) > 1 else "–"
        diverged = sum(run.diverged for run in runs)
        cells.append((*row, mean, deviation, f"{len(values)}{f' (+{diverged} diverged)' if diverged else ''}"))
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return "\n".join("  ".join(map(str.rjust, row, widths)).rstrip() for row in cells)


def _last_words(log: Path) -> str:
    """The reason why a run stopped without a record, with the last line of its log."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    last = f"; its last output: {lines[-1].strip()}" if lines else ""
    return f"the worker process exited before the run finished{last}"


def _pairs(items: Sequence[str]) -> Mapping[str, str]:
    wrong = [item for item in items if not item.partition("=")[2]]
    if wrong:
        raise ValueError(f"--slurm must be KEY=VALUE, such as account=lab, got {wrong[0]!r}")
    return {key.lstrip("-"): value for key, _, value in (item.partition("=") for item in items)}


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C, so that the workers end, too; and on SIGINT, which background jobs ignore."""

    def interrupt(number: int, frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _write(line: str) -> None:
    sys.stdout.write(line + os.linesep)
