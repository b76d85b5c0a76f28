"""Write the tables of keys in docs/callbacks.md from the declarations of the readings: ``python docs/keys.py``."""

from __future__ import annotations

from pathlib import Path

from lightning_alrnn.readings import READINGS, Reading

PAGE = Path(__file__).parent / "callbacks.md"
LAST = "## MemberCallbacks"


def markdown_table(reading: Reading) -> str:
    """The keys of a reading as a table in Markdown."""
    lines = ["| key | unit | what it is | what it does not mean |", "|---|---|---|---|"]
    for key in reading.keys:
        cells = [cell.replace("|", "\\|") for cell in (f"`{key.name}`", key.unit, key.text, key.caution)]
        lines.append(f"| {' | '.join(cells)} |".replace("|  |", "| |"))
    return "\n".join(lines)


def filled(page: str) -> str:
    """A page with the tables of all readings; a reading without a table gets a section of its own."""
    for reading in READINGS:
        name = type(reading).__name__
        begin, end = f"<!-- begin keys of {name} -->\n", "\n<!-- end -->"
        if reading.keys and begin not in page:
            summary = (type(reading).__doc__ or "").partition("\n")[0]
            page = page.replace(LAST, f"## {name}\n\n{summary}\n\n{begin}{end}\n\n{LAST}")
        before, _, after = page.partition(begin)
        page = before + begin + markdown_table(reading) + end + after.partition(end)[2] if after else page
    return page


if __name__ == "__main__":
    PAGE.write_text(filled(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
