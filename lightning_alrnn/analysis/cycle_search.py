"""Cycles of an almost-linear RNN under a constant input.

A cycle of period k is a fixed point of k copies of the network in a ring, each of which feeds the next one: a piecewise
linear map of kM units of which kP are rectified. So all that finds fixed points finds cycles as well, and
without the products of k Jacobians, which lose digits where the dynamics expand.
"""

from __future__ import annotations

import math
import time
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.analysis.decisions import Decided, Piece, decide, merge, merge_continua, within_continua
from lightning_alrnn.analysis.fixed_point_search import (
    MOST_CANDIDATES,
    MOST_UNITS,
    TOLERANCE,
    check_candidates,
    check_search,
    choose_methods,
    stability_of,
    timescales,
)
from lightning_alrnn.analysis.pivots import base_regime, reduce_system, screen
from lightning_alrnn.analysis.sign_iteration import search
from lightning_alrnn.analysis.system import (
    Bools,
    Floats,
    System,
    balance,
    next_states,
    read_states,
    read_system,
    regime_matrices,
    tensor,
)
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

_MOST_SEEDS = 4096
"""Code sequences of trajectories that the seeded search starts from, the most frequent first."""


class CycleContinuum(NamedTuple):
    """Cycles that are not isolated: the z + Σ_j c_j v_j that stay in the regimes of ``code``.

    Attributes:
        code: the regimes, in order, bool of shape ``(k, P)``.
        z: one of the cycles, float64 of shape ``(k, M)``.
        directions: the v_j, orthonormal as vectors of k·M entries, float64 of shape ``(d, k, M)``.
        extent: the least and the greatest c_j (the other coefficients being free), float64 of shape ``(d, 2)``.
    """

    code: Tensor
    z: Tensor
    directions: Tensor
    extent: Tensor


class CycleSet(NamedTuple):
    """The cycles of one period, each once: of its k rotations the one with the lowest code sequence.

    A code sequence is read as a binary number of which the first step's first unit is the lowest bit.

    Attributes:
        z: states of the isolated cycles in order, each the next of the one before and the first of the last, float64 of
            shape ``(n, k, M)``.
        code: their regimes, bool of shape ``(n, k, P)``.
        multipliers: eigenvalues of the product of the k Jacobians, by descending modulus, complex128 of shape
            ``(n, M)``; they are the same from each point of a cycle.
        stability: n strings, by the multipliers' moduli as for fixed points: "stable", "saddle", "unstable" or
            "marginal".
        timescales: −k/ln|μ| of the multipliers μ, in steps, float64 of shape ``(n, M)``.
        on_border: whether some unit is at z = 0 at some step within the tolerance, bool of shape ``(n,)``.
        residual: largest absolute difference between the next of a state and the following one, float64 of shape
            ``(n,)``.
        complete: whether these are all cycles of the period: every sequence of regimes was searched and decided.
        certificate: "complete" or "not certified".
        method: "exhaustive" or "heuristic".
        continua: cycles that are not isolated.
        sequences_searched: number of sequences of regimes; rotations count each.
    """

    z: Tensor
    code: Tensor
    multipliers: Tensor
    stability: list[str]
    timescales: Tensor
    on_border: Tensor
    residual: Tensor
    complete: bool
    certificate: str
    method: str
    continua: tuple[CycleContinuum, ...]
    sequences_searched: int


def cycles(
    rnn: ALRNN | Recurrence,
    period: int,
    inputs: Tensor | None = None,
    *,
    method: Literal["auto", "exhaustive", "heuristic"] = "auto",
    seed_states: Tensor | None = None,
    max_exhaustive_units: int = MOST_UNITS,
    restarts: int = 500,
    seed: int = 0,
    time_limit: float = 60.0,
    border_tolerance: float = TOLERANCE,
    singular_tolerance: float = TOLERANCE,
    marginal_tolerance: float = 1e-6,
) -> CycleSet:
    """Find the cycles of minimal period k: z_1 → z_2 → … → z_k → z_1 and no sooner.

    Args:
        rnn: the network, or its parameters.
        period: k, at least 1 (cycles of period 1 are the fixed points).
        inputs: the constant input s, shape ``(K,)``; ``None`` for zeros.
        method: "exhaustive" searches all 2^{kP} sequences of regimes, kP ≤ 20; "heuristic" starts from sequences that
            ``seed_states`` went through and from random ones, and may miss cycles; "auto" takes the former up to
            kP = ``max_exhaustive_units`` if ``time_limit`` is enough for all of them.
        seed_states: trajectories, shape ``(batch, time, M)``.
        max_exhaustive_units: see above, at most 20.
        restarts: number of random sequences that the seeded search starts from.
        seed: of these.
        time_limit: seconds that "auto" may search all sequences for, beyond the first 2^12, and that the seeded search
            may take.
        border_tolerance: That of :func:`~lightning_alrnn.analysis.fixed_points`.
        singular_tolerance: as there, of I − J of the k copies.
        marginal_tolerance: distance of |μ| from 1 within which a mode neither decays nor grows.

    Raises:
        ValueError: if a parameter or the input is not finite, a shape does not fit, an option is unknown or out of
            range, kP is too large for "exhaustive", or there are more than 65,536 candidates.

    Example:
        x' = 1 − 2|x| is chaotic: 2, 1, 2, 3, 6, … cycles of period 1, 2, 3, 4, 5, …

        >>> import torch
        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(2.0), rnn.W.fill_(-4.0), rnn.h.fill_(1.0)
        >>> [len(cycles(rnn, period).z) for period in range(1, 6)]
        [2, 1, 2, 3, 6]

    Reference:
        Eisenmann, Monfared, Göring & Durstewitz, "Bifurcations and loss jumps in RNN training", NeurIPS 2023
        (arXiv:2310.17561).
    """
    if period < 1:
        raise ValueError(f"period must be at least 1, got {period}")
    if not 0 <= max_exhaustive_units <= MOST_UNITS:
        raise ValueError(f"max_exhaustive_units must lie between 0 and {MOST_UNITS}, got {max_exhaustive_units}")
    if method not in ("auto", "exhaustive", "heuristic"):
        raise ValueError(f"method must be one of 'auto', 'exhaustive', 'heuristic', got {method!r}")
    check_search(restarts, time_limit, border_tolerance, singular_tolerance, marginal_tolerance)
    system = balance(read_system(rnn, inputs))
    units = system.units
    seeds = _sequences(system, period, seed_states)
    methods = choose_methods(method, period * units, max_exhaustive_units, None)
    copies = _copies(system, period)
    start = time.monotonic()
    reduced = reduce_system(copies, base_regime(copies), singular_tolerance)
    candidates = None
    if "exhaustive" in methods or units == 0:
        candidates = screen(reduced, time_limit if len(methods) > 1 else math.inf)
    chosen, searched = methods[0], 2 ** (period * units)
    complete = candidates is not None and not (len(methods) > 1 and len(candidates) > MOST_CANDIDATES)
    if candidates is None or not complete:
        chosen = methods[-1]
        remaining = max(0.0, start + time_limit - time.monotonic())
        candidates, searched = search(reduced, seeds, restarts, seed, remaining)
    check_candidates(len(candidates), "sequences of regimes")
    decided = decide(copies, candidates, border_tolerance, singular_tolerance)
    z, code, border = _isolated(decided, system, period)
    complete = complete and decided.complete

    multipliers = tensor(_multipliers(system, code))
    return CycleSet(
        z=tensor(z * system.scale),
        code=tensor(code),
        multipliers=multipliers,
        stability=stability_of(multipliers, marginal_tolerance),
        timescales=period * timescales(multipliers),
        on_border=tensor(np.any(border, axis=(1, 2))),
        residual=tensor(
            np.abs((next_states(system, z) - np.roll(z, -1, axis=1)) * system.scale).max(axis=(1, 2), initial=0.0)
        ),
        complete=complete,
        certificate="complete" if complete else "not certified",
        method=chosen,
        continua=_continua(decided, system, period),
        sequences_searched=searched,
    )


def _copies(system: System, period: int) -> System:
    """The k copies in a ring, all their linear units before all their nonlinear ones."""
    A, W, C, h, P = system.recurrence
    place = _places(len(h), system.linear, period)
    source = np.empty(place.size, dtype=np.int64)
    source[place] = np.roll(place, 1, axis=0)
    order = np.argsort(place, axis=None)
    several = Recurrence(A.repeat(period), tensor(np.kron(np.eye(period), W.numpy())), C, h.repeat(period), period * P)
    terms, scale = (np.tile(values, period)[order] for values in (system.terms, system.scale))
    return System(several.permuted(order.tolist()), terms, scale, source)


def _places(size: int, linear: int, period: int) -> NDArray[np.int64]:
    """Where each copy's units stand among those of all, shape ``(k, M)``."""
    copy = np.arange(period)[:, None]
    first, last = np.arange(linear), np.arange(size - linear)
    return np.hstack((copy * linear + first, period * linear + copy * (size - linear) + last))


def _sequences(system: System, period: int, states: Tensor | None) -> Bools:
    """The sequences of k regimes that trajectories went through, the most frequent first, shape ``(n, k·P)``."""
    nothing = np.zeros((0, period * system.units), dtype=np.bool_)
    if states is None:
        return nothing
    if states.ndim != 3:
        raise ValueError(f"seed_states must have shape (batch, time, M), got {tuple(states.shape)}")
    codes = system.recurrence.regime(read_states("seed_states", states, system.size)).numpy()
    if codes.shape[1] < period or not len(codes):
        return nothing
    windows = np.lib.stride_tricks.sliding_window_view(codes, period, axis=1)  # (batch, windows, P, k)
    rows = np.moveaxis(windows, -1, 2).reshape(math.prod(windows.shape[:2]), period * system.units)
    _, first, counts = np.unique(np.packbits(rows, axis=1), axis=0, return_index=True, return_counts=True)
    kept: Bools = rows[first[np.argsort(-counts, kind="stable")[:_MOST_SEEDS]]]
    return kept


def _isolated(decided: Decided, system: System, period: int) -> tuple[Floats, Bools, Bools]:
    """States, regimes and units on the border of the isolated cycles, each once, sorted by code sequence."""
    size, units = system.size, system.units
    z, code, border, _ = merge(decided.solutions)
    single = ~within_continua(code, border, merge_continua(decided.continua))
    z = z[single][:, _places(size, system.linear, period)]
    code, border = (bits[single].reshape(len(z), period, units) for bits in (code, border))
    kept: dict[bytes, tuple[int, int]] = {}
    for row in range(len(z)):
        if not any(_repeats(code[row], border[row], shift) for shift in _divisors(period)):
            rotation = _lowest_rotation(code[row])
            kept.setdefault(np.roll(code[row], -rotation, axis=0)[::-1, ::-1].tobytes(), (row, rotation))
    order = [kept[key] for key in sorted(kept)]

    def turned(array: NDArray[np.float64] | Bools) -> list[NDArray[np.float64] | Bools]:
        return [np.roll(array[row], -rotation, axis=0) for row, rotation in order]

    return (
        np.array(turned(z), dtype=np.float64).reshape(len(order), period, size),
        np.array(turned(code), dtype=np.bool_).reshape(len(order), period, units),
        np.array(turned(border), dtype=np.bool_).reshape(len(order), period, units),
    )


def _divisors(period: int) -> list[int]:
    """The proper divisors."""
    return [shift for shift in range(1, period) if period % shift == 0]


def _repeats(code: Bools, border: Bools, shift: int) -> bool:
    """Whether a cycle has the period ``shift``: isolated ones do where their regimes do, up to units that are zero."""
    free = border | np.roll(border, shift, axis=0)
    return bool(((code == np.roll(code, shift, axis=0)) | free).all())


def _lowest_rotation(code: Bools) -> int:
    return min(range(len(code)), key=lambda shift: np.roll(code, -shift, axis=0)[::-1, ::-1].tobytes())


def _continua(decided: Decided, system: System, period: int) -> tuple[CycleContinuum, ...]:
    """The continua that do not consist of cycles of a shorter period, each once."""
    place = _places(system.size, system.linear, period)
    kept: dict[bytes, CycleContinuum] = {}
    for piece in merge_continua(decided.continua):
        code = piece.code.reshape(period, system.units)
        z, directions = piece.z[place], piece.directions[:, place]
        balanced = z / system.scale, directions / system.scale
        if any(_is_shorter(piece, code, *balanced, shift) for shift in _divisors(period)):
            continue
        turn = -_lowest_rotation(code)
        code = np.roll(code, turn, axis=0)
        z, directions = np.roll(z, turn, axis=0), np.roll(directions, turn, axis=1)
        kept.setdefault(
            code.tobytes(), CycleContinuum(tensor(code), tensor(z), tensor(directions), tensor(piece.extent))
        )
    return tuple(kept.values())


def _is_shorter(piece: Piece, code: Bools, z: Floats, directions: Floats, shift: int) -> bool:
    border = piece.border.reshape(code.shape)
    size, length = (max(float(np.abs(vectors).max(initial=0.0)), 1e-300) for vectors in (z, directions))
    return (
        _repeats(code, border, shift)
        and float(np.abs(z - np.roll(z, shift, axis=0)).max(initial=0.0)) <= 1e-6 * size
        and float(np.abs(directions - np.roll(directions, shift, axis=1)).max(initial=0.0)) <= 1e-6 * length
    )


def _multipliers(system: System, code: Bools) -> NDArray[np.complex128]:
    """Eigenvalues of the products of Jacobians, shape ``(n, k, P)`` to ``(n, M)``."""
    size = system.size
    product = np.broadcast_to(np.eye(size), (len(code), size, size))
    logarithm = np.zeros((len(code), 1))
    for step in range(code.shape[1]):
        product = regime_matrices(system, code[:, step]) @ product
        scale = np.maximum(np.abs(product).max(axis=(1, 2), initial=0.0), 1e-300)  # long products may overflow
        product = product / scale[:, None, None]
        logarithm += np.log(scale)[:, None]
    with np.errstate(over="ignore"):
        values = np.linalg.eigvals(product) * np.exp(np.minimum(logarithm, math.log(1e300)))
    values = np.asarray(values, dtype=np.complex128)
    return np.take_along_axis(values, np.argsort(-np.abs(values), axis=1, kind="stable"), axis=1)
