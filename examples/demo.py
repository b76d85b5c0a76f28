"""How many nonlinear units do two tasks need? ``make demo``.

Sweeps over P with three seeds each, on the addition problem and on real handwritten digits, and the verdict on each:
what ``alrnn sweep --config addition_quick --nonlinear_units 0,1,5 --seeds 3 --output_dir runs/demo/addition`` does.
Runs that are done already are not repeated.
"""

from __future__ import annotations

import json
import time
from pathlib import Path

from lightning_alrnn.sweep.command import sweep

FOLDER = Path("runs/demo")
TASKS = {"addition": ("addition_quick", "0,1,5"), "digits": ("digits", "0,2,10,50")}


def main(folder: Path = FOLDER) -> None:
    """Sweep, judge, and say where to look."""
    start = time.perf_counter()
    for name, (config, units) in TASKS.items():
        print(f"\n{name}: {config} with P = {units}, 3 seeds\n", flush=True)
        options = ["--config", config, "--nonlinear_units", units, "--seeds", "3"]
        sweep([*options, "--output_dir", str(folder / name), "--trainer.enable_progress_bar=false"])
    print(f"\nboth in {(time.perf_counter() - start) / 60:.1f} minutes\n")
    for name in TASKS:
        verdict = json.loads((folder / name / "verdict.json").read_text(encoding="utf-8"))
        words = {True: "yes", False: "no", None: "cannot be told"}
        print(f"{name:<10}nonlinearity needed: {words[verdict['nonlinearity_needed']]}, ", end="")
        print(f"smallest sufficient P: {verdict['smallest_sufficient']}")
        print(f"{'':<10}{folder / name / 'verdict.html'}")
    checkpoint = next(iter(sorted((folder / "addition").rglob("best*.ckpt"))))
    print(f"\nTensorBoard        .venv/bin/tensorboard --logdir {folder}")
    print(f"what a network does  .venv/bin/alrnn analyze --ckpt_path {checkpoint}")


if __name__ == "__main__":
    main()
