"""How slow the dynamics of the visited regimes are, and whether states move along their slowest mode.

In one linear regime each mode of J = A + W D evolves on its own, by a factor λ a step. A mode with |λ| near 1 neither
decays nor grows: inputs along it add up, as on a line attractor. If the network works in this way, its states vary
along that mode most of all, and their leading principal component points where its eigenvector does.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import eigenvalues_of_regimes, timescales
from lightning_alrnn.analysis.modes import slowest_first
from lightning_alrnn.analysis.regime_statistics import RegimeCounts
from lightning_alrnn.analysis.system import read_codes, read_recurrence
from lightning_alrnn.batch import valid_steps
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

_ROUNDING = 1e-12
"""Variance below this share of the mean square of the states cannot be told from rounding in the sums over steps."""


class SlowMode(NamedTuple):
    """The slowest mode of a regime.

    Attributes:
        eigenvalue: λ, of a complex pair the one with positive imaginary part.
        timescale: −1/ln|λ| in steps, negative where the mode grows, see :func:`~lightning_alrnn.analysis.timescales`.
        directions: orthonormal basis of what the mode spans, float64 of shape ``(1, M)`` for a real λ (its eigenvector)
            and ``(2, M)`` for a complex pair (the plane of the eigenvector's real and imaginary part).
    """

    eigenvalue: complex
    timescale: float
    directions: Tensor


class RegimeSpectrum(NamedTuple):
    """Eigenvalues of the most visited regimes.

    Attributes:
        codes: the regimes, most visited first, bool of shape ``(regimes, P)``.
        occupancy: share of steps in each, float64 of shape ``(regimes,)``.
        eigenvalues: λ of J = A + W D, by descending modulus, complex128 of shape ``(regimes, M)``.
        timescales: −1/ln|λ| in steps, float64 of shape ``(regimes, M)``; negative for a mode that grows.
        slowest: the slowest mode of the most visited regime.
    """

    codes: Tensor
    occupancy: Tensor
    eigenvalues: Tensor
    timescales: Tensor
    slowest: SlowMode


class PrincipalComponents(NamedTuple):
    """Principal components of states.

    Attributes:
        mean: float64 of shape ``(M,)``.
        directions: one component a row, orthonormal, the one with most variance first; float64 of shape ``(M, M)``.
            Their signs are arbitrary.
        variance: variance along each, float64 of shape ``(M,)``; 0 where it cannot be told from rounding.
        share: of the whole variance, of the same shape; NaN where states do not vary.
    """

    mean: Tensor
    directions: Tensor
    variance: Tensor
    share: Tensor


class LatentDimensions(NamedTuple):
    """How many dimensions states fill, from the variances λ along their principal components.

    Attributes:
        pc1_variance: share of the variance along the leading component, λ_1 / Σ λ.
        pc3_variance: share along the leading three.
        participation_ratio: (Σ λ)² / Σ λ², the effective number of dimensions, 1 to M.
    """

    pc1_variance: float
    pc3_variance: float
    participation_ratio: float


def regime_spectrum(rnn: ALRNN | Recurrence, regimes: RegimeCounts, top: int = 16) -> RegimeSpectrum:
    """Eigenvalues and time constants of the most visited regimes, computed in float64.

    Args:
        rnn: the network, or its parameters.
        regimes: the regimes that its states visit, at least one.
        top: how many of the most visited are looked at.

    Raises:
        ValueError: if a parameter is not finite, or no regime was visited.

    Example:
        A unit that integrates, and one that is rectified and forgets.

        >>> from lightning_alrnn.analysis.regime_statistics import count_regimes
        >>> rnn = ALRNN(input_size=None, hidden_size=2, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.25), rnn.h.zero_(), rnn.W.copy_(torch.tensor([[1.0, 0.0], [0.0, 0.25]]))
        >>> drive = torch.tensor([[[0.1, 1.0], [0.1, 1.0], [0.1, -2.0]]])
        >>> found = regime_spectrum(rnn, count_regimes(rnn(drive).states, nonlinear_units=1))
        >>> found.eigenvalues.real.tolist()
        [[1.0, 0.5], [1.0, 0.25]]
        >>> found.slowest.timescale, found.slowest.directions.abs().tolist()
        (inf, [[1.0, 0.0]])
    """
    if len(regimes.codes) == 0:
        raise ValueError("regimes must hold at least one regime, got none: count those of at least one state")
    codes = regimes.codes[:top].cpu()
    eigenvalues = eigenvalues_of_regimes(rnn, codes)
    return RegimeSpectrum(
        codes=codes,
        occupancy=regimes.counts[:top].cpu().double() / regimes.steps,
        eigenvalues=eigenvalues,
        timescales=timescales(eigenvalues),
        slowest=slowest_mode(rnn, codes[0]),
    )


def slowest_mode(rnn: ALRNN | Recurrence, code: Tensor) -> SlowMode:
    """The mode of a regime with |λ| nearest to 1: the smallest |ln|λ||, whether it decays or grows.

    Args:
        rnn: the network, or its parameters.
        code: the regime, bool or 0/1 of shape ``(P,)``.

    Raises:
        ValueError: if a parameter is not finite, or ``code`` does not have P entries.

    Example:
        A rotation by a quarter turn that decays by a tenth a step.

        >>> rnn = ALRNN(input_size=None, hidden_size=2, nonlinear_units=0)
        >>> with torch.no_grad():
        ...     _ = rnn.W.copy_(torch.tensor([[0.0, -0.9], [0.9, 0.0]]))
        >>> mode = slowest_mode(rnn, torch.zeros(0))
        >>> abs(round(mode.eigenvalue.real, 6)), round(mode.eigenvalue.imag, 6), mode.directions.shape
        (0.0, 0.9, torch.Size([2, 2]))
    """
    recurrence = read_recurrence(rnn)
    if code.shape != (recurrence.P,):
        raise ValueError(f"code must have shape (P,) = ({recurrence.P},), got {tuple(code.shape)}")
    values, vectors = slowest_first(recurrence, read_codes(code.unsqueeze(0), len(code)))
    value, vector = complex(values[0, 0]), vectors[0, :, 0]
    # LAPACK gives real eigenvalues of real matrices without any imaginary part
    spanning = [vector.real] if value.imag == 0 else [vector.real, vector.imag]
    return SlowMode(
        eigenvalue=complex(value.real, abs(value.imag)),
        timescale=float(timescales(torch.tensor(abs(value), dtype=torch.float64))),
        directions=torch.from_numpy(np.linalg.qr(np.stack(spanning, axis=1))[0].T.copy()),
    )


def principal_components(states: Tensor, lengths: Tensor | None = None) -> PrincipalComponents:
    """Principal components of all valid states.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.

    Example:
        >>> states = torch.tensor([[[3.0, 1.0], [-3.0, 1.0], [9.0, 9.0]]])
        >>> found = principal_components(states, torch.tensor([2]))
        >>> found.directions[0].abs().tolist(), found.variance.tolist(), found.share.tolist()
        ([1.0, 0.0], [9.0, 0.0], [1.0, 0.0])
    """
    if lengths is None:
        lengths = torch.full((len(states),), states.shape[1], dtype=torch.int64, device=states.device)
    count, total, outer = sum_moments(states, lengths)
    return components_of_moments(int(count), total.cpu(), outer.cpu())


def latent_dimensions(components: PrincipalComponents) -> LatentDimensions:
    """How many dimensions the states fill; NaN where they do not vary.

    Args:
        components: of :func:`principal_components`.

    Example:
        >>> square = torch.tensor([[[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]]])
        >>> latent_dimensions(principal_components(square))
        LatentDimensions(pc1_variance=0.5, pc3_variance=1.0, participation_ratio=2.0)

    Reference:
        Gao et al., "A theory of multineuronal dimensionality, dynamics and measurement", bioRxiv 214262 (2017), the
        participation ratio.
    """
    share = components.share
    return LatentDimensions(float(share[0]), float(share[:3].sum()), float(1.0 / share.square().sum()))


def sum_moments(states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """What principal components are made of: n, Σ z and Σ z zᵀ over the valid steps of a batch.

    Args:
        states: shape ``(batch, time, M)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``.

    Returns:
        int64 scalar; float64 of shape ``(M,)`` and of shape ``(M, M)``.
    """
    valid = valid_steps(lengths, states.shape[1])
    # zeros add nothing; to select the valid states, or to ask whether all are, would halt an accelerator
    if valid.device.type != "cpu" or not bool(valid.all()):
        states = states.masked_fill(~valid.unsqueeze(-1), 0.0)
    rows = states.double().flatten(0, 1)
    if rows.device.type != "cpu":
        return valid.sum(), rows.sum(dim=0), rows.T @ rows
    array = rows.numpy()  # numpy sees that the product is symmetric and computes half of it
    return valid.sum(), rows.sum(dim=0), torch.from_numpy(array.T @ array)


def components_of_moments(count: int, total: Tensor, outer: Tensor) -> PrincipalComponents:
    """Principal components of n states from their sums.

    Args:
        count: n.
        total: Σ z, float64 of shape ``(M,)`` on the CPU.
        outer: Σ z zᵀ, float64 of shape ``(M, M)`` on the CPU.

    Returns:
        All NaN where a sum is not finite or n is 0.
    """
    mean = total / count if count else torch.full_like(total, math.nan)
    second = outer / max(count, 1)
    covariance = second - mean.outer(mean)
    if not bool(torch.isfinite(covariance).all()):
        nothing = torch.full_like(total, math.nan)
        return PrincipalComponents(mean, torch.full_like(outer, math.nan), nothing, nothing)
    variance, vectors = (torch.from_numpy(part) for part in np.linalg.eigh(covariance.numpy()))
    variance = torch.where(variance > _ROUNDING * second.trace(), variance, 0.0).flip(0)
    return PrincipalComponents(mean, vectors.T.flip(0), variance, variance / variance.sum())


def principal_angle(direction: Tensor, basis: Tensor) -> float:
    """Angle between a direction and the nearest one within a subspace.

    Args:
        direction: not zero, shape ``(M,)``.
        basis: orthonormal basis of the subspace, shape ``(k, M)``, such as ``SlowMode.directions``.

    Returns:
        Degrees, from 0 (within the subspace) to 90 (orthogonal to it).

    Example:
        >>> plane = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
        >>> round(principal_angle(torch.tensor([1.0, 1.0, -2**0.5]), plane), 3)
        45.0
    """
    direction, basis = direction.double(), basis.double()
    within = basis @ direction
    beside = direction - basis.T @ within
    # unlike the arc cosine of a length near 1, this is exact for small angles too
    return math.degrees(math.atan2(float(beside.norm()), float(within.norm())))
