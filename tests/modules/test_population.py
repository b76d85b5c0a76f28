"""Members of a population against the same networks trained alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from lightning_alrnn import ALRNNModule
from lightning_alrnn.datamodules import Addition, PopulationDataModule, SequentialDigits
from lightning_alrnn.modules import PopulationModule

UNITS = (0, 1, 5, 10)
SEEDS = tuple(enumerate(UNITS))


def member(P: int, seed: int = 0, **options: Any) -> ALRNNModule:
    torch.manual_seed(seed)
    given: dict[str, Any] = {
        "input_size": 2,
        "output_size": 1,
        "objective": "regression",
        "hidden_size": 10,
        "init": "near_identity",
        "optimizer": partial(torch.optim.Adam, lr=3e-3),
    }
    return ALRNNModule(nonlinear_units=P, **(given | options))


def data(seed: int = 0) -> Addition:
    return Addition(sequence_length=20, train_size=400, val_size=60, test_size=60, batch_size=16, seed=seed)


def trainer(epochs: int = 2, **options: Any) -> Trainer:
    given: dict[str, Any] = {
        "max_epochs": epochs,
        "accelerator": "cpu",
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "num_sanity_val_steps": 0,
        "gradient_clip_val": 0.3,
    }
    return Trainer(**(given | options))


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def assert_trained_as_alone(
    members: Sequence[ALRNNModule],
    sets: Callable[[int], Any],
    limit: float,
    vectorised: bool = True,
    epochs: int = 2,
    **options: Any,
) -> PopulationModule:
    alone = copy.deepcopy(list(members))
    population = PopulationModule(members)
    trainer(epochs, **options).fit(population, PopulationDataModule([sets(k) for k in range(len(members))]))
    assert population.vectorised == vectorised
    for k, network in enumerate(alone):
        before = weights(network)
        single = trainer(epochs, **options)
        single.fit(network, sets(k))
        after, got = weights(network), weights(population.members()[k])
        moved = max(float((after[name] - before[name]).abs().max()) for name in after if after[name].numel())
        assert moved > 0.01
        for name, value in after.items():
            torch.testing.assert_close(got[name], value, rtol=0, atol=limit, msg=f"{name} of member {k}")
        assert population.scores[k].keys() == single.callback_metrics.keys()
        for key, score in single.callback_metrics.items():
            torch.testing.assert_close(population.scores[k][key], float(score), rtol=10 * limit, atol=limit)
    return population


@pytest.mark.parametrize(("precision", "limit"), [("32-true", 1e-4), ("64-true", 1e-10)])
def test_members_are_trained_as_alone(precision: str, limit: float) -> None:
    # 50 steps; P, seeds, strengths of regularisation, rates and data differ
    members = [
        member(P, k, mar_strength=0.05 * k, optimizer=partial(torch.optim.Adam, lr=(k + 1) * 1e-3))
        for k, P in enumerate(UNITS)
    ]
    assert_trained_as_alone(members, data, limit, precision=precision)


@pytest.mark.parametrize(
    "options",
    [
        {"lr_scheduler": partial(StepLR, step_size=1, gamma=0.5)},
        {"lr_scheduler": partial(ReduceLROnPlateau, factor=0.1, patience=0, threshold=0.5)},
        {"optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)},
        {"optimizer": partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.1)},
        {"target_step": "last", "self_connections": "all", "initial_state": "learned"},
    ],
    ids=["steps", "plateau", "momentum", "decay", "all"],
)
def test_schedules_and_optimizers(options: dict[str, Any]) -> None:
    # in float64, as three epochs blow differences of rounding up
    members = [member(P, k, **options) for k, P in enumerate(UNITS)]
    assert_trained_as_alone(members, data, 1e-8, epochs=3, precision="64-true")


@pytest.mark.parametrize(
    "options",
    [{"accumulate_grad_batches": 3}, {"gradient_clip_val": None}, {"gradient_clip_algorithm": "value"}],
    ids=["accumulated", "not clipped", "by value"],
)
def test_gradients_of_each_member(options: dict[str, Any]) -> None:
    members = [member(P, k) for k, P in enumerate(UNITS)]
    assert_trained_as_alone(members, data, 1e-8, precision="64-true", **options)


class Kernels(nn.Module):
    """An encoder with a convolution, which keeps the number of steps."""

    output_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(8, 3, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.convolution(inputs.mT).mT  # type: ignore[no-any-return]


class Refusing(nn.Module):
    """An encoder that asks what values it got, which vmap refuses."""

    output_size = 8

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.ones(8))

    def forward(self, inputs: Tensor) -> Tensor:
        return inputs * self.scale if bool((inputs >= 0).all()) else inputs


@pytest.mark.parametrize("kind", ["core", "convolution", "refused"])
def test_one_after_the_other(kind: str) -> None:
    options: dict[str, Any] = {"input_size": 8, "output_size": 10, "objective": "classification"}
    extra = {"core": {"core": "GRU"}, "convolution": {"encoder": Kernels}, "refused": {"encoder": Refusing}}[kind]

    def make(k: int) -> ALRNNModule:
        torch.manual_seed(k)
        return member(k + 1, k, **options, **{key: value if key == "core" else value() for key, value in extra.items()})

    assert_trained_as_alone(
        [make(k) for k in range(2)], lambda k: SequentialDigits(order="row", seed=k), 1e-4, vectorised=False, epochs=1
    )


def test_a_member_that_diverges_changes_no_other() -> None:
    def run(rate: float) -> PopulationModule:
        members = [member(P, k) for k, P in enumerate(UNITS)]
        members[1]._optimizer = partial(torch.optim.Adam, lr=rate)
        population = PopulationModule(members)
        trainer(3).fit(population, PopulationDataModule([data(k) for k in range(4)]))
        return population

    well, ill = run(3e-3), run(1e12)
    assert well.diverged == [None] * 4
    assert ill.diverged == [None, 0, None, None]
    for k, (one, other) in enumerate(zip(well.members(), ill.members(), strict=True)):
        for name, value in weights(one).items():
            assert weights(other)[name].isfinite().all()
            assert weights(other)[name].equal(value) == (k != 1 or not value.numel()), (k, name)
    assert [well.scores[k] == ill.scores[k] for k in range(4)] == [True, False, True, True]


def test_frozen_parameters_stay_as_they_are() -> None:
    members = [member(P, k) for k, P in SEEDS]
    for network in members:
        network.core.W.requires_grad_(False)  # type: ignore[union-attr]
    before = [weights(network) for network in members]
    population = PopulationModule(members)
    trainer(1).fit(population, PopulationDataModule([data()] * 4))
    for old, network in zip(before, population.members(), strict=True):
        assert weights(network)["core.W"].equal(old["core.W"])
        assert not weights(network)["core.C"].equal(old["core.C"])


def test_best_weights(tmp_path: Path) -> None:
    members = [member(P, k, optimizer=partial(torch.optim.Adam, lr=0.03)) for k, P in enumerate((0, 3))]
    alone = copy.deepcopy(members)
    population = PopulationModule(members)
    trainer(5, precision="64-true").fit(population, PopulationDataModule([data(), data()]))
    for k, network in enumerate(alone):
        best = ModelCheckpoint(tmp_path / str(k), monitor="val/task_loss", filename="{epoch}")
        single = trainer(5, callbacks=[best], enable_checkpointing=True, precision="64-true")
        single.fit(network, data())
        assert f"epoch={population.best_epoch[k]}" in best.best_model_path
        expected = torch.load(best.best_model_path, weights_only=True)["state_dict"]
        for name, value in weights(population.members("best")[k]).items():
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-8)
    with pytest.raises(ValueError, match="weights must be 'last' or 'best', got 'first'"):
        population.members("first")


def test_a_resumed_population_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def fit(**options: Any) -> PopulationModule:
        members = [member(P, k, lr_scheduler=partial(StepLR, step_size=1), initial_state="uniform") for k, P in SEEDS]
        population = PopulationModule(members)
        torch.manual_seed(0)
        keep = ModelCheckpoint(tmp_path, "{step}", every_n_train_steps=12, save_top_k=-1)
        sets = PopulationDataModule([data(k) for k, _ in SEEDS])
        trainer(3, callbacks=[keep], enable_checkpointing=True).fit(population, sets, **options)
        return population

    whole = fit()
    kept = {path.stem: path.rename(tmp_path.parent / path.name) for path in tmp_path.glob("*.ckpt")}
    for step in (36, 48):  # in the middle of an epoch of 25 steps, and shortly before its end
        resumed = fit(ckpt_path=kept[f"step={step}"])
        for one, other in zip(whole.members(), resumed.members(), strict=True):
            assert all(value.equal(weights(other)[name]) for name, value in weights(one).items())
        assert whole.scores == resumed.scores
        assert whole.best_epoch == resumed.best_epoch
        for path in tmp_path.glob("*.ckpt"):
            path.unlink()


def test_members_that_cannot_share_a_step() -> None:
    with pytest.raises(ValueError, match="at least one member, got none"):
        PopulationModule([])
    with pytest.raises(ValueError, match="0 and 1 differ in hidden_size, mar_units"):
        PopulationModule([member(1), member(1, hidden_size=12, mar_units=3)])
    for optimizer, message in (
        (partial(torch.optim.SGD, lr=1.0), "same optimizer but for lr, but those of 0 and 1 differ"),
        (partial(torch.optim.Adam, eps=1.0), "same optimizer but for lr, but those of 0 and 1 differ"),
    ):
        population = PopulationModule([member(1), member(1, optimizer=optimizer)])
        with pytest.raises(ValueError, match=message):
            trainer().fit(population, PopulationDataModule([data(), data()]))
    for wrong in (data(), PopulationDataModule([data()] * 3)):
        with pytest.raises(ValueError, match=r"leading dimension of 2 members, .* give a PopulationDataModule with"):
            trainer().fit(PopulationModule([member(1), member(2)]), wrong)
    population = PopulationModule([member(1, optimizer=torch.optim.Rprop)])
    with pytest.raises(ValueError, match=r"needs one of the optimizers Adadelta, .* got Rprop"):
        trainer().fit(population, PopulationDataModule([data()]))
