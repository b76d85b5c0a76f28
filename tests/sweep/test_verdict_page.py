"""The verdict as files and as text: they say the same as the verdict, and as each other."""

from __future__ import annotations

import json
import math
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_runs import refused
from matplotlib.figure import Figure
from matplotlib.image import imread
from sweep_runs import ADDITION, GAUSSIAN, NEAR_IDENTITY, around, baseline, jitter, learned, runs

from lightning_alrnn.commands.entry import main
from lightning_alrnn.sweep import Claims, Run, judge, verdict_page
from lightning_alrnn.sweep.store import Record, write_record
from lightning_alrnn.sweep.verdict_page import format_verdict, make_page, write_verdict

# of each P some runs stay where they began
WHOLE_GAUSSIAN = {p: GAUSSIAN.get(p, [0.5, 0.5, 0.95, 0.5, 0.5]) for p in NEAR_IDENTITY}


def starts() -> list[Run]:
    near, gaussian = ({p: scores * 2 for p, scores in curve.items()} for curve in (NEAR_IDENTITY, WHOLE_GAUSSIAN))
    return [
        *runs(jitter(near), settings={"model.init": "near_identity"}),
        *runs(jitter(gaussian), settings={"model.init": "gaussian"}),
    ]


def sizes() -> list[Run]:
    few = {p: around(mean, 0.004, 8, p) for p, mean in ((0, 0.6), (2, 0.8), (5, 0.8), (10, 0.7))}
    many = {p: around(mean, 0.004, 8, p) for p, mean in ((0, 0.6), (2, 0.95), (5, 0.95), (10, 0.95))}
    return runs(few, settings={"data.train_size": 100}) + runs(many, settings={"data.train_size": 1000})


def write_sweep(folder: Path, made: list[Run]) -> Path:
    for index, run in enumerate(made):
        errors = ("Traceback\nFloatingPointError: diverged",) if run.diverged else ()
        write_record(folder, Record(f"run{index}", run, "done", errors))
    return folder


def read_verdict(folder: Path) -> Any:
    return json.loads((folder / "verdict.json").read_text(), parse_constant=pytest.fail)


def text_of(page: str) -> str:
    return re.sub(r"\s+", " ", unescape(re.sub(r"<style>.*?</style>|<[^>]*>", " ", page, flags=re.DOTALL)))


@pytest.fixture(autouse=True)
def _unrendered(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Figures are made and not rendered, except for :func:`test_files`; plotting/test_sweep.py looks at them."""
    if request.function is not test_files:
        plot = verdict_page.plot_verdict
        monkeypatch.setattr(verdict_page, "plot_verdict", lambda verdict: (plot(verdict), Figure((1, 1)))[1])


def test_files(tmp_path: Path) -> None:
    verdict = write_verdict(write_sweep(tmp_path / "sweep", starts()))
    assert verdict == judge(starts())
    content = read_verdict(tmp_path / "sweep")
    assert list(content["claims"]) == [*Claims._fields]
    assert list(content["claims"].values()) == [True, [1, 2, 5], 1, None]
    assert content["answer"] == verdict.answer
    assert content["untold"] == ["whether fewer nonlinear units beat all of them"]
    assert content["seeds_needed"] == verdict.seeds_needed
    assert content["runs"] == {"finished": 100, "diverged": 0, "without_score": 0, "uncounted": []}
    assert set(content["rules"]) == set(verdict.rules._fields)
    for one, estimate in zip(content["estimates"], verdict.estimates, strict=True):
        assert set(one) == set(estimate._fields)
        names = ("nonlinear_units", "good", "tried", "share_low", "share_high", "gap", "gap_low", "gap_high")
        assert [one[name] for name in names] == [getattr(estimate, name) for name in names]
    assert content["estimates"] == content["sizes"][-1]["estimates"]
    assert content["estimates"][1]["scores"]["3"] == verdict.estimates[1].scores[3]
    assert content["dependence"][0]["claims"]["gaussian"]["nonlinearity_needed"] is None
    assert imread(tmp_path / "sweep/verdict.png").shape[1] > 800
    assert (tmp_path / "sweep/verdict.svg").read_text().startswith("<?xml")
    page = (tmp_path / "sweep/verdict.html").read_text()
    assert not re.search(r'(?:src|href)="(?!data:|#)', page)
    said = text_of(page)
    assert said.index(verdict.answer) < page.index("data:image/png")
    assert "Sweep sweep. 100 runs with a score" in said


@pytest.mark.parametrize("made", [starts(), sizes(), runs(ADDITION, "test/mse", hidden_size=50)])
def test_claims_agree_with_the_table(made: list[Run]) -> None:
    verdict = judge(made)
    printed = format_verdict(verdict)
    assert verdict.answer in " ".join(printed.split())
    tables = printed.split("\n\n")[1 : 1 + len(verdict.sizes)]
    for table, size in zip(tables, verdict.sizes, strict=True):
        header, *rows = [re.split(r"  +", line) for line in table.splitlines() if not line.endswith("sequences")]
        cells = [dict(zip(header, row, strict=True)) for row in rows]
        assert [int(row["P"]) for row in cells] == [one.nonlinear_units for one in size.estimates]
        assert tuple(int(row["P"]) for row in cells if row["enough"] == "enough") == size.claims.sufficient
        assert (cells[0]["enough"] == "not enough") == (size.claims.nonlinearity_needed is True)
        for row, one in zip(cells, size.estimates, strict=True):
            share = f"{one.good} of {one.tried} ({100 * one.share_low:.0f} % to {100 * one.share_high:.0f} %)"
            assert row["as good as the best"] == share
            assert row["worse than the best by"].startswith(f"{one.gap:.3g} (")


def test_one_seed_makes_no_claim(tmp_path: Path) -> None:
    one = runs({p: scores[:1] for p, scores in ADDITION.items()}, "test/mse", hidden_size=50)
    verdict = write_verdict(write_sweep(tmp_path, one))
    content = read_verdict(tmp_path)
    assert set(map(repr, content["claims"].values())) == {"None", "[]"}
    for said in (format_verdict(verdict), content["answer"], text_of((tmp_path / "verdict.html").read_text())):
        assert "No claim can be made with 1 seed" in said
        assert not re.search(r"P=\d+ (is|are) enough|Nonlinearity is (not )?needed(:| in)", said)


def test_what_the_page_tells_of() -> None:
    extra = baseline("GRU", [0.95] * 8)
    made = [run._replace(settings={"data.train_size": 1000}) for run in extra]
    said = text_of(make_page(judge([*sizes(), *made])).html())
    for section in ("Answer", "Estimates", "Size of the training data", "How to read it"):
        assert section in said
    assert "Other settings" not in said
    assert "With 100 training sequences, fewer nonlinear units beat all of them." in said
    assert "Each size is judged at the level 0.025" in said
    assert "GRU 8/8 0.95" in said
    said = text_of(make_page(judge(starts())).html())
    assert "Other settings" in said
    assert "gaussian 0.504 not shown not shown not shown" in said
    assert re.search(r"near_identity 0\.95 yes P=1, 2 and 5 not shown", said)
    assert "model.init=near_identity" in said
    assert "The runs do not show whether fewer nonlinear units beat all of them" in said
    solved = text_of(make_page(judge(starts(), solved=0.9)).html())
    assert "its score is at least 0.9" in solved


def test_how_late_each_p_is(tmp_path: Path) -> None:
    made = learned({0: [None] * 8, 1: [50 + seed for seed in range(8)], 2: [10] * 8, 5: [12] * 8})
    for run in made:
        write_record(tmp_path, Record(f"P{run.nonlinear_units}-{run.seed}", run, "done", epochs=100))
    verdict = write_verdict(tmp_path)
    assert verdict.learning_times == judge(made).learning_times
    content = read_verdict(tmp_path)
    assert content["learning"] == verdict.learning
    times = {time["nonlinear_units"]: time for time in content["learning_times"]}
    assert (times[0]["typical"], times[0]["epochs"], times[0]["reaches"]) == ("inf", 100, False)
    assert (times[1]["reached"], times[1]["typical"], times[1]["later"]) == (8, 53.5, True)
    said = text_of((tmp_path / "verdict.html").read_text())
    assert said.index("Estimates") < said.index("Late or unable?") < said.index("How to read it")
    assert verdict.learning in said
    assert "0 0 of 8 not within 100 unable within 100 epochs 1 8 of 8 53.5 (51 to 56) late" in said
    assert f"{verdict.answer} {verdict.learning}" in " ".join(format_verdict(verdict).split())
    # records of earlier versions do not say whether a run reached the threshold
    for path in tmp_path.glob("runs/P0-*/record.json"):
        record = json.loads(path.read_text())
        del record["run"]["epochs_to_threshold"]
        path.write_text(json.dumps(record))
    assert write_verdict(tmp_path).learning == ""
    assert "Late or unable?" not in (tmp_path / "verdict.html").read_text()


def test_a_threshold_that_nobody_reaches_is_a_sentence_of_the_page() -> None:
    verdict = judge(learned({0: [None] * 8, 1: [None] * 8}))
    said = text_of(make_page(verdict).html())
    assert "No run of any P reached the threshold within 100 epochs." in said
    assert "runs that reach the threshold" not in said
    assert verdict.learning in format_verdict(verdict)
    assert "threshold" not in format_verdict(judge(learned({0: [None] * 3, 1: [5] * 3})))  # nothing is shown


def write_settings(folder: Path, **content: object) -> None:
    (folder / "sweep.json").write_text(json.dumps({"varied": [], "configs": {}, **content}))


def test_the_command_that_would_tell(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    vague = runs({p: (0.9 + 0.03 * rng.normal(size=6)).tolist() for p in (1, 2)}, hidden_size=5)
    write_sweep(tmp_path, vague)
    assert write_verdict(tmp_path).next_command is None  # a folder that does not say how it was made
    arguments = ["--config", "digits", "--nonlinear_units", "1,2", "--seeds", "6", "--output_dir", str(tmp_path)]
    write_settings(tmp_path, arguments=arguments)
    verdict = write_verdict(tmp_path)
    assert f"--seeds {min(n for n in verdict.seeds_by_question.values() if n)}" in verdict.next_command
    assert "--nonlinear_units 0,1,2,5" in verdict.next_command  # the linear and the fully nonlinear end
    assert format_verdict(verdict).splitlines()[-1] == verdict.next_command
    assert verdict.next_command in text_of((tmp_path / "verdict.html").read_text())
    clean = runs({p: around(0.96, 0.002, 6, p) for p in (0, 2, 5)}, hidden_size=5)
    write_sweep(tmp_path / "clean", clean)
    write_settings(tmp_path / "clean", arguments=arguments)
    assert write_verdict(tmp_path / "clean").next_command is None


@pytest.mark.usefixtures("no_verdict_figures")
def test_a_smaller_tolerance_where_no_number_of_seeds_would_tell(tmp_path: Path) -> None:
    spread = np.linspace(-0.01, 0.01, 10)
    write_sweep(tmp_path, runs({p: (centre + spread).tolist() for p, centre in ((0, 0.88), (2, 0.9), (10, 0.9))}))
    write_settings(tmp_path, arguments=["--seeds", "10", "--nonlinear_units", "0,2,10", "--output_dir", "x"])
    command = write_verdict(tmp_path).next_command or ""
    assert command.startswith("alrnn verdict ")
    tolerance = float(command.split()[-1])
    assert tolerance < 0.02
    # it was found by what it tells, and the answer says so
    verdict = write_verdict(tmp_path, tolerance=tolerance)
    assert verdict.claims.nonlinearity_needed is True
    assert f"This is exploratory: the tolerance of {tolerance:g} is suggested by an earlier verdict" in verdict.answer
    assert "exploratory" not in write_verdict(tmp_path, tolerance=0.015).answer


@pytest.mark.usefixtures("no_verdict_figures")
def test_a_sweep_that_looks_again_is_judged_at_its_last_look(tmp_path: Path) -> None:
    made = runs(jitter({p: scores * 3 for p, scores in NEAR_IDENTITY.items()}))
    write_sweep(tmp_path, [run for run in made if run.seed < 13])
    write_settings(tmp_path, looks=[8, 12, 15], runs_per_seed=5)
    verdict = write_verdict(tmp_path)
    assert {one.tried for one in verdict.estimates} == {12}
    assert verdict.sizes[0].alpha == pytest.approx(0.05 / 3)
    said = format_verdict(verdict)
    assert "each time at the level 0.0167" in " ".join(said.split())
    assert "a claim is wrong with probability at most 0.05 over all looks" in " ".join(said.split())
    assert {one.tried for one in write_verdict(tmp_path, seeds=8).estimates} == {8}


@pytest.mark.usefixtures("no_verdict_figures")
@pytest.mark.parametrize(
    ("varied", "expected"), [(["data.seed"], "the weights and the data"), ([], "the weights, not the data")]
)
def test_what_the_seeds_change_is_said(tmp_path: Path, varied: list[str], expected: str) -> None:
    write_sweep(tmp_path, runs({p: [0.9] for p in (0, 1)}))
    write_settings(tmp_path, varied=varied)
    assert f"Seeds change {expected}." in " ".join(format_verdict(write_verdict(tmp_path)).split())
    assert json.loads((tmp_path / "verdict.json").read_text())["seeds_change"] == expected


@pytest.mark.usefixtures("no_verdict_figures")
def test_a_sweep_that_was_judged_before_says_so(tmp_path: Path) -> None:
    write_sweep(tmp_path, runs({p: around(0.96, 0.002, 10, p) for p in (0, 2, 10)}))
    write_settings(tmp_path, judged=[3, 5, 10])
    answer = write_verdict(tmp_path).answer
    assert answer.endswith(
        "The sweep was judged before with 5 seeds, so a claim is wrong with probability at most 0.1."
    )
    write_settings(tmp_path, judged=[3, 10])  # with three seeds nothing could be claimed
    assert "before" not in write_verdict(tmp_path).answer


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
    listed = read_verdict(tmp_path)["runs"]["uncounted"]
    assert len(listed) == 9
    assert {one["name"]: (one["state"], one["error"]) for one in listed}.items() >= {
        ("broke", ("failed", "RuntimeError: <out of memory>")),
        ("going", ("not done", "")),
        ("odd", ("failed", "has no test/accuracy")),
        ("nan", ("diverged", "")),
    }
    said = text_of((tmp_path / "verdict.html").read_text())
    assert "broke failed RuntimeError: <out of memory>" in said
    assert re.search(r"^5 .* 0/6 .*diverges", format_verdict(verdict), re.MULTILINE)


def test_nothing_to_judge(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"holds no sweep: .*alrnn sweep"):
        write_verdict(tmp_path)
    (tmp_path / "runs").mkdir()
    with pytest.raises(ValueError, match="has begun"):
        write_verdict(tmp_path)
    write_sweep(tmp_path, runs({0: [None] * 3, 1: [None] * 3}))
    assert write_verdict(tmp_path).answer.startswith("No claim can be made")  # that all diverged is a result
    failed = Run("ALRNN", 5, 7, {}, {}, False, 10)
    write_record(tmp_path / "b", Record("broke", failed, "failed", ("Traceback\nRuntimeError: no memory",)))
    with pytest.raises(
        ValueError, match=r"none of the 1 runs .* 1 failed, the last one with 'RuntimeError: no memory'"
    ):
        write_verdict(tmp_path / "b")
    assert not (tmp_path / "b/verdict.json").exists()


@pytest.mark.usefixtures("no_verdict_figures")
def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = runs({0: [0.9, 0.91], 2: [0.95, 0.94]})
    folder = write_sweep(tmp_path / "sweep", made)
    main(["verdict", str(folder)])  # it refuses to claim, and that is no error
    printed = capsys.readouterr().out
    assert printed == f"{folder / 'verdict.html'}\n\n{format_verdict(judge(made))}\n"
    assert "No claim can be made with 2 seeds" in printed
    main(["verdict", str(folder), "--score", "accuracy", "--solved", "0.99", "--tolerance", "0.1", "--alpha", "0.01"])
    rules = read_verdict(folder)["rules"]
    assert [rules[name] for name in ("score", "solved", "tolerance", "alpha")] == ["test/accuracy", 0.99, 0.1, 0.01]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "the following arguments are required: folder"),
        (["nowhere"], "nowhere holds no sweep"),
        (["sweep", "--alpha", "5"], "alpha must lie between 0 and 1, got 5.0"),
        (["sweep", "--tol", "1"], "unrecognized arguments"),
    ],
)
def test_wrong_usage(arguments: list[str], message: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_sweep(tmp_path / "sweep", runs({0: [0.9]}))
    assert message in refused(["verdict", *arguments], capsys)
