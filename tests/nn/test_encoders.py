"""Encoders against the same layers on single sequences."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from lightning_alrnn.nn import ImageEncoder, SpeechEncoder


@pytest.mark.parametrize(("pools", "steps"), [(1, 392), (2, 196)])
def test_image_encoder_is_the_reference_chain(pools: int, steps: int) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(7, pools)
    assert encoder.output_size == 7
    inputs = torch.rand(3, 784, 1)
    hidden = inputs.transpose(1, 2)
    weights = list(encoder.parameters())
    assert [tuple(weight.shape) for weight in weights] == [(16, 1, 15), (16,), (32, 16, 7), (32,), (7, 32, 3), (7,)]
    hidden = functional.max_pool1d(functional.conv1d(hidden, *weights[:2], padding=7).relu(), 2)
    hidden = functional.conv1d(hidden, *weights[2:4], padding=3).relu()
    if pools == 2:
        hidden = functional.max_pool1d(hidden, 2)
    expected = functional.conv1d(hidden, *weights[4:], padding=1).transpose(1, 2)
    assert expected.shape == (3, steps, 7)
    assert torch.allclose(encoder(inputs), expected, atol=1e-6)
    assert torch.allclose(encoder(inputs, torch.full((3,), 784)), expected, atol=1e-6)


@pytest.mark.parametrize("pools", [1, 2])
@pytest.mark.parametrize("padding", [0.0, 3.0, math.nan])
def test_padding_does_not_leak(pools: int, padding: float) -> None:
    torch.manual_seed(0)
    encoder = ImageEncoder(5, pools)
    lengths = torch.arange(1, 34)
    inputs = torch.full((33, 33, 1), padding)
    for row, length in enumerate(lengths.tolist()):
        inputs[row, :length] = torch.randn(length, 1)
    encoded, after = encoder(inputs, lengths), encoder.output_lengths(lengths)
    for row, length in enumerate(lengths.tolist()):
        alone = encoder(inputs[row : row + 1, :length])[0]
        assert int(after[row]) == len(alone) == math.ceil(length / 2**pools)
        assert torch.allclose(encoded[row, : len(alone)], alone, atol=1e-6)
    sum(encoded[row, : int(after[row])].sum() for row in range(33)).backward()  # type: ignore[union-attr]
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in encoder.parameters())  # type: ignore[arg-type]


@pytest.mark.parametrize("arguments", [{"output_size": 0}, {"pools": 0}, {"pools": 3}])
def test_wrong_arguments(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be"):
        ImageEncoder(**arguments)


@pytest.mark.parametrize("shape", [(2, 28, 28), (2, 784)])
def test_wrong_inputs(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(batch, time, 1\).*order='pixel'"):
        ImageEncoder(4)(torch.zeros(shape))


def test_speech_encoder_is_the_reference_chain() -> None:
    torch.manual_seed(0)
    encoder = SpeechEncoder(7)
    assert encoder.output_size == 7
    inputs = torch.randn(3, 101, 40)
    weights = list(encoder.parameters())
    assert [tuple(weight.shape) for weight in weights] == [(64, 40, 3), (64,), (7, 64, 3), (7,)]
    hidden = functional.conv1d(inputs.transpose(1, 2), *weights[:2], padding=1).relu()
    expected = functional.conv1d(hidden, *weights[2:], padding=1).transpose(1, 2)
    assert torch.allclose(encoder(inputs), expected, atol=1e-6)
    assert torch.allclose(encoder(inputs, torch.full((3,), 101)), expected, atol=1e-6)


@pytest.mark.parametrize("padding", [0.0, 3.0, math.nan])
def test_padding_does_not_leak_into_speech(padding: float) -> None:
    torch.manual_seed(0)
    encoder = SpeechEncoder(5, input_size=3)
    lengths = torch.arange(1, 9)
    inputs = torch.full((8, 8, 3), padding)
    for row, length in enumerate(lengths.tolist()):
        inputs[row, :length] = torch.randn(length, 3)
    encoded = encoder(inputs, lengths)
    for row, length in enumerate(lengths.tolist()):
        assert torch.allclose(encoded[row, :length], encoder(inputs[row : row + 1, :length])[0], atol=1e-6)


@pytest.mark.parametrize("arguments", [{"output_size": 0}, {"input_size": 0}])
def test_wrong_arguments_of_the_speech_encoder(arguments: dict[str, int]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be at least 1, got 0"):
        SpeechEncoder(**arguments)


@pytest.mark.parametrize("shape", [(2, 40, 101), (2, 40)])
def test_wrong_inputs_of_the_speech_encoder(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"\(batch, time, 40\).*set its input_size"):
        SpeechEncoder(4)(torch.zeros(shape))
