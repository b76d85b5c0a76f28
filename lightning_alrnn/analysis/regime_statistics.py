"""Which linear regimes a network visits, how often, and in what order.

The regime of a state is the sign pattern of its P nonlinear units: bit i is 1 where unit M−P+i is above 0. As text it
is the *bitcode*, a string of P characters whose character i is bit i. For counting, the bits are packed into int64
words of 63 bits each, bit 0 lowest, so that any P fits.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.batch import valid_steps

WORD_BITS = 63
"""Bits in one int64 word; the sign bit stays 0."""

_CHUNK_BITS = 21  # three to a word
_TABLE = 16  # so many times as many cells as numbers, a table is still filled faster than the numbers are sorted


class RegimeCounts(NamedTuple):
    """How often each regime, and each step from one regime to the next, occurred.

    Attributes:
        codes: bits of the visited regimes, most frequent first, bool of shape ``(regimes, P)``.
        counts: steps spent in each, int64 of shape ``(regimes,)``.
        transitions: index pairs (from, to) into ``codes``, self-transitions included, int64 of shape ``(pairs, 2)``.
        transition_counts: how often each pair occurred, int64 of shape ``(pairs,)``.
        steps: number of states counted; more than the sum of ``counts`` only where there were too many regimes to list.
        moves: number of steps from t to t+1 within a sequence.
        switches: number of moves that change the regime.
    """

    codes: Tensor
    counts: Tensor
    transitions: Tensor
    transition_counts: Tensor
    steps: int
    moves: int
    switches: int


class GroupOccupancy(NamedTuple):
    """How often each group of trials visits each regime.

    Attributes:
        groups: index of each group, ascending, int64 of shape ``(groups,)``.
        codes: bits of the regimes that any of the groups visits, bool of shape ``(regimes, P)``; first those in which
            the groups together spend most steps.
        counts: n_gr, steps of group g in regime r, int64 of shape ``(groups, regimes)``.
        steps: number of states of each group, int64 of shape ``(groups,)``; more than the sum of its ``counts`` only
            where there were too many regimes to list. The occupancy of a group is its counts over its steps.
    """

    groups: Tensor
    codes: Tensor
    counts: Tensor
    steps: Tensor


class RegimeSharing(NamedTuple):
    """How far groups of trials use the same regimes.

    With A_g the set of regimes that group g visits, and p_g its occupancy distribution:

    Attributes:
        groups: index of each group, int64 of shape ``(groups,)``.
        jaccard: |A_g ∩ A_h| / |A_g ∪ A_h|, float64 of shape ``(groups, groups)``; 1 where two groups visit the same
            regimes, 0 where they have none in common, NaN where one of them has no steps.
        js: Jensen–Shannon divergence H((p_g + p_h)/2) − (H(p_g) + H(p_h))/2 in bits, H the entropy, of the same shape;
            0 where two groups divide their time equally among the same regimes, 1 where they have none in common, NaN
            where one of them has no steps. It is a divergence: small where much is shared.
        mean_jaccard: mean of ``jaccard`` over pairs of different groups with steps; NaN where there is no pair.
        mean_js: the same of ``js``.

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
        visited: number of regimes with at least one step.
        possible_log2: P, as 2^P regimes are possible.
        entropy: H = −Σ p log2 p of the occupancy p, in bits.
        effective: 2^H, the number of equally occupied regimes that has the same entropy.
        switch_rate: share of steps (from t to t+1 within a sequence) that change the regime; 0 where no sequence has
            two steps.
        top_occupancy: share of steps spent in the most frequent regime.

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
    """The regimes that trajectories visit, most frequent first.

    Attributes:
        codes: bits of the visited regimes, bool of shape ``(regimes, P)``.
        counts: steps spent in each, int64 of shape ``(regimes,)``.
        occupancy: share of all steps spent in each, float64 of shape ``(regimes,)``.
        labels: the regime of each state as index into ``codes``, int64 of shape ``(batch, time)``; −1 past a sequence's
            length and where the regime is not listed.
        visited: number of regimes with at least one step, listed or not.
        entropy: H = −Σ p log2 p of the occupancy p of all of them, in bits.
        effective: 2^H, the number of equally occupied regimes that has the same entropy.
        switch_rate: share of steps (from t to t+1 within a sequence) that change the regime.
        dropped: how many of the rarest are not listed.
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
    """How long trajectories stay in a regime at a stretch.

    Attributes:
        codes: bits of the visited regimes, the one with most steps first, bool of shape ``(regimes, P)``.
        visits: number of stretches in each, int64 of shape ``(regimes,)``.
        mean: their mean duration in steps, of those that neither begin nor end with the sequence; float64 of shape
            ``(regimes,)``, NaN where there is none.
        longest: the longest of all stretches in each, int64 of shape ``(regimes,)``.
        regime: index into ``codes`` of each stretch, sequence by sequence in order, int64 of shape ``(stretches,)``.
        duration: its steps, int64 of shape ``(stretches,)``.
        cut: whether it begins or ends with its sequence, so that it might have lasted longer, bool of shape
            ``(stretches,)``.
    """

    codes: Tensor
    visits: Tensor
    mean: Tensor
    longest: Tensor
    regime: Tensor
    duration: Tensor
    cut: Tensor


class TransitionGraph(NamedTuple):
    """Which regimes follow which, self-transitions included.

    Attributes:
        codes: the regimes, most frequent first, bool of shape ``(regimes, P)``.
        counts: steps spent in each, int64 of shape ``(regimes,)``.
        edges: index pairs (from, to) into ``codes``, the most frequent first, int64 of shape ``(edges, 2)``.
        edge_counts: how often each occurred, int64 of shape ``(edges,)``.
        probability: share of all steps out of the first regime that lead to the second, float64 of shape ``(edges,)``.
        matrix: the same as a matrix, float64 of shape ``(regimes, regimes)``, see :func:`transition_matrix`.
        entropy_rate: see :func:`entropy_rate`, of all visited regimes.
        visited: number of visited regimes; more than are listed where ``max_regimes`` is smaller.
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
    """Number of int64 words that hold P bits, at least 1.

    Args:
        nonlinear_units: P.

    Returns:
        ⌈P / 63⌉, but at least 1.
    """
    return max(1, -(-nonlinear_units // WORD_BITS))


def pack_bits(bits: Tensor) -> Tensor:
    """Pack regimes into int64 words.

    Args:
        bits: bool of shape ``(…, P)``.

    Returns:
        int64 of shape ``(…, words)``.
    """
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
    """Bits as 0 and 1: by way of bytes, which a CPU converts eight times as fast.

    Args:
        bits: bool of shape ``(…)``.
        dtype: type of the numbers.

    Returns:
        Shape ``(…)``.
    """
    return bits.view(torch.uint8).to(dtype)


def unpack_bits(words: Tensor, nonlinear_units: int) -> Tensor:
    """Undo :func:`pack_bits`.

    Args:
        words: int64 of shape ``(…, words)``.
        nonlinear_units: P.

    Returns:
        bool of shape ``(…, P)``.
    """
    unit = torch.arange(nonlinear_units, device=words.device)
    return (words[..., unit // WORD_BITS] >> (unit % WORD_BITS) & 1).bool()


def bitcode(bits: Tensor) -> str:
    """One regime's bits as text.

    Args:
        bits: bool or 0/1 of shape ``(P,)``.

    Returns:
        ``"011"`` for P=3 with the last two units on.
    """
    return "".join("1" if bit else "0" for bit in bits.tolist())


def regime_bits(states: Tensor, nonlinear_units: int) -> Tensor:
    """The regime of each state: z > 0 of the last P units.

    Args:
        states: shape ``(…, M)``.
        nonlinear_units: P.

    Returns:
        bool of shape ``(…, P)``.
    """
    units = states.detach()[..., states.shape[-1] - nonlinear_units :]
    return units.clone().gt_(0).bool()  # half the time of `units > 0`: a CPU compares within one type much faster


def count_rows(rows: Tensor, weights: Tensor | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Unique rows, how often each occurs, and where each row went.

    Args:
        rows: int64 of shape ``(n, words)``.
        weights: how often each row counts, int64 of shape ``(n,)``; ``None`` for once.

    Returns:
        The unique rows in sorted order ``(u, words)``, their counts ``(u,)`` and the index of each row's unique row
        ``(n,)``.
    """
    numbers, inverse = torch.unique(rows[:, 0], return_inverse=True)
    for column in rows[:, 1:].unbind(dim=1):  # to sort numbers again and again is much faster than to sort rows
        values, place = torch.unique(column, return_inverse=True)
        numbers, inverse = torch.unique(inverse * len(values) + place, return_inverse=True)
    unique = rows.new_empty(len(numbers), rows.shape[1])
    unique[inverse] = rows
    weights = torch.ones_like(inverse) if weights is None else weights
    return unique, rows.new_zeros(len(unique)).scatter_add_(0, inverse, weights), inverse


def _count_numbers(numbers: Tensor, valid: Tensor, below: int) -> tuple[Tensor, Tensor]:
    """The numbers from 0 to less than ``below`` that occur where ``valid``, in order, and how often each does."""
    if below > _TABLE * numbers.numel():
        unique, counts = torch.unique(numbers[valid], return_counts=True)
        return unique, counts
    # a table is filled without sorting; what is not valid counts past its end
    table = torch.where(valid, numbers, below).flatten().bincount(minlength=below + 1)[:below]
    occurring = table.nonzero()[:, 0]
    return occurring, table[occurring]


class PackedCounts(NamedTuple):
    """Counts in packed form, in no particular order.

    Attributes:
        codes: regimes, int64 of shape ``(n, words)``.
        counts: steps spent in each, shape ``(n,)``.
        pairs: transitions as two regimes side by side, shape ``(m, 2·words)``.
        pair_counts: how often each occurred, shape ``(m,)``.
        group_codes: a group and a regime side by side, shape ``(k, 1 + words)``; empty where trials have no group.
        group_code_counts: steps of the group in the regime, shape ``(k,)``.
        groups: groups, shape ``(l, 1)``.
        group_counts: steps of each, shape ``(l,)``.
    """

    codes: Tensor
    counts: Tensor
    pairs: Tensor
    pair_counts: Tensor
    group_codes: Tensor
    group_code_counts: Tensor
    groups: Tensor
    group_counts: Tensor


def no_counts(nonlinear_units: int, device: torch.device) -> PackedCounts:
    """Counts of nothing, each of the right type and width.

    Args:
        nonlinear_units: P.
        device: where they are to be.
    """
    words = words_needed(nonlinear_units)
    counts = torch.zeros(0, dtype=torch.int64, device=device)
    fields = [
        field for width in (words, 2 * words, 1 + words, 1) for field in (counts.view(0, 1).expand(0, width), counts)
    ]
    return PackedCounts(*fields)


def count_batch(states: Tensor, lengths: Tensor, nonlinear_units: int, group: Tensor | None = None) -> PackedCounts:
    """Count regimes and transitions of a batch, in packed form.

    Args:
        states: shape ``(batch, time, M)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; steps past them are not counted, nor is
            anything across sequences.
        nonlinear_units: P.
        group: index of each sequence's group, int64 of shape ``(batch,)``, or ``None``.
    """
    return count_packed(pack_bits(regime_bits(states, nonlinear_units)), lengths, nonlinear_units, group)


def count_packed(packed: Tensor, lengths: Tensor, nonlinear_units: int, group: Tensor | None = None) -> PackedCounts:
    """As :func:`count_batch`, from regimes that are packed already.

    Args:
        packed: regimes of each step, int64 of shape ``(batch, time, words)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``.
        nonlinear_units: P.
        group: index of each sequence's group, int64 of shape ``(batch,)``, or ``None``.
    """
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
    found = no_counts(nonlinear_units, packed.device)._replace(
        codes=codes,
        counts=counts,
        pairs=torch.cat((codes[pairs // size], codes[pairs % size]), dim=1),
        pair_counts=pair_counts,
    )
    if group is None or len(group) == 0:
        return found
    first, last = (int(end) for end in group.aminmax())
    keys, key_counts = _count_numbers(
        (group.long() - first).unsqueeze(1) * size + index, valid, (last - first + 1) * size
    )
    owners = (keys // size + first).unsqueeze(1)
    groups, group_counts, _ = count_rows(owners, key_counts)
    return found._replace(
        group_codes=torch.cat((owners, codes[keys % size]), dim=1),
        group_code_counts=key_counts,
        groups=groups,
        group_counts=group_counts,
    )


def merge_rows(rows: Tensor, counts: Tensor, limit: int) -> tuple[Tensor, Tensor]:
    """Add up the counts of equal rows and keep at most ``limit`` rows, those with the largest counts.

    Args:
        rows: int64 of shape ``(n, width)``.
        counts: of each, int64 of shape ``(n,)``.
        limit: how many rows to keep.

    Returns:
        Different rows in order, shape ``(m, width)`` with m ≤ ``limit``, and the count of each, shape ``(m,)``.
    """
    rows, counts, _ = count_rows(rows, counts)
    if len(rows) > limit:
        keep = counts.topk(limit).indices.sort().values
        rows, counts = rows[keep], counts[keep]
    return rows, counts


def switches_and_moves(packed: PackedCounts) -> tuple[Tensor, Tensor]:
    """How many moves of a batch change the regime, and how many moves there are.

    Args:
        packed: counts of a batch.

    Returns:
        Two int64 scalars.
    """
    words = packed.codes.shape[1]
    switched = (packed.pairs[:, :words] != packed.pairs[:, words:]).any(dim=1)
    return packed.pair_counts[switched].sum(), packed.pair_counts.sum()


def regime_counts(packed: PackedCounts, nonlinear_units: int, *, steps: int, moves: int, switches: int) -> RegimeCounts:
    """Order packed counts by frequency and turn codes into bits.

    Args:
        packed: the counts; rows may repeat.
        nonlinear_units: P.
        steps: number of states counted.
        moves: number of steps from t to t+1 counted.
        switches: number of moves that change the regime.
    """
    codes, counts, _ = count_rows(packed.codes, packed.counts)
    pairs, pair_counts, _ = count_rows(packed.pairs, packed.pair_counts)
    # most frequent first; regimes of equal count in order of their code, so that the order is always the same
    order = torch.argsort(counts, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order), device=order.device)
    words = codes.shape[1]
    # look both ends of each pair up among the codes: unique rows of codes and ends together
    ends = pairs.reshape(-1, words)
    _, _, inverse = count_rows(torch.cat((codes, ends)))
    known = torch.full((int(inverse.max()) + 1 if len(inverse) else 0,), -1, dtype=torch.int64, device=codes.device)
    known[inverse[: len(codes)]] = rank
    transitions = known[inverse[len(codes) :]].reshape(-1, 2)
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


def count_regimes(states: Tensor, nonlinear_units: int, lengths: Tensor | None = None) -> RegimeCounts:
    """Count the regimes that trajectories visit, and the transitions between them.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: P.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.

    Raises:
        ValueError: if a shape does not fit.

    Example:
        >>> states = torch.tensor([[[1.0], [-1.0], [-2.0]]])
        >>> found = count_regimes(states, nonlinear_units=1)
        >>> [bitcode(code) for code in found.codes], found.counts.tolist()
        (['0', '1'], [2, 1])
        >>> found.transitions.tolist()  # from 1 to 0, then from 0 to 0
        [[0, 0], [1, 0]]
    """
    packed = count_batch(states, _check_states(states, nonlinear_units, lengths), nonlinear_units)
    switches, moves = switches_and_moves(packed)
    return regime_counts(
        packed, nonlinear_units, steps=int(packed.counts.sum()), moves=int(moves), switches=int(switches)
    )


def group_occupancy(
    packed: PackedCounts, nonlinear_units: int, groups: int | None = None, max_groups: int | None = None
) -> GroupOccupancy:
    """Order packed counts of groups by group and by frequency, and turn codes into bits.

    Args:
        packed: the counts, on the CPU; rows may repeat. Groups below 0 are left out.
        nonlinear_units: P.
        groups: how many groups there are, so that those without a step are listed too; ``None`` lists those that occur.
        max_groups: how many groups to list at most, those with most steps; ``None`` for all.
    """
    owners, owner_steps, _ = count_rows(packed.groups, packed.group_counts)
    listed, _, _ = count_rows(torch.cat((owners, torch.arange(groups or 0).unsqueeze(1))))
    listed = listed[:, 0]
    listed = listed[listed >= 0]
    steps = torch.zeros_like(listed)
    known = owners[:, 0] >= 0
    steps[torch.searchsorted(listed, owners[known, 0])] = owner_steps[known]
    if max_groups is not None and len(listed) > max_groups:
        keep = torch.argsort(steps, descending=True, stable=True)[:max_groups].sort().values
        listed, steps = listed[keep], steps[keep]

    rows, counts, _ = count_rows(packed.group_codes, packed.group_code_counts)
    kept = torch.isin(rows[:, 0], listed)
    rows, counts = rows[kept], counts[kept]
    codes, totals, inverse = count_rows(rows[:, 1:], counts)
    order = torch.argsort(totals, descending=True, stable=True)
    rank = torch.empty_like(order)
    rank[order] = torch.arange(len(order))
    matrix = torch.zeros(len(listed), len(codes), dtype=torch.int64)
    matrix[torch.searchsorted(listed, rows[:, 0].contiguous()), rank[inverse]] = counts
    return GroupOccupancy(listed, unpack_bits(codes[order], nonlinear_units), matrix, steps)


def count_regimes_by_group(
    states: Tensor, nonlinear_units: int, group: Tensor, lengths: Tensor | None = None, groups: int | None = None
) -> GroupOccupancy:
    """Count the regimes that each group of trajectories visits.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: P.
        group: index of each sequence's group, int64 of shape ``(batch,)``; a sequence below 0 belongs to none.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        groups: how many groups there are, so that those without a step are listed too; ``None`` lists those that occur.

    Raises:
        ValueError: if a shape does not fit.

    Example:
        >>> states = torch.tensor([[[1.0], [-1.0], [-2.0]], [[-1.0], [-3.0], [-2.0]]])
        >>> found = count_regimes_by_group(states, nonlinear_units=1, group=torch.tensor([0, 1]))
        >>> [bitcode(code) for code in found.codes], found.counts.tolist()
        (['0', '1'], [[2, 1], [3, 0]])
    """
    lengths = _check_states(states, nonlinear_units, lengths)
    if group.shape != lengths.shape:
        raise ValueError(
            f"group must have shape {tuple(lengths.shape)}, one index a sequence, got {tuple(group.shape)}"
        )
    packed = count_batch(states, lengths, nonlinear_units, group.to(states.device))
    return group_occupancy(PackedCounts(*(field.cpu() for field in packed)), nonlinear_units, groups)


def regime_sharing(found: GroupOccupancy) -> RegimeSharing:
    """How far the groups use the same regimes, pair by pair and on average. Formulas: see :class:`RegimeSharing`.

    Where regimes were too many to list, it is about those that are listed.

    Args:
        found: of :func:`count_regimes_by_group`.

    Example:
        >>> states = torch.tensor([[[1.0], [-1.0]], [[-1.0], [-1.0]], [[-3.0], [-1.0]]])
        >>> sharing = regime_sharing(count_regimes_by_group(states, 1, group=torch.tensor([0, 1, 2])))
        >>> sharing.jaccard[0].tolist()  # groups 1 and 2 visit one of the two regimes of group 0
        [1.0, 0.5, 0.5]
        >>> round(sharing.mean_jaccard, 3), round(sharing.mean_js, 3)
        (0.667, 0.208)
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
    mixed = [_entropy((occupancy + own) / 2) for own in occupancy]
    js = (torch.stack(mixed) if mixed else entropy.new_zeros(0, 0)) - (entropy + entropy[:, None]) / 2
    js = js.clamp(0, 1).masked_fill(missing, math.nan)

    pair = torch.triu_indices(len(found.groups), len(found.groups), offset=1).unbind()
    return RegimeSharing(found.groups, jaccard, js, float(jaccard[pair].nanmean()), float(js[pair].nanmean()))


def summarize_regimes(found: RegimeCounts) -> RegimeSummary:
    """Reduce counts to scalars. Where regimes were too many to list, ``visited`` and ``entropy`` are lower bounds.

    Args:
        found: of :func:`count_regimes`.
    """
    occupancy = found.counts.double() / max(found.steps, 1)
    entropy = max(float(torch.special.entr(occupancy).sum()) / math.log(2), 0.0)
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
        found: counts of regimes and transitions.
        regimes: how many of the most frequent regimes to take.

    Returns:
        float64 of shape ``(n, n)`` with n = min(regimes, visited). Entry (i, j) is the share of *all* steps out of
        regime i that lead to j, so a row sums to less than 1 where steps lead to regimes beyond the n. A regime that
        is never left (only ever the last step of a sequence) has a row of zeros.
    """
    size = min(regimes, len(found.codes))
    leaving = torch.zeros(max(len(found.codes), 1), dtype=torch.float64)
    transitions, counts = found.transitions.cpu(), found.transition_counts.cpu().double()
    leaving.scatter_add_(0, transitions[:, 0], counts)
    among = (transitions < size).all(dim=1)
    matrix = torch.zeros(size, size, dtype=torch.float64)
    matrix[transitions[among, 0], transitions[among, 1]] = counts[among]
    return matrix / leaving[:size, None].clamp(min=1.0)


def entropy_rate(found: RegimeCounts) -> float:
    """Entropy rate of the regimes as a Markov chain: −Σ_ij (n_ij / n) log2(n_ij / n_i) in bits a step.

    n_ij counts the steps from regime i to regime j, self-transitions included, n_i those out of i and n all. 0 where
    each regime has but one successor; the less a regime tells about the next one, the nearer it comes to their entropy.

    Args:
        found: of :func:`count_regimes`.

    Returns:
        Bits a step, from 0 to P.

    Example:
        >>> states = torch.tensor([[[1.0], [1.0], [-1.0], [1.0], [1.0]]])  # from 1 to 1 or 0, from 0 to 1
        >>> round(entropy_rate(count_regimes(states, nonlinear_units=1)), 4)  # 3/4 · H(1/3)
        0.6887

    Reference:
        Cover & Thomas, "Elements of Information Theory", 2006, chapter 4.
    """
    counts = found.transition_counts.cpu().double()
    leaving = torch.zeros(max(len(found.codes), 1), dtype=torch.float64)
    sources = found.transitions[:, 0].cpu()
    leaving.scatter_add_(0, sources, counts)
    total = float(counts.sum())
    if total == 0:
        return 0.0
    return abs(float((counts * (counts / leaving[sources]).log2()).sum())) / total


def dwell_times(states: Tensor, nonlinear_units: int, lengths: Tensor | None = None) -> DwellTimes:
    """How long trajectories stay in each regime at a stretch.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: P.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.

    Raises:
        ValueError: if a shape does not fit.

    Example:
        >>> states = torch.tensor([[[1.0], [-1.0], [-2.0], [3.0], [4.0]]])
        >>> found = dwell_times(states, nonlinear_units=1)
        >>> [bitcode(found.codes[regime]) for regime in found.regime], found.duration.tolist(), found.cut.tolist()
        (['1', '0', '1'], [1, 2, 2], [True, False, True])
        >>> found.mean.tolist()
        [nan, 2.0]
    """
    found = regimes(states, nonlinear_units, lengths, max_regimes=None)
    index, size = found.labels.cpu(), len(found.codes)
    valid = index >= 0
    changed = index[:, 1:] != index[:, :-1]
    edge = torch.ones(len(index), 1, dtype=torch.bool)
    first = torch.cat((edge, changed), dim=1) & valid
    last = torch.cat((changed, edge), dim=1) & valid
    # stretches begin and end in the same order
    begin, end = first.nonzero(), last.nonzero()
    regime = index[begin[:, 0], begin[:, 1]]
    duration = end[:, 1] - begin[:, 1] + 1
    cut = (begin[:, 1] == 0) | (end[:, 1] == valid.sum(dim=1)[end[:, 0]] - 1)

    visits = torch.bincount(regime, minlength=size)
    whole = torch.bincount(regime[~cut], minlength=size)
    steps = torch.bincount(regime[~cut], weights=duration[~cut].double(), minlength=size)
    longest = torch.zeros(size, dtype=torch.int64).scatter_reduce_(0, regime, duration, "amax")
    return DwellTimes(found.codes.cpu(), visits, steps / whole, longest, regime, duration, cut)


def regimes(
    states: Tensor, nonlinear_units: int, lengths: Tensor | None = None, max_regimes: int | None = 65_536
) -> Regimes:
    """The regimes of trajectories: which, how often, and the one of each state.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: P.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        max_regimes: how many of the most frequent to list; ``None`` for all.

    Raises:
        ValueError: if a shape does not fit.

    Example:
        >>> found = regimes(torch.tensor([[[1.0], [-1.0], [-2.0]]]), nonlinear_units=1)
        >>> [bitcode(code) for code in found.codes], found.labels.tolist()
        (['0', '1'], [[1, 0, 0]])
    """
    valid = valid_steps(_check_states(states, nonlinear_units, lengths), states.shape[1])
    counted = count_regimes(states, nonlinear_units, lengths)
    summary = summarize_regimes(counted)
    listed = len(counted.codes) if max_regimes is None else min(max_regimes, len(counted.codes))
    # rows of the listed regimes and of the states' are unique together: each state's row leads back to its regime
    codes = pack_bits(counted.codes[:listed])
    _, _, inverse = count_rows(torch.cat((codes, pack_bits(regime_bits(states, nonlinear_units)[valid]))))
    known = torch.full((int(inverse.max()) + 1 if len(inverse) else 0,), -1, device=states.device)
    known[inverse[:listed]] = torch.arange(listed, device=states.device)
    index = torch.full(states.shape[:2], -1, dtype=torch.int64, device=states.device)
    index[valid] = known[inverse[listed:]]
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
    """Which regimes follow which along trajectories.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: P.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        max_regimes: how many of the most frequent regimes to list, with the edges among them.

    Raises:
        ValueError: if a shape does not fit.

    Example:
        >>> graph = transition_graph(torch.tensor([[[1.0], [-1.0], [-2.0]]]), nonlinear_units=1)
        >>> graph.edges.tolist(), graph.probability.tolist()  # regime 0 is "0", regime 1 is "1"
        ([[0, 0], [1, 0]], [1.0, 1.0])
    """
    found = count_regimes(states, nonlinear_units, lengths)
    matrix = transition_matrix(found, max_regimes)
    listed = (found.transitions < len(matrix)).all(dim=1)
    edges = found.transitions[listed].cpu()
    return TransitionGraph(
        codes=found.codes[:max_regimes].cpu(),
        counts=found.counts[:max_regimes].cpu(),
        edges=edges,
        edge_counts=found.transition_counts[listed].cpu(),
        probability=matrix[edges[:, 0], edges[:, 1]],
        matrix=matrix,
        entropy_rate=entropy_rate(found),
        visited=len(found.codes),
    )


def shared_regimes(
    states: Tensor, nonlinear_units: int, group: Tensor, lengths: Tensor | None = None, groups: int | None = None
) -> RegimeSharing:
    """How far groups of trajectories (conditions, classes, tasks) use the same regimes.

    The same as :func:`regime_sharing` of :func:`count_regimes_by_group`, whose arguments it takes.

    Args:
        states: z_1 … z_T, shape ``(batch, time, M)``.
        nonlinear_units: P.
        group: index of each sequence's group, int64 of shape ``(batch,)``.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.
        groups: number of groups; ``None`` as in :func:`count_regimes_by_group`.

    Example:
        >>> states = torch.tensor([[[1.0], [-1.0]], [[-1.0], [-1.0]]])
        >>> shared_regimes(states, nonlinear_units=1, group=torch.tensor([0, 1])).mean_jaccard
        0.5
    """
    return regime_sharing(count_regimes_by_group(states, nonlinear_units, group, lengths, groups))


def _check_states(states: Tensor, nonlinear_units: int, lengths: Tensor | None) -> Tensor:
    """Check shapes, and give the lengths on the states' device."""
    if states.ndim != 3:
        raise ValueError(f"states must have shape (batch, time, M), got {tuple(states.shape)}")
    if not 0 <= nonlinear_units <= states.shape[-1]:
        raise ValueError(f"nonlinear_units (P) must lie between 0 and M={states.shape[-1]}, got {nonlinear_units}")
    if lengths is None:
        lengths = torch.full((len(states),), states.shape[1], dtype=torch.int64)
    return lengths.to(states.device)


def _entropy(occupancy: Tensor) -> Tensor:
    """−Σ p log2 p of each row, shape ``(rows, regimes)`` to ``(rows,)``."""
    entropy: Tensor = torch.special.entr(occupancy).sum(dim=1)
    return entropy / math.log(2)
