"""Recorded trials of one's own as a ``.npz`` archive of plain arrays."""

from __future__ import annotations

import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

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

    The archive has the trials in a row, because an array of arrays of different lengths would be a pickle: ``spikes``
    (ΣT, N), ``inputs`` (ΣT, K) and ``lengths`` (trials,) with the sum ΣT, and ``labels``, ``group`` and ``block``
    (trials,).

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
        >>> rng = np.random.default_rng(0)
        >>> steps = rng.integers(5, 9, 12)
        >>> save_trials(
        ...     "trials.npz", [rng.poisson(0.3, (t, 4)) for t in steps], [rng.random((t, 2)) for t in steps],
        ...     labels=["left", "right", "no-go"] * 4, block=np.arange(12) // 2,
        ... )  # doctest: +SKIP
    """
    lengths = [len(np.asarray(trial)) for trial in spikes]
    input_lengths = [len(np.asarray(trial)) for trial in inputs]
    if lengths != input_lengths:
        raise ValueError(
            f"spikes and inputs of each trial must have the same number of bins, got {lengths[:5]} … and "
            f"{input_lengths[:5]} …"
        )
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
    arrays = _load(path)
    lengths = _whole(path, "lengths", arrays["lengths"], minimum=1)
    count, total = len(lengths), int(lengths.sum())
    if count == 0:
        raise ValueError(f"{path}: lengths is empty, expected one number of bins for each trial")
    for name in ("spikes", "inputs"):
        if arrays[name].ndim != 2 or len(arrays[name]) != total or arrays[name].shape[1] == 0:
            channels = "N units" if name == "spikes" else "K channels"
            raise ValueError(
                f"{path}: {name} must be ({total}, {channels}), the bins of all trials in a row with the given "
                f"lengths, got {arrays[name].shape}; save_trials writes this form"
            )
        if arrays[name].dtype.kind not in "biuf":
            raise ValueError(f"{path}: {name} must hold numbers, got {arrays[name].dtype}")
    per_trial = {name: arrays[name] for name in ("labels", *_OPTIONAL) if name in arrays}
    for name, array in per_trial.items():
        if array.shape != (count,):
            raise ValueError(f"{path}: {name} must have shape ({count},), one for each trial, got {array.shape}")
    labels, class_names = _codes(path, "labels", per_trial["labels"])
    group, group_names = _codes(path, "group", per_trial["group"]) if "group" in per_trial else (None, None)
    block = np.unique(per_trial.get("block", np.arange(count)), return_inverse=True)[1]
    classes = len(class_names) if class_names is not None else int(labels.max()) + 1
    if classes < 2:
        raise ValueError(f"{path}: labels have only one choice, expected at least two")
    valid = np.arange(lengths.max()) < lengths[:, None]
    spikes = compact_counts(_whole(path, "spikes", arrays["spikes"], minimum=0))
    return RecordedTrials(
        _pad(spikes, valid),
        _pad(arrays["inputs"].astype(np.float32), valid),
        lengths,
        labels,
        classes,
        class_names,
        group,
        group_names,
        block.astype(np.int64),
        np.zeros(count, dtype=np.int64),
    )


def _load(path: Path) -> dict[str, Array]:
    advice = "lightning_alrnn.datamodules.save_trials writes it"
    with path.open("rb") as file:  # np.load would leave a broken archive open
        try:
            archive = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(f"{path} is not a .npz archive of arrays ({error}); {advice}") from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError(f"{path} is a single array, expected an archive; {advice}")
        names = (*_NEEDED, *_OPTIONAL)
        if not set(_NEEDED) <= set(archive.files) <= set(names):
            raise ValueError(
                f"{path} must have {', '.join(_NEEDED)} and may have {' and '.join(_OPTIONAL)}, got "
                f"{', '.join(archive.files) or 'nothing'}; {advice}"
            )
        arrays = {}
        for name in archive.files:
            try:
                arrays[name] = archive[name]
            except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
                if "allow_pickle" in str(error):
                    raise TypeError(
                        f"{path}: {name} has Python objects, a pickle, which could run any code and is never loaded. "
                        "Save trials of different lengths as one array with lengths; " + advice
                    ) from error
                raise ValueError(f"{path}: {name} cannot be read ({error}); {advice}") from error
    return arrays


def _whole(path: Path, name: str, array: Array, minimum: int) -> NDArray[np.int64]:
    """Whole numbers, which floats may hold too."""
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {name} must be whole numbers, got {array.dtype}")
    wrong = ~np.isfinite(array) | (array != np.floor(array)) | (array < minimum) | (array >= 2**31)
    if wrong.any():
        index = np.argwhere(wrong)[0].tolist()
        raise ValueError(
            f"{path}: {name} must be whole numbers from {minimum}, got {array[tuple(index)]} at index {index}"
        )
    return np.asarray(array, dtype=np.int64)


def _codes(path: Path, name: str, values: Array) -> tuple[NDArray[np.int64], list[str] | None]:
    """Numbers from 0, and their names where they are text."""
    if values.dtype.kind == "U":
        names, codes = np.unique(values, return_inverse=True)
        return codes.astype(np.int64), [str(each) for each in names]
    return _whole(path, name, values, minimum=0), None


def _pad(rows: Array, valid: NDArray[np.bool_]) -> Array:
    padded = np.zeros((*valid.shape, rows.shape[1]), rows.dtype)
    padded[valid] = rows
    return padded
