"""Where and when the runs of a sweep are done."""

from __future__ import annotations

import itertools
import os
import random
import signal
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import misbehaving
import pytest

from lightning_alrnn.sweep import executors
from lightning_alrnn.sweep.executors import Slurm, default_jobs
from lightning_alrnn.sweep.grouping import Work, make_work, read_populations
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.run import Surroundings
from lightning_alrnn.sweep.store import Claim, Record, read_record, write_record
from lightning_alrnn.sweep.workers import start_worker


class World:
    """A sweep whose runs end after a few looks at them; it records how many were going on."""

    def __init__(self, folder: Path) -> None:
        self.surroundings = Surroundings(folder, (), {}, "")
        self.folder = folder
        self.most = 0
        self.started: list[str] = []
        self.slots: set[int] = set()
        self.reported: list[str] = []

    def ended(self, name: str) -> None:
        self.reported.append(name)

    def poll(self) -> None:
        """Nothing is shown."""

    def start(self, work: Work, slot: int) -> Any:
        assert slot not in self.slots
        self.slots.add(slot)
        self.most = max(self.most, len(self.slots))
        self.started += [spec.name for spec in work.specs]
        return _Process(self, work, slot, looks=random.Random(work.specs[0].seed).randint(0, 4))

    def work_off(self, works: Sequence[Work], slots: int) -> None:
        executors._work_off(self.surroundings, works, self.start, slots, self)


class _Process:
    exitcode = 0

    def __init__(self, world: World, work: Work, slot: int, looks: int) -> None:
        self.world, self.work, self.slot, self.looks = world, work, slot, looks

    def is_alive(self) -> bool:
        if self.looks == 0:
            self.world.slots.discard(self.slot)
            for spec in self.work.specs:
                write_record(self.world.folder, done(spec))
        self.looks -= 1
        return self.looks >= 0


def spec(seed: int) -> Spec:
    return Spec(f"run{seed}", "ALRNN", 0, seed, {}, ())


def alone(*seeds: int) -> list[Work]:
    return [Work((spec(seed),)) for seed in seeds]


def done(spec: Spec) -> Record:
    return Record(spec.name, Run("ALRNN", 0, spec.seed, {}, {"test/mse": 1.0}), "done")


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> World:
    monkeypatch.setattr(executors, "_POLL_SECONDS", 0.001)
    return World(tmp_path)


@pytest.fixture
def at_look(monkeypatch: pytest.MonkeyPatch) -> dict[int, Callable[[], None]]:
    """What happens elsewhere, by the number of times that the sweep has looked."""
    events: dict[int, Callable[[], None]] = {}
    looks = itertools.count()
    monkeypatch.setattr(time, "sleep", lambda seconds: events.get(next(looks), lambda: None)())
    return events


def claim_of(world: World, name: str) -> Claim:
    claim = Claim(world.folder, name)
    assert claim.take()
    return claim


@pytest.mark.parametrize("slots", [1, 2, 5, 40])
def test_each_run_is_started_once_and_never_more_than_there_are_slots(world: World, slots: int) -> None:
    write_record(world.folder, done(spec(3)))
    world.work_off(alone(*range(20)), slots)
    assert world.started == [f"run{seed}" for seed in range(20) if seed != 3]
    assert sorted(world.reported) == sorted(f"run{seed}" for seed in range(20))
    assert world.most == min(slots, 19)


def test_a_run_that_another_sweep_is_doing_is_waited_for(world: World, at_look: Any) -> None:
    ended, stopped = claim_of(world, "run0"), claim_of(world, "run1")
    # the two occupy both slots until one of them is done by the other sweep; the second one is given up
    at_look[5] = lambda: (before.extend(world.started), write_record(world.folder, done(spec(0))), ended.release())
    at_look[10] = stopped.release
    before: list[str] = []
    world.work_off(alone(0, 1, 2), slots=2)
    assert before == []
    assert world.started == ["run2", "run1"]
    assert sorted(world.reported) == ["run0", "run1", "run2"]


def test_what_is_left_of_a_population_that_another_sweep_had(world: World, at_look: Any) -> None:
    population = make_work(world.folder, [spec(seed) for seed in range(3)])
    assert read_populations(world.folder) == [population]
    claim = claim_of(world, "run1")
    at_look[5] = lambda: (write_record(world.folder, done(spec(1))), claim.release())
    world.work_off([population, *alone(3)], slots=2)
    assert world.started == ["run3", "run0", "run2"]
    assert sorted(world.reported) == ["run0", "run1", "run2", "run3"]
    assert read_populations(world.folder) == []


def test_a_work_that_gave_way_to_another_sweep_is_tried_again(world: World) -> None:
    start, times = world.start, iter(range(1000))

    def give_way(work: Work, slot: int) -> Any:
        return start(work, slot) if next(times) > 0 else None  # the other has given way, too, and has no claim any more

    executors._work_off(world.surroundings, [make_work(world.folder, [spec(0), spec(1)])], give_way, 1, world)
    assert world.reported == ["run0", "run1"]
    assert all(read_record(world.folder, name) == done(spec(k)) for k, name in enumerate(world.reported))


def test_an_interrupt_ends_what_runs(world: World, at_look: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    at_look[0] = lambda: signal.default_int_handler(signal.SIGINT, None)
    monkeypatch.setattr(random.Random, "randint", lambda self, low, high: 10)
    ended: list[str] = []
    monkeypatch.setattr(executors, "_end", lambda processes: ended.extend(one.work.specs[0].name for one in processes))
    with pytest.raises(KeyboardInterrupt):
        world.work_off(alone(*range(5)), slots=2)
    assert world.started == ended == ["run0", "run1"]


def test_workers_end_by_an_interrupt_or_else_are_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "_ENDING_SECONDS", 1)
    heeding = start_worker(partial(time.sleep, 600), tmp_path / "heeding", [])
    going_on = start_worker(misbehaving.ignore_interrupts, tmp_path / "going_on", [])
    while not ((tmp_path / "going_on").is_file() and (tmp_path / "going_on").read_text()):
        time.sleep(0.01)
    executors._end([heeding, going_on])
    assert "KeyboardInterrupt" in (tmp_path / "heeding").read_text()
    for process in (heeding, going_on):
        process.join(10)
        assert not process.is_alive()


@pytest.mark.parametrize(("accelerator", "gpus", "jobs"), [("auto", 97, 97), ("cpu", 97, None), ("auto", 0, None)])
def test_default_jobs(accelerator: str, gpus: int, jobs: int | None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "visible_gpus", lambda: ["GPU"] * gpus)
    assert default_jobs(accelerator) == (jobs or len(os.sched_getaffinity(0)))


def test_each_worker_has_a_gpu(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(executors, "visible_gpus", lambda: ["GPU-1a", "GPU-2b"])
    seen: dict[str, Sequence[str]] = {}

    def start(work: Any, log: Path, gpus: Sequence[str]) -> Any:
        seen[log.parent.name] = gpus
        return world.start(work.args[1], len(seen))

    monkeypatch.setattr(executors, "start_worker", start)
    executors.run_local(world.surroundings, alone(0, 1, 2), 3, world)
    assert seen == {"run0": ["GPU-1a"], "run1": ["GPU-2b"], "run2": ["GPU-1a"]}  # two share one


def test_an_array_of_jobs_for_slurm(world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for name, script in {
        "sbatch": f'cat "$1" > {tmp_path}/script; echo Submitted batch job 17',
        "srun": "exit 0",
        "squeue": f"cat {tmp_path}/queue 2>/dev/null || exit 0",
    }.items():
        (bin_folder / name).write_text(f"#!/bin/sh\n{script}\n")
        (bin_folder / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{bin_folder}{os.pathsep}{os.environ['PATH']}")
    write_record(world.folder, done(spec(1)))
    works = alone(0, 1, 2)
    slurm = Slurm("gpu", 90, 2, 3, 1, {"account": "lab", "cpus_per_task": "4"})
    executors.run_slurm(world.surroundings, works, slurm, world)
    flags = set((tmp_path / "script").read_text().splitlines())
    # what is done is not submitted
    expected = "array=0-1%1 partition=gpu time=90 nodes=3 gpus-per-node=2 ntasks-per-node=2 account=lab cpus-per-task=4"
    assert {f"#SBATCH --{option}" for option in expected.split()} <= flags
    assert any("export SRUN_CPUS_PER_TASK=" in flag for flag in flags)
    assert sorted(world.reported) == ["run0", "run2"]
    assert executors.slurm_jobs(world.folder, works) == ["17_0", "17_1"]

    # while the jobs are in the queue they are not submitted again
    (tmp_path / "script").unlink()
    (tmp_path / "queue").write_text("PENDING\n")
    watched: list[Work] = []
    monkeypatch.setattr(executors, "_watch", lambda running, monitor: watched.extend(work for work, _ in running))
    executors.run_slurm(world.surroundings, works, slurm, world)
    assert watched == [works[0], works[2]]
    assert not (tmp_path / "script").exists()


def test_slurm_is_missing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(ValueError, match=r"--executor slurm: .*srun"):
        executors.run_slurm(world.surroundings, alone(0), Slurm(None, 60, 0, 1, None, {}), world)
