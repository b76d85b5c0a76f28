"""Images of digits read as sequences."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.datamodules.base import SequenceDataModule, check_choice, check_size

Order = Literal["row", "pixel", "permuted"]  # row by row, pixel by pixel, or in one fixed random order


class DigitsDataModule(SequenceDataModule):
    """Images of the ten digits, ``side`` pixels wide and high, read as sequences."""

    side: int
    output_size = 10
    objective = "classification"
    target_step = "last"

    def __init__(self, order: Order, permutation_seed: int, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        check_choice("order", order, Order)
        check_size("permutation_seed", permutation_seed, 0)
        self.order = order
        self.permutation_seed = permutation_seed
        self.input_size = self.side if order == "row" else 1
        self.input_names = [f"column {k}" for k in range(1, self.side + 1)] if order == "row" else ["pixel"]
        self.class_names = [str(digit) for digit in range(10)]

    @property
    def permutation(self) -> NDArray[np.int64]:
        """Order of the pixels for "permuted", shape ``(pixels,)``."""
        return np.random.default_rng(self.permutation_seed).permutation(self.side**2)

    def _as_sequences(self, images: NDArray[Any]) -> NDArray[Any]:
        if self.order == "row":
            return images
        pixels = images.reshape(len(images), self.side**2)
        return (pixels[:, self.permutation] if self.order == "permuted" else pixels)[..., None]
