"""``alrnn verdict``: without PyTorch, on folders that cannot be written to, and of many runs."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from scripts import load_script
from sweep_runs import runs

from lightning_alrnn.commands.entry import main
from lightning_alrnn.sweep import judge
from lightning_alrnn.sweep.store import Record, run_folder, write_record
from lightning_alrnn.sweep.verdict_page import format_verdict

MADE = runs({0: [0.9, 0.91], 2: [0.95, 0.94]})


def write_sweep(folder: Path) -> None:
    for index, run in enumerate(MADE):
        write_record(folder, Record(f"run{index}", run, "done"))


def test_it_imports_neither_pytorch_nor_lightning(tmp_path: Path) -> None:
    """They would take seconds and 400 MB; the run has a configuration, with readings of the package."""
    write_sweep(tmp_path)
    reading = "{class_path: lightning_alrnn.readings.Units}"
    callback = f"{{class_path: lightning_alrnn.callbacks.ReadingCallback, init_args: {{reading: {reading}}}}}"
    (run_folder(tmp_path, "run0") / "config.yaml").write_text(f"trainer: {{callbacks: [{callback}]}}")
    program = (
        "import sys; from lightning_alrnn.commands.entry import main; main(['verdict', '.']); "
        "print(*{'torch', 'pytorch_lightning', 'lightning_utilities', 'scipy.stats'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, check=True, capture_output=True, text=True)
    assert done.stderr == ""  # it needs not ask for patience
    assert done.stdout == f"verdict.html\n\n{format_verdict(judge(MADE))}\n\n"


@pytest.mark.usefixtures("no_verdict_figures")
def test_a_folder_that_cannot_be_written_to(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """The answer is printed, and the files go elsewhere."""
    sweep, other = tmp_path / "sweep", tmp_path / "other"
    write_sweep(sweep)
    (sweep / "verdict.html").mkdir()  # nobody can replace it by a file, not even root
    main(["verdict", str(sweep)])
    printed = capsys.readouterr()
    assert printed.out == f"{format_verdict(judge(MADE))}\n"
    assert printed.err.startswith("alrnn verdict: the files of the verdict cannot be written ([Errno ")
    assert printed.err.endswith(f"{sweep}/verdict.html'): pass --output_dir and a folder that can be written to\n")
    assert printed.err.count("\n") == 1
    before = {path: path.stat().st_mtime_ns for path in sweep.rglob("*")}
    main(["verdict", str(sweep), "--output_dir", str(other)])
    printed = capsys.readouterr()
    assert (printed.out, printed.err) == (f"{other}/verdict.html\n\n{format_verdict(judge(MADE))}\n", "")
    assert {path.name for path in other.iterdir()} == {"verdict.html", "verdict.json"}
    assert {path: path.stat().st_mtime_ns for path in sweep.rglob("*")} == before


@pytest.mark.slow
def test_10000_runs_take_less_than_5_seconds_and_500_megabytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = Path(__file__).parents[2] / "benchmarks"
    monkeypatch.syspath_prepend(folder)
    script = load_script(folder / "bounded.py")
    script.write_records(tmp_path, 1000)
    seconds, peak = script.run_and_measure([sys.executable, "-m", "lightning_alrnn", "verdict", str(tmp_path)])
    assert seconds < 5  # of one core
    assert peak < 500
