"""Packages import what they offer when it is first used, and offer the same as if they had imported it at once."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from lightning_alrnn.lazy import import_on_use

PACKAGES = pytest.mark.parametrize(
    "package",
    ["lightning_alrnn", *(f"lightning_alrnn.{name}" for name in ("metrics", "plotting", "readings", "sweep"))],
)


@PACKAGES
def test_the_import_of_a_package_takes_no_time(package: str) -> None:
    program = f"import sys, {package}; print(*{{'torch', 'pytorch_lightning', 'numpy', 'scipy'}} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert done.stdout == "\n"


@PACKAGES
def test_names_are_those_that_a_type_checker_sees(package: str) -> None:
    module = importlib.import_module(package)
    names = set()
    for node in ast.walk(ast.parse(Path(module.__file__).read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and str(node.module).startswith("lightning_alrnn.") and node.col_offset:
            source = importlib.import_module(str(node.module))
            for alias in node.names:
                assert getattr(module, alias.name) is getattr(source, alias.name)
                names.add(alias.name)
    assert names == set(module.__all__)
    assert names < set(dir(module))
    starred: dict[str, object] = {}
    exec(f"from {package} import *", starred)
    assert names < starred.keys()
    with pytest.raises(AttributeError, match=f"module '{package}' has no attribute 'no_such'"):
        module.no_such  # noqa: B018


def test_a_name_imports_all_modules_and_a_module_itself_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LightningCLI finds the short names of callbacks and tasks where a model was all that was asked for."""
    (tmp_path / "late").mkdir()
    (tmp_path / "late" / "__init__.py").touch()
    (tmp_path / "late" / "first.py").write_text("name = shared = 1")
    (tmp_path / "late" / "second.py").write_text("shared = 2")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("late")
    get, names = import_on_use("late", ["first", "second"], ["name", "shared"])
    assert {"__name__", "first", "name", "second", "shared"} <= set(names())
    assert get("first").__name__ == "late.first"
    assert not hasattr(module, "second")
    assert (get("name"), get("shared")) == (1, 1)
    assert hasattr(module, "second")
