"""What a sweep shows while it runs, from records and from what the processes say of themselves."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from pathlib import Path
from types import SimpleNamespace

import pytest

from lightning_alrnn.sweep import monitor
from lightning_alrnn.sweep.monitor import SweepMonitor
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.populations import Work, make_work
from lightning_alrnn.sweep.progress import ProgressFile, RunState
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import Record, Status, run_folder, write_record

SPECS = [Spec(f"run{seed}", "ALRNN", 0, seed, {}, ()) for seed in range(5)]
WAITING = RunState("waiting")


def record(folder: Path, seed: int, status: Status, diverged: bool = False, **metrics: float) -> None:
    named = {key.replace("_", "/", 1): value for key, value in metrics.items()}
    run = Run("ALRNN", 0, seed, {}, named, diverged)
    write_record(folder, Record(f"run{seed}", run, status, epochs=7))


def say(folder: Path, runs: Mapping[str, RunState], age: float = -1) -> None:
    """What a process says of its runs, a second after the sweep began unless it did so before."""
    folder.mkdir(parents=True, exist_ok=True)
    ProgressFile(folder).write(runs)
    moment = time.time() - age
    os.utime(folder / "progress.json", (moment, moment))


class Shown:
    """Stands for the table."""

    def __init__(self) -> None:
        self.states: dict[str, RunState] = {}
        self.lines: list[str] = []
        self.closed = False

    def show(self, states: Mapping[str, RunState]) -> None:
        self.states = dict(states)

    def write(self, line: str) -> None:
        self.lines.append(line)

    def close(self) -> None:
        self.closed = True


class Clock:
    """Seconds that go on where this says so."""

    def __init__(self) -> None:
        self.seconds = 1000.0


@pytest.fixture
def shown(monkeypatch: pytest.MonkeyPatch) -> Shown:
    made = Shown()
    monkeypatch.setattr(monitor, "LiveTable", lambda specs: made)
    return made


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(monitor, "time", SimpleNamespace(monotonic=lambda: made.seconds, time=time.time))
    return made


def test_what_is_recorded_is_shown_from_the_start(shown: Shown, tmp_path: Path) -> None:
    record(tmp_path, 0, "done", test_mse=0.25, val_mse=0.5, test_task_loss=3.0)
    record(tmp_path, 1, "failed")
    record(tmp_path, 2, "done", diverged=True)
    record(tmp_path, 3, "running")  # of another attempt
    SweepMonitor(tmp_path, SPECS)
    assert list(shown.states.values()) == [
        RunState("done", 7, 7, 0.25),
        RunState("failed", 7, 7, None),
        RunState("diverged"),
        WAITING,
        WAITING,
    ]


def test_runs_that_are_trained(shown: Shown, clock: Clock, tmp_path: Path) -> None:
    population = make_work(tmp_path, SPECS[:3])
    with SweepMonitor(tmp_path, SPECS) as watching:
        watching.poll()
        assert set(shown.states.values()) == {WAITING}
        watching.watch([population, Work((SPECS[3],)), Work((SPECS[4],))])
        runs = {
            "run0": RunState("running", 3, 20, 0.5),
            "run1": RunState("diverged", 0, 20),
            "another": RunState("running", 1, 1, 1.0),
        }
        say(population.folder(tmp_path), runs)
        say(run_folder(tmp_path, "run3"), {"run3": RunState("running", 5, 0, None)})
        say(run_folder(tmp_path, "run4"), {"run4": RunState("running", 9, 9, 0.9)}, age=60)  # by another attempt
        clock.seconds += 0.4
        watching.poll()
        assert set(shown.states.values()) == {WAITING}  # twice a second at most
        clock.seconds += 0.2
        watching.poll()
        expected = [
            RunState("running", 3, 20, 0.5),
            RunState("diverged", 0, 20),
            WAITING,
            RunState("running", 5),
            WAITING,
        ]
        assert list(shown.states.values()) == expected
        # what has ended is no longer asked
        record(tmp_path, 0, "done", test_accuracy=0.75)
        watching.ended("run0")
        say(
            population.folder(tmp_path),
            {"run0": RunState("running", 4, 20, 0.5), "run2": RunState("running", 4, 20, 0.5)},
        )
        clock.seconds += 1
        watching.poll()
        expected[0], expected[2] = RunState("done", 7, 7, 0.75), RunState("running", 4, 20, 0.5)
        assert list(shown.states.values()) == expected
        assert shown.lines == []
        assert not shown.closed
    assert shown.closed


def test_members_of_a_population_that_are_done_one_by_one(shown: Shown, clock: Clock, tmp_path: Path) -> None:
    population = make_work(tmp_path, SPECS[:2])
    watching = SweepMonitor(tmp_path, SPECS)
    watching.watch([population])
    say(population.folder(tmp_path), {name: RunState("running", 3, 20, 0.5) for name in ("run0", "run1")})
    say(run_folder(tmp_path, "run0"), {"run0": RunState("running", 1, 20, 0.25)})
    watching.poll()
    assert [shown.states[f"run{k}"].epochs for k in range(2)] == [1, 3]


def test_runs_that_have_ended(shown: Shown, tmp_path: Path) -> None:
    watching = SweepMonitor(tmp_path, SPECS[:3])
    record(tmp_path, 0, "done", test_mse=0.5)
    record(tmp_path, 1, "failed")
    record(tmp_path, 2, "running")
    record(tmp_path, 4, "failed")  # of a population that another command began
    for seed in (0, 1, 2, 4):
        watching.ended(f"run{seed}")
    watching.write("a line")
    assert shown.lines == ["run1: failed", "run2: stopped before its end", "run4: failed", "a line"]
    watching.__exit__()
    assert [state.status for state in shown.states.values()] == ["done", "failed", "stopped"]


def test_tables_are_written_once_a_minute(shown: Shown, clock: Clock, tmp_path: Path) -> None:
    watching = SweepMonitor(tmp_path, SPECS)
    rows = []
    for seed in range(5):
        record(tmp_path, seed, "done", test_mse=0.5)
        watching.ended(f"run{seed}")
        table = tmp_path / "results.csv"
        rows.append(len(table.read_text().splitlines()) - 1 if table.is_file() else 0)
        clock.seconds += 25
    assert rows == [0, 0, 0, 4, 4]
