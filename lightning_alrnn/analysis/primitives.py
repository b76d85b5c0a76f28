"""What the nonlinearity does: gating, integration, rule-dependent routing and memory-dependent transients, measured.

Each of the four is a number, or a few, beside what it would be by chance: the same statistic of trials whose inputs,
conditions or targets have been exchanged with one another, or of directions drawn at random. A primitive counts as
found where chance reaches the statistic in at most a share ``alpha`` of the draws, and where the effect is large enough
to speak of.

Reference:
    The names are those of Brenner & Koppe, TMLR 2026 (arXiv:2506.07919); the measures are this package's own.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.analysis.fixed_points import FixedPointSet
from lightning_alrnn.analysis.modes import slow_modes
from lightning_alrnn.analysis.regimes import (
    count_regimes,
    count_regimes_by_group,
    count_rows,
    pack_bits,
    regime_bits,
    regime_sharing,
)
from lightning_alrnn.analysis.system import Network, read_parameters, read_states, tensor
from lightning_alrnn.analysis.transients import nonnormality
from lightning_alrnn.batch import valid_steps

DRAWS = 200
"""How many times chance is drawn; the least p-value is 1/201."""

ALPHA = 0.05

_LEVELS = 4
_FEW_VALUES = 8
_LEAST_LOCKING = 0.1
_LEAST_CONTRAST = 1 / 3
_LEAST_ROUTING = 0.1
_MOST_REGIMES = 8
_LEAST_OCCUPANCY = 0.05
_LEAST_EARLY = 0.25


class Gating(NamedTuple):
    """Nonlinear units that switch with an input channel, and how much of each channel they let through.

    Attributes:
        found: whether a unit is locked to a channel and lets through at least twice as much of some channel in one
            position as in the other, both beyond chance; ``None`` where no unit switches.
        locking: I(b; s) / H(b) of each unit's bit b at a step and each channel's input s at the same step, float64 of
            shape ``(P, K)``: 0 (independent) to 1 (the input says where the unit is). Inputs of more than eight values
            are taken by quartiles. NaN for a unit that never switches.
        locking_null: its mean over exchanged trials, of the same shape.
        locking_p: share of draws whose largest locking reaches it, of the same shape.
        gain_on: mean |∂y/∂s_t| of each channel over the steps at which the unit is on, y the output, float64 of shape
            ``(P, K)``.
        gain_off: the same where it is off.
        contrast: (gain_on − gain_off) / (gain_on + gain_off), from −1 (lets through only when off) to 1.
        contrast_p: share of draws whose largest |contrast| reaches it.
        controlled: mean |∂y/∂s_t| of channel j where channel k is at its lowest and at its highest level, float64 of
            shape ``(K, K, 2)`` with k first: what the gates make of it.
        gates: (unit, controlling channel, gated channel) of those that count: first those that are controlled by
            another channel than they gate, the most locked first.
    """

    found: bool | None
    locking: Tensor
    locking_null: Tensor
    locking_p: Tensor
    gain_on: Tensor
    gain_off: Tensor
    contrast: Tensor
    contrast_p: Tensor
    controlled: Tensor
    gates: list[tuple[int, int, int]]


class Integration(NamedTuple):
    """Whether the answer is held by modes that outlast the sequence, and early inputs still count for it.

    Modes are those of a regime; the slow ones have |τ| of at least half a sequence.

    Attributes:
        found: whether, in a regime with at least 5 % of the steps, the slow modes carry at least half of the answer's
            variance, more than other modes do, and a quarter of the inputs' effect comes from the first half.
        codes: the most visited regimes, bool of shape ``(n, P)``.
        occupancy: share of the steps in each, float64 of shape ``(n,)``.
        slow: how many modes of each are slow, int64 of shape ``(n,)``.
        share: 1 − Var(y − y_slow) / Var(y) of y = D z_T, with y_slow = D Σ v_j u_jᴴ z_T over the slow modes; float64
            of shape ``(n,)``, below 0 where the others cancel it. NaN without slow modes.
        share_null: its median over sets of as many modes drawn at random.
        share_p: share of these draws that reach it, times the number of regimes that are tested; NaN for the others.
        early: share of Σ_t |∂y/∂s_t| that the first half of the sequences has: a half where the network integrates,
            near 0 where it forgets.
        steps: what half a sequence is, in steps.
    """

    found: bool
    codes: Tensor
    occupancy: Tensor
    slow: Tensor
    share: Tensor
    share_null: Tensor
    share_p: Tensor
    early: float
    steps: float


class Routing(NamedTuple):
    """Conditions that take different ways: other regimes, and with them another effect of the same input.

    Attributes:
        found: whether occupancy separates the conditions and some channel's gain differs with it, both beyond chance;
            ``None`` where there are fewer than two conditions.
        groups: indices of the conditions, int64 of shape ``(g,)``.
        occupancy_js: mean Jensen–Shannon divergence between the conditions' shares of steps in each regime, in bits, 0
            (the same regimes) to 1 (none in common).
        occupancy_null: its mean over exchanged conditions.
        occupancy_p: share of these draws that reach it.
        gain: mean ∂y/∂s_t of each condition and channel, float64 of shape ``(g, K)``.
        difference: (largest − least mean gain of a condition) / (2 · mean |∂y/∂s_t|), of each channel, of shape
            ``(K,)``: 0 where all are equal, 1 where a channel counts as much for one as against another of two
            conditions, or for one only.
        difference_null: its mean over exchanged conditions, of shape ``(K,)``.
        difference_p: share of draws whose largest difference reaches it, of shape ``(K,)``.
    """

    found: bool | None
    groups: Tensor
    occupancy_js: float
    occupancy_null: float
    occupancy_p: float
    gain: Tensor
    difference: Tensor
    difference_null: Tensor
    difference_p: Tensor


class Transients(NamedTuple):
    """Whether the network answers from regimes that it only passes through, and whether these tell what it remembers.

    Attributes:
        found: whether most steps before the response lie in regimes without a fixed point, and the regime there tells
            the target beyond chance; ``None`` where no unit switches or there is nothing to tell.
        outside: share of the steps before the response in regimes that hold no fixed point.
        outside_null: the same where each unit's bits are exchanged among those steps by themselves, its mean.
        outside_p: share of draws that reach it.
        memory: I(regime; target) / H(target), the regime that of the last step before the response.
        memory_null: its mean over exchanged targets.
        memory_p: share of draws that reach it.
        growth: largest ‖Jⁿ‖ over the visited regimes, each by its share of the steps: above 1 where perturbations grow.
        growth_normal: the same of normal matrices with the same eigenvalues, max_n ρⁿ.
        steps: how many steps before the response are looked at.
    """

    found: bool | None
    outside: float
    outside_null: float
    outside_p: float
    memory: float
    memory_null: float
    memory_p: float
    growth: float
    growth_normal: float
    steps: int


def input_gain(rnn: Network, states: Tensor, readout_weight: Tensor, lengths: Tensor | None = None) -> Tensor:
    """How much each input counts for the output at the sequence's last step, ∂y_T/∂s_t = D J_{T−1} … J_t C.

    Args:
        rnn: the network, or its parameters (A, W, C, h, P).
        states: z_1 … z_T, the states after inputs s_1 … s_T, shape ``(batch, time, M)``.
        readout_weight: D of the output y = D z + b, shape ``(M,)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.

    Returns:
        float64 of shape ``(batch, time, K)``; zero past a sequence's length.

    Raises:
        ValueError: if a parameter or a state is not finite or a shape does not fit.

    Example:
        A unit that keeps half of what it has.

        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=0)
        >>> with torch.no_grad():
        ...     _ = rnn.W.fill_(0.5), rnn.C.fill_(2.0)
        >>> input_gain(rnn, torch.zeros(1, 3, 1), torch.ones(1)).flatten().tolist()
        [0.5, 1.0, 2.0]
    """
    parameters = read_parameters(rnn)
    size = len(parameters.h)
    if states.ndim != 3:
        raise ValueError(f"states must have shape (batch, time, M={size}), got {tuple(states.shape)}")
    z = tensor(read_states("states", states, size))
    if readout_weight.shape != (size,):
        raise ValueError(f"readout_weight must have shape (M,) = ({size},), got {tuple(readout_weight.shape)}")
    batch, time = z.shape[:2]
    last = (torch.full((batch,), time) if lengths is None else lengths.cpu()) - 1
    D, diagonal = tensor(read_states("readout_weight", readout_weight, size)), tensor(parameters.diagonal)
    W, C = tensor(parameters.W), tensor(parameters.C)
    slopes = functional.pad((z[..., parameters.linear :] > 0).double(), (parameters.linear, 0), value=1.0)
    back = torch.zeros(batch, size, dtype=torch.float64)
    gains = torch.zeros(batch, time, C.shape[1], dtype=torch.float64)
    for step in range(time - 1, -1, -1):
        if step < time - 1:
            back = diagonal * back + slopes[:, step] * (back @ W)
        back = torch.where((last == step).unsqueeze(1), D, back)
        gains[:, step] = back @ C
    return gains


def gating(
    rnn: Network,
    inputs: Tensor,
    states: Tensor,
    gains: Tensor,
    lengths: Tensor | None = None,
    *,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Gating:
    """Whether nonlinear units act as gates: see :class:`Gating`.

    Chance: the inputs, and the gains, of each trial beside the units of another one. What is locked to the time in the
    trial alone, the same in all of them, is no more than chance.

    Args:
        rnn: the network, or its parameters (A, W, C, h, P).
        inputs: s_1 … s_T, shape ``(batch, time, K)``.
        states: z_1 … z_T, shape ``(batch, time, M)``.
        gains: of :func:`input_gain`, shape ``(batch, time, K)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        draws: how many times trials are exchanged.
        alpha: level, for all units and channels together.
        seed: seed of the draws.

    Raises:
        ValueError: if a shape does not fit.

    Example:
        A unit that lets channel 0 through where channel 1 is 1.

        >>> _ = torch.manual_seed(0)
        >>> inputs = torch.stack((torch.rand(50, 8), (torch.rand(50, 8) < 0.3).float()), dim=-1)
        >>> states = (inputs.sum(dim=-1, keepdim=True) - 1)
        >>> rnn = torch.zeros(1), torch.ones(1, 1), torch.ones(1, 2), -torch.ones(1), 1
        >>> found = gating(rnn, inputs, states, gains=(states > 0).float().expand(50, 8, 2))
        >>> found.found, found.gates[0], round(float(found.locking[0, 1]), 3)
        (True, (0, 1, 0), 1.0)
    """
    units = read_parameters(rnn).units
    batch, time = inputs.shape[:2]
    if gains.shape != inputs.shape or states.shape[:2] != inputs.shape[:2]:
        raise ValueError(
            f"inputs, gains and states must agree in shape, got {tuple(inputs.shape)}, {tuple(gains.shape)} and "
            f"{tuple(states.shape)}"
        )
    valid = _valid(lengths, batch, time)
    bits = regime_bits(states.detach().cpu(), units)
    levels = _levels(inputs.detach().cpu(), valid)
    sizes = gains.detach().cpu().double().abs()
    switching = (bits & valid.unsqueeze(-1)).any(dim=(0, 1)) & (~bits & valid.unsqueeze(-1)).any(dim=(0, 1))

    locking, both = _locking(bits, levels, valid), _gain_by_bit(bits, sizes, valid)
    contrast = _contrast(*both)
    null = torch.zeros_like(locking)
    locked_by_chance, contrast_by_chance = [], []
    for order in _orders(batch, draws, seed):
        paired = valid & valid[order]
        chance = _locking(bits, levels[order], paired)
        null += chance / draws
        locked_by_chance.append(chance.nan_to_num(0.0).max() if chance.numel() else torch.zeros(()).double())
        other = _contrast(*_gain_by_bit(bits, sizes[order], paired)).abs()
        contrast_by_chance.append(other.nan_to_num(0.0).max() if other.numel() else torch.zeros(()).double())
    locking_p = _p_values(locking, torch.stack(locked_by_chance))
    contrast_p = _p_values(contrast.abs(), torch.stack(contrast_by_chance))
    locked = (locking_p <= alpha) & (locking >= _LEAST_LOCKING)
    gated = (contrast_p <= alpha) & (contrast.abs() >= _LEAST_CONTRAST)
    gates = []
    for unit in range(units):
        if bool(locked[unit].any()) and bool(gated[unit].any()):
            # of the channels that it lets through by turns, the one whose gain is largest
            reach = torch.where(gated[unit], torch.maximum(both[0], both[1])[unit], -1.0)
            gates.append((unit, int(torch.where(locked[unit], locking[unit], -1.0).argmax()), int(reach.argmax())))
    gates.sort(key=lambda gate: (gate[1] == gate[2], -float(locking[gate[0], gate[1]])))
    found = bool(gates) if bool(switching.any()) else None
    controlled = _controlled(levels, sizes, valid)
    return Gating(found, locking, null, locking_p, *both, contrast, contrast_p, controlled, gates)


def integration(
    rnn: Network,
    states: Tensor,
    gains: Tensor,
    readout_weight: Tensor,
    lengths: Tensor | None = None,
    *,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Integration:
    """Whether slow modes hold the answer: see :class:`Integration`.

    Chance: other modes of the same regime, as many as are slow; of a complex pair both or none.

    Args:
        rnn: the network, or its parameters (A, W, C, h, P).
        states: z_1 … z_T, shape ``(batch, time, M)``.
        gains: of :func:`input_gain`, shape ``(batch, time, K)``.
        readout_weight: D of the output y = D z + b, shape ``(M,)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        draws: how many sets of modes are drawn.
        alpha: level, for all regimes together.
        seed: seed of the draws.

    Raises:
        ValueError: if a parameter or a state is not finite or a shape does not fit.

    Example:
        One of thirty units integrates, and is read.

        >>> decay = torch.full((30,), 0.5)
        >>> decay[0] = 1.0
        >>> rnn = torch.zeros(0), torch.diag(decay), torch.ones(30, 1), torch.zeros(30), 0
        >>> states = torch.randn(20, 9, 30, generator=torch.Generator().manual_seed(0))
        >>> row = torch.eye(30)[0]
        >>> found = integration(rnn, states, input_gain(rnn, states, row), row)
        >>> found.found, int(found.slow[0]), float(found.share[0])
        (True, 1, 1.0)
    """
    units = read_parameters(rnn).units
    batch, time = states.shape[:2]
    lengths = torch.full((batch,), time) if lengths is None else lengths.cpu()
    z = states.detach().cpu().double()
    ends = z[torch.arange(batch), lengths - 1]
    row = readout_weight.detach().cpu().double()
    answer = ends @ row
    variance = float(answer.var(correction=0))
    regimes = count_regimes(z, units, lengths)
    codes = regimes.codes[:_MOST_REGIMES]
    occupancy = regimes.counts[:_MOST_REGIMES].double() / max(regimes.steps, 1)
    steps = float(lengths.double().median()) / 2

    modes = slow_modes(rnn, codes)
    slow = modes.timescales.abs() >= steps
    generator = np.random.default_rng(seed)
    shares, nulls, p_values = [], [], []
    for row_index in range(len(codes)):
        parts = (ends.to(torch.complex128) @ modes.left[row_index].conj().T) * (
            modes.right[row_index] @ row.to(torch.complex128)
        )
        pairs = _pairs(modes.eigenvalues[row_index])
        together = torch.stack([parts[:, pairs == pair].real.sum(dim=1) for pair in torch.unique(pairs)], dim=1)
        size = torch.bincount(pairs)
        chosen = torch.stack([slow[row_index, pairs == pair].any() for pair in torch.unique(pairs)])
        if not variance > 0 or not bool(chosen.any()) or not bool(torch.isfinite(together).all()):
            shares.append(math.nan)
            nulls.append(math.nan)
            p_values.append(math.nan)
            continue
        sets = [chosen]
        for _ in range(draws):
            order = torch.from_numpy(generator.permutation(len(size)))
            taken = torch.zeros_like(chosen)
            taken[order] = size[order].cumsum(0) - size[order] < int(slow[row_index].sum())
            sets.append(taken)
        rest = answer.unsqueeze(1) - together @ torch.stack(sets).T.double()
        measured = 1 - rest.var(dim=0, correction=0) / variance
        shares.append(float(measured[0]))
        nulls.append(float(measured[1:].median()))
        p_values.append(float(_p_values(measured[0], measured[1:])))

    sizes = gains.detach().cpu().double().abs().sum(dim=2)
    first = torch.arange(time) < (lengths // 2).unsqueeze(1)
    early = float((sizes * first).sum() / sizes.sum()) if float(sizes.sum()) > 0 else math.nan
    share, share_p = torch.tensor(shares).double(), torch.tensor(p_values).double()
    tested = (occupancy >= _LEAST_OCCUPANCY) & ~share_p.isnan()
    share_p = torch.where(tested, (share_p * tested.sum()).clamp(max=1.0), math.nan)
    held = (share >= 0.5) & (share_p <= alpha)
    found = bool(held.any()) and early >= _LEAST_EARLY
    return Integration(
        found, codes, occupancy, slow.sum(dim=1), share, torch.tensor(nulls).double(), share_p, early, steps
    )


def routing(
    rnn: Network,
    states: Tensor,
    gains: Tensor,
    group: Tensor,
    lengths: Tensor | None = None,
    *,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Routing:
    """Whether conditions are told apart by the regimes they take, and inputs count differently: see :class:`Routing`.

    Chance: the conditions exchanged among the trials. In a linear network an input counts the same in every trial.

    Args:
        rnn: the network, or its parameters (A, W, C, h, P).
        states: z_1 … z_T, shape ``(batch, time, M)``.
        gains: of :func:`input_gain`, shape ``(batch, time, K)``.
        group: index of each sequence's condition, int64 of shape ``(batch,)``; sequences below 0 are left out.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        draws: how many times conditions are exchanged.
        alpha: level, for all channels together.
        seed: seed of the draws.

    Raises:
        ValueError: if a shape does not fit.

    Example:
        The sign of a unit tells the condition, and whether the input counts.

        >>> group = torch.arange(40) % 2
        >>> states = (group - 0.5).view(40, 1, 1).expand(40, 5, 1)
        >>> rnn = torch.zeros(1), torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1), 1
        >>> found = routing(rnn, states, gains=(states > 0).float(), group=group)
        >>> found.found, found.occupancy_js, found.gain.flatten().tolist(), found.difference.tolist()
        (True, 1.0, [0.0, 1.0], [1.0])
    """
    units = read_parameters(rnn).units
    chosen = group.detach().cpu() >= 0
    states, gains, group = states.detach().cpu()[chosen], gains.detach().cpu().double()[chosen], group.cpu()[chosen]
    batch, time = states.shape[:2]
    lengths = torch.full((batch,), time) if lengths is None else lengths.cpu()[chosen]
    groups = torch.unique(group)
    valid = _valid(lengths, batch, time).double()
    sums, steps = (gains * valid.unsqueeze(-1)).sum(dim=1), valid.sum(dim=1)
    scale = (2 * (gains.abs() * valid.unsqueeze(-1)).sum(dim=(0, 1)) / valid.sum()).clamp(min=1e-300)

    def separate(given: Tensor) -> tuple[float, Tensor, Tensor]:
        js = regime_sharing(count_regimes_by_group(states, units, given, lengths)).mean_js if units else 0.0
        member = (given == groups.unsqueeze(1)).double()
        mean = (member @ sums) / (member @ steps).unsqueeze(1)
        return js, mean, (mean.max(dim=0).values - mean.min(dim=0).values) / scale

    if len(groups) < 2:
        nothing = torch.full((gains.shape[2],), math.nan, dtype=torch.float64)
        mean = nothing.expand(len(groups), -1)
        return Routing(None, groups, math.nan, math.nan, math.nan, mean, nothing, nothing, nothing)
    js, mean, difference = separate(group)
    drawn = [separate(group[order]) for order in _orders(batch, draws, seed)]
    js_by_chance = torch.tensor([value for value, _, _ in drawn], dtype=torch.float64)
    differences = torch.stack([value for _, _, value in drawn])
    # rounding alone must not make a difference
    difference = difference.where(difference > 1e-9, 0.0)
    js_p = float(_p_values(torch.tensor(js).double(), js_by_chance))
    difference_p = _p_values(difference, differences.max(dim=1).values)
    apart = js_p <= alpha and js >= _LEAST_ROUTING
    found = apart and bool(((difference_p <= alpha) & (difference >= _LEAST_CONTRAST)).any())
    return Routing(
        found,
        groups,
        js,
        float(js_by_chance.mean()),
        js_p,
        mean,
        difference,
        differences.mean(dim=0),
        difference_p,
    )


def transients(
    rnn: Network,
    states: Tensor,
    targets: Tensor,
    fixed: FixedPointSet,
    lengths: Tensor | None = None,
    *,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Transients:
    """Whether the network answers from transients that depend on what it remembers: see :class:`Transients`.

    Looked at is the last tenth of each sequence's steps, but for the last one, at which it responds.

    Args:
        rnn: the network, or its parameters (A, W, C, h, P).
        states: z_1 … z_T, shape ``(batch, time, M)``.
        targets: what each sequence's answer should be, int64 of shape ``(batch,)``: classes, or bins of a value.
        fixed: the fixed points under the input that the network has before the response.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        draws: how many times bits, and targets, are exchanged.
        alpha: level of each of the two tests.
        seed: seed of the draws.

    Raises:
        ValueError: if a shape does not fit.
    """
    units = read_parameters(rnn).units
    states, targets = states.detach().cpu(), targets.cpu()
    batch, time = states.shape[:2]
    if targets.shape != (batch,):
        raise ValueError(f"targets must have shape (batch,) = ({batch},), got {tuple(targets.shape)}")
    lengths = torch.full((batch,), time) if lengths is None else lengths.cpu()
    before = (lengths - 1).clamp(min=1)  # steps before the response
    window = torch.clamp((0.1 * lengths).round().long(), min=1)
    step = torch.arange(time)
    looked = (step < before.unsqueeze(1)) & (step >= (before - window).unsqueeze(1))
    bits = regime_bits(states, units)
    regimes = count_regimes(states, units, lengths)
    shown = regimes.codes[:_MOST_REGIMES]
    share = regimes.counts[:_MOST_REGIMES].double() / max(regimes.steps, 1)
    modes = nonnormality(rnn, shown)
    normal = modes.spectral_radius.unsqueeze(1) ** torch.arange(modes.growth.shape[1])
    growth = float((share * modes.max_growth).sum() / share.sum())
    growth_normal = float((share * normal.max(dim=1).values).sum() / share.sum())

    resting = [fixed.code, *(piece.code.unsqueeze(0) for piece in fixed.continua)]
    at_rest = set(map(tuple, torch.cat(resting).tolist())) if resting else set()
    some = bits[looked]
    keys = pack_bits(some)
    rest = pack_bits(torch.tensor(sorted(at_rest), dtype=torch.bool).view(len(at_rest), units))

    def outside(rows: Tensor) -> float:
        return 1.0 - float(_rows_in(rows, rest).double().mean())

    switching = bool((some.any(dim=0) & (~some).any(dim=0)).any())
    several = len(torch.unique(targets)) > 1
    labels = count_rows(pack_bits(bits[torch.arange(batch), before - 1]))[2]
    _, answers = torch.unique(targets, return_inverse=True)
    memory = _information(labels, answers)
    generator = np.random.default_rng(seed)
    out, kept = [], []
    for order in _orders(batch, draws, seed):
        shuffled = generator.permuted(some.numpy(), axis=0)  # each unit's bits by themselves
        out.append(outside(pack_bits(torch.from_numpy(shuffled))))
        kept.append(_information(labels, answers[order]))
    share_outside = outside(keys)
    outside_p = float(_p_values(torch.tensor(share_outside).double(), torch.tensor(out).double()))
    memory_p = float(_p_values(torch.tensor(memory).double(), torch.tensor(kept).double()))
    found = share_outside >= 0.5 and memory_p <= alpha and memory >= _LEAST_LOCKING
    return Transients(
        found=found if switching and several else None,
        outside=share_outside,
        outside_null=float(np.mean(out)),
        outside_p=outside_p,
        memory=memory,
        memory_null=float(np.mean(kept)),
        memory_p=memory_p,
        growth=growth,
        growth_normal=growth_normal,
        steps=int(window.median()),
    )


def _valid(lengths: Tensor | None, batch: int, time: int) -> Tensor:
    if lengths is None:
        return torch.ones(batch, time, dtype=torch.bool)
    return valid_steps(lengths.cpu(), time)


def _levels(inputs: Tensor, valid: Tensor) -> Tensor:
    """Inputs as a few levels, int64 of the same shape: their own values where they are few, or quartiles."""
    levels = torch.zeros(inputs.shape, dtype=torch.int64)
    for channel in range(inputs.shape[2]):
        values = inputs[..., channel].contiguous()
        seen = torch.unique(values[valid])
        if len(seen) > _FEW_VALUES:
            share = torch.arange(1, _LEVELS) / _LEVELS
            quartiles = np.quantile(values[valid].double().numpy(), share.numpy())
            seen = torch.unique(torch.from_numpy(quartiles).to(values.dtype))
        levels[..., channel] = torch.bucketize(values, seen)
    return levels


def _locking(bits: Tensor, levels: Tensor, valid: Tensor) -> Tensor:
    """I(bit; level) / H(bit) of each unit and channel, shape ``(P, K)``; NaN for a bit that does not vary."""
    on, level = bits[valid].float(), levels[valid]
    steps = max(len(on), 1)
    joint, marginal = [], []
    for value in range(int(level.max()) + 1 if level.numel() else 0):
        at = (level == value).float()
        joint.append((on.T @ at).double() / steps)  # exact: counts stay below 2^24
        marginal.append(at.sum(dim=0).double() / steps)
    both, of_level = torch.stack(joint), torch.stack(marginal).unsqueeze(1)
    of_bit = on.mean(dim=0).double().unsqueeze(1)
    entropy = torch.special.entr(of_bit) + torch.special.entr(1 - of_bit)
    joint_entropy = (torch.special.entr(both) + torch.special.entr((of_level - both).clamp(min=0))).sum(dim=0)
    shared = entropy + torch.special.entr(of_level).sum(dim=0) - joint_entropy
    return torch.where(entropy > 0, shared.clamp(min=0) / entropy, math.nan)


def _gain_by_bit(bits: Tensor, sizes: Tensor, valid: Tensor) -> tuple[Tensor, Tensor]:
    """Mean gain of each channel where each unit is on, and where it is off, shape ``(P, K)`` each."""
    on, gain = bits[valid].double(), sizes[valid]
    off = 1 - on
    return (on.T @ gain) / on.sum(dim=0).unsqueeze(1), (off.T @ gain) / off.sum(dim=0).unsqueeze(1)


def _controlled(levels: Tensor, sizes: Tensor, valid: Tensor) -> Tensor:
    """Mean gain of each channel where another one is at its lowest and highest level, shape ``(K, K, 2)``."""
    level, gain = levels[valid], sizes[valid]
    ends = []
    for extreme in (level.min(dim=0).values, level.max(dim=0).values):
        at = (level == extreme).double()
        ends.append((at.T @ gain) / at.sum(dim=0).unsqueeze(1))
    return torch.stack(ends, dim=-1)


def _contrast(on: Tensor, off: Tensor) -> Tensor:
    both = on + off
    return torch.where(both > 0, (on - off) / both, math.nan * both)


def _information(labels: Tensor, answers: Tensor) -> float:
    """I(label; answer) / H(answer); NaN where the answers do not vary."""
    table = torch.zeros(int(labels.max()) + 1, int(answers.max()) + 1, dtype=torch.float64)
    table.index_put_((labels, answers), torch.ones(len(labels), dtype=torch.float64), accumulate=True)
    table /= table.sum()
    entropies = [float(torch.special.entr(p).sum()) for p in (table.sum(dim=0), table.sum(dim=1), table.flatten())]
    return max(entropies[0] + entropies[1] - entropies[2], 0.0) / entropies[0] if entropies[0] > 0 else math.nan


def _orders(batch: int, draws: int, seed: int) -> list[Tensor]:
    generator = np.random.default_rng(seed)
    return [torch.from_numpy(generator.permutation(batch)) for _ in range(draws)]


def _p_values(values: Tensor, chance: Tensor) -> Tensor:
    """Share of draws, the measured one among them, that reach each value; NaN for NaN."""
    reached = (chance >= values.unsqueeze(-1) - 1e-12).sum(dim=-1).double()
    return torch.where(values.isnan(), math.nan, (1 + reached) / (1 + len(chance)))


def _rows_in(rows: Tensor, table: Tensor) -> Tensor:
    """Which rows stand in a table, bool of shape ``(n,)``."""
    both = torch.cat((rows, table))
    index = count_rows(both)[2] if both.numel() else torch.zeros(len(both))
    return torch.isin(index[: len(rows)], index[len(rows) :])


def _pairs(values: Tensor) -> Tensor:
    """The same number for the two modes of a complex pair, another for each real one; int64 of the shape of λ."""
    labels = torch.zeros(len(values), dtype=torch.int64)
    partner: int | None = None
    following = 0
    for index, value in enumerate(values.tolist()):
        if partner is not None:  # numpy lists pairs side by side, the order by speed keeps them so
            labels[index], partner = partner, None
        else:
            labels[index] = following
            partner = following if value.imag != 0 else None
            following += 1
    return labels
