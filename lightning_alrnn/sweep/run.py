"""One run of a sweep: ``alrnn fit``, then validation and test with the best weights."""

from __future__ import annotations

import math
import os
import platform
import shutil
import socket
import subprocess
import time
import traceback
import warnings
from collections.abc import Callable, Mapping
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
from lightning_alrnn.files import write_file
from lightning_alrnn.metrics.threshold import StopWhen
from lightning_alrnn.sweep.plan import FitCLI, Spec, config_hash, differences, logging_options, shared
from lightning_alrnn.sweep.progress import RunProgress
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import Claim, Record, read_record, run_folder, write_record

_BEST = ".best"
_BEST_EVENTS = f"events.out.tfevents.9999999999{_BEST}"
_PATIENCE = 600
# what the first of several processes tells the others: whether to resume, or, with nothing to do, neither
_DECISIONS = {None: b"skip", False: b"begin", True: b"resume"}
_PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "scipy")


class Surroundings(NamedTuple):
    """What the runs of a sweep have in common."""

    folder: Path  # of the sweep, absolute
    varied: tuple[str, ...]
    configs: Mapping[str, Mapping[str, Any]]  # by core, what its runs share
    commit: str  # git commit of the directory in which the sweep was started
    stop_when: StopWhen | None = None  # when the training of a run ends early


class Interrupted(KeyboardInterrupt):
    """The run was stopped from outside; started again, it goes on from its last checkpoint."""


class Task(NamedTuple):
    """One of the processes of a run."""

    rank: int = 0  # its number; the first alone records what becomes of the run
    processes: int = 1
    job: str = ""  # name of the job that they make up, another one after each requeue


def do_run(surroundings: Surroundings, spec: Spec, task: Task | None = None) -> None:
    """Do a run, unless it is done or another process is at it, and record what became of it.

    An error of the run is recorded and not raised; :class:`Interrupted` is, where the run was stopped from outside.
    Where a run has several processes, each of them calls this.
    """
    task = task or Task()
    if task.rank > 0:
        _follow(surroundings, spec, task)
        return
    claim = Claim(surroundings.folder, spec.name)
    record = None
    try:
        record = begin(surroundings, spec) if claim.take() else None
        if task.processes > 1:
            write_file(_decision(surroundings.folder, spec, task), _DECISIONS[record and record.resumed])
        if record is not None:
            write_record(surroundings.folder, _attempt(surroundings, spec, record))
    finally:
        claim.release()


def _follow(surroundings: Surroundings, spec: Spec, task: Task) -> None:
    """Do what the first process of the run has decided."""
    path = _decision(surroundings.folder, spec, task)
    until = time.monotonic() + _PATIENCE
    while not path.is_file():
        if time.monotonic() > until:
            raise RuntimeError(f"{spec.name}: process {task.rank} has waited for process 0 for {_PATIENCE} s in vain")
        time.sleep(0.1)
    decision = path.read_bytes()
    if decision != _DECISIONS[None]:
        _fit_and_test(surroundings, spec, decision == _DECISIONS[True], lambda config: None)


def begin(surroundings: Surroundings, spec: Spec, population: str = "", resumed: bool | None = None) -> Record | None:
    """Note that a run begins, and return its record; ``None`` if it is done.

    The rest of another attempt is deleted unless the run goes on from there: where ``resumed`` says so, or by default
    where it has a checkpoint of its own.
    """
    folder = surroundings.folder
    before = read_record(folder, spec.name)
    if before is not None and before.status == "done":
        return None
    if resumed is None:  # what failed once would fail again if it went on from what it left
        interrupted = before is not None and before.status == "running" and not before.population
        resumed = interrupted and _last_checkpoint(folder, spec.name).is_file()
    own = run_folder(folder, spec.name)
    if not resumed:
        for left in (own / "checkpoints", own / "figures"):
            shutil.rmtree(left, ignore_errors=True)
        for path in own.glob("events.out.tfevents.*"):
            path.unlink()
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
    """The record of a run once it has been tried."""
    start = time.perf_counter()

    def note(config: Mapping[str, Any]) -> None:
        nonlocal record
        record = configured(surroundings, spec, record, config)
        write_record(surroundings.folder, record)

    try:
        found = _fit_and_test(surroundings, spec, record.resumed, note)
        run = record.run._replace(metrics=found.pop("metrics"), epochs_to_threshold=found.pop("epochs_to_threshold"))
        return record._replace(
            run=run,
            **found,
            status="done",
            seconds=time.perf_counter() - start,
            finished=now(),
        )
    except (KeyboardInterrupt, UncompletedJobError):  # the latter by submitit, in a job that SLURM will not requeue
        raise Interrupted(f"{spec.name} was interrupted") from None
    except SystemExit as stopped:
        if stopped.code != 2:  # Lightning ends so on Ctrl-C, and submitit where it has requeued the job
            raise Interrupted(f"{spec.name} was interrupted") from None
        error: BaseException = stopped
    except Exception as raised:
        error = raised
    diverged = isinstance(error, FloatingPointError)
    return record._replace(
        run=record.run._replace(diverged=diverged),
        status="done" if diverged else "failed",
        tracebacks=(*record.tracebacks, "".join(traceback.format_exception(error))),
        seconds=time.perf_counter() - start,
        finished=now(),
    )


def configured(surroundings: Surroundings, spec: Spec, record: Record, config: Mapping[str, Any]) -> Record:
    """The record with what the run's configuration says."""
    changed = differences(surroundings.configs[spec.core], shared(config, surroundings.varied))
    if changed:
        raise RuntimeError(f"the configuration was changed since the sweep began: {'; '.join(changed)}")
    size = config.get("model.hidden_size")
    run = record.run._replace(hidden_size=size if isinstance(size, int) else None)
    return record._replace(run=run, config_hash=config_hash(config))


def _fit_and_test(
    surroundings: Surroundings, spec: Spec, resume: bool, note: Callable[[Mapping[str, Any]], None]
) -> dict[str, Any]:
    """What the record holds of a run that came to its end."""
    last = _last_checkpoint(surroundings.folder, spec.name)
    progress = RunProgress(spec.name, run_folder(surroundings.folder, spec.name), surroundings.stop_when)
    arguments = ["fit", *spec.arguments, *logging_options(surroundings.folder, spec.name)]
    arguments += [f"--ckpt_path={last}"] if resume else []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # of what is resumed
        # no summary: the sweep has its own row in HPARAMS for the run, and a table at its end
        cli = run_cli(
            arguments, summary=False, cli=partial(FitCLI, note=note, trainer_defaults={"callbacks": [progress]})
        )
    trainer, epochs, log_dir = cli.trainer, cli.trainer.current_epoch, cli.trainer.log_dir
    best = _best_checkpoint(trainer)
    metrics: dict[str, float] = {}
    trainer.logger = None  # the curves are those of training
    for evaluate in (trainer.validate, trainer.test):
        evaluate(cli.model, datamodule=cli.datamodule, ckpt_path=best, verbose=False)
        metrics |= {key: float(value) for key, value in trainer.callback_metrics.items()}
    if trainer.is_global_zero and log_dir is not None:
        log_best(log_dir, trainer.global_step, spec, metrics)
    return {
        "metrics": metrics,
        "epochs": epochs,
        "epochs_to_threshold": progress.watch.epochs_to_threshold,
        "checkpoint": os.path.relpath(best, surroundings.folder),
    }


def log_best(log_dir: str, step: int, spec: Spec, metrics: Mapping[str, float]) -> None:
    """Log the metrics of the best weights, and make the run a row of TensorBoard's HPARAMS.

    Those of validation are ``best/val/…``, as ``val/…`` are of the weights of each epoch. What is varied and the
    metrics of the test come first.
    """
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
    # read last, whatever the time: a run that was resumed voids what was read before of later steps. And one file, in
    # place of that of an attempt which was killed before it was recorded
    (path,) = (path for path in Path(log_dir).glob(f"events.*{_BEST}") if path.name != _BEST_EVENTS)
    path.replace(path.with_name(_BEST_EVENTS))


def _best_checkpoint(trainer: Trainer) -> str:
    checkpoint: Any = trainer.checkpoint_callback
    path = "" if checkpoint is None else checkpoint.best_model_path or checkpoint.last_model_path
    if not path:
        raise RuntimeError(
            "training left no checkpoint to test: a sweep needs one, so leave --trainer.enable_checkpointing as it is"
        )
    return str(path)


def _decision(folder: Path, spec: Spec, task: Task) -> Path:
    return run_folder(folder, spec.name) / f"decision-{task.job}"


def _last_checkpoint(folder: Path, name: str) -> Path:
    return run_folder(folder, name) / "checkpoints" / "last.ckpt"


def find_commit() -> str:
    """Git commit of the present directory, with "+" behind it where files differ; "" where there is none."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""  # no git, or no repository


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


@cache
def _versions() -> dict[str, str]:
    found = {"lightning-alrnn": lightning_alrnn.__version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def now() -> str:
    """The time, UTC, ISO 8601."""
    return datetime.now(UTC).isoformat(timespec="seconds")
