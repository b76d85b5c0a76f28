"""The encoder of spikes: padding, reach, sizes."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from lightning_alrnn.nn import SpikeEncoder


def counts(batch: int = 4, time: int = 30, units: int = 5) -> Tensor:
    return torch.poisson(torch.full((batch, time, units), 0.7), torch.Generator().manual_seed(0))


def made(**options: object) -> SpikeEncoder:
    torch.manual_seed(0)
    return SpikeEncoder(5, 3, **options)  # type: ignore[arg-type]


def test_a_padded_trial_is_encoded_as_it_is_alone() -> None:
    encoder, spikes, lengths = made().double(), counts().double(), torch.tensor([30, 1, 12, 29])
    found = encoder(spikes, lengths)
    for b, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(found[b, :length], encoder(spikes[b : b + 1, :length])[0], rtol=1e-10, atol=1e-10)
        assert not found[b, length:].any()
    for parameter in encoder.parameters():
        parameter.grad = None
    encoder(spikes + 9 * (torch.arange(30)[:, None] >= lengths[:, None, None]), lengths).square().sum().backward()
    after = [parameter.grad for parameter in encoder.parameters()]
    encoder.zero_grad()
    found.square().sum().backward()
    for one, other in zip(after, encoder.parameters(), strict=True):
        torch.testing.assert_close(one, other.grad)


def test_reach_is_that_of_the_dilations() -> None:
    """Smoothing reaches 7 bins, convolutions 3, 6 and 12."""
    spikes = counts(1, 101).requires_grad_()
    made()(spikes)[0, 50, 0].backward()
    assert spikes.grad is not None
    seen = spikes.grad[0].abs().sum(1).nonzero()[:, 0]
    assert (int(seen.min()), int(seen.max())) == (50 - 28, 50 + 28)


def test_smoothing_starts_as_a_mean_of_neighbours() -> None:
    encoder = made()
    torch.testing.assert_close(encoder.smoothing.weight.sum(-1), torch.ones(5, 1))
    smoothed = encoder.smoothing(torch.ones(1, 5, 40))
    torch.testing.assert_close(smoothed[..., 7:-7], torch.ones(1, 5, 26))


def test_output_is_normalised() -> None:
    found = made()(counts())
    torch.testing.assert_close(found.mean(-1), torch.zeros(4, 30), rtol=0, atol=1e-5)
    torch.testing.assert_close(found.square().mean(-1), torch.ones(4, 30), rtol=0, atol=1e-2)


def test_channels_and_wrong_sizes() -> None:
    assert made(channels=(4,))(counts(time=1)).shape == (4, 1, 3)
    for wrong, message in (
        ({"num_units": 0, "output_size": 3}, "num_units"),
        ({"num_units": 2, "output_size": 1}, "output_size"),
        ({"num_units": 2, "output_size": 3, "channels": ()}, "channels"),
    ):
        with pytest.raises(ValueError, match=message):
            SpikeEncoder(**wrong)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match=r"spikes must have shape \(batch, time, N=5\), got \(4, 30, 6\)"):
        made()(counts(units=6))
