"""Which linear regimes are in use."""

from __future__ import annotations

from lightning_alrnn.analysis.regime_statistics import RegimeCounts
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.readings import Regimes
from lightning_alrnn.readings.regimes import RegimeUse


class RegimeOccupancy(ReadingCallback):
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

    Attributes:
        answer: the :class:`~lightning_alrnn.readings.regimes.RegimeUse` of the last evaluation.

    Raises:
        MisconfigurationException: in ``setup``, if the LightningModule holds no ALRNN.
    """

    answer: RegimeUse

    def __init__(self, every_n_epochs: int = 1, figure_every_n_epochs: int = 25, module: str | None = None) -> None:
        super().__init__(Regimes(), every_n_epochs, figure_every_n_epochs, module)

    @property
    def result(self) -> RegimeCounts:
        """The counts of the last evaluation."""
        return self.answer.counts
