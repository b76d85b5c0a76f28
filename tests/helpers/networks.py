"""Small networks whose dynamics are known, or random."""

from __future__ import annotations

import math

import numpy as np
import torch
from numpy.typing import NDArray

from lightning_alrnn.nn.alrnn import ALRNN

Array = NDArray[np.float64]


def build(
    A: object, W: object, h: object, units: int, *, C: object = None, dtype: torch.dtype = torch.float64
) -> ALRNN:
    """A network with the given parameters; ``A`` with P or M entries says which units have self-connections."""
    A, W, h = (torch.tensor(np.asarray(value, dtype=float)) for value in (A, W, h))
    size = len(h)
    C = torch.zeros(size, 1) if C is None else torch.as_tensor(np.asarray(C, dtype=float))
    connections = "all" if len(A) == size else "nonlinear"
    rnn = ALRNN(C.shape[1], size, units, self_connections=connections).to(dtype)  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter, value in ((rnn.A, A), (rnn.W, W), (rnn.h, h), (rnn.C, C)):
            assert parameter is not None
            parameter.copy_(value)
    return rnn


def plain(rnn: ALRNN) -> tuple[Array, Array, Array]:
    """diag(A), W and h in float64."""
    A, W, h = (parameter.detach().double().numpy() for parameter in (rnn.A, rnn.W, rnn.h))
    return np.diag(np.concatenate((np.zeros(len(h) - len(A)), A))), W, h


def regime_map(rnn: ALRNN, code: tuple[bool, ...]) -> Array:
    """A + W D."""
    A, W, h = plain(rnn)
    return A + W @ np.diag(np.concatenate((np.ones(len(h) - len(code)), np.array(code, dtype=float))))


def random_network(seed: int) -> ALRNN:
    rng = np.random.default_rng(seed)
    size = int(rng.integers(1, 13))
    units = [int(rng.integers(0, min(size, 8) + 1)), 0, min(size, 8)][(0, 0, 0, 0, 1, 2)[seed % 6]]
    if seed % 6 == 5:
        size = units  # every unit rectified
    gain = rng.uniform(0.5, 3.0)
    A = rng.uniform(-0.5, 0.95, size if seed % 2 else units)
    return build(A, rng.normal(size=(size, size)) * gain / math.sqrt(size), rng.normal(size=size), units)


def random_map(size: int, units: int, gain: float, seed: int) -> ALRNN:
    """A network of given size with random weights, h ~ N(0, 1)."""
    rng = np.random.default_rng(seed)
    A = rng.uniform(0.3, 0.95, size)
    return build(A, rng.normal(size=(size, size)) * gain / math.sqrt(size), rng.normal(size=size), units)


def tent_map() -> ALRNN:
    """x' = 1 − 2|x| = 1 + 2x − 4 φ(x)."""
    return build([2.0], [[-4.0]], [1.0], 1)


def mutual_inhibition() -> ALRNN:
    """Two units of which one wins: fixed points (2, −2), (−2, 2) and a saddle between them."""
    return build([0.5, 0.5], [[0.0, -1.0], [-1.0, 0.0]], [1.0, 1.0], 2)


def rotation(radius: float, angle: float) -> Array:
    return radius * np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


def linear(W: object) -> ALRNN:
    """z' = W z."""
    return build([], W, np.zeros(len(np.asarray(W))), 0)


def uncoupled(units: int) -> ALRNN:
    """z = 3 φ(z) − 1 in each unit: a fixed point in each regime, at −1 or 0.5 in each unit."""
    return build(np.zeros(units), 3.0 * np.eye(units), -np.ones(units), units)


def flip_flop(bits: int = 3) -> ALRNN:
    """A memory of some bits: 3^bits fixed points of which 2^bits are stable.

    A bit is x with x' = 0.5 x + φ(x + 1) − φ(x − 1) − 1, a slope of 1.5 within ±1 and 0.5 outside. Two rectified units
    see x one step later: p' = x' + 1 and n' = x' − 1, so that W_N p carries it. Input i sets bit i.
    """
    size = 3 * bits
    W, h = np.zeros((size, size)), np.zeros(size)
    C = np.zeros((size, bits))
    for bit in range(bits):
        p, n = bits + bit, 2 * bits + bit
        for unit, offset in ((bit, 0.0), (p, 1.0), (n, -1.0)):
            W[unit, bit], W[unit, p], W[unit, n] = 0.5, 1.0, -1.0
            h[unit] = offset - 1.0
            C[unit, bit] = 1.0
    return build(np.zeros(size), W, h, 2 * bits, C=C)
