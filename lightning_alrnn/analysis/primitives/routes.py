"""Rule-dependent routing: an input counts otherwise, or takes another way, in another condition."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.analysis.interventions import silence
from lightning_alrnn.analysis.primitives.gates import (
    LEAST_EFFECT,
    LEAST_UNTRAINED,
    beyond_own_level,
    own_levels,
    why_no_unit_switches,
)
from lightning_alrnn.analysis.primitives.trials import (
    ALPHA,
    DRAWS,
    LEAST_CHANGE,
    SCREENING,
    Carriers,
    Trials,
    changed_share,
    find_carriers,
    gains_past,
    orders,
    p_value,
    part_of_answer,
    select,
    spread,
    to_end,
    under,
    why_not,
)
from lightning_alrnn.analysis.regime_statistics import count_regimes_by_group, regime_sharing

_MOST_UNITS = 16
_MOST_CHANNELS = 8
_MOST_VALUES = 10_000_000  # of the means of draws that are made at once
_LEAST_RATIO = 2.0


class Routing(NamedTuple):
    """Whether the gain or the path of an input depends on the condition.

    Attributes:
        found: Whether effect, p and intervention pass; ``None`` for fewer than two conditions or if no unit switches.
        effect: √(Σ_t σ²_t Var(E[g_t | condition]) / E) with the gain g_t = ∂y/∂s_t of an input, its variance σ²_t
            within the conditions, and E as for :class:`~lightning_alrnn.analysis.primitives.gates.Gating`. If no total
            gain differs, g_t is the part of the gain through the nonlinear units that pass most of the input in one
            condition, relative to itself if it is larger than E. The largest over all inputs and conditions. Of two
            equally frequent conditions, 0.7 if the strongest input passes in only one, 1 if it has either sign.
        p: Share of draws, conditions exchanged, in which the largest effect is as large.
        intervention: Share of the effect that disappears without ``carriers``. For a path, 1 − least / largest change
            of the input's contribution to the answer over the conditions if its units are silenced. NaN if effect or p
            fail.
        reason: Test that failed; empty if routing is found.
        output: Index of the direction of the outputs with the largest effect.
        channel: Input with the largest effect.
        path: Nonlinear units of the part of the gain; empty for the total gain.
        groups: Indices of the conditions, int64 of shape ``(g,)``.
        gain: Mean ∂y/∂s_t of each condition and input, weighted by σ², float64 of shape ``(g, K)``.
        effects: Effect on the total gain of each input, of shape ``(K,)``.
        carriers: Nonlinear units that make the difference; ``None`` if effect or p fail.
        occupancy_js: Mean Jensen–Shannon divergence in bits between the regimes of conditions, not used by ``found``.
    """

    found: bool | None
    effect: float
    p: float
    intervention: float
    reason: str
    output: int
    channel: int
    path: tuple[int, ...]
    groups: Tensor
    gain: Tensor
    effects: Tensor
    carriers: Carriers | None
    occupancy_js: float


def routing(
    trials: Sequence[Trials], group: Tensor | None, *, draws: int = DRAWS, alpha: float = ALPHA, seed: int = 0
) -> Routing:
    """Test whether inputs are routed by the condition, see :class:`Routing`.

    The draws exchange the conditions among trials of similar length.

    Args:
        trials: The same trials, with the answer along one or more directions of the outputs.
        group: Condition of each trial, int64 of shape ``(batch,)``, negative for none; ``None`` without conditions.
        draws: Number of draws.
        alpha: Significance level for all inputs, units and directions together.
        seed: Seed of the draws.
    """
    width = trials[0].inputs.shape[2]
    if group is None:
        group = torch.full((len(trials[0].answer),), -1)
    rows = (group >= 0).nonzero()[:, 0]
    groups = torch.unique(group[rows])
    reason = why_no_unit_switches(trials[0])
    if len(groups) < 2:
        count = "one condition" if len(groups) else "no conditions (SequenceBatch.group)"
        reason = f"the sequences have {count}, and routing needs at least two"
    if reason:
        gain = torch.full((len(groups), width), math.nan, dtype=torch.float64)
        effects = torch.full((width,), math.nan, dtype=torch.float64)
        return Routing(None, math.nan, math.nan, math.nan, reason, 0, 0, (), groups, gain, effects, None, math.nan)
    trials = [select(one, rows) for one in trials]
    group = group[rows].cpu()
    least = LEAST_UNTRAINED if trials[0].untrained else LEAST_EFFECT
    differences = [_Difference(one, group, least, min(draws, SCREENING), seed) for one in trials]
    # paths are for where no gain differs as a whole
    output = max(range(len(trials)), key=lambda index: (not differences[index].path, differences[index].effect))
    if differences[output].effect < least:
        output = max(range(len(trials)), key=lambda index: differences[index].effect)
    best, chosen = differences[output], trials[output]
    if best.effect >= least and draws > SCREENING:
        best.draw(orders(chosen.block, draws, seed)[SCREENING:])
    p = p_value(best.share, best.chance, len(trials))
    carriers = None
    reason = why_not(best.effect, least, p, alpha, chosen.untrained)
    if not reason and not best.path:
        carriers = find_carriers(chosen, best.channel, best.measure)
        reason = why_not(best.effect, least, p, alpha, chosen.untrained, carriers)
    elif not reason:
        other = under(chosen, silence(*best.path))
        before, after = (part_of_answer(one, best.channel) for one in (chosen, other))
        change = [float((after - before)[group == condition].std(correction=0)) for condition in groups]
        share = changed_share(before, after)
        carriers = Carriers(best.path, "silence", 1 - min(change) / max(max(change), 1e-300), share)
        if max(change) < _LEAST_RATIO * min(change) or share < LEAST_CHANGE:
            reason = (
                f"intervention: silencing units {', '.join(map(str, best.path))} changes the contribution of the input "
                f"to the answer by {min(change):.2g} to {max(change):.2g} in the conditions"
            )
    occupancy = count_regimes_by_group(chosen.states, chosen.units, group, chosen.lengths)
    return Routing(
        found=not reason,
        effect=best.effect,
        p=p,
        intervention=math.nan if carriers is None else carriers.removed,
        reason=reason,
        output=output,
        channel=best.channel,
        path=best.path,
        groups=groups,
        gain=best.gain,
        effects=best.effects,
        carriers=carriers,
        occupancy_js=regime_sharing(occupancy).mean_js,
    )


class _Difference:
    """Differences between conditions in the gains of some trials, and in their parts through each unit."""

    def __init__(self, trials: Trials, group: Tensor, least: float, draws: int, seed: int) -> None:
        self._group = group
        exact = to_end(trials.gains, trials.lengths)
        self._scale = max(float(exact.abs().max()), 1e-300)  # the means of the draws are in float32
        gains = exact / self._scale
        self._there = to_end(trials.valid.unsqueeze(-1), trials.lengths)[..., 0]
        count = self._there.sum(dim=0).clamp(min=1).unsqueeze(1)
        power = _power_within(to_end(trials.inputs, trials.lengths), self._there, group)
        power = power / max(float(power.max()), 1e-300)
        energy = (power * (gains.square().sum(dim=0) / count)).sum(dim=0)
        steady = (power * (gains.sum(dim=0) / count).square()).sum(dim=0)
        channels = energy.argsort(descending=True, stable=True)[:_MOST_CHANNELS].sort().values
        weight = power[:, channels] / torch.maximum(energy[channels], steady.max()).clamp(min=1e-30)
        units = _switching(trials)
        total = gains[..., channels]
        past = (to_end(gains_past(trials, unit), trials.lengths)[..., channels] / self._scale for unit in units)
        parts = torch.stack((total, *(total - one for one in past)), dim=1)
        self._own_levels = own_levels(to_end(trials.inputs, trials.lengths), self._there)[:, :, channels].double()
        self._beyond = beyond_own_level(parts, self._own_levels, self._there).float()
        # of the parts of two units, Σ_t σ²_t E[a_t b_t], shape (channels, units, units)
        weighted = (parts[:, 1:] * (weight / count).sqrt()).permute(3, 1, 0, 2).flatten(2)
        self._products = (weighted @ weighted.mT).float()
        self._parts, self._weight = parts.float(), weight.float()

        self.chance: list[float] = []
        measured = self._shares(group)
        effects = (measured - self.draw(orders(trials.block, draws, seed))).clamp(min=0).sqrt()
        # a path is looked at where no gain differs as a whole
        rows = effects[:1] if float(effects[0].max()) >= least else effects
        place = np.unravel_index(int(rows.argmax()), rows.shape)
        self.share, self.effect = float(measured[place]), float(effects[place])
        self._place = int(place[1])
        self._channels = channels
        self.channel = int(channels[place[1]])
        self.path: tuple[int, ...] = ()
        if place[0] > 0:
            preferred = self._preferred(group)[:, self._place]
            self.path = tuple(sorted(unit for unit, one in zip(units, preferred, strict=True) if one == place[0] - 1))
        self.effects = torch.full((gains.shape[2],), math.nan, dtype=torch.float64)
        self.effects[channels] = effects[0].double()
        weight = power / count * self._there.unsqueeze(-1)
        member = (group.unsqueeze(1) == torch.unique(group)).double()
        weighted, weights = (member.T @ values.sum(dim=1) for values in (weight * exact, weight))
        self.gain = weighted / weights.clamp(min=1e-300)

    def draw(self, exchanged: list[Tensor]) -> Tensor:
        """Add draws to ``chance`` and return the mean of their shares."""
        groups = torch.stack([self._group[order] for order in exchanged])
        means = len(torch.unique(self._group)) * self._parts[0].numel()  # of one draw
        at_once = max(1, _MOST_VALUES // means)
        drawn = torch.cat([self._shares(groups[start : start + at_once]) for start in range(0, len(groups), at_once)])
        self.chance += drawn.flatten(1).amax(dim=1).tolist()
        return drawn.mean(dim=0)

    def _shares(self, group: Tensor) -> Tensor:
        """Shares of the whole gains, and of the units that prefer each condition, shape ``(…, 1 + g, channels)``."""
        mean, number = _means(self._beyond, group, self._there)
        sets = functional.one_hot(self._preferred(group), number.shape[-2]).float()  # (…, units, channels, g)
        paths = torch.einsum("...ukg,...cutk->...cgtk", sets, mean[..., 1:, :, :])
        shares = self._between(torch.cat((mean[..., :1, :, :], paths), dim=-3), number)
        # parts that cancel one another may be larger than the whole: they are held against themselves
        size = torch.einsum("...ukg,...vkg,kuv->...gk", sets, sets, self._products)
        return torch.cat((shares[..., :1, :], shares[..., 1:, :] / size.clamp(min=1)), dim=-2)

    def _preferred(self, group: Tensor) -> Tensor:
        """The condition in which each unit passes most of each input, int64 of shape ``(…, units, channels)``."""
        mean, _ = _means(self._parts[:, 1:], group, self._there)
        return (self._weight * mean.square()).sum(dim=-2).argmax(dim=-3)

    def _between(self, mean: Tensor, number: Tensor) -> Tensor:
        """Σ_t σ²_t Var(E[g_t | condition]) over the energy of the strongest input, shape ``(…, parts, channels)``."""
        part = (number / number.sum(dim=-2, keepdim=True).clamp(min=1))[..., None, :, None]
        between = (part * (mean - (part * mean).sum(dim=-4, keepdim=True)).square()).sum(dim=-4)
        shares: Tensor = (self._weight * between).sum(dim=-2)
        return shares

    def measure(self, trials: Trials) -> float:
        """Share of the strongest input for other gains in the same trials."""
        some = spread(len(self._group), len(trials.answer))
        gains = to_end(trials.gains, trials.lengths)[..., self._channels].unsqueeze(1) / self._scale
        gains = beyond_own_level(gains, self._own_levels[some], self._there[some])
        return float(self._between(*_means(gains, self._group[some], self._there[some]))[0, self._place])


def _means(gains: Tensor, group: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Mean of gains ``(batch, parts, time, channels)`` over the trials of each condition, and their number."""
    member = (group.unsqueeze(-1) == torch.unique(group)).to(gains.dtype).mT
    number = member @ there.to(gains.dtype)
    total = (member @ gains.flatten(1)).unflatten(-1, gains.shape[1:])
    return total / number.clamp(min=1)[..., None, :, None], number


def _power_within(inputs: Tensor, there: Tensor, group: Tensor) -> Tensor:
    """``Trials.power`` within the conditions, shape ``(time, K)``: 0 for an input that encodes the condition."""
    mean, _ = _means(inputs.unsqueeze(1), group, there)
    apart = (inputs - mean[torch.unique(group, return_inverse=True)[1], 0]) * there.unsqueeze(-1)
    return apart.square().sum(dim=0) / len(group)


def _switching(trials: Trials) -> list[int]:
    """Nonlinear units that switch, ordered by how evenly they are on and off."""
    on = (trials.states[..., len(trials.row) - trials.units :] > 0).double()
    spread = on.std(dim=(0, 1), correction=0)
    order = spread.argsort(descending=True, stable=True)[:_MOST_UNITS]
    return [unit for unit in order.tolist() if float(spread[unit]) > 0]
