"""What the site needs beside Markdown: formulas that are drawn without a network, and docstrings, which are in reST.

A hook of mkdocs and an extension of griffe, which reads docstrings for mkdocstrings; both are named in mkdocs.yml.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import griffe
from latex2mathml.converter import convert

_FENCE = re.compile(r"^```math\n(?P<formula>.+?)\n```$", re.MULTILINE | re.DOTALL)
_ROLE = re.compile(r":(?:class|func|meth|data|attr|mod):`~?(?P<name>[^`]+)`")
_MATH = re.compile(r"^\.\. math::(?P<formula>.*(?:\n[ ]+\S.*)*)", re.MULTILINE)
_RULE = re.compile(r"=+(?: +=+)+")


def on_page_markdown(markdown: str, **kwargs: Any) -> str:
    """Formulas of a page, ```math as GitHub has it, as MathML, which browsers draw by themselves."""
    return _FENCE.sub(lambda match: _formula(match["formula"]), markdown)


class Docstrings(griffe.Extension):
    """Docstrings as Markdown."""

    def on_object(self, *, obj: griffe.Object, **kwargs: Any) -> None:
        """Called for each object that is read."""
        if obj.docstring is not None:
            obj.docstring.value = to_markdown(obj.docstring.value)


def to_markdown(text: str) -> str:
    """Roles, formulas and tables of a docstring as Markdown has them."""
    text = _MATH.sub(lambda match: _formula(match["formula"]), text)
    text = _ROLE.sub(lambda match: _reference(match["name"]), text)
    text = re.sub(r"^Example:$", "Examples:", text, flags=re.MULTILINE)  # as griffe knows them
    text = re.sub(r"(?<=[φΦ])\*", r"\\*", text)  # φ* twice in a line is no emphasis
    return "\n".join(_tables_of(text.split("\n")))


def _formula(latex: str) -> str:
    return convert(" ".join(latex.split()), display="block")


def _reference(name: str) -> str:
    """A link where the site has the name."""
    path = name if name.startswith("lightning_alrnn") else f"lightning_alrnn.{name}"
    return f'<autoref identifier="{path}" optional><code>{name.rpartition(".")[2]}</code></autoref>'


def _tables_of(lines: list[str]) -> Iterator[str]:
    """Lines with simple tables of reST as those of Markdown: a rule, the head, a rule, rows, a rule."""
    rows: list[list[str]] = []
    starts: list[int] = []
    rules = 0
    for line in lines:
        if _RULE.fullmatch(line):
            rules += 1
            starts = [match.start() for match in re.finditer("=+", line)]
            if rules == 3:
                head, *body = [f"| {' | '.join(row)} |" for row in rows]
                yield from (head, "|" + "---|" * len(starts), *body)
                rows, rules = [], 0
        elif rules:
            cells = [line[start:end].strip() for start, end in pairwise([*starts, None])]
            if cells[0] or not rows:
                rows.append(cells)
            else:  # the row goes on
                rows[-1] = [f"{above} {cell}".strip() for above, cell in zip(rows[-1], cells, strict=True)]
        else:
            yield line
