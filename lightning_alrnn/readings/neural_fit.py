"""How near are a model's spikes to the recorded ones?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_alrnn.readings.base import Chart, Key, Reading

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class SpikeFit(Reading):
    """Recorded mean counts against those of the free-running network. :class:`NeuralFit` measures it."""

    title = "neural fit"
    keys = (
        Key(
            "neural/psth_correlation",
            "Pearson's r",
            "mean counts by condition and bin, of the free-running network against those recorded",
            "Noise in the recorded means keeps it below 1; differences in rate between units alone make it large",
        ),
    )
    charts = (Chart("mean counts, model against data (r)", (r"neural/psth_correlation$",)),)

    def section(self, report: Report) -> None:
        """Nothing: the report is about networks that are trained on a task."""
