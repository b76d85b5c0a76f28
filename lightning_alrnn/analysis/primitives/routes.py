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
    to_end,
    under,
)
from lightning_alrnn.analysis.primitives.words import why_not
from lightning_alrnn.analysis.regime_statistics import count_regimes_by_group, regime_sharing

_MOST_UNITS = 16
_MOST_CHANNELS = 8
_LEAST_RATIO = 2.0


class Routing(NamedTuple):
    """Whether an input counts otherwise, or passes through other units, in another condition.

    Attributes:
        found: whether effect, p and intervention are all as they must be; ``None`` where there are fewer than two
            conditions or no unit switches.
        effect: √(Σ_t σ²_t Var(E[g_t | condition]) / E) with the gain g_t = ∂y/∂s_t of an input, σ²_t its variance over
            the trials of a condition, and E as for :class:`~lightning_alrnn.analysis.primitives.gates.Gating`; or with
            the part of the gain that passes through those nonlinear units which pass most in one condition, held
            against itself where it is larger than E. The largest of all inputs and conditions. Of two equally frequent
            conditions 0.7 where the strongest input counts for one only, 1 where it counts as much against as for the
            answer. What depends on the input's own value at the same step is left out.
        p: share of draws, conditions exchanged, in which the largest effect is as large.
        intervention: share of the effect that is gone without ``carriers``; of a path, by how much more silencing its
            unit changes what the input makes of the answer in one condition than in another (1 − least /
            largest). NaN where effect or p are not enough.
        reason: what failed; empty where it is found.
        output: index of the direction of the outputs in which the effect is largest.
        channel: the input.
        path: the nonlinear units whose part of the gain it is; none for the whole gain.
        groups: indices of the conditions, int64 of shape ``(g,)``.
        gain: mean ∂y/∂s_t of each condition and input, each step by its σ², float64 of shape ``(g, K)``.
        effects: effect of each input, on its whole gain, of shape ``(K,)``.
        carriers: the nonlinear units that make the difference; ``None`` as for ``intervention``.
        occupancy_js: mean Jensen–Shannon divergence between the conditions' shares of steps in each regime, in bits, 0
            (the same regimes) to 1 (none in common). It does not decide.
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
    """Whether conditions are routed: see :class:`Routing`.

    Chance: the conditions exchanged among trials of like length.

    Args:
        trials: the same trials, with the answer along one or more directions of the outputs.
        group: condition of each, int64 of shape ``(batch,)``; those below 0 are left out. ``None`` without conditions.
        draws: how many times conditions are exchanged.
        alpha: level, for all inputs, units and directions together.
        seed: seed of the draws.
    """
    width = trials[0].inputs.shape[2]
    if group is None:
        group = torch.full((len(trials[0].answer),), -1)
    rows = (group >= 0).nonzero()[:, 0]
    groups = torch.unique(group[rows])
    reason = ""
    if len(groups) < 2:
        count = "one condition" if len(groups) else "no conditions (SequenceBatch.group)"
        reason = f"the sequences have {count}, and two at least are needed to be told apart"
    reason = reason or why_no_unit_switches(trials[0])
    if reason:
        nothing = torch.full((len(groups), width), math.nan, dtype=torch.float64)
        channels = torch.full((width,), math.nan, dtype=torch.float64)
        return Routing(None, math.nan, math.nan, math.nan, reason, 0, 0, (), groups, nothing, channels, None, math.nan)
    trials = [select(one, rows) for one in trials]
    group = group[rows].cpu()
    least = LEAST_UNTRAINED if trials[0].untrained else LEAST_EFFECT
    looked = [_Difference(one, group, least, min(draws, SCREENING), seed) for one in trials]
    # paths are for where no gain differs as a whole
    output = max(range(len(looked)), key=lambda index: (not looked[index].path, looked[index].effect))
    if looked[output].effect < least:
        output = max(range(len(looked)), key=lambda index: looked[index].effect)
    best, chosen = looked[output], trials[output]
    if best.effect >= least and draws > SCREENING:
        best.draw(orders(chosen.block, draws, seed)[SCREENING:])
    p = p_value(best.share, best.chance, len(looked))
    carriers, intervention = None, math.nan
    reason = why_not(best.effect, least, chosen.untrained, p, alpha, None)
    if not reason and not best.path:
        carriers = find_carriers(chosen, best.channel, best.measure)
        intervention = carriers.removed
        reason = why_not(best.effect, least, chosen.untrained, p, alpha, carriers)
    elif not reason:
        other = under(chosen, silence(*best.path))
        before, after = (part_of_answer(one, best.channel) for one in (chosen, other))
        change = [float((after - before)[group == condition].std(correction=0)) for condition in groups]
        whole = changed_share(before, after)
        carriers = Carriers(best.path, "silence", 1 - min(change) / max(max(change), 1e-300), whole)
        intervention = carriers.removed
        if max(change) < _LEAST_RATIO * min(change) or whole < LEAST_CHANGE:
            reason = (
                f"intervention: silencing units {', '.join(map(str, best.path))} changes what the input makes of the "
                f"answer by {min(change):.2g} to {max(change):.2g} in the conditions"
            )
    occupancy = count_regimes_by_group(chosen.states, chosen.units, group, chosen.lengths)
    return Routing(
        found=not reason,
        effect=best.effect,
        p=p,
        intervention=intervention,
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
    """How the gains of some trials, and their parts through each unit, differ between conditions."""

    def __init__(self, trials: Trials, group: Tensor, least: float, draws: int, seed: int) -> None:
        self._group = group
        gains = to_end(trials.gains, trials.lengths)
        self._there = to_end(trials.valid.unsqueeze(-1), trials.lengths)[..., 0]
        count = self._there.sum(dim=0).clamp(min=1).unsqueeze(1)
        power = _power_within(to_end(trials.inputs, trials.lengths), self._there, group)
        energy = (power * (gains.square().sum(dim=0) / count)).sum(dim=0)
        steady = (power * (gains.sum(dim=0) / count).square()).sum(dim=0)
        channels = energy.argsort(descending=True, stable=True)[:_MOST_CHANNELS].sort().values
        self._weight = power[:, channels] / torch.maximum(energy[channels], steady.max()).clamp(min=1e-300)
        units = _switching(trials)
        whole = gains[..., channels]
        others = [whole - to_end(gains_past(trials, unit), trials.lengths)[..., channels] for unit in units]
        self._own = own_levels(to_end(trials.inputs, trials.lengths), self._there)[:, :, channels].double()
        self._parts = torch.stack((whole, *others), dim=1)
        self._beyond = beyond_own_level(self._parts, self._own, self._there)

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
        self.effects[channels] = effects[0]
        weight = power * self._there.unsqueeze(-1)
        self.gain = torch.stack(
            [
                (weight * gains)[group == condition].sum(dim=(0, 1))
                / weight[group == condition].sum(dim=(0, 1)).clamp(min=1e-300)
                for condition in torch.unique(group)
            ]
        )

    def draw(self, exchanged: list[Tensor]) -> Tensor:
        """Add draws to ``chance``, and give the mean of their shares."""
        drawn = [self._shares(self._group[order]) for order in exchanged]
        self.chance += [float(one.max()) for one in drawn]
        return torch.stack(drawn).mean(dim=0)

    def _shares(self, group: Tensor) -> Tensor:
        """Shares of the whole gains, and of the units that prefer each condition, shape ``(1 + g, channels)``."""
        mean, number = _means(self._beyond, group, self._there)
        sets = functional.one_hot(self._preferred(group), len(mean)).double()  # (units, channels, g)
        paths = torch.einsum("ukg,cutk->cgtk", sets, mean[:, 1:])
        shares = self._between(torch.cat((mean[:, :1], paths), dim=1), number)
        # parts that cancel one another may be larger than the whole: they are held against themselves
        size = torch.einsum("ukg,nutk->ngtk", sets, self._parts[:, 1:]).square().sum(dim=0)
        size = (self._weight * size / number.sum(dim=0).clamp(min=1).unsqueeze(1)).sum(dim=1)
        return torch.cat((shares[:1], shares[1:] / size.clamp(min=1)))

    def _preferred(self, group: Tensor) -> Tensor:
        """The condition in which most of each input passes through each unit, int64 of shape ``(units, channels)``."""
        mean, _ = _means(self._parts[:, 1:], group, self._there)
        return (self._weight * mean.square()).sum(dim=2).argmax(dim=0)

    def _between(self, mean: Tensor, number: Tensor) -> Tensor:
        """Σ_t σ²_t Var(E[g_t | condition]) over the energy of the strongest input, shape ``(parts, channels)``."""
        part = (number / number.sum(dim=0).clamp(min=1))[:, None, :, None]
        between = (part * (mean - (part * mean).sum(dim=0)).square()).sum(dim=0)
        shares: Tensor = (self._weight * between).sum(dim=1)
        return shares

    def measure(self, trials: Trials) -> float:
        """The share, of the input that was found, of other gains in the same trials."""
        some = torch.linspace(0, len(self._group) - 1, len(trials.answer)).round().long()
        gains = to_end(trials.gains, trials.lengths)[..., self._channels].unsqueeze(1)
        gains = beyond_own_level(gains, self._own[some], self._there[some])
        return float(self._between(*_means(gains, self._group[some], self._there[some]))[0, self._place])


def _means(gains: Tensor, group: Tensor, there: Tensor) -> tuple[Tensor, Tensor]:
    """Mean over the trials of each condition of gains ``(batch, parts, time, channels)``, and how many these are."""
    member = (group.unsqueeze(1) == torch.unique(group)).double()
    number = member.T @ there.double()
    total = (member.T @ gains.flatten(1)).reshape(len(number), *gains.shape[1:])
    return total / number.clamp(min=1)[:, None, :, None], number


def _power_within(inputs: Tensor, there: Tensor, group: Tensor) -> Tensor:
    """Variance of each input within the conditions, shape ``(time, K)``: an input that tells the condition has none."""
    member = (group.unsqueeze(1) == torch.unique(group)).double()
    number = (member.T @ there.double()).clamp(min=1)
    mean = torch.einsum("ng,ntk->gtk", member, inputs) / number.unsqueeze(-1)
    apart = (inputs - torch.einsum("ng,gtk->ntk", member, mean)) * there.unsqueeze(-1)
    return apart.square().sum(dim=0) / there.sum(dim=0).clamp(min=1).unsqueeze(-1)


def _switching(trials: Trials) -> list[int]:
    """The nonlinear units that switch, those first that are on and off most evenly."""
    on = (trials.states[..., len(trials.row) - trials.units :] > 0).double()
    spread = on.std(dim=(0, 1), correction=0)
    order = spread.argsort(descending=True, stable=True)[:_MOST_UNITS]
    return [unit for unit in order.tolist() if float(spread[unit]) > 0]
