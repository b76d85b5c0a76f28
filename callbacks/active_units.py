"""How many of the nonlinear units are used as such."""

from __future__ import annotations

from lightning_alrnn.analysis.units import UnitStatistics
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.readings import Units


class ActiveUnits(ReadingCallback):
    """Logs how many nonlinear units switch along the validation trajectories.

    A rectified unit that is always on or always off is linear in effect; only one that switches is a nonlinearity in
    use. Logged every epoch of validation, over all valid steps and all processes:

    - ``units/active``: number of units that switch in at least a fraction ``threshold`` of steps;
    - ``units/always_on``: number of units that are on (z > 0) in every step;
    - ``units/always_off``: number of units that are on in no step;
    - ``units/mean_duty``: share of steps in which a unit is on, averaged over units (0 where P=0).

    The figure ``units/duty_cycle`` shows each unit. See :class:`StatesCallback` for what the LightningModule has to
    return.

    Args:
        threshold: ε, the share of steps from which a unit that switches counts as active.
        every_n_epochs: epochs between two evaluations.
        figure_every_n_epochs: epochs between two figures, 0 for none.
        module: name of the ALRNN within the LightningModule, where it has several; it then stands before the keys.

    Raises:
        MisconfigurationException: in ``setup``, if the LightningModule holds no ALRNN.
        ValueError: if ``threshold`` is not a share, or a number of epochs is out of range.
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
