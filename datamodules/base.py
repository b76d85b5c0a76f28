"""What all DataModules share: indexing by batches, checks, seeds and loaders."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Self, TypeVar, cast, get_args

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_warn
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from lightning_alrnn.baselines import score_baselines
from lightning_alrnn.batch import AnyBatch, NeuralBatch, Objective, SequenceBatch, Split, TargetStep, valid_steps
from lightning_alrnn.extensions.checkpoint_classes import check_checkpoint_file

SPLITS: tuple[Split, ...] = get_args(Split)

_Batch = TypeVar("_Batch")

if TYPE_CHECKING:
    from builtins import classmethod as _class_only
else:  # Lightning's, which refuses a call on an instance
    _class_only = type(vars(LightningDataModule)["load_from_checkpoint"])

_CHUNK = 1024
_FIRST = 2_000  # training sequences that baselines are fitted to, and that a description is from
_MOST_NAMES = 5  # of classes that a description lists
_NUMBERS = 2**24  # inputs that are read at a time, 64 MB
_FITTED = 2**28  # inputs that baselines are fitted to at most, 1 GB


class SequenceDataset(Dataset[AnyBatch]):
    """A dataset of sequences that is indexed by batches: collating single samples would cost more than the recurrence.

    Args:
        data: All sequences, as one large batch.
    """

    def __init__(self, data: AnyBatch) -> None:
        self.data = data

    def __len__(self) -> int:
        return len(self.data.inputs)

    def __getitem__(self, index: int) -> AnyBatch:
        """Return the sequence at ``index``, as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        """Return the sequences at ``indices``, as one batch."""
        index = torch.as_tensor(indices)
        # a quarter of the time that field[index] takes
        fields = (None if field is None else field.index_select(0, index) for field in self.data)
        batch: AnyBatch = type(self.data)(*fields)  # type: ignore[arg-type]
        # counts are held in the smallest type that has them, a quarter of the memory or less
        return batch._replace(spikes=batch.spikes.float()) if isinstance(batch, NeuralBatch) else batch


class ArrayDataset(SequenceDataset):
    """Sequences that are taken from an array, which may be mapped from a file, when they are needed.

    Args:
        array: Array that :meth:`__getitems__` reads.
    """

    def __init__(self, array: NDArray[Any]) -> None:
        self._array = array

    def __len__(self) -> int:
        raise NotImplementedError

    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        raise NotImplementedError

    def __getstate__(self) -> dict[str, Any]:
        # a spawned process maps the file again: a pickled memory map would send all that it maps
        array = self._array
        if not isinstance(array, np.memmap) or array.filename is None:
            return self.__dict__
        order = "C" if array.flags.c_contiguous else "F"
        mapping = (array.filename, array.dtype, "r", array.offset, array.shape, order)
        return {**self.__dict__, "_array": None, "_mapping": mapping}

    def __setstate__(self, state: dict[str, Any]) -> None:
        mapping = state.pop("_mapping", None)
        self.__dict__.update(state)
        if mapping is not None:
            self._array = np.memmap(*mapping)


class EpochDataset(Dataset[AnyBatch]):
    """Sequences drawn anew in each epoch: index epoch · size + i is sequence i of an epoch of ``size`` sequences."""

    # Only the last epoch is held. It follows from the index, so worker processes and resumed runs need nothing else.
    def __init__(self, build: Callable[[int], AnyBatch]) -> None:
        self._build = build
        self._epoch = 0
        self._held: SequenceDataset | None = SequenceDataset(build(0))
        self._size = len(self._held)

    def __len__(self) -> int:
        return self._size

    def __getitem__(self, index: int) -> AnyBatch:
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        epoch = indices[0] // self._size
        rows = [index - epoch * self._size for index in indices]
        if min(rows) < 0 or max(rows) >= self._size:
            got = f"{min(indices)} and {max(indices)}"
            raise ValueError(f"indices must be of one epoch of {self._size} sequences, got {got}: use an EpochSampler")
        return self._at(epoch).__getitems__(rows)

    def epoch_of(self, indices: Sequence[int] | Tensor) -> AnyBatch:
        """All sequences of the epoch that the indices belong to."""
        return self._at(int(indices[0]) // self._size).data

    def _at(self, epoch: int) -> SequenceDataset:
        if self._held is None or epoch != self._epoch:
            self._held = None  # before the next is built, or there would be two in memory
            dataset = SequenceDataset(self._build(epoch))
            if len(dataset) != self._size:
                got = f"{len(dataset)} for epoch {epoch} and {self._size} for epoch 0"
                raise ValueError(f"build_epoch must return the same number of sequences in each epoch, got {got}")
            self._held, self._epoch = dataset, epoch
        return self._held


class EpochSampler(DistributedSampler[int]):
    """Shuffles the training data by (seed, epoch) only, and divides each step of one process between the processes."""

    # If n processes do not divide the sequences, the first of the order are used twice. The next pass leaves out `skip`
    # sequences of this process, as a resumed epoch does. Lightning leaves a DistributedSampler alone and calls
    # `set_epoch` before each epoch, also after a resume; without that call, every pass is the next epoch.
    dataset: SequenceDataset | EpochDataset

    def __init__(self, dataset: SequenceDataset | EpochDataset, num_replicas: int, rank: int, seed: int) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=seed)
        self.skip = 0

    def __iter__(self) -> Iterator[int]:
        yield from self.draw().tolist()

    def draw(self) -> NDArray[np.int64]:
        """Begin the next pass and return all its indices in order."""
        epoch, size, skip = self.epoch, len(self.dataset), self.skip
        self.epoch += 1
        self.skip = 0
        # a stream of its own, beside those that draw_trials takes for the splits
        order = np.random.default_rng((self.seed, len(SPLITS), epoch)).permutation(size)
        if isinstance(self.dataset, EpochDataset):
            order += epoch * size
        return np.resize(order, self.total_size)[self.rank :: self.num_replicas][skip:]


class _TrainLoader(DataLoader[AnyBatch]):
    """Asks the sampler at the first batch and can resume within an epoch: its state is the number of batches so far."""

    # Lightning makes the iterator of the first epoch before it sets the epoch, and worker processes fetch ahead as soon
    # as there is one, so a resumed run would train on the wrong epoch.
    sampler: EpochSampler
    _done = 0
    _resume_at = 0

    def __iter__(self) -> Iterator[AnyBatch]:  # type: ignore[override]
        self._done, self._resume_at = self._resume_at, 0
        self.sampler.skip = self._done * cast(int, self.batch_size)
        for batch in super().__iter__():
            self._done += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"batches": self._done}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._resume_at = state["batches"] if state["batches"] < len(self) else 0


def collate(batch: _Batch) -> _Batch:
    """Return the batch, which ``SequenceDataset.__getitems__`` has already put together."""
    return batch


class SplitDataModule(LightningDataModule):
    """The stages and loaders of a DataModule, from ``_prepare(split)`` and ``_loader(split)``."""

    @_class_only
    def load_from_checkpoint(
        cls,  # noqa: N805
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Make the DataModule of a checkpoint, unless the checkpoint names a class that it may not name."""
        check_checkpoint_file(cls, checkpoint_path, map_location, weights_only, kwargs)
        return super().load_from_checkpoint(checkpoint_path, map_location, hparams_file, weights_only, **kwargs)

    def setup(self, stage: str) -> None:
        """Build the splits that the stage needs."""
        needed: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in needed.get(stage, ("test",)):
            self._prepare(split)

    def train_dataloader(self) -> DataLoader[Any]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[Any]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self._loader("test")

    def _prepare(self, split: Split) -> None:
        raise NotImplementedError

    def _loader(self, split: Split) -> DataLoader[Any]:
        raise NotImplementedError


def make_loader(dataset: Dataset[Any], split: Split, sampler: Any, batch_size: int, workers: int) -> DataLoader[Any]:
    """The loader of a dataset that is indexed by batches."""
    loader: type[DataLoader[Any]] = _TrainLoader if split == "train" else DataLoader
    return loader(
        dataset,
        batch_size=batch_size,
        sampler=sampler,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=collate,
        # torch's own generator is for the training: what is drawn from it must not depend on how often loaders start
        generator=torch.Generator(),
    )


class SequenceDataModule(SplitDataModule):
    """Base class of the DataModules.

    A subclass implements :meth:`build`, which returns one split, and sets the attributes below in its constructor (or
    in :meth:`setup`, if they depend on the data). To train on new data in each epoch, override :meth:`build_epoch`.

    Args:
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader; data in memory are fastest with 0.
        seed: Seed of the data. The same seed gives the same data for any number of processes and workers.

    Attributes:
        input_size: Number K of input channels; for tokens, ``vocab_size``.
        output_size: Number of outputs or classes.
        objective: Kind of task, "classification" or "regression".
        target_step: Steps whose prediction counts: "last" (the last step of each sequence) or "every".
        criterion: Rule by which a trial of a regression is correct, in :data:`lightning_alrnn.metrics.CRITERIA`.
        input_names: Names of the input channels, or ``None``; tokens have none.
        output_names: Names of the outputs of a regression, or ``None``.
        class_names: Names of the classes, or ``None``.
        group_names: Names of the groups in the ``group`` of a batch, or ``None``.
        phase_names: Names of the phases in the ``phase`` of a batch, or ``None``.
        vocab_size: Number of different tokens, or ``None`` if the inputs are not tokens.

    Raises:
        ValueError: If ``batch_size`` is less than 1, or ``num_workers`` or ``seed`` is negative.
    """

    input_size: int
    output_size: int
    objective: Objective
    target_step: TargetStep
    criterion: str | None = None
    input_names: list[str] | None = None
    output_names: list[str] | None = None
    class_names: list[str] | None = None
    group_names: list[str] | None = None
    phase_names: list[str] | None = None
    vocab_size: int | None = None

    def __init__(self, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        check_size("batch_size", batch_size)
        check_size("num_workers", num_workers, 0)
        check_size("seed", seed, 0)
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._datasets: dict[Split, SequenceDataset | EpochDataset] = {}
        self._baselines: dict[Split, dict[str, dict[str, float]]] = {}

    def build(self, split: Split) -> AnyBatch:
        """Build all sequences of one split, as one batch of tensors on the CPU.

        Args:
            split: Name of the split, "train", "val" or "test".

        Returns:
            One batch with a row for each sequence.
        """
        raise NotImplementedError(f"{type(self).__name__} must implement build(split)")

    def build_epoch(self, epoch: int) -> AnyBatch:
        """Build the training data of an epoch. Override this method to train on new data in each epoch.

        The size must be the same in every epoch, and the data must depend only on the DataModule and ``epoch``.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            One batch with a row for each sequence.
        """
        return self.build("train")

    def dataset(self, split: Split) -> SequenceDataset | EpochDataset:
        """Return the dataset of a split, which is built on first use.

        Args:
            split: Name of the split, "train", "val" or "test".

        Returns:
            The dataset, the same object at each call.

        Raises:
            ValueError: If the split is empty, has NaN or infinite values, or has a group or a phase without a name, or
                if there is not one phase for each step.
        """
        if split not in self._datasets:
            if split == "train" and type(self).build_epoch is not SequenceDataModule.build_epoch:
                # worker processes may need to pickle it, which a Trainer does not survive
                without_trainer = copy.copy(self)
                without_trainer.trainer, without_trainer._datasets = None, {}
                self._datasets[split] = EpochDataset(without_trainer._checked_epoch)
            else:
                self._datasets[split] = SequenceDataset(self._checked(split, self.build(split)))
        return self._datasets[split]

    def setup(self, stage: str) -> None:
        """Build the splits that the stage needs, and say what the data are before a training."""
        super().setup(stage)
        if stage == "fit" and self.trainer is not None and self.trainer.is_global_zero:
            announce(self)

    def describe(self) -> str:
        """Return one line that says what the data are, which is printed before a training.

        The standard deviations of the inputs are those of the channels over the valid steps of the first 2,000 training
        sequences.

        Example:
            >>> from lightning_alrnn.datamodules import Addition
            >>> Addition(train_size=500).describe()
            '500 sequences of 100 steps with 2 channels; regression at the last step, 1 output; 500 for training; sd of
            the inputs 0.14-0.29'
        """
        batch = self._first_sequences(self._described(), _NUMBERS)
        sizes = self._split_sizes()
        listed = " / ".join(f"{size:,}" for size in sizes.values())
        splits = " / ".join({"train": "training", "val": "validation", "test": "test"}[split] for split in sizes)
        new = self._is_new_in_each_epoch()
        parts = [
            self._describe_sequences(batch, sum(sizes.values())),
            self._describe_targets(batch),
            f"{listed}{self._describe_part()} for {splits}{', the training data new in each epoch' if new else ''}",
            self._describe_scale(batch),
        ]
        return "; ".join(filter(None, parts))

    def likely_mistakes(self) -> list[str]:
        """Return what is probably wrong with the data, each with its remedy. Each is a warning before a training."""
        return []

    def _is_new_in_each_epoch(self) -> bool:
        return isinstance(self.dataset("train"), EpochDataset)

    def _described(self) -> Split:
        """The split that a description is from."""
        return "train"

    def _first_sequences(self, split: Split, numbers: int) -> AnyBatch:
        dataset = self.dataset(split)
        count = min(len(dataset), _FIRST, max(numbers // dataset[0].inputs.numel(), 1))
        return dataset.__getitems__(range(count))

    def _split_sizes(self) -> dict[Split, int]:
        """Number of sequences of each split that is built."""
        return {split: len(self._datasets[split]) for split in SPLITS if split in self._datasets}

    def _step_range(self, batch: AnyBatch) -> tuple[int, int]:
        """Least and greatest length of the sequences that are built."""
        every = torch.cat([_all_lengths(dataset, batch) for dataset in self._datasets.values()])
        return int(every.min()), int(every.max())

    def _describe_part(self) -> str:
        return ""

    def _describe_sequences(self, batch: AnyBatch, count: int) -> str:
        steps = span(*self._step_range(batch))
        return f"{count_of(count, 'sequence')} of {steps} steps {self._describe_channels(batch)}"

    def _describe_channels(self, batch: AnyBatch) -> str:
        if not batch.inputs.is_floating_point():
            return f"of tokens from a vocabulary of {self.vocab_size or self.input_size:,}"
        channels = f"with {count_of(batch.inputs[0, 0].numel(), 'channel')}"
        return (
            f"{channels} and spikes of {batch.spikes.shape[2]:,} units" if isinstance(batch, NeuralBatch) else channels
        )

    def _describe_targets(self, batch: AnyBatch) -> str:
        classes = self.objective == "classification"
        outputs = f"{self.output_size} class{'es' if self.output_size != 1 else ''}" if classes else ""
        if classes and self.class_names and len(self.class_names) <= _MOST_NAMES:
            outputs += f" ({', '.join(self.class_names)})"
        steps = "the last step" if self.target_step == "last" else "every step"
        if isinstance(batch, SequenceBatch) and _is_translation(batch, self.target_step):
            steps = "every step of an output sequence"
        groups = f", {count_of(len(self.group_names), 'group')}" if self.group_names else ""
        return f"{self.objective} at {steps}, {outputs or count_of(self.output_size, 'output')}{groups}"

    def _describe_scale(self, batch: AnyBatch) -> str:
        if not batch.inputs.is_floating_point():
            return ""
        deviations = batch.inputs[valid_steps(batch.lengths, batch.inputs.shape[1])].double().std(dim=0, correction=0)
        return f"sd of the inputs {span(float(deviations.min()), float(deviations.max()))}"

    def baselines(self, split: Split = "val") -> dict[str, dict[str, float]]:
        """Return the scores of predictors without a network, which are computed on first use.

        :func:`lightning_alrnn.baselines.score_baselines` says what the predictors are. They are fitted to the training
        data, and to those of the first epoch if each epoch has new data.

        Args:
            split: Name of the split that they are scored on, "train", "val" or "test".

        Returns:
            The scores of each predictor by its name. Recorded neurons and sequence-to-sequence tasks have no baselines.
        """
        if split not in self._baselines:
            train = self._first_sequences("train", _FITTED)
            if isinstance(train, NeuralBatch) or _is_translation(train, self.target_step):
                self._baselines[split] = {}
            else:
                evaluation = cast("Iterator[SequenceBatch]", chunks(self.dataset(split), train))
                self._baselines[split] = score_baselines(
                    train,
                    evaluation,
                    self.objective,
                    self.target_step,
                    outputs=self.output_size,
                    criterion=self.criterion,
                )
        return {name: dict(scores) for name, scores in self._baselines[split].items()}

    def _prepare(self, split: Split) -> None:
        self.dataset(split)

    def __str__(self) -> str:
        """Return the class and the sizes of the splits that are built; Lightning's method would build all of them."""
        sizes = ", ".join(f"{split}={len(dataset)}" for split, dataset in self._datasets.items())
        return f"{type(self).__name__}({sizes})"

    def _checked_epoch(self, epoch: int) -> AnyBatch:
        return self._checked("train", self.build_epoch(epoch))

    def _checked(self, split: Split, data: AnyBatch) -> AnyBatch:
        if len(data.inputs) == 0:
            raise ValueError(f"the {split} split of {type(self).__name__} is empty: it needs at least one sequence")
        check_finite(f"{split} inputs", data.inputs)
        check_finite(f"{split} targets", data.targets)
        if isinstance(data, NeuralBatch):
            check_finite(f"{split} spikes", data.spikes)
        groups, names = data.group, self.group_names
        if groups is not None and names is not None:
            must = f"be indices from 0 to {len(names) - 1} ({len(names)} group_names)"
            check_values(f"{split} groups", (groups >= 0) & (groups < len(names)), groups, must, "name every group")
        if not isinstance(data, NeuralBatch) and data.phase is not None:
            self._check_phases(f"{split} phases", data.phase, data.lengths, data.inputs.shape[:2])
        return data

    def _check_phases(self, name: str, phases: Tensor, lengths: Tensor, shape: tuple[int, ...]) -> None:
        if phases.dtype != torch.int64 or phases.shape != shape:
            raise ValueError(
                f"{name} must be int64 of shape {tuple(shape)}, one for each step of the inputs, got "
                f"{str(phases.dtype).removeprefix('torch.')} of shape {tuple(phases.shape)}: use -1 for no phase"
            )
        if self.phase_names is not None:
            count = len(self.phase_names)
            named = (phases < count) | ~valid_steps(lengths, phases.shape[1])
            must = f"be indices from 0 to {count - 1} ({count} phase_names), or negative for no phase"
            check_values(name, named, phases, must, "name every phase")

    def predict_dataloader(self) -> DataLoader[AnyBatch]:
        """Return the test split, in order."""
        return self._loader("test")

    def _loader(self, split: Split) -> DataLoader[AnyBatch]:
        dataset = self.dataset(split)
        sampler: Sampler[int] | None = None
        trainer = self.trainer
        world_size, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
        if split == "train":
            sampler = EpochSampler(dataset, world_size, rank, self.seed)
        elif 1 < world_size <= len(dataset):
            # Lightning's own sampler repeats samples to even out the processes, which would count them twice
            sampler = UnrepeatedDistributedSampler(dataset, num_replicas=world_size, rank=rank, shuffle=False)
        return make_loader(dataset, split, sampler, self.batch_size, self.num_workers)


def announce(data: SequenceDataModule, owner: str = "") -> None:
    """Print what the data are and warn of likely mistakes."""
    rank_zero_info(f"{owner}{data.describe()}")
    for mistake in data.likely_mistakes():
        rank_zero_warn(mistake)


def count_of(number: int, noun: str) -> str:
    """A number and its noun, such as "1 channel" or "1,000 channels"."""
    return f"{number:,} {noun}{'' if number == 1 else 's'}"


def short(number: float) -> str:
    """A number in two digits, or as a whole number from 100 on."""
    return f"{number:,.0f}" if 100 <= abs(number) < 1e6 or number == int(number) else f"{number:.2g}"


def span(least: float, most: float) -> str:
    """A range of numbers such as "30-80", or one number if both are written the same."""
    return short(least) if short(least) == short(most) else f"{short(least)}-{short(most)}"


def _all_lengths(dataset: SequenceDataset | EpochDataset, batch: AnyBatch) -> Tensor:
    """Lengths of all sequences; those of the batch where a dataset does not hold them, because all are equal."""
    data = dataset.epoch_of([0]) if isinstance(dataset, EpochDataset) else getattr(dataset, "data", batch)
    return cast(Tensor, data.lengths)


def _is_translation(batch: SequenceBatch, target_step: TargetStep) -> bool:
    """Whether the steps of the targets are not those of the inputs, as in sequence-to-sequence tasks."""
    if target_step == "last":
        return False
    steps = batch.inputs.shape[1]
    if batch.targets.shape[1] != steps:
        return True
    after = ~valid_steps(batch.lengths, steps)
    return batch.mask is not None and bool((batch.mask.reshape(*after.shape, -1)[after] > 0).any())


def chunks(dataset: SequenceDataset | EpochDataset, example: AnyBatch) -> Iterator[AnyBatch]:
    """All sequences of a dataset in order; vectors of words may need more memory than what they are made from."""
    size = max(_NUMBERS // example.inputs[0].numel(), 1)
    for begin in range(0, len(dataset), size):
        yield dataset.__getitems__(range(begin, min(begin + size, len(dataset))))


def draw_trials(
    size: int,
    draw: Callable[[np.random.Generator, int], tuple[NDArray[Any], ...]],
    *,
    seed: int,
    split: Split,
    epoch: int = 0,
) -> tuple[Tensor, ...]:
    """Draw trials as tensors of shape ``(size, …)``. Trial i is the same for any size of the split."""
    # each chunk has its own generator and is always drawn in full
    trials: tuple[NDArray[Any], ...] = ()
    for chunk, start in enumerate(range(0, max(size, 1), _CHUNK)):
        entropy = (seed, SPLITS.index(split), chunk)
        arrays = draw(
            np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(epoch,) if epoch else ())), _CHUNK
        )
        # filled chunk by chunk: to join them at the end would take the memory twice
        trials = trials or tuple(np.empty((size, *array.shape[1:]), array.dtype) for array in arrays)
        for field, chunk_of_field in zip(trials, arrays, strict=True):
            field[start : start + _CHUNK] = chunk_of_field[: size - start]
    return tuple(map(torch.from_numpy, trials))


def full_lengths(inputs: Tensor) -> Tensor:
    """Lengths of sequences that are not padded, int64 of shape ``(batch,)``."""
    return torch.full((len(inputs),), inputs.shape[1], dtype=torch.int64)


def random_parts(size: int, count: int, *, seed: int, split: Split) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """A random part of ``size`` of ``count`` indices, held out for a split, and the others, each in order."""
    order = np.random.default_rng((seed, SPLITS.index(split))).permutation(count)
    return np.sort(order[:size]), np.sort(order[size:])


def check_finite(
    name: str,
    values: Tensor,
    rows: NDArray[np.int64] | None = None,
    advice: str = "Remove or impute it, or shorten that sequence's length",
) -> None:
    """Raise if there are NaN or infinite values; ``rows`` are the numbers of the rows in the user's array."""
    if not values.is_floating_point() or values.numel() == 0:
        return
    size = max(_NUMBERS // values[0].numel(), 1)  # in pieces, or the check would need twice the memory of the values
    pieces = torch.split(values, size)
    wrong = [int((~torch.isfinite(piece)).sum()) for piece in pieces]
    if any(wrong):
        first = next(place for place, count in enumerate(wrong) if count)
        index = (~torch.isfinite(pieces[first])).nonzero()[0].tolist()
        index[0] += first * size
        value = values[tuple(index)].item()
        if rows is not None:
            index[0] = int(rows[index[0]])
        raise ValueError(
            f"{name} must be finite; the first of {sum(wrong)} NaN or infinite values is at index {index} "
            f"({value}). {advice}"
        )


def check_values(name: str, correct: Any, values: Any, must: str, advice: str = "") -> None:
    """Raise if not all values, a tensor or an array, are correct, with the first that is not and its index."""
    if not correct.all():
        index = np.argwhere(~np.asarray(correct))[0].tolist()
        place = index[0] if len(index) == 1 else index
        ending = f": {advice}" if advice else ""
        raise ValueError(f"{name} must {must}, got {values[tuple(index)]} at index {place}{ending}")


def check_size(name: str, value: int, minimum: int = 1) -> None:
    """Raise if a whole number is too small."""
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def check_sizes(train_size: int, val_size: int, test_size: int) -> dict[Split, int]:
    """The sizes by split; raise if one is less than 1."""
    sizes: dict[Split, int] = {"train": train_size, "val": val_size, "test": test_size}
    for split, size in sizes.items():
        check_size(f"{split}_size", size)
    return sizes


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raise if a value is none of those of a ``Literal``."""
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")


def check_fraction(name: str, value: float) -> None:
    """Raise if a number is not between 0 and 1."""
    if not 0 < value < 1:
        raise ValueError(f"{name} must lie between 0 and 1, got {value}")


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise if validation, testing or training would get no data."""
    check_fraction("val_fraction", val_fraction)
    check_fraction("test_fraction", test_fraction)
    if val_fraction + test_fraction >= 1:
        raise ValueError(f"val_fraction + test_fraction must be less than 1, got {val_fraction} + {test_fraction}")


def variant_options(
    variant: str, defaults: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Any], noun: str = "variant"
) -> dict[str, Any]:
    """The options of a variant: the chosen values, and defaults for those that are ``None``."""
    options = dict(defaults[variant])
    for name, value in chosen.items():
        if value is None:
            continue
        if name not in options:
            owners = ", ".join(repr(other) for other in defaults if name in defaults[other])
            raise ValueError(
                f"{name} is an option of {noun} {owners}, got {name}={value!r} with {noun}={variant!r}: "
                f"leave it out, or change the {noun}; {variant!r} has {', '.join(options)}"
            )
        options[name] = value
    return options
