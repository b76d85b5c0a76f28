"""A sweep of populations that is hunted ends with the records of one that was left alone, bit for bit.

A run whose record was damaged after its population had ended is trained by itself, as in a sweep without populations.
"""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from functools import partial
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest
import torch
from command_runs import ADDITION, CPU, exit_code
from disks import mounted_disk
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_alrnn.commands import sweep as command
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import read_records
from lightning_alrnn.sweep.workers import start_worker

EPOCHS = 20
TRAINING = ["--data.train_size=64", "--model.hidden_size=6", "--model.initial_state=uniform"]
TRAINING += [f"--trainer.max_epochs={EPOCHS}", "--trainer.num_sanity_val_steps=0"]
SWEEP = [*ADDITION, *CPU, *TRAINING, "--trainer.callbacks=RegimeOccupancy", "--nonlinear_units=0,6", "--seeds=2"]
TWO_POPULATIONS = ["--population=2", "--executor=inline"]


def sweep(folder: Path, options: list[str]) -> None:
    """The command in a process group of its own, without the pages at its end."""
    os.setpgid(0, 0)
    command._report = lambda *_, **__: False
    raise SystemExit(exit_code("sweep", *SWEEP, f"--output_dir={folder}", *options))


def begin(folder: Path, options: list[str] = TWO_POPULATIONS) -> BaseProcess:
    return start_worker(partial(sweep, folder, options), folder.with_suffix(".log"), [])


def end(process: BaseProcess) -> int | None:
    process.join(120)
    return process.exitcode


class Result:
    """What a sweep leaves."""

    def __init__(self, folder: Path) -> None:
        self.runs: list[Run] = []
        self.populations: list[str] = []
        self.weights: list[list[torch.Tensor]] = []
        for record in read_records(folder):
            assert (record.status, record.epochs) == ("done", EPOCHS)
            self.runs.append(record.run)
            self.populations.append(record.population)
            self.weights.append([])
            checkpoints = folder / record.log_dir / "checkpoints"
            for path in (checkpoints / "last.ckpt", folder / record.checkpoint):
                self.weights[-1] += torch.load(path, weights_only=True)["state_dict"].values()
            events = EventAccumulator(str(folder / record.log_dir)).Reload()
            assert [event.step for event in events.Scalars("val/mse")] == [4 * epoch + 3 for epoch in range(EPOCHS)]
            assert len(events.Scalars("test/mse")) == 1
        assert len(self.runs) == 4
        assert not [path for path in folder.rglob(".*") if "-" in path.name]  # what a kill leaves
        assert not list((folder / "populations").rglob("last.ckpt"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> tuple[Result, float]:
    """A sweep that is left alone, and its seconds."""
    folder = tmp_path_factory.mktemp("hunt") / "alone"
    start = time.monotonic()
    assert end(begin(folder)) == 0
    return Result(folder), time.monotonic() - start


@pytest.fixture(scope="module")
def singles(tmp_path_factory: pytest.TempPathFactory) -> Result:
    """A sweep that is left alone and has no populations."""
    folder = tmp_path_factory.mktemp("hunt") / "singles"
    assert end(begin(folder, ["--population=off", "--executor=inline"])) == 0
    return Result(folder)


def check(folder: Path, alone: Result, singles: Result | None = None) -> None:
    """Finish the sweep and compare; runs without a population with those of ``singles``."""
    assert end(begin(folder)) == 0, folder.with_suffix(".log").read_text()[-3000:]
    hunted = Result(folder)
    assert all(record.tracebacks == () for record in read_records(folder))
    for k, population in enumerate(hunted.populations):
        expected = alone if population or singles is None else singles
        assert population == expected.populations[k]
        assert hunted.runs[k] == expected.runs[k]
        assert all(map(torch.equal, hunted.weights[k], expected.weights[k]))


def hunt(process: BaseProcess, seconds: float, number: int) -> None:
    """Send a signal to the whole group after a while, if it still runs."""
    process.join(seconds)
    if process.exitcode is None:
        os.killpg(process.pid or 0, number)
        process.join(60)


def damage(folder: Path, draw: random.Random) -> None:
    """Truncate, empty or change a file that a restart reads."""
    names = ("populations/*/last.ckpt", "populations/*/members.json", "runs/*/record.json")
    files = sorted(path for name in names for path in folder.glob(name))
    if files:
        path = draw.choice(files)
        content = bytearray(path.read_bytes())
        place = draw.randrange(len(content))
        if draw.random() < 0.5:
            content[place] ^= 1 << draw.randrange(8)
        path.write_bytes(content if draw.random() < 0.5 else content[:place])


def test_a_signal_in_the_first_population_and_another_in_the_second(
    alone: tuple[Result, float], tmp_path: Path
) -> None:
    folder = tmp_path / "hunted"
    before: set[Path] = set()
    for number in (signal.SIGKILL, signal.SIGTERM):
        process = begin(folder)
        while not (begun := {*folder.glob("populations/*/last.ckpt")} - before):
            assert process.is_alive(), folder.with_suffix(".log").read_text()[-3000:]
            time.sleep(0.01)
        before |= begun
        assert process.is_alive()
        hunt(process, 0, number)
        assert all(path.is_file() for path in begun)  # training has not come to its end
    check(folder, alone[0])


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_signals_to_the_group(number: int, alone: tuple[Result, float], tmp_path: Path) -> None:
    draw = random.Random(10)
    folder = tmp_path / "hunted"
    for _ in range(10):
        hunt(begin(folder), draw.uniform(0.1, 1.0) * alone[1], number)
    check(folder, alone[0])


@pytest.mark.slow
def test_sigterm_to_runs_with_workers_of_data_loaders(tmp_path: Path) -> None:
    options = ["--population=off", "--executor=inline", "--data.num_workers=2"]
    start = time.monotonic()
    assert end(begin(tmp_path / "alone", options)) == 0
    seconds = time.monotonic() - start
    draw = random.Random(2)
    folder = tmp_path / "hunted"
    for _ in range(8):
        hunt(begin(folder, options), draw.uniform(0.1, 0.5) * seconds, signal.SIGTERM)
        assert all(record.tracebacks == () for record in read_records(folder))
    assert end(begin(folder, options)) == 0
    alone, hunted = Result(tmp_path / "alone"), Result(folder)
    assert hunted.runs == alone.runs
    for one, other in zip(hunted.weights, alone.weights, strict=True):
        assert all(map(torch.equal, one, other))


@pytest.mark.slow
def test_two_sweeps_in_one_folder_that_are_killed(alone: tuple[Result, float], tmp_path: Path) -> None:
    draw = random.Random(0)
    folder = tmp_path / "hunted"
    for _ in range(5):
        both = [begin(folder), begin(folder)]
        for process in both:
            hunt(process, draw.uniform(0.1, 0.8) * alone[1], draw.choice([signal.SIGKILL, signal.SIGTERM]))
    both = [begin(folder), begin(folder)]
    assert [end(process) for process in both] == [0, 0]
    check(folder, alone[0])


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_kills_and_damaged_files(seed: int, alone: tuple[Result, float], singles: Result, tmp_path: Path) -> None:
    draw = random.Random(seed)
    folder = tmp_path / "hunted"
    for _ in range(4):
        hunt(begin(folder), draw.uniform(0.2, 1.0) * alone[1], signal.SIGKILL)
        damage(folder, draw)
    check(folder, alone[0], singles)


@pytest.mark.slow
def test_workers_and_parents_are_killed(alone: tuple[Result, float], tmp_path: Path) -> None:
    draw = random.Random(1)
    folder = tmp_path / "hunted"
    options = ["--population=2", "--jobs=2"]
    for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL, signal.SIGTERM):
        parent = begin(folder, options)
        parent.join(draw.uniform(5.0, 5.0 + 2 * alone[1]))
        if draw.random() < 0.5:
            hunt(parent, 0, number)  # and all of its processes
        else:
            parent.kill()
            parent.join()
    assert end(begin(folder, options)) == 0
    check(folder, alone[0])


@pytest.mark.slow
@pytest.mark.parametrize("kilobytes", [100, 200, 300])
def test_a_full_disk(kilobytes: int, alone: tuple[Result, float], tmp_path: Path) -> None:
    with mounted_disk(tmp_path / "disk", f"size={kilobytes}k") as disk:
        folder = disk / "hunted"
        assert end(start_worker(partial(sweep, folder, TWO_POPULATIONS), tmp_path / "log", [])) != 0
        subprocess.run(["mount", "-o", "remount,size=50m", str(disk)], check=True)
        check(folder, alone[0])
