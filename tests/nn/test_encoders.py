"""Encoders against the same layers on single sequences."""

from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional

from lightning_alrnn.nn import ImageEncoder, SpeechEncoder, TextEncoder


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


def test_reference_sizes_of_the_text_encoder() -> None:
    sizes = [tuple(weight.shape) for weight in TextEncoder().parameters() if weight.ndim == 2]
    assert sizes == [(20_000, 100), (128, 100), (128, 128), (100, 128)]


@pytest.mark.parametrize("name", ["vocab_size", "embedding_size", "hidden_size", "output_size"])
def test_wrong_sizes_of_the_text_encoder(name: str) -> None:
    with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
        TextEncoder(**{name: 0})


@pytest.mark.parametrize(
    ("vocab_size", "inputs", "message"),
    [
        (9, torch.zeros(2, 3, 4), r"takes tokens, .* got torch.float32 of shape \(2, 3, 4\): .*vocab_size=None"),
        (9, torch.tensor([[0, 9]]), r"vocab_size=9 takes tokens from 0 to 8, got 0 to 9: set vocab_size to that of"),
        (9, torch.tensor([[-1, 8]]), r"takes tokens from 0 to 8, got -1 to 8"),
        (None, torch.zeros(2, 3, dtype=torch.int64), r"takes vectors, .*\(batch, time, 4\), got torch.int64"),
        (None, torch.zeros(2, 3, 5), r"\(batch, time, 4\), got torch.float32 of shape \(2, 3, 5\): set embedding_size"),
    ],
)
def test_wrong_inputs_of_the_text_encoder(vocab_size: int | None, inputs: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TextEncoder(vocab_size, 4)(inputs)
