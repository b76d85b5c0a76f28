"""docs/analysis.md gives the thresholds and the fields that the code has."""

from __future__ import annotations

import re
from pathlib import Path

from studies import written

from lightning_alrnn.analysis import primitives
from lightning_alrnn.analysis.primitives import gates, integrals, transient_memory, trials

PAGE = (Path(__file__).parents[2] / "docs" / "analysis.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### ([^\n]+)\n(.*?)(?=^##|\Z)", PAGE, flags=re.MULTILINE | re.DOTALL))


def found_where(name: str) -> str:
    match = re.search(r"\*Found\* where (.*?)\n\n", SECTIONS[name], flags=re.DOTALL)
    assert match is not None
    return " ".join(match[1].split())


def test_thresholds() -> None:
    page = " ".join(PAGE.split())
    assert f"share of {primitives.DRAWS} draws" in page
    assert f"{trials.SCREENING} draws are made" in page
    assert f"least p is 1/{primitives.DRAWS + 1}" in page
    assert f"p ≤ {primitives.ALPHA}" in page
    assert f"less than {primitives.LEAST_AGREEMENT:.0%}".replace("%", " %") in page
    assert (trials.LEAST_REMOVED, trials.LEAST_CHANGE) == (0.5, 0.1)  # half of it, a tenth
    for name in ("Gating", "Rule-dependent routing"):
        assert f"at least {gates.LEAST_EFFECT} ({gates.LEAST_UNTRAINED})" in found_where(name)
    assert f"at least {integrals.LEAST_EFFECT} ({integrals.LEAST_UNTRAINED})" in found_where("Integration")
    assert integrals.LEAST_FLATNESS == 0.5
    assert f"at least half ({integrals.LEAST_FLATNESS_UNTRAINED})" in " ".join(SECTIONS["Integration"].split())
    assert f"at least {transient_memory.LEAST_EFFECT}" in found_where("Memory-dependent transients")


def test_fields_of_the_report(tmp_path: Path) -> None:
    table = PAGE.partition("## report.json")[2]
    assert re.findall(r"^\| `(\w+)` \|", table, flags=re.MULTILINE) == list(written(tmp_path, units=0, batch=2))
