"""Lyapunov exponents: how fast neighbouring trajectories part, on average."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from torch import Tensor

from lightning_alrnn.analysis.system import Network, read_states, read_system, regime_slopes, tensor


class LyapunovSpectrum(NamedTuple):
    """Lyapunov exponents along trajectories.

    Attributes:
        exponents: in nats a step, largest first, float64 of shape ``(batch, count)``; −∞ for a direction that is lost.
            A positive one means chaos, one of 0 an oscillation or a continuum, all negative a stable point or cycle.
        mean: of the sequences, of shape ``(count,)``.
        kaplan_yorke: Kaplan–Yorke dimension j + Σ_{i ≤ j} λ_i / |λ_{j+1}|, j the most exponents whose sum is not
            negative, float64 of shape ``(batch,)``; ``count`` where the sum of all is not negative.
        steps: number of Jacobians that went in, of each sequence.

    Reference:
        Kaplan & Yorke 1979, the dimension.
    """

    exponents: Tensor
    mean: Tensor
    kaplan_yorke: Tensor
    steps: int


def lyapunov_spectrum(rnn: Network, states: Tensor, count: int | None = None, warm_up: int = 0) -> LyapunovSpectrum:
    """Lyapunov exponents by QR decompositions of the Jacobians along trajectories.

    The trajectories may be driven by inputs; the exponents are then conditional on them.

    Args:
        rnn: the network, or its parameters (A, W, C, h, P).
        states: z_0 … z_T, successive states, all valid, shape ``(batch, time, M)``.
        count: how many exponents; ``None`` for all M.
        warm_up: steps that turn the directions but do not count.

    Raises:
        ValueError: if a parameter or a state is not finite, a shape does not fit, ``count`` is not within 1 … M or no
            step is left after ``warm_up``.

    Example:
        >>> import torch
        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=0)
        >>> with torch.no_grad():
        ...     _ = rnn.W.copy_(torch.tensor([[0.5, 1.0], [0.0, 2.0]]))
        >>> found = lyapunov_spectrum(rnn, torch.zeros(1, 101, 2), warm_up=50)
        >>> [round(value, 4) for value in found.mean.tolist()]  # ln 2 and −ln 2
        [0.6931, -0.6931]

    Reference:
        Benettin, Galgani, Giorgilli & Strelcyn, Meccanica 15, 1980. Engelken, Wolf & Abbott, Physical Review Research
        5, 2023, on recurrent networks.
    """
    system = read_system(rnn)
    size = len(system.W)
    if states.ndim != 3:
        raise ValueError(f"states must have shape (batch, time, M), got {tuple(states.shape)}")
    count = size if count is None else count
    if not 1 <= count <= size:
        raise ValueError(f"count must lie between 1 and M={size}, got {count}")
    if not 0 <= warm_up < states.shape[1]:
        raise ValueError(f"warm_up must lie between 0 and T−1={states.shape[1] - 1}, got {warm_up}")
    codes = read_states("states", states, size)[..., system.linear :] > 0
    slopes = regime_slopes(system, codes)
    start = np.linalg.qr(np.random.default_rng(0).normal(size=(size, count)))[0]
    directions = np.broadcast_to(start, (len(codes), size, count))
    total = np.zeros((len(codes), count))
    for step in range(codes.shape[1]):
        directions = system.A @ directions + system.W @ (slopes[:, step, :, None] * directions)
        directions, triangle = np.linalg.qr(directions)
        if step >= warm_up:
            with np.errstate(divide="ignore"):
                total += np.log(np.abs(np.diagonal(triangle, axis1=1, axis2=2)))
    steps = codes.shape[1] - warm_up
    exponents = -np.sort(-total / steps, axis=1)
    return LyapunovSpectrum(tensor(exponents), tensor(exponents.mean(axis=0)), tensor(_kaplan_yorke(exponents)), steps)


def _kaplan_yorke(exponents: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
    sums = np.cumsum(exponents, axis=1)
    dimensions = np.zeros(len(exponents))
    for row, (own, total) in enumerate(zip(exponents, sums, strict=True)):
        whole = int((np.cumsum(total < 0) == 0).sum())
        before = total[whole - 1] if whole else 0.0
        dimensions[row] = whole if whole == len(own) else whole + before / abs(own[whole])
    return dimensions
