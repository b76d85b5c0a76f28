"""A run that is killed and resumed ends as one that never stopped: same weights, metrics and logged steps."""

from __future__ import annotations

import csv
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from scripts import load_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from lightning_alrnn.modules import base

SCRIPT = Path(__file__).parent / "resume_script.py"
STEPS = 10  # an epoch
LAST = Path("log", "version_0", "checkpoints", "last.ckpt")


def run(folder: Path, processes: int, kill: int = 999, *checkpoint: Path) -> int:
    """The exit code of a run, which is one of this process unless it is killed or has two."""
    if processes == 1 and kill == 999:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(base, "_CHECKPOINT_STEPS", base._CHECKPOINT_STEPS)  # the script changes it
            load_script(SCRIPT).run(str(folder), 1, kill, *map(str, checkpoint))
        return 0
    command = [sys.executable, *map(str, (SCRIPT, folder, processes, kill, *checkpoint))]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    with (folder.parent / f"{folder.name}.txt").open("w") as output:
        return subprocess.run(command, stdout=output, stderr=output, env=environment, timeout=120).returncode


def load(folder: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / LAST, weights_only=True)
    return content


def logged(folder: Path) -> dict[tuple[str, str], str]:
    """What the CSV file of the last process has, by key and step."""
    with (folder / "log" / "version_0" / "metrics.csv").open() as file:
        rows = [(row.pop("step"), row) for row in csv.DictReader(file)]
    return {(key, step): value for step, row in rows for key, value in row.items() if value and key != "epoch"}


def curves(folder: Path) -> dict[str, list[tuple[int, float]]]:
    """Steps and values of each curve."""
    events = EventAccumulator(str(folder / "log" / "version_0"), size_guidance={"scalars": 0})
    events.Reload()
    tags = [tag for tag in events.Tags()["scalars"] if tag != "hp_metric"]
    return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


ONE_OR_TWO = [pytest.param(1, id="one process"), pytest.param(2, id="two processes", marks=pytest.mark.slow)]


@pytest.fixture(scope="module", params=ONE_OR_TWO)
def uninterrupted(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, int]:
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert run(folder, request.param) == 0
    return folder, request.param


@pytest.mark.filterwarnings("ignore")  # as in the script
@pytest.mark.parametrize(
    "kill",
    [pytest.param(17, id="in mid-epoch"), pytest.param(-20, id="before validation", marks=pytest.mark.slow)],
)
def test_a_killed_run_resumes_exactly(uninterrupted: tuple[Path, int], kill: int, tmp_path: Path) -> None:
    expected_dir, processes = uninterrupted
    if processes > 1 and kill < 0:
        pytest.skip("the place in the epoch does not depend on the processes")
    folder = tmp_path / "run"
    assert run(folder, processes, kill) == -signal.SIGKILL
    resumed_at = load(folder)["global_step"]
    assert resumed_at % STEPS > 0  # between two epochs it would show little
    (folder / "log" / "version_0" / "metrics.csv").unlink(missing_ok=True)
    time.sleep(1)  # TensorBoard reads the files in the order of the seconds in their names
    assert run(folder, processes, 999, folder / LAST) == 0

    expected, resumed = load(expected_dir), load(folder)
    assert resumed["global_step"] == expected["global_step"] == 3 * STEPS
    tolerance = 0.0 if processes == 1 else 1e-6
    torch.testing.assert_close(resumed["state_dict"], expected["state_dict"], rtol=0, atol=tolerance)
    later = {place: value for place, value in logged(expected_dir).items() if int(place[1]) >= resumed_at}
    assert logged(folder).keys() == later.keys()
    for place, value in later.items():
        assert float(logged(folder)[place]) == pytest.approx(float(value), abs=tolerance), place
    # TensorBoard drops the steps that were taken twice
    torch.testing.assert_close(curves(folder), curves(expected_dir), rtol=0, atol=tolerance)
