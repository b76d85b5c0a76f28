"""Several processes do together what one does alone, and end when one of them meets an error."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from pytorch_lightning import Trainer
from pytorch_lightning.strategies import FSDPStrategy
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from scripts import load_script
from tiny_runs import MODULES

from lightning_alrnn import ALRNNModule

SCRIPT = Path(__file__).with_name("job_script.py")
HELPERS = Path(__file__).parents[1] / "helpers"
BATCHES = {"train": 8, "val": 6, "test": 2, "predict": 2}  # two epochs, each with a validation, and one validation more
PROCESSES = (2, pytest.param(3, marks=pytest.mark.slow))


class Job(NamedTuple):
    """A job that has ended."""

    folder: Path
    ranks: range
    code: int
    printed: str


def run(folder: Path, processes: int, *arguments: str) -> Job:
    """Run the job as a user would. It is killed after five minutes."""
    folder.mkdir()
    path = os.pathsep.join([str(HELPERS), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    with (folder / "output.txt").open("w") as output:
        command = [sys.executable, str(SCRIPT), str(folder), str(processes), *arguments]
        done = subprocess.run(command, stdout=output, stderr=output, env=environment, timeout=300, check=False)
    return Job(folder, range(processes), done.returncode, (folder / "output.txt").read_text())


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a job of one process."""
    folder = tmp_path_factory.mktemp("job")
    with warnings.catch_warnings(action="ignore"):
        load_script(SCRIPT).run(folder, 1)
    return folder


@pytest.fixture(scope="module", params=PROCESSES)
def several(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Job:
    """A job of several processes, the last of which fails when all is done."""
    job = run(tmp_path_factory.mktemp("jobs") / str(request.param), request.param)
    assert all((job.folder / f"seen-{rank}.json").is_file() for rank in job.ranks), job.printed[-3000:]
    return job


@cache
def seen(folder: Path, rank: int) -> Any:
    return json.loads((folder / f"seen-{rank}.json").read_text())


def read(folder: Path, part: str, rank: int = 0) -> Any:
    return seen(folder, rank)[part]


@pytest.mark.parametrize("module", MODULES)
def test_steps_metrics_and_weights_are_those_of_one_process_for_all_initial_states(
    alone: Path, several: Job, module: str
) -> None:
    one, ranks = read(alone, module), [read(several.folder, module, rank) for rank in several.ranks]
    for rank in ranks:
        assert rank["steps"] == one["steps"] == 2 * 4
        for initial_state in ("weights", "zeros", "learned"):  # "weights" are those with drawn states
            assert rank[initial_state] == ranks[0][initial_state]
            np.testing.assert_allclose(
                rank[initial_state], one[initial_state], rtol=0, atol=1e-5, err_msg=initial_state
            )
        for stage, expected in one["metrics"].items():
            metrics = rank["metrics"][stage]
            assert list(metrics) == list(expected)
            assert metrics == pytest.approx(expected, rel=1e-4, abs=1e-5, nan_ok=True), stage
    assert np.abs(np.subtract(one["weights"], one["zeros"])).max() > 1e-4  # what is drawn tells
    keys = {key for stage in one["metrics"].values() for key in stage}
    prefix = "encoder/" if module == "seq2seq" else ""
    assert {"train/loss", "val/task_loss", "test/task_loss", f"{prefix}regime/visited"} <= keys
    assert math.isfinite(one["metrics"]["test"]["test/loss"])


def test_processes_that_do_not_divide_the_sequences_take_the_steps_of_one(alone: Path, several: Job) -> None:
    assert read(alone, "odd_steps") == 2 * 5
    assert all(read(several.folder, "odd_steps", rank) == 2 * 5 for rank in several.ranks)


@pytest.mark.parametrize("module", MODULES)
def test_every_sequence_is_seen_once_and_every_hook_called_as_often(alone: Path, several: Job, module: str) -> None:
    """7 sequences of validation and test do not divide by two or three: nobody may see one twice."""
    one, ranks = read(alone, module), [read(several.folder, module, rank) for rank in several.ranks]
    for stage, sequences in {"train": 2 * 24, "val": 3 * 7, "test": 7, "predict": 7}.items():
        assert one["sequences"][stage] == sum(rank["sequences"][stage] for rank in ranks) == sequences
        # a process whose share of the last batch is empty has a batch less
        assert one["calls"][f"{stage}_batch"] == max(rank["calls"][f"{stage}_batch"] for rank in ranks)
        assert one["calls"][f"{stage}_batch"] == BATCHES[stage]
        for rank in ranks:
            assert rank["calls"][f"{stage}_epoch"] == one["calls"][f"{stage}_epoch"]


@pytest.mark.parametrize("module", MODULES)
def test_predictions_together_are_those_of_one_process(alone: Path, several: Job, module: str) -> None:
    with np.load(alone / module / "version_0" / "predictions.npz") as content:
        one = dict(content)
    shares = []
    for rank in several.ranks:
        with np.load(several.folder / module / "version_0" / f"predictions-rank={rank}.npz") as content:
            shares.append(dict(content))
    order = np.concatenate([share["index"] for share in shares]).argsort()
    np.testing.assert_array_equal(one["index"], range(7))
    for name, expected in one.items():
        if name.endswith("_names"):  # each process has all of them
            assert all(share[name].tolist() == expected.tolist() for share in shares)
            continue
        steps = max(share[name].shape[1] if share[name].ndim > 1 else 0 for share in shares)
        padded = [
            np.pad(value, [(0, 0), (0, steps - value.shape[1]), *[(0, 0)] * (value.ndim - 2)] if value.ndim > 1 else 0)
            for value in (share[name] for share in shares)
        ]
        np.testing.assert_allclose(np.concatenate(padded)[order], expected, rtol=0, atol=1e-5, err_msg=name)


def assert_ended(job: Job, failing: int) -> None:
    """It has ended by itself, not by the time limit of the test."""
    assert job.code != 0
    assert f"only process {failing} fails" in job.printed
    # the process that the first one started ends, too, if a moment later
    for _ in range(300):
        running = [path for path in Path("/proc").glob("[0-9]*/cmdline") if str(job.folder).encode() in _read(path)]
        if not running:
            break
        time.sleep(0.1)
    assert not running


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:  # it has just ended
        return b""


def test_an_error_of_the_last_process_ends_them_all(several: Job) -> None:
    assert_ended(several, several.ranks[-1])


@pytest.mark.slow
def test_an_error_of_the_first_process_ends_them_all(tmp_path: Path) -> None:
    assert_ended(run(tmp_path / "job", 2, "0"), 0)


def test_fsdp_is_refused() -> None:
    module = ALRNNModule(2, 3)
    module.trainer = trainer = Trainer(accelerator="cpu", devices=1, logger=False, enable_checkpointing=False)
    module.setup("fit")
    # the Trainer itself takes it with a GPU only
    trainer._accelerator_connector.strategy = FSDPStrategy()
    with pytest.raises(MisconfigurationException, match=r"does not run under FSDP: .* use strategy='ddp'"):
        module.setup("fit")
