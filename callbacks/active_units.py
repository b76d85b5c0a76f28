"""Use of the nonlinear units."""

from __future__ import annotations

from lightning_alrnn.analysis.units import UnitStatistics
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.readings import Units


class ActiveUnits(ReadingCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.Units`: how many nonlinear units switch.

    A rectified unit that is always on or always off is linear in effect. The figure ``units/duty_cycle`` shows each
    unit. See :class:`StatesCallback` for the output that the LightningModule returns.

    Args:
        threshold: Share of steps in which a unit must switch to be active.
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.
        module: Name of the ALRNN if the LightningModule has several; it is put in front of the keys.

    Raises:
        MisconfigurationException: In ``setup``, if the LightningModule holds no ALRNN.
        ValueError: If ``threshold`` is not a share, or a number of epochs is out of range.
    """

    def __init__(
        self,
        threshold: float = 1e-3,
        every_n_epochs: int = 1,
        figure_every_n_epochs: int = 25,
        module: str | None = None,
    ) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold must be a share of steps between 0 and 1, got {threshold}")
        super().__init__(Units(threshold), every_n_epochs, figure_every_n_epochs, module)

    @property
    def result(self) -> UnitStatistics:
        """The statistics of the last evaluation."""
        statistics: UnitStatistics = self.answer
        return statistics
