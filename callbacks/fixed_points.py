"""The attractors and other fixed points of the network, epoch by epoch."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.trainer.states import TrainerFn

from lightning_alrnn.analysis.fixed_point_search import MOST_UNITS, FixedPointSet
from lightning_alrnn.analysis.tracking import STABILITIES, places
from lightning_alrnn.callbacks.base import ReadingCallback
from lightning_alrnn.callbacks.figures import log_text
from lightning_alrnn.callbacks.fixed_point_history import MOST_TRACKED, FixedPointHistory
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.fixed_points import plot_tracking
from lightning_alrnn.readings import FixedPointsOfInput
from lightning_alrnn.readings.attractors import CHANGES, Attractors


class FixedPoints(ReadingCallback):
    """Logs the keys of :class:`~lightning_alrnn.readings.FixedPointsOfInput`: the fixed points, by stability.

    A fixed point is a state with z = A z + W φ*(z) + C s + h for a constant input s. The callback follows fixed points
    from one evaluation of a training run to the next: a point in the same regime is the same point, and a point that
    crossed a switching boundary is identified by its place, see :func:`match_fixed_points`. Up to 256 points are
    followed, stable ones first, then those in visited regimes; the other keys count all points. Checkpoints hold the
    history, which is thinned to a few hundred kB, so that a resumed run continues it.

    The figures ``fixed_points/eigenvalues`` and ``fixed_points/state_space`` show the fixed points, and
    ``fixed_points/tracking`` each point over the epochs. See :class:`StatesCallback` for the LightningModule that it
    needs.

    Args:
        inputs: Constant input s of the ALRNN, one number per channel; ``None`` for zeros.
        exhaustive_max_nonlinear_units: Largest P, at most 20, for which all 2^P regimes are searched if
            ``time_budget`` is enough. Otherwise the search starts from visited and random regimes, and may miss points.
        max_visited: Number of visited regimes from which the search starts for a larger P, most frequent first.
        time_budget: Time limit of a search in seconds. P=12 takes about ten milliseconds and is always searched; each
            further unit doubles the time.
        every_n_epochs: Number of epochs between two evaluations.
        figure_every_n_epochs: Number of epochs between two figures, 0 for none.
        module: Name of the ALRNN if the LightningModule has several; it is put in front of the keys.

    Attributes:
        answer: The :class:`~lightning_alrnn.readings.attractors.Attractors` of the last evaluation, or ``None``.
        history: The :class:`FixedPointHistory` of the run.

    Raises:
        ValueError: If ``max_visited`` is less than 1, ``time_budget`` negative, or a number of epochs out of range.
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
        spread = self.evidence.spread()  # every process takes part in it
        if self.answer is None:
            return values | dict.fromkeys(CHANGES, math.nan)
        if self._now is None:
            return values | dict.fromkeys(CHANGES, 0.0)
        points = self.answer.points
        counts = [int(values[f"fixed_points/{name}"]) for name in STABILITIES]
        changes = self.history.add(*self._now, places(points, MOST_TRACKED), counts, spread)
        if changes.bifurcation:
            search = "all regimes searched" if points.complete else "not all regimes searched: some may be missed"
            self._event = f"epoch {self._now[0]}: {changes}; {search}"
        return values | {key: float(getattr(changes, key.rpartition("/")[2])) for key in CHANGES}

    def figures(self) -> dict[str, Figure]:
        drawn = super().figures()
        if self.answer is not None and self.history.evaluations:
            drawn["fixed_points/tracking"] = plot_tracking(
                self.history.evaluations, self.history.bifurcations, complete=self.answer.points.complete
            )
        return drawn

    @property
    def result(self) -> FixedPointSet | None:
        """The fixed points of the last evaluation; ``None`` if a parameter is not finite."""
        return None if self.answer is None else self.answer.points
