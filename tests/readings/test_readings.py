"""What readings declare is what they give, and a reading of one's own is everywhere where the package's are."""

from __future__ import annotations

import csv
import json
import re
import sys
from pathlib import Path
from pkgutil import resolve_name

import pytest
import torch
from command_runs import ADDITION
from observed import model
from quick_sweeps import parse_once
from scripts import load_script
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from undrawn import undrawn

from lightning_alrnn import callbacks, readings
from lightning_alrnn.callbacks import ActiveUnits, ReadingCallback, RegimeOccupancy
from lightning_alrnn.callbacks.base import further_readings
from lightning_alrnn.commands.entry import main
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.readings import READINGS, Evidence, Reading, Regimes, chart_layout
from lightning_alrnn.readings.configured import default_callbacks

DEFAULTS = ["RegimeOccupancy", "ActiveUnits", "FixedPoints"]
EXAMPLES = Path(__file__).parents[2] / "examples"
MEASURED = [reading for reading in READINGS if reading.needs]


def evidence(units: int, groups: bool = False) -> Evidence:
    rnn = model(units).core
    assert isinstance(rnn, ALRNN)
    states = rnn(torch.randn(9, 12, 2)).states.detach()
    seen = Evidence(rnn, torch.device("cpu"), ["left", "right"] if groups else None)
    seen.need("regimes", "moments", "units", "trajectories")
    seen.update((0, 0), states, torch.full((9,), 12), torch.arange(9) % 2 if groups else None)
    return seen


@pytest.mark.parametrize("reading", MEASURED, ids=lambda reading: type(reading).__name__)
@pytest.mark.parametrize("units", [0, 3, 5])
def test_values_are_the_declared_keys(reading: Reading, units: int) -> None:
    declared = [key.name for key in reading.keys]
    for groups in (False, True):
        result = reading.measure(evidence(units, groups))
        values = reading.values(result)
        assert [key for key in declared if key in values] == list(values)
        assert all(isinstance(float(value), float) for value in values.values())
        assert all(figure.axes for figure in reading.figures(result).values())


def test_names_are_unique_and_charts_show_what_is_declared() -> None:
    names = [key.name for reading in READINGS for key in reading.keys]
    assert len(names) == len(set(names))
    for reading in READINGS:
        assert set(reading.by_size) <= {key.name for key in reading.keys}
        for chart in reading.charts:
            for pattern in chart.keys:
                assert any(re.search(pattern, name) for name in names), pattern
    assert chart_layout(READINGS, ["units/active"]) == {
        "units": {"number": ["Multiline", ["units/active$", "units/always_on$", "units/always_off$"]]}
    }


def test_a_reading_that_does_not_say_how() -> None:
    with pytest.raises(NotImplementedError, match=r"Reading does not say how it is measured: define measure"):
        Reading().measure(evidence(1))
    with pytest.raises(NotImplementedError, match=r"Reading does not say what it logs: define values"):
        Reading().values(None)


def test_the_example_counts_the_steps_without_a_unit_that_is_on() -> None:
    silence = load_script(EXAMPLES / "own_reading.py").Silence()
    seen = evidence(3)
    expected = float((~(seen.regimes().codes.any(dim=1)) * seen.regimes().counts).sum()) / seen.regimes().steps
    assert silence.values(silence.measure(seen)) == {"silence/share": pytest.approx(expected)}
    assert silence.values(silence.measure(evidence(0))) == {"silence/share": 1.0}


@pytest.mark.filterwarnings("ignore")  # of Lightning, about small data
@undrawn()
def test_a_reading_of_ones_own_is_logged_charted_reported_and_judged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    parse_once(monkeypatch)
    own = ["--trainer.callbacks+=ReadingCallback", "--trainer.callbacks.reading=own_reading.Silence"]
    tiny = [*ADDITION, "--model.hidden_size=4", "--trainer.max_epochs=1", "--trainer.accelerator=cpu"]
    sweep = ["--nonlinear_units=0,2", "--seeds=2", "--output_dir=swept"]
    main(["sweep", *sweep, *tiny, *own, "--executor=inline"])
    main(["verdict", "swept"])
    judged = json.loads(Path("swept/verdict.json").read_text())["readings"]["silence/share"]
    with Path("swept/results.csv").open() as file:
        rows = list(csv.DictReader(file))
    for units in ("0", "2"):
        shares = [float(row["silence/share"]) for row in rows if row["nonlinear_units"] == units]
        assert judged[units] == pytest.approx(sum(shares) / 2)  # the median of two
    assert judged["0"] == 1.0
    assert "silence/share" in Path("swept/verdict.html").read_text()

    main(["fit", "--model.nonlinear_units=2", *tiny, *own])
    run = Path("runs/Addition/version_0")
    events = EventAccumulator(str(run))
    events.Reload()
    assert "silence/share" in events.Tags()["scalars"]
    assert "silence" in str(events.Tensors("custom_scalars__config__"))
    main(["analyze", "--ckpt_path", str(run / "checkpoints" / "last.ckpt"), "--time_limit=0.1"])
    report = run / "analysis" / "report.json"
    assert set(json.loads(report.read_text())["readings"]) == {"silence"}
    assert (report.parent / "figures" / "silence_units_on.png").is_file()

    monkeypatch.setattr(sys, "path", [entry for entry in sys.path if entry != str(EXAMPLES)])
    monkeypatch.delitem(sys.modules, "own_reading")
    main(["verdict", "swept"])  # by somebody who has not the file
    assert "readings" not in json.loads(Path("swept/verdict.json").read_text())
    with pytest.raises(SystemExit):
        main(["analyze", "--ckpt_path", str(run / "checkpoints" / "last.ckpt")])
    message = r"own_reading.Silence, which cannot be imported .*: set PYTHONPATH to the folder of its file"
    assert re.search(message, capsys.readouterr().err)


def test_readings_of_the_package_are_shown_once() -> None:
    assert further_readings([ReadingCallback(Regimes()), RegimeOccupancy(), ActiveUnits()]) == []


class Further(Regimes):
    callback = "ReadingCallback"


def test_a_reading_of_the_package_needs_no_other_entry(monkeypatch: pytest.MonkeyPatch) -> None:
    order = "Performance Baselines Regimes Units FixedPointsOfInput SlowestMode LatentDimensions Ablation Primitives"
    names = [type(reading).__name__ for reading in READINGS]
    assert names == [*order.split(), "NeuralScores", "SpikeFit", "LengthScores"]
    assert all(hasattr(callbacks, reading.callback or "ReadingCallback") for reading in READINGS)
    before = default_callbacks()
    assert [entry["class_path"].rpartition(".")[2] for entry in before] == DEFAULTS
    monkeypatch.setattr(readings, "READINGS", (*READINGS, Further()))
    (further,) = default_callbacks()[len(before) :]
    assert resolve_name(further["class_path"]) is ReadingCallback
    assert resolve_name(further["init_args"]["reading"]["class_path"]) is Further
