"""Read recordings from WAV files."""

from __future__ import annotations

import struct
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

_PCM, _EXTENSIBLE = 1, 0xFFFE


class Recording(NamedTuple):
    """A recording."""

    samples: NDArray[np.float32]  # float32 of shape ``(samples,)``, −1 … 1; the mean of all channels
    rate: int  # samples a second, in Hz


def read_wav(content: bytes, name: str) -> Recording:
    """Decode a WAV file of 8, 16, 24 or 32 bits a sample (PCM) and any number of channels.

    Example:
        >>> import io
        >>> from scipy.io import wavfile
        >>> file = io.BytesIO()
        >>> wavfile.write(file, 16_000, np.array([0, 16384, -32768], dtype=np.int16))
        >>> read_wav(file.getvalue(), "example.wav")
        Recording(samples=array([ 0. ,  0.5, -1. ], dtype=float32), rate=16000)
    """
    expected = f"{name} must be a WAV file of 8, 16, 24 or 32-bit PCM"
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError(f"{expected}, but does not begin like one: replace it by the original")
    header = _find_chunk(content, b"fmt ")
    data = _find_chunk(content, b"data")
    if header is None or len(header.content) < 16 or data is None:
        raise ValueError(
            f"{expected}, but has no {'samples' if data is None else 'header'}: it is damaged, replace it by the "
            "original"
        )
    kind, channels, rate, _, _, bits = struct.unpack_from("<HHIIHH", header.content)
    if kind == _EXTENSIBLE and len(header.content) >= 26:
        (kind,) = struct.unpack_from("<H", header.content, 24)
    width = (bits + 7) // 8
    if kind != _PCM or width not in (1, 2, 3, 4) or channels < 1 or rate < 1:
        raise ValueError(
            f"{expected}, got format {kind} with {bits} bits a sample, {channels} channels and {rate} Hz: convert it "
            "to 16-bit PCM"
        )
    frames = data.size // (channels * width)
    if frames == 0 or len(data.content) < data.size:
        raise ValueError(
            f"{expected}; its header announces {data.size} bytes of sound, but there are {len(data.content)}: it is "
            "empty or incomplete, replace it by the original"
        )
    samples = _decode(data.content[: frames * channels * width], width).reshape(frames, channels)
    return Recording(samples.mean(axis=1).astype(np.float32), rate)


class _Chunk(NamedTuple):
    """A part of a file, with the size that it should have."""

    content: bytes
    size: int


def _find_chunk(content: bytes, name: bytes) -> _Chunk | None:
    at = 12
    while at + 8 <= len(content):
        chunk_name, size = struct.unpack_from("<4sI", content, at)
        if chunk_name == name:
            return _Chunk(content[at + 8 : at + 8 + size], size)
        at += 8 + size + size % 2  # chunks begin at even places
    return None


def _decode(data: bytes, width: int) -> NDArray[np.float64]:
    """Samples −1 … 1 from little-endian integers of ``width`` bytes; single bytes are without a sign."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    whole = np.zeros((len(data) // width, 4), np.uint8)
    whole[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)  # the last has the sign
    return whole.view("<i4")[:, 0] / 2**31
