"""``alrnn ask`` on arrays of one's own."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from asked import write_gate, write_linear, write_lorenz, write_noise
from quick_sweeps import parse_once
from scipy.stats import binomtest, ttest_1samp
from undrawn import undrawn

from lightning_alrnn.commands import ask
from lightning_alrnn.commands.entry import main
from lightning_alrnn.datamodules import arrays
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import Record, read_records


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    with pytest.raises(SystemExit) as stop:
        main(["ask", *arguments])
    assert stop.value.code == 2
    return capsys.readouterr().err.splitlines()[-1]


def test_wrong_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    write_noise(Path("noise.npz"), 20)
    assert "--minutes must be more than 0, got 0" in refused(["noise.npz", "--minutes=0"], capsys)
    assert "alrnn ask has no option --seeds: it takes" in refused(["noise.npz", "--seeds", "3"], capsys)
    assert "no option --minute; did you mean --minutes? it takes" in refused(["noise.npz", "--minute", "3"], capsys)
    assert "no option --outputdir; did you mean --output_dir?" in refused(["noise.npz", "--outputdir=x"], capsys)
    assert "no such option; did you mean --data.criterion?" in refused(["noise.npz", "--data.criteron=sign"], capsys)
    assert "--data.zzz: Arrays has no such option; alrnn fit --data.h" in refused(["noise.npz", "--data.zzz=1"], capsys)
    assert "--data.window needs a value" in refused(["noise.npz", "--data.window"], capsys)
    assert "absent.npz" in refused(["absent.npz"], capsys)
    assert "takes one file, got also more.npz" in refused(["noise.npz", "more.npz"], capsys)
    capsys.readouterr()
    with pytest.raises(SystemExit):
        main(["ask", "noise.npz", "--minutes=0.001"])
    said = capsys.readouterr().err
    assert "no network was trained in the time" in said
    assert "warning: only 3 sequences for validation and 3 for testing" in said


def test_the_setting_with_the_best_mean_rank(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ask, "_GRID", {"model.optimizer.lr": (1, 2, 3)})
    losses = {1: (0.5, 50.0), 2: (9.0, 2.0), 3: (1.0, 0.1)}  # of P=0 and of the others

    def record(rate: int, p: int) -> Record:
        run = Run("ALRNN", p, 0, {"model.optimizer.lr": rate}, {"val/task_loss": losses[rate][p > 0]})
        return Record(f"{rate}-{p}", run, "done")

    records = [record(rate, p) for rate in losses for p in (0, 2, 10)]
    assert ask._best_setting(records) == ({"model.optimizer.lr": 3}, 3)
    assert ask._best_setting([one for one in records if one.name != "3-2"])[1] == 2  # not done for all
    assert ask._best_setting([]) == (ask._DEFAULTS, 0)


def test_gains_over_divisions_of_the_same_data() -> None:
    gains = [0.3, 0.1, -0.1, 0.2, 0.0]
    plain = ttest_1samp(gains, 0, alternative="greater").pvalue  # the same test for independent gains
    assert ask.resampled_p(gains, 0.0) == pytest.approx(plain)
    assert plain < 0.12 < ask.resampled_p(gains, 0.2) < 0.5
    assert (ask.resampled_p([0.1], 0.2), ask.resampled_p([0.1, 0.1], 0.2), ask.resampled_p([0, 0], 0.2)) == (1, 0, 1)


def test_noise_is_rarely_shown_to_be_learnt() -> None:
    """Models that are fitted to random divisions of noise, and the mean: 300 sets of data."""
    rng = np.random.default_rng(0)
    rejected = {"corrected": 0, "sign test": 0}
    for _ in range(300):
        x, y = rng.normal(size=(2, 100))
        gains = []
        for _ in range(20):
            order = rng.permutation(100)
            train, test = order[:70], order[85:]
            slope, level = 0.3 * (x[train] @ y[train]) / (x[train] @ x[train]), y[train].mean()  # hardly overfits
            errors = [np.mean((y[test] - level - slope * x[test] * use) ** 2) for use in (0, 1)]
            gains.append(float(errors[0] - errors[1]))
        rejected["corrected"] += ask.resampled_p(gains, 15 / 70) <= 0.05
        rejected["sign test"] += binomtest(sum(gain > 0 for gain in gains), 20, alternative="greater").pvalue <= 0.05
    assert rejected["corrected"] <= 0.05 * 300 < rejected["sign test"]


@pytest.fixture
def few_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sweeps of a few short runs in this process."""
    parse_once(monkeypatch)
    monkeypatch.setattr(ask, "_GRID", {key: values[:1] for key, values in ask._GRID.items()})
    monkeypatch.setattr(ask, "_units", lambda settings: [0, 2])
    monkeypatch.setattr(ask, "_SEEDS", "1..5")
    monkeypatch.setattr(ask, "_GRID_STEPS", 4)
    monkeypatch.setattr(ask, "_MOST_STEPS", 9)
    sweep: Callable[..., None] = ask.run_sweep
    monkeypatch.setattr(ask, "run_sweep", lambda arguments, **more: sweep([*arguments, "--executor=inline"], **more))


@pytest.mark.usefixtures("few_runs")
@undrawn()
def test_from_arrays_to_a_page_and_again(capsys: pytest.CaptureFixture[str]) -> None:
    write_linear(Path("my linear.npz"), 100)
    main(["ask", "my linear.npz", "--data.standardize", "false", "--output_dir", "answer"])
    said = capsys.readouterr().out
    notes = json.loads(Path("answer/ask.json").read_text(encoding="utf-8"))
    assert " ".join(said.split()).startswith(notes["answer"])
    assert Path("answer/verdict.json").is_file()
    page = Path("answer/ask.html").read_text(encoding="utf-8")
    again = "alrnn ask &#x27;my linear.npz&#x27; --data.standardize false --minutes=20 --output_dir=answer_longer"
    for part in ("100 sequences of 40 steps", "linear model", "Brenner and Koppe", again, 'href="verdict.html"'):
        assert part in page
    runs = list(Path("answer/runs").iterdir())
    before = [(run / "record.json").read_bytes() for run in runs]
    main(["ask", "my linear.npz", "--data.standardize=false", "--output_dir", "answer"])  # nothing is trained again
    assert [(run / "record.json").read_bytes() for run in runs] == before
    assert "holds the answer for other data" in refused(["my linear.npz", "--output_dir", "answer"], capsys)


@pytest.mark.slow
@pytest.mark.usefixtures("few_runs")
def test_a_recording_that_stays_in_its_file(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(arrays, "_HELD", 0)
    rng = np.random.default_rng(0)
    np.save("mine.npy", rng.normal(size=(3000, 3)).astype("float32").cumsum(axis=0))
    main(["ask", "mine.npy", "--output_dir", "answer"])
    assert Path("answer/ask.html").is_file()


@pytest.mark.slow
def test_networks_of_forked_processes_read_a_large_file() -> None:
    """Two populations of two networks, each in a process of its own; the file has more than 2^24 numbers."""
    path = Path("large.npy").resolve()
    np.save(path, np.random.default_rng(0).normal(size=(180_000, 100)).astype("float32"))
    options = ["--nonlinear_units=0,2", "--seeds=2", "--jobs=2", "--population=2", "--model.hidden_size=4"]
    short = [f"--trainer.{name}=2" for name in ("limit_train_batches", "limit_val_batches", "limit_test_batches")]
    data = ["--data=Arrays", f"--data.inputs={path}", "--data.standardize=true"]
    main(["sweep", *data, *options, *short, "--trainer.max_epochs=1", "--output_dir=out"])
    records = read_records("out")
    assert [record.status for record in records] == ["done"] * 4
    assert all(np.isfinite(record.run.metrics["test/mse"]) for record in records)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("write", "right"),
    [
        (write_linear, lambda content: content["claims"]["nonlinearity_needed"] is False),
        (write_gate, lambda content: content["claims"]["nonlinearity_needed"] is True),
        (write_lorenz, lambda content: content["claims"]["nonlinearity_needed"] is True),
        (write_noise, None),
    ],
)
def test_known_answers(write: Callable[[Path], None], right: Callable[[Any], bool] | None) -> None:
    write(Path("mine.npz"))
    main(["ask", "mine.npz", "--output_dir", "answer"])
    notes = json.loads(Path("answer/ask.json").read_text(encoding="utf-8"))
    assert notes["learnt"] is (right is not None)
    if right is None:
        assert notes["answer"].startswith("It is not shown that anything was learnt")
    else:
        assert right(json.loads(Path("answer/verdict.json").read_text(encoding="utf-8")))


@pytest.mark.parametrize("content", ["", "[]", '{"asked": "now"}', '{"choice": {"settings": {}, "epochs": "many"}}'])
def test_damaged_notes_are_refused_with_their_file(tmp_path: Path, content: str) -> None:
    (tmp_path / "ask.json").write_text(content)
    with pytest.raises(ValueError, match=f"^{tmp_path}/ask.json cannot be read: .*: use another --output_dir"):
        ask._read_notes(tmp_path)
