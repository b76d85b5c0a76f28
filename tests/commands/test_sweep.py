"""``alrnn sweep`` as a user types it: runs, restarts, failures, kills."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from command_runs import ADDITION, CPU, exit_code, refused, written_records
from disks import mounted_disk
from quick_sweeps import main_in_worker, parse_once
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.plugins.hparams import metadata

from lightning_alrnn.commands import sweep as command
from lightning_alrnn.commands.entry import main
from lightning_alrnn.commands.sweep import _signals_as_interrupt
from lightning_alrnn.sweep import Claims, Run, Verdict, executors, grouping
from lightning_alrnn.sweep.grouping import Work
from lightning_alrnn.sweep.run import Surroundings
from lightning_alrnn.sweep.store import Claim, Record, Status, read_record, read_records, read_runs, write_record
from lightning_alrnn.sweep.verdict_page import write_verdict
from lightning_alrnn.sweep.workers import start_worker

TINY = [*ADDITION, *CPU, "--trainer.max_epochs=2", "--model.hidden_size=6"]
PLAIN = [*TINY, "--trainer.callbacks=ActiveUnits"]
LOOKS = ("RegimeOccupancy", "FixedPoints")
MEASURED = [*PLAIN, *(f"--trainer.callbacks+={look}" for look in (*LOOKS, "Dashboard"))]
INLINE = ["--output_dir=swept", "--executor=inline"]
FOLDER = Path("swept")


def sweep(*options: str, base: Sequence[str] = PLAIN) -> int:
    """The exit code of a sweep."""
    return exit_code("sweep", *INLINE, *base, *options)


def record(name: str) -> Record:
    return read_record(FOLDER, name)


def events_of(name: str) -> EventAccumulator:
    """What TensorBoard shows of a run, which is one of its runs."""
    folder = FOLDER / "runs" / name
    assert {path.parent for path in folder.rglob("events.*")} == {folder}
    return EventAccumulator(str(folder)).Reload()


@pytest.fixture(autouse=True)
def _parsed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    parse_once(monkeypatch)


@pytest.fixture
def no_training(monkeypatch: pytest.MonkeyPatch, no_verdict_figures: None) -> dict[str, Status]:
    """Runs of a sweep are not trained: they end, with made-up scores, in the state that this says, by name, or done."""
    states: dict[str, Status] = {}

    def do_work(surroundings: Surroundings, work: Work) -> None:
        for spec in work.specs:
            run = Run("ALRNN", spec.nonlinear_units, spec.seed, {}, {"test/mse": 0.1, "test/constant_mse": 1.0})
            status = states.get(spec.name, "done")
            tracebacks = ("RuntimeError: no space left",) if status == "failed" else ()
            write_record(surroundings.folder, Record(spec.name, run, status, tracebacks))

    monkeypatch.setattr(executors, "do_work", do_work)
    monkeypatch.setattr(grouping, "_most_members", lambda *_: (100, ""))  # or it would make a network
    return states


def test_a_sweep_from_end_to_end(capsys: pytest.CaptureFixture[str]) -> None:
    options = ("--nonlinear_units=0,2", "--seeds=1", "--grid", "model.init=near_identity")
    assert sweep(*options, "--core=ALRNN,GRU", base=MEASURED) == 0
    printed = capsys.readouterr().out
    assert "results.csv" in printed
    assert "tensorboard --logdir" in printed

    runs = read_runs(FOLDER)
    linear, nonlinear, baseline = runs
    assert [run[:3] for run in runs] == [("ALRNN", 0, 0), ("ALRNN", 2, 0), ("GRU", None, 0)]
    assert linear.settings == {"model.init": "near_identity"}
    assert baseline.settings == {}
    assert linear.hidden_size == baseline.hidden_size == 6
    measures = {"regime/visited", "regime/effective", "units/active", "fixed_points/total"}
    assert {"test/mse", "val/mse"} | measures <= set(nonlinear.metrics)
    assert linear.metrics["regime/visited"] == 1
    assert {"test/mse", "val/mse"} <= set(baseline.metrics)
    assert f"{nonlinear.metrics['test/mse']:.4g}" in printed

    done = record("ALRNN-P2-seed0-init=near_identity")
    assert (done.status, done.epochs) == ("done", 2)
    assert done.seconds > 0
    assert done.versions["torch"]
    assert len(done.config_hash) == 16
    assert (FOLDER / done.checkpoint).name.startswith("best-epoch=")
    assert list((FOLDER / done.log_dir).glob("events*"))
    assert (FOLDER / done.log_dir / "config.yaml").is_file()
    with (FOLDER / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["test/mse"]) for row in rows] == [run.metrics["test/mse"] for run in runs]
    assert [row["status"] for row in rows] == ["done"] * 3

    # HPARAMS: what was varied, and the metrics that were logged beside it, those of the test first
    events = events_of(done.name)
    content = events.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    values = metadata.parse_session_start_info_plugin_data(content).hparams
    assert values["nonlinear_units"].number_value == 2
    assert values["seed"].number_value == 0
    assert values["model.init"].string_value == "near_identity"
    content = events.SummaryMetadata("_hparams_/experiment").plugin_data.content
    infos = metadata.parse_experiment_plugin_data(content).metric_infos
    tags = [info.name.tag for info in infos]
    assert {"test/mse", "best/val/mse", "best/regime/visited"} <= set(tags)
    assert [tag.startswith("test/") for tag in tags] == sorted((tag.startswith("test/") for tag in tags), reverse=True)
    for tag in tags:
        (event,) = events.Scalars(tag)
        assert event.value == pytest.approx(nonlinear.metrics[tag.removeprefix("best/")])
    # the curves are those of training
    assert [event.step for event in events.Scalars("val/mse")] == [1, 3]
    assert "hp_metric" not in events.Tags()["scalars"]
    # in groups, beside a card of the model
    assert "custom_scalars__config__" in events.Tags()["tensors"]
    card = events.Tensors("model card/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "M = 6, P = 2" in card
    assert re.search("`[^ ]+ fit .*--model.nonlinear_units=2", card)

    # again: nothing is left to do, and P and seeds may be added
    before = written_records(FOLDER)
    assert sweep(*options, "--core=ALRNN,GRU", base=MEASURED) == 0
    assert written_records(FOLDER) == before
    settings = json.loads((FOLDER / "sweep.json").read_text())
    assert settings["judged"] == [1]
    assert settings["arguments"] == [*INLINE, *MEASURED, *options, "--core=ALRNN,GRU"]

    # but nothing else
    capsys.readouterr()
    assert sweep(*options, "--trainer.max_epochs=3", base=MEASURED) == 2
    assert "holds another sweep. trainer.max_epochs: 2 there, 3 now" in capsys.readouterr().err
    assert sweep("--nonlinear_units=0,2", "--seeds=1", base=MEASURED) == 2
    assert "varied: data.seed, model.init there, data.seed now" in capsys.readouterr().err


@pytest.mark.usefixtures("no_verdict_figures")
def test_the_run_of_a_sweep_is_that_of_fit() -> None:
    assert sweep("--nonlinear_units=2", "--seeds=3,") == 0
    swept = record("ALRNN-P2-seed3")
    for subcommand in ("fit", "test"):
        options = ["--model.nonlinear_units=2", "--seed_everything=3", "--data.seed=3", "--trainer.logger.version=a"]
        best = [f"--ckpt_path={path}" for path in Path("runs").rglob("best-*.ckpt")]
        main([subcommand, *PLAIN, *options, *best])
    events = EventAccumulator("runs/Addition/a").Reload()
    assert events.Scalars("test/mse")[-1].value == pytest.approx(swept.run.metrics["test/mse"], rel=1e-6)
    one, other = (
        torch.load(folder / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        for folder in (FOLDER / swept.log_dir, Path("runs/Addition/a"))
    )
    assert one.keys() == other.keys()
    assert all(torch.equal(one[name], other[name]) for name in one)


@pytest.mark.usefixtures("no_verdict_figures")
def test_a_run_that_fails_is_kept_with_its_traceback_and_tried_anew(capsys: pytest.CaptureFixture[str]) -> None:
    Path("how").write_text("error")
    breaking = ("--trainer.callbacks=misbehaving.Breaking", "--trainer.callbacks.path=how")
    options = ("--nonlinear_units=0,2", "--seeds=1", *breaking)
    assert sweep(*options, base=TINY) == 1
    printed = capsys.readouterr().out
    assert "failed: ALRNN-P0-seed0: RuntimeError: no space left" in printed
    assert "1 of 2 runs are missing" in printed
    failed = record("ALRNN-P0-seed0")
    assert failed.status == "failed"
    assert "misbehaving.py" in failed.tracebacks[0]
    kept = (FOLDER / "runs/ALRNN-P0-seed0/checkpoints/last.ckpt").read_bytes()
    Path("how").write_text("interrupt")
    assert sweep(*options, base=TINY) == 130
    before = FOLDER / "runs/ALRNN-P0-seed0/checkpoints-failed"
    assert (before / "last.ckpt").read_bytes() == kept  # until an attempt ends well
    assert [run.nonlinear_units for run in read_runs(FOLDER)] == [2]

    assert sweep(*options, base=TINY) == 0
    again = record("ALRNN-P0-seed0")
    assert (again.status, again.resumed, again.epochs) == ("done", True, 2)
    assert again.tracebacks == failed.tracebacks  # the earlier error is not forgotten
    assert not before.exists()


@pytest.mark.usefixtures("no_verdict_figures")
@pytest.mark.parametrize(
    ("damaged", "line"),
    [
        (["last.ckpt"], "training resumes from best-epoch=000.ckpt"),
        pytest.param(["last.ckpt", "best-epoch=000.ckpt"], "training starts again", marks=pytest.mark.slow),
    ],
)
def test_a_run_whose_last_checkpoint_is_damaged_goes_on_from_another(
    damaged: list[str], line: str, capsys: pytest.CaptureFixture[str]
) -> None:
    breaking = ("--trainer.callbacks=misbehaving.Breaking", "--trainer.callbacks.path=how")
    options = ("--nonlinear_units=0", "--seeds=1", *breaking)
    assert exit_code("sweep", "--output_dir=whole", "--executor=inline", *TINY, *options) == 0
    whole = read_record(Path("whole"), "ALRNN-P0-seed0")
    Path("how").write_text("interrupt")
    assert sweep(*options, base=TINY) == 130
    checkpoints = FOLDER / whole.log_dir / "checkpoints"
    for name in damaged:
        (checkpoints / name).write_bytes((checkpoints / name).read_bytes()[:-100])
    gone = subprocess.Popen(["true"])
    gone.wait()
    left = checkpoints / f".last.ckpt.{gone.pid}-0123abcd-{socket.gethostname()}"
    left.touch()
    capsys.readouterr()
    assert sweep(*options, base=TINY) == 0
    (said,) = [text for text in capsys.readouterr().err.splitlines() if "ALRNN-P0-seed0: " in text]
    assert "last.ckpt (" in said
    assert said.endswith(line)
    assert not left.exists()
    again = record(whole.name)
    assert (again.status, again.resumed) == ("done", len(damaged) == 1)
    assert again.run == whole.run


@pytest.mark.usefixtures("no_verdict_figures")
def test_ctrl_c_and_on_from_the_last_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    Path("how").write_text("interrupt")
    breaking = ("--trainer.callbacks=misbehaving.Breaking", "--trainer.callbacks.path=how")
    options = ("--nonlinear_units=0", "--seeds=1", *breaking)
    assert sweep(*options, base=TINY) == 130
    assert "0 of 1 runs are done" in capsys.readouterr().err
    assert record("ALRNN-P0-seed0").status == "running"
    assert Claim(FOLDER, "ALRNN-P0-seed0").holder() is None

    assert sweep(*options, base=TINY) == 0
    resumed = record("ALRNN-P0-seed0")
    assert (resumed.resumed, resumed.epochs, resumed.tracebacks) == (True, 2, ())
    # the epochs before it are not trained again
    events = EventAccumulator(str(FOLDER / resumed.log_dir)).Reload()
    assert [event.step for event in events.Scalars("val/mse")] == [1, 3]

    # killed between training and test: nothing is left to train
    write_record(FOLDER, resumed._replace(status="running"))
    assert sweep(*options, base=TINY) == 0
    assert record(resumed.name).run.metrics == pytest.approx(resumed.run.metrics)
    assert len(events_of(resumed.name).Scalars("test/mse")) == 1


@pytest.mark.usefixtures("no_training")
def test_baselines_alone_are_no_judgement() -> None:
    assert sweep("--nonlinear_units=0,2", "--seeds=2") == 0
    assert sweep("--core=GRU", "--seeds=1") == 0
    assert json.loads((FOLDER / "sweep.json").read_text())["judged"] == [2]


@pytest.mark.usefixtures("no_training")
def test_seeds_are_added_until_it_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Looks at 1, 2 and 3 seeds; what they tell is made up."""
    monkeypatch.setattr(command, "parse_looks", lambda text: (1, 2, 3) if ".." in text else ())
    judged: list[int | None] = []

    def write(folder: Path, seeds: int | None = None) -> Verdict:
        judged.append(seeds)
        verdict = write_verdict(folder, seeds=seeds)
        answered = verdict.sizes[0]._replace(claims=Claims(False, (0, 2), 0, False))  # leaves nothing open
        return verdict._replace(sizes=(answered,)) if seeds == 2 else verdict

    monkeypatch.setattr(command, "write_verdict", write)
    options = ("--nonlinear_units=0,2", "--seeds=1..3")
    assert sweep(*options) == 0
    printed = capsys.readouterr().out
    assert "looks at its runs with 1, 2 and 3 seeds, each time at the level 0.0167" in printed
    assert "whether nonlinearity is needed or which P are enough yet; adding seeds up to 2." in printed
    assert judged == [1, 2, 2]
    assert sorted({run.seed for run in read_runs(FOLDER)}) == [0, 1]
    # the same command again repeats no run and stops at the same look
    before = written_records(FOLDER)
    assert sweep(*options) == 0
    assert judged == [1, 2, 2] * 2
    assert written_records(FOLDER) == before
    # more looks than were planned would cost the level that is promised
    assert sweep("--nonlinear_units=0,2", "--seeds=5") == 2
    assert "looks, by --seeds: 1, 2 and 3 there, none now" in capsys.readouterr().err


def test_a_look_with_a_run_missing_or_without_a_verdict_is_the_last(
    no_training: dict[str, Status], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(command, "parse_looks", lambda text: (1, 2) if ".." in text else ())
    options = ("--nonlinear_units=0,2", "--seeds=1..2")
    no_training["ALRNN-P0-seed0"] = "failed"
    assert sweep(*options) == 1
    printed = capsys.readouterr().out
    assert "failed: ALRNN-P0-seed0: RuntimeError: no space left" in printed
    assert "1 of 2 runs are missing" in printed  # of the runs that were begun, not of all 4
    assert {run.seed for run in read_runs(FOLDER)} == {0}
    no_training.clear()  # the run is trained again
    with monkeypatch.context() as patch:
        patch.setattr(command, "write_verdict", Mock(side_effect=ValueError("there are several metrics")))
        assert sweep(*options) == 0
    assert "no verdict:   there are several metrics" in capsys.readouterr().out
    assert {run.seed for run in read_runs(FOLDER)} == {0}
    assert sweep(*options) == 0  # the sweep goes on from there
    assert {run.seed for run in read_runs(FOLDER)} == {0, 1}


@pytest.mark.usefixtures("no_verdict_figures")
@pytest.mark.usefixtures("no_training")
def test_damaged_settings_and_newer_records_stop_a_sweep_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    options = ["--nonlinear_units=0,1", "--seeds=2"]
    assert sweep(*options) == 0
    before = written_records(FOLDER)
    settings, newer = FOLDER / "sweep.json", FOLDER / "runs" / "ALRNN-P1-seed0" / "record.json"
    for path, content, message in (
        (settings, "", "sweep.json cannot be read: it is not valid JSON"),
        (settings, "[]", "sweep.json cannot be read: its content must be SweepSettings, got []"),
        (settings, '{"varied": 3, "configs": {}}', "sweep.json cannot be read: varied must be list"),
        (newer, newer.read_text().replace('"schema_version": 1', '"schema_version": 2'), "has the schema_version 2"),
    ):
        sound = path.read_text()
        path.write_text(content)
        for command_line in (["sweep", *INLINE, *PLAIN, *options], ["verdict", "swept"]):
            said = refused(command_line, capsys).splitlines()[-1]
            assert said.startswith("alrnn: error: ")
            assert message in said
            assert str(path) in said
        path.write_text(sound)
    assert written_records(FOLDER).keys() == before.keys()
    newer.write_text(newer.read_text().replace('"seed": 0', '"seed": "0"'))
    with pytest.warns(
        UserWarning, match=r"record.json cannot be read: seed must be int, got '0', so its run counts as"
    ):
        assert sweep(*options) == 0
    changed = {path for path, written in written_records(FOLDER).items() if written != before[path]}
    assert newer in changed
    assert record("ALRNN-P1-seed0").status == "done"


@pytest.mark.slow
def test_a_disk_that_fills_up_stops_a_sweep_with_the_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mounted_disk(tmp_path / "small", "size=200k") as disk:
        arguments = ["sweep", f"--output_dir={disk / 'swept'}", "--executor=inline", *PLAIN]
        said = refused([*arguments, "--nonlinear_units=0,1", "--seeds=3"], capsys).splitlines()[-1]
    assert said.startswith(f"alrnn: error: [Errno 28] No space left on device: '{disk}/swept/")
    assert said.endswith("'")


def test_divergence_is_a_result() -> None:
    options = ("--nonlinear_units=0", "--seeds=1", "--model.optimizer=SGD", "--model.optimizer.lr=1e30")
    assert sweep(*options) == 0
    (run,) = read_runs(FOLDER)
    assert (run.diverged, run.metrics, run.hidden_size) == (True, {}, 6)
    diverged = record("ALRNN-P0-seed0")
    assert "training has diverged" in diverged.error
    assert sweep(*options) == 0  # it is not tried again
    assert record("ALRNN-P0-seed0") == diverged


@pytest.mark.usefixtures("no_verdict_figures")
def test_killed_workers_and_a_killed_parent_lose_nothing(tmp_path: Path) -> None:
    (tmp_path / "pause").touch()
    pausing = ["--trainer.callbacks=misbehaving.Pausing", f"--trainer.callbacks.folder={tmp_path}"]
    options = [*INLINE[:1], *TINY, "--nonlinear_units=0,1,2", "--seeds=1", "--population=off", *pausing]
    parent = start_worker(partial(main_in_worker, ["sweep", *options, "--jobs=2"]), tmp_path / "log", [])
    until = time.monotonic() + 120
    while len(list(tmp_path.glob("reached-*"))) < 2:
        assert parent.is_alive()
        assert time.monotonic() < until
        time.sleep(0.02)
    killed, orphan = (Claim(FOLDER, f"ALRNN-P{p}-seed0").holder() for p in (0, 1))
    assert orphan is not None
    os.kill(killed[1], signal.SIGKILL)
    parent.kill()
    parent.join()
    # the third was begun by nobody, or its worker ends like any other
    (tmp_path / "pause").unlink()
    main(["sweep", *options, "--executor=inline"])

    records = read_records(FOLDER)
    assert [record.run.nonlinear_units for record in records] == [0, 1, 2]
    assert [(record.status, record.tracebacks, record.epochs) for record in records] == [("done", (), 2)] * 3
    assert [len(events_of(record.name).Scalars("test/mse")) for record in records] == [1] * 3
    # the first went on from its checkpoint; the second was finished by the worker that lost its parent
    assert records[0].resumed
    assert not records[1].resumed
    assert len(list((FOLDER / records[1].log_dir).glob("events*"))) == 2  # of training, and of the best weights
    assert len((FOLDER / "results.csv").read_text().splitlines()) == 4


def test_sigint_ends_a_sweep_in_the_background() -> None:
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)  # as a shell's script sets it behind `&`
    try:
        with pytest.raises(KeyboardInterrupt), _signals_as_interrupt():
            signal.raise_signal(signal.SIGINT)
        assert signal.getsignal(signal.SIGINT) == signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
