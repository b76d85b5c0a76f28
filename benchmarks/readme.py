"""Put tables as they were written into the pages that show them, between the comments that name their files."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = tuple(ROOT / "docs" / f"{name}.md" for name in ("verdict", "analysis"))


def filled(page: str) -> str:
    """A page's text with each marked table as its file has it now."""

    def table(match: re.Match[str]) -> str:
        text = (ROOT / match["file"]).read_text(encoding="utf-8").strip()
        return f"<!-- begin {match['file']} -->\n{text}\n<!-- end -->"

    return re.sub(r"<!-- begin (?P<file>\S+) -->.*?<!-- end -->", table, page, flags=re.DOTALL)


def main() -> None:
    """Rewrite the pages."""
    for path in PAGES:
        path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
