"""Run the quick configurations over P and seeds, and write what docs/results.md shows.

    python docs/results.py                       # all generated tasks, as many processes as cores
    python docs/results.py contextual multitask  # some of them
    python docs/results.py smnist --data_dir data  # of real data, which lie in data/mnist, data/imdb, …

The runs of a task are a sweep in runs/results/<task>, which is not repeated where its numbers stand in
docs/results/<task>.json. Tables and figures go beside it, and the tables into docs/results.md, between the comments
that name them.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "results"


class Task(NamedTuple):
    """Runs of a task, and what the page shows of them."""

    config: str
    units: tuple[int, ...]
    score: str  # logged key without its stage
    label: str  # of the score
    seeds: int = 3
    options: tuple[str, ...] = ()  # further arguments of every run
    retest: dict[str, tuple[str, ...]] = {}  # noqa: RUF012  # arguments of further tests, by name
    shown: tuple[str, ...] = ()  # further keys of the table, of the test or logged last in training
    folder: str = ""  # of real data in --data_dir
    same_data: bool = True  # for all seeds
    title: str = ""  # of the figure, which names the options


def _scan(split: str) -> Task:
    options = (f"--data.split={split}",)
    return Task("scan_quick", (0, 64), "sequence_accuracy", "exact sequences", 1, options, title=f"split {split}")


_EXACT = ("sequence_accuracy", "exact sequences")

TASKS = {
    "addition": Task("addition_quick", (0, 1, 5), "mse", "test MSE"),
    "contextual": Task("contextual_quick", (0, 1, 5, 10), "accuracy", "test accuracy", seeds=5),
    "copy": Task("copy_quick", (0, 5, 25), *_EXACT),
    "multitask": Task(
        "multitask_quick",
        (0, 8, 32),
        "accuracy",
        "mean test accuracy",
        retest={"lenient no-go": ("--data.lenient_nogo=true",)},
    ),
    "scan": Task("scan_quick", (0, 64), *_EXACT),
    "scan_length": _scan("length"),
    "scan_addprim_jump": _scan("addprim_jump"),
    "scan_addprim_turn_left": _scan("addprim_turn_left"),
    "stimulus_selection": Task("stimulus_selection_quick", (0, 1, 5), "accuracy", "choice accuracy"),
    "stimulus_selection_neural": Task(
        "stimulus_selection_neural_quick", (0, 1), "accuracy", "choice accuracy", shown=("test/rate_correlation",)
    ),
    "smnist": Task("smnist_quick", (0, 10, 50), "accuracy", "test accuracy", folder="mnist"),
    "smnist_pixel": Task(
        "smnist",
        (0, 10, 50),
        "accuracy",
        "test accuracy",
        seeds=1,
        options=("--trainer.max_epochs=10", "--model.lr_scheduler.T_max=10"),
        folder="mnist",
        title="10 epochs",
    ),
    "speech_commands": Task(
        "speech_commands_quick",
        (0, 10, 50),
        "accuracy",
        "test accuracy",
        seeds=5,
        options=("--data.speakers=drawn",),
        shown=("val/accuracy",),
        folder="speech_commands",
        same_data=False,
    ),
    "imdb": Task(
        "imdb_quick",
        (0, 10),
        "accuracy",
        "test accuracy",
        seeds=1,
        shown=("spectrum/slowest_eigenvalue_real", "spectrum/pc1_angle"),
        folder="imdb",
    ),
}


def _spoken(key: str) -> str:
    """A key as the table's rows have it."""
    return key.replace("val/", "validation ").rpartition("/")[2].replace("_", " ")


def _logged(folder: Path, key: str) -> list[float]:
    """Values of a key in the TensorBoard files of a folder, in order."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(folder), size_guidance={"scalars": 0}).Reload()
    return [round(event.value, 5) for event in events.Scalars(key)]


def run_task(name: str, processes: int, data_dir: str) -> list[dict[str, Any]]:
    """All runs of a task, from the file beside the page or from a sweep."""
    from lightning_alrnn.cli import run_cli
    from lightning_alrnn.commands.entry import main as alrnn
    from lightning_alrnn.sweep.store import read_records

    task = TASKS[name]
    path = FOLDER / f"{name}.json"
    runs: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    wanted = {(units, seed) for seed in range(task.seeds) for units in task.units}
    if wanted <= {(run["P"], run["seed"]) for run in runs}:
        return runs
    folder = Path("runs/results", name)
    common = [f"--config={task.config}", *task.options, "--trainer.accelerator=cpu", "--trainer.devices=1"]
    if task.folder:
        common.append(f"--data.data_dir={Path(data_dir, task.folder)}")
    # every run is trained by itself, so that its minutes are its own
    options = [
        *(["--data.seed=0"] if task.same_data else []),
        "--population=off",
        f"--jobs={processes}",
        f"--output_dir={folder}",
    ]
    units = ",".join(map(str, task.units))
    alrnn(["sweep", f"--nonlinear_units={units}", f"--seeds={task.seeds}", *common, *options])
    runs = []
    for record in read_records(folder):
        metrics = dict(record.run.metrics)
        for key in task.shown:
            if key not in metrics:
                metrics[key] = _logged(folder / record.log_dir, key)[-1]
        for label, changed in task.retest.items():
            network = [f"--model.nonlinear_units={record.run.nonlinear_units}", "--trainer.logger=false"]
            tested = run_cli(["test", *common, *network, *changed, f"--ckpt_path={folder / record.checkpoint}"])
            metrics[label] = float(tested.trainer.callback_metrics[f"test/{task.score}"])
        run = {"P": record.run.nonlinear_units, "seed": record.run.seed}
        run |= {"seconds": record.seconds, "epochs": record.epochs, "metrics": metrics}
        runs.append(run | {"curve": _logged(folder / record.log_dir, f"val/{task.score}")})
    lines = ",\n ".join(map(json.dumps, runs))
    path.write_text(f"[{lines}]\n", encoding="utf-8")
    return runs


def write(name: str, runs: list[dict[str, Any]]) -> None:
    """The table and the figure of a task."""
    task = TASKS[name]
    values = sorted({run["P"] for run in runs})
    seeds = max(run["seed"] for run in runs) + 1
    minutes = [run["seconds"] / 60 for run in runs]
    command = f"alrnn fit --config {task.config} --model.nonlinear_units P --seed_everything SEED"
    if task.folder:
        command += f" --data.data_dir DATA/{task.folder}"
    lines = [
        f"`{' '.join([command, *task.options])}`; {task.label} of the best validation epoch "
        f"of {runs[0]['epochs']}, {min(minutes):.1f} to {max(minutes):.1f} minutes a run on one core "
        f"(`python docs/results.py {name}{' --data_dir DATA' if task.folder else ''}`).",
        "",
        "| P | " + " | ".join(f"seed {seed}" for seed in range(seeds)) + " | mean |",
        "|---" * (seeds + 2) + "|",
    ]
    further = {**{name: name for name in task.retest}, **{key: _spoken(key) for key in task.shown}}
    for key in (f"test/{task.score}", *further):
        for units in values:
            scores = [run["metrics"][key] for run in runs if run["P"] == units]
            head = f"{units}, {further[key]}" if key in further else f"{units}"
            digits = 4 if key in task.shown else 3  # an eigenvalue of 1.003 is not 1
            cells = " | ".join(f"{score:.{digits}g}" for score in [*scores, sum(scores) / len(scores)])
            lines.append(f"| {head} | {cells} |")
    lines += ["", f"![{task.label} against P, and over training](results/{name}.png)"]
    (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    draw(name, runs)


def draw(name: str, runs: list[dict[str, Any]]) -> None:
    """Draw the score of every seed and the mean against P, and the validated score over training."""
    from lightning_alrnn.plotting.style import BLUE, GREEN, GREY, ORANGE, new_figure, tidy

    task = TASKS[name]
    values = sorted({run["P"] for run in runs})
    figure = new_figure(8, 3)
    left, right = figure.subplots(1, 2)
    means = []
    for position, (units, colour) in enumerate(zip(values, (BLUE, ORANGE, GREEN, GREY), strict=False)):
        same = [run for run in runs if run["P"] == units]
        scores = [run["metrics"][f"test/{task.score}"] for run in same]
        means.append(sum(scores) / len(scores))
        left.plot([position] * len(scores), scores, "o", color=colour, alpha=0.7, markeredgewidth=0, clip_on=False)
        for run in same:
            label = f"P = {units}" if run is same[0] else None
            right.plot(range(1, len(run["curve"]) + 1), run["curve"], color=colour, linewidth=0.8, label=label)
    left.plot(range(len(values)), means, color="0.4", linewidth=1, zorder=0)
    left.set_xticks(range(len(values)), [str(units) for units in values])
    left.set(xlim=(-0.5, len(values) - 0.5), xlabel="nonlinear units P", ylabel=task.label)
    right.set(xlabel="epoch", ylabel=task.label.replace("test", "validation"))
    right.legend(frameon=False, fontsize="small")
    for axes in (left, right):
        if "mse" in task.score:
            axes.set_yscale("log")
        else:
            axes.set_ylim(0, 1.02)
        tidy(axes)
    figure.suptitle(f"{task.config}{', ' + task.title if task.title else ''}: every seed, and the mean")
    figure.savefig(FOLDER / f"{name}.png", dpi=120)


def main() -> None:
    """Run the tasks, then write tables and figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", choices=[[], *TASKS], default=[])
    parser.add_argument("--data_dir", default="data", help="folder of the real data")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in options.tasks or [name for name, task in TASKS.items() if not task.folder]:
        write(name, run_task(name, options.processes, options.data_dir))
    subprocess.run([sys.executable, FOLDER.parents[1] / "benchmarks" / "readme.py"], check=True)


if __name__ == "__main__":
    main()
