"""What DataModules and modules share: the batches, and what kind of task and which part of the data they are of."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Objective = Literal["classification", "regression"]
TargetStep = Literal["last", "every"]
Split = Literal["train", "val", "test"]


class SequenceBatch(NamedTuple):
    """A batch of padded sequences. Lightning moves it to a device and pins its memory.

    In sequence-to-sequence tasks, targets and mask may have another number of steps than the inputs.

    Attributes:
        inputs: Inputs, float of shape ``(batch, time, K)``, or int64 tokens of shape ``(batch, time)``.
        targets: Targets. At the last step: int64 classes of shape ``(batch,)`` or float of shape ``(batch, outputs)``.
            At every step: int64 classes of shape ``(batch, time)`` or float of shape ``(batch, time, outputs)``.
        lengths: Number of valid steps of each sequence (1 … time), int64 of shape ``(batch,)``.
        mask: Weights of the steps in the loss, shape ``(batch, time)``, in a regression also of each output at each
            step, shape ``(batch, time, outputs)``. ``None`` gives every valid step the weight 1.
        group: Condition or task of each sequence, int64 of shape ``(batch,)``, or ``None``.
        phase: Phase of the trial, such as stimulus or delay, at each step of the inputs, int64 of shape ``(batch,
            time)``, or ``None``. Steps with a negative number, or after the end of the sequence, belong to no phase.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor
    mask: Tensor | None = None
    group: Tensor | None = None
    phase: Tensor | None = None


class NeuralBatch(NamedTuple):
    """A batch of padded trials with recorded neurons. Lightning moves it to a device and pins its memory.

    Inputs and spikes are zero after the end of a trial.

    Attributes:
        inputs: Inputs that the animal was shown, float32 of shape ``(batch, time, K)``.
        spikes: Spike counts of N units in each bin, float32 of shape ``(batch, time, N)``. A DataModule may build them
            in a smaller integer type; its DataLoader converts them to float32.
        targets: Choice of each trial, int64 of shape ``(batch,)``.
        lengths: Number of valid steps of each trial (1 … time), int64 of shape ``(batch,)``.
        group: Condition of each trial, int64 of shape ``(batch,)``, or ``None``.
    """

    inputs: Tensor
    spikes: Tensor
    targets: Tensor
    lengths: Tensor
    group: Tensor | None = None


AnyBatch: TypeAlias = SequenceBatch | NeuralBatch


def valid_steps(lengths: Tensor, time: int) -> Tensor:
    """Return a mask of the valid steps of each sequence.

    Args:
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
        time: Number T of steps of the padded batch.

    Returns:
        Mask, bool of shape ``(batch, time)``.

    Example:
        >>> valid_steps(torch.tensor([1, 3]), 3).int()
        tensor([[1, 0, 0],
                [1, 1, 1]], dtype=torch.int32)
    """
    return torch.arange(time, device=lengths.device) < lengths.unsqueeze(-1)
