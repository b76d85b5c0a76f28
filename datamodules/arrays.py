"""The user's own data: arrays in memory or in files."""

from __future__ import annotations

import os
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.batch import Objective, SequenceBatch, Split, TargetStep
from lightning_alrnn.datamodules.base import (
    SPLITS,
    SequenceDataModule,
    check_choice,
    check_classes,
    check_finite,
    check_fractions,
    check_size,
    full_lengths,
)
from lightning_alrnn.metrics.criteria import find_criterion

# arrays and tensors hide behind Any: spelled out, the command line would offer their classes for construction
Source: TypeAlias = str | list[Any] | Any
Array: TypeAlias = NDArray[Any]

_INDEX: dict[Split, str] = {"train": "train_index", "val": "val_index", "test": "test_index"}


class Arrays(SequenceDataModule):
    """Your own sequences, or one long recording.

    Each array may be a NumPy array, a tensor, a list or the path of a ``.npy`` file. ``inputs`` may also be the path of
    a ``.npz`` archive with any of the other arrays under the names of the arguments. The type and the shape of the
    targets decide between classification and regression, at the last or at every step; see docs/tasks/arrays.md. A
    recording without targets is cut into windows whose targets are the next steps.

    Args:
        inputs: Numbers ``(N, T, K)``, integer tokens from 0 ``(N, T)``, a list of N arrays ``(T_i, K)`` or ``(T_i,)``,
            or one recording ``(T, N)`` of floats without targets.
        targets: Classes or values, ``(N,)``, ``(N, T)``, ``(N, O)`` or ``(N, T, O)``; for sequences of different
            lengths also a list of N arrays ``(T_i,)`` or ``(T_i, O)``. ``None`` for a recording.
        lengths: Number of valid steps of each sequence, ``(N,)`` integers from 1 to T. The default is T, or the T_i of
            a list.
        mask: Weight of each step in the loss, ``(N, T)`` numbers or bool, for targets at every step.
        group: Condition or task of each sequence, ``(N,)`` integers from 0, bool or text.
        phase: Phase of the trial at each step, such as stimulus or delay, ``(N, T)`` integers from 0, bool or text, or
            a list of N arrays ``(T_i,)``. Steps with a negative number or an empty text belong to no phase.
        objective: Kind of task, "classification" or "regression", if the type of the targets does not decide it (for
            example for counts).
        target_step: Steps with targets, "last" or "every", if the shape does not decide it: floats ``(N, T)`` are
            either one output at every step or T outputs at the last step.
        num_classes: Number of classes. The default is the highest target + 1.
        criterion: Name of the rule by which a trial of a regression is correct, such as "sign"; one of
            :data:`lightning_alrnn.metrics.CRITERIA`.
        window: Number of steps of the windows that a recording is cut into.
        val_fraction: Share of the sequences, or of the time of a recording, for validation.
        test_fraction: Share of the sequences, or of the time of a recording, for testing.
        train_index: Indices of the training sequences, instead of the fractions. Pass all three indices or none.
        val_index: Indices of the validation sequences.
        test_index: Indices of the test sequences.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the random split.

    Raises:
        FileNotFoundError: If a path does not lead to a file.
        TypeError: If an array has Python objects, or a type that does not fit its meaning.
        ValueError: If shapes disagree, a value is out of range, a split is empty or indices overlap. When a split is
            built, if inputs are NaN or infinite.

    Shapes:
        inputs ``(batch, T, K)`` float32 or ``(batch, T)`` int64; targets ``(batch,)`` or ``(batch, T)`` int64,
        ``(batch, O)`` or ``(batch, T, O)`` float32.

    Example:
        >>> rng = np.random.default_rng(0)
        >>> data = Arrays([rng.normal(size=(steps, 3)) for steps in (5, 9, 7, 4)], targets=["left", "right"] * 2)
        >>> data.input_size, data.objective, data.target_step, data.class_names
        (3, 'classification', 'last', ['left', 'right'])
        >>> data.build("train").inputs.shape
        torch.Size([2, 9, 3])

        >>> recording = Arrays(rng.normal(size=(1000, 20)), window=50)
        >>> batch = recording.build("train")
        >>> batch.inputs.shape, bool((batch.targets[:, :-1] == batch.inputs[:, 1:])[:-1].all())
        (torch.Size([14, 50, 20]), True)
    """

    def __init__(
        self,
        inputs: Source,
        targets: Source | None = None,
        lengths: Source | None = None,
        mask: Source | None = None,
        group: Source | None = None,
        phase: Source | None = None,
        objective: Objective | None = None,
        target_step: TargetStep | None = None,
        num_classes: int | None = None,
        criterion: str | None = None,
        window: int = 100,
        val_fraction: float = 0.15,
        test_fraction: float = 0.15,
        train_index: Source | None = None,
        val_index: Source | None = None,
        test_index: Source | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        if objective is not None:
            check_choice("objective", objective, Objective)
        if target_step is not None:
            check_choice("target_step", target_step, TargetStep)
        if num_classes is not None:
            check_size("num_classes", num_classes, 2)
            num_classes = int(num_classes)  # as a NumPy integer it would keep the checkpoint from loading
        if criterion is not None:
            find_criterion(criterion)
        check_size("window", window)
        check_fractions(val_fraction, test_fraction)
        self.window = window
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self._asked = _Asked(objective, target_step, num_classes)
        self._given: dict[str, Source] = {
            "inputs": inputs,
            "targets": targets,
            "lengths": lengths,
            "mask": mask,
            "group": group,
            "phase": phase,
            "train_index": train_index,
            "val_index": val_index,
            "test_index": test_index,
        }
        # A checkpoint keeps the paths, never arrays. Loggers get none of it: `objective` and `target_step` as asked for
        # (None, mostly) would clash with the model's.
        self.save_hyperparameters(ignore=list(self._given), logger=False)
        paths = {
            name: os.fspath(source) for name, source in self._given.items() if isinstance(source, (str, os.PathLike))
        }
        self.hparams.update(paths)

        self._loaded: _Sequences | _Recording | None = None
        data = self._data
        if criterion is not None and data.targets.objective == "classification":
            raise ValueError(
                f"criterion={criterion!r} is for regression, but targets are classes: leave it out, or set "
                "objective='regression'"
            )
        self.input_size = data.input_size
        self.output_size = data.targets.output_size
        self.objective = data.targets.objective
        self.target_step = data.targets.target_step
        self.criterion = criterion
        self.class_names = data.targets.class_names
        self.group_names = data.group_names
        self.phase_names = data.phase_names
        self.vocab_size = data.vocab_size

    def build(self, split: Split) -> SequenceBatch:
        return self._data.build(split)

    @property
    def _data(self) -> _Sequences | _Recording:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        # a spawned process opens the files again: a pickled memory map would send all that it maps
        return {**self.__dict__, "_loaded": None}

    def _load(self) -> _Sequences | _Recording:
        sources = {name: source for name, source in self._given.items() if source is not None}
        if isinstance(sources["inputs"], (str, os.PathLike)) and Path(sources["inputs"]).suffix == ".npz":
            sources = {**_open_archive(Path(sources["inputs"]), names=tuple(self._given)), **sources}
            sources["inputs"] = sources.pop("archive")
        sources = {
            name: _open_array(name, Path(source)) if isinstance(source, (str, os.PathLike)) else source
            for name, source in sources.items()
        }
        inputs, list_lengths = _stack("inputs", sources.pop("inputs"))
        if inputs.dtype.kind == "f" and inputs.ndim == 2 and list_lengths is None and "targets" not in sources:
            if sources:
                raise ValueError(
                    f"inputs of shape {inputs.shape} without targets are one recording (T, N), which has no "
                    f"{', '.join(sources)}: for N sequences, pass inputs (N, T, K) and targets"
                )
            if self._asked.objective == "classification" or self._asked.target_step == "last":
                raise ValueError(
                    f"inputs of shape {inputs.shape} without targets are one recording (T, N). Its next step is "
                    "predicted by regression at every step: leave objective and target_step out, or pass targets"
                )
            return _Recording.of(inputs, self.window, self.val_fraction, self.test_fraction, self._asked)
        _check_inputs(inputs)
        indices = {split: sources.pop(name) for split, name in _INDEX.items() if name in sources}
        if indices:
            rows = _check_indices(indices, len(inputs))
        else:
            rows = _draw_split(len(inputs), self.val_fraction, self.test_fraction, self.seed)
        return _Sequences.of(inputs, list_lengths, sources, rows, self._asked)


@dataclass(frozen=True)
class _Asked:
    """What the user said about the targets, ``None`` where it is to be inferred."""

    objective: Objective | None
    target_step: TargetStep | None
    num_classes: int | None


@dataclass(frozen=True)
class _Targets:
    """What the targets are."""

    objective: Objective
    target_step: TargetStep
    output_size: int
    class_names: list[str] | None = None


def _read_targets(
    values: Array, ragged: bool, asked: _Asked, counted: NDArray[np.bool_]
) -> tuple[NDArray[np.int64] | NDArray[np.float32], _Targets]:
    """Infer objective and step from type and shape; ``counted`` (N, T) are the steps that may count."""
    objective = asked.objective or ("regression" if values.dtype.kind == "f" else "classification")
    if values.dtype.kind == "U" and (objective == "regression" or values.ndim != 1):
        raise ValueError(
            f"text targets must be one class for each sequence (N,), got {_describe(values)}: use class numbers instead"
        )
    step = _infer_step(values, objective, asked.target_step or ("every" if ragged else None), counted.shape)
    if objective == "regression":
        if asked.num_classes is not None:
            raise ValueError(
                f"num_classes={asked.num_classes} is for classification, but targets are for regression "
                f"({values.dtype}): leave it out, or give objective='classification'"
            )
        if values.ndim == 1 or (values.ndim == 2 and step == "every"):
            values = values[..., None]
        quantities = _float32(values).copy()
        if step == "every":
            quantities[~counted] = 0
        check_finite("targets", torch.from_numpy(quantities))
        return quantities, _Targets(objective, step, quantities.shape[-1])

    if step == "every":
        values = np.where(counted, values, np.zeros((), values.dtype))
    names = None
    least = 2 if values.dtype.kind == "b" else 1
    if values.dtype.kind == "U":
        values, names = _encode(values)
        least = len(names)
        if asked.num_classes not in (None, least):
            raise ValueError(f"num_classes={asked.num_classes}, but targets have {least} different texts: {names}")
    labels = _whole("targets", values)
    classes = asked.num_classes or max(int(labels.max()) + 1, least)
    # what does not count is 0 by now, so that every step can be checked
    check_classes("targets", torch.from_numpy(labels), classes, torch.full((len(labels),), counted.shape[1]))
    if classes < 2:
        raise ValueError("targets have only one class: set num_classes if there are more, or use other targets")
    return labels, _Targets(objective, step, classes, names)


@dataclass(frozen=True)
class _Sequences:
    """Checked sequences; the inputs stay as they came, in memory or mapped from a file, until a split is built."""

    inputs: Array
    values: NDArray[np.int64] | NDArray[np.float32]
    targets: _Targets
    lengths: NDArray[np.int64]
    mask: Array | None
    group: Array | None
    group_names: list[str] | None
    phase: NDArray[np.int64] | None
    phase_names: list[str] | None
    input_size: int
    vocab_size: int | None
    rows: dict[Split, NDArray[np.int64]]

    @classmethod
    def of(
        cls,
        inputs: Array,
        list_lengths: NDArray[np.int64] | None,
        sources: dict[str, Source],
        rows: dict[Split, NDArray[np.int64]],
        asked: _Asked,
    ) -> _Sequences:
        """Check the arrays against each other; ``own_lengths`` are those of a list of sequences."""
        if "targets" not in sources:
            raise ValueError(
                f"targets are missing: inputs {_describe(inputs)} need them. To predict the next step of each sequence "
                "give inputs[:, :-1] and inputs[:, 1:]; only a 2-D array of floats (T, N) is one recording"
            )
        count, steps = inputs.shape[:2]
        lengths = _read_lengths(sources.get("lengths"), list_lengths, count, steps)
        valid = np.arange(steps) < lengths[:, None]
        vocab_size = None
        if inputs.ndim == 2:
            inputs = np.where(valid, inputs, 0).astype(np.int64)
            if inputs.min() < 0:
                index = np.argwhere(inputs < 0)[0].tolist()
                raise ValueError(
                    f"inputs of tokens must not be negative, got {inputs[tuple(index)]} at index {index}: number the "
                    "tokens from 0, or shorten that sequence's length"
                )
            vocab_size = int(inputs.max()) + 1

        counted, mask = valid, None
        if "mask" in sources:
            mask = _read_mask(sources["mask"], lengths, valid)
            counted = mask > 0
        values, target_lengths = _stack("targets", sources["targets"], steps)
        ragged = target_lengths is not None and len(set(target_lengths.tolist())) > 1
        if target_lengths is not None and ragged:
            _check_lengths_agree("targets", target_lengths, lengths)
        values, targets = _read_targets(values, ragged, asked, counted)
        if mask is not None and targets.target_step == "last":
            raise ValueError("mask weighs targets at every step, but these are at the last step: leave mask out")

        group, group_names = None, None
        if "group" in sources:
            group, _ = _stack("group", sources["group"])
            if group.shape != (count,):
                raise ValueError(f"group must have shape ({count},), one for each sequence, got {_describe(group)}")
            if group.dtype.kind == "U":
                group, group_names = _encode(group)
            group = _whole("group", group)
            if group.min() < 0:
                raise ValueError(
                    f"group must not be negative, got {group.min()} at index {int(group.argmin())}: number the groups "
                    "from 0"
                )
        phase, phase_names = None, None
        if "phase" in sources:
            phase, phase_names = _read_phase(sources["phase"], lengths, valid)
        input_size = inputs.shape[2] if vocab_size is None else vocab_size
        return cls(
            inputs,
            values,
            targets,
            lengths,
            mask,
            group,
            group_names,
            phase,
            phase_names,
            input_size,
            vocab_size,
            rows,
        )

    def build(self, split: Split) -> SequenceBatch:
        rows = self.rows[split]
        lengths = torch.from_numpy(self.lengths[rows])
        picked = self.inputs[rows]  # a copy, of these rows alone
        if self.vocab_size is None:
            picked = _float32(picked)
            picked[np.arange(picked.shape[1]) >= self.lengths[rows, None]] = 0
        inputs = torch.from_numpy(picked)
        check_finite("inputs", inputs, rows)
        return SequenceBatch(
            inputs,
            torch.from_numpy(self.values[rows]),
            lengths,
            None if self.mask is None else torch.from_numpy(self.mask[rows]),
            None if self.group is None else torch.from_numpy(self.group[rows]),
            None if self.phase is None else torch.from_numpy(self.phase[rows]),
        )


@dataclass(frozen=True)
class _Recording:
    """One recording (T, N) and where in time each split lies."""

    values: Array
    window: int
    parts: dict[Split, range]
    targets: _Targets
    input_size: int
    group_names: None = None
    phase_names: None = None
    vocab_size: None = None

    @classmethod
    def of(cls, values: Array, window: int, val_fraction: float, test_fraction: float, asked: _Asked) -> _Recording:
        """Cut the time into training, validation and test."""
        steps, channels = values.shape
        if channels == 0:
            raise ValueError(f"inputs of a recording must be (T, N) with at least one channel, got {_describe(values)}")
        if asked.num_classes is not None:
            raise ValueError(
                "num_classes is for classification, but the next step of a recording is predicted by regression: "
                "leave it out"
            )
        val, test = round(steps * val_fraction), round(steps * test_fraction)
        ends = steps - val - test, steps - test, steps
        parts = dict(zip(SPLITS, map(range, (0, *ends), ends), strict=False))
        for split, part in parts.items():
            if len(part) < 2:
                raise ValueError(
                    f"the {split} split of a recording needs at least 2 steps, one to predict from and one to predict, "
                    f"got {len(part)} of {steps}: record more, or change val_fraction and test_fraction"
                )
        return cls(values, window, parts, _Targets("regression", "every", channels), channels)

    def build(self, split: Split) -> SequenceBatch:
        part = self.parts[split]
        values = torch.from_numpy(_float32(self.values[part.start : part.stop].copy()))
        check_finite("inputs", values, np.arange(part.start, part.stop))
        transitions = len(values) - 1
        window = min(self.window, transitions)
        count = -(-transitions // window)
        lengths = full_lengths(torch.empty(count, window))
        lengths[-1] = transitions - (count - 1) * window
        # zeros after the end, for the last window
        padded = values.new_zeros(count * window + 1, values.shape[1])
        padded[: len(values)] = values
        inputs = padded[:-1].reshape(count, window, -1).clone()
        inputs[-1, lengths[-1] :] = 0  # the last value is only ever a target
        return SequenceBatch(inputs, padded[1:].reshape(count, window, -1), lengths)


def _open_archive(path: Path, names: tuple[str, ...]) -> dict[str, Source]:
    """The arrays of a ``.npz``, its inputs under "archive"."""
    _check_file("inputs", path)
    arrays: dict[str, Source] = {}
    with path.open("rb") as file:  # np.load would leave a broken archive open
        try:
            archive = np.load(file, allow_pickle=False)
        except (ValueError, OSError, EOFError, zipfile.BadZipFile) as error:
            raise ValueError(
                f"inputs: {path} is not a .npz archive of arrays ({error}): save the arrays with np.savez"
            ) from error
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise ValueError(f"inputs: {path} is a single array, not an archive: rename the file to .npy")
        if "inputs" not in archive.files or not set(archive.files) <= set(names):
            raise ValueError(
                f"inputs: {path} must have the key 'inputs' and may have {', '.join(names[1:])}; got "
                f"{', '.join(archive.files) or 'none'}. Save it with np.savez(path, inputs=…, targets=…)"
            )
        for name in archive.files:
            try:
                arrays["archive" if name == "inputs" else name] = archive[name]
            except ValueError as error:
                raise _no_objects(f"{name} in {path}", error) from error
    return arrays


def _open_array(name: str, path: Path) -> Array:
    """A ``.npy``, mapped into memory so that only what is used is read."""
    if path.suffix != ".npy":
        expected = ".npz or .npy" if name == "inputs" else ".npy"
        raise ValueError(f"{name} must be a {expected} file, got {path}: load the file yourself and pass the array")
    _check_file(name, path)
    try:
        return np.asarray(np.lib.format.open_memmap(path, mode="r"))
    except (ValueError, OSError, EOFError) as error:
        if "objects" in str(error):
            raise _no_objects(f"{name} in {path}", error) from error
        raise ValueError(
            f"{name}: {path} is not a .npy file with one array ({error}): save the array with np.save, or rename an "
            "archive to .npz"
        ) from error


def _check_file(name: str, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{name}: there is no file {path} (looked in {Path.cwd()})")


def _no_objects(name: str, cause: object) -> TypeError:
    return TypeError(
        f"{name} must be an array of numbers, got Python objects ({cause}): sequences of different lengths go into a "
        "list of arrays, or padded into one array with lengths"
    )


def _array(name: str, source: Source) -> Array:
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = (source.float() if source.dtype == torch.bfloat16 else source).numpy()
    try:
        array = np.asarray(source)
    except ValueError as error:  # a nested list of uneven rows
        raise _no_objects(name, error) from error
    if array.dtype.kind == "O":
        raise _no_objects(name, "dtype=object")
    if array.dtype.kind not in "biufU" or (array.dtype.kind == "U" and name not in ("targets", "group", "phase")):
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    return array


def _stack(name: str, source: Source, steps: int | None = None) -> tuple[Array, NDArray[np.int64] | None]:
    """One array, and the lengths of its rows where it came as a list of arrays: they are padded to ``steps``."""
    if not isinstance(source, (list, tuple)):
        return _array(name, source), None
    arrays = [_array(name, item) for item in source]
    if not arrays or arrays[0].ndim == 0:
        return _array(name, arrays), None
    first = arrays[0]
    for index, array in enumerate(arrays):
        if array.shape[1:] != first.shape[1:] or array.ndim != first.ndim:
            raise ValueError(
                f"{name}: the arrays of a list may differ in their first axis (time) only, got {_describe(first)} at "
                f"index 0 and {_describe(array)} at index {index}"
            )
    lengths = np.array([len(array) for array in arrays])
    longest = int(lengths.max())
    if len(set(lengths.tolist())) > 1:
        longest = max(longest, steps or 0)
    stacked = np.zeros((len(arrays), longest, *first.shape[1:]), np.result_type(*{array.dtype for array in arrays}))
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked, lengths


def _describe(array: Array) -> str:
    return f"{array.shape} {array.dtype}"


def _float32(array: Array) -> NDArray[np.float32]:
    """In float32, copied only where it must be; what is too large becomes infinite, for check_finite to find."""
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype=np.float32, order="C")


def _whole(name: str, array: Array) -> NDArray[np.int64]:
    """A copy in int64; floats are accepted where they are whole, as MATLAB and pandas write them."""
    if array.dtype.kind == "f":
        check_finite(name, torch.from_numpy(array.astype(np.float64)))
        wrong = (array != np.floor(array)) | (np.abs(array) >= 2**53)  # from there on floats skip whole numbers
        if wrong.any():
            index = np.argwhere(wrong)[0].tolist()
            raise ValueError(f"{name} must be whole numbers, got {array[tuple(index)]} at index {index}")
    return np.array(array, dtype=np.int64, order="C")


def _encode(texts: Array) -> tuple[NDArray[np.int64], list[str]]:
    """Numbers for texts, and the texts they stand for."""
    names, codes = np.unique(texts, return_inverse=True)
    return codes, [str(name) for name in names]


def _check_inputs(inputs: Array) -> None:
    tokens = inputs.ndim == 2 and inputs.dtype.kind in "iu"
    if not tokens and inputs.ndim != 3:
        advice = {
            1: "; a list of arrays needs one array (T_i, K) for each sequence",
            2: "; add the axis of channels with inputs[..., None], or cut a recording into sequences. Floats without "
            "targets are one recording (T, N)",
        }
        raise ValueError(
            f"inputs must be (N, T, K) numbers or (N, T) integer tokens, got {_describe(inputs)}"
            f"{advice.get(inputs.ndim, '')}"
        )
    for size, what in zip(inputs.shape, ("sequence", "step", "channel"), strict=False):
        if size == 0:
            raise ValueError(f"inputs must hold at least one {what}, got {_describe(inputs)}")


def _read_lengths(
    source: Source | None, list_lengths: NDArray[np.int64] | None, count: int, steps: int
) -> NDArray[np.int64]:
    """Lengths (N,), from the argument, the list of sequences or T."""
    if source is None:
        lengths = np.full(count, steps, dtype=np.int64) if list_lengths is None else list_lengths
    elif list_lengths is not None:
        raise ValueError("the list of inputs already gives the lengths: leave lengths out, or cut the arrays")
    else:
        lengths = _array("lengths", source)
        if lengths.shape != (count,):
            raise ValueError(f"lengths must have shape ({count},), one for each sequence, got {_describe(lengths)}")
        lengths = _whole("lengths", lengths)
    wrong = (lengths < 1) | (lengths > steps)
    if wrong.any():
        index = int(wrong.argmax())
        raise ValueError(
            f"lengths must lie between 1 and T={steps}, got {lengths[index]} at index {index}: leave "
            "empty sequences out"
        )
    return lengths


def _check_lengths_agree(name: str, list_lengths: NDArray[np.int64], lengths: NDArray[np.int64]) -> None:
    if len(list_lengths) != len(lengths):
        raise ValueError(
            f"{name} must have one array for each of the {len(lengths)} sequences, got {len(list_lengths)}"
        )
    if (list_lengths != lengths).any():
        index = int((list_lengths != lengths).argmax())
        raise ValueError(
            f"{name} must have as many steps as the inputs, got {list_lengths[index]} instead of {lengths[index]} at "
            f"index {index}"
        )


def _read_mask(source: Source, lengths: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Weights (N, T), 0 past each sequence's length."""
    values, list_lengths = _stack("mask", source, valid.shape[1])
    if list_lengths is not None and len(set(list_lengths.tolist())) > 1:
        _check_lengths_agree("mask", list_lengths, lengths)
    if values.shape != valid.shape:
        raise ValueError(f"mask must have shape {valid.shape}, one weight for each step, got {_describe(values)}")
    mask = _float32(values).copy()
    mask[~valid] = 0
    check_finite("mask", torch.from_numpy(mask))
    if mask.min() < 0:
        index = np.argwhere(mask < 0)[0].tolist()
        raise ValueError(f"mask must not be negative, got {mask[tuple(index)]} at index {index}")
    empty = ~mask.any(axis=1)
    if empty.any():
        raise ValueError(
            f"mask must leave at least one step of each sequence, got only zeros at index {int(empty.argmax())}: leave "
            "that sequence out"
        )
    return mask


def _read_phase(
    source: Source, lengths: NDArray[np.int64], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], list[str] | None]:
    """Phases (N, T), −1 past each sequence's length, and their names where they are text."""
    values, list_lengths = _stack("phase", source, valid.shape[1])
    if list_lengths is not None and len(set(list_lengths.tolist())) > 1:
        _check_lengths_agree("phase", list_lengths, lengths)
    if values.shape != valid.shape:
        raise ValueError(f"phase must have shape {valid.shape}, one for each step, got {_describe(values)}")
    values = np.where(valid, values, np.zeros((), values.dtype))
    names = None
    if values.dtype.kind == "U":
        values, names = _encode(values)
        if names[0] == "":  # no phase; the first in the alphabet
            values, names = values - 1, names[1:]
    phase = _whole("phase", values).reshape(valid.shape)  # np.unique may have made it flat
    phase[~valid] = -1
    return phase, names


def _infer_step(values: Array, objective: Objective, step: TargetStep | None, expected: tuple[int, ...]) -> TargetStep:
    """At which steps the targets are, from their shape; ``expected`` is (N, T)."""
    count, steps = expected
    shapes: dict[TargetStep, list[tuple[int | str, ...]]] = {"last": [(count,)], "every": [(count, steps)]}
    advice = "; integers are classes, give objective='regression' if they are quantities"
    if objective == "regression":
        shapes["last"].append((count, "O"))
        shapes["every"].append((count, steps, "O"))
        advice = ""

    def fits(shape: tuple[int | str, ...]) -> bool:
        return len(shape) == values.ndim and all(
            size > 0 if wanted == "O" else size == wanted for size, wanted in zip(values.shape, shape, strict=True)
        )

    wanted = {name: options for name, options in shapes.items() if step in (None, name)}
    matching = [name for name, options in wanted.items() if any(map(fits, options))]
    if not matching:
        where = "" if step is None else " at the last step" if step == "last" else " at every step"
        listed = " or ".join(str(shape).replace("'", "") for options in wanted.values() for shape in options)
        raise ValueError(
            f"targets for {objective}{where} must have shape {listed} ({count} sequences of {steps} steps), got "
            f"{_describe(values)}{advice}"
        )
    if len(matching) > 1 and steps > 1:
        raise ValueError(
            f"targets {_describe(values)} are either one output at every step or {steps} outputs at the last step: "
            "set target_step='every' or 'last'"
        )
    return matching[0]


def _draw_split(count: int, val_fraction: float, test_fraction: float, seed: int) -> dict[Split, NDArray[np.int64]]:
    """A random split into three parts that keep the order of the sequences."""
    val, test = max(1, round(count * val_fraction)), max(1, round(count * test_fraction))
    if val + test >= count:
        raise ValueError(
            f"the train split is empty: of {count} sequences {val} are for validation and {test} for testing. Pass "
            "at least 3 sequences, and fractions that leave some for training"
        )
    order = np.random.default_rng(seed).permutation(count)
    parts = np.split(order, [count - val - test, count - test])
    return {split: np.sort(part) for split, part in zip(SPLITS, parts, strict=True)}


def _check_indices(indices: dict[Split, Source], count: int) -> dict[Split, NDArray[np.int64]]:
    """Index arrays that name each sequence at most once."""
    if len(indices) < len(_INDEX):
        missing = ", ".join(name for split, name in _INDEX.items() if split not in indices)
        raise ValueError(f"pass train_index, val_index and test_index, or none of them: {missing} is missing")
    rows: dict[Split, NDArray[np.int64]] = {}
    owner: dict[int, str] = {}
    for split, name in _INDEX.items():
        index = _array(name, indices[split])
        if index.size == 0:
            raise ValueError(f"{name} is empty: the {split} split needs at least one sequence")
        if index.ndim != 1 or index.dtype.kind == "b":
            raise ValueError(
                f"{name} must be a 1-D array of positions, got {_describe(index)}; np.flatnonzero converts a mask "
                "to positions"
            )
        rows[split] = _whole(name, index)
        for row in rows[split].tolist():
            if not 0 <= row < count:
                raise ValueError(f"{name} must lie between 0 and {count - 1} ({count} sequences), got {row}")
            if row in owner:
                raise ValueError(
                    f"{name} has sequence {row}, which is also in {owner[row]}: remove it from one of them"
                )
            owner[row] = name
    return rows
