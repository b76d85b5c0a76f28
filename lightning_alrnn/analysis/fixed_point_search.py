"""All fixed points of an almost-linear RNN, with their stability.

Inside one linear regime the map is affine, so it has one fixed point there, (I − J) z = C s + h with the regime's
matrix J = A + W D; it is *real* if it lies in its own regime and *virtual* otherwise. The modules pivots,
sign_iteration and certificate search for regimes with real ones; an M×M solve then decides each candidate.
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
from lightning_alrnn.analysis.pivots import Reduced, base_regime, reduce_system, screen
from lightning_alrnn.analysis.sign_iteration import search
from lightning_alrnn.analysis.system import (
    Bools,
    Floats,
    System,
    balance,
    eigenvalues_by_regime,
    equations,
    in_chunks,
    most_frequent,
    next_states,
    read_codes,
    read_recurrence,
    read_states,
    read_system,
    regime_matrices,
    sort_modes,
    tensor,
)
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

Method = Literal["auto", "exhaustive", "heuristic", "certified"]

MOST_UNITS = 20
"""Most units whose regimes are all searched: 2^20 regimes take a second or two."""

TOLERANCE = 1e-14
"""Default relative change of the parameters that decides about borders and singular regimes: their rounding."""

MOST_CANDIDATES = 2**16
"""More fixed points than this are not listed: each takes an M×M solve, and M² numbers of the result."""


class Continuum(NamedTuple):
    """Fixed points z + Σ_j c_j v_j of one regime that fill a line, half-line, segment or a piece of more dimensions.

    The v_j span the null space of I − J. Within a line attractor every mode other than the v_j decays.

    Attributes:
        code: Regime, bool of shape ``(P,)``.
        z: One of the fixed points, float64 of shape ``(M,)``: the middle of a segment, the point of a half-line or line
            nearest to the origin, or in higher dimensions one away from the regime's borders.
        directions: The v_j, orthonormal, float64 of shape ``(k, M)``. The largest entry of each is positive.
        extent: Least and greatest c_j (the other coefficients being free), possibly infinite, float64 of shape
            ``(k, 2)``. For k=1 it gives the ends of the line.
    """

    code: Tensor
    z: Tensor
    directions: Tensor
    extent: Tensor


class VirtualFixedPoints(NamedTuple):
    """*Virtual* fixed points, or ghosts: the fixed points of visited regimes that lie outside of their own regime.

    Trajectories are drawn towards them, or pushed away from them, as long as they stay in the regime.

    Attributes:
        z: (I − A − W D)⁻¹ (C s + h), float64 of shape ``(n, M)``.
        code: Regime that each belongs to, bool of shape ``(n, P)``.
        outside: max_i |z_i| over the units whose sign is not the regime's, float64 of shape ``(n,)``.
        eigenvalues: Eigenvalues of the regime's matrix, by descending modulus, complex128 of shape ``(n, M)``.
        stability: n strings, as in :class:`FixedPointSet`.
    """

    z: Tensor
    code: Tensor
    outside: Tensor
    eigenvalues: Tensor
    stability: list[str]


class FixedPointSet(NamedTuple):
    r"""Fixed points of a network under a constant input: n isolated ones, and continua of them.

    Isolated points are sorted by their code, read as a binary number whose lowest bit is the first nonlinear unit.

    Attributes:
        z: Isolated fixed points, float64 of shape ``(n, M)``.
        code: Their regimes, z > 0 of the nonlinear units, bool of shape ``(n, P)``.
        stability: n strings: "marginal" if some ||λ| − 1| is below the tolerance, otherwise "stable" (all |λ| < 1),
            "unstable" (all |λ| > 1) or "saddle" (both).
        eigenvalues: λ of J = A + W D in the point's regime, by descending modulus, complex128 of shape ``(n, M)``.
        eigenvectors: v with J v = λ v and |v| = 1, column j for eigenvalue j, complex128 of shape ``(n, M, M)``.
        timescales: −1/ln|λ| in steps, see :func:`timescales`, float64 of shape ``(n, M)``.
        frequencies: |arg λ| / 2π in cycles a step, see :func:`frequencies`, float64 of shape ``(n, M)``.
        unstable_dimensions: Number of |λ| > 1 beyond the tolerance, int64 of shape ``(n,)``.
        on_border: Whether a unit is at z = 0 within the tolerance, bool of shape ``(n,)``. The map has a kink there.
            Units on the border count as off in ``code``, ``eigenvalues`` and ``stability``.
        border: Units that are on the border, bool of shape ``(n, P)``. The Jacobians on the two sides are
            ``rnn.regime_matrix(code)`` and ``rnn.regime_matrix(code | border)``.
        eigenvalues_across: Eigenvalues of the latter matrix, of the shape of ``eigenvalues``.
        visited: Whether the regime, or one that meets it at the border, was visited, bool of shape ``(n,)``.
        residual: Largest absolute entry of A z + W φ*(z) + C s + h − z, float64 of shape ``(n,)``.
        condition: Condition number (2-norm) of I − J, float64 of shape ``(n,)``.
        readout: Readout of the points, shape ``(n, …)``; ``None`` without a readout.
        complete: Whether these are all fixed points: every regime was searched, and none is so nearly singular that
            rounding decides whether it holds a fixed point.
        certificate: "complete", "complete within |z| ≤ R" (of the nonlinear units), or "not certified".
        box: R of "complete within |z| ≤ R"; infinite if the list is complete, ``None`` if it is not certified.
        method: "exhaustive", "heuristic" or "certified".
        index_sum: Σ sign det(I − J) over the isolated points. For a complete list without points on a border and
            without continua, it depends neither on h nor on the input, and is 1 if all trajectories are bounded: a
            different sum proves a list incomplete. A point on a border counts with the sign of its ``code``.
        continua: Fixed points that are not isolated, one entry for each regime's share.
        ghosts: Virtual fixed points of visited regimes.
        regimes_searched: Number of regimes that were searched.
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
    time_limit: float = 60.0,
    max_ghosts: int = 64,
    border_tolerance: float = TOLERANCE,
    singular_tolerance: float = TOLERANCE,
    marginal_tolerance: float = 1e-6,
) -> FixedPointSet | list[FixedPointSet]:
    r"""Find all z with z = A z + W φ*(z) + C s + h for a constant input s.

    The computation runs in float64 on the CPU, whatever the network's dtype and device, and without gradients.

    - "exhaustive" searches all 2^P regimes, P ≤ 20. It misses no fixed point.
    - "heuristic" starts from ``visited`` regimes, those of ``seed_states`` and ``restarts`` random ones, and iterates
      on the signs of the solutions. It may miss fixed points, but few that lie near trajectories.
    - "certified" adds integer programs which prove that the box |z_i| ≤ R of the nonlinear units holds no other fixed
      point, or find the others, unless ``time_limit`` stops them.
    - "auto" is "exhaustive" up to ``max_exhaustive_units`` if ``time_limit`` suffices (P = 20 takes one or two seconds)
      and at most 65,536 regimes may hold a fixed point; otherwise "certified" with a ``box``, or "heuristic".

    A point on a border is reported once, with z_i = 0. Results do not depend on the scales of the units (z → S z with
    W → S W S⁻¹, C → S C and h → S h, S diagonal and positive).

    Args:
        rnn: Network, or its parameters.
        inputs: Constant input s, shape ``(K,)``, or ``(M,)`` if the network has no ``input_size``; ``None`` for zeros.
            Several inputs, shape ``(n, K)``, give a list of n results.
        method: "auto", "exhaustive", "heuristic" or "certified".
        box: R of "certified"; ``None`` takes ten times the largest |z_i| among ``seed_states`` and the fixed points of
            the heuristic search, at least 1.
        seed_states: States that trajectories visited, shape ``(…, M)``. Their regimes count as visited.
        visited: Regimes that trajectories visited, bool or 0/1 of shape ``(regimes, P)``. They mark fixed points as
            visited, and the heuristic search starts from them.
        readout: Function of the fixed points, in the dtype of its parameters, such as a trained ``model.readout``.
        max_exhaustive_units: Largest P, at most 20, for which "auto" searches all regimes.
        restarts: Number of random regimes that the heuristic search starts from.
        seed: Seed of the random regimes.
        time_limit: Seconds for each input: of "auto" for all regimes beyond the first 2^12, and of the heuristic search
            and the certificate.
        max_ghosts: Number of visited regimes whose virtual fixed points are reported, those of ``visited`` first.
        border_tolerance: Relative change of A, W, C s and h, at most 1e-9: a unit counts as on the border if such a
            change can make z_i zero. Rounding of M terms is always tolerated.
        singular_tolerance: Relative change of the entries of A and W, at most 1e-9: I − J counts as singular if such a
            change can make it so. The regime then has a continuum of fixed points if C s + h is, to the same tolerance,
            within the range of I − J, and none otherwise.
        marginal_tolerance: Distance of |λ| from 1 within which a mode neither decays nor grows.

    Returns:
        The fixed points under the one input; a list of them for several inputs.

    Raises:
        ValueError: If a parameter or the input is not finite, a shape does not fit, an option is unknown or out of
            range, P is too large for "exhaustive", or there are more than 65,536 candidates.

    Example:
        Two units that inhibit each other: one or the other wins, with a saddle between them.

        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=2)
        >>> with torch.no_grad():
        ...     _ = rnn.A.fill_(0.5), rnn.h.fill_(1.0)
        ...     _ = rnn.W.copy_(torch.tensor([[0.0, -1.0], [-1.0, 0.0]]))
        >>> points = fixed_points(rnn)
        >>> points.z[0].tolist(), points.stability, points.certificate
        ([2.0, -2.0], ['stable', 'stable', 'saddle'], 'complete')

    References:
        Brenner & Koppe, TMLR 2026 (arXiv:2506.07919). Eisenmann, Monfared, Göring & Durstewitz, NeurIPS 2023
        (arXiv:2310.17561), on the seeded search (SCYFI). Cottle, Pang & Stone, "The Linear Complementarity Problem",
        1992, on principal pivots.
    """
    if max_ghosts < 0:
        raise ValueError(f"max_ghosts must not be negative, got {max_ghosts}")
    if box is not None and not 0 < box < math.inf:
        raise ValueError(f"box must be positive and finite, got {box}")
    recurrence = read_recurrence(rnn)
    methods = choose_methods(method, int(recurrence.P), max_exhaustive_units, box)
    options = Options(methods, restarts, seed, time_limit, border_tolerance, singular_tolerance, marginal_tolerance)
    check_options(options)
    size, regimes = len(recurrence.h), np.zeros((0, int(recurrence.P)), dtype=np.bool_)
    states = np.zeros((0, size))
    if visited is not None:
        regimes = read_codes(visited, regimes.shape[1])
    if seed_states is not None:
        states = read_states("seed_states", seed_states, size).numpy().reshape(-1, size)
    states = states[:, recurrence.linear_units :]
    regimes = np.concatenate((regimes, most_frequent(states > 0)))
    _, first = np.unique(np.packbits(regimes, axis=1), axis=0, return_index=True)
    regimes = regimes[np.sort(first)]
    extent = float(np.abs(states).max(initial=0.0))

    arguments = regimes, options, box, extent, max_ghosts, readout
    if inputs is not None and inputs.ndim == 2:
        return [_find(read_system(recurrence, one), *arguments) for one in inputs]
    return _find(read_system(recurrence, inputs), *arguments)


def virtual_fixed_points(
    rnn: ALRNN | Recurrence, codes: Tensor, inputs: Tensor | None = None, *, marginal_tolerance: float = 1e-6
) -> VirtualFixedPoints:
    """Virtual fixed points of the given regimes.

    Regimes that hold their own fixed point, or have none since I − A − W D is singular, are omitted.

    Args:
        rnn: Network, or its parameters.
        codes: Regimes, bool or 0/1 of shape ``(n, P)``.
        inputs: Constant input s, shape ``(K,)``; ``None`` for zeros.
        marginal_tolerance: Distance of |λ| from 1 within which a mode neither decays nor grows.

    Raises:
        ValueError: If a parameter or the input is not finite or a shape does not fit.

    Example:
        z' = 0.5 φ(z) − 1 rests at −1; from above, it is drawn to −2 before it gets to the kink at 0.

        >>> from lightning_alrnn.nn import Recurrence
        >>> rnn = Recurrence(torch.zeros(1), torch.tensor([[0.5]]), None, torch.tensor([-1.0]), P=1)
        >>> ghosts = virtual_fixed_points(rnn, torch.tensor([[False], [True]]))
        >>> ghosts.code.tolist(), ghosts.z.tolist(), ghosts.outside.tolist()
        ([[True]], [[-2.0]], [2.0])
    """
    system = balance(read_system(rnn, inputs))
    return _virtual(system, read_codes(codes, system.units), marginal_tolerance)


def eigenvalues_of_regimes(rnn: ALRNN | Recurrence, codes: Tensor) -> Tensor:
    """Eigenvalues of the matrix A + W D of each regime, D = diag(1, …, 1, code), computed in float64.

    Args:
        rnn: Network, or its parameters.
        codes: Regimes, bool or 0/1 of shape ``(n, P)``.

    Returns:
        Eigenvalues by descending modulus, complex128 of shape ``(n, M)`` on the CPU.

    Raises:
        ValueError: If a parameter is not finite or a shape does not fit.

    Example:
        >>> from lightning_alrnn.nn import Recurrence
        >>> rnn = Recurrence(torch.tensor([0.5]), torch.tensor([[-1.0]]), None, torch.zeros(1), P=1)
        >>> eigenvalues_of_regimes(rnn, torch.tensor([[False], [True]])).real.tolist()
        [[0.5], [-0.5]]
    """
    system = read_system(rnn)
    return tensor(eigenvalues_by_regime(system, read_codes(codes, system.units)))


def timescales(eigenvalues: Tensor) -> Tensor:
    """Time constant −1/ln|λ| of each mode, in steps.

    Args:
        eigenvalues: λ, real or complex, of any shape ``(…)``.

    Returns:
        Steps in which a mode decays by a factor of e, real and of the same shape: infinite for |λ| = 1, zero for λ = 0,
        and for |λ| > 1 the negative of the steps in which the mode grows by a factor of e.

    Example:
        >>> timescales(torch.tensor([0.0, 0.5, 1.0])).tolist()
        [0.0, 1.4426950216293335, inf]
    """
    logarithm = eigenvalues.abs().log()
    return torch.where(logarithm == 0, torch.inf, -1.0 / logarithm)


def frequencies(eigenvalues: Tensor) -> Tensor:
    """Frequency |arg λ| / 2π of each mode in cycles a step: 0 for λ > 0, 1/2 for λ < 0.

    Args:
        eigenvalues: λ, real or complex, of any shape ``(…)``.

    Returns:
        Frequencies from 0 to 1/2, real and of the same shape.

    Example:
        >>> frequencies(torch.tensor([1.0, 1j, -1.0])).tolist()
        [0.0, 0.25, 0.5]
    """
    return eigenvalues.angle().abs() / (2 * math.pi)


def stability_of(eigenvalues: Tensor, marginal_tolerance: float = 1e-6) -> list[str]:
    """Stability for each row of eigenvalues, see :class:`FixedPointSet`."""
    modulus = eigenvalues.abs()
    inside = modulus < 1.0
    kinds = np.select(
        [((modulus - 1.0).abs() < marginal_tolerance).any(dim=1), inside.all(dim=1), inside.any(dim=1)],
        ["marginal", "stable", "saddle"],
        "unstable",
    )
    return [str(kind) for kind in kinds]


class Options(NamedTuple):
    """Options of a search for fixed points or cycles."""

    methods: tuple[str, ...]
    restarts: int
    seed: int
    time_limit: float
    border_tolerance: float
    singular_tolerance: float
    marginal_tolerance: float


class Candidates(NamedTuple):
    """Regimes ``(n, P)`` that may hold a fixed point, and whether all others provably hold none (``complete``)."""

    reduced: Reduced
    codes: Bools
    complete: bool
    method: str
    searched: int


def choose_methods(
    method: str,
    units: int,
    max_exhaustive_units: int,
    box: float | None = None,
    choices: tuple[str, ...] = ("auto", "exhaustive", "heuristic", "certified"),
) -> tuple[str, ...]:
    """The method, or for "auto" also the one to use if the time is not enough to search all regimes."""
    if not 0 <= max_exhaustive_units <= MOST_UNITS:
        raise ValueError(f"max_exhaustive_units must lie between 0 and {MOST_UNITS}, got {max_exhaustive_units}")
    if method not in choices:
        raise ValueError(f"method must be one of {', '.join(map(repr, choices))}, got {method!r}")
    if method == "exhaustive" and units > MOST_UNITS:
        raise ValueError(
            f"method='exhaustive' supports up to {MOST_UNITS} nonlinear units, got {units}: "
            "use 'heuristic', or 'certified' for all fixed points within a box"
        )
    if box is not None and method in ("exhaustive", "heuristic"):
        raise ValueError(f"box requires method='certified' or 'auto', got method={method!r}")
    if method != "auto":
        return (method,)
    beyond = "heuristic" if box is None else "certified"
    return ("exhaustive", beyond) if units <= max_exhaustive_units else (beyond,)


def check_options(options: Options) -> None:
    """Raise ``ValueError`` unless the options are in range."""
    if options.restarts < 0:
        raise ValueError(f"restarts must not be negative, got {options.restarts}")
    if not options.time_limit >= 0:
        raise ValueError(f"time_limit must not be negative, got {options.time_limit}")
    for name, limit in (("border_tolerance", 1e-9), ("singular_tolerance", 1e-9), ("marginal_tolerance", 1e-3)):
        value = getattr(options, name)
        if not 0 <= value <= limit:
            raise ValueError(f"{name} must lie between 0 and {limit:g}, got {value}")


def find_candidates(system: System, seeds: Bools, options: Options, name: str = "regimes") -> Candidates:
    """Search all regimes, or from the seeds if the method says so or the time is not enough."""
    start = time.monotonic()
    reduced = reduce_system(system, base_regime(system), options.singular_tolerance)
    *others, last = options.methods
    codes = None
    if "exhaustive" in options.methods or system.units == 0:
        codes = screen(reduced, options.time_limit if others else math.inf)
    if codes is None or (others and len(codes) > MOST_CANDIDATES):
        remaining = max(0.0, start + options.time_limit - time.monotonic())
        codes, searched = search(reduced, seeds, options.restarts, options.seed, remaining)
        candidates = Candidates(reduced, codes, False, last, searched)
    else:
        candidates = Candidates(reduced, codes, True, options.methods[0], 2**system.units)
    if len(candidates.codes) > MOST_CANDIDATES:
        raise ValueError(
            f"{len(candidates.codes)} {name} may hold a fixed point, but at most {MOST_CANDIDATES} can be listed: this "
            "is typical of networks with many uncoupled nonlinear units"
        )
    return candidates


def _find(
    plain: System,
    visited: Bools,
    options: Options,
    box: float | None,
    extent: float,
    max_ghosts: int,
    readout: Callable[[Tensor], Tensor] | None,
) -> FixedPointSet:
    deadline = time.monotonic() + options.time_limit
    system = balance(plain)
    candidates = find_candidates(system, visited, options)
    decided, searched, box = _certify(system, candidates, options, box, extent, deadline)
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
    condition = np.concatenate([np.linalg.cond(equations(plain, chunk)) for chunk in in_chunks(code, plain.size)])
    eigenvalues = tensor(values)
    is_visited = [((visited == bits) | free).all(axis=1).any() for bits, free in zip(code, border, strict=True)]
    box = box if decided.complete else None
    certificate = "not certified"
    if box is not None:
        certificate = "complete" if box == math.inf else f"complete within |z| ≤ {box:g}"
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
        visited=torch.tensor(is_visited, dtype=torch.bool),
        residual=tensor(np.abs(next_states(plain, z) - z).max(axis=1)),
        condition=tensor(condition),
        readout=None if readout is None else _read_out(readout, tensor(z)),
        complete=box == math.inf,
        certificate=certificate,
        box=box,
        method=candidates.method,
        index_sum=int(determinant_signs(system, code, options.singular_tolerance).sum()),
        continua=tuple(
            Continuum(*map(tensor, (piece.code, piece.z, piece.directions, piece.extent))) for piece in continua
        ),
        ghosts=_virtual(system, visited[:max_ghosts], options.marginal_tolerance),
        regimes_searched=searched,
    )


def _certify(
    system: System, candidates: Candidates, options: Options, box: float | None, extent: float, deadline: float
) -> tuple[Decided, int, float | None]:
    """Decide the candidates and those of integer programs; the number of all, and R if the box holds no other."""
    decided = decide(system, candidates.codes, options.border_tolerance, options.singular_tolerance)
    if candidates.complete or candidates.method == "heuristic":
        return decided, candidates.searched, math.inf if candidates.complete else None
    if box is None:
        points = [decided.solutions.z * system.scale, *(piece.z[None] for piece in decided.continua)]
        box = max(1.0, 10.0 * max(extent, *(float(np.abs(z[:, system.linear :]).max(initial=0.0)) for z in points)))
    radii = box / system.scale[system.linear :]
    codes, proven = certify(candidates.reduced, candidates.codes, radii, max(0.0, deadline - time.monotonic()))
    further = decide(system, codes, options.border_tolerance, options.singular_tolerance)
    decided = Decided(
        Solutions(*(np.concatenate(both) for both in zip(decided.solutions, further.solutions, strict=True))),
        decided.continua + further.continua,
        decided.complete and further.complete,
    )
    return decided, candidates.searched + len(codes), box if proven else None


def _virtual(system: System, codes: Bools, marginal_tolerance: float) -> VirtualFixedPoints:
    """Virtual fixed points of the regimes, in order."""
    virtual_codes, points = [], []
    for chunk in in_chunks(codes, system.size):
        matrices = equations(system, chunk)
        values = np.linalg.svd(matrices, compute_uv=False)
        regular = values[:, -1] > 1e-13 * np.maximum(values[:, 0], 1.0)
        z = np.linalg.solve(matrices[regular], system.drive[:, None])[..., 0]
        virtual = _outside(system, z, chunk[regular]) > 1e-12 * np.abs(z).max(axis=1, initial=0.0)
        virtual_codes.append(chunk[regular][virtual])
        points.append(z[virtual])
    code, z = np.concatenate(virtual_codes), np.concatenate(points)
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
    parts = [np.linalg.eig(regime_matrices(system, chunk)) for chunk in in_chunks(codes, system.size)]
    values, vectors = (np.concatenate(part).astype(np.complex128) for part in zip(*parts, strict=True))
    vectors = vectors * system.scale[:, None]
    vectors = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return sort_modes(values, vectors, -np.abs(values))
