"""All fixed points of an almost-linear RNN, with their stability.

Inside one linear regime the map is affine, so it has one fixed point there, (I − J) z = C s + h with the regime's
matrix J = A + W D; it is *real* if it lies in its own regime and *virtual* otherwise. Three searches find the real
ones: all 2^P regimes by a tree of pivots (:mod:`lightning_alrnn.analysis.pivots`), a seeded search
(:mod:`lightning_alrnn.analysis.sign_iteration`) and, on top of it, integer programs that prove that a box holds no
other (:mod:`lightning_alrnn.analysis.certificate`). What they name are candidates, each of which is then decided by an
M×M solve in its own regime.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from lightning_alrnn.analysis.certificate import certify
from lightning_alrnn.analysis.decisions import (
    Decided,
    Solutions,
    decide,
    determinant_signs,
    merge,
    merge_continua,
    within_continua,
)
from lightning_alrnn.analysis.pivots import base_regime, reduce_system, screen
from lightning_alrnn.analysis.sign_iteration import search
from lightning_alrnn.analysis.system import (
    Bools,
    Floats,
    System,
    balance,
    eigenvalues_by_regime,
    equations,
    in_chunks,
    read_codes,
    read_recurrence,
    read_states,
    read_system,
    regime_matrices,
    residual,
    tensor,
)
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

Method = Literal["auto", "exhaustive", "heuristic", "certified"]
"""How to search for fixed points."""

MOST_UNITS = 20
"""2^20 regimes take a second or two; beyond, exhaustion is not worth its while."""

TOLERANCE = 1e-14
"""Default for the relative change of the parameters that borders and singular regimes are told by: their rounding."""

MOST_CANDIDATES = 2**16
"""More fixed points than this are not listed: each takes an M×M solve, and M² numbers of the result."""

_SECONDS = 60.0
"""Default for how long a search and the certificate may take."""


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


class VirtualFixedPoints(NamedTuple):
    """Where visited regimes would come to rest if they did not end before: *virtual* fixed points, or ghosts.

    Trajectories are drawn towards (or pushed away from) them as long as they stay in the regime.

    Attributes:
        z: (I − A − W D)⁻¹ (C s + h), outside of its own regime, float64 of shape ``(n, M)``.
        code: the regime that it belongs to, bool of shape ``(n, P)``.
        outside: how far, max_i |z_i| over the units whose sign is not the regime's, float64 of shape ``(n,)``.
        eigenvalues: of the regime's matrix, by descending modulus, complex128 of shape ``(n, M)``.
        stability: as of a fixed point, n strings.
    """

    z: Tensor
    code: Tensor
    outside: Tensor
    eigenvalues: Tensor
    stability: list[str]


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
        eigenvectors: v with J v = λ v and |v| = 1, column j that of eigenvalue j, complex128 of shape ``(n, M, M)``.
        timescales: −1/ln|λ| in steps, see :func:`timescales`, float64 of shape ``(n, M)``.
        frequencies: |arg λ| / 2π in cycles a step, see :func:`frequencies`, float64 of shape ``(n, M)``.
        unstable_dimensions: number of |λ| > 1 beyond the tolerance, int64 of shape ``(n,)``.
        on_border: whether a unit is at z = 0 within the tolerance, bool of shape ``(n,)``. The map has a kink there:
            units on the border count as off in ``code``, ``eigenvalues`` and ``stability``, while the regimes on the
            other side may say otherwise.
        border: which units are, bool of shape ``(n, P)``. The Jacobians on the two sides are
            ``rnn.regime_matrix(code)`` and ``rnn.regime_matrix(code | border)``.
        eigenvalues_across: those of the latter, with the units on the border on; elsewhere ``eigenvalues``.
        visited: whether the regime (for a point on a border: one of the regimes that meet there) is among the visited
            ones, bool of shape ``(n,)``.
        residual: largest absolute entry of A z + W φ*(z) + C s + h − z, float64 of shape ``(n,)``.
        condition: condition number (2-norm) of I − J, float64 of shape ``(n,)``.
        readout: the readout of the points, shape ``(n, …)``; ``None`` where none was given.
        complete: whether these are all fixed points: every regime was searched and decided. It is ``False`` too where
            some regime is so nearly singular that rounding decides what it holds, but not quite singular.
        certificate: what is known, in words: "complete", "complete within |z| ≤ R" (of the nonlinear units), or "not
            certified".
        box: R of "complete within |z| ≤ R"; infinite where the list is complete, ``None`` where it is not certified.
        method: "exhaustive", "heuristic" or "certified".
        index_sum: Σ sign det(I − J) over the isolated points. For the complete list, no point on a border and no
            continua, it depends neither on h nor on the input, and is 1 if all trajectories are bounded: another sum
            proves a list incomplete, but the right one does not prove it complete. A point on a border counts with the
            sign of its ``code``, a point with singular I − J with 0, so that the sum says nothing there.
        continua: fixed points that are not isolated, one entry for each regime's share.
        ghosts: virtual fixed points of visited regimes.
        regimes_searched: number of regimes.
    """

    z: Tensor
    code: Tensor
    stability: list[str]
    eigenvalues: Tensor
    eigenvectors: Tensor
    timescales: Tensor
    frequencies: Tensor
    unstable_dimensions: Tensor
    on_border: Tensor
    border: Tensor
    eigenvalues_across: Tensor
    visited: Tensor
    residual: Tensor
    condition: Tensor
    readout: Tensor | None
    complete: bool
    certificate: str
    box: float | None
    method: str
    index_sum: int
    continua: tuple[Continuum, ...]
    ghosts: VirtualFixedPoints
    regimes_searched: int


def fixed_points(
    rnn: ALRNN | Recurrence,
    inputs: Tensor | None = None,
    *,
    method: Method = "auto",
    box: float | None = None,
    seed_states: Tensor | None = None,
    visited: Tensor | None = None,
    readout: Callable[[Tensor], Tensor] | None = None,
    max_exhaustive_units: int = MOST_UNITS,
    restarts: int = 500,
    seed: int = 0,
    time_limit: float = _SECONDS,
    max_ghosts: int = 64,
    border_tolerance: float = TOLERANCE,
    singular_tolerance: float = TOLERANCE,
    marginal_tolerance: float = 1e-6,
) -> FixedPointSet | list[FixedPointSet]:
    r"""Find all z with z = A z + W φ*(z) + C s + h for a constant input s.

    All of it is computed in float64 on the CPU, whatever the network's dtype and device, and without gradients.

    There are three methods, and each result says in ``certificate`` how much of the state space it speaks for:

    - "exhaustive" searches all 2^P regimes, P ≤ 20. Nothing is missed.
    - "heuristic" starts from the regimes of ``seed_states``, from ``visited`` ones and from ``restarts`` random ones,
      and goes by the signs of what it finds. Many fixed points of random networks escape it, few that lie where
      trajectories go.
    - "certified" does so and then has integer programs prove that the box |z_i| ≤ R of the nonlinear units holds no
      other, or find those that it does. It may run into ``time_limit``, and then says so.
    - "auto" is "exhaustive" up to ``max_exhaustive_units``, if ``time_limit`` is enough for all regimes (P = 20 takes
      one or two seconds) and no more of them may hold a fixed point than can be listed; otherwise "certified" if there
      is a ``box``, or "heuristic".

    A sign test at zero would lose points on the border between regimes to rounding, or count them once from each side.
    So a unit counts as on the border, and the solution in either regime as a fixed point, where changes of A, W, C s
    and h, each by a share ``border_tolerance`` of itself, can make z_i zero. What is found from several sides is
    reported once, with z_i = 0 and solved for again under such a change.

    Neither the tolerances nor what is found depends on the scales of the units: z → S z with W → S W S⁻¹, C → S C and
    h → S h, S diagonal and positive, takes the fixed points along.

    Args:
        rnn: the network, or its parameters.
        inputs: s, shape ``(K,)``, or ``(M,)`` where the network has no ``input_size``; ``None`` for zeros. Several
            inputs, shape ``(n, K)``, give a list of n results.
        method: see above.
        box: R, for "certified"; ``None`` takes ten times the largest |z_i| among the fixed points found by then and
            ``seed_states``, at least 1.
        seed_states: states that trajectories visited, shape ``(…, M)``. Their regimes count as visited.
        visited: regimes that trajectories visited, bool or 0/1 of shape ``(regimes, P)``. They mark fixed points as
            visited, and the seeded search starts from them.
        readout: what to apply to the fixed points, given them in its parameters' dtype, such as a trained
            ``model.readout``.
        max_exhaustive_units: up to this P, at most 20, "auto" searches all regimes.
        restarts: number of random regimes that the seeded search starts from.
        seed: of these.
        time_limit: seconds that "auto" may search all regimes for, beyond the first 2^12, and that the seeded search
            and the certificate may take, for each input.
        max_ghosts: of how many visited regimes to report the virtual fixed point: the first of ``visited``, then those
            of ``seed_states`` by how often they occur.
        border_tolerance: see above, at most 1e-9. Rounding of M terms is always tolerated.
        singular_tolerance: I − J counts as singular where changes of the entries of A and W, each by this share of
            itself, at most 1e-9, can make it so. The regime then has either no fixed point or a continuum of them; it
            has one if C s + h is, to the same tolerance, within the range of I − J.
        marginal_tolerance: distance of |λ| from 1 within which a mode neither decays nor grows.

    Returns:
        The fixed points under the one input; a list of them for several inputs.

    Raises:
        ValueError: if a parameter or the input is not finite, a shape does not fit, an option is unknown or out of
            range, P is too large for "exhaustive", or there are more than 65,536 candidates.

    Example:
        Two units that inhibit each other: one or the other wins, with a saddle between them.

        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=2)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.5), rnn.h.fill_(1.0)
        ...     _ = rnn.W.copy_(torch.tensor([[0.0, -1.0], [-1.0, 0.0]]))
        >>> found = fixed_points(rnn)
        >>> found.stability, found.certificate, found.index_sum
        (['stable', 'stable', 'saddle'], 'complete', 1)
        >>> found.z[0].tolist()
        [2.0, -2.0]

    References:
        Brenner & Koppe, "Uncovering the Computational Roles of Nonlinearity in Sequence Modeling Using Almost-Linear
        RNNs", TMLR 2026 (arXiv:2506.07919). Eisenmann, Monfared, Göring & Durstewitz, "Bifurcations and loss jumps in
        RNN training", NeurIPS 2023 (arXiv:2310.17561), the seeded search (SCYFI). Cottle, Pang & Stone, "The Linear
        Complementarity Problem", 1992, on principal pivots.
    """
    if not 0 <= max_exhaustive_units <= MOST_UNITS:
        raise ValueError(f"max_exhaustive_units must lie between 0 and {MOST_UNITS}, got {max_exhaustive_units}")
    check_search(restarts, time_limit, border_tolerance, singular_tolerance, marginal_tolerance)
    if max_ghosts < 0:
        raise ValueError(f"max_ghosts must not be negative, got {max_ghosts}")
    if box is not None and not 0 < box < math.inf:
        raise ValueError(f"box must be positive and finite, got {box}")
    recurrence = read_recurrence(rnn)
    options = _Options(
        choose_methods(method, int(recurrence.P), max_exhaustive_units, box),
        box,
        restarts,
        seed,
        time_limit,
        max_ghosts,
        border_tolerance,
        singular_tolerance,
        marginal_tolerance,
    )
    states = None if seed_states is None else read_states("seed_states", seed_states, len(recurrence.h)).numpy()
    known = _known_regimes(recurrence, visited, states)
    extent = 0.0 if states is None else float(np.abs(states[..., recurrence.linear_units :]).max(initial=0.0))

    if inputs is not None and inputs.ndim == 2:
        return [_find(read_system(recurrence, one), known, extent, options, readout) for one in inputs]
    return _find(read_system(recurrence, inputs), known, extent, options, readout)


def virtual_fixed_points(
    rnn: ALRNN | Recurrence, codes: Tensor, inputs: Tensor | None = None, *, marginal_tolerance: float = 1e-6
) -> VirtualFixedPoints:
    """The virtual fixed points of given regimes.

    Regimes that hold their own fixed point, or have none since I − A − W D is singular, are left out.

    Args:
        rnn: the network, or its parameters.
        codes: regimes, bool or 0/1 of shape ``(n, P)``.
        inputs: s, shape ``(K,)``; ``None`` for zeros.
        marginal_tolerance: distance of |λ| from 1 within which a mode neither decays nor grows.

    Raises:
        ValueError: if a parameter or the input is not finite or a shape does not fit.

    Example:
        z' = 0.5 φ(z) − 1 rests at −1; from above, it is drawn to −2 before it gets to the kink at 0.

        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.0), rnn.W.fill_(0.5), rnn.h.fill_(-1.0)
        >>> found = virtual_fixed_points(rnn, torch.tensor([[False], [True]]))
        >>> found.code.tolist(), found.z.tolist(), found.outside.tolist()
        ([[True]], [[-2.0]], [2.0])
    """
    system = balance(read_system(rnn, inputs))
    return _virtual(system, read_codes(codes, system.units), marginal_tolerance)


def eigenvalues_of_regimes(rnn: ALRNN | Recurrence, codes: Tensor) -> Tensor:
    """Eigenvalues of the matrix A + W D of each regime, D = diag(1, …, 1, code), computed in float64.

    Args:
        rnn: the network, or its parameters.
        codes: regimes, bool or 0/1 of shape ``(n, P)``.

    Returns:
        complex128 of shape ``(n, M)`` on the CPU, by descending modulus.

    Raises:
        ValueError: if a parameter is not finite or a shape does not fit.

    Example:
        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.5), rnn.W.fill_(-1.0)
        >>> eigenvalues_of_regimes(rnn, torch.tensor([[False], [True]])).real.tolist()
        [[0.5], [-0.5]]
    """
    system = read_system(rnn)
    return tensor(eigenvalues_by_regime(system, read_codes(codes, system.units)))


def timescales(eigenvalues: Tensor) -> Tensor:
    """Time constant −1/ln|λ| of each mode, in steps.

    Args:
        eigenvalues: λ, real or complex, a tensor of any shape ``(…)``.

    Returns:
        Of the same shape and real: the time in which a mode decays by a factor of e. Infinite where |λ| = 1, zero where
        λ = 0; for a growing mode, |λ| > 1, the negative of the time in which it grows by a factor of e.

    Example:
        >>> timescales(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [0.0, 1.4426950216293335, inf]
    """
    logarithm = eigenvalues.abs().log()
    return torch.where(logarithm == 0, torch.inf, -1.0 / logarithm)


def frequencies(eigenvalues: Tensor) -> Tensor:
    """How fast each mode turns, |arg λ| / 2π in cycles a step: 0 for λ > 0, 1/2 for λ < 0.

    Args:
        eigenvalues: λ, real or complex, a tensor of any shape ``(…)``.

    Returns:
        Of the same shape and real, from 0 to 1/2.

    Example:
        >>> frequencies(torch.tensor([1.0, 1j, -1.0])).tolist()
        [0.0, 0.25, 0.5]
    """
    return eigenvalues.angle().abs() / (2 * math.pi)


def stability_of(eigenvalues: Tensor, marginal_tolerance: float = 1e-6) -> list[str]:
    """What points with these eigenvalues are, by their moduli.

    Args:
        eigenvalues: λ, shape ``(n, M)``.
        marginal_tolerance: distance of |λ| from 1 within which a mode neither decays nor grows.

    Returns:
        For each row "marginal", "stable", "unstable" or "saddle", see :class:`FixedPointSet`.

    Example:
        >>> stability_of(torch.tensor([[0.5, -0.9], [1.5, 0.5], [2.0, -2.0], [1.0, 0.0]]))
        ['stable', 'saddle', 'unstable', 'marginal']
    """
    modulus = eigenvalues.abs()
    marginal = ((modulus - 1.0).abs() < marginal_tolerance).any(dim=1)
    inside = modulus < 1.0
    kinds = []
    for row in torch.stack((marginal, inside.all(dim=1), inside.any(dim=1)), dim=1).tolist():
        is_marginal, all_inside, any_inside = row
        kinds.append("marginal" if is_marginal else "stable" if all_inside else "saddle" if any_inside else "unstable")
    return kinds


class _Options(NamedTuple):
    methods: tuple[str, ...]
    box: float | None
    restarts: int
    seed: int
    time_limit: float
    max_ghosts: int
    border_tolerance: float
    singular_tolerance: float
    marginal_tolerance: float


class _Candidates(NamedTuple):
    """Regimes, what became of them, how many were searched, R within which there are no others, and by what method."""

    decided: Decided
    searched: int
    box: float | None
    method: str


def choose_methods(method: str, units: int, max_exhaustive_units: int, box: float | None) -> tuple[str, ...]:
    """What "auto" means for a number of nonlinear units.

    Args:
        method: "auto", "exhaustive", "heuristic" or "certified".
        units: P.
        max_exhaustive_units: up to this P, "auto" is "exhaustive".
        box: R of "certified", or ``None``; beyond, "auto" is "certified" if there is one.

    Returns:
        The method, or "exhaustive" and the method to take where it runs out of time.

    Raises:
        ValueError: if ``method`` is unknown, P is too large for it, or a box is given that it has no use for.
    """
    choices = ("auto", "exhaustive", "heuristic", "certified")
    if method not in choices:
        raise ValueError(f"method must be one of {', '.join(map(repr, choices))}, got {method!r}")
    if method == "exhaustive" and units > MOST_UNITS:
        raise ValueError(
            f"method='exhaustive' searches the regimes of up to {MOST_UNITS} nonlinear units, here are {units}: "
            "use 'heuristic', or 'certified' for all fixed points within a box"
        )
    if box is not None and method in ("exhaustive", "heuristic"):
        raise ValueError(f"box belongs to method='certified' (or 'auto'), method is {method!r}")
    if method != "auto":
        return (method,)
    beyond = "heuristic" if box is None else "certified"
    return ("exhaustive", beyond) if units <= max_exhaustive_units else (beyond,)


def check_search(restarts: int, time_limit: float, *tolerances: float) -> None:
    """Raise unless the options of a search are in range.

    Args:
        restarts: number of random regimes, not negative.
        time_limit: seconds, not negative.
        *tolerances: those of border and singular, from 0 to 1e-9, and marginal, from 0 to 1e-3, in this order.

    Raises:
        ValueError: if one is out of range.
    """
    if restarts < 0:
        raise ValueError(f"restarts must not be negative, got {restarts}")
    if not time_limit >= 0:
        raise ValueError(f"time_limit must not be negative, got {time_limit}")
    most = {"border_tolerance": 1e-9, "singular_tolerance": 1e-9, "marginal_tolerance": 1e-3}
    for (name, limit), value in zip(most.items(), tolerances, strict=True):
        if not 0 <= value <= limit:
            raise ValueError(f"{name} must lie between 0 and {limit:g}, got {value}")


def check_candidates(count: int, what: str) -> None:
    """Raise where there are more candidates than can be listed.

    Args:
        count: how many there are.
        what: what they are, for the message: "regimes", "sequences of regimes".

    Raises:
        ValueError: if there are more than 65,536.
    """
    if count > MOST_CANDIDATES:
        raise ValueError(
            f"{count} {what} may hold a fixed point, more than the {MOST_CANDIDATES} that can be listed: "
            "networks with many uncoupled nonlinear units are like this"
        )


def _known_regimes(recurrence: Recurrence, visited: Tensor | None, states: Floats | None) -> Bools:
    """The visited regimes, each once: those given, then those of states by how often they occur."""
    known = np.zeros((0, int(recurrence.P)), dtype=np.bool_)
    if visited is not None:
        known = read_codes(visited, known.shape[1])
    if states is not None:
        codes = states.reshape(-1, len(recurrence.h))[:, recurrence.linear_units :] > 0
        _, first, counts = np.unique(np.packbits(codes, axis=1), axis=0, return_index=True, return_counts=True)
        known = np.concatenate((known, codes[first[np.argsort(-counts, kind="stable")]]))
    _, first = np.unique(np.packbits(known, axis=1), axis=0, return_index=True)
    return known[np.sort(first)]


def _find(
    plain: System, known: Bools, extent: float, options: _Options, readout: Callable[[Tensor], Tensor] | None
) -> FixedPointSet:
    system = balance(plain)
    candidates = _search(system, known, extent, options)
    decided = candidates.decided
    continua = merge_continua(decided.continua)
    z, code, border, _ = merge(decided.solutions)
    isolated = ~within_continua(code, border, continua)
    z, code, border = z[isolated] * system.scale, code[isolated], border[isolated]
    order = np.lexsort(np.hstack((z, code)).T)  # the last key, the last unit's bit, counts first
    z, code, border = z[order], code[order], border[order]

    values, vectors = _eigen(system, code)
    across = values.copy()
    at_border = np.any(border, axis=1)
    across[at_border] = eigenvalues_by_regime(system, (code | border)[at_border])
    condition = np.concatenate(
        [np.zeros(0), *(np.linalg.cond(equations(plain, chunk)) for chunk in in_chunks(code, plain.size))]
    )
    eigenvalues = tensor(values)
    box = candidates.box if decided.complete else None
    return FixedPointSet(
        z=tensor(z),
        code=tensor(code),
        stability=stability_of(eigenvalues, options.marginal_tolerance),
        eigenvalues=eigenvalues,
        eigenvectors=tensor(vectors),
        timescales=timescales(eigenvalues),
        frequencies=frequencies(eigenvalues),
        unstable_dimensions=(eigenvalues.abs() > 1.0 + options.marginal_tolerance).sum(dim=1),
        on_border=tensor(at_border),
        border=tensor(border),
        eigenvalues_across=tensor(across),
        visited=tensor(_is_visited(code, border, known)),
        residual=tensor(residual(plain, z)),
        condition=tensor(condition),
        readout=None if readout is None else _read_out(readout, tensor(z)),
        complete=box == math.inf,
        certificate=_in_words(box),
        box=box,
        method=candidates.method,
        index_sum=int(determinant_signs(system, code, options.singular_tolerance).sum()),
        continua=tuple(
            Continuum(*map(tensor, (piece.code, piece.z, piece.directions, piece.extent))) for piece in continua
        ),
        ghosts=_virtual(system, known[: options.max_ghosts], options.marginal_tolerance),
        regimes_searched=candidates.searched,
    )


def _in_words(box: float | None) -> str:
    if box is None:
        return "not certified"
    return "complete" if box == math.inf else f"complete within |z| ≤ {box:g}"


def _search(system: System, known: Bools, extent: float, options: _Options) -> _Candidates:
    """Find candidate regimes by the method asked for, and decide them."""

    def decide_all(codes: Bools) -> Decided:
        check_candidates(len(codes), "regimes")
        return decide(system, codes, options.border_tolerance, options.singular_tolerance)

    start = time.monotonic()
    reduced = reduce_system(system, base_regime(system), options.singular_tolerance)
    *others, last = options.methods
    if "exhaustive" in options.methods or system.units == 0:
        codes = screen(reduced, options.time_limit if others else math.inf)
        if codes is not None and not (others and len(codes) > MOST_CANDIDATES):
            method = options.methods[0]
            return _Candidates(decide_all(codes), 2**system.units, math.inf, method)
    deadline = start + options.time_limit
    found = search(reduced, known, options.restarts, options.seed, max(0.0, deadline - time.monotonic()))
    decided = decide_all(found.codes)
    if last == "heuristic":
        return _Candidates(decided, found.solved, None, last)
    radius = options.box
    if radius is None:
        points = [decided.solutions.z * system.scale, *(piece.z[None] for piece in decided.continua)]
        extent = max(extent, *(float(np.abs(z[:, system.linear :]).max(initial=0.0)) for z in points))
        radius = max(1.0, 10.0 * extent)
    certificate = certify(
        reduced, found.codes, radius / system.scale[system.linear :], max(0.0, deadline - time.monotonic())
    )
    further = decide_all(certificate.codes)
    return _Candidates(
        Decided(
            Solutions(*(np.concatenate(both) for both in zip(decided.solutions, further.solutions, strict=True))),
            decided.continua + further.continua,
            decided.complete and further.complete,
        ),
        found.solved + len(certificate.codes),
        radius if certificate.proven else None,
        last,
    )


def _virtual(system: System, codes: Bools, marginal_tolerance: float) -> VirtualFixedPoints:
    """The virtual fixed points of some regimes, each regime once, in order."""
    kept, points = [codes[:0]], [np.zeros((0, system.size))]
    for chunk in in_chunks(codes, system.size):
        matrices = equations(system, chunk)
        values = np.linalg.svd(matrices, compute_uv=False)
        regular = values[:, -1] > 1e-13 * np.maximum(values[:, 0], 1.0)
        drive = np.broadcast_to(system.drive, (int(regular.sum()), len(system.drive)))
        z = np.linalg.solve(matrices[regular], drive[..., None])[..., 0]
        virtual = _outside(system, z, chunk[regular]) > 1e-12 * np.abs(z).max(axis=1, initial=0.0)
        kept.append(chunk[regular][virtual])
        points.append(z[virtual])
    code, z = np.concatenate(kept), np.concatenate(points)
    eigenvalues = tensor(eigenvalues_by_regime(system, code))
    return VirtualFixedPoints(
        tensor(z * system.scale),
        tensor(code),
        tensor(_outside(system, z * system.scale, code)),
        eigenvalues,
        stability_of(eigenvalues, marginal_tolerance),
    )


def _outside(system: System, z: Floats, code: Bools) -> Floats:
    nonlinear = z[:, system.linear :]
    outside: Floats = np.where(code, -nonlinear, nonlinear).max(axis=1, initial=0.0)
    return outside


def _read_out(readout: Callable[[Tensor], Tensor], z: Tensor) -> Tensor:
    """Apply a readout to float64 states, in the dtype and on the device of its parameters if it has some."""
    like = next(readout.parameters(), None) if isinstance(readout, nn.Module) else None
    with torch.no_grad():
        return readout(z if like is None else z.to(like)).cpu()


def _eigen(system: System, codes: Bools) -> tuple[NDArray[np.complex128], NDArray[np.complex128]]:
    """Eigenvalues by descending modulus, ``(n, M)``, and eigenvectors, ``(n, M, M)``."""
    size = system.size
    values = np.zeros((len(codes), size), dtype=np.complex128)
    vectors = np.zeros((len(codes), size, size), dtype=np.complex128)
    done = 0
    for chunk in in_chunks(codes, size):
        some = slice(done, done + len(chunk))
        values[some], vectors[some] = np.linalg.eig(regime_matrices(system, chunk))
        done += len(chunk)
    vectors = vectors * system.scale[:, None]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    order = np.argsort(-np.abs(values), axis=1, kind="stable")
    return np.take_along_axis(values, order, axis=1), np.take_along_axis(vectors, order[:, None, :], axis=2)


def _is_visited(code: Bools, border: Bools, visited: Bools) -> Bools:
    """Whether a visited regime is the point's own or, apart from units on the border, like it."""
    alike = [(((visited ^ own) & ~at) == 0).all(axis=1).any() for own, at in zip(code, border, strict=True)]
    return np.array(alike, dtype=np.bool_)
