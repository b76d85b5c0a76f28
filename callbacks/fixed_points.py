"""The attractors and other fixed points of the network, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import cast

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_alrnn.analysis.fixed_points import FixedPointSet, eigenvalues_of_regimes, fixed_points
from lightning_alrnn.callbacks.base import StatesCallback
from lightning_alrnn.metrics.regimes import RegimeCounter
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.fixed_points import plot_eigenvalues, plot_state_space

_KEYS = tuple(
    f"fixed_points/{name}"
    for name in ("total", "stable", "saddle", "unstable", "marginal", "complete", "max_modulus", "slowest_timescale")
)
_TRAJECTORIES = 64
_REGIMES = 16
_RESTARTS = 64


class FixedPoints(StatesCallback):
    """Logs the fixed points of the network under a constant input, by stability.

    A fixed point is a state with z = A z + W φ*(z) + C s + h. Logged every epoch of validation:

    - ``fixed_points/total``: number of fixed points; a continuum of them counts once;
    - ``fixed_points/stable``, ``/saddle``, ``/unstable``: all, some or none of the eigenvalues lie within the unit
      circle; ``/marginal``: one lies on it. The four add up to the total;
    - ``fixed_points/complete``: 1 if every linear regime was searched, 0 if there may be fixed points besides these;
    - ``fixed_points/max_modulus``: the largest |λ| of all fixed points, NaN where there is none;
    - ``fixed_points/slowest_timescale``: the longest −1/ln|λ| of their decaying modes, in steps; infinite where a mode
      is marginal, NaN where none decays.

    The figures ``fixed_points/eigenvalues`` (fixed points, and visited regimes, against the unit circle) and
    ``fixed_points/state_space`` (leading two principal components, with trajectories) show them. See
    :class:`StatesCallback` for what the LightningModule has to return.

    Args:
        inputs: the constant input s that reaches the ALRNN, one number a channel; ``None`` for zeros.
        exhaustive_max_nonlinear_units: up to this P all 2^P regimes are searched. P = 12 takes a few milliseconds;
            each unit more doubles that. Above it, a search starts from the visited regimes and some random ones; what
            it misses, it does not know.
        max_visited: how many of the visited regimes that search starts from, the most frequent first.
        time_budget: seconds after which that search begins no further batch of regimes, so that an epoch of a network
            of many nonlinear units is not spent on it.
        every_n_epochs: epochs between two evaluations.
        figure_every_n_epochs: epochs between two figures, 0 for none.
        module: name of the ALRNN within the LightningModule, where it has several; it then stands before the keys.

    Raises:
        MisconfigurationException: in ``setup``, if the LightningModule holds no ALRNN.
    """

    def __init__(
        self,
        inputs: Sequence[float] | None = None,
        exhaustive_max_nonlinear_units: int = 12,
        max_visited: int = 1000,
        time_budget: float = 0.05,
        every_n_epochs: int = 1,
        figure_every_n_epochs: int = 10,
        module: str | None = None,
    ) -> None:
        super().__init__(every_n_epochs, figure_every_n_epochs, module)
        if max_visited < 1:
            raise ValueError(f"max_visited must be at least 1, got {max_visited}")
        if not time_budget >= 0:
            raise ValueError(f"time_budget must not be negative, got {time_budget}")
        self.inputs = None if inputs is None else list(inputs)
        self.exhaustive_max_nonlinear_units = exhaustive_max_nonlinear_units
        self.max_visited = max_visited
        self.time_budget = time_budget

    def reset(self, rnn: ALRNN, device: torch.device) -> None:
        self._counter = RegimeCounter(rnn.nonlinear_units).to(device)
        self._trajectories: tuple[Tensor, Tensor] | None = None

    def update(self, states: Tensor, lengths: Tensor, group: Tensor | None) -> None:
        self._counter.update(states, lengths)
        if self._trajectories is None:
            self._trajectories = states[:_TRAJECTORIES].cpu(), lengths[:_TRAJECTORIES].cpu()

    def compute(self, rnn: ALRNN) -> dict[str, float]:
        self.result: FixedPointSet | None = None
        if not all(bool(torch.isfinite(parameter).all()) for parameter in rnn.parameters()):
            # a network that has diverged has no fixed points to speak of; stopping it is up to the LightningModule
            return dict.fromkeys(_KEYS, math.nan)
        visited = self._counter.regimes().codes
        if rnn.nonlinear_units > self.exhaustive_max_nonlinear_units:
            visited = visited[: self.max_visited]
        found = fixed_points(
            rnn,
            None if self.inputs is None else torch.tensor(self.inputs),
            visited=visited,
            max_exhaustive_units=self.exhaustive_max_nonlinear_units,
            restarts=_RESTARTS,
            time_limit=self.time_budget,
            max_ghosts=0,
        )
        self.result = cast(FixedPointSet, found)  # of one input
        self._regimes = eigenvalues_of_regimes(rnn, visited[:_REGIMES])
        return summarize_fixed_points(self.result)

    def figures(self) -> dict[str, Figure]:
        if self.result is None:
            return {}
        drawn = {"fixed_points/eigenvalues": plot_eigenvalues(self.result, self._regimes)}
        if self._trajectories is not None:
            drawn["fixed_points/state_space"] = plot_state_space(*self._trajectories, self.result)
        return drawn


def summarize_fixed_points(found: FixedPointSet) -> dict[str, float]:
    """The scalars that :class:`FixedPoints` logs."""
    continua = len(found.continua)
    kinds = {name: found.stability.count(name) for name in ("stable", "saddle", "unstable", "marginal")}
    kinds["marginal"] += continua
    decaying = found.timescales[found.timescales >= 0]
    values = (
        len(found.z) + continua,
        *kinds.values(),
        float(found.complete),
        float(found.eigenvalues.abs().max()) if len(found.z) else math.nan,
        float(decaying.max()) if len(decaying) else math.nan,
    )
    return dict(zip(_KEYS, values, strict=True))
