"""The keys and figures that the documentation names are those that runs log."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import pytest
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
from scripts import load_script

from lightning_alrnn import (
    SCAN,
    ActiveUnits,
    ALRNNModule,
    ALRNNNeural,
    ALRNNSeq2Seq,
    Copy,
    FixedPoints,
    LatentTrajectories,
    LengthAccuracy,
    MultiTask,
    NeuralFit,
    RegimeOccupancy,
    Spectrum,
    StimulusSelection,
    UnitAblation,
    callbacks,
)
from lightning_alrnn.callbacks import PeriodicCallback
from lightning_alrnn.readings import READINGS

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "callbacks.md").read_text(encoding="utf-8")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
CALLBACKS = (
    ActiveUnits,
    FixedPoints,
    LatentTrajectories,
    LengthAccuracy,
    NeuralFit,
    RegimeOccupancy,
    Spectrum,
    UnitAblation,
)
OF_MODULES = "The loss and the scores"


class Logged:
    """What runs log: keys by the callback that logs them, "" for the LightningModule, and figures."""

    def __init__(self) -> None:
        self.keys: dict[str, set[str]] = {"": set()}
        self.figures: dict[str, set[str]] = {}

    @property
    def all_keys(self) -> set[str]:
        return set().union(*self.keys.values())


@pytest.fixture(scope="module")
def logged() -> Logged:
    found = Logged()
    with pytest.MonkeyPatch.context() as patch:
        _listen(found, patch)
        trials = MultiTask(train_size=16, val_size=32, test_size=16)
        every = Copy(sequence_length=2, delay=2, train_size=16, val_size=16, test_size=16)
        neural = StimulusSelection(neural=True, units=4, train_size=16, val_size=32, test_size=16)
        commands = SCAN("length")
        both = [RegimeOccupancy(module="encoder"), RegimeOccupancy(module="decoder")]
        one = [RegimeOccupancy(), ActiveUnits(), FixedPoints(), Spectrum(), LatentTrajectories(), UnitAblation()]
        _run(_model(trials), trials, one)
        _run(_model(every), every, [])
        _run(ALRNNNeural(8, 3, 4, group_names=neural.group_names), neural, [])
        _run(ALRNNSeq2Seq(commands.input_size, commands.output_size, 8, 3, 2), commands, both)
    return found


def _model(data: MultiTask | Copy) -> ALRNNModule:
    return ALRNNModule(
        data.input_size,
        data.output_size,
        hidden_size=6,
        nonlinear_units=2,
        objective=data.objective,
        target_step=data.target_step,
        criterion=data.criterion,
        group_names=data.group_names,
    )


def _run(model: LightningModule, data: LightningDataModule, looking: Sequence[Callback]) -> None:
    trainer = Trainer(
        max_epochs=1,
        limit_train_batches=1,
        limit_val_batches=1,
        limit_test_batches=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=list(looking),
    )
    trainer.fit(model, data)
    trainer.test(model, data, verbose=False)


def _listen(found: Logged, patch: pytest.MonkeyPatch) -> None:
    """Write down each key and figure, with the callback that they are of."""
    report, log = PeriodicCallback.report, LightningModule.log
    reporter = ""

    def report_and_note(
        self: PeriodicCallback, trainer: Trainer, pl_module: LightningModule, values: dict[str, float]
    ) -> None:
        nonlocal reporter
        reporter = type(self).__name__
        report(self, trainer, pl_module, values)
        found.figures.setdefault(reporter, set()).update(self.figures())
        reporter = ""

    def log_and_note(self: LightningModule, name: str, *args: object, **kwargs: object) -> None:
        found.keys.setdefault(reporter, set()).add(name)
        log(self, name, *args, **kwargs)  # type: ignore[arg-type]

    patch.setattr(PeriodicCallback, "report", report_and_note)
    patch.setattr(LightningModule, "log", log_and_note)


def _plain(keys: set[str]) -> set[str]:
    """Keys as the page has them: groups by their kind, networks and the stage of the test left out."""
    keys = {re.sub(r"^(val|test)/accuracy/.+", r"\1/accuracy/<group>", key) for key in keys}
    keys = {re.sub(r"^(encoder|decoder)/", "", key) for key in keys}
    return {re.sub(r"^test/", "val/", key) for key in keys}


def _sections(page: str) -> dict[str, str]:
    return dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", page, flags=re.MULTILINE | re.DOTALL))


def _in_tables(text: str) -> set[str]:
    rows = re.findall(r"^\| (`.+?) \| ", text, flags=re.MULTILINE)
    return {key for row in rows for key in re.findall(r"`([^`]+)`", row)}


def test_keys_of_the_modules_are_the_documented_ones(logged: Logged) -> None:
    assert _in_tables(_sections(PAGE)[OF_MODULES]) == _plain(logged.keys[""])


def test_tables_are_those_that_the_readings_declare() -> None:
    module = load_script(ROOT / "docs" / "keys.py")
    assert module.filled(PAGE) == PAGE
    assert PAGE.count("<!-- begin keys of ") == sum(bool(reading.keys) for reading in READINGS)


def test_each_key_of_validation_is_one_of_the_test(logged: Logged) -> None:
    keys = logged.keys[""]
    assert {key.replace("val/", "test/") for key in keys if key.startswith("val/")} == {
        key for key in keys if key.startswith("test/")
    }


@pytest.mark.parametrize("name", [callback.__name__ for callback in CALLBACKS])
def test_keys_and_figures_of_a_callback_are_the_documented_ones(name: str, logged: Logged) -> None:
    section = _sections(PAGE)[name]
    assert _in_tables(section) == _plain(logged.keys[name])
    sentence = re.search(r"^Figures?: .+$", section, flags=re.MULTILINE)
    assert sentence is not None
    assert set(re.findall(r"`([a-z_0-9]+/[a-z_0-9]+)`", sentence[0])) == logged.figures[name]


def test_every_callback_that_logs_was_run(logged: Logged) -> None:
    logging = {name for name in callbacks.__all__ if issubclass(getattr(callbacks, name), PeriodicCallback)}
    bases = {"PeriodicCallback", "ReadingCallback", "StatesCallback"}
    assert logging - bases == {callback.__name__ for callback in CALLBACKS}
    assert logged.keys.keys() - {""} == {callback.__name__ for callback in CALLBACKS}


def _named(text: str) -> list[str]:
    """The keys in a text, with `…/stable` and `…_imag` spelled out after the key before them."""
    keys: list[str] = []
    for word in re.findall(r"`([^`\n]+)`", text):
        if re.fullmatch(r"…/[a-z_0-9]+", word) and keys:
            keys.append(f"{keys[-1].rpartition('/')[0]}/{word[2:]}")
        elif re.fullmatch(r"…_[a-z_0-9]+", word) and keys:
            keys.append(f"{keys[-1].rpartition('_')[0]}{word[1:]}")
        elif re.fullmatch(r"[a-z_]+(/[a-z_0-9]+)+", word):
            keys.append(word)
    return keys


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_page_names_a_key_that_is_not_logged(path: Path, logged: Logged) -> None:
    figures = set().union(*logged.figures.values())
    real = _plain(logged.all_keys) | logged.all_keys | figures
    groups = {key.partition("/")[0] for key in real}
    named = [key for key in _named(path.read_text(encoding="utf-8")) if key.partition("/")[0] in groups]
    assert set(named) <= real
