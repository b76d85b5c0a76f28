"""Populations of a sweep: what they leave, against the same runs by themselves, and what becomes of those stopped."""

from __future__ import annotations

import errno
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from command_runs import ADDITION, exit_code, written_records
from quick_sweeps import parse_once
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor

from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import MemberCallbacks
from lightning_alrnn.commands import sweep as command
from lightning_alrnn.commands.entry import main
from lightning_alrnn.modules import PopulationModule
from lightning_alrnn.sweep import run, run_population
from lightning_alrnn.sweep.grouping import CHECKPOINT, Work, read_populations
from lightning_alrnn.sweep.members import MemberFolders
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.run import Surroundings
from lightning_alrnn.sweep.store import Record, read_record, read_records

TRAINER = ("max_epochs=2", "num_sanity_val_steps=0", "gradient_clip_val=1", "accelerator=cpu")
PLAIN = [*ADDITION, "--data.train_size=64", "--model.hidden_size=6", *(f"--trainer.{option}" for option in TRAINER)]
PLAIN += ["--trainer.callbacks=RegimeOccupancy"]
TINY = [*PLAIN, "--trainer.callbacks+=FixedPoints", "--trainer.callbacks+=Dashboard"]
OPTIONS = ["--nonlinear_units=0,1,6", "--seeds=2"]
TWO = ["--nonlinear_units=0,6", "--seeds=1"]
STEPS = ["--model.lr_scheduler=StepLR", "--model.lr_scheduler.step_size=1", "--trainer.check_val_every_n_epoch=2"]


@pytest.fixture(autouse=True)
def _quick(no_verdict_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    parse_once(monkeypatch)


def sweep(folder: str, *options: str, base: Sequence[str] = TINY) -> int:
    return exit_code("sweep", f"--output_dir={folder}", "--executor=inline", *base, *options)


def checkpoint(folder: str | Path, run: str, name: str = "last.ckpt") -> dict[str, Any]:
    return torch.load(f"{folder}/runs/{run}/checkpoints/{name}", weights_only=True)  # type: ignore[no-any-return]


def weights(folder: str, record: Record, name: str = "last.ckpt") -> dict[str, Tensor]:
    return checkpoint(folder, record.name, name)["state_dict"]  # type: ignore[no-any-return]


@pytest.fixture(scope="module")
def both(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of two sweeps: "auto" with a population, and "off" with those of its runs whose strength is 1."""
    folder = tmp_path_factory.mktemp("both")
    with pytest.MonkeyPatch.context() as patch:
        parse_once(patch)
        patch.chdir(folder)
        patch.setattr(command, "_report", lambda *_, **__: False)
        # short epochs leave no time to look at members
        patch.setattr(run_population, "MemberCallbacks", partial(MemberCallbacks, share=1e9))
        # the last epoch has no validation
        options = [*STEPS, "--trainer.max_epochs=3", "--nonlinear_units=0,1,6", "--seeds=1"]
        for population, strengths in (("auto", "0.1,1"), ("off", "1")):
            grid = ["--grid", f"model.mar_strength={strengths}", f"--population={population}"]
            assert sweep(population, *options, *grid) == 0
    return folder


def test_a_member_leaves_what_a_run_by_itself_leaves(both: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(both)
    members, alone = (read_records(Path(folder)) for folder in ("auto", "off"))
    together = [record for record in members if record.run.settings["model.mar_strength"] == 1]
    assert [len(records) for records in (members, together, alone)] == [6, 3, 3]
    assert len({record.population for record in members}) == 1
    assert {record.population for record in alone} == {""}
    for one, other in zip(together, alone, strict=True):
        assert one.run.metrics == pytest.approx(other.run.metrics, rel=1e-3, abs=1e-4)
        same = ("name", "status", "tracebacks", "epochs", "resumed", "config_hash", "log_dir", "checkpoint")
        assert [getattr(one, name) for name in same] == [getattr(other, name) for name in same]
        assert one.run._replace(metrics={}) == other.run._replace(metrics={})
        folders = [Path(name, "runs", one.name) for name in ("auto", "off")]
        for name in ("config.yaml", "hparams.yaml"):
            first, second = (yaml.unsafe_load((folder / name).read_text()) for folder in folders)
            assert list(first) == list(second)
            assert str(first).replace("/auto", "/off") == str(second)
        for name in ("last.ckpt", Path(one.checkpoint).name):
            first, second = (weights(folder, one, name) for folder in ("auto", "off"))
            assert first.keys() == second.keys()
            for key, value in first.items():
                torch.testing.assert_close(value, second[key], rtol=0, atol=1e-4)
        first, second = (EventAccumulator(str(folder)).Reload() for folder in folders)
        tags, others = first.Tags(), second.Tags()
        looks = ("regime/", "fixed_points/")  # whether there is time for one at each member depends on the machine
        for each in (tags, others):
            each["scalars"] = {tag for tag in each["scalars"] if not tag.startswith(looks)}
        assert tags == others
        for tag in ("train/loss", "val/mse", "test/mse", "best/val/mse"):
            for event, expected in zip(first.Scalars(tag), second.Scalars(tag), strict=True):
                assert event.step == expected.step
                assert event.value == pytest.approx(expected.value, rel=1e-3, abs=1e-4)
    headers = [Path(name, "results.csv").read_text().splitlines()[0] for name in ("auto", "off")]
    assert headers[0] == headers[1]
    assert {"population", "epochs_to_threshold"} <= set(headers[0].split(","))


def test_a_member_s_checkpoints_are_those_of_any_network(both: Path) -> None:
    record = read_records(both / "auto")[-1]
    last = checkpoint(both / "auto", record.name)
    assert (last["epoch"], last["global_step"]) == (2, 12)
    assert last["loops"]["fit_loop"]["epoch_progress"]["current"]["processed"] == 3
    best = both / "auto" / record.checkpoint
    module = ALRNNModule.load_from_checkpoint(best)
    assert module.core.nonlinear_units == 6
    assert module.configure_optimizers()["lr_scheduler"]["scheduler"].step_size == 1

    def config(name: str) -> list[str]:
        return [f"--config={both / name / record.log_dir}/config.yaml", f"--trainer.logger.save_dir={name}"]

    main(["test", *config("auto"), f"--ckpt_path={best}"])
    events = EventAccumulator(f"auto/{record.log_dir}").Reload()
    assert events.Scalars("test/mse")[-1].value == pytest.approx(record.run.metrics["test/mse"], rel=1e-5)
    # training goes on as that of a network which was trained alone
    for name in ("auto", "off"):
        path = both / name / record.log_dir / "checkpoints" / "last.ckpt"
        main(["fit", *config(name), "--trainer.max_epochs=4", f"--ckpt_path={path}"])
    one, other = (checkpoint(name, record.name) for name in ("auto", "off"))
    assert one["global_step"] == other["global_step"] == 16
    assert one["lr_schedulers"] == other["lr_schedulers"]
    for key, value in one["state_dict"].items():
        torch.testing.assert_close(value, other["state_dict"][key], rtol=0, atol=1e-4)


def test_a_member_s_checkpoint_has_the_statistics_of_its_data(caplog: pytest.LogCaptureFixture) -> None:
    recording = np.random.default_rng(0).normal(500, 80, size=(300, 2))
    np.save("recording.npy", recording)
    data = ["--data=Arrays", "--data.inputs=recording.npy", "--data.standardize=true", "--data.window=20"]
    others = [option for option in PLAIN if not option.startswith(("--config", "--data"))]
    with caplog.at_level("INFO"):
        assert sweep("swept", *TWO, base=[*data, *others]) == 0
    line = "Data of the first of 2 networks: one recording of 300 steps with 2 channels, in 17 windows"
    assert caplog.text.count(line) == 1
    for path in Path("swept").glob("runs/*/checkpoints/*.ckpt"):
        stored = torch.load(path, weights_only=True)["Arrays"]["statistics"]
        np.testing.assert_allclose(stored["mean"], recording[:210].mean(axis=0))
        np.testing.assert_allclose(stored["std"], recording[:210].std(axis=0))


def test_a_member_that_diverges_is_a_result_and_leaves_the_others_alone() -> None:
    units = ["--nonlinear_units=0,1,6", "--seeds=1"]
    rates = ["--grid", "model.optimizer.lr=1e-3,1e30", "--model.optimizer=SGD", "--trainer.gradient_clip_val=null"]
    assert sweep("swept", *units, *rates, base=PLAIN) == 0
    records = read_records("swept")
    for record in records:
        wild = record.run.settings["model.optimizer.lr"] == 1e30
        assert record.status == "done"
        assert record.run.diverged == wild
        assert bool(record.run.metrics) != wild
        assert ("training has diverged" in record.error) == wild
    # as many members, all of them tame
    assert sweep("tame", *units, "--grid", "model.optimizer.lr=1e-3,2e-3", *rates[2:], base=PLAIN) == 0
    tame = [record for record in read_records("tame") if record.run.settings["model.optimizer.lr"] == 1e-3]
    for one, other in zip([record for record in records if not record.run.diverged], tame, strict=True):
        first, second = weights("swept", one), weights("tame", other)
        assert all(value.equal(second[key]) for key, value in first.items())


@pytest.mark.slow  # its parts are tested in modules/test_population.py and test_progress.py
def test_early_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    # one member solves the task early, the other never
    monkeypatch.setattr("lightning_alrnn.metrics.threshold._IN_A_ROW", 1)
    monkeypatch.setattr("lightning_alrnn.metrics.threshold.reaches_threshold", lambda scores: scores["val/mse"] < 0.1)
    model = ("--model.optimizer=Adam", "--model.init=near_identity", "--model.mar_strength=0")
    easy = [*TINY, "--data.operation=sum", "--trainer.max_epochs=12", *model, "--data.train_size=1000"]
    for population in ("auto", "off"):
        options = ["--nonlinear_units=1", "--seeds=1", "--grid", "model.optimizer.lr=1e-6,0.01"]
        assert sweep(population, *options, "--stop_when=solved", f"--population={population}", base=easy) == 0
    together, alone = (read_records(folder) for folder in ("auto", "off"))
    stopped = [record for record in together if record.epochs < 12]
    assert stopped
    assert len(stopped) < len(together)
    for one, other in zip(together, alone, strict=True):
        assert (one.epochs, one.run.epochs_to_threshold) == (other.epochs, other.run.epochs_to_threshold)
        assert one.run.epochs_to_threshold == (one.epochs if one.epochs < 12 else None)
        assert one.run.metrics["test/mse"] == pytest.approx(other.run.metrics["test/mse"], rel=1e-2)
        first, second = (checkpoint(name, one.name) for name in ("auto", "off"))
        assert (first["epoch"], first["global_step"]) == (second["epoch"], second["global_step"])
        # training can go on from there
        assert first["loops"]["fit_loop"]["epoch_progress"] == second["loops"]["fit_loop"]["epoch_progress"]
        states, expected = ([*each["optimizer_states"][0]["state"].values()] for each in (first, second))
        torch.testing.assert_close(states, expected, rtol=0, atol=1e-3)
    # by another rule it is another sweep
    assert sweep("auto", *options, "--stop_when=plateau", base=easy) == 2


def test_what_cannot_be_trained_together_is_trained_one_by_one(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*arguments: Any) -> None:
        raise RuntimeError("one of them has no data")

    def do_run(surroundings: Surroundings, spec: Spec, task: None) -> None:
        if spec.nonlinear_units == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        run.do_run(surroundings, spec)

    with monkeypatch.context() as failing:
        failing.setattr(run_population, "_train", fail)
        failing.setattr(run_population, "do_run", do_run)
        assert sweep("swept", *TWO, base=PLAIN) == 2
    assert "its runs are trained one by one" in capsys.readouterr().err
    (record,) = read_records("swept")
    assert (record.status, record.run.nonlinear_units, record.population, record.epochs) == ("done", 6, "", 2)
    assert sweep("swept", *TWO, base=PLAIN) == 0
    report = capsys.readouterr().out
    assert "could not be trained in one step" in report
    assert "RuntimeError: one of them has no data" in report


def test_what_is_too_large_for_a_gpu_is_halved(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    train, write_checkpoints = run_population._train, MemberFolders.write_checkpoints
    begun: list[tuple[Surroundings, Work]] = []

    def train_few(surroundings: Surroundings, work: Work, checkpoint: Path) -> None:
        begun.append((surroundings, work))
        if len(work.specs) > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        train(surroundings, work, checkpoint)

    def interrupt_the_third(folders: MemberFolders, population: PopulationModule) -> list[Path]:
        if len(begun) == 3:
            raise KeyboardInterrupt
        return write_checkpoints(folders, population)

    monkeypatch.setattr(run_population, "_train", train_few)
    monkeypatch.setattr(MemberFolders, "write_checkpoints", interrupt_the_third)
    assert sweep("swept", *OPTIONS, base=PLAIN) == 130
    assert "its halves are trained one after the other" in capsys.readouterr().err
    surroundings, population = begun[0]
    halves = [work for _, work in begun[1:]]
    assert [work.specs for work in halves] == [population.specs[:3], population.specs[3:]]
    folder = surroundings.folder
    # the same command would go on with the second, and so does a job that is requeued, which begins with the whole
    assert (halves[1].folder(folder) / CHECKPOINT).is_file()
    assert read_populations(folder) == [halves[1]]
    before = written_records(folder)
    run_population.do_work(surroundings, population)
    assert [work for _, work in begun[3:]] == [halves[1]]
    for half, resumed in zip(halves, (False, True), strict=True):
        for spec in half.specs:
            record = read_record(folder, spec.name)
            assert (record.status, record.population, record.resumed) == ("done", half.population, resumed)
            assert record.epochs == 2
            path = folder / "runs" / spec.name / "record.json"
            assert (written_records(folder)[path] == before[path]) != resumed


def test_stopped_between_training_and_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("lightning_alrnn.metrics.threshold._IN_A_ROW", 1)
    monkeypatch.setattr("lightning_alrnn.metrics.threshold.reaches_threshold", lambda scores: True)
    options = [*TWO, *STEPS, "--stop_when=solved", "--trainer.max_epochs=5"]
    assert sweep("whole", *options, base=PLAIN) == 0

    def interrupt(*arguments: Any) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(MemberFolders, "write_checkpoints", interrupt)
        assert sweep("stopped", *options, base=PLAIN) == 130
    for path in Path("stopped/populations").glob("*/members.json"):
        path.write_text("[{")  # what a broken disk leaves: the runs are put together anew
    with pytest.warns(UserWarning, match="members.json cannot be read"):
        assert sweep("stopped", *options, base=PLAIN) == 0
    for one, other in zip(read_records("whole"), read_records("stopped"), strict=True):
        assert one.run == other.run
        assert (one.population, one.epochs) == (other.population, other.epochs)
        first, second = (checkpoint(name, one.name) for name in ("whole", "stopped"))
        assert (first["epoch"], first["global_step"]) == (second["epoch"], second["global_step"]) == (1, 8)
        assert first["lr_schedulers"] == second["lr_schedulers"]
        groups = [each["optimizer_states"][0]["param_groups"] for each in (first, second)]
        assert groups[0] == groups[1]
        assert groups[0][0]["lr"] == pytest.approx(1e-5)


@pytest.mark.slow  # a sweep of one process is killed in test_hunt.py
def test_a_population_and_its_parent_are_killed(tmp_path: Path) -> None:
    options = [*PLAIN, *TWO, "--jobs=1", "--trainer.max_epochs=30", "--model.initial_state=uniform"]
    command = [sys.executable, "-m", "lightning_alrnn", "sweep", *options, "--output_dir"]
    quiet: dict[str, Any] = {"stderr": subprocess.DEVNULL, "stdout": subprocess.DEVNULL}
    start = time.monotonic()
    subprocess.run([*command, "whole"], check=True, **quiet)
    seconds = time.monotonic() - start
    draw = random.Random(0)
    for _ in range(10):
        with subprocess.Popen([*command, "killed"], start_new_session=True, **quiet) as parent:
            time.sleep(draw.uniform(0.3, 1.0) * seconds)
            os.killpg(parent.pid, signal.SIGKILL)
    subprocess.run([*command, "killed"], check=True, **quiet)
    whole, killed = read_records("whole"), read_records("killed")
    assert [record.name for record in whole] == [record.name for record in killed]
    for one, other in zip(whole, killed, strict=True):
        assert other.status == "done"
        assert other.tracebacks == ()
        assert one.run == other.run
        for name in ("last.ckpt", Path(one.checkpoint).name):
            first, second = weights("whole", one, name), weights("killed", other, name)
            assert all(value.equal(second[key]) for key, value in first.items())
        for folder in ("whole", "killed"):
            events = EventAccumulator(str(Path(folder, "runs", one.name))).Reload()
            assert [event.step for event in events.Scalars("val/mse")] == [4 * epoch + 3 for epoch in range(30)]
            assert len(events.Scalars("test/mse")) == 1
