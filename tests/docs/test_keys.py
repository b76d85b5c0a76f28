"""The keys and figures that the documentation names are those that runs log."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from observed import QUIET
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from scripts import load_script

from lightning_alrnn import (
    SCAN,
    ALRNNModule,
    ALRNNNeural,
    ALRNNSeq2Seq,
    Copy,
    MultiTask,
    RegimeOccupancy,
    StimulusSelection,
    callbacks,
)
from lightning_alrnn.callbacks import Dashboard, PeriodicCallback
from lightning_alrnn.readings import READINGS, Regimes

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "callbacks.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BASES = {"PeriodicCallback", "ReadingCallback", "StatesCallback"}
CALLBACKS = {
    name for name in callbacks.__all__ if issubclass(getattr(callbacks, name), PeriodicCallback) and name not in BASES
}
OF_MODULES = "The loss and the scores"


class Logged:
    """Keys and figures of runs by the callback that logs them, "" for the LightningModule."""

    def __init__(self) -> None:
        self.keys: dict[str, set[str]] = {"": set()}
        self.figures: dict[str, set[str]] = {}

    @property
    def all_keys(self) -> set[str]:
        return set().union(*self.keys.values())


@pytest.fixture(scope="module")
def logged() -> Logged:
    logged = Logged()
    with pytest.MonkeyPatch.context() as patch:
        _listen(logged, patch)
        trials = MultiTask(train_size=16, val_size=32, test_size=16)
        every = Copy(sequence_length=2, delay=2, train_size=16, val_size=16, test_size=16)
        neural = StimulusSelection(neural=True, units=4, train_size=16, val_size=32, test_size=16)
        commands = SCAN("length")
        # the modules add LengthAccuracy and NeuralFit
        alone = [getattr(callbacks, name)() for name in sorted(CALLBACKS - {"LengthAccuracy", "NeuralFit"})]
        _run(_model(trials), trials, *alone, Dashboard())
        _run(_model(every), every, Dashboard())
        _run(ALRNNNeural(8, 3, 4, group_names=neural.group_names), neural)
        both = [RegimeOccupancy(module=name) for name in ("encoder", "decoder")]
        _run(ALRNNSeq2Seq(commands.input_size, commands.output_size, 8, 3, 2), commands, *both)
    return logged


def _model(data: MultiTask | Copy) -> ALRNNModule:
    names = ("objective", "target_step", "criterion", "group_names")
    return ALRNNModule(data.input_size, data.output_size, 6, 2, **{name: getattr(data, name) for name in names})


def _run(model: LightningModule, data: LightningDataModule, *further: Callback) -> None:
    limits = {f"limit_{split}_batches": 1 for split in ("train", "val", "test")}
    quiet = {"logger": False, "enable_checkpointing": False, "max_epochs": 1}
    trainer = Trainer(callbacks=list(further), **QUIET | limits | quiet)
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)


def _listen(logged: Logged, patch: pytest.MonkeyPatch) -> None:
    """Note each key and figure, with the callback that they belong to."""
    report, log = PeriodicCallback.report, LightningModule.log
    reporter = ""

    def report_and_note(self: PeriodicCallback, *args: object) -> None:
        nonlocal reporter
        reporter = type(self).__name__
        report(self, *args)  # type: ignore[arg-type]
        logged.figures.setdefault(reporter, set()).update(self.figures())
        reporter = ""

    def log_and_note(self: LightningModule, name: str, *args: object, **kwargs: object) -> None:
        logged.keys.setdefault(reporter, set()).add(name)
        log(self, name, *args, **kwargs)  # type: ignore[arg-type]

    patch.setattr(PeriodicCallback, "report", report_and_note)
    patch.setattr(LightningModule, "log", log_and_note)


def _plain(keys: set[str]) -> set[str]:
    """Keys as the page has them, without the names of groups and networks and without the stage of the test."""
    keys = {re.sub(r"^(val|test)/accuracy/.+", r"\1/accuracy/<group>", key) for key in keys}
    keys = {re.sub(r"^baseline/.+", "baseline/<metric>/<name>", key) for key in keys}
    return {re.sub(r"^test/", "val/", re.sub(r"^(encoder|decoder)/", "", key)) for key in keys}


def _sections(page: str) -> dict[str, str]:
    return dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL))


def _in_tables(text: str) -> set[str]:
    return set(re.findall(r"^\| `([^`]+)` \| ", text, flags=re.MULTILINE))


def test_keys_of_the_modules_are_the_documented_ones(logged: Logged) -> None:
    baselines = {key for key in logged.keys[""] if key.startswith("baseline/")}  # Dashboard logs them
    assert _in_tables(_sections(PAGE)["Baselines"]) == _plain(baselines)
    keys = logged.keys[""] - baselines
    assert _in_tables(_sections(PAGE)[OF_MODULES]) == _plain(keys)
    of_val, of_test = ({key.partition("/")[2] for key in keys if key.startswith(stage)} for stage in ("val", "test"))
    assert of_val == of_test


def test_tables_are_those_that_the_readings_declare(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script(ROOT / "docs" / "keys.py")
    assert script.filled(PAGE) == PAGE

    class Further(Regimes):
        """A reading without a section."""

    monkeypatch.setattr(script, "READINGS", (*READINGS, Further()))
    section = _sections(script.filled(PAGE))["Further"]
    assert "A reading without a section." in section
    assert _in_tables(section) == {key.name for key in Regimes.keys}


@pytest.mark.parametrize("name", sorted(CALLBACKS))
def test_keys_and_figures_of_a_callback_are_the_documented_ones(name: str, logged: Logged) -> None:
    section = _sections(PAGE)[name]
    declared = {key.name for reading in READINGS if reading.callback == name for key in reading.keys}
    assert _in_tables(section) == _plain(logged.keys[name]) == declared
    sentence = re.search(r"^Figures?: .+$", section, flags=re.MULTILINE)
    assert sentence is not None
    assert set(re.findall(r"`([a-z_0-9]+/[a-z_0-9]+)`", sentence[0])) == logged.figures[name]


def _named(text: str) -> list[str]:
    """The keys in a text, with `…/stable` and `…_imag` spelled out after the key before them."""
    keys: list[str] = []
    for word in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"…[/_][a-z_0-9]+", word) and keys:
            keys.append(keys[-1].rpartition(word[1])[0] + word[1:])
        elif re.fullmatch(r"[a-z_]+(/[a-z_0-9]+)+", word):
            keys.append(word)
    return keys


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_page_names_a_key_that_is_not_logged(path: Path, logged: Logged) -> None:
    real = _plain(logged.all_keys).union(logged.all_keys, *logged.figures.values())
    groups = {key.partition("/")[0] for key in real}
    named = [key for key in _named(path.read_text(encoding="utf-8")) if key.partition("/")[0] in groups]
    assert set(named) <= real
