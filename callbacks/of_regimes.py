"""Callbacks that log a reading of the visited regimes as it is."""

from __future__ import annotations

from lightning_alrnn.analysis.regime_statistics import RegimeCounts
from lightning_alrnn.analysis.spectrum import PrincipalComponents, RegimeSpectrum
from lightning_alrnn.analysis.units import UnitStatistics
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.readings import Regimes, SlowestMode, Units
from lightning_alrnn.readings.regimes import RegimeUse
from lightning_alrnn.readings.spectrum import Modes


class RegimeOccupancy(ReadingCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.Regimes`: the visited regimes, and how often they are visited.

    The figure ``regime/occupancy`` shows the occupancy and the transitions; with groups of trials, such as the tasks of
    a suite, ``regime/groups`` shows the occupancy of each group, and ``regime/sharing`` how far pairs of groups share
    regimes. The 64 groups with the most steps are compared. The groups have the ``group_names`` of the DataModule or
    the LightningModule, or else their numbers. See :class:`StatesCallback` for the LightningModule that it needs.

    Args:
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.
        module: Name of the ALRNN if the LightningModule has several; it is put in front of the keys.

    Attributes:
        answer: The :class:`~lightning_alrnn.readings.regimes.RegimeUse` of the last evaluation.
    """

    answer: RegimeUse

    def __init__(self, every_n_epochs: int = 1, figure_every_n_epochs: int = 25, module: str | None = None) -> None:
        super().__init__(Regimes(), every_n_epochs, figure_every_n_epochs, module)

    @property
    def result(self) -> RegimeCounts:
        """The counts of the last evaluation."""
        return self.answer.counts


class ActiveUnits(ReadingCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.Units`: how many nonlinear units switch.

    A rectified unit that is always on or always off is linear in effect. The figure ``units/duty_cycle`` shows each
    unit. See :class:`StatesCallback` for the LightningModule that it needs.

    Args:
        threshold: Share of steps in which a unit must switch to be active.
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.
        module: Name of the ALRNN if the LightningModule has several; it is put in front of the keys.

    Raises:
        ValueError: If ``threshold`` is not a share, or a number of epochs is out of range.
    """

    answer: UnitStatistics

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
        return self.answer


class Spectrum(ReadingCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.SlowestMode`: eigenvalues of the visited regimes.

    The λ are those of A + W D. A network that integrates evidence has a mode that hardly decays (an approximate line
    attractor), along which its states vary. The figure ``spectrum/slowest_mode`` shows the eigenvalues, timescales and
    principal components. See :class:`StatesCallback` for the LightningModule that it needs.

    Args:
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.
        module: Name of the ALRNN if the LightningModule has several; it is put in front of the keys.

    Attributes:
        answer: The :class:`~lightning_alrnn.readings.spectrum.Modes` of the last evaluation.

    Reference:
        Brenner & Koppe, TMLR 2026 (arXiv:2506.07919); line attractors in networks that judge reviews: Maheswaranathan,
        Williams, Golub, Ganguli & Sussillo, NeurIPS 2019 (arXiv:1906.10720).
    """

    answer: Modes

    def __init__(self, every_n_epochs: int = 1, figure_every_n_epochs: int = 25, module: str | None = None) -> None:
        super().__init__(SlowestMode(), every_n_epochs, figure_every_n_epochs, module)

    @property
    def result(self) -> RegimeSpectrum | None:
        """The eigenvalues and timescales of each regime; ``None`` if a parameter is not finite."""
        return self.answer.spectrum

    @property
    def components(self) -> PrincipalComponents:
        """The principal components of the states."""
        return self.answer.components
