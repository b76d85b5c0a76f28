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


def test_readme_shows_the_tables_as_written() -> None:
    module = load_script(FOLDER / "readme.py")
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert "<!-- begin benchmarks/results/recurrence.md -->" in readme
    assert module.filled(readme) == readme


@pytest.mark.parametrize("name", sorted(path.stem for path in (FOLDER / "results").glob("*.json")))
def test_tables_hold_the_minima_of_their_numbers(name: str) -> None:
    content = json.loads((FOLDER / "results" / f"{name}.json").read_text(encoding="utf-8"))
    table = (FOLDER / "results" / f"{name}.md").read_text(encoding="utf-8")
    assert content["command"] in table
    digits = {"memory": 1, "generation": 0}.get(name, 2)
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
