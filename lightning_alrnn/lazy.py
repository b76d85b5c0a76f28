"""Packages that import their modules when something in them is first used, as torch and Lightning take seconds."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from typing import Any


def import_on_use(
    package: str, modules: Sequence[str], names: Sequence[str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Make the ``__getattr__`` and the ``__dir__`` of a package (PEP 562).

    A module is imported when it is first used as an attribute. The first use of a name imports all modules, because
    LightningCLI finds by their short names only the classes that have been imported. A name comes from the first module
    that has it.

    Example:
        >>> get, names = import_on_use("xml", ["dom", "sax"], ["parseString"])
        >>> get("dom").__name__, get("parseString").__module__, "sax" in names()
        ('xml.dom', 'xml.sax', True)
    """

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
