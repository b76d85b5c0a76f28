"""All fixed points of an almost-linear RNN, with their stability.

Inside one linear regime the map is affine, so it has one fixed point there, (I − J) z = C s + h with the regime's
matrix J = A + W D; it is *real* if it lies in its own regime and *virtual* otherwise. All fixed points are found by
going through all 2^P regimes, which takes no M×M solve each. Let J and D be those of one regime, the base, and let
u = φ*(z_N) − D_N z_N ≥ 0 be what the P rectified units add to it. Then

    (I − J) z = W_N u + C s + h

leaves the P unknowns u alone: for every unit either u or its complement w ≥ 0 is zero, w = q + Q u. This is a linear
complementarity problem, its 2^P cases differ by principal pivots of Q, and a tree of pivots visits them at O(P²) each.
Whatever comes out of it is a candidate only, to be decided by an M×M solve in its own regime.

Where I − J is singular in the base regime, perhaps in every regime (a perfect integrator), its null directions stay as
further unknowns t: with the singular value decomposition I − J = U₁ Σ₁ V₁ᵀ + U₀ Σ₀ V₀ᵀ, small values in Σ₀,

    z = V₁ Σ₁⁻¹ U₁ᵀ (W_N u + C s + h) + V₀ t,    U₀ᵀ (W_N u + C s + h) = Σ₀ t.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.optimize import linprog
from torch import Tensor

from lightning_alrnn.nn.alrnn import ALRNN

# The computation is in numpy: on many small matrices torch's threads wait for one another, a hundred times longer than
# they compute where data loaders keep the cores busy.
Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

_MOST_UNITS = 20
"""2^20 regimes take about a second; beyond, exhaustion is not worth its while."""

_CHUNK_LEVELS = 12
"""The tree is worked off in subtrees of 2^12 regimes, which bounds the memory."""

_CHUNK_ELEMENTS = 2**22
"""Entries of a batch of matrices, 32 MB."""

_SLACK = 1e-7
"""Screening: how far, relative to the solution, a sign may be wrong in a candidate. M×M solves decide afterwards."""

_SMALL_PIVOT = 1e-4
"""Pivots below this share of their row and column make the tree's arithmetic unsafe."""

_ROUNDING = 1e-13
"""Screening: singular values below this share of the largest, or of 1, are zero up to rounding."""

_LP_TOLERANCE = 1e-6
"""Relative. The linear programs are solved to about 1e-7."""


class Continuum(NamedTuple):
    """Fixed points that fill a line, a half-line, a segment or a higher-dimensional piece of one regime.

    They are the z + Σ_j c_j v_j that lie in the regime, where the v_j span the null space of I − J. In an interior
    point of a line attractor every mode other than the v_j decays.

    Attributes:
        code: the regime, bool of shape ``(P,)``.
        z: one of the fixed points, float64 of shape ``(M,)``: the middle of a segment, on a half-line or line the one
            nearest to the origin, in higher dimensions one away from the regime's borders.
        directions: the v_j, orthonormal, float64 of shape ``(k, M)``. The largest entry of each is positive.
        extent: the least and the greatest c_j (the other coefficients being free), possibly infinite, float64 of shape
            ``(k, 2)``. For k=1 it gives the ends of the line.
    """

    code: Tensor
    z: Tensor
    directions: Tensor
    extent: Tensor


class FixedPointSet(NamedTuple):
    r"""The fixed points of a network under a constant input, n isolated ones and continua of them.

    Isolated points are sorted by their code, read as a binary number of which the first nonlinear unit is the lowest
    bit.

    Attributes:
        z: the isolated fixed points, float64 of shape ``(n, M)``.
        code: their regimes, z > 0 of the nonlinear units, bool of shape ``(n, P)``.
        stability: what each one is, n strings: "marginal" if some ||λ| − 1| is below the tolerance, otherwise "stable"
            (all |λ| < 1), "unstable" (all |λ| > 1) or "saddle" (both).
        eigenvalues: λ of J = A + W D in the point's regime, by descending modulus, complex128 of shape ``(n, M)``.
        timescales: −1/ln|λ| in steps, see :func:`timescales`, float64 of shape ``(n, M)``.
        on_border: whether a unit is at z = 0 within the tolerance, bool of shape ``(n,)``. The map has a kink there:
            units on the border count as off in ``code``, ``eigenvalues`` and ``stability``, while the regimes on the
            other side may say otherwise.
        visited: whether the regime (for a point on a border: one of the regimes that meet there) is among the visited
            ones, bool of shape ``(n,)``.
        residual: largest absolute entry of A z + W φ*(z) + C s + h − z, float64 of shape ``(n,)``.
        condition: condition number (2-norm) of I − J, float64 of shape ``(n,)``.
        complete: whether these are all fixed points: every regime was searched and decided.
        index_sum: Σ sign det(I − J) over the isolated points. Where the search is complete, no point is on a border and
            there are no continua, it depends neither on h nor on the input, and is 1 if all trajectories are bounded. A
            point on a border counts with the sign of its ``code``, a point with singular I − J with 0, so that the sum
            says nothing there.
        continua: fixed points that are not isolated, one entry for each regime's share.
        regimes_searched: number of regimes.
    """

    z: Tensor
    code: Tensor
    stability: list[str]
    eigenvalues: Tensor
    timescales: Tensor
    on_border: Tensor
    visited: Tensor
    residual: Tensor
    condition: Tensor
    complete: bool
    index_sum: int
    continua: tuple[Continuum, ...]
    regimes_searched: int


def fixed_points(
    rnn: ALRNN,
    inputs: Tensor | None = None,
    *,
    visited: Tensor | None = None,
    max_exhaustive_units: int = 12,
    border_tolerance: float = 1e-9,
    singular_tolerance: float = 1e-9,
    marginal_tolerance: float = 1e-6,
) -> FixedPointSet:
    r"""Find all z with z = A z + W φ*(z) + C s + h for a constant input s.

    All of it is computed in float64 on the CPU, whatever the network's dtype and device, and without gradients.

    A sign test at zero would lose points on the border between regimes to rounding, or count them once from each side.
    So a unit counts as on the border, and the solution in either regime as a fixed point, where |z_i| is at most
    ``border_tolerance`` of the sum of the absolute terms that make it up, |A_i z_i| + Σ_j |W_ij φ*(z_j)| + |C_i| |s| +
    |h_i|, plus a bound on the rounding error of the solve. What is found from several sides is reported once. The point
    then solves the equation up to a relative error of about ``border_tolerance``.

    Args:
        rnn: the network.
        inputs: s, shape ``(K,)``, or ``(M,)`` where the network has no ``input_size``; ``None`` for zeros.
        visited: regimes that trajectories visited, bool or 0/1 of shape ``(regimes, P)``. They mark fixed points as
            visited, and they are the ones searched where P is too large to search all.
        max_exhaustive_units: up to this P, at most 20, all 2^P regimes are searched; above it only the visited ones.
        border_tolerance: see above.
        singular_tolerance: share of the largest singular value of I − J, or of 1 if that is larger, below which one
            counts as zero. The regime then has either no fixed point or a continuum of them; it has one if C s + h is,
            to the same tolerance, within the range of I − J.
        marginal_tolerance: distance of |λ| from 1 within which a mode neither decays nor grows.

    Raises:
        ValueError: if a parameter or the input is not finite, a shape does not fit, ``max_exhaustive_units`` is out of
            range or a tolerance is not within 0 … 1e-3.

    Example:
        Two units that inhibit each other: one or the other wins, with a saddle between them.

        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=2)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.5), rnn.h.fill_(1.0)
        ...     _ = rnn.W.copy_(torch.tensor([[0.0, -1.0], [-1.0, 0.0]]))
        >>> found = fixed_points(rnn)
        >>> found.stability, found.complete, found.index_sum
        (['stable', 'stable', 'saddle'], True, 1)
        >>> found.z[0].tolist()
        [2.0, -2.0]

    References:
        Brenner & Koppe, "Uncovering the Computational Roles of Nonlinearity in Sequence Modeling Using Almost-Linear
        RNNs", TMLR 2026 (arXiv:2506.07919). Eisenmann, Monfared, Göring & Durstewitz, "Bifurcations and loss jumps in
        RNN training", NeurIPS 2023 (arXiv:2310.17561), search with restarts (SCYFI) where this search exhausts. Cottle,
        Pang & Stone, "The Linear Complementarity Problem", 1992, on principal pivots.
    """
    if not 0 <= max_exhaustive_units <= _MOST_UNITS:
        raise ValueError(f"max_exhaustive_units must lie between 0 and {_MOST_UNITS}, got {max_exhaustive_units}")
    for name, value in (
        ("border_tolerance", border_tolerance),
        ("singular_tolerance", singular_tolerance),
        ("marginal_tolerance", marginal_tolerance),
    ):
        if not 0 <= value <= 1e-3:
            raise ValueError(f"{name} must lie between 0 and 1e-3, got {value}")
    system = _read(rnn, inputs)
    units = rnn.nonlinear_units
    known = np.zeros((0, units), dtype=np.bool_) if visited is None else _read_codes(visited, units)

    if exhaustive := units <= max_exhaustive_units:
        candidates = _screen(_reduce(system, _base_regime(system)))
        searched = 2**units
    else:
        candidates = _unique_codes(known)
        searched = len(candidates)
    decided = _decide(system, candidates, border_tolerance, singular_tolerance)
    continua = _merge_continua(decided.continua)
    z, code, border = _merge(decided.solutions)
    isolated = ~_within_continua(code, border, continua)
    z, code, border = z[isolated], code[isolated], border[isolated]
    order = np.lexsort(np.hstack((z, code)).T)  # the last key, the last unit's bit, counts first
    z, code, border = z[order], code[order], border[order]

    eigenvalues = _eigenvalues(system, code)
    condition, index = _condition_and_index(system, code, singular_tolerance)
    return FixedPointSet(
        z=torch.from_numpy(z),
        code=torch.from_numpy(code),
        stability=_stability(eigenvalues, marginal_tolerance),
        eigenvalues=torch.from_numpy(eigenvalues),
        timescales=timescales(torch.from_numpy(eigenvalues)),
        on_border=torch.from_numpy(border.any(axis=1)),
        visited=torch.from_numpy(_is_visited(code, border, known)),
        residual=torch.from_numpy(_residual(system, z)),
        condition=torch.from_numpy(condition),
        complete=exhaustive and decided.complete,
        index_sum=int(index.sum()),
        continua=tuple(
            Continuum(*map(torch.from_numpy, (piece.code, piece.z, piece.directions, piece.extent)))
            for piece in continua
        ),
        regimes_searched=searched,
    )


def eigenvalues_of_regimes(rnn: ALRNN, codes: Tensor) -> Tensor:
    """Eigenvalues of the matrix A + W D of each regime, D = diag(1, …, 1, code), computed in float64.

    Args:
        rnn: the network.
        codes: regimes, bool or 0/1 of shape ``(n, P)``.

    Returns:
        complex128 of shape ``(n, M)`` on the CPU, by descending modulus.

    Raises:
        ValueError: if a parameter is not finite or a shape does not fit.

    Example:
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.5), rnn.W.fill_(-1.0)
        >>> eigenvalues_of_regimes(rnn, torch.tensor([[False], [True]])).real.tolist()
        [[0.5], [-0.5]]
    """
    return torch.from_numpy(_eigenvalues(_read(rnn, None), _read_codes(codes, rnn.nonlinear_units)))


def timescales(eigenvalues: Tensor) -> Tensor:
    """Time constant −1/ln|λ| of each mode, in steps.

    Args:
        eigenvalues: λ, of any shape.

    Returns:
        Of the same shape and real: the time in which a mode decays by a factor of e. Infinite where |λ| = 1, zero where
        λ = 0; for a growing mode, |λ| > 1, the negative of the time in which it grows by a factor of e.

    Example:
        >>> timescales(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [0.0, 1.4426950216293335, inf]
    """
    logarithm = eigenvalues.abs().log()
    return torch.where(logarithm == 0, torch.inf, -1.0 / logarithm)


class _System(NamedTuple):
    """The map z' = A z + W φ*(z) + drive.

    Attributes:
        diagonal: of A, shape ``(M,)``.
        W: shape ``(M, M)``.
        drive: C s + h, shape ``(M,)``.
        terms: |C| |s| + |h|, shape ``(M,)``, against which rounding in ``drive`` is measured.
        linear: M−P.
    """

    diagonal: Floats
    W: Floats
    drive: Floats
    terms: Floats
    linear: int


class _Reduced(NamedTuple):
    """The P×P form with k unknowns t: w = q + Q u + T t ≥ 0, 0 = c + S u − Σ₀ t.

    Attributes:
        table: [[Q, T], [S, −Σ₀]], shape ``(P+k, P+k)``.
        constant: [q, c], shape ``(P+k,)``.
        base: the regime in which u = 0, bool of shape ``(P,)``.
        spread: bound on |z|_∞ / |u|_∞ where drive and t are zero.
        offset: |z|_∞ where u and t are zero.
        drive: |C s + h|_∞.
    """

    table: Floats
    constant: Floats
    base: Bools
    spread: float
    offset: float
    drive: float


class _Nodes(NamedTuple):
    """Nodes of one level of the pivot tree.

    Attributes:
        table: coefficients of the undecided units and of t; a row for each unit (of u or w, whichever is not zero, once
            the unit is decided) and each condition, shape ``(nodes, P+k, undecided+k)``.
        constant: shape ``(nodes, P+k)``.
        active: of the decided units, those with u > 0, the bits of an int64 of shape ``(nodes,)``.
        unsafe: whether a pivot was small, bool of shape ``(nodes,)``.
    """

    table: Floats
    constant: Floats
    active: NDArray[np.int64]
    unsafe: Bools


class _Solutions(NamedTuple):
    """Isolated fixed points, a row each.

    Attributes:
        z: shape ``(n, M)``.
        code: the regimes in which they solve the equation, shape ``(n, P)``.
        border: units that are zero within the tolerance, shape ``(n, P)``.
    """

    z: Floats
    code: Bools
    border: Bools


class _Piece(NamedTuple):
    """A :class:`Continuum`, and the units that are zero all over it, bool of shape ``(P,)``."""

    code: Bools
    z: Floats
    directions: Floats
    extent: Floats
    border: Bools


class _Decided(NamedTuple):
    solutions: _Solutions
    continua: list[_Piece]
    complete: bool


def _read(rnn: ALRNN, inputs: Tensor | None) -> _System:
    """Take the parameters in float64: in the network's own precision, A + W would already be rounded."""
    read = {
        name: _to_numpy(f"parameter {name}", parameter)
        for name, parameter in (("A", rnn.A), ("W", rnn.W), ("C", rnn.C), ("h", rnn.h))
        if parameter is not None
    }
    drive, terms = read["h"], np.abs(read["h"])
    if inputs is not None:
        name, width = ("hidden_size", len(drive)) if rnn.C is None else ("input_size", rnn.C.shape[1])
        if inputs.shape != (width,):
            raise ValueError(f"inputs must have shape ({name},) = ({width},), one constant, got {tuple(inputs.shape)}")
        s = _to_numpy("inputs", inputs)
        weights = read.get("C", np.eye(width))
        drive, terms = drive + weights @ s, terms + np.abs(weights) @ np.abs(s)
    diagonal = np.zeros(len(drive))
    diagonal[len(drive) - len(read["A"]) :] = read["A"]
    return _System(diagonal, read["W"], drive, terms, rnn.linear_units)


def _to_numpy(name: str, values: Tensor) -> Floats:
    array: Floats = values.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"{name} must be finite, but has NaN or infinite entries")
    return array


def _read_codes(codes: Tensor, units: int) -> Bools:
    if codes.ndim != 2 or codes.shape[1] != units:
        raise ValueError(f"regimes must have shape (n, P={units}), got {tuple(codes.shape)}")
    read: Bools = (codes.detach().cpu() != 0).numpy()
    return read


def _unique_codes(codes: Bools) -> Bools:
    """Each row once, by their bits in 64-bit words, which sort much faster than rows."""
    packed = np.packbits(codes, axis=1)
    words = max(1, -(-packed.shape[1] // 8))
    padded = np.zeros((len(codes), 8 * words), dtype=np.uint8)
    padded[:, : packed.shape[1]] = packed
    keys = padded.view(np.uint64)
    _, first = np.unique(keys[:, 0] if words == 1 else keys, axis=0, return_index=True)
    return codes[first]


def _slopes(system: _System, codes: Bools) -> Floats:
    """The diagonal of D, shape ``(…, M)``."""
    return np.concatenate((np.ones((*codes.shape[:-1], system.linear)), codes), axis=-1)


def _regime_matrices(system: _System, codes: Bools) -> Floats:
    """A + W D of each regime, shape ``(…, M, M)``."""
    matrices: Floats = np.diag(system.diagonal) + system.W * _slopes(system, codes)[..., None, :]
    return matrices


def _equations(system: _System, codes: Bools) -> Floats:
    """I − A − W D of each regime, shape ``(…, M, M)``."""
    return np.eye(len(system.W)) - _regime_matrices(system, codes)


def _residual(system: _System, z: Floats) -> Floats:
    rectified = np.concatenate((z[:, : system.linear], np.maximum(z[:, system.linear :], 0.0)), axis=1)
    after = system.diagonal * z + rectified @ system.W.T + system.drive
    residual: Floats = np.abs(after - z).max(axis=1)
    return residual


def _in_chunks(codes: Bools, size: int) -> Iterator[Bools]:
    """Batches whose matrices, of size² entries each, do not take too much memory."""
    rows = max(1, _CHUNK_ELEMENTS // max(size**2, 1))
    for start in range(0, len(codes), rows):
        yield codes[start : start + rows]


# --- screening all regimes in the reduced problem ------------------------------------------------------------------


def _base_regime(system: _System) -> Bools:
    """The regime to start from: of a few, the one whose I − J is best conditioned; bool of shape ``(P,)``."""
    unit = np.arange(len(system.W) - system.linear)
    codes = np.stack((unit < 0, unit >= 0, unit % 2 == 0, unit % 2 == 1, unit % 4 < 2, unit % 4 > 1))
    values = np.linalg.svd(_equations(system, codes), compute_uv=False)
    best: Bools = codes[np.argmax(values[:, -1] / np.maximum(values[:, 0], 1.0))]
    return best


def _reduce(system: _System, base: Bools) -> _Reduced:
    """Eliminate z from the equation, with u = 0 in the base regime."""
    linear, units = system.linear, len(base)
    left, values, right = np.linalg.svd(_equations(system, base))
    rank = int(
        (values > 1e-4 * max(values[0], 1.0)).sum()
    )  # exact with any threshold; this one keeps Σ₁⁻¹ well conditioned
    sources = np.column_stack((system.W[:, linear:], system.drive))
    solved = right[:rank].T @ (left[:, :rank].T @ sources / values[:rank, None])
    conditions = left[:, rank:].T @ sources
    # w is z + u in a unit that is on in the base regime, and u − z in one that is off
    sign = np.where(base, 1.0, -1.0)
    complement = sign[:, None] * np.hstack((solved, right[rank:].T))[linear:]
    complement[:, :units] += np.eye(units)
    return _Reduced(
        table=np.block(
            [
                [complement[:, :units], complement[:, units + 1 :]],
                [conditions[:, :units], -np.diag(values[rank:])],
            ]
        ),
        constant=np.concatenate((complement[:, units], conditions[:, units])),
        base=base,
        spread=float(np.abs(solved[:, :units]).sum(axis=1).max()),
        offset=float(np.abs(solved[:, units]).max()),
        drive=float(np.abs(system.drive).max()),
    )


def _screen(reduced: _Reduced) -> Bools:
    """The regimes that may hold a fixed point, few false ones among them and none missing; shape ``(n, P)``."""
    units = len(reduced.base)
    top = max(0, units - _CHUNK_LEVELS)
    root = _Nodes(reduced.table[None], reduced.constant[None], np.zeros(1, dtype=np.int64), np.zeros(1, dtype=np.bool_))
    found = []
    with np.errstate(all="ignore"):  # unsafe nodes may overflow; they are screened again
        for unit in range(top):
            root = _branch(root, unit)
        for index in range(len(root.active)):
            one = slice(index, index + 1)
            nodes = _Nodes(root.table[one], root.constant[one], root.active[one], root.unsafe[one])
            for unit in range(top, units):
                nodes = _branch(nodes, unit)
            for row in range(units, len(reduced.constant)):
                nodes = _eliminate(nodes, row)
            found.append(_unique_codes(_screen_leaves(reduced, nodes)))
    return _unique_codes(np.concatenate(found))


def _branch(nodes: _Nodes, unit: int) -> _Nodes:
    """Decide a unit both ways: u = 0, or w = 0 and its u eliminated."""
    on = _eliminate(nodes, unit)
    return _Nodes(
        np.concatenate((nodes.table[:, :, 1:], on.table)),
        np.concatenate((nodes.constant, on.constant)),
        np.concatenate((nodes.active, nodes.active | 1 << unit)),
        np.concatenate((nodes.unsafe, on.unsafe)),
    )


def _eliminate(nodes: _Nodes, row: int) -> _Nodes:
    """Set a row to zero, solve it for the variable of the first column, and put the variable in the row's place."""
    column, pivot, pivot_row = nodes.table[:, :, 0], nodes.table[:, row, 0], nodes.table[:, row, 1:]
    scale = np.maximum(np.abs(column).max(axis=1), np.abs(nodes.table[:, row]).max(axis=1))
    small = ~(np.abs(pivot) > _SMALL_PIVOT * np.maximum(scale, 1.0))
    pivot = np.where(small, 1.0, pivot)  # of no use, but finite
    factor = column / pivot[:, None]
    table = nodes.table[:, :, 1:] - factor[:, :, None] * pivot_row[:, None, :]
    constant = nodes.constant - factor * nodes.constant[:, row, None]
    table[:, row] = -pivot_row / pivot[:, None]
    constant[:, row] = -nodes.constant[:, row] / pivot
    return _Nodes(table, constant, nodes.active, nodes.unsafe | small)


def _screen_leaves(reduced: _Reduced, leaves: _Nodes) -> Bools:
    units, size = len(reduced.base), len(reduced.constant)
    values = leaves.constant
    active = (leaves.active[:, None] >> np.arange(units) & 1).astype(np.bool_)
    if size == 0:  # P=0 and I − J is regular: the one regime there is
        return active
    scale = _solution_size(reduced, values)
    possible = (values[:, :units] >= -_SLACK * scale).all(axis=1)
    # elimination without a choice of pivots may lose all digits, which shows in the equations
    u = np.where(_unknowns(active, size), values, 0.0)
    w = values - u
    terms = np.abs(u) @ np.abs(reduced.table).T + w + np.abs(reduced.constant)
    right = np.abs(u @ reduced.table.T + reduced.constant - w) <= 1e-11 * (terms + scale)
    unsafe = leaves.unsafe | ~right.all(axis=1)
    safe = possible & ~unsafe
    again = [_screen_directly(reduced, chunk) for chunk in _in_chunks(active[unsafe], size)]
    return np.concatenate((_regimes_of(reduced, active[safe], values[safe]), *again))


def _unknowns(active: Bools, size: int) -> Bools:
    """Which of u and t may differ from zero, shape ``(n, P+k)``."""
    return np.concatenate((active, np.ones((len(active), size - active.shape[1]), dtype=np.bool_)), axis=1)


def _solution_size(reduced: _Reduced, values: Floats) -> Floats:
    """Bound on |z|_∞ of solutions u, w, t, shape ``(n, 1)``."""
    size: Floats = np.abs(values).max(axis=1, keepdims=True) * (1.0 + reduced.spread) + reduced.offset
    return size


def _regimes_of(reduced: _Reduced, active: Bools, values: Floats) -> Bools:
    """Codes of candidates. Exact zeros (h = 0 solves to z = 0 in every regime) get one code, not one from each side."""
    codes: Bools = (active ^ reduced.base) & (values[:, : active.shape[1]] != 0)
    return codes


def _screen_directly(reduced: _Reduced, active: Bools) -> Bools:
    """Screen by a singular value decomposition of the reduced problem of each regime, which is safe but slower."""
    units, size = active.shape[1], len(reduced.constant)
    matrices = np.where(_unknowns(active, size)[:, None, :], reduced.table, -np.eye(size))
    left, singular, right = np.linalg.svd(matrices)
    share = singular / np.maximum(singular[:, :1], 1.0)  # Q is the identity and more
    projected = _apply(left.mT, -reduced.constant)
    lowest = share[:, -1:]

    # as a regular regime, the looser the closer it is to a singular one
    regular = lowest[:, 0] > _ROUNDING
    values = _apply(right.mT, projected / np.where(regular[:, None], singular, 1.0))
    slack = (_SLACK + 1e-12 / np.maximum(lowest, _ROUNDING)) * _solution_size(reduced, values)
    kept = regular & (values[:, :units] >= -slack).all(axis=1)

    # as a singular regime: the equations have to be consistent, and their line of solutions has to meet the regime
    null = share < 1e-6
    values = np.where(null.any(axis=1, keepdims=True), 1.0, values)  # no exact zeros
    particular = _apply(right.mT, np.where(null, 0.0, projected) / np.where(null, 1.0, singular))
    scale = _solution_size(reduced, particular)
    error = np.abs(_apply(matrices, particular) + reduced.constant).max(axis=1)
    consistent = error <= 1e-6 * (scale[:, 0] * np.maximum(singular[:, 0], 1.0) + reduced.drive)
    least, greatest = _interval(particular[:, :units] + _SLACK * scale, right[:, -1, :units], 1e-9)
    meets = (least <= greatest) | (null.sum(axis=1) > 1)
    kept |= null.any(axis=1) & consistent & meets
    return _regimes_of(reduced, active[kept], values[kept])


def _interval(values: Floats, slopes: Floats, flat: float) -> tuple[Floats, Floats]:
    """The least and the greatest c with values + c · slopes ≥ 0 in all entries of the last dimension.

    Slopes within ±``flat`` count as zero. Where there is no such c, the least exceeds the greatest.
    """
    rising, falling = slopes > flat, slopes < -flat
    level = ~rising & ~falling
    bound = -values / np.where(level, 1.0, slopes)
    least = np.where(rising, bound, -np.inf).max(axis=-1, initial=-np.inf)
    greatest = np.where(falling, bound, np.inf).min(axis=-1, initial=np.inf)
    impossible = (level & (values < 0)).any(axis=-1)
    return np.where(impossible, np.inf, least), np.where(impossible, -np.inf, greatest)


def _apply(matrices: Floats, vectors: Floats) -> Floats:
    product: Floats = (matrices @ vectors[..., None])[..., 0]
    return product


# --- deciding the candidates, by an M×M solve each -----------------------------------------------------------------


def _decide(system: _System, codes: Bools, border_tolerance: float, singular_tolerance: float) -> _Decided:
    """Solve in each of the regimes and see whether the solution lies in it."""
    size = len(system.W)
    found = [_Solutions(np.zeros((0, size)), codes[:0], codes[:0])]
    continua = []
    complete = True
    for chunk in _in_chunks(codes, size):
        matrices = _equations(system, chunk)
        invertible = np.linalg.slogdet(matrices).sign != 0  # numpy refuses the whole batch for one zero pivot
        inverse = np.linalg.inv(np.where(invertible[:, None, None], matrices, np.eye(size)))
        size_of = np.maximum(np.abs(matrices).sum(axis=1).max(axis=1), 1.0)
        regular = invertible & (size_of * np.abs(inverse).sum(axis=1).max(axis=1) < 1e6)
        for index in np.flatnonzero(~regular):
            left, values, right = np.linalg.svd(matrices[index])
            rank = int((values > singular_tolerance * max(values[0], 1.0)).sum())
            if rank == size:
                regular[index] = True
                continue
            result = _decide_singular(
                system, chunk[index], (left, values, right), rank, border_tolerance, singular_tolerance
            )
            if isinstance(result, _Solutions):
                found.append(result)
            elif isinstance(result, _Piece):
                continua.append(result)
            else:
                complete &= result
        found.append(_solve_regular(system, chunk[regular], matrices[regular], inverse[regular], border_tolerance))
    return _Decided(_Solutions(*map(np.concatenate, zip(*found, strict=True))), continua, complete)


def _solve_regular(
    system: _System, codes: Bools, matrices: Floats, inverse: Floats, border_tolerance: float
) -> _Solutions:
    z = inverse @ system.drive
    for _ in range(2):  # a product with the inverse is not backward stable, with refinement it is
        z = z + _apply(inverse, system.drive - _apply(matrices, z))
    terms = _terms(system, z, codes)
    rounding = np.finfo(np.float64).eps * len(system.W) * _apply(np.abs(inverse), terms + np.abs(z))
    tolerance = (border_tolerance * terms + rounding)[:, system.linear :]
    nonlinear = z[:, system.linear :]
    inside = (np.where(codes, nonlinear, -nonlinear) >= -tolerance).all(axis=1)
    return _Solutions(z[inside], codes[inside], (np.abs(nonlinear) <= tolerance)[inside])


def _terms(system: _System, z: Floats, codes: Bools) -> Floats:
    """|A z| + |W| |φ*(z)| + |C| |s| + |h|, shape ``(…, M)``: the sizes of the terms that add up to z."""
    size = np.abs(z)
    return np.abs(system.diagonal) * size + (size * _slopes(system, codes)) @ np.abs(system.W).T + system.terms


def _decide_singular(
    system: _System,
    code: Bools,
    decomposition: tuple[Floats, Floats, Floats],
    rank: int,
    border_tolerance: float,
    singular_tolerance: float,
) -> _Solutions | _Piece | bool:
    """The fixed points in a regime in which I − J is singular.

    Args:
        system: the map.
        code: the regime.
        decomposition: the singular value decomposition of I − J.
        rank: number of its singular values that are not zero.
        border_tolerance: as in :func:`fixed_points`.
        singular_tolerance: as in :func:`fixed_points`.

    Returns:
        A continuum; a point, where the regime holds no more of it; ``True`` where there is none; ``False`` where that
        could not be decided.
    """
    left, values, right = decomposition
    z = right[:rank].T @ (left[:, :rank].T @ system.drive / values[:rank])
    size = system.terms.max() + max(values[0], 1.0) * np.abs(z).max()
    if np.abs(left[:, rank:].T @ system.drive).max() > singular_tolerance * size:
        return True
    directions = right[rank:]
    largest = np.take_along_axis(directions, np.abs(directions).argmax(axis=1, keepdims=True), axis=1)
    directions = directions * np.sign(largest)

    sign = np.where(code, 1.0, -1.0)
    inside, slopes = sign * z[system.linear :], sign * directions[:, system.linear :]
    tolerance = border_tolerance * (_terms(system, z, code)[system.linear :] + np.abs(z).max())
    if len(directions) == 1:
        least, greatest = map(float, _interval(inside + tolerance, slopes[0], singular_tolerance))
        if least > greatest:
            return True
        # the ends themselves lie where the units are zero, not where they are within the tolerance
        inside = np.where(np.abs(inside) <= tolerance, np.maximum(inside, 0.0), inside)
        exact = tuple(map(float, _interval(inside, slopes[0], singular_tolerance)))
        least, greatest = exact if exact[0] <= exact[1] else ((least + greatest) / 2,) * 2
        bounded = np.isfinite(least) and np.isfinite(greatest)
        shift = np.array([(least + greatest) / 2 if bounded else min(max(0.0, least), greatest)])
        extent = np.array([[least, greatest]]) - shift
        limit = border_tolerance
    else:
        piece = _polyhedron(inside, slopes)
        if isinstance(piece, bool):
            return piece
        shift, extent = piece
        limit = _LP_TOLERANCE
    z = z + shift @ directions
    border = np.abs(z[system.linear :]) <= tolerance
    if np.abs(extent).max() <= limit * np.abs(z).max():
        return _Solutions(z[None], code[None], border[None])
    return _Piece(code, z, directions, extent, border & (np.abs(slopes) <= singular_tolerance).all(axis=0))


def _polyhedron(values: Floats, slopes: Floats) -> tuple[Floats, Floats] | bool:
    """The c, of k > 1 entries, with values + c · slopes ≥ 0, by linear programs.

    Args:
        values: shape ``(P,)``.
        slopes: shape ``(k, P)``.

    Returns:
        One such c, shape ``(k,)``, and the extent in each of its entries relative to it, shape ``(k, 2)``; ``True``
        where there is no such c, ``False`` where a program failed.
    """
    dimensions, units = slopes.shape
    scale = float(np.abs(values).max(initial=0.0)) or 1.0
    far = 1e6  # in units of scale, counts as infinite
    rows, limits = -slopes.T, values / scale

    # as far from the borders as possible, up to 1 …
    deepest = linprog(
        np.append(np.zeros(dimensions), -1.0),
        A_ub=np.column_stack((rows, np.ones(units))),
        b_ub=limits,
        bounds=[(-far, far)] * dimensions + [(-far, 1.0)],
    )
    if deepest.x is None:
        return False
    depth = float(deepest.x[-1])
    if depth < -_LP_TOLERANCE:
        return True
    limits = limits + max(0.0, -depth) + 1e-9
    # … and of the points half as far from them the one of the smallest Σ |c|, as the first may be anywhere
    centre = linprog(
        np.ones(2 * dimensions), A_ub=np.hstack((rows, -rows)), b_ub=limits - max(0.0, depth) / 2, bounds=(0.0, far)
    )
    if centre.x is None:
        return False
    point = centre.x[:dimensions] - centre.x[dimensions:]
    extent = np.zeros((dimensions, 2))
    for axis in range(dimensions):
        for side, direction in enumerate((1.0, -1.0)):
            end = linprog(direction * np.eye(dimensions)[axis], A_ub=rows, b_ub=limits, bounds=(-far, far))
            if end.x is None:
                return False
            reached = float(end.x[axis])
            extent[axis, side] = -direction * np.inf if abs(reached) > 0.99 * far else reached - point[axis]
    return point * scale, extent * scale


# --- putting the results together ----------------------------------------------------------------------------------


def _merge(solutions: _Solutions) -> _Solutions:
    """Report a point once that solves the equation in several regimes, and put units on the border to zero."""
    z, code, border = solutions
    linear = z.shape[1] - code.shape[1]
    nonlinear = z[:, linear:]
    if border.any():
        # a solution is the same as that of the regime it really lies in, and of the one with units on the border off
        names = np.stack((code, nonlinear > 0, code & ~border), axis=1)
        group: dict[bytes, int] = {}
        parent = list(range(len(z)))

        def root(index: int) -> int:
            while parent[index] != index:
                index = parent[index]
            return index

        for index in range(len(z)):
            for name in names[index]:
                first, second = root(group.setdefault(name.tobytes(), index)), root(index)
                parent[max(first, second)] = min(first, second)
        chosen = [index for index in range(len(z)) if root(index) == index]
        z, nonlinear, border = z[chosen], nonlinear[chosen], border[chosen]
    nonlinear = np.where(border, 0.0, nonlinear)
    return _Solutions(np.hstack((z[:, :linear], nonlinear)), nonlinear > 0, border)


def _merge_continua(continua: list[_Piece]) -> list[_Piece]:
    """Leave out continua that are part of another: its edge, or the same one from the other side of a border."""
    kept: list[_Piece] = []
    for piece in sorted(continua, key=lambda piece: (-len(piece.directions), piece.code.tolist()[::-1])):
        if not _within_continua(piece.code[None], piece.border[None], kept)[0]:
            kept.append(piece)
    kept = [piece._replace(code=piece.code & ~piece.border) for piece in kept]
    return sorted(kept, key=lambda piece: piece.code.tolist()[::-1])


def _within_continua(code: Bools, border: Bools, continua: list[_Piece]) -> Bools:
    """Which of some solutions are part of a continuum.

    Where they are in its regime too, being zero in the units that tell the regimes apart, they solve its equation too.
    """
    within = np.zeros(len(code), dtype=np.bool_)
    for piece in continua:
        within |= ((code == piece.code) | border).all(axis=1)
    return within


def _eigenvalues(system: _System, codes: Bools) -> NDArray[np.complex128]:
    size = len(system.W)
    values = np.zeros((len(codes), size), dtype=np.complex128)
    done = 0
    for chunk in _in_chunks(codes, size):
        values[done : done + len(chunk)] = np.linalg.eigvals(_regime_matrices(system, chunk))
        done += len(chunk)
    return np.take_along_axis(values, np.argsort(-np.abs(values), axis=1, kind="stable"), axis=1)


def _condition_and_index(system: _System, codes: Bools, singular_tolerance: float) -> tuple[Floats, Floats]:
    """Condition number of I − J and the sign of its determinant, 0 where it is singular, both ``(n,)``."""
    condition, index = [np.zeros(0)], [np.zeros(0)]
    for chunk in _in_chunks(codes, len(system.W)):
        matrices = _equations(system, chunk)
        values = np.linalg.svd(matrices, compute_uv=False)
        largest, least = values[:, 0], values[:, -1]
        condition.append(np.where(least > 0, largest / np.where(least > 0, least, 1.0), np.inf))
        regular = least > singular_tolerance * np.maximum(largest, 1.0)
        index.append(np.where(regular, np.linalg.slogdet(matrices).sign, 0.0))
    return np.concatenate(condition), np.concatenate(index)


def _stability(eigenvalues: NDArray[np.complex128], marginal_tolerance: float) -> list[str]:
    kinds = []
    for modulus in np.abs(eigenvalues):
        if (np.abs(modulus - 1.0) < marginal_tolerance).any():
            kinds.append("marginal")
        elif (modulus < 1.0).all():
            kinds.append("stable")
        else:
            kinds.append("saddle" if (modulus < 1.0).any() else "unstable")
    return kinds


def _is_visited(code: Bools, border: Bools, visited: Bools) -> Bools:
    """Whether a visited regime is the point's own or, apart from units on the border, like it."""
    alike = [(((visited ^ own) & ~at) == 0).all(axis=1).any() for own, at in zip(code, border, strict=True)]
    return np.array(alike, dtype=np.bool_)
