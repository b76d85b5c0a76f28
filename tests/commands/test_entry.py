"""What the ``alrnn`` command does before it imports torch."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

import lightning_alrnn
from lightning_alrnn.commands import entry
from lightning_alrnn.commands.help import COMMANDS, OVERVIEW, find_screen
from lightning_alrnn.sweep import workers

SWEEP = ["sweep", "--config=addition_quick", "--nonlinear_units=0", "--seeds=1", "--output_dir=swept"]


def run_without_torch(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run ``alrnn`` where torch cannot be imported."""
    (folder / "torch.py").write_text("raise RuntimeError('torch is imported')")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(folder), os.environ.get("PYTHONPATH", "")])}
    command = [sys.executable, "-m", "lightning_alrnn", *arguments]
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def test_the_first_line_of_a_sweep_comes_before_torch(tmp_path: Path) -> None:
    done = run_without_torch(tmp_path, *SWEEP, "--executor=inline")
    assert done.stderr.startswith("alrnn sweep: importing PyTorch")
    assert done.stderr.endswith("RuntimeError: torch is imported\n")


@pytest.mark.parametrize("arguments", [[], *([command, "--help"] for command in COMMANDS)])
def test_help_needs_no_torch(arguments: list[str], tmp_path: Path) -> None:
    done = run_without_torch(tmp_path, *arguments)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.splitlines()[0] == (find_screen(arguments) or OVERVIEW).splitlines()[0]


def test_version_configurations_and_a_mistyped_command_need_no_torch(tmp_path: Path) -> None:
    done = run_without_torch(tmp_path, "--version")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"{lightning_alrnn.__version__}\n", "")
    done = run_without_torch(tmp_path, "configs")
    assert (done.returncode, done.stderr) == (0, "")
    assert "addition_quick" in done.stdout
    done = run_without_torch(tmp_path, "fitt")
    assert done.returncode == 2
    assert done.stderr.startswith("alrnn: error: there is no command 'fitt'; did you mean 'fit'?")


@pytest.mark.parametrize(
    ("arguments", "prepared"),
    [
        (SWEEP, True),
        ([*SWEEP, "--executor", "local"], True),
        ([*SWEEP, "--executor", "inline"], False),
        ([*SWEEP, "--executor=slurm"], False),
        (["ask", "data.npz"], True),
        (["verdict", "sweep"], False),
    ],
)
def test_workers_are_prepared_for_a_sweep_that_has_them(
    arguments: list[str], prepared: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    monkeypatch.setattr(workers, "prepare_workers", lambda: calls.append("workers"))
    monkeypatch.setattr(entry, "resolve_name", lambda name: lambda rest: calls.append(name))
    entry.main(arguments)
    assert calls == ["workers", f"lightning_alrnn.commands.{arguments[0]}:run_{arguments[0]}"][not prepared :]
