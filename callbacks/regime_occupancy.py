"""Which linear regimes are in use."""

from __future__ import annotations

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_alrnn.analysis.regimes import RegimeCounts, summarize_regimes
from lightning_alrnn.callbacks.base import StatesCallback
from lightning_alrnn.metrics.regimes import RegimeCounter
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.regimes import plot_regimes


class RegimeOccupancy(StatesCallback):
    """Logs how many linear regimes the validation trajectories visit, and how often.

    Logged every epoch of validation, over all valid steps and all processes:

    - ``regime/visited``: number of regimes with at least one step;
    - ``regime/possible_log2``: P, as there are 2^P regimes;
    - ``regime/entropy``: entropy of the occupancy, in bits;
    - ``regime/effective``: 2^entropy, the effective number of regimes;
    - ``regime/switch_rate``: switches per step;
    - ``regime/top_occupancy``: share of steps in the most frequent regime.

    The figure ``regime/occupancy`` shows occupancy in order, beside the transitions among the most frequent regimes.
    See :class:`StatesCallback` for what the LightningModule has to return.

    Args:
        every_n_epochs: epochs between two evaluations.
        figure_every_n_epochs: epochs between two figures, 0 for none.
        module: name of the ALRNN within the LightningModule, where it has several; it then stands before the keys.

    Raises:
        MisconfigurationException: in ``setup``, if the LightningModule holds no ALRNN.
    """

    def reset(self, rnn: ALRNN, device: torch.device) -> None:
        self._counter = RegimeCounter(rnn.nonlinear_units).to(device)

    def update(self, states: Tensor, lengths: Tensor) -> None:
        self._counter.update(states, lengths)

    def compute(self, rnn: ALRNN) -> dict[str, float]:
        self.result: RegimeCounts = self._counter.regimes()
        return {f"regime/{name}": value for name, value in summarize_regimes(self.result)._asdict().items()}

    def figures(self) -> dict[str, Figure]:
        return {"regime/occupancy": plot_regimes(self.result)}
