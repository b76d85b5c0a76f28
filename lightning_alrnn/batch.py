"""Batches, and the names of kinds of tasks and of parts of the data."""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

Objective = Literal["classification", "regression"]
TargetStep = Literal["last", "every"]
Split = Literal["train", "val", "test"]


class SequenceBatch(NamedTuple):
    """A batch of padded sequences.

    In sequence-to-sequence tasks, targets and mask may have another number of steps than the inputs.

    Attributes:
        inputs: Inputs, float of shape ``(batch, time, K)``, or int64 tokens of shape ``(batch, time)``.
        targets: Int64 classes of shape ``(batch,)`` or float of shape ``(batch, outputs)``; at every step, ``(batch,
            time)`` or ``(batch, time, outputs)``.
        lengths: Number of valid steps of each sequence (1 … time), int64 of shape ``(batch,)``.
        mask: Weights in the loss of the steps, shape ``(batch, time)``, or of the outputs of a regression, shape
            ``(batch, time, outputs)``; ``None`` gives every valid step the weight 1.
        group: Condition or task of each sequence, int64 of shape ``(batch,)``, or ``None``.
        phase: Phase of the trial, such as stimulus or delay, at each step of the inputs, int64 of shape ``(batch,
            time)``, or ``None``. A negative number is no phase.
    """

    inputs: Tensor
    targets: Tensor
    lengths: Tensor
    mask: Tensor | None = None
    group: Tensor | None = None
    phase: Tensor | None = None


class NeuralBatch(NamedTuple):
    """A batch of padded trials with recorded neurons.

    Attributes:
        inputs: Inputs that the animal was shown, float32 of shape ``(batch, time, K)``; zero after the end of a trial.
        spikes: Spike counts of N units in each bin, float32 of shape ``(batch, time, N)``; zero after the end of a
            trial. A DataModule may build them in a smaller integer type, which its DataLoader converts.
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
    """Return a mask of the valid steps of each sequence, bool of shape ``(batch, time)``."""
    return torch.arange(time, device=lengths.device) < lengths.unsqueeze(-1)
