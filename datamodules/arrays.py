"""The user's own data: arrays in memory or in files."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.batch import AnyBatch, Objective, SequenceBatch, Split, TargetStep
from lightning_alrnn.datamodules.base import (
    SPLITS,
    ArrayDataset,
    EpochDataset,
    SequenceDataModule,
    SequenceDataset,
    check_choice,
    check_finite,
    check_fractions,
    check_size,
    check_values,
    count_of,
    short,
    span,
)
from lightning_alrnn.datamodules.files import check_array, read_npz
from lightning_alrnn.metrics.criteria import find_criterion
from lightning_alrnn.parsing import reason_of

# arrays and tensors hide behind Any: spelled out, the command line would offer their classes for construction
Source: TypeAlias = str | list[Any] | Any
Array: TypeAlias = NDArray[Any]

_INDEX: dict[Split, str] = {"train": "train_index", "val": "val_index", "test": "test_index"}
_MOST_LISTED = 5
_MOST_VALUES = 20  # different whole numbers that are probably classes
_FAR = 5  # a mean or standard deviation that a network learns badly from
_SMALL = 0.1  # a standard deviation, of numbers that are all smaller than 0.5
_MOST_CODES = 2**24  # classes or tokens; weights for more of them would fill the memory
_WIDE = 3  # times as many channels as steps: probably swapped axes
_CHUNK = 2**20  # numbers that are read and scaled at a time, in float64 several times 8 MB
_HELD = 2**24  # numbers in a file of which a split is held in memory; rows of more are read when they are needed
_CONSTANT = 1e-12  # a standard deviation, relative to the mean, that comes from rounding
_MOST_LOOKED_AT = 2_000  # training sequences that are searched for padding
_FEW = 10  # sequences that are too few for a score
_SYNONYMS = {"x": "inputs", "data": "inputs", "y": "targets", "labels": "targets", "groups": "group"}
_TEXTS = ("targets", "group", "phase")  # what may be texts
_GAPS = (
    "Interpolate it, or cut the recording into parts without gaps and pass inputs=[part[:-1] for part in parts] and "
    "targets=[part[1:] for part in parts]"
)
_SAVE = "save the arrays with np.savez(path, inputs=…, targets=…); a single array goes into a .npy file"


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
        lengths: Number of valid steps of each sequence, ``(N,)`` integers from 1 to T (default T, or T_i of a list).
        mask: Weight of each step in the loss, ``(N, T)`` numbers or bool, for targets at every step.
        group: Condition or task of each sequence, ``(N,)`` integers from 0, bool or text.
        phase: Phase of the trial at each step, such as stimulus or delay, ``(N, T)`` integers from 0, bool or text, or
            a list of N arrays ``(T_i,)``. Steps with a negative number or an empty text belong to no phase.
        objective: Kind of task, "classification" or "regression", if the type of the targets does not decide it.
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
        standardize: Whether each input channel gets the mean 0 and the standard deviation 1 over the valid steps of the
            training split. In a recording, the targets do too. A network is tested with the statistics that it was
            trained with, which its checkpoint keeps.
        input_names: Names of the input channels.
        output_names: Names of the outputs of a regression, or of the classes. Those of a recording are its input names.

    Attributes:
        statistics: The statistics of ``standardize``, or ``None``.

    Raises:
        FileNotFoundError: If a path does not lead to a file.
        TypeError: If an array has Python objects that are no texts, or a type that does not fit its meaning.
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
        >>> Arrays(rng.normal(size=(1000, 20)), window=50).build("train").inputs.shape  # one recording
        torch.Size([14, 50, 20])
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
        standardize: bool = False,
        input_names: list[str] | None = None,
        output_names: list[str] | None = None,
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
        input_names, output_names = _texts(input_names), _texts(output_names)
        check_fractions(val_fraction, test_fraction)
        self.window = window
        self.val_fraction = val_fraction
        self.test_fraction = test_fraction
        self.standardize = standardize
        self._asked = _Asked(objective, target_step, num_classes)
        self._asked_names = {"input_names": input_names, "output_names": output_names}
        self._statistics: Statistics | None = None
        self._trained_on: Statistics | None = None  # of the training whose checkpoint was loaded
        self._sources: dict[str, Source] = {"inputs": inputs, "targets": targets, "lengths": lengths, "mask": mask}
        self._sources |= {"group": group, "phase": phase}
        self._sources |= {"train_index": train_index, "val_index": val_index, "test_index": test_index}
        # A checkpoint keeps the paths, never arrays. Loggers get nothing: `objective` and `target_step` as passed here
        # (None, mostly) would clash with those of the model.
        self.save_hyperparameters(ignore=list(self._sources), logger=False)
        paths = (str, os.PathLike)
        self.hparams.update({name: os.fspath(s) for name, s in self._sources.items() if isinstance(s, paths)})

        self._loaded: _Sequences | _Recording | None = None
        meaning = self._data.meaning
        if criterion is not None and meaning.objective == "classification":
            raise ValueError(f"criterion={criterion!r} is for regression, but targets are classes: leave it out")
        self.criterion = criterion
        for name, value in meaning._asdict().items():
            setattr(self, name, value)
        if standardize and self.vocab_size is not None:
            raise ValueError("standardize is for channels of numbers, but inputs are tokens: leave it out")

    def build(self, split: Split) -> SequenceBatch:
        return self._data.build(split, self.statistics)

    def dataset(self, split: Split) -> SequenceDataset | EpochDataset:
        own = type(self).build is Arrays.build and type(self).build_epoch is SequenceDataModule.build_epoch
        if split not in self._datasets and self._data.is_large and own:
            self._data.check(split, self.statistics)
            self._datasets[split] = self._data.dataset(split, self.statistics)
        return super().dataset(split)

    @property
    def statistics(self) -> Statistics | None:
        """Mean and standard deviation of each input channel, by which ``standardize`` scales; or ``None``."""
        if self.standardize and self._statistics is None:
            self._statistics = self._data.scale_of("train").statistics
        return self._statistics if self.standardize else None

    def setup(self, stage: str) -> None:
        """Build the splits that the stage needs, and say what the data are, unless a training has said so."""
        super().setup(stage)
        if self.trainer is not None and self.trainer.is_global_zero and "train" not in self._datasets:
            rank_zero_info(self.describe())

    def state_dict(self) -> dict[str, Any]:
        return {"statistics": _tensors(self.statistics), "trained_on": _tensors(self._training_scale())}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        statistics, self._trained_on = map(_statistics, (state_dict["statistics"], state_dict.get("trained_on")))
        if statistics is not None and len(statistics.mean) != self.input_size:
            raise ValueError(
                f"the checkpoint has the mean of {len(statistics.mean)} input channels, but the data have "
                f"{self.input_size}: use data with the same channels"
            )
        if self.standardize != (statistics is not None):
            done = (
                "raw inputs" if statistics is None else "standardised inputs, and the data are standardised like them"
            )
            rank_zero_warn(f"standardize is {self.standardize}, but the checkpoint's network was trained on {done}")
        if self.trainer is not None and self._trained_on is not None and self.vocab_size is None:
            mistake = self._other_scale(self._trained_on)
            if mistake:
                rank_zero_warn(mistake)
        if not _equal(statistics, self.statistics):
            self._datasets, self._baselines = {}, {}  # what is built has the other statistics
        self.standardize, self._statistics = statistics is not None, statistics

    def likely_mistakes(self) -> list[str]:
        return [*self._data.mistakes(), *([] if self.standardize else self._scale_mistakes())]

    def _scale_mistakes(self) -> list[str]:
        if self.vocab_size is not None:
            return []
        mean, std = self._data.scale_of("train").statistics
        small = (std > 0) & (std < _SMALL) & (self._data.scale_of("train").largest < 0.5)
        far = np.flatnonzero((np.abs(mean) > _FAR) | (std > _FAR) | small)
        if len(far) == 0:
            return []
        worst = int(far[np.maximum(np.abs(mean), std)[far].argmax()])
        others = f" (so are those of {count_of(len(far) - 1, 'other channel')})" if len(far) > 1 else ""
        own = f"has the mean {short(mean[worst])} and the standard deviation {short(std[worst])}"
        return [f"{self._name_of(worst)} of the inputs {own}, far from 0 and 1{others}: pass standardize=True"]

    def _other_scale(self, trained_on: Statistics) -> str:
        """A warning if channels have another scale than in the training, else ""."""
        if len(trained_on.mean) != self.input_size:
            return ""  # the network refuses them
        mean, std = self._data.scale_of(self._described()).statistics
        varies = trained_on.std > _CONSTANT * np.abs(trained_on.mean)
        unit = np.where(varies, trained_on.std, np.maximum(np.abs(trained_on.mean), 1.0))
        far = (np.abs(mean - trained_on.mean) > _FAR * unit) | (std > _FAR * unit)
        far |= varies & (std > 0) & (std < unit / _FAR)
        if not far.any():
            return ""
        worst = int(np.where(far, np.abs(mean - trained_on.mean) / unit + std / unit, -1).argmax())
        further = int(far.sum()) - 1
        others = f", and so for {count_of(further, 'further channel')}" if further else ""
        return (
            f"{self._name_of(worst)} of the inputs has the mean {short(mean[worst])} and the standard deviation "
            f"{short(std[worst])}, but had {short(trained_on.mean[worst])} and {short(trained_on.std[worst])} in the "
            f"data that the network was trained on{others}: give the data the same units and the same order of channels"
        )

    def _name_of(self, channel: int) -> str:
        return f"channel {channel}" if self.input_names is None else f"channel {channel} ({self.input_names[channel]})"

    def _training_scale(self) -> Statistics | None:
        """The scale of the inputs that the network of a checkpoint was trained on."""
        if self._trained_on is not None or self.vocab_size is not None:
            return self._trained_on
        return self._data.scale_of("train").statistics

    def _described(self) -> Split:
        return "train" if "train" in self._datasets else next(iter(self._datasets), "train")

    def _is_new_in_each_epoch(self) -> bool:
        return False

    def _split_sizes(self) -> dict[Split, int]:
        return self._data.sizes

    def _step_range(self, batch: AnyBatch) -> tuple[int, int]:
        return self._data.step_range if isinstance(self._data, _Sequences) else super()._step_range(batch)

    def _describe_sequences(self, batch: AnyBatch, count: int) -> str:
        if isinstance(self._data, _Sequences):
            return super()._describe_sequences(batch, count)
        steps = f"one recording of {self._data.steps:,} steps {self._describe_channels(batch)}"
        return f"{steps}, in {count_of(count, 'window')} of at most {self.window:,} steps"

    def _describe_part(self) -> str:
        return "" if isinstance(self._data, _Sequences) else " windows"

    def _describe_targets(self, batch: AnyBatch) -> str:
        targets = super()._describe_targets(batch)
        return targets if isinstance(self._data, _Sequences) else f"prediction of the next step ({targets})"

    def _describe_scale(self, batch: AnyBatch) -> str:
        if self.vocab_size is not None:
            return ""
        deviations = self._data.scale_of(self._described()).statistics.std
        before = span(float(deviations.min()), float(deviations.max()))
        return f"inputs standardised (sd {before} before)" if self.standardize else f"sd of the inputs {before}"

    @property
    def _data(self) -> _Sequences | _Recording:
        if self._loaded is None:
            self._loaded = self._load()
        return self._loaded

    def __getstate__(self) -> dict[str, Any]:
        # a spawned process opens the files again: a pickled memory map would send all that it maps
        return {**self.__dict__, "_loaded": None}

    def _load(self) -> _Sequences | _Recording:
        sources: dict[str, Any] = {name: source for name, source in self._sources.items() if source is not None}
        if isinstance(sources["inputs"], (str, os.PathLike)) and Path(sources["inputs"]).suffix == ".npz":
            path = _existing("inputs", Path(sources.pop("inputs")))
            optional = (*list(self._sources)[1:], *self._asked_names)
            archive = read_npz(
                path, ("inputs",), optional, _SAVE, advice_on_objects=_without_objects, synonyms=_SYNONYMS
            )
            sources = {**archive, **sources}
        channel_names = {name: asked or _texts(sources.pop(name, None)) for name, asked in self._asked_names.items()}
        sources = {
            name: _open_array(name, Path(source)) if isinstance(source, (str, os.PathLike)) else source
            for name, source in sources.items()
        }
        inputs, list_lengths = _stack("inputs", sources.pop("inputs"))
        inputs = _as_map(inputs)
        if inputs.dtype.kind == "f" and inputs.ndim == 2 and list_lengths is None and "targets" not in sources:
            if sources:
                names = ", ".join(sources)
                raise ValueError(f"inputs {inputs.shape} without targets are one recording, which has no {names}")
            if self._asked.objective == "classification" or self._asked.target_step == "last":
                raise ValueError(
                    f"inputs {inputs.shape} without targets are one recording (T, N), which is predicted by regression "
                    "at every step: leave objective and target_step out, or pass targets"
                )
            if self._asked.num_classes is not None:
                raise ValueError("num_classes is for classification, but a recording is for regression: leave it out")
            return _Recording(inputs, self.window, self.val_fraction, self.test_fraction, channel_names)
        _check_inputs(inputs)
        _check_axes(inputs, list_lengths is not None, sources, self._asked)
        indices = {split: sources.pop(name) for split, name in _INDEX.items() if name in sources}
        if indices:
            rows = _check_indices(indices, len(inputs))
        else:
            rows = _draw_split(len(inputs), self.val_fraction, self.test_fraction, self.seed)
        return _Sequences(inputs, list_lengths, sources, rows, self._asked, channel_names)


class Statistics(NamedTuple):
    """Mean and standard deviation of each channel, float64 of shape ``(K,)``."""

    mean: Array
    std: Array


class _Scale(NamedTuple):
    """The statistics of the training data, and the largest absolute value of each channel."""

    statistics: Statistics
    largest: Array


class _Asked(NamedTuple):
    """The user's choices about the targets; ``None`` means that the data decide."""

    objective: Objective | None
    target_step: TargetStep | None
    num_classes: int | None


class _Meaning(NamedTuple):
    """The attributes of the DataModule that the arrays decide."""

    input_size: int
    output_size: int
    objective: Objective
    target_step: TargetStep
    class_names: list[str] | None = None
    group_names: list[str] | None = None
    phase_names: list[str] | None = None
    vocab_size: int | None = None
    input_names: list[str] | None = None
    output_names: list[str] | None = None


class _Sequences:
    """Checked sequences. The inputs stay as they are, in memory or mapped from a file, until a split is built."""

    def __init__(
        self,
        inputs: Array,
        list_lengths: NDArray[np.int64] | None,
        sources: dict[str, Source],
        rows: dict[Split, NDArray[np.int64]],
        asked: _Asked,
        channel_names: Mapping[str, list[str] | None],
    ) -> None:
        if "targets" not in sources:
            raise ValueError(
                f"targets are missing: inputs {_describe(inputs)} need them. To predict the next step of a sequence, "
                "pass inputs[:, :-1] and inputs[:, 1:]; only a 2-D array of floats (T, N) is one recording"
            )
        count, steps = inputs.shape[:2]
        lengths = _read_lengths(sources.get("lengths"), list_lengths, count, steps)
        valid = np.arange(steps) < lengths[:, None]
        vocab_size = None
        if inputs.ndim == 2:
            vocab_size = _count_tokens(inputs, valid)
        fields: dict[str, Array] = {"lengths": lengths}
        if "mask" in sources:
            fields["mask"] = _read_mask(sources["mask"], lengths, valid)
        weighed = fields["mask"] > 0 if "mask" in fields else valid
        values, ragged = _stack_steps("targets", sources["targets"], lengths, steps)
        if ragged and asked.target_step is None:
            asked = asked._replace(target_step="every")
        fields["targets"], meaning = _read_targets(values, asked, weighed)
        if "mask" in fields and meaning.target_step == "last":
            raise ValueError("mask weighs targets at every step, but these are at the last step: leave mask out")
        names: dict[str, Any] = {}
        if "group" in sources:
            fields["group"], names["group_names"] = _read_group(sources["group"], count)
        if "phase" in sources:
            fields["phase"], names["phase_names"] = _read_phase(sources["phase"], lengths, valid)
        self.inputs = inputs
        self.rows = rows
        meaning = meaning._replace(input_size=vocab_size or inputs.shape[2], vocab_size=vocab_size, **names)
        self.meaning = _name(meaning, **channel_names)
        self.sizes = {split: len(rows[split]) for split in SPLITS}
        self.step_range = int(lengths.min()), int(lengths.max())
        self.is_large = isinstance(inputs, np.memmap) and inputs.size > _HELD
        self._is_list = list_lengths is not None
        self._may_lack_lengths = list_lengths is None and "lengths" not in sources
        self._asked = asked
        self._fields = fields
        self._scales: dict[Split, _Scale] = {}

    def scale_of(self, split: Split) -> _Scale:
        """Statistics of the valid steps of a split, which are computed once."""
        if split not in self._scales:
            self._scales[split] = _scale_of(self._steps(split))
        return self._scales[split]

    def _steps(self, split: Split) -> Iterator[Array]:
        rows, (_, steps, channels) = self.rows[split], self.inputs.shape
        for some in np.array_split(rows, -(-len(rows) * steps * channels // _CHUNK)):
            inputs = self._padded(some)
            check_finite("inputs", torch.from_numpy(_float32(inputs)), some)
            yield inputs[np.arange(steps) < self._fields["lengths"][some, None]]

    def _padded(self, rows: NDArray[np.int64]) -> Array:
        inputs = self.inputs[rows]  # a copy of these rows only
        inputs[np.arange(inputs.shape[1]) >= self._fields["lengths"][rows, None]] = 0
        return inputs

    def mistakes(self) -> list[str]:
        """What is probably wrong, except for the scale of the inputs."""
        targets, every = self._fields["targets"], self.meaning.target_step == "every"
        steps = self.inputs.shape[1]
        counted = np.ones(len(targets), dtype=bool)
        if every:
            counted = np.arange(steps) < self._fields["lengths"][:, None]
            counted &= self._fields.get("mask", counted) > 0
        found = []
        if self.meaning.objective == "regression":
            if self._asked.objective is None:
                found.append(_classes_as_floats(targets[counted], every))
        elif self._asked.num_classes is None:
            seen = np.zeros((2, self.meaning.output_size), dtype=bool)
            train = self.rows["train"]
            for row, some in enumerate((targets[counted], targets[train][counted[train]])):
                seen[row, np.unique(some)] = True
            found.append(_dead_classes(seen[0], seen[1], self.meaning.class_names))
        if self.inputs.ndim == 3 and self.inputs.shape[2] >= _WIDE * steps:
            remedy = _transposed("inputs", self._is_list)
            channels = count_of(self.inputs.shape[2], "channel")
            found.append(
                f"inputs {self.inputs.shape} are sequences of {count_of(steps, 'step')} with {channels}: if the axes "
                f"of time and channels are swapped, pass {remedy}"
            )
        if self._may_lack_lengths:
            train = self.rows["train"]
            some = train[: max(min(_MOST_LOOKED_AT, _CHUNK // self.inputs[0].size), 1)]
            found.append(_unsaid_padding(self.inputs[some].reshape(len(some), steps, -1)))
        found.append(_few_sequences(self.sizes))
        return [mistake for mistake in found if mistake]

    def dataset(self, split: Split, statistics: Statistics | None) -> _SequenceRows:
        """The sequences of a split, taken from the inputs when they are needed."""
        tokens = self.meaning.vocab_size is not None
        return _SequenceRows(self.inputs, self.rows[split], self._fields, statistics, tokens=tokens)

    def check(self, split: Split, statistics: Statistics | None) -> None:
        """Raise if the inputs of a split are NaN or infinite; they are read in pieces."""
        rows, dataset = self.rows[split], self.dataset(split, statistics)
        for some in np.array_split(np.arange(len(rows)), -(-len(rows) * self.inputs[0].size // _CHUNK)):
            check_finite("inputs", dataset.inputs(rows[some]), rows[some])

    def build(self, split: Split, statistics: Statistics | None = None) -> SequenceBatch:
        batch = self.dataset(split, statistics).take(np.arange(self.sizes[split]))
        check_finite("inputs", batch.inputs, self.rows[split])
        return batch


class _SequenceRows(ArrayDataset):
    """Rows of an array of inputs, and of the fields that belong to them."""

    def __init__(
        self,
        inputs: Array,
        rows: NDArray[np.int64],
        fields: Mapping[str, Array],
        statistics: Statistics | None,
        *,
        tokens: bool,
    ) -> None:
        super().__init__(inputs)
        self._rows = rows
        self._names, self._fields = tuple(fields), tuple(fields.values())
        self._lengths = fields["lengths"]
        self._statistics = statistics
        self._tokens = tokens

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[int]) -> SequenceBatch:
        return self.take(np.asarray(indices))

    def take(self, indices: NDArray[np.int64]) -> SequenceBatch:
        rows = self._rows[indices]
        fields = (torch.from_numpy(field[rows]) for field in self._fields)
        return SequenceBatch(self.inputs(rows), **dict(zip(self._names, fields, strict=True)))

    def inputs(self, rows: NDArray[np.int64]) -> Tensor:
        """Inputs of rows of the array, 0 after the end of a sequence."""
        values = np.asarray(self._array[rows])
        inputs = values.astype(np.int64) if self._tokens else _scaled(values, self._statistics)
        inputs[np.arange(inputs.shape[1]) >= self._lengths[rows, None]] = 0
        return torch.from_numpy(inputs)


class _Recording:
    """One recording (T, N), divided in time into training, validation and test."""

    def __init__(
        self,
        values: Array,
        window: int,
        val_fraction: float,
        test_fraction: float,
        channel_names: Mapping[str, list[str] | None],
    ) -> None:
        steps, channels = values.shape
        if channels == 0:
            raise ValueError(f"inputs of a recording must be (T, N) with at least one channel, got {_describe(values)}")
        val, test = round(steps * val_fraction), round(steps * test_fraction)
        ends = steps - val - test, steps - test, steps
        self._parts = dict(zip(SPLITS, map(slice, (0, *ends), ends), strict=False))
        for split, part in self._parts.items():
            if part.stop - part.start < 2:
                advice = "record more, or change val_fraction and test_fraction"
                if channels > steps:
                    advice = f"the axes of inputs {values.shape} look swapped, pass inputs.T"
                raise ValueError(
                    f"the {split} split of a recording needs at least 2 steps, one to predict from and one to predict, "
                    f"got {part.stop - part.start} of {steps}: {advice}"
                )
        if channel_names["output_names"] is None:
            channel_names = {**channel_names, "output_names": channel_names["input_names"]}
        self.meaning = _name(_Meaning(channels, channels, "regression", "every"), **channel_names)
        self.steps = steps
        self.is_large = isinstance(values, np.memmap) and values.size > _HELD
        self._values = values
        self._window = window
        self._scales: dict[Split, _Scale] = {}
        self.sizes = {split: self._windows(split)[1] for split in SPLITS}

    def scale_of(self, split: Split) -> _Scale:
        """Statistics of the steps of a part, which are computed once."""
        if split not in self._scales:
            self._scales[split] = _scale_of(self._steps(split))
        return self._scales[split]

    def _steps(self, split: Split) -> Iterator[Array]:
        part = self._parts[split]
        size = max(_CHUNK // self._values.shape[1], 1)
        for begin in range(part.start, part.stop, size):
            values = self._values[begin : min(begin + size, part.stop)]
            rows = np.arange(begin, begin + len(values))
            check_finite("inputs", torch.from_numpy(_float32(values.copy())), rows, _GAPS)
            yield values

    def mistakes(self) -> list[str]:
        """What is probably wrong, except for the scale of the inputs."""
        steps, channels = self._values.shape
        if channels < _WIDE * steps:
            return []
        one = f"inputs {self._values.shape} are one recording of {steps:,} steps with {channels:,} channels"
        return [f"{one}: if the axes of time and channels are swapped, pass inputs.T"]

    def _windows(self, split: Split) -> tuple[int, int]:
        """Length and number of the windows of a split."""
        part = self._parts[split]
        transitions = part.stop - part.start - 1
        window = min(self._window, transitions)
        return window, -(-transitions // window)

    def dataset(self, split: Split, statistics: Statistics | None) -> _Windows:
        """The windows of a split, taken from the recording when they are needed."""
        return _Windows(self._values, self._parts[split], *self._windows(split), statistics)

    def check(self, split: Split, statistics: Statistics | None) -> None:
        """Raise if the values of a split are NaN or infinite; they are read in pieces."""
        part = self._parts[split]
        size = max(_CHUNK // self._values.shape[1], 1)
        for begin in range(part.start, part.stop, size):
            end = min(begin + size, part.stop)
            values = torch.from_numpy(_scaled(self._values[begin:end].copy(), statistics))
            check_finite("inputs", values, np.arange(begin, end), _GAPS)

    def build(self, split: Split, statistics: Statistics | None = None) -> SequenceBatch:
        self.check(split, statistics)
        dataset = self.dataset(split, statistics)
        return dataset.take(np.arange(len(dataset)))


class _Windows(ArrayDataset):
    """Windows of a part of a recording. The targets are the next steps; zeros follow the end."""

    def __init__(self, values: Array, part: slice, window: int, count: int, statistics: Statistics | None) -> None:
        super().__init__(values)
        self._first, self._end = part.start, part.stop
        self._window, self._count = window, count
        self._statistics = statistics

    def __len__(self) -> int:
        return self._count

    def __getitems__(self, indices: Sequence[int]) -> SequenceBatch:
        return self.take(np.asarray(indices))

    def take(self, indices: NDArray[np.int64]) -> SequenceBatch:
        steps = self._first + self._window * indices[:, None] + np.arange(self._window + 1)
        after = steps[:, 1:] >= self._end  # the last value of the part is only a target
        values = _scaled(np.asarray(self._array[np.minimum(steps, self._end - 1)]), self._statistics)
        inputs, targets = values[:, :-1].copy(), values[:, 1:].copy()
        inputs[after] = targets[after] = 0
        lengths = torch.from_numpy((~after).sum(axis=1))
        return SequenceBatch(torch.from_numpy(inputs), torch.from_numpy(targets), lengths)


def _open_array(name: str, path: Path) -> Array:
    """A ``.npy``, mapped into memory so that only what is used is read."""
    if path.suffix != ".npy":
        expected = ".npz or .npy" if name == "inputs" else ".npy"
        raise ValueError(f"{name} must be a {expected} file, got {path}: load the file yourself and pass the array")
    _existing(name, path)
    try:
        return check_array(np.asarray(np.lib.format.open_memmap(path, mode="r")))
    except Exception as error:  # damaged bytes can raise anything, such as a SyntaxError
        if "objects" in str(error):
            raise TypeError(
                f"{name} in {path} is a pickle of Python objects, which is never loaded: {_without_objects(name)}"
            ) from error
        raise ValueError(
            f"{name}: {path} is not a .npy file with one array ({reason_of(error)}): save the array with np.save, or "
            "rename an archive to .npz"
        ) from error


def _as_map(array: Array) -> Array:
    """The memory map that an array shows as a whole, or else the array."""
    base = array.base
    if not isinstance(base, np.memmap) or not isinstance(base.base, mmap.mmap):
        return array
    kinds = [(one.shape, one.strides, one.dtype) for one in (array, base)]
    return base if kinds[0] == kinds[1] else array


def _count_tokens(inputs: Array, valid: NDArray[np.bool_]) -> int:
    """The highest token + 1; the inputs are read in pieces."""
    positive, few, highest = np.ones(inputs.shape, dtype=bool), np.ones(inputs.shape, dtype=bool), 0
    size = max(_CHUNK // inputs.shape[1], 1)
    for begin in range(0, len(inputs), size):
        some = slice(begin, begin + size)
        tokens = np.where(valid[some], inputs[some], 0)
        positive[some], few[some] = tokens >= 0, tokens < _MOST_CODES
        highest = max(highest, int(tokens.max()))
    advice = "number the tokens from 0, or shorten that sequence's length"
    check_values("inputs of tokens", positive, inputs, "not be negative", advice)
    check_values("inputs of tokens", few, inputs, f"be less than {_MOST_CODES:,}", advice)
    return highest + 1


def _existing(name: str, path: Path) -> Path:
    if not path.is_file():
        raise FileNotFoundError(f"{name}: there is no file {path} (looked in {Path.cwd()})")
    return path


def _padding(name: str) -> str:
    shape = {"inputs": "(N, T, K)", "lengths": "(N,)"}.get(name, "(N, T)")
    return f"pad sequences of different lengths into one array {shape} and add lengths, or pass a list of arrays"


def _without_objects(name: str) -> str:
    """What to save instead of an array of Python objects."""
    texts = f"save texts as {name}.astype(str)"
    if name in ("group", "input_names", "output_names"):
        return texts
    return f"{texts}; {_padding(name)} in Python" if name in _TEXTS else f"{_padding(name)} in Python"


def _array(name: str, source: Source) -> Array:
    if isinstance(source, Tensor):
        source = source.detach().cpu()
        source = (source.float() if source.dtype == torch.bfloat16 else source).numpy()
    try:
        array = np.asarray(source)
    except ValueError as error:  # a nested list of uneven rows
        raise TypeError(f"{name} must be an array, got Python objects ({error}): {_padding(name)}") from error
    if array.dtype.kind == "O":
        array = _texts_of(name, array)
    if array.dtype.kind not in "biufU" or (array.dtype.kind == "U" and name not in _TEXTS):
        raise TypeError(f"{name} must hold numbers, got dtype {array.dtype}")
    return array


def _texts_of(name: str, array: Array) -> Array:
    """The texts of an array of Python objects, as pandas has them; raise if some are none."""
    if array.size == 0:
        return array.astype(float)
    other = next(((index, item) for index, item in np.ndenumerate(array) if not isinstance(item, str)), None)
    if other is None and name in _TEXTS:
        return array.astype(str)
    index, item = other or ((0,), array.flat[0])
    place = index[0] if len(index) == 1 else list(index)
    got = f"{name} must be one array of numbers, got Python objects ({type(item).__name__} at index {place})"
    if isinstance(item, (np.ndarray, list, tuple, Tensor)):
        raise TypeError(f"{got}: pass list({name}), a list of arrays, or {_padding(name).partition(', or')[0]}")
    if name in _TEXTS and any(isinstance(each, str) for each in array.flat):
        raise TypeError(f"{got} beside texts: fill in what is missing, or leave these sequences out")
    raise TypeError(f"{got}: convert them, as in {name}.astype(float)")


def _stack(name: str, source: Source, steps: int = 0) -> tuple[Array, NDArray[np.int64] | None]:
    """One array, and the lengths of the arrays if the source is a list; uneven ones are padded to ``steps``."""
    if not isinstance(source, (list, tuple)):
        return _array(name, source), None
    arrays = [_array(name, item) for item in source]
    if not arrays or arrays[0].ndim == 0:
        return _array(name, arrays), None
    first = arrays[0]
    for index, array in enumerate(arrays):
        if array.shape[1:] != first.shape[1:] or array.ndim != first.ndim:
            got = f"{_describe(first)} at index 0 and {_describe(array)} at index {index}"
            swapped = array.ndim == first.ndim == 2 and len(array) == len(first)
            advice = f": the axes look swapped, pass {_transposed(name, True)}" if swapped else ""
            raise ValueError(
                f"{name}: the arrays of a list may differ in their first axis (time) only, got {got}{advice}"
            )
    lengths = np.array([len(array) for array in arrays])
    longest = int(lengths.max())
    if (lengths != longest).any():
        longest = max(longest, steps)
    stacked = np.zeros((len(arrays), longest, *first.shape[1:]), np.result_type(*{array.dtype for array in arrays}))
    for row, array in zip(stacked, arrays, strict=True):
        row[: len(array)] = array
    return stacked, lengths


def _stack_steps(name: str, source: Source, lengths: NDArray[np.int64], steps: int) -> tuple[Array, bool]:
    """One array, and whether the source is a list of arrays of different lengths, which must be those of the inputs."""
    values, list_lengths = _stack(name, source, steps)
    if list_lengths is None or (list_lengths == list_lengths[0]).all():
        return values, False
    if len(list_lengths) != len(lengths):
        raise ValueError(f"{name} must have one array for each of {len(lengths)} sequences, got {len(list_lengths)}")
    if (list_lengths != lengths).any():
        index = int((list_lengths != lengths).argmax())
        got = f"{list_lengths[index]} instead of {lengths[index]} at index {index}"
        raise ValueError(f"{name} must have as many steps as the inputs, got {got}")
    return values, True


def _read_steps(name: str, source: Source, lengths: NDArray[np.int64], valid: NDArray[np.bool_]) -> Array:
    """Values (N, T), zero or empty after the end of a sequence."""
    values, _ = _stack_steps(name, source, lengths, valid.shape[1])
    if values.shape != valid.shape:
        raise ValueError(f"{name} must have shape {valid.shape}, one value for each step, got {_describe(values)}")
    return np.where(valid, values, np.zeros((), values.dtype))


def _describe(array: Array) -> str:
    return f"{array.shape} {array.dtype}"


def _float32(array: Array) -> NDArray[np.float32]:
    """In float32, copied only if necessary. Numbers that are too large become infinite, which check_finite reports."""
    with np.errstate(over="ignore"):
        return np.asarray(array, dtype=np.float32, order="C")


def _scaled(array: Array, statistics: Statistics | None) -> NDArray[np.float32]:
    """In float32; standardised in float64, because channels such as times have large means."""
    if statistics is None:
        return _float32(array)
    result = np.empty(array.shape, dtype=np.float32)
    std = np.where(statistics.std > _CONSTANT * np.abs(statistics.mean), statistics.std, 1.0)
    size = max(_CHUNK // max(array[0].size, 1), 1)
    for begin in range(0, len(array), size):
        some = slice(begin, begin + size)
        result[some] = _float32((array[some].astype(np.float64) - statistics.mean) / std)
    return result


def _scale_of(parts: Iterable[Array]) -> _Scale:
    """Statistics of the values ``(n, K)`` of all parts."""
    count, mean, squares, largest = 0, np.zeros(()), np.zeros(()), np.zeros(())
    for part in parts:
        values = part.astype(np.float64)
        if len(values) == 0:
            continue
        own, total = values.mean(axis=0), count + len(values)
        # the parallel form of Welford's method
        squares = squares + np.square(values - own).sum(axis=0) + np.square(own - mean) * count * len(values) / total
        mean = mean + (own - mean) * len(values) / total
        largest = np.maximum(largest, np.abs(values).max(axis=0))
        count = total
    return _Scale(Statistics(mean, np.sqrt(squares / count)), largest)


def _tensors(statistics: Statistics | None) -> dict[str, Tensor] | None:
    """Statistics in the form that a checkpoint can hold."""
    return None if statistics is None else {name: torch.from_numpy(each) for name, each in statistics._asdict().items()}


def _statistics(stored: Mapping[str, Tensor] | None) -> Statistics | None:
    return None if stored is None else Statistics(*(stored[name].cpu().numpy() for name in Statistics._fields))


def _equal(one: Statistics | None, other: Statistics | None) -> bool:
    if one is None or other is None:
        return one is other
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


def _texts(names: Any) -> list[str] | None:
    """Names as plain texts, which a checkpoint can hold."""
    if names is None:
        return None
    return [names] if isinstance(names, str) else [str(name) for name in np.atleast_1d(names)]


def _name(meaning: _Meaning, input_names: list[str] | None, output_names: list[str] | None) -> _Meaning:
    """The meaning with the names of channels, outputs and classes."""
    if input_names is not None:
        if meaning.vocab_size is not None:
            raise ValueError("input_names are names of channels, but inputs are tokens: leave input_names out")
        _check_names("input_names", input_names, meaning.input_size, "channel", "")
        meaning = meaning._replace(input_names=input_names)
    if output_names is None:
        return meaning
    if meaning.objective == "regression":
        _check_names("output_names", output_names, meaning.output_size, "output", "")
        return meaning._replace(output_names=output_names)
    if meaning.class_names is not None:
        raise ValueError("targets of texts already name the classes: leave output_names out")
    advice = ": set num_classes if some do not occur" if len(output_names) > meaning.output_size else ""
    _check_names("output_names", output_names, meaning.output_size, "class", advice)
    return meaning._replace(class_names=output_names)


def _check_names(name: str, names: list[str], count: int, noun: str, advice: str) -> None:
    if len(names) != count or len(set(names)) < len(names):
        raise ValueError(f"{name} must be {count} different names, one for each {noun}, got {names}{advice}")


def _classes_as_floats(values: Array, every: bool) -> str:
    """A warning if targets (n, O) of a regression are few different whole numbers, or one-hot, else ""."""
    shape = "(N, T)" if every else "(N,)"
    if values.shape[1] > 1:
        if not _are_one_hot(values[:1000]) or not _are_one_hot(values):
            return ""
        return (
            f"targets are floats, which makes this a regression with {values.shape[1]} outputs, but each row is "
            f"one-hot (one 1, else 0): if these are classes, pass targets.argmax({2 if every else 1}); if not, "
            "objective='regression'"
        )
    if not _few_whole(values[:1000]) or not _few_whole(values):
        return ""
    different = np.unique(values)
    if not 2 <= len(different) <= len(values) / 2:
        return ""
    return (
        f"targets are floats, which makes this a regression, but their values are only {_listed(different)}: if "
        f"these are classes, pass objective='classification' and targets of shape {shape}; if not, "
        "objective='regression'"
    )


def _unsaid_padding(inputs: Array) -> str:
    """A warning if inputs (n, T, K) look padded with zeros at their ends, to different numbers of steps, else ""."""
    steps = inputs.shape[1]
    active = (inputs != 0).any(axis=2)
    active = active[active.any(axis=1)]
    ends = active[:, ::-1].argmax(axis=1)  # steps of zeros at the end
    padded, count = ends[ends > 0], len(active)
    # where zeros are common before the end, as between pulses, they are data
    if 4 * len(padded) < count or len(np.unique(padded)) < 3 or ends.sum() < 2 * ((~active).sum() - ends.sum()):
        return ""
    return (
        f"lengths are missing, but {len(padded):,} of {count:,} training sequences end in "
        f"{span(padded.min(), padded.max())} steps of zeros in all channels: if these are padding, pass lengths, the "
        f"number of steps of each sequence before it; if they are data, lengths=np.full(len(inputs), {steps})"
    )


def _few_sequences(sizes: Mapping[Split, int]) -> str:
    """A warning if the splits for validation or test are too small for a score, else ""."""
    if min(sizes["val"], sizes["test"]) >= _FEW:
        return ""
    return (
        f"only {count_of(sizes['val'], 'sequence')} for validation and {sizes['test']:,} for testing, of which a score "
        f"says little: record more, or raise val_fraction and test_fraction until both have at least {_FEW}"
    )


def _few_whole(values: Array) -> bool:
    different = np.unique(values)
    return len(different) <= _MOST_VALUES and bool(((different >= 0) & (different == np.floor(different))).all())


def _dead_classes(present: NDArray[np.bool_], trained: NDArray[np.bool_], names: list[str] | None) -> str:
    """A warning if classes never occur, or never in training, else ""."""
    classes = len(present)
    for seen, where in ((present, "any target"), (trained, "the training targets")):
        dead = np.flatnonzero(~seen)
        if len(dead) == 0:
            continue
        which = _listed(dead if names is None else [names[k] for k in dead])
        nouns = ("class", "occurs") if len(dead) == 1 else ("classes", "occur")
        start = f"{nouns[0]} {which} of {classes} never {nouns[1]}"
        if seen is present:
            return f"{start} in {where}: number the classes from 0 without gaps, or set num_classes={classes}"
        return f"{start} in {where}, only in the other splits: choose another seed, or pass train_index"
    return ""


def _listed(values: Iterable[Any]) -> str:
    texts = [f"{value:g}" if isinstance(value, np.floating) else str(value) for value in values]
    return ", ".join(texts if len(texts) <= _MOST_LISTED else [*texts[:_MOST_LISTED], "…"])


def _transposed(name: str, is_list: bool) -> str:
    return f"[x.T for x in {name}]" if is_list else f"{name}.transpose(0, 2, 1)"


def _check_axes(inputs: Array, is_list: bool, sources: Mapping[str, Any], asked: _Asked) -> None:
    """Raise if the other arrays fit the inputs with other axes only."""
    if inputs.ndim != 3:
        return
    count, steps, channels = inputs.shape
    time_last = f"look swapped, pass {_transposed('inputs', is_list)}"
    if "lengths" in sources and not is_list:
        lengths = _array("lengths", sources["lengths"])
        if lengths.shape == (count,) and steps < lengths.max() <= channels:
            must = f"lengths must lie between 1 and T={steps}, got {lengths.max():g} at index {lengths.argmax()}"
            raise ValueError(f"{must}: the axes of inputs {inputs.shape} {time_last}")
    for name in ("targets", "mask", "phase"):
        shape = tuple(getattr(sources.get(name), "shape", ()))
        if shape[:2] != (count, channels) or channels == steps:
            continue
        # targets (N, K) may also be K outputs at the last step
        quantities = asked.objective == "regression" or (
            asked.objective is None and "float" in str(sources[name].dtype)
        )
        if name == "targets" and len(shape) == 2 and quantities and asked.target_step != "every":
            continue
        if name == "targets" and len(shape) == 2 and _are_one_hot(np.asarray(sources[name])):
            continue
        raise ValueError(
            f"{name} {shape} do not fit inputs {inputs.shape}, whose axes of time and channels {time_last}"
        )
    for name in ("targets", "lengths", "group"):
        source: Any = sources.get(name)
        size = len(source) if isinstance(source, (list, tuple)) or getattr(source, "ndim", 0) > 0 else count
        if size == steps != count and not is_list:
            raise ValueError(
                f"{name} are of {count_of(size, 'sequence')}, but inputs {inputs.shape} have {count:,}: the axes of "
                "sequences and time look swapped, pass inputs.transpose(1, 0, 2)"
            )


def _whole(name: str, array: Array) -> NDArray[np.int64]:
    """A copy in int64. Floats must be whole, as MATLAB and pandas write them."""
    if array.dtype.kind == "f":
        check_finite(name, torch.from_numpy(array.astype(np.float64)))
        # from 2^53 on, floats skip whole numbers
        check_values(name, (array == np.floor(array)) & (np.abs(array) < 2**53), array, "be whole numbers")
    return np.array(array, dtype=np.int64, order="C")


def _encode(name: str, values: Array) -> tuple[NDArray[np.int64], list[str] | None]:
    """Whole numbers, and the texts they stand for if the values are texts."""
    if values.dtype.kind != "U":
        return _whole(name, values), None
    names, codes = np.unique(values, return_inverse=True)
    return codes.reshape(values.shape), [str(each) for each in names]


def _check_inputs(inputs: Array) -> None:
    tokens = inputs.ndim == 2 and inputs.dtype.kind in "iu"
    if not tokens and inputs.ndim != 3:
        advice = {
            1: "; a list of arrays needs one array (T_i, K) for each sequence",
            2: "; add the axis of channels with inputs[..., None], or leave out the targets of a recording",
        }
        got = f"{_describe(inputs)}{advice.get(inputs.ndim, '')}"
        raise ValueError(f"inputs must be (N, T, K) numbers or (N, T) integer tokens, got {got}")
    for size, axis in zip(inputs.shape, ("sequence", "step", "channel"), strict=False):
        if size == 0:
            raise ValueError(f"inputs must hold at least one {axis}, got {_describe(inputs)}")


def _read_lengths(
    source: Source | None, list_lengths: NDArray[np.int64] | None, count: int, steps: int
) -> NDArray[np.int64]:
    """Lengths (N,), from the argument, the list of sequences or T."""
    if source is None:
        lengths = np.full(count, steps, dtype=np.int64) if list_lengths is None else list_lengths
    elif list_lengths is not None:
        raise ValueError("the list of inputs already gives the lengths: leave lengths out, or cut the arrays")
    else:
        lengths = _whole("lengths", _of_sequences("lengths", _array("lengths", source), count))
    must = f"lie between 1 and T={steps}"
    check_values("lengths", (lengths >= 1) & (lengths <= steps), lengths, must, "leave empty sequences out")
    return lengths


def _of_sequences(name: str, values: Array, count: int) -> Array:
    if values.shape != (count,):
        raise ValueError(f"{name} must have shape ({count},), one for each sequence, got {_describe(values)}")
    return values


def _read_mask(source: Source, lengths: NDArray[np.int64], valid: NDArray[np.bool_]) -> NDArray[np.float32]:
    mask = _float32(_read_steps("mask", source, lengths, valid))
    check_finite("mask", torch.from_numpy(mask))
    check_values("mask", mask >= 0, mask, "not be negative")
    empty = ~mask.any(axis=1)
    if empty.any():
        raise ValueError(f"mask must not be 0 at all steps, as in sequence {int(empty.argmax())}: leave it out")
    return mask


def _read_group(source: Source, count: int) -> tuple[NDArray[np.int64], list[str] | None]:
    group, names = _encode("group", _of_sequences("group", _stack("group", source)[0], count))
    check_values("group", group >= 0, group, "not be negative", "number the groups from 0")
    return group, names


def _read_phase(
    source: Source, lengths: NDArray[np.int64], valid: NDArray[np.bool_]
) -> tuple[NDArray[np.int64], list[str] | None]:
    """Phases (N, T), −1 after the end of a sequence, and their names if they are texts."""
    phase, names = _encode("phase", _read_steps("phase", source, lengths, valid))
    if names is not None and names[0] == "":  # no phase; the first in the alphabet
        phase, names = phase - 1, names[1:]
    phase[~valid] = -1
    return phase, names


def _read_targets(
    values: Array, asked: _Asked, weighed: NDArray[np.bool_]
) -> tuple[NDArray[np.int64] | NDArray[np.float32], _Meaning]:
    """The targets and their meaning; ``weighed`` (N, T) are the steps that the loss may weigh."""
    objective = asked.objective or ("regression" if values.dtype.kind == "f" else "classification")
    if values.dtype.kind == "U" and (objective == "regression" or values.ndim != 1):
        advice = "pass targets[:, 0]" if values.ndim == 2 and values.shape[1] == 1 else "use class numbers instead"
        raise ValueError(f"text targets must be one class for each sequence (N,), got {_describe(values)}: {advice}")
    if values.ndim > 0 and len(values) != weighed.shape[0]:
        counts = f"{len(values):,} targets for {count_of(weighed.shape[0], 'sequence')}"
        raise ValueError(f"{counts}: targets must have a row for each sequence, got {_describe(values)}")
    step = _infer_step(values, objective, asked.target_step, weighed.shape)
    if objective == "regression":
        if asked.num_classes is not None:
            wrong = f"num_classes={asked.num_classes} is for classification"
            raise ValueError(f"{wrong}, but targets are for regression ({values.dtype}): leave it out")
        if values.ndim == 1 or (values.ndim == 2 and step == "every"):
            values = values[..., None]
        with np.errstate(over="ignore"):  # what is too large becomes infinite, which check_finite reports
            quantities = np.array(values, dtype=np.float32, order="C")
        if step == "every":
            quantities[~weighed] = 0
        check_finite("targets", torch.from_numpy(quantities))
        return quantities, _Meaning(0, quantities.shape[-1], objective, step)

    if step == "every":
        values = np.where(weighed, values, np.zeros((), values.dtype))
    least = 2 if values.dtype.kind == "b" else 1
    labels, names = _encode("targets", values)
    check_values("targets", labels < _MOST_CODES, labels, f"be less than {_MOST_CODES:,}", "number the classes from 0")
    if names is not None:
        least = len(names)
        if asked.num_classes not in (None, least):
            raise ValueError(f"num_classes={asked.num_classes}, but targets have {least} different texts: {names}")
    classes = asked.num_classes or max(int(labels.max()) + 1, least)
    advice = "number the classes from 0"
    if labels.ndim == 2:
        advice += ", and set the mask to 0 at steps that have none"
    must = f"be class indices from 0 to {classes - 1} ({classes} classes)"
    check_values("targets", (labels >= 0) & (labels < classes), labels, must, advice)
    if classes < 2:
        raise ValueError("targets have only one class: set num_classes if there are more, or use other targets")
    return labels, _Meaning(0, classes, objective, step, names)


def _infer_step(values: Array, objective: Objective, step: TargetStep | None, expected: tuple[int, ...]) -> TargetStep:
    """The steps with targets, from the shape of the targets and (N, T)."""
    count, steps = expected
    shapes = {"last": f"({count},)", "every": f"({count}, {steps})"}
    fitting = {"last": values.shape == (count,), "every": values.shape == expected}
    advice = ": integers are classes, pass objective='regression' if they are quantities"
    if objective == "regression":
        shapes = {"last": f"({count},) or ({count}, O)", "every": f"({count}, {steps}) or ({count}, {steps}, O)"}
        fitting["last"] |= values.ndim == 2 and len(values) == count and values.size > 0
        fitting["every"] |= values.ndim == 3 and values.shape[:2] == expected and values.size > 0
        advice = ""
    allowed: list[TargetStep] = ["last", "every"] if step is None else [step]
    matching = [name for name in allowed if fitting[name]]
    if not matching:
        if objective == "classification":
            advice = _class_numbers(values, expected) or advice
        where = "" if step is None else " at the last step" if step == "last" else " at every step"
        listed = " or ".join(shapes[name] for name in allowed)
        raise ValueError(
            f"targets for {objective}{where} must have shape {listed} ({count} sequences of {steps} steps), got "
            f"{_describe(values)}{advice}"
        )
    if len(matching) > 1 and steps > 1:
        got = _describe(values)
        raise ValueError(f"targets {got} are 1 output at every step or {steps} at the last step: set target_step")
    return matching[0]


def _class_numbers(values: Array, expected: tuple[int, ...]) -> str:
    """How columns and one-hot rows become class numbers, or "" if the targets do not look like either."""
    axis = values.ndim - 1
    if axis < 1 or values.shape[:axis] != expected[:axis]:
        return ""
    if values.shape[axis] == 1:
        return f": pass targets[{'...' if axis > 1 else ':'}, 0]"
    rows = values[values.any(axis=axis)]  # rows of zeros may be padding
    return f": they look one-hot, pass targets.argmax({axis})" if _are_one_hot(rows) else ""


def _are_one_hot(rows: Array) -> bool:
    """Whether there are rows (n, C), and each has one 1 and else 0."""
    ones = rows == 1
    return len(rows) > 0 and bool((ones | (rows == 0)).all() and (ones.sum(axis=1) == 1).all())


def _draw_split(count: int, val_fraction: float, test_fraction: float, seed: int) -> dict[Split, NDArray[np.int64]]:
    """A random split into three parts that keep the order of the sequences."""
    val, test = max(1, round(count * val_fraction)), max(1, round(count * test_fraction))
    if val + test >= count:
        held_out = f"{val} are for validation and {test} for testing"
        raise ValueError(f"the train split is empty: of {count} sequences {held_out}")
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
            raise ValueError(f"{name} must be 1-D positions, got {_describe(index)}; np.flatnonzero converts a mask")
        rows[split] = _whole(name, index)
        in_range = (rows[split] >= 0) & (rows[split] < count)
        check_values(name, in_range, rows[split], f"lie between 0 and {count - 1} ({count} sequences)")
        for row in rows[split].tolist():
            if row in owner:
                raise ValueError(f"{name} has sequence {row}, which is also in {owner[row]}: remove one of them")
            owner[row] = name
    return rows
