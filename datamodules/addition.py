"""The addition problem."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.datamodules.base import (
    SequenceDataModule,
    check_choice,
    check_size,
    check_sizes,
    draw_trials,
    full_lengths,
)

Markers = Literal["first_half", "halves", "uniform"]
Operation = Literal["sum", "product"]


class Addition(SequenceDataModule):
    """Add (or multiply) the two marked values of a long sequence.

    The network reads T noisy values and combines the two marked ones at the last step; see docs/tasks/addition.md.

    Args:
        sequence_length: Number of steps T, at least 2 (4 if both marks are in the first half).
        markers: Position of the marks: "first_half" (both in the first half), "halves" (one in each) or "uniform".
        operation: Operation on the marked values, "sum" or "product".
        train_size: Number of training sequences.
        val_size: Number of validation sequences.
        test_size: Number of test sequences.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the data.

    Raises:
        ValueError: If an argument is out of range.

    Shapes:
        inputs ``(batch, T, 2)``, targets ``(batch, 1)``, phase ``(batch, T)``; regression at the last step.

    Example:
        >>> batch = Addition(sequence_length=10, train_size=4).build("train")
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([4, 10, 2]), torch.Size([4, 1]))
    """

    input_size = 2
    output_size = 1
    objective = "regression"
    target_step = "last"

    def __init__(
        self,
        sequence_length: int = 100,
        markers: Markers = "first_half",
        operation: Operation = "sum",
        train_size: int = 10_000,
        val_size: int = 1_000,
        test_size: int = 1_000,
        batch_size: int = 128,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        check_choice("markers", markers, Markers)
        check_choice("operation", operation, Operation)
        check_size("sequence_length", sequence_length, 4 if markers == "first_half" else 2)
        self.sizes = check_sizes(train_size, val_size, test_size)
        self.sequence_length = sequence_length
        self.markers = markers
        self.operation = operation
        self.input_names, self.output_names = ["value", "marker"], [operation]
        self.phase_names = ["before the marks", "mark", "between the marks", "after the marks"]
        self.save_hyperparameters()

    def build(self, split: Split) -> SequenceBatch:
        inputs, targets = draw_trials(self.sizes[split], self._draw, seed=self.seed, split=split)
        marked = inputs[..., 1] > 0
        phase = torch.tensor([0, 2, 3])[marked.cumsum(dim=1)].masked_fill(marked, 1)
        return SequenceBatch(inputs, targets, full_lengths(inputs), phase=phase)

    def _draw(self, rng: np.random.Generator, size: int) -> tuple[NDArray[np.float32], ...]:
        half = self.sequence_length // 2
        if self.markers == "halves":
            first = rng.integers(0, half, size)
            second = rng.integers(half, self.sequence_length, size)
        else:
            steps = half if self.markers == "first_half" else self.sequence_length
            # two different steps: the second is drawn from the others
            first = rng.integers(0, steps, size)
            second = rng.integers(0, steps - 1, size)
            second += second >= first
        inputs = np.zeros((size, self.sequence_length, 2), dtype=np.float32)
        inputs[:, :, 0] = rng.random((size, self.sequence_length), dtype=np.float32)
        trial = np.arange(size)
        inputs[trial, first, 1] = inputs[trial, second, 1] = 1.0
        combine = np.add if self.operation == "sum" else np.multiply
        return inputs, combine(inputs[trial, first, 0], inputs[trial, second, 0])[:, None]
