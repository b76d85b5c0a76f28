"""How results print: rows of regimes, fields of other results, and never a screen full of numbers."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

import pytest
import torch
from torch import Tensor

from lightning_alrnn import analysis
from lightning_alrnn.analysis import FixedPointSet, Intervention, fixed_points
from lightning_alrnn.analysis.tables import print_as_tables, table_of
from lightning_alrnn.nn import ALRNN

RESULTS = [cls for name in analysis.__all__ if hasattr(cls := getattr(analysis, name), "_fields")]


class Rows(NamedTuple):
    codes: Tensor
    kind: list[str]
    timescales: Tensor
    share: Tensor
    regime: Tensor
    matrix: Tensor
    last: bool
    inner: Any


class Values(NamedTuple):
    few: Tensor
    many: Tensor
    one: Tensor
    items: dict[str, float]
    names: list[str]
    module: torch.nn.Module | None


print_as_tables([Rows, Values, int, "no class"])
CODES = torch.tensor([[0, 1], [1, 1]]).bool()
TIMES = torch.tensor([[1.0, -12.3456], [float("inf"), 2.0]])
INNER = Values(torch.ones(2), torch.ones(7), torch.tensor(0.5), {"a<b": 0.125}, list("abcdefgh"), torch.nn.ReLU())
ROWS = Rows(CODES, ["node", "saddle"], TIMES, torch.tensor([0.25, 1 / 3]), torch.ones(2), torch.eye(2), True, INNER)


def test_a_row_for_each_regime() -> None:
    assert repr(ROWS).splitlines() == [
        "Rows(n=2, last=True)",
        "  codes  kind    timescales (slowest)  share",
        "  01     node    12.3                  0.25",
        "  11     saddle  inf                   0.333",
        "and regime [1, 1], matrix float32 (2, 2), inner Values()",
    ]
    codes, kind, *_ = ROWS  # a tuple as before
    assert codes is CODES
    assert (kind, ROWS._replace(last=False)[6]) == (["node", "saddle"], False)


def test_a_row_for_each_field() -> None:
    assert repr(INNER).splitlines() == [
        "Values",
        "  field   value",
        "  few     [1, 1]",
        "  many    float32 (7,)",
        "  one     0.5",
        "  items   {a<b: 0.125}",
        "  names   [a, b, c, d, e, f, … 2 more]",
        "  module  ReLU",
    ]
    html = INNER._repr_html_()  # type: ignore[attr-defined]
    assert html.startswith("<table><caption>Values</caption><thead><tr><th>field</th><th>value</th></tr></thead>")
    assert "<tr><td>items</td><td>{a&lt;b: 0.125}</td></tr>" in html


@pytest.mark.parametrize("cls", RESULTS, ids=lambda cls: cls.__name__)
def test_every_result_is_short(cls: Any) -> None:
    """Each field is as large as those of a large network; a code is one of regimes or, in cycles, of several."""
    for shape in ((2000, 7), (2000, 3, 7)):
        codes = torch.zeros(shape, dtype=torch.bool)
        result = cls(*(codes if name in ("code", "codes") else torch.zeros(2000, 50) for name in cls._fields))
        assert len(repr(result).splitlines()) <= len(cls._fields) + 13
        assert len(repr(result)) < 2000
        rows = re.findall("<tr>", result._repr_html_())
        assert len(rows) == (11 if {"code", "codes"} & set(cls._fields) else 1 + len(cls._fields))


def test_fixed_points() -> None:
    torch.manual_seed(0)
    points = fixed_points(ALRNN(2, 8, 3, init="near_identity"))
    assert isinstance(points, FixedPointSet)
    title, header, *rows, note = repr(points).splitlines()
    assert "complete=True, certificate=complete" in title
    assert header.split()[:2] == ["code", "stability"]
    assert [row.split()[:2] for row in rows] == [
        ["".join("01"[bit] for bit in code), kind]
        for code, kind in zip(points.code.int().tolist(), points.stability, strict=True)
    ]
    assert "eigenvalues complex128" in note
    empty = points._replace(
        **{name: value[:0] for name, value in points._asdict().items() if name in table_of(points).columns}
    )
    assert repr(empty._replace(timescales=points.timescales[:0])).startswith("FixedPointSet(n=0,")


def test_numbers_and_texts_stay_in_one_line() -> None:
    assert repr(Intervention("linearise", None, None, 0, None)) == (
        "Intervention(kind='linearise', units=None, code=None, start=0, stop=None)"
    )
