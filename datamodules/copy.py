"""The copy task: keep a list of symbols in memory and give it back later."""

from __future__ import annotations

from functools import partial
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.batch import SequenceBatch, Split, valid_steps
from lightning_alrnn.datamodules.base import (
    SequenceDataModule,
    check_choice,
    check_size,
    check_sizes,
    draw_trials,
    variant_options,
)
from lightning_alrnn.datamodules.held_out import divide_trials

Variant = Literal["reference", "variable_delay", "arjovsky", "delayed_recall"]

_DEFAULTS: dict[str, dict[str, int]] = {
    "reference": {"sequence_length": 8, "alphabet_size": 4, "delay": 100},
    "variable_delay": {"sequence_length": 5, "alphabet_size": 4, "delay": 50, "max_extra_delay": 50},
    "arjovsky": {"sequence_length": 10, "alphabet_size": 8, "delay": 100},
    "delayed_recall": {"sequence_length": 100, "alphabet_size": 4, "lag": 10},
}
_PHASES = {
    "reference": ["symbols", "cue", "delay", "recall"],
    "variable_delay": ["symbols", "delay", "recall"],
    "arjovsky": ["symbols", "delay", "delimiter", "recall"],
    "delayed_recall": ["symbols", "symbols and recall"],
}
_MOST_GROUPS = 1_048_573  # of lists of symbols that stay together; a prime, so that all symbols tell groups apart
_SMALLEST = {"sequence_length": 1, "alphabet_size": 2, "delay": 0, "max_extra_delay": 0, "lag": 0}


class Copy(SequenceDataModule):
    """Repeat a list of symbols after a delay: memory without computation.

    See docs/tasks/copy.md for the variants. An option that is ``None`` takes the default of the variant.

    Args:
        variant: Variant of the task: "reference", "variable_delay", "arjovsky" or "delayed_recall".
        sequence_length: Number of symbols n (default 8; 5, 10 and 100 in the other variants).
        alphabet_size: Number of different symbols a, at least 2 (default 4; 8 for "arjovsky").
        delay: Number of steps d without a symbol (default 100; 50 for "variable_delay"); at least 1 for "arjovsky" and
            not an option of "delayed_recall".
        max_extra_delay: Largest number of further blank steps (default 50), for "variable_delay" only.
        lag: Number of steps, less than ``sequence_length``, from input to output; for "delayed_recall" (default 10).
        time_code: Number of further channels with a sinusoidal code of time; 0 for none.
        held_out: Whether no list of symbols of validation or test occurs in another split. A tenth of the possible
            lists each is held out for them. If ``False``, every split is drawn from all lists.
        train_size: Number of training sequences.
        val_size: Number of validation sequences.
        test_size: Number of test sequences.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the data.

    Attributes:
        steps: Number of steps T of a batch.

    Raises:
        ValueError: If an option is out of range or does not belong to the variant, or if there are too few lists of
            symbols to hold some out.

    Shapes:
        inputs ``(batch, T, K)``, targets, mask and phase ``(batch, T)``; classification at every step.

    Example:
        >>> batch = Copy(sequence_length=2, delay=3, train_size=5).build("train")
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([5, 8, 5]), torch.Size([5, 8]))
    """

    objective = "classification"
    target_step = "every"

    def __init__(
        self,
        variant: Variant = "reference",
        sequence_length: int | None = None,
        alphabet_size: int | None = None,
        delay: int | None = None,
        max_extra_delay: int | None = None,
        lag: int | None = None,
        time_code: int = 0,
        held_out: bool = True,
        train_size: int = 2_000,
        val_size: int = 200,
        test_size: int = 200,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        check_choice("variant", variant, Variant)
        chosen = {"sequence_length": sequence_length, "alphabet_size": alphabet_size, "delay": delay}
        chosen |= {"max_extra_delay": max_extra_delay, "lag": lag}
        options = variant_options(variant, _DEFAULTS, chosen)
        for name, value in options.items():
            check_size(name, value, 1 if (variant, name) == ("arjovsky", "delay") else _SMALLEST[name])
        check_size("time_code", time_code, 0)
        self.sizes = check_sizes(train_size, val_size, test_size)
        self.variant = variant
        self.phase_names = _PHASES[variant]
        self.sequence_length: int = options["sequence_length"]
        self.alphabet_size: int = options["alphabet_size"]
        self.delay: int = options.get("delay", 0)
        self.max_extra_delay: int = options.get("max_extra_delay", 0)
        self.lag: int = options.get("lag", 0)
        self.time_code = time_code
        self.held_out = held_out
        self._groups = min(self.alphabet_size**self.sequence_length, _MOST_GROUPS)
        if self.lag >= self.sequence_length:
            raise ValueError(f"lag must be less than sequence_length, {self.sequence_length}, got {self.lag}")
        before, after = {"arjovsky": (["blank"], ["delimiter"]), "delayed_recall": ([], [])}.get(variant, (["cue"], []))
        symbols = [f"symbol {number}" for number in range(1, self.alphabet_size + 1)]
        self.input_names = [*before, *symbols, *after, *(f"time code {k}" for k in range(1, time_code + 1))]
        self.input_size = len(self.input_names)
        self.output_size = self.alphabet_size + (variant == "arjovsky")
        self.steps = self._recall_start + self.max_extra_delay + self._recalled
        self.save_hyperparameters()

    def build(self, split: Split) -> SequenceBatch:
        allowed = divide_trials(self._groups, self.seed)[split] if self.held_out else None
        draw = partial(self._draw, allowed=allowed)
        symbols, extra = draw_trials(self.sizes[split], draw, seed=self.seed, split=split)
        arjovsky = self.variant == "arjovsky"
        count, first_symbol = self.sequence_length, 0 if self.variant == "delayed_recall" else 1
        trial = torch.arange(len(symbols)).unsqueeze(-1)
        recall = self._recall_start + extra.unsqueeze(-1) + torch.arange(self._recalled)

        inputs = torch.zeros(len(symbols), self.steps, self.input_size)
        inputs[trial, torch.arange(count), first_symbol + symbols] = 1.0
        if arjovsky:
            delimiter = count + self.delay - 1
            inputs[:, count:, 0] = 1.0
            inputs[:, delimiter, 0] = 0.0
            inputs[:, delimiter, 1 + self.alphabet_size] = 1.0
        elif self.variant != "delayed_recall":
            inputs[trial, recall, 0] = 1.0
            if self.variant == "reference":
                inputs[:, count, 0] = 1.0

        targets = torch.zeros(len(symbols), self.steps, dtype=torch.int64)
        targets[trial, recall] = symbols[:, : self._recalled] + arjovsky
        mask = torch.full((len(symbols), self.steps), float(arjovsky))
        mask[trial, recall] = 1.0

        lengths = self._recall_start + extra + self._recalled
        valid = valid_steps(lengths, self.steps)
        if self.time_code:
            inputs[..., -self.time_code :] = sinusoidal_code(self.steps, self.time_code) * valid.unsqueeze(-1)

        phase, names = torch.zeros_like(targets), _PHASES[self.variant]
        if self.variant != "delayed_recall":
            phase[:, count:] = names.index("delay")
        if self.variant == "reference":
            phase[:, count] = names.index("cue")
        elif arjovsky:
            phase[:, delimiter] = names.index("delimiter")
        phase[trial, recall] = len(names) - 1
        return SequenceBatch(inputs, targets, lengths, mask, phase=phase.masked_fill(~valid, -1))

    @property
    def _recall_start(self) -> int:
        """The first step of the recall without extra delay."""
        if self.variant == "delayed_recall":
            return self.lag
        return self.sequence_length + self.delay + (self.variant == "reference")  # the cue takes a step

    @property
    def _recalled(self) -> int:
        return self.sequence_length - self.lag

    def _draw(self, rng: np.random.Generator, size: int, allowed: NDArray[np.bool_] | None) -> tuple[NDArray[Any], ...]:
        symbols = np.empty((0, self.sequence_length), np.int64)
        while len(symbols) < size:
            more = rng.integers(0, self.alphabet_size, (size, self.sequence_length))
            symbols = np.concatenate([symbols, more if allowed is None else more[allowed[self._group(more)]]])
        return symbols[:size], rng.integers(0, self.max_extra_delay + 1, size)

    def _group(self, symbols: NDArray[np.int64]) -> NDArray[np.int64]:
        """The number of each list of symbols, or of its group if there are more lists than groups."""
        weights = [pow(self.alphabet_size, place, self._groups) for place in range(self.sequence_length)]
        return np.asarray(symbols @ np.array(weights) % self._groups)


def sinusoidal_code(steps: int, width: int) -> Tensor:
    """Code of time, shape ``(T, w)``: sin(t / 10000^(2i/w)) in channel 2i, and the cosine in channel 2i + 1."""
    channel = torch.arange(width)
    even = channel - channel % 2
    angle = torch.arange(steps, dtype=torch.float64).unsqueeze(-1) * 10_000.0 ** (-even.double() / width)
    return torch.where(channel == even, angle.sin(), angle.cos()).float()
