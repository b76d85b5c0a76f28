"""Memory-dependent transients: the answer depends on states that no attractor of the present input holds."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_alrnn.analysis.interventions import Intervention, freeze_switching, intervene, linearise, silence
from lightning_alrnn.analysis.primitives.gates import why_no_unit_switches
from lightning_alrnn.analysis.primitives.trials import (
    ALPHA,
    DRAWS,
    LEAST_REMOVED,
    Trials,
    as_values,
    explained,
    orders,
    p_value,
    prediction,
    why_not,
)
from lightning_alrnn.analysis.system import read_recurrence

LEAST_EFFECT = 0.25
_WINDOW = 0.1
_NOISE = 0.05
_MOST_OUTPUTS = 8
_MOST_COMPONENTS = 10
_FAR = 1e6


class Transients(NamedTuple):
    """Whether the answer depends on states that the present input would not hold.

    In the settled network, one window (a tenth of the sequence) before the response, the state settles under the mean
    input of that window for half as many steps as the longest sequence has. The network then continues from there.

    Attributes:
        found: Whether effect, p and intervention pass; ``None`` if no unit switches or all targets are equal.
        effect: R²(target | answer, present input) − R²(target | settled network, present input), held out. The answer
            has 5 % of noise, so that a memory that has decayed twentyfold is lost. The settled network is the best of
            four: held at the trial's own input or at the mean one, by its answer or its state.
        p: Share of draws, targets exchanged, in which the effect is as large.
        intervention: Share of what the answer explains beyond the present input that disappears if the nonlinear units
            are silenced, made linear or frozen in the window; NaN if effect or p fail.
        reason: Test that failed; empty if transients are found.
        present: R²(target | present input).
        answer: R²(target | answer, present input).
        settled: R²(target | settled network, present input).
        without: Strongest intervention, "silence", "linearise" or "freeze"; empty if effect or p fail.
        steps: Number of steps from the window to the response, the median over the sequences.
    """

    found: bool | None
    effect: float
    p: float
    intervention: float
    reason: str
    present: float
    answer: float
    settled: float
    without: str
    steps: int


def transients(
    trials: Trials,
    readout_weight: Tensor,
    targets: Tensor,
    *,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Transients:
    """Test whether the network answers from transients, see :class:`Transients`.

    The draws exchange the targets among trials of similar length. Sequences of fewer than three steps are left out.

    Args:
        trials: Trials.
        readout_weight: Matrix D of the outputs, shape ``(outputs, M)``.
        targets: Targets of the outputs: classes, int64 of shape ``(batch,)``, or values ``(batch, outputs)``.
        draws: Number of draws.
        alpha: Significance level.
        seed: Seed of the draws.
    """
    nothing = Transients(None, *(math.nan,) * 3, "", *(math.nan,) * 3, "", 0)
    reason = why_no_unit_switches(trials)
    rows = (trials.lengths >= 3).nonzero()[:, 0]
    if not reason and len(rows) < 10:
        reason = "fewer than ten sequences have three steps or more"
    values = as_values(targets)[rows]
    if not reason and float(values.std(dim=0, correction=0).sum()) <= 1e-9 * float(values.abs().max()):
        reason = "all targets are the same, so there is nothing to remember"
    if reason:
        return nothing._replace(reason=reason)

    window = _Window(trials, readout_weight, rows)

    def predict(features: Tensor) -> Tensor:
        return prediction(torch.cat((window.present, features), dim=1), seed)

    present_alone, with_answer = prediction(window.present, seed), predict(window.noisy(window.answers(window.states)))
    settled = [present_alone]
    for held in (window.held, window.held.mean(dim=0).expand_as(window.held)):
        state = window.settle(held)
        settled += [predict(window.noisy(window.answers(state))), predict(window.components(state))]
    best = max(settled, key=lambda matrix: explained(matrix, values))

    def effect(targets: Tensor) -> float:
        return explained(with_answer, targets) - max(explained(matrix, targets) for matrix in (present_alone, best))

    measured = effect(values)
    p = p_value(measured, [effect(values[order]) for order in orders(trials.block[rows], draws, seed)])
    present, answer = explained(present_alone, values), explained(with_answer, values)
    result = nothing._replace(
        found=False,
        effect=measured,
        p=p,
        reason=why_not(measured, LEAST_EFFECT, p, alpha),
        present=present,
        answer=answer,
        settled=explained(best, values),
        steps=int(window.length.median()),
    )
    if result.reason:
        return result
    units = range(trials.units)
    interventions = {"silence": silence(*units), "linearise": linearise(*units), "freeze": freeze_switching(0)}
    removed = {}
    for kind, intervention in interventions.items():
        remaining = explained(predict(window.noisy(window.answers(window.states, intervention))), values)
        removed[kind] = (answer - max(remaining, present, 0.0)) / (answer - max(present, 0.0))
    without = max(removed, key=lambda kind: removed[kind])
    if removed[without] < LEAST_REMOVED:
        reason = (
            f"intervention: the answer still explains {1 - removed[without]:.0%} of it with the nonlinear units "
            "silenced, made linear or frozen"
        )
    return result._replace(found=not reason, intervention=removed[without], reason=reason, without=without)


class _Window:
    """The network in the window before the response."""

    def __init__(self, trials: Trials, readout_weight: Tensor, rows: Tensor) -> None:
        lengths, inputs = trials.lengths[rows], trials.inputs[rows]
        self._rnn = trials.rnn
        self._steps = (int(lengths.max()) + 1) // 2
        length = (_WINDOW * lengths).round().long().clamp(min=1)
        start = lengths - 1 - length  # steps up to here lie before the window
        every = torch.arange(len(rows))
        step = torch.arange(inputs.shape[1])
        inside = (step >= start.unsqueeze(1)) & (step < (lengths - 1).unsqueeze(1))
        self.held = (inputs * inside.unsqueeze(-1)).sum(dim=1) / length.unsqueeze(1)
        self.present = torch.cat((self.held, inputs[every, lengths - 1]), dim=1)
        self.states = trials.states[rows][every, start - 1]
        self.length = length + 1
        at = start.unsqueeze(1) + torch.arange(int(self.length.max()))
        at = at.clamp(max=inputs.shape[1] - 1).unsqueeze(-1).expand(-1, -1, inputs.shape[2])
        self._inputs = inputs.gather(1, at)
        weight = readout_weight.detach().cpu().double()
        outputs = trials.states[rows][every, lengths - 1] @ weight.T
        directions = torch.linalg.svd(outputs - outputs.mean(dim=0), full_matrices=False)[2][:_MOST_OUTPUTS]
        self._weight = directions @ weight
        values = outputs @ directions.T
        self._scale = values.std(dim=0, correction=0).clamp(min=1e-9 * float(values.abs().max()) + 1e-300)
        self._noise = torch.from_numpy(_NOISE * np.random.default_rng(0).standard_normal(values.shape))

    def answers(self, states: Tensor, intervention: Intervention | None = None) -> Tensor:
        """Outputs at the response, starting from states before the window."""
        run = intervene(self._rnn, self._inputs, intervention, state=states, lengths=self.length)
        answers: Tensor = run.states[torch.arange(len(states)), self.length - 1] @ self._weight.T
        return answers

    def noisy(self, answers: Tensor) -> Tensor:
        """Outputs in standard deviations of those of the intact network, with noise."""
        values = torch.nan_to_num(answers / self._scale, nan=0.0).clamp(-_FAR, _FAR)
        return values + self._noise

    def settle(self, held: Tensor) -> Tensor:
        """States after half as many steps as the longest sequence has, under a constant input."""
        recurrence, state = read_recurrence(self._rnn), self.states
        step, drive = recurrence.stepper(), recurrence.drive(held)
        for _ in range(self._steps):
            state = step(state, drive).clamp(-_FAR, _FAR)
        return state

    def components(self, states: Tensor) -> Tensor:
        """Leading principal components of states, in standard deviations of those before the window, with noise."""
        scale = self.states.std(dim=0, correction=0)
        scale = scale.clamp(min=1e-9 * float(self.states.abs().max()) + 1e-300)
        values = ((states - states.mean(dim=0)) / scale).clamp(-_FAR, _FAR)
        directions = torch.linalg.svd(values, full_matrices=False)[2][:_MOST_COMPONENTS]
        components: Tensor = values @ directions.T
        return components + torch.from_numpy(_NOISE * np.random.default_rng(1).standard_normal(components.shape))
