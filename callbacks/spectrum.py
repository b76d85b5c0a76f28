"""How slow the modes of the network are, and whether its states follow the slowest one."""

from __future__ import annotations

from lightning_alrnn.analysis.spectrum import PrincipalComponents, RegimeSpectrum
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.readings import SlowestMode
from lightning_alrnn.readings.spectrum import Modes


class Spectrum(ReadingCallback):
    """Logs the slowest mode of the dynamics, and the angle between it and the states' leading principal component.

    A network that integrates evidence, such as one that reads a review, has a mode that hardly decays (an approximate
    line attractor), and its states vary along that mode most: the angle is small. The eigenvalues λ are those of
    A + W D in the linear regimes that the validation trajectories visit. Logged every epoch of validation, over all
    valid steps and all processes:

    - ``spectrum/max_modulus``: the largest |λ| in the 16 most visited regimes;
    - ``spectrum/slowest_timescale``: −1/ln|λ| in steps, of the slowest mode of the most visited regime: the one with
      |λ| nearest to 1. Infinite where |λ| = 1, and negative where the mode grows, the time being that of the growth;
    - ``spectrum/slowest_eigenvalue_real``, ``spectrum/slowest_eigenvalue_imag``: that mode's λ; of a complex pair the
      one with positive imaginary part;
    - ``spectrum/pc1_angle``: degrees, 0 to 90, between the leading principal component of the states and that mode's
      eigenvector, or the plane of the pair's eigenvectors; NaN where states do not vary;
    - ``spectrum/pc1_variance``: share of the states' variance along that component, 0 to 1; NaN where they do not vary.

    For comparison, a direction drawn at random in 100 dimensions lies at about 84° from a mode.

    The figure ``spectrum/slowest_mode`` shows the eigenvalues of those regimes against the unit circle, the timescales
    of their modes, and the principal components with what the slowest mode has of each. See :class:`StatesCallback` for
    what the LightningModule has to return.

    Args:
        every_n_epochs: epochs between two evaluations.
        figure_every_n_epochs: epochs between two figures, 0 for none.
        module: name of the ALRNN within the LightningModule, where it has several; it then stands before the keys.

    Attributes:
        answer: the :class:`~lightning_alrnn.readings.spectrum.Modes` of the last evaluation.

    Raises:
        MisconfigurationException: in ``setup``, if the LightningModule holds no ALRNN.

    Reference:
        Brenner & Koppe, TMLR 2026 (arXiv:2506.07919); line attractors in networks that judge reviews: Maheswaranathan,
        Williams, Golub, Ganguli & Sussillo, NeurIPS 2019 (arXiv:1906.10720).
    """

    answer: Modes

    def __init__(self, every_n_epochs: int = 1, figure_every_n_epochs: int = 25, module: str | None = None) -> None:
        super().__init__(SlowestMode(), every_n_epochs, figure_every_n_epochs, module)

    @property
    def result(self) -> RegimeSpectrum | None:
        """The eigenvalues and timescales of each regime; ``None`` where a parameter is not finite."""
        return self.answer.spectrum

    @property
    def components(self) -> PrincipalComponents:
        """The principal components of the states."""
        return self.answer.components
