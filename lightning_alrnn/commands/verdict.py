"""``alrnn verdict``: judge the runs of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.sweep.verdict_page import format_verdict, judge_sweep


def run_verdict(arguments: Sequence[str]) -> None:
    """Run ``alrnn verdict``."""
    options = parser_of("verdict").parse_args(arguments)
    judged = judge_sweep(**vars(options))
    place = options.output_dir or options.folder
    try:
        judged.write(place)
    except OSError as error:  # the sweep may be someone else's, and the answer is worth more than its files
        sys.stderr.write(
            f"alrnn verdict: the files of the verdict cannot be written ({error}): pass --output_dir and a folder that "
            "can be written to\n"
        )
    else:
        sys.stdout.write(f"{place / 'verdict.html'}\n\n")
    sys.stdout.write(f"{format_verdict(judged.verdict)}\n")
