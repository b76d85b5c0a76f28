"""Images read as sequences."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["row", "pixel", "permuted"]
"""Order of the pixels: row by row, pixel by pixel, or in one fixed random order."""


def pixel_permutation(pixels: int, seed: int) -> NDArray[np.int64]:
    """The pixel of each step in "permuted"."""
    return np.random.default_rng(seed).permutation(pixels)


def read_images(images: NDArray[Any], order: Order, permutation: NDArray[np.int64]) -> NDArray[Any]:
    """Images as sequences, shape ``(images, height, width)`` by row, ``(images, height · width, 1)`` by pixel."""
    if order == "row":
        return images
    pixels = images.reshape(len(images), images.shape[1] * images.shape[2])
    return (pixels[:, permutation] if order == "permuted" else pixels)[..., None]
