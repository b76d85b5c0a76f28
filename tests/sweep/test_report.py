"""The verdict as files and as text: they say the same as the verdict, and as each other."""

from __future__ import annotations

import json
import math
import re
from html import unescape
from pathlib import Path

import pytest
from matplotlib.image import imread
from sweep_runs import ADDITION, GAUSSIAN, NEAR_IDENTITY, around, baseline, jitter, runs

from lightning_alrnn.cli import main
from lightning_alrnn.sweep.report import format_verdict, verdict_json, verdict_page, write_verdict
from lightning_alrnn.sweep.store import Record, write_record
from lightning_alrnn.sweep.verdict import Run, judge


def starts() -> list[Run]:
    near = runs(jitter(NEAR_IDENTITY), settings={"model.init": "near_identity"})
    return near + runs(jitter(GAUSSIAN), settings={"model.init": "gaussian"})


def sizes() -> list[Run]:
    few = {0: around(0.6, 0.004, 5, 0), 2: around(0.8, 0.004, 5, 2), 10: around(0.7, 0.004, 5, 10)}
    many = {0: around(0.6, 0.004, 5, 0), 2: around(0.95, 0.004, 5, 2), 10: around(0.95, 0.004, 5, 10)}
    return runs(few, settings={"data.train_size": 100}) + runs(many, settings={"data.train_size": 1000})


def write_sweep(folder: Path, made: list[Run]) -> Path:
    for index, run in enumerate(made):
        errors = ("Traceback\nFloatingPointError: diverged",) if run.diverged else ()
        write_record(folder, Record(f"run{index}", run, "done", errors))
    return folder


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)))


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def test_files(tmp_path: Path) -> None:
    verdict = write_verdict(write_sweep(tmp_path / "sweep", starts()))
    assert verdict == judge(starts())
    content = json.loads((tmp_path / "sweep/verdict.json").read_text(), parse_constant=refuse)
    assert content["nonlinearity_needed"] is True
    assert content["smallest_sufficient"] == 1
    assert content["sparse_beats_full"] is None
    assert content["answer"] == verdict.answer
    assert content["runs"] == {"finished": 40, "diverged": 0, "without_score": 0, "uncounted": []}
    (size,) = content["sizes"]
    assert size["claims"]["reasons"] == list(verdict.claims.reasons)
    assert [units["solved"] for units in size["units"]] == [0, 5, 5, 5, 3]
    assert size["units"][0]["solved_mean"] is None  # NaN: none solves it
    assert size["units"][1]["scores"]["3"] == verdict.sizes[0].units[1].scores[3]
    assert content["dependence"][0]["claims"]["gaussian"]["nonlinearity_needed"] is None
    assert imread(tmp_path / "sweep/verdict.png").shape[1] > 800
    assert (tmp_path / "sweep/verdict.svg").read_text().startswith("<?xml")
    page = (tmp_path / "sweep/verdict.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    said = text_of(page)
    assert said.index(verdict.answer) < page.index("data:image/png")
    for reason in verdict.claims.reasons:
        assert reason in said
    assert "Sweep sweep. 40 runs with a score" in said


@pytest.mark.parametrize("made", [starts(), sizes(), runs(ADDITION, "test/mse", hidden_size=50)])
def test_claims_agree_with_the_table(made: list[Run]) -> None:
    verdict = judge(made)
    printed = format_verdict(verdict)
    assert verdict.answer in " ".join(printed.split())
    tables = printed.split("\n\n")[1 : 1 + len(verdict.sizes)]
    for table, size in zip(tables, verdict.sizes, strict=True):
        header, *rows = [re.split(r"  +", line) for line in table.splitlines() if not line.endswith("sequences")]
        cells = [dict(zip(header, row, strict=True)) for row in rows]
        assert [int(row["P"]) for row in cells] == [units.nonlinear_units for units in size.units]
        # the smallest that is claimed to be enough is the first that the table says to be so
        enough = [int(row["P"]) for row in cells if row["enough"] == "yes"]
        assert min(enough) == size.claims.smallest_sufficient
        means = {int(row["P"]): row["mean"] for row in cells}
        cited = re.search(r"([\d.e-]+) at P=0, ([\d.e-]+) at the best, P=(\d+)", size.claims.reasons[0])
        assert cited is not None
        assert (means[0], means[int(cited[3])]) == (cited[1], cited[2])
        best = max(float(mean) * verdict.rules.sign for mean in means.values())
        assert float(cited[2]) * verdict.rules.sign == best


def test_one_seed_makes_no_claim(tmp_path: Path) -> None:
    one = runs({p: scores[:1] for p, scores in ADDITION.items()}, "test/mse", hidden_size=50)
    verdict = write_verdict(write_sweep(tmp_path, one))
    content = json.loads((tmp_path / "verdict.json").read_text(), parse_constant=refuse)
    assert [content[name] for name in ("nonlinearity_needed", "smallest_sufficient", "sparse_beats_full")] == [None] * 3
    assert content["enough_seeds"] is False
    for said in (format_verdict(verdict), content["answer"], text_of((tmp_path / "verdict.html").read_text())):
        assert "Not enough seeds to tell" in said
        assert not re.search(r"P=\d+ (of M=\d+ )?is enough|Nonlinearity is (not )?needed", said)


def test_what_the_page_tells_of() -> None:
    extra = baseline("GRU", [0.95] * 5)
    made = [run._replace(settings={"data.train_size": 1000}) for run in extra]
    said = text_of(verdict_page(judge([*sizes(), *made])).html())
    for section in ("Few nonlinear units against all", "Size of the training data", "Baselines", "Rules and tests"):
        assert section in said
    assert "What else it depends on" not in said
    assert "100 training sequences: Few nonlinear units beat all (p = " in said
    assert "each test has the level 0.05/2" in said
    assert "GRU 5/5 0.95" in said
    assert re.search(r"From P=2, the smallest shown to be enough, to P=10: .* active units 2 → 10\.", said)
    said = text_of(verdict_page(judge(starts())).html())
    assert "What else it depends on" in said
    assert "regimes visited 2 → 1024" in said
    assert "gaussian 0, 5, 10 0.62 4/15 not told not told not told" in said
    assert "near_identity 0, 1, 2, 5, 10 0.74 8/15 yes P=1 not told" in said
    quiet = [run._replace(metrics={"test/accuracy": 0.9}) for run in runs({0: [0.9] * 5, 2: [0.9] * 5})]
    said = text_of(verdict_page(judge(quiet)).html())
    assert "Neither regimes nor active units were logged" in said
    assert "Not asked: there is no score from which on a run solves the task" in said


def test_runs_without_a_score_are_listed(tmp_path: Path) -> None:
    write_sweep(tmp_path, runs({**jitter(NEAR_IDENTITY), 5: [None] * 5}))
    failed = Run("ALRNN", 5, 7, {}, {}, False, 10)
    write_record(tmp_path, Record("broke", failed, "failed", ("Traceback\nRuntimeError: <out of memory>",)))
    half = failed._replace(metrics={"test/accuracy": 0.95})  # what it has so far is no result
    write_record(tmp_path, Record("going", half, "running"))
    write_record(tmp_path, Record("odd", failed._replace(metrics={"test/loss": 0.1}), "done"))
    write_record(tmp_path, Record("nan", failed._replace(metrics={"test/accuracy": math.nan}), "done"))
    verdict = write_verdict(tmp_path, score="accuracy")
    assert (verdict.finished, verdict.diverged, verdict.without_score) == (20, 6, 3)
    listed = json.loads((tmp_path / "verdict.json").read_text())["runs"]["uncounted"]
    assert len(listed) == 9
    found = {one["name"]: (one["state"], one["error"]) for one in listed}
    assert found["broke"] == ("failed", "RuntimeError: <out of memory>")
    assert found["going"] == ("not done", "")
    assert found["odd"] == ("failed", "has no test/accuracy")
    assert found["nan"] == ("diverged", "")
    said = text_of((tmp_path / "verdict.html").read_text())
    assert "broke failed RuntimeError: <out of memory>" in said
    assert re.search(r"^5 .* 0/6 .*not compared$", format_verdict(verdict), re.MULTILINE)


def test_json_names_every_number() -> None:
    verdict = judge(starts())
    content = verdict_json(verdict)
    assert set(content["sizes"][0]["units"][0]) == set(verdict.sizes[0].units[0]._fields)
    assert set(content["rules"]) == set(verdict.rules._fields)
    json.dumps(content, allow_nan=False)


def test_nothing_to_judge(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no sweep: .*alrnn sweep"):
        write_verdict(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match="has begun"):
        write_verdict(tmp_path)
    write_sweep(tmp_path, runs({0: [None] * 3, 1: [None] * 3}))
    with pytest.raises(ValueError, match=r"none of the 6 runs .* 6 diverged, 0 failed; a lower learning rate"):
        write_verdict(tmp_path)
    failed = Run("ALRNN", 5, 7, {}, {}, False, 10)
    write_record(tmp_path, Record("broke", failed, "failed", ("Traceback\nRuntimeError: no memory",)))
    with pytest.raises(ValueError, match=r"6 diverged, 1 failed, the last with 'RuntimeError: no memory'"):
        write_verdict(tmp_path)
    assert not (tmp_path / "verdict.json").exists()


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = runs({0: [0.9, 0.91], 2: [0.95, 0.94]})
    folder = write_sweep(tmp_path / "sweep", made)
    main(["verdict", str(folder)])  # it refuses to claim, and that is no error
    printed = capsys.readouterr().out
    assert printed == f"{format_verdict(judge(made))}\n\n{folder / 'verdict.html'}\n"
    assert "Not enough seeds" in printed
    main(["verdict", str(folder), "--score", "accuracy", "--solved", "0.99", "--tolerance", "0.1", "--alpha", "0.01"])
    rules = json.loads((folder / "verdict.json").read_text())["rules"]
    assert rules["score"] == "test/accuracy"
    assert [rules[name] for name in ("threshold", "tolerance", "alpha")] == [0.99, 0.1, 0.01]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: folder"),
        (["nowhere"], "nowhere holds no sweep"),
        (["sweep", "--score", "f1"], "no run has the metric 'test/f1'; there are test/accuracy"),
        (["sweep", "--alpha", "5"], "alpha must lie between 0 and 1, got 5.0"),
        (["sweep", "--tolerance", "much"], "invalid float value: 'much'"),
        (["sweep", "--tol", "1"], "unrecognized arguments"),
    ],
)
def test_wrong_usage(
    arguments: list[str],
    message: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    write_sweep(tmp_path / "sweep", runs({0: [0.9]}))
    with pytest.raises(SystemExit) as error:
        main(["verdict", *arguments])
    assert error.value.code == 2
    assert message in capsys.readouterr().err


def test_help_fits_a_screen(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as error:
        main(["verdict", "--help"])
    assert error.value.code == 0
    printed = capsys.readouterr().out
    assert len(printed.splitlines()) <= 24
    assert "alrnn verdict runs/sweep" in printed
