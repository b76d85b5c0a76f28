"""Context-dependent integration of evidence."""

from __future__ import annotations

from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_alrnn.batch import Objective, SequenceBatch, Split, TargetStep
from lightning_alrnn.datamodules.base import (
    SequenceDataModule,
    check_choice,
    check_size,
    check_sizes,
    draw_trials,
    full_lengths,
    variant_options,
)

Variant = Literal["reference", "mante"]

_DEFAULTS: dict[str, dict[str, Any]] = {
    "reference": {"sequence_length": 100, "invert_prob": 0.5, "noise": 0.01},
    "mante": {"durations": [100, 350, 800, 100, 20], "dt": 20, "coherences": [0.1, 0.2, 0.4], "noise": 0.1},
}
_PERIODS = ("fixation", "context", "stimulus", "delay", "decision")
_REDRAWS = 64


class ContextualIntegration(SequenceDataModule):
    """Sum evidence over time and report its sign, or the opposite, as a context says.

    In the variant "mante", the context selects one of two streams of evidence; see docs/tasks/contextual.md. An option
    that is ``None`` takes the default of the variant.

    Args:
        variant: Variant of the task, "reference" or "mante".
        sequence_length: Number of steps T (default 100), at least 3; for "reference" only.
        invert_prob: Probability of the inverting context 1 (default 0.5), from 0 to 1; for "reference" only.
        durations: Durations of fixation, context, stimulus, delay and decision in ms (default 100, 350, 800, 100 and
            20); for "mante" only. Stimulus and decision take at least one step.
        dt: Duration of a step in ms (default 20), for "mante" only.
        coherences: Strengths of the evidence (default 0.1, 0.2 and 0.4), each positive; for "mante" only.
        noise: Standard deviation σ of the noise at each step (default 0.01; 0.1 for "mante").
        train_size: Number of training sequences.
        val_size: Number of validation sequences.
        test_size: Number of test sequences.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the data.

    Attributes:
        steps: Number of steps T of a trial.
        period_steps: Number of steps of each period of "mante", by name.

    Raises:
        ValueError: If an option is out of range or does not belong to the variant.

    Shapes:
        inputs ``(batch, T, 4)``, group ``(batch,)``, phase ``(batch, T)``. "reference": targets ``(batch,)``,
        classification at the last step. "mante": targets ``(batch, T, 1)``, mask ``(batch, T)``, regression.

    Example:
        >>> batch = ContextualIntegration(sequence_length=20, train_size=6).build("train")
        >>> batch.inputs.shape, batch.targets.shape
        (torch.Size([6, 20, 4]), torch.Size([6]))
    """

    input_size = 4
    criterion: str | None = None

    def __init__(
        self,
        variant: Variant = "reference",
        sequence_length: int | None = None,
        invert_prob: float | None = None,
        durations: list[int] | None = None,
        dt: int | None = None,
        coherences: list[float] | None = None,
        noise: float | None = None,
        train_size: int = 1_000,
        val_size: int = 200,
        test_size: int = 200,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        check_choice("variant", variant, Variant)
        chosen: dict[str, Any] = {
            "sequence_length": sequence_length,
            "invert_prob": invert_prob,
            "durations": durations,
        }
        chosen |= {"durations": durations, "dt": dt, "coherences": coherences, "noise": noise}
        options = variant_options(variant, _DEFAULTS, chosen)
        self.sizes = check_sizes(train_size, val_size, test_size)
        self.variant = variant
        self.noise: float = options.pop("noise")
        if not 0 <= self.noise < np.inf:
            raise ValueError(f"noise (σ) must be finite and not negative, got {self.noise}")
        if variant == "reference":
            self._set_reference(**options)
        else:
            self._set_mante(**options)
        self.save_hyperparameters()

    def build(self, split: Split) -> SequenceBatch:
        draw = self._draw_reference if self.variant == "reference" else self._draw_mante
        inputs, targets, group = draw_trials(self.sizes[split], draw, seed=self.seed, split=split)
        mask = None
        if self.variant == "mante":
            mask = torch.zeros(inputs.shape[:2])
            mask[:, -self.period_steps["decision"] :] = 1.0
        phase = self._phase.repeat(len(inputs), 1)
        return SequenceBatch(inputs, targets, full_lengths(inputs), mask, group, phase)

    def _set_reference(self, sequence_length: int, invert_prob: float) -> None:
        check_size("sequence_length", sequence_length, 3)
        if not 0 <= invert_prob <= 1:
            raise ValueError(f"invert_prob must lie between 0 and 1, got {invert_prob}")
        self.objective: Objective = "classification"
        self.target_step: TargetStep = "last"
        self.output_size = 2
        self.input_names = ["normal context", "inverted context", "evidence", "recall"]
        self.class_names = ["negative", "positive"]
        self.group_names = ["normal", "inverted"]
        self.phase_names = ["context", "evidence", "response"]
        self._phase = torch.tensor([0] + [1] * (sequence_length - 2) + [2])
        self.steps = sequence_length
        self.invert_prob = invert_prob

    def _set_mante(self, durations: list[int], dt: int, coherences: list[float]) -> None:
        check_size("dt", dt)
        if len(durations) != len(_PERIODS):
            raise ValueError(f"durations must be five numbers, for {', '.join(_PERIODS)} in ms, got {list(durations)}")
        for period, duration in zip(_PERIODS, durations, strict=True):
            check_size(f"durations: {period}", duration, dt if period in ("stimulus", "decision") else 0)
        if not coherences or not all(0 < coherence < np.inf for coherence in coherences):
            raise ValueError(f"coherences must be one or more positive numbers, got {list(coherences)}")
        self.objective = "regression"
        self.target_step = "every"
        self.output_size = 1
        self.criterion = "sign"
        self.group_names = ["first stream", "second stream"]
        self.input_names = [*(f"attend to the {name}" for name in self.group_names), *self.group_names]
        self.output_names = ["sign of the evidence"]
        self.period_steps = {period: int(duration // dt) for period, duration in zip(_PERIODS, durations, strict=True)}
        self.phase_names = list(_PERIODS)
        self._phase = torch.arange(len(_PERIODS)).repeat_interleave(torch.tensor(list(self.period_steps.values())))
        self.steps = len(self._phase)
        self.coherences = list(coherences)

    def _draw_reference(self, rng: np.random.Generator, size: int) -> tuple[NDArray[Any], ...]:
        context = (rng.random(size) < self.invert_prob).astype(np.int64)
        evidence = draw_evidence(rng, size, self.steps - 2, self.noise)
        inputs = np.zeros((size, self.steps, 4), dtype=np.float32)
        trial = np.arange(size)
        inputs[trial, 0, context] = inputs[trial, -1, context] = 1.0
        inputs[:, 1:-1, 2] = evidence
        inputs[:, -1, 3] = 1.0
        positive = _sum(evidence) > 0
        return inputs, (positive ^ (context == 1)).astype(np.int64), context

    def _draw_mante(self, rng: np.random.Generator, size: int) -> tuple[NDArray[Any], ...]:
        start = dict(zip(_PERIODS, np.cumsum([0, *self.period_steps.values()]), strict=False))
        context = rng.integers(0, 2, size)
        strengths = np.array(self.coherences, dtype=np.float32)
        coherence = rng.choice(np.concatenate([-strengths, strengths]), (size, 2))
        inputs = np.zeros((size, self.steps, 4), dtype=np.float32)
        trial = np.arange(size)
        inputs[trial, start["context"] : start["decision"], context] = 1.0
        inputs[..., 2:] = self.noise * rng.standard_normal((size, self.steps, 2), dtype=np.float32)
        inputs[:, start["stimulus"] : start["delay"], 2:] += coherence[:, None]
        targets = np.zeros((size, self.steps, 1), dtype=np.float32)
        targets[:, start["decision"] :, 0] = np.sign(coherence[trial, context])[:, None]
        return inputs, targets, context


def draw_evidence(rng: np.random.Generator, size: int, steps: int, noise: float) -> NDArray[np.float32]:
    """Evidence ±1 + σ·N(0,1), shape ``(size, steps)``, whose sum over the steps is not zero."""
    # trials with the sum 0 are drawn again; after 64 times, which no trial in 10^19 needs, a sign is changed
    evidence = _signs_with_noise(rng, size, steps, noise)
    for _ in range(_REDRAWS):
        tied = _sum(evidence) == 0
        if not tied.any():
            return evidence
        evidence[tied] = _signs_with_noise(rng, int(tied.sum()), steps, noise)
    evidence[_sum(evidence) == 0, 0] *= -1
    return evidence


def _signs_with_noise(rng: np.random.Generator, size: int, steps: int, noise: float) -> NDArray[np.float32]:
    signs = 2.0 * rng.integers(0, 2, (size, steps)) - 1.0
    return (signs + noise * rng.standard_normal((size, steps), dtype=np.float32)).astype(np.float32)


def _sum(evidence: NDArray[np.float32]) -> NDArray[np.float64]:
    # in float32 a sum could be zero in one order of its terms and not in another
    return np.asarray(evidence.sum(axis=1, dtype=np.float64))
