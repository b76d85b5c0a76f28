"""MNIST's handwritten digits read as sequences, from the official files."""

from __future__ import annotations

import gzip
import os
import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_alrnn.batch import AnyBatch, SequenceBatch, Split
from lightning_alrnn.datamodules.base import SequenceDataset, check_fraction, check_values, full_lengths, random_parts
from lightning_alrnn.datamodules.files import fetch, warn_if_fewer
from lightning_alrnn.datamodules.images import DigitsDataModule, Order

MIRRORS = (
    "https://ossci-datasets.s3.amazonaws.com/mnist/",
    "https://storage.googleapis.com/cvdf-datasets/mnist/",
)
"""Sources of the files, in the order in which they are tried."""

FILES = {
    "train-images-idx3-ubyte": "6bbc9ace898e44ae57da46a324031adb",
    "train-labels-idx1-ubyte": "a25bea736e30d166cdddb491f175f624",
    "t10k-images-idx3-ubyte": "2646ac647ad5339dbf082846283269ea",
    "t10k-labels-idx1-ubyte": "27ae3e4e09519cfbb04c329615203637",
}
"""The official files and the md5 of their decompressed bytes."""

_OFFICIAL = {"train": 60_000, "t10k": 10_000}
_MAGIC = 0x0800  # unsigned bytes; the number of dimensions is added
_MOST_BYTES = 1 << 30  # of a file that is read; the official ones have 47 MB


class SequentialMNIST(DigitsDataModule):
    """The 70,000 handwritten digits of MNIST, 28×28 pixels, read pixel by pixel or row by row.

    The four official files are read from ``<data_dir>/MNIST/raw``, with or without ``.gz``; see docs/tasks/smnist.md.

    Args:
        data_dir: Folder that contains ``MNIST/raw``.
        order: Order of the pixels: "pixel" (T=784, K=1), "row" (T=28, K=28) or "permuted" (one fixed random order).
        permutation_seed: Seed of the order of pixels for "permuted".
        download: Whether to fetch missing files (11 MB).
        val_fraction: Share of the training images that is held out for validation.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the validation share.

    Raises:
        ValueError: If an argument is out of range. When a split is built, if a file is damaged.
        FileNotFoundError: When a split is built, if a file is missing.
        ConnectionError: By :meth:`prepare_data`, if a file cannot be fetched.

    Shapes:
        inputs ``(batch, T, K)``, targets ``(batch,)`` from 0 to 9; classification at the last step.

    Example:
        >>> SequentialMNIST(order="permuted").permutation[:4]
        array([318,   2, 606, 446])
    """

    side = 28

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = "data",
        order: Order = "pixel",
        permutation_seed: int = 0,
        download: bool = False,
        val_fraction: float = 0.1,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(order, permutation_seed, batch_size, num_workers, seed)
        check_fraction("val_fraction", val_fraction)
        data_dir = os.fspath(data_dir)
        self.folder = Path(data_dir) / "MNIST" / "raw"
        self.download = download
        self.val_fraction = val_fraction
        self.save_hyperparameters()

    def prepare_data(self) -> None:
        if self.download:
            for name in FILES:
                if not any(path.is_file() for path in _candidates(self.folder, name)):
                    _fetch(name, self.folder)

    def build(self, split: Split) -> AnyBatch:
        images = _ImageDataset(self._bytes(split))
        return images.__getitems__(range(len(images)))

    def dataset(self, split: Split) -> SequenceDataset:
        if split not in self._datasets:
            self._datasets[split] = _ImageDataset(self._checked(split, self._bytes(split)))
        return self._datasets[split]  # type: ignore[return-value]

    def _bytes(self, split: Split) -> SequenceBatch:
        images, labels = read_digits(self.folder, "t10k" if split == "test" else "train")
        if split != "test":
            size = round(len(images) * self.val_fraction)
            val, train = random_parts(size, len(images), seed=self.seed, split="val")
            index = val if split == "val" else train
            images, labels = images[index], labels[index]
        inputs = torch.from_numpy(self._as_sequences(images))
        return SequenceBatch(inputs, torch.from_numpy(labels).long(), full_lengths(inputs))


class _ImageDataset(SequenceDataset):
    """Images stored as bytes, a quarter of the memory of floats; batches have floats from 0 to 1."""

    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        batch = super().__getitems__(indices)
        return batch._replace(inputs=batch.inputs.float() / 255)


def read_digits(folder: Path, part: str) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """Images of a part ("train" or "t10k"), shape ``(images, 28, 28)``, and labels, shape ``(images,)``."""
    paths = [_find(folder, name) for name in FILES if name.startswith(part)]
    images, labels = (read_idx(path, dimensions) for path, dimensions in zip(paths, (3, 1), strict=True))
    if images.shape[1:] != (28, 28):
        raise ValueError(f"{paths[0]} must hold images of 28×28 pixels, got {images.shape[1:]}: fetch it again")
    if len(images) == 0:
        raise ValueError(f"{paths[0]} has no images: fetch the file again")
    if len(images) != len(labels):
        raise ValueError(f"{paths[0]} has {len(images)} images, but there are {len(labels)} labels: fetch both again")
    check_values(str(paths[1]), labels <= 9, labels, "hold labels from 0 to 9", "fetch the file again")
    warn_if_fewer(paths[0], len(images), _OFFICIAL[part], "images")
    return images, labels


def read_idx(path: Path, dimensions: int) -> NDArray[np.uint8]:
    """Read an IDX file of bytes, compressed or not: a magic number, the sizes of the dimensions, the values."""
    advice = f"remove {path} and fetch it again"
    start = 4 + 4 * dimensions
    try:
        with gzip.open(path) if path.suffix == ".gz" else path.open("rb") as file:
            header = file.read(start)
            magic = int.from_bytes(header[:4], "big")
            if len(header) < 4 or magic != _MAGIC + dimensions:
                raise ValueError(
                    f"{path} must be an IDX file of bytes in {dimensions} dimensions, which begins with "
                    f"{_MAGIC + dimensions:08x}, but begins with {header[:4].hex() or 'nothing'}: {advice}"
                )
            shape = [int.from_bytes(header[at : at + 4], "big") for at in range(4, start, 4)]
            expected = start + int(np.prod(shape, dtype=object))
            if expected > _MOST_BYTES:
                raise ValueError(
                    f"{path} of shape {tuple(shape)} would have {expected:,} bytes, but at most {_MOST_BYTES:,} are "
                    f"read: {advice}"
                )
            content = file.read(expected - start)
            longer = len(file.read(1)) > 0
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path} is not a complete gzip file ({error}): {advice}") from error
    if longer or len(header) + len(content) != expected:
        got = "more" if longer else len(header) + len(content)
        raise ValueError(f"{path} of shape {tuple(shape)} must have {expected} bytes, got {got}: {advice}")
    return np.frombuffer(content, np.uint8).reshape(shape).copy()


def _candidates(folder: Path, name: str) -> tuple[Path, Path]:
    return folder / name, folder / f"{name}.gz"


def _find(folder: Path, name: str) -> Path:
    for path in _candidates(folder, name):
        if path.is_file():
            return path
    raise FileNotFoundError(
        f"there is no {name} or {name}.gz in {folder.absolute()}: put the official files {', '.join(FILES)} there "
        "(with or without .gz), set data_dir to the folder with MNIST/raw, or set download=True to fetch them"
    )


def _fetch(name: str, folder: Path) -> None:
    errors = []
    for mirror in MIRRORS:
        try:
            return fetch(f"{mirror}{name}.gz", folder / f"{name}.gz", md5=FILES[name], decompressed=True)
        except (ConnectionError, ValueError) as error:
            errors.append(error)
    raise ConnectionError(" ".join(map(str, errors))) from errors[-1]
