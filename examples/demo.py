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
TASKS = {"addition": ("addition_quick", "0,1,5"), "digits": ("digits", "0,2,10")}


def main(folder: Path = FOLDER) -> None:
    """Sweep, judge, and say where to look."""
    start = time.perf_counter()
    for name, (config, units) in TASKS.items():
        print(f"\n{name}: {config} with P = {units}, 3 seeds\n", flush=True)
        options = ["--config", config, "--nonlinear_units", units, "--seeds", "3"]
        sweep([*options, "--output_dir", str(folder / name), "--trainer.enable_progress_bar=false"])
    seconds = time.perf_counter() - start
    lines = [_line(name, config, folder / name) for name, (config, _) in TASKS.items()]
    lines.append(f"{'time':<10}{seconds / 60:.1f} minutes")
    (folder / "summary.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")
    checkpoint = sorted((folder / "addition" / "runs" / "ALRNN-P5-seed0").rglob("best*.ckpt"))[0]
    print("\n" + "\n".join(lines) + "\n")
    for name in TASKS:
        print(f"verdict on {name:<11}{folder / name / 'verdict.html'}")
    print(f"TensorBoard           .venv/bin/tensorboard --logdir {folder}")
    print(f"what a network does   .venv/bin/alrnn analyze --ckpt_path {checkpoint}")


def _line(name: str, config: str, folder: Path) -> str:
    """A task's verdict in a line."""
    verdict = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))
    needed = {True: "needed", False: "not needed", None: "needed or not: cannot be told"}
    enough = verdict["smallest_sufficient"]
    claim = f"P={enough} is enough" if enough is not None else "which P is enough cannot be told"
    return f"{name:<10}nonlinearity is {needed[verdict['nonlinearity_needed']]}; {claim} ({config}, 3 seeds)"


if __name__ == "__main__":
    main()
