"""On a running SLURM cluster: ``python -m pytest -m slurm tests/slurm``, which takes minutes.

Jobs read and write pytest's temporary folder. Where nodes do not share it, name one that they share: ``--basetemp``.
"""

from __future__ import annotations

import csv
import json
import os
import re
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

pytestmark = pytest.mark.slurm

ROOT = Path(__file__).parents[2]
SUBMITTED: list[str] = []
PATIENCE = 300
STEPS = 10  # an epoch
EPOCHS = 3
PAUSE = 14  # steps are done; the signal comes in the middle of the next one
CONFIG = f"""
seed_everything: 1
model:
  class_path: ALRNNModule
  init_args:
    hidden_size: 8
    nonlinear_units: 3
    initial_state: uniform
data:
  class_path: Addition
  init_args:
    sequence_length: 10
    train_size: {16 * STEPS}
    val_size: 32
    test_size: 32
    batch_size: 16
trainer:
  accelerator: cpu
  max_epochs: {EPOCHS}
  log_every_n_steps: 1
  enable_progress_bar: false
  enable_model_summary: false
"""
PAUSED = [{"class_path": "pause.Pause", "init_args": {"step": PAUSE}}]


@pytest.fixture(autouse=True)
def _cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if shutil.which("sinfo") is None:
        pytest.skip("SLURM is not installed: there is no sinfo")
    nodes = subprocess.run(["sinfo", "--noheader", "--format=%T"], capture_output=True, text=True)
    if nodes.returncode or not nodes.stdout.strip():
        pytest.skip(f"no SLURM cluster is running: sinfo says {(nodes.stderr or nodes.stdout).strip()!r}")
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), str(Path(__file__).parent)]))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    yield
    subprocess.run(["scancel", "--quiet", *SUBMITTED], check=False)  # what a test that failed has left
    SUBMITTED.clear()


def wait_for(condition: Callable[[], bool], what: str) -> None:
    until = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < until, f"waited {PATIENCE} s for {what}"
        time.sleep(0.2)


def control(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def submit(script: Path) -> str:
    job = control("sbatch", "--parsable", "--chdir", str(script.parent), str(script)).strip()
    SUBMITTED.append(job)
    return job


def state_of(job: str, field: str = "JobState") -> str:
    return control("scontrol", "show", "job", job, "--oneliner").partition(f"{field}=")[2].split()[0]


def end_of(job: str) -> str:
    wait_for(lambda: state_of(job) not in ("PENDING", "RUNNING", "COMPLETING"), "the job's end")
    return state_of(job)


class Job:
    """A batch script with one ``alrnn fit`` in it."""

    def __init__(self, folder: Path, tasks: int = 1, pause: bool = False, more: str = "") -> None:
        self.folder = folder
        self.tasks = tasks
        folder.mkdir(exist_ok=True)
        callbacks = [{"class_path": "RegimeOccupancy"}, *(PAUSED if pause else [])]
        (folder / "task.yaml").write_text(CONFIG + f"  callbacks: {json.dumps(callbacks)}\n")
        if tasks > 1:
            more += f" --trainer.devices {tasks} --trainer.strategy ddp --data.init_args.batch_size {16 // tasks}"
        (folder / "job.sh").write_text(
            "#!/bin/bash\n"
            f"#SBATCH --ntasks-per-node={tasks} --time=10 --signal=SIGUSR1@60 --requeue\n"
            "#SBATCH --output=output.txt --open-mode=append\n"
            f"srun {sys.executable} -m lightning_alrnn fit --config task.yaml {more}\n"
        )
        self.id = submit(folder / "job.sh")
        self.log_dir = folder / "runs" / "Addition" / f"job_{self.id}"

    @property
    def output(self) -> str:
        path = self.folder / "output.txt"
        return path.read_text() if path.is_file() else ""

    def wait_until_paused(self) -> None:
        reached = self.folder / "reached"
        wait_for(lambda: reached.is_file() or state_of(self.id) not in ("PENDING", "RUNNING"), "the pause")
        assert reached.is_file(), self.output

    def go_on(self) -> None:
        time.sleep(1)  # the signal is on its way
        (self.folder / "go").touch()

    def wait_for_restart(self) -> None:
        wait_for(lambda: (state_of(self.id, "Restarts"), state_of(self.id)) == ("1", "PENDING"), "the requeue")
        assert PAUSE < self.last()["global_step"] < STEPS * EPOCHS
        control("scontrol", "update", f"JobId={self.id}", "StartTime=now")  # SLURM would wait for two minutes

    def last(self) -> dict[str, Any]:
        content: dict[str, Any] = torch.load(self.log_dir / "checkpoints" / "last.ckpt", weights_only=True)
        return content

    def curves(self) -> dict[str, list[tuple[int, float]]]:
        events = EventAccumulator(str(self.log_dir), size_guidance={"scalars": 0})
        events.Reload()
        tags = [tag for tag in events.Tags()["scalars"] if tag != "hp_metric"]  # -1, once at each start of a process
        return {tag: [(event.step, event.value) for event in events.Scalars(tag)] for tag in tags}


def check_same(job: Job, whole: Job) -> None:
    """Check that a job that was stopped ended as one that was not: no gap in its curves, and no step twice."""
    expected, last = whole.last(), job.last()
    assert last["global_step"] == expected["global_step"] == STEPS * EPOCHS
    tolerance = 0.0 if whole.tasks == 1 else 1e-6
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(last["state_dict"][name], value, rtol=0, atol=tolerance, msg=name)
    shown = job.curves()
    assert shown.keys() == whole.curves().keys()
    for tag, points in whole.curves().items():
        assert [step for step, _ in shown[tag]] == [step for step, _ in points], tag
        assert [value for _, value in shown[tag]] == pytest.approx([value for _, value in points], abs=tolerance), tag


@pytest.fixture(scope="module")
def uninterrupted(tmp_path_factory: pytest.TempPathFactory) -> Callable[[int], Job]:
    """The job that nothing stops, by its number of tasks."""
    jobs: dict[int, Job] = {}

    def get(tasks: int) -> Job:
        if tasks not in jobs:
            jobs[tasks] = Job(tmp_path_factory.mktemp("whole") / "job", tasks)
            assert end_of(jobs[tasks].id) == "COMPLETED", jobs[tasks].output
        return jobs[tasks]

    return get


def test_two_tasks_are_one_run(uninterrupted: Callable[[int], Job]) -> None:
    one, two = uninterrupted(1), uninterrupted(2)
    assert "GLOBAL_RANK: 1, MEMBER: 2/2" in two.output
    assert one.last()["global_step"] == two.last()["global_step"] == STEPS * EPOCHS
    steps_of_one = {tag: [step for step, _ in points] for tag, points in one.curves().items()}
    assert {tag: [step for step, _ in points] for tag, points in two.curves().items()} == steps_of_one
    assert [path.name for path in two.log_dir.parent.iterdir()] == [two.log_dir.name]  # the second logs nowhere else


@pytest.mark.parametrize("tasks", [1, 2], ids=["one task", "two tasks"])
@pytest.mark.parametrize("by", ["SIGUSR1", "requeue"])
def test_a_requeued_job_goes_on(by: str, tasks: int, uninterrupted: Callable[[int], Job], tmp_path: Path) -> None:
    job = Job(tmp_path / "job", tasks, pause=True)
    job.wait_until_paused()
    if by == "SIGUSR1":  # what --signal sends before the time is over
        control("scancel", "--signal=USR1", job.id)
    else:  # what an administrator or a job of higher priority does
        control("scontrol", "requeue", job.id)
    job.go_on()
    job.wait_for_restart()
    assert end_of(job.id) == "COMPLETED", job.output

    assert [path.name for path in job.log_dir.glob("hpc_ckpt_*")] == (["hpc_ckpt_1.ckpt"] if by == "SIGUSR1" else [])
    assert "Restoring states from the checkpoint" in job.output
    assert [path.name for path in job.log_dir.parent.iterdir()] == [job.log_dir.name]
    check_same(job, uninterrupted(tasks))


@pytest.mark.parametrize("tasks", [1, 2], ids=["one task", "two tasks"])
def test_a_cancelled_job_can_be_continued(tasks: int, uninterrupted: Callable[[int], Job], tmp_path: Path) -> None:
    job = Job(tmp_path / "job", tasks, pause=True)
    job.wait_until_paused()
    control("scancel", job.id)
    job.go_on()
    assert end_of(job.id) == "CANCELLED", job.output
    assert PAUSE < job.last()["global_step"] < STEPS * EPOCHS

    last = job.log_dir / "checkpoints" / "last.ckpt"
    again = Job(job.folder, tasks, more=f"--trainer.logger.init_args.version job_{job.id} --ckpt_path {last}")
    assert end_of(again.id) == "COMPLETED", again.output
    check_same(job, uninterrupted(tasks))


def test_a_sweep_is_an_array_of_jobs(tmp_path: Path) -> None:
    (tmp_path / "task.yaml").write_text(CONFIG)
    command = [sys.executable, "-m", "lightning_alrnn", "sweep", "--config", "task.yaml", "--nonlinear_units=0,3"]
    command += ["--seeds=2", "--output_dir=sweep", "--executor=slurm", "--time=10", "--population=2"]
    first = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert first.returncode == 0, first.stderr
    folder = tmp_path / "sweep"
    with (folder / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["nonlinear_units"], row["seed"], row["status"]) for row in rows] == [
        (P, seed, "done") for P in "03" for seed in "01"
    ]
    assert len({row["population"] for row in rows}) == 2
    jobs = sorted(path.read_text() for path in folder.glob("populations/*/slurm_job"))
    array = jobs[0].partition("_")[0]
    assert jobs == [f"{array}_0", f"{array}_1"]
    assert json.loads((folder / "verdict.json").read_text())["claims"]["nonlinearity_needed"] is None  # with two seeds

    records = {path: path.read_bytes() for path in folder.glob("runs/*/record.json")}
    again = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=PATIENCE)
    assert again.returncode == 0, again.stderr
    assert {path: path.read_bytes() for path in folder.glob("runs/*/record.json")} == records
    assert sorted(path.read_text() for path in folder.glob("populations/*/slurm_job")) == jobs


@pytest.mark.parametrize(
    ("kind", "options", "begun", "epochs"),
    [
        (
            "populations",
            ["--nonlinear_units=0,3", "--seeds=2", "--trainer.max_epochs=300"],
            "sweep/populations/*/last.ckpt",
            300,
        ),
        ("runs", ["--nonlinear_units=3", "--seeds=1"], "reached", EPOCHS),
    ],
)
def test_a_preempted_job_of_a_sweep_goes_on(
    kind: str, options: list[str], begun: str, epochs: int, tmp_path: Path
) -> None:
    paused = f"  callbacks: {json.dumps(PAUSED)}\n" if kind == "runs" else ""
    (tmp_path / "task.yaml").write_text(CONFIG + paused)
    command = [sys.executable, "-m", "lightning_alrnn", "sweep", "--config", "task.yaml", *options]
    command += ["--output_dir=sweep", "--executor=slurm", "--time=10", f"--slurm=chdir={tmp_path}"]
    with subprocess.Popen(command, cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as sweep:
        wait_for(lambda: bool([*tmp_path.glob(begun)]), "the first checkpoint or the pause")
        (trained,) = (tmp_path / "sweep" / kind).iterdir()
        job = (trained / "slurm_job").read_text()
        SUBMITTED.append(job)
        control("scancel", "--signal=USR2", job)  # the signal that submitit asks SLURM for
        time.sleep(1)
        (tmp_path / "go").touch()
        wait_for(lambda: "PENDING" in control("squeue", "--noheader", "--format=%T", f"--jobs={job}"), "the requeue")
        control("scontrol", "update", f"JobId={job}", "StartTime=now")
        said, _ = sweep.communicate(timeout=PATIENCE)
    assert sweep.returncode == 0, said
    for path in tmp_path.glob("sweep/runs/*/record.json"):
        record = json.loads(path.read_text())
        assert (record["status"], record["resumed"], record["tracebacks"]) == ("done", True, [])
        assert (record["population"], record["epochs"]) == (trained.name if kind == "populations" else "", epochs)


PAGE = ROOT / "docs" / "cluster.md"
SCRIPTS = re.findall(r"```bash\n(#!/bin/bash\n.*?)```", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL)
CUT_DOWN = {  # to two cores
    r"source ~/venv/bin/activate": "",
    r"#SBATCH --gpus-per-node=4\n": "",
    r"--nodes=2": "--nodes=1",
    r"--ntasks-per-node=4": "--ntasks-per-node=2",
    r"--cpus-per-task=4": "--cpus-per-task=1",
    r"--cpus-per-task=32": "--cpus-per-task=2",
    r"--trainer.accelerator gpu": "--trainer.accelerator cpu",
    r"--trainer.devices 4": "--trainer.devices 2",
    r"--trainer.num_nodes 2": "--trainer.num_nodes 1",
    r"--config addition(_quick)?": "--config task.yaml",
    r"--nonlinear_units 0,1,2,5,10 --seeds 5": "--nonlinear_units 0,3 --seeds 1",
}


class Script:
    """A script of the page, cut down to two cores."""

    def __init__(self, number: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        self.text = SCRIPTS[number]
        for pattern, replacement in CUT_DOWN.items():
            self.text = re.sub(pattern, replacement, self.text)
        command = folder / "bin" / "alrnn"
        command.parent.mkdir()
        command.write_text(f'#!/bin/sh\nexec {sys.executable} -m lightning_alrnn "$@"\n')
        command.chmod(0o755)
        monkeypatch.setenv("PATH", os.pathsep.join([str(command.parent), os.environ["PATH"]]))
        (folder / "task.yaml").write_text(CONFIG)

    def submit(self) -> str:
        path = self.folder / "script.sh"
        path.write_text(self.text)
        return submit(path)

    def output(self, job: str) -> str:
        return (self.folder / f"slurm-{job}.out").read_text()


@pytest.mark.parametrize("number", range(len(SCRIPTS)))
def test_the_page_has_scripts_that_run(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = Script(number, tmp_path, monkeypatch)
    job = script.submit()
    assert end_of(job) == "COMPLETED", script.output(job)
    if "alrnn sweep" in script.text:
        assert (tmp_path / "sweeps" / "addition" / "verdict.json").is_file()
    else:
        last = torch.load(tmp_path / f"runs/Addition/job_{job}/checkpoints/last.ckpt", weights_only=True)
        assert last["global_step"] == STEPS * EPOCHS // 2  # two processes


def test_a_sweep_within_a_job_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (number,) = (number for number, text in enumerate(SCRIPTS) if "alrnn sweep" in text)
    script = Script(number, tmp_path, monkeypatch)
    (tmp_path / "task.yaml").write_text(CONFIG + f"  callbacks: {json.dumps(PAUSED)}\n")
    job = script.submit()
    wait_for((tmp_path / "reached").is_file, "the pause")
    control("scancel", "--batch", "--signal=USR1", job)  # as --signal=B:SIGUSR1 does
    time.sleep(1)
    (tmp_path / "go").touch()
    wait_for(lambda: state_of(job) == "PENDING", "the requeue")
    time.sleep(2)  # SLURM refuses what starts within the second of its requeue, which no job does by itself
    control("scontrol", "update", f"JobId={job}", "StartTime=now")
    assert end_of(job) == "COMPLETED", script.output(job)
    records = [json.loads(path.read_text()) for path in tmp_path.glob("sweeps/addition/runs/*/record.json")]
    assert [record["status"] for record in records] == ["done", "done"]
    assert any(record["resumed"] for record in records)
    assert not any(record["tracebacks"] for record in records)
