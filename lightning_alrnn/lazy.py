"""Packages that import their modules at first use, because PyTorch and Lightning take seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any


def import_on_use(
    package: str, modules: Sequence[str], names: Sequence[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and the ``__dir__`` of a package (PEP 562)."""
    # the first use of a name imports all modules, because LightningCLI finds only classes that have been imported

    def get(name: str) -> Any:
        if name in modules:
            return import_module(f"{package}.{name}")
        if name in names:
            sources = [vars(import_module(f"{package}.{module}")) for module in modules]
            return next(source[name] for source in sources if name in source)
        raise AttributeError(f"module {package!r} has no attribute {name!r}")

    def list_names() -> list[str]:
        return sorted({*vars(sys.modules[package]), *modules, *names})

    return get, list_names
