"""How well a model's spike counts agree with recorded ones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.batch import valid_steps


class SpikeSums(NamedTuple):
    """Sums over valid bins, of which :func:`spike_statistics` makes rates and their scatter. They add up over batches.

    Attributes:
        bins: number of bins, int64, a scalar.
        spikes: Σ x of each unit, int64 of shape ``(N,)``.
        squares: Σ x², int64 of shape ``(N,)``.
        expected: Σ E[x] of the model, float of shape ``(N,)``.
        expected_squares: Σ E[x²] of the model, float of shape ``(N,)``.
        group_bins: number of bins of each condition, int64 of shape ``(conditions,)``.
        group_spikes: Σ x of each condition, int64 of shape ``(conditions, N)``.
        group_expected: Σ E[x] of each condition, float of shape ``(conditions, N)``.
    """

    bins: Tensor
    spikes: Tensor
    squares: Tensor
    expected: Tensor
    expected_squares: Tensor
    group_bins: Tensor
    group_spikes: Tensor
    group_expected: Tensor


class SpikeStatistics(NamedTuple):
    """Rates and scatter of counts, recorded and of the model; NaN where there is nothing to divide by.

    Attributes:
        rates: mean count a bin, over all trials of a condition, shape ``(conditions, N)``; one row for all trials
            where there are no conditions.
        expected_rates: the same of the model.
        cv: coefficient of variation of the counts in bins of all trials, √var / mean, shape ``(N,)``.
        expected_cv: the same of the model.
        fano: Fano factor of the counts in bins of all trials, var / mean, shape ``(N,)``.
        expected_fano: the same of the model.
    """

    rates: Tensor
    expected_rates: Tensor
    cv: Tensor
    expected_cv: Tensor
    fano: Tensor
    expected_fano: Tensor


def sum_spikes(
    spikes: Tensor, mean: Tensor, variance: Tensor, lengths: Tensor, group: Tensor | None, conditions: int
) -> SpikeSums:
    """Sums of a batch."""
    valid = valid_steps(lengths, spikes.shape[1]).unsqueeze(-1)
    counts = torch.where(valid, spikes, 0).long()
    mean = torch.where(valid, mean, 0.0)
    squares = torch.where(valid, variance, 0.0) + mean.square()
    trial_spikes, trial_expected = counts.sum(dim=1), mean.sum(dim=1)
    # no scatter: its order of addition is not fixed on a GPU
    belongs = torch.zeros(conditions, len(spikes), dtype=torch.bool, device=spikes.device)
    if group is not None:
        belongs = torch.arange(conditions, device=group.device).unsqueeze(1) == group
    return SpikeSums(
        bins=lengths.sum(),
        spikes=trial_spikes.sum(dim=0),
        squares=counts.square().sum(dim=(0, 1)),
        expected=trial_expected.sum(dim=0),
        expected_squares=squares.sum(dim=(0, 1)),
        group_bins=(belongs * lengths).sum(dim=1),
        group_spikes=(belongs.unsqueeze(-1) * trial_spikes).sum(dim=1),
        group_expected=(belongs.unsqueeze(-1) * trial_expected).sum(dim=1),
    )


def spike_statistics(sums: SpikeSums) -> SpikeStatistics:
    """Rates, coefficients of variation and Fano factors."""
    sums = SpikeSums(*(values.double() for values in sums))
    if len(sums.group_bins):
        bins = sums.group_bins.unsqueeze(-1)
        rates, expected_rates = sums.group_spikes / bins, sums.group_expected / bins
    else:
        rates, expected_rates = ((s / sums.bins).unsqueeze(0) for s in (sums.spikes, sums.expected))
    scatter = []
    for total, squares in ((sums.spikes, sums.squares), (sums.expected, sums.expected_squares)):
        mean = total / sums.bins
        variance = (squares / sums.bins - mean.square()).clamp(min=0)
        scatter.append((variance.sqrt() / mean, variance / mean))
    (cv, fano), (expected_cv, expected_fano) = scatter
    return SpikeStatistics(rates, expected_rates, cv, expected_cv, fano, expected_fano)


def tuning(rates: Tensor) -> Tensor:
    """Each unit's rates without their mean over conditions."""
    return rates - rates.nanmean(dim=0, keepdim=True)


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's correlation of two tensors of one shape.

    Pairs in which either value is NaN are left out. The result is NaN where fewer than two pairs are left, or one of
    the two does not vary.

    Args:
        x: floating point, of any shape ``(…)``.
        y: of the same shape.

    Returns:
        Scalar, from −1 to 1.

    Example:
        >>> round(float(pearson(torch.tensor([1.0, 2.0, 3.0, float("nan")]), torch.tensor([2.0, 4.0, 6.0, 1.0]))), 3)
        1.0
    """
    known = ~(torch.isnan(x) | torch.isnan(y))
    r = (_normalized(x, known) * _normalized(y, known)).sum().clamp(-1, 1)
    return torch.where(known.any(), r, torch.nan)


def _normalized(values: Tensor, known: Tensor) -> Tensor:
    """Deviations from the mean of the known values, of length 1; NaN where they do not vary."""
    values = torch.where(known, values, 0.0)
    deviation = torch.where(known, values - values.sum() / known.sum().clamp(min=1), 0.0)
    length = deviation.norm()
    # what rounding leaves of equal values is no variation
    varies = length > 10 * torch.finfo(values.dtype).eps * values.norm()
    return deviation / torch.where(varies, length, torch.nan)
