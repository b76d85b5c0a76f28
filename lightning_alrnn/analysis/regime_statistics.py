"""Which linear regimes a network visits, how often, and in what order.

The regime of a state is the sign pattern of its P nonlinear units: bit i is 1 if unit M−P+i is above 0. As text it is
the *bitcode*, a string whose character i is bit i. For counting, the bits are packed into int64 words of 63 bits each,
bit 0 lowest, so that any P fits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.batch import valid_steps

WORD_BITS = 63  # of one int64 word; the sign bit stays 0
_CHUNK_BITS = 21  # three to a word
_TABLE = 16  # so many times as many cells as numbers, a table is still filled faster than the numbers are sorted


class RegimeCounts(NamedTuple):
    """Number of visits to each regime and number of transitions between regimes.

    Attributes:
        codes: Bits of the visited regimes, most frequent first, bool of shape ``(regimes, P)``.
        counts: Number of steps in each regime, int64 of shape ``(regimes,)``.
        transitions: Index pairs (from, to) into ``codes``, self-transitions included, int64 of shape ``(pairs, 2)``.
        transition_counts: Number of times that each pair occurred, int64 of shape ``(pairs,)``.
        steps: Number of states counted, including those in regimes that are not listed.
        moves: Number of steps from t to t+1 within a sequence.
        switches: Number of moves that change the regime.
    """

    codes: Tensor
    counts: Tensor
    transitions: Tensor
    transition_counts: Tensor
    steps: int
    moves: int
    switches: int


class GroupOccupancy(NamedTuple):
    """Number of steps that each group of trials spends in each regime.

    Attributes:
        groups: Index of each group, ascending, int64 of shape ``(groups,)``.
        codes: Bits of the regimes visited by any group, most frequent first, bool of shape ``(regimes, P)``.
        counts: n_gr, the number of steps of group g in regime r, int64 of shape ``(groups, regimes)``.
        steps: Number of states of each group, including those in regimes that are not listed, int64 of shape
            ``(groups,)``. The occupancy of a group is ``counts / steps``.
    """

    groups: Tensor
    codes: Tensor
    counts: Tensor
    steps: Tensor


class RegimeSharing(NamedTuple):
    """Overlap between the regimes that groups of trials use.

    A_g is the set of regimes that group g visits, p_g its occupancy distribution, and H the entropy in bits. Entries
    are NaN for groups without steps.

    Attributes:
        groups: Index of each group, int64 of shape ``(groups,)``.
        jaccard: |A_g ∩ A_h| / |A_g ∪ A_h|, float64 of shape ``(groups, groups)``: 1 for the same regimes.
        js: Jensen–Shannon divergence H((p_g + p_h)/2) − (H(p_g) + H(p_h))/2 in bits, of the same shape: 0 for the same.
        mean_jaccard: Mean of ``jaccard`` over pairs of different groups; NaN if there is no pair.
        mean_js: Mean of ``js`` over the same pairs.

    Reference:
        Lin, "Divergence measures based on the Shannon entropy", IEEE Transactions on Information Theory 37:145 (1991).
    """

    groups: Tensor
    jaccard: Tensor
    js: Tensor
    mean_jaccard: float
    mean_js: float


class RegimeSummary(NamedTuple):
    """Scalars that describe regime occupancy.

    Attributes:
        visited: Number of regimes with at least one step.
        possible_log2: P, as 2^P regimes are possible.
        entropy: H = −Σ p log2 p of the occupancy p, in bits.
        effective: 2^H, the number of equally occupied regimes with the same entropy.
        switch_rate: Share of steps (from t to t+1 within a sequence) that change the regime; 0 without such steps.
        top_occupancy: Share of steps spent in the most frequent regime.

    Reference:
        Hill, "Diversity and evenness", Ecology 54:427 (1973), effective numbers.
    """

    visited: int
    possible_log2: int
    entropy: float
    effective: float
    switch_rate: float
    top_occupancy: float


class Regimes(NamedTuple):
    """Regimes that trajectories visit, most frequent first.

    Attributes:
        codes: Bits of the visited regimes, bool of shape ``(regimes, P)``.
        counts: Number of steps in each regime, int64 of shape ``(regimes,)``.
        occupancy: Share of all steps spent in each regime, float64 of shape ``(regimes,)``.
        labels: Index into ``codes`` of each state, int64 of shape ``(batch, time)``; −1 in padding and if not listed.
        visited: Number of regimes with at least one step, listed or not.
        entropy: H = −Σ p log2 p of the occupancy p of all visited regimes, in bits.
        effective: 2^H, the number of equally occupied regimes with the same entropy.
        switch_rate: Share of steps (from t to t+1 within a sequence) that change the regime.
        dropped: Number of visited regimes that are not listed, the rarest ones.
    """

    codes: Tensor
    counts: Tensor
    occupancy: Tensor
    labels: Tensor
    visited: int
    entropy: float
    effective: float
    switch_rate: float
    dropped: int


class DwellTimes(NamedTuple):
    """Durations of the stretches that trajectories spend in one regime.

    Attributes:
        codes: Bits of the visited regimes, most frequent first, bool of shape ``(regimes, P)``.
        visits: Number of stretches in each regime, int64 of shape ``(regimes,)``.
        mean: Mean dwell time, float64 of shape ``(regimes,)``: the number of steps after which the trajectory could
            leave the regime, divided by the number of those after which it did; NaN if it never did. Stretches that are
            not cut are shorter, because the end of a sequence rather cuts long ones.
        longest: Longest duration of all stretches, int64 of shape ``(regimes,)``.
        regime: Index into ``codes`` of each stretch, sequence by sequence in order, int64 of shape ``(stretches,)``.
        duration: Number of steps of each stretch, int64 of shape ``(stretches,)``.
        cut: Whether the stretch begins or ends with its sequence, bool of shape ``(stretches,)``.
    """

    codes: Tensor
    visits: Tensor
    mean: Tensor
    longest: Tensor
    regime: Tensor
    duration: Tensor
    cut: Tensor


class TransitionGraph(NamedTuple):
    """Transitions between regimes, self-transitions included.

    Attributes:
        codes: Bits of the regimes, most frequent first, bool of shape ``(regimes, P)``.
        counts: Number of steps in each regime, int64 of shape ``(regimes,)``.
        edges: Index pairs (from, to) into ``codes``, the most frequent first, int64 of shape ``(edges, 2)``.
        edge_counts: Number of times that each edge occurred, int64 of shape ``(edges,)``.
        probability: Share of all steps out of the first regime that lead to the second, float64 of shape ``(edges,)``.
        matrix: The same as a matrix, float64 of shape ``(regimes, regimes)``, see :func:`transition_matrix`.
        entropy_rate: Entropy rate of all visited regimes, see :func:`entropy_rate`.
        visited: Number of visited regimes, listed or not.
    """

    codes: Tensor
    counts: Tensor
    edges: Tensor
    edge_counts: Tensor
    probability: Tensor
    matrix: Tensor
    entropy_rate: float
    visited: int


def words_needed(nonlinear_units: int) -> int:
    """Number of int64 words that hold P bits, ⌈P / 63⌉ but at least 1."""
    return max(1, -(-nonlinear_units // WORD_BITS))


def pack_bits(bits: Tensor) -> Tensor:
    """Pack regimes ``(…, P)`` into int64 words ``(…, words)``."""
    units = bits.shape[-1]
    words = torch.zeros(*bits.shape[:-1], words_needed(units), dtype=torch.int64, device=bits.device)
    numbers = to_number(bits, torch.float32)
    for first in range(0, units, _CHUNK_BITS):
        # Σ bit · 2^i, exact in float32 up to 24 bits: one product instead of a pass for each bit
        chunk = numbers[..., first : first + _CHUNK_BITS]
        powers = 2.0 ** torch.arange(chunk.shape[-1], dtype=torch.float32, device=bits.device)
        words[..., first // WORD_BITS] |= (chunk @ powers).long() << (first % WORD_BITS)
    return words


def to_number(bits: Tensor, dtype: torch.dtype) -> Tensor:
    """Convert bits to 0 and 1 by way of bytes, which a CPU converts eight times as fast."""
    return bits.view(torch.uint8).to(dtype)


def unpack_bits(words: Tensor, nonlinear_units: int) -> Tensor:
    """Undo :func:`pack_bits`: int64 words ``(…, words)`` to bool ``(…, P)``."""
    unit = torch.arange(nonlinear_units, device=words.device)
    return (words[..., unit // WORD_BITS] >> (unit % WORD_BITS) & 1).bool()


def bitcode(bits: Tensor) -> str:
    """Write the bits of one regime as text.

    Args:
        bits: Regime, bool or 0/1 of shape ``(P,)``.

    Returns:
        Text such as ``"011"``, for P=3 with the last two units on.
    """
    return "".join("1" if bit else "0" for bit in bits.tolist())


def regime_bits(states: Tensor, nonlinear_units: int) -> Tensor:
    """The regime of each state ``(…, M)``: z > 0 of the last P units, bool of shape ``(…, P)``."""
    units = states.detach()[..., states.shape[-1] - nonlinear_units :]
    return units.clone().gt_(0).bool()  # half the time of `units > 0`: a CPU compares within one type much faster


def count_rows(rows: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Sorted unique rows ``(u, words)``, their (weighted) counts ``(u,)``, and each row's index among them ``(n,)``."""
    numbers, inverse = torch.unique(rows[:, 0], return_inverse=True)
    for column in rows[:, 1:].unbind(dim=1):  # to sort numbers again and again is much faster than to sort rows
        values, place = torch.unique(column, return_inverse=True)
        numbers, inverse = torch.unique(inverse * len(values) + place, return_inverse=True)
    unique = rows.new_empty(len(numbers), rows.shape[1])
    unique[inverse] = rows
    weights = torch.ones_like(inverse) if weights is None else weights
    return unique, rows.new_zeros(len(unique)).scatter_add_(0, inverse, weights), inverse


def _count_numbers(numbers: Tensor, valid: Tensor, below: int) -> tuple[Tensor, Tensor]:
    """The numbers in 0 … ``below`` − 1 that occur where ``valid`` is set, in order, and the count of each."""
    if below > _TABLE * numbers.numel():
        unique, counts = torch.unique(numbers[valid], return_counts=True)
        return unique, counts
    # a table is filled without sorting; what is not valid counts past its end
    table = torch.where(valid, numbers, below).flatten().bincount(minlength=below + 1)[:below]
    occurring = table.nonzero()[:, 0]
    return occurring, table[occurring]


class PackedCounts(NamedTuple):
    """Counts in packed form, in no particular order; those of groups are empty if trials have no group."""

    codes: Tensor  # regimes, int64 (n, words)
    counts: Tensor  # steps spent in each, (n,)
    pairs: Tensor  # transitions as two regimes side by side, (m, 2·words)
    pair_counts: Tensor  # (m,)
    group_codes: Tensor  # a group and a regime side by side, (k, 1 + words)
    group_code_counts: Tensor  # (k,)
    groups: Tensor  # (l, 1)
    group_counts: Tensor  # steps of each group, (l,)


def no_counts(nonlinear_units: int, device: torch.device) -> PackedCounts:
    """Empty counts, each of the right type and width."""
    words = words_needed(nonlinear_units)
    counts = torch.zeros(0, dtype=torch.int64, device=device)
    fields = [
        field for width in (words, 2 * words, 1 + words, 1) for field in (counts.view(0, 1).expand(0, width), counts)
    ]
    return PackedCounts(*fields)


def count_packed(packed: Tensor, lengths: Tensor, nonlinear_units: int, group: Tensor | None = None) -> PackedCounts:
    """Count the packed regimes ``(batch, time, words)`` and transitions of a batch within each sequence's length."""
    valid = valid_steps(lengths, packed.shape[1])
    # transitions are counted on the indices of the regimes, one number a pair
    index = torch.zeros_like(packed[..., 0])
    if 2**nonlinear_units <= index.numel():
        numbers, counts = _count_numbers(packed[..., 0], valid, 2**nonlinear_units)
        codes = numbers.unsqueeze(1)
        place = index.new_zeros(2**nonlinear_units)
        place[numbers] = torch.arange(len(numbers), device=packed.device)
        index = place[packed[..., 0]]
    else:
        codes, counts, inverse = count_rows(packed[valid])
        index[valid] = inverse
    size = max(len(codes), 1)
    pairs, pair_counts = _count_numbers(index[:, :-1] * size + index[:, 1:], valid[:, 1:], size**2)
    batch_counts = no_counts(nonlinear_units, packed.device)._replace(
        codes=codes,
        counts=counts,
        pairs=torch.cat((codes[pairs // size], codes[pairs % size]), dim=1),
        pair_counts=pair_counts,
    )
    if group is None or len(group) == 0:
        return batch_counts
    first, last = (int(end) for end in group.aminmax())
    keys = (group.long() - first).unsqueeze(1) * size + index
    keys, key_counts = _count_numbers(keys, valid, (last - first + 1) * size)
    owners = (keys // size + first).unsqueeze(1)
    groups, group_counts, _ = count_rows(owners, key_counts)
    return batch_counts._replace(
        group_codes=torch.cat((owners, codes[keys % size]), dim=1),
        group_code_counts=key_counts,
        groups=groups,
        group_counts=group_counts,
    )


def merge_rows(rows: Tensor, counts: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Add up the counts of equal rows and keep the ``limit`` rows with the largest counts, in sorted order."""
    rows, counts, _ = count_rows(rows, counts)
    if len(rows) > limit:
        keep = counts.topk(limit).indices.sort().values
        rows, counts = rows[keep], counts[keep]
    return rows, counts


def switches_and_moves(packed: PackedCounts) -> tuple[Tensor, Tensor]:
    """Number of moves of a batch that change the regime, and number of all moves."""
    words = packed.codes.shape[1]
    switched = (packed.pairs[:, :words] != packed.pairs[:, words:]).any(dim=1)
    return packed.pair_counts[switched].sum(), packed.pair_counts.sum()


def regime_counts(packed: PackedCounts, nonlinear_units: int, *, steps: int, moves: int, switches: int) -> RegimeCounts:
    """Order packed counts, whose rows may repeat, by frequency and turn codes into bits."""
    codes, counts, _ = count_rows(packed.codes, packed.counts)
    pairs, pair_counts, _ = count_rows(packed.pairs, packed.pair_counts)
    # most frequent first; regimes of equal count in order of their code, so that the order is always the same
    order = torch.argsort(counts, descending=True, stable=True)
    transitions = _index_among(codes[order], pairs.reshape(-1, codes.shape[1])).reshape(-1, 2)
    listed = (transitions >= 0).all(dim=1)  # a dropped regime takes its transitions along
    transitions, pair_counts = transitions[listed], pair_counts[listed]
    by_frequency = torch.argsort(pair_counts, descending=True, stable=True)
    return RegimeCounts(
        codes=unpack_bits(codes[order], nonlinear_units),
        counts=counts[order],
        transitions=transitions[by_frequency],
        transition_counts=pair_counts[by_frequency],
        steps=steps,
        moves=moves,
        switches=switches,
    )


def _index_among(codes: Tensor, rows: Tensor) -> Tensor:
    """The place of each row ``(n, words)`` among different codes ``(regimes, words)``, −1 if it is none of them."""
    unique, _, inverse = count_rows(torch.cat((codes, rows)))
    places = inverse.new_full((len(unique),), -1)
    places[inverse[: len(codes)]] = torch.arange(len(codes), device=codes.device)
    return places[inverse[len(codes) :]]


def count_regimes(states: Tensor, nonlinear_units: int, lengths: Tensor | None = None) -> RegimeCounts:
    """Count the regimes that trajectories visit and the transitions between them.

    Args:
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: Number P of nonlinear units.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> counts = count_regimes(torch.tensor([[[1.0], [-1.0], [-2.0]]]), nonlinear_units=1)
        >>> [bitcode(code) for code in counts.codes], counts.counts.tolist()
        (['0', '1'], [2, 1])
        >>> counts.transitions.tolist()  # from 1 to 0, then from 0 to 0
        [[0, 0], [1, 0]]
    """
    lengths = _check_states(states, nonlinear_units, lengths)
    packed = count_packed(pack_bits(regime_bits(states, nonlinear_units)), lengths, nonlinear_units)
    switches, moves = switches_and_moves(packed)
    return regime_counts(
        packed, nonlinear_units, steps=int(packed.counts.sum()), moves=int(moves), switches=int(switches)
    )


def group_occupancy(
    packed: PackedCounts, nonlinear_units: int, groups: int | None = None, max_groups: int | None = None
) -> GroupOccupancy:
    """Order packed counts on the CPU by group, without groups below 0, and by frequency, and turn codes into bits."""
    owners, owner_steps, _ = count_rows(packed.groups, packed.group_counts)
    real = owners[:, 0] >= 0
    listed = torch.unique(torch.cat((owners[real, 0], torch.arange(groups or 0))))
    steps = torch.zeros_like(listed)
    steps[torch.searchsorted(listed, owners[real, 0])] = owner_steps[real]
    if max_groups is not None and len(listed) > max_groups:
        keep = torch.argsort(steps, descending=True, stable=True)[:max_groups].sort().values
        listed, steps = listed[keep], steps[keep]

    rows, counts, _ = count_rows(packed.group_codes, packed.group_code_counts)
    member = torch.isin(rows[:, 0], listed)
    rows, counts = rows[member], counts[member]
    codes, totals, inverse = count_rows(rows[:, 1:], counts)
    order = torch.argsort(totals, descending=True, stable=True)
    matrix = torch.zeros(len(listed), len(codes), dtype=torch.int64)
    matrix[torch.searchsorted(listed, rows[:, 0].contiguous()), order.argsort()[inverse]] = counts
    return GroupOccupancy(listed, unpack_bits(codes[order], nonlinear_units), matrix, steps)


def count_regimes_by_group(
    states: Tensor, nonlinear_units: int, group: Tensor, lengths: Tensor | None = None, groups: int | None = None
) -> GroupOccupancy:
    """Count the regimes that each group of trajectories visits.

    Args:
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: Number P of nonlinear units.
        group: Index of the group of each sequence, int64 of shape ``(batch,)``; negative for sequences of no group.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        groups: Number of groups, to list groups without steps too; ``None`` lists the groups that occur.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> states = torch.tensor([[[1.0], [-1.0], [-2.0]], [[-1.0], [-3.0], [-2.0]]])
        >>> occupancy = count_regimes_by_group(states, nonlinear_units=1, group=torch.tensor([0, 1]))
        >>> [bitcode(code) for code in occupancy.codes], occupancy.counts.tolist()
        (['0', '1'], [[2, 1], [3, 0]])
    """
    lengths = _check_states(states, nonlinear_units, lengths)
    if group.shape != lengths.shape:
        raise ValueError(
            f"group must have shape {tuple(lengths.shape)}, one index per sequence, got {tuple(group.shape)}"
        )
    codes = pack_bits(regime_bits(states, nonlinear_units))
    packed = count_packed(codes, lengths, nonlinear_units, group.to(states.device))
    return group_occupancy(PackedCounts(*(field.cpu() for field in packed)), nonlinear_units, groups)


def regime_sharing(found: GroupOccupancy) -> RegimeSharing:
    """Compare the regimes of groups pair by pair and on average, see :class:`RegimeSharing`.

    Args:
        found: Counts by :func:`count_regimes_by_group`. Regimes that are not listed do not count.

    Example:
        >>> states = torch.tensor([[[1.0], [-1.0]], [[-1.0], [-1.0]], [[-3.0], [-1.0]]])
        >>> sharing = regime_sharing(count_regimes_by_group(states, 1, group=torch.tensor([0, 1, 2])))
        >>> sharing.jaccard[0].tolist()  # groups 1 and 2 visit one of the two regimes of group 0
        [1.0, 0.5, 0.5]
    """
    visited = (found.counts > 0).double()
    both = visited @ visited.T
    sizes = visited.sum(dim=1)
    present = sizes > 0
    missing = ~(present & present[:, None])
    jaccard = (both / (sizes + sizes[:, None] - both)).masked_fill(missing, math.nan)

    occupancy = found.counts.double() / found.counts.sum(dim=1, keepdim=True).clamp(min=1)
    entropy = _entropy(occupancy)
    # a row of pairs at a time: all at once would take groups² · regimes numbers
    mixed = [_entropy((occupancy + row) / 2) for row in occupancy]
    js = (torch.stack(mixed) if mixed else entropy.new_zeros(0, 0)) - (entropy + entropy[:, None]) / 2
    js = js.clamp(0, 1).masked_fill(missing, math.nan)

    pair = torch.triu_indices(len(found.groups), len(found.groups), offset=1).unbind()
    return RegimeSharing(found.groups, jaccard, js, float(jaccard[pair].nanmean()), float(js[pair].nanmean()))


def summarize_regimes(found: RegimeCounts) -> RegimeSummary:
    """Reduce counts to scalars.

    Args:
        found: Counts by :func:`count_regimes`; ``visited`` and ``entropy`` are lower bounds if some are not listed.
    """
    occupancy = found.counts.double() / max(found.steps, 1)
    entropy = max(float(_entropy(occupancy)), 0.0)
    return RegimeSummary(
        visited=len(found.codes),
        possible_log2=found.codes.shape[1],
        entropy=entropy,
        effective=2.0**entropy,
        switch_rate=found.switches / max(found.moves, 1),
        top_occupancy=float(occupancy[0]) if len(occupancy) else 0.0,
    )


def transition_matrix(found: RegimeCounts, regimes: int) -> Tensor:
    """Row-stochastic matrix of the transitions among the most frequent regimes.

    Args:
        found: Counts of regimes and transitions.
        regimes: Number of regimes, the most frequent ones.

    Returns:
        float64 of shape ``(n, n)`` with n = min(regimes, visited). Entry (i, j) is the share of *all* steps out of
        regime i that lead to j, so a row may sum to less than 1. A regime that is never left has a row of zeros.
    """
    size = min(regimes, len(found.codes))
    transitions, counts, leaving = _transitions(found)
    among = (transitions < size).all(dim=1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix[transitions[among, 0], transitions[among, 1]] = counts[among]
    return matrix / leaving[:size, None].clamp(min=1.0)


def entropy_rate(found: RegimeCounts) -> float:
    """Entropy rate of the regimes as a Markov chain, −Σ_ij (n_ij / n) log2(n_ij / n_i) in bits a step.

    n_ij is the number of steps from regime i to regime j, self-transitions included, n_i and n their sums.

    Args:
        found: Counts by :func:`count_regimes`.

    Returns:
        Bits a step, from 0 (each regime has only one successor) to P.

    Example:
        >>> states = torch.tensor([[[1.0], [1.0], [-1.0], [1.0], [1.0]]])  # from 1 to 1 or 0, from 0 to 1
        >>> round(entropy_rate(count_regimes(states, nonlinear_units=1)), 4)  # 3/4 · H(1/3)
        0.6887

    Reference:
        Cover & Thomas, "Elements of Information Theory", 2006, chapter 4.
    """
    transitions, counts, leaving = _transitions(found)
    bits = counts * (counts / leaving[transitions[:, 0]]).log2()
    return abs(float(bits.sum())) / max(float(counts.sum()), 1.0)


def _transitions(found: RegimeCounts) -> tuple[Tensor, Tensor, Tensor]:
    """Transitions, their counts, and the number of moves out of each regime, the latter two float64; on the CPU."""
    transitions, counts = found.transitions.cpu(), found.transition_counts.cpu().double()
    leaving = counts.new_zeros(len(found.codes)).scatter_add_(0, transitions[:, 0], counts)
    return transitions, counts, leaving


def dwell_times(states: Tensor, nonlinear_units: int, lengths: Tensor | None = None) -> DwellTimes:
    """Measure how long trajectories stay in each regime at a stretch.

    Args:
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: Number P of nonlinear units.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> dwell = dwell_times(torch.tensor([[[1.0], [-1.0], [-2.0], [3.0], [4.0]]]), nonlinear_units=1)
        >>> [bitcode(dwell.codes[regime]) for regime in dwell.regime], dwell.duration.tolist(), dwell.cut.tolist()
        (['1', '0', '1'], [1, 2, 2], [True, False, True])
    """
    visited = regimes(states, nonlinear_units, lengths, max_regimes=None)
    index, size = visited.labels.cpu(), len(visited.codes)
    valid = index >= 0
    changed = index[:, 1:] != index[:, :-1]
    edge = torch.ones(len(index), 1, dtype=torch.bool)
    first = torch.cat((edge, changed), dim=1) & valid
    last = torch.cat((changed, edge), dim=1) & valid
    # stretches begin and end in the same order
    begin, end = first.nonzero(), last.nonzero()
    regime = index[begin[:, 0], begin[:, 1]]
    duration = end[:, 1] - begin[:, 1] + 1
    last_of_all = end[:, 1] == valid.sum(dim=1)[end[:, 0]] - 1
    cut = (begin[:, 1] == 0) | last_of_all

    visits = torch.bincount(regime, minlength=size)
    left = torch.bincount(regime[~last_of_all], minlength=size)
    moves = torch.bincount(regime, weights=(duration - last_of_all.long()).double(), minlength=size)
    mean = torch.where(left > 0, moves / left, math.nan)
    longest = torch.zeros(size, dtype=torch.int64).scatter_reduce_(0, regime, duration, "amax")
    return DwellTimes(visited.codes.cpu(), visits, mean, longest, regime, duration, cut)


def regimes(
    states: Tensor, nonlinear_units: int, lengths: Tensor | None = None, max_regimes: int | None = 65_536
) -> Regimes:
    """List the regimes of trajectories, their occupancy, and the regime of each state.

    Args:
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: Number P of nonlinear units.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        max_regimes: Maximal number of regimes to list, the most frequent ones; ``None`` for all.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> visited = regimes(torch.tensor([[[1.0], [-1.0], [-2.0]]]), nonlinear_units=1)
        >>> [bitcode(code) for code in visited.codes], visited.labels.tolist()
        (['0', '1'], [[1, 0, 0]])
    """
    valid = valid_steps(_check_states(states, nonlinear_units, lengths), states.shape[1])
    counted = count_regimes(states, nonlinear_units, lengths)
    summary = summarize_regimes(counted)
    listed = len(counted.codes) if max_regimes is None else min(max_regimes, len(counted.codes))
    index = torch.full(states.shape[:2], -1, dtype=torch.int64, device=states.device)
    rows = pack_bits(regime_bits(states, nonlinear_units)[valid])
    index[valid] = _index_among(pack_bits(counted.codes[:listed]), rows)
    return Regimes(
        codes=counted.codes[:listed],
        counts=counted.counts[:listed],
        occupancy=counted.counts[:listed].double() / max(counted.steps, 1),
        labels=index,
        visited=summary.visited,
        entropy=summary.entropy,
        effective=summary.effective,
        switch_rate=summary.switch_rate,
        dropped=len(counted.codes) - listed,
    )


def transition_graph(
    states: Tensor, nonlinear_units: int, lengths: Tensor | None = None, max_regimes: int = 64
) -> TransitionGraph:
    """List the transitions between the regimes of trajectories.

    Args:
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: Number P of nonlinear units.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        max_regimes: Maximal number of regimes to list with the edges among them, the most frequent ones.

    Raises:
        ValueError: If a shape does not fit.

    Example:
        >>> graph = transition_graph(torch.tensor([[[1.0], [-1.0], [-2.0]]]), nonlinear_units=1)
        >>> graph.edges.tolist(), graph.probability.tolist()  # regime 0 is "0", regime 1 is "1"
        ([[0, 0], [1, 0]], [1.0, 1.0])
    """
    counted = count_regimes(states, nonlinear_units, lengths)
    matrix = transition_matrix(counted, max_regimes)
    listed = (counted.transitions < len(matrix)).all(dim=1)
    edges = counted.transitions[listed].cpu()
    return TransitionGraph(
        codes=counted.codes[:max_regimes].cpu(),
        counts=counted.counts[:max_regimes].cpu(),
        edges=edges,
        edge_counts=counted.transition_counts[listed].cpu(),
        probability=matrix[edges[:, 0], edges[:, 1]],
        matrix=matrix,
        entropy_rate=entropy_rate(counted),
        visited=len(counted.codes),
    )


def shared_regimes(
    states: Tensor, nonlinear_units: int, group: Tensor, lengths: Tensor | None = None, groups: int | None = None
) -> RegimeSharing:
    """Compare the regimes of groups of trajectories, such as conditions, classes or tasks.

    Equivalent to :func:`regime_sharing` of :func:`count_regimes_by_group`.

    Args:
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: Number P of nonlinear units.
        group: Index of the group of each sequence, int64 of shape ``(batch,)``; negative for sequences of no group.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        groups: Number of groups, to list groups without steps too; ``None`` lists the groups that occur.

    Example:
        >>> states = torch.tensor([[[1.0], [-1.0]], [[-1.0], [-1.0]]])
        >>> shared_regimes(states, nonlinear_units=1, group=torch.tensor([0, 1])).mean_jaccard
        0.5
    """
    return regime_sharing(count_regimes_by_group(states, nonlinear_units, group, lengths, groups))


def _check_states(states: Tensor, nonlinear_units: int, lengths: Tensor | None) -> Tensor:
    """Check shapes and return the lengths on the device of the states."""
    if states.ndim != 3:
        raise ValueError(f"states must have shape (batch, time, M), got {tuple(states.shape)}")
    if not 0 <= nonlinear_units <= states.shape[-1]:
        raise ValueError(f"nonlinear_units (P) must lie between 0 and M={states.shape[-1]}, got {nonlinear_units}")
    if lengths is None:
        lengths = torch.full((len(states),), states.shape[1], dtype=torch.int64)
    return lengths.to(states.device)


def _entropy(occupancy: Tensor) -> Tensor:
    """−Σ p log2 p over the last dimension."""
    entropy: Tensor = torch.special.entr(occupancy).sum(dim=-1)
    return entropy / math.log(2)
