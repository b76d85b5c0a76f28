"""How many nonlinear units do two tasks need? ``make demo``.

Sweeps over P with five seeds each, on the addition problem and on real handwritten digits, and the verdict on each:
what ``alrnn sweep --config addition_quick --nonlinear_units 0,1,5 --seeds 5 --output_dir runs/demo/addition`` does.
Runs that are done already are not repeated.
"""

from __future__ import annotations

import json
import textwrap
import time
from pathlib import Path

from lightning_alrnn.sweep.command import sweep

FOLDER = Path("runs/demo")
TASKS = {"addition": ("addition_quick", "0,1,5"), "digits": ("digits", "0,2,10")}
SEEDS = 5


def main(folder: Path = FOLDER) -> None:
    """Sweep, judge, and say where to look."""
    start = time.perf_counter()
    for name, (config, units) in TASKS.items():
        print(f"\n{name}: {config} with P = {units}, {SEEDS} seeds\n", flush=True)
        options = ["--config", config, "--nonlinear_units", units, "--seeds", str(SEEDS)]
        sweep([*options, "--output_dir", str(folder / name), "--trainer.enable_progress_bar=false"])
    seconds = time.perf_counter() - start
    paragraphs = [_paragraph(name, folder / name) for name in TASKS]
    paragraphs.append(f"{'time':<10}{seconds / 60:.1f} minutes")
    (folder / "summary.txt").write_text("\n".join(paragraphs) + "\n", encoding="utf-8")
    checkpoint = sorted((folder / "addition" / "runs" / "ALRNN-P5-seed0").rglob("best*.ckpt"))[0]
    print("\n" + "\n".join(paragraphs) + "\n")
    for name in TASKS:
        print(f"verdict on {name:<11}{folder / name / 'verdict.html'}")
    print(f"TensorBoard           .venv/bin/tensorboard --logdir {folder}")
    print(f"what a network does   .venv/bin/alrnn analyze --ckpt_path {checkpoint}")


def _paragraph(name: str, folder: Path) -> str:
    """The answer for a task, in the verdict's own words."""
    answer = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["answer"]
    return textwrap.fill(answer, 100, initial_indent=f"{name:<10}", subsequent_indent=" " * 10)


if __name__ == "__main__":
    main()
