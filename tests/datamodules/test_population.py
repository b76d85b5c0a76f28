"""Batches of a population against those of its members' own DataModules."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from lightning_alrnn.batch import AnyBatch, SequenceBatch, Split
from lightning_alrnn.datamodules import (
    Addition,
    MultiTask,
    PopulationDataModule,
    SequenceDataModule,
    SequentialDigits,
    StimulusSelection,
)
from lightning_alrnn.datamodules.base import EpochDataset, SequenceDataset
from lightning_alrnn.datamodules.population import data_bytes
from lightning_alrnn.datamodules.speech_commands import ClipDataset


def assert_batches_are_the_members_own(members: Sequence[SequenceDataModule], epochs: int = 2) -> PopulationDataModule:
    population = PopulationDataModule(members)
    for stage in ("fit", "test"):
        for module in (population, *members):
            module.setup(stage)
    for split in ("train", "val", "test"):
        loaders = [getattr(module, f"{split}_dataloader")() for module in (population, *members)]
        for epoch in range(epochs if split == "train" else 1):
            for loader in loaders if split == "train" else []:
                loader.sampler.set_epoch(epoch)
            for batch, *batches in zip(*loaders, strict=True):
                assert isinstance(batch, SequenceBatch)
                for field, *expected in zip(batch, *batches, strict=True):
                    if field is None:
                        assert expected == [None] * len(members)
                    else:
                        for own, part in zip(expected, field, strict=True):
                            steps = own.shape[1] if own.dim() > 1 else None
                            assert own.equal(part if steps is None else part[:, :steps])
                            assert steps is None or part[:, steps:].le(0).all()
    return population


def additions(*seeds: int) -> list[SequenceDataModule]:
    return [Addition(sequence_length=7, train_size=50, val_size=9, test_size=9, batch_size=8, seed=k) for k in seeds]


@pytest.fixture(params=[None, "cpu"], ids=["where they are", "on a device"])
def held(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """The data are held as on a GPU, with the CPU in its place, or not."""
    device = request.param and torch.device(request.param)
    monkeypatch.setattr(PopulationDataModule, "_device", lambda self, sources: device)


@pytest.mark.usefixtures("held")
def test_members_with_data_of_their_own() -> None:
    assert_batches_are_the_members_own(additions(0, 3, 3))


@pytest.mark.usefixtures("held")
def test_members_whose_sequences_differ_in_length() -> None:
    members = [
        StimulusSelection(context="inferred", train_size=10, val_size=3, test_size=3, batch_size=4, seed=seed)
        for seed in range(3)
    ]
    assert_batches_are_the_members_own(members)
    assert len({member.dataset("val").data.inputs.shape[1] for member in members}) > 1  # type: ignore[union-attr]


@pytest.mark.usefixtures("held")
def test_the_same_data_in_orders_of_their_own() -> None:
    members = additions(0, 1, 0, 0)
    for member in members:
        member.setup("fit")
    members[2].seed = 5
    population = assert_batches_are_the_members_own(members)
    assert len(population.train_dataloader().dataset._datasets) == 2  # type: ignore[attr-defined]


def test_a_gpu_holds_data_that_are_small_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    population = PopulationDataModule(additions(0, 1, 0))
    population.setup("fit")
    size = sum(data_bytes(member) for member in additions(0, 1))
    trainer: Any = SimpleNamespace(strategy=SimpleNamespace(root_device=torch.device("cuda:1")))
    memory = {torch.device("cuda:1"): 4 * size}
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda gpu: SimpleNamespace(total_memory=memory[gpu]))
    sources = population._datasets["train"]
    assert population._device(sources) is None  # nobody trains it
    population.trainer = trainer
    assert population._device(sources) == torch.device("cuda:1")
    memory[torch.device("cuda:1")] -= 4
    assert population._device(sources) is None
    memory[torch.device("cuda:1")] *= 2
    assert population._device([Images().dataset("val")]) is None
    population.members[0].num_workers = 1
    assert population._device(sources) is None


def test_a_batch_needs_no_value_of_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    # which the GPU would have to be waited for; "meta" has none
    monkeypatch.setattr(PopulationDataModule, "_device", lambda self, sources: torch.device("meta"))
    population = PopulationDataModule(additions(0, 1, 0))
    population.setup("fit")
    for batch in population.train_dataloader():
        assert {field.device.type for field in batch if field is not None} == {"meta"}
    assert batch.inputs.shape == (3, 2, 7, 2)


@pytest.mark.usefixtures("held")
def test_new_data_in_each_epoch() -> None:
    # two of them have the same seed: their epochs are built once
    members = [MultiTask(train_size=40, val_size=8, test_size=8, batch_size=16, seed=k) for k in (1, 2, 1)]
    population = assert_batches_are_the_members_own(members, epochs=3)
    first, second, third = population._datasets["train"]
    assert isinstance(first, EpochDataset)
    assert first is third
    assert first is not second


@pytest.mark.usefixtures("held")
def test_data_in_common_are_held_once() -> None:
    population = assert_batches_are_the_members_own(
        [SequentialDigits(order="row", seed=k) for k in (0, 1, 0)], epochs=1
    )
    for split, (first, second, third) in population._datasets.items():
        assert first is third
        assert first is not second
        assert population.members[2].dataset(split) is first  # the module itself holds no copy


class Bytes(SequenceDataset):
    """Holds bytes and gives floats."""

    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        batch = super().__getitems__(indices)
        return batch._replace(inputs=batch.inputs.float() / 255)


class Images(SequentialDigits):
    """The digits as bytes, which have to be fetched."""

    fetched = 0

    def prepare_data(self) -> None:
        self.fetched += 1

    def dataset(self, split: Split) -> SequenceDataset | EpochDataset:
        if split not in self._datasets:
            batch = self.build(split)
            self._datasets[split] = Bytes(batch._replace(inputs=(255 * batch.inputs).round().to(torch.uint8)))
        return self._datasets[split]


def test_datasets_that_make_a_batch_from_what_they_hold() -> None:
    for seeds in ((0, 1), (0, 1, 0)):
        population = assert_batches_are_the_members_own([Images(order="row", seed=k) for k in seeds], epochs=1)
        for datasets in population._datasets.values():
            assert len(set(map(id, datasets))) == 2
    train, val = (population.members[0].dataset(split).data for split in ("train", "val"))  # type: ignore[union-attr]
    held = sum(field.nbytes for batch in (train, val) for field in batch if field is not None)
    assert data_bytes(population.members[0]) == held


class Clips(SequenceDataModule):
    """Clips that are mapped from a file."""

    def __init__(self, path: Path, rows: Sequence[int]) -> None:
        super().__init__(batch_size=1, num_workers=0, seed=0)
        self.path, self.rows = path, rows

    def dataset(self, split: Split) -> SequenceDataset | EpochDataset:
        if split not in self._datasets:
            mean, std = np.zeros(2, dtype=np.float32), np.ones((), dtype=np.float32)
            targets = np.zeros(len(self.rows), dtype=np.int64)
            features = np.load(self.path, mmap_mode="r")
            self._datasets[split] = ClipDataset(features, np.array(self.rows), targets, mean, std)
        return self._datasets[split]


def test_the_same_clips_of_a_file_are_held_once(tmp_path: Path) -> None:
    path = tmp_path / "clips.npy"
    np.save(path, np.arange(24, dtype=np.float16).reshape(4, 3, 2))
    population = assert_batches_are_the_members_own([Clips(path, rows) for rows in ([0, 1], [0, 2], [0, 1])])
    first, second, third = population._datasets["train"]
    assert first is third
    assert first is not second
    assert data_bytes(population.members[0]) < 200  # the file is none of the memory


def test_what_is_needed_is_fetched_once_for_each_module() -> None:
    one, other = Images(seed=0), Images(seed=1)
    PopulationDataModule([one, other, one]).prepare_data()
    assert (one.fetched, other.fetched) == (1, 1)


def test_a_resumed_epoch_goes_on_within_it() -> None:
    members = [Addition(sequence_length=7, train_size=50, batch_size=8, seed=k) for k in range(2)]
    population = PopulationDataModule(members)
    population.setup("fit")
    loader = population.train_dataloader()
    loader.sampler.set_epoch(0)  # type: ignore[attr-defined]
    expected = [batch.inputs for batch in loader][3:]
    again = population.train_dataloader()
    again.load_state_dict({"batches": 3})  # type: ignore[attr-defined]
    again.sampler.set_epoch(0)  # type: ignore[attr-defined]
    got = [batch.inputs for batch in again]
    assert len(got) == len(expected)
    assert all(one.equal(other) for one, other in zip(got, expected, strict=True))


def test_members_that_do_not_fit_together() -> None:
    with pytest.raises(ValueError, match="at least one member, got none"):
        PopulationDataModule([])
    with pytest.raises(ValueError, match=r"the same batch_size, got \[8, 16\]"):
        PopulationDataModule([Addition(batch_size=8), Addition(batch_size=16)])
    population = PopulationDataModule([Addition(train_size=50), Addition(train_size=60)])
    with pytest.raises(ValueError, match="the same number of sequences, got 50 for member 0 and 60 for 1"):
        population.setup("fit")
