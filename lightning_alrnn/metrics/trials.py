"""Accuracies over trials and groups."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric


class TrialAccuracy(Metric):
    """Share of correct predictions over all trials and over those of each group.

    A trial is a sequence with one or several predictions. The result is exact for any batches and any number of
    processes. An update does not wait for the device.

    Args:
        group_names: Names of the groups, in the order of their indices.
        whole_sequences: Whether to compute also ``sequence_accuracy``, the share of trials in which every counted
            prediction is correct, among trials with a counted prediction.

    Raises:
        ValueError: If two groups have the same name.

    Example:
        >>> accuracy = TrialAccuracy(["go", "no-go"])
        >>> accuracy.update(torch.tensor([2, 3]), torch.tensor([4, 4]), group=torch.tensor([0, 1]))
        >>> {name: float(value) for name, value in accuracy.compute().items()}
        {'accuracy': 0.625, 'accuracy/go': 0.5, 'accuracy/no-go': 0.75}
    """

    full_state_update = False

    right: Tensor
    counted: Tensor
    whole: Tensor
    trials: Tensor
    group_right: Tensor
    group_counted: Tensor

    def __init__(self, group_names: Sequence[str] = (), whole_sequences: bool = False) -> None:
        super().__init__()
        if len(set(group_names)) < len(group_names):
            raise ValueError(f"group_names must differ from each other, got {list(group_names)}")
        self.group_names = list(group_names)
        self.whole_sequences = whole_sequences
        for name in ("right", "counted", "whole", "trials"):
            self.add_state(name, default=torch.tensor(0), dist_reduce_fx="sum")
        for name in ("group_right", "group_counted"):
            zeros = torch.zeros(len(self.group_names), dtype=torch.int64)
            self.add_state(name, default=zeros, dist_reduce_fx="sum")

    def update(self, right: Tensor, counted: Tensor, group: Tensor | None = None) -> None:
        """Add a batch.

        Args:
            right: Number of correct predictions of each trial among those that count, int64 of shape ``(batch,)``.
            counted: Number of predictions of each trial that count, int64 of shape ``(batch,)``.
            group: Index of the group of each trial, shape ``(batch,)``. Trials without a named group count only in the
                mean over all trials.
        """
        self.right += right.sum()
        self.counted += counted.sum()
        self.whole += ((right == counted) & (counted > 0)).sum()
        self.trials += (counted > 0).sum()
        if group is not None:
            # no scatter: its order of addition is not fixed on a GPU, and an index out of range would end the process
            belongs = torch.arange(len(self.group_names), device=group.device).unsqueeze(1) == group
            self.group_right += (belongs * right).sum(dim=1)
            self.group_counted += (belongs * counted).sum(dim=1)

    def compute(self) -> dict[str, Tensor]:
        """Return ``accuracy``, optionally ``sequence_accuracy``, and ``accuracy/<group>``, NaN without trials."""
        values = {"accuracy": self.right / self.counted}
        if self.whole_sequences:
            values["sequence_accuracy"] = self.whole / self.trials
        groups = (self.group_right / self.group_counted).unbind()
        return values | {f"accuracy/{name}": value for name, value in zip(self.group_names, groups, strict=True)}
