"""``alrnn sweep``: read the options, keep the folder consistent, do the runs, say what came out."""

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

from lightning_alrnn.commands.parsers import parser_of
from lightning_alrnn.files import write_json
from lightning_alrnn.sweep.executors import (
    Slurm,
    default_jobs,
    is_queued,
    run_inline,
    run_local,
    run_slurm,
    slurm_jobs,
)
from lightning_alrnn.sweep.gpus import ASSUMED_GPU, Gpu, read_gpu
from lightning_alrnn.sweep.monitor import SweepMonitor
from lightning_alrnn.sweep.plan import (
    Plan,
    Spec,
    differences,
    is_alrnn,
    make_plan,
    parse_counts,
    parse_grid,
    parse_looks,
    parse_seeds,
)
from lightning_alrnn.sweep.populations import Size, Work, checkpoint_of, divide, population_folder, read_populations
from lightning_alrnn.sweep.report import format_verdict, write_verdict
from lightning_alrnn.sweep.rules import choose_score
from lightning_alrnn.sweep.run import Surroundings, find_commit
from lightning_alrnn.sweep.store import (
    LOG,
    Claim,
    Record,
    is_done,
    locked,
    read_records,
    run_folder,
    write_table,
)
from lightning_alrnn.sweep.verdict import ALPHA, TRAIN_SIZE
from lightning_alrnn.sweep.words import counted, listed

_INTERRUPTED = 130
_LISTED_DIFFERENCES = 8


def run_sweep(arguments: Sequence[str]) -> None:
    """Run ``alrnn sweep``; it exits with 130 if it was interrupted, and with 1 if a run failed."""
    options, shared = parser_of("sweep").parse_known_args(list(arguments))
    plan = _plan(options, shared)
    looks = parse_looks(options.seeds)
    folder = Path(options.output_dir).resolve()
    _enter(folder, plan, looks, options.stop_when, arguments)
    surroundings = Surroundings(folder, plan.varied, plan.configs, find_commit(), options.stop_when)
    try:
        with _signals_as_interrupt():
            if looks:
                plan = _look(options, plan, looks, surroundings)
            else:
                _do(options, plan, surroundings)
    except KeyboardInterrupt:
        write_table(folder)
        _say_interrupted(folder, plan)
        raise SystemExit(_INTERRUPTED) from None
    write_table(folder)
    failed = finish(folder, plan, len({spec.seed for spec in plan.runs}) if looks else None)
    if failed:
        raise SystemExit(1)


def finish(folder: Path, plan: Plan, seeds: int | None = None) -> bool:
    """Say what came out of a sweep, and return whether a run is missing, as it failed or was interrupted.

    ``seeds`` is the number of seeds of the last look; ``None`` for a sweep of fixed seeds.
    """
    records = {record.name: record for record in read_records(folder)}
    names = [spec.name for spec in plan.runs]
    kept = [records[name] for name in names if name in records]
    # the verdict has a row for each P, in its best setting
    if any(record.run.settings or record.run.nonlinear_units is None for record in kept):
        _write(_table(kept) + "\n")
    missing = [name for name in names if name not in records or records[name].status != "done"]
    for name in missing:
        if holder := Claim(folder, name).holder():
            _write(f"running: {name}: by another sweep, on {holder[0]}")
        elif name in records and records[name].status == "failed":
            _write(f"failed: {name}: {records[name].error}")
        else:
            population = records[name].population if name in records else ""
            own = population_folder(folder, population) if population else run_folder(folder, name)
            _write(f"stopped: {name}: {_last_words(own / LOG)}")
    if missing:
        _write(
            f"{len(missing)} of {len(names)} runs are missing; the same command again tries them anew. Tracebacks: "
            f"{folder}/runs/NAME/record.json; what was written: log.txt in {folder}/runs/NAME or populations/NAME, "
            f"with SLURM {folder}/jobs"
        )
    _write(f"results:      {folder / 'results.csv'}")
    _write(f"TensorBoard:  tensorboard --logdir {folder / 'runs'}")
    try:
        verdict = write_verdict(folder, seeds=seeds)
    except ValueError as error:  # no run is done
        _write(f"no verdict:   {error}")
        return bool(missing)
    _write(f"verdict:      {folder / 'verdict.html'}\n\n{format_verdict(verdict)}")
    _note_judged(folder, len({spec.seed for spec in plan.runs}))
    return bool(missing)


def _note_judged(folder: Path, seeds: int) -> None:
    """Keep the number of seeds at which the sweep was judged: to judge it again at more costs another level."""
    path = folder / "sweep.json"
    with locked(folder / ".sweep"):
        content = json.loads(path.read_text(encoding="utf-8"))
        if not content["looks"]:  # these have divided their level beforehand
            content["judged"] = sorted({*content["judged"], seeds})
            write_json(path, content)


def _plan(options: argparse.Namespace, shared: Sequence[str]) -> Plan:
    """The runs that the options ask for."""
    cores = list(dict.fromkeys(core.strip() for core in options.core.split(",")))
    if any(map(is_alrnn, cores)) != (options.nonlinear_units is not None):
        raise ValueError(
            "--nonlinear_units 0,1,5 is missing: which numbers of nonlinear units?"
            if options.nonlinear_units is None
            else f"--nonlinear_units is for the core ALRNN, got --core {options.core}"
        )
    if options.nonlinear_units is None and parse_looks(options.seeds):
        raise ValueError(
            f"--seeds {options.seeds} adds seeds until the verdict on P can tell, and there is none on --core "
            f"{options.core}: give a number of seeds, such as --seeds 5"
        )
    units = [] if options.nonlinear_units is None else parse_counts(options.nonlinear_units, "--nonlinear_units")
    if len(units) == 1 and parse_looks(options.seeds):
        raise ValueError(
            f"--seeds {options.seeds} adds seeds until the verdict can tell, which compares two P or more, got "
            f"--nonlinear_units {options.nonlinear_units}"
        )
    grid = parse_grid(options.grid)
    if options.train_size is not None and TRAIN_SIZE in grid:
        raise ValueError(f"--train_size and --grid {TRAIN_SIZE}=… are the same: leave one of them out")
    if options.train_size is not None:
        grid = {TRAIN_SIZE: [*parse_counts(options.train_size, "--train_size")], **grid}
    for name in ("jobs", "time", "nodes"):
        if getattr(options, name) is not None and getattr(options, name) < 1:
            raise ValueError(f"--{name} must be at least 1, got {getattr(options, name)}")
    if options.population not in ("auto", "off") and not (
        options.population.isdecimal() and int(options.population) >= 1
    ):
        raise ValueError(f"--population must be auto, off or a number of networks, got {options.population!r}")
    if options.executor != "slurm":
        given = [name for name in ("partition", "time", "gpus", "nodes", "slurm") if getattr(options, name)]
        if given:
            raise ValueError(f"--{given[0]} is for --executor slurm, got --executor {options.executor}")
    defaults = ["--trainer.enable_progress_bar=false", "--trainer.enable_model_summary=false"]
    if options.gpus:
        defaults += ["--trainer.accelerator=gpu", f"--trainer.devices={options.gpus}"]
    if options.nodes:
        defaults.append(f"--trainer.num_nodes={options.nodes}")
    plan = make_plan([*defaults, *shared], units, parse_seeds(options.seeds), cores, grid)
    for config in plan.configs.values():
        one = config.get("trainer.devices") in (1, "1") and config.get("trainer.num_nodes") in (1, "1")
        if options.executor != "slurm" and not one:
            raise ValueError(
                f"--executor {options.executor} gives each run one device, got --trainer.devices "
                f"{config.get('trainer.devices')} and --trainer.num_nodes {config.get('trainer.num_nodes')}: runs on "
                "several need --executor slurm"
            )
    return plan


def _enter(folder: Path, plan: Plan, looks: Sequence[int], stop_when: str | None, arguments: Sequence[str]) -> None:
    """Make the folder, or see that the sweep in there is the same but for its cores, P, seeds and values.

    The numbers of seeds at which a sweep looks must be the same, too: by others it would spend its level twice. So must
    be the rule by which runs end.
    """
    (folder / "runs").mkdir(parents=True, exist_ok=True)
    path = folder / "sweep.json"
    with locked(folder / ".sweep"):
        there: dict[str, Any] = {"varied": list(plan.varied), "configs": {}}
        if path.is_file():
            there = json.loads(path.read_text(encoding="utf-8"))
        changes = []
        if there["varied"] != list(plan.varied):
            changes = [f"varied: {', '.join(there['varied'])} there, {', '.join(plan.varied)} now"]
        elif path.is_file() and there.get("looks", []) != list(looks):
            seeds = [listed([str(look) for look in some]) if some else "none" for some in (there.get("looks"), looks)]
            changes = [
                f"looks, by --seeds: {seeds[0]} there, {seeds[1]} now, and claims would no longer hold their level"
            ]
        elif path.is_file() and there.get("stop_when") != stop_when:
            changes = [f"--stop_when: {there.get('stop_when') or 'none'} there, {stop_when or 'none'} now"]
        now = json.loads(json.dumps(plan.configs))
        for core in now.keys() & there["configs"].keys() if not changes else ():
            changes += [line for line in differences(there["configs"][core], now[core]) if line not in changes]
        if changes:
            more = len(changes) - _LISTED_DIFFERENCES
            lines = "; ".join(changes[:_LISTED_DIFFERENCES]) + (f"; and {more} more" if more > 0 else "")
            raise ValueError(
                f"{folder} holds another sweep. {lines}. Use another --output_dir, or these options again; cores, P, "
                f"{'' if looks else 'seeds '}and further values of what is varied may be added"
            )
        content = {
            "varied": list(plan.varied),
            "configs": there["configs"] | now,
            "looks": list(looks),
            "stop_when": stop_when,
            "arguments": list(arguments),
            "judged": there.get("judged", []),
            "runs_per_seed": len(plan.runs) // len({spec.seed for spec in plan.runs}),
        }
        write_json(path, content)


def _look(options: argparse.Namespace, plan: Plan, looks: Sequence[int], surroundings: Surroundings) -> Plan:
    """Add seeds and judge until everything is told; the plan of the runs that this took."""
    seeds = listed([str(look) for look in looks])
    _write(f"looks at {seeds} seeds, each at the level {ALPHA / len(looks):.3g}, until all that is asked is told")
    part = plan
    for number, look in enumerate(looks, start=1):
        part = plan._replace(runs=tuple(spec for spec in plan.runs if spec.seed < look))
        _do(options, part, surroundings)
        if not all(is_done(surroundings.folder, spec.name) for spec in part.runs):
            break  # what is missing is said at the end
        try:
            verdict = write_verdict(surroundings.folder, seeds=look)
        except ValueError:
            break  # further seeds would not make it a verdict; why there is none is said at the end
        if not verdict.untold or all(math.isnan(one.typical) for one in verdict.estimates):
            break  # where a typical run of each P diverges, further ones would tell nothing
        if look != looks[-1]:
            _write(f"{counted(look, 'seed')}: not told yet: {listed(verdict.untold)}; goes on to {looks[number]}")
    return part


def _do(options: argparse.Namespace, plan: Plan, surroundings: Surroundings) -> None:
    """Do the runs, with a live table and with tables that are a minute old at most."""
    undone = [spec for spec in plan.runs if not is_done(surroundings.folder, spec.name)]
    if not undone:
        return
    with SweepMonitor(surroundings.folder, plan.runs) as monitor:
        works = _works(options, plan, undone, surroundings.folder, monitor.write)
        monitor.watch(works)
        if options.executor == "inline":
            run_inline(surroundings, works, monitor)
        elif options.executor == "slurm":
            slurm = Slurm(
                options.partition,
                options.time or 60,
                options.gpus or 0,
                options.nodes or 1,
                options.jobs,
                _pairs(options.slurm),
            )
            run_slurm(surroundings, works, slurm, monitor)
        else:
            run_local(surroundings, works, _slots(options, plan) or 1, monitor)


def _works(
    options: argparse.Namespace, plan: Plan, undone: Sequence[Spec], folder: Path, write: Callable[[str], None]
) -> list[Work]:
    """What each process does: first what was begun as a population, or waits in SLURM's queue, as it is."""
    slurm = options.executor == "slurm"
    names = {spec.name for spec in undone}
    begun = [
        work
        for work in read_populations(folder)
        if names & {spec.name for spec in work.specs}
        and (checkpoint_of(folder, work.population).is_file() or (slurm and is_queued(folder, work)))
    ]
    begun += [work for spec in undone if slurm and is_queued(folder, work := Work((spec,)))]
    members = {spec.name for work in begun for spec in work.specs}
    rest = [spec for spec in undone if spec.name not in members]
    size: Size = options.population if options.population in ("auto", "off") else int(options.population)
    if (options.gpus or 1) > 1 or (options.nodes or 1) > 1:
        size = "off"  # each run has several processes
    return [*begun, *divide(folder, rest, size, _slots(options, plan), write, _gpu(options, plan))]


def _slots(options: argparse.Namespace, plan: Plan) -> int | None:
    """How many processes there are at a time; ``None`` where SLURM decides."""
    if options.executor == "inline":
        return 1
    if options.executor == "slurm":
        return None if options.jobs is None else int(options.jobs)
    return options.jobs or default_jobs(plan.accelerator)


def _gpu(options: argparse.Namespace, plan: Plan) -> Gpu | None:
    """What each process has of a GPU; ``None`` where runs are done on CPUs."""
    if options.executor == "slurm":
        return ASSUMED_GPU if plan.accelerator in ("gpu", "cuda") else None
    return None if plan.accelerator == "cpu" else read_gpu(_slots(options, plan) or 1)


def _say_interrupted(folder: Path, plan: Plan) -> None:
    count = sum(is_done(folder, spec.name) for spec in plan.runs)
    jobs = slurm_jobs(folder, [*read_populations(folder), *(Work((spec,)) for spec in plan.runs)])
    sys.stderr.write(
        f"\nalrnn sweep: interrupted; {count} of {len(plan.runs)} runs are done and kept. The same command again goes "
        "on, each run from its last checkpoint.\n"
    )
    if jobs:
        sys.stderr.write(f"Jobs stay in SLURM's queue; to end them: scancel {' '.join(jobs)}\n")


def _table(records: Sequence[Record]) -> str:
    """Mean, standard deviation and number of scores, a row for each core and P and setting."""
    finished = [record.run for record in records if record.status == "done"]
    scored = [run for run in finished if run.metrics]
    if not scored:
        return "no run has a score"
    try:
        score = choose_score(scored)
    except ValueError as error:
        return str(error)
    rows: dict[tuple[str, ...], list[float]] = defaultdict(list)
    diverged: dict[tuple[str, ...], int] = defaultdict(int)
    axes = sorted({key for run in finished for key in run.settings})
    for run in finished:
        units = "" if run.nonlinear_units is None else str(run.nonlinear_units)
        row = (run.core, units, *(str(run.settings.get(key, "")) for key in axes))
        value = run.metrics.get(score, math.nan)
        rows[row] += [value] if math.isfinite(value) else []
        diverged[row] += run.diverged
    head = ("core", "P", *axes, score, "sd", "n")
    cells = [head]
    for row, values in rows.items():
        mean = f"{statistics.fmean(values):.4g}" if values else "–"
        deviation = f"{statistics.stdev(values):.2g}" if len(values) > 1 else "–"
        count = str(len(values)) + (f" (+{diverged[row]} diverged)" if diverged[row] else "")
        cells.append((*row, mean, deviation, count))
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    lines = ["  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
    return "\n".join(lines)


def _last_words(log: Path) -> str:
    """The end of what a process wrote that ended without a word to the sweep."""
    lines = [line for line in log.read_text(errors="replace").splitlines() if line.strip()] if log.is_file() else []
    return "its process ended before it did" + (f"; it last wrote: {lines[-1].strip()}" if lines else "")


def _pairs(items: Sequence[str]) -> Mapping[str, str]:
    wrong = [item for item in items if not item.partition("=")[2]]
    if wrong:
        raise ValueError(f"--slurm must be KEY=VALUE, such as account=lab, got {wrong[0]!r}")
    return {key.lstrip("-"): value for key, _, value in (item.partition("=") for item in items)}


@contextmanager
def _signals_as_interrupt() -> Iterator[None]:
    """End on SIGTERM as on Ctrl-C: the runs' processes would not notice that this one is gone.

    And on SIGINT in any case: what a script puts into the background ignores it, and so would the runs.
    """

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
