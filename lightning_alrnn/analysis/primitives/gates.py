"""Gating: one input decides how much another one counts."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.analysis.primitives.trials import (
    ALPHA,
    DRAWS,
    SCREENING,
    Carriers,
    Trials,
    find_carriers,
    orders,
    p_value,
    spread,
    subset,
    to_end,
    why_not,
)

LEAST_EFFECT = 0.4
LEAST_UNTRAINED = 0.7  # if answers explain little of the targets
_LEVELS = 4
_FEW_VALUES = 8
_LEAST_ATOM = 0.1
_MOST_STEPS = 32
_MOST_SOURCES = 16
_MOST_CHANNELS = 8
_MOST_TRIALS = 512
_ORDERS = 8  # of one product
_NEAR = 16


class Gating(NamedTuple):
    """Whether the gain of one input depends on another input, or on the same input at other steps.

    Attributes:
        found: Whether effect, p and intervention pass their tests; ``None`` if no unit switches.
        effect: √(Σ_t σ²_t Var(E[g_t | s_j]) / E) with the gain g_t = ∂y/∂s_t of the gated input, its variance σ²_t over
            the trials times the share of trials that have step t, and the controlling input s_j at the steps of
            ``when``. E is the largest of Σ_t σ²_t E[g²_t] of the gated input and Σ_t σ²_t E[g_t]² of all others except
            s_j. The value of the gated input at the same step does not count. 0.7 if the strongest input passes in half
            of the trials, 1 if it has either sign.
        p: Share of draws, trials exchanged, in which the largest effect over all pairs and lags, each beyond its mean
            over the draws, is as large.
        intervention: Share of the effect that disappears without ``carriers``; NaN if effect or p fail.
        reason: Test that failed; empty if the gate is found.
        output: Index of the direction of the outputs with the largest effect.
        control: Controlling input j.
        gated: Gated input.
        when: Steps of the controlling input, such as "3 steps earlier", "at step 0" or "up to then" (its mean).
        effects: Largest effect of each controlling input (row) on each gated one, shape ``(K, K)``; NaN if not tested.
        gain: Mean ∂y/∂s of the gated input, weighted by σ², at the lowest and highest level of the controlling one.
        carriers: Nonlinear units that gate; ``None`` if effect or p fail.
    """

    found: bool | None
    effect: float
    p: float
    intervention: float
    reason: str
    output: int
    control: int
    gated: int
    when: str
    effects: Tensor
    gain: tuple[float, float]
    carriers: Carriers | None


class _Source(NamedTuple):
    """Levels of the controlling inputs, seen from the steps of the gated ones."""

    name: str  # for Gating.when
    hot: Tensor  # 1 for the level of an input, float32 (steps, batch, J, levels)
    present: Tensor  # whether it is the gated input's own step, bool (steps,)


def gating(trials: Sequence[Trials], *, draws: int = DRAWS, alpha: float = ALPHA, seed: int = 0) -> Gating:
    """Test whether one input gates another, see :class:`Gating`.

    The draws combine the gains of each trial with the inputs of another trial of similar length.

    Args:
        trials: The same trials, with the answer along one or more directions of the outputs.
        draws: Number of draws.
        alpha: Significance level for all inputs, lags and directions together.
        seed: Seed of the draws.

    Example:
        A unit that passes input 0 on if input 1 is 1, before another that adds up.

        >>> from lightning_alrnn.analysis import intervene
        >>> from lightning_alrnn.analysis.primitives import read_trials
        >>> from lightning_alrnn.nn import Recurrence
        >>> inputs = torch.stack((torch.rand(200, 8), (torch.rand(200, 8) < 0.3).float()), dim=-1)
        >>> W, C = torch.tensor([[1.0, 1.0], [0.0, 0.0]]), torch.tensor([[0.0, 0.0], [1.0, 1.0]])
        >>> rnn = Recurrence(torch.zeros(2), W, C, torch.tensor([0.0, -1.0]), P=1)
        >>> result = gating([read_trials(rnn, inputs, intervene(rnn, inputs).states, torch.tensor([1.0, 0.0]))])
        >>> result.found, result.control, result.gated, result.when, result.carriers.units
        (True, 1, 0, 'at the same step', (0,))
    """
    width = trials[0].inputs.shape[2]
    nothing = torch.full((width, width), math.nan, dtype=torch.float64)
    reason = why_no_unit_switches(trials[0])
    if reason:
        return Gating(None, math.nan, math.nan, math.nan, reason, 0, 0, 0, "", nothing, (math.nan, math.nan), None)
    trials = [subset(one, _MOST_TRIALS) for one in trials]
    modulations = [_Modulation(one, min(draws, SCREENING), seed) for one in trials]
    output = max(range(len(modulations)), key=lambda index: modulations[index].effect)
    best = modulations[output]
    untrained = trials[output].untrained
    least = LEAST_UNTRAINED if untrained else LEAST_EFFECT
    if best.effect >= least and draws > SCREENING:
        best.draw(orders(trials[output].block, draws, seed)[SCREENING:])
    p = p_value(best.share, best.chance, len(modulations))
    carriers = None
    if best.effect >= least and p <= alpha:
        carriers = find_carriers(trials[output], best.gated, best.measure)
    reason = why_not(best.effect, least, p, alpha, untrained, carriers)
    return Gating(
        found=not reason,
        effect=best.effect,
        p=p,
        intervention=math.nan if carriers is None else carriers.removed,
        reason=reason,
        output=output,
        control=best.control,
        gated=best.gated,
        when=best.when,
        effects=best.effects,
        gain=best.gain,
        carriers=carriers,
    )


def why_no_unit_switches(trials: Trials) -> str:
    """The reason why gains are the same in all trials; empty if they may differ."""
    if trials.units == 0:
        return "the network is linear (P = 0), so each input has the same effect in every trial"
    on = trials.states[..., len(trials.row) - trials.units :] > 0
    inside = trials.valid.unsqueeze(-1)
    if not bool(((on & inside).any(dim=(0, 1)) & (~on & inside).any(dim=(0, 1))).any()):
        return "no nonlinear unit switches, so each input has the same effect in every trial"
    return ""


class _Modulation:
    """Dependence of the gains of some trials on their inputs."""

    def __init__(self, trials: Trials, draws: int, seed: int) -> None:
        width = trials.inputs.shape[2]
        inputs = to_end(trials.inputs, trials.lengths)
        self.there = to_end(trials.valid.unsqueeze(-1), trials.lengths)[..., 0]
        padded = bool((~trials.valid).any())
        count = self.there.sum(dim=0).clamp(min=1).unsqueeze(1)
        exact = to_end(trials.gains, trials.lengths)
        gains = exact / max(float(exact.abs().max()), 1e-300)  # products are in float32
        power = trials.power / max(float(trials.power.max()), 1e-300)
        each = power * (gains.square().sum(dim=0) / count)
        energy = each.sum(dim=0)
        self.gated_channels = energy.argsort(descending=True, stable=True)[:_MOST_CHANNELS].sort().values
        self.channels = power.sum(dim=0).argsort(descending=True, stable=True)[:_MOST_CHANNELS].sort().values
        same = self.channels.unsqueeze(1) == self.gated_channels
        steady = (power * (gains.sum(dim=0) / count).square()).sum(dim=0)
        # the controlling input itself does not count: what it does beside the gate is not what it gates
        others = steady.expand(width, width).masked_fill(torch.eye(width, dtype=torch.bool), 0.0).amax(dim=1)
        strongest = torch.maximum(others[self.channels].unsqueeze(1), energy[self.gated_channels])
        strongest = strongest.float().clamp(min=1e-38)
        self.steps, stand_for = _representative(each.sum(dim=1))
        weight = power[self.steps][:, self.gated_channels] / count[self.steps]
        self.weight = (weight * stand_for.unsqueeze(1)).float()

        hot = own_levels(inputs, self.there)
        self.own_levels = hot[:, self.steps][:, :, self.gated_channels].double()  # of the gated inputs
        sources = _sources(
            hot[:, :, self.channels].float(), inputs[:, :, self.channels], self.there, self.steps, padded
        )
        # all sources as rows of one product a step: (steps, sources · J · levels, batch)
        rows = torch.cat([source.hot.flatten(2) for source in sources], dim=2).transpose(1, 2).contiguous()
        number = rows.sum(dim=2, keepdim=True).clamp(min=1)
        sizes = [source.hot[0, 0].numel() for source in sources]
        residual = self._residual(gains).transpose(0, 1).contiguous()

        def shares(exchanged: Sequence[Tensor]) -> Tensor:
            """Of each order of the trials, shape ``(orders, sources, channels, gated channels)``."""
            columns = residual[:, torch.stack([*exchanged], dim=1)].flatten(2)  # those of all orders beside one another
            explained = (rows @ columns).square() / number
            explained = explained.reshape(*rows.shape[:2], len(exchanged), -1) * self.weight[:, None, None]
            result = []
            for source, part in zip(sources, explained.split_with_sizes(sizes, dim=1), strict=True):
                by_input = part.reshape(len(part), len(self.channels), -1, *part.shape[2:]).sum(dim=2)
                itself = source.present[:, None, None] & same
                result.append(by_input.masked_fill(itself.unsqueeze(2), 0.0).sum(dim=0) / strongest.unsqueeze(1))
            return torch.stack(result).permute(2, 0, 1, 3)

        self._shares = shares
        measured = shares([torch.arange(len(inputs))])[0]
        drawn = self._drawn(orders(trials.block, draws, seed))
        # what chance gives depends on the pair and the lag: where few trials are left, it is more
        self._expected = torch.cat([measured.unsqueeze(0), drawn]).mean(dim=0)
        self.chance: list[float] = (drawn - self._expected).flatten(1).amax(dim=1).tolist()
        beyond = measured - self._expected
        self.share = float(beyond.max())
        place = np.unravel_index(int(beyond.argmax()), beyond.shape)
        self._place = int(place[0]), int(place[1]), int(place[2])
        self.when = sources[self._place[0]].name
        self.control = int(self.channels[self._place[1]])
        self.gated = int(self.gated_channels[self._place[2]])
        self._source = sources[self._place[0]].hot[:, :, self._place[1]]
        sizes_of_effects = (measured - drawn.mean(dim=0)).clamp(min=0).sqrt().double()
        self.effect = float(sizes_of_effects[place])
        self.effects = torch.full((width, width), math.nan, dtype=torch.float64)
        self.effects[self.channels.unsqueeze(1), self.gated_channels] = sizes_of_effects.amax(dim=0)
        self.gain = self._gain(exact)

    def draw(self, exchanged: list[Tensor]) -> None:
        """Add draws to ``chance``."""
        self.chance += (self._drawn(exchanged) - self._expected).flatten(1).amax(dim=1).tolist()

    def _drawn(self, exchanged: list[Tensor]) -> Tensor:
        """The shares of orders, some at a time: one product for each would read all rows again."""
        parts = [self._shares(exchanged[start : start + _ORDERS]) for start in range(0, len(exchanged), _ORDERS)]
        return torch.cat(parts)

    def _residual(self, gains: Tensor) -> Tensor:
        """Gains at the chosen steps, minus their mean at the same level of the gated input itself."""
        chosen = gains[:, self.steps][:, :, self.gated_channels].unsqueeze(1)
        return beyond_own_level(chosen, self.own_levels, self.there[:, self.steps])[:, 0].float()

    def _gain(self, gains: Tensor) -> tuple[float, float]:
        """Mean gain of the gated input at the lowest and at the highest level of the controlling one."""
        values = gains[:, self.steps][:, :, self.gated].T.unsqueeze(-1)
        weight = self._source.double() * self.weight[:, self._place[2], None, None]  # (steps, batch, levels)
        means = (weight * values).sum(dim=(0, 1)) / weight.sum(dim=(0, 1))
        means = means[self._source.flatten(0, 1).any(dim=0)]
        return float(means[0]), float(means[-1])

    def measure(self, trials: Trials) -> float:
        """Share of the strongest pair and lag for other gains in the same trials."""
        some = spread(len(self.there), len(trials.answer))
        gated = self._place[2]
        gains = to_end(trials.gains, trials.lengths)[:, self.steps][:, :, self.gated_channels].unsqueeze(1)
        residual = beyond_own_level(gains, self.own_levels[some], self.there[some][:, self.steps])[:, 0]
        source = self._source[:, some].double()
        sums = torch.einsum("tnl,nt->tl", source, residual[..., gated])
        number = source.sum(dim=1).clamp(min=1)
        weight = self.weight[:, gated].double() * len(self.there) / len(some)
        return float((sums.square() / number * weight.unsqueeze(1)).sum())


def _sources(hot: Tensor, inputs: Tensor, there: Tensor, steps: Tensor, padded: bool) -> list[_Source]:
    """The controlling inputs at some distance, at some step of the trial (from the end if ``padded``), and so far."""
    time = hot.shape[1]
    sources = []
    far = [lag for lag in range(1, time) if lag <= _NEAR or lag & (lag - 1) == 0]
    for lag in (0, *(sign * lag for lag in far for sign in (-1, 1))):
        at = steps + lag
        inside = ((at >= 0) & (at < time)).float()
        if bool(inside.any()):
            steps_away = f"{abs(lag)} step{'s' if abs(lag) > 1 else ''}"
            name = "at the same step" if lag == 0 else f"{steps_away} {'earlier' if lag < 0 else 'later'}"
            seen = hot[:, at.clamp(0, time - 1)] * inside[None, :, None, None]
            sources.append(_Source(name, seen.transpose(0, 1), (at == steps)))
    for step in spread(time, _MOST_SOURCES).tolist():
        seen = hot[:, step].unsqueeze(0).expand(len(steps), -1, -1, -1)
        before_end = time - 1 - step
        name = f"{before_end} step{'s' if before_end != 1 else ''} before the end" if padded else f"at step {step}"
        sources.append(_Source(name, seen, steps == step))
    before = there.double().cumsum(dim=1) - there.double()
    mean = (inputs.cumsum(dim=1) - inputs) / before.clamp(min=1).unsqueeze(-1)
    mean = mean[:, steps]
    quartiles = torch.quantile(mean, torch.arange(1, _LEVELS, dtype=torch.float64) / _LEVELS, dim=0)
    level = (mean > quartiles.unsqueeze(1)).sum(dim=0)
    inside = (there[:, steps] & (before[:, steps] > 0)).float()[..., None, None]
    seen = functional.one_hot(level, _LEVELS).float() * inside
    sources.append(_Source("up to then", seen.transpose(0, 1), torch.zeros(len(steps), dtype=torch.bool)))
    return sources


def _representative(energy: Tensor) -> tuple[Tensor, Tensor]:
    """Up to 32 steps, spread evenly over the energy of all, and the number of steps that each stands for."""
    time = len(energy)
    total = float(energy.sum())
    if time <= _MOST_STEPS or not total > 0:
        steps = spread(time, _MOST_STEPS)
        return steps, torch.full((len(steps),), time / len(steps), dtype=torch.float64)
    share = (torch.arange(_MOST_STEPS, dtype=torch.float64) + 0.5) / _MOST_STEPS
    drawn = torch.searchsorted(energy.cumsum(dim=0), share * total).clamp(max=time - 1)
    steps, times = torch.unique(drawn, return_counts=True)
    return steps, times * total / (_MOST_STEPS * energy[steps])


def own_levels(inputs: Tensor, there: Tensor) -> Tensor:
    """One-hot levels ``(batch, time, K, levels)`` of inputs: their own values if they are few, or quartiles."""
    levels = torch.zeros(inputs.shape, dtype=torch.int64)
    levels[there] = _levels(inputs[there])
    return functional.one_hot(levels) * there[..., None, None]


def beyond_own_level(gains: Tensor, levels: Tensor, there: Tensor) -> Tensor:
    """Gains ``(batch, parts, time, channels)`` minus their mean over trials with the input at the same own level."""
    mean = torch.einsum("ntkl,nptk->ptkl", levels, gains) / levels.sum(dim=0).clamp(min=1)
    return torch.where(there[:, None, :, None], gains - torch.einsum("ntkl,ptkl->nptk", levels, mean), 0.0)


def _levels(inputs: Tensor) -> Tensor:
    """Levels of inputs ``(n, K)``, int64 of the same shape: their own values if they are few, or quartiles."""
    levels = torch.zeros(inputs.shape, dtype=torch.int64)
    for channel in range(inputs.shape[1]):
        values = inputs[:, channel].contiguous()
        distinct = torch.unique(values)
        if len(distinct) <= _FEW_VALUES:
            levels[:, channel] = torch.bucketize(values, distinct)
            continue
        share = np.arange(1, _LEVELS) / _LEVELS
        quartiles = torch.unique(torch.from_numpy(np.quantile(values.double().numpy(), share)).to(values.dtype))
        level = torch.bucketize(values, quartiles)  # values up to an edge are below it
        for edge in quartiles:
            if float((values == edge).double().mean()) >= _LEAST_ATOM:
                level += values >= edge
        levels[:, channel] = torch.unique(level, return_inverse=True)[1]
    return levels
