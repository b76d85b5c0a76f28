"""Integration: the answer is a sum over time, held by slow modes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.analysis.interventions import intervene
from lightning_alrnn.analysis.primitives.trials import (
    ALPHA,
    DRAWS,
    LEAST_REMOVED,
    Trials,
    explained,
    orders,
    p_value,
    prediction,
    why_not,
)
from lightning_alrnn.analysis.system import read_recurrence

LEAST_EFFECT = 0.5
LEAST_UNTRAINED = 0.95  # if answers explain little of the targets
LEAST_FLATNESS = 0.5  # the smallest quarter of the kernel over the largest
LEAST_FLATNESS_UNTRAINED = 0.9
_LEAST_STEPS = 4
_LEAST_SHARE = 0.25
_LEAST_ENERGY = 0.01
_LEAST_REST = 0.01
_MOST_CHANNELS = 8
_QUARTERS = 4


class Integration(NamedTuple):
    """Whether the answer is a sum of an input over time that slow modes hold.

    An input is evidence if it varies over the trials in at least four steps and a quarter of the sequence. The evidence
    of each trial is divided into four quarters of equal Σ (s_t − mean)².

    Attributes:
        found: Whether effect, p and intervention pass their tests; ``None`` if no input is evidence.
        effect: Share of the answer's variance within the conditions that a sum of the evidence explains, held out. In
            the sum, each step of an input has the same weight: that of the condition, or that of the steps with at
            least half of the largest gain of the trial.
        p: Share of draws in which the answers of other trials of the condition are explained as well.
        intervention: Share of the first half's effect that is lost without the slow modes; NaN if effect or p fail.
        reason: Test that failed; empty if integration is found.
        output: Index of the direction of the outputs with the largest effect.
        channels: Inputs that are evidence, int64 of shape ``(n,)``.
        kernel: Mean ∂y/∂s_t in each quarter, float64 of shape ``(n, 4)``, with a positive mean over each trial.
        flatness: Smallest entry of the kernel over the largest, of shape ``(n,)``; from 0.5 on, an input is in the sum.
        slow: Mean number of slow modes per trial: modes of the trial's mean Jacobian after half of the evidence that
            keep at least half to the end.
        timescale: −1/ln|λ| of the slowest mode in steps, the median over trials; negative if it grows.
        lost_otherwise: The same as ``intervention`` without all other modes.
    """

    found: bool | None
    effect: float
    p: float
    intervention: float
    reason: str
    output: int
    channels: Tensor
    kernel: Tensor
    flatness: Tensor
    slow: float
    timescale: float
    lost_otherwise: float


class _Sum(NamedTuple):
    """Contribution of each step to the sum, conditions as columns, and how well the sum explains the answer."""

    steps: Tensor
    conditions: Tensor
    effect: float
    p: float


def integration(
    trials: Sequence[Trials],
    group: Tensor | None = None,
    *,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Integration:
    """Test whether the network integrates, see :class:`Integration`.

    The draws exchange the answers among trials of the same condition and similar length.

    Args:
        trials: The same trials, with the answer along one or more directions of the outputs.
        group: Condition of each trial, int64 of shape ``(batch,)``; ``None`` without conditions.
        draws: Number of draws.
        alpha: Significance level for all directions together.
        seed: Seed of the draws.

    Example:
        A unit that adds up its input integrates.

        >>> from lightning_alrnn.analysis.primitives import read_trials
        >>> from lightning_alrnn.nn import Recurrence
        >>> inputs = torch.randn(100, 12, 1, generator=torch.Generator().manual_seed(0))
        >>> rnn = Recurrence(torch.zeros(1), torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1), P=0)
        >>> result = integration([read_trials(rnn, inputs, inputs.cumsum(dim=1), torch.ones(1))])
        >>> result.found, round(result.effect, 3), round(result.intervention, 3), result.slow
        (True, 1.0, 1.0, 1.0)
    """
    group = torch.zeros(len(trials[0].answer), dtype=torch.int64) if group is None else group.cpu()
    sums = [_look(one, group, draws, seed, len(trials)) for one in trials]
    effects = [-math.inf if summed is None else summed.effect for summed, *_ in sums]
    output = effects.index(max(effects))
    summed, channels, kernel, flatness = sums[output]
    untrained = trials[output].untrained
    nan = math.nan
    result = Integration(None, nan, nan, nan, "", output, channels, kernel, flatness, nan, nan, nan)
    if len(channels) == 0:
        return result._replace(
            reason="no input that affects the answer varies over the trials in at least a quarter of the steps, so a "
            "sum cannot be distinguished from the memory of a single moment"
        )
    if summed is None:
        reason = (
            f"effect: no kernel is flat, the smallest quarter has {float(flatness.max()):.2g} of the largest one, "
            f"below {LEAST_FLATNESS_UNTRAINED if untrained else LEAST_FLATNESS}"
        )
        return result._replace(found=False, effect=0.0, p=1.0, reason=reason)
    least = LEAST_UNTRAINED if untrained else LEAST_EFFECT
    reason = why_not(summed.effect, least, summed.p, alpha, untrained)
    result = result._replace(found=False, effect=summed.effect, p=summed.p, reason=reason)
    if reason:
        return result
    lost, otherwise, slow, timescale = _take_out(trials[output], summed)
    if not lost >= LEAST_REMOVED:
        reason = f"intervention: the first half of the evidence loses {lost:.0%} of its effect without the slow modes"
    elif not otherwise < LEAST_REMOVED:
        reason = f"intervention: the first half loses {otherwise:.0%} of its effect without the other modes, too"
    return result._replace(
        found=not reason,
        intervention=lost,
        reason=reason,
        slow=slow,
        timescale=timescale,
        lost_otherwise=otherwise,
    )


def _look(
    trials: Trials, group: Tensor, draws: int, seed: int, tests: int
) -> tuple[_Sum | None, Tensor, Tensor, Tensor]:
    """The sum that explains the answer best, if a kernel is flat; the evidence, its kernels and their flatness."""
    count = trials.valid.sum(dim=0).clamp(min=1).unsqueeze(1)
    inside = trials.valid.unsqueeze(-1)
    squares = ((trials.inputs - trials.inputs.sum(dim=0) / count) * inside).square()
    energy = (squares * trials.gains.square()).sum(dim=(0, 1))
    each = squares.sum(dim=0)
    steps = each.sum(dim=0).square() / each.square().sum(dim=0).clamp(min=1e-300)
    enough = max(_LEAST_STEPS, _LEAST_SHARE * float(trials.lengths.double().median()))
    able = steps >= enough - 1e-9
    # against what counts steadily in a condition: a context that opens a gate has large gains of either sign
    steady = _steady(squares, trials.gains, group)
    largest = steady[able].max() if bool(able.any()) else energy.max()
    evidence = able & (energy > 0) & (energy >= _LEAST_ENERGY * largest)
    order = energy.argsort(descending=True, stable=True)
    channels = order[evidence[order]][:_MOST_CHANNELS].sort().values
    kernel = _kernel(squares[..., channels], trials.gains[..., channels])
    flatness = (kernel.amin(dim=1) / kernel.amax(dim=1).clamp(min=1e-300)).clamp(min=0)
    flat = channels[flatness >= (LEAST_FLATNESS_UNTRAINED if trials.untrained else LEAST_FLATNESS)]
    if len(flat) == 0:
        return None, channels, kernel, flatness

    gains, weight = trials.gains[..., flat], squares[..., flat]
    by_condition = torch.zeros_like(gains)
    for condition in torch.unique(group):
        of = group == condition
        mean = (weight[of] * gains[of]).sum(dim=(0, 1)) / weight[of].sum(dim=(0, 1)).clamp(min=1e-300)
        by_condition[of] = mean
    size = gains.abs()
    top = (weight * size**3).sum(dim=(0, 1)) / (weight * size**2).sum(dim=(0, 1)).clamp(min=1e-300)
    by_trial = top * gains.sign() * (size >= top / 2)
    conditions = (group.unsqueeze(1) == torch.unique(group)[1:]).double()
    alone = prediction(conditions, seed)
    block = torch.unique(torch.stack((group, trials.block)), dim=1, return_inverse=True)[1]
    sums = [one * trials.inputs[..., flat] * trials.valid.unsqueeze(-1) for one in (by_condition, by_trial)]
    columns = [torch.cat((one.sum(dim=1), conditions), dim=1) for one in sums]
    matrices = [prediction(one, seed) for one in columns]

    def effects(answer: Tensor) -> list[float]:
        base = max(explained(alone, answer), 0.0)
        return [(explained(matrix, answer) - base) / max(1 - base, _LEAST_REST) for matrix in matrices]

    answer = trials.answer.unsqueeze(1)
    measured = effects(answer)
    best = max(range(len(measured)), key=lambda index: measured[index])
    chance = [max(effects(answer[order])) for order in orders(block, draws, seed)]
    effect = measured[best]
    predictors = torch.cat((torch.ones_like(answer), columns[best]), dim=1)
    fit = torch.linalg.lstsq(predictors, answer, driver="gelsd").solution[1 : 1 + len(flat), 0]
    return _Sum(sums[best] @ fit, conditions, effect, p_value(effect, chance, tests)), channels, kernel, flatness


def _steady(squares: Tensor, gains: Tensor, group: Tensor) -> Tensor:
    """Σ_t (s_t − mean)² E[g_t | condition]² of each input, summed over the trials, shape ``(K,)``."""
    total = torch.zeros(gains.shape[2], dtype=torch.float64)
    for condition in torch.unique(group):
        of = group == condition
        total += (squares[of].sum(dim=0) * gains[of].mean(dim=0).square()).sum(dim=0)
    return total


def _kernel(squares: Tensor, gains: Tensor) -> Tensor:
    """Mean gain in each quarter of a trial's evidence, weighted by squares, ``(n, 4)``; positive over each trial."""
    total = squares.sum(dim=1, keepdim=True)
    place = (squares.cumsum(dim=1) - squares / 2) / total.clamp(min=1e-300)
    quarter = (_QUARTERS * place).long().clamp(max=_QUARTERS - 1)
    signed = gains * (squares * gains).sum(dim=1, keepdim=True).sign()
    weights = [squares * (quarter == index) for index in range(_QUARTERS)]
    means = [(weight * signed).sum(dim=(0, 1)) / weight.sum(dim=(0, 1)).clamp(min=1e-300) for weight in weights]
    return torch.stack(means, dim=1)


def _take_out(trials: Trials, summed: _Sum) -> tuple[float, float, float, float]:
    """Loss of the first half of the evidence without slow modes and without others, their number and timescale."""
    recurrence = read_recurrence(trials.rnn)
    arrived = summed.steps.square().sum(dim=0).cumsum(dim=0)
    half = max(1, int((arrived < arrived[-1] / 2).sum()))
    rows = (trials.lengths > half).nonzero()[:, 0]
    states, remaining = trials.states[rows], trials.lengths[rows] - half
    z = states[:, half - 1]
    passed = trials.valid[rows, half:].double()
    on = recurrence.regime(states[:, half - 1 : -1]) * passed.unsqueeze(-1)
    share = on.sum(dim=1) / passed.sum(dim=1, keepdim=True)
    values, right = torch.linalg.eig(recurrence.regime_matrix(share))
    slow = values.abs() ** remaining.unsqueeze(1) >= 0.5
    apart = z - z.mean(dim=0)
    # least squares, as a defective matrix has no inverse of its eigenvectors
    parts = torch.linalg.lstsq(right, apart.to(right.dtype).unsqueeze(2), driver="gelsd").solution[..., 0]
    held = torch.einsum("nij,nj->ni", right, parts * slow).real
    conditions = summed.conditions[rows]
    first, second = summed.steps[rows, :half].sum(dim=1), summed.steps[rows, half:].sum(dim=1)
    columns = torch.column_stack((torch.ones_like(first), first, second, conditions))

    def counts(state: Tensor) -> float:
        run = intervene(trials.rnn, trials.inputs[rows, half:], state=state, lengths=remaining)
        answer = run.states[torch.arange(len(rows)), remaining - 1] @ trials.row
        if not bool(torch.isfinite(answer).all()):
            return math.nan
        return float(torch.linalg.lstsq(columns, answer.unsqueeze(1), driver="gelsd").solution[1, 0])

    intact = counts(z)
    lost, otherwise = (1 - counts(state) / intact for state in (z - held, z - apart + held))
    slowest = values.abs().amax(dim=1).clamp(min=1e-300)
    return lost, otherwise, float(slow.double().sum(dim=1).mean()), float((-1 / slowest.log()).median())
