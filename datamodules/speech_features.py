"""Mel-frequency cepstral coefficients, the usual features of speech."""

from __future__ import annotations

import numpy as np
import scipy.fft
import torch
from torch import Tensor

from lightning_alrnn.datamodules.base import check_size

_SMALLEST_POWER = 1e-10  # -100 dB
_DYNAMIC_RANGE = 80.0  # dB below the loudest value of a clip


def mfcc(
    waveform: Tensor,
    sample_rate: int = 16_000,
    n_mfcc: int = 40,
    n_mels: int = 64,
    n_fft: int = 400,
    hop_length: int = 40,
) -> Tensor:
    """MFCC of waveforms ``(…, samples)``, shape ``(…, 1 + samples // hop_length, n_mfcc)``."""
    check_size("hop_length", hop_length)
    check_size("n_mfcc", n_mfcc)
    filters = mel_filters(n_mels, n_fft, sample_rate).to(waveform)
    if n_mfcc > n_mels:
        raise ValueError(f"n_mfcc must not exceed n_mels ({n_mels}), got {n_mfcc}")
    *batch, samples = waveform.shape
    if samples <= n_fft // 2:
        raise ValueError(f"waveform must have more than n_fft // 2 samples, got {samples}: pad it, or lower n_fft")
    spectrum = torch.stft(
        waveform.reshape(-1, samples),
        n_fft,
        hop_length,
        window=torch.hann_window(n_fft, dtype=waveform.dtype, device=waveform.device),
        center=True,
        pad_mode="reflect",
        return_complex=True,
    )
    power = torch.view_as_real(spectrum).square().sum(dim=-1).transpose(1, 2)
    decibels = 10 * torch.log10((power @ filters).clamp(min=_SMALLEST_POWER))
    decibels = torch.maximum(decibels, decibels.amax(dim=(1, 2), keepdim=True) - _DYNAMIC_RANGE)
    # the orthonormal DCT-II, as a matrix
    cosines = torch.from_numpy(scipy.fft.dct(np.eye(n_mels), norm="ortho")[:, :n_mfcc]).to(waveform)
    coefficients = decibels @ cosines
    return coefficients.view(*batch, -1, n_mfcc)


def mel_filters(n_mels: int, n_fft: int, sample_rate: int) -> Tensor:
    """Triangular filters, evenly spaced on the mel scale, float64 of shape ``(n_fft // 2 + 1, n_mels)``."""
    for name, value in (("n_mels", n_mels), ("n_fft", n_fft), ("sample_rate", sample_rate)):
        check_size(name, value, 2 if name == "n_fft" else 1)
    highest = 2595 * torch.log10(torch.tensor(1 + sample_rate / 2 / 700, dtype=torch.float64))
    mels = torch.linspace(0, 1, n_mels + 2, dtype=torch.float64) * highest
    points = 700 * (10 ** (mels / 2595) - 1)
    frequencies = torch.arange(n_fft // 2 + 1, dtype=torch.float64).unsqueeze(-1) * sample_rate / n_fft
    rising = (frequencies - points[:-2]) / (points[1:-1] - points[:-2])
    falling = (points[2:] - frequencies) / (points[2:] - points[1:-1])
    filters = torch.minimum(rising, falling).clamp(min=0)
    empty = ~(filters > 0).any(dim=0)
    if bool(empty.any()):
        raise ValueError(f"{int(empty.sum())} of the n_mels filters have no frequency: lower n_mels or raise n_fft")
    return filters
