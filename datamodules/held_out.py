"""Which possible trials are held out for validation and testing, and which share of a split occurs in training."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.batch import AnyBatch, Split, valid_steps
from lightning_alrnn.datamodules.base import SPLITS, SequenceDataModule, chunks

_STREAM = len(SPLITS) + 2  # not the streams of the trials, of the order of training and of the simulated units


def divide_trials(count: int, *key: int) -> dict[Split, NDArray[np.bool_]]:
    """Masks over ``count`` possible trials: a random tenth each for testing and validation, the others for training.

    Args:
        count: Number of possible trials.
        key: Seed of the data, and further numbers if there are several divisions.

    Raises:
        ValueError: If there are fewer than three trials.
    """
    if count < len(SPLITS):
        raise ValueError(
            f"the task has {count} different trials, and each of {len(SPLITS)} splits needs one of its own: use "
            "held_out=False to draw all splits from the same trials"
        )
    seed, *others = key
    order = np.random.default_rng((seed, _STREAM, *others)).permutation(count)
    part = max(1, count // 10)
    place = np.argsort(order)
    return {"train": place >= 2 * part, "val": (place >= part) & (place < 2 * part), "test": place < part}


def share_seen(data: SequenceDataModule, split: Split = "test") -> float:
    """Return the share of the sequences of a split that also occur in training, with the same inputs and length.

    If training data are drawn anew in each epoch, those of the first epoch count.

    Args:
        data: DataModule whose splits are compared.
        split: Name of the split, "val" or "test".

    Returns:
        A number from 0 to 1.

    Example:
        >>> from lightning_alrnn.datamodules import Copy
        >>> share_seen(Copy(sequence_length=2, delay=3, held_out=False)), share_seen(Copy(sequence_length=2, delay=3))
        (1.0, 0.0)
    """
    codes = {part: _codes(data, part) for part in ("train", split)}
    return float(np.isin(codes[split], codes["train"]).mean())


def _codes(data: SequenceDataModule, split: Split) -> NDArray[np.int64]:
    """A number for each sequence of a split, equal for equal sequences, and for others once in 10¹⁸ pairs or so."""
    dataset = data.dataset(split)
    return np.concatenate([_code(batch).numpy() for batch in chunks(dataset, dataset[0])])


def _code(batch: AnyBatch) -> Tensor:
    inputs = batch.inputs.flatten(2) if batch.inputs.ndim > 2 else batch.inputs.unsqueeze(-1)
    bits = (inputs.float() + 0.0).view(torch.int32).long()  # −0 becomes 0
    weights = np.random.default_rng(0).integers(-(2**62), 2**62, (bits.shape[1] + 1) * bits.shape[2]) * 2 + 1
    by_step = torch.from_numpy(weights).view(-1, bits.shape[2])
    valid = valid_steps(batch.lengths, bits.shape[1]).unsqueeze(-1)
    # int64 wraps around, so the order of the sum does not matter
    return (bits * by_step[:-1] * valid).sum(dim=(1, 2)) + batch.lengths * by_step[-1, 0]
