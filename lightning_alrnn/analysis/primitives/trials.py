"""Data that the primitives are computed from: the exact effect of every input on the answer, trial by trial."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.analysis.interventions import Intervention, intervene, linearise, silence
from lightning_alrnn.analysis.system import read_recurrence, read_states
from lightning_alrnn.batch import valid_steps
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

DRAWS = 200  # chance draws; the least p-value is 1/201
SCREENING = 20  # chance draws if the effect is too small to be found
ALPHA = 0.05  # significance level of each test
LEAST_AGREEMENT = 0.25  # share of the targets' variance that the answers of a trained network explain
LEAST_REMOVED = 0.5  # share of a mechanism that an intervention removes
LEAST_CHANGE = 0.1  # share of the input's contribution to the answer that an intervention changes
_LEAST_BLOCK = 16
_MOST_RANKED = 24
_MOST_TRIALS = 256
_FOLDS = 5
_RIDGE = 1e-3


class Trials(NamedTuple):
    """Trials and the effect of each of their inputs on the answer, on the CPU.

    Attributes:
        rnn: Network or its parameters.
        inputs: Inputs s_1 … s_T, float64 of shape ``(batch, time, K)``; zero in padding.
        states: States z_1 … z_T, float64 of shape ``(batch, time, M)``.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
        valid: Mask of the valid steps, bool of shape ``(batch, time)``.
        row: Vector D of the answer y = D z_T + b, float64 of shape ``(M,)``.
        answer: D z_T of each sequence, float64 of shape ``(batch,)``.
        gains: ∂y/∂s_t, float64 of shape ``(batch, time, K)``; zero in padding.
        power: Variance of each input over the trials, steps counted from the end, times the share of the trials that
            have the step, float64 of shape ``(time, K)``.
        block: Number of the set of trials of similar length that each trial belongs to, int64 of shape ``(batch,)``.
        agreement: Share of the targets' variance that the outputs of the network explain, see :func:`agreement`.
    """

    rnn: ALRNN | Recurrence
    inputs: Tensor
    states: Tensor
    lengths: Tensor
    valid: Tensor
    row: Tensor
    answer: Tensor
    gains: Tensor
    power: Tensor
    block: Tensor
    agreement: float

    @property
    def units(self) -> int:
        """Number P of nonlinear units."""
        return int(read_recurrence(self.rnn).P)

    @property
    def untrained(self) -> bool:
        """Whether the answers explain so little of the targets that a larger effect is needed."""
        return self.agreement < LEAST_AGREEMENT


class Carriers(NamedTuple):
    """Nonlinear units that carry a mechanism."""

    units: tuple[int, ...]
    kind: str  # "silence" or "linearise"
    removed: float  # share of the mechanism that disappears without them
    change: float  # 1 − r² of the input's contribution to the answer with and without them


def read_trials(
    rnn: ALRNN | Recurrence,
    inputs: Tensor,
    states: Tensor,
    readout_weight: Tensor,
    lengths: Tensor | None = None,
    agreement: float = math.nan,
) -> Trials:
    """Collect the data that the primitives are computed from.

    Args:
        rnn: Network or its parameters.
        inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``.
        states: States z_1 … z_T after these inputs, shape ``(batch, time, M)``.
        readout_weight: Vector D of the answer y = D z_T + b, shape ``(M,)``.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        agreement: Agreement of the network's outputs with the targets; NaN if it is unknown.

    Raises:
        ValueError: If a parameter or a state is not finite or a shape does not fit.

    Example:
        >>> rnn = Recurrence(torch.zeros(1), torch.full((1, 1), 0.5), torch.ones(1, 1), torch.zeros(1), P=0)
        >>> trials = read_trials(rnn, torch.ones(1, 2, 1), torch.tensor([[[1.0], [1.5]]]), torch.tensor([2.0]))
        >>> trials.answer.tolist(), trials.gains.flatten().tolist()
        ([3.0], [1.0, 2.0])
    """
    batch, time = states.shape[:2]
    gains = input_gain(rnn, states, readout_weight, lengths)
    lengths = torch.full((batch,), time) if lengths is None else lengths.cpu()
    if inputs.shape != gains.shape:
        raise ValueError(f"inputs must have shape (batch, time, K) = {tuple(gains.shape)}, got {tuple(inputs.shape)}")
    valid = valid_steps(lengths, time)
    inside = torch.where(valid.unsqueeze(-1), inputs.detach().cpu().double(), 0.0)
    z = states.detach().cpu().double()
    row = readout_weight.detach().cpu().double()
    late, there = to_end(inside, lengths), to_end(valid.unsqueeze(-1), lengths)
    count = there.sum(dim=0).clamp(min=1)
    apart = (late - late.sum(dim=0) / count) * there
    return Trials(
        rnn=rnn,
        inputs=inside,
        states=z,
        lengths=lengths,
        valid=valid,
        row=row,
        answer=z[torch.arange(batch), lengths - 1] @ row,
        gains=gains,
        power=apart.square().sum(dim=0) / batch,  # a step that few trials have counts as little
        block=blocks(lengths),
        agreement=agreement,
    )


def input_gain(
    rnn: ALRNN | Recurrence, states: Tensor, readout_weight: Tensor, lengths: Tensor | None = None
) -> Tensor:
    """Effect of each input on the output at the last step of the sequence, ∂y_T/∂s_t = D J_T … J_{t+1} C.

    Args:
        rnn: Network or its parameters.
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        readout_weight: Vector D of one output, shape ``(M,)``.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

    Returns:
        float64 of shape ``(batch, time, K)``; zero in padding.

    Raises:
        ValueError: If a parameter or a state is not finite or a shape does not fit.

    Example:
        >>> rnn = Recurrence(torch.zeros(1), torch.full((1, 1), 0.5), torch.full((1, 1), 2.0), torch.zeros(1), P=0)
        >>> input_gain(rnn, torch.zeros(1, 3, 1), torch.ones(1)).flatten().tolist()
        [0.5, 1.0, 2.0]
    """
    recurrence = read_recurrence(rnn)
    size = len(recurrence.h)
    if states.ndim != 3:
        raise ValueError(f"states must have shape (batch, time, M={size}), got {tuple(states.shape)}")
    z = read_states("states", states, size)
    if readout_weight.shape != (size,):
        raise ValueError(f"readout_weight must have shape (M,) = ({size},), got {tuple(readout_weight.shape)}")
    batch, time = z.shape[:2]
    row = read_states("readout_weight", readout_weight, size)
    codes = functional.pad(recurrence.regime(z[:, :-1]), (0, 0, 1, 0))
    return _gains(recurrence, codes, row, torch.full((batch,), time) if lengths is None else lengths.cpu())


def _gains(recurrence: Recurrence, codes: Tensor, row: Tensor, lengths: Tensor) -> Tensor:
    """D J_T … J_{t+1} C, where the step to z_t is in the regime ``codes[:, t]``."""
    batch, time = codes.shape[:2]
    ends = set((lengths - 1).tolist())
    slopes = recurrence.regime_slopes(codes)
    back = torch.zeros(batch, len(row), dtype=torch.float64)
    effects = []
    for step in range(time - 1, -1, -1):
        if step < time - 1:
            back = recurrence.vjp(back, slopes[:, step + 1])
        if step in ends:
            back = torch.where((lengths - 1 == step).unsqueeze(1), row, back)
        effects.append(back)
    return torch.stack(effects[::-1], dim=1) @ recurrence.input_weights


def gains_past(trials: Trials, unit: int) -> Tensor:
    """∂y/∂s_t without what passes through the rectifier of a nonlinear unit, in the same regimes."""
    recurrence = read_recurrence(trials.rnn)
    codes = functional.pad(recurrence.regime(trials.states[:, :-1]), (0, 0, 1, 0))
    codes[..., unit] = False
    return _gains(recurrence, codes, trials.row, trials.lengths)


def under(trials: Trials, intervention: Intervention) -> Trials:
    """The same trials under an intervention; ``power`` does not change."""
    run = intervene(trials.rnn, trials.inputs, intervention, lengths=trials.lengths)
    recurrence = read_recurrence(trials.rnn)
    if intervention.kind == "silence":
        recurrence = recurrence.silenced(intervention.units)
    gains = _gains(recurrence, run.codes, trials.row, trials.lengths)
    answer = run.states[torch.arange(len(run.states)), trials.lengths - 1] @ trials.row
    return trials._replace(states=run.states, answer=answer, gains=gains)


def find_carriers(trials: Trials, channel: int, measure: Callable[[Trials], float]) -> Carriers:
    """The fewest nonlinear units that carry a mechanism: without them it disappears and the answer changes.

    Units are ranked by how much of the mechanism disappears with each, and removed together, 1, 2, 4, … of them, until
    half of it is gone and a tenth of the input's contribution to the answer has changed.
    """
    some = subset(trials, _MOST_TRIALS)
    size = len(trials.row) - trials.units
    intact = measure(some)
    on = (some.states[..., size:] > 0).double()
    # units that switch, by what they pass on
    reach = read_recurrence(trials.rnn).W[:, size:].norm(dim=0) * some.states[..., size:].std(dim=(0, 1), correction=0)
    reach = torch.where(on.std(dim=(0, 1), correction=0) > 0, reach, 0.0)
    ranked = reach.argsort(descending=True)[:_MOST_RANKED]

    def look(units: tuple[int, ...], kind: Callable[..., Intervention]) -> Carriers:
        other = under(some, kind(*units))
        if not bool(torch.isfinite(other.gains).all() and torch.isfinite(other.answer).all()):
            return Carriers(units, kind.__name__, -math.inf, 0.0)  # nothing can be said of a network that explodes
        change = changed_share(part_of_answer(some, channel), part_of_answer(other, channel))
        return Carriers(units, kind.__name__, 1 - measure(other) / intact, change)

    alone = {
        unit: max((look((unit,), kind) for kind in (silence, linearise)), key=_rank)
        for unit in ranked.tolist()
        if float(reach[unit]) > 0
    }
    order = sorted(alone, key=lambda unit: -_rank(alone[unit]))
    best, count = Carriers((), "silence", 0.0, 0.0), 1
    while order and _rank(best) < 1:
        units = tuple(sorted(order[:count]))
        choices = [alone[units[0]]] if count == 1 else [look(units, kind) for kind in (silence, linearise)]
        best = max((best, *choices), key=_rank)
        if count >= len(order):
            break
        count = min(2 * count, len(order))
    return best


def _rank(carriers: Carriers) -> float:
    """How far half of the mechanism and a tenth of the answer are gone; from 1 on, both are."""
    return min(carriers.removed / LEAST_REMOVED, carriers.change / LEAST_CHANGE)


def subset(trials: Trials, count: int) -> Trials:
    """At most ``count`` of the trials, evenly spread."""
    return select(trials, spread(len(trials.answer), count))


def spread(count: int, most: int) -> Tensor:
    """Up to ``most`` of the indices 0 … count−1, evenly spread."""
    return torch.linspace(0, count - 1, min(count, most)).round().long()


def select(trials: Trials, rows: Tensor) -> Trials:
    """The trials of some rows; ``power`` does not change."""
    names = ("inputs", "states", "lengths", "valid", "answer", "gains", "block")
    return trials._replace(**{name: getattr(trials, name)[rows] for name in names})


def part_of_answer(trials: Trials, channel: int) -> Tensor:
    """Contribution of an input to each answer, Σ_t ∂y/∂s_t (s_t − its mean over trials), exact in a trial's regimes."""
    inside = trials.valid.double()
    inputs = trials.inputs[..., channel]
    mean = (inputs * inside).sum(dim=0) / inside.sum(dim=0).clamp(min=1)
    return (trials.gains[..., channel] * (inputs - mean) * inside).sum(dim=1)


def changed_share(before: Tensor, after: Tensor) -> float:
    """1 − r² of two answers: 0 if one is a multiple of the other up to a constant, 1 if they are uncorrelated."""
    first, second = before - before.mean(), after - after.mean()
    size = float(first.square().sum() * second.square().sum())
    scale = float(before.square().sum() * after.square().sum())
    return 1 - float(first @ second) ** 2 / size if size > 1e-18 * scale and size > 0 else 1.0


def blocks(lengths: Tensor) -> Tensor:
    """Number of the set of trials of similar length that each trial belongs to, of 16 trials or more if possible."""
    _, inverse, counts = torch.unique(lengths, return_inverse=True, return_counts=True)
    numbers, size = [0], 0
    for count in counts.tolist():
        numbers.append(numbers[-1] + (size >= _LEAST_BLOCK))
        size = count if size >= _LEAST_BLOCK else size + count
    last = numbers[-1] - (size < _LEAST_BLOCK)
    return torch.tensor(numbers[1:]).clamp(max=max(last, 0))[inverse]


def orders(block: Tensor, draws: int, seed: int) -> list[Tensor]:
    """Permutations of trials within their blocks."""
    generator = np.random.default_rng(seed)
    numbers = block.numpy()
    at = np.argsort(numbers, kind="stable")
    drawn = []
    for _ in range(draws):
        order = np.empty_like(at)
        order[at] = np.lexsort((generator.random(len(numbers)), numbers))
        drawn.append(torch.from_numpy(order))
    return drawn


def p_value(value: float, chance: list[float], tests: int = 1) -> float:
    """Share of draws, the measured one included, that reach a value, times the number of tests; NaN for NaN."""
    if math.isnan(value):
        return math.nan
    reached = sum(other >= value - 1e-12 for other in chance)
    return min(1.0, tests * (1 + reached) / (1 + len(chance)))


def to_end(values: Tensor, lengths: Tensor) -> Tensor:
    """Shift sequences ``(batch, time, K)`` so that all end at the last step, with zeros before they begin."""
    time = values.shape[1]
    index = torch.arange(time) - (time - lengths).unsqueeze(1)
    shifted = values.gather(1, index.clamp(min=0).unsqueeze(-1).expand_as(values))
    return torch.where((index >= 0).unsqueeze(-1), shifted, torch.zeros((), dtype=values.dtype))


def prediction(features: Tensor, seed: int = 0) -> Tensor:
    """Matrix ``(batch, batch)`` from targets to their predictions by ridge regression, held out in five folds."""
    count = len(features)
    fold = torch.empty(count, dtype=torch.int64)
    fold[torch.from_numpy(np.random.default_rng(seed).permutation(count))] = torch.arange(count) % _FOLDS
    x = features.double()
    largest = x.abs().amax(dim=0)
    x = x - x.mean(dim=0)
    deviation = x.square().mean(dim=0).sqrt()
    varying = deviation > 1e-9 * largest
    x = x[:, varying] / deviation[varying]
    x = torch.cat((torch.ones(count, 1, dtype=torch.float64), x), dim=1)
    matrix = torch.zeros(count, count, dtype=torch.float64)
    for number in range(_FOLDS):
        inside, outside = (fold == number).nonzero()[:, 0], (fold != number).nonzero()[:, 0]
        if len(inside) == 0 or len(outside) == 0:
            continue
        penalty = torch.full((x.shape[1],), _RIDGE * len(outside), dtype=torch.float64)
        penalty[0] = 1e-12
        fit = torch.linalg.solve(x[outside].T @ x[outside] + torch.diag(penalty), x[outside].T)
        matrix[inside.unsqueeze(1), outside] = x[inside] @ fit
    return matrix


def explained(matrix: Tensor, targets: Tensor) -> float:
    """Share of the targets' variance that predictions explain; NaN if all targets are the same."""
    spread = float((targets - targets.mean(dim=0)).square().sum())
    if spread <= 1e-18 * float(targets.square().sum()):
        return math.nan
    return 1 - float((targets - matrix @ targets).square().sum()) / spread


def as_values(targets: Tensor) -> Tensor:
    """Targets as float64 ``(batch, outputs)``: values, or a column for each class."""
    if targets.is_floating_point():
        return targets.detach().cpu().double().reshape(len(targets), -1)
    return functional.one_hot(torch.unique(targets.cpu(), return_inverse=True)[1]).double()


def agreement(outputs: Tensor, targets: Tensor) -> float:
    """Share of the targets' variance that the outputs explain, linearly and held out in five folds.

    Args:
        outputs: Outputs, shape ``(batch, outputs)``.
        targets: Classes, int64 of shape ``(batch,)``, or values, floating point ``(batch,)`` or ``(batch, outputs)``.

    Returns:
        At most 1; about 0 or below if outputs explain nothing; NaN if all targets are the same.

    Example:
        >>> outputs = torch.linspace(-1, 1, 50).unsqueeze(1)
        >>> round(agreement(outputs, 2 * outputs[:, 0]), 2)
        1.0
    """
    return explained(prediction(outputs.detach().cpu()), as_values(targets))


def why_not(
    effect: float, least: float, p: float, alpha: float, untrained: bool = False, carriers: Carriers | None = None
) -> str:
    """Which of effect, chance and intervention failed; empty if none did."""
    if not effect >= least:
        why = ", as the answers explain little of the targets" if untrained else ""
        return f"effect: {effect:.2g} is below {least:.2g}{why}"
    if p > alpha:
        return f"chance: p = {p:.3f} is above {alpha:.2g}"
    if carriers is not None and carriers.removed < LEAST_REMOVED:
        return f"intervention: no nonlinear units carry it (at most {max(carriers.removed, 0.0):.0%} disappears)"
    if carriers is not None and carriers.change < LEAST_CHANGE:
        return f"intervention: the contribution of the input to the answer changes by only {carriers.change:.0%}"
    return ""
