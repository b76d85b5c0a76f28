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
from typing import Any, NamedTuple

import submitit
import torch
from submitit.core.utils import DelayedSubmission

from lightning_alrnn.files import write_file
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.run import Surroundings, Task, do_run
from lightning_alrnn.sweep.store import LOG, Claim, is_done, read_record, run_folder
from lightning_alrnn.sweep.workers import start_worker

_POLL_SECONDS = 0.02
_ENDING_SECONDS = 20
_SLURM_JOB = "slurm_job"


class Slurm(NamedTuple):
    """Settings of runs in jobs of SLURM.

    Attributes:
        partition: name, or ``None`` for the cluster's default.
        minutes: time limit of a run, after which it is requeued and goes on.
        gpus: for each run and node, 0 for none; each has a process of its own.
        nodes: for each run.
        jobs: how many run at a time, or ``None`` for as many as SLURM lets.
        more: further options of ``sbatch``, without the dashes before them.
    """

    partition: str | None
    minutes: int
    gpus: int
    nodes: int
    jobs: int | None
    more: Mapping[str, str]


Report = Callable[[str], None]


def run_inline(surroundings: Surroundings, specs: Sequence[Spec], report: Report) -> None:
    """Do runs one after the other in this process.

    Args:
        surroundings: of the sweep.
        specs: the runs; those that are done are passed over.
        report: is told the name of each as it ends.
    """

    def start(spec: Spec, slot: int) -> None:
        do_run(surroundings, spec)

    _work_off(surroundings, specs, start, 1, report)


def run_local(surroundings: Surroundings, specs: Sequence[Spec], jobs: int, report: Report) -> None:
    """Do runs in processes of this machine, one for each, with one thread and one GPU where there is any.

    Runs that another sweep is doing in the same folder on this machine count among those that run at a time.

    Args:
        surroundings: of the sweep.
        specs: the runs; those that are done are passed over.
        jobs: how many run at a time.
        report: is told the name of each as it ends.
    """
    gpus = _visible_gpus()

    def start(spec: Spec, slot: int) -> BaseProcess:
        log = run_folder(surroundings.folder, spec.name) / LOG
        return start_worker(partial(do_run, surroundings, spec), log, [gpus[slot % len(gpus)]] if gpus else [])

    _work_off(surroundings, specs, start, jobs, report)


def run_slurm(surroundings: Surroundings, specs: Sequence[Spec], slurm: Slurm, report: Report) -> None:
    """Submit runs as one job array and wait for them. What is in the queue already is not submitted again.

    Args:
        surroundings: of the sweep.
        specs: the runs; those that are done are passed over.
        slurm: settings.
        report: is told the name of each as it ends.

    Raises:
        ValueError: if this is no machine from which jobs can be submitted.
    """
    folder = surroundings.folder
    try:
        executor = submitit.SlurmExecutor(folder / "jobs")
    except RuntimeError as error:
        raise ValueError(f"--executor slurm: {error} Use it where `sbatch` and `srun` are found") from None
    undone = [spec for spec in specs if not is_done(folder, spec.name)]
    queued: dict[str, _SlurmJob] = {}
    new: list[Spec] = []
    for spec in undone:
        path = run_folder(folder, spec.name) / _SLURM_JOB
        before = _SlurmJob(path.read_text().strip()) if path.is_file() else None
        if before is not None and not before.done():
            queued[spec.name] = before
        else:
            new.append(spec)
    if new:
        executor.update_parameters(**_slurm_parameters(slurm))
        with executor.batch():
            jobs = [executor.submit(_Call(surroundings, spec)) for spec in new]
        for spec, job in zip(new, jobs, strict=True):
            write_file(run_folder(folder, spec.name) / _SLURM_JOB, job.job_id.encode())
            queued[spec.name] = _SlurmJob(job.job_id)
    _watch(queued, report)


def slurm_jobs(folder: Path, specs: Sequence[Spec]) -> list[str]:
    """Ids of the jobs of runs that are not done.

    Args:
        folder: of the sweep.
        specs: the runs.

    Returns:
        Each id once, sorted as text.
    """
    paths = [run_folder(folder, spec.name) / _SLURM_JOB for spec in specs if not is_done(folder, spec.name)]
    return sorted({path.read_text().strip() for path in paths if path.is_file()})


def default_jobs(accelerator: str) -> int:
    """How many runs at a time: one a GPU where they use any, else one a core.

    Args:
        accelerator: as ``trainer.accelerator``.

    Returns:
        At least 1.
    """
    gpus = _visible_gpus() if accelerator != "cpu" else []
    return len(gpus) or len(os.sched_getaffinity(0))


class _Call:
    """A run, as submitit calls it; requeued, it goes on from its last checkpoint."""

    def __init__(self, surroundings: Surroundings, spec: Spec) -> None:
        self.surroundings = surroundings
        self.spec = spec

    def __call__(self) -> None:
        place = submitit.JobEnvironment()
        job = f"{place.job_id}-{os.environ.get('SLURM_RESTART_COUNT', '0')}"
        do_run(self.surroundings, self.spec, Task(place.global_rank, place.num_tasks, job))

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


def _work_off(
    surroundings: Surroundings,
    specs: Sequence[Spec],
    start: Callable[[Spec, int], BaseProcess | None],
    slots: int,
    report: Report,
) -> None:
    """Start runs as slots become free, until none is left that is not done, also by another sweep.

    A run without a process of its own has ended when it has been started.
    """
    folder = surroundings.folder
    waiting = deque(specs)
    elsewhere: dict[str, Spec] = {}
    running: dict[int, tuple[Spec, BaseProcess | None]] = {}
    host = socket.gethostname()
    try:
        while waiting or running or elsewhere:
            for slot, (spec, process) in list(running.items()):
                if not _is_alive(process):
                    del running[slot]
                    if _holder(folder, spec):  # another sweep was faster, or the process was left by its parent
                        elsewhere[spec.name] = spec
                    else:
                        report(spec.name)
            for name, spec in list(elsewhere.items()):
                if not _holder(folder, spec):
                    del elsewhere[name]
                    record = read_record(folder, name)
                    if record is None or record.status == "running":
                        waiting.append(spec)  # whoever had it was stopped
                    else:
                        report(name)
            beside = sum((_holder(folder, spec) or ("", 0))[0] == host for spec in elsewhere.values())
            while waiting and len(running) + beside < slots:
                spec = waiting.popleft()
                if is_done(folder, spec.name):
                    report(spec.name)
                elif holder := _holder(folder, spec):
                    elsewhere[spec.name] = spec
                    beside += holder[0] == host
                else:
                    slot = next(slot for slot in range(slots) if slot not in running)
                    running[slot] = (spec, start(spec, slot))
            if any(_is_alive(process) for _, process in running.values()) or (elsewhere and not running):
                time.sleep(_POLL_SECONDS)
    finally:
        _end([process for _, process in running.values() if process is not None])


def _watch(running: dict[str, _SlurmJob], report: Report) -> None:
    """Wait for jobs that start by themselves."""
    while running:
        for name, job in list(running.items()):
            if job.done():
                del running[name]
                report(name)
        time.sleep(_POLL_SECONDS)


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


def _holder(folder: Path, spec: Spec) -> tuple[str, int] | None:
    return Claim(folder, spec.name).holder()


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


def _visible_gpus() -> list[int]:
    """Numbers of the GPUs, as CUDA_VISIBLE_DEVICES has them."""
    given = os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",")
    if all(number.strip().isdigit() for number in given):
        return [int(number) for number in given][: torch.cuda.device_count()]
    return list(range(torch.cuda.device_count()))
