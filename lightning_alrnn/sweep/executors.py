"""Train the runs of a sweep in this process, in processes of this machine, or in SLURM jobs."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple

import submitit
from submitit.core.utils import DelayedSubmission

from lightning_alrnn.files import write_file
from lightning_alrnn.sweep.gpus import visible_gpus
from lightning_alrnn.sweep.grouping import Work
from lightning_alrnn.sweep.live import SweepMonitor
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.run import Surroundings, Task
from lightning_alrnn.sweep.run_population import do_work
from lightning_alrnn.sweep.store import LOG, Claim, read_record
from lightning_alrnn.sweep.workers import start_worker

_POLL_SECONDS = 0.02
_ENDING_SECONDS = 20
_SLURM_JOB = "slurm_job"


class Slurm(NamedTuple):
    """Settings of SLURM jobs."""

    partition: str | None  # name, or ``None`` for the default of the cluster
    minutes: int  # time limit of a job, after which it is requeued and resumes
    gpus: int  # number per run and node, each with its own process; 0 for none
    nodes: int  # number per run
    jobs: int | None  # number of jobs at a time, or ``None`` for no limit
    more: Mapping[str, str]  # further options of ``sbatch``, without dashes


def run_inline(surroundings: Surroundings, works: Sequence[Work], monitor: SweepMonitor) -> None:
    """Train the runs in this process, one work after the other."""

    def start(work: Work, slot: int) -> None:
        do_work(surroundings, work)

    _work_off(surroundings, works, start, 1, monitor)


def run_local(surroundings: Surroundings, works: Sequence[Work], jobs: int, monitor: SweepMonitor) -> None:
    """Train the runs in processes of this machine, each with one thread and one GPU, if there are GPUs."""
    gpus = visible_gpus()

    def start(work: Work, slot: int) -> BaseProcess:
        log = work.folder(surroundings.folder) / LOG
        return start_worker(partial(do_work, surroundings, work), log, [gpus[slot % len(gpus)]] if gpus else [])

    _work_off(surroundings, works, start, jobs, monitor)


def run_slurm(surroundings: Surroundings, works: Sequence[Work], slurm: Slurm, monitor: SweepMonitor) -> None:
    """Submit the works as a job array, except those that are in the queue, and wait for them."""
    folder = surroundings.folder
    try:
        executor = submitit.SlurmExecutor(folder / "jobs")
    except RuntimeError as error:
        raise ValueError(f"--executor slurm: {error} Use it on a machine with `sbatch` and `srun`") from None
    undone = [work for work in works if not work.is_done(folder)]
    queued = [(work, job) for work in undone if (job := queued_job(folder, work)) is not None]
    new = [work for work in undone if all(work != other for other, _ in queued)]
    if new:
        executor.update_parameters(**_slurm_parameters(slurm))
        with executor.batch():
            submitted = [executor.submit(_Call(surroundings, work)) for work in new]
        for work, submission in zip(new, submitted, strict=True):
            write_file(work.folder(folder) / _SLURM_JOB, submission.job_id)
            queued.append((work, _SlurmJob(submission.job_id)))
    _watch(queued, monitor)


def slurm_jobs(folder: Path, works: Sequence[Work]) -> list[str]:
    """Sorted ids of the jobs of works that are not done."""
    paths = [work.folder(folder) / _SLURM_JOB for work in works if not work.is_done(folder)]
    return sorted({path.read_text().strip() for path in paths if path.is_file()})


def default_jobs(accelerator: str) -> int:
    """Default number of processes at a time: one per GPU, if they use GPUs, otherwise one per core."""
    gpus = visible_gpus() if accelerator != "cpu" else []
    return len(gpus) or len(os.sched_getaffinity(0))


@dataclass
class _Call:
    """A work that submitit can call; after a requeue it resumes from its last checkpoint."""

    surroundings: Surroundings
    work: Work

    def __call__(self) -> None:
        place = submitit.JobEnvironment()
        job = f"{place.job_id}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"
        do_work(self.surroundings, self.work, Task(place.global_rank, place.num_tasks, job))

    def checkpoint(self) -> DelayedSubmission:
        """The submission that replaces a job that SLURM ends early."""
        return DelayedSubmission(self)


class _SlurmJob:
    """A job of any user by its id."""

    _seconds = 10  # minimum time between two requests to the scheduler

    def __init__(self, job_id: str) -> None:
        self._id = job_id
        self._asked = -float("inf")
        self._done = False

    def done(self) -> bool:
        if not self._done and time.monotonic() - self._asked > self._seconds:
            self._asked = time.monotonic()
            answer = subprocess.run(
                ["squeue", "--noheader", "--format=%T", f"--jobs={self._id}"], capture_output=True, text=True
            )
            # a job that left the queue long ago gives this error; an overloaded scheduler may give another one
            self._done = not answer.stdout.strip() and (answer.returncode == 0 or "Invalid job id" in answer.stderr)
        return self._done


def queued_job(folder: Path, work: Work) -> _SlurmJob | None:
    """The waiting or running SLURM job of a work."""
    path = work.folder(folder) / _SLURM_JOB
    job = _SlurmJob(path.read_text().strip()) if path.is_file() else None
    return None if job is None or job.done() else job


def _work_off(
    surroundings: Surroundings,
    works: Sequence[Work],
    start: Callable[[Work, int], BaseProcess | None],
    slots: int,
    monitor: SweepMonitor,
) -> None:
    """Start works as slots become free, until all runs are done, here or by another sweep on this machine or not."""
    folder = surroundings.folder
    waiting = deque(works)
    elsewhere: list[Work] = []
    running: dict[int, tuple[Work, BaseProcess | None]] = {}
    host = socket.gethostname()
    try:
        while waiting or running or elsewhere:
            for slot, (work, process) in list(running.items()):
                if not _is_alive(process):
                    del running[slot]
                    # the work is done, or another sweep has or had it
                    if process is None or process.exitcode == 0 or _holders(folder, work):
                        elsewhere.append(work)
                    else:
                        _tell(monitor, work.specs)
            for work in list(elsewhere):
                if not _holders(folder, work):
                    elsewhere.remove(work)
                    unfinished = [spec for spec in work.specs if not _has_ended(folder, spec)]
                    _tell(monitor, [spec for spec in work.specs if spec not in unfinished])
                    if unfinished:  # the other sweep was stopped
                        waiting.append(work.only(unfinished, folder))
            beside = sum(host in _holders(folder, work) for work in elsewhere)
            while waiting and len(running) + beside < slots:
                work = waiting.popleft()
                if work.is_done(folder):
                    _tell(monitor, work.specs)
                elif holders := _holders(folder, work):
                    elsewhere.append(work)
                    beside += host in holders
                else:
                    slot = next(slot for slot in range(slots) if slot not in running)
                    running[slot] = (work, start(work, slot))
            monitor.poll()
            if any(_is_alive(process) for _, process in running.values()) or (elsewhere and not running):
                time.sleep(_POLL_SECONDS)
    finally:
        _end([process for _, process in running.values() if process is not None])


def _watch(running: Sequence[tuple[Work, _SlurmJob]], monitor: SweepMonitor) -> None:
    """Wait until jobs have ended."""
    pending = list(running)
    while pending:
        for work, job in list(pending):
            if job.done():
                pending.remove((work, job))
                _tell(monitor, work.specs)
        monitor.poll()
        time.sleep(_POLL_SECONDS)


def _tell(monitor: SweepMonitor, specs: Sequence[Spec]) -> None:
    for spec in specs:
        monitor.ended(spec.name)


def _is_alive(process: BaseProcess | None) -> bool:
    return process is not None and process.is_alive()


def _end(processes: Sequence[BaseProcess]) -> None:
    """Stop processes, which write a checkpoint, and wait for them; kill those that do not end in time."""
    for process in processes:
        process.terminate()
    until = time.monotonic() + _ENDING_SECONDS
    while any(map(_is_alive, processes)) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    for process in processes:
        process.kill()


def _holders(folder: Path, work: Work) -> set[str]:
    """Machines that train runs of a work."""
    holders = (Claim(folder, spec.name).holder() for spec in work.specs)
    return {holder[0] for holder in holders if holder is not None}


def _has_ended(folder: Path, spec: Spec) -> bool:
    record = read_record(folder, spec.name)
    return record is not None and record.status != "running"


def _slurm_parameters(slurm: Slurm) -> dict[str, Any]:
    parameters = {
        "job_name": "alrnn-sweep",
        "partition": slurm.partition,
        "time": slurm.minutes,
        "nodes": slurm.nodes,
        "ntasks_per_node": max(slurm.gpus, 1),
        "gpus_per_node": slurm.gpus or None,
        "array_parallelism": slurm.jobs,
        "additional_parameters": dict(slurm.more),
        # since version 22.05, srun does not inherit it from sbatch
        "setup": ['[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'],
    }
    return {name: value for name, value in parameters.items() if value is not None}
