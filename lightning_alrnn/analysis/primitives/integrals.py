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
)
from lightning_alrnn.analysis.primitives.words import by_chance, too_small
from lightning_alrnn.analysis.system import read_recurrence

LEAST_EFFECT = 0.5
"""Share of the answer's variance that the sum must tell."""

LEAST_UNTRAINED = 0.95
"""The same in a network whose answers tell little of the targets."""

LEAST_FLATNESS = 0.5
"""What the quarter of the evidence that counts least must count, of that which counts most."""

LEAST_FLATNESS_UNTRAINED = 0.9
"""The same in a network whose answers tell little of the targets."""

_LEAST_STEPS = 4
_LEAST_SHARE = 0.25
_LEAST_ENERGY = 0.01
_LEAST_REST = 0.01
_MOST_CHANNELS = 8
_QUARTERS = 4


class Integration(NamedTuple):
    """Whether the answer is a sum of an input over time that slow modes hold.

    An input is evidence where it varies over the trials, at four steps and a quarter of the sequence's at least. Each
    trial's evidence is cut into four quarters of equal Σ (s_t − mean)².

    Attributes:
        found: whether effect, p and intervention are all as they must be; ``None`` where no input comes as evidence.
        effect: share of the answer's variance within the conditions that a sum of the evidence tells, held out. In the
            sum every step of an input counts the same: by condition, or where the trial's own gain is at least half of
            the largest.
        p: share of draws in which the answers of other trials of the condition are told as well.
        intervention: share of what the first half of the evidence counts that is lost where the state is taken out of
            the slow modes halfway; NaN where effect or p are not enough.
        reason: what failed; empty where it is found.
        output: index of the direction of the outputs in which the effect is largest.
        channels: inputs that come as evidence, int64 of shape ``(n,)``.
        kernel: mean ∂y/∂s_t in each quarter, float64 of shape ``(n, 4)``, positive on average over each trial.
        flatness: the least of these over the largest, of shape ``(n,)``; those of at least 0.5 are in the sum.
        slow: number of slow modes, the mean over trials: those of the trial's own mean Jacobian after half of the
            evidence that keep at least half to its end.
        timescale: −1/ln|λ| of the slowest one in steps, the median over trials; negative where it grows.
        lost_otherwise: the same as ``intervention`` where all but the slow modes are taken out.
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
    """What each step adds to the sum, conditions as columns, and how well the sum tells the answer."""

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
    """Whether the network integrates: see :class:`Integration`.

    Chance: the answers exchanged among trials of the same condition and like length.

    Args:
        trials: the same trials, with the answer along one or more directions of the outputs.
        group: condition of each, int64 of shape ``(batch,)``; ``None`` where there are none.
        draws: how many times answers are exchanged.
        alpha: level, for all directions together.
        seed: seed of the draws.

    Example:
        One of three units adds up what it is given; the others forget.

        >>> from lightning_alrnn.analysis.primitives import read_trials
        >>> from lightning_alrnn.nn import Recurrence
        >>> inputs = torch.randn(100, 12, 1, generator=torch.Generator().manual_seed(0))
        >>> W = torch.diag(torch.tensor([1.0, 0.3, 0.1]))
        >>> rnn = Recurrence(torch.zeros(3), W, torch.ones(3, 1), torch.zeros(3), P=0)
        >>> states, z = [], torch.zeros(100, 3)
        >>> for step in range(12):
        ...     z = z @ W + inputs[:, step]
        ...     states.append(z)
        >>> found = integration([read_trials(rnn, inputs, torch.stack(states, dim=1), torch.tensor([1.0, 0.0, 0.0]))])
        >>> found.found, round(found.effect, 3), round(found.intervention, 3), found.slow
        (True, 1.0, 1.0, 1.0)
    """
    group = torch.zeros(len(trials[0].answer), dtype=torch.int64) if group is None else group.cpu()
    looked = [_look(one, group, draws, seed, len(trials)) for one in trials]
    effects = [-math.inf if summed is None else summed.effect for summed, *_ in looked]
    output = effects.index(max(effects))
    summed, channels, kernel, flatness = looked[output]
    untrained = trials[output].untrained
    found = Integration(
        None, math.nan, math.nan, math.nan, "", output, channels, kernel, flatness, math.nan, math.nan, math.nan
    )
    if len(channels) == 0:
        return found._replace(
            reason="no input that counts varies over the trials in a quarter of the steps: a sum cannot be told from "
            "what was kept of one moment"
        )
    if summed is None:
        worst = float(flatness.max())
        return found._replace(
            found=False,
            effect=0.0,
            p=1.0,
            reason=f"effect: no kernel is flat, the quarter that counts least has {worst:.2g} of the one that counts "
            f"most, below {LEAST_FLATNESS_UNTRAINED if untrained else LEAST_FLATNESS}",
        )
    least = LEAST_UNTRAINED if untrained else LEAST_EFFECT
    reason = too_small(summed.effect, least, untrained) or by_chance(summed.p, alpha)
    found = found._replace(found=False, effect=summed.effect, p=summed.p, reason=reason)
    if reason:
        return found
    lost, otherwise, slow, timescale = _take_out(trials[output], summed)
    if not lost >= LEAST_REMOVED:
        reason = f"intervention: without the slow modes the first half of the evidence loses {lost:.0%} of its effect"
    elif not otherwise < LEAST_REMOVED:
        reason = f"intervention: without the other modes as well it loses {otherwise:.0%} of its effect"
    return found._replace(
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
    """The sum that tells the answer best, if any kernel is flat; the evidence, its kernels and their flatness."""
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
    kernel = torch.zeros(len(channels), _QUARTERS, dtype=torch.float64)
    for row, channel in enumerate(channels.tolist()):
        kernel[row] = _kernel(squares[..., channel], trials.gains[..., channel])
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
    fit = torch.linalg.lstsq(
        torch.cat((torch.ones_like(answer), columns[best]), dim=1), answer, driver="gelsd"
    ).solution[1 : 1 + len(flat), 0]
    return _Sum(sums[best] @ fit, conditions, effect, p_value(effect, chance, tests)), channels, kernel, flatness


def _steady(squares: Tensor, gains: Tensor, group: Tensor) -> Tensor:
    """Σ_t (s_t − mean)² E[g_t | condition]² of each input, summed over the trials, shape ``(K,)``."""
    total = torch.zeros(gains.shape[2], dtype=torch.float64)
    for condition in torch.unique(group):
        of = group == condition
        total += (squares[of].sum(dim=0) * gains[of].mean(dim=0).square()).sum(dim=0)
    return total


def _kernel(squares: Tensor, gains: Tensor) -> Tensor:
    """Mean gain in each quarter of a trial's evidence, by its squares, shape ``(4,)``; positive over the trial."""
    total = squares.sum(dim=1, keepdim=True)
    place = (squares.cumsum(dim=1) - squares / 2) / total.clamp(min=1e-300)
    quarter = (_QUARTERS * place).long().clamp(max=_QUARTERS - 1)
    sign = (squares * gains).sum(dim=1, keepdim=True).sign()
    kernel = torch.zeros(_QUARTERS, dtype=torch.float64)
    for index in range(_QUARTERS):
        weight = squares * (quarter == index)
        kernel[index] = (weight * gains * sign).sum() / weight.sum().clamp(min=1e-300)
    return kernel


def _take_out(trials: Trials, summed: _Sum) -> tuple[float, float, float, float]:
    """What the first half of the evidence loses where slow modes, and where all others, are taken out halfway."""
    recurrence = read_recurrence(trials.rnn)
    arrived = summed.steps.square().sum(dim=0).cumsum(dim=0)
    half = max(1, int((arrived < arrived[-1] / 2).sum()))
    rows = (trials.lengths > half).nonzero()[:, 0]
    states, left = trials.states[rows], trials.lengths[rows] - half
    z = states[:, half - 1]
    passed = trials.valid[rows, half:].double()
    on = recurrence.regime(states[:, half - 1 : -1]) * passed.unsqueeze(-1)
    share = on.sum(dim=1) / passed.sum(dim=1, keepdim=True)
    values, right = torch.linalg.eig(recurrence.regime_matrix(share))
    slow = values.abs() ** left.unsqueeze(1) >= 0.5
    apart = z - z.mean(dim=0)
    # least squares, as a defective matrix has no inverse of its eigenvectors
    parts = torch.linalg.lstsq(right, apart.to(right.dtype).unsqueeze(2), driver="gelsd").solution[..., 0]
    held = torch.einsum("nij,nj->ni", right, parts * slow).real
    conditions = summed.conditions[rows]
    first, second = summed.steps[rows, :half].sum(dim=1), summed.steps[rows, half:].sum(dim=1)
    columns = torch.column_stack((torch.ones_like(first), first, second, conditions))

    def counts(state: Tensor) -> float:
        run = intervene(trials.rnn, trials.inputs[rows, half:], state=state, lengths=left)
        answer = run.states[torch.arange(len(rows)), left - 1] @ trials.row
        if not bool(torch.isfinite(answer).all()):
            return math.nan
        return float(torch.linalg.lstsq(columns, answer.unsqueeze(1), driver="gelsd").solution[1, 0])

    whole = counts(z)
    lost, otherwise = (1 - counts(state) / whole for state in (z - held, z - apart + held))
    slowest = values.abs().amax(dim=1).clamp(min=1e-300)
    return lost, otherwise, float(slow.double().sum(dim=1).mean()), float((-1 / slowest.log()).median())
