"""Lyapunov exponents: how fast neighbouring trajectories part, on average."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.analysis.settling import DIVERGED, LONGEST_PERIOD
from lightning_alrnn.analysis.system import (
    Bools,
    Floats,
    System,
    read_recurrence,
    read_states,
    read_system,
    regime_matrices,
    tensor,
)
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence, jvp

_CHUNK = 8
"""Steps between two normalisations of a direction."""
_TAIL = 2 * LONGEST_PERIOD
_FIRST_STEPS = 512
_LEAST_STEPS = 8192
"""Steps before an average counts as one."""
_FEWEST_BLOCKS = 16
_FEWEST_TRAJECTORIES = 4
_MOST_OPERATIONS = 2e10
"""Multiplications, about two seconds."""
_RELATIVE_ERROR = 0.02
_MARGIN = 1e-9
_AT_REST = 1e-10


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


class LargestExponent(NamedTuple):
    """The largest Lyapunov exponent of the attractors that trajectories settle on.

    Attributes:
        exponent: the largest of all attractors, in nats a step; −∞ where all directions are lost.
        error: its standard error; 0 where it is that of a fixed point, a cycle or a continuum, ∞ where trajectories
            have not yet come to an attractor.
        settled: whether the error is within the bound that was asked for.
        trajectories: number of trajectories that have this exponent.
        exponents: of the attractor of each trajectory, float64 of shape ``(batch,)``; NaN where it diverged, or was not
            followed because the network is large.
        errors: their standard errors, of the same shape.
        steps: number of steps that the longest trajectories were followed for.
    """

    exponent: float
    error: float
    settled: bool
    trajectories: int
    exponents: Tensor
    errors: Tensor
    steps: int


class _Course(NamedTuple):
    """Growth ``(chunks, batch)``, the regimes as numbers ``(steps, batch)``, mean φ* of two halves, last 128 states."""

    z: Floats
    direction: Floats
    growth: Floats
    regimes: Floats
    averages: Floats
    tail: Floats
    diverged: Bools


class _Cycle(NamedTuple):
    """Eigenvalues and eigenvectors of J_k … J_1 = scaled product · exp(scale)."""

    eigenvalues: NDArray[np.complex128]
    vectors: NDArray[np.complex128]
    scale: float


def lyapunov_spectrum(
    rnn: ALRNN | Recurrence, states: Tensor, count: int | None = None, warm_up: int = 0
) -> LyapunovSpectrum:
    """Lyapunov exponents by QR decompositions of the Jacobians along trajectories.

    The trajectories may be driven by inputs; the exponents are then conditional on them.

    Args:
        rnn: the network, or its parameters.
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
    recurrence = read_recurrence(rnn)
    size = len(recurrence.h)
    if states.ndim != 3:
        raise ValueError(f"states must have shape (batch, time, M), got {tuple(states.shape)}")
    count = size if count is None else count
    if not 1 <= count <= size:
        raise ValueError(f"count must lie between 1 and M={size}, got {count}")
    if not 0 <= warm_up < states.shape[1]:
        raise ValueError(f"warm_up must lie between 0 and T−1={states.shape[1] - 1}, got {warm_up}")
    slopes = recurrence.slopes(read_states("states", states, size)).unsqueeze(2)
    start = np.linalg.qr(np.random.default_rng(0).normal(size=(size, count)))[0]
    directions = tensor(start.T).expand(len(slopes), count, size)
    total = np.zeros((len(slopes), count))
    for step in range(slopes.shape[1]):
        columns, triangle = np.linalg.qr(recurrence.jvp(directions, slopes[:, step]).mT.numpy())
        directions = tensor(columns).mT
        if step >= warm_up:
            with np.errstate(divide="ignore"):
                total += np.log(np.abs(np.diagonal(triangle, axis1=1, axis2=2)))
    steps = slopes.shape[1] - warm_up
    exponents = -np.sort(-total / steps, axis=1)
    return LyapunovSpectrum(tensor(exponents), tensor(exponents.mean(axis=0)), tensor(_kaplan_yorke(exponents)), steps)


def largest_exponent(
    rnn: ALRNN | Recurrence,
    states: Tensor,
    inputs: Tensor | None = None,
    *,
    max_error: float = 1e-3,
    max_steps: int = 65_536,
) -> LargestExponent:
    """The largest Lyapunov exponent of the attractors that trajectories settle on under a constant input.

    At a fixed point, on a continuum and on a cycle of up to 64 steps the exponent is ln ρ(J_k … J_1) / k and has no
    error. Elsewhere it is the mean of ln ‖J_t δ_t‖ / ‖δ_t‖ over the last half of the steps; the first half turns states
    and directions. The steps are doubled until the standard error is small. The error is that of means over blocks (the
    largest of all block lengths), over all trajectories with the same averages of states, and no less than a
    significant difference from the stretch before.

    Args:
        rnn: the network, or its parameters.
        states: where the trajectories start, shape ``(batch, M)``.
        inputs: the constant input s, shape ``(K,)``; ``None`` for zeros.
        max_error: standard error that is small enough, in nats a step; in a larger exponent, 2 % of it.
        max_steps: most steps, at least 1,024. A large network takes fewer steps, of fewer trajectories: some 2 seconds.

    Raises:
        ValueError: if a parameter or a state is not finite, a shape does not fit, ``max_steps`` is below 1,024, or all
            trajectories diverge.

    Example:
        The skew tent map with slopes 2.5 and −5/3 has λ = 0.4 ln 2.5 + 0.6 ln(5/3) = 0.673.

        >>> import torch
        >>> rnn = Recurrence(torch.tensor([2.5]), torch.tensor([[-25 / 6]]), None, torch.tensor([0.6]), P=1)
        >>> found = largest_exponent(rnn, torch.linspace(-0.3, 0.5, 16)[:, None])
        >>> abs(found.exponent - 0.673) < 0.003, found.settled, found.trajectories
        (True, True, 16)

    Reference:
        Benettin, Galgani, Giorgilli & Strelcyn, Meccanica 15, 1980. Flyvbjerg & Petersen, Journal of Chemical Physics
        91, 1989, on the error of averages over time.
    """
    if max_steps < 2 * _FIRST_STEPS:
        raise ValueError(f"max_steps must be at least {2 * _FIRST_STEPS}, got {max_steps}")
    system = read_system(rnn, inputs)
    if states.ndim != 2:
        raise ValueError(f"states must have shape (batch, M), got {tuple(states.shape)}")
    z = read_states("states", states, system.size).numpy()
    direction = np.random.default_rng(0).normal(size=z.shape)
    exponents, errors = np.full(len(z), np.nan), np.full(len(z), np.nan)
    active = np.arange(len(z))
    known: dict[bytes, _Cycle] = {}
    growth_before = np.zeros((0, len(z)))
    most_steps, steps, done = max_steps, _FIRST_STEPS, 0
    while len(active):
        course = _follow(system, z, direction, steps)
        done += steps
        exponents[active] = _of_cycles(system, course, known)
        errors[active] = np.where(np.isnan(exponents[active]), np.nan, 0.0)
        moving = np.flatnonzero(np.isnan(exponents[active]) & ~course.diverged)
        if steps == done:
            most = max(_FEWEST_TRAJECTORIES, int(_MOST_OPERATIONS / (2 * z.shape[1] ** 2 * _LEAST_STEPS)))
            moving = moving[np.linspace(0, len(moving) - 1, min(most, len(moving))).round().astype(int)]
            operations = 2 * max(len(moving), 1) * z.shape[1] ** 2
            most_steps = min(max_steps, max(_LEAST_STEPS, int(_MOST_OPERATIONS / operations)))
        if not len(moving):
            break
        if 2 * done > most_steps or done >= _LEAST_STEPS:
            # a trajectory that goes through the same regimes all along, not held there for certain, may yet leave them
            stays = np.array([_period(course.regimes[:, row]) > 0 for row in moving])
            for rows in (moving[~stays], *moving[stays, None]):
                exponents[active[rows]], errors[active[rows]] = _averages(course, growth_before, rows)
            errors[active[moving[stays]]] = np.inf
            if 2 * done > most_steps or _is_certain(exponents, errors, max_error):
                break
        z, direction, growth_before = course.z[moving], course.direction[moving], course.growth[:, moving]
        active, steps = active[moving], done
    if np.isnan(exponents).all():
        raise ValueError(
            f"all {len(states)} trajectories grow beyond |z| = {DIVERGED:.0e}: there is no attractor; give other "
            "starts, or a stable network"
        )
    top = int(np.nanargmax(exponents))
    return LargestExponent(
        exponent=float(exponents[top]),
        error=float(errors[top]),
        settled=bool(errors[top] <= _small(exponents[top], max_error)),
        trajectories=int((exponents >= exponents[top] - _MARGIN).sum()),
        exponents=tensor(exponents),
        errors=tensor(errors),
        steps=done,
    )


def _follow(system: System, z: Floats, direction: Floats, steps: int) -> _Course:
    """Take steps, a multiple of 8 and at least 128, with a direction turned and stretched along each trajectory."""
    linear, A, W = system.linear, system.recurrence.A.numpy(), system.coupling
    both, slopes = np.stack((z, direction)), np.ones_like(z)
    chunks = steps // _CHUNK
    growth, regimes, averages = np.zeros((chunks, len(z))), np.zeros((steps, len(z))), np.zeros((2, *z.shape))
    weights = np.random.default_rng(0).random(z.shape[1])
    np.greater(z[:, linear:], 0.0, out=slopes[:, linear:])
    tail, diverged = np.zeros((len(z), _TAIL, z.shape[1])), np.zeros(len(z), dtype=np.bool_)
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # of trajectories that diverge, directions lost
        for chunk in range(chunks):
            for step in range(chunk * _CHUNK, (chunk + 1) * _CHUNK):
                both = jvp(A, W, both, slopes)
                both[0] += system.drive
                np.greater(both[0, :, linear:], 0.0, out=slopes[:, linear:])
                averages[2 * chunk // chunks] += slopes * both[0]
                regimes[step] = slopes @ weights
                if step >= steps - _TAIL:
                    tail[:, step - steps + _TAIL] = both[0]
            diverged |= ~(np.abs(both[0]).max(axis=1) <= DIVERGED)
            both[:, diverged] = 0.0
            length = np.linalg.norm(both[1], axis=1)
            growth[chunk] = np.log(length)
            both[1] /= np.where(length > 0, length, 1.0)[:, None]
    return _Course(both[0], both[1], growth, regimes, averages / (steps / 2), tail, diverged)


def _of_cycles(system: System, course: _Course, known: dict[bytes, _Cycle]) -> Floats:
    """The exponents of trajectories that have come to a cycle of regimes for good; NaN of the others."""
    exponents = np.full(len(course.z), np.nan)
    exponents[~course.diverged & np.isneginf(course.growth).any(axis=0)] = -np.inf
    for row in np.flatnonzero(~course.diverged & np.isnan(exponents)):
        tail = course.tail[row]
        codes = tail[:, system.linear :] > 0
        period = _period(course.regimes[-_TAIL:, row])
        if not period:
            continue
        cycle = codes[-period:]
        key = np.packbits(cycle).tobytes() + bytes([period])
        if key not in known:
            known[key] = _cycle(system, cycle)
        values = known[key].eigenvalues
        with np.errstate(divide="ignore"):
            exponent = (np.log(np.abs(values).max()) + known[key].scale) / period
        step = np.abs(tail[period:] - tail[:-period]).max()
        stable = exponent * period <= _MARGIN
        rests = step <= _AT_REST * (1 + np.abs(tail[-1]).max()) if stable else step == 0
        if rests or (stable and _stays(system, tail, cycle, known[key])):
            exponents[row] = exponent
    return exponents


def _period(regimes: Floats) -> int:
    """The least period up to 64 of the regimes of successive states, a number for each; 0 without one."""
    return next((k for k in range(1, LONGEST_PERIOD + 1) if (regimes[k:] == regimes[:-k]).all()), 0)


def _cycle(system: System, codes: Bools) -> _Cycle:
    """Eigenvalues and eigenvectors of the product of a cycle's Jacobians, the first of ``(k, P)`` regimes first."""
    product, scale = np.eye(system.size), 0.0
    for matrix in regime_matrices(system, codes):
        product = matrix @ product
        size = np.abs(product).max()
        if size > 0:
            product, scale = product / size, scale + float(np.log(size))
    values, vectors = np.linalg.eig(product)
    return _Cycle(values.astype(np.complex128), vectors.astype(np.complex128), scale)


def _stays(system: System, tail: Floats, codes: Bools, cycle: _Cycle) -> bool:
    """Whether a trajectory with a stable cycle of regimes keeps to it for ever.

    Where a period moves it by V c, n periods later it is at z_∞ + V Λ^n c / (Λ − 1), within |V| |c / (Λ − 1)| of z_∞.
    """
    period = len(codes)
    values = cycle.eigenvalues * np.exp(cycle.scale)
    change = tail[-period] - tail[-2 * period]
    try:
        c = np.linalg.solve(cycle.vectors, change)
    except np.linalg.LinAlgError:
        return False
    # from the start of the last period on: the change to come is Λ c
    fixed = np.abs(values - 1) <= _MARGIN
    if (np.abs(c[fixed]) > 1e-3 * _AT_REST * (1 + np.abs(tail[-1]).max())).any():
        return False
    c = np.where(fixed, 0.0, c * values / np.where(fixed, 1.0, values - 1))
    vectors = cycle.vectors
    for z, code in zip(tail[-period:], codes, strict=True):
        limit = (z - (vectors @ c).real)[system.linear :]
        reach = (np.abs(vectors) @ np.abs(c))[system.linear :]
        if not np.where(code, limit - reach > 0, limit + reach <= 0).all():
            return False
        vectors = regime_matrices(system, code) @ vectors
    return True


def _averages(course: _Course, before: Floats, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Exponents and standard errors, the same for trajectories on one attractor or on attractors that are alike."""
    means, errors = np.zeros(len(rows)), np.zeros(len(rows))
    parts = [(*_average(course, before, rows[part]), part) for part in _groups(course.averages[:, rows])]
    while parts:
        mean, error, _ = max(parts, key=lambda part: part[0])
        alike = [abs(part[0] - mean) <= 2 * np.hypot(part[1], error) for part in parts]
        together = np.concatenate([part[2] for part, near in zip(parts, alike, strict=True) if near])
        means[together], errors[together] = _average(course, before, rows[together])
        parts = [part for part, near in zip(parts, alike, strict=True) if not near]
    return means, errors


def _average(course: _Course, before: Floats, rows: NDArray[np.int64]) -> tuple[float, float]:
    """The exponent of trajectories on one attractor, and its standard error."""
    growth, earlier = course.growth[:, rows] / _CHUNK, before[:, rows] / _CHUNK
    mean, error = float(growth.mean()), _standard_error(growth)
    drift = abs(mean - float(earlier.mean()))
    return mean, max(error, drift) if drift > 3 * np.hypot(error, _standard_error(earlier)) else error


def _groups(averages: Floats) -> list[NDArray[np.int64]]:
    """Trajectories, as indices, whose averages differ by no more than three times what they do between halves."""
    centre, apart = averages.mean(axis=0), np.linalg.norm(averages[1] - averages[0], axis=1)
    labels = np.arange(len(centre))
    for row, point in enumerate(centre):
        near = np.linalg.norm(centre - point, axis=1) <= 3 * np.maximum(apart, apart[row])
        labels[np.isin(labels, labels[near])] = labels[row]
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _standard_error(values: Floats) -> float:
    """That of the mean of correlated series, ``(time, batch)``: the largest over blocks of doubling length."""
    mean, largest, blocks = values.mean(), 0.0, values
    while blocks.size >= _FEWEST_BLOCKS:
        variance = np.square(blocks - mean).sum() / (blocks.size - 1)
        largest = max(largest, float(np.sqrt(variance / blocks.size)))
        if len(blocks) == 1:
            break
        blocks = blocks[: len(blocks) // 2 * 2].reshape(-1, 2, blocks.shape[1]).mean(axis=1)
    return largest


def _small(exponent: float, max_error: float) -> float:
    """The standard error up to which an exponent is settled."""
    return max(max_error, _RELATIVE_ERROR * abs(exponent))


def _is_certain(exponents: Floats, errors: Floats, max_error: float) -> bool:
    """Whether the largest exponent has a small error, and none that is less well known may be larger."""
    top = np.nanmax(exponents)
    return not ((errors > _small(top, max_error)) & (exponents + 3 * errors >= top)).any()


def _kaplan_yorke(exponents: np.typing.NDArray[np.float64]) -> np.typing.NDArray[np.float64]:
    sums = np.cumsum(exponents, axis=1)
    dimensions = np.zeros(len(exponents))
    for row, (own, total) in enumerate(zip(exponents, sums, strict=True)):
        whole = int((np.cumsum(total < 0) == 0).sum())
        before = total[whole - 1] if whole else 0.0
        dimensions[row] = whole if whole == len(own) else whole + before / abs(own[whole])
    return dimensions
