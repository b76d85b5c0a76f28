"""MFCC against loops over frames, filters and coefficients, and against closed forms."""

from __future__ import annotations

import math

import numpy as np
import pytest
import scipy.fft
import scipy.signal
import torch
from numpy.typing import NDArray

from lightning_alrnn.datamodules.speech_features import mel_filters, mfcc


def filters_by_hand(n_mels: int, n_fft: int, rate: int) -> NDArray[np.float64]:
    def mel(frequency: float) -> float:
        return 2595 * math.log10(1 + frequency / 700)

    def frequency(mels: float) -> float:
        return 700 * (10 ** (mels / 2595) - 1)

    points = [frequency(mel(rate / 2) * number / (n_mels + 1)) for number in range(n_mels + 2)]
    frequencies = np.arange(n_fft // 2 + 1) * rate / n_fft
    return np.stack([np.interp(frequencies, points[i : i + 3], [0, 1, 0]) for i in range(n_mels)], axis=1)


def mfcc_by_hand(waveform: NDArray[np.float64], rate: int, n_mfcc: int, n_mels: int, n_fft: int, hop: int) -> object:
    window = scipy.signal.get_window("hann", n_fft)
    padded = np.pad(waveform, n_fft // 2, mode="reflect")
    filters = filters_by_hand(n_mels, n_fft, rate)
    frames = []
    for start in range(0, len(waveform) + 1, hop):
        power = np.abs(scipy.fft.rfft(padded[start : start + n_fft] * window)) ** 2
        frames.append(10 * np.log10(np.maximum(power @ filters, 1e-10)))
    decibels = np.maximum(frames, np.max(frames) - 80)
    return scipy.fft.dct(decibels, type=2, norm="ortho", axis=1)[:, :n_mfcc]


@pytest.mark.parametrize(
    ("rate", "n_mfcc", "n_mels", "n_fft", "hop"),
    [(16_000, 40, 64, 400, 40), (16_000, 40, 64, 400, 160), (8_000, 13, 13, 256, 100), (16_000, 1, 3, 64, 333)],
)
def test_against_a_loop(rate: int, n_mfcc: int, n_mels: int, n_fft: int, hop: int) -> None:
    rng = np.random.default_rng(0)
    loud = rng.normal(size=2_000)
    fading = loud * np.exp(-np.arange(2_000) / 60)  # goes below the floor of 80 dB
    for waveform in (loud, fading):
        expected = mfcc_by_hand(waveform, rate, n_mfcc, n_mels, n_fft, hop)
        coefficients = mfcc(torch.from_numpy(waveform), rate, n_mfcc, n_mels, n_fft, hop)
        assert coefficients.shape == (1 + 2_000 // hop, n_mfcc)
        np.testing.assert_allclose(coefficients, expected, atol=1e-6)
    single = mfcc(torch.from_numpy(loud).float(), rate, n_mfcc, n_mels, n_fft, hop)
    assert single.dtype == torch.float32
    np.testing.assert_allclose(single, mfcc_by_hand(loud, rate, n_mfcc, n_mels, n_fft, hop), atol=1e-2)


def test_silence() -> None:
    silence = mfcc(torch.zeros(1_000, dtype=torch.float64), hop_length=100)
    assert torch.allclose(silence[:, 0], torch.tensor(-100.0 * 8, dtype=torch.float64))  # −100 dB · √64
    assert silence[:, 1:].abs().max() < 1e-9


def test_a_clip_has_the_same_features_in_any_batch() -> None:
    generator = torch.Generator().manual_seed(0)
    quiet, loud = 1e-4 * torch.randn(2_000, generator=generator), torch.randn(2_000, generator=generator)
    together = mfcc(torch.stack((quiet, loud)))
    assert torch.allclose(together[0], mfcc(quiet), atol=1e-3)
    assert torch.allclose(together[1], mfcc(loud), atol=1e-3)


def test_filters() -> None:
    filters = mel_filters(64, 400, 16_000)
    np.testing.assert_allclose(filters, filters_by_hand(64, 400, 16_000), atol=1e-12)
    # of 5 filters, 473.34 mel apart, 1000 Hz lies between the centres of the second, 946.67 mel = 921.3 Hz, and the
    # third, 1420.01 mel = 1767.9 Hz
    assert mel_filters(5, 400, 16_000)[25].tolist() == pytest.approx([0, 767.9 / 846.6, 78.7 / 846.6, 0, 0], abs=5e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n_mfcc": 65}, r"n_mfcc must not exceed n_mels \(64\), got 65"),
        ({"n_mfcc": 0}, "n_mfcc must be at least 1, got 0"),
        ({"n_mels": 0}, "n_mels must be at least 1, got 0"),
        ({"n_fft": 1}, "n_fft must be at least 2, got 1"),
        ({"hop_length": 0}, "hop_length must be at least 1, got 0"),
        ({"sample_rate": 0}, "sample_rate must be at least 1, got 0"),
        ({"n_mels": 128}, r"\d+ of the n_mels filters have no frequency: lower n_mels or raise n_fft"),
        ({"n_fft": 2_000}, r"more than n_fft // 2 samples, got 1000: pad it, or lower n_fft"),
    ],
)
def test_wrong_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        mfcc(torch.zeros(1_000), **arguments)
