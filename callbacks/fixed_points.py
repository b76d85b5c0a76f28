"""The attractors and other fixed points of the network, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, cast

from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from lightning_alrnn.analysis.fixed_point_search import MOST_UNITS, FixedPointSet
from lightning_alrnn.analysis.spectrum import PrincipalComponents
from lightning_alrnn.analysis.tracking import STABILITIES, places
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.callbacks.figures import log_text
from lightning_alrnn.callbacks.fixed_point_history import MOST_TRACKED, FixedPointHistory
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.fixed_points import plot_tracking
from lightning_alrnn.readings import FixedPointsOfInput
from lightning_alrnn.readings.attractors import CHANGES, Attractors

_CHANGES = tuple(key.name for key in FixedPointsOfInput.keys[-CHANGES:])


class FixedPoints(ReadingCallback):
    """Logs the fixed points of the network under a constant input, by stability.

    A fixed point is a state with z = A z + W φ*(z) + C s + h. Logged every epoch of validation:

    - ``fixed_points/total``: number of fixed points; a continuum of them counts once;
    - ``fixed_points/stable``, ``/saddle``, ``/unstable``: all, some or none of the eigenvalues lie within the unit
      circle; ``/marginal``: one lies on it. The four add up to the total;
    - ``fixed_points/complete``: 1 if every linear regime was searched, 0 if there may be fixed points besides these;
    - ``fixed_points/max_modulus``: the largest |λ| of all fixed points, NaN where there is none;
    - ``fixed_points/slowest_timescale``: the longest −1/ln|λ| of their decaying modes, in steps; infinite where a mode
      is marginal, NaN where none decays.

    Fixed points are followed from one evaluation of a training run to the next: one in the same regime is the same one,
    and one that crossed a switching border is known by its place, see :func:`match_fixed_points`. Logged as well, 0 at
    the first evaluation and outside of training:

    - ``fixed_points/born``: number of fixed points that were not there at the last evaluation;
    - ``fixed_points/died``: number of those that are gone. One that jumped farther than half the spread of the states
      counts as gone and born;
    - ``fixed_points/changed_stability``: number of those that are still there, but of another stability;
    - ``fixed_points/bifurcation``: 1 if the number of fixed points of some stability changed, or one changed its own.
      A text then says what happened, where a logger takes texts (TensorBoard): "epoch 12: 1 stable → 2 stable, 1
      saddle (born: 2, …)".

    Where ``fixed_points/complete`` is 0, one that is born may be one that was missed before, and one that died may have
    been missed now. Of more than 256 fixed points 256 are followed, stable ones first, then those in visited regimes.
    All other keys count every one of them.

    The figures ``fixed_points/eigenvalues`` (fixed points, and visited regimes, against the unit circle) and
    ``fixed_points/state_space`` (leading two principal components, with trajectories) show them;
    ``fixed_points/tracking`` shows each one over the epochs. See :class:`StatesCallback` for what the LightningModule
    has to return. Checkpoints hold what was followed, so that a run that is resumed goes on; of a long run the history
    is thinned out to a few hundred kB.

    Args:
        inputs: the constant input s that reaches the ALRNN, one number a channel; ``None`` for zeros.
        exhaustive_max_nonlinear_units: up to this P, at most 20, all 2^P regimes are searched if ``time_budget`` is
            enough. P = 12 takes about ten milliseconds and is searched in any case; each unit more doubles that.
            Otherwise, a search starts from the visited regimes and some random ones; what it misses, it does not know.
        max_visited: above that P, how many of the visited regimes that search starts from, the most frequent first.
        time_budget: seconds for a search, so that an epoch of a network of many nonlinear units is not spent on it. All
            regimes are searched only where the first 2^12 of them tell that it will be enough; the other search begins
            no further batch of regimes once it is over.
        every_n_epochs: epochs between two evaluations.
        figure_every_n_epochs: epochs between two figures, 0 for none.
        module: name of the ALRNN within the LightningModule, where it has several; it then stands before the keys.

    Attributes:
        answer: the :class:`~lightning_alrnn.readings.attractors.Attractors` of the last evaluation, or ``None``.
        history: the :class:`FixedPointHistory` of the run.

    Raises:
        MisconfigurationException: in ``setup``, if the LightningModule holds no ALRNN.
        ValueError: if ``max_visited`` is below 1, ``time_budget`` negative, or a number of epochs out of range.
    """

    answer: Attractors | None

    def __init__(
        self,
        inputs: Sequence[float] | None = None,
        exhaustive_max_nonlinear_units: int = MOST_UNITS,
        max_visited: int = 1000,
        time_budget: float = 0.05,
        every_n_epochs: int = 1,
        figure_every_n_epochs: int = 25,
        module: str | None = None,
    ) -> None:
        if max_visited < 1:
            raise ValueError(f"max_visited must be at least 1, got {max_visited}")
        if not time_budget >= 0:
            raise ValueError(f"time_budget must not be negative, got {time_budget}")
        reading = FixedPointsOfInput(inputs, exhaustive_max_nonlinear_units, max_visited, time_budget)
        super().__init__(reading, every_n_epochs, figure_every_n_epochs, module)
        self.history = FixedPointHistory()
        self._now: tuple[int, int] | None = None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        before = self._rnn
        super().setup(trainer, pl_module, stage)
        if before is not None and before is not self._rnn:
            self.history.clear()  # of another network; a checkpoint is loaded after this

    def state_dict(self) -> dict[str, Any]:
        return self.history.state_dict()

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.history.load_state_dict(state_dict)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        fitting = trainer.state.fn == TrainerFn.FITTING
        self._now = (trainer.current_epoch, trainer.global_step) if fitting else None
        super().on_validation_epoch_start(trainer, pl_module)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._event: str | None = None
        super().on_validation_epoch_end(trainer, pl_module)
        if self._event is not None:
            log_text(trainer, f"{self.prefix}fixed_points/bifurcation", self._event)

    def compute(self, rnn: ALRNN) -> dict[str, float]:
        values = super().compute(rnn)
        spread = self.evidence.spread()  # every process has a part in it
        return values | (dict.fromkeys(_CHANGES, math.nan) if self.answer is None else self._track(values, spread))

    def figures(self) -> dict[str, Figure]:
        drawn = super().figures()
        if self.answer is not None and self.history.evaluations:
            drawn["fixed_points/tracking"] = plot_tracking(
                self.history.evaluations, self.history.bifurcations, complete=self.answer.points.complete
            )
        return drawn

    def _track(self, values: dict[str, float], components: PrincipalComponents) -> dict[str, float]:
        points = cast(Attractors, self.answer).points
        if self._now is None:
            return dict.fromkeys(_CHANGES, 0.0)
        counts = [int(values[f"fixed_points/{name}"]) for name in STABILITIES]
        changes = self.history.add(*self._now, places(points, MOST_TRACKED), counts, components)
        if changes.bifurcation:
            how = "all regimes searched" if points.complete else "not all regimes searched: some may be missed"
            self._event = f"epoch {self._now[0]}: {changes}; {how}"
        return dict(zip(_CHANGES, map(float, changes[:4]), strict=True))

    @property
    def result(self) -> FixedPointSet | None:
        """The fixed points of the last evaluation; ``None`` where a parameter is not finite."""
        return None if self.answer is None else self.answer.points
