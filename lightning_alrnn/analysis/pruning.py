"""Removal of nonlinear units one after the other, and the smaller AL-RNN that remains.

Unlike :mod:`~lightning_alrnn.analysis.ablation`, which tries each unit by itself, this module removes units together.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.options import ALRNN_DEFAULTS


class Removal(NamedTuple):
    """Removal of a nonlinear unit.

    Attributes:
        unit: Index of the unit, from 0 to P−1 (unit i is unit M−P+i of all).
        kind: "linearise" (the unit passes on z itself, not max(0, z)) or "silence" (it is held at zero).
    """

    unit: int
    kind: Literal["linearise", "silence"]


Removals: TypeAlias = tuple[Removal, ...]


class PrunedNetwork(NamedTuple):
    """Network without some of its nonlinear units.

    Attributes:
        rnn: AL-RNN with M − (silenced) units, of which P − (removed) are nonlinear.
        units: Index in the original network of each unit, int64 of shape ``(M,)``; the readout has these columns.
    """

    rnn: ALRNN
    units: Tensor


@torch.no_grad()
def remove_units(rnn: ALRNN, removals: Sequence[Removal]) -> PrunedNetwork:
    """Build the AL-RNN that remains without some nonlinear units.

    Linearised units follow the linear ones; if linear units have no A_ii, theirs goes into W_ii. Silenced units are
    gone, but one stays, with weights of zero, if no other unit is left. Inputs that are added to the units directly get
    a matrix C of zeros and ones.

    Args:
        rnn: Network, which does not change.
        removals: Removals of different units.

    Returns:
        Network with the states that it has under the interventions ``linearise`` and ``silence``, up to rounding.

    Raises:
        ValueError: If a unit is not one of 0 … P−1 or is removed twice.

    Example:
        >>> rnn = ALRNN(input_size=2, hidden_size=6, nonlinear_units=3)
        >>> pruned = remove_units(rnn, [Removal(2, "linearise"), Removal(0, "silence")])
        >>> pruned.rnn.hidden_size, pruned.rnn.nonlinear_units, pruned.units.tolist()
        (5, 1, [0, 1, 2, 5, 4])
    """
    units = [removal.unit for removal in removals]
    wrong = [unit for unit in units if not 0 <= unit < rnn.nonlinear_units or units.count(unit) > 1]
    if wrong:
        raise ValueError(
            f"removals must name nonlinear units, 0 … P−1 with P={rnn.nonlinear_units}, each at most once, "
            f"got {wrong[0]} among {units}"
        )
    linearised = [rnn.linear_units + removal.unit for removal in removals if removal.kind == "linearise"]
    remaining = [rnn.linear_units + unit for unit in range(rnn.nonlinear_units) if unit not in units]
    order = [*range(rnn.linear_units), *sorted(linearised), *remaining]
    order = order or [0]
    silenced = [removal.unit for removal in removals if removal.kind == "silence"]
    recurrence = rnn.recurrence().silenced(silenced).permuted(order)
    A, W, C, h = recurrence.A, recurrence.W, recurrence.input_weights, recurrence.h
    options = {name: getattr(rnn, name) for name in ALRNN_DEFAULTS}
    with torch.device("meta"):  # weights are not drawn, which would move torch's generator on
        small = ALRNN(C.shape[1], len(order), len(remaining), **options)
    without = len(order) - len(small.A)  # units whose A_ii can only stand in W
    W.diagonal()[:without] += A[:without]
    weights = {"A": A[without:], "W": W, "C": C, "h": h}
    if rnn.z0 is not None:
        weights["z0"] = (rnn.z0 * rnn.recurrence().active(silenced))[order]
    small.load_state_dict(weights, assign=True)
    small.train(rnn.training)
    return PrunedNetwork(small, torch.tensor(order, device=rnn.W.device))


def greedy_removals(units: int, losses: Callable[[list[Removals]], Sequence[float]]) -> Iterator[Removal]:
    """Remove nonlinear units one by one, each time the one that leaves the least loss.

    Each step tries every remaining unit in both ways. Of equal losses silencing comes first, then the lower index. This
    takes P(P+1) losses instead of the 3^P of all choices, but misses combinations whose parts are not good alone.

    Args:
        units: Number P of nonlinear units.
        losses: Function that takes several lists of removals and returns the loss of the network after each of them;
            NaN counts as infinite. All lists begin with the removals yielded so far and have one more.

    Yields:
        The P removals in order. ``losses`` is called when the next one is requested, possibly after training.

    Example:
        >>> cost = {(0, "linearise"): 0.1, (0, "silence"): 5.0, (1, "linearise"): 0.0, (1, "silence"): 0.0}
        >>> [*greedy_removals(2, lambda tried: [sum(cost[removal] for removal in one) for one in tried])]
        [Removal(unit=1, kind='silence'), Removal(unit=0, kind='linearise')]
    """
    removed: Removals = ()
    remaining = list(range(units))
    kinds: tuple[Literal["silence", "linearise"], ...] = ("silence", "linearise")
    while remaining:
        tried = [(*removed, Removal(unit, kind)) for kind in kinds for unit in remaining]
        values = [math.inf if math.isnan(loss) else loss for loss in losses(tried)]
        removed = tried[values.index(min(values))]
        remaining.remove(removed[-1].unit)
        yield removed[-1]
