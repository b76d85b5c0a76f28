"""What DataModules and modules share: the batches, and what kind of task and which part of the data they are of."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Objective = Literal["classification", "regression"]
TargetStep = Literal["last", "every"]
Split = Literal["train", "val", "test"]


class SequenceBatch(NamedTuple):
    """A batch of padded sequences. Device transfer and pinned memory work on it.

    In sequence-to-sequence tasks, targets and mask have a number of steps of their own, other than that of the inputs.

    Attributes:
        inputs: float of shape ``(batch, time, K)``, or int64 tokens of shape ``(batch, time)``.
        targets: what is to be predicted. Last step: ``(batch,)`` int64 classes or ``(batch, outputs)`` float; every
            step: ``(batch, time)`` int64 classes or ``(batch, time, outputs)`` float.
        lengths: int64 of shape ``(batch,)``, the valid steps of each sequence (1 … time).
        mask: weights of the steps in the loss, shape ``(batch, time)``; under regression also of each output at each
            step, shape ``(batch, time, outputs)``; or ``None`` where every valid step counts 1.
        group: int64 of shape ``(batch,)``, the condition or task of each sequence, or ``None``.
        phase: phase of the trial, such as stimulus or delay, that each step of the inputs belongs to, int64 of shape
            ``(batch, time)``, or ``None``. A step below 0, or past its sequence's length, belongs to no phase.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor
    mask: Tensor | None = None
    group: Tensor | None = None
    phase: Tensor | None = None


class NeuralBatch(NamedTuple):
    """A batch of padded trials in which neurons were recorded. Device transfer and pinned memory work on it.

    Past a trial's length, inputs and spikes are zero.

    Attributes:
        inputs: what the animal was shown, float32 of shape ``(batch, time, K)``.
        spikes: spikes of each of N units in each bin, float32 of shape ``(batch, time, N)``. What a DataModule builds
            may hold whole numbers of a smaller type; its loader gives float32.
        targets: the choice of each trial, int64 of shape ``(batch,)``.
        lengths: int64 of shape ``(batch,)``, the valid steps of each trial (1 … time).
        group: int64 of shape ``(batch,)``, the condition of each trial, or ``None``.
    """

    inputs: Tensor
    spikes: Tensor
    targets: Tensor
    lengths: Tensor
    group: Tensor | None = None


AnyBatch: TypeAlias = SequenceBatch | NeuralBatch


def valid_steps(lengths: Tensor, time: int) -> Tensor:
    """Which steps lie within each sequence, bool of shape ``(batch, time)``.

    Example:
        >>> valid_steps(torch.tensor([1, 3]), 3).int()
        tensor([[1, 0, 0],
                [1, 1, 1]], dtype=torch.int32)
    """
    return torch.arange(time, device=lengths.device) < lengths.unsqueeze(-1)
