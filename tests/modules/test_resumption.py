"""A run that resumes with other options says what changes, or is refused if it cannot change."""

from __future__ import annotations

import logging
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from command_runs import ADDITION, CPU, LAST, ONE_EPOCH, fit, refused
from pytorch_lightning import Callback, Trainer
from tiny_runs import QUIET, Sequences, build

from lightning_alrnn import ALRNNModule
from lightning_alrnn.cli import run_cli
from lightning_alrnn.modules.resumption import Change, changed_options, resume_with

ADAM = {"class_path": "torch.optim.Adam", "init_args": {}}
STEP = {"class_path": "torch.optim.lr_scheduler.StepLR", "init_args": {"step_size": 3}}


def content(**changes: Any) -> dict[str, Any]:
    """The options in a checkpoint, which keyword arguments such as ``hyper_parameters`` add to."""
    options: dict[str, Any] = {
        "hyper_parameters": {"_class_path": "lightning_alrnn.ALRNNModule", "hidden_size": 6, "mar_strength": 0.1},
        "datamodule_hyper_parameters": {"_class_path": "lightning_alrnn.Addition", "seed": 0, "sizes": (1, 2)},
        "optimizer_settings": {"optimizer": ADAM, "lr_scheduler": None},
        "run_options": {"seed_everything": 0, "trainer.gradient_clip_val": None},
    }
    return {key: value | changes.get(key, {}) for key, value in options.items()}


def optimizer(**init_args: Any) -> dict[str, Any]:
    return {"optimizer_settings": {"optimizer": ADAM | {"init_args": init_args}}}


# what differs, the option, its values, and whether a run that resumes trains with the new one
CHANGES: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"hyper_parameters": {"hidden_size": 7}}, ("model.hidden_size", 6, 7, False)),
    ({"hyper_parameters": {"mar_strength": 0.2}}, ("model.mar_strength", 0.1, 0.2, True)),
    ({"hyper_parameters": {"_class_path": "my.Module"}}, ("model", "ALRNNModule", "Module", False)),
    ({"datamodule_hyper_parameters": {"seed": 1}}, ("data.seed", 0, 1, True)),
    ({"datamodule_hyper_parameters": {"_class_path": "my.Data"}}, ("data", "Addition", "Data", True)),
    (optimizer(lr=0.1), ("model.optimizer.lr", 1e-3, 0.1, False)),
    (optimizer(betas=[0.9, 0.9]), ("model.optimizer.betas", [0.9, 0.999], [0.9, 0.9], False)),
    ({"optimizer_settings": {"lr_scheduler": STEP}}, ("model.lr_scheduler", None, "StepLR", False)),
    ({"run_options": {"seed_everything": 3}}, ("seed_everything", 0, 3, False)),
    ({"run_options": {"trainer.gradient_clip_val": 1.0}}, ("trainer.gradient_clip_val", None, 1.0, True)),
]


@pytest.mark.parametrize(("difference", "change"), CHANGES)
def test_each_difference_is_found_and_said(difference: dict[str, Any], change: tuple[Any, ...]) -> None:
    before, now = content(), content(**difference)
    assert changed_options(before, now) == [change]
    name, old, new, takes_effect = change
    if takes_effect:
        said = f"{name} was {old!r} in the checkpoint and is {new!r} from here on"
        assert resume_with(before, now, None) == [said]
        middle = {"loops": {"fit_loop": {"epoch_loop.batch_progress": {"is_last_batch": False}}}}
        within = " (within an epoch, which may use some sequences twice or not at all)"
        assert resume_with(before | middle, now, None) == [said + (within if name.startswith("data") else "")]
    else:
        with pytest.raises(ValueError, match="a run that resumes keeps the network") as error:
            resume_with(before, now, None)
        assert f"but {name} is {old!r} there and {new!r} here: use the value of the checkpoint" in str(error.value)


def test_what_is_the_same_or_unknown_is_no_difference() -> None:
    same = [
        {"hyper_parameters": {"_class_path": "lightning_alrnn.modules.ALRNNModule"}},
        {"hyper_parameters": {"hidden_size": 6.0, "new": 1}},
        {"datamodule_hyper_parameters": {"sizes": [1, 2], "_instantiator": "any"}},
        {"optimizer_settings": {"optimizer": {"unknown": "a function"}}},
        optimizer(lr=1e-3, betas=[0.9, 0.999]),
    ]
    for difference in same:
        assert changed_options(content(), content(**difference)) == []
        assert changed_options(content(**difference), content()) == []
    assert changed_options({"state_dict": {}}, content()) == []


@pytest.mark.parametrize(("trained", "max_epochs", "is_refused"), [(3, 2, True), (3, 3, False), (3, -1, False)])
def test_fewer_epochs_than_the_checkpoint_has_are_refused(trained: int, max_epochs: int, is_refused: bool) -> None:
    checkpoint = {"loops": {"fit_loop": {"epoch_progress": {"current": {"processed": trained}}}}}
    if is_refused:
        with pytest.raises(ValueError, match=r"has trained for 3 epochs, and trainer.max_epochs is 2: set it to more"):
            resume_with(checkpoint, {}, max_epochs)
    else:
        assert resume_with(checkpoint, {}, max_epochs) == []


def train(folder: Path, epochs: int, data: Sequences, model: Any, path: Path | None = None, *callbacks: Any) -> Path:
    """Train a module; its last checkpoint."""
    trainer = Trainer(max_epochs=epochs, default_root_dir=folder, logger=False, callbacks=[*callbacks], **QUIET)
    trainer.fit(model, data, ckpt_path=path)
    return folder / LAST


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
def test_in_python_a_trainer_refuses_too_and_says_what_changes(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = Sequences("sequence", (16, 7, 5), 4)
    path = train(tmp_path, 1, data, build("sequence"))
    arguments = {"init": "near_identity", "group_names": ["left", "right"]}
    other_rate = ALRNNModule(2, 3, 6, 3, optimizer=partial(torch.optim.Adam, lr=0.1), **arguments)
    with pytest.raises(ValueError, match=r"model.optimizer.lr is 0.001 there and 0.1 here"):
        train(tmp_path / "refused", 2, data, other_rate, path)
    with caplog.at_level(logging.INFO):
        train(tmp_path / "on", 2, data, ALRNNModule(2, 3, 6, 3, mar_strength=0.5, **arguments), path)
    assert "model.mar_strength was 0.1 in the checkpoint and is 0.5 from here on" in caplog.messages


RUN = [*ADDITION, *CPU, "--model.hidden_size=6", "--model.lr_scheduler=StepLR", "--model.lr_scheduler.step_size=3"]
REFUSED = {
    "model.hidden_size": (["--model.hidden_size=7"], 6, 7),
    "model.nonlinear_units": (["--model.nonlinear_units=3"], 5, 3),
    "model.optimizer.lr": (["--model.optimizer=Adam", "--model.optimizer.lr=0.1"], 0.001, 0.1),
    "model.optimizer": (["--model.optimizer=SGD", "--model.optimizer.lr=0.001"], "Adam", "SGD"),
    "model.lr_scheduler.gamma": (["--model.lr_scheduler.gamma=0.5"], 0.1, 0.5),
    "model.lr_scheduler": (["--model.lr_scheduler=null"], "StepLR", None),
    "model.core": (["--model.core=GRU"], "ALRNN", "GRU"),
    "model.input_matrix": (
        ["--model.input_matrix=identity", *(f"--model.{size}" for size in ("hidden_size=2", "nonlinear_units=1"))],
        "learned",
        "identity",
    ),
    "model.init": (["--model.init=near_identity"], "gaussian", "near_identity"),
    "model.initial_state": (["--model.initial_state=learned"], "zeros", "learned"),
    "model.self_connections": (["--model.self_connections=all"], "nonlinear", "all"),
    "model.encoder": (
        ["--model.encoder=torch.nn.Linear", *(f"--model.encoder.{size}=2" for size in ("in_features", "out_features"))],
        None,
        "'class_path': 'torch.nn.Linear'",
    ),
    "seed_everything": (["--seed_everything=3"], 0, 3),
}
SAID = {
    "model.mar_strength": (["--model.mar_strength=0.5"], 0.1, 0.5),
    "model.mar_units": (["--model.mar_units=2"], None, 2),
    "model.backend": (["--model.backend=eager"], "auto", "eager"),
    "data.seed": (["--data.seed=4"], 0, 4),
    "data.train_size": (["--data.train_size=64"], 32, 64),
    "data.batch_size": (["--data.batch_size=8"], 16, 8),
    "data.sequence_length": (["--data.sequence_length=8"], 6, 8),
    "data.num_workers": (["--data.num_workers=1"], 0, 1),
    "trainer.gradient_clip_val": (["--trainer.gradient_clip_val=1"], None, 1.0),
    "trainer.accumulate_grad_batches": (["--trainer.accumulate_grad_batches=2"], 1, 2),
    "trainer.precision": (["--trainer.precision=64-true"], None, "64-true"),
    "trainer.limit_train_batches": (["--trainer.limit_train_batches=1"], None, 1.0),
}


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return fit(tmp_path_factory.mktemp("run"), *RUN) / LAST


def some(cases: dict[str, Any], *fast: str) -> list[Any]:
    return [pytest.param(name, *case, marks=() if name in fast else pytest.mark.slow) for name, case in cases.items()]


@pytest.mark.parametrize(("name", "options", "old", "new"), some(REFUSED, "model.optimizer.lr"))
def test_what_cannot_take_effect_is_refused_before_anything_is_written(
    name: str, options: list[str], old: Any, new: Any, trained: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    printed = refused(["fit", *RUN, "--trainer.max_epochs=2", *options, f"--ckpt_path={trained}"], capsys)
    (said,) = [line for line in printed.splitlines() if line.startswith("alrnn: error: ")]
    assert f"{name} is {old!r} there and " in said
    assert str(new) in said
    assert not Path("runs").exists()


@pytest.mark.parametrize(("name", "options", "old", "new"), some(SAID, "data.batch_size"))
@pytest.mark.filterwarnings("ignore:The dirpath has changed", "ignore:Precision 64-true", "ignore:.*num_workers")
def test_what_takes_effect_is_said_and_recorded(
    name: str, options: list[str], old: Any, new: Any, trained: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO):
        cli = run_cli(["fit", *RUN, "--trainer.max_epochs=2", *options, f"--ckpt_path={trained}"])
    said = [line for line in caplog.messages if "from here on" in line]
    more = "trainer.max_epochs was 1 in the checkpoint and is 2 from here on"
    assert sorted(said) == sorted([f"{name} was {old!r} in the checkpoint and is {new!r} from here on", more])
    folder = Path(cli.trainer.log_dir or "")
    head, _, option = name.partition(".")
    config = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))[head]
    assert config.get("init_args", config)[option] == new
    trained_on, before = (torch.load(path, weights_only=True) for path in (folder / LAST, trained))
    changes = {Change(name, new, old, True), Change("trainer.max_epochs", 2, 1, True)}
    assert set(changed_options(trained_on, before)) == changes


def test_a_checkpoint_has_fewer_epochs_than_are_asked_for(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    printed = refused(["fit", *RUN, *ONE_EPOCH, "--trainer.max_epochs=0", f"--ckpt_path={trained}"], capsys)
    assert "has trained for 1 epochs, and trainer.max_epochs is 0: set it to more than 1" in printed.splitlines()[-1]


def test_a_seed_that_is_drawn_is_not_compared(trained: Path) -> None:
    drawn = [*RUN, "--seed_everything=true", "--trainer.max_epochs=1"]
    run_cli(["fit", *drawn, f"--ckpt_path={trained}"])  # as a job does that is queued again


class Lengths(Callback):
    """Notes the size of each batch."""

    def __init__(self) -> None:
        self.seen: list[int] = []

    def on_train_batch_start(self, trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        self.seen.append(len(batch.inputs))


@pytest.mark.filterwarnings("ignore:The dirpath has changed")
@pytest.mark.parametrize(("size", "batch_size"), [(16, 2), (16, 8), (24, 4)])
def test_other_sizes_take_effect_from_the_next_epoch_on(size: int, batch_size: int, tmp_path: Path) -> None:
    path, lengths = train(tmp_path, 1, Sequences("sequence", (16, 7, 5), 4), build("sequence")), Lengths()
    other = Sequences("sequence", (size, 7, 5), batch_size)
    train(tmp_path / "on", 2, other, build("sequence"), path, lengths)
    assert lengths.seen == [batch_size] * (size // batch_size)
