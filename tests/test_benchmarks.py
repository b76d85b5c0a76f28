"""The benchmarks run, and the README shows what they wrote."""

from __future__ import annotations

import json
import os
import re
import runpy
import subprocess
import sys
import time
import warnings
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from scripts import load_script

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"


def test_pages_show_the_tables_as_written() -> None:
    module = load_script(FOLDER / "readme.py")
    for path, name in zip(module.PAGES, ("verdict_power.md", "mechanisms.md"), strict=True):
        page = path.read_text(encoding="utf-8")
        assert f"<!-- begin benchmarks/results/{name}" in page
        assert module.filled(page) == page


def results_of(name: str) -> tuple[Any, str]:
    """The numbers and the table of a benchmark."""
    content = json.loads((FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8"))
    table = (FOLDER / "results" / f"{name}.md").read_text(encoding="utf-8")
    assert content["command"] in table
    return content["results"], table


def test_the_calibration_holds_its_level_in_every_cell() -> None:
    content, table = results_of("verdict_calibration")
    assert content["over"] == []
    worst: dict[str, dict[str, float]] = {}
    for cell in content["cells"]:
        assert max(cell["false"].values()) <= content["bound"]
        of_truth = worst.setdefault(cell["truth"], {})
        of_truth[str(cell["seeds"])] = max(of_truth.get(str(cell["seeds"]), 0.0), *cell["false"].values())
    rows = [row for row in worst.items() if f"| {row[0]} |" in table]
    assert len(rows) > 30
    for truth, by_seeds in rows:
        rates = [f"{by_seeds[seeds]:.3f}" for seeds in ("3", "5", "10", "20", "5..40")]
        assert f"| {' | '.join([truth, *rates])} |" in table


def test_primitives_are_found_where_they_are_and_only_there() -> None:
    content, table = results_of("mechanisms")
    for name in ("gating", "integration", "routing", "transients"):
        row = next(line for line in table.splitlines() if line.startswith(f"| {name} |"))
        for truth, least, most in ((True, 0.95, 1.0), (False, 0.0, 0.05)):
            for source in ("built", "trained", "untrained"):
                of = [kind for kind in content if kind["source"] == source and kind[name]["has"] is truth]
                networks, number = sum(kind["networks"] for kind in of), sum(kind[name]["found"] for kind in of)
                assert least * networks <= number <= most * networks
                if source != "untrained" and of:
                    assert f"| {number} of {networks} |" in row


OTHERS = {"verdict_calibration", "mechanisms", "sweeps", "gpu"}
TIMED = sorted({path.stem for path in (FOLDER / "results").glob("*.json")} - OTHERS)


@pytest.mark.parametrize("name", TIMED)
def test_tables_hold_the_minima_of_their_numbers(name: str) -> None:
    content, table = results_of(name)
    digits = {"memory": 1, "generation": 0, "networks": 3}.get(name, 2)
    minima = re.findall(r'"min": ([\d.e+-]+)', json.dumps(content))
    assert minima
    for value in minima:
        assert f"{float(value):.{digits}f} (" in table


def test_a_benchmark_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("common", "recurrence"):
        text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        text = re.sub(r'"(copy|multi-task|sMNIST|Lorenz-63)": \(.*\n', "", text)  # the smallest case is enough
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.setitem(sys.modules, "common", load_script(tmp_path / "common.py"))
    monkeypatch.setattr("sys.argv", ["recurrence.py", "--repeats", "1", "--threads", "1"])
    runpy.run_path(str(tmp_path / "recurrence.py"), run_name="__main__")
    content = json.loads((tmp_path / "results" / "recurrence.json").read_text(encoding="utf-8"))
    (row,) = content["results"]
    assert {"eager", "fused", "cudnn", "nn.RNN(relu)", "floor"} <= row["milliseconds"].keys()


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script for GPUs."""
    monkeypatch.syspath_prepend(FOLDER)
    return load_script(FOLDER / "gpu.py")


def test_without_a_gpu_nothing_is_claimed(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted((FOLDER / "results").glob("gpu.*"))
    monkeypatch.setattr(gpu.torch.cuda, "is_available", lambda: False)
    assert gpu.main([]) == 0
    printed = capsys.readouterr().out
    assert printed == "There is no GPU here that PyTorch can use: nothing was checked, timed or written.\n"
    assert sorted((FOLDER / "results").glob("gpu.*")) == before


@pytest.mark.slow
def test_all_that_a_gpu_would_do_rehearsed() -> None:
    """As ``make gpu`` runs it."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, str(FOLDER / "gpu.py"), "--rehearse"]
    done = subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows = re.findall(r"^\| (.+?) \| (passed|FAILED|missing|not run) \|", done.stdout, re.MULTILINE)
    assert len(rows) == 13
    assert {outcome for _, outcome in rows} == {"passed"}


def test_what_a_part_of_the_gpu_script_finds_missing_or_wrong_stops_no_other(
    gpu: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(machine: object) -> str:
        raise gpu.MissingError("triton")

    def waits(machine: object) -> str:
        with gpu.synchronisations() as places:
            warnings.warn("called a synchronizing CUDA operation", UserWarning, stacklevel=1)
        assert len(places) == 1
        raise AssertionError(places[0])

    parts = {"one": missing, "two": waits, "three": lambda machine: "fine"}
    monkeypatch.setattr(gpu, "PARTS", parts)
    machine = gpu.Machine(gpu.torch.device("cpu"), time.monotonic() + 100)
    results = gpu.run_parts(machine)
    assert [result["outcome"] for result in results.values()] == ["missing", "FAILED", "passed"]
    assert results["one"]["result"] == "triton is not installed"
    assert "test_benchmarks.py:" in results["two"]["result"]
    times = gpu.milliseconds(machine, {"broken": lambda: waits(machine), "fine": lambda: None}, 2)
    assert times.keys() == {"fine"}
    states = gpu.torch.tensor([0.5, 1e-7, 0.0])  # zero is past the end of a sequence
    assert [gpu.beside_a_kink(states, nonlinear) for nonlinear in (1, 2)] == [False, True]
    assert gpu.beside_a_kink(gpu.torch.tensor([gpu.KINK]), 0)
    late = gpu.run_parts(machine._replace(deadline=time.monotonic()))
    assert {result["outcome"] for result in late.values()} == {"not run"}
