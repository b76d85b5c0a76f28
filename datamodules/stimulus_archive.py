"""The user's own recorded trials as a ``.npz`` archive of plain arrays."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from lightning_alrnn.datamodules.base import check_values
from lightning_alrnn.datamodules.files import read_npz
from lightning_alrnn.datamodules.stimulus_trials import RecordedTrials, compact_counts

Array: TypeAlias = NDArray[Any]

_NEEDED = ("spikes", "inputs", "lengths", "labels")
_OPTIONAL = ("group", "block")


def save_trials(
    path: str | os.PathLike[str],
    spikes: Sequence[ArrayLike],
    inputs: Sequence[ArrayLike],
    labels: ArrayLike,
    group: ArrayLike | None = None,
    block: ArrayLike | None = None,
) -> None:
    """Save recorded trials as a ``.npz`` archive that :class:`StimulusSelection` reads.

    The archive has the trials one after the other: ``spikes`` (ΣT, N), ``inputs`` (ΣT, K), and ``lengths``, ``labels``,
    ``group`` and ``block`` (trials,).

    Args:
        path: Path of the archive.
        spikes: Spike counts of each trial in each bin, shape ``(T_i, N)``.
        inputs: Inputs of each trial, shape ``(T_i, K)``.
        labels: Choice of each trial, shape ``(trials,)``: whole numbers from 0, or text.
        group: Condition of each trial, shape ``(trials,)``: whole numbers from 0, or text.
        block: Block of each trial, shape ``(trials,)``: whole numbers or text. The trials of a block are never divided
            between training, validation and test. ``None`` makes each trial its own block.

    Raises:
        ValueError: If the spikes and the inputs of a trial differ in length.

    Example:
        >>> spikes, inputs = [np.ones((5, 4)), np.ones((8, 4))], [np.ones((5, 2)), np.ones((8, 2))]
        >>> save_trials("trials.npz", spikes, inputs, labels=["left", "right"])  # doctest: +SKIP
    """
    lengths, input_lengths = ([len(np.asarray(trial)) for trial in trials] for trials in (spikes, inputs))
    if lengths != input_lengths:
        got = f"{lengths[:5]} … and {input_lengths[:5]} …"
        raise ValueError(f"spikes and inputs of each trial must have the same number of bins, got {got}")
    optional = {name: array for name, array in (("group", group), ("block", block)) if array is not None}
    np.savez_compressed(
        path,
        allow_pickle=False,
        spikes=np.concatenate([np.asarray(trial) for trial in spikes]),
        inputs=np.concatenate([np.asarray(trial) for trial in inputs]),
        lengths=np.array(lengths),
        labels=np.asarray(labels),
        **{name: np.asarray(array) for name, array in optional.items()},
    )


def read_archive(path: Path) -> RecordedTrials:
    """Read and check what :func:`save_trials` writes."""
    arrays = read_npz(path, _NEEDED, _OPTIONAL, "lightning_alrnn.datamodules.save_trials writes such archives")
    lengths = _whole(path, "lengths", arrays["lengths"], minimum=1)
    count, total = len(lengths), int(lengths.sum())
    if count == 0:
        raise ValueError(f"{path}: lengths is empty, expected one number of bins for each trial")
    for name, channels in (("spikes", "N units"), ("inputs", "K channels")):
        if arrays[name].ndim != 2 or len(arrays[name]) != total or arrays[name].shape[1] == 0:
            got = f"got {arrays[name].shape}; save_trials writes this form"
            raise ValueError(f"{path}: {name} must be ({total}, {channels}), with the bins of all trials, {got}")
        if arrays[name].dtype.kind not in "biuf":
            raise ValueError(f"{path}: {name} must hold numbers, got {arrays[name].dtype}")
    for name in ("labels", *_OPTIONAL):
        if name in arrays and arrays[name].shape != (count,):
            raise ValueError(f"{path}: {name} must have shape ({count},), one for each trial, got {arrays[name].shape}")
    labels, class_names = _codes(path, "labels", arrays["labels"])
    group, group_names = _codes(path, "group", arrays["group"]) if "group" in arrays else (None, None)
    classes = len(class_names) if class_names is not None else int(labels.max()) + 1
    if classes < 2:
        raise ValueError(f"{path}: labels have only one choice, expected at least two")
    valid = np.arange(lengths.max()) < lengths[:, None]
    return RecordedTrials(
        spikes=_pad(compact_counts(_whole(path, "spikes", arrays["spikes"])), valid),
        inputs=_pad(arrays["inputs"].astype(np.float32), valid),
        lengths=lengths,
        labels=labels,
        classes=classes,
        class_names=class_names,
        group=group,
        group_names=group_names,
        block=np.unique(arrays.get("block", np.arange(count)), return_inverse=True)[1],
        kind=np.zeros(count, dtype=np.int64),
    )


def _whole(path: Path, name: str, array: Array, minimum: int = 0) -> NDArray[np.int64]:
    """Whole numbers, which may be stored as floats."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {name} must be whole numbers, got {array.dtype}")
    correct = (array == np.floor(array)) & (array >= minimum) & (array < 2**31)  # NaN is not
    check_values(f"{path}: {name}", correct, array, f"be whole numbers from {minimum}")
    return np.asarray(array, dtype=np.int64)


def _codes(path: Path, name: str, values: Array) -> tuple[NDArray[np.int64], list[str] | None]:
    """Numbers from 0, and their names if they are texts."""
    if values.dtype.kind == "U":
        names, codes = np.unique(values, return_inverse=True)
        return codes, [str(each) for each in names]
    return _whole(path, name, values), None


def _pad(rows: Array, valid: NDArray[np.bool_]) -> Array:
    padded = np.zeros((*valid.shape, rows.shape[1]), rows.dtype)
    padded[valid] = rows
    return padded
