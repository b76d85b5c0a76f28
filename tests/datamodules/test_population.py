"""Batches of a population against those of its members' own DataModules."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
import torch

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.datamodules import (
    Addition,
    ContextualIntegration,
    PopulationDataModule,
    SequenceDataModule,
    SequentialDigits,
)


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
            for batch, *own in zip(*loaders, strict=True):
                assert isinstance(batch, SequenceBatch)
                for field, *expected in zip(batch, *own, strict=True):
                    if field is None:
                        assert expected == [None] * len(members)
                    else:
                        assert field.equal(torch.stack(expected))
    return population


def test_members_with_data_of_their_own() -> None:
    assert_batches_are_the_members_own(
        [Addition(sequence_length=7, train_size=50, val_size=9, test_size=9, batch_size=8, seed=k) for k in (0, 3, 3)]
    )


def test_new_data_in_each_epoch() -> None:
    # two of them have the same seed: their epochs are built once
    members = [ContextualIntegration(variant="reference", train_size=40, batch_size=16, seed=k) for k in (1, 2, 1)]
    population = assert_batches_are_the_members_own(members, epochs=3)
    first, second, third = population._datasets["train"]
    assert first is third
    assert first is not second


def test_data_in_common_are_held_once() -> None:
    population = assert_batches_are_the_members_own(
        [SequentialDigits(order="row", seed=k) for k in (0, 1, 0)], epochs=1
    )
    for first, second, third in population._datasets.values():
        assert first is third
        assert first is not second
    members = population.members
    assert members[0].dataset("train") is members[2].dataset("train")  # which would be a copy otherwise


def test_one_module_for_all() -> None:
    data = Addition(sequence_length=7, train_size=50, val_size=9, test_size=9, batch_size=8)
    population = PopulationDataModule([data] * 3)
    population.setup("fit")
    batch = next(iter(population.train_dataloader()))
    assert batch.inputs[0].equal(batch.inputs[2])


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
