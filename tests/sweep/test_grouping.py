"""Which runs of a sweep share a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import pytest
from pytorch_lightning import LightningDataModule
from pytorch_lightning.callbacks import EarlyStopping

from lightning_alrnn import ALRNNModule, ALRNNNeural
from lightning_alrnn.callbacks import ActiveUnits, Dashboard, DivergenceGuard, PredictionWriter, UnitAblation
from lightning_alrnn.datamodules import Addition, SequentialDigits
from lightning_alrnn.sweep import grouping
from lightning_alrnn.sweep.gpus import Gpu
from lightning_alrnn.sweep.grouping import CHECKPOINT, Size, Work, allow_files, make_work, read_populations, why_alone
from lightning_alrnn.sweep.members import Member, MemberFactory
from lightning_alrnn.sweep.plan import Spec
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.store import Record, Status, run_folder, write_record

M, T, BATCH = 6, 5, 16
TINY = (
    "--data=Addition",
    f"--data.sequence_length={T}",
    "--data.train_size=64",
    "--data.val_size=16",
    f"--data.batch_size={BATCH}",
    f"--model.hidden_size={M}",
)
STATES = 4 * BATCH * T * M  # bytes


def spec(seed: int, core: str = "ALRNN", P: int = 0, arguments: Any = TINY, settings: Any = None) -> Spec:
    settings = dict(settings or {})
    name = "-".join([core, f"P{P}", f"seed{seed}", *(f"{key}={value}" for key, value in settings.items())])
    return Spec(name, core, P, seed, settings, (*arguments, f"--seed_everything={seed}", f"--data.seed={seed}"))


def seeds(count: int) -> list[Spec]:
    return [spec(seed) for seed in range(count)]


def record(folder: Path, spec: Spec, status: Status, population: str = "") -> None:
    run = Run(spec.core, spec.nonlinear_units, spec.seed, {}, {})
    write_record(folder, Record(spec.name, run, status, population=population))


def divide(folder: Path, specs: Sequence[Spec], *options: Any, said: list[str] | None = None) -> list[Work]:
    """The works of all runs; nothing may be announced without a list for it."""
    return grouping.divide(folder, specs, *(options or ("auto", 1)), pytest.fail if said is None else said.append)


def sizes(works: Sequence[Work]) -> list[int]:
    return [len(work.specs) for work in works]


@pytest.fixture(scope="module")
def factory(tmp_path_factory: pytest.TempPathFactory) -> MemberFactory:
    return MemberFactory(tmp_path_factory.mktemp("sweep"))


@pytest.fixture(autouse=True)
def _parsed_once(factory: MemberFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the first test has parsed serves the others: nothing is written to the folder of the factory."""
    monkeypatch.setattr(grouping, "MemberFactory", lambda folder: factory)


@pytest.fixture
def roomy(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is memory for 100 members."""
    monkeypatch.setattr(grouping, "_most_members", lambda factory, specs, slots, gpu: (100, ""))


@pytest.mark.usefixtures("roomy")
@pytest.mark.parametrize(
    ("count", "size", "slots", "expected"),
    [
        (10, "auto", 1, [10]),
        (10, "auto", 2, [5, 5]),
        (10, "auto", 3, [3, 4, 3]),
        (3, "auto", 8, [1, 1, 1]),
        (10, "auto", None, [5, 5]),  # eight at most where nobody knows
        (8, "auto", None, [8]),
        (250, "auto", 1, [83, 84, 83]),
        (250, "auto", 2, [62, 63, 62, 63]),  # both slots end at the same time
        (10, 4, 1, [3, 4, 3]),
        (10, 4, None, [3, 4, 3]),
        (10, 12, 2, [10]),
        (250, 200, None, [83, 84, 83]),  # there is no memory for more
        (3, 1, 1, [1, 1, 1]),
        (3, "off", 1, [1, 1, 1]),
        (1, "auto", 1, [1]),
    ],
)
def test_runs_are_shared_out(count: int, size: Size, slots: int | None, expected: list[int], tmp_path: Path) -> None:
    specs = seeds(count)
    works = divide(tmp_path, specs, size, slots)
    assert sorted(sizes(works)) == sorted(expected)
    assert [spec for work in works for spec in work.specs] == specs
    assert [bool(work.population) for work in works] == [len(work.specs) > 1 for work in works]
    if size == "auto" and slots is None:  # a job with a GPU gets what fills it
        assert sizes(grouping.divide(tmp_path, specs, size, slots, pytest.fail, Gpu(0, 0))) == [count]


@pytest.mark.usefixtures("roomy")
def test_what_shares_a_step(tmp_path: Path) -> None:
    for key in ("model.mar_strength", "model.optimizer.lr", "data.seed"):
        specs = [spec(seed, P=P, settings={key: value}) for value, P, seed in product((0.1, 1), (0, 5), (0, 1))]
        (work,) = divide(tmp_path, specs)
        assert list(work.specs) == specs
    apart = [[spec(seed, core) for seed, core in product((0, 1), ("GRU", "ALRNN"))]]
    for key in ("model.init", "data.train_size", "model.hidden_size", "model.optimizer", "model.mar_units"):
        apart.append([spec(seed, settings={key: value}) for seed, value in product((0, 1), ("a", "b"))])
    for specs in apart:
        assert [work.specs for work in divide(tmp_path, specs)] == [tuple(specs[::2]), tuple(specs[1::2])]


@pytest.mark.usefixtures("roomy")
def test_what_failed_or_was_begun_by_itself_stays_alone(tmp_path: Path) -> None:
    specs = seeds(7)
    record(tmp_path, specs[1], "failed")
    record(tmp_path, specs[2], "failed", population="a")
    record(tmp_path, specs[4], "running")
    record(tmp_path, specs[5], "running", population="a")  # whose training left no checkpoint
    works = divide(tmp_path, specs)
    alone = [Work((specs[seed],)) for seed in (1, 2, 4)]
    together = make_work(tmp_path, [specs[seed] for seed in (0, 3, 5, 6)])
    assert works == [together, *alone]  # in the order of their first runs


def bytes_of_data_and_network(factory: MemberFactory) -> tuple[int, int]:
    """Those of a member's data, and of its parameters and a batch."""
    made = Addition(sequence_length=T, train_size=64, val_size=16)
    data = sum(field.nbytes for split in ("train", "val") for field in made.build(split) if field is not None)
    batch = sum(field[:BATCH].nbytes for field in made.build("train") if field is not None)
    parameters = sum(parameter.nbytes for parameter in factory.make(spec(0)).module.parameters())
    return data, grouping._COPIES_OF_PARAMETERS * parameters + batch


@pytest.mark.parametrize(("slots", "shared"), [(1, False), (2, True)], ids=["data of their own", "data in common"])
def test_memory_bounds_a_population(
    slots: int, shared: bool, factory: MemberFactory, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    specs = [spec(0, P=P) for P in range(6)] if shared else seeds(6)
    data, network = bytes_of_data_and_network(factory)
    member = grouping._COPIES_OF_STATES * STATES + network + data / (6 if shared else 1)
    memory = [0.0]
    monkeypatch.setattr(grouping, "_memory", lambda: memory[0])
    for most in (3, 2):  # a quarter of the memory for all of the slots
        memory[0] = 4 * slots * (most * member + 1)
        assert max(sizes(divide(tmp_path, specs, "auto", slots))) == most
    memory[0] = 4 * slots * 1.99 * member
    said: list[str] = []
    assert sizes(divide(tmp_path, specs, "auto", slots, said=said)) == [1] * 6
    assert said == ["Runs are trained one by one, because two of them would need more than 25% of the memory."]


def test_states_and_files_bound_a_population(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = seeds(10)
    assert sizes(divide(tmp_path, specs)) == [10]
    limits = [24 + 4 * 5, 24 + 4 * 5]
    monkeypatch.setattr("resource.getrlimit", lambda kind: tuple(limits))
    monkeypatch.setattr("resource.setrlimit", lambda kind, values: limits.__setitem__(slice(2), values))
    assert sizes(divide(tmp_path, specs)) == [5, 5]
    for most, needed in ((24 + 4 * 1000, 1000), (24 + 4 * 900, 900), (grouping.resource.RLIM_INFINITY, 1000)):
        limits[:] = 1024, most
        assert grouping._most_files() == needed
        allow_files(250)
        assert limits == [1024, most]
        allow_files(1000)
        assert limits == [24 + 4 * needed, most]
    monkeypatch.setattr(grouping, "_MOST", 5)
    assert sizes(divide(tmp_path, specs)) == [5, 5]
    monkeypatch.setattr(grouping, "_STATES_BYTES", 4 * STATES)
    assert max(sizes(divide(tmp_path, specs, 9, 1))) == 4


def test_what_bounds_a_population_on_a_gpu(factory: MemberFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    specs = seeds(12)
    data, network = bytes_of_data_and_network(factory)
    step = network + grouping._COPIES_OF_STATES * STATES

    def most(memory: int, multiprocessors: int = 132) -> tuple[int, str]:
        return grouping._most_members(factory, specs, 1, Gpu(memory, multiprocessors))

    for name in ("_LARGE", "_STATES_BYTES"):  # of a CPU
        monkeypatch.setattr(grouping, name, 0)
    ample = 1 << 40
    assert most(ample) == (1000, "")
    assert most(ample, 2) == (128, "")  # 64 programs each, and one for a batch of 16
    monkeypatch.setattr(grouping, "SHARE_OF_GPU", (3 * data + 1) / ample)
    assert most(ample) == (3, "")
    monkeypatch.setattr(grouping, "SHARE_OF_GPU", 1e6)
    assert most(2 * 3 * step + 1) == (3, "")
    alone = (1, "two of them would need more than their share of the memory or the GPU memory")
    assert most(3 * step) == alone
    memory = [4 * 2 * (network + data + grouping._OBJECTS_BYTES) + 4]
    monkeypatch.setattr(grouping, "_memory", lambda: memory[0])
    assert most(ample) == (2, "")
    memory[0] -= 8
    assert most(ample) == alone


def test_large_networks_and_those_that_cannot_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    products = BATCH * T * M**2
    said: list[str] = []
    monkeypatch.setattr(grouping, "_LARGE", products)
    assert sizes(divide(tmp_path, seeds(2), said=said)) == [2]
    monkeypatch.setattr(grouping, "_LARGE", products - 1)
    short = (*TINY, "--data.sequence_length=0")
    wrong = [spec(seed, arguments=short, settings={"data.sequence_length": 0}) for seed in range(2)]
    stop = (*TINY, "--trainer.callbacks=EarlyStopping", "--trainer.callbacks.monitor=a")
    stopping = [spec(seed, arguments=stop, settings={"a": seed // 2}) for seed in range(4)]
    works = divide(tmp_path, [*seeds(2), *wrong, *stopping], said=said)
    assert works == [Work((each,)) for each in [*seeds(2), *wrong, *stopping]]
    # each reason once
    assert [line.removeprefix("Runs are trained one by one, because ").removesuffix(".") for line in said] == [
        "EarlyStopping needs a single network",
        f"a step of {BATCH * T} × {M}² products takes so long that sharing it would save nothing",
        "the first of them cannot be set up (ValueError: sequence_length must be at least 4, got 0)",
    ]
    divide(tmp_path, seeds(2), "off", 1)  # nobody asked for a population
    divide(tmp_path, seeds(1))


class OwnLoader(Addition):
    """Loads validation in its own way."""

    def val_dataloader(self) -> Any:
        return super().val_dataloader()


class OwnModule(ALRNNModule):
    """A subclass, which may train in its own way."""


@pytest.fixture(scope="module")
def member(factory: MemberFactory) -> Member:
    return factory.make(spec(0))


@pytest.mark.parametrize(
    ("parts", "reason"),
    [
        ({}, ""),
        ({"module": ALRNNNeural(2, 3, 4)}, "the model is a ALRNNNeural, not an ALRNNModule"),
        ({"module": OwnModule(2, 3)}, "the model is a OwnModule, not an ALRNNModule"),
        ({"data": LightningDataModule()}, "LightningDataModule makes its own DataLoaders"),
        ({"data": OwnLoader()}, "OwnLoader makes its own DataLoaders"),
        ({"data": SequentialDigits()}, ""),
        ({"callbacks": []}, ""),
        ({"callbacks": [ActiveUnits(), Dashboard(), PredictionWriter()]}, ""),
        ({"callbacks": [ActiveUnits(), EarlyStopping("val/loss")]}, "EarlyStopping needs a single network"),
        ({"callbacks": [UnitAblation()]}, "UnitAblation needs a single network"),
        ({"callbacks": [DivergenceGuard()]}, "DivergenceGuard needs a single network"),
    ],
)
def test_what_a_run_is_made_of(parts: Mapping[str, Any], reason: str, member: Member) -> None:
    assert why_alone(member._replace(**parts)) == reason


@pytest.mark.parametrize(
    ("option", "accepted", "refused"),
    [
        *[("strategy", "auto", "ddp"), ("devices", "1", 2), ("num_nodes", 1, 2), ("precision", "64-true", "16-true")],
        *[("precision", 32, "bf16-mixed"), ("fast_dev_run", False, True), ("max_time", None, "00:01:00:00")],
        *[("overfit_batches", 0.0, 0.5), ("enable_checkpointing", True, False), ("profiler", None, "simple")],
        *[("use_distributed_sampler", True, False), ("detect_anomaly", False, True), ("barebones", False, True)],
        *[("plugins", None, ["a"]), ("reload_dataloaders_every_n_epochs", 0, 1), ("limit_val_batches", 0.5, 0)],
    ],
)
def test_options_of_the_trainer(option: str, accepted: Any, refused: Any, member: Member) -> None:
    for value, reason in ((accepted, ""), (refused, f"--trainer.{option} is {refused}")):
        assert why_alone(member._replace(trainer={**member.trainer, option: value})) == reason
    assert grouping._NEEDED.keys() <= member.trainer.keys()


def test_populations_are_noted(tmp_path: Path) -> None:
    specs = [spec(seed, P=3, settings={"a.b": 0.5, "c": "gaussian", "d": None, "e": True}) for seed in range(4)]
    assert make_work(tmp_path, specs[:1]) == Work((specs[0],))
    assert read_populations(tmp_path) == []
    first, second = make_work(tmp_path, specs[:2]), make_work(tmp_path, specs[2:])
    assert sorted(read_populations(tmp_path)) == sorted([first, second])
    assert first.population != second.population
    assert make_work(tmp_path / "another", specs[:2]) == first  # its name tells who is in it
    assert first.folder(tmp_path) == run_folder(tmp_path, "", first.population)
    assert Work((specs[0],)).folder(tmp_path) == run_folder(tmp_path, specs[0].name)
    record(tmp_path, specs[0], "done", population=first.population)
    record(tmp_path, specs[2], "done", population=second.population)
    assert sorted(read_populations(tmp_path)) == sorted([first, second])
    assert not second.is_done(tmp_path)
    record(tmp_path, specs[3], "done", population=second.population)
    assert second.is_done(tmp_path)
    assert read_populations(tmp_path) == [first]
    # another sweep has done one of its runs: it is not gone on with
    record(tmp_path, specs[0], "done", population="another")
    assert read_populations(tmp_path) == []


def test_what_is_left_of_a_population(tmp_path: Path) -> None:
    specs = seeds(4)
    work = make_work(tmp_path, specs)
    assert work.only(specs[2:], tmp_path) == make_work(tmp_path, specs[2:])
    assert work.only(specs[2:3], tmp_path) == Work((specs[2],))
    (work.folder(tmp_path) / CHECKPOINT).touch()  # no member can be taken from it
    assert work.only(specs[2:], tmp_path) == work
    alone = Work((specs[0],))
    assert alone.only(specs[:1], tmp_path) == alone


def test_the_memory_of_a_container(monkeypatch: pytest.MonkeyPatch) -> None:
    total = grouping._memory()
    assert 1 << 26 < total < 1 << 45
    texts: dict[str, str] = {}
    monkeypatch.setattr(Path, "is_file", lambda path: path.name in texts)
    monkeypatch.setattr(Path, "read_text", lambda path: texts[path.name])
    for name in ("memory.max", "memory.limit_in_bytes"):
        texts = {"memory.max": "max\n", name: "1000000\n"}
        assert grouping._memory() == 1_000_000
    texts = {"memory.limit_in_bytes": str(1 << 60)}
    assert grouping._memory() >= total
