"""Write the tables of keys in docs/callbacks.md, from what the readings declare: ``python docs/keys.py``."""

from __future__ import annotations

import re
from pathlib import Path

from lightning_alrnn.readings import READINGS, Reading

PAGE = Path(__file__).parent / "callbacks.md"


def key_table(reading: Reading) -> str:
    """The keys of a reading as a table in Markdown."""
    rows = [(f"`{key.name}`", key.unit, key.text, key.caution) for key in reading.keys]
    lines = ["| key | unit | what it is | what it does not mean |", "|---|---|---|---|"]
    for row in rows:
        cells = [cell.replace("|", "\\|") for cell in row]
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines)


def filled(page: str) -> str:
    """A page with its tables as the readings have them."""
    readings = {type(reading).__name__: reading for reading in READINGS}

    def table(match: re.Match[str]) -> str:
        return f"<!-- begin keys of {match['name']} -->\n{key_table(readings[match['name']])}\n<!-- end -->"

    return re.sub(r"<!-- begin keys of (?P<name>\w+) -->.*?<!-- end -->", table, page, flags=re.DOTALL)


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
