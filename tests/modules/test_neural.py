"""The LightningModule of spikes and choices: losses, forcing, what evaluation may see, what its steps return."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LambdaCallback
from pytorch_lightning.loggers import CSVLogger
from tiny_runs import QUIET, loader
from torch.nn import functional

from lightning_alrnn.batch import NeuralBatch, SequenceBatch
from lightning_alrnn.callbacks import ActiveUnits, NeuralFit, RegimeOccupancy
from lightning_alrnn.datamodules.base import SequenceDataset
from lightning_alrnn.modules import ALRNNNeural, NeuralPrediction
from lightning_alrnn.nn import ALRNN, manifold_attractor_penalty

# a step may be called without a Trainer
pytestmark = pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")

K, N, M, T = 3, 5, 4, 8
NAMES = ["a", "b", "never"]
FREE = {"loss", "task_loss", "regularization", "prediction", "choice", "accuracy", "accuracy_forced"} | {
    f"{name}_correlation" for name in ("rate", "cv", "fano")
}
GROUPED = FREE | {"tuning_correlation"} | {f"accuracy/{name}" for name in NAMES}


def model(**options: Any) -> ALRNNNeural:
    torch.manual_seed(0)
    made = ALRNNNeural(K, 2, N, **{"hidden_size": M, "nonlinear_units": 1, **options})
    with torch.no_grad():
        made.core.W.normal_(std=0.4)
        made.core.h.normal_(std=0.3)
        made.core.C.normal_(std=0.6)
        made.readout.weight.normal_()
        made.observation.readout.weight.normal_()
    return made


def batch_of(size: int = 10, *, grouped: bool = True) -> NeuralBatch:
    """Spikes of a latent AL-RNN that the inputs drive."""
    generator = torch.Generator().manual_seed(1)
    torch.manual_seed(5)
    latent, weights = ALRNN(K, 3, 1, init="near_identity"), torch.randn(3, N)
    inputs = torch.randn(size, T, K, generator=generator)
    lengths = torch.randint(1, T + 1, (size,), generator=generator)
    valid = (torch.arange(T) < lengths[:, None])[..., None]
    with torch.no_grad():
        rates = functional.softplus(latent(inputs).states @ weights + torch.linspace(-2, 2, N))
    return NeuralBatch(
        inputs * valid,
        torch.poisson(rates, generator) * valid,
        (inputs[:, 0, 0] > 0).long(),
        lengths,
        torch.arange(size) % 2 if grouped else None,
    )


def trial_by_trial(made: ALRNNNeural, batch: NeuralBatch, alpha: float, interval: int = 1) -> dict[str, Any]:
    """The loss's terms with Python loops over trials and steps."""
    sums = dict.fromkeys(("prediction", "encoder", "consistency", "choice"), 0.0)
    right, last = [], []
    for b, length in enumerate(batch.lengths.tolist()):
        spikes, inputs = batch.spikes[b : b + 1, :length], batch.inputs[b, :length]
        encoded = made.encoder(spikes)[0]
        z = torch.zeros(M)
        for t in range(length):
            z = made.core.step(z, inputs[t])
            sums["prediction"] -= float(made.observation.log_prob(spikes[0, t], z).sum())
            sums["encoder"] -= float(made.observation.log_prob(spikes[0, t], encoded[t]).sum())
            sums["consistency"] += float((z - encoded[t]).square().sum())
            state = z
            if (t + 1) % interval == 0:
                z = (1 - alpha) * z + alpha * encoded[t]
        scores = made.readout(state)
        sums["choice"] += float(functional.cross_entropy(scores, batch.targets[b]))
        right.append(bool(scores.argmax() == batch.targets[b]))
        last.append(state)
    bins = int(batch.lengths.sum())
    means: dict[str, Any] = {name: value / bins for name, value in sums.items() if name != "choice"}
    return means | {"choice": sums["choice"] / len(right), "right": right, "last": torch.stack(last)}


@pytest.mark.parametrize("interval", [1, 3])
@pytest.mark.parametrize("observation", ["poisson", "negative_binomial", "generalized_poisson"])
def test_training_loss_by_hand(observation: str, interval: int, tmp_path: Path) -> None:
    weights = {"prediction": 0.2, "encoder": 0.3, "consistency": 0.1, "choice": 2.0}
    options = {f"{name}_weight": weight for name, weight in weights.items()}
    made = model(observation=observation, interval=interval, alpha=0.4, mar_strength=0.5, **options)
    made._optimizer = lambda parameters: torch.optim.SGD(parameters, lr=0.0)
    batch = batch_of()
    with torch.no_grad():
        terms = trial_by_trial(made, batch, 0.4, interval)
        regularization = 0.5 * float(manifold_attractor_penalty(made.core, M // 2))
    trainer = Trainer(max_epochs=1, logger=False, enable_checkpointing=False, **QUIET)
    trainer.fit(made, loader(batch))
    logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
    task_loss = sum(weight * terms[name] for name, weight in weights.items())
    expected = {name: terms[name] for name in weights}
    expected |= {"task_loss": task_loss, "regularization": regularization, "loss": task_loss + regularization}
    expected["alpha"] = 0.4
    assert logged == pytest.approx({f"train/{name}": value for name, value in expected.items()}, rel=1e-4)
    # and a step's own loss is that of its batch
    made._trainer = None
    stepped = made.training_step(SequenceDataset(batch).__getitems__([1, 4]), 0)
    with torch.no_grad():
        terms = trial_by_trial(made, SequenceDataset(batch).__getitems__([1, 4]), 0.4, interval)  # type: ignore[arg-type]
    expected_loss = regularization + sum(weight * terms[name] for name, weight in weights.items())
    assert float(stepped["loss"].detach()) == pytest.approx(expected_loss, rel=1e-4)


def test_reference_weights() -> None:
    assert model().weights == {"prediction": 0.15, "encoder": 0.15, "consistency": 1e-5, "choice": 6.0}


@pytest.mark.parametrize("grouped", [True, False])
@pytest.mark.parametrize("stage", ["validate", "test"])
def test_evaluation_by_hand(stage: str, grouped: bool) -> None:
    made = model(alpha=0.6, group_names=NAMES if grouped else None)
    batch = batch_of(grouped=grouped)
    with torch.no_grad():
        free, forced = trial_by_trial(made, batch, 0.0), trial_by_trial(made, batch, 0.6)
    assert free["right"] != forced["right"]
    trainer = Trainer(logger=False, **QUIET)
    (logged,) = getattr(trainer, stage)(made, loader(batch), verbose=False)
    prefix = {"validate": "val", "test": "test"}[stage]
    assert {name for name in logged if not name.startswith("neural")} == {
        f"{prefix}/{name}" for name in (GROUPED if grouped else FREE)
    }
    expected = {
        "task_loss": 0.15 * free["prediction"] + 6 * free["choice"],
        "prediction": free["prediction"],
        "choice": free["choice"],
        "accuracy": np.mean(free["right"]),
        "accuracy_forced": np.mean(forced["right"]),
    }
    if grouped:
        expected |= {"accuracy/a": np.mean(free["right"][::2]), "accuracy/b": np.mean(free["right"][1::2])}
        assert math.isnan(logged[f"{prefix}/accuracy/never"])
    for name, value in expected.items():
        assert logged[f"{prefix}/{name}"] == pytest.approx(value, rel=1e-4), name
    assert logged[f"{prefix}/loss"] == logged[f"{prefix}/task_loss"]


def test_evaluation_does_not_see_the_spikes() -> None:
    made, batch = model().eval(), batch_of()
    with torch.no_grad():
        one = made.validation_step(batch, 0)
        other = made.validation_step(batch._replace(spikes=batch.spikes + 1.0), 0)
        forced = [made._forced(each, 0.5)[1] for each in (batch, batch._replace(spikes=batch.spikes.flip(0)))]
    assert torch.equal(one["states"], other["states"])
    assert not torch.equal(*forced)
    predicted = made.predict_step(batch, 0)
    assert isinstance(predicted, NeuralPrediction)
    assert torch.equal(predicted.states, one["states"])
    assert torch.equal(predicted.classes, predicted.outputs.argmax(-1))
    beyond = torch.arange(T) >= batch.lengths[:, None]
    assert not predicted.rates[beyond].any()
    with torch.no_grad():
        torch.testing.assert_close(predicted.outputs, made.readout(trial_by_trial(made, batch, 0.0)["last"]))
        torch.testing.assert_close(predicted.rates[~beyond], made.observation.mean(predicted.states[~beyond]))
    alone = made(batch.inputs[:, :4])
    assert alone.lengths.tolist() == [4] * 10


def test_steps_return_what_callbacks_need() -> None:
    made, batch = model(), batch_of()
    for step in (made.training_step, made.validation_step):
        output = step(batch, 0)
        assert (output["states"].shape, output["states"].requires_grad) == ((10, T, M), False)
        assert all(torch.equal(output[name], getattr(batch, name)) for name in ("lengths", "group"))
    assert "group" not in made.training_step(batch_of(grouped=False), 0)


@pytest.mark.parametrize("alpha", [0.0, 0.5])
def test_every_part_learns(alpha: float) -> None:
    made = model(alpha=alpha)
    made.training_step(batch_of(), 0)["loss"].backward()
    for name, parameter in made.named_parameters():
        assert parameter.grad is not None, name
        assert float(parameter.grad.abs().sum()) > 0, name


def test_alpha_is_annealed_and_logged() -> None:
    made = model(alpha=0.8, alpha_end=0.2, alpha_epochs=3)
    assert [made.alpha_at(epoch) for epoch in range(5)] == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2])
    assert [model(alpha=0.3).alpha_at(epoch) for epoch in (0, 100)] == [0.3, 0.3]
    logged: list[float] = []
    watch = LambdaCallback(
        on_train_epoch_end=lambda trainer, _: logged.append(float(trainer.callback_metrics["train/alpha"]))
    )
    trainer = Trainer(max_epochs=5, logger=False, enable_checkpointing=False, callbacks=[watch], **QUIET)
    trainer.fit(made, loader(batch_of()))
    assert logged == pytest.approx([0.8, 0.6, 0.4, 0.2, 0.2])


def test_two_learning_rates() -> None:
    made = model(encoder_lr=0.03, optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.001))
    optimizer = made.configure_optimizers()
    rates = {id(p): group["lr"] for group in optimizer.param_groups for p in group["params"]}
    assert len(rates) == sum(1 for _ in made.parameters())
    for name, parameter in made.named_parameters():
        assert rates[id(parameter)] == (0.001 if name.startswith("core.") else 0.03), name
    same = model(optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.002)).configure_optimizers()
    assert {group["lr"] for group in same.param_groups} == {0.002}


def test_fit_keeps_the_best_and_has_its_callbacks(tmp_path: Path) -> None:
    made = model(group_names=NAMES, alpha=0.2)
    callbacks: list[Callback] = [RegimeOccupancy(), ActiveUnits()]
    trainer = Trainer(max_epochs=2, logger=CSVLogger(tmp_path), callbacks=callbacks, **QUIET)
    trainer.fit(made, loader(batch_of()), loader(batch_of(6)))
    assert sum(isinstance(callback, NeuralFit) for callback in trainer.callbacks) == 1  # type: ignore[attr-defined]
    keys = set(trainer.callback_metrics)
    assert {f"val/{name}" for name in GROUPED} <= keys
    assert {"neural/psth_correlation", "regime/visited", "regime/sharing_js", "units/active", "train/alpha"} <= keys
    best = next(tmp_path.rglob("best-epoch=*.ckpt"))
    assert ALRNNNeural.load_from_checkpoint(best, weights_only=True).group_names == NAMES


def test_wrong_batches() -> None:
    batch = batch_of()
    for wrong, error, message in (
        (SequenceBatch(*batch[:1], *batch[2:4]), TypeError, "a batch must be a lightning_alrnn.NeuralBatch"),
        (batch._replace(spikes=batch.spikes[..., 1:]), ValueError, r"spikes must be float counts .* \(10, 8, 5\)"),
        (batch._replace(spikes=batch.spikes.long()), ValueError, "got torch.int64"),
        (batch._replace(targets=batch.targets.float()), ValueError, "targets must be int64 choices"),
        (batch._replace(targets=batch.targets[1:]), ValueError, r"got torch.int64 of shape \(9,\)"),
    ):
        with pytest.raises(error, match=message):
            model().training_step(wrong, 0)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"alpha": 1.2}, "alpha must lie between 0"),
        ({"alpha_end": -0.1, "alpha_epochs": 3}, "alpha_end must lie between 0"),
        ({"alpha_end": 0.1}, "annealing needs both"),
        ({"alpha_epochs": 3}, "annealing needs both"),
        ({"alpha_end": 0.1, "alpha_epochs": 0}, "annealing needs both"),
        ({"interval": 0}, "interval must be at least 1, got 0"),
        ({"choice_weight": -1.0}, "choice_weight must not be negative"),
        ({"encoder_lr": -1.0}, "encoder_lr must not be negative"),
        ({"observation": "gaussian"}, "observation must be one of 'poisson'"),
        ({"hidden_size": 1}, "at least 2"),
        ({"output_size": 1}, r"output_size \(choices\) must be at least 2, got 1"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALRNNNeural(**({"input_size": K, "output_size": 2, "num_units": N} | options))
