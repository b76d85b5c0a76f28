"""Distances between networks that do not depend on the coordinates of their states."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import combinations
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.cluster.hierarchy import complete, fcluster, leaves_list, optimal_leaf_ordering
from scipy.optimize import linear_sum_assignment, linprog
from scipy.spatial.distance import squareform
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import eigenvalues_of_regimes
from lightning_alrnn.analysis.primitives import input_gain
from lightning_alrnn.analysis.regime_statistics import count_rows, pack_bits, regime_bits, unpack_bits
from lightning_alrnn.analysis.system import read_recurrence, tensor
from lightning_alrnn.batch import valid_steps
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

MEASURES = {
    "gains": "how strongly each input affects the answer",
    "switching": "which steps share a regime",
    "graph": "which switches between regimes occur, and how often",
    "dynamics": "the modes of the regimes",
}
SAME = 0.5  # distance up to which two networks count as the same; it is 1 if they have nothing in common

_MOST_REGIMES = 16
_MOST_MATCHED = 256
_COVERED = 0.95
_MOST_OUTPUTS = 4
_LEAST_VARIANCE = 0.01
_TINY = 1e-9


class Portrait(NamedTuple):
    """Description of a network on some sequences that does not depend on the coordinates of its states.

    It stays the same if units are permuted, nonlinear units are scaled by positive factors, or linear units are mixed
    by an invertible matrix.

    Attributes:
        labels: Number of the regime at each step, int64 of shape ``(batch, time)``; −1 in padding. Regime 0 is the most
            visited one; of regimes visited equally often, the earliest comes first.
        occupancy: Share of steps in up to 16 regimes that cover 95 %, scaled to sum 1, float64 of shape ``(regimes,)``.
        spectra: Eigenvalues of A + W D in each of these regimes, complex128 of shape ``(regimes, M)``.
        gains: ∂y_T/∂s_t times the standard deviation of s, float64 of shape ``(outputs, batch, time, K)``.
    """

    labels: Tensor
    occupancy: Tensor
    spectra: Tensor
    gains: Tensor


class Comparison(NamedTuple):
    """Distances between n networks.

    Attributes:
        measures: Distances by each measure (a key of ``MEASURES``), float64 of shape ``(n, n)``. A measure that is zero
            for all networks is left out, such as ``switching`` for P = 0.
        untrained: Median distance between a network and an untrained one, by each measure.
        distance: Largest of the measures, float64 of shape ``(n, n)``.
        merges: Complete-linkage clustering of ``distance`` in SciPy's form, float64 of shape ``(n − 1, 4)``.
        order: Order of the networks that puts similar ones next to each other, int64 of shape ``(n,)``.
        groups: Group of each network, from 0 for the largest, int64 of shape ``(n,)``, with distances up to ``SAME``.
        unchanged: Range (lower, upper) of thresholds other than ``SAME`` that lead to the same groups.
    """

    measures: dict[str, Tensor]
    untrained: dict[str, float]
    distance: Tensor
    merges: NDArray[np.float64]
    order: Tensor
    groups: Tensor
    unchanged: tuple[float, float]


def output_directions(outputs: Sequence[Tensor]) -> Tensor:
    """Find the directions in which the outputs of several networks vary, the same for all of them.

    Args:
        outputs: Outputs of each network for the same sequences, shape ``(batch, outputs)``; their scale has no effect.

    Returns:
        Principal components of the outputs with at least 1 % of the variance, four at most, float64 of shape
        ``(directions, outputs)``.

    Example:
        >>> output_directions([torch.tensor([[1.0, 0.0], [-1.0, 0.0]])]).abs().tolist()
        [[1.0, 0.0]]
    """
    centred = [values.double() - values.double().mean(dim=0) for values in outputs]
    scaled = torch.cat([values / values.norm().clamp(min=_TINY) for values in centred])
    _, strength, directions = torch.linalg.svd(scaled, full_matrices=False)
    share = strength.square() / strength.square().sum().clamp(min=_TINY)
    leading: Tensor = directions[: max(1, min(_MOST_OUTPUTS, int((share >= _LEAST_VARIANCE).sum())))]
    return leading


def portrait(
    rnn: ALRNN | Recurrence, inputs: Tensor, states: Tensor, readout_weight: Tensor, lengths: Tensor
) -> Portrait:
    """Describe a network on some sequences for comparison with other networks.

    Args:
        rnn: Network or its parameters.
        inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``.
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        readout_weight: Matrix D of the outputs y = D z + b, shape ``(outputs, M)``.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.

    Raises:
        ValueError: If a parameter or a state is not finite or a shape does not fit.

    Example:
        >>> rnn, states = ALRNN(1, 2, 1), torch.tensor([[[0.0, 1.0], [0.0, -1.0], [0.0, -2.0]]])
        >>> view = portrait(rnn, torch.randn(1, 3, 1), states, torch.ones(1, 2), torch.tensor([3]))
        >>> view.labels.tolist(), view.spectra.shape, view.gains.shape
        ([[1, 0, 0]], torch.Size([2, 2]), torch.Size([1, 1, 3, 1]))
    """
    units = int(read_recurrence(rnn).P)
    valid = valid_steps(lengths, states.shape[1])
    words, counts, regime = count_rows(pack_bits(regime_bits(states, units)[valid]))
    # regimes visited equally often are ordered by their first step, as their codes depend on the order of the units
    first = torch.full_like(counts, len(regime)).scatter_reduce(0, regime, torch.arange(len(regime)), "amin")
    by_count = tensor(np.lexsort((first.numpy(), -counts.numpy())))
    labels = torch.full(states.shape[:2], -1)
    labels[valid] = by_count.argsort()[regime]
    share = counts[by_count].double() / counts.sum()
    spread = inputs[valid].double().std(dim=0, correction=0)
    listed = min(_MOST_REGIMES, int((share.cumsum(0) < _COVERED).sum()) + 1)
    return Portrait(
        labels,
        share[:listed] / share[:listed].sum(),
        eigenvalues_of_regimes(rnn, unpack_bits(words[by_count[:listed]], units)),
        torch.stack([input_gain(rnn, states, row, lengths) for row in readout_weight]) * spread,
    )


def gain_distance(one: Portrait, other: Portrait) -> float:
    """Compare how strongly each input affects the answer, √(1 − cos).

    cos is the cosine of the angle between the gains of the two networks; a common factor has no effect.

    Args:
        one: Portrait of a network.
        other: Portrait of another network on the same sequences.

    Returns:
        0 for the same gains, 1 for gains with nothing in common, √2 for opposite gains.

    Example:
        >>> empty = torch.zeros(0)
        >>> one, other = (Portrait(empty, empty, empty, torch.tensor(gains)) for gains in ([1.0, 0], [0, 1.0]))
        >>> gain_distance(one, one), round(gain_distance(one, other), 6)
        (0.0, 1.0)
    """
    if not one.gains.any() or not other.gains.any():  # no input counts
        return float(bool(one.gains.any() or other.gains.any()))
    # half a chord of the unit sphere: the cosine itself would be rounded to a distance of 1e-8
    return float((one.gains / one.gains.norm() - other.gains / other.gains.norm()).norm()) / math.sqrt(2)


def switching_distance(one: Portrait, other: Portrait) -> float:
    """Compare how the steps are divided into regimes, 1 − I / H (normalised variation of information).

    I is the mutual information between the regimes of the two networks at the same step, H their joint entropy.

    Args:
        one: Portrait of a network.
        other: Portrait of another network on the same sequences.

    Returns:
        0 if the regime of one network determines that of the other and vice versa, 1 if they are independent.

    Example:
        >>> empty, labels = torch.zeros(0), ([0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1])
        >>> one, other, third = (Portrait(torch.tensor([row]), empty, empty, empty) for row in labels)
        >>> switching_distance(one, other), switching_distance(one, third)
        (0.0, 1.0)
    """
    valid = one.labels >= 0
    first, second = one.labels[valid], other.labels[valid]
    joint = _entropy(torch.stack((first, second), dim=1))
    if joint < _TINY:
        return 0.0
    information = _entropy(first.unsqueeze(1)) + _entropy(second.unsqueeze(1)) - joint
    return min(1.0, max(0.0, 1 - information / joint))


def graph_distance(one: Portrait, other: Portrait) -> float:
    """Compare the switches between regimes, Σ |f_ij − g_ij| / Σ (f_ij + g_ij) over i ≠ j.

    f_ij and g_ij are the numbers of switches from regime i to regime j. Regimes of the two networks are matched such
    that as many steps as possible are in the same regime in both (Hungarian algorithm; the 256 most visited). The same
    switches some steps later make no difference.

    Args:
        one: Portrait of a network.
        other: Portrait of another network on the same sequences.

    Returns:
        0 for the same switches equally often, 1 for no switches in common.

    Example:
        >>> empty, labels = torch.zeros(0), ([0, 0, 1, 1], [1, 1, 0, 0])
        >>> graph_distance(*(Portrait(torch.tensor([row]), empty, empty, empty) for row in labels))
        0.0
    """
    sizes = [int(network.labels.max()) + 1 for network in (one, other)]
    first, second = (min(size, _MOST_MATCHED) for size in sizes)
    both = (one.labels >= 0) & (one.labels < first) & (other.labels < second)
    overlap = (one.labels[both] * second + other.labels[both]).bincount(minlength=first * second)
    rows, columns = map(torch.from_numpy, linear_sum_assignment(-overlap.reshape(first, second).numpy()))
    names = torch.arange(sizes[1]) + sizes[0]
    names[columns] = rows
    renamed = torch.where(other.labels >= 0, names[other.labels.clamp(min=0)], -1)
    switches = [_switches(labels) for labels in (one.labels, renamed)]
    pairs = torch.cat(switches)
    if len(pairs) == 0:
        return 0.0
    signs = torch.ones(len(pairs), dtype=torch.int64)
    signs[len(switches[0]) :] = -1
    return float(count_rows(pairs[:, :1] * sum(sizes) + pairs[:, 1:], signs)[1].abs().sum()) / len(pairs)


def spectrum_distance(one: Tensor, other: Tensor) -> float:
    """√(Σ |λ − μ|² / Σ (|λ|² + |μ|²)) of two lists of eigenvalues, matched by the Hungarian algorithm.

    The shorter list is filled up with zeros, the modes of units without effect. 0 is the same, 1 all zero in one list.
    """
    size = max(len(one), len(other))
    first, second = (np.pad(values.numpy(), (0, size - len(values))) for values in (one, other))
    total = float((np.abs(first) ** 2).sum() + (np.abs(second) ** 2).sum())
    if total < _TINY**2:
        return 0.0
    cost = np.abs(first[:, None] - second[None, :]) ** 2
    return math.sqrt(float(cost[linear_sum_assignment(cost)].sum()) / total)


def dynamics_distance(one: Portrait, other: Portrait) -> float:
    """Compare the modes of the regimes that the networks visit.

    The distance is the mean :func:`spectrum_distance` under the best transport between the regimes of the two networks,
    each weighted by its occupancy (the Wasserstein distance of order 1).

    Args:
        one: Portrait of a network.
        other: Portrait of another network.

    Returns:
        0 if both visit regimes with the same eigenvalues equally often.

    Example:
        >>> empty, spectra = torch.zeros(0), torch.tensor([[0.5], [0.9]])
        >>> shares = torch.tensor([0.75, 0.25]), torch.tensor([0.5, 0.5])
        >>> round(dynamics_distance(*(Portrait(empty, share, spectra, empty) for share in shares)), 4)
        0.0971
    """
    cost = np.array([[spectrum_distance(left, right) for right in other.spectra] for left in one.spectra])
    first, second = (network.occupancy.double().numpy() for network in (one, other))
    rows, columns = np.kron(np.eye(len(first)), np.ones(len(second))), np.tile(np.eye(len(second)), len(first))
    # the last sum follows from the others; rounding would make the equations contradict each other
    sums, shares = np.vstack((rows, columns))[:-1], np.concatenate((first, second))[:-1]
    transport = linprog(cost.ravel(), A_eq=sums, b_eq=shares, method="highs")
    return max(0.0, float(cost.ravel() @ transport.x))


_DISTANCES = {
    "gains": gain_distance,
    "switching": switching_distance,
    "graph": graph_distance,
    "dynamics": dynamics_distance,
}


def compare_portraits(
    portraits: Sequence[Portrait], untrained: Sequence[Portrait], measures: Sequence[str] = tuple(MEASURES)
) -> Comparison:
    """Compare networks with each other and with untrained ones.

    Args:
        portraits: Portraits of the networks on the same sequences.
        untrained: Portrait of an untrained network of the same form for each network, on the same sequences. A measure
            that is small here too does not show that networks have learned the same.
        measures: Keys of ``MEASURES``. Leave out ``gains`` if each network has its own encoder, because the inputs of
            the recurrent layers then differ.

    Example:
        >>> inputs, rnns = torch.randn(8, 5, 1), [ALRNN(1, 3, 1) for _ in range(4)]
        >>> def look(rnn):
        ...     return portrait(rnn, inputs, rnn(inputs)[0].detach(), torch.ones(1, 3), torch.full((8,), 5))
        >>> comparison = compare_portraits([look(rnns[0]), look(rnns[0])], [look(rnns[1]), look(rnns[2])])
        >>> float(comparison.distance.max()), comparison.groups.tolist()
        (0.0, [0, 0])
    """
    size = len(portraits)
    distances, references = dict[str, Tensor](), dict[str, float]()
    for name in measures:
        measure = _DISTANCES[name]
        reference = float(np.median([measure(*pair) for pair in zip(portraits, untrained, strict=True)]))
        values = squareform([measure(other, one) for one, other in combinations(portraits, 2)])
        if max(reference, float(values.max())) > _TINY:
            references[name], distances[name] = reference, tensor(values)
    distance = torch.stack([torch.zeros(size, size, dtype=torch.float64), *distances.values()]).amax(dim=0)
    if size == 1:
        merges, order = np.zeros((0, 4)), np.zeros(1, dtype=np.int64)
    else:
        condensed = squareform(distance.numpy())
        merges = optimal_leaf_ordering(complete(condensed), condensed)
        order = leaves_list(merges).astype(np.int64)
    heights = merges[:, 2]
    return Comparison(
        distances,
        references,
        distance,
        merges,
        tensor(order),
        group_by(distance),
        (float(heights[heights <= SAME].max(initial=0.0)), float(heights[heights > SAME].min(initial=math.inf))),
    )


def group_by(distance: Tensor) -> Tensor:
    """Number of the group of each network, from 0 for the largest: any two of a group differ by at most ``SAME``."""
    if len(distance) == 1:
        return torch.zeros(1, dtype=torch.int64)
    clusters = fcluster(complete(squareform(distance.numpy())), SAME, criterion="distance")
    _, first, labels, sizes = np.unique(clusters, return_index=True, return_inverse=True, return_counts=True)
    return tensor(np.lexsort((first, -sizes)).argsort()[labels])


def _entropy(rows: Tensor) -> float:
    """Entropy in bits of how often each row occurs."""
    share = count_rows(rows)[1].double() / len(rows)
    return float(-(share * share.log2()).sum())


def _switches(labels: Tensor) -> Tensor:
    """Pairs of different regimes at neighbouring steps of a sequence."""
    pairs = torch.stack((labels[:, :-1], labels[:, 1:]), dim=-1).reshape(-1, 2)
    return pairs[(pairs[:, 1] >= 0) & (pairs[:, 0] != pairs[:, 1])]
