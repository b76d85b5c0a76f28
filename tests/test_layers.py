"""No package of lightning_alrnn imports one that stands above it."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import lightning_alrnn

PACKAGE = Path(lightning_alrnn.__file__).parent
ORDER = (  # from the bottom to the top
    *("configs", "parsing", "option_errors", "errors", "lazy", "scores", "files", "batch"),
    *("nn", "analysis", "extensions"),
    *(
        "metrics",
        "baselines",
        "plotting",
        "datamodules",
        "readings",
        "report",
        "callbacks",
        "modules",
        "cli",
        "sweep",
        "commands",
        "__main__",
    ),
)


def imported(tree: ast.AST) -> Iterator[str]:
    """Packages that code imports, also within functions, but not where types are checked alone."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        yield from imported(node)


def test_no_package_imports_upwards() -> None:
    places = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or (path / "__init__.py").exists()}
    assert places - {"__init__"} == set(ORDER)
    upwards = []
    for place in ORDER:
        for path in [PACKAGE / f"{place}.py", *(PACKAGE / place).rglob("*.py")]:
            for name in imported(ast.parse(path.read_text(encoding="utf-8"))) if path.exists() else ():
                source = name.split(".")[1] if name.startswith("lightning_alrnn.") else ""
                if source in ORDER and ORDER.index(source) > ORDER.index(place):
                    upwards.append(f"{path.relative_to(PACKAGE)} imports {name}")
    assert not upwards
