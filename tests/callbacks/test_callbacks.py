"""The callbacks: what they log, against brute force on stored states, on one and on two processes."""

from __future__ import annotations

import importlib
import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer, seed_everything
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from scipy.spatial.distance import jensenshannon
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks import ActiveUnits, FixedPoints, RegimeOccupancy, StatesCallback
from lightning_alrnn.callbacks.figures import log_figures
from lightning_alrnn.datamodules import Addition, Arrays
from lightning_alrnn.modules import ALRNNModule
from lightning_alrnn.nn import ALRNN

QUIET: dict[str, Any] = {
    "accelerator": "cpu",
    "enable_progress_bar": False,
    "enable_model_summary": False,
    "log_every_n_steps": 1,
}
REGIME_KEYS = {
    f"regime/{n}" for n in ["visited", "possible_log2", "entropy", "effective", "switch_rate", "top_occupancy"]
}
SHARING_KEYS = {"regime/sharing_jaccard", "regime/sharing_js"}
UNIT_KEYS = {f"units/{name}" for name in ["active", "always_on", "always_off", "mean_duty"]}
FIXED_POINT_KEYS = {
    f"fixed_points/{name}"
    for name in ["total", "stable", "saddle", "unstable", "marginal", "complete", "max_modulus", "slowest_timescale"]
} | {f"fixed_points/{name}" for name in ["born", "died", "changed_stability", "bifurcation"]}
FIGURES = {
    "regime/occupancy",
    "units/duty_cycle",
    *(f"fixed_points/{name}" for name in ["eigenvalues", "state_space", "tracking"]),
}


def all_three(**options: Any) -> list[Callback]:
    return [RegimeOccupancy(**options), ActiveUnits(**options), FixedPoints(**options)]


def data(size: int = 23, **options: Any) -> Arrays:
    generator = torch.Generator().manual_seed(1)
    return Arrays(
        inputs=torch.randn(size, 7, 2, generator=generator),
        targets=torch.randint(0, 3, (size,), generator=generator),
        lengths=torch.randint(1, 8, (size,), generator=generator),
        train_index=range(4),
        val_index=range(4, size - 1),
        test_index=[size - 1],
        batch_size=4,
        **options,
    )


def model(nonlinear: int = 3, **options: Any) -> ALRNNModule:
    torch.manual_seed(0)
    made = ALRNNModule(2, 3, 6, nonlinear, **options)
    if isinstance(made.core, ALRNN):
        with torch.no_grad():
            made.core.W.normal_(std=0.5)
            made.core.h.normal_(std=0.5)
    return made


class Store(Callback):
    """Keeps all states of validation."""

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.states: list[Tensor] = []
        self.lengths: list[Tensor] = []
        self.groups: list[int] = []

    def on_validation_batch_end(self, trainer: Any, pl_module: Any, outputs: Any, *args: Any) -> None:
        self.states.append(outputs["states"])
        self.lengths.append(outputs["lengths"])
        self.groups += [-1] * len(outputs["lengths"]) if outputs.get("group") is None else outputs["group"].tolist()


def expected_scalars(found: Any, nonlinear: int) -> dict[str, float]:
    """The scalars from counts by hand."""
    shares = [count / found.steps for count in found.counts.values()]
    entropy = -sum(p * math.log2(p) for p in shares)
    moves = max(found.moves, 1)
    return {
        "regime/visited": len(found.counts),
        "regime/possible_log2": nonlinear,
        "regime/entropy": entropy,
        "regime/effective": 2**entropy,
        "regime/switch_rate": sum(n for (a, b), n in found.transitions.items() if a != b) / moves,
        "regime/top_occupancy": max(shares),
        "units/active": sum(n / moves >= 1e-3 and n > 0 for n in found.switches),
        "units/always_on": sum(n == found.steps for n in found.on),
        "units/always_off": sum(n == 0 for n in found.on),
        "units/mean_duty": sum(found.on) / found.steps / max(nonlinear, 1),
    }


@pytest.mark.parametrize("nonlinear", [0, 3, 6])
def test_scalars_equal_brute_force_on_stored_states(by_hand: Callable[..., Any], nonlinear: int) -> None:
    store = Store()
    trainer = Trainer(logger=False, callbacks=[*all_three(), store], **QUIET)
    (logged,) = trainer.validate(model(nonlinear), data(), verbose=False)
    found = by_hand(torch.cat(store.states), torch.cat(store.lengths), nonlinear)
    for key, value in expected_scalars(found, nonlinear).items():
        assert logged[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
    kinds = sum(logged[f"fixed_points/{name}"] for name in ("stable", "saddle", "unstable", "marginal"))
    assert logged["fixed_points/total"] == kinds
    assert logged["fixed_points/complete"] == 1


GROUPS = ["left", "right", "rare", "up"]


def grouped(names: bool = True) -> Arrays:
    """`data()` in groups of four names; one of them has a single trial in validation."""
    group = torch.tensor([0, 1, 3]).repeat(8)[:23]
    group[7] = 2
    made = data(group=[GROUPS[index] for index in group] if names else (10 * group).tolist())
    if names:
        assert made.group_names == sorted(GROUPS)
    return made


def expected_sharing(store: Store, nonlinear: int) -> dict[str, float]:
    """The measures on Python sets and by scipy, on stored states."""
    counts: dict[int, Counter[str]] = {}
    for states, length, group in zip(torch.cat(store.states), torch.cat(store.lengths), store.groups, strict=True):
        for z in states[: int(length), states.shape[1] - nonlinear :].tolist():
            counts.setdefault(group, Counter())["".join("1" if value > 0 else "0" for value in z)] += 1
    jaccard, js = [], []
    for a, b in combinations(counts.values(), 2):
        union = sorted(set(a) | set(b))
        jaccard.append(len(set(a) & set(b)) / len(union))
        p, q = ([count[code] / count.total() for code in union] for count in (a, b))
        js.append(float(jensenshannon(p, q, base=2)) ** 2)
    return dict(zip(sorted(SHARING_KEYS), (sum(jaccard) / len(jaccard), sum(js) / len(js)), strict=True))


@pytest.mark.parametrize("names", [True, False])
@pytest.mark.parametrize("nonlinear", [0, 3])
def test_sharing_equals_brute_force_on_stored_states(by_hand: Callable[..., Any], nonlinear: int, names: bool) -> None:
    store, callback = Store(), RegimeOccupancy()
    trainer = Trainer(logger=False, callbacks=[callback, store], **QUIET)
    (logged,) = trainer.validate(model(nonlinear), grouped(names), verbose=False)
    assert set(logged) >= SHARING_KEYS
    for key, value in expected_sharing(store, nonlinear).items():
        assert logged[key] == pytest.approx(value, abs=1e-6), key
    found = by_hand(torch.cat(store.states), torch.cat(store.lengths), nonlinear)
    for key, value in expected_scalars(found, nonlinear).items():
        if key in REGIME_KEYS:
            assert logged[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
    assert callback.answer.groups is not None
    assert callback.answer.groups.groups.tolist() == ([0, 1, 2, 3] if names else [0, 10, 20, 30])


def test_figures_of_groups_carry_the_names_of_the_data_or_else_of_the_module() -> None:
    def rows(callback: RegimeOccupancy) -> list[str]:
        drawn = callback.figures()
        assert set(drawn) == {"regime/occupancy", "regime/groups", "regime/sharing"}
        labels = [
            [label.get_text() for label in drawn[name].axes[0].get_yticklabels()]
            for name in ("regime/groups", "regime/sharing")
        ]
        assert labels[0] == labels[1]
        return labels[0]

    callback = RegimeOccupancy()
    trainer = Trainer(logger=False, callbacks=[callback], **QUIET)
    trainer.validate(model(), grouped(), verbose=False)
    assert rows(callback) == sorted(GROUPS)
    trainer.validate(model(), grouped(names=False), verbose=False)
    assert rows(callback) == ["0", "10", "20", "30"]
    batch = grouped().build("val")
    plain = DataLoader([batch], batch_size=None)  # type: ignore[arg-type,var-annotated]
    trainer = Trainer(logger=False, callbacks=[callback], **QUIET)
    trainer.validate(model(group_names=["n", "e", "s"]), plain, verbose=False)
    assert rows(callback) == ["n", "e", "s", "3"]


def test_keys_follow_the_names_of_groups_and_else_the_batches() -> None:
    trainer = Trainer(logger=False, callbacks=[RegimeOccupancy()], **QUIET)
    (logged,) = trainer.validate(model(), data(), verbose=False)
    assert not SHARING_KEYS & set(logged)
    (logged,) = trainer.validate(model(group_names=GROUPS), data(), verbose=False)  # named, but the batches have none
    assert all(math.isnan(logged[key]) for key in SHARING_KEYS)
    (logged,) = trainer.validate(model(), data(group=["one"] * 23), verbose=False)  # one group is no pair
    assert all(math.isnan(logged[key]) for key in SHARING_KEYS)


def test_figures_of_groups_are_in_the_event_file() -> None:
    logger = TensorBoardLogger("runs", name=None)
    trainer = Trainer(max_epochs=2, logger=logger, callbacks=[RegimeOccupancy()], **QUIET)
    trainer.fit(model(), grouped())
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    assert set(events.Tags()["images"]) == {"regime/occupancy", "regime/groups", "regime/sharing"}
    for key in SHARING_KEYS:
        assert len(events.Scalars(key)) == 2, key


def validate(rank: int, world_size: int) -> dict[str, float]:
    trainer = Trainer(
        logger=False,
        callbacks=all_three(),
        devices=world_size,
        strategy="ddp",
        use_distributed_sampler=False,
        **QUIET,
    )
    (logged,) = trainer.validate(model(), grouped(), verbose=False)
    return {key: float(value) for key, value in logged.items()}


def start(rank: int, world_size: int) -> dict[str, float]:
    # the process group is up already; Lightning learns from the environment which process this is
    import os

    os.environ |= {
        "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
        "WORLD_SIZE": str(world_size),
        "RANK": str(rank),
        "TORCHELASTIC_RUN_ID": "test",
        "GROUP_RANK": "0",
        "LOCAL_WORLD_SIZE": str(world_size),
    }
    return validate(rank, world_size)


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders:UserWarning")
def test_two_processes_log_what_one_does(processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    (alone,) = Trainer(logger=False, callbacks=all_three(), **QUIET).validate(model(), grouped(), verbose=False)
    assert set(alone) >= SHARING_KEYS
    for logged in processes(start, tmp_path):
        assert set(logged) == set(alone)
        for key, value in alone.items():
            assert logged[key] == pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True), key


def test_every_scalar_and_figure_is_in_the_event_file() -> None:
    seed_everything(0)
    logger = TensorBoardLogger("runs", name=None)
    trainer = Trainer(max_epochs=4, logger=logger, callbacks=all_three(figure_every_n_epochs=2), **QUIET)
    trainer.fit(model(), data())
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    parts = {"loss", "task_loss", "regularization"}
    losses = {f"{stage}/{part}" for stage in ("train", "val") for part in parts} | {"val/accuracy"}
    assert set(events.Tags()["scalars"]) - {"hp_metric"} == (
        losses | REGIME_KEYS | UNIT_KEYS | FIXED_POINT_KEYS | {"epoch"}
    )
    for key in REGIME_KEYS | UNIT_KEYS | FIXED_POINT_KEYS:
        assert len(events.Scalars(key)) == 4, key
    assert set(events.Tags()["images"]) == FIGURES
    for name in FIGURES:
        assert len(events.Images(name)) == 2, name
    files = {path.name for path in (Path(logger.log_dir) / "figures").iterdir()}
    assert files == {f"{name.replace('/', '_')}-epoch={epoch:03d}.png" for name in FIGURES for epoch in (1, 3)}


def test_every_logger_gets_the_scalars() -> None:
    loggers = [CSVLogger("csv", name=None), TensorBoardLogger("runs", name=None)]
    trainer = Trainer(max_epochs=2, logger=loggers, callbacks=all_three(), **QUIET)
    trainer.fit(model(), data())
    header = (Path(loggers[0].log_dir or "") / "metrics.csv").read_text().splitlines()[0].split(",")
    assert set(header) >= REGIME_KEYS | UNIT_KEYS | FIXED_POINT_KEYS
    assert list(Path("runs").rglob("events*"))


def test_intervals_and_the_last_epoch() -> None:
    seen: list[int] = []

    class Count(RegimeOccupancy):
        def figures(self) -> dict[str, Figure]:
            seen.append(self.rnn.nonlinear_units)
            return {}

    callback = Count(every_n_epochs=2, figure_every_n_epochs=4)
    logger = CSVLogger("csv", name=None)
    trainer = Trainer(max_epochs=7, logger=logger, callbacks=[callback], **QUIET)
    trainer.fit(model(), data())
    rows = [row.split(",") for row in (Path(logger.log_dir) / "metrics.csv").read_text().splitlines()]
    column, epoch = rows[0].index("regime/visited"), rows[0].index("epoch")
    assert [int(row[epoch]) for row in rows[1:] if row[column]] == [1, 3, 5, 6]
    assert len(seen) == 2  # after four epochs and after the last

    seen.clear()
    stop = EarlyStopping("val/loss", stopping_threshold=100.0)  # stops after the first epoch
    trainer = Trainer(max_epochs=7, logger=CSVLogger("csv", name=None), callbacks=[Count(), stop], **QUIET)
    trainer.fit(model(), data())
    assert trainer.current_epoch == 1
    assert len(seen) == 1

    seen.clear()
    without = Count(figure_every_n_epochs=0)
    trainer = Trainer(max_epochs=2, logger=CSVLogger("csv", name=None), callbacks=[without], **QUIET)
    trainer.fit(model(), data())
    assert seen == []


def test_more_units_than_are_searched_exhaustively() -> None:
    trainer = Trainer(logger=False, callbacks=[FixedPoints(exhaustive_max_nonlinear_units=2)], **QUIET)
    (logged,) = trainer.validate(model(3), data(), verbose=False)
    assert logged["fixed_points/complete"] == 0
    with pytest.raises(ValueError, match="time_budget must not be negative, got -1"):
        FixedPoints(time_budget=-1.0)


def test_the_search_keeps_to_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However many regimes there are to search, no batch is begun once the time is over."""
    module = importlib.import_module("lightning_alrnn.analysis.sign_iteration")
    batches: list[int] = []
    solve = module._solve

    def count(reduced: Any, codes: Any) -> Any:
        batches.append(len(codes))
        return solve(reduced, codes)

    monkeypatch.setattr(module, "_solve", count)
    monkeypatch.setattr(module, "_BATCH_ELEMENTS", 1)
    for budget, most in ((0.0, 1), (60.0, 10_000)):
        batches.clear()
        bounded = FixedPoints(exhaustive_max_nonlinear_units=2, time_budget=budget)
        Trainer(logger=False, callbacks=[bounded], **QUIET).validate(model(3), data(), verbose=False)
        assert 1 <= len(batches) <= most
    assert len(batches) > 1


def test_fixed_points_under_a_constant_input() -> None:
    made = model(0)
    assert isinstance(made.core, ALRNN)
    with torch.no_grad():
        made.core.W.copy_(0.5 * torch.eye(6))
    callback = FixedPoints(inputs=[1.0, -2.0])
    Trainer(logger=False, callbacks=[callback], **QUIET).validate(made, data(), verbose=False)
    assert made.core.C is not None
    expected = 2 * (made.core.C @ torch.tensor([1.0, -2.0]) + made.core.h)
    assert callback.result is not None
    torch.testing.assert_close(callback.result.z[0].float(), expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("callback", [RegimeOccupancy, ActiveUnits, FixedPoints])
def test_a_core_without_regimes_is_an_error(callback: type[StatesCallback]) -> None:
    trainer = Trainer(max_epochs=1, logger=False, callbacks=[callback()], **QUIET)
    with pytest.raises(
        MisconfigurationException, match=rf"{callback.__name__} looks .*its core is GRU.*leave this callback out"
    ):
        trainer.fit(model(core="GRU"), data())


class Existing(LightningModule):
    """A LightningModule of somebody else's."""

    def __init__(self, rnns: int = 1, returns: str = "dict") -> None:
        super().__init__()
        self.rnns = nn.ModuleList(ALRNN(2, 6, 3) for _ in range(rnns))
        self.returns = returns

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> Any:
        states, _ = self.rnns[0](batch.inputs, lengths=batch.lengths)
        loss = states.square().mean()
        return {"loss": loss, "states": states, "lengths": batch.lengths} if self.returns == "dict" else loss


def test_an_existing_module(by_hand: Callable[..., Any]) -> None:
    store = Store()
    trainer = Trainer(logger=False, callbacks=[*all_three(), store], **QUIET)
    (logged,) = trainer.validate(Existing(), data(), verbose=False)
    found = by_hand(torch.cat(store.states), torch.cat(store.lengths), 3)
    assert logged["regime/visited"] == len(found.counts)


def test_a_step_that_returns_no_states_is_an_error() -> None:
    trainer = Trainer(logger=False, callbacks=[ActiveUnits()], **QUIET)
    with pytest.raises(MisconfigurationException, match=r'Existing.validation_step to return a dict with "states"'):
        trainer.validate(Existing(returns="loss"), data(), verbose=False)


def test_several_networks() -> None:
    trainer = Trainer(logger=False, callbacks=[ActiveUnits()], **QUIET)
    with pytest.raises(MisconfigurationException, match=r"name one of them, module= one of 'rnns.0', 'rnns.1'"):
        trainer.validate(Existing(rnns=2), data(), verbose=False)
    named = ActiveUnits(module="rnns.0")
    Trainer(logger=False, callbacks=[named], **QUIET).validate(Existing(rnns=2), data(), verbose=False)
    with pytest.raises(MisconfigurationException, match=r"module='core' is no ALRNN of Existing"):
        Trainer(logger=False, callbacks=[ActiveUnits(module="core")], **QUIET).validate(
            Existing(rnns=2), data(), verbose=False
        )


def test_no_lengths_means_that_all_steps_are_valid() -> None:
    class Bare(Existing):
        def validation_step(self, batch: SequenceBatch, batch_idx: int) -> Any:
            return {"states": super().validation_step(batch, batch_idx)["states"]}

    callback = RegimeOccupancy()
    Trainer(logger=False, callbacks=[callback], **QUIET).validate(Bare(), data(), verbose=False)
    assert callback.result.steps == 18 * 7


def test_groups_of_an_existing_module() -> None:
    class Grouped(Existing):
        def validation_step(self, batch: SequenceBatch, batch_idx: int) -> Any:
            return {**super().validation_step(batch, batch_idx), "group": batch.lengths % 2}

    callback = RegimeOccupancy()
    trainer = Trainer(logger=False, callbacks=[callback, ActiveUnits(), FixedPoints()], **QUIET)
    (logged,) = trainer.validate(Grouped(), data(), verbose=False)
    assert set(logged) >= SHARING_KEYS
    assert callback.answer.groups is not None
    assert callback.answer.groups.groups.tolist() == [0, 1]

    class Wrong(Existing):
        def validation_step(self, batch: SequenceBatch, batch_idx: int) -> Any:
            return {**super().validation_step(batch, batch_idx), "group": torch.zeros(3)}

    with pytest.raises(
        MisconfigurationException, match=r'"group" of Wrong.validation_step to have shape \(4,\), .*, got \(3,\)'
    ):
        trainer.validate(Wrong(), data(), verbose=False)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RegimeOccupancy(every_n_epochs=0), "every_n_epochs must be at least 1, got 0"),
        (lambda: RegimeOccupancy(figure_every_n_epochs=-1), "figure_every_n_epochs must be 0"),
        (lambda: ActiveUnits(threshold=2.0), "threshold must be a share of steps between 0 and 1, got 2.0"),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_figures_reach_each_kind_of_logger() -> None:
    calls: list[tuple[str, Any]] = []

    class Recorder:
        def __init__(self, kind: str) -> None:
            self.kind = kind

        def log_figure(self, *args: Any, **kwargs: Any) -> None:
            calls.append((self.kind, kwargs.get("figure_name", args)))

    class Wandb(CSVLogger):
        def log_image(self, key: str, images: list[Any], step: int) -> None:
            calls.append(("wandb", (key, images[0].shape[-1])))

    class Comet(CSVLogger):
        experiment = Recorder("comet")  # type: ignore[assignment]

    class MLFlow(CSVLogger):
        experiment = Recorder("mlflow")  # type: ignore[assignment]
        run_id = "run"

    trainer = Trainer(logger=[Wandb("a"), Comet("b"), MLFlow("c")], **QUIET)
    figure = Figure()
    log_figures(trainer, lambda: {"group/name": figure})
    assert calls == [
        ("wandb", ("group/name", 3)),
        ("comet", "group/name"),
        ("mlflow", ("run", figure, "figures/group/name-step=0.png")),
    ]
    drawn = Trainer(logger=False, **QUIET)
    log_figures(drawn, lambda: pytest.fail("drawn without a logger"))  # type: ignore[arg-type,return-value]


def test_addition_end_to_end_on_a_loader_of_plain_batches() -> None:
    batch = Addition(sequence_length=6, train_size=8, val_size=8, test_size=8).build("val")
    plain = DataLoader([batch], batch_size=None)  # type: ignore[arg-type,var-annotated]
    made = ALRNNModule(2, 1, 6, 3, objective="regression")
    (logged,) = Trainer(logger=False, callbacks=all_three(), **QUIET).validate(made, plain, verbose=False)
    assert set(logged) >= REGIME_KEYS | UNIT_KEYS | FIXED_POINT_KEYS


def test_a_network_that_has_diverged_leaves_the_verdict_to_the_module() -> None:
    broken = model()
    with torch.no_grad():
        broken.core.W.fill_(math.nan)  # type: ignore[operator,union-attr]
    trainer = Trainer(logger=CSVLogger("csv"), callbacks=all_three(), **QUIET)
    (logged,) = trainer.validate(broken, data(), verbose=False)
    assert all(math.isnan(logged[key]) for key in FIXED_POINT_KEYS)
    trainer = Trainer(max_epochs=1, num_sanity_val_steps=0, logger=False, callbacks=all_three(), **QUIET)
    with pytest.raises(FloatingPointError, match="is not finite in epoch 0"):
        trainer.fit(broken, data())


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")  # Lightning, of a step without a Trainer
@pytest.mark.parametrize("callback", [RegimeOccupancy, ActiveUnits, FixedPoints])
def test_scalars_lie_on_the_device_of_the_module(
    callback: type[StatesCallback], monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL reduces nothing that lies on the CPU; the meta device stands in for an accelerator here."""
    logged: dict[str, Tensor] = {}
    made, watched = model(), callback(figure_every_n_epochs=0)
    trainer = Trainer(logger=False, **QUIET)
    watched.setup(trainer, made, "validate")
    watched.on_validation_epoch_start(trainer, made)
    outputs = made.validation_step(data().build("val"), 0)
    watched.on_validation_batch_end(trainer, made, outputs, None, 0)
    monkeypatch.setattr(type(made), "device", torch.device("meta"))
    monkeypatch.setattr(made, "log", lambda key, value, **options: logged.update({key: value}))
    watched.on_validation_epoch_end(trainer, made)
    assert logged
    assert all(value.device.type == "meta" for value in logged.values())
