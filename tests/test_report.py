"""A report: strict JSON with every number, one page that needs nothing else, and each figure in both."""

from __future__ import annotations

import json
import math
import re
from base64 import b64decode
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import torch
from studies import written

from lightning_alrnn.report import _MOST_LISTED, _random_angle, to_json


def load(path: Path) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


class Pair(NamedTuple):
    numbers: torch.Tensor
    gains: torch.Tensor


def test_results_become_json() -> None:
    value = {
        2: Pair(torch.tensor([1.0, math.inf, -math.inf, math.nan]), torch.zeros(9)),
        "λ": torch.tensor([1 + 2j]),
        "codes": torch.tensor([[True, False]]),
        "none": None,
        "empty": torch.zeros(0, 3),
        "scalar": torch.tensor(3),
    }
    assert to_json(value) == {
        "2": {"numbers": [1.0, "inf", "-inf", None]},
        "λ": [{"re": 1.0, "im": 2.0}],
        "codes": [[True, False]],
        "none": None,
        "empty": [],
        "scalar": 3,
    }
    json.dumps(to_json(value), allow_nan=False)


def test_long_lists_end() -> None:
    assert to_json(torch.arange(5000)) == list(range(_MOST_LISTED))
    assert len(to_json(torch.zeros(2, 5000))[1]) == _MOST_LISTED


@pytest.mark.parametrize(
    "options",
    [
        {"units": 0},
        {"units": 3, "group": [0, 1] * 10},
        {"units": 2, "group": [1, 3, -1, 3] * 5, "classes": 4, "metrics": {"test/accuracy": 0.5}},
        {"units": 30, "hidden": 31, "metrics": {"test/mse": math.nan}},
        {"units": 1, "batch": 1, "group": [0]},
    ],
)
def test_a_report_is_whole(tmp_path: Path, options: dict[str, Any]) -> None:
    report = written(tmp_path, **options)
    assert load(tmp_path / "report.json") == report
    assert list(report) == ["source", "versions", "performance", "sequences", "primitives", "study"]
    assert report["study"]["refused"] == {}
    assert report["source"]["checkpoint"] == "run/best.ckpt"

    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:image/png;base64,|#section-)""", page)
    assert not re.search(r"https?://|@import|url\(|<script|<link", page)
    assert "<rule>" not in page  # names are escaped
    assert ">nan" not in page
    embedded = [b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    figures = sorted((tmp_path / "figures").glob("*.png"))
    assert sorted(embedded) == sorted(path.read_bytes() for path in figures)
    assert {path.with_suffix(".svg") for path in figures} == set((tmp_path / "figures").glob("*.svg"))
    names = {path.stem for path in figures}
    assert {"performance", "fixed_points", "state_space", "slow_modes", "spectrum", "input_memory"} <= names
    assert ("regimes" in names) == ("gating" in names) == (options["units"] > 0)
    assert ("routing" in names) == (len({index for index in options.get("group", []) if index >= 0}) > 1)


def test_the_page_answers_in_order_and_with_the_numbers(tmp_path: Path) -> None:
    report = written(tmp_path, group=[0, 1] * 10)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert re.findall(r"<h2[^>]*>([^<]+)", page) == [
        "How well does it do?",
        "Which units switch, and which regimes?",
        "What are the attractors?",
        "What are the slow modes?",
        "What do the units do?",
        "How this was measured",
    ]
    assert re.findall(r"<h3>([^<]+)", page) == [
        "Gating",
        "Integration",
        "Rule-dependent routing",
        "Memory-dependent transients",
    ]
    assert "The mean squared error is 0.25." in page
    rest = report["study"]["fixed_points"]["zero"]
    assert "All 8 regimes were searched: there are no others." in page
    assert f"index sum</th><th>how sure</th></tr></thead>\n<tbody>\n<tr><td>zero</td><td>{len(rest['z'])}</td>" in page
    routing = report["study"]["routing"]
    assert f"differs by {routing['occupancy_js']:.3f} bits" in page
    assert f"p = {routing['occupancy_p']:.3f}" in page


def test_a_search_that_may_have_missed_some_says_so(tmp_path: Path) -> None:
    report = written(tmp_path, units=20, hidden=21)
    assert report["study"]["fixed_points"]["zero"]["certificate"] == "not certified"
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "there may be others" in page
    assert "there are no others" not in page


@pytest.mark.parametrize(("size", "dimensions"), [(2, 1), (3, 1), (50, 1), (5, 2)])
def test_the_angle_of_a_random_direction(size: int, dimensions: int) -> None:
    directions = torch.randn(40000, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cosine = directions[:, :dimensions].norm(dim=1) / directions.norm(dim=1)
    assert _random_angle(size, dimensions) == pytest.approx(math.degrees(math.acos(float(cosine.median()))), abs=0.7)
    assert _random_angle(dimensions, dimensions) == 0.0
