"""``alrnn verdict``: judge the runs of a sweep."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from lightning_alrnn.commands.options import parser_of
from lightning_alrnn.sweep.verdict_page import format_verdict, write_verdict


def run_verdict(arguments: Sequence[str]) -> None:
    """Run ``alrnn verdict``."""
    options = parser_of("verdict").parse_args(arguments)
    verdict = write_verdict(**vars(options))
    sys.stdout.write(f"{options.folder / 'verdict.html'}\n\n{format_verdict(verdict)}\n")
