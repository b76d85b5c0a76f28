"""How perturbations and inputs travel along trajectories: Jacobians, their products, and what makes them grow.

Along z_t = A z_{t−1} + W φ*(z_{t−1}) + C s_t + h a small change of a state travels by δ_t = J_{t−1} δ_{t−1}, where
J_{t−1} = A + W D is the matrix of the regime that z_{t−1} lies in. Everything here is computed in float64.
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

_CHUNK_ELEMENTS = 2**23
"""Entries of a batch of perturbations, 64 MB."""
_EVERY_STEP = 100


class Nonnormality(NamedTuple):
    """How far the modes of some matrices are from orthogonal, and what follows: perturbations grow before they decay.

    Attributes:
        henrici: departure from normality (‖J‖_F² − Σ|λ|²)^{1/2} / ‖J‖_F, between 0 (normal: orthogonal modes) and 1
            (nilpotent), float64 of shape ``(n,)``; 0 where J = 0.
        spectral_radius: max |λ|, of shape ``(n,)``.
        norm: ‖J‖_2, the largest growth in one step, of shape ``(n,)``.
        numerical_abscissa: largest eigenvalue of (J + Jᵀ)/2, of shape ``(n,)``.
        powers: the m that growth is given for, int64 of shape ``(powers,)``: every one up to 100, then every 5 %, and
            the last of each regime.
        growth: ‖J^m‖_2, the largest growth in m steps, of shape ``(n, powers)``; NaN beyond the regime's own steps.
        max_growth: max_{m ≥ 1} of it, of shape ``(n,)``; above 1 in a regime with a spectral radius below 1, it is
            transient.
        max_growth_step: the m at which, int64 of shape ``(n,)``.
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
    """How much an input counts some steps later, on average over steps and sequences.

    Attributes:
        lags: 0 … max_lag, int64 of shape ``(lags,)``.
        states: root mean square over steps and sequences of ‖∂z_t/∂s_{t−lag}‖ for each input channel, float64 of shape
            ``(lags, K)``. At lag 0 these are the norms of the columns of C.
        outputs: the same of ∂y_t/∂s_{t−lag} for the outputs y = D z + b, float64 of shape ``(lags, K)``; ``None``
            without the weight of a readout.
        pairs: how many pairs of steps each lag's mean is of, int64 of shape ``(lags,)``.
    """

    lags: Tensor
    states: Tensor
    outputs: Tensor | None
    pairs: Tensor


def jacobians(rnn: ALRNN | Recurrence, states: Tensor) -> Tensor:
    """The Jacobian ∂z'/∂z of one step from each state, A + W D in the state's regime.

    Args:
        rnn: the network, or its parameters.
        states: shape ``(…, M)``. A unit at exactly 0 counts as off.

    Returns:
        float64 of shape ``(…, M, M)`` on the CPU.

    Raises:
        ValueError: if a parameter or a state is not finite or a shape does not fit.

    Example:
        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.5), rnn.W.fill_(-1.0)
        >>> jacobians(rnn, torch.tensor([[2.0], [-2.0]])).flatten().tolist()
        [-0.5, 0.5]
    """
    recurrence = read_recurrence(rnn)
    return recurrence.jacobian(read_states("states", states, len(recurrence.h)))


def propagate(rnn: ALRNN | Recurrence, states: Tensor, perturbation: Tensor) -> Tensor:
    """How a small perturbation of the first state travels along trajectories, δ_t = J_{t−1} … J_0 δ_0.

    Args:
        rnn: the network, or its parameters.
        states: z_0 … z_T, the unperturbed trajectory, shape ``(batch, time, M)``.
        perturbation: δ_0, shape ``(M,)``, ``(batch, M)``, or ``(batch, n, M)`` for n perturbations of each sequence.

    Returns:
        δ_0 … δ_T, float64 of shape ``(batch, time, M)``, or ``(batch, time, n, M)`` for n perturbations.

    Raises:
        ValueError: if a parameter, a state or the perturbation is not finite or a shape does not fit.

    Example:
        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.5), rnn.W.fill_(-1.0)
        >>> propagate(rnn, torch.tensor([[[2.0], [-1.0], [-0.5]]]), torch.tensor([1.0])).flatten().tolist()
        [1.0, -0.5, -0.25]
    """
    recurrence = read_recurrence(rnn)
    size = len(recurrence.h)
    slopes = _slopes(recurrence, states)
    given = read_states("perturbation", perturbation, size)
    if given.ndim > 3 or (given.ndim > 1 and len(given) not in (1, len(states))):
        raise ValueError(
            f"perturbation must have shape (M,), (batch, M) or (batch, n, M) with M={size} and batch={len(states)}, "
            f"got {tuple(perturbation.shape)}"
        )
    several = given.ndim == 3
    delta = (given if several else given.reshape(-1, 1, size)).expand(len(states), -1, size)
    travelled = [delta]
    for slope in slopes.unbind(1)[:-1]:
        delta = recurrence.jvp(delta, slope.unsqueeze(1))
        travelled.append(delta)
    result = torch.stack(travelled, dim=1)
    return result if several else result.squeeze(2)


def input_memory(
    rnn: ALRNN | Recurrence,
    states: Tensor,
    max_lag: int,
    lengths: Tensor | None = None,
    readout_weight: Tensor | None = None,
) -> InputMemory:
    """How strongly states, and outputs, depend on earlier inputs: the size of ∂z_t/∂s_{t−lag}.

    ∂z_t/∂s_{t−lag} = J_{t−1} … J_{t−lag} C, with the Jacobians of the regimes in between.

    Args:
        rnn: the network, or its parameters.
        states: z_1 … z_T, the states after inputs s_1 … s_T, shape ``(batch, time, M)``.
        max_lag: the longest lag, from 0 to T−1.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        readout_weight: D of the outputs y = D z + b, shape ``(outputs, M)``.

    Raises:
        ValueError: if a parameter or a state is not finite, a shape does not fit, or ``max_lag`` is out of range.

    Example:
        A unit that keeps half of what it has.

        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=0)
        >>> with torch.no_grad():
        ...     _ = rnn.W.fill_(0.5), rnn.C.fill_(2.0)
        >>> input_memory(rnn, torch.zeros(1, 4, 1), max_lag=3).states.flatten().tolist()
        [2.0, 1.0, 0.5, 0.25]

    Reference:
        Pascanu, Mikolov & Bengio, "On the difficulty of training recurrent neural networks", ICML 2013
        (arXiv:1211.5063), on products of Jacobians.
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
            for row, seen in enumerate((change, None if readout is None else functional.linear(change, readout))):
                if seen is not None:
                    squares[row, lag] += (seen.square().sum(dim=-1) * reached.unsqueeze(-1)).sum(dim=(0, 1))
    roots = (squares / pairs.clamp(min=1).unsqueeze(-1)).sqrt().where((pairs > 0).unsqueeze(-1), torch.nan)
    return InputMemory(torch.arange(max_lag + 1), roots[0], None if readout is None else roots[1], pairs)


def nonnormality(rnn: ALRNN | Recurrence, codes: Tensor, steps: int | Tensor = 100) -> Nonnormality:
    """How non-normal the matrices A + W D of some regimes are.

    Args:
        rnn: the network, or its parameters.
        codes: regimes, bool or 0/1 of shape ``(n, P)``.
        steps: how many powers of the matrices to look at; or how many of each, int64 of shape ``(n,)``: the longest
            stretch for which trajectories held the regime (``longest`` of
            :func:`~lightning_alrnn.analysis.dwell_times`), since J^m says nothing of longer ones.

    Raises:
        ValueError: if a parameter is not finite, a shape does not fit, or a number of steps is below 1.

    Example:
        A chain of two units: an input to the first reaches the second, four times as strong, and is gone.

        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=0)
        >>> with torch.no_grad():
        ...     _ = rnn.W.copy_(torch.tensor([[0.0, 0.0], [4.0, 0.0]]))
        >>> found = nonnormality(rnn, torch.zeros(1, 0))
        >>> float(found.henrici), float(found.spectral_radius), float(found.max_growth), int(found.max_growth_step)
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
    """From 0 to the longest, coarser beyond 100, with each regime's own last one."""
    longest = int(held.max(initial=1))
    powers = list(range(min(longest, _EVERY_STEP) + 1))
    while powers[-1] < longest:
        powers.append(min(longest, powers[-1] + powers[-1] // 20))
    return np.unique(np.concatenate((powers, held)))


def _nonnormality(matrices: Floats, held: NDArray[np.int64], powers: NDArray[np.int64]) -> tuple[Tensor, ...]:
    """The fields of :class:`Nonnormality` of some matrices, without ``powers``."""
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
    """The diagonals of D along trajectories, float64 of shape ``(batch, time, M)``."""
    if states.ndim != 3:
        raise ValueError(f"states must have shape (batch, time, M), got {tuple(states.shape)}")
    return recurrence.slopes(read_states("states", states, len(recurrence.h)))
