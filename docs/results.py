"""Run the quick configurations over P and seeds, and write the tables and figures of docs/results.md.

    python docs/results.py                       # all tasks, as many processes as cores
    python docs/results.py contextual multitask  # some of them

Each run is ``alrnn fit`` and then ``alrnn test`` with the weights of the best validation epoch. A run that is done is
not repeated: its numbers stand in docs/results/<task>.json.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

FOLDER = Path(__file__).parent / "results"


class Task(NamedTuple):
    """What is run for a task.

    Attributes:
        config: name of the configuration.
        units: values of P.
        score: logged key that is shown.
        label: what the score is called.
        seeds: how many.
        options: further arguments.
    """

    config: str
    units: tuple[int, ...]
    score: str
    label: str
    seeds: int = 3
    options: tuple[str, ...] = ()


TASKS = {
    "addition": Task("addition_quick", (0, 1, 5), "test/mse", "test MSE"),
    "contextual": Task("contextual_quick", (0, 1, 5, 10), "test/accuracy", "test accuracy", seeds=5),
    "copy": Task("copy_quick", (0, 5, 25), "test/sequence_accuracy", "exact sequences"),
    "multitask": Task("multitask_quick", (0, 8, 32), "test/accuracy", "mean test accuracy"),
    "scan": Task("scan_quick", (0, 64), "test/sequence_accuracy", "exact sequences"),
}


def run_one(config: str, units: int, seed: int, options: list[str]) -> dict[str, Any]:
    """Train and test, in this process."""
    import torch

    from lightning_alrnn.cli import run_cli

    torch.set_num_threads(1)
    start = time.perf_counter()
    # a folder for each run: two that start at once would take the same version number
    folder = f"--trainer.logger.init_args.save_dir=runs/results/{config}-P{units}-seed{seed}"
    common = ["--trainer.enable_progress_bar=false", "--trainer.accelerator=cpu", "--trainer.devices=1", folder]
    common += options
    model = f"--model.init_args.nonlinear_units={units}"
    cli = run_cli(["fit", "--config", config, model, f"--seed_everything={seed}", *common])
    seconds = time.perf_counter() - start
    path = cli.trainer.checkpoint_callback.best_model_path
    metrics = cli.trainer.test(cli.model, cli.datamodule, ckpt_path=path, verbose=False)[0]
    return {"P": units, "seed": seed, "seconds": seconds, "epochs": cli.trainer.current_epoch, "metrics": metrics}


def run_task(name: str, processes: int) -> list[dict[str, Any]]:
    """All runs of a task that are not done yet, each in a process of its own."""
    task = TASKS[name]
    path = FOLDER / f"{name}.json"
    done: list[dict[str, Any]] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else []
    wanted = [(units, seed) for seed in range(task.seeds) for units in task.units]
    missing = [pair for pair in wanted if pair not in {(run["P"], run["seed"]) for run in done}]

    def start(pair: tuple[int, int]) -> dict[str, Any]:
        request = json.dumps([task.config, *pair, list(task.options)])
        finished = subprocess.run(
            [sys.executable, __file__, "--one", request],
            capture_output=True,
            text=True,
            check=False,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        if finished.returncode:
            raise RuntimeError(f"{task.config} with P={pair[0]}, seed {pair[1]} failed:\n{finished.stderr[-3000:]}")
        return json.loads(finished.stdout.splitlines()[-1])  # type: ignore[no-any-return]

    with ThreadPoolExecutor(processes) as pool:
        for run in pool.map(start, missing):
            done.append(run)
            done.sort(key=lambda run: (run["P"], run["seed"]))
            path.write_text(json.dumps(done, indent=1) + "\n", encoding="utf-8")
            print(f"{name}: P={run['P']}, seed {run['seed']}: {run['metrics'][task.score]:.4f}", flush=True)
    return done


def write(name: str, runs: list[dict[str, Any]]) -> None:
    """The table and the figure of a task."""
    from matplotlib.figure import Figure

    task = TASKS[name]
    scores = {
        units: [run["metrics"][task.score] for run in runs if run["P"] == units]
        for units in sorted({run["P"] for run in runs})
    }
    seeds = max(map(len, scores.values()))
    minutes = [run["seconds"] / 60 for run in runs]
    lines = [
        f"`alrnn fit --config {task.config} --model.init_args.nonlinear_units P --seed_everything SEED`; {task.label} "
        f"of the best validation epoch, {min(minutes):.1f} to {max(minutes):.1f} minutes a run on one core "
        f"(`python docs/results.py {name}`).",
        "",
        "| P | " + " | ".join(f"seed {seed}" for seed in range(seeds)) + " | mean |",
        "|---" * (seeds + 2) + "|",
        *(
            f"| {units} | " + " | ".join(f"{score:.3g}" for score in found) + f" | {sum(found) / len(found):.3g} |"
            for units, found in scores.items()
        ),
        "",
        f"![{task.label} against P](results/{name}.png)",
    ]
    (FOLDER / f"{name}.md").write_text("\n".join(lines) + "\n", encoding="utf-8")
    figure = Figure(figsize=(4.5, 3), layout="constrained")
    axes = figure.subplots()
    positions = range(len(scores))
    for position, found in zip(positions, scores.values(), strict=True):
        axes.plot([position] * len(found), found, "o", color="tab:blue", alpha=0.6, markeredgewidth=0)
    axes.plot(positions, [sum(found) / len(found) for found in scores.values()], color="tab:blue", linewidth=1)
    axes.set_xticks(list(positions), [str(units) for units in scores])
    axes.set_xlabel("nonlinear units P")
    axes.set_ylabel(task.label)
    axes.set_title(f"{task.config}: every seed and the mean", fontsize="medium")
    if "mse" in task.score:
        axes.set_yscale("log")
    else:
        axes.set_ylim(-0.03, 1.03)
    figure.savefig(FOLDER / f"{name}.png", dpi=120)


def main() -> None:
    """Run what is missing, then write tables and figures."""
    if sys.argv[1:2] == ["--one"]:
        found = run_one(*json.loads(sys.argv[2]))
        print("\n" + json.dumps(found), flush=True)
        return
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", choices=[[], *TASKS], default=[])
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    FOLDER.mkdir(exist_ok=True)
    for name in options.tasks or TASKS:
        write(name, run_task(name, options.processes))


if __name__ == "__main__":
    main()
