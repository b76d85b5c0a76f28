"""Use of the linear regimes."""

from __future__ import annotations

from lightning_alrnn.analysis.regime_statistics import RegimeCounts
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.readings import Regimes
from lightning_alrnn.readings.regimes import RegimeUse


class RegimeOccupancy(ReadingCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.Regimes`: the visited regimes, and how often they are visited.

    The figure ``regime/occupancy`` shows the occupancy and the transitions; with groups of trials, such as the tasks of
    a suite, ``regime/groups`` shows the occupancy of each group, and ``regime/sharing`` how far pairs of groups share
    regimes. The 64 groups with the most steps are compared. The groups have the ``group_names`` of the DataModule or
    the LightningModule, or else their numbers. See :class:`StatesCallback` for the output that the LightningModule
    returns.

    Args:
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.
        module: Name of the ALRNN if the LightningModule has several; it is put in front of the keys.

    Attributes:
        answer: The :class:`~lightning_alrnn.readings.regimes.RegimeUse` of the last evaluation.

    Raises:
        MisconfigurationException: In ``setup``, if the LightningModule holds no ALRNN.
    """

    answer: RegimeUse

    def __init__(self, every_n_epochs: int = 1, figure_every_n_epochs: int = 25, module: str | None = None) -> None:
        super().__init__(Regimes(), every_n_epochs, figure_every_n_epochs, module)

    @property
    def result(self) -> RegimeCounts:
        """The counts of the last evaluation."""
        return self.answer.counts
