"""A sweep and a report in one call of Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from pytorch_lightning import Trainer
from tiny_runs import QUIET, Sequences

import lightning_alrnn
from lightning_alrnn import ALRNNModule, Arrays, analyze_checkpoint, sweep_units
from lightning_alrnn.commands import sweep
from lightning_alrnn.sweep.store import read_runs

INPUTS = np.random.default_rng(0).normal(size=(40, 5, 2))
TARGETS = np.where(INPUTS.sum(axis=(1, 2)) > 0, "more", "less")
TINY: dict[str, Any] = {
    "model": {"hidden_size": 6, "optimizer": "torch.optim.SGD", "optimizer.lr": 0.25},
    "trainer": {"max_epochs": 1, "accelerator": "cpu", "callbacks": ["ActiveUnits"]},
    "executor": "inline",
}


def test_a_sweep_of_arrays_in_memory(no_verdict_figures: None, monkeypatch: pytest.MonkeyPatch) -> None:
    data = Arrays(INPUTS, TARGETS, batch_size=16, test_fraction=0.25)
    verdict = sweep_units(data, [0, 2], seeds=1, output_dir="swept", grid=["model.init=near_identity"], **TINY)
    assert [estimate.nonlinear_units for estimate in verdict.estimates] == [0, 2]
    assert repr(verdict) == f"Verdict: {verdict.answer}"
    runs = read_runs("swept")
    assert [(run.nonlinear_units, run.hidden_size, run.settings) for run in runs] == [
        (units, 6, {"model.init": "near_identity"}) for units in (0, 2)
    ]
    scores = {run.nonlinear_units: run.metrics["test/accuracy"] for run in runs}
    assert all(
        10 * score == pytest.approx(round(10 * score), abs=1e-5) for score in scores.values()
    )  # of ten sequences
    written = "--data=Arrays --data.test_fraction=0.25 --data.batch_size=16 --data.inputs="  # without the defaults
    assert written in str(verdict.next_command)

    again = Arrays(INPUTS, TARGETS, batch_size=16, test_fraction=0.25)
    options = {**TINY, "output_dir": "swept", "grid": ["model.init=near_identity"]}
    monkeypatch.setattr(sweep, "_works", None)  # all runs are done
    assert sweep_units(again, [0, 2], 1, **options).estimates == verdict.estimates
    with pytest.raises(ValueError, match=r"inputs\.npy holds other data: use another output_dir"):
        sweep_units(Arrays(INPUTS + 1, TARGETS), [0, 2], 1, **options)


@pytest.mark.parametrize(
    ("code", "error", "message"),
    [
        (1, RuntimeError, "runs of the sweep in swept are missing"),
        (2, ValueError, "refused its options"),
        (130, KeyboardInterrupt, "^$"),
    ],
)
def test_exit_codes_are_errors(
    code: int, error: type[BaseException], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[str] = []

    def stop(arguments: list[str]) -> None:
        given.extend(arguments)
        raise SystemExit(code)

    monkeypatch.setattr(sweep, "run_sweep", stop)
    trainer = {"overfit_batches": 0.5, "deterministic": True, "logger": None}
    with pytest.raises(error, match=message):
        sweep_units("digits", [0, 10], "5..40", "swept", trainer=trainer, jobs=2)
    assert given == [
        *("--config=digits", "--nonlinear_units=0,10", "--seeds=5..40", "--output_dir=swept", "--jobs=2"),
        *("--trainer.overfit_batches=0.5", "--trainer.deterministic=true", "--trainer.logger=null"),
    ]


def test_data_that_other_processes_cannot_make(monkeypatch: pytest.MonkeyPatch) -> None:
    ragged = Arrays([INPUTS[0], INPUTS[1, :3], *INPUTS[2:]], TARGETS)
    with pytest.raises(ValueError, match=r"inputs must be one array .* different lengths: pad them, and pass lengths"):
        sweep_units(ragged, [0, 2])
    monkeypatch.setattr(Sequences, "__module__", "__main__")
    with pytest.raises(ValueError, match=r"Sequences is defined in a script.*move it to a module"):
        sweep_units(Sequences("sequence", (4, 4, 4), 4), [0, 2])
    assert not Path("runs").exists()


def test_a_report_of_a_network_trained_in_python(monkeypatch: pytest.MonkeyPatch) -> None:
    data = Arrays(INPUTS, TARGETS, group=TARGETS, batch_size=16)
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **QUIET)
    model = ALRNNModule.for_data(data, hidden_size=6, nonlinear_units=2)
    trainer.fit(model, data)
    trainer.save_checkpoint("mine/last.ckpt")
    score = trainer.test(model, data, verbose=False)[0]["test/accuracy"]
    reports: list[Any] = []
    monkeypatch.setattr(
        "lightning_alrnn.commands.analyze.write_report", lambda *given: reports.append(given) or {"answer": "it adds"}
    )
    folder, report = analyze_checkpoint("mine/last.ckpt", data, max_sequences=5)
    assert (folder, report) == (Path("mine/analysis"), {"answer": "it adds"})
    _, study, sequences, performance, source, *_ = reports[0]
    assert (len(sequences.states), source.data, study.summary.possible_log2) == (5, "Arrays", 2)
    assert performance.metrics["test/accuracy"] == pytest.approx(score)
    assert performance.group_names == ["less", "more"]


def test_they_are_found_where_a_user_looks() -> None:
    assert lightning_alrnn.sweep_units is sweep_units
    assert lightning_alrnn.Dashboard is lightning_alrnn.callbacks.Dashboard
