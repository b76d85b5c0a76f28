"""The map of a network under a constant input, read into float64.

Whatever solves or decomposes many small matrices computes in numpy: torch's threads wait for one another there, a
hundred times longer than they compute where data loaders keep the cores busy. Arrays and tensors share their memory.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence, jvp, step_matrix

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_CHUNK_ELEMENTS = 2**22
"""Entries of a batch of matrices, 32 MB."""


@dataclass(frozen=True)
class System:
    """The map z' = A z + W φ*(z) + drive.

    Attributes:
        recurrence: Parameters in float64 on the CPU, with the drive C s + h in place of h and C of shape ``(M, 0)``.
        terms: |C| |s| + |h|, shape ``(M,)``. Rounding in the drive is measured against it.
        scale: Units that z is in, shape ``(M,)``: z times ``scale`` is the network's state.
        source: Rows of A, W and drive that give the entries of z', ``(M,)``, if copies of a network feed one another.
    """

    recurrence: Recurrence
    terms: Floats
    scale: Floats
    source: NDArray[np.int64] | slice = field(default_factory=lambda: slice(None))

    @cached_property
    def self_connections(self) -> Floats:
        """A, shape ``(M, M)``."""
        return np.asarray(np.diag(self.recurrence.A.numpy())[self.source], dtype=np.float64)

    @cached_property
    def coupling(self) -> Floats:
        """W, shape ``(M, M)``."""
        return np.asarray(self.recurrence.W.numpy()[self.source], dtype=np.float64)

    @cached_property
    def drive(self) -> Floats:
        """Constant that is added at each step, shape ``(M,)``."""
        return np.asarray(self.recurrence.h.numpy()[self.source], dtype=np.float64)

    @property
    def size(self) -> int:
        """M."""
        return len(self.terms)

    @property
    def units(self) -> int:
        """P, the number of rectified units."""
        return int(self.recurrence.P)

    @property
    def linear(self) -> int:
        """M−P, the number of units that are never rectified."""
        return self.size - self.units


def read_recurrence(rnn: ALRNN | Recurrence) -> Recurrence:
    """Read the parameters in float64 on the CPU: in the network's own precision, A + W would already be rounded."""
    if isinstance(rnn, ALRNN):
        parameters, units = rnn.recurrence(), rnn.nonlinear_units  # P itself may be on a device
    elif isinstance(rnn, Recurrence):
        parameters, units = rnn, int(rnn.P)
    else:
        raise TypeError(f"rnn must be an ALRNN or a Recurrence(A, W, C, h, P), got {type(rnn).__name__}")
    fields = zip("AWCh", parameters[:4], strict=True)
    read = {name: _finite(f"parameter {name}", value) for name, value in fields if value is not None}
    size = read["h"].numel()
    shapes = {"A": (size,), "W": (size, size), "h": (size,), "C": (size, *read.get("C", read["h"]).shape[-1:])}
    for name, value in read.items():
        if value.shape != shapes[name]:
            raise ValueError(
                f"parameter {name} must have shape {shapes[name]} where h has {size} entries, got {tuple(value.shape)}"
            )
    if size == 0:
        raise ValueError("the network must have at least one unit, got none")
    if not 0 <= units <= size:
        raise ValueError(f"P must lie between 0 and M={size}, got {units}")
    return Recurrence(read["A"], read["W"], read.get("C"), read["h"], units)


def input_width(recurrence: Recurrence) -> tuple[str, int]:
    """Name that messages use for the width of the inputs, and the width: K, or M where inputs are added directly."""
    return ("hidden_size", len(recurrence.h)) if recurrence.C is None else ("input_size", recurrence.C.shape[1])


def check_constant(recurrence: Recurrence, inputs: Tensor) -> None:
    """Raise ``ValueError`` unless the inputs are one constant, shape ``(K,)``."""
    name, width = input_width(recurrence)
    if inputs.shape != (width,):
        raise ValueError(f"inputs must have shape ({name},) = ({width},), one constant, got {tuple(inputs.shape)}")


def read_system(rnn: ALRNN | Recurrence, inputs: Tensor | None = None) -> System:
    """Map of a network under a constant input of shape ``(K,)``; ``None`` for zeros."""
    recurrence = read_recurrence(rnn)
    drive, terms = recurrence.h, recurrence.h.abs()
    if inputs is not None:
        check_constant(recurrence, inputs)
        s = _finite("inputs", inputs)
        drive, terms = recurrence.drive(s), recurrence.absolute().drive(s.abs())
    undriven = recurrence._replace(C=drive.new_zeros(len(drive), 0), h=drive)
    return System(undriven, terms.numpy(), np.ones(len(drive)))


def balance(system: System) -> System:
    """The same map with each unit in a scale of its own, so that a small unit beside a large one loses no digits.

    The result is the same, up to a factor of two, for any diagonal S in z → S z, W → S W S⁻¹ and drive → S drive. The
    scales are powers of two, so that nothing is rounded.
    """
    size = system.size
    nonlinear = np.arange(size) >= system.linear
    all_on = np.ones(system.units, dtype=np.bool_)
    matrix = np.abs(_without_rounding(equations(system, all_on), magnitudes(system, all_on)))
    off = np.abs(1.0 - system.recurrence.A.numpy())
    on = np.diag(matrix)
    both = nonlinear & (on > 0) & (off > 0)
    matrix[np.arange(size), np.arange(size)] = np.where(both, np.sqrt(on * off), np.maximum(on, nonlinear * off))
    _, scale = equilibrate(np.column_stack((matrix, np.abs(system.drive))))
    scale = scale[:-1] / scale[-1]
    return System(system.recurrence.scaled(tensor(scale)), system.terms / scale, system.scale * scale)


def equilibrate(matrix: Floats) -> tuple[Floats, Floats]:
    """Powers of two that scale the rows and columns of a non-negative matrix so that their large entries are near 1.

    They minimise Σ w_ij (log|K_ij| + log r_i + log c_j)² over the entries that are not zero, which does not depend on
    how rows and columns were scaled; the weights w_ij, at first 1, are then the entries' shares of rows and columns.
    """
    rows, columns = matrix.shape[-2:]
    nonzero = matrix > 0
    logarithms = np.log2(np.where(nonzero, matrix, 1.0))
    weights = nonzero.astype(np.float64)
    factors = np.zeros((*matrix.shape[:-2], rows + columns))
    diagonal = np.arange(rows + columns)
    for _ in range(4):
        current = nonzero * (logarithms + factors[..., :rows, None] + factors[..., None, rows:])
        normal = np.zeros((*matrix.shape[:-2], rows + columns, rows + columns))
        normal[..., :rows, rows:], normal[..., rows:, :rows] = weights, weights.mT
        normal[..., diagonal, diagonal] = np.concatenate((weights.sum(axis=-1), weights.sum(axis=-2)), axis=-1) + 1e-9
        side = weights * current
        side = -np.concatenate((side.sum(axis=-1), side.sum(axis=-2)), axis=-1)
        factors += np.linalg.solve(normal, side[..., None])[..., 0]
        current = np.where(nonzero, logarithms + factors[..., :rows, None] + factors[..., None, rows:], -1e3)
        largest = (current.max(axis=-1, keepdims=True) + current.max(axis=-2, keepdims=True)) / 2
        weights = nonzero * np.exp2(np.maximum(np.minimum(current - largest, 0.0), -1e3))
    return np.exp2(np.rint(factors[..., :rows])), np.exp2(np.rint(factors[..., rows:]))


def magnitudes(system: System, codes: Bools) -> Floats:
    """I + |A| + |W| D, the sizes of the terms that add up to I − A − W D."""
    size: Floats = np.eye(system.size) + np.abs(system.self_connections)
    return step_matrix(size, np.abs(system.coupling), regime_slopes(system, codes))


def _without_rounding(matrix: Floats, size: Floats, tolerance: float = 0.0) -> Floats:
    """Set entries to zero that are rounding errors of terms of that size."""
    return np.where(np.abs(matrix) <= max(tolerance, 64 * np.finfo(np.float64).eps) * size, 0.0, matrix)


def _finite(name: str, values: Tensor) -> Tensor:
    """Values in float64 on the CPU; raise ``ValueError`` if one of them is not finite."""
    values = values.detach().cpu().double()
    if not np.isfinite(values.numpy()).all():
        raise ValueError(f"{name} must be finite, but has NaN or infinite entries")
    return values


def read_states(name: str, states: Tensor, size: int) -> Tensor:
    """States ``(…, M)`` in float64 on the CPU; raise ``ValueError`` if one is not finite or the shape is wrong."""
    if states.ndim < 1 or states.shape[-1] != size:
        raise ValueError(f"{name} must have shape (…, M={size}), got {tuple(states.shape)}")
    return _finite(name, states)


def read_codes(codes: Tensor, units: int) -> Bools:
    """Regimes ``(n, P)``, bool or 0/1, as bool on the CPU; raise ``ValueError`` if they have another shape."""
    if codes.ndim != 2 or codes.shape[1] != units:
        raise ValueError(f"regimes must have shape (n, P={units}), got {tuple(codes.shape)}")
    return np.asarray((codes.detach().cpu() != 0).numpy(), dtype=np.bool_)


def pack_codes(codes: Bools) -> list[bytes]:
    """A key for each regime."""
    return [row.tobytes() for row in np.packbits(codes, axis=1)]


def unique_codes(codes: Bools) -> Bools:
    """Each row once, sorted by their bits in 64-bit words, which sort much faster than rows."""
    packed = np.packbits(codes, axis=1)
    words = max(1, -(-packed.shape[1] // 8))
    padded = np.zeros((len(codes), 8 * words), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    keys = padded.view(np.uint64)
    _, first = np.unique(keys[:, 0] if words == 1 else keys, axis=0, return_index=True)
    return codes[first]


def most_frequent(codes: Bools) -> Bools:
    """Each row once, the most frequent first."""
    _, first, counts = np.unique(np.packbits(codes, axis=1), axis=0, return_index=True, return_counts=True)
    return codes[first[np.argsort(-counts, kind="stable")]]


def regime_slopes(system: System, codes: Bools) -> Floats:
    """Diagonal of D: 1 for linear units, their bits for the others."""
    return np.concatenate((np.ones((*codes.shape[:-1], system.linear)), codes), axis=-1)


def regime_matrices(system: System, codes: Bools) -> Floats:
    """A + W D of each regime, ``(…, P)`` to ``(…, M, M)``."""
    return step_matrix(system.self_connections, system.coupling, regime_slopes(system, codes))


def equations(system: System, codes: Bools) -> Floats:
    """I − A − W D of each regime, ``(…, P)`` to ``(…, M, M)``."""
    return np.eye(system.size) - regime_matrices(system, codes)


def scaling_of(matrix: Floats, size: Floats, tolerance: float = 0.0) -> tuple[Floats, Floats]:
    """Factors of rows and columns for an accurate decomposition of I − J; its rounding errors do not count."""
    return equilibrate(np.abs(_without_rounding(matrix, size, tolerance)))


def exact_residual(system: System, z: Floats, codes: Bools) -> Floats:
    """Residual drive − (I − A − W D) z of states ``(n, M)``, as if computed with twice the digits.

    Reference: Ogita, Rump & Oishi, SIAM Journal on Scientific Computing 26:1955 (2005).
    """
    products, errors = _two_product(system.coupling, (regime_slopes(system, codes) * z)[:, None, :])
    decayed, rounded = (part[:, system.source] for part in _two_product(system.recurrence.A.numpy(), z))
    rest = errors.sum(axis=2) + rounded
    parts = np.concatenate((np.stack((np.broadcast_to(system.drive, z.shape), -z, decayed), axis=2), products), axis=2)
    while parts.shape[2] > 1:  # in pairs
        half = parts.shape[2] // 2
        total, errors = _two_sum(parts[..., :half], parts[..., half : 2 * half])
        rest += errors.sum(axis=2)
        parts = np.concatenate((total, parts[..., 2 * half :]), axis=2)
    difference: Floats = parts[..., 0] + rest
    return difference


def _two_sum(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Sum a + b, rounded, and its rounding error."""
    total = a + b
    part = total - a
    return total, (a - (total - part)) + (b - part)


def _two_product(a: Floats, b: Floats) -> tuple[Floats, Floats]:
    """Product a · b, rounded, and its rounding error."""
    product = a * b
    high_a, low_a = _split(a)
    high_b, low_b = _split(b)
    return product, low_a * low_b - (((product - high_a * high_b) - low_a * high_b) - high_a * low_b)


def _split(a: Floats) -> tuple[Floats, Floats]:
    """High and low half of the digits."""
    shifted = 134217729.0 * a
    high = shifted - (shifted - a)
    return high, a - high


def term_sizes(system: System, z: Floats, codes: Bools) -> Floats:
    """|A z| + |W| |φ*(z)| + |C| |s| + |h| + |z|, the sizes of the terms that add up to zero at a fixed point."""
    size = np.abs(z)
    absolute = np.abs(system.recurrence.A.numpy()), np.abs(system.recurrence.W.numpy())
    moved: Floats = jvp(*absolute, size, regime_slopes(system, codes))[..., system.source]
    return moved + system.terms + size


def next_states(system: System, z: Floats) -> Floats:
    """Next states of a single network, not of copies."""
    slopes = regime_slopes(system, z[..., system.linear :] > 0)
    return jvp(system.recurrence.A.numpy(), system.coupling, z, slopes) + system.drive


def apply(matrices: Floats, vectors: Floats) -> Floats:
    """Products of matrices ``(…, n, m)`` and vectors ``(…, m)``."""
    product: Floats = (matrices @ vectors[..., None])[..., 0]
    return product


def in_chunks(codes: Bools, size: int) -> Iterator[Bools]:
    """Batches of rows whose matrices, of size² entries each, do not take too much memory; at least one batch."""
    rows = max(1, _CHUNK_ELEMENTS // max(size**2, 1))
    for start in range(0, max(len(codes), 1), rows):
        yield codes[start : start + rows]


def eigenvalues_by_regime(system: System, codes: Bools) -> NDArray[np.complex128]:
    """Eigenvalues of A + W D of each regime, by descending modulus, ``(n, P)`` to ``(n, M)``."""
    values = [np.linalg.eigvals(regime_matrices(system, chunk)) for chunk in in_chunks(codes, system.size)]
    return by_modulus(np.concatenate(values))


def sort_modes(
    values: NDArray[np.complex128], vectors: NDArray[np.complex128], keys: Floats
) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Sort eigenvalues ``(n, M)`` and eigenvectors, in columns, by ascending keys."""
    order = np.argsort(keys, axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(vectors, order[:, None, :], axis=2)


def by_modulus(values: NDArray[Any]) -> NDArray[np.complex128]:
    """Sort each row of eigenvalues by descending modulus."""
    values = values.astype(np.complex128)
    return np.take_along_axis(values, np.argsort(-np.abs(values), axis=1, kind="stable"), axis=1)


def regime_product(system: System, codes: Bools) -> tuple[Floats, Floats]:
    """Scaled products ``(n, M, M)`` of the matrices of ``(n, k, P)`` regimes, and logarithms of the scales."""
    size = system.size
    product: Floats = np.broadcast_to(np.eye(size), (len(codes), size, size))
    logarithm = np.zeros(len(codes))
    for step in range(codes.shape[1]):
        product = regime_matrices(system, codes[:, step]) @ product
        scale = np.maximum(np.abs(product).max(axis=(1, 2), initial=0.0), 1e-300)
        product = product / scale[:, None, None]
        logarithm += np.log(scale)
    return product, logarithm


def tensor(array: NDArray[Any]) -> Tensor:
    """A tensor on the CPU with its own memory."""
    return torch.from_numpy(np.array(array, order="C"))
