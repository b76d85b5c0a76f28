"""Slow modes of regimes, their overlap with inputs and readouts, and scores of line attractors."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.linalg import orth
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import frequencies, timescales
from lightning_alrnn.analysis.system import (
    Bools,
    Floats,
    in_chunks,
    read_codes,
    read_recurrence,
    read_states,
    sort_modes,
    tensor,
)
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

_RANK_TOLERANCE = 1e-10
"""Relative singular value below which directions count as linearly dependent."""


class SlowModes(NamedTuple):
    """Modes of some regimes, slowest first: those with the smallest |ln|λ||, whether they decay or grow.

    Mode j evolves on its own, by a factor λ_j a step: the state z along it is u_jᴴ z, its direction is v_j.

    Attributes:
        codes: Regimes, bool of shape ``(n, P)``.
        eigenvalues: λ, complex128 of shape ``(n, count)``.
        timescales: −1/ln|λ| in steps, negative for a mode that grows, float64 of shape ``(n, count)``.
        frequencies: |arg λ| / 2π in cycles a step, float64 of shape ``(n, count)``.
        right: v with J v = λ v and |v| = 1, a row each, complex128 of shape ``(n, count, M)``.
        left: u with uᴴ J = λ uᴴ and uᴴ v = 1, a row each, complex128 of shape ``(n, count, M)``; NaN if the matrix is
            defective.
        input_overlap: Cosine of the angle between u and the space spanned by the columns of C, from 0 (inputs do not
            reach the mode) to 1, float64 of shape ``(n, count)``.
        readout_overlap: Cosine of the angle between v and the space spanned by the rows of the readout weight D, of the
            same shape; ``None`` without a readout weight.
    """

    codes: Tensor
    eigenvalues: Tensor
    timescales: Tensor
    frequencies: Tensor
    right: Tensor
    left: Tensor
    input_overlap: Tensor
    readout_overlap: Tensor | None


class LineAttractorScore(NamedTuple):
    """Similarity of regimes to a line attractor: one slow mode, all others fast, and states spread along it.

    Attributes:
        codes: Regimes, bool of shape ``(n, P)``.
        timescale: |τ_1| of the slowest mode in steps, float64 of shape ``(n,)``; infinite for a perfect integrator.
        ratio: |τ_1| / |τ_2|, of shape ``(n,)``: 1 for a complex pair, which is two modes, and if both are infinite (a
            plane); infinite if there is no second mode, or none that outlasts a step.
        decays: Whether the slowest mode decays or holds, |λ_1| ≤ 1, bool of shape ``(n,)``.
        variance: Share of the variance of the regime's states along the slowest mode (for a complex pair: in its
            plane), of shape ``(n,)``; NaN for fewer than two states.
        states: Number of states in the regime, int64 of shape ``(n,)``.

    Reference:
        Nair et al., Cell 186:178 (2023), who use the logarithm of τ_1/τ_2 as a score.
    """

    codes: Tensor
    timescale: Tensor
    ratio: Tensor
    decays: Tensor
    variance: Tensor
    states: Tensor


def slow_modes(
    rnn: ALRNN | Recurrence, codes: Tensor, count: int | None = None, readout_weight: Tensor | None = None
) -> SlowModes:
    """Compute the slowest modes of some regimes in float64.

    Args:
        rnn: Network, or its parameters.
        codes: Regimes, bool or 0/1 of shape ``(n, P)``.
        count: Number of modes of each regime; ``None`` for all M.
        readout_weight: D of the outputs y = D z + b, shape ``(outputs, M)``.

    Raises:
        ValueError: If a parameter is not finite, a shape does not fit, or ``count`` is not within 1 … M.

    Example:
        >>> W, C = torch.tensor([[1.0, 0.0], [0.0, 0.5]]), torch.tensor([[1.0], [0.0]])
        >>> rnn = Recurrence(torch.zeros(2), W, C, torch.zeros(2), P=1)
        >>> modes = slow_modes(rnn, torch.tensor([[True]]))
        >>> modes.eigenvalues.real.tolist(), modes.input_overlap.tolist()
        ([[1.0, 0.5]], [[1.0, 0.0]])
    """
    recurrence = read_recurrence(rnn)
    size = len(recurrence.h)
    count = size if count is None else count
    if not 1 <= count <= size:
        raise ValueError(f"count must lie between 1 and M={size}, got {count}")
    regimes = read_codes(codes, int(recurrence.P))
    inputs, outputs = orth(recurrence.input_weights.numpy(), _RANK_TOLERANCE), None
    if readout_weight is not None:
        if readout_weight.ndim != 2:
            raise ValueError(f"readout_weight must have shape (outputs, M={size}), got {tuple(readout_weight.shape)}")
        outputs = orth(read_states("readout_weight", readout_weight, size).T.numpy(), _RANK_TOLERANCE)
    parts = []  # values, right and left vectors side by side
    for chunk in in_chunks(regimes, size):
        values, vectors = slowest_first(recurrence, chunk)
        inverse = np.full(vectors.shape, np.nan, dtype=np.complex128)
        spans = np.linalg.cond(vectors) < 1e12
        inverse[spans] = np.linalg.inv(vectors[spans])
        parts.append(np.concatenate((values[..., None], vectors.mT, inverse.conj()), axis=2)[:, :count])
    modes = np.concatenate(parts)
    eigenvalues = tensor(modes[..., 0])
    right, left = modes[..., 1 : 1 + size], modes[..., 1 + size :]
    return SlowModes(
        codes=tensor(regimes),
        eigenvalues=eigenvalues,
        timescales=timescales(eigenvalues),
        frequencies=frequencies(eigenvalues),
        right=tensor(right),
        left=tensor(left),
        input_overlap=tensor(_overlap(left, inputs)),
        readout_overlap=None if outputs is None else tensor(_overlap(right, outputs)),
    )


def line_attractor_score(rnn: ALRNN | Recurrence, codes: Tensor, states: Tensor | None = None) -> LineAttractorScore:
    """Compute how similar some regimes are to a line attractor.

    Args:
        rnn: Network, or its parameters.
        codes: Regimes, bool or 0/1 of shape ``(n, P)``.
        states: States that trajectories visited, shape ``(…, M)``. Each counts for the regime that it lies in.

    Raises:
        ValueError: If a parameter or a state is not finite or a shape does not fit.

    Example:
        >>> W = torch.tensor([[0.99, 0.0], [0.0, 0.5]])
        >>> rnn = Recurrence(torch.zeros(2), W, None, torch.zeros(2), P=0)
        >>> score = line_attractor_score(rnn, torch.zeros(1, 0), torch.tensor([[3.0, 1.0], [-3.0, 1.0]]))
        >>> round(float(score.timescale), 1), round(float(score.ratio), 1), float(score.variance)
        (99.5, 69.0, 1.0)
    """
    recurrence = read_recurrence(rnn)
    size = len(recurrence.h)
    modes = slow_modes(rnn, codes, min(2, size))
    slow = modes.timescales.abs()
    first, second = slow[:, 0], (slow[:, 1] if size > 1 else torch.zeros(len(slow), dtype=torch.float64))
    ratio = torch.where(first == second, 1.0, first / second)
    variance = torch.full((len(slow),), math.nan, dtype=torch.float64)
    counts = torch.zeros(len(slow), dtype=torch.int64)
    if states is not None:
        flat = read_states("states", states, size).reshape(-1, size)
        bits = recurrence.regime(flat)
        for row, code in enumerate(modes.codes):
            inside = flat[(bits == code).all(dim=1)]
            counts[row] = len(inside)
            if len(inside) > 1:
                variance[row] = _share(inside, modes.right[row, 0])
    decays = modes.eigenvalues[:, 0].abs() <= 1.0
    return LineAttractorScore(modes.codes, first, ratio, decays, variance, counts)


def slowest_first(recurrence: Recurrence, codes: Bools) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Eigenvalues ``(n, M)`` and eigenvectors ``(n, M, M)``, in columns, sorted by |ln|λ||."""
    values, vectors = np.linalg.eig(recurrence.regime_matrix(tensor(codes)).numpy())
    with np.errstate(divide="ignore"):
        return sort_modes(values, vectors, np.abs(np.log(np.abs(values))))


def _overlap(vectors: NDArray[np.complex128], basis: Floats) -> Floats:
    """Length of each vector's projection as a share of its own length, ``(n, count, M)`` to ``(n, count)``."""
    overlap: Floats = np.linalg.norm(vectors @ basis, axis=-1) / np.linalg.norm(vectors, axis=-1)
    return np.minimum(overlap, 1.0)


def _share(states: Tensor, direction: Tensor) -> float:
    """Share of the variance of states ``(n, M)`` in the line or plane of a complex direction; NaN without variance."""
    spanning = torch.stack((direction.real, direction.imag), dim=1)
    basis = tensor(orth(spanning.numpy(), _RANK_TOLERANCE))
    centred = states - states.mean(dim=0)
    total = float(centred.square().sum())
    if not total > 1e-12 * float(states.square().sum()):
        return math.nan
    return float((centred @ basis).square().sum()) / total
