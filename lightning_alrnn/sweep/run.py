"""One run of a sweep: ``alrnn fit``, then ``alrnn validate`` and ``alrnn test`` with the best weights."""

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
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any, NamedTuple

from submitit.core.utils import UncompletedJobError

import lightning_alrnn
from lightning_alrnn.cli import ALRNNCLI, run_cli
from lightning_alrnn.files import write_file
from lightning_alrnn.sweep.plan import Spec, config_hash, differences, read_config, shared
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import (
    Claim,
    Record,
    read_record,
    run_folder,
    write_record,
    write_tables,
)

_EVALUATION = "best"
_PATIENCE = 600
# what the first of several processes tells the others: whether to resume, or, with nothing to do, neither
_DECISIONS = {None: b"skip", False: b"begin", True: b"resume"}
_PACKAGES = ("torch", "pytorch-lightning", "torchmetrics", "numpy", "scipy")


class Surroundings(NamedTuple):
    """What the runs of a sweep have in common.

    Attributes:
        folder: of the sweep, absolute.
        varied: keys of what is varied.
        configs: by core, what its runs share.
        commit: git commit of the directory in which the sweep was started.
    """

    folder: Path
    varied: tuple[str, ...]
    configs: Mapping[str, Mapping[str, Any]]
    commit: str


class Interrupted(KeyboardInterrupt):
    """The run was stopped from outside; started again, it goes on from its last checkpoint."""


class Task(NamedTuple):
    """One of the processes of a run.

    Attributes:
        rank: its number; the first alone records what becomes of the run.
        processes: how many there are.
        job: name of the job that they make up, another one after each requeue.
    """

    rank: int = 0
    processes: int = 1
    job: str = ""


def do_run(surroundings: Surroundings, spec: Spec, task: Task | None = None) -> None:
    """Do a run, unless it is done or another process is at it, and record what became of it.

    An error of the run is recorded and not raised. Where a run has several processes, each of them calls this.

    Args:
        surroundings: of the sweep.
        spec: the run.
        task: which process of the run this is; ``None`` where it has but one.

    Raises:
        Interrupted: if the run was stopped from outside, as by Ctrl-C or by SLURM.
        RuntimeError: in any process but the first, if the first does not begin.
    """
    task = task or Task()
    if task.rank > 0:
        _follow(surroundings, spec, task)
        return
    claim = Claim(surroundings.folder, spec.name)
    record = None
    try:
        record = _begin(surroundings, spec) if claim.take() else None
        if task.processes > 1:
            write_file(_decision(surroundings.folder, spec, task), _DECISIONS[record and record.resumed])
        if record is not None:
            write_record(surroundings.folder, _attempt(surroundings, spec, record))
            write_tables(surroundings.folder)
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
        _fit_and_test(surroundings, spec, resume=decision == _DECISIONS[True])


def _begin(surroundings: Surroundings, spec: Spec) -> Record | None:
    """Note that a run begins, in a folder from which the rest of a failed attempt is gone; ``None`` if it is done."""
    folder = surroundings.folder
    before = read_record(folder, spec.name)
    if before is not None and before.status == "done":
        return None
    interrupted = before is not None and before.status == "running"
    own = run_folder(folder, spec.name)
    # what failed once would fail again if it went on from what it left
    for left in (own / _EVALUATION, *(() if interrupted else (own / "checkpoints", own / "figures"))):
        if left.exists():
            shutil.rmtree(left)
    if not interrupted:
        for path in own.glob("events.out.tfevents.*"):
            path.unlink()
    record = Record(
        name=spec.name,
        run=_run(spec),
        status="running",
        tracebacks=() if before is None else before.tracebacks,
        resumed=interrupted and _last_checkpoint(folder, spec.name).is_file(),
        started=_now(),
        host=socket.gethostname(),
        commit=surroundings.commit,
        versions=_versions(),
        log_dir=str(run_folder(Path(), spec.name)),
    )
    write_record(folder, record)
    return record


def _attempt(surroundings: Surroundings, spec: Spec, record: Record) -> Record:
    """The record of a run once it has been tried."""
    start = time.perf_counter()
    try:
        record = _configured(surroundings, spec, record)
        write_record(surroundings.folder, record)
        found = _fit_and_test(surroundings, spec, record.resumed)
        return record._replace(
            run=record.run._replace(metrics=found.pop("metrics")),
            **found,
            status="done",
            seconds=time.perf_counter() - start,
            finished=_now(),
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
        finished=_now(),
    )


def _configured(surroundings: Surroundings, spec: Spec, record: Record) -> Record:
    """The record with what the run's configuration says, which must still be the sweep's."""
    config = read_config(spec.arguments)
    changed = differences(surroundings.configs[spec.core], shared(config, surroundings.varied))
    if changed:
        raise RuntimeError(f"the configuration was changed since the sweep began: {'; '.join(changed)}")
    size = config.get("model.hidden_size")
    run = record.run._replace(hidden_size=size if isinstance(size, int) else None)
    return record._replace(run=run, config_hash=config_hash(config))


def _fit_and_test(surroundings: Surroundings, spec: Spec, resume: bool) -> dict[str, Any]:
    """What the record holds of a run that came to its end."""
    folder = surroundings.folder
    last = _last_checkpoint(folder, spec.name)
    going_on = [f"--ckpt_path={last}"] if resume else []
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")  # of what is resumed
        # no summary: the sweep has its own row in HPARAMS for the run, and a table at its end
        fitted = run_cli(["fit", *spec.arguments, *_logging(folder, "runs", spec.name), *going_on], summary=False)
    epochs = fitted.trainer.current_epoch
    best = Path(_best_checkpoint(fitted))
    del fitted  # with its data

    metrics: dict[str, float] = {}
    logging = _logging(folder / "runs", spec.name, _EVALUATION)
    for command in ("validate", "test"):
        # their arguments say the same as the checkpoint's
        evaluated = run_cli([command, *spec.arguments, *logging, f"--ckpt_path={best}"], summary=False)
        metrics |= {key: float(value) for key, value in evaluated.trainer.callback_metrics.items()}
    _log_hparams(evaluated, spec, metrics)
    return {"metrics": metrics, "epochs": epochs, "checkpoint": os.path.relpath(best, folder)}


def _log_hparams(evaluated: ALRNNCLI, spec: Spec, metrics: Mapping[str, float]) -> None:
    """Put the run into TensorBoard's HPARAMS tab: what is varied, with the metrics that were logged beside it."""
    varied: dict[str, Any] = {"core": spec.core, "seed": spec.seed, **spec.settings}
    if spec.nonlinear_units is not None:
        varied["nonlinear_units"] = spec.nonlinear_units
    logger: Any = evaluated.trainer.logger
    logger.log_hyperparams(varied, {key: value for key, value in metrics.items() if math.isfinite(value)})
    logger.finalize("success")


def _best_checkpoint(fitted: ALRNNCLI) -> str:
    checkpoint: Any = fitted.trainer.checkpoint_callback
    path = "" if checkpoint is None else checkpoint.best_model_path or checkpoint.last_model_path
    if not path:
        raise RuntimeError(
            "training left no checkpoint to test: a sweep needs one, so leave --trainer.enable_checkpointing as it is"
        )
    return str(path)


def _run(spec: Spec) -> Run:
    """A run without its metrics."""
    return Run(spec.core, spec.nonlinear_units, spec.seed, dict(spec.settings), {})


def _decision(folder: Path, spec: Spec, task: Task) -> Path:
    return run_folder(folder, spec.name) / f"decision-{task.job}"


def _last_checkpoint(folder: Path, name: str) -> Path:
    return run_folder(folder, name) / "checkpoints" / "last.ckpt"


def _logging(save_dir: Path, name: str, version: str) -> list[str]:
    """Where a run logs. It is listed among the hyper-parameters at its end, with metrics, and not before."""
    prefix = "--trainer.logger.init_args"
    return [
        f"{prefix}.save_dir={save_dir}",
        f"{prefix}.name={name}",
        f"{prefix}.version={version}",
        f"{prefix}.default_hp_metric=false",
    ]


def find_commit() -> str:
    """Git commit of the present directory, with "+" behind it where files differ; "" where there is none."""
    try:
        commit = _git("rev-parse", "HEAD")
        return commit + ("+" if _git("status", "--porcelain", "--untracked-files=no") else "")
    except (OSError, subprocess.CalledProcessError):
        return ""  # no git, or no repository


def _git(*arguments: str) -> str:
    return subprocess.run(["git", *arguments], capture_output=True, text=True, check=True).stdout.strip()


def _versions() -> dict[str, str]:
    found = {"lightning-alrnn": lightning_alrnn.__version__, "python": platform.python_version()}
    return found | {name: metadata.version(name) for name in _PACKAGES}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
