"""Images read as sequences."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Order = Literal["row", "pixel", "permuted"]
"""How an image is read: row by row, pixel by pixel, or its pixels in one fixed random order."""


def pixel_permutation(pixels: int, seed: int) -> NDArray[np.int64]:
    """The order in which "permuted" reads the pixels of an image: entry t is the pixel of step t."""
    return np.random.default_rng(seed).permutation(pixels)


def read_images(images: NDArray[Any], order: Order, permutation: NDArray[np.int64]) -> NDArray[Any]:
    """Images as sequences: shape ``(images, height, width)`` by row, ``(images, height · width, 1)`` by pixel.

    Example:
        >>> image = np.array([[[1, 2], [3, 4]]])
        >>> read_images(image, "permuted", np.array([3, 0, 1, 2]))[0, :, 0]
        array([4, 1, 2, 3])
    """
    if order == "row":
        return images
    pixels = images.reshape(len(images), images.shape[1] * images.shape[2])
    return (pixels[:, permutation] if order == "permuted" else pixels)[..., None]
