"""Mel-frequency cepstral coefficients, the usual features of speech."""

from __future__ import annotations

import math

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
    r"""Mel-frequency cepstral coefficients (MFCC) of waveforms.

    With the spectrum S_tf of frame t (Hann window of n_fft samples, centred on sample t · hop_length; the waveform is
    reflected at both ends) and the mel filters H_fm of :func:`mel_filters`:

    - E_tm = 10 · log₁₀ max(Σ_f |S_tf|² H_fm, 10⁻¹⁰), in decibels, and at least the clip's maximum − 80;
    - c_tk = Σ_m E_tm · √(2/n_mels) · cos(π k (m + ½) / n_mels), with c_t0 divided by √2 (the orthonormal DCT-II).

    This is what torchaudio computes for a single clip. The floor of 80 dB is each clip's own, so that a clip has the
    same features in any batch.

    Args:
        waveform: shape ``(…, samples)``, float.
        sample_rate: in Hz.
        n_mfcc: number of coefficients, at most ``n_mels``.
        n_mels: number of mel filters.
        n_fft: samples of a frame.
        hop_length: samples from one frame to the next.

    Returns:
        Shape ``(…, time, n_mfcc)``, with 1 + samples // hop_length steps.

    Raises:
        ValueError: if a number is out of range, a mel filter holds no frequency, or the waveform is too short to be
            reflected.

    Example:
        >>> tone = torch.sin(2 * torch.pi * 440 * torch.arange(16_000) / 16_000)
        >>> mfcc(tone, hop_length=160).shape
        torch.Size([101, 40])

    Reference:
        Davis & Mermelstein 1980, IEEE Trans. Acoustics, Speech, and Signal Processing 28:357.
    """
    check_size("hop_length", hop_length)
    check_size("n_mfcc", n_mfcc)
    filters = mel_filters(n_mels, n_fft, sample_rate).to(waveform)
    if n_mfcc > n_mels:
        raise ValueError(f"n_mfcc must not exceed n_mels ({n_mels}), got {n_mfcc}")
    *batch, samples = waveform.shape
    if samples <= n_fft // 2:
        raise ValueError(
            f"waveform must have more samples than half a frame (n_fft // 2 = {n_fft // 2}), got {samples}: pad it, or "
            "lower n_fft"
        )
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
    coefficients = decibels @ _cosines(n_mels, n_mfcc).to(waveform)
    return coefficients.view(*batch, -1, n_mfcc)


def mel_filters(n_mels: int, n_fft: int, sample_rate: int) -> Tensor:
    r"""Triangular filters, evenly spaced on the mel scale m(f) = 2595 · log₁₀(1 + f/700) from 0 to half the rate.

    Filter m rises from 0 at the centre of filter m−1 to 1 at its own, and falls back to 0 at that of filter m+1, linear
    in frequency.

    Args:
        n_mels: number of filters.
        n_fft: samples of a frame.
        sample_rate: in Hz.

    Returns:
        float64 of shape ``(n_fft // 2 + 1, n_mels)``: each frequency's weight in each filter.

    Raises:
        ValueError: if a number is out of range, or filters are so narrow that one holds no frequency.

    Example:
        >>> mel_filters(n_mels=64, n_fft=400, sample_rate=16_000).shape
        torch.Size([201, 64])
    """
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
        raise ValueError(
            f"n_mels must be small enough for every filter to contain a frequency of the spectrum; of {n_mels} filters "
            f"{int(empty.sum())} contain none at n_fft={n_fft}: lower n_mels or raise n_fft"
        )
    return filters


def _cosines(n_mels: int, n_mfcc: int) -> Tensor:
    """The orthonormal DCT-II, shape ``(n_mels, n_mfcc)``."""
    steps = torch.arange(n_mels, dtype=torch.float64).unsqueeze(-1) + 0.5
    cosines = torch.cos(torch.pi / n_mels * steps * torch.arange(n_mfcc, dtype=torch.float64))
    cosines[:, 0] /= math.sqrt(2)
    return cosines * math.sqrt(2 / n_mels)
