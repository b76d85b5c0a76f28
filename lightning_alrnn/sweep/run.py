"""A single run of a sweep: ``alrnn fit``, then validation and test with the best weights."""

from __future__ import annotations

import math
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from functools import cache, partial
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from pytorch_lightning import Trainer
from submitit.core.utils import UncompletedJobError
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import hparams
from torch.utils.tensorboard.writer import SummaryWriter

import lightning_alrnn
from lightning_alrnn.cli import run_cli
from lightning_alrnn.extensions.checkpoints import read_checkpoint
from lightning_alrnn.extensions.messages import without_advertisements
from lightning_alrnn.files import remove_leftovers, write_file
from lightning_alrnn.metrics.threshold import StopWhen
from lightning_alrnn.sweep.baselines import write_baselines
from lightning_alrnn.sweep.plan import FitCLI, Spec, config_hash, differences, logging_options, shared
from lightning_alrnn.sweep.progress import RunProgress
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import Claim, Record, read_record, run_folder, write_record

_OF_FAILED = "checkpoints-failed"  # kept until a later attempt ends well
_BEST = ".best"
_BEST_EVENTS = f"events.out.tfevents.9999999999{_BEST}"
_PATIENCE = 600
_WORKER_TERMINATED = "is killed by signal: Terminated"  # torch's message for a process of a DataLoader
# decision of the first of several processes: whether to resume; None if there is nothing to do
_DECISIONS = {None: b"skip", False: b"begin", True: b"resume"}
_PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "scipy")


class Surroundings(NamedTuple):
    """The properties that the runs of a sweep share."""

    folder: Path  # absolute path of the sweep
    varied: tuple[str, ...]
    configs: Mapping[str, Mapping[str, Any]]  # shared configuration of the runs, by core
    commit: str  # git commit of the directory in which the sweep was started
    stop_when: StopWhen | None = None  # rule by which training ends early


class Task(NamedTuple):
    """One of the processes of a run."""

    rank: int = 0  # only rank 0 records the result
    processes: int = 1
    job: str = ""  # name of their job, which differs after each requeue


def do_run(surroundings: Surroundings, spec: Spec, task: Task | None = None) -> None:
    """Train, test and record a run, unless it is done or claimed elsewhere; each process of the run calls this."""
    task = task or Task()
    decision = run_folder(surroundings.folder, spec.name) / f"decision-{task.job}"
    if task.rank > 0:
        _follow(surroundings, spec, task, decision)
        return
    claim = Claim(surroundings.folder, spec.name)
    record = None
    try:
        record = begin(surroundings, spec) if claim.take() else None
        if task.processes > 1:
            write_file(decision, _DECISIONS[record and record.resumed])
        if record is not None:
            write_record(surroundings.folder, _attempt(surroundings, spec, record))
    finally:
        claim.release()


def _follow(surroundings: Surroundings, spec: Spec, task: Task, path: Path) -> None:
    """Wait for the decision of rank 0 in a file, and follow it."""
    until = time.monotonic() + _PATIENCE
    while not path.is_file():
        if time.monotonic() > until:
            raise RuntimeError(
                f"{spec.name}: process {task.rank} waited {_PATIENCE} s for process 0, which did not start"
            )
        time.sleep(0.1)
    decision = path.read_bytes()
    if decision != _DECISIONS[None]:
        _fit_and_test(surroundings, spec, decision == _DECISIONS[True], lambda config: None)


def begin(surroundings: Surroundings, spec: Spec, population: str = "", resumed: bool | None = None) -> Record | None:
    """Record the start of a run and delete the files of earlier attempts unless it resumes; ``None`` if it is done."""
    folder = surroundings.folder
    before = read_record(folder, spec.name)
    if before is not None and before.status == "done":
        return None
    if resumed is None:  # a run that failed would fail again from its checkpoint
        interrupted = before is not None and before.status == "running" and not before.population
        resumed = interrupted and last_whole(_checkpoints(folder, spec.name), spec.name) is not None
    path = run_folder(folder, spec.name)
    remove_leftovers(path, path / "checkpoints")
    if before is not None and before.status == "failed" and (path / "checkpoints").is_dir():
        shutil.rmtree(path / _OF_FAILED, ignore_errors=True)
        (path / "checkpoints").rename(path / _OF_FAILED)
    if not resumed:
        shutil.rmtree(path / "checkpoints", ignore_errors=True)
        for events in path.glob("events.out.tfevents.*"):
            events.unlink()
    record = Record(
        name=spec.name,
        run=Run(spec.core, spec.nonlinear_units, spec.seed, dict(spec.settings), {}),
        status="running",
        tracebacks=() if before is None else before.tracebacks,
        resumed=resumed,
        started=now(),
        host=socket.gethostname(),
        commit=surroundings.commit,
        versions=_versions(),
        log_dir=str(run_folder(Path(), spec.name)),
        population=population,
    )
    write_record(folder, record, durable=False)
    return record


def _attempt(surroundings: Surroundings, spec: Spec, record: Record) -> Record:
    """The record of a run after an attempt."""
    start = time.perf_counter()

    def note(config: Mapping[str, Any]) -> None:
        nonlocal record
        record = configured(surroundings, spec, record, config)
        write_record(surroundings.folder, record)

    try:
        result = _fit_and_test(surroundings, spec, record.resumed, note)
        run = record.run._replace(metrics=result.pop("metrics"), epochs_to_threshold=result.pop("epochs_to_threshold"))
        record = record._replace(run=run, **result, status="done")
        shutil.rmtree(run_folder(surroundings.folder, spec.name) / _OF_FAILED, ignore_errors=True)
    except BaseException as error:
        if was_interrupted(error):
            raise KeyboardInterrupt(f"{spec.name} was interrupted") from None
        diverged = isinstance(error, FloatingPointError)
        record = record._replace(
            run=record.run._replace(diverged=diverged),
            status="done" if diverged else "failed",
            tracebacks=(*record.tracebacks, "".join(traceback.format_exception(error))),
        )
    return record._replace(seconds=time.perf_counter() - start, finished=now())


def was_interrupted(error: BaseException) -> bool:
    """Whether training was stopped from outside, and not by an error of its own."""
    if isinstance(error, SystemExit):
        return error.code != 2  # Lightning exits on Ctrl-C, and submitit after requeuing a job
    # submitit raises the latter in a job that SLURM will not requeue
    if not isinstance(error, Exception) or isinstance(error, UncompletedJobError):
        return True
    return _WORKER_TERMINATED in "".join(traceback.format_exception(error))


def configured(surroundings: Surroundings, spec: Spec, record: Record, config: Mapping[str, Any]) -> Record:
    """The record with the values of the run's configuration."""
    changed = differences(surroundings.configs[spec.core], shared(config, surroundings.varied))
    if changed:
        raise RuntimeError(f"the configuration has changed since the sweep began: {'; '.join(changed)}")
    size = config.get("model.hidden_size")
    run = record.run._replace(hidden_size=size if isinstance(size, int) else None)
    return record._replace(run=run, config_hash=config_hash(config))


def _fit_and_test(
    surroundings: Surroundings, spec: Spec, resume: bool, note: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """Train and test a run; the fields of its record."""
    last = last_whole(_checkpoints(surroundings.folder, spec.name)) if resume else None
    progress = RunProgress(spec.name, run_folder(surroundings.folder, spec.name), surroundings.stop_when)
    arguments = ["fit", *spec.arguments, *logging_options(surroundings.folder, spec.name)]
    arguments += [f"--ckpt_path={last}"] if last is not None else []
    with without_advertisements("Checkpoint directory .* exists and is not empty"):  # if it resumes
        # without a summary, because the sweep writes its own row in HPARAMS and a table at its end
        cli = run_cli(
            arguments, summary=False, cli=partial(FitCLI, note=note, trainer_defaults={"callbacks": [progress]})
        )
    trainer, epochs, log_dir = cli.trainer, cli.trainer.current_epoch, cli.trainer.log_dir
    best = _best_checkpoint(trainer)
    metrics: dict[str, float] = {}
    trainer.logger = None  # the curves show only training
    for evaluate in (trainer.validate, trainer.test):
        evaluate(cli.model, datamodule=cli.datamodule, ckpt_path=best, verbose=False)
        metrics |= {key: float(value) for key, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero and log_dir is not None:
        log_best(log_dir, trainer.global_step, spec, metrics)
        write_baselines(surroundings.folder, spec.seed, spec.settings, cli.datamodule)
    return {
        "metrics": metrics,
        "epochs": epochs,
        "epochs_to_threshold": progress.watch.epochs_to_threshold,
        "checkpoint": os.path.relpath(best, surroundings.folder),
    }


def log_best(log_dir: str, step: int, spec: Spec, metrics: Mapping[str, float]) -> None:
    """Log the metrics of the best weights, in validation as ``best/val/…``, and a row of TensorBoard's HPARAMS."""
    varied: dict[str, Any] = {"nonlinear_units": spec.nonlinear_units, "seed": spec.seed, **spec.settings}
    finite = {key: value for key, value in metrics.items() if math.isfinite(value)}
    shown = {key: value for key, value in finite.items() if key.startswith("test/")}
    shown |= {f"best/{key}": value for key, value in finite.items() if key not in shown}
    summaries = hparams({**varied, "core": spec.core}, shown)  # type: ignore[no-untyped-call]
    with SummaryWriter(log_dir, filename_suffix=_BEST) as writer:
        for summary in summaries:
            writer.file_writer.add_summary(summary)
        scalars = Summary(value=[Summary.Value(tag=key, simple_value=value) for key, value in shown.items()])
        writer.file_writer.add_summary(scalars, step)
    # the name makes TensorBoard read this file last: a resumed run discards later steps of files that were read before.
    # It replaces the file of an attempt that was killed before it was recorded
    (path,) = (path for path in Path(log_dir).glob(f"events.*{_BEST}") if path.name != _BEST_EVENTS)
    path.replace(path.with_name(_BEST_EVENTS))


def _best_checkpoint(trainer: Trainer) -> str:
    checkpoint: Any = trainer.checkpoint_callback
    path = "" if checkpoint is None else checkpoint.best_model_path or checkpoint.last_model_path
    if not path:
        raise RuntimeError(
            "training wrote no checkpoint, which a sweep needs for the test: do not set --trainer.enable_checkpointing"
        )
    return str(path)


def _checkpoints(folder: Path, name: str) -> list[Path]:
    """The checkpoints that a run can resume from, the last one first."""
    path = run_folder(folder, name) / "checkpoints"
    return [path / "last.ckpt", *sorted(path.glob("best-*.ckpt"), key=lambda best: -best.stat().st_mtime)]


def last_whole(checkpoints: Sequence[Path], owner: str = "") -> Path | None:
    """The first of the checkpoints that can be read; with an ``owner``, a line says which cannot and what follows."""
    damaged: list[str] = []
    whole = None
    for path in checkpoints:
        try:
            read_checkpoint(path)
        except FileNotFoundError:
            continue
        except (ValueError, OSError) as error:
            damaged.append(str(error).partition(": use another")[0])
        else:
            whole = path
            break
    if damaged and owner:
        instead = "training starts again" if whole is None else f"training resumes from {whole.name}"
        sys.stderr.write(f"{owner}: {'; '.join(damaged)}: {instead}\n")
    return whole


def find_commit() -> str:
    """Git commit of the current directory, followed by "+" if files differ; "" without a commit."""
    commands = (["git", "rev-parse", "HEAD"], ["git", "status", "--porcelain", "--untracked-files=no"])
    try:
        commit, changes = (subprocess.run(one, capture_output=True, text=True, check=True).stdout for one in commands)
    except (OSError, subprocess.CalledProcessError):
        return ""  # no git, or no repository
    return commit.strip() + ("+" if changes.strip() else "")


@cache
def _versions() -> dict[str, str]:
    versions = {"lightning-alrnn": lightning_alrnn.__version__, "python": platform.python_version()}
    return versions | {name: metadata.version(name) for name in _PACKAGES}


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
