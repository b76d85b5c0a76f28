"""Encoders against the same layers on single sequences."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from torch.nn import Module, functional

from lightning_alrnn.nn import ImageEncoder, SpeechEncoder, SpikeEncoder, TextEncoder


def convolutions(inputs: Tensor, weights: list[Tensor], pooled: tuple[int, ...] = ()) -> Tensor:
    """Convolutions that keep the number of steps, with a ReLU between two of them, and max-pooling after some."""
    hidden = inputs.transpose(1, 2)
    layers = list(zip(weights[::2], weights[1::2], strict=True))
    for number, (weight, bias) in enumerate(layers):
        hidden = functional.conv1d(hidden, weight, bias, padding=weight.shape[2] // 2)
        hidden = hidden if number == len(layers) - 1 else hidden.relu()
        hidden = functional.max_pool1d(hidden, 2) if number in pooled else hidden
    return hidden.transpose(1, 2)


@pytest.mark.parametrize(
    ("encoder", "shape", "pooled", "steps"),
    [
        (ImageEncoder(7, 1), (3, 784, 1), (0,), 392),
        (ImageEncoder(7, 2), (3, 784, 1), (0, 1), 196),
        (SpeechEncoder(7), (3, 101, 40), (), 101),
    ],
)
def test_convolutions_are_the_reference_chain(
    encoder: Module, shape: tuple[int, int, int], pooled: tuple[int, ...], steps: int
) -> None:
    torch.manual_seed(0)
    inputs = torch.rand(shape)
    expected = convolutions(inputs, list(encoder.parameters()), pooled)
    assert expected.shape == (3, steps, 7)
    assert encoder.output_size == 7
    assert torch.allclose(encoder(inputs), expected, atol=1e-6)
    assert torch.allclose(encoder(inputs, torch.full((3,), shape[1])), expected, atol=1e-6)


@pytest.mark.parametrize("pools", [0, 1, 2], ids=["speech", "images", "images, two pools"])
@pytest.mark.parametrize("padding", [0.0, 3.0, math.nan])
def test_padding_does_not_leak(pools: int, padding: float) -> None:
    torch.manual_seed(0)
    encoder, width = (ImageEncoder(5, pools), 1) if pools else (SpeechEncoder(5, input_size=3), 3)
    lengths = torch.arange(1, 34)
    inputs = torch.full((33, 33, width), padding)
    for row, length in enumerate(lengths.tolist()):
        inputs[row, :length] = torch.randn(length, width)
    encoded, after = encoder(inputs, lengths), encoder.output_lengths(lengths) if pools else lengths
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(inputs[row : row + 1, :length])[0]
        assert int(after[row]) == len(alone) == math.ceil(length / 2**pools)
        assert torch.allclose(encoded[row, : len(alone)], alone, atol=1e-6)
    sum(encoded[row, : int(after[row])].sum() for row in range(33)).backward()  # type: ignore[union-attr]
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in encoder.parameters())  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("kind", "name", "value"),
    [
        *((ImageEncoder, *wrong) for wrong in (("output_size", 0), ("pools", 0), ("pools", 3))),
        *((SpeechEncoder, name, 0) for name in ("output_size", "input_size")),
        *((TextEncoder, name, 0) for name in ("vocab_size", "embedding_size", "hidden_size", "output_size")),
        *((SpikeEncoder, *wrong) for wrong in (("num_units", 0), ("output_size", 1))),
    ],
)
def test_wrong_sizes(kind: type[Module], name: str, value: int) -> None:
    sizes = {"num_units": 2, "output_size": 3} if kind is SpikeEncoder else {}
    with pytest.raises(ValueError, match=f"{name} .*must be .*, got {value}"):
        kind(**sizes | {name: value})


@pytest.mark.parametrize(
    ("encoder", "inputs", "message"),
    [
        (ImageEncoder(4), torch.zeros(2, 28, 28), r"\(batch, time, 1\).*order='pixel'"),
        (ImageEncoder(4), torch.zeros(2, 784), r"\(batch, time, 1\).*order='pixel'"),
        (SpeechEncoder(4), torch.zeros(2, 40, 101), r"\(batch, time, 40\).*set input_size"),
        (SpeechEncoder(4), torch.zeros(2, 40), r"\(batch, time, 40\).*set input_size"),
        (TextEncoder(9, 4), torch.zeros(2, 3, 4), r"takes tokens, .*float32 .* \(2, 3, 4\): .*vocab_size=None"),
        (TextEncoder(9, 4), torch.zeros(2, 3), r"takes tokens, .*got torch.float32 of shape"),
        (TextEncoder(9, 4), torch.tensor([[0, 9]]), r"vocab_size=9 takes tokens from 0 to 8, got 0 to 9: set"),
        (TextEncoder(9, 4), torch.tensor([[-1, 8]]), r"takes tokens from 0 to 8, got -1 to 8"),
        (TextEncoder(None, 4), torch.zeros(2, 3).long(), r"takes vectors, .*\(batch, time, 4\), got torch.int64"),
        (TextEncoder(None, 4), torch.zeros(2, 3, 5), r"\(batch, time, 4\), got .* \(2, 3, 5\): set embedding_size"),
    ],
)
def test_wrong_inputs(encoder: Module, inputs: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        encoder(inputs)


@pytest.mark.parametrize("vocab_size", [11, None])
def test_text_encoder_is_the_reference_chain(vocab_size: int | None) -> None:
    torch.manual_seed(0)
    encoder = TextEncoder(vocab_size, 5, 7, 3)
    assert encoder.output_size == 3
    inputs = torch.randn(2, 6, 5) if vocab_size is None else torch.randint(0, vocab_size, (2, 6))
    weights = list(encoder.parameters())
    shapes = [(7, 5), (7,), (7, 7), (7,), (3, 7), (3,)]
    hidden = inputs
    if vocab_size is not None:
        assert weights[0].shape == (vocab_size, 5)
        hidden = weights.pop(0)[inputs]
    assert [tuple(weight.shape) for weight in weights] == shapes
    hidden = functional.linear(hidden, *weights[:2]).relu()
    hidden = functional.linear(hidden, *weights[2:4]).relu()
    assert torch.allclose(encoder(inputs), functional.linear(hidden, *weights[4:]), atol=1e-6)


@pytest.mark.parametrize(
    ("encoder", "shapes"),
    [
        (TextEncoder(), [(20_000, 100), (128, 100), (128, 128), (100, 128)]),
        (ImageEncoder(7), [(16, 1, 15), (32, 16, 7), (7, 32, 3)]),
        (SpeechEncoder(7), [(64, 40, 3), (7, 64, 3)]),
    ],
)
def test_reference_sizes(encoder: Module, shapes: list[tuple[int, ...]]) -> None:
    assert [tuple(weight.shape) for weight in encoder.parameters() if weight.ndim > 1] == shapes


def draw_counts(batch: int = 4, time: int = 30, units: int = 5) -> Tensor:
    return torch.poisson(torch.full((batch, time, units), 0.7), torch.Generator().manual_seed(0))


def spike_encoder(**options: object) -> SpikeEncoder:
    torch.manual_seed(0)
    return SpikeEncoder(5, 3, **options)  # type: ignore[arg-type]


def test_a_padded_trial_of_spikes_is_encoded_as_it_is_alone() -> None:
    encoder, spikes, lengths = spike_encoder().double(), draw_counts().double(), torch.tensor([30, 1, 12, 29])
    encoded = encoder(spikes, lengths)
    for b, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(encoded[b, :length], encoder(spikes[b : b + 1, :length])[0], rtol=1e-10, atol=1e-10)
        assert not encoded[b, length:].any()
    other = encoder(spikes + 9 * (torch.arange(30)[:, None] >= lengths[:, None, None]), lengths)
    gradients = [torch.autograd.grad(output.square().sum(), [*encoder.parameters()]) for output in (encoded, other)]
    torch.testing.assert_close(*gradients)


def test_reach_is_that_of_the_dilations() -> None:
    """Smoothing reaches 7 bins, convolutions 3, 6 and 12."""
    spikes = draw_counts(1, 101).requires_grad_()
    spike_encoder()(spikes)[0, 50, 0].backward()
    reached = spikes.grad[0].abs().sum(1).nonzero()[:, 0]
    assert (int(reached.min()), int(reached.max())) == (50 - 28, 50 + 28)


def test_smoothing_starts_as_a_mean_of_neighbours() -> None:
    encoder = spike_encoder()
    torch.testing.assert_close(encoder.smoothing.weight.sum(-1), torch.ones(5, 1))
    smoothed = encoder.smoothing(torch.ones(1, 5, 40))
    torch.testing.assert_close(smoothed[..., 7:-7], torch.ones(1, 5, 26))


def test_output_is_normalised() -> None:
    encoded = spike_encoder()(draw_counts())
    torch.testing.assert_close(encoded.mean(-1), torch.zeros(4, 30), rtol=0, atol=1e-5)
    torch.testing.assert_close(encoded.square().mean(-1), torch.ones(4, 30), rtol=0, atol=1e-2)


def test_channels() -> None:
    assert spike_encoder(channels=(4,))(draw_counts(time=1)).shape == (4, 1, 3)
    with pytest.raises(ValueError, match="channels must list"):
        spike_encoder(channels=())
    with pytest.raises(ValueError, match=r"spikes must have shape \(batch, time, N=5\), got \(4, 30, 6\)"):
        spike_encoder()(draw_counts(units=6))
