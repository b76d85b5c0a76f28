"""A report: strict JSON with every number, one page that needs nothing else, and each figure in both."""

from __future__ import annotations

import html
import json
import math
import re
from base64 import b64decode
from pathlib import Path
from typing import Any, NamedTuple, NoReturn

import pytest
import torch
from matplotlib.figure import Figure
from studies import written
from undrawn import undrawn

from lightning_alrnn.analysis.lyapunov import LargestExponent
from lightning_alrnn.plotting.performance import plot_values
from lightning_alrnn.readings.attractors import _lyapunov
from lightning_alrnn.readings.spectrum import _random_angle
from lightning_alrnn.report import Traces


def load(path: Path) -> Any:
    def refuse(constant: str) -> NoReturn:
        raise AssertionError(f"{constant} is no JSON")

    return json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)


class Written(NamedTuple):
    folder: Path
    report: dict[str, Any]
    page: str
    options: dict[str, Any]


OPTIONS: tuple[dict[str, Any], ...] = (
    {"units": 3, "group": [0, 1] * 10, "phase": [0, 0, 0, 2, 2, 5, -1, -1]},
    {"units": 0, "batch": 1, "group": [0], "phase": [1] * 8, "metrics": {"test/mse": math.nan}},
    {"units": 20, "hidden": 21, "group": [1, 3, -1, 3] * 5, "classes": 4, "metrics": {"test/accuracy": 0.5}},
)


@pytest.fixture(scope="module", params=range(len(OPTIONS)))
def a_report(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Written:
    folder, options = tmp_path_factory.mktemp("report"), OPTIONS[request.param]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Figure, "savefig", lambda *arguments, **options: None)  # test_page.py draws SVG
        report = written(folder, **options)
    return Written(folder, report, (folder / "report.html").read_text(encoding="utf-8"), options)


def test_a_report_is_whole(a_report: Written) -> None:
    folder, report, page, options = a_report
    assert load(folder / "report.json") == report
    assert " ".join(report) == "answer source versions performance sequences primitives evidence study"
    assert report["study"]["refused"] == {}
    assert report["source"]["checkpoint"] == "run/best.ckpt"

    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:image/png;base64,|#section-)""", page)
    assert not re.search(r"https?://|@import|url\(|<script|<link", page)
    assert "<rule>" not in page  # names are escaped
    assert not re.search(r"\bnan\b", page)
    embedded = [b64decode(data) for data in re.findall(r'src="data:image/png;base64,([^"]+)"', page)]
    figures = sorted((folder / "figures").glob("*.png"))
    assert sorted(embedded) == sorted(path.read_bytes() for path in figures)
    assert {path.with_suffix(".svg") for path in figures} == set((folder / "figures").glob("*.svg"))
    names = {path.stem for path in figures}
    assert {"performance", "fixed_points", "state_space", "slow_modes", "spectrum", "input_memory"} <= names
    assert ("phases" in names) == ("phase" in options)
    assert ("regimes" in names) == (options["units"] > 0)
    for name in ("gating", "routing"):
        assert (name in names) == (report["study"][name]["found"] is not None)


def test_the_page_answers_in_order(a_report: Written) -> None:
    assert re.findall(r"<h2[^>]*>([^<]+)", a_report.page) == [
        "How well does it do?",
        "Which units switch, and which regimes?",
        "What are the attractors?",
        "What are the slow modes?",
        "What do the units do?",
        "How this was measured",
    ]
    assert re.findall(r"<h3>([^<]+)", a_report.page) == [
        *(["By phase of the trial"] if "phase" in a_report.options else []),
        "Gating",
        "Integration",
        "Rule-dependent routing",
        "Memory-dependent transients",
    ]


def test_the_page_has_the_numbers_and_how_sure_they_are(a_report: Written) -> None:
    study, page = a_report.report["study"], a_report.page
    rest = study["fixed_points"]["zero"]
    assert f"how sure</th></tr></thead>\n<tbody>\n<tr><td>zero</td><td>{len(rest['z'])}</td>" in page
    units = a_report.options["units"]
    assert (f"All {2**units} regimes were searched: there are no others." in page) == (0 < units < 20)
    assert ("A linear network has no others." in page) == ("<td>linear</td>" in page) == (units == 0)
    assert ("there may be others" in page) == (units == 20)
    assert rest["certificate"] == ("not certified" if units == 20 else "complete")
    for name, evidence in a_report.report["evidence"].items():
        found = a_report.report["primitives"][name]
        if found is None:
            assert f"Not looked for: {html.escape(evidence['reason'])}" in page
        else:
            assert f"effect {round(evidence['effect'], 2) + 0.0:.2f}, p = {evidence['p']:.3f}" in page
            assert bool(evidence["reason"]) is not found
    found = a_report.report["primitives"]
    assert found["gating"] is study["gating"]["found"]
    assert list(found) == ["gating", "integration", "rule-dependent routing", "memory-dependent transients"]


@undrawn()
def test_one_pair_of_numbers_on_the_same_steps(tmp_path: Path) -> None:
    torch.manual_seed(1)
    targets = torch.randn(20, 8, 1)
    counted = torch.rand(20, 8) < 0.7
    traces = Traces(targets + 0.1, targets, counted)
    titles: list[str] = []
    original = plot_values

    def note(outputs: torch.Tensor, wanted: torch.Tensor, *rest: Any) -> Any:
        torch.testing.assert_close(wanted, targets[counted])
        torch.testing.assert_close(outputs, wanted + 0.1)
        titles.append(rest[1])
        return original(outputs, wanted, *rest)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("lightning_alrnn.readings.performance.plot_values", note)
        report = written(
            tmp_path,
            metrics={"test/mse": 0.294, "test/constant_mse": 3.494},
            phase=[0, 0, 0, 1, 1, 1, 1, 1],
            input_names=["the tone", "the reward"],
            traces=traces,
        )
    page = html.unescape((tmp_path / "report.html").read_text(encoding="utf-8"))
    sentence = "The mean squared error is 0.294; always giving the mean of the targets has 3.494."
    assert titles == ["mean squared error 0.294, always the mean 3.49"]
    assert page.count(f'<p class="answer">{sentence}') == 2  # it opens the report and its section
    assert page.index(sentence) < page.index("primitive")
    assert (tmp_path / "figures" / "traces.png").is_file()
    assert "|∂y/∂s|, the reward" in page
    assert not re.search(r"[Ii]nput [01]", page)
    assert not report["answer"].startswith("The network")


@undrawn()
def test_a_network_that_is_no_better_is_said_to_be_so_first(tmp_path: Path) -> None:
    baselines = {"most frequent class": {"accuracy": 0.4}, "linear model": {"accuracy": 0.3}}
    report = written(tmp_path, classes=3, metrics={"test/accuracy": 0.35}, baselines=baselines)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    first = "The network is no better than always giving the most frequent class: its share of right answers is 35.0%"
    assert re.findall(r'<p class="answer">(.*?)</p>', page)[0].startswith(first)
    assert report["answer"].startswith(first)
    assert report["performance"]["baselines"] == baselines
    assert "most frequent class</td><td>0.4</td>" in page


def test_the_table_by_phase(a_report: Written) -> None:
    found = a_report.report["study"]["phases"]
    if "phase" not in a_report.options:
        assert found is None
        return
    phases = sorted(set(a_report.options["phase"]) - {-1})
    assert found["occupancy"]["groups"] == phases
    table = a_report.page.partition("By phase of the trial")[2].partition("</table>")[0]
    rows = re.findall(r"<tr><td>(.*?)</td></tr>", table)
    for index, (phase, row) in enumerate(zip(phases, rows, strict=True)):
        name, _, regimes, _, switches, *rest = row.split("</td><td>")
        assert name == f"phase {phase}"
        assert int(regimes) == sum(count > 0 for count in found["occupancy"]["counts"][index])
        assert float(switches) == pytest.approx(found["switches"][index], rel=1e-3)
        assert rest == [f"{on:.0%}" for on in found["on"][index]] + [f"{gain:.3g}" for gain in found["gain"][index]]
    assert ("The phases&#x27; occupancy of the regimes differs" in a_report.page) == (len(phases) > 1)


@pytest.mark.parametrize(("size", "dimensions"), [(2, 1), (3, 1), (50, 1), (5, 2)])
def test_the_angle_of_a_random_direction(size: int, dimensions: int) -> None:
    directions = torch.randn(40000, size, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    cosine = directions[:, :dimensions].norm(dim=1) / directions.norm(dim=1)
    assert _random_angle(size, dimensions) == pytest.approx(math.degrees(math.acos(float(cosine.median()))), abs=0.7)
    assert _random_angle(dimensions, dimensions) == 0.0


@pytest.mark.parametrize(
    ("exponent", "error", "settled", "text"),
    [
        (math.log(0.5), 0.0, True, "-0.693 nats a step (2 of 2 trajectories)."),
        (0.02, 0.0005, True, "0.02 ± 0.0005 nats a step (2 of 2 trajectories)."),
        (0.0004, 0.0005, True, "0.0004 ± 0.0005 nats a step (2 of 2 trajectories); it cannot be distinguished from 0."),
        (0.02, 0.004, False, "0.02 ± 0.004 nats a step (2 of 2 trajectories); not settled after 8192 steps."),
        (0.0001, math.inf, False, "0.0001 nats a step (2 of 2 trajectories); not settled: after 8192 steps they have"),
        (-math.inf, 0.0, True, "-inf nats a step (2 of 2 trajectories)."),
    ],
)
def test_how_sure_a_lyapunov_exponent_is(exponent: float, error: float, settled: bool, text: str) -> None:
    each = torch.tensor([exponent, exponent, math.nan])
    found = LargestExponent(exponent, error, settled, 2, each, each, 8192)
    assert _lyapunov(found).startswith(f"The largest Lyapunov exponent of their attractors is {text}")
    assert not settled or _lyapunov(found).endswith(text)
