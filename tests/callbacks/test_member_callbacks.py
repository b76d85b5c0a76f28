"""Looking at the members of a population, against the same callbacks on each network by itself."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from observed import KINDS, QUIET, arrays, model
from pytorch_lightning import Callback, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.loggers import TensorBoardLogger
from torch import Tensor

from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import FixedPoints, MemberCallbacks, RegimeOccupancy, StatesCallback, member_callbacks
from lightning_alrnn.datamodules import Arrays, PopulationDataModule
from lightning_alrnn.modules import PopulationModule

UNITS = (0, 1, 6)


def networks(**options: Any) -> list[ALRNNModule]:
    made = [model(P, seed=seed, **options) for seed, P in enumerate(UNITS)]
    for network in made:  # fixed points and regimes of all kinds
        network.core.C.data.normal_()  # type: ignore[operator,union-attr]
    return made


def data(seed: int, groups: bool = False) -> Arrays:
    return arrays(24, seed=seed, train=8, group=["left", "right", "up"] * 8 if groups else None)


def all_callbacks(**options: Any) -> list[StatesCallback]:
    return [kind(**options) for kind in KINDS]


def trainer(epochs: int = 1, *callbacks: Callback, **options: Any) -> Trainer:
    quiet = QUIET | {"enable_checkpointing": False, "logger": False, "num_sanity_val_steps": 0}
    return Trainer(max_epochs=epochs, callbacks=list(callbacks), **quiet | options)


def population_data() -> PopulationDataModule:
    return PopulationDataModule([data(k) for k in range(len(UNITS))])


@pytest.mark.parametrize("groups", [False, True])
def test_values_are_those_of_each_network_by_itself(groups: bool) -> None:
    looks = MemberCallbacks([all_callbacks() for _ in UNITS])
    population = PopulationModule(networks())
    sets = PopulationDataModule([data(k, groups) for k in range(len(UNITS))])
    trainer(1, looks).validate(population, sets, verbose=False)
    for k, single in enumerate(networks()):
        (logged,) = trainer(1, *all_callbacks()).validate(single, data(k, groups), verbose=False)
        assert population.scores[k].keys() == logged.keys()
        assert population.scores[k] == pytest.approx(logged, rel=1e-5, abs=1e-5, nan_ok=True)
        seen = {key: value for key, value in population.scores[k].items() if not key.startswith("val/")}
        assert looks.values[k] == pytest.approx(seen, nan_ok=True)
        assert groups == ("regime/sharing_js" in seen)
        assert {"regime/visited", "units/active", "fixed_points/stable"} <= seen.keys()
    visited = [scores["regime/visited"] for scores in population.scores]
    assert visited[0] == 1
    assert visited[2] > visited[1] == 2


class Watched(RegimeOccupancy):
    """Notes in which epochs its network was looked at."""

    def __init__(self, spend: Callable[[], None] = lambda: None, **options: Any) -> None:
        super().__init__(**options)
        self.spend = spend
        self.epochs: list[int] = []

    def setup(self, trainer: Trainer, pl_module: Any, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self.trainer = trainer

    def compute(self, rnn: Any) -> dict[str, float]:
        self.spend()
        self.epochs.append(self.trainer.current_epoch)
        return super().compute(rnn)


def watching(share: float = 1e9, **options: Any) -> tuple[list[Watched], MemberCallbacks]:
    watched = [Watched(**options) for _ in UNITS]
    return watched, MemberCallbacks([[each] for each in watched], share)


class Clock:
    """Seconds that go on where this says so."""

    def __init__(self) -> None:
        self.seconds = 0.0

    def wait(self, seconds: float) -> None:
        self.seconds += seconds


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(member_callbacks, "time", SimpleNamespace(perf_counter=lambda: made.seconds))
    return made


class Slow(PopulationModule):
    """An epoch takes ten seconds by a clock."""

    clock: Clock

    def on_train_epoch_start(self) -> None:
        self.clock.wait(10)


def slow(clock: Clock, members: list[ALRNNModule], **options: Any) -> Slow:
    made = Slow(members, **options)
    made.clock = clock
    return made


@pytest.mark.parametrize("share", [0.0, 0.1, 1.0])
def test_looking_keeps_to_its_share_of_the_time(clock: Clock, share: float) -> None:
    watched, looks = watching(share, spend=lambda: clock.wait(1))
    population, fit = slow(clock, networks()), trainer(20, looks)
    fit.fit(population, population_data())
    # the first look is at one member, that with most nonlinear units
    expected: list[list[int]] = [[], [], [0]]
    seconds, spent = 11.0, 1.0
    for epoch in range(1, 20):
        seconds += 10
        if spent + 3 + 3 <= share * seconds:  # this look at all of them, and one after training
            for epochs in expected:
                epochs.append(epoch)
            spent, seconds = spent + 3, seconds + 3
    assert [each.epochs for each in watched] == expected
    assert (len(expected[0]) > 3) == (share > 0)
    assert share == 0 or spent + 3 <= share * seconds
    assert clock.seconds == seconds
    assert ("regime/visited" in population.scores[0]) == (share > 0)
    fit.validate(population, population_data(), verbose=False)  # this looks at all of them
    assert [len(each.epochs) for each in watched] == [len(epochs) + 1 for epochs in expected]


def test_the_epochs_that_a_callback_is_set_to() -> None:
    watched, looks = watching(every_n_epochs=3)
    trainer(8, looks).fit(PopulationModule(networks()), population_data())
    assert [each.epochs for each in watched] == [[5, 7], [5, 7], [2, 5, 7]]


class Ends(PopulationModule):
    """The training of the last member ends after two epochs."""

    def setup(self, stage: str) -> None:
        super().setup(stage)
        for watch, end in zip(self.watches, (99, 99, 2), strict=True):
            watch.update = lambda epoch, scores, end=end: epoch >= end  # type: ignore[method-assign,misc]


def test_members_that_have_diverged_or_stopped_are_not_looked_at() -> None:
    members = networks()
    with torch.no_grad():
        members[1].core.W.fill_(torch.nan)  # type: ignore[operator]
    population = Ends(members, stop_when="solved")
    watched, looks = watching()
    fit = trainer(5, looks)
    fit.fit(population, population_data())
    assert (population.alive, population.epochs) == ([True, False, True], [5, 0, 2])
    assert [each.epochs for each in watched] == [[1, 2, 3, 4], [], [0, 1]]
    fit.validate(population, population_data(), verbose=False)
    assert looks.values.keys() == {0, 2}  # one that has stopped is well


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_a_resumed_fit_looks_again_where_the_largest_member_has_stopped(tmp_path: Path) -> None:
    def fit(epochs: int, **options: Any) -> list[list[int]]:
        watched, looks = watching()
        saved = ModelCheckpoint(tmp_path, "last", enable_version_counter=False)
        trainer(epochs, looks, saved, enable_checkpointing=True).fit(
            Ends(networks(), stop_when="solved"), population_data(), **options
        )
        return [each.epochs for each in watched]

    assert fit(3) == [[1, 2], [1, 2], [0, 1]]
    # the first look is again at one member, of those whose training goes on
    assert fit(6, ckpt_path=tmp_path / "last.ckpt") == [[4, 5], [3, 4, 5], []]


def test_training_is_the_same_without_looking() -> None:
    def fit(looks: list[Any]) -> tuple[list[ALRNNModule], Tensor]:
        population = PopulationModule(networks(initial_state="uniform"))
        torch.manual_seed(3)
        trainer(2, *looks).fit(population, population_data())
        return population.members(), torch.get_rng_state()

    looks = MemberCallbacks([all_callbacks() for _ in UNITS], 1e9)
    (seen, state), (unseen, expected) = fit([looks]), fit([])
    assert looks.values.keys() == {0, 1, 2}
    assert state.equal(expected)
    for one, other in zip(seen, unseen, strict=True):
        for name, value in one.named_parameters():
            assert value.equal(dict(other.named_parameters())[name]), name


def test_no_figures() -> None:
    looks = MemberCallbacks([all_callbacks(figure_every_n_epochs=1) for _ in UNITS], 1e9)
    logger = TensorBoardLogger("runs", name=None)
    fit = trainer(3, looks, logger=logger)
    fit.fit(PopulationModule(networks()), population_data())
    fit.validate(fit.lightning_module, population_data(), verbose=False)
    assert looks.values
    assert not list(Path().rglob("*.png"))
    assert not list(Path().rglob("figures"))


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_what_was_followed_is_kept_in_the_checkpoint_of_the_population(tmp_path: Path) -> None:
    def fit(**options: Any) -> list[FixedPoints]:
        followed = [FixedPoints(figure_every_n_epochs=0) for _ in UNITS]
        saved = ModelCheckpoint(tmp_path, "{epoch}", save_top_k=-1)
        looks = MemberCallbacks([[each] for each in followed], 1e9)
        members = PopulationModule(networks(optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0.05)))
        trainer(6, looks, saved, enable_checkpointing=True).fit(members, population_data(), **options)
        return followed

    whole = [each.history for each in fit()]
    (tmp_path / "epoch=2.ckpt").rename(tmp_path / "kept.ckpt")
    resumed = [each.history for each in fit(ckpt_path=tmp_path / "kept.ckpt")]
    assert [len(history.evaluations) for history in whole] == [5, 5, 6]
    for k, (one, other) in enumerate(zip(resumed, whole, strict=True)):
        # the first look after resuming is at one member only
        kept = [evaluation for evaluation in other.evaluations if evaluation.epoch != 3 or k == 2]
        assert [evaluation[:2] for evaluation in one.evaluations] == [evaluation[:2] for evaluation in kept]
    assert resumed[2].state_dict() == whole[2].state_dict()
    assert len({tuple(evaluation.counts) for evaluation in whole[2].evaluations}) > 1


def test_another_number_of_lists_than_of_members() -> None:
    looks = MemberCallbacks([all_callbacks()] * 2)
    with pytest.raises(ValueError, match="MemberCallbacks needs the callbacks of 3 members, got lists for 2"):
        trainer(1, looks).fit(PopulationModule(networks()), population_data())
