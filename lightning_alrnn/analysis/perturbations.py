"""Growth of perturbations and inputs along trajectories: Jacobians, their products, and non-normality.

Along z_t = A z_{t−1} + W φ*(z_{t−1}) + C s_t + h a small change of a state travels by δ_t = J_{t−1} δ_{t−1}, where
J_{t−1} = A + W D is the matrix of the regime of z_{t−1}. All computations are in float64.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.analysis.system import Floats, in_chunks, read_codes, read_recurrence, read_states, tensor
from lightning_alrnn.batch import valid_steps
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

_CHUNK_ELEMENTS = 2**23  # entries of a batch of perturbations, 64 MB
_EVERY_STEP = 100


class Nonnormality(NamedTuple):
    """Departure of some matrices from normality, and the transient growth of perturbations that follows.

    Attributes:
        henrici: Departure from normality (‖J‖_F² − Σ|λ|²)^{1/2} / ‖J‖_F, 0 if normal, 1 if nilpotent, shape ``(n,)``.
        spectral_radius: max |λ|, of shape ``(n,)``.
        norm: ‖J‖_2, the largest growth in one step, of shape ``(n,)``.
        numerical_abscissa: Largest eigenvalue of (J + Jᵀ)/2, of shape ``(n,)``.
        powers: Steps m: each one up to 100, then every 5 %, and the last of each regime, int64 of shape ``(powers,)``.
        growth: ‖J^m‖_2, the largest growth in m steps, of shape ``(n, powers)``; NaN beyond the steps of the regime.
        max_growth: max_{m ≥ 1} ‖J^m‖_2, of shape ``(n,)``; above 1 although modes decay if growth is transient.
        max_growth_step: Step m of the largest growth, int64 of shape ``(n,)``.
    """

    henrici: Tensor
    spectral_radius: Tensor
    norm: Tensor
    numerical_abscissa: Tensor
    powers: Tensor
    growth: Tensor
    max_growth: Tensor
    max_growth_step: Tensor


class InputMemory(NamedTuple):
    """Effect of an input some steps later, on average over steps and sequences.

    Attributes:
        lags: Lags 0 … max_lag, int64 of shape ``(lags,)``.
        states: Root mean square of ‖∂z_t/∂s_{t−lag}‖ for each input channel, float64 of shape ``(lags, K)``.
        outputs: Root mean square of ‖∂y_t/∂s_{t−lag}‖ for y = D z + b, of the same shape; ``None`` without a readout.
        pairs: Number of pairs of steps that each lag is averaged over, int64 of shape ``(lags,)``.
    """

    lags: Tensor
    states: Tensor
    outputs: Tensor | None
    pairs: Tensor


def jacobians(rnn: ALRNN | Recurrence, states: Tensor) -> Tensor:
    """Jacobian ∂z'/∂z of one step from each state, A + W D in the regime of the state.

    Args:
        rnn: Network or its parameters.
        states: States, shape ``(…, M)``. A unit at exactly 0 counts as off.

    Returns:
        float64 of shape ``(…, M, M)`` on the CPU.

    Raises:
        ValueError: If a parameter or a state is not finite or a shape does not fit.

    Example:
        >>> rnn = Recurrence(torch.tensor([0.5]), torch.tensor([[-1.0]]), torch.ones(1, 1), torch.zeros(1), P=1)
        >>> jacobians(rnn, torch.tensor([[2.0], [-2.0]])).flatten().tolist()
        [-0.5, 0.5]
    """
    recurrence = read_recurrence(rnn)
    return recurrence.jacobian(read_states("states", states, len(recurrence.h)))


def propagate(rnn: ALRNN | Recurrence, states: Tensor, perturbation: Tensor) -> Tensor:
    """Propagate a small perturbation of the first state along trajectories, δ_t = J_{t−1} … J_0 δ_0.

    Args:
        rnn: Network or its parameters.
        states: Unperturbed trajectory z_0 … z_T, shape ``(batch, time, M)``.
        perturbation: Perturbation δ_0, shape ``(M,)``, ``(batch, M)``, or ``(batch, n, M)`` for n per sequence.

    Returns:
        δ_0 … δ_T, float64 of shape ``(batch, time, M)``, or ``(batch, time, n, M)`` for n perturbations.

    Raises:
        ValueError: If a parameter, a state or the perturbation is not finite or a shape does not fit.

    Example:
        >>> rnn = Recurrence(torch.tensor([0.5]), torch.tensor([[-1.0]]), torch.ones(1, 1), torch.zeros(1), P=1)
        >>> propagate(rnn, torch.tensor([[[2.0], [-1.0], [-0.5]]]), torch.tensor([1.0])).flatten().tolist()
        [1.0, -0.5, -0.25]
    """
    recurrence = read_recurrence(rnn)
    size = len(recurrence.h)
    slopes = _slopes(recurrence, states)
    start = read_states("perturbation", perturbation, size)
    if start.ndim > 3 or (start.ndim > 1 and len(start) not in (1, len(states))):
        raise ValueError(
            f"perturbation must have shape (M,), (batch, M) or (batch, n, M) with M={size} and batch={len(states)}, "
            f"got {tuple(perturbation.shape)}"
        )
    several = start.ndim == 3
    deltas = [(start if several else start.reshape(-1, 1, size)).expand(len(states), -1, size)]
    for slope in slopes.unbind(1)[:-1]:
        deltas.append(recurrence.jvp(deltas[-1], slope.unsqueeze(1)))
    result = torch.stack(deltas, dim=1)
    return result if several else result.squeeze(2)


def input_memory(
    rnn: ALRNN | Recurrence,
    states: Tensor,
    max_lag: int,
    lengths: Tensor | None = None,
    readout_weight: Tensor | None = None,
) -> InputMemory:
    """Measure how strongly states and outputs depend on earlier inputs.

    ∂z_t/∂s_{t−lag} = J_{t−1} … J_{t−lag} C, with the Jacobians of the regimes in between.

    Args:
        rnn: Network or its parameters.
        states: States z_1 … z_T after the inputs s_1 … s_T, shape ``(batch, time, M)``.
        max_lag: Longest lag, from 0 to T−1.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        readout_weight: Matrix D of the outputs y = D z + b, shape ``(outputs, M)``.

    Raises:
        ValueError: If a parameter or a state is not finite, a shape does not fit, or ``max_lag`` is out of range.

    Example:
        >>> rnn = Recurrence(torch.zeros(1), torch.tensor([[0.5]]), torch.tensor([[2.0]]), torch.zeros(1), P=0)
        >>> input_memory(rnn, torch.zeros(1, 4, 1), max_lag=3).states.flatten().tolist()
        [2.0, 1.0, 0.5, 0.25]

    Reference:
        Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks", ICML 2013.
    """
    recurrence = read_recurrence(rnn)
    size, channels = recurrence.input_weights.shape
    slopes = _slopes(recurrence, states)
    batch, time = states.shape[:2]
    if not 0 <= max_lag < time:
        raise ValueError(f"max_lag must lie between 0 and T−1={time - 1}, got {max_lag}")
    readout = None
    if readout_weight is not None:
        if readout_weight.ndim != 2:
            raise ValueError(f"readout_weight must have shape (outputs, M={size}), got {tuple(readout_weight.shape)}")
        readout = read_states("readout_weight", readout_weight, size)
    if lengths is None:
        lengths = torch.full((batch,), time, dtype=torch.int64)
    valid = valid_steps(lengths.cpu(), time)
    squares = torch.zeros(2, max_lag + 1, channels, dtype=torch.float64)
    pairs = torch.zeros(max_lag + 1, dtype=torch.int64)
    # all steps of some sequences at once: entry t holds ∂z_{t+lag}/∂s_t, a row for each channel
    rows = max(1, _CHUNK_ELEMENTS // (time * channels * size))
    for start in range(0, batch, rows):
        some = slice(start, start + rows)
        change = recurrence.input_weights.T.expand(len(slopes[some]), time, channels, size)
        for lag in range(max_lag + 1):
            if lag:
                change = change[:, : time - lag]
                change = recurrence.jvp(change, slopes[some, lag - 1 : time - 1].unsqueeze(2))
            reached = valid[some, lag:]
            pairs[lag] += reached.sum()
            effects = [change] if readout is None else [change, functional.linear(change, readout)]
            for row, effect in enumerate(effects):
                squares[row, lag] += (effect.square().sum(dim=-1) * reached.unsqueeze(-1)).sum(dim=(0, 1))
    roots = (squares / pairs.clamp(min=1).unsqueeze(-1)).sqrt().where((pairs > 0).unsqueeze(-1), torch.nan)
    return InputMemory(torch.arange(max_lag + 1), roots[0], None if readout is None else roots[1], pairs)


def nonnormality(rnn: ALRNN | Recurrence, codes: Tensor, steps: int | Tensor = 100) -> Nonnormality:
    """Measure the non-normality of the matrices A + W D of some regimes.

    Args:
        rnn: Network or its parameters.
        codes: Bits of the regimes, bool or 0/1 of shape ``(n, P)``.
        steps: Number of powers of the matrices, or the number for each regime, int64 of shape ``(n,)``, such as
            ``longest`` of :func:`~lightning_alrnn.analysis.dwell_times`, because trajectories leave the regime after
            that.

    Raises:
        ValueError: If a parameter is not finite, a shape does not fit, or a number of steps is below 1.

    Example:
        >>> W = torch.tensor([[0.0, 0.0], [4.0, 0.0]])
        >>> result = nonnormality(Recurrence(torch.zeros(2), W, torch.eye(2), torch.zeros(2), P=0), torch.zeros(1, 0))
        >>> float(result.henrici), float(result.spectral_radius), float(result.max_growth), int(result.max_growth_step)
        (1.0, 0.0, 4.0, 1)

    Reference:
        Trefethen & Embree, "Spectra and Pseudospectra", 2005.
    """
    recurrence = read_recurrence(rnn)
    regimes = read_codes(codes, int(recurrence.P))
    held = np.full(len(regimes), steps) if isinstance(steps, int) else steps.cpu().numpy()
    if held.shape != (len(regimes),) or (held < 1).any():
        raise ValueError(f"steps must be at least 1, one number or one for each of {len(regimes)} regimes, got {steps}")
    powers = _powers(held)
    results, done = [], 0
    for chunk in in_chunks(regimes, len(recurrence.h)) if len(regimes) else [regimes]:
        matrices = recurrence.regime_matrix(tensor(chunk)).numpy()
        results.append(_nonnormality(matrices, held[done : done + len(chunk)], powers))
        done += len(chunk)
    fields = [torch.cat(parts) for parts in zip(*results, strict=True)]
    fields.insert(Nonnormality._fields.index("powers"), tensor(powers))
    return Nonnormality(*fields)


def _powers(held: NDArray[np.int64]) -> NDArray[np.int64]:
    """Exponents from 0 to the longest stretch, coarser beyond 100, with the last one of each regime."""
    longest = int(held.max(initial=1))
    powers = list(range(min(longest, _EVERY_STEP) + 1))
    while powers[-1] < longest:
        powers.append(min(longest, powers[-1] + powers[-1] // 20))
    return np.unique(np.concatenate((powers, held)))


def _nonnormality(matrices: Floats, held: NDArray[np.int64], powers: NDArray[np.int64]) -> tuple[Tensor, ...]:
    """Fields of :class:`Nonnormality` for some matrices, without ``powers``."""
    moduli = np.abs(np.linalg.eigvals(matrices))
    scale = np.maximum(np.abs(matrices).max(axis=(1, 2)), 1e-300)[:, None]  # squares must not overflow
    total = ((matrices / scale[..., None]) ** 2).sum(axis=(1, 2))
    departure = np.maximum(total - ((moduli / scale) ** 2).sum(axis=1), 0.0)
    growth = np.full((len(matrices), len(powers)), np.nan)
    growth[:, 0] = 1.0
    steps = np.diff(powers)
    jumps = {1: matrices}  # J to the steps from one power to the next
    power = np.broadcast_to(np.eye(matrices.shape[-1]), matrices.shape)
    with np.errstate(over="ignore", invalid="ignore"):  # a growing mode may overflow: its growth is infinite
        for place, step in enumerate(steps.tolist(), start=1):
            rows = held >= powers[place]
            if step not in jumps:
                jumps[step] = np.linalg.matrix_power(matrices, step)
            power = jumps[step] @ power
            finite = rows & np.isfinite(power).all(axis=(1, 2))
            growth[rows, place] = np.inf
            growth[finite, place] = np.linalg.norm(power[finite], ord=2, axis=(1, 2))
    largest = 1 + np.nanargmax(growth[:, 1:], axis=1)
    fields = (
        np.sqrt(departure / np.where(total > 0, total, 1.0)),
        moduli.max(axis=1),
        np.linalg.norm(matrices, ord=2, axis=(1, 2)),
        np.linalg.eigvalsh((matrices + matrices.mT) / 2)[:, -1],
        growth,
        growth[np.arange(len(matrices)), largest],
        powers[largest],
    )
    return tuple(tensor(field) for field in fields)


def _slopes(recurrence: Recurrence, states: Tensor) -> Tensor:
    """Diagonals of D along trajectories, float64 of shape ``(batch, time, M)``."""
    if states.ndim != 3:
        raise ValueError(f"states must have shape (batch, time, M), got {tuple(states.shape)}")
    return recurrence.slopes(read_states("states", states, len(recurrence.h)))
