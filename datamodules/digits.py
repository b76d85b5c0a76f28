"""Handwritten digits read as sequences, from the images that scikit-learn carries."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.datamodules.base import check_fractions, full_lengths
from lightning_alrnn.datamodules.images import DigitsDataModule, Order

_IMAGES = 1_797
_SMALLEST_SHARE = 0.01  # 18 of the images


class SequentialDigits(DigitsDataModule):
    """The 1,797 handwritten digits of scikit-learn, 8×8 pixels, read row by row or pixel by pixel.

    The images come with scikit-learn, so there is no download. See docs/tasks/digits.md.

    Args:
        order: Order of the pixels: "row" (T=8, K=8), "pixel" (T=64, K=1) or "permuted" (one fixed random order).
        permutation_seed: Seed of the order of pixels for "permuted".
        val_fraction: Share of the images for validation.
        test_fraction: Share of the images for testing.
        train_size: Number of training images, the first of a random order; ``None`` for all that are left.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the split.

    Raises:
        ValueError: If an argument is out of range, or a split would lack one of the ten digits.

    Shapes:
        inputs ``(batch, T, K)``, targets ``(batch,)`` from 0 to 9; classification at the last step.

    Example:
        >>> batch = SequentialDigits(order="row").build("test")
        >>> batch.inputs.shape, int(batch.targets.max())
        (torch.Size([270, 8, 8]), 9)
    """

    side = 8

    def __init__(
        self,
        order: Order = "row",
        permutation_seed: int = 0,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        train_size: int | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(order, permutation_seed, batch_size, num_workers, seed)
        check_fractions(val_fraction, test_fraction)
        smallest = min(val_fraction, test_fraction, 1 - val_fraction - test_fraction)
        if smallest < _SMALLEST_SHARE:
            raise ValueError(f"each split must have at least {_SMALLEST_SHARE} of the images, got {smallest:.3g}")
        left = round((1 - val_fraction - test_fraction) * _IMAGES)
        if train_size is not None and not 1 <= train_size <= left:
            raise ValueError(f"train_size must lie between 1 and the {left} images for training, got {train_size}")
        self.train_size = train_size
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.save_hyperparameters()

    def build(self, split: Split) -> SequenceBatch:
        from sklearn.datasets import load_digits  # takes a second, which commands with other data need not wait

        digits = load_digits()
        index = np.arange(len(digits.target))
        rest, test = self._divide(index, digits.target, self.test_fraction)
        train, val = self._divide(rest, digits.target[rest], self.val_fraction / (1 - self.test_fraction))
        index = {"train": train[: self.train_size], "val": val, "test": test}[split]
        images = digits.images[index].astype(np.float32) / 16
        inputs = torch.from_numpy(np.ascontiguousarray(self._as_sequences(images)))
        return SequenceBatch(inputs, torch.from_numpy(digits.target[index]).long(), full_lengths(inputs))

    def _divide(self, index: NDArray[Any], classes: NDArray[Any], share: float) -> list[NDArray[Any]]:
        from sklearn.model_selection import train_test_split

        return train_test_split(index, test_size=share, stratify=classes, random_state=self.seed)  # type: ignore[no-any-return]
