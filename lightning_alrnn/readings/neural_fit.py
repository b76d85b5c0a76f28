"""How well do a model's spikes agree with the recorded ones?"""

from __future__ import annotations

from lightning_alrnn.readings.base import Chart, Reading, key_table


class NeuralScores(Reading):
    """The scores that :class:`ALRNNNeural` logs in addition to the loss and the scores of any task."""

    title = "spikes"
    keys = key_table(
        """
        train/prediction, val/prediction | nats a bin | −log p(spikes given the states) of all units together | Only
            differences have a meaning: the level depends on the number of units and their rates
        train/encoder | nats a bin | the same for the states of the encoder
        train/consistency | squared | ‖z − ẑ‖² between the states of the network and of the encoder | It is also small
            if both states are small
        train/choice, val/choice | nats | cross-entropy of the choice
        train/alpha | 1 | α, the strength of teacher forcing in this epoch
        val/accuracy_forced | share | correct choices with teacher forcing, which uses the spikes of the trial | Not the
            performance of the network alone, which is `val/accuracy`
        val/rate_correlation | Pearson's r | mean counts of model and data, over units and conditions | High already if
            some units fire more than others
        val/tuning_correlation | Pearson's r | the same after the mean of each unit is subtracted | Noise in the
            recorded means keeps it below 1
        val/cv_correlation | Pearson's r | coefficients of variation over units
        val/fano_correlation | Pearson's r | Fano factors over units
        """
    )
    charts = (
        Chart("−log p of the spikes (nats a bin)", (r"^train/prediction$", r"^val/prediction$")),
        Chart("model against data (r)", (r"^val/(rate|tuning|cv|fano)_correlation$",)),
    )
    place = 9
    callback = ""


class SpikeFit(Reading):
    """Agreement of the recorded mean counts with those of the free-running network."""

    title = "neural fit"
    keys = key_table(
        """
        neural/psth_correlation | Pearson's r | mean counts by condition and bin, of the free-running network and of the
            recording | Noise in the recorded means keeps it below 1; differences in rate between units alone make it
            large
        """
    )
    charts = (Chart("mean counts, model against data (r)", (r"neural/psth_correlation$",)),)
    place = 10
    callback = "NeuralFit"
