"""Training that diverges stops with the reason, before a weight is broken, or goes back and on with a lower rate."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from tiny_runs import QUIET
from torch import Tensor

from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import DivergenceGuard
from lightning_alrnn.datamodules import Addition
from lightning_alrnn.extensions import divergence_guard


def trainer(*callbacks: Callback, epochs: int = 1, **options: Any) -> Trainer:
    defaults = {"logger": False, "enable_checkpointing": False, "num_sanity_val_steps": 0, "devices": 1}
    return Trainer(max_epochs=epochs, callbacks=list(callbacks), **(QUIET | defaults | options))


def data(steps: int = 10) -> Addition:
    return Addition(sequence_length=steps, train_size=64, val_size=16, test_size=16, batch_size=16)


def model(**options: Any) -> ALRNNModule:
    seed_everything(0, verbose=False)
    return ALRNNModule(2, 1, 6, 3, objective="regression", mar_strength=0.0, **options)


def unstable() -> ALRNNModule:
    """A network whose regimes all have spectral radius 1.5."""
    made = model()
    with torch.no_grad():
        made.core.A.zero_()  # type: ignore[operator,union-attr]
        made.core.W.copy_(1.5 * torch.eye(6))  # type: ignore[operator,union-attr]
        made.core.h.fill_(1.0)  # type: ignore[operator,union-attr]
    return made


class Break(Callback):
    """Makes the gradient of one step infinite, or the loss NaN."""

    def __init__(self, step: int, times: int = 1) -> None:
        self.step, self.times = step, times

    def on_after_backward(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.global_step >= self.step and self.times:
            self.times -= 1
            gradient = pl_module.readout.weight.grad  # type: ignore[union-attr]
            assert isinstance(gradient, Tensor)
            gradient.fill_(math.inf)


def test_an_unstable_network_stops_at_once_and_says_why(tmp_path: Path) -> None:
    made = unstable()
    before = {name: value.clone() for name, value in made.state_dict().items()}
    fit = trainer(logger=CSVLogger(tmp_path), enable_checkpointing=True, gradient_clip_val=1.0).fit
    message = r"epoch 0, step 0 \(norm of the gradient .*, spectral radius .* 1\.5\).*lr.*gradient_clip_val.*init="
    with pytest.raises(FloatingPointError, match=message):
        fit(made, data(1000))
    for name, value in made.state_dict().items():
        assert torch.equal(value, before[name]), name
    assert not list(tmp_path.rglob("*.ckpt"))


@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_large_gradient_that_is_clipped_does_no_harm(clip: float | None) -> None:
    guard = DivergenceGuard(max_gradient_norm=1e-6)
    run = trainer(guard, gradient_clip_val=clip)
    if clip is None:
        with pytest.raises(FloatingPointError, match="gradient's norm is"):
            run.fit(model(), data())
    else:
        run.fit(model(), data())
        assert run.global_step == 4


def test_states_beyond_the_limit_stop_training() -> None:
    made = unstable()
    guard = DivergenceGuard(max_state=10.0, max_gradient_norm=math.inf, every_n_steps=2)
    with pytest.raises(FloatingPointError, match=r"the largest state is \d+.* in epoch 0, step 2"):
        trainer(guard).fit(made, data(12))


def test_each_restore_goes_back_and_halves_the_rates_once() -> None:
    """Also what schedulers go by, where the weights that are restored are of an epoch after the first restore."""
    made = model(
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.01),
        lr_scheduler=lambda optimizer: torch.optim.lr_scheduler.LambdaLR(optimizer, lambda epoch: 1.0),
    )
    guard = DivergenceGuard("restore")
    run = trainer(guard, Break(step=2), Break(step=9), epochs=5)  # 4 steps an epoch
    with (
        pytest.warns(UserWarning, match=r"gradient's norm is not finite.*rate is now 0\.005 \(restore 1 of 5\)"),
        pytest.warns(UserWarning, match=r"rate is now 0\.0025 \(restore 2 of 5\)"),
    ):
        run.fit(made, data())
    assert guard.restores == 2
    group = run.optimizers[0].param_groups[0]
    assert (group["lr"], group["initial_lr"]) == (0.0025, 0.0025)
    assert all(bool(torch.isfinite(value).all()) for value in made.state_dict().values())


@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`:UserWarning")  # the other callbacks' states
def test_restore_where_a_run_is_resumed_within_an_epoch(tmp_path: Path) -> None:
    """Lightning begins no epoch there."""
    checkpoint = ModelCheckpoint(tmp_path, "step", every_n_train_steps=2)
    trainer(checkpoint, max_steps=2, enable_checkpointing=True).fit(model(), data())
    guard = DivergenceGuard("restore")
    with pytest.warns(UserWarning, match="restore 1 of 5"):
        trainer(guard, Break(step=3)).fit(model(), data(), ckpt_path=tmp_path / "step.ckpt", weights_only=True)
    assert guard.restores == 1


def test_restore_gives_up_in_the_end() -> None:
    guard = DivergenceGuard("restore", max_restores=2)
    with (
        pytest.warns(UserWarning, match=r"restore [12] of 2"),
        pytest.raises(FloatingPointError, match="the gradient's norm is not finite"),
    ):
        trainer(guard, Break(step=2, times=10), epochs=3).fit(model(), data())
    assert guard.restores == 2


def test_on_a_device_values_are_read_every_few_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(divergence_guard, "_reads_cost_nothing", lambda trainer: False)
    with pytest.raises(FloatingPointError, match="is not finite in epoch 0, step 3"):
        trainer(DivergenceGuard(every_n_steps=3), Break(step=0), epochs=2).fit(model(), data())


def test_modules_add_a_guard_unless_there_is_one() -> None:
    for callbacks in ([], [DivergenceGuard("restore")]):
        run = trainer(*callbacks)
        run.fit(model(), data())
        guards = [callback for callback in run.callbacks if isinstance(callback, DivergenceGuard)]  # type: ignore[attr-defined]
        assert [guard.action for guard in guards] == ["restore" if callbacks else "stop"]


@pytest.mark.parametrize(
    "options",
    [{"action": "wait"}, {"max_state": 0.0}, {"max_gradient_norm": -1.0}, {"every_n_steps": 0}, {"max_restores": -1}],
)
def test_arguments_out_of_range(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        DivergenceGuard(**options)
