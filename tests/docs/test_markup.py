"""Docstrings, written in reST, become Markdown; formulas become MathML."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
from scripts import load_script

SOURCE = Path(__file__).parents[2] / "docs" / "markup.py"


@pytest.fixture(scope="module")
def markup() -> ModuleType:
    return load_script(SOURCE)


def test_tables(markup: ModuleType) -> None:
    text = """Before.

======  ==========
task    answer
======  ==========
Go      θ, or θ+π
        if anti
Fixate
======  ==========

After."""
    table = "| task | answer |\n|---|---|\n| Go | θ, or θ+π if anti |\n| Fixate |  |"
    assert markup.to_markdown(text) == f"Before.\n\n{table}\n\nAfter."


def test_names_are_linked_where_the_site_has_them(markup: ModuleType) -> None:
    assert markup.to_markdown("See :class:`ALRNN`, :func:`~lightning_alrnn.analysis.cycles`.") == (
        'See <autoref identifier="lightning_alrnn.ALRNN" optional><code>ALRNN</code></autoref>, '
        '<autoref identifier="lightning_alrnn.analysis.cycles" optional><code>cycles</code></autoref>.'
    )


def test_formulas(markup: ModuleType) -> None:
    text = "One line.\n\n.. math::\n    z_t = A z_{t-1}, \\qquad\n    h\n\nText."
    before, drawn, after = markup.to_markdown(text).split("\n\n")
    assert (before, after, drawn[:6], drawn.count("<msub>")) == ("One line.", "Text.", "<math ", 2)
    assert markup.on_page_markdown("a\n\n```math\nx^2\n```\n").startswith("a\n\n<math ")


def test_examples_are_named_as_griffe_knows_them(markup: ModuleType) -> None:
    assert markup.to_markdown("Example:\n    >>> 1\n    1") == "Examples:\n    >>> 1\n    1"
    assert markup.to_markdown("φ*(z) and φ*(x)") == "φ\\*(z) and φ\\*(x)"
