"""Members of a population against the same networks trained alone."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from observed import arrays
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import LambdaCallback, ModelCheckpoint
from tiny_runs import QUIET
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau, StepLR

from lightning_alrnn import ALRNNModule, SequenceBatch
from lightning_alrnn.datamodules import Addition, Arrays, PopulationDataModule, SequentialDigits
from lightning_alrnn.modules import PopulationModule

UNITS = (0, 1, 5, 10)
SEEDS = tuple(enumerate(UNITS))


def member(P: int, seed: int = 0, **options: Any) -> ALRNNModule:
    torch.manual_seed(seed)
    sizes = {"input_size": 2, "output_size": 1, "hidden_size": 10, "nonlinear_units": P}
    defaults = {"objective": "regression", "init": "near_identity", "optimizer": partial(torch.optim.Adam, lr=3e-3)}
    return ALRNNModule(**(sizes | defaults | options))


def members(**options: Any) -> list[ALRNNModule]:
    return [member(P, k, **options) for k, P in SEEDS]


def data(seed: int = 0, size: int = 400) -> Addition:
    return Addition(sequence_length=20, train_size=size, val_size=60, test_size=60, batch_size=16, seed=seed)


fewer_data = partial(data, size=150)  # ten steps


def trainer(epochs: int = 2, **options: Any) -> Trainer:
    defaults = {"max_epochs": epochs, "logger": False, "num_sanity_val_steps": 0, "gradient_clip_val": 0.3}
    return Trainer(**(QUIET | defaults | {"enable_checkpointing": False} | options))


def fit(population: PopulationModule, sets: Callable[[int], Any], *arguments: Any, **options: Any) -> PopulationModule:
    data_of_members = PopulationDataModule([sets(k) for k in range(len(population.networks))])
    trainer(*arguments, **options).fit(population, data_of_members)
    return population


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.named_parameters()}


def equal(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(value.equal(other[name]) for name, value in one.items())


def assert_trained_as_alone(
    networks: Sequence[ALRNNModule],
    sets: Callable[[int], Any],
    limit: float,
    vectorised: bool = True,
    epochs: int = 2,
    **options: Any,
) -> tuple[PopulationModule, list[Trainer]]:
    """The population, and the trainers of its networks alone."""
    alone = copy.deepcopy(list(networks))
    singles = [trainer(epochs, **options) for _ in alone]
    population = fit(PopulationModule(networks), sets, epochs, **options)
    assert population.vectorised == vectorised
    for k, (network, single) in enumerate(zip(alone, singles, strict=True)):
        before = weights(network)
        single.fit(network, sets(k))
        after, got = weights(network), weights(population.members()[k])
        moved = max(float((after[name] - before[name]).abs().max()) for name in after if after[name].numel())
        assert moved > 0.01
        for name, value in after.items():
            torch.testing.assert_close(got[name], value, rtol=0, atol=limit, msg=f"{name} of member {k}")
        assert population.scores[k].keys() == single.callback_metrics.keys()
        for key, score in single.callback_metrics.items():
            torch.testing.assert_close(population.scores[k][key], float(score), rtol=10 * limit, atol=limit)
    return population, singles


@pytest.mark.parametrize(("precision", "limit"), [("32-true", 1e-4), ("64-true", 1e-10)])
def test_members_are_trained_as_alone(precision: str, limit: float) -> None:
    # P, seeds, strengths of regularisation, rates and data differ
    networks = [
        member(P, k, mar_strength=0.05 * k, optimizer=partial(torch.optim.Adam, lr=(k + 1) * 1e-3)) for k, P in SEEDS
    ]
    assert_trained_as_alone(networks, fewer_data, limit, precision=precision)


def test_members_whose_sequences_differ_in_length_are_trained_as_alone() -> None:
    def blocks(seed: int) -> Arrays:
        time = 6 + 3 * seed  # longest sequence
        targets = torch.randint(0, 3, (32, time), generator=torch.Generator().manual_seed(seed))
        return arrays(32, time, seed=seed, train=24, targets=targets, target_step="every", num_classes=3)

    options = {"output_size": 3, "objective": "classification", "target_step": "every"}
    assert_trained_as_alone([member(P, k, **options) for k, P in SEEDS[:3]], blocks, 1e-8, precision="64-true")


# options of the members and of the trainer
OPTIONS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "steps, accumulated": ({"lr_scheduler": partial(StepLR, step_size=1, gamma=0.5)}, {"accumulate_grad_batches": 3}),
    "plateau, by value": (
        {"lr_scheduler": partial(ReduceLROnPlateau, factor=0.1, patience=0, threshold=0.5)},
        {"gradient_clip_algorithm": "value"},
    ),
    "momentum": ({"optimizer": partial(torch.optim.SGD, lr=0.1, momentum=0.9, weight_decay=1e-3)}, {}),
    "decay, not clipped": (
        {"optimizer": partial(torch.optim.AdamW, lr=3e-3, weight_decay=0.1)},
        {"gradient_clip_val": None},
    ),
    "all": ({"target_step": "last", "self_connections": "all", "initial_state": "learned"}, {}),
}


@pytest.mark.parametrize(("of_members", "of_trainer"), OPTIONS.values(), ids=OPTIONS.keys())
def test_options_of_members_and_of_the_trainer(of_members: dict[str, Any], of_trainer: dict[str, Any]) -> None:
    """Weights and scores are those of single training, and the state of a member's optimizer is, too."""
    networks = members(**of_members)
    # in float64, as three epochs blow differences of rounding up
    options = {"epochs": 3, "precision": "64-true", **of_trainer}
    population, singles = assert_trained_as_alone(networks, fewer_data, 1e-8, **options)
    for k, (network, single) in enumerate(zip(networks, singles, strict=True)):
        states = population.optimizer_states(k)
        expected, (got,) = single.optimizers[0].state_dict(), states["optimizer_states"]
        assert got["param_groups"] == expected["param_groups"]
        assert got["state"].keys() == expected["state"].keys()
        for index, values in expected["state"].items():
            torch.testing.assert_close(got["state"][index], values, rtol=0, atol=1e-6)
        network._optimizer(network.parameter_groups()).load_state_dict(got)
        schedulers = [config.scheduler.state_dict() for config in single.lr_scheduler_configs]
        assert states["lr_schedulers"] == schedulers


class Kernels(nn.Module):
    """An encoder with a convolution, which keeps the number of steps."""

    output_size = 3

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv1d(8, 3, 3, padding=1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.convolution(inputs.mT).mT  # type: ignore[no-any-return]


class Refusing(nn.Linear):
    """An encoder that asks what values it got, which vmap refuses."""

    def forward(self, inputs: Tensor) -> Tensor:
        return super().forward(inputs) if bool((inputs >= 0).all()) else inputs


@pytest.mark.parametrize("kind", ["core", "convolution", "refused"])
def test_one_after_the_other(kind: str) -> None:
    options: dict[str, Any] = {"input_size": 8, "output_size": 10, "objective": "classification"}

    def make(k: int) -> ALRNNModule:
        torch.manual_seed(k)
        encoder = {"core": None, "convolution": Kernels(), "refused": Refusing(8, 8)}[kind]
        return member(k + 1, k, core="GRU" if kind == "core" else "ALRNN", encoder=encoder, **options)

    networks = [make(k) for k in range(2)]
    assert_trained_as_alone(networks, lambda k: SequentialDigits("row", seed=k), 1e-4, vectorised=False, epochs=1)


def test_a_member_that_diverges_changes_no_other() -> None:
    def run(rate: float) -> PopulationModule:
        networks = members()
        networks[1]._optimizer = partial(torch.optim.Adam, lr=rate)
        return fit(PopulationModule(networks), fewer_data, 3)

    well, ill = run(3e-3), run(1e12)
    assert well.diverged == [None] * 4
    assert ill.diverged == [None, 0, None, None]
    for k, (one, other) in enumerate(zip(well.members(), ill.members(), strict=True)):
        for name, value in weights(one).items():
            assert weights(other)[name].isfinite().all()
            assert weights(other)[name].equal(value) == (k != 1 or not value.numel()), (k, name)
    assert [well.scores[k] == ill.scores[k] for k in range(4)] == [True, False, True, True]


def test_frozen_parameters_stay_as_they_are() -> None:
    networks = members()
    for network in networks:
        network.core.W.requires_grad_(False)
    before = [weights(network) for network in networks]
    for old, network in zip(before, fit(PopulationModule(networks), fewer_data, 1).members(), strict=True):
        after = weights(network)
        assert after["core.W"].equal(old["core.W"])
        assert not after["core.C"].equal(old["core.C"])


def test_best_weights(tmp_path: Path) -> None:
    networks = [member(P, k, optimizer=partial(torch.optim.Adam, lr=0.03)) for k, P in enumerate((0, 3))]
    alone = copy.deepcopy(networks)
    population = fit(PopulationModule(networks), lambda k: fewer_data(), 5, precision="64-true")
    for k, network in enumerate(alone):
        best = ModelCheckpoint(tmp_path / str(k), monitor="val/task_loss", filename="{epoch}")
        single = trainer(5, callbacks=[best], enable_checkpointing=True, precision="64-true")
        single.fit(network, fewer_data())
        assert f"epoch={population.best_epoch[k]}" in best.best_model_path
        expected = torch.load(best.best_model_path, weights_only=True)["state_dict"]
        for name, value in weights(population.members("best")[k]).items():
            # where gradients are rounding errors of 1e-16, Adam divides them by its epsilon of 1e-8: 35 steps of 0.03
            # then differ by 1e-8; the weights of other epochs differ by 1e-2
            torch.testing.assert_close(value, expected[name], rtol=0, atol=1e-7)
    last, best_ones = ([weights(network) for network in population.members(which)] for which in ("last", "best"))
    assert not all(map(equal, last, best_ones))
    population.load_best()
    assert all(equal(weights(network), one) for network, one in zip(population.members(), best_ones, strict=True))
    with pytest.raises(ValueError, match="weights must be 'last' or 'best', got 'first'"):
        population.members("first")


def test_a_resumed_population_goes_on_bit_for_bit(tmp_path: Path) -> None:
    def run(folder: Path, **options: Any) -> PopulationModule:
        population = PopulationModule(members(lr_scheduler=partial(StepLR, step_size=1), initial_state="uniform"))
        torch.manual_seed(0)
        keep = ModelCheckpoint(folder, "{step}", every_n_train_steps=12, save_top_k=-1)
        sets = PopulationDataModule([data(k) for k, _ in SEEDS])
        trainer(3, callbacks=[keep], enable_checkpointing=True).fit(population, sets, **options)
        return population

    uninterrupted = run(tmp_path)
    for step in (36, 48):  # in the middle of an epoch of 25 steps, and shortly before its end
        resumed = run(tmp_path / str(step), ckpt_path=tmp_path / f"step={step}.ckpt")
        assert equal(weights(uninterrupted.stack), weights(resumed.stack))
        assert (uninterrupted.scores, uninterrupted.best_epoch) == (resumed.scores, resumed.best_epoch)


class Ends(PopulationModule):
    """The training of each member may end after a number of epochs of its own."""

    def __init__(self, networks: Sequence[ALRNNModule], ends: Sequence[int]) -> None:
        super().__init__(networks, "solved")
        self.ends = ends

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for watch, end in zip(self.watches, self.ends, strict=True):
            watch.update = lambda epochs, scores, end=end: epochs >= end  # type: ignore[method-assign,misc]


def fit_with_ends(
    ends: Sequence[int], folder: Path | None = None, initial_state: str = "zeros", **options: Any
) -> tuple[PopulationModule, list[list[dict[str, Tensor]]]]:
    """A population whose learning rates fall, and the weights of all members after each epoch."""
    schedule = partial(StepLR, step_size=1, gamma=0.8)
    population = Ends(members(lr_scheduler=schedule, initial_state=initial_state), ends)
    snapshots: list[list[dict[str, Tensor]]] = []
    callbacks: list[Callback] = [
        LambdaCallback(on_train_epoch_end=lambda *_: snapshots.append([weights(one) for one in population.members()])),
        *([] if folder is None else [ModelCheckpoint(folder, "{epoch}", save_top_k=-1)]),
    ]
    torch.manual_seed(0)
    single = trainer(5, callbacks=callbacks, enable_checkpointing=folder is not None)
    single.fit(population, PopulationDataModule([fewer_data(k) for k, _ in SEEDS]), **options)
    return population, snapshots


def test_members_that_have_stopped_stay_as_they_are_and_cost_no_more_time(monkeypatch: pytest.MonkeyPatch) -> None:
    uninterrupted, all_along = fit_with_ends((9, 9, 9, 9))
    sizes: list[int] = []
    run = PopulationModule._run

    def counting(self: PopulationModule, batch: Any, rows: Tensor | None) -> Any:
        outputs = run(self, batch, rows)
        sizes.append(len(outputs.states))
        return outputs

    monkeypatch.setattr(PopulationModule, "_run", counting)
    population, snapshots = fit_with_ends((9, 2, 9, 3))
    assert population.epochs == [5, 2, 5, 3]
    assert (population.stopped, population.alive) == ([False, True, False, True], [True] * 4)
    epoch = 10 + 4  # batches of training and validation
    assert sizes == [4] * 2 * epoch + [3] * epoch + [2] * 2 * epoch
    for k, trained in enumerate(population.epochs):
        for after, expected in enumerate(all_along):
            got = snapshots[after][k]
            if after >= trained:
                assert equal(got, snapshots[trained - 1][k])
            for name, value in expected[k].items() if after < trained else ():
                torch.testing.assert_close(got[name], value, rtol=0, atol=1e-6)
        assert population.best_epoch[k] < trained
        if trained == 5:
            assert population.scores[k] == pytest.approx(uninterrupted.scores[k], rel=1e-5)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_training_ends_with_the_last_member_and_resumes_after_some_have_stopped(tmp_path: Path) -> None:
    uninterrupted, snapshots = fit_with_ends((3, 1, 4, 2), tmp_path, "uniform")
    assert uninterrupted.epochs == [3, 1, 4, 2]
    assert len(snapshots) == 4
    for epoch in range(4):  # after the last there is nothing left to do
        path = tmp_path / f"epoch={epoch}.ckpt"
        resumed, rest = fit_with_ends((3, 1, 4, 2), tmp_path / "on", "uniform", ckpt_path=path)
        assert len(rest) == 3 - epoch
        for which in ("last", "best"):
            for one, other in zip(resumed.members(which), uninterrupted.members(which), strict=True):
                assert equal(weights(one), weights(other))
        for name in ("epochs", "scores", "best_epoch", "best_step", "stopped"):
            assert getattr(resumed, name) == getattr(uninterrupted, name)
        watches = ([watch.state_dict() for watch in one.watches] for one in (resumed, uninterrupted))
        assert next(watches) == next(watches)


def test_from_options_makes_networks_one_by_one() -> None:
    options: dict[str, Any] = {"input_size": 8, "output_size": 10, "hidden_size": 6, "initial_state": "uniform"}
    differences: Any = [{"seed": 5, "nonlinear_units": 2}, {"nonlinear_units": 6, "mar_strength": 1.0}, {"seed": 7}]
    encoder = Kernels()
    state = torch.get_rng_state()
    made = PopulationModule.from_options(differences, encoder=encoder, stop_when="plateau", **options)
    assert torch.get_rng_state().equal(state)
    assert made.stop_when == "plateau"
    for difference, network in zip(differences, made.members(), strict=True):
        torch.manual_seed(difference.get("seed", 0))
        others = {key: value for key, value in difference.items() if key != "seed"}
        expected = ALRNNModule(**options, **others, encoder=copy.deepcopy(encoder))
        assert equal(weights(expected), weights(network))
        assert network.hparams == expected.hparams
        assert network.encoder is not encoder
        assert equal(weights(encoder), weights(network.encoder))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="0 and 1 differ in hidden_size"):
        PopulationModule.from_options([{}, {"hidden_size": 7}], **options)


def test_each_member_draws_its_own_initial_states_in_training_only() -> None:
    population = PopulationModule([member(3, initial_state="uniform", initial_radius=2.0) for _ in range(2)])
    fields = (None if field is None else torch.stack([field, field]) for field in fewer_data().build("val"))
    batch = SequenceBatch(*fields)  # type: ignore[arg-type]
    one, other = population.train()._run(batch, None).states
    assert not one.equal(other)
    one, other = population.eval()._run(batch, None).states
    assert one.equal(other)


def permutation_test(one: Sequence[float], other: Sequence[float], permutations: int = 10_000) -> float:
    """How often two parts of all values differ as much in their means, if they are drawn at random."""
    values = torch.tensor([*one, *other], dtype=torch.float64)
    order = torch.rand(permutations, len(values), generator=torch.Generator().manual_seed(0)).argsort(dim=1)
    order[0] = torch.arange(len(values))
    shuffled = values[order]
    differences = (shuffled[:, : len(one)].mean(dim=1) - shuffled[:, len(one) :].mean(dim=1)).abs()
    return float((differences >= differences[0] - 1e-12).double().mean())


@pytest.mark.slow
def test_scores_are_distributed_as_alone_where_initial_states_are_drawn() -> None:
    # a short sequence and large states, so that what is drawn tells in the scores
    def make(seed: int, **options: Any) -> ALRNNModule:
        draws: dict[str, Any] = {"initial_state": "uniform", "initial_radius": 2.0} | options
        return member(3, seed, hidden_size=6, optimizer=partial(torch.optim.Adam, lr=0.01), **draws)

    sets = Addition(sequence_length=5, train_size=64, val_size=32, batch_size=16)
    seeds = range(30)

    def together(**options: Any) -> list[float]:
        population = PopulationModule([make(len(seeds) + seed, **options) for seed in seeds])
        torch.manual_seed(1)
        trainer(3).fit(population, PopulationDataModule([sets] * len(seeds)))
        return [scores["val/mse"] for scores in population.scores]

    alone = []
    for seed in seeds:
        network, single = make(seed), trainer(3)
        single.fit(network, sets)
        alone.append(float(single.callback_metrics["val/mse"]))
    assert permutation_test(alone, together()) > 0.001
    assert permutation_test(alone, together(initial_radius=0.5)) <= 0.001  # it would tell if less were drawn


def test_a_graph_gets_what_changes_and_other_shapes_run_without_it(monkeypatch: pytest.MonkeyPatch) -> None:
    replays: list[tuple[int, ...]] = []
    captures: list[int] = []

    def capture(run: Callable[..., Any], samples: Sequence[Tensor], allow_unused_input: bool) -> Callable[..., Any]:
        captures.append(len(samples))

        def replay(*tensors: Tensor) -> Any:
            for sample, value in zip(samples, tensors, strict=True):
                if sample.data_ptr() != value.data_ptr():  # a graph knows its memory alone
                    assert not value.requires_grad
                    sample.copy_(value)
            replays.append(tuple(tensors[-1].shape))
            pairs = zip(samples, tensors, strict=True)
            return run(*(value if value.requires_grad else sample for sample, value in pairs))

        return replay

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", capture)

    def run(population: PopulationModule, graphs: bool = True, **options: Any) -> PopulationModule:
        # a population is allowed to use graphs only on a GPU, which setup asks for
        allow = LambdaCallback(on_train_start=lambda *_: setattr(population, "cuda_graph", graphs))
        sets = Addition(9, train_size=40, val_size=8, test_size=8, batch_size=16)
        return fit(population, lambda k: sets, callbacks=[allow], **options)

    plain, graphed = run(PopulationModule(members()), graphs=False), run(PopulationModule(members()))
    assert len(captures) == 1
    assert len(replays) == 4  # of two epochs of 16, 16 and 8 sequences
    assert equal(weights(plain.stack), weights(graphed.stack))
    assert graphed._graph is None  # its memory is given back
    graphed.cuda_graph = False
    run(graphed, accumulate_grad_batches=2)
    assert len(captures) == 1  # a graph would write the second gradient over the first

    def refuse(*arguments: Any, **options: Any) -> None:
        raise RuntimeError("operation not permitted when stream is capturing\nmore of it")

    monkeypatch.setattr(torch.cuda, "make_graphed_callables", refuse)
    with pytest.raises(ValueError, match=r"cannot be captured \(operation .* capturing\): leave it out"):
        run(plain)
    with pytest.raises(ValueError, match="cuda_graph=True needs a GPU, got cpu"):
        run(PopulationModule([member(1)], cuda_graph=True))


def test_a_population_of_one() -> None:
    population = fit(PopulationModule([member(1)]), fewer_data)
    assert population.scores[0].keys() >= {"train/loss", "val/task_loss", "val/mse"}


def test_members_that_cannot_share_a_step() -> None:
    with pytest.raises(ValueError, match="at least one member, got none"):
        PopulationModule([])
    with pytest.raises(ValueError, match="0 and 1 differ in hidden_size, mar_units"):
        PopulationModule([member(1), member(1, hidden_size=12, mar_units=3)])
    for optimizer in (partial(torch.optim.SGD, lr=1.0), partial(torch.optim.Adam, eps=1.0)):
        with pytest.raises(ValueError, match="same optimizer except for lr, but those of 0 and 1 differ"):
            fit(PopulationModule([member(1), member(1, optimizer=optimizer)]), data)
    for wrong in (data(), PopulationDataModule([data()] * 3)):
        with pytest.raises(ValueError, match=r"leading dimension of 2 members, .* use a PopulationDataModule with"):
            trainer().fit(PopulationModule([member(1), member(2)]), wrong)
    with pytest.raises(ValueError, match=r"needs one of the optimizers Adadelta, .* got Rprop"):
        fit(PopulationModule([member(1, optimizer=torch.optim.Rprop)]), data)
