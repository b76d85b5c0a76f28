"""One run of a sweep."""

from __future__ import annotations

import subprocess
from pathlib import Path

from lightning_alrnn.sweep.plan import Spec, make_plan
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.run import Surroundings, Task, do_run, find_commit, was_interrupted
from lightning_alrnn.sweep.store import Claim, Record, read_record, run_folder, write_record


def test_a_configuration_that_changes_on_the_way_stops_its_runs(tmp_path: Path) -> None:
    config = Path("task.yaml")
    config.write_text("data: {class_path: Addition, init_args: {sequence_length: 6}}\n")
    plan = make_plan([f"--config={config}"], [0], [0])
    config.write_text("data: {class_path: Addition, init_args: {sequence_length: 7}}\n")
    do_run(Surroundings(tmp_path, plan.varied, plan.configs, ""), plan.runs[0])
    record = read_record(tmp_path, "ALRNN-P0-seed0")
    assert record.status == "failed"
    assert "has changed since the sweep began: data.sequence_length: 6 there, 7 now" in record.error


def test_what_is_done_or_claimed_is_left_alone(tmp_path: Path) -> None:
    spec, surroundings = Spec("a", "ALRNN", 0, 0, {}, ()), Surroundings(tmp_path, (), {}, "")
    claim = Claim(tmp_path, "a")
    assert claim.take()
    do_run(surroundings, spec)
    assert read_record(tmp_path, "a") is None
    claim.release()

    done = Record("a", Run("ALRNN", 0, 0, {}, {"test/mse": 0.5}), "done", seconds=1.0)
    write_record(tmp_path, done)
    do_run(surroundings, spec)
    assert read_record(tmp_path, "a").run == done.run

    # of several processes the first tells the others that there is nothing to do
    for rank in range(2):
        do_run(surroundings, spec, Task(rank, 2, "17-0"))
    assert (run_folder(tmp_path, "a") / "decision-17-0").read_bytes() == b"skip"


def test_what_comes_from_outside_is_an_interrupt_and_no_failure() -> None:
    terminated = RuntimeError("DataLoader worker (pid 17) is killed by signal: Terminated. ")
    exited = RuntimeError("DataLoader worker (pid(s) 17) exited unexpectedly")
    exited.__cause__ = terminated
    for error in (terminated, exited, SystemExit(143), SystemExit(None), KeyboardInterrupt()):
        assert was_interrupted(error)
    memory = RuntimeError("DataLoader worker (pid 17) is killed by signal: Killed. ")
    for error in (memory, SystemExit(2), OSError(28, "No space left on device")):
        assert not was_interrupted(error)


def test_the_commit_of_the_present_directory() -> None:
    assert find_commit() == ""
    name = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    Path("file").touch()
    for arguments in (("init", "-q"), ("add", "file"), (*name, "commit", "-q", "-m", "first")):
        subprocess.run(["git", *arguments], check=True)
    commit = find_commit()
    assert len(commit) == 40
    Path("another").touch()
    assert find_commit() == commit
    Path("file").write_text("changed")
    assert find_commit() == f"{commit}+"
