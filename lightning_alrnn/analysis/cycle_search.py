"""Cycles of an almost-linear RNN under a constant input.

A cycle of period k is a fixed point of k copies of the network in a ring, each of which feeds the next one: a piecewise
linear map of kM units, kP of them rectified. So the searches for fixed points find cycles, and they need no products of
k Jacobians, which lose digits where the dynamics expand.
"""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.analysis.decisions import Decided, Piece, decide, merge, merge_continua, within_continua
from lightning_alrnn.analysis.fixed_point_search import (
    MOST_UNITS,
    TOLERANCE,
    Options,
    check_options,
    choose_methods,
    find_candidates,
    stability_of,
    timescales,
)
from lightning_alrnn.analysis.system import (
    Bools,
    Floats,
    System,
    balance,
    by_modulus,
    most_frequent,
    next_states,
    read_states,
    read_system,
    regime_product,
    tensor,
)
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

_MOST_SEEDS = 4096
"""Most code sequences of trajectories that the seeded search starts from."""


class CycleContinuum(NamedTuple):
    """Cycles that are not isolated: the z + Σ_j c_j v_j that stay in the regimes of ``code``.

    Attributes:
        code: Regimes, in order, bool of shape ``(k, P)``.
        z: One of the cycles, float64 of shape ``(k, M)``.
        directions: The v_j, orthonormal as vectors of k·M entries, float64 of shape ``(d, k, M)``.
        extent: Least and greatest c_j (the other coefficients being free), float64 of shape ``(d, 2)``.
    """

    code: Tensor
    z: Tensor
    directions: Tensor
    extent: Tensor


class CycleSet(NamedTuple):
    """Cycles of one period. Each is listed once, as the one of its k rotations with the lowest code sequence.

    A code sequence is read as a binary number whose lowest bit is the first unit of the first step.

    Attributes:
        z: States of the isolated cycles, in order, float64 of shape ``(n, k, M)``.
        code: Regimes of the states, bool of shape ``(n, k, P)``.
        multipliers: Eigenvalues of the product of the k Jacobians, by descending modulus, complex128 of shape
            ``(n, M)``.
        stability: n strings, by the moduli of the multipliers as for fixed points: "stable", "saddle", "unstable" or
            "marginal".
        timescales: −k/ln|μ| of the multipliers μ, in steps, float64 of shape ``(n, M)``.
        on_border: Whether some unit is at z = 0 at some step within the tolerance, bool of shape ``(n,)``.
        residual: Largest absolute difference between the next state that the map gives and the next state of the cycle,
            float64 of shape ``(n,)``.
        complete: Whether these are all cycles of the period: every sequence of regimes was searched and decided.
        certificate: "complete" or "not certified".
        method: "exhaustive" or "heuristic".
        continua: Cycles that are not isolated.
        sequences_searched: Number of sequences of regimes that were searched, rotations counted separately.
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
        rnn: Network, or its parameters.
        period: Period k, at least 1 (cycles of period 1 are the fixed points).
        inputs: Constant input s, shape ``(K,)``; ``None`` for zeros.
        method: "exhaustive" searches all 2^{kP} sequences of regimes, kP ≤ 20; "heuristic" starts from sequences in
            ``seed_states`` and from random ones, and may miss cycles; "auto" is "exhaustive" up to
            kP = ``max_exhaustive_units`` if ``time_limit`` suffices, otherwise "heuristic".
        seed_states: Trajectories, shape ``(batch, time, M)``.
        max_exhaustive_units: Largest kP, at most 20, for which "auto" searches all sequences.
        restarts: Number of random sequences that the heuristic search starts from.
        seed: Seed of the random sequences.
        time_limit: Seconds of "auto" for all sequences beyond the first 2^12, and of the heuristic search.
        border_tolerance: Tolerance as in :func:`~lightning_alrnn.analysis.fixed_points`.
        singular_tolerance: Tolerance as in :func:`~lightning_alrnn.analysis.fixed_points`, for I − J of the k copies.
        marginal_tolerance: Distance of |μ| from 1 within which a mode neither decays nor grows.

    Raises:
        ValueError: If a parameter or the input is not finite, a shape does not fit, an option is unknown or out of
            range, kP is too large for "exhaustive", or there are more than 65,536 candidates.

    Example:
        x' = 1 − 2|x| is chaotic: 2, 1, 2, 3, 6, … cycles of period 1, 2, 3, 4, 5, …

        >>> import torch
        >>> rnn = Recurrence(torch.tensor([2.0]), torch.tensor([[-4.0]]), None, torch.tensor([1.0]), P=1)
        >>> [len(cycles(rnn, period).z) for period in range(1, 6)]
        [2, 1, 2, 3, 6]

    Reference:
        Eisenmann, Monfared, Göring & Durstewitz, NeurIPS 2023 (arXiv:2310.17561).
    """
    if period < 1:
        raise ValueError(f"period must be at least 1, got {period}")
    system = balance(read_system(rnn, inputs))
    choices = "auto", "exhaustive", "heuristic"
    methods = choose_methods(method, period * system.units, max_exhaustive_units, choices=choices)
    options = Options(methods, restarts, seed, time_limit, border_tolerance, singular_tolerance, marginal_tolerance)
    check_options(options)
    copies = _copies(system, period)
    candidates = find_candidates(copies, _sequences(system, period, seed_states), options, "sequences of regimes")
    decided = decide(copies, candidates.codes, border_tolerance, singular_tolerance)
    z, code, border = _isolated(decided, system, period)
    complete = candidates.complete and decided.complete
    product, logarithm = regime_product(system, code)
    scale = np.exp(np.minimum(logarithm, math.log(1e300)))
    with np.errstate(over="ignore"):
        multipliers = tensor(by_modulus(np.linalg.eigvals(product) * scale[:, None]))
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
        method=candidates.method,
        continua=_continua(decided, system, period),
        sequences_searched=candidates.searched,
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
    """Indices of each copy's units among those of all, shape ``(k, M)``."""
    copy = np.arange(period)[:, None]
    first, last = np.arange(linear), np.arange(size - linear)
    return np.hstack((copy * linear + first, period * linear + copy * (size - linear) + last))


def _sequences(system: System, period: int, states: Tensor | None) -> Bools:
    """Most frequent sequences of k regimes in trajectories, the most frequent first, shape ``(n, k·P)``."""
    states = torch.zeros(0, period, system.size) if states is None else states
    if states.ndim != 3:
        raise ValueError(f"seed_states must have shape (batch, time, M), got {tuple(states.shape)}")
    codes = system.recurrence.regime(read_states("seed_states", states, system.size)).numpy()
    if codes.shape[1] < period:
        return np.zeros((0, period * system.units), dtype=np.bool_)
    windows = np.lib.stride_tricks.sliding_window_view(codes, period, axis=1)  # (batch, windows, P, k)
    rows = np.moveaxis(windows, -1, 2).reshape(math.prod(windows.shape[:2]), period * system.units)
    return most_frequent(rows)[:_MOST_SEEDS]


def _isolated(decided: Decided, system: System, period: int) -> tuple[Floats, Bools, Bools]:
    """States, regimes and units on the border of the isolated cycles, each once, sorted by code sequence."""
    size, units = system.size, system.units
    z, code, border, _ = merge(decided.solutions)
    single = ~within_continua(code, border, merge_continua(decided.continua))
    z = z[single][:, _places(size, system.linear, period)]
    code, border = (bits[single].reshape(len(z), period, units) for bits in (code, border))
    first_rows: dict[bytes, tuple[int, int]] = {}
    for row in range(len(z)):
        if not any(_repeats(code[row], border[row], shift) for shift in range(1, period) if period % shift == 0):
            rotation = _lowest_rotation(code[row])
            first_rows.setdefault(_sort_key(code[row], rotation), (row, rotation))
    order = np.array([first_rows[key] for key in sorted(first_rows)], dtype=np.int64).reshape(-1, 2)
    rows, steps = order[:, :1], (order[:, 1:] + np.arange(period)) % period
    return z[rows, steps], code[rows, steps], border[rows, steps]


def _repeats(code: Bools, border: Bools, shift: int) -> bool:
    """Whether a cycle has the period ``shift``: isolated ones do where their regimes do, up to units that are zero."""
    free = border | np.roll(border, shift, axis=0)
    return bool(((code == np.roll(code, shift, axis=0)) | free).all())


def _sort_key(code: Bools, rotation: int) -> bytes:
    return np.roll(code, -rotation, axis=0)[::-1, ::-1].tobytes()


def _lowest_rotation(code: Bools) -> int:
    return min(range(len(code)), key=lambda rotation: _sort_key(code, rotation))


def _continua(decided: Decided, system: System, period: int) -> tuple[CycleContinuum, ...]:
    """The continua that do not consist of cycles of a shorter period, each once."""
    place = _places(system.size, system.linear, period)
    continua: dict[bytes, CycleContinuum] = {}
    for piece in merge_continua(decided.continua):
        code = piece.code.reshape(period, system.units)
        z, directions = piece.z[place], piece.directions[:, place]
        balanced = z / system.scale, directions / system.scale
        if any(_is_shorter(piece, code, *balanced, shift) for shift in range(1, period) if period % shift == 0):
            continue
        turn = -_lowest_rotation(code)
        code = np.roll(code, turn, axis=0)
        z, directions = np.roll(z, turn, axis=0), np.roll(directions, turn, axis=1)
        continuum = CycleContinuum(*map(tensor, (code, z, directions, piece.extent)))
        continua.setdefault(code.tobytes(), continuum)
    return tuple(continua.values())


def _is_shorter(piece: Piece, code: Bools, z: Floats, directions: Floats, shift: int) -> bool:
    vectors = z[None], directions
    moved = [np.abs(values - np.roll(values, shift, axis=1)).max() <= 1e-6 * np.abs(values).max() for values in vectors]
    return _repeats(code, piece.border.reshape(code.shape), shift) and all(moved)
