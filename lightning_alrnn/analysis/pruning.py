"""Nonlinear units taken away one after the other, and the smaller AL-RNN that is left.

A unit that is linearised or silenced for good leaves an ordinary AL-RNN with one nonlinear unit less. Unlike
:mod:`~lightning_alrnn.analysis.ablation`, which tries each unit by itself, units are taken away together.
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
    """A nonlinear unit that is taken away.

    Attributes:
        unit: its index, from 0 to P−1 (unit i is unit M−P+i of all).
        kind: "linearise" (it passes on z itself, not max(0, z)) or "silence" (it is held at zero).
    """

    unit: int
    kind: Literal["linearise", "silence"]


Removals: TypeAlias = tuple[Removal, ...]


class PrunedNetwork(NamedTuple):
    """A network without some of its nonlinear units.

    Attributes:
        rnn: an AL-RNN with M − (silenced) units, of which P − (removed) are nonlinear.
        units: index in the original network of each of its units, int64 of shape ``(M,)`` with its own M. The readout
            has the columns ``readout.weight[:, units]``.
    """

    rnn: ALRNN
    units: Tensor


@torch.no_grad()
def remove_units(rnn: ALRNN, removals: Sequence[Removal]) -> PrunedNetwork:
    """The AL-RNN that is left without some nonlinear units.

    Linearised units stand behind the linear ones; where linear units have no A_ii, theirs goes into W_ii. Silenced
    units are gone, unless no other is left: then one stays, with weights of zero. Inputs that are added to the units
    directly get a matrix C of zeros and ones, as units are in another order and may be fewer.

    Args:
        rnn: the network, which is left as it is.
        removals: units, each at most once.

    Returns:
        A network with the same states, but for rounding, as one with :func:`~lightning_alrnn.analysis.linearise` and
        :func:`~lightning_alrnn.analysis.silence`.

    Raises:
        ValueError: if a unit is not one of 0 … P−1 or is taken away twice.

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
    alive = 1.0 if order else 0.0
    order = order or [0]
    recurrence = rnn.recurrence().permuted(order)
    A, W, C, h = (alive * field for field in (recurrence.A, recurrence.W, recurrence.input_weights, recurrence.h))
    options = {name: getattr(rnn, name) for name in ALRNN_DEFAULTS}
    with torch.device("meta"):  # weights are not drawn, which would move torch's generator on
        small = ALRNN(C.shape[1], len(order), len(remaining), **options)
    without = len(order) - len(small.A)  # units whose A_ii can only stand in W
    W.diagonal()[:without] += A[:without]
    weights = {"A": A[without:], "W": W, "C": C, "h": h}
    if rnn.z0 is not None:
        weights["z0"] = alive * rnn.z0[order]
    small.load_state_dict(weights, assign=True)
    small.train(rnn.training)
    return PrunedNetwork(small, torch.tensor(order, device=rnn.W.device))


def greedy_removals(units: int, losses: Callable[[list[Removals]], Sequence[float]]) -> Iterator[Removal]:
    """Take nonlinear units away one by one, each time the one without which the loss is least.

    At each step every unit that is left is tried both ways. Of equal losses silencing comes first, which leaves the
    smaller network, and then the unit with the lower index. This takes P(P+1) losses, and not the 3^P of all
    choices; what is best together may be missed where no part of it is good alone.

    Args:
        units: P.
        losses: called with several lists of removals, returns the loss of the network after each of them; NaN counts as
            infinite. All lists begin with what was yielded so far, in that order, and have one removal more.

    Yields:
        The P removals, in the order in which they are made. ``losses`` is called when the next one is asked for, so
        that the network may be trained anew between two.

    Example:
        Unit 1 is of no use, and unit 0 acts as a linear unit.

        >>> cost = {(0, "linearise"): 0.1, (0, "silence"): 5.0, (1, "linearise"): 0.0, (1, "silence"): 0.0}
        >>> [*greedy_removals(2, lambda tried: [sum(cost[removal] for removal in one) for one in tried])]
        [Removal(unit=1, kind='silence'), Removal(unit=0, kind='linearise')]
    """
    removed: Removals = ()
    remaining = list(range(units))
    kinds: tuple[Literal["silence", "linearise"], ...] = ("silence", "linearise")
    while remaining:
        tried = [(*removed, Removal(unit, kind)) for kind in kinds for unit in remaining]
        found = [math.inf if math.isnan(loss) else loss for loss in losses(tried)]
        removed = tried[found.index(min(found))]
        remaining.remove(removed[-1].unit)
        yield removed[-1]
