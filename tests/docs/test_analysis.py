"""docs/analysis.md gives the thresholds and the fields that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from studies import written

from lightning_alrnn.analysis import primitives

PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))


def found_where(name: str) -> str:
    match = re.search(r"\*Found\* where (.*?)\n\n", SECTIONS[name], flags=re.DOTALL)
    assert match is not None
    return " ".join(match[1].split())


def test_thresholds() -> None:
    assert f"share of {primitives.DRAWS} draws" in PAGE
    assert f"least p is 1/{primitives.DRAWS + 1}" in PAGE
    assert f"p ≤ {primitives.ALPHA}" in PAGE
    assert f"locking of at least {primitives._LEAST_LOCKING} " in found_where("Gating")
    assert primitives._LEAST_CONTRAST == 1 / 3
    assert "contrast of at least 1/3" in found_where("Gating")
    assert primitives._LEAST_EARLY == 0.25
    assert "at least a quarter" in found_where("Integration")
    assert f"{primitives._LEAST_OCCUPANCY:.0%}".replace("%", " %") in SECTIONS["Integration"]
    assert f"at least {primitives._LEAST_ROUTING} bits" in found_where("Rule-dependent routing")
    assert "difference at least 1/3" in found_where("Rule-dependent routing")
    assert f"memory is at least {primitives._LEAST_LOCKING} " in found_where("Memory-dependent transients")


def test_fields_of_the_report(tmp_path: Path) -> None:
    table = PAGE.partition("## report.json")[2]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == list(written(tmp_path, units=0, batch=2))
