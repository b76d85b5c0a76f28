"""``alrnn verdict``: what the runs of a sweep say."""

from __future__ import annotations

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from pathlib import Path

from lightning_alrnn.sweep.report import format_verdict, write_verdict

_DESCRIPTION = """\
How many nonlinear units does the task need? Judges the runs of a sweep, prints score against P and
the answer, and writes verdict.html, verdict.json and the figure into the sweep's folder. It may be
run while the sweep goes on."""
_EXAMPLE = """\
example:
  alrnn sweep --config addition_quick --nonlinear_units 0,1,2,5 --seeds 3 --output_dir runs/sweep
  alrnn verdict runs/sweep

What is left out is found from the scores, and named in the answer. With too few seeds no claim is
made. docs/verdict.md says what each claim means and by which test it is made."""


def run_verdict(arguments: Sequence[str]) -> None:
    """Run ``alrnn verdict``.

    Args:
        arguments: those behind ``verdict``.

    Raises:
        SystemExit: where an argument is wrong.
        ValueError: if there are no runs to judge, or there is no such metric.
    """
    given = _parser().parse_args(arguments)
    verdict = write_verdict(given.folder, given.score, given.solved, given.tolerance, given.alpha)
    sys.stdout.write(f"{format_verdict(verdict)}\n\n{given.folder / 'verdict.html'}\n")


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
    parser.add_argument("--solved", metavar="X", type=float, help="score from which on a run solves the task")
    parser.add_argument("--tolerance", metavar="X", type=float, help="how much worse than the best does not count")
    parser.add_argument("--alpha", metavar="X", type=float, default=0.05, help="level of the claims (0.05)")
    return parser
