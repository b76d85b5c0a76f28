"""The callbacks: what they log, against brute force on stored states, on one and on two processes."""

from __future__ import annotations

import errno
import importlib
import math
from collections import Counter
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from observed import KINDS, QUIET, Store, arrays, figure_files, model, rows_of, validated, validated_on
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Callback, EarlyStopping
from pytorch_lightning.loggers import CSVLogger, TensorBoardLogger
from pytorch_lightning.utilities.exceptions import MisconfigurationException
from scipy.spatial.distance import jensenshannon
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import Tensor, nn
from torch.utils.data import DataLoader
from undrawn import undrawn

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks import ActiveUnits, FixedPoints, RegimeOccupancy, StatesCallback
from lightning_alrnn.callbacks.figures import log_figures
from lightning_alrnn.datamodules import Arrays
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.readings import READINGS

SHARING_KEYS = {"regime/sharing_jaccard", "regime/sharing_js"}
KEYS = {
    kind.__name__: {key.name for reading in READINGS if reading.callback == kind.__name__ for key in reading.keys}
    - SHARING_KEYS
    for kind in KINDS
}
ALL_KEYS = set().union(*KEYS.values())
FIGURES = {f"fixed_points/{name}" for name in ("eigenvalues", "state_space", "tracking")}
FIGURES |= {f"regime/{name}" for name in ("occupancy", "groups", "sharing")}
FIGURES |= {"units/duty_cycle", "spectrum/slowest_mode", "latent/trajectories"}


def everything(**options: Any) -> list[Callback]:
    return [kind(**options) for kind in KINDS]


def expected_scalars(counts: Any, nonlinear: int) -> dict[str, float]:
    """The scalars from counts by hand."""
    shares = [count / counts.steps for count in counts.counts.values()]
    entropy = -sum(p * math.log2(p) for p in shares)
    moves = max(counts.moves, 1)
    return {
        "regime/visited": len(counts.counts),
        "regime/possible_log2": nonlinear,
        "regime/entropy": entropy,
        "regime/effective": 2**entropy,
        "regime/switch_rate": sum(n for (a, b), n in counts.transitions.items() if a != b) / moves,
        "regime/top_occupancy": max(shares),
        "units/active": sum(n / moves >= 1e-3 and n > 0 for n in counts.switches),
        "units/always_on": sum(n == counts.steps for n in counts.on),
        "units/always_off": sum(n == 0 for n in counts.on),
        "units/mean_duty": sum(counts.on) / counts.steps / max(nonlinear, 1),
    }


GROUPS = ["left", "right", "rare", "up"]


def grouped(names: bool = True) -> Arrays:
    """Four groups; one of them has a single trial in validation."""
    group = torch.tensor([0, 1, 3]).repeat(8)[:23]
    group[7] = 2
    return arrays(group=[GROUPS[index] for index in group] if names else (10 * group).tolist())


def expected_sharing(store: Store, nonlinear: int) -> dict[str, float]:
    """The measures on Python sets and by scipy, on stored states."""
    counts: dict[int, Counter[str]] = {}
    states, lengths, groups = (store.all_of(name) for name in ("states", "lengths", "group"))
    for sequence, length, group in zip(states, lengths, groups.tolist(), strict=True):
        for z in sequence[: int(length), sequence.shape[1] - nonlinear :].tolist():
            counts.setdefault(group, Counter())["".join("1" if value > 0 else "0" for value in z)] += 1
    jaccard, js = [], []
    for a, b in combinations(counts.values(), 2):
        union = sorted(set(a) | set(b))
        jaccard.append(len(set(a) & set(b)) / len(union))
        p, q = ([count[code] / count.total() for code in union] for count in (a, b))
        js.append(float(jensenshannon(p, q, base=2)) ** 2)
    return dict(zip(sorted(SHARING_KEYS), (sum(jaccard) / len(jaccard), sum(js) / len(js)), strict=True))


@pytest.mark.parametrize("names", [True, False, None])
@pytest.mark.parametrize("nonlinear", [0, 3, 6])
def test_scalars_equal_brute_force_on_stored_states(
    by_hand: Callable[..., Any], nonlinear: int, names: bool | None
) -> None:
    store, occupancy = Store(), RegimeOccupancy()
    data = arrays() if names is None else grouped(names)
    logged = validated(model(nonlinear), data, occupancy, ActiveUnits(), FixedPoints(), store)
    expected = expected_scalars(by_hand(store.all_of("states"), store.all_of("lengths"), nonlinear), nonlinear)
    if names is None:
        assert not SHARING_KEYS & set(logged)
    else:
        expected |= expected_sharing(store, nonlinear)
        assert occupancy.answer.groups is not None
        assert occupancy.answer.groups.groups.tolist() == ([0, 1, 2, 3] if names else [0, 10, 20, 30])
    for key, value in expected.items():
        assert logged[key] == pytest.approx(value, rel=1e-5, abs=1e-6), key
    kinds = sum(logged[f"fixed_points/{name}"] for name in ("stable", "saddle", "unstable", "marginal"))
    assert logged["fixed_points/total"] == kinds
    assert logged["fixed_points/complete"] == 1


def test_figures_of_groups_have_the_names_of_the_data_or_else_of_the_module() -> None:
    callback = RegimeOccupancy()
    plain = DataLoader([grouped().build("val")], batch_size=None)  # type: ignore[arg-type,var-annotated]
    for module, data, names in (
        (model(), grouped(), sorted(GROUPS)),
        (model(), grouped(names=False), ["0", "10", "20", "30"]),
        (model(group_names=["n", "e", "s"]), plain, ["n", "e", "s", "3"]),
    ):
        validated(module, data, callback)
        figures = callback.figures()
        assert set(figures) == {"regime/occupancy", "regime/groups", "regime/sharing"}
        for name in ("regime/groups", "regime/sharing"):
            assert [label.get_text() for label in figures[name].axes[0].get_yticklabels()] == names


def test_keys_follow_the_names_of_groups_and_else_the_batches() -> None:
    for module, data in (
        (model(group_names=GROUPS), arrays()),  # named, but the batches have none
        (model(), arrays(group=["one"] * 23)),  # one group is no pair
    ):
        logged = validated(module, data, RegimeOccupancy())
        assert all(math.isnan(logged[key]) for key in SHARING_KEYS)


def on_two(rank: int, world_size: int) -> dict[str, float]:
    return validated_on(rank, world_size, model(), grouped(), *everything())  # type: ignore[no-any-return]


@pytest.mark.filterwarnings("ignore:Using `DistributedSampler` with the dataloaders:UserWarning")
def test_two_processes_log_what_one_does(processes: Callable[..., list[Any]], tmp_path: Path) -> None:
    alone = validated(model(), grouped(), *everything())
    assert set(alone) >= ALL_KEYS | SHARING_KEYS
    for logged in processes(on_two, tmp_path):
        assert set(logged) == set(alone)
        for key, value in alone.items():
            assert logged[key] == pytest.approx(value, rel=1e-5, abs=1e-6, nan_ok=True), key


@undrawn()
def test_every_scalar_and_figure_reaches_the_loggers() -> None:
    logger, table = TensorBoardLogger("runs", name=None), CSVLogger("csv", name=None)
    callbacks = everything(figure_every_n_epochs=2)
    Trainer(max_epochs=4, logger=[logger, table], callbacks=callbacks, **QUIET).fit(model(), grouped())
    events = EventAccumulator(logger.log_dir, size_guidance={"images": 0, "scalars": 0})
    events.Reload()
    parts = {"loss", "task_loss", "regularization"}
    scores = {f"{stage}/{part}" for stage in ("train", "val") for part in parts} | {"val/accuracy", "epoch"}
    keys = ALL_KEYS | SHARING_KEYS
    assert set(events.Tags()["scalars"]) - {"hp_metric"} == scores | keys
    assert {len(events.Scalars(key)) for key in keys} == {4}
    assert set(events.Tags()["images"]) == FIGURES
    assert {len(events.Images(name)) for name in FIGURES} == {2}
    names = {f"{name.replace('/', '_')}-epoch={epoch:03d}.png" for name in FIGURES for epoch in (1, 3)}
    assert figure_files(logger) == names
    assert all(rows_of(table, key) for key in keys)


@pytest.mark.parametrize("part", ["write_file", "render"])
def test_a_figure_that_fails_does_not_stop_training(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*arguments: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(f"lightning_alrnn.callbacks.figures.{part}", fail)
    logger = CSVLogger("csv", name=None)
    trainer = Trainer(max_epochs=2, logger=logger, callbacks=[ActiveUnits()], **QUIET)
    with pytest.warns(UserWarning, match="figures of epoch=001 are missing, training goes on: OSError.*No space left"):
        trainer.fit(model(), arrays())
    checkpoint = torch.load(Path(logger.log_dir, "checkpoints", "last.ckpt"), weights_only=True)
    assert checkpoint["epoch"] == 1
    with pytest.raises(OSError, match="No space left"):
        trainer.validate(model(), arrays(), verbose=False)


def test_intervals_and_the_last_epoch() -> None:
    drawn: list[int] = []

    class Count(RegimeOccupancy):
        def figures(self) -> dict[str, Figure]:
            drawn.append(self.rnn.nonlinear_units)
            return {}

    def fit(epochs: int, *callbacks: Callback) -> tuple[CSVLogger, int]:
        drawn.clear()
        logger = CSVLogger("csv", name=None)
        trainer = Trainer(max_epochs=epochs, logger=logger, callbacks=list(callbacks), **QUIET)
        trainer.fit(model(), arrays())
        return logger, trainer.current_epoch

    logger, _ = fit(7, Count(every_n_epochs=2, figure_every_n_epochs=4))
    assert [epoch for epoch, _ in rows_of(logger, "regime/visited")] == [1, 3, 5, 6]
    assert len(drawn) == 2  # after four epochs and after the last
    _, last = fit(7, Count(), EarlyStopping("val/loss", stopping_threshold=100.0))  # stops after the first epoch
    assert (last, len(drawn)) == (1, 1)
    fit(2, Count(figure_every_n_epochs=0))
    assert drawn == []


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
        logged = validated(model(3), arrays(), bounded)
        assert logged["fixed_points/complete"] == 0
        assert 1 <= len(batches) <= most
    assert len(batches) > 1


def test_fixed_points_under_a_constant_input() -> None:
    made, callback = model(0), FixedPoints(inputs=[1.0, -2.0])
    assert isinstance(made.core, ALRNN)
    made.core.W.data = 0.5 * torch.eye(6)
    validated(made, arrays(), callback)
    assert made.core.C is not None
    expected = 2 * (made.core.C @ torch.tensor([1.0, -2.0]) + made.core.h)
    assert callback.result is not None
    torch.testing.assert_close(callback.result.z[0].float(), expected.detach(), rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", KINDS)
def test_a_core_without_regimes_is_an_error(kind: type[StatesCallback]) -> None:
    message = rf"{kind.__name__} looks .*its core is GRU.*leave this callback out"
    with pytest.raises(MisconfigurationException, match=message):
        validated(model(core="GRU"), arrays(), kind())


class Existing(LightningModule):
    """A LightningModule of somebody else, whose output has further entries."""

    def __init__(self, rnns: int = 1, **further: Callable[[SequenceBatch], Tensor]) -> None:
        super().__init__()
        self.rnns = nn.ModuleList(ALRNN(2, 6, 3) for _ in range(rnns))
        self.further = further

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> Any:
        states, _ = self.rnns[0](batch.inputs, lengths=batch.lengths)
        return {"states": states, **{name: entry(batch) for name, entry in self.further.items()}}


def test_an_existing_module() -> None:
    callback = RegimeOccupancy()
    validated(Existing(), arrays(), callback)
    assert callback.result.steps == 18 * 7  # without lengths all steps are valid
    logged = validated(Existing(group=lambda batch: batch.lengths % 2), arrays(), callback)
    assert set(logged) >= SHARING_KEYS
    assert callback.answer.groups is not None
    assert callback.answer.groups.groups.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("module", "callback", "message"),
    [
        (Existing(states=lambda batch: batch.inputs), ActiveUnits(), r'step to return a dict with "states".*7, 2\)'),
        (
            Existing(states=lambda batch: None),
            ActiveUnits(),
            r'Existing.validation_step to return a dict with "states"',
        ),  # type: ignore[arg-type,return-value]
        (
            Existing(group=lambda batch: torch.zeros(3)),
            ActiveUnits(),
            r'"group" of Existing.validation_step to have shape \(4,\), .*, got \(3,\)',
        ),
        (Existing(rnns=2), ActiveUnits(), "name one of them, module= one of 'rnns.0', 'rnns.1'"),
        (Existing(rnns=2), ActiveUnits(module="core"), "module='core' is no ALRNN of Existing"),
    ],
)
def test_a_module_that_does_not_fit_is_an_error(module: LightningModule, callback: Callback, message: str) -> None:
    with pytest.raises(MisconfigurationException, match=message):
        validated(module, arrays(), callback)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RegimeOccupancy(every_n_epochs=0), "every_n_epochs must be at least 1, got 0"),
        (lambda: RegimeOccupancy(figure_every_n_epochs=-1), "figure_every_n_epochs must be 0"),
        (lambda: ActiveUnits(threshold=2.0), "threshold must be a share of steps between 0 and 1, got 2.0"),
        (lambda: FixedPoints(time_budget=-1.0), "time_budget must not be negative, got -1"),
        (lambda: FixedPoints(max_visited=0), "max_visited must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(make: Callable[[], Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        make()


def test_figures_reach_each_kind_of_logger() -> None:
    calls: list[tuple[str, Any]] = []

    class Wandb(CSVLogger):
        def log_image(self, key: str, images: list[Any], step: int) -> None:
            calls.append((key, images[0].shape[-1]))

    class Comet(CSVLogger):
        experiment = SimpleNamespace(log_figure=lambda **options: calls.append(("comet", options["figure_name"])))

    class MLFlow(CSVLogger):
        experiment = SimpleNamespace(log_figure=lambda *arguments: calls.append(("mlflow", arguments)))
        run_id = "run"

    figure = Figure()
    log_figures(Trainer(logger=[Wandb("a"), Comet("b"), MLFlow("c")], **QUIET), lambda: {"group/name": figure})
    assert calls == [
        ("group/name", 3),
        ("comet", "group/name"),
        ("mlflow", ("run", figure, "figures/group/name-step=0.png")),
    ]
    log_figures(Trainer(logger=False, **QUIET), lambda: pytest.fail("drawn without a logger"))  # type: ignore[arg-type,return-value]


def test_a_network_that_has_diverged_leaves_the_verdict_to_the_module() -> None:
    broken = model(W=math.nan)
    logged = validated(broken, arrays(), *everything(), logger=CSVLogger("csv"))
    for kind in ("FixedPoints", "Spectrum", "LatentTrajectories"):
        assert all(math.isnan(logged[key]) for key in KEYS[kind])
    trainer = Trainer(max_epochs=1, num_sanity_val_steps=0, logger=False, callbacks=everything(), **QUIET)
    with pytest.raises(FloatingPointError, match="is not finite in epoch 0"):
        trainer.fit(broken, arrays())


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")  # Lightning, of a step without a Trainer
@pytest.mark.parametrize("kind", KINDS)
def test_scalars_lie_on_the_device_of_the_module(kind: type[StatesCallback], monkeypatch: pytest.MonkeyPatch) -> None:
    """NCCL reduces nothing that lies on the CPU; the meta device stands in for an accelerator here."""
    logged: dict[str, Tensor] = {}
    made, watched = model(), kind(figure_every_n_epochs=0)
    trainer = Trainer(logger=False, **QUIET)
    watched.setup(trainer, made, "validate")
    watched.on_validation_epoch_start(trainer, made)
    outputs = made.validation_step(arrays().build("val"), 0)
    watched.on_validation_batch_end(trainer, made, outputs, None, 0)
    monkeypatch.setattr(type(made), "device", torch.device("meta"))
    monkeypatch.setattr(made, "log", lambda key, value, **options: logged.update({key: value}))
    watched.on_validation_epoch_end(trainer, made)
    assert set(logged) == KEYS[kind.__name__]
    assert all(value.device.type == "meta" for value in logged.values())
