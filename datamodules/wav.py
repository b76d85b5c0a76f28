"""Read recordings from WAV files."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_PCM, _EXTENSIBLE = 1, 0xFFFE
_RATES = 1_000, 384_000  # Hz; conversion from any other takes gigabytes


class Recording(NamedTuple):
    """Samples from −1 to 1, the mean of all channels, and their rate in Hz."""

    samples: NDArray[np.float32]
    rate: int


def read_wav(content: bytes, name: str) -> Recording:
    """Decode a WAV file of 8, 16, 24 or 32-bit PCM with any number of channels."""
    expected = f"{name} must be a WAV file of 8, 16, 24 or 32-bit PCM"
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError(f"{expected}, but has another beginning: get the original")
    header, _ = _find_chunk(content, b"fmt ")
    data, size = _find_chunk(content, b"data")
    if len(header) < 16 or size < 0:
        raise ValueError(f"{expected}, but has no {'samples' if size < 0 else 'header'}: get the original")
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", header)
    if kind == _EXTENSIBLE and len(header) >= 26:
        (kind,) = struct.unpack_from("<H", header, 24)
    width = (bits + 7) // 8
    if kind != _PCM or width not in (1, 2, 3, 4) or channels < 1:
        header_text = f"format {kind}, {bits} bits, {channels} channels, {rate} Hz"
        raise ValueError(f"{expected}, got {header_text}: convert it to 16-bit PCM")
    if not _RATES[0] <= rate <= _RATES[1]:
        raise ValueError(f"{name} must have from {_RATES[0]:,} to {_RATES[1]:,} Hz, got {rate:,} Hz: get the original")
    frames = size // (channels * width)
    if frames == 0 or len(data) < size:
        raise ValueError(f"{expected}, but only has {len(data)} of {size} bytes: get the original")
    samples = _decode(data[: frames * channels * width], width).reshape(frames, channels)
    return Recording(samples.mean(axis=1).astype(np.float32), rate)


def _find_chunk(content: bytes, name: bytes) -> tuple[bytes, int]:
    """The content of a part of a file, and the size in its header; empty and −1 if there is none."""
    at = 12
    while at + 8 <= len(content):
        chunk_name, size = struct.unpack_from("<4sI", content, at)
        if chunk_name == name:
            return content[at + 8 : at + 8 + size], size
        at += 8 + size + size % 2  # chunks begin at even places
    return b"", -1


def _decode(data: bytes, width: int) -> NDArray[np.float64]:
    """Samples from −1 to 1 of little-endian integers of ``width`` bytes; single bytes have no sign."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    padded = np.zeros((len(data) // width, 4), np.uint8)
    padded[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)  # the last byte has the sign
    return padded.view("<i4")[:, 0] / 2**31
