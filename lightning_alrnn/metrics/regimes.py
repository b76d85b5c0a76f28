"""Counting of regimes over batches and processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional
from torchmetrics import Metric
from torchmetrics.metric import jit_distributed_available
from torchmetrics.utilities.data import dim_zero_cat

from lightning_alrnn.analysis.regime_statistics import (
    GroupOccupancy,
    PackedCounts,
    RegimeCounts,
    count_packed,
    group_occupancy,
    merge_rows,
    no_counts,
    pack_bits,
    regime_bits,
    regime_counts,
    summarize_regimes,
    switches_and_moves,
)

_COUNT_AT_ONCE = 2**20
_MERGE_EVERY = 64
_MAX_GROUPS = 64
_ROWS_AND_COUNTS = tuple(zip(PackedCounts._fields[::2], PackedCounts._fields[1::2], strict=True))


class RegimeCounter(Metric):
    """Counts of the linear regimes that states visit, of their transitions, and of the regimes of each group.

    An update does not wait for the device: it stores the packed batch, and batches are counted together.

    Args:
        nonlinear_units: Number P of nonlinear units.
        max_regimes: Largest number of regimes, of transitions, and of regimes of all groups that a process stores; the
            rarest are dropped.

    Example:
        >>> counter = RegimeCounter(nonlinear_units=1)
        >>> counter.update(torch.tensor([[[1.0], [-1.0], [-2.0]]]), torch.tensor([3]))
        >>> counter.regimes().counts
        tensor([2, 1])
    """

    full_state_update = False

    codes: list[Tensor]
    counts: list[Tensor]
    pairs: list[Tensor]
    pair_counts: list[Tensor]
    group_codes: list[Tensor]
    group_code_counts: list[Tensor]
    groups: list[Tensor]
    group_counts: list[Tensor]
    steps: Tensor
    moves: Tensor
    switches: Tensor
    waiting: list[Tensor]
    waiting_lengths: list[Tensor]
    waiting_groups: list[Tensor]

    def __init__(self, nonlinear_units: int, max_regimes: int = 65_536) -> None:
        super().__init__()
        self.nonlinear_units = nonlinear_units
        self.max_regimes = max_regimes
        for name in PackedCounts._fields:
            self.add_state(name, default=[], dist_reduce_fx="cat")
        for name in ("steps", "moves", "switches"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")
        for name in ("waiting", "waiting_lengths", "waiting_groups"):
            self.add_state(name, default=[])

    def update(self, states: Tensor, lengths: Tensor, group: Tensor | None = None) -> None:
        """Count a batch.

        Args:
            states: States z_1 … z_T, shape ``(batch, time, M)``.
            lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
            group: Index of the group of each sequence, int64 of shape ``(batch,)``; ``None`` without groups.
        """
        self.waiting.append(pack_bits(regime_bits(states, self.nonlinear_units)))
        self.waiting_lengths.append(lengths)
        self.waiting_groups.append(lengths[:0] if group is None else group)
        if sum(packed[..., 0].numel() for packed in self.waiting) >= _COUNT_AT_ONCE:
            self._count()

    def compute(self) -> dict[str, Tensor]:
        """Return the fields of :class:`RegimeSummary` over all batches and processes."""
        return {name: torch.tensor(value) for name, value in summarize_regimes(self._regimes())._asdict().items()}

    def regimes(self) -> RegimeCounts:
        """Return the counts over all batches and processes, on the CPU. Call this method on every process."""
        with self.sync_context():
            return self._regimes()

    def group_occupancy(self, groups: int | None = None) -> GroupOccupancy:
        """Return the regimes of each group over all batches and processes, on the CPU. Call this on every process.

        Args:
            groups: Number of groups; ``None`` lists the groups that occur. If there are more than 64 groups, those with
                the most steps are listed.
        """
        with self.sync_context():
            return group_occupancy(self._packed(), self.nonlinear_units, groups, _MAX_GROUPS)

    def _packed(self) -> PackedCounts:
        return PackedCounts(*(dim_zero_cat(getattr(self, name)).cpu() for name in PackedCounts._fields))

    def _regimes(self) -> RegimeCounts:
        totals = {name: int(getattr(self, name)) for name in ("steps", "moves", "switches")}
        return regime_counts(self._packed(), self.nonlinear_units, **totals)

    def sync(self, *args: object, **kwargs: object) -> None:
        """Gather the counts of all processes."""
        self._count()
        if not self.codes:  # a process without data must still send tensors of the right type and width
            self._append(no_counts(self.nonlinear_units, self.device))
        rows = max(sum(map(len, getattr(self, name))) for name, _ in _ROWS_AND_COUNTS)
        if rows > self.max_regimes or jit_distributed_available():  # of one process, few rows can stay as they are
            self._merge()
        super().sync(*args, **kwargs)  # type: ignore[arg-type]

    def _count(self) -> None:
        """Count the batches that wait, those with groups and those without each in one go."""
        batches = list(zip(self.waiting, self.waiting_lengths, self.waiting_groups, strict=True))
        self.waiting, self.waiting_lengths, self.waiting_groups = [], [], []
        for grouped in (False, True):
            some = [batch for batch in batches if grouped == bool(len(batch[2]))]
            if not some:
                continue
            time = max(packed.shape[1] for packed, *_ in some)
            padded = [functional.pad(packed, (0, 0, 0, time - packed.shape[1])) for packed, *_ in some]
            lengths, group = (torch.cat(column) for column in list(zip(*some, strict=True))[1:])
            counts = count_packed(torch.cat(padded), lengths, self.nonlinear_units, group if grouped else None)
            switches, moves = switches_and_moves(counts)
            self.steps += counts.counts.sum()
            self.moves += moves
            self.switches += switches
            self._append(counts)
        if len(self.codes) >= _MERGE_EVERY:
            self._merge()

    def _append(self, packed: PackedCounts) -> None:
        for name, values in zip(PackedCounts._fields, packed, strict=True):
            getattr(self, name).append(values)

    def _merge(self) -> None:
        for rows, counts in _ROWS_AND_COUNTS:
            values, numbers = (dim_zero_cat(getattr(self, name)) for name in (rows, counts))
            for name, merged in zip((rows, counts), merge_rows(values, numbers, self.max_regimes), strict=True):
                setattr(self, name, [merged])
