"""``alrnn verdict``: what the runs of a sweep say."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from lightning_alrnn.sweep.report import format_verdict, write_verdict
from lightning_alrnn.sweep.verdict import ALPHA

_DESCRIPTION = """\
How many nonlinear units does the task need, and is a smaller P unable or only late? Judges the runs
of a sweep, prints score against P and the answer, and writes verdict.html, verdict.json and the
figure into the sweep's folder. It may be run while the sweep goes on."""
_EXAMPLE = """\
example:
  alrnn sweep --config addition_quick --nonlinear_units 0,1,2,5 --seeds 5 --output_dir runs/sweep
  alrnn verdict runs/sweep

A claim needs 5 seeds or more. Where something cannot be told, the last line is the command that
would tell it. docs/verdict.md says what each claim means."""


def run_verdict(arguments: Sequence[str]) -> None:
    """Run ``alrnn verdict``.

    Args:
        arguments: Arguments behind ``verdict``.

    Raises:
        SystemExit: If an argument is wrong.
        ValueError: If there are no runs to judge, or there is no such metric.
    """
    options = _parser().parse_args(arguments)
    verdict = write_verdict(
        options.folder,
        score=options.score,
        tolerance=options.tolerance,
        solved=options.solved,
        alpha=options.alpha,
    )
    sys.stdout.write(f"{options.folder / 'verdict.html'}\n\n{format_verdict(verdict)}\n")


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "alrnn verdict",
        description=_DESCRIPTION,
        epilog=_EXAMPLE,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", type=Path, help="of the sweep, its --output_dir")
    parser.add_argument("--score", metavar="KEY", help="metric to judge by, such as accuracy or test/mse")
    parser.add_argument("--solved", metavar="X", type=float, help="score from which on a run solves the task (none)")
    parser.add_argument("--tolerance", metavar="X", type=float, help="how much worse than the best does not count")
    parser.add_argument("--alpha", metavar="X", type=float, default=ALPHA, help="level of the claims (0.05)")
    return parser
