"""From data to what drives or describes the states."""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor, nn
from torch.nn import functional

from lightning_alrnn.batch import valid_steps

_SMOOTHING = 15
_SMOOTHING_SD = 2.0
_KERNEL = 7


class SpikeEncoder(nn.Module):
    """Dilated convolutions over time, from spike counts to states: N → smoothing → channels → M, layer-normalised.

    Each unit's counts are smoothed over 15 bins by a kernel of its own, a Gaussian of 2 bins to begin with. Layers of
    convolutions over 7 bins with a ReLU follow, of which layer i has the dilation 2^i; then a linear map to M values a
    bin and a layer normalisation over these. Every step of the output sees the bins around it, later ones too (28 on
    either side with three layers). What lies past a trial's length is taken as zero in every layer, so that the
    padding of a batch does not matter.

    Args:
        num_units: N, the number of observed units.
        output_size: M, the width of the states, at least 2 (layer normalisation takes two values apart).
        channels: channels of each convolution.

    Raises:
        ValueError: if a size is too small.

    Example:
        >>> encoder = SpikeEncoder(num_units=29, output_size=6)
        >>> encoder(torch.poisson(torch.ones(4, 40, 29))).shape
        torch.Size([4, 40, 6])
    """

    def __init__(self, num_units: int, output_size: int, channels: tuple[int, ...] = (32, 64, 128)) -> None:
        super().__init__()
        if num_units < 1:
            raise ValueError(f"num_units (N) must be at least 1, got {num_units}")
        if output_size < 2:
            raise ValueError(
                f"output_size (M) must be at least 2, got {output_size}: normalised over one value it would be constant"
            )
        if not channels or min(channels) < 1:
            raise ValueError(f"channels must have at least one layer of at least one channel, got {channels}")
        self.num_units = num_units
        self.output_size = output_size
        self.smoothing = nn.Conv1d(
            num_units, num_units, _SMOOTHING, padding=_SMOOTHING // 2, groups=num_units, bias=False
        )
        with torch.no_grad():
            distance = torch.arange(_SMOOTHING) - _SMOOTHING // 2
            self.smoothing.weight.copy_(torch.softmax(-0.5 * (distance / _SMOOTHING_SD).square(), dim=0))
        widths = (num_units, *channels)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(before, after, _KERNEL, padding=(_KERNEL // 2) * 2**i, dilation=2**i)
            for i, (before, after) in enumerate(pairwise(widths))
        )
        self.projection = nn.Linear(channels[-1], output_size)
        self.norm = nn.LayerNorm(output_size)

    def forward(self, spikes: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Encode.

        Args:
            spikes: counts, shape ``(batch, time, N)``.
            lengths: valid bins of each trial, int64 of shape ``(batch,)``; ``None`` where all are valid.

        Returns:
            Tensor of shape ``(batch, time, M)``, zero past a trial's length.

        Raises:
            ValueError: if the shape does not fit.
        """
        if spikes.ndim != 3 or spikes.shape[-1] != self.num_units:
            raise ValueError(f"spikes must have shape (batch, time, N={self.num_units}), got {tuple(spikes.shape)}")
        valid = None if lengths is None else valid_steps(lengths, spikes.shape[1]).unsqueeze(1)
        encoded = _only(spikes.transpose(1, 2), valid)
        encoded = _only(self.smoothing(encoded), valid)
        for convolution in self.convolutions:
            encoded = _only(functional.relu(convolution(encoded)), valid)
        states: Tensor = self.norm(self.projection(encoded.transpose(1, 2)))
        return states if valid is None else torch.where(valid.transpose(1, 2), states, 0.0)


def _only(values: Tensor, valid: Tensor | None) -> Tensor:
    """Values ``(batch, channels, time)`` where valid, zero elsewhere."""
    return values if valid is None else torch.where(valid, values, 0.0)
