"""Which linear regimes are in use."""

from __future__ import annotations

from collections.abc import Sequence

from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer

from lightning_alrnn.analysis.regime_statistics import (
    GroupOccupancy,
    RegimeCounts,
    RegimeSharing,
    regime_sharing,
    summarize_regimes,
)
from lightning_alrnn.callbacks.base import StatesCallback, find_group_names
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.regimes import plot_group_regimes, plot_regime_sharing, plot_regimes


class RegimeOccupancy(StatesCallback):
    """Logs how many linear regimes the validation trajectories visit, and how often.

    Logged every epoch of validation, over all valid steps and all processes:

    - ``regime/visited``: number of regimes with at least one step;
    - ``regime/possible_log2``: P, as there are 2^P regimes;
    - ``regime/entropy``: entropy of the occupancy, in bits;
    - ``regime/effective``: 2^entropy, the effective number of regimes;
    - ``regime/switch_rate``: switches per step;
    - ``regime/top_occupancy``: share of steps in the most frequent regime.

    Where trials belong to groups, such as the tasks of a suite, further how far the groups share regimes (means over
    pairs of groups; NaN where fewer than two have trials):

    - ``regime/sharing_jaccard``: |A ∩ B| / |A ∪ B| of the sets of visited regimes, from 0 (no regime in common) to 1
      (the same regimes);
    - ``regime/sharing_js``: Jensen–Shannon divergence of the occupancies in bits, from 0 (the same) to 1 (no regime in
      common).

    The figure ``regime/occupancy`` shows occupancy in order, beside the transitions among the most frequent regimes;
    with groups, ``regime/groups`` shows the occupancy of each, and ``regime/sharing`` both measures for each pair. Of
    more than 64 groups those with most steps are compared. The groups are those that the DataModule (or else the
    LightningModule) has ``group_names`` for; without names they are those in the batches, under their numbers. See
    :class:`StatesCallback` for what the LightningModule has to return.

    Args:
        every_n_epochs: epochs between two evaluations.
        figure_every_n_epochs: epochs between two figures, 0 for none.
        module: name of the ALRNN within the LightningModule, where it has several; it then stands before the keys.

    Raises:
        MisconfigurationException: in ``setup``, if the LightningModule holds no ALRNN.
    """

    needs = ("regimes",)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        self._names = find_group_names(getattr(trainer, "datamodule", None), pl_module)

    def compute(self, rnn: ALRNN) -> dict[str, float]:
        self.result: RegimeCounts = self.totals.regimes()
        values = {f"regime/{name}": value for name, value in summarize_regimes(self.result)._asdict().items()}
        # after the counts of all processes are put together, so that each decides alike whether there are groups
        groups = self.totals.group_occupancy(None if self._names is None else len(self._names))
        self.groups: GroupOccupancy | None = groups if len(groups.groups) else None
        self.sharing: RegimeSharing | None = None
        if self.groups is not None:
            self.sharing = regime_sharing(self.groups)
            values["regime/sharing_jaccard"] = self.sharing.mean_jaccard
            values["regime/sharing_js"] = self.sharing.mean_js
        return values

    def figures(self) -> dict[str, Figure]:
        drawn = {"regime/occupancy": plot_regimes(self.result)}
        if self.groups is not None and self.sharing is not None:
            names = [_name(index, self._names) for index in self.groups.groups.tolist()]
            drawn["regime/groups"] = plot_group_regimes(self.groups, names)
            drawn["regime/sharing"] = plot_regime_sharing(self.sharing, names)
        return drawn


def _name(index: int, names: Sequence[str] | None) -> str:
    return names[index] if names is not None and index < len(names) else str(index)
