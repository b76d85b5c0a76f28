"""Sweeps of tests that do once what takes most of the time of a tiny sweep: to parse options, and to import torch."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from multiprocessing import forkserver
from typing import Any

import pytest

from lightning_alrnn.commands.entry import main
from lightning_alrnn.sweep import grouping, plan, run_population
from lightning_alrnn.sweep.members import MemberFactory

_read = cache(plan.read_config)


def parse_once(patch: pytest.MonkeyPatch) -> None:
    """Let plans share configurations that no file is read for, and populations of a folder what their members share."""

    def read_config(arguments: Sequence[str]) -> dict[str, Any]:
        assert not any(argument.startswith(("--config", "-c")) for argument in arguments)
        return dict(_read(tuple(arguments)))

    factories = cache(MemberFactory)
    patch.setattr(plan, "read_config", read_config)
    for module in (grouping, run_population):
        patch.setattr(module, "MemberFactory", factories)


def main_in_worker(arguments: Sequence[str]) -> None:
    """``alrnn`` in a worker whose own workers are copies of the same process; another would import torch once more."""
    forkserver._forkserver.ensure_running = lambda: None  # type: ignore[attr-defined]
    main(arguments)
