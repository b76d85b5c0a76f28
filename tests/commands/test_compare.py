"""``alrnn compare`` from the folder of a sweep, or checkpoints, to its page."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import torch
import yaml
from command_runs import ADDITION, LAST, fit
from torch import Tensor
from undrawn import undrawn

from lightning_alrnn.commands.compare import _group, _of_checkpoints, _read, compare_networks
from lightning_alrnn.commands.entry import main
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import Record, write_record


@contextmanager
def copied(directory: Path, target: Path) -> Iterator[dict[str, Tensor]]:
    """A copy of a run with other weights, which are changed in place."""
    shutil.copytree(directory, target)
    content = torch.load(target / LAST, weights_only=True)
    yield content["state_dict"]
    torch.save(content, target / LAST)


def scaled_copy(directory: Path, target: Path) -> None:
    """The same network with other data and its nonlinear units in other units."""
    scale = torch.tensor([1.0, 1.0, 1.0, 4.0, 0.25])
    with copied(directory, target) as state:
        state["core.W"] *= scale[:, None] / scale
        state["core.h"] *= scale
        state["core.C"] *= scale[:, None]
        state["readout.weight"] /= scale
    config = yaml.safe_load((target / "config.yaml").read_text())
    config["data"]["init_args"]["seed"] = 7
    (target / "config.yaml").write_text(yaml.safe_dump(config))


def change_weights(directory: Path, target: Path, factor: float, seed: int) -> None:
    """Another network of the same form."""
    with copied(directory, target) as state:
        for name in ("core.W", "core.C", "core.h", "readout.weight"):
            state[name] = factor * torch.randn(state[name].shape, generator=torch.Generator().manual_seed(seed))


@pytest.fixture(scope="module")
@undrawn()
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """P=2 with a network, itself in other coordinates and another one; P=0; and runs that left no network."""
    root = tmp_path_factory.mktemp("sweep")
    options = (*ADDITION, "--data.test_size=24", "--model.hidden_size=5")
    first = fit(root, *options, "--model.nonlinear_units=2", "--model.init=near_identity")
    shutil.copytree(first, root / "runs" / "P2-seed0")
    scaled_copy(first, root / "runs" / "P2-seed1")
    change_weights(first, root / "runs" / "P2-seed2", 0.5, seed=0)
    change_weights(first, root / "runs" / "P2-seed3", 1e30, seed=0)
    shutil.copytree(fit(root, *options, "--model.nonlinear_units=0"), root / "runs" / "P0-seed0")
    for name in ("P2-seed0", "P2-seed1", "P2-seed2", "P2-seed3", "P0-seed0"):
        run = Run("ALRNN", int(name[1]), int(name[-1]), {}, {"test/mse": 0.1}, False, 5)
        write_record(root, Record(name, run, "done", checkpoint=str(Path("runs") / name / LAST)))
    for name, run, rest in (
        ("P2-seed4", Run("ALRNN", 2, 4, {}, {}, True), {"status": "done", "tracebacks": ("FloatingPointError: nan",)}),
        ("P2-seed5", Run("ALRNN", 2, 5, {}, {}), {"status": "failed", "tracebacks": ("ValueError: no",)}),
        ("P2-seed6", Run("ALRNN", 2, 6, {}, {}), {"status": "running"}),
        ("GRU-seed0", Run("GRU", None, 0, {}, {}), {"status": "done"}),
        ("P2-seed7", Run("ALRNN", 2, 7, {}, {}), {"status": "done", "checkpoint": "runs/P2-seed7/gone.ckpt"}),
    ):
        write_record(root, Record(name=name, run=run, **rest))
    return root


@pytest.fixture(scope="module")
def report(sweep: Path) -> dict[str, Any]:
    main(["compare", str(sweep), "--max_sequences", "20", "--time_limit", "1"])
    content: dict[str, Any] = json.loads((sweep / "compare.json").read_text())
    return content


def test_a_network_and_itself_in_other_coordinates_are_the_same(report: dict[str, Any]) -> None:
    linear, rectified = report["groups"]
    assert [group["title"] for group in (linear, rectified)] == ["P=0", "P=2"]
    first, scaled, other = rectified["networks"]
    assert [network["name"] for network in (first, scaled, other)] == ["P2-seed0", "P2-seed1", "P2-seed2"]
    assert rectified["distance"][0][1] < 1e-3  # rounding of weights in float32
    assert rectified["distance"][0][2] > 0.5
    assert first["solution"] == scaled["solution"] == "A"
    assert other["solution"] == "B"
    assert scaled["score"] == pytest.approx(first["score"], rel=1e-4)  # on the same data, against its configuration
    assert rectified["data_of"] == "P2-seed0"
    assert rectified["sequences"] == 20
    assert set(first["primitives"]) >= {"gating", "integration"}
    assert set(first["fixed_points"]) >= {"zero", "mean"}
    assert set(linear["measures"]) == {"gains", "dynamics"}


def test_what_is_left_out_is_named(report: dict[str, Any]) -> None:
    left_out = {one["name"]: one["reason"] for one in report["left_out"]}
    assert "not finite: the network is unstable" in left_out.pop("P2-seed3")
    assert left_out.pop("P2-seed7").endswith("gone.ckpt is gone")
    assert left_out == {
        "P2-seed4": "diverged: FloatingPointError: nan",
        "P2-seed5": "failed: ValueError: no",
        "P2-seed6": "not done",
        "GRU-seed0": "its core is GRU, which has no regimes",
    }


def test_files_and_sentences(report: dict[str, Any], sweep: Path) -> None:
    assert {path.suffix for path in sweep.glob("compare.*")} == {".html", ".json", ".png", ".svg"}
    page = (sweep / "compare.html").read_text()
    for sentence in report["answers"]:
        assert sentence in page
    assert report["answers"][0].startswith("P=0")
    assert "P2-seed5" in page


@undrawn()
def test_those_that_do_not_solve_the_task_are_not_counted(report: dict[str, Any], sweep: Path, tmp_path: Path) -> None:
    first, _, other = (network["score"] for network in report["groups"][1]["networks"])
    assert first < other
    paths = [sweep / "runs" / f"P2-seed{seed}" / LAST for seed in range(3)]
    folder, (answer,) = compare_networks(paths, tmp_path, solved=(first + other) / 2, max_sequences=8, time_limit=0.2)
    assert folder == tmp_path
    assert answer.startswith("P=2: both networks find the same solution (")
    assert answer.endswith("not good enough and not counted: P2-seed2/last.")


@undrawn()
def test_checkpoints_none_of_which_solves_the_task(sweep: Path, capsys: pytest.CaptureFixture[str]) -> None:
    paths = [str(sweep / "runs" / name / LAST) for name in ("P2-seed0", "P2-seed1")]
    main(["compare", *paths, "--max_sequences", "8", "--time_limit", "0.2", "--solved=-1"])
    assert (sweep / "runs" / "P2-seed0" / "compare.html").is_file()
    words = " ".join(capsys.readouterr().out.split())
    assert "P=2 (none is good enough): both networks find the same solution (" in words


def test_gains_behind_encoders_are_not_compared(sweep: Path) -> None:
    (candidate,) = _of_checkpoints([sweep / "runs" / "P2-seed0" / LAST])
    reading = _read(candidate, candidate, 8, 0.2)
    group = _group("P=2", [reading._replace(has_encoder=True)] * 2, [0.1, 0.1], [True, True], "seeds")
    assert "gains" not in group.comparison.measures
    single = _group("P=2", [reading], [0.1], [True], "seeds")
    assert single.answer == f"P=2: only one of the seeds, {candidate.label}, can be analysed."


def test_nothing_to_compare(tmp_path: Path, sweep: Path) -> None:
    (tmp_path / "empty" / "runs").mkdir(parents=True)
    write_record(tmp_path / "begun", Record("a", Run("ALRNN", 1, 0, {}, {}), "running"))
    for paths, message in (
        ([tmp_path], "holds no sweep"),
        ([sweep, sweep], "is a folder: state the folder of a single sweep, or checkpoints"),
        ([tmp_path / "none.ckpt"], "no such file"),
        ([tmp_path / "empty"], r"holds no trained ALRNN to compare \(no run has begun"),
        ([tmp_path / "begun"], r"holds no trained ALRNN to compare \(a: not done"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=message):
            compare_networks(paths)


def test_a_metric_that_does_not_exist_is_refused_after_one_network(
    sweep: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    read = Mock(side_effect=_read)
    monkeypatch.setattr("lightning_alrnn.commands.compare._read", read)
    with pytest.raises(ValueError, match="no run has the metric 'test/r2'; there are test/"):
        compare_networks([sweep], score="r2", max_sequences=8, time_limit=0.2)
    read.assert_called_once()
