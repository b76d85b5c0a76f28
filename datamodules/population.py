"""The data of several networks that are trained in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import torch
from pytorch_lightning import LightningDataModule
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.datamodules.base import (
    EpochDataset,
    EpochSampler,
    SequenceDataModule,
    SequenceDataset,
    _TrainLoader,
    collate,
)

_Rows = tuple[int, ...]


class _PopulationDataset(Dataset[SequenceBatch]):
    """Batches ``(E, batch, …)`` of E datasets of one size; a row of indices has one for each source.

    A source is a dataset with an order, which several members may have in common: it is read once for all of them.
    """

    def __init__(self, sources: Sequence[SequenceDataset | EpochDataset], source_of: Sequence[int]) -> None:
        self._sources = list(sources)
        self._source_of = torch.tensor(source_of)
        self._distinct = len(sources) == len(source_of)
        # others hold what they make a batch from, such as bytes
        self._plain = all(type(source) in (SequenceDataset, EpochDataset) for source in sources)

    def __len__(self) -> int:
        return len(self._sources[0])

    def __getitem__(self, row: _Rows) -> SequenceBatch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[_Rows]) -> SequenceBatch:
        index = torch.as_tensor(rows).T.contiguous()
        if not self._plain:
            batches = [source.__getitems__(own) for source, own in zip(self._sources, index.tolist(), strict=True)]
            stacked = (None if values[0] is None else torch.stack(values) for values in zip(*batches, strict=True))
            return SequenceBatch(
                *(field if field is None or self._distinct else field[self._source_of] for field in stacked)  # type: ignore[arg-type]
            )
        sources = [
            dataset.epoch_of(own) if isinstance(dataset, EpochDataset) else dataset.data
            for dataset, own in zip(self._sources, index, strict=True)
        ]
        if isinstance(self._sources[0], EpochDataset):
            index = index % len(self)
        fields: list[Tensor | None] = []
        for values in zip(*sources, strict=True):
            if values[0] is None:
                fields.append(None)
                continue
            field = values[0].new_empty(*index.shape, *values[0].shape[1:])
            for k, value in enumerate(values):
                torch.index_select(value, 0, index[k], out=field[k])
            fields.append(field if self._distinct else field.index_select(0, self._source_of))
        return SequenceBatch(*fields)  # type: ignore[arg-type]


class _PopulationSampler(Sampler[_Rows]):
    """The orders of several samplers side by side."""

    def __init__(self, samplers: Sequence[EpochSampler]) -> None:
        self._samplers = list(samplers)

    def __len__(self) -> int:
        return len(self._samplers[0])

    def __iter__(self) -> Iterator[_Rows]:
        return zip(*self._samplers, strict=True)

    def set_epoch(self, epoch: int) -> None:
        for sampler in self._samplers:
            sampler.set_epoch(epoch)

    @property
    def skip(self) -> int:
        """How many rows the next pass leaves out, as a resumed epoch does."""
        return self._samplers[0].skip

    @skip.setter
    def skip(self, count: int) -> None:
        for sampler in self._samplers:
            sampler.skip = count


class PopulationDataModule(LightningDataModule):
    """Batches for a :class:`~lightning_alrnn.modules.PopulationModule`, with a leading dimension of its E members.

    Each member gets the data, and in training the order, that its own DataModule would give it. Data that members have
    in common are held once.

    Args:
        members: the DataModule of each member, all with splits of the same sizes and the same batch size. One object
            may stand in several places.

    Raises:
        ValueError: if there is no member, or batch sizes differ; in ``setup`` if splits differ in size or shape.

    Example:
        >>> from lightning_alrnn.datamodules import Addition
        >>> data = PopulationDataModule([Addition(sequence_length=10, train_size=64, seed=seed) for seed in range(3)])
        >>> data.setup("fit")
        >>> next(iter(data.train_dataloader())).inputs.shape
        torch.Size([3, 64, 10, 2])
    """

    def __init__(self, members: Sequence[SequenceDataModule]) -> None:
        super().__init__()
        if not members:
            raise ValueError("a population needs the DataModule of at least one member, got none")
        sizes = {member.batch_size for member in members}
        if len(sizes) > 1:
            raise ValueError(f"members must have the same batch_size, got {sorted(sizes)}")
        self.members = list(members)
        self._datasets: dict[Split, list[SequenceDataset | EpochDataset]] = {}

    def prepare_data(self) -> None:
        """Fetch what the members' data are made from."""
        for member in dict.fromkeys(self.members):
            member.prepare_data()

    def setup(self, stage: str) -> None:
        """Build the splits that the stage needs."""
        needed: dict[str, tuple[Split, ...]] = {"fit": ("train", "val"), "validate": ("val",)}
        for split in needed.get(stage, ("test",)):
            if split not in self._datasets:
                self._datasets[split] = _shared(self.members, split)

    def train_dataloader(self) -> DataLoader[SequenceBatch]:
        return self._loader("train")

    def val_dataloader(self) -> DataLoader[SequenceBatch]:
        return self._loader("val")

    def test_dataloader(self) -> DataLoader[SequenceBatch]:
        return self._loader("test")

    def _loader(self, split: Split) -> DataLoader[SequenceBatch]:
        datasets, first = self._datasets[split], self.members[0]
        seeds = [member.seed if split == "train" else 0 for member in self.members]
        keys = [(id(dataset), seed) for dataset, seed in zip(datasets, seeds, strict=True)]
        distinct = {key: (dataset, key[1]) for key, dataset in zip(keys, datasets, strict=True)}
        sources = [dataset for dataset, _ in distinct.values()]
        sampler: Iterable[_Rows] = [(row,) * len(sources) for row in range(len(datasets[0]))]
        if split == "train":
            sampler = _PopulationSampler([EpochSampler(dataset, 1, 0, seed) for dataset, seed in distinct.values()])
        loader: Callable[..., DataLoader[Any]] = _TrainLoader if split == "train" else DataLoader
        return loader(
            _PopulationDataset(sources, [[*distinct].index(key) for key in keys]),
            batch_size=first.batch_size,
            sampler=sampler,
            num_workers=first.num_workers,
            persistent_workers=first.num_workers > 0,
            collate_fn=collate,
            generator=torch.Generator(),
        )


def data_bytes(member: SequenceDataModule) -> int:
    """How much memory the training and validation data of a network take.

    Args:
        member: its DataModule, set up.

    Returns:
        Bytes; of an epoch where each has data of its own.
    """
    return sum(_bytes(value) for split in ("train", "val") for value in _held(member.dataset(split)))


def _shared(members: Sequence[SequenceDataModule], split: Split) -> list[SequenceDataset | EpochDataset]:
    """The datasets, with one object for all that hold the same tensors; raise unless they fit together.

    One is built after the other, and given up where an earlier member has the same: never are all of them in memory.
    """
    kept: list[SequenceDataset | EpochDataset] = []
    result: list[SequenceDataset | EpochDataset] = []
    for k, member in enumerate(members):
        dataset = member.dataset(split)
        first = result[0] if result else dataset
        if len(dataset) != len(first) or type(dataset) is not type(first):
            raise ValueError(
                f"members must have the same number of sequences, got {len(first)} for member 0 and {len(dataset)} "
                f"for {k}: train them in populations of their own"
            )
        same = next((other for other in kept if _equal(_held(other), _held(dataset))), None)
        if same is None:
            kept.append(dataset)
        else:
            member._datasets[split] = dataset = same  # else the module would go on holding a copy
        result.append(dataset)
    return result


def _held(dataset: SequenceDataset | EpochDataset) -> tuple[Any, ...]:
    """What a dataset holds, such as all sequences; those of the first epoch where each epoch has its own."""
    return dataset.epoch_of([0]) if isinstance(dataset, EpochDataset) else tuple(vars(dataset).values())


def _bytes(value: Any) -> int:
    """Memory that a value takes; what is mapped from a file takes none."""
    if isinstance(value, tuple):
        return sum(map(_bytes, value))
    return 0 if isinstance(value, np.memmap) else getattr(value, "nbytes", 0)


def _equal(one: Any, other: Any) -> bool:
    """Whether two values are the same, as far as tensors and arrays within them go."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, np.memmap):  # it may be larger than the memory
        return (one.filename, one.offset, one.shape) == (other.filename, other.offset, other.shape)
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)
