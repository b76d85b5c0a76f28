"""What readings look at: a network and its states."""

from __future__ import annotations

from collections.abc import Sequence
from weakref import WeakKeyDictionary

import torch
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import GroupOccupancy, RegimeCounts
from lightning_alrnn.analysis.spectrum import PrincipalComponents
from lightning_alrnn.analysis.units import UnitStatistics
from lightning_alrnn.metrics.moments import StateMoments
from lightning_alrnn.metrics.regimes import RegimeCounter
from lightning_alrnn.metrics.units import UnitActivity
from lightning_alrnn.nn.alrnn import ALRNN

_TRAJECTORIES = 64
_ROWS = 2048


class Evidence:
    """A network, and statistics of its states over the batches of an epoch of validation or of a test.

    Callbacks of one network share one object, see :func:`share_evidence`. Only the needed statistics are accumulated.
    The methods return statistics over all processes, on the CPU; call them on every process.

    Args:
        rnn: Network.
        device: Device of its states.
        group_names: Names of the groups of trials; ``None`` without groups.
        class_names: Names of the classes; ``None`` without classes.

    Example:
        >>> rnn = ALRNN(1, 2, 1)
        >>> evidence = Evidence(rnn, torch.device("cpu"))
        >>> evidence.need("regimes")
        >>> evidence.update((0, 0), torch.tensor([[[0.0, 1.0], [0.0, -1.0]]]), torch.tensor([2]), None)
        >>> evidence.regimes().codes.tolist()
        [[False], [True]]
    """

    def __init__(
        self,
        rnn: ALRNN,
        device: torch.device,
        group_names: Sequence[str] | None = None,
        class_names: Sequence[str] | None = None,
    ) -> None:
        self.rnn = rnn
        self.group_names = None if group_names is None else list(group_names)
        self.class_names = None if class_names is None else list(class_names)
        self.started = False
        double = "cpu" if device.type == "mps" else device  # Apple's MPS has no float64
        self._counter = RegimeCounter(rnn.nonlinear_units).to(device)
        self._activity = UnitActivity(rnn.nonlinear_units).to(device)
        self._moments = StateMoments(rnn.hidden_size).to(double)
        self._some_moments = StateMoments(rnn.hidden_size).to(double)
        self._trajectories: tuple[Tensor, Tensor] | None = None
        self._conditions: tuple[Tensor | None, Tensor | None] = (None, None)
        self._needed: set[str] = set()
        self._last_batch: tuple[int, int] | None = None
        self._regimes: RegimeCounts | None = None
        self._components: PrincipalComponents | None = None

    def need(self, *names: str) -> None:
        """Accumulate further statistics. Call this method before the first batch.

        Args:
            *names: Any of "regimes", "moments", "units" and "trajectories".
        """
        self._needed.update(names)

    def update(
        self,
        batch: tuple[int, int],
        states: Tensor,
        lengths: Tensor,
        group: Tensor | None,
        classes: Tensor | None = None,
    ) -> None:
        """Add a batch. Several callbacks may add the same batch, which counts once.

        Args:
            batch: Indices of the loader and of the batch.
            states: States z_1 … z_T, shape ``(batch, time, M)``.
            lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
            group: Index of the group of each sequence, shape ``(batch,)``, or ``None``.
            classes: Class of each sequence, shape ``(batch,)``, or ``None``.
        """
        self.started = True
        if batch == self._last_batch:
            return
        first, self._last_batch = self._last_batch is None, batch
        if "regimes" in self._needed:  # which takes most of the time of the callbacks
            self._counter.update(states, lengths, group)
        if "units" in self._needed:
            self._activity.update(states, lengths)
        if "moments" in self._needed:
            self._moments.update(states, lengths)
        if "trajectories" in self._needed and first:
            some, steps = states[:_TRAJECTORIES].clone(), lengths[:_TRAJECTORIES]
            self._trajectories = some, steps
            self._conditions = tuple(None if each is None else each[:_TRAJECTORIES] for each in (group, classes))  # type: ignore[assignment]
            # the spread of some states is enough to distinguish near from far
            stride = -(-some.shape[1] * len(some) // _ROWS)
            self._some_moments.update(some[:, ::stride], (steps + stride - 1) // stride)

    def is_finite(self) -> bool:
        """Return whether all parameters of the network are finite."""
        return all(bool(torch.isfinite(parameter).all()) for parameter in self.rnn.parameters())

    def regimes(self) -> RegimeCounts:
        """Return the visited regimes with their counts; needs "regimes"."""
        self.started = True
        if self._regimes is None:
            self._regimes = self._counter.regimes()
        return self._regimes

    def groups(self) -> GroupOccupancy | None:
        """Return the regimes of each group of trials, or ``None`` without groups; needs "regimes"."""
        names = self.group_names
        occupancy = self._counter.group_occupancy(None if names is None else len(names))
        return occupancy if len(occupancy.groups) else None

    def units(self, threshold: float = 1e-3) -> UnitStatistics:
        """Return the shares of steps in which each nonlinear unit is on and switches; needs "units".

        Args:
            threshold: Share of steps in which a unit must switch to be active.
        """
        self._activity.threshold = threshold
        return self._activity.statistics()

    def components(self) -> PrincipalComponents:
        """Return the principal components of the states; needs "moments"."""
        self.started = True
        if self._components is None:
            self._components = self._moments.components()
        return self._components

    def trajectories(self) -> tuple[Tensor, Tensor] | None:
        """Return up to 64 sequences of states of this process, ``(batch, time, M)``, and lengths; "trajectories"."""
        return None if self._trajectories is None else (self._trajectories[0].cpu(), self._trajectories[1].cpu())

    def conditions(self) -> tuple[Tensor | None, list[str] | None]:
        """Return the group, or else the class, of each of the :meth:`trajectories`, ``(batch,)``, and their names."""
        for labels, names in zip(self._conditions, (self.group_names, self.class_names), strict=True):
            if labels is not None and bool((labels >= 0).any()):
                return labels.cpu(), names
        return None, None

    def spread(self) -> PrincipalComponents:
        """Return the principal components of the states in :meth:`trajectories`; needs "trajectories"."""
        return self._some_moments.components()


_EVIDENCE: WeakKeyDictionary[ALRNN, Evidence] = WeakKeyDictionary()


def share_evidence(
    rnn: ALRNN,
    device: torch.device,
    group_names: Sequence[str] | None = None,
    class_names: Sequence[str] | None = None,
) -> Evidence:
    """Return the evidence of the epoch that begins, which is the same object for all callbacks of an epoch.

    Args:
        rnn: Network.
        device: Device of its states.
        group_names: Names of the groups of trials.
        class_names: Names of the classes.

    Returns:
        Evidence without a batch.
    """
    evidence = _EVIDENCE.get(rnn)
    if evidence is None or evidence.started:
        evidence = _EVIDENCE[rnn] = Evidence(rnn, device, group_names, class_names)
    return evidence
