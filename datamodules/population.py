"""The data of several networks that are trained in one step."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from lightning_alrnn.batch import AnyBatch, SequenceBatch, Split
from lightning_alrnn.datamodules.base import (
    EpochDataset,
    EpochSampler,
    SequenceDataModule,
    SequenceDataset,
    SplitDataModule,
    announce,
    make_loader,
)

SHARE_OF_GPU = 0.25  # of the memory of a GPU that a copy of the data may take
_AnyDataset: TypeAlias = SequenceDataset | EpochDataset
_Rows = NDArray[np.int64]


class _PopulationDataset(Dataset[SequenceBatch]):
    """Batches ``(E, batch, …)`` of E members. A row of indices has one index for each source."""

    # A source is a dataset with an order. It is read once for all members that share it. With a `device`, a copy of the
    # data is there, and batches are put together there.
    def __init__(
        self, sources: Sequence[_AnyDataset], source_of: Sequence[int], device: torch.device | None = None
    ) -> None:
        self._sources = list(sources)
        self._source_of = torch.tensor(source_of)
        self._distinct = len(sources) == len(source_of)
        self._plain = _are_plain(sources)
        self._device = device
        self._datasets = list(dict.fromkeys(sources))  # a dataset is copied once, even if it has several orders
        self._dataset_of = torch.tensor([self._datasets.index(sources[number]) for number in source_of])
        self._copy: tuple[Tensor | None, ...] = ()  # fields of all sequences, one dataset after the other
        self._epoch = -1  # of the copy

    def __len__(self) -> int:
        return len(self._sources[0])

    def __getitem__(self, row: _Rows) -> SequenceBatch:
        return self.__getitems__([row])

    def __getitems__(self, rows: Sequence[_Rows]) -> SequenceBatch:
        index = torch.from_numpy(np.stack(rows)).T.contiguous()
        if self._device is not None:
            return self._on_device(index, self._device)
        if not self._plain:
            batches = [
                source.__getitems__(indices) for source, indices in zip(self._sources, index.tolist(), strict=True)
            ]
            fields = _joined(batches, _stack)
        else:
            sources = [_sequences(dataset, indices) for dataset, indices in zip(self._sources, index, strict=True)]
            fields = _joined(sources, partial(_gather, index % len(self)))
        if not self._distinct:
            fields = [field if field is None else field.index_select(0, self._source_of) for field in fields]
        return SequenceBatch(*fields)  # type: ignore[arg-type]

    def _on_device(self, index: Tensor, device: torch.device) -> SequenceBatch:
        """A batch of the copy on the device, which only gets the indices."""
        size = len(self)
        epoch = int(index[0, 0]) // size
        if epoch != self._epoch:
            self._copy = ()  # before the next is made, or there would be two in memory
            data = [_sequences(dataset, index[0]) for dataset in self._datasets]
            copies = _joined(data, partial(_stack, device=device))
            self._copy = tuple(None if field is None else field.flatten(0, 1) for field in copies)
            self._epoch = epoch
        rows = (index[self._source_of] % size + size * self._dataset_of.unsqueeze(1)).flatten()
        if device.type == "cuda":
            rows = rows.pin_memory()  # a copy from other memory would wait for the GPU
        rows = rows.to(device, non_blocking=True)
        shape = len(self._source_of), index.shape[1]
        fields = (
            None if field is None else field.index_select(0, rows).view(*shape, *field.shape[1:])
            for field in self._copy
        )
        return SequenceBatch(*fields)  # type: ignore[arg-type]


class _PopulationSampler(Sampler[_Rows]):
    """The orders of several samplers side by side. The next pass leaves out ``skip`` rows."""

    def __init__(self, samplers: Sequence[EpochSampler]) -> None:
        self._samplers = list(samplers)
        self.skip = 0

    def __len__(self) -> int:
        return len(self._samplers[0])

    def __iter__(self) -> Iterator[_Rows]:
        skip, self.skip = self.skip, 0
        yield from np.stack([sampler.draw() for sampler in self._samplers], axis=1)[skip:]

    def set_epoch(self, epoch: int) -> None:
        for sampler in self._samplers:
            sampler.set_epoch(epoch)


class PopulationDataModule(SplitDataModule):
    """Data of a :class:`~lightning_alrnn.modules.PopulationModule`: batches with a leading dimension of its E members.

    Each member gets the same data, in the same order, as from its own DataModule, padded to the most steps of a member.
    Equal data are stored once.

    Args:
        members: DataModule of each member, with the same sizes of splits and batches. An object may occur repeatedly.

    Raises:
        ValueError: If there is no member, or batch sizes differ. In ``setup``, if splits differ in size or shape.

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
        self._datasets: dict[Split, list[_AnyDataset]] = {}
        self._sizes: dict[Split, int] = {}

    def prepare_data(self) -> None:
        """Prepare the data of all members."""
        for member in dict.fromkeys(self.members):
            member.prepare_data()

    def setup(self, stage: str) -> None:
        """Build the splits that the stage needs, and say what the data of the first member are before a training."""
        super().setup(stage)
        if stage == "fit" and self.trainer is not None and self.trainer.is_global_zero:
            announce(self.members[0], f"Data of the first of {len(self.members)} networks: ")

    def _prepare(self, split: Split) -> None:
        if split not in self._datasets:
            datasets = self._datasets[split] = _shared(self.members, split)
            self._sizes[split] = sum(_bytes(_contents(dataset)) for dataset in dict.fromkeys(datasets))

    def _loader(self, split: Split) -> DataLoader[Any]:
        datasets, first = self._datasets[split], self.members[0]
        seeds = [member.seed if split == "train" else 0 for member in self.members]
        keys = [(id(dataset), seed) for dataset, seed in zip(datasets, seeds, strict=True)]
        distinct = dict(zip(keys, datasets, strict=True))
        sources = list(distinct.values())
        sampler: Any = np.arange(len(datasets[0]))[:, None].repeat(len(sources), axis=1)
        if split == "train":
            sampler = _PopulationSampler([EpochSampler(source, 1, 0, seed) for (_, seed), source in distinct.items()])
        dataset = _PopulationDataset(sources, [[*distinct].index(key) for key in keys], self._device(sources))
        return make_loader(dataset, split, sampler, first.batch_size, first.num_workers)

    def _device(self, sources: Sequence[_AnyDataset]) -> torch.device | None:
        """The GPU that gets a copy of the data, or ``None``."""
        device: Any = None if self.trainer is None else self.trainer.strategy.root_device
        if device is None or device.type != "cuda" or self.members[0].num_workers > 0 or not _are_plain(sources):
            return None
        limit = SHARE_OF_GPU * torch.cuda.get_device_properties(device).total_memory
        return device if sum(self._sizes.values()) <= limit else None


def data_bytes(member: SequenceDataModule) -> int:
    """Bytes of the training and validation data of a network, of one epoch if each epoch has new data."""
    return sum(_bytes(value) for split in ("train", "val") for value in _contents(member.dataset(split)))


def _are_plain(sources: Sequence[_AnyDataset]) -> bool:
    """Whether datasets store sequences as they are in a batch, unlike, for example, images stored as bytes."""
    return all(type(source) in (SequenceDataset, EpochDataset) for source in sources)


def _sequences(dataset: _AnyDataset, indices: Tensor) -> AnyBatch:
    """All sequences of a dataset in the epoch of the indices."""
    return dataset.epoch_of(indices) if isinstance(dataset, EpochDataset) else dataset.data


def _joined(batches: Sequence[AnyBatch], join: Callable[[str, Sequence[Tensor]], Tensor]) -> list[Tensor | None]:
    """The fields of several batches, joined by a function of the name and the tensors."""
    columns = zip(SequenceBatch._fields, zip(*batches, strict=True), strict=True)
    return [None if values[0] is None else join(name, values) for name, values in columns]


def _stack(name: str, values: Sequence[Tensor], device: torch.device | None = None) -> Tensor:
    """Tensors stacked on a device, without a second copy of all of them on the CPU."""
    field = _room(name, values, len(values), len(values[0]), device=device)
    for part, value in zip(field, values, strict=True):
        _fill(part, value)
    return field


def _gather(index: Tensor, name: str, values: Sequence[Tensor]) -> Tensor:
    """Rows of each tensor, stacked."""
    field = _room(name, values, *index.shape)
    for part, value, rows in zip(field, values, index, strict=True):
        if value.shape[1:] == part.shape[1:]:
            torch.index_select(value, 0, rows, out=part)
        else:
            _fill(part, value.index_select(0, rows))
    return field


def _room(name: str, values: Sequence[Tensor], *leading: int, device: torch.device | None = None) -> Tensor:
    """A tensor to be filled with a field of several datasets, which is padded if their sequences differ in length."""
    shapes = {value.shape[1:] for value in values}
    room = values[0].new_empty(*leading, *map(max, zip(*shapes, strict=True)), device=device)
    return room if len(shapes) == 1 else room.fill_(-1 if name == "phase" else 0)


def _fill(part: Tensor, value: Tensor) -> None:
    (part[:, : value.shape[1]] if part.dim() > 1 else part).copy_(value)


def _shared(members: Sequence[SequenceDataModule], split: Split) -> list[_AnyDataset]:
    """The dataset of each member, with one object for equal datasets."""
    # a dataset is dropped as soon as it equals an earlier one, so that not all of them are in memory
    distinct: list[_AnyDataset] = []
    result: list[_AnyDataset] = []
    for k, member in enumerate(members):
        dataset = member.dataset(split)
        first = result[0] if result else dataset
        if len(dataset) != len(first) or type(dataset) is not type(first):
            sizes = f"{len(first)} for member 0 and {len(dataset)} for {k}"
            raise ValueError(f"members must have the same number of sequences, got {sizes}")
        same = next((other for other in distinct if _equal(_contents(other), _contents(dataset))), None)
        if same is None:
            distinct.append(dataset)
        else:
            member._datasets[split] = dataset = same  # else the module would keep its copy
        result.append(dataset)
    return result


def _contents(dataset: _AnyDataset) -> tuple[Any, ...]:
    """The contents of a dataset, such as all sequences, or those of the first epoch if each epoch has new ones."""
    return dataset.epoch_of([0]) if isinstance(dataset, EpochDataset) else tuple(vars(dataset).values())


def _bytes(value: Any) -> int:
    """Memory of a value; a file that is mapped takes none."""
    if isinstance(value, tuple):
        return sum(map(_bytes, value))
    return 0 if isinstance(value, np.memmap) else getattr(value, "nbytes", 0)


def _equal(one: Any, other: Any) -> bool:
    """Whether two values, which may contain tensors and arrays, are equal."""
    if one is other:
        return True
    if type(one) is not type(other):
        return False
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(_equal, one, other))
    if isinstance(one, np.memmap):  # may be larger than the memory
        return (one.filename, one.offset, one.shape) == (other.filename, other.offset, other.shape)
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    return np.array_equal(one, other) if isinstance(one, np.ndarray) else bool(one == other)
