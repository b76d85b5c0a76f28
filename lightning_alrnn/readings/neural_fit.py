"""How near are a model's spikes to the recorded ones?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_alrnn.readings.base import Chart, Key, Reading

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class NeuralScores(Reading):
    """What :class:`ALRNNNeural` logs beside the loss and the scores of any task."""

    title = "spikes"
    keys = (
        Key(
            "train/prediction",
            "nats a bin",
            "−log p(spikes given the states), all units together",
            "Only differences mean something: the level depends on the number of units and their rates",
        ),
        Key(
            "val/prediction",
            "nats a bin",
            "−log p(spikes given the states), all units together",
            "Only differences mean something: the level depends on the number of units and their rates",
        ),
        Key("train/encoder", "nats a bin", "the same of the encoder's states"),
        Key(
            "train/consistency",
            "squared",
            "‖z − ẑ‖² between the network's states and the encoder's",
            "Small is easy where both are small",
        ),
        Key("train/choice", "nats", "cross-entropy of the choice"),
        Key("val/choice", "nats", "cross-entropy of the choice"),
        Key("train/alpha", "1", "α, the strength of teacher forcing in this epoch"),
        Key(
            "val/accuracy_forced",
            "share",
            "right choices with teacher forcing, which sees the spikes of the trial",
            "Not what the network does by itself: that is `val/accuracy`",
        ),
        Key(
            "val/rate_correlation",
            "Pearson's r",
            "mean counts, model against data, over units and conditions",
            "High already where some units fire more than others",
        ),
        Key(
            "val/tuning_correlation",
            "Pearson's r",
            "the same once each unit's mean is taken off",
            "Noise in the recorded means keeps it below 1",
        ),
        Key("val/cv_correlation", "Pearson's r", "coefficients of variation over units"),
        Key("val/fano_correlation", "Pearson's r", "Fano factors over units"),
    )
    charts = (
        Chart("−log p of the spikes (nats a bin)", (r"^train/prediction$", r"^val/prediction$")),
        Chart("model against data (r)", (r"^val/(rate|tuning|cv|fano)_correlation$",)),
    )

    def section(self, report: Report) -> None:
        """Nothing: the report is about networks that are trained on a task."""


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
