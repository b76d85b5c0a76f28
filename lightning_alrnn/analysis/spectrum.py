"""Time constants of the visited regimes, and principal components of the states.

If states integrate inputs along a mode with |λ| near 1, their leading principal component points along that mode.
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
"""Variance below this share of the mean square of the states is indistinguishable from rounding in the sums."""


class SlowMode(NamedTuple):
    """Slowest mode of a regime.

    Attributes:
        eigenvalue: λ; of a complex pair, the one with positive imaginary part.
        timescale: −1/ln|λ| in steps, negative for a mode that grows, see :func:`~lightning_alrnn.analysis.timescales`.
        directions: Orthonormal basis of the space that the mode spans, float64 of shape ``(1, M)`` for a real λ and
            ``(2, M)`` for a complex pair.
    """

    eigenvalue: complex
    timescale: float
    directions: Tensor


class RegimeSpectrum(NamedTuple):
    """Eigenvalues of the most visited regimes.

    Attributes:
        codes: Regimes, most visited first, bool of shape ``(regimes, P)``.
        occupancy: Share of steps in each regime, float64 of shape ``(regimes,)``.
        eigenvalues: λ of J = A + W D, by descending modulus, complex128 of shape ``(regimes, M)``.
        timescales: −1/ln|λ| in steps, negative for a mode that grows, float64 of shape ``(regimes, M)``.
        slowest: Slowest mode of the most visited regime.
    """

    codes: Tensor
    occupancy: Tensor
    eigenvalues: Tensor
    timescales: Tensor
    slowest: SlowMode


class PrincipalComponents(NamedTuple):
    """Principal components of states.

    Attributes:
        mean: Mean of the states, float64 of shape ``(M,)``.
        directions: Orthonormal components as rows, by descending variance, with arbitrary signs, float64 of shape
            ``(M, M)``.
        variance: Variance along each component, float64 of shape ``(M,)``; 0 if it is below rounding.
        share: Share of the total variance, of the same shape; NaN if the states do not vary.
    """

    mean: Tensor
    directions: Tensor
    variance: Tensor
    share: Tensor


class LatentDimensions(NamedTuple):
    """Number of dimensions that states fill, from the variances λ along their principal components.

    Attributes:
        pc1_variance: Share of the variance along the leading component, λ_1 / Σ λ.
        pc3_variance: Share of the variance along the leading three components.
        participation_ratio: (Σ λ)² / Σ λ², the effective number of dimensions, 1 to M.
    """

    pc1_variance: float
    pc3_variance: float
    participation_ratio: float


def regime_spectrum(rnn: ALRNN | Recurrence, regimes: RegimeCounts, top: int = 16) -> RegimeSpectrum:
    """Compute eigenvalues and time constants of the most visited regimes in float64.

    Args:
        rnn: Network, or its parameters.
        regimes: Regimes that the states visit, at least one.
        top: Number of the most visited regimes to include.

    Raises:
        ValueError: If a parameter is not finite, or no regime was visited.

    Example:
        >>> from lightning_alrnn.analysis.regime_statistics import count_regimes
        >>> W = torch.tensor([[1.0, 0.0], [0.0, 0.25]])
        >>> rnn = Recurrence(torch.tensor([0.0, 0.25]), W, None, torch.zeros(2), P=1)
        >>> states = torch.tensor([[[0.1, 1.0], [0.1, 1.0], [0.1, -2.0]]])
        >>> spectrum = regime_spectrum(rnn, count_regimes(states, nonlinear_units=1))
        >>> spectrum.eigenvalues.real.tolist(), spectrum.slowest.timescale
        ([[1.0, 0.5], [1.0, 0.25]], inf)
    """
    if len(regimes.codes) == 0:
        raise ValueError("regimes must hold at least one regime, got none: count the regimes of at least one state")
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
    """Find the mode of a regime with the smallest |ln|λ||, whether it decays or grows.

    Args:
        rnn: Network, or its parameters.
        code: Regime, bool or 0/1 of shape ``(P,)``.

    Raises:
        ValueError: If a parameter is not finite, or ``code`` does not have P entries.

    Example:
        >>> W = torch.tensor([[0.0, -0.9], [0.9, 0.0]])
        >>> mode = slowest_mode(Recurrence(torch.zeros(2), W, None, torch.zeros(2), P=0), torch.zeros(0))
        >>> round(mode.eigenvalue.imag, 6), mode.directions.shape
        (0.9, torch.Size([2, 2]))
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
    """Compute the principal components of all valid states.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all are valid.

    Example:
        >>> states = torch.tensor([[[3.0, 1.0], [-3.0, 1.0], [9.0, 9.0]]])
        >>> components = principal_components(states, torch.tensor([2]))
        >>> components.directions[0].abs().tolist(), components.variance.tolist(), components.share.tolist()
        ([1.0, 0.0], [9.0, 0.0], [1.0, 0.0])
    """
    if lengths is None:
        lengths = torch.full((len(states),), states.shape[1], dtype=torch.int64, device=states.device)
    count, total, outer = sum_moments(states, lengths)
    return components_of_moments(int(count), total.cpu(), outer.cpu())


def latent_dimensions(components: PrincipalComponents) -> LatentDimensions:
    """Compute the number of dimensions that states fill; NaN if they do not vary.

    Args:
        components: Result of :func:`principal_components`.

    Example:
        >>> square = torch.tensor([[[1.0, 1.0, 0.0], [1.0, -1.0, 0.0], [-1.0, 1.0, 0.0], [-1.0, -1.0, 0.0]]])
        >>> latent_dimensions(principal_components(square))
        LatentDimensions(pc1_variance=0.5, pc3_variance=1.0, participation_ratio=2.0)

    Reference:
        Gao et al., bioRxiv 214262 (2017), on the participation ratio.
    """
    share = components.share
    return LatentDimensions(float(share[0]), float(share[:3].sum()), float(1.0 / share.square().sum()))


def sum_moments(states: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Sums over the valid steps of a batch: n, Σ z of shape ``(M,)`` and Σ z zᵀ of shape ``(M, M)`` in float64."""
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
    """Principal components from the sums n, Σ z and Σ z zᵀ; all NaN if a sum is not finite or n is 0."""
    mean, second = total / count, outer / count  # NaN without states
    covariance = second - mean.outer(mean)
    if not bool(torch.isfinite(covariance).all()):
        undefined = torch.full_like(total, math.nan)
        return PrincipalComponents(mean, torch.full_like(outer, math.nan), undefined, undefined)
    variance, vectors = (torch.from_numpy(part) for part in np.linalg.eigh(covariance.numpy()))
    variance = torch.where(variance > _ROUNDING * second.trace(), variance, 0.0).flip(0)
    return PrincipalComponents(mean, vectors.T.flip(0), variance, variance / variance.sum())


def principal_angle(direction: Tensor, basis: Tensor) -> float:
    """Angle between a direction and the nearest one within a subspace.

    Args:
        direction: Vector that is not zero, shape ``(M,)``.
        basis: Orthonormal basis of the subspace, shape ``(k, M)``, such as ``SlowMode.directions``.

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
