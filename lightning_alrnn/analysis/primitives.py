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
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.analysis.fixed_points import FixedPointSet, virtual_fixed_points
from lightning_alrnn.analysis.modes import slow_modes
from lightning_alrnn.analysis.regimes import (
    GroupOccupancy,
    count_regimes,
    count_rows,
    pack_bits,
    regime_bits,
    regime_sharing,
    regimes,
    unpack_bits,
)
from lightning_alrnn.analysis.system import Network, read_parameters, read_states, tensor
from lightning_alrnn.analysis.transients import nonnormality
from lightning_alrnn.batch import valid_steps

DRAWS = 200
"""How many times chance is drawn; the least p-value is 1/201."""

ALPHA = 0.05
"""The level of each test."""

_LEVELS = 4
_FEW_VALUES = 8
_LEAST_ATOM = 0.1
_LEAST_TRIALS = 0.1
_LEAST_BLOCK = 16
_MOST_PRODUCTS = 2**26
_MOST_COMPARED = 1000
_MOST_SOLVED = 100
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
            position as in the other, both beyond chance; ``None`` where no unit is both on and off.
        locking: I(b; s) / H(b) of each unit's bit b at a step and each channel's input s at the same step, float64 of
            shape ``(P, K)``: 0 (independent) to 1 (the input says where the unit is). Inputs of more than eight values
            are taken by quartiles, and a value that a tenth of the steps have by itself. NaN for a unit that never
            switches.
        locking_null: its mean over exchanged trials, of the same shape.
        locking_p: share of draws in which the largest locking, in standard deviations from its mean over the draws,
            is as far from it, of the same shape. NaN for a unit that is on, or off, in fewer than a tenth of the
            trials: too few to tell.
        gain_on: mean |∂y/∂s_t| of each channel over the steps at which the unit is on, y the output, float64 of shape
            ``(P, K)``.
        gain_off: the same where it is off.
        contrast: (gain_on − gain_off) / (gain_on + gain_off), from −1 (lets through only when off) to 1.
        contrast_p: the same of |gain_on − gain_off|.
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
            variance, more than other directions do, and at least a quarter of the inputs' effect comes from the first
            half of the sequences.
        codes: the most visited regimes, bool of shape ``(n, P)``.
        occupancy: share of the steps in each, float64 of shape ``(n,)``.
        slow: how many modes of each are slow, int64 of shape ``(n,)``.
        share: 1 − Var(y − y_slow) / Var(y) of y = D z_T, with y_slow = D Σ v_j u_jᴴ z_T over the slow modes; float64
            of shape ``(n,)``, below 0 where the others cancel it. NaN without slow modes.
        share_null: its median over spaces of as many directions drawn at random, y_slow = D Q Qᵀ z_T.
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
            (the same regimes) to 1 (none in common). Beyond the 1,000 most visited regimes, all others are as one.
        occupancy_null: its mean over exchanged conditions.
        occupancy_p: share of these draws that reach it.
        gain: mean ∂y/∂s_t of each condition and channel, float64 of shape ``(g, K)``. Where sequences differ in length,
            a step is compared with those as far from their ends: it is the mean of all steps and how far a condition's
            lie above those.
        difference: (largest − least mean gain of a condition) / (2 · mean |∂y/∂s_t|), of each channel, of shape
            ``(K,)``: 0 where all are equal, 1 where a channel counts as much for one as against another of two
            conditions, or for one only.
        difference_null: its mean over exchanged conditions, of shape ``(K,)``.
        difference_p: share of draws in which the largest difference, in standard deviations from its mean over the
            draws, is as far from it, of shape ``(K,)``.
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
            the target beyond chance; ``None`` where no unit switches, there is nothing to tell, or ``fixed`` is empty.
        outside: share of the steps before the response in regimes that hold no fixed point, under none of the inputs
            that are looked at. Where the lists of fixed points are not complete, 100 of these steps are looked at one
            by one. NaN where ``fixed`` is empty.
        outside_null: the same where each unit's bits are exchanged among those steps by themselves.
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
    trial alone, the same in all of them, is no more than chance. Where sequences differ in length, trials are exchanged
    with those of like length, and looked at up to the shortest of these. Where units, channels and steps are many, some
    steps are looked at, drawn at random, the same in all trials.

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
    lengths = _lengths(lengths, batch, time)
    block = _blocks(lengths)
    shortest = _shortest(lengths, block)
    valid, bits = valid_steps(shortest, time), regime_bits(states.detach().cpu(), units)
    tested = _often(bits, valid)
    columns = _drawn_steps(int(shortest.max()), batch * inputs.shape[2] * max(units, 16), seed)
    valid = valid[:, columns]
    trials, steps = valid.nonzero(as_tuple=True)
    on = bits[:, columns][trials, steps].float()
    levels = _levels(inputs.detach().cpu()[:, columns][trials, steps])
    sizes = gains.detach().cpu()[:, columns][trials, steps].double().abs()
    marks, owner = _marks(levels)

    locking, both = _locking(on, marks, owner), _gain_by_bit(on, sizes)
    contrast = _contrast(*both)
    place = torch.zeros(valid.shape, dtype=torch.int64)
    place[valid] = torch.arange(len(trials))
    locked, turned = [locking], [both[0] - both[1]]
    for order in _orders(block, draws, seed):
        other = on[place[order[trials], steps]]  # the units of another trial; its steps are as many
        locked.append(_locking(other, marks, owner))
        turned.append(torch.sub(*_gain_by_bit(other, sizes)))
    null = torch.stack(locked[1:]).mean(dim=0)
    locking_p = _p_of_largest(_standardised(locked), tested)
    contrast_p = _p_of_largest(_standardised(turned).abs(), tested)
    locks = (locking_p <= alpha) & (locking >= _LEAST_LOCKING)
    gated = (contrast_p <= alpha) & (contrast.abs() >= _LEAST_CONTRAST)
    gates = []
    for unit in range(units):
        if bool(locks[unit].any()) and bool(gated[unit].any()):
            # of the channels that it lets through by turns, the one whose gain is largest
            reach = torch.where(gated[unit], torch.maximum(both[0], both[1])[unit], -1.0)
            gates.append((unit, int(torch.where(locks[unit], locking[unit], -1.0).argmax()), int(reach.argmax())))
    gates.sort(key=lambda gate: (gate[1] == gate[2], -float(locking[gate[0], gate[1]])))
    found = None if bool(locking.isnan().all()) else bool(gates)
    return Gating(found, locking, null, locking_p, *both, contrast, contrast_p, _controlled(levels, sizes), gates)


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

    Chance: as many directions of the state space drawn at random, without regard to the dynamics.

    Args:
        rnn: the network, or its parameters (A, W, C, h, P).
        states: z_1 … z_T, shape ``(batch, time, M)``.
        gains: of :func:`input_gain`, shape ``(batch, time, K)``.
        readout_weight: D of the output y = D z + b, shape ``(M,)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        draws: how many sets of directions are drawn.
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
    lengths = _lengths(lengths, batch, time)
    z = states.detach().cpu().double()
    ends = z[torch.arange(batch), lengths - 1]
    row = readout_weight.detach().cpu().double()
    apart = ends - ends.mean(dim=0)
    covariance = apart.T @ apart / batch
    variance = float(row @ covariance @ row)
    varies = variance > 1e-12 * float((ends @ row).square().mean())
    visited = count_regimes(z, units, lengths)
    codes = visited.codes[:_MOST_REGIMES]
    occupancy = visited.counts[:_MOST_REGIMES].double() / max(visited.steps, 1)
    steps = float(lengths.double().median()) / 2

    modes = slow_modes(rnn, codes)
    slow = modes.timescales.abs() >= steps
    generator = np.random.default_rng(seed)
    shares, nulls, p_values = [], [], []
    for chosen, right, left in zip(slow, modes.right, modes.left, strict=True):
        carried = ((right[chosen] @ row.to(right.dtype)) @ left[chosen].conj()).real  # y_slow = carried · z
        if not varies or not bool(chosen.any()) or not bool(torch.isfinite(carried).all()):
            shares.append(math.nan)
            nulls.append(math.nan)
            p_values.append(math.nan)
            continue
        random = torch.from_numpy(generator.standard_normal((draws, len(row), int(chosen.sum()))))
        basis = torch.linalg.qr(random).Q
        drawn = (basis @ (row @ basis).unsqueeze(2)).squeeze(2)
        rest = row - torch.cat((carried.unsqueeze(0), drawn))
        measured = 1 - torch.einsum("dm,mn,dn->d", rest, covariance, rest) / variance
        shares.append(float(measured[0]))
        nulls.append(float(measured[1:].median()))
        p_values.append(float(_p_values(measured[0], measured[1:])))

    sizes = gains.detach().cpu().double().abs().sum(dim=2)
    first = torch.arange(time) < (lengths // 2).unsqueeze(1)
    early = float((sizes * first).sum() / sizes.sum()) if float(sizes.sum()) > 0 else math.nan
    share, null, share_p = (torch.tensor(values, dtype=torch.float64) for values in (shares, nulls, p_values))
    tested = (occupancy >= _LEAST_OCCUPANCY) & ~share_p.isnan()
    share_p = torch.where(tested, (share_p * tested.sum()).clamp(max=1.0), math.nan)
    held = (share >= 0.5) & (share_p <= alpha)
    found = bool(held.any()) and early >= _LEAST_EARLY
    return Integration(found, codes, occupancy, slow.sum(dim=1), share, null, share_p, early, steps)


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
    lengths = _lengths(None if lengths is None else lengths.cpu()[chosen], batch, time)
    groups, member = torch.unique(group, return_inverse=True)
    if len(groups) < 2:
        nothing = torch.full((gains.shape[2],), math.nan, dtype=torch.float64)
        mean = nothing.expand(len(groups), -1)
        return Routing(None, groups, math.nan, math.nan, math.nan, mean, nothing, nothing, nothing)
    listed = regimes(states, units, lengths, max_regimes=_MOST_COMPARED)
    valid = valid_steps(lengths, time)
    owner = torch.arange(batch).unsqueeze(1).expand(batch, time)[valid]
    labels = listed.labels[valid]
    labels = labels.where(labels >= 0, len(listed.codes))
    above, overall = _above_others(gains, valid, lengths)
    scale = (2 * (gains.abs() * valid.unsqueeze(-1)).sum(dim=(0, 1)) / valid.sum()).clamp(min=1e-300)

    def separate(given: Tensor) -> tuple[float, Tensor, Tensor]:
        width = len(listed.codes) + 1
        counts = torch.bincount(given[owner] * width + labels, minlength=len(groups) * width).view(len(groups), width)
        codes = torch.zeros(width, units, dtype=torch.bool)  # of no matter here
        js = regime_sharing(GroupOccupancy(groups, codes, counts, counts.sum(dim=1))).mean_js
        mine = (given == torch.arange(len(groups)).unsqueeze(1)).double()
        mean = (mine @ above) / (mine @ lengths.double()).unsqueeze(1) + overall
        apart = (mean.max(dim=0).values - mean.min(dim=0).values) / scale
        return js, mean, apart.where(apart > 1e-9, 0.0)  # rounding alone must not make a difference

    js, mean, difference = separate(member)
    drawn = [separate(member[order]) for order in _orders(torch.zeros(batch), draws, seed)]
    js_by_chance = torch.tensor([value for value, _, _ in drawn], dtype=torch.float64)
    differences = torch.stack([value for _, _, value in drawn])
    js_p = float(_p_values(torch.tensor(js, dtype=torch.float64), js_by_chance))
    difference_p = _p_of_largest(_standardised([difference, *differences]).unsqueeze(1), torch.tensor([True]))[0]
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
    fixed: Sequence[tuple[Tensor | None, FixedPointSet]],
    lengths: Tensor | None = None,
    *,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Transients:
    """Whether the network answers from transients that depend on what it remembers: see :class:`Transients`.

    Looked at is the last tenth of each sequence's steps, but for the last one, at which it responds. Sequences of one
    step are left out. Chance: the targets exchanged among trials of like length.

    Args:
        rnn: the network, or its parameters (A, W, C, h, P).
        states: z_1 … z_T, shape ``(batch, time, M)``.
        targets: what each sequence's answer should be, int64 of shape ``(batch,)``: classes, or bins of a value.
        fixed: constant inputs, such as the one that the network has before the response, shape ``(K,)`` or ``None`` for
            zeros, and the fixed points under each.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        draws: how many times targets are exchanged.
        alpha: level.
        seed: seed of the draws.

    Raises:
        ValueError: if a shape does not fit.
    """
    units = read_parameters(rnn).units
    states, targets = states.detach().cpu(), targets.cpu()
    batch, time = states.shape[:2]
    if targets.shape != (batch,):
        raise ValueError(f"targets must have shape (batch,) = ({batch},), got {tuple(targets.shape)}")
    lengths = _lengths(lengths, batch, time)
    visited = count_regimes(states, units, lengths)
    shown = visited.codes[:_MOST_REGIMES]
    share = visited.counts[:_MOST_REGIMES].double() / visited.counts[:_MOST_REGIMES].sum()
    modes = nonnormality(rnn, shown)
    normal = modes.spectral_radius.unsqueeze(1) ** torch.arange(modes.growth.shape[1])
    growth = float((share * modes.max_growth).sum())
    growth_normal = float((share * normal.max(dim=1).values).sum())

    longer = lengths > 1
    states, targets, lengths = states[longer], targets[longer], lengths[longer]
    if len(states) == 0:
        return Transients(None, *(math.nan,) * 5, growth, growth_normal, 0)
    window = (0.1 * lengths).round().long().clamp(min=1)
    step = torch.arange(time)
    looked = (step < (lengths - 1).unsqueeze(1)) & (step >= (lengths - 1 - window).unsqueeze(1))
    bits = regime_bits(states, units)
    some = bits[looked]
    generator = np.random.default_rng(seed)
    exchanged = torch.from_numpy(generator.permuted(some.numpy(), axis=0))  # each unit's bits by themselves
    rows = torch.arange(len(some))
    if not all(points.complete for _, points in fixed):
        rows = torch.from_numpy(generator.permutation(len(some))[:_MOST_SOLVED])
    outside, outside_null = (
        float(_without_point(rnn, codes[rows], fixed).double().mean()) if fixed else math.nan
        for codes in (some, exchanged)
    )

    labels = count_rows(pack_bits(bits[torch.arange(len(bits)), lengths - 2]))[2]
    answers = torch.unique(targets, return_inverse=True)[1]
    memory = _information(labels, answers)
    drawn = [_information(labels, answers[order]) for order in _orders(_blocks(lengths), draws, seed)]
    memory_p = float(_p_values(*(torch.tensor(value, dtype=torch.float64) for value in (memory, drawn))))
    found: bool | None = outside >= 0.5 and memory_p <= alpha and memory >= _LEAST_LOCKING
    if not bool((some.any(dim=0) & (~some).any(dim=0)).any()) or math.isnan(memory) or not fixed:
        found = None
    return Transients(
        found=found,
        outside=outside,
        outside_null=outside_null,
        memory=memory,
        memory_null=float(np.mean(drawn)),
        memory_p=memory_p,
        growth=growth,
        growth_normal=growth_normal,
        steps=int(window.median()),
    )


def _lengths(lengths: Tensor | None, batch: int, time: int) -> Tensor:
    return torch.full((batch,), time) if lengths is None else lengths.cpu()


def _blocks(lengths: Tensor) -> Tensor:
    """Numbers of sets of trials of like length, of 16 or more where there are as many; int64 of shape ``(batch,)``."""
    order = torch.argsort(lengths, stable=True)
    block = torch.zeros(len(lengths), dtype=torch.int64)
    number, size = 0, 0
    for place, trial in enumerate(order.tolist()):
        if size >= _LEAST_BLOCK and lengths[trial] != lengths[order[place - 1]]:
            number, size = number + 1, 0
        block[trial] = number
        size += 1
    if number and size < _LEAST_BLOCK:
        block[block == number] = number - 1
    return block


def _shortest(lengths: Tensor, block: Tensor) -> Tensor:
    """The least length of each trial's block."""
    least = torch.full((int(block.max()) + 1,), int(lengths.max()))
    return least.scatter_reduce(0, block, lengths, "amin")[block]


def _drawn_steps(time: int, products: int, seed: int) -> Tensor:
    """All steps, or as many, drawn at random, as keep the products of a draw within bounds."""
    count = max(1, min(time, _MOST_PRODUCTS // max(products, 1)))
    drawn = np.random.default_rng(seed).permutation(time)[:count]
    return torch.from_numpy(np.sort(drawn))


def _often(bits: Tensor, valid: Tensor) -> Tensor:
    """Which units are on in a tenth of the trials, and off in a tenth; bool of shape ``(P,)``."""
    inside = valid.unsqueeze(-1)
    on, off = ((some & inside).any(dim=1).sum(dim=0) for some in (bits, ~bits))
    return torch.minimum(on, off) >= max(1.0, _LEAST_TRIALS * len(bits))


def _levels(inputs: Tensor) -> Tensor:
    """Inputs ``(n, K)`` as a few levels, int64 of the same shape: their own values where they are few, or quartiles."""
    levels = torch.zeros(inputs.shape, dtype=torch.int64)
    for channel in range(inputs.shape[1]):
        values = inputs[:, channel].contiguous()
        seen = torch.unique(values)
        if len(seen) <= _FEW_VALUES:
            levels[:, channel] = torch.bucketize(values, seen)
            continue
        share = np.arange(1, _LEVELS) / _LEVELS
        quartiles = torch.unique(torch.from_numpy(np.quantile(values.double().numpy(), share)).to(values.dtype))
        atoms = [edge for edge in quartiles if float((values == edge).double().mean()) >= _LEAST_ATOM]
        level = torch.bucketize(values, quartiles)  # values up to an edge are below it
        for edge in atoms:
            level += values >= edge
        levels[:, channel] = torch.unique(level, return_inverse=True)[1]
    return levels


def _marks(levels: Tensor) -> tuple[Tensor, Tensor]:
    """A column for each level of each channel, 1 where it is there, and the channels of the columns."""
    columns, owner = [], []
    for channel in range(levels.shape[1]):
        for level in range(int(levels[:, channel].max()) + 1):
            columns.append((levels[:, channel] == level).float())
            owner.append(channel)
    return torch.stack(columns, dim=1), torch.tensor(owner)


def _locking(on: Tensor, marks: Tensor, owner: Tensor) -> Tensor:
    """I(bit; level) / H(bit) of each unit and channel, shape ``(P, K)``; NaN for a bit that does not vary."""
    together = (on.T @ marks).double() / len(on)  # exact: counts stay below 2^24
    level = marks.sum(dim=0).double() / len(on)
    bit = on.mean(dim=0, dtype=torch.float64).unsqueeze(1)
    entropy = torch.special.entr(bit) + torch.special.entr(1 - bit)
    # H(level) − H(level, bit), column by column
    parts = (
        torch.special.entr(level) - torch.special.entr(together) - torch.special.entr((level - together).clamp(min=0))
    )
    channels = int(owner.max()) + 1
    shared = entropy + torch.zeros(len(bit), channels, dtype=torch.float64).index_add(1, owner, parts)
    return torch.where(entropy > 0, shared.clamp(min=0) / entropy, math.nan)


def _gain_by_bit(on: Tensor, sizes: Tensor) -> tuple[Tensor, Tensor]:
    """Mean gain of each channel where each unit is on, and where it is off, shape ``(P, K)`` each."""
    up = on.double()
    down = 1 - up
    return (up.T @ sizes) / up.sum(dim=0).unsqueeze(1), (down.T @ sizes) / down.sum(dim=0).unsqueeze(1)


def _controlled(levels: Tensor, sizes: Tensor) -> Tensor:
    """Mean gain of each channel where another one is at its lowest and highest level, shape ``(K, K, 2)``."""
    ends = []
    for extreme in (0, levels.max(dim=0).values):
        at = (levels == extreme).double()
        ends.append((at.T @ sizes) / at.sum(dim=0).unsqueeze(1))
    return torch.stack(ends, dim=-1)


def _standardised(drawn: list[Tensor]) -> Tensor:
    """Distance of each draw, the measured one first, from the mean of all, in standard deviations; 0 without any."""
    values = torch.stack(drawn)
    apart = values - values.mean(dim=0)
    deviation = apart.square().mean(dim=0).sqrt()
    return (apart / deviation).where(deviation > 1e-9 * values.abs().amax(dim=0), 0.0)


def _p_of_largest(scores: Tensor, tested: Tensor) -> Tensor:
    """Share of draws whose largest score reaches that of the first one, ``(P, K)``; NaN for units not tested."""
    if not bool(tested.any()):
        return torch.full_like(scores[0], math.nan)
    largest = scores[1:, tested].amax(dim=(1, 2))
    return _p_values(scores[0].where(tested.unsqueeze(1), math.nan), largest)


def _above_others(gains: Tensor, valid: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
    """How far each trial's gains lie above the mean as far from the end, summed, ``(batch, K)``; the mean of all."""
    time, channels = gains.shape[1:]
    lag = (lengths.unsqueeze(1) - 1 - torch.arange(time))[valid]
    there = torch.bincount(lag, minlength=time).clamp(min=1).unsqueeze(1)
    mean = torch.zeros(time, channels, dtype=torch.float64).index_add(0, lag, gains[valid]) / there
    total = (gains * valid.unsqueeze(-1)).sum(dim=1)
    return total - mean.cumsum(dim=0)[lengths - 1], total.sum(dim=0) / valid.sum()


def _without_point(rnn: Network, codes: Tensor, fixed: Sequence[tuple[Tensor | None, FixedPointSet]]) -> Tensor:
    """Which regimes ``(n, P)`` hold no fixed point under any of some inputs, bool of shape ``(n,)``."""
    words, _, inverse = count_rows(pack_bits(codes))
    unique = unpack_bits(words, codes.shape[1])
    without = torch.ones(len(unique), dtype=torch.bool)
    for inputs, points in fixed:
        listed = torch.cat((points.code, *(piece.code.unsqueeze(0) for piece in points.continua)))
        without &= ~_rows_in(unique, listed)
        if not points.complete:  # a regime is solved for by itself; one that is singular counts as holding a point
            without &= _rows_in(unique, virtual_fixed_points(rnn, unique, inputs).code)
    return without[inverse]


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


def _orders(block: Tensor, draws: int, seed: int) -> list[Tensor]:
    """Permutations of trials within their blocks."""
    generator = np.random.default_rng(seed)
    own = block.numpy()
    at = np.argsort(own, kind="stable")
    orders = []
    for _ in range(draws):
        order = np.empty_like(at)
        order[at] = np.lexsort((generator.random(len(own)), own))
        orders.append(torch.from_numpy(order))
    return orders


def _p_values(values: Tensor, chance: Tensor) -> Tensor:
    """Share of draws, the measured one among them, that reach each value; NaN for NaN."""
    reached = (chance >= values.unsqueeze(-1) - 1e-12).sum(dim=-1).double()
    return torch.where(values.isnan(), math.nan, (1 + reached) / (1 + len(chance)))


def _rows_in(rows: Tensor, table: Tensor) -> Tensor:
    """Which rows stand in a table, bool of shape ``(n,)``."""
    index = count_rows(pack_bits(torch.cat((rows, table))))[2]
    return torch.isin(index[: len(rows)], index[len(rows) :])
