"""Whether networks solve a task in the same way: distances that do not depend on the coordinates of their states."""

from __future__ import annotations

import math
from collections.abc import Sequence
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
    "gains": "what each input counts for the answer",
    "switching": "which steps share a regime",
    "graph": "which switches there are from regime to regime, and how many",
    "dynamics": "the modes of the regimes",
}
"""What networks are compared by, in words."""
SAME = 0.5
"""Two networks count as the same up to this distance, where 1 is that of networks with nothing in common."""

_MOST_REGIMES = 16
_MOST_MATCHED = 256
_COVERED = 0.95
_MOST_OUTPUTS = 4
_LEAST_VARIANCE = 0.01
_TINY = 1e-9


class Portrait(NamedTuple):
    """A network on some sequences, in quantities that do not depend on the coordinates of its states.

    They stay the same if units are permuted, nonlinear units are scaled by positive factors, or linear units are mixed
    by an invertible matrix.

    Attributes:
        labels: number of the regime at each step, int64 of shape ``(batch, time)``; −1 past a sequence's length. The
            most visited regime has number 0; of regimes visited equally often, the earliest comes first.
        occupancy: share of steps in the most visited regimes, which add up to 95 % of the steps or are 16, scaled to
            sum 1, float64 of shape ``(regimes,)``.
        spectra: eigenvalues of A + W D in each of these regimes, complex128 of shape ``(regimes, M)``.
        gains: ∂y_T/∂s_t of each output, times the standard deviation of the input over all steps, float64 of shape
            ``(outputs, batch, time, K)``. An input that hardly varies counts as little as it does in the sequences.
    """

    labels: Tensor
    occupancy: Tensor
    spectra: Tensor
    gains: Tensor


class Comparison(NamedTuple):
    """How far n networks are from each other.

    Attributes:
        measures: distances by each measure (a key of ``MEASURES``), float64 of shape ``(n, n)``. A measure is left out
            where it says nothing, such as ``switching`` for P = 0.
        untrained: median of the distances between a network and an untrained one, by each measure.
        distance: the largest of the measures, float64 of shape ``(n, n)``.
        merges: complete-linkage clustering of ``distance`` in SciPy's form, float64 of shape ``(n − 1, 4)``.
        order: the networks such that similar ones are neighbours, int64 of shape ``(n,)``.
        groups: number of the group that each network belongs to, from 0 for the largest, int64 of shape ``(n,)``. Any
            two networks of a group have a distance of at most ``SAME``.
        unchanged: criteria instead of ``SAME`` between which the groups stay the same, (lower, upper).
    """

    measures: dict[str, Tensor]
    untrained: dict[str, float]
    distance: Tensor
    merges: NDArray[np.float64]
    order: Tensor
    groups: Tensor
    unchanged: tuple[float, float]


def output_directions(outputs: Sequence[Tensor]) -> Tensor:
    """The directions in which the outputs of several networks vary, the same for all of them.

    Args:
        outputs: of each network for the same sequences, shape ``(batch, outputs)``. Each network counts the same,
            whatever the size of its outputs.

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
    kept: Tensor = directions[: max(1, min(_MOST_OUTPUTS, int((share >= _LEAST_VARIANCE).sum())))]
    return kept


def portrait(
    rnn: ALRNN | Recurrence, inputs: Tensor, states: Tensor, readout_weight: Tensor, lengths: Tensor
) -> Portrait:
    """Describe a network on some sequences, as far as it can be compared with others.

    Args:
        rnn: the network, or its parameters.
        inputs: s_1 … s_T, shape ``(batch, time, K)``.
        states: z_1 … z_T, shape ``(batch, time, M)``.
        readout_weight: D of the outputs y = D z + b, shape ``(outputs, M)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``.

    Raises:
        ValueError: if a parameter or a state is not finite or a shape does not fit.

    Example:
        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=2, nonlinear_units=1)
        >>> states = torch.tensor([[[0.0, 1.0], [0.0, -1.0], [0.0, -2.0]]])
        >>> found = portrait(rnn, torch.randn(1, 3, 1), states, torch.ones(1, 2), torch.tensor([3]))
        >>> found.labels.tolist(), found.spectra.shape, found.gains.shape
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
    """How differently the inputs count for the answer, √(1 − cos).

    cos is the cosine of the angle between the gains of the two networks, over all sequences, steps, inputs and outputs:
    a common factor does not count, as that of the logits of a network that is surer of its classes.

    Args:
        one: a network.
        other: another one, on the same sequences.

    Returns:
        0 where they are the same, 1 where they have nothing in common, √2 where they are opposite.

    Example:
        >>> nothing = torch.zeros(0)
        >>> one, other = (Portrait(nothing, nothing, nothing, torch.tensor(gains)) for gains in ([1.0, 0], [0, 1.0]))
        >>> gain_distance(one, one), round(gain_distance(one, other), 6)
        (0.0, 1.0)
    """
    if not one.gains.any() or not other.gains.any():  # no input counts
        return float(bool(one.gains.any() or other.gains.any()))
    # half a chord of the unit sphere: the cosine itself would be rounded to a distance of 1e-8
    return float((one.gains / one.gains.norm() - other.gains / other.gains.norm()).norm()) / math.sqrt(2)


def switching_distance(one: Portrait, other: Portrait) -> float:
    """How differently the steps are divided into regimes, 1 − I / H.

    I is the mutual information between the regimes of the two networks at the same step, H their joint entropy (the
    normalised variation of information). It does not matter how the regimes are numbered.

    Args:
        one: a network.
        other: another one, on the same sequences.

    Returns:
        0 where two steps share a regime in one network if and only if they do in the other; 1 where the regime of one
        says nothing about that of the other.

    Example:
        >>> nothing, gains = torch.zeros(0), torch.zeros(0)
        >>> one, other, third = (
        ...     Portrait(torch.tensor([labels]), nothing, nothing, gains)
        ...     for labels in ([0, 0, 1, 1], [1, 1, 0, 0], [0, 1, 0, 1])
        ... )
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
    """How different the regimes' graphs are up to the names of the regimes, Σ |f_ij − g_ij| / Σ (f_ij + g_ij), i ≠ j.

    f and g are how often the networks switch from regime i to regime j. Regimes of the two networks are taken for each
    other such that as many steps as possible are in the same regime in both (Hungarian algorithm; the 256 most
    visited). The same switches some steps later make no difference.

    Args:
        one: a network.
        other: another one, on the same sequences.

    Returns:
        0 where they have the same switches equally often; 1 where they have none in common.

    Example:
        >>> nothing, gains = torch.zeros(0), torch.zeros(0)
        >>> one, other = (
        ...     Portrait(torch.tensor([labels]), nothing, nothing, gains) for labels in ([0, 0, 1, 1], [1, 1, 0, 0])
        ... )
        >>> graph_distance(one, other)
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
    """How different two lists of eigenvalues are, √(Σ |λ − μ|² / Σ (|λ|² + |μ|²))."""
    size = max(len(one), len(other))
    first, second = (np.pad(values.numpy(), (0, size - len(values))) for values in (one, other))
    total = float((np.abs(first) ** 2).sum() + (np.abs(second) ** 2).sum())
    if total < _TINY**2:
        return 0.0
    cost = np.abs(first[:, None] - second[None, :]) ** 2
    return math.sqrt(float(cost[linear_sum_assignment(cost)].sum()) / total)


def dynamics_distance(one: Portrait, other: Portrait) -> float:
    """How different the modes are that the networks have while they run.

    The least mean of :func:`spectrum_distance` over all ways to take the steps of one network with those of the other,
    each regime as often as it is visited (optimal transport, the Wasserstein distance of order 1).

    Args:
        one: a network.
        other: another one.

    Returns:
        0 where they visit regimes with the same eigenvalues equally often.

    Example:
        >>> gains, labels = torch.zeros(0), torch.zeros(0)
        >>> one, other = (
        ...     Portrait(labels, torch.tensor(share), torch.tensor([[0.5], [0.9]]), gains)
        ...     for share in ([0.75, 0.25], [0.5, 0.5])
        ... )
        >>> round(dynamics_distance(one, other), 4)  # a quarter of the steps, with √(0.4² / (0.5² + 0.9²))
        0.0971
    """
    cost = np.array([[spectrum_distance(left, right) for right in other.spectra] for left in one.spectra])
    first, second = (network.occupancy.double().numpy() for network in (one, other))
    sums = np.concatenate(
        [np.kron(np.eye(len(first)), np.ones(len(second))), np.kron(np.ones(len(first)), np.eye(len(second)))]
    )
    # the last sum follows from the others; rounding would make the equations contradict each other
    found = linprog(cost.ravel(), A_eq=sums[:-1], b_eq=np.concatenate([first, second])[:-1], method="highs")
    return max(0.0, float(cost.ravel() @ found.x))


_DISTANCES = {
    "gains": gain_distance,
    "switching": switching_distance,
    "graph": graph_distance,
    "dynamics": dynamics_distance,
}


def compare_portraits(
    portraits: Sequence[Portrait], untrained: Sequence[Portrait], measures: Sequence[str] = tuple(MEASURES)
) -> Comparison:
    """Say how far networks are from each other, and from untrained ones.

    Args:
        portraits: the networks, on the same sequences.
        untrained: for each of them a network of the same form with weights as before training, on the same sequences.
            A measure by which these are near too does not say that networks have learned the same.
        measures: keys of ``MEASURES``. Gains cannot be compared where each network has an encoder of its own, as the
            inputs of the recurrent layer then differ.

    Example:
        >>> from lightning_alrnn.nn import ALRNN
        >>> inputs, rnns = torch.randn(8, 5, 1), [ALRNN(1, 3, 1) for _ in range(4)]
        >>> def look(rnn):
        ...     return portrait(rnn, inputs, rnn(inputs)[0].detach(), torch.ones(1, 3), torch.full((8,), 5))
        >>> found = compare_portraits([look(rnns[0]), look(rnns[0])], [look(rnns[1]), look(rnns[2])])
        >>> float(found.distance.max()), found.groups.tolist()
        (0.0, [0, 0])
    """
    size = len(portraits)
    distances: dict[str, Tensor] = {}
    references: dict[str, float] = {}
    for name in measures:
        measure = _DISTANCES[name]
        reference = float(np.median([measure(*pair) for pair in zip(portraits, untrained, strict=True)]))
        found = torch.zeros(size, size, dtype=torch.float64)
        for row in range(size):
            for column in range(row):
                found[row, column] = found[column, row] = measure(portraits[row], portraits[column])
        if max(reference, float(found.max())) > _TINY:
            references[name] = reference
            distances[name] = found
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
    """Groups of networks of which any two have a distance of at most ``SAME`` (complete linkage)."""
    if len(distance) == 1:
        return torch.zeros(1, dtype=torch.int64)
    found = fcluster(complete(squareform(distance.numpy())), SAME, criterion="distance")
    labels = tensor(found.astype(np.int64)) - 1
    first = [int((labels == label).nonzero()[0]) for label in range(int(labels.max()) + 1)]
    ranked = sorted(range(len(first)), key=lambda label: (-int((labels == label).sum()), first[label]))
    return torch.tensor(ranked).argsort()[labels]


def _entropy(rows: Tensor) -> float:
    """Of how often each row occurs, in bits."""
    share = count_rows(rows)[1].double() / len(rows)
    return float(-(share * share.log2()).sum())


def _switches(labels: Tensor) -> Tensor:
    """Pairs of different regimes at neighbouring steps of a sequence."""
    pairs = torch.stack((labels[:, :-1], labels[:, 1:]), dim=-1).reshape(-1, 2)
    return pairs[(pairs[:, 1] >= 0) & (pairs[:, 0] != pairs[:, 1])]
