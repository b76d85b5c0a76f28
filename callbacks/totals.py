"""What several callbacks need to know of the states of an epoch, accumulated once for all of them."""

from __future__ import annotations

from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import GroupOccupancy, RegimeCounts
from lightning_alrnn.analysis.spectrum import PrincipalComponents
from lightning_alrnn.metrics.moments import StateMoments
from lightning_alrnn.metrics.regimes import RegimeCounter
from lightning_alrnn.nn.alrnn import ALRNN


class StateTotals:
    """Regimes and moments of the states that an ALRNN goes through in an epoch of validation.

    Callbacks that look at the same ALRNN share one, see :func:`share_totals`: counting regimes takes most of their
    time. What none of them asks for is not accumulated.

    Args:
        rnn: the network.
        device: where states are.
    """

    def __init__(self, rnn: ALRNN, device: torch.device) -> None:
        self.started = False
        self._counter = RegimeCounter(rnn.nonlinear_units).to(device)
        # Apple's MPS has no float64
        self._moments = StateMoments(rnn.hidden_size).to("cpu" if device.type == "mps" else device)
        self._wanted: set[str] = set()
        self._seen: tuple[int, int] | None = None
        self._regimes: RegimeCounts | None = None
        self._components: PrincipalComponents | None = None

    def want(self, *names: str) -> None:
        """Accumulate these too, "regimes" or "moments"; before the first batch.

        Args:
            *names: of what to accumulate.
        """
        self._wanted.update(names)

    def update(self, batch: tuple[int, int], states: Tensor, lengths: Tensor, group: Tensor | None) -> None:
        """Accumulate a batch, once, however many callbacks hand it in.

        Args:
            batch: indices of the loader and of the batch.
            states: shape ``(batch, time, M)``.
            lengths: valid steps of each sequence, int64 of shape ``(batch,)``.
            group: groups of shape ``(batch,)``, or ``None``.
        """
        self.started = True
        if batch == self._seen:
            return
        self._seen = batch
        if "regimes" in self._wanted:
            self._counter.update(states, lengths, group)
        if "moments" in self._wanted:
            self._moments.update(states, lengths)

    def regimes(self) -> RegimeCounts:
        """The regimes of all batches and processes, on the CPU. Call it on every process."""
        self.started = True
        if self._regimes is None:
            self._regimes = self._counter.regimes()
        return self._regimes

    def group_occupancy(self, groups: int | None = None) -> GroupOccupancy:
        """The regimes of each group, of all batches and processes, on the CPU. Call it on every process.

        Args:
            groups: how many groups there are; ``None`` lists those that occur.
        """
        return self._counter.group_occupancy(groups)

    def components(self) -> PrincipalComponents:
        """Principal components of all batches and processes, on the CPU. Call it on every process."""
        self.started = True
        if self._components is None:
            self._components = self._moments.components()
        return self._components


_TOTALS: WeakKeyDictionary[ALRNN, StateTotals] = WeakKeyDictionary()


def share_totals(rnn: ALRNN, device: torch.device) -> StateTotals:
    """The totals of the epoch that begins: new ones for the first callback that asks, the same for those after it.

    Args:
        rnn: the network that they are of.
        device: of the states that are to come.

    Returns:
        Without a batch so far.
    """
    totals = _TOTALS.get(rnn)
    if totals is None or totals.started:
        totals = _TOTALS[rnn] = StateTotals(rnn, device)
    return totals
