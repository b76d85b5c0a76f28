"""Where the runs of a sweep are done: in this process, in processes of this machine, or in jobs of SLURM."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import submitit
from submitit.core.utils import DelayedSubmission

from lightning_alrnn.files import write_file
from lightning_alrnn.sweep.gpus import visible_gpus
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.populations import Work
from lightning_alrnn.sweep.run import Surroundings, Task
from lightning_alrnn.sweep.run_population import do_work
from lightning_alrnn.sweep.store import LOG, Claim, is_done, read_record
from lightning_alrnn.sweep.workers import start_worker

_POLL_SECONDS = 0.02
_ENDING_SECONDS = 20
_SLURM_JOB = "slurm_job"


class Slurm(NamedTuple):
    """Settings of runs in jobs of SLURM."""

    partition: str | None  # name, or ``None`` for the cluster's default
    minutes: int  # time limit of a job, after which it is requeued and goes on
    gpus: int  # for each run and node, 0 for none; each has a process of its own
    nodes: int  # for each run
    jobs: int | None  # how many run at a time, or ``None`` for as many as SLURM lets
    more: Mapping[str, str]  # further options of ``sbatch``, without the dashes before them


class Monitor(Protocol):
    """Whoever is told how a sweep gets on."""

    def ended(self, name: str) -> None:
        """Hear that a run has ended, however that was."""

    def poll(self) -> None:
        """Some time has passed; called many times a second."""


def run_inline(surroundings: Surroundings, works: Sequence[Work], monitor: Monitor) -> None:
    """Do runs in this process, one work after the other."""

    def start(work: Work, slot: int) -> None:
        do_work(surroundings, work)

    _work_off(surroundings, works, start, 1, monitor)


def run_local(surroundings: Surroundings, works: Sequence[Work], jobs: int, monitor: Monitor) -> None:
    """Do runs in processes of this machine, one for each work, with one thread and one GPU where there is any.

    Works that another sweep is doing in the same folder on this machine count among those that are done at a time.
    """
    gpus = visible_gpus()

    def start(work: Work, slot: int) -> BaseProcess:
        log = work.folder(surroundings.folder) / LOG
        return start_worker(partial(do_work, surroundings, work), log, [gpus[slot % len(gpus)]] if gpus else [])

    _work_off(surroundings, works, start, jobs, monitor)


def run_slurm(surroundings: Surroundings, works: Sequence[Work], slurm: Slurm, monitor: Monitor) -> None:
    """Submit works as one job array and wait for them. What is in the queue already is not submitted again."""
    folder = surroundings.folder
    try:
        executor = submitit.SlurmExecutor(folder / "jobs")
    except RuntimeError as error:
        raise ValueError(f"--executor slurm: {error} Use it where `sbatch` and `srun` are found") from None
    undone = [work for work in works if not _is_done(folder, work)]
    queued = [(work, job) for work in undone if (job := _queued_job(folder, work)) is not None]
    new = [work for work in undone if all(work != other for other, _ in queued)]
    if new:
        executor.update_parameters(**_slurm_parameters(slurm))
        with executor.batch():
            submitted = [executor.submit(_Call(surroundings, work)) for work in new]
        for work, job_id in zip(new, [job.job_id for job in submitted], strict=True):
            write_file(work.folder(folder) / _SLURM_JOB, job_id)
            queued.append((work, _SlurmJob(job_id)))
    _watch(queued, monitor)


def is_queued(folder: Path, work: Work) -> bool:
    """Whether SLURM has a job for a work, waiting or running."""
    return _queued_job(folder, work) is not None


def slurm_jobs(folder: Path, works: Sequence[Work]) -> list[str]:
    """Ids of the jobs of works that are not done, each once."""
    paths = [work.folder(folder) / _SLURM_JOB for work in works if not _is_done(folder, work)]
    return sorted({path.read_text().strip() for path in paths if path.is_file()})


def default_jobs(accelerator: str) -> int:
    """How many runs at a time: one a GPU where they use any, else one a core."""
    gpus = visible_gpus() if accelerator != "cpu" else []
    return len(gpus) or len(os.sched_getaffinity(0))


class _Call:
    """A work, as submitit calls it; requeued, it goes on from its last checkpoint."""

    def __init__(self, surroundings: Surroundings, work: Work) -> None:
        self.surroundings = surroundings
        self.work = work

    def __call__(self) -> None:
        place = submitit.JobEnvironment()
        job = f"{place.job_id}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"
        do_work(self.surroundings, self.work, Task(place.global_rank, place.num_tasks, job))

    def checkpoint(self) -> DelayedSubmission:
        """What is submitted again where SLURM ends the job before its time."""
        return DelayedSubmission(self)


class _SlurmJob:
    """A job by its id, whoever submitted it."""

    _seconds = 10  # between two questions to the scheduler

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
            # a job that has long left the queue is an error; so might be an overloaded scheduler, which says otherwise
            self._done = not answer.stdout.strip() and (answer.returncode == 0 or "Invalid job id" in answer.stderr)
        return self._done


def _queued_job(folder: Path, work: Work) -> _SlurmJob | None:
    path = work.folder(folder) / _SLURM_JOB
    job = _SlurmJob(path.read_text().strip()) if path.is_file() else None
    return None if job is None or job.done() else job


def _work_off(
    surroundings: Surroundings,
    works: Sequence[Work],
    start: Callable[[Work, int], BaseProcess | None],
    slots: int,
    monitor: Monitor,
) -> None:
    """Start works as slots become free, until no run is left that is not done, also by another sweep.

    A work without a process of its own has ended when it has been started.
    """
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
                    # it is done, or another sweep was faster, whether or not that has it still
                    if process is None or process.exitcode == 0 or _holders(folder, work):
                        elsewhere.append(work)
                    else:
                        _tell(monitor, work.specs)
            for work in list(elsewhere):
                if not _holders(folder, work):
                    elsewhere.remove(work)
                    left = [spec for spec in work.specs if not _has_ended(folder, spec)]
                    _tell(monitor, [spec for spec in work.specs if spec not in left])
                    if left:  # whoever had them was stopped
                        waiting.append(work.only(left, folder))
            beside = sum(host in _holders(folder, work) for work in elsewhere)
            while waiting and len(running) + beside < slots:
                work = waiting.popleft()
                if _is_done(folder, work):
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


def _watch(running: Sequence[tuple[Work, _SlurmJob]], monitor: Monitor) -> None:
    """Wait for jobs that start by themselves."""
    left = list(running)
    while left:
        for work, job in list(left):
            if job.done():
                left.remove((work, job))
                _tell(monitor, work.specs)
        monitor.poll()
        time.sleep(_POLL_SECONDS)


def _tell(monitor: Monitor, specs: Sequence[Spec]) -> None:
    for spec in specs:
        monitor.ended(spec.name)


def _is_alive(process: BaseProcess | None) -> bool:
    return process is not None and process.is_alive()


def _end(processes: Sequence[BaseProcess]) -> None:
    """Interrupt processes that still run and wait for them; one that does not heed that is killed."""
    for process in processes:
        if process.is_alive() and process.pid is not None:
            os.kill(process.pid, signal.SIGINT)
    until = time.monotonic() + _ENDING_SECONDS
    while any(map(_is_alive, processes)) and time.monotonic() < until:
        time.sleep(_POLL_SECONDS)
    for process in processes:
        process.kill()


def _holders(folder: Path, work: Work) -> set[str]:
    """Machines that have runs of a work."""
    holders = (Claim(folder, spec.name).holder() for spec in work.specs)
    return {holder[0] for holder in holders if holder is not None}


def _is_done(folder: Path, work: Work) -> bool:
    return all(is_done(folder, spec.name) for spec in work.specs)


def _has_ended(folder: Path, spec: Spec) -> bool:
    record = read_record(folder, spec.name)
    return record is not None and record.status != "running"


def _slurm_parameters(slurm: Slurm) -> dict[str, Any]:
    parameters: dict[str, Any] = {
        "job_name": "alrnn-sweep",
        "time": slurm.minutes,
        "nodes": slurm.nodes,
        "ntasks_per_node": max(slurm.gpus, 1),
        "additional_parameters": dict(slurm.more),
        # since version 22.05 srun does not take it from sbatch
        "setup": ['[ -z "$SLURM_CPUS_PER_TASK" ] || export SRUN_CPUS_PER_TASK="$SLURM_CPUS_PER_TASK"'],
    }
    if slurm.partition is not None:
        parameters["partition"] = slurm.partition
    if slurm.gpus:
        parameters["gpus_per_node"] = slurm.gpus
    if slurm.jobs is not None:
        parameters["array_parallelism"] = slurm.jobs
    return parameters
