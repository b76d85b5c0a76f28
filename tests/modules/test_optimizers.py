"""Optimizers and schedulers that a checkpoint keeps: from Python and from the command line, and only PyTorch's."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from command_runs import ADDITION, LAST, fit
from pytorch_lightning import Trainer
from pytorch_lightning.cli import ReduceLROnPlateau
from tiny_runs import QUIET, Sequences
from torch import nn
from torch.optim import SGD, Adam, Optimizer
from torch.optim.lr_scheduler import StepLR

from lightning_alrnn.modules import ALRNNModule, ALRNNNeural

DATA = Sequences("sequence", (4, 4, 4), 4)


def sgd(parameters: Any) -> Optimizer:
    return SGD(parameters, lr=0.25, momentum=0.5)


def trained(path: Path, **options: Any) -> Path:
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **QUIET)
    trainer.fit(ALRNNModule.for_data(DATA, hidden_size=4, nonlinear_units=2, **options), DATA)
    trainer.save_checkpoint(path)
    return path


def loaded(path: Path, **options: Any) -> Any:
    return ALRNNModule.load_from_checkpoint(path, weights_only=True, **options).configure_optimizers()


def options_of(optimizer: Optimizer) -> list[dict[str, Any]]:
    return [{name: value for name, value in group.items() if name != "params"} for group in optimizer.param_groups]


@pytest.mark.parametrize(
    "factory",
    [Adam, partial(SGD, lr=np.float64(0.25), nesterov=True, momentum=0.5), partial(Adam, betas=(0.5, 0.75)), sgd],
    ids=["class", "partial", "tuple", "function"],
)
def test_a_loaded_network_has_the_optimizer_that_it_was_trained_with(factory: Any, tmp_path: Path) -> None:
    path = trained(tmp_path / "one.ckpt", optimizer=factory)
    expected = factory([nn.Parameter(torch.zeros(1))])
    for _ in range(2):  # and after it is saved again, which needs no training
        optimizer = loaded(path)
        assert type(optimizer) is type(expected)
        assert options_of(optimizer) == options_of(expected)
        trainer = Trainer(logger=False, **QUIET)
        trainer.strategy.connect(ALRNNModule.load_from_checkpoint(path))
        trainer.save_checkpoint(path)
    assert isinstance(loaded(path, optimizer=torch.optim.Adam), Adam)  # the default, but asked for
    with pytest.raises(TypeError, match="cannot be called on an instance"):
        ALRNNModule(2, 3).load_from_checkpoint(path)


def test_schedulers_are_kept(tmp_path: Path) -> None:
    path = trained(tmp_path / "one.ckpt", optimizer=sgd, lr_scheduler=partial(StepLR, step_size=3, gamma=0.5))
    made = loaded(path)
    assert made["optimizer"].param_groups[0]["initial_lr"] == 0.25  # not that of the scheduler's last step
    assert (made["lr_scheduler"]["scheduler"].step_size, made["lr_scheduler"]["scheduler"].gamma) == (3, 0.5)
    assert isinstance(loaded(path, lr_scheduler=None), SGD)
    path = trained(tmp_path / "two.ckpt", lr_scheduler=partial(ReduceLROnPlateau, monitor="val/loss", factor=0.25))
    assert loaded(path)["lr_scheduler"]["monitor"] == "val/loss"
    path = trained(tmp_path / "three.ckpt", lr_scheduler=lambda optimizer: StepLR(optimizer, 3))
    with pytest.raises(ValueError, match=r"which lr_scheduler .*lambda.*: pass lr_scheduler="):
        loaded(path)


def test_the_command_line_s_is_kept(tmp_path: Path) -> None:
    options = ["--model.optimizer=torch.optim.SGD", "--model.optimizer.lr=0.25", "--model.lr_scheduler=StepLR"]
    made = loaded(fit(tmp_path, *ADDITION, *options, "--model.lr_scheduler.step_size=7") / LAST)
    assert (type(made["optimizer"]), made["optimizer"].defaults["lr"]) == (SGD, 0.25)
    assert made["lr_scheduler"]["scheduler"].step_size == 7


class Own(Adam):
    pass


def groups_of_its_own(parameters: Any) -> Optimizer:
    return SGD([{"params": list(parameters), "lr": 0.5}], lr=0.25)


@pytest.mark.parametrize(
    "factory",
    [Own, groups_of_its_own, lambda parameters: Adam(list(parameters)[:1]), partial(SGD, lr=torch.tensor(0.25))],
    ids=["subclass", "groups", "some", "tensor"],
)
def test_another_one_is_said_to_be_unknown(factory: Any, tmp_path: Path) -> None:
    path = trained(tmp_path / "one.ckpt", optimizer=factory)
    with pytest.raises(ValueError, match=r"which optimizer the network was trained with .*: pass optimizer="):
        loaded(path)
    assert isinstance(loaded(path, optimizer=sgd), SGD)


@pytest.mark.parametrize("class_path", ["antigravity.Adam", "torch.optim.Adams", "torch.optim.lr_scheduler.warnings"])
def test_nothing_else_is_built_from_a_checkpoint(class_path: str, tmp_path: Path) -> None:
    path = trained(tmp_path / "one.ckpt")
    content = torch.load(path, weights_only=True)
    content["optimizer_settings"]["optimizer"]["class_path"] = class_path
    torch.save(content, path)
    with pytest.raises(ValueError, match=rf"'{class_path}' is no class of torch.optim here"):
        loaded(path)
    assert "antigravity" not in sys.modules
    del content["optimizer_settings"]
    torch.save(content, path)
    with pytest.raises(ValueError, match="an earlier version of this package wrote it"):
        loaded(path)


def test_a_run_that_resumes_has_the_optimizer_of_its_module(tmp_path: Path) -> None:
    path = trained(tmp_path / "one.ckpt", optimizer=partial(SGD, lr=0.5))
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **QUIET)
    model = ALRNNModule.for_data(DATA, hidden_size=4, nonlinear_units=2, optimizer=sgd)
    trainer.fit(model, DATA, ckpt_path=path)
    assert model._optimizer is sgd


def test_groups_of_the_module_itself_are_no_obstacle(tmp_path: Path) -> None:
    model = ALRNNNeural(2, 3, 4, encoder_lr=0.5, optimizer=sgd)
    model.configure_optimizers()
    trainer = Trainer(logger=False, **QUIET)
    trainer.strategy.connect(model)
    trainer.save_checkpoint(tmp_path / "one.ckpt")
    optimizer = ALRNNNeural.load_from_checkpoint(tmp_path / "one.ckpt").configure_optimizers()
    assert [(group["lr"], group["momentum"]) for group in optimizer.param_groups] == [(0.25, 0.5), (0.5, 0.5)]
