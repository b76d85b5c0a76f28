"""Measure what a network of ``alrnn sweep`` costs, beside ``alrnn fit`` and ``alrnn test``.

Of each configuration the command line trains and tests one network, whose P and seed are those of the configuration,
and then a sweep trains and tests all, each with as many cores as there are. The factor is (fit + test) × networks /
cores / time of the sweep: how much cheaper a network is than if as many single runs went on as there are cores, none of
which slowed another down.

A sweep of 1,000 small networks (addition with T=20, M=10, two epochs) tells what a network costs beyond its data,
training and evaluation (with a look at regimes, units and fixed points): the time that a sweep of 1,000 takes longer
than one of 20, times the cores, a network, less what the same networks take in populations without a sweep. Its memory
is the largest sum over its processes of what each has for itself or its share of (PSS).
"""

from __future__ import annotations

import logging
import os
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from common import run_on_one_thread, save
from pytorch_lightning import Trainer

from lightning_alrnn.callbacks import ActiveUnits, FixedPoints, MemberCallbacks, RegimeOccupancy
from lightning_alrnn.datamodules import Addition, PopulationDataModule
from lightning_alrnn.modules import PopulationModule

SWEEPS = {
    "digits": ("0,2,5,10,20,50", 10),
    "contextual_quick": ("0,1,2,5,10", 10),
    "addition_quick": ("0,1,2,5,10,20,50", 5),
}
SMALL = {"sequence_length": 20, "train_size": 640, "val_size": 128, "test_size": 128, "batch_size": 64}
SMALL_P = (0, 1, 2, 5, 10)
HIDDEN, EPOCHS, NETWORKS, FEW = 10, 2, 1000, 20


def alrnn(folder: Path, *arguments: str) -> tuple[float, float]:
    """Seconds that a command takes, and the most memory of its processes in MB."""
    command = [sys.executable, "-m", "lightning_alrnn", *arguments]
    environment = {name: value for name, value in os.environ.items() if name != "OMP_NUM_THREADS"}
    most, start = 0.0, time.perf_counter()
    with (folder / "log").open("ab") as log:
        process = subprocess.Popen(command, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True)
        while process.poll() is None:
            most = max(most, memory_of_session(process.pid))
            time.sleep(0.2)
    seconds = time.perf_counter() - start
    if process.returncode:
        log_text = (folder / "log").read_text()[-2000:]
        raise RuntimeError(f"{' '.join(command)} ended with {process.returncode}: {log_text}")
    return seconds, most


def memory_of_session(session: int) -> float:
    """Memory of the processes of a session in MB, what several share counted once."""
    total = 0
    for path in Path("/proc").glob("[0-9]*"):
        try:
            if int((path / "stat").read_text().rpartition(")")[2].split()[3]) == session:
                lines = (path / "smaps_rollup").read_text().splitlines()
                total += sum(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
        except (OSError, IndexError):  # it has ended meanwhile
            continue
    return total / 1024


def of_single_runs(name: str, cores: int) -> dict[str, Any]:
    """A sweep against single runs."""
    units, seeds = SWEEPS[name]
    runs = len(units.split(",")) * seeds
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        fit, _ = alrnn(folder, "fit", "--config", name, "--trainer.enable_progress_bar=false")
        (checkpoint,) = folder.rglob("best-*.ckpt")
        test, _ = alrnn(folder, "test", "--config", name, "--ckpt_path", str(checkpoint))
        sweep = ["sweep", "--config", name, "--nonlinear_units", units, "--seeds", str(seeds), "--output_dir", "swept"]
        seconds, most = alrnn(folder, *sweep, "--jobs", str(cores))
    factor = (fit + test) * runs / cores / seconds
    return {"task": name, "networks": runs, "fit": fit, "test": test, "sweep": seconds, "MB": most, "factor": factor}


def of_many(cores: int) -> dict[str, Any]:
    """1,000 small networks: time and memory of the sweep, and what a network costs beyond its training."""
    options = [f"--data.{name}={value}" for name, value in SMALL.items()]
    options += [f"--model.hidden_size={HIDDEN}", f"--trainer.max_epochs={EPOCHS}", f"--jobs={cores}"]
    seconds = {}
    most = 0.0
    for networks in (FEW, NETWORKS):
        with tempfile.TemporaryDirectory() as place:
            units = ["--nonlinear_units", ",".join(map(str, SMALL_P)), "--seeds", str(networks // len(SMALL_P))]
            command = ["sweep", "--data=Addition", *options, *units, "--output_dir=swept"]
            seconds[networks], most = alrnn(Path(place), *command)
    each = 1e3 * cores * (seconds[NETWORKS] - seconds[FEW]) / (NETWORKS - FEW)
    with ProcessPoolExecutor(cores, get_context("spawn")) as pool:  # as many at a time as the sweep has
        bare = statistics.fmean(pool.map(population_alone, [NETWORKS // 2 // cores] * cores))
    result = {"networks": NETWORKS, "sweep": seconds[NETWORKS], "MB": most}
    return result | {"ms a network": each, "ms alone": bare, "bookkeeping": each - bare}


def population_alone(networks: int) -> float:
    """Milliseconds a network that making, training and evaluating a population of them takes, without a sweep."""
    logging.getLogger("pytorch_lightning").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    start = time.perf_counter()
    members = [{"nonlinear_units": SMALL_P[k % len(SMALL_P)], "seed": k // len(SMALL_P)} for k in range(networks)]
    population = PopulationModule.from_options(
        members, input_size=2, output_size=1, objective="regression", hidden_size=HIDDEN
    )
    data = PopulationDataModule([Addition(**SMALL, seed=member["seed"]) for member in members])
    quiet: dict[str, Any] = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    looks = MemberCallbacks([[RegimeOccupancy(), ActiveUnits(), FixedPoints()] for _ in members])
    trainer = Trainer(max_epochs=EPOCHS, accelerator="cpu", enable_checkpointing=False, callbacks=[looks], **quiet)
    trainer.fit(population, data)
    population.load_best()
    trainer.validate(population, data, verbose=False)
    trainer.test(population, data, verbose=False)
    return 1e3 * (time.perf_counter() - start) / networks


def main() -> None:
    """Measure and write."""
    run_on_one_thread()
    cores = len(os.sched_getaffinity(0))
    results = [of_single_runs(name, cores) for name in SWEEPS]
    many = of_many(cores)
    text = (
        f"A sweep on {cores} cores against single runs, seconds; times cheaper is (fit + test) × networks / cores / "
        f"sweep. {NETWORKS:,} networks of M={HIDDEN} (T=20, two epochs) in one sweep take {many['sweep']:.0f} s and at "
        f"most {many['MB'] / 1024:.1f} GB; beyond making, training and evaluating it, {many['bookkeeping']:.0f} ms a "
        "network."
    )
    rows = []
    for row in results:
        seconds = [f"{row[key]:.1f}" for key in ("fit", "test", "sweep")]
        rows.append([row["task"], str(row["networks"]), *seconds, f"{row['MB'] / 1024:.1f}", f"{row['factor']:.1f}"])
    columns = ["task", "networks", "fit of one", "test of one", "sweep", "memory (GB)", "times cheaper"]
    save("sweeps", text, columns, rows, {"single": results, "many": many})


if __name__ == "__main__":
    main()
