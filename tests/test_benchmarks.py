"""The benchmarks run, and the README shows what they wrote."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from scripts import load_script

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "benchmarks"


def test_pages_show_the_tables_as_written() -> None:
    module = load_script(FOLDER / "readme.py")
    for path, name in zip(module.PAGES, ("recurrence.md", "", "verdict_power.md", "mechanisms.md"), strict=True):
        page = path.read_text(encoding="utf-8")
        assert f"<!-- begin benchmarks/results/{name}" in page or not name
        assert module.filled(page) == page


def test_the_calibration_holds_its_level_in_every_cell() -> None:
    content = json.loads((FOLDER / "results" / "verdict_calibration.json").read_text(encoding="utf-8"))["results"]
    table = (FOLDER / "results" / "verdict_calibration.md").read_text(encoding="utf-8")
    assert content["over"] == []
    worst: dict[str, dict[str, float]] = {}
    for cell in content["cells"]:
        assert max(cell["false"].values()) <= content["bound"]
        of_truth = worst.setdefault(cell["truth"], {})
        of_truth[str(cell["seeds"])] = max(of_truth.get(str(cell["seeds"]), 0.0), *cell["false"].values())
    rows = [row for row in worst.items() if f"| {row[0]} |" in table]
    assert len(rows) > 30
    for truth, by_seeds in rows:
        assert (
            f"| {truth} | {' | '.join(f'{by_seeds[seeds]:.3f}' for seeds in ('3', '5', '10', '20', '5..40'))} |"
            in table
        )


def test_primitives_are_found_where_they_are_and_only_there() -> None:
    content = json.loads((FOLDER / "results" / "mechanisms.json").read_text(encoding="utf-8"))["results"]
    table = (FOLDER / "results" / "mechanisms.md").read_text(encoding="utf-8")
    for name in ("gating", "integration", "routing", "transients"):
        row = next(line for line in table.splitlines() if line.startswith(f"| {name} |"))
        for truth, least, most in ((True, 0.95, 1.0), (False, 0.0, 0.05)):
            for source in ("built", "trained", "untrained"):
                of = [kind for kind in content if kind["source"] == source and kind[name]["has"] is truth]
                networks, number = sum(kind["networks"] for kind in of), sum(kind[name]["found"] for kind in of)
                assert least * networks <= number <= most * networks
                if source != "untrained" and of:
                    assert f"| {number} of {networks} |" in row


TIMED = sorted(
    path.stem
    for path in (FOLDER / "results").glob("*.json")
    if path.stem not in ("verdict_calibration", "mechanisms", "sweeps")
)


@pytest.mark.parametrize("name", TIMED)
def test_tables_hold_the_minima_of_their_numbers(name: str) -> None:
    content = json.loads((FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8"))
    table = (FOLDER / "results" / f"{name}.md").read_text(encoding="utf-8")
    assert content["command"] in table
    digits = {"memory": 1, "generation": 0, "networks": 3}.get(name, 2)
    found = re.findall(r'"min": ([\d.e+-]+)', json.dumps(content["results"]))
    assert found
    for value in found:
        assert f"{float(value):.{digits}f} (" in table


def test_a_benchmark_runs(tmp_path: Path) -> None:
    for name in ("common", "recurrence"):
        text = (FOLDER / f"{name}.py").read_text(encoding="utf-8")
        text = re.sub(r'"(copy|multi-task|sMNIST|Lorenz-63)": \(.*\n', "", text)  # the smallest case is enough
        (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
    command = [sys.executable, "recurrence.py", "--repeats", "1", "--threads", "1"]
    subprocess.run(command, check=True, cwd=tmp_path, capture_output=True)
    content = json.loads((tmp_path / "results" / "recurrence.json").read_text(encoding="utf-8"))
    (row,) = content["results"]
    assert {"eager", "fused", "cudnn", "nn.RNN(relu)", "floor"} <= row["milliseconds"].keys()
