"""How many nonlinear units do three tasks need? ``make demo``.

Sweeps over P on real handwritten digits, the addition problem and contextual integration, the verdict on each, and a
report of one network: what ``alrnn sweep --config digits --nonlinear_units 0,2,5,10,20,50 --seeds 5..20 --output_dir
runs/demo/digits`` and ``alrnn analyze`` do. Runs that are done already are not repeated.
"""

from __future__ import annotations

import json
import textwrap
import time
from pathlib import Path

FOLDER = Path("runs/demo")
TASKS = {  # configuration, P and seeds: of digits as many as it takes to tell, 20 at most
    "digits": ("digits", "0,2,5,10,20,50", "5..20"),
    "addition": ("addition_quick", "0,1,2,5,20", "6"),  # with five seeds, one bad run of P=1 leaves no limits
    "contextual": ("contextual_quick", "0,1,2,5,10", "10"),
}


def main(folder: Path = FOLDER) -> None:
    """Sweep, judge, read a network, and say where to look."""
    start = time.perf_counter()
    print(
        "three sweeps and a report, in five to fifteen minutes on two cores; PyTorch takes some seconds to import",
        flush=True,
    )
    from lightning_alrnn.commands.analyze import run_analyze
    from lightning_alrnn.commands.sweep import run_sweep

    seconds = {}
    for name, (config, units, seeds) in TASKS.items():
        print(f"\n{name}: {config} with P = {units}, seeds {seeds}\n", flush=True)
        options = ["--config", config, "--nonlinear_units", units, "--seeds", seeds]
        run_sweep([*options, "--output_dir", str(folder / name)])
        seconds[name] = time.perf_counter() - start
    checkpoint = _sufficient_network(folder / "addition")
    print(f"\nwhat a network does: {checkpoint}\n", flush=True)
    run_analyze(["--ckpt_path", str(checkpoint)])
    minutes = f"{(time.perf_counter() - start) / 60:.1f} minutes, the first verdict after {seconds['digits']:.0f} s"
    paragraphs = [*(_paragraph(name, folder / name) for name in TASKS), f"{'time':<12}{minutes}"]
    (folder / "summary.txt").write_text("\n".join(paragraphs) + "\n", encoding="utf-8")
    print("\n" + "\n".join(paragraphs) + "\n")
    for name in TASKS:
        print(f"verdict on {name:<11}{folder / name / 'verdict.html'}")
    print(f"report of a network   {checkpoint.parents[1] / 'analysis' / 'report.html'}")
    print(f"TensorBoard           .venv/bin/tensorboard --logdir {folder}")


def _sufficient_network(folder: Path) -> Path:
    """Best weights of a network with the fewest nonlinear units that are enough, or else with the most."""
    from lightning_alrnn.sweep.store import read_records

    claims = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["claims"]
    records = [record for record in read_records(folder) if record.checkpoint]
    units = claims["smallest_sufficient"]
    if units is None:
        units = max(record.run.nonlinear_units or 0 for record in records)
    return folder / next(record.checkpoint for record in records if record.run.nonlinear_units == units)


def _paragraph(name: str, folder: Path) -> str:
    """The answer for a task, in the verdict's own words."""
    answer = json.loads((folder / "verdict.json").read_text(encoding="utf-8"))["answer"]
    return textwrap.fill(answer, 100, initial_indent=f"{name:<12}", subsequent_indent=" " * 12)


if __name__ == "__main__":
    main()
