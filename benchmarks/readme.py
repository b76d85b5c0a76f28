"""Put the tables of ``benchmarks/results`` into README.md, between the comments that name them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parents[1]


def filled(readme: str) -> str:
    """README's text with each marked table as its file has it now."""

    def table(match: re.Match[str]) -> str:
        text = (ROOT / match["file"]).read_text(encoding="utf-8").strip()
        return f"<!-- begin {match['file']} -->\n{text}\n<!-- end -->"

    return re.sub(r"<!-- begin (?P<file>\S+) -->.*?<!-- end -->", table, readme, flags=re.DOTALL)


def main() -> None:
    """Rewrite README.md."""
    path = ROOT / "README.md"
    path.write_text(filled(path.read_text(encoding="utf-8")), encoding="utf-8")


if __name__ == "__main__":
    main()
