"""The slow modes of regimes, what drives and reads them, and how much like a line attractor a regime is."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import frequencies, timescales
from lightning_alrnn.analysis.system import (
    Bools,
    Floats,
    in_chunks,
    read_codes,
    read_recurrence,
    read_states,
    tensor,
)
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence


class SlowModes(NamedTuple):
    """The modes of some regimes, slowest first: those with the smallest |ln|λ||, whether they decay or grow.

    Mode j evolves on its own, by a factor λ_j a step: the state z along it is u_jᴴ z, its direction is v_j.

    Attributes:
        codes: the regimes, bool of shape ``(n, P)``.
        eigenvalues: λ, complex128 of shape ``(n, count)``.
        timescales: −1/ln|λ| in steps, negative for a mode that grows, float64 of shape ``(n, count)``.
        frequencies: |arg λ| / 2π in cycles a step, float64 of shape ``(n, count)``.
        right: v with J v = λ v and |v| = 1, a row each, complex128 of shape ``(n, count, M)``.
        left: u with uᴴ J = λ uᴴ and uᴴ v = 1, a row each, complex128 of shape ``(n, count, M)``; NaN where the modes do
            not span the space (a defective matrix).
        input_overlap: cosine of the angle between u and the space spanned by the columns of C, which is how well inputs
            reach the mode, float64 of shape ``(n, count)``: 0 not at all, 1 as well as can be.
        readout_overlap: cosine of the angle between v and the space spanned by the rows of the readout's D, which is
            how well it shows, of the same shape; ``None`` without the weight of a readout.
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
    """How much like a line attractor some regimes are: one slow mode, all others fast, states spread along it.

    Attributes:
        codes: the regimes, bool of shape ``(n, P)``.
        timescale: |τ_1| of the slowest mode in steps, float64 of shape ``(n,)``; infinite for a perfect integrator.
        ratio: |τ_1| / |τ_2|, of shape ``(n,)``. A complex pair is two modes: its ratio is 1. 1 too where both are
            infinite (a plane); infinite where there is no second mode, or none that outlasts a step.
        decays: whether the slowest mode decays or holds, |λ_1| ≤ 1, bool of shape ``(n,)``.
        variance: share of the variance of the given states in the regime that lies along the slowest mode (for a
            complex pair: in its plane), of shape ``(n,)``; NaN where fewer than two lie in the regime.
        states: number of given states in the regime, int64 of shape ``(n,)``.

    Reference:
        Nair et al., Cell 186:178 (2023), who take the logarithm of τ_1/τ_2 for a score.
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
    """The slowest modes of some regimes, in float64.

    Args:
        rnn: the network, or its parameters.
        codes: regimes, bool or 0/1 of shape ``(n, P)``, such as the most visited ones.
        count: how many modes of each; ``None`` for all M.
        readout_weight: D of the outputs y = D z + b, shape ``(outputs, M)``.

    Raises:
        ValueError: if a parameter is not finite, a shape does not fit, or ``count`` is not within 1 … M.

    Example:
        A unit that integrates its input, beside one that is rectified and forgets.

        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.zero_(), rnn.W.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.5]]))
        ...     _ = rnn.C.copy_(torch.tensor([[1.0], [0.0]]))
        >>> found = slow_modes(rnn, torch.tensor([[True]]), readout_weight=torch.tensor([[1.0, 1.0]]))
        >>> found.eigenvalues.real.tolist(), found.input_overlap.tolist()
        ([[1.0, 0.5]], [[1.0, 0.0]])
        >>> [round(value, 3) for value in found.readout_overlap[0].tolist()]
        [0.707, 0.707]
    """
    recurrence = read_recurrence(rnn)
    size = len(recurrence.h)
    count = size if count is None else count
    if not 1 <= count <= size:
        raise ValueError(f"count must lie between 1 and M={size}, got {count}")
    regimes = read_codes(codes, int(recurrence.P))
    inputs, outputs = _basis(recurrence.input_weights.numpy()), None
    if readout_weight is not None:
        if readout_weight.ndim != 2:
            raise ValueError(f"readout_weight must have shape (outputs, M={size}), got {tuple(readout_weight.shape)}")
        outputs = _basis(read_states("readout_weight", readout_weight, size).T.numpy())
    kept = [np.zeros((0, count, 1 + 2 * size), dtype=np.complex128)]  # values, right and left vectors side by side
    for chunk in in_chunks(regimes, size):
        values, vectors = slowest_first(recurrence, chunk)
        inverse = np.full(vectors.shape, np.nan, dtype=np.complex128)
        spans = np.linalg.cond(vectors) < 1e12
        inverse[spans] = np.linalg.inv(vectors[spans])
        kept.append(np.concatenate((values[..., None], vectors.mT, inverse.conj()), axis=2)[:, :count])
    modes = np.concatenate(kept)
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
    """How much like a line attractor some regimes are.

    Args:
        rnn: the network, or its parameters.
        codes: regimes, bool or 0/1 of shape ``(n, P)``.
        states: states that trajectories visited, shape ``(…, M)``, each looked at in the regime it lies in.

    Raises:
        ValueError: if a parameter or a state is not finite or a shape does not fit.

    Example:
        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=0)
        >>> with torch.no_grad():
        ...     _ = rnn.W.copy_(torch.tensor([[0.99, 0.0], [0.0, 0.5]]))
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


def slowest_first(
    recurrence: Recurrence, codes: Bools
) -> tuple[np.typing.NDArray[np.complex128], np.typing.NDArray[np.complex128]]:
    """The modes of some regimes by |ln|λ||, which is infinite for λ = 0.

    Args:
        recurrence: the parameters, in float64 on the CPU.
        codes: the regimes, shape ``(n, P)``.

    Returns:
        Eigenvalues, shape ``(n, M)``, and eigenvectors, a column each, shape ``(n, M, M)``.
    """
    values, vectors = np.linalg.eig(recurrence.regime_matrix(tensor(codes)).numpy())
    with np.errstate(divide="ignore"):
        order = np.argsort(np.abs(np.log(np.abs(values))), axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(vectors, order[:, None, :], axis=2)


def _basis(columns: Floats) -> Floats:
    """Orthonormal basis of the space that columns span, shape ``(M, rank)``."""
    left, values, _ = np.linalg.svd(columns, full_matrices=False)
    basis: Floats = left[:, values > 1e-10 * max(float(values.max(initial=0.0)), 1e-300)]
    return basis


def _overlap(vectors: np.typing.NDArray[np.complex128], basis: Floats) -> Floats:
    """Length of the projection of each vector, shape ``(n, count, M)``, of its own length."""
    overlap: Floats = np.linalg.norm(vectors @ basis, axis=-1) / np.linalg.norm(vectors, axis=-1)
    return np.minimum(overlap, 1.0)


def _share(states: Tensor, direction: Tensor) -> float:
    """Share of the variance of states ``(n, M)`` in the line or plane of a complex direction; NaN without variance."""
    spanning = torch.stack((direction.real, direction.imag), dim=1)
    basis = tensor(_basis(spanning.numpy()))
    apart = states - states.mean(dim=0)
    whole = float(apart.square().sum())
    if not whole > 1e-12 * float(states.square().sum()):
        return math.nan
    return float((apart @ basis).square().sum()) / whole
