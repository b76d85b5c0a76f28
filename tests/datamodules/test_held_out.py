"""No sequence of validation or test occurs in training, by comparing the rows themselves."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.datamodules import Copy, MultiTask, SequenceDataModule, StimulusSelection, share_seen
from lightning_alrnn.datamodules.base import SPLITS
from lightning_alrnn.datamodules.held_out import divide_trials


def rows(data: SequenceDataModule, split: Split) -> set[bytes]:
    """The valid steps of each sequence."""
    batch = data.build(split)
    pairs = zip(batch.inputs, batch.lengths.tolist(), strict=True)
    return {inputs[:length].numpy().tobytes() for inputs, length in pairs}


@pytest.mark.parametrize(
    "data",
    [
        Copy(sequence_length=5, delay=20),  # that of copy_quick: 1,024 lists of symbols
        Copy(sequence_length=2, delay=0, train_size=300, seed=3),
        Copy(variant="variable_delay", sequence_length=3, delay=2, max_extra_delay=5, seed=1),
        Copy(variant="arjovsky", sequence_length=10, alphabet_size=8, delay=1),  # more lists than groups
        Copy(variant="delayed_recall", sequence_length=70, lag=3),
        StimulusSelection(seed=5),
        StimulusSelection(bin_ms=100),
        StimulusSelection(neural=True, units=3),
    ],
    ids=lambda data: f"{type(data).__name__}-{data.hparams.get('variant') or data.hparams.get('bin_ms')}",
)
def test_no_sequence_is_in_two_splits(data: SequenceDataModule) -> None:
    seen = {split: rows(data, split) for split in SPLITS}
    assert seen["train"].isdisjoint(seen["test"])
    assert seen["train"].isdisjoint(seen["val"])
    assert seen["val"].isdisjoint(seen["test"])
    assert share_seen(data) == share_seen(data, "val") == 0


@pytest.mark.parametrize("data", [Copy(sequence_length=5, delay=20, held_out=False), StimulusSelection(held_out=False)])
def test_drawn_independently_most_test_sequences_are_seen_in_training(data: SequenceDataModule) -> None:
    trained = rows(data, "train")
    batch = data.build("test")
    pairs = zip(batch.inputs, batch.lengths.tolist(), strict=True)
    expected = np.mean([inputs[:length].numpy().tobytes() in trained for inputs, length in pairs])
    assert share_seen(data) == pytest.approx(expected)
    assert expected > 0.8


def test_a_longer_sequence_with_the_same_beginning_is_another_one() -> None:
    class Ones(SequenceDataModule):
        def build(self, split: Split) -> SequenceBatch:
            lengths = torch.tensor([1, 2] if split == "train" else [2, 3])
            inputs = (torch.arange(3) < lengths[:, None]).float()[..., None]
            return SequenceBatch(inputs, torch.zeros(2, dtype=torch.int64), lengths)

    assert share_seen(Ones(1, 0, 0)) == 0.5


def test_odds_of_the_stimuli_are_the_same_whatever_is_held_out() -> None:
    size = 40_000
    shares = [
        torch.bincount(StimulusSelection(held_out=held, test_size=size).build("test").group, minlength=12) / size
        for held in (True, False)
    ]
    assert (shares[0] - shares[1]).abs().max() < 5 * (2 * 0.1 * 0.9 / size) ** 0.5


@pytest.mark.parametrize(("count", "part"), [(3, 1), (10, 1), (27, 2), (1024, 102)])
def test_each_possible_trial_belongs_to_one_split(count: int, part: int) -> None:
    masks = divide_trials(count, 7)
    assert (sum(mask.astype(int) for mask in masks.values()) == 1).all()
    assert masks["val"].sum() == masks["test"].sum() == part
    assert not np.array_equal(masks["test"], divide_trials(count, 8)["test"]) or count == 3
    assert not np.array_equal(divide_trials(1000, 7, 0)["test"], divide_trials(1000, 7, 1)["test"])


def test_too_few_trials_to_hold_some_out() -> None:
    with pytest.raises(ValueError, match=r"has 2 different trials.*use held_out=False"):
        Copy(sequence_length=1, alphabet_size=2, delay=0).build("train")


def test_amplitudes_of_both_modalities_are_equal_where_asked() -> None:
    """The sum of both modalities answers without the context only with the paper's amplitudes."""
    errors = {}
    for equal in (False, True):
        data = MultiTask(tasks=["CtxIntMod1", "CtxIntMod2"], equal_amplitudes=equal, train_size=2000)
        batch = data.build("train")
        shown = batch.inputs[:, 10, 1:5].view(-1, 2, 2)  # at step 10 the stimulus is on
        sizes = shown.norm(dim=2).sort(dim=1).values
        assert torch.allclose(sizes, torch.tensor([0.8 if equal else 0.3, 0.8]).expand_as(sizes))
        total = shown.sum(dim=1)
        angle = torch.atan2(total[:, 1], total[:, 0]) - torch.atan2(batch.targets[:, 2], batch.targets[:, 1])
        errors[equal] = torch.rad2deg(torch.atan2(angle.sin(), angle.cos()).abs())
    assert errors[False].max() < 22.1
    assert errors[True].median() > 40
