"""The slowest mode of the network, and the direction in which its states vary."""

from __future__ import annotations

from lightning_alrnn.analysis.spectrum import PrincipalComponents, RegimeSpectrum
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.readings import SlowestMode
from lightning_alrnn.readings.spectrum import Modes


class Spectrum(ReadingCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.SlowestMode`: eigenvalues of the visited regimes.

    The eigenvalues λ are those of A + W D. A network that integrates evidence has a mode that hardly decays (an
    approximate line attractor), and its states vary mostly along this mode. The figure ``spectrum/slowest_mode`` shows
    the eigenvalues, the timescales, and the principal components of the states with the share of the slowest mode in
    each. See :class:`StatesCallback` for the output that the LightningModule returns.

    Args:
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.
        module: Name of the ALRNN if the LightningModule has several; it is put in front of the keys.

    Attributes:
        answer: The :class:`~lightning_alrnn.readings.spectrum.Modes` of the last evaluation.

    Raises:
        MisconfigurationException: In ``setup``, if the LightningModule holds no ALRNN.

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
