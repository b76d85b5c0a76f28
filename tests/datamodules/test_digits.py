"""Handwritten digits as sequences."""

from collections import Counter

import numpy as np
import pytest
import torch
from sklearn.datasets import load_digits

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.datamodules import SequentialDigits
from lightning_alrnn.datamodules.base import SPLITS


def labelled(batch: SequenceBatch) -> list[tuple[bytes, int]]:
    """Each image as bytes, with its class."""
    images = batch.inputs.reshape(len(batch.inputs), 64)
    return [(image.numpy().tobytes(), int(label)) for image, label in zip(images, batch.targets, strict=True)]


@pytest.mark.parametrize(("order", "shape"), [("row", (8, 8)), ("pixel", (64, 1)), ("permuted", (64, 1))])
def test_shapes(order, shape: tuple[int, int]) -> None:
    data = SequentialDigits(order=order)
    assert (data.input_size, data.output_size) == (shape[1], 10)
    assert (data.objective, data.target_step) == ("classification", "last")
    assert data.class_names == list("0123456789")
    batch = data.build("val")
    assert batch.inputs.shape[1:] == shape
    assert batch.inputs.dtype == torch.float32
    assert batch.targets.dtype == torch.int64
    assert (batch.lengths == shape[0]).all()
    assert float(batch.inputs.min()) == 0
    assert float(batch.inputs.max()) == 1


@pytest.mark.parametrize("seed", [0, 1])
@pytest.mark.parametrize("fractions", [(0.15, 0.15), (0.3, 0.1), (0.02, 0.5)])
def test_splits_are_disjoint_exhaustive_and_stratified(seed: int, fractions: tuple[float, float]) -> None:
    val, test = fractions
    data = SequentialDigits(val_fraction=val, test_fraction=test, seed=seed)
    batches = {split: data.build(split) for split in SPLITS}
    digits = load_digits()
    images = [
        ((image / 16).astype(np.float32).tobytes(), int(label))
        for image, label in zip(digits.images, digits.target, strict=True)
    ]
    # as multisets: each image with its own class, in exactly one split
    assert sum((Counter(labelled(batch)) for batch in batches.values()), Counter()) == Counter(images)
    for split, share in (("train", 1 - val - test), ("val", val), ("test", test)):
        assert len(batches[split].targets) == pytest.approx(1797 * share, abs=2)
        counts = np.bincount(batches[split].targets, minlength=10)
        assert np.abs(counts - np.bincount(digits.target) * share).max() < 2


def test_pixel_is_row_read_out_and_permuted_one_fixed_permutation_of_it() -> None:
    data = SequentialDigits(order="permuted")
    assert sorted(data.permutation) == list(range(64))
    for split in SPLITS:
        row, pixel = (SequentialDigits(order=order).build(split) for order in ("row", "pixel"))
        assert torch.equal(row.inputs.reshape(-1, 64, 1), pixel.inputs)
        permuted = data.build(split)
        assert torch.equal(permuted.inputs, pixel.inputs[:, data.permutation])
        assert torch.equal(permuted.targets, pixel.targets)
        assert torch.equal(row.targets, pixel.targets)
    other = SequentialDigits(order="permuted", permutation_seed=1)
    assert not np.array_equal(data.permutation, other.permutation)
    assert np.array_equal(data.permutation, SequentialDigits(order="permuted", seed=7).permutation)


def test_the_seed_decides_the_split() -> None:
    first, again, other = (labelled(SequentialDigits(seed=seed).build("test")) for seed in (0, 0, 1))
    assert first == again
    assert first != other


@pytest.mark.parametrize("fractions", [(0.01, 0.01), (0.49, 0.499)])
def test_smallest_splits(fractions: tuple[float, float]) -> None:
    data = SequentialDigits(val_fraction=fractions[0], test_fraction=fractions[1])
    for split in SPLITS:
        assert set(data.build(split).targets.tolist()) == set(range(10))


def test_fewer_training_images_are_the_first_and_leave_the_other_splits() -> None:
    few, all_images = SequentialDigits(train_size=100, seed=3), SequentialDigits(seed=3)
    assert torch.equal(few.build("train").inputs, all_images.build("train").inputs[:100])
    assert torch.equal(few.build("test").inputs, all_images.build("test").inputs)
    with pytest.raises(ValueError, match="train_size must lie between 1 and the 1258 images"):
        SequentialDigits(train_size=1300)
