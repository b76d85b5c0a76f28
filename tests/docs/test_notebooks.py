"""The notebooks run without Jupyter, cell by cell, and open elsewhere."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

NOTEBOOKS = sorted((Path(__file__).parents[2] / "docs" / "notebooks").glob("*.ipynb"))
SHORTER = {r"max_epochs\b(\"?[:=] ?)\d+": r"max_epochs\g<1>1", r"seeds=\d+": "seeds=1"}


def cells(path: Path, kind: str) -> list[str]:
    return [
        "".join(cell["source"]) for cell in json.loads(path.read_text("utf-8"))["cells"] if cell["cell_type"] == kind
    ]


@pytest.mark.filterwarnings("ignore")  # Lightning's advice
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_cells_run_in_order(path: Path, no_verdict_figures: None, capsys: pytest.CaptureFixture[str]) -> None:
    names: dict[str, Any] = {"__name__": "__main__"}
    for number, source in enumerate(cells(path, "code")):
        for pattern, replacement in SHORTER.items():
            source = re.sub(pattern, replacement, source)
        assert "max_epochs=12" not in source
        exec(compile(source, f"cell {number} of {path.name}", "exec"), names)
    assert names["scores"]["test/accuracy"] > 0
    assert [estimate.nonlinear_units for estimate in names["verdict"].estimates] == [0, 1]
    assert capsys.readouterr().out.rstrip().endswith(names["verdict"].answer.rstrip())


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_opens_in_colab_and_installs_the_package_first(path: Path) -> None:
    content = json.loads(path.read_text("utf-8"))
    assert (content["nbformat"], all(not cell.get("outputs") for cell in content["cells"])) == (4, True)
    address = f"https://colab.research.google.com/github/OWNER/lightning-alrnn/blob/main/docs/notebooks/{path.name}"
    assert f"({address})" in cells(path, "markdown")[0]
    assert '"pip", "install"' in cells(path, "code")[0]
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", "".join(cells(path, "markdown"))):
        assert (path.parent / link).is_file(), link
