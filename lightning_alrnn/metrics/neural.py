"""Agreement of modelled and recorded spike counts, over batches and processes."""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric

from lightning_alrnn.analysis.neural import SpikeStatistics, SpikeSums, pearson, spike_statistics, sum_spikes, tuning
from lightning_alrnn.batch import valid_steps


class SpikeAgreement(Metric):
    """Pearson correlations of rates, coefficients of variation and Fano factors, between data and model.

    :meth:`compute` returns ``rate_correlation``, r of the mean counts per bin over units and conditions; with
    conditions ``tuning_correlation``, the same after the mean of each unit is subtracted; ``cv_correlation`` and
    ``fano_correlation``, r over units of √var / mean and of var / mean of the counts.

    Mean and variance of the model are those of its distribution, not of samples. Conditions without a trial are left
    out, and so are units without a spike in the last two. A correlation of fewer than two pairs is NaN. The memory does
    not grow with the data.

    Args:
        num_units: Number N of units.
        conditions: Number of conditions, 0 for none.

    Example:
        >>> agreement = SpikeAgreement(num_units=2)
        >>> spikes, rates = torch.tensor([[[0.0, 2.0], [1.0, 3.0]]]), torch.tensor([[[0.4, 2.0], [0.4, 2.0]]])
        >>> agreement.update(spikes, rates, rates, torch.tensor([2]))
        >>> agreement.compute()["rate_correlation"]
        tensor(1.)
    """

    full_state_update = False

    def __init__(self, num_units: int, conditions: int = 0) -> None:
        super().__init__()
        self.conditions = conditions
        for name in SpikeSums._fields:
            shape: tuple[int, ...] = (conditions,) if name.startswith("group") else ()
            shape += () if name.endswith("bins") else (num_units,)
            dtype = torch.float32 if "expected" in name else torch.int64
            self.add_state(name, default=torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def update(
        self, spikes: Tensor, mean: Tensor, variance: Tensor, lengths: Tensor, group: Tensor | None = None
    ) -> None:
        """Add a batch.

        Args:
            spikes: Recorded counts, shape ``(batch, time, N)``.
            mean: Mean counts of the model, of the same shape.
            variance: Variances of the counts of the model for its state, of the same shape.
            lengths: Number of valid bins of each trial, shape ``(batch,)``.
            group: Condition of each trial, shape ``(batch,)``, or ``None``.
        """
        for name, value in sum_spikes(spikes, mean, variance, lengths, group, self.conditions)._asdict().items():
            setattr(self, name, getattr(self, name) + value)

    def compute(self) -> dict[str, Tensor]:
        """Return the correlations by name."""
        statistics = self._statistics()
        values = {"rate_correlation": pearson(statistics.rates, statistics.expected_rates)}
        if self.conditions:
            values["tuning_correlation"] = pearson(tuning(statistics.rates), tuning(statistics.expected_rates))
        values["cv_correlation"] = pearson(statistics.cv, statistics.expected_cv)
        values["fano_correlation"] = pearson(statistics.fano, statistics.expected_fano)
        return {name: value.to(self.device, torch.float32) for name, value in values.items()}

    def statistics(self) -> SpikeStatistics:
        """Return the rates and their variability over all batches and processes. Call this on every process."""
        with self.sync_context():
            return self._statistics()

    def _statistics(self) -> SpikeStatistics:
        # in float64, which not every device has: variances are small differences of the sums
        sums = (getattr(self, name).cpu() for name in SpikeSums._fields)
        return spike_statistics(SpikeSums(*sums))


class ConditionAverages(Metric):
    """Averages over the trials of each condition in each bin: spikes, rates of the model, nonlinear units that are on.

    Args:
        conditions: Number of conditions, at least 1. Trials without a group belong to the first one.
        num_units: Number N of units.
        nonlinear_units: Number P of nonlinear units.
        max_steps: Number of bins from the start of a trial that are averaged; later bins are left out.

    Raises:
        ValueError: If ``conditions`` or ``max_steps`` is less than 1.

    Example:
        >>> averages = ConditionAverages(conditions=1, num_units=2, nonlinear_units=1)
        >>> averages.update(torch.ones(3, 5, 2), torch.ones(3, 5, 2), torch.ones(3, 5, 6), torch.tensor([5, 4, 4]))
        >>> averages.compute()["trials"][0, :6]
        tensor([3, 3, 3, 3, 1, 0])
    """

    full_state_update = False

    trials: Tensor
    spikes: Tensor
    rates: Tensor
    on: Tensor

    def __init__(self, conditions: int, num_units: int, nonlinear_units: int, max_steps: int = 100) -> None:
        super().__init__()
        for name, value in (("conditions", conditions), ("max_steps", max_steps)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")
        self.conditions = conditions
        self.nonlinear_units = nonlinear_units
        self.max_steps = max_steps
        shape = conditions, max_steps
        for name, more, dtype in (
            ("trials", (), torch.int64),
            ("spikes", (num_units,), torch.int64),
            ("rates", (num_units,), torch.float32),
            ("on", (nonlinear_units,), torch.int64),
        ):
            self.add_state(name, default=torch.zeros((*shape, *more), dtype=dtype), dist_reduce_fx="sum")

    def update(
        self, spikes: Tensor, rates: Tensor, states: Tensor, lengths: Tensor, group: Tensor | None = None
    ) -> None:
        """Add a batch.

        Args:
            spikes: Recorded counts, shape ``(batch, time, N)``.
            rates: Mean counts of the model, of the same shape.
            states: States of the model, shape ``(batch, time, M)``.
            lengths: Number of valid bins of each trial, shape ``(batch,)``.
            group: Condition of each trial, shape ``(batch,)``, or ``None``.
        """
        steps = min(spikes.shape[1], self.max_steps)
        valid = valid_steps(lengths, steps).unsqueeze(-1)
        first = states.shape[-1] - self.nonlinear_units
        added = {
            "trials": valid.squeeze(-1).long(),
            "spikes": torch.where(valid, spikes[:, :steps], 0).long(),
            "rates": torch.where(valid, rates[:, :steps], 0.0).float(),
            "on": ((states[:, :steps, first:] > 0) & valid).long(),
        }
        if group is None:
            group = torch.zeros_like(lengths)
        for condition in range(self.conditions):
            belongs = group == condition
            for name, values in added.items():
                chosen = belongs.view(-1, *(1,) * (values.ndim - 1)) * values
                getattr(self, name)[condition, :steps] += chosen.sum(dim=0)

    def compute(self) -> dict[str, Tensor]:
        """Return the averages by name; NaN if a condition has no trial of that length.

        ``trials`` has shape ``(conditions, max_steps)``, ``spikes`` and ``rates`` ``(conditions, max_steps, N)``, and
        ``on`` ``(conditions, max_steps, P)``; ``psth_correlation`` is Pearson's r of ``spikes`` and ``rates``.
        """
        trials = self.trials.unsqueeze(-1)
        spikes, rates, on = self.spikes / trials, self.rates / trials, self.on / trials
        averages = {"trials": self.trials.clone(), "spikes": spikes, "rates": rates, "on": on}
        return averages | {"psth_correlation": pearson(spikes, rates)}
