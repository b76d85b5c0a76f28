"""What all DataModules share: whole-batch indexing, checks, seeds and loaders."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeVar, cast, get_args

import numpy as np
import torch
from numpy.typing import NDArray
from pytorch_lightning import LightningDataModule
from pytorch_lightning.overrides.distributed import UnrepeatedDistributedSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, DistributedSampler, Sampler

from lightning_alrnn.batch import AnyBatch, NeuralBatch, Objective, SequenceBatch, Split, TargetStep, valid_steps

SPLITS: tuple[Split, ...] = get_args(Split)

_Batch = TypeVar("_Batch")

_CHUNK = 1024


class SequenceDataset(Dataset[AnyBatch]):
    """A dataset of sequences that is indexed a whole batch at a time.

    ``__getitems__`` takes the list of indices of a batch, because the default collation of single samples would cost
    more than the recurrence itself.

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


class EpochDataset(Dataset[AnyBatch]):
    """Sequences drawn anew each epoch: index epoch · size + i is sequence i of an epoch of ``size`` sequences.

    Only the epoch that was asked for last is held, and it is built by whoever asks: a worker process, or a run resumed
    at any epoch, needs nothing but the index. ``build`` gives all sequences of an epoch as one batch.
    """

    def __init__(self, build: Callable[[int], AnyBatch]) -> None:
        self._build = build
        self._epoch = 0
        self._held: SequenceDataset | None = SequenceDataset(build(0))
        self._size = len(self._held)

    def __len__(self) -> int:
        """Sequences an epoch."""
        return self._size

    def __getitem__(self, index: int) -> AnyBatch:
        """The sequence at ``index``, as a batch of one."""
        return self.__getitems__([index])

    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        """The sequences at ``indices``, all of one epoch, as one batch."""
        epoch = indices[0] // self._size
        rows = [index - epoch * self._size for index in indices]
        if min(rows) < 0 or max(rows) >= self._size:
            raise ValueError(
                f"the indices of a batch must belong to one epoch of {self._size} sequences, got {min(indices)} and "
                f"{max(indices)}: sample them with an EpochSampler"
            )
        return self._at(epoch).__getitems__(rows)

    def epoch_of(self, indices: Sequence[int] | Tensor) -> AnyBatch:
        """All sequences of the one epoch that indices of shape ``(batch,)`` belong to."""
        return self._at(int(indices[0]) // self._size).data

    def _at(self, epoch: int) -> SequenceDataset:
        if self._held is None or epoch != self._epoch:
            self._held = None  # before the next is built, or there would be two in memory
            held = SequenceDataset(self._build(epoch))
            if len(held) != self._size:
                raise ValueError(
                    f"build_epoch must return the same number of sequences in each epoch, got {len(held)} for epoch "
                    f"{epoch} and {self._size} for epoch 0"
                )
            self._held, self._epoch = held, epoch
        return self._held


class EpochSampler(DistributedSampler[int]):
    """Shuffles the training data by (seed, epoch) alone and deals them out to the processes.

    Step k of n processes with batch size b takes the same sequences together as step k of one process with batch size
    n·b. Where the sequences do not divide by n, the first of the epoch's order are given twice. The next pass leaves
    out ``skip`` sequences of this process, as a resumed epoch does.

    Lightning leaves a ``DistributedSampler`` alone and calls ``set_epoch`` on it before each epoch, also after a
    resume. Without that call every pass is the next epoch.
    """

    dataset: SequenceDataset | EpochDataset

    def __init__(self, dataset: SequenceDataset | EpochDataset, num_replicas: int, rank: int, seed: int) -> None:
        super().__init__(dataset, num_replicas=num_replicas, rank=rank, seed=seed)
        self.skip = 0

    def __iter__(self) -> Iterator[int]:
        yield from self.draw().tolist()

    def draw(self) -> NDArray[np.int64]:
        """All indices of the next pass, which counts as begun, in order: shape ``(sequences,)``."""
        epoch, size, skip = self.epoch, len(self.dataset), self.skip
        self.epoch += 1
        self.skip = 0
        # a stream of its own, beside those that draw_trials takes for the splits
        order = np.random.default_rng((self.seed, len(SPLITS), epoch)).permutation(size)
        if isinstance(self.dataset, EpochDataset):
            order += epoch * size
        return np.resize(order, self.total_size)[self.rank :: self.num_replicas][skip:]


class _TrainLoader(DataLoader[AnyBatch]):
    """Asks the sampler at the first batch, not before, and goes on within an epoch.

    Lightning makes the first epoch's iterator before it sets the epoch, and worker processes fetch ahead as soon as
    there is one: a resumed run would train on the wrong epoch. The state, which Lightning puts into checkpoints, is the
    number of batches given in this epoch.
    """

    sampler: EpochSampler
    _given = 0
    _resume_at = 0

    def __iter__(self) -> Iterator[AnyBatch]:  # type: ignore[override]
        self._given, self._resume_at = self._resume_at, 0
        self.sampler.skip = self._given * cast(int, self.batch_size)
        for batch in super().__iter__():
            self._given += 1
            yield batch

    def state_dict(self) -> dict[str, int]:
        return {"batches": self._given}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._resume_at = state["batches"] if state["batches"] < len(self) else 0


def collate(batch: _Batch) -> _Batch:
    """Pass a batch through that ``SequenceDataset.__getitems__`` has already put together."""
    return batch


class SequenceDataModule(LightningDataModule):
    """Base class of the DataModules.

    A subclass implements :meth:`build`, which returns one split, and sets the attributes below in its constructor (or
    in :meth:`setup`, if they depend on the data). To train on new data in each epoch, override :meth:`build_epoch`.

    The order of the training data depends only on ``seed`` and the epoch.

    Args:
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader; data in memory are fastest with 0.
        seed: Seed of the data. The same seed gives the same data for any number of processes and workers.

    Attributes:
        input_size: Number K of input channels; for tokens, ``vocab_size``.
        output_size: Number of outputs or classes.
        objective: Kind of task, "classification" or "regression".
        target_step: Steps whose prediction counts: "last" (the last step of each sequence) or "every".
        criterion: Name of the rule by which a trial of a regression is correct, one of
            :data:`lightning_alrnn.metrics.CRITERIA`, or ``None``. The rule is applied at the last step of each
            sequence.
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
    class_names: list[str] | None = None
    group_names: list[str] | None = None
    phase_names: list[str] | None = None
    vocab_size: int | None = None

    def __init__(self, batch_size: int, num_workers: int, seed: int) -> None:
        super().__init__()
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if num_workers < 0:
            raise ValueError(f"num_workers must not be negative, got {num_workers}")
        if seed < 0:
            raise ValueError(f"seed must not be negative, got {seed}")
        self.batch_size = batch_size
        self.num_workers = num_workers
        self.seed = seed
        self._datasets: dict[Split, SequenceDataset | EpochDataset] = {}

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

        The data must have the same size in every epoch and depend only on the arguments of the constructor and on
        ``epoch``.

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
                alone = copy.copy(self)
                alone.trainer, alone._datasets = None, {}
                self._datasets[split] = EpochDataset(alone._checked_epoch)
            else:
                self._datasets[split] = SequenceDataset(self._checked(split, self.build(split)))
        return self._datasets[split]

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
        if data.group is not None and self.group_names is not None:
            check_groups(f"{split} groups", data.group, self.group_names)
        if isinstance(data, SequenceBatch) and data.phase is not None:
            check_phases(f"{split} phases", data.phase, data.inputs, data.lengths, self.phase_names)
        return data

    def setup(self, stage: str) -> None:
        """Build the splits that the stage needs."""
        needed: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in needed.get(stage, ("test",)):
            self.dataset(split)

    def train_dataloader(self) -> DataLoader[AnyBatch]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[AnyBatch]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[AnyBatch]:
        return self._loader("test")

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
        loader: type[DataLoader[AnyBatch]] = _TrainLoader if split == "train" else DataLoader
        return loader(
            dataset,
            batch_size=self.batch_size,
            sampler=sampler,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            collate_fn=collate,
            # torch's own generator is the training's: what is drawn from it must not depend on how often loaders start
            generator=torch.Generator(),
        )


def draw_trials(
    size: int,
    draw: Callable[[np.random.Generator, int], tuple[NDArray[Any], ...]],
    *,
    seed: int,
    split: Split,
    epoch: int = 0,
) -> tuple[Tensor, ...]:
    """Draw synthetic trials in chunks, each from a generator of its own: tensors of shape ``(size, …)``.

    Chunk c of a split is drawn from the seed (seed, split, c, epoch) and always in full, so trial i is the same
    whatever the size of the split, the number of processes and of workers.
    """
    whole: tuple[NDArray[Any], ...] = ()
    for chunk, start in enumerate(range(0, max(size, 1), _CHUNK)):
        entropy = (seed, SPLITS.index(split), chunk)
        arrays = draw(
            np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(epoch,) if epoch else ())), _CHUNK
        )
        # filled chunk by chunk: to join them at the end would take the memory twice
        whole = whole or tuple(np.empty((size, *array.shape[1:]), array.dtype) for array in arrays)
        for all_, some in zip(whole, arrays, strict=True):
            all_[start : start + _CHUNK] = some[: size - start]
    return tuple(map(torch.from_numpy, whole))


def full_lengths(inputs: Tensor) -> Tensor:
    """Lengths of sequences that are not padded, int64 of shape ``(batch,)``."""
    return torch.full((len(inputs),), inputs.shape[1], dtype=torch.int64)


def check_finite(name: str, values: Tensor, rows: NDArray[np.int64] | None = None) -> None:
    """Raise where values hold NaN or infinity; ``rows`` numbers their rows in the array that the user knows."""
    if values.is_floating_point():
        wrong = ~torch.isfinite(values)
        if bool(wrong.any()):
            index = wrong.nonzero()[0].tolist()
            value = values[tuple(index)].item()
            if rows is not None:
                index[0] = int(rows[index[0]])
            raise ValueError(
                f"{name} must be finite; the first of {int(wrong.sum())} NaN or infinite values is at index {index} "
                f"({value}). Remove or impute it, or shorten that sequence's length"
            )


def check_classes(name: str, targets: Tensor, classes: int, lengths: Tensor) -> None:
    """Raise where a valid target, of shape ``(batch,)`` or ``(batch, time)``, is not one of 0 … classes−1."""
    wrong = (targets < 0) | (targets >= classes)
    advice = "number the classes from 0"
    if targets.ndim == 2:
        wrong &= valid_steps(lengths, targets.shape[1])
        advice += ", and set the mask to 0 at steps that have none"
    if bool(wrong.any()):
        index = wrong.nonzero()[0].tolist()
        raise ValueError(
            f"{name} must be class indices from 0 to {classes - 1} ({classes} classes), "
            f"got {int(targets[tuple(index)])} at index {index}: {advice}"
        )


def check_groups(name: str, group: Tensor, group_names: Sequence[str]) -> None:
    """Raise where a group, an index of shape ``(batch,)``, has no name."""
    wrong = (group < 0) | (group >= len(group_names))
    if bool(wrong.any()):
        index = int(wrong.nonzero()[0])
        raise ValueError(
            f"{name} must be indices from 0 to {len(group_names) - 1} ({len(group_names)} group_names), "
            f"got {int(group[index])} at index {index}: name every group"
        )


def check_phases(
    name: str, phase: Tensor, inputs: Tensor, lengths: Tensor, phase_names: Sequence[str] | None = None
) -> None:
    """Raise unless each step has a phase, shape ``(batch, time)``, below 0 for none, and each phase a name."""
    if phase.dtype != torch.int64 or phase.shape != inputs.shape[:2]:
        raise ValueError(
            f"{name} must be int64 of shape {tuple(inputs.shape[:2])}, one for each step of the inputs, got "
            f"{str(phase.dtype).removeprefix('torch.')} of shape {tuple(phase.shape)}: give -1 to steps without a phase"
        )
    if phase_names is not None:
        wrong = (phase >= len(phase_names)) & valid_steps(lengths, phase.shape[1])
        if bool(wrong.any()):
            index = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"{name} must be indices from 0 to {len(phase_names) - 1} ({len(phase_names)} phase_names), or below 0 "
                f"for none, got {int(phase[tuple(index)])} at index {index}: name every phase"
            )


def check_size(name: str, value: int, minimum: int = 1) -> None:
    """Raise where a whole number is too small."""
    if value < minimum:
        raise ValueError(f"{name} must be at least {minimum}, got {value}")


def check_choice(name: str, value: str, choices: Any) -> None:
    """Raise unless a value is one of those that a ``Literal`` lists."""
    if value not in get_args(choices):
        raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")


def check_fractions(val_fraction: float, test_fraction: float) -> None:
    """Raise unless validation and testing each get a share and leave one to train on."""
    for name, value in (("val_fraction", val_fraction), ("test_fraction", test_fraction)):
        if not 0 < value < 1:
            raise ValueError(f"{name} must lie between 0 and 1, got {value}")
    if val_fraction + test_fraction >= 1:
        raise ValueError(
            f"val_fraction + test_fraction must leave data for training, got {val_fraction} + {test_fraction}"
        )
