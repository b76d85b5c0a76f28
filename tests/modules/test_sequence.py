"""The LightningModule: losses, logged keys, cores, checkpoints, divergence."""

from __future__ import annotations

import math
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import LambdaCallback, ModelCheckpoint
from pytorch_lightning.loggers import CSVLogger
from tiny_runs import QUIET, loader
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR
from torch.utils.data import DataLoader

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.datamodules import StimulusSelection
from lightning_alrnn.modules import ALRNNModule, SequencePrediction
from lightning_alrnn.nn import ALRNN, ImageEncoder, manifold_attractor_penalty


def batch_of(objective: str, target_step: str, size: int = 6, time: int = 5, *, mask: str = "none") -> SequenceBatch:
    generator = torch.Generator().manual_seed(0)
    shape = (size,) if target_step == "last" else (size, time)
    targets = (
        torch.randint(0, 3, shape, generator=generator)
        if objective == "classification"
        else torch.randn(*shape, 3, generator=generator)
    )
    return SequenceBatch(
        torch.randn(size, time, 2, generator=generator),
        targets,
        torch.arange(size) % time + 1,
        {
            "none": None,
            "steps": torch.rand(size, time, generator=generator),
            # some steps count for nothing in any output
            "outputs": torch.rand(size, time, 3, generator=generator) * (torch.arange(time) % 3 > 0)[:, None],
        }[mask],
    )


def fit(model: ALRNNModule, *loaders: Any, epochs: int = 1, logger: Any = False, **options: Any) -> Trainer:
    trainer = Trainer(max_epochs=epochs, logger=logger, **(QUIET | options))
    trainer.fit(model, *loaders)
    return trainer


def validate(model: ALRNNModule, batches: Any, **options: Any) -> Any:
    return Trainer(logger=False, **QUIET, **options).validate(model, batches, verbose=False)[0]


def loss_by_hand(model: ALRNNModule, batch: SequenceBatch) -> float:
    """Weighted mean over single sequences and steps, each run without padding."""
    total = weight = 0.0
    for index, length in enumerate(batch.lengths.tolist()):
        states, _ = model.core(batch.inputs[index : index + 1, :length])[:2]
        outputs = model.readout(states[0])
        for t in range(length):
            if model.target_step == "last" and t < length - 1:
                continue
            target = batch.targets[index] if model.target_step == "last" else batch.targets[index, t]
            if model.objective == "classification":
                loss = functional.cross_entropy(outputs[t], target)
            else:
                loss = (outputs[t] - target).square()
            w = torch.ones(()) if batch.mask is None or model.target_step == "last" else batch.mask[index, t]
            total += float((w * loss.detach()).mean())
            weight += float(w.mean())
    return total / weight


@pytest.mark.parametrize(
    ("objective", "mask"), [*product(("classification", "regression"), ("none", "steps")), ("regression", "outputs")]
)
@pytest.mark.parametrize("core", ["ALRNN", "GRU", "LSTM", "RNN"])
@pytest.mark.parametrize("target_step", ["last", "every"])
def test_loss_equals_the_mean_over_valid_steps(objective: str, target_step: str, core: str, mask: str) -> None:
    torch.manual_seed(0)
    model = ALRNNModule(2, 3, 8, 3, core=core, objective=objective, target_step=target_step, init="near_identity")  # type: ignore[arg-type]
    batch = batch_of(objective, target_step, mask=mask)
    logged = validate(model, loader(batch))
    assert logged["val/task_loss"] == pytest.approx(loss_by_hand(model, batch), rel=1e-5)
    penalty = 0.0
    if isinstance(model.core, ALRNN):
        penalty = 0.1 * float(manifold_attractor_penalty(model.core, 4).detach())
    assert logged["val/regularization"] == pytest.approx(penalty, rel=1e-5)
    assert logged["val/loss"] == pytest.approx(logged["val/task_loss"] + penalty, rel=1e-5)

    outputs = model(batch.inputs, batch.lengths).outputs.detach()
    counted = torch.arange(5) < batch.lengths[:, None]
    if target_step == "last":
        counted = torch.ones(6, dtype=torch.bool)
    elif mask == "outputs":
        counted &= (batch.mask > 0).any(-1)
    if objective == "regression":  # accuracies: test_accuracy.py
        assert logged["val/mse"] == pytest.approx(float((outputs - batch.targets)[counted].square().mean()), rel=1e-5)
        spread = batch.targets[counted].var(dim=0, correction=0).mean()
        assert logged["val/constant_mse"] == pytest.approx(float(spread), rel=1e-4)


def test_the_mean_over_an_epoch_is_logged_once_and_the_one_so_far_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    batch = batch_of("regression", "last", size=60)
    model = ALRNNModule(2, 3, 8, 3, objective="regression")
    losses: list[float] = []
    penalties: list[float] = []
    shown: list[float] = []
    means: list[float] = []
    calls: list[str] = []
    log = model.log
    monkeypatch.setattr(model, "log", lambda name, *args, **kwargs: (calls.append(name), log(name, *args, **kwargs)))

    def read_shown(trainer: Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        penalties.append(float(pl_module.regularization().detach()))
        if batch_idx == 55:
            shown.append(float(trainer.progress_bar_metrics["train/task_loss"]))

    spy = LambdaCallback(
        on_train_batch_start=read_shown,
        on_train_batch_end=lambda trainer, pl_module, outputs, *_: losses.append(float(outputs["loss"])),
        on_train_epoch_end=lambda trainer, _: means.append(float(trainer.callback_metrics["train/loss"])),
    )
    fit(model, loader(batch, 1), epochs=2, callbacks=[spy], enable_checkpointing=False)
    assert len(losses) == 120
    task_losses = [loss - penalty for loss, penalty in zip(losses, penalties, strict=True)]
    assert shown == pytest.approx([sum(task_losses[:50]) / 50, sum(task_losses[60:110]) / 50])
    assert means == pytest.approx([sum(losses[:60]) / 60, sum(losses[60:]) / 60])
    assert calls == ["train/loss", "train/task_loss", "train/regularization", "train/task_loss"] * 2


def test_an_interrupted_validation_leaves_nothing_behind() -> None:
    batch = batch_of("classification", "last")
    model = ALRNNModule(2, 3, 8, 3)

    with pytest.raises(KeyError):
        validate(model, loader(batch), callbacks=[LambdaCallback(on_validation_batch_end=lambda *_: {}["interrupt"])])
    logged = validate(model, loader(batch))
    assert logged["val/task_loss"] == pytest.approx(loss_by_hand(model, batch), rel=1e-5)
    assert set(logged) == {"val/loss", "val/task_loss", "val/regularization", "val/accuracy"}


def test_an_empty_mask_costs_nothing_and_gives_no_nan() -> None:
    model = ALRNNModule(2, 3, 8, 3, target_step="every", mar_strength=0.0)
    before = [parameter.clone() for parameter in model.parameters()]
    trainer = fit(model, loader(batch_of("classification", "every")._replace(mask=torch.zeros(6, 5))))
    assert float(trainer.callback_metrics["train/loss"]) == 0.0
    assert all(map(torch.equal, before, model.parameters()))


def test_step_outputs_carry_what_callbacks_need() -> None:
    model, batch = ALRNNModule(2, 3, 8, 3), batch_of("classification", "last")._replace(group=torch.arange(6) % 2)
    model.log = lambda *args, **options: None  # type: ignore[method-assign]
    for step in (model.training_step, model.validation_step):
        output = step(batch, 0)
        assert not output["states"].requires_grad
        assert torch.equal(output["states"], model(batch.inputs, batch.lengths).states.detach())
        assert all(torch.equal(output[name], getattr(batch, name)) for name in ("lengths", "group"))
    assert "group" not in model.validation_step(batch._replace(group=None), 0)


@pytest.mark.parametrize(("target_step", "shape"), [("last", (6,)), ("every", (6, 5))])
def test_predict_returns_named_fields(target_step: Any, shape: tuple[int, ...]) -> None:
    model = ALRNNModule(2, 3, 8, 3, target_step=target_step)
    batch = batch_of("classification", target_step)
    (prediction,) = Trainer(logger=False, **QUIET).predict(model, loader(batch, 6))
    assert isinstance(prediction, SequencePrediction)
    assert (prediction.outputs.shape, prediction.states.shape) == ((*shape, 3), (6, 5, 8))
    assert torch.equal(prediction.classes, prediction.outputs.argmax(-1))


class Twice(nn.Module):
    """A core of one's own."""

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(input_size, hidden_size)

    def forward(self, inputs: Tensor) -> tuple[Tensor, None]:
        return 2 * self.linear(inputs), None


def test_cores_by_name_path_class_and_as_a_module() -> None:
    assert ALRNNModule(2, 3, 8, core=Twice)(torch.randn(4, 5, 2)).states.shape == (4, 5, 8)
    for core in ("GRU", "torch.nn.GRU", nn.GRU):
        made = ALRNNModule(2, 3, 8, core=core).core
        assert isinstance(made, nn.GRU)
        assert (made.batch_first, made.input_size, made.hidden_size) == (True, 2, 8)
    for core in ("lightning_alrnn.ALRNN", ALRNN):
        made = ALRNNModule(2, 3, 8, 3, core=core).core
        assert isinstance(made, ALRNN)
        assert made.nonlinear_units == 3
    for core in ("Gru", "torch.nn.Nothing", "no.such.module"):
        with pytest.raises(ValueError, match=f"core must be 'ALRNN', .* got '{core}'"):
            ALRNNModule(2, 3, core=core)
    gru = nn.GRU(2, 8, batch_first=True)
    assert ALRNNModule(2, 3, 8, core=gru).core is gru
    assert ALRNNModule(2, 3, 8, core=gru)(torch.randn(4, 5, 2)).states.shape == (4, 5, 8)
    rnn = ALRNN(2, 8, 4)
    assert ALRNNModule(2, 3, 8, core=rnn).core is rnn
    with pytest.raises(ValueError, match="core must be batch-first"):
        ALRNNModule(2, 3, 8, core=nn.GRU(2, 8))


def test_a_checkpoint_knows_the_class_of_its_core() -> None:
    data = loader(batch_of("classification", "last"))
    trainer = fit(ALRNNModule(2, 3, 8, core=nn.GRU), data, data, logger=CSVLogger("logs"))
    trainer.save_checkpoint("after.ckpt")  # when training is over
    for path in (Path(trainer.log_dir or "") / "checkpoints" / "last.ckpt", "after.ckpt"):
        assert isinstance(ALRNNModule.load_from_checkpoint(path, weights_only=True).core, nn.GRU)


def test_encoder_widths() -> None:
    model = ALRNNModule(10, 3, 8, 3, encoder=nn.Embedding(10, 4))
    assert isinstance(model.core, ALRNN)
    assert model.core.input_size == 4
    assert model(torch.randint(0, 10, (2, 5))).outputs.shape == (2, 3)
    with pytest.raises(ValueError, match="encoder must have an attribute output_size"):
        ALRNNModule(2, 3, encoder=nn.Identity())


@pytest.mark.parametrize("nonlinear", [0, 3, 8])
def test_inputs_added_to_the_units_as_they_are(nonlinear: int) -> None:
    torch.manual_seed(0)
    inputs, lengths = torch.randn(4, 7, 2), torch.tensor([7, 1, 3, 6])
    model = ALRNNModule(2, 3, 8, nonlinear, encoder=nn.Linear(2, 8), input_matrix="identity")
    assert isinstance(model.core, ALRNN)
    assert model.core.C is None
    learned = ALRNNModule(2, 3, 8, nonlinear, encoder=nn.Linear(2, 8))
    learned.load_state_dict({**model.state_dict(), "core.C": torch.eye(8)})
    assert torch.allclose(model(inputs, lengths).outputs, learned(inputs, lengths).outputs, atol=1e-5)
    plain = ALRNNModule(8, 3, 8, nonlinear, input_matrix="identity")  # without an encoder
    assert plain(torch.randn(2, 5, 8)).outputs.shape == (2, 3)


class Thinning(nn.Module):
    """Keeps every second step."""

    output_size = 2

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs[:, ::2]


class ThinningWithLengths(Thinning):
    def output_lengths(self, lengths: Tensor) -> Tensor:
        return (lengths + 1) // 2


@pytest.mark.parametrize("core", ["ALRNN", "GRU"])
def test_lengths_after_an_encoder(core: str) -> None:
    torch.manual_seed(0)
    model = ALRNNModule(2, 3, 8, 3, core=core, encoder=ThinningWithLengths())
    inputs, lengths = torch.randn(4, 9, 2), torch.tensor([9, 4, 3, 1])
    prediction = model(inputs, lengths)
    assert prediction.lengths.tolist() == [5, 2, 2, 1]
    assert prediction.states.shape == (4, 5, 8)
    plain = ALRNNModule(2, 3, 8, 3, core=core)
    plain.load_state_dict(model.state_dict())
    for row, length in enumerate(lengths.tolist()):
        alone = plain(inputs[row : row + 1, :length:2])
        assert torch.allclose(prediction.outputs[row], alone.outputs[0], atol=1e-6)
        assert not prediction.states[row, len(alone.states[0]) :].any()
    assert model(inputs).lengths.tolist() == [5] * 4


def test_encoders_that_do_not_fit() -> None:
    inputs, lengths = torch.randn(2, 6, 2), torch.tensor([6, 6])
    with pytest.raises(ValueError, match=r"targets at every step need an encoder that keeps the .* makes 3 of 6"):
        ALRNNModule(2, 3, 8, 3, encoder=ThinningWithLengths(), target_step="every")(inputs, lengths)
    with pytest.raises(ValueError, match=r"Thinning makes 3 of 6 steps: add a method output_lengths\(lengths\)"):
        ALRNNModule(2, 3, 8, 3, encoder=Thinning())(inputs, lengths)


def test_padding_does_not_reach_the_outputs_through_an_encoder() -> None:
    torch.manual_seed(0)
    model, lengths = ALRNNModule(1, 3, 8, 3, encoder=ImageEncoder(8)), torch.tensor([40, 33, 20, 7, 1])
    inputs = torch.rand(5, 40, 1)
    outputs = model(inputs, lengths).outputs
    for row, length in enumerate(lengths.tolist()):
        assert torch.allclose(outputs[row], model(inputs[row : row + 1, :length]).outputs[0], atol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"nonlinear_units": 51}, r"nonlinear_units \(P\)"),
        ({"output_size": 1}, r"output_size \(classes\) must be at least 2, got 1"),
        ({"objective": "ranking"}, "objective must be one of 'classification', 'regression', got 'ranking'"),
        ({"target_step": "first"}, "target_step must be one of 'last', 'every', got 'first'"),
        ({"mar_strength": -1.0}, r"mar_strength \(τ\) must not be negative"),
        ({"mar_strength": math.nan}, r"mar_strength \(τ\) must not be negative"),
        ({"mar_units": 51}, r"mar_units \(M_reg\) must lie between 0 and hidden_size \(M=50\), got 51"),
        ({"input_matrix": "none"}, "input_matrix must be one of 'learned', 'identity', got 'none'"),
        ({"input_matrix": "identity"}, r"so input_size must be hidden_size \(M=50\), got 2: make them equal"),
        ({"input_matrix": "identity", "encoder": nn.Embedding(10, 4)}, r"output_size of Embedding must be .* got 4"),
        ({"input_matrix": "identity", "encoder": nn.Linear(2, 50), "core": "GRU"}, "for core='ALRNN', got core='GRU'"),
    ],
)
def test_wrong_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALRNNModule(**{"input_size": 2, "output_size": 3, **arguments})


def test_wrong_batches() -> None:
    pairs = DataLoader([(torch.randn(5, 2), 1)] * 4)  # type: ignore[arg-type,var-annotated]
    wide = batch_of("classification", "last")._replace(inputs=torch.randn(6, 5, 3))
    for batches, message in (
        (loader(batch_of("regression", "last")), r"targets for classification .* int64 classes of shape \(4,\)"),
        (pairs, r"must be a lightning_alrnn.SequenceBatch\(inputs, targets, lengths\), got list"),
        (loader(wide), r"input_size=2\).*got \(4, 5, 3\)"),
        (StimulusSelection(neural=True, val_size=8), "got NeuralBatch: spikes need ALRNNNeural"),
    ):
        with pytest.raises((ValueError, TypeError), match=message):
            validate(ALRNNModule(2, 3, 8, 3), batches)


class Worsens(ALRNNModule):
    """Has its best weights in its first epoch, and broken ones from the last update of a given epoch on."""

    breaks_in = -1

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        super().on_train_batch_end(outputs, batch, batch_idx)
        with torch.no_grad():
            self.readout.weight.mul_(math.nan if self.current_epoch == self.breaks_in else -10.0)


def test_best_and_last_checkpoints_by_default() -> None:
    torch.manual_seed(0)
    data = loader(batch_of("classification", "last"), 6)
    trainer = fit(Worsens(2, 3, 6, 2), data, data, epochs=3, logger=CSVLogger("logs"))
    checkpoint = trainer.checkpoint_callback
    assert isinstance(checkpoint, ModelCheckpoint)
    assert checkpoint.monitor == "val/task_loss"
    best, last = sorted(Path(checkpoint.dirpath or "").iterdir())
    assert (best.name[:11], str(best), last.name) == ("best-epoch=", checkpoint.best_model_path, "last.ckpt")
    assert torch.load(last, weights_only=True)["epoch"] == 2
    content = torch.load(best, weights_only=True)
    assert (content["epoch"], content["hyper_parameters"]["nonlinear_units"]) == (0, 2)
    loaded = Worsens.load_from_checkpoint(best, weights_only=True).state_dict()
    assert all(torch.equal(loaded[name], value) for name, value in content["state_dict"].items())


def test_weights_that_the_last_update_breaks_reach_no_checkpoint() -> None:
    torch.manual_seed(0)
    data = loader(batch_of("classification", "last"), 6)
    trainer = Trainer(max_epochs=5, logger=CSVLogger("logs"), **QUIET)
    model = Worsens(2, 3, 6, 2)
    model.breaks_in = 2
    with pytest.raises(FloatingPointError, match=r"val/task_loss is not finite in epoch 2.*lr.*gradient_clip_val"):
        trainer.fit(model, data, data)
    for path in (Path(trainer.log_dir or "") / "checkpoints").iterdir():
        content = torch.load(path, weights_only=True)
        assert content["epoch"] == (1 if path.name == "last.ckpt" else 0)
        assert all(bool(torch.isfinite(value).all()) for value in content["state_dict"].values())


def test_checkpoint_callbacks_of_ones_own_stay() -> None:
    data = loader(batch_of("classification", "last"))
    for options in ({"monitor": "val/loss", "every_n_epochs": 2}, {"save_weights_only": True}, {"verbose": True}):
        mine = ModelCheckpoint(dirpath=None, **options)  # type: ignore[arg-type]
        trainer = fit(ALRNNModule(2, 3, 8, 3), data, data, logger=CSVLogger("logs"), callbacks=[mine])
        assert trainer.checkpoint_callbacks == [mine]
    trainer = fit(ALRNNModule(2, 3, 8, 3), data, data, enable_checkpointing=False)
    assert trainer.checkpoint_callbacks == []


def test_without_validation_the_last_weights_are_kept() -> None:
    trainer = fit(ALRNNModule(2, 3, 8, 3), loader(batch_of("classification", "last")), logger=CSVLogger("logs"))
    assert (Path(trainer.log_dir or "") / "checkpoints" / "last.ckpt").is_file()


def test_schedulers() -> None:
    data = loader(batch_of("classification", "last"), 6)
    optimizer = partial(torch.optim.SGD, lr=1.0)
    model = ALRNNModule(2, 3, 8, 3, optimizer=optimizer, lr_scheduler=partial(StepLR, step_size=1, gamma=0.5))
    trainer = fit(model, data, data, epochs=2, enable_checkpointing=False)
    assert trainer.optimizers[0].param_groups[0]["lr"] == 0.25
    plateau = ALRNNModule(2, 3, lr_scheduler=ReduceLROnPlateau)  # type: ignore[arg-type]
    assert plateau.configure_optimizers()["lr_scheduler"]["monitor"] == "val/task_loss"
    fit(plateau, data, data, enable_checkpointing=False)
