"""What a sweep leaves on the disk."""

from __future__ import annotations

import csv
import json
import math
import os
import signal
import socket
import subprocess
import sys
import warnings
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from damage import damaged

from lightning_alrnn.errors import message_of
from lightning_alrnn.files import write_json
from lightning_alrnn.sweep import store
from lightning_alrnn.sweep.grouping import make_work, read_populations
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.progress import ProgressFile, RunState
from lightning_alrnn.sweep.rules import Run, Value
from lightning_alrnn.sweep.store import (
    Claim,
    Record,
    read_record,
    read_runs,
    read_settings,
    run_folder,
    write_record,
    write_table,
)
from lightning_alrnn.sweep.verdict_page import judge_sweep


def read_table(folder: Path) -> list[dict[str, str]]:
    with (folder / "results.csv").open() as file:
        return list(csv.DictReader(file))


def record(seed: int = 0, p: int | None = 5, core: str = "ALRNN", **settings: Value) -> Record:
    run = Run(core, p, seed, settings, {"test/mse": 0.25 + seed, "val/mse": math.nan}, False, 50)
    return Record(f"{core}-P{p}-seed{seed}-{len(settings)}", run, "done", seconds=1.5, versions={"torch": "2.6"})


def test_a_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    written = record(model_init="gaussian", lr=0.1, flag=True, nothing=None)._replace(tracebacks=("a\nValueError: b",))
    write_record(tmp_path, written)
    read = read_record(tmp_path, written.name)
    assert math.isnan(read.run.metrics["val/mse"])
    assert read.run._replace(metrics={}) == written.run._replace(metrics={})
    assert read._replace(run=written.run) == written
    assert read.error == "ValueError: b"


def test_read_runs_gives_what_is_done_in_order(tmp_path: Path) -> None:
    for p in (10, 2):
        for seed in (1, 0):
            write_record(tmp_path, record(seed, p))
    write_record(tmp_path, record(0, None, "GRU"))
    diverged = record(7, 2)
    write_record(tmp_path, diverged._replace(run=diverged.run._replace(diverged=True, metrics={})))
    for status, seed in (("running", 8), ("failed", 9)):
        write_record(tmp_path, record(seed, 2)._replace(status=status))  # type: ignore[arg-type]
    runs = read_runs(tmp_path)
    assert [(run.core, run.nonlinear_units, run.seed, run.diverged) for run in runs] == [
        ("ALRNN", 2, 0, False),
        ("ALRNN", 2, 1, False),
        ("ALRNN", 2, 7, True),
        ("ALRNN", 10, 0, False),
        ("ALRNN", 10, 1, False),
        ("GRU", None, 0, False),
    ]
    assert runs[0].metrics == {"test/mse": 0.25}  # NaN says nothing
    assert len(store.read_records(tmp_path)) == 8


def test_no_sweep_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="holds no sweep"):
        read_runs(tmp_path / "elsewhere")


def spoil(change: Callable[[dict[str, Any]], Any]) -> str:
    """The record of a run, with a change."""
    content = json.loads(SOUND)
    change(content)
    return json.dumps(content)


SOUND = """{"name": "broken", "status": "done", "seconds": 1.5, "tracebacks": [], "epochs": 2,
"run": {"core": "ALRNN", "nonlinear_units": 5, "seed": 1, "settings": {}, "metrics": {"test/mse": 0.1}}}"""
SPOILT = {
    "half": SOUND[:40],
    "empty": "",
    "a list": "[]",
    "no run": '{"name": "broken"}',
    "an empty run": spoil(lambda record: record.update(run={})),
    "a text for P": spoil(lambda record: record["run"].update(nonlinear_units="5")),
    "a list for a seed": spoil(lambda record: record["run"].update(seed=[1])),
    "half a seed": spoil(lambda record: record["run"].update(seed=1.5)),
    "a seed beyond number": spoil(lambda record: record["run"].update(seed=10**30)),
    "a text for a metric": spoil(lambda record: record["run"].update(metrics={"test/mse": "low"})),
    "a metric beyond number": SOUND.replace("0.1", "1" * 400),
    "a number for settings": spoil(lambda record: record["run"].update(settings=3)),
    "a text for a truth": spoil(lambda record: record["run"].update(diverged="no")),
    "no status": spoil(lambda record: record.update(status="finished")),
    "a text for a list": spoil(lambda record: record.update(tracebacks="none")),
    "an unknown key": spoil(lambda record: record.update(other=1)),
    "another run": spoil(lambda record: record.update(name="sound")),
    "half a character": spoil(lambda record: record.update(host="\ud800")),
    "many lists": "[" * 100_000,
}


@pytest.mark.parametrize("content", SPOILT.values(), ids=SPOILT)
def test_a_damaged_record_is_warned_of_once_and_counts_as_not_run(tmp_path: Path, content: str) -> None:
    write_record(tmp_path, record(0))
    broken = run_folder(tmp_path, "broken") / "record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text(content)
    (broken.parent / ".record.json.abc").write_text("left by a process that was killed")
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        assert [run.seed for run in read_runs(tmp_path)] == [0]
        assert read_record(tmp_path, "broken") is None
        write_table(tmp_path)
    (message,) = [str(one.message) for one in said]
    assert message.startswith(f"{broken} cannot be read: ")
    assert message.endswith(", so its run counts as not begun")
    assert len(read_table(tmp_path)) == 1


def test_records_without_a_schema_version_are_read_and_newer_ones_refused(tmp_path: Path) -> None:
    path = run_folder(tmp_path, "broken") / "record.json"
    path.parent.mkdir(parents=True)
    path.write_text(SOUND)
    assert read_record(tmp_path, "broken").run.metrics == {"test/mse": 0.1}
    write_record(tmp_path, read_record(tmp_path, "broken"))
    assert json.loads(path.read_text())["schema_version"] == 1
    path.write_text(spoil(lambda record: record.update(schema_version=2, states=["of a later version"])))
    for read in (lambda: read_record(tmp_path, "broken"), lambda: read_runs(tmp_path), lambda: write_table(tmp_path)):
        with pytest.raises(
            ValueError, match=r"broken/record.json has the schema_version 2, but .*: update lightning_alr"
        ):
            read()


def make_sweep(folder: Path) -> list[Path]:
    """The JSON files of a small sweep."""
    for p in (0, 2):
        for seed in (0, 1):
            write_record(folder, record(seed, p)._replace(log_dir="runs"))
    settings = {"varied": [], "configs": {"ALRNN": {"data": "Addition"}}, "looks": [], "tolerance": 0.1, "judged": [2]}
    arguments = ["--seeds", "2", "--nonlinear_units=0,2", "--output_dir", "runs"]
    write_json(folder / "sweep.json", {**settings, "arguments": arguments, "runs_per_seed": 2})
    write_json(folder / "verdict.json", {"suggested_tolerances": [0.2]})
    scores = {"mean": {"mse": 0.7, "mae": math.inf}}
    write_json(folder / "baselines" / "sizeNone-seed0.json", {"train_size": None, "seed": 0, "scores": scores})
    make_work(folder, [Spec(f"P{p}", "ALRNN", p, 9, {}, ("--a=1",)) for p in (1, 2)])
    ProgressFile(folder).write({"P1": RunState("running", 3, 4, 0.5)})
    return sorted(folder.rglob("*.json"))


def damage_sweep(folder: Path, count: int) -> tuple[int, list[str]]:
    """Damage a file of a sweep and read it all; return how often that ended as it must, and what else was said."""
    rng = np.random.default_rng(0)
    paths, right, wrong = make_sweep(folder), 0, []
    records = [path for path in paths if path.name == "record.json"]
    for number in range(count):
        path = (records if number % 2 else paths)[int(rng.integers(len(records if number % 2 else paths)))]
        sound = path.read_bytes()
        path.write_bytes(damaged(sound, rng))
        with warnings.catch_warnings(record=True) as said:
            warnings.simplefilter("always")
            try:
                write_table(folder)
                read_populations(folder)
                ProgressFile(folder).read()
                read_settings(folder)
                if number % 5 == 0:
                    judge_sweep(folder)
            except Exception as error:
                message = message_of(error) or f"a traceback: {error!r}"
            else:
                message = ""
        path.write_bytes(sound)
        lines = [*(str(one.message) for one in said), *([message] if message else [])]
        fine = all(str(path) in line and "\n" not in line for line in lines) and len(lines) <= 1
        right += fine
        wrong += [] if fine else [f"{number}: {lines}"]
    return right, wrong


def test_damaged_files_of_a_sweep_are_left_out_or_refused_in_a_line(tmp_path: Path) -> None:
    assert damage_sweep(tmp_path, 60) == (60, [])


@pytest.mark.slow
def test_500_damaged_files_of_a_sweep(tmp_path: Path) -> None:
    assert damage_sweep(tmp_path, 500) == (500, [])


def test_tables(tmp_path: Path) -> None:
    write_record(tmp_path, record(0, 2, lr=0.1))
    write_record(tmp_path, record(1, 2, lr="auto"))
    write_record(tmp_path, record(0, None, "GRU", lr=1)._replace(status="failed", tracebacks=("x\nOSError: full",)))
    write_table(tmp_path)
    rows = read_table(tmp_path)
    assert [row["nonlinear_units"] for row in rows] == ["2", "2", ""]
    assert [row["lr"] for row in rows] == ["0.1", "auto", "1"]
    assert [row["test/mse"] for row in rows] == ["0.25", "1.25", "0.25"]
    assert [row["error"] for row in rows] == ["", "", "OSError: full"]
    assert [row["version/torch"] for row in rows] == ["2.6"] * 3


def test_a_table_of_nothing(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    write_table(tmp_path)
    assert (tmp_path / "results.csv").read_text().startswith("name,status,core,")


def test_a_claim_is_one_s_alone_and_ends_with_its_process(tmp_path: Path) -> None:
    claim, other = Claim(tmp_path, "run"), Claim(tmp_path, "run")
    assert claim.holder() is None
    assert claim.take()
    assert not other.take()
    assert other.holder() == (socket.gethostname(), os.getpid())
    claim.release()
    assert other.holder() is None

    locking = "import fcntl, sys; file = open(sys.argv[1]); fcntl.flock(file, fcntl.LOCK_EX); print(1); input()"
    with subprocess.Popen(
        [sys.executable, "-u", "-c", locking, run_folder(tmp_path, "run") / "claim"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        process.stdout.readline()
        assert not claim.take()
        process.send_signal(signal.SIGKILL)
    assert claim.take()
    claim.release()


def test_two_write_table_at_a_time_and_each_is_whole(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()

    def write_some(core: str) -> None:
        for seed in range(20):
            write_record(tmp_path, record(seed, None, core))
            write_table(tmp_path)

    seen = 0
    with ThreadPoolExecutor() as pool:
        writers = [pool.submit(write_some, core) for core in ("RNN", "GRU")]
        while not all(writer.done() for writer in writers):
            if (tmp_path / "results.csv").is_file():
                rows = read_table(tmp_path)
                assert all((row["status"], row["error"]) == ("done", "") for row in rows)
                assert len(rows) >= seen
                seen = len(rows)
        for writer in writers:
            writer.result()
    assert len(read_table(tmp_path)) == 40
    assert not list(tmp_path.rglob(".record*")) + list(tmp_path.rglob(".results*"))
