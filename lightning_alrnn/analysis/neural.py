"""Agreement between a model's spike counts and recorded ones."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.batch import valid_steps


class SpikeSums(NamedTuple):
    """Sums over valid bins for :func:`spike_statistics`. They add up over batches."""

    bins: Tensor  # number of bins, int64, a scalar
    spikes: Tensor  # Σ x of each unit, int64 (N,)
    squares: Tensor  # Σ x², int64 (N,)
    expected: Tensor  # Σ E[x] of the model, (N,)
    expected_squares: Tensor  # Σ E[x²] of the model, (N,)
    group_bins: Tensor  # number of bins of each condition, int64 (conditions,)
    group_spikes: Tensor  # Σ x of each condition, int64 (conditions, N)
    group_expected: Tensor  # Σ E[x] of each condition, (conditions, N)


class SpikeStatistics(NamedTuple):
    """Rates and variability of recorded counts and of the model; NaN if the divisor is zero.

    Attributes:
        rates: Mean count per bin of each condition, shape ``(conditions, N)``; one row without conditions.
        expected_rates: Mean count of the model, of the same shape.
        cv: Coefficient of variation of the counts in bins of all trials, √var / mean, shape ``(N,)``.
        expected_cv: Coefficient of variation of the model, of the same shape.
        fano: Fano factor of the counts in bins of all trials, var / mean, shape ``(N,)``.
        expected_fano: Fano factor of the model, of the same shape.
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
    """Sums of counts, means and variances ``(batch, time, N)``; a group outside 0 … conditions−1 is none."""
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
    """Rates, coefficients of variation and Fano factors in float64, from the sums of one batch or of several, added up.

    The model's variance of a count over bins is mean(E[x²]) − mean(E[x])², by the law of total variance.
    Reference: Dayan & Abbott, "Theoretical Neuroscience", 2001, chapter 1.
    """
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
    """Rates ``(conditions, N)`` of each unit minus their mean over conditions; NaN stays NaN."""
    return rates - rates.nanmean(dim=0, keepdim=True)


def pearson(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's correlation of two tensors of the same shape.

    Args:
        x: Values, floating point of any shape ``(…)``. Pairs with NaN are left out.
        y: Values, of the same shape.

    Returns:
        Scalar from −1 to 1; NaN for fewer than two pairs or constant values.

    Example:
        >>> round(float(pearson(torch.tensor([1.0, 2.0, 3.0, float("nan")]), torch.tensor([2.0, 4.0, 6.0, 1.0]))), 3)
        1.0
    """
    valid = ~(torch.isnan(x) | torch.isnan(y))
    r = (_normalized(x, valid) * _normalized(y, valid)).sum().clamp(-1, 1)
    return torch.where(valid.any(), r, torch.nan)


def _normalized(values: Tensor, valid: Tensor) -> Tensor:
    """Deviations from the mean of the valid values, scaled to length 1; NaN if they do not vary."""
    values = torch.where(valid, values, 0.0)
    deviation = torch.where(valid, values - values.sum() / valid.sum().clamp(min=1), 0.0)
    length = deviation.norm()
    # what rounding leaves of equal values is no variation
    varies = length > 10 * torch.finfo(values.dtype).eps * values.norm()
    return deviation / torch.where(varies, length, torch.nan)
