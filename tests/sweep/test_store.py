"""What a sweep leaves on the disk."""

from __future__ import annotations

import csv
import math
import os
import signal
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lightning_alrnn.sweep import store
from lightning_alrnn.sweep.rules import Run, Value
from lightning_alrnn.sweep.store import Claim, Record, read_record, read_runs, run_folder, write_record, write_table


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


@pytest.mark.parametrize("content", ["", '{"name": "x", "run": {"core"', "[]", '{"name": "x"}', '{"run": {}}'])
def test_half_a_record_is_warned_of_and_counts_as_not_run(tmp_path: Path, content: str) -> None:
    write_record(tmp_path, record(0))
    broken = run_folder(tmp_path, "broken") / "record.json"
    broken.parent.mkdir(parents=True)
    broken.write_text(content)
    (broken.parent / ".record.json.abc").write_text("left by a process that was killed")
    with pytest.warns(UserWarning, match=r"broken/record\.json cannot be read"):
        assert [run.seed for run in read_runs(tmp_path)] == [0]


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
