"""Lyapunov exponents: the average rate at which neighbouring trajectories separate."""

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
    regime_product,
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

_Cycle = tuple[NDArray[np.complex128], NDArray[np.complex128], float]
"""Eigenvalues and eigenvectors of the scaled product of J_k … J_1, and the logarithm of its scale."""


class LyapunovSpectrum(NamedTuple):
    """Lyapunov exponents along trajectories.

    Attributes:
        exponents: Exponents in nats a step, largest first, float64 of shape ``(batch, count)``; −∞ for a direction that
            is lost. A positive one means chaos, 0 an oscillation or a continuum.
        mean: Mean over the sequences, of shape ``(count,)``.
        kaplan_yorke: Kaplan–Yorke dimension (1979) j + Σ_{i ≤ j} λ_i / |λ_{j+1}|, j the most exponents whose sum is not
            negative, float64 of shape ``(batch,)``; ``count`` if the sum of all is not negative.
        steps: Number of Jacobians of each sequence.
    """

    exponents: Tensor
    mean: Tensor
    kaplan_yorke: Tensor
    steps: int


class LargestExponent(NamedTuple):
    """Largest Lyapunov exponent of the attractors that trajectories settle on.

    Attributes:
        exponent: Largest exponent of all attractors, in nats a step; −∞ if all directions are lost.
        error: Standard error of the exponent; 0 for a fixed point, a cycle or a continuum, ∞ if trajectories have not
            reached an attractor.
        settled: Whether the error is within the requested bound.
        trajectories: Number of trajectories with this exponent.
        exponents: Exponent of each trajectory's attractor, float64 of shape ``(batch,)``; NaN if the trajectory
            diverged, or was not followed because the network is large.
        errors: Standard errors of ``exponents``, of the same shape.
        steps: Number of steps of the longest trajectories.
    """

    exponent: float
    error: float
    settled: bool
    trajectories: int
    exponents: Tensor
    errors: Tensor
    steps: int


class _Course(NamedTuple):
    """Growth ``(chunks, batch)``, regimes as numbers ``(steps, batch)``, mean φ* of two halves, last 128 states."""

    z: Floats
    direction: Floats
    growth: Floats
    regimes: Floats
    averages: Floats
    tail: Floats
    diverged: Bools


def lyapunov_spectrum(
    rnn: ALRNN | Recurrence, states: Tensor, count: int | None = None, warm_up: int = 0
) -> LyapunovSpectrum:
    """Compute Lyapunov exponents by QR decompositions of the Jacobians along trajectories.

    If inputs drive the trajectories, the exponents are conditional on them.

    Args:
        rnn: Network, or its parameters.
        states: Successive states z_0 … z_T, all valid, shape ``(batch, time, M)``.
        count: Number of exponents; ``None`` for all M.
        warm_up: Number of first steps that turn the directions but do not count.

    Raises:
        ValueError: If a parameter or a state is not finite, a shape does not fit, ``count`` is not within 1 … M or no
            step remains after ``warm_up``.

    Example:
        >>> import torch
        >>> W = torch.tensor([[0.5, 1.0], [0.0, 2.0]])
        >>> rnn = Recurrence(torch.zeros(2), W, None, torch.zeros(2), P=0)
        >>> spectrum = lyapunov_spectrum(rnn, torch.zeros(1, 101, 2), warm_up=50)
        >>> [round(value, 4) for value in spectrum.mean.tolist()]  # ln 2 and −ln 2
        [0.6931, -0.6931]

    Reference:
        Benettin et al., Meccanica 15, 1980. Engelken, Wolf & Abbott, Physical Review Research 5, 2023.
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
    """Estimate the largest Lyapunov exponent of the attractors that trajectories reach under a constant input.

    At a fixed point, on a continuum and on a cycle of up to 64 steps the exponent is ln ρ(J_k … J_1) / k, without
    error. Elsewhere it is the mean of ln ‖J_t δ_t‖ / ‖δ_t‖ over the last half of the steps, which are doubled until the
    standard error is small. The error comes from means over blocks, over all trajectories with the same averages of
    states, and is no less than a significant difference from the preceding stretch.

    Args:
        rnn: Network, or its parameters.
        states: Initial states of the trajectories, shape ``(batch, M)``.
        inputs: Constant input s, shape ``(K,)``; ``None`` for zeros.
        max_error: Requested standard error in nats a step; for a larger exponent, 2 % of it suffice.
        max_steps: Largest number of steps, at least 1,024. A large network takes fewer steps of fewer trajectories, for
            about 2 seconds.

    Raises:
        ValueError: If a parameter or a state is not finite, a shape does not fit, ``max_steps`` is below 1,024, or all
            trajectories diverge.

    Example:
        The skew tent map with slopes 2.5 and −5/3 has λ = 0.4 ln 2.5 + 0.6 ln(5/3) = 0.673.

        >>> import torch
        >>> rnn = Recurrence(torch.tensor([2.5]), torch.tensor([[-25 / 6]]), None, torch.tensor([0.6]), P=1)
        >>> result = largest_exponent(rnn, torch.linspace(-0.3, 0.5, 16)[:, None])
        >>> abs(result.exponent - 0.673) < 0.003, result.settled, result.trajectories
        (True, True, 16)

    Reference:
        Benettin et al., Meccanica 15, 1980. Flyvbjerg & Petersen, Journal of Chemical Physics 91, 1989, on the error.
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
    cycles: dict[bytes, _Cycle] = {}
    growth_before = np.zeros((0, len(z)))
    most_steps, steps, done = max_steps, _FIRST_STEPS, 0
    while len(active):
        course = _follow(system, z, direction, steps)
        done += steps
        exponents[active] = _of_cycles(system, course, cycles)
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
            # a trajectory that repeats the same regimes may still leave them if nothing proves that it stays
            stays = np.array([_period(course.regimes[:, row]) > 0 for row in moving])
            for rows in (moving[~stays], *moving[stays, None]):
                exponents[active[rows]], errors[active[rows]] = _averages(course, growth_before, rows)
            errors[active[moving[stays]]] = np.inf
            top = np.nanmax(exponents)
            uncertain = (errors > _small(top, max_error)) & (exponents + 3 * errors >= top)
            if 2 * done > most_steps or not uncertain.any():
                break
        z, direction, growth_before = course.z[moving], course.direction[moving], course.growth[:, moving]
        active, steps = active[moving], done
    if np.isnan(exponents).all():
        raise ValueError(
            f"all {len(states)} trajectories grow beyond |z| = {DIVERGED:.0e}: there is no attractor; use other "
            "initial states or a stable network"
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


def _of_cycles(system: System, course: _Course, cycles: dict[bytes, _Cycle]) -> Floats:
    """Exponents of trajectories that stay on a cycle of regimes for good; NaN for the others."""
    exponents = np.full(len(course.z), np.nan)
    exponents[~course.diverged & np.isneginf(course.growth).any(axis=0)] = -np.inf
    for row in np.flatnonzero(~course.diverged & np.isnan(exponents)):
        tail = course.tail[row]
        period = _period(course.regimes[-_TAIL:, row])
        if not period:
            continue
        codes = tail[-period:, system.linear :] > 0
        key = np.packbits(codes).tobytes() + bytes([period])
        if key not in cycles:
            (product,), (scale,) = regime_product(system, codes[None])
            cycles[key] = (*np.linalg.eig(product), scale)
        values, _, scale = cycles[key]
        with np.errstate(divide="ignore"):
            exponent = (np.log(np.abs(values).max()) + scale) / period
        step = np.abs(tail[period:] - tail[:-period]).max()
        stable = exponent * period <= _MARGIN
        rests = step <= _AT_REST * (1 + np.abs(tail[-1]).max()) if stable else step == 0
        if rests or (stable and _stays(system, tail, codes, cycles[key])):
            exponents[row] = exponent
    return exponents


def _period(regimes: Floats) -> int:
    """Least period up to 64 of the regimes of successive states, a number for each; 0 without a period."""
    return next((k for k in range(1, LONGEST_PERIOD + 1) if (regimes[k:] == regimes[:-k]).all()), 0)


def _stays(system: System, tail: Floats, codes: Bools, cycle: _Cycle) -> bool:
    """Whether a trajectory with a stable cycle of regimes keeps to it for ever.

    If a period moves it by V c, n periods later it is at z_∞ + V Λ^n c / (Λ − 1), within |V| |c / (Λ − 1)| of z_∞.
    """
    period, (values, vectors, scale) = len(codes), cycle
    values = values * np.exp(scale)
    change = tail[-period] - tail[-2 * period]
    try:
        c = np.linalg.solve(vectors, change)
    except np.linalg.LinAlgError:
        return False
    # from the start of the last period on: the change to come is Λ c
    fixed = np.abs(values - 1) <= _MARGIN
    if (np.abs(c[fixed]) > 1e-3 * _AT_REST * (1 + np.abs(tail[-1]).max())).any():
        return False
    c = np.where(fixed, 0.0, c * values / np.where(fixed, 1.0, values - 1))
    for z, code in zip(tail[-period:], codes, strict=True):
        limit = (z - (vectors @ c).real)[system.linear :]
        reach = (np.abs(vectors) @ np.abs(c))[system.linear :]
        if not np.where(code, limit - reach > 0, limit + reach <= 0).all():
            return False
        vectors = regime_matrices(system, code) @ vectors
    return True


def _averages(course: _Course, before: Floats, rows: NDArray[np.int64]) -> tuple[Floats, Floats]:
    """Exponents and standard errors, equal for trajectories on the same attractor or on attractors that are alike."""
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
    """Exponent of trajectories on one attractor, and its standard error."""
    growth, earlier = course.growth[:, rows] / _CHUNK, before[:, rows] / _CHUNK
    mean, error = float(growth.mean()), _standard_error(growth)
    drift = abs(mean - float(earlier.mean()))
    return mean, max(error, drift) if drift > 3 * np.hypot(error, _standard_error(earlier)) else error


def _groups(averages: Floats) -> list[NDArray[np.int64]]:
    """Indices of trajectories whose averages differ by at most three times the difference between their halves."""
    centre, apart = averages.mean(axis=0), np.linalg.norm(averages[1] - averages[0], axis=1)
    labels = np.arange(len(centre))
    for row, point in enumerate(centre):
        near = np.linalg.norm(centre - point, axis=1) <= 3 * np.maximum(apart, apart[row])
        labels[np.isin(labels, labels[near])] = labels[row]
    return [np.flatnonzero(labels == label) for label in np.unique(labels)]


def _standard_error(values: Floats) -> float:
    """Standard error of the mean of correlated series ``(time, batch)``: the largest over blocks of doubling length."""
    mean, largest, blocks = values.mean(), 0.0, values
    while blocks.size >= _FEWEST_BLOCKS:
        variance = np.square(blocks - mean).sum() / (blocks.size - 1)
        largest = max(largest, float(np.sqrt(variance / blocks.size)))
        if len(blocks) == 1:
            break
        blocks = blocks[: len(blocks) // 2 * 2].reshape(-1, 2, blocks.shape[1]).mean(axis=1)
    return largest


def _small(exponent: float, max_error: float) -> float:
    """Standard error up to which an exponent is settled."""
    return max(max_error, _RELATIVE_ERROR * abs(exponent))


def _kaplan_yorke(exponents: Floats) -> Floats:
    dimensions = np.zeros(len(exponents))
    for row, (rates, sums) in enumerate(zip(exponents, np.cumsum(exponents, axis=1), strict=True)):
        count = int((np.cumsum(sums < 0) == 0).sum())
        dimensions[row] = count
        if 0 < count < len(rates):
            dimensions[row] += sums[count - 1] / abs(rates[count])
    return dimensions
