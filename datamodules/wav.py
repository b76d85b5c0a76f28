"""Read recordings from WAV files."""

from __future__ import annotations

import io
import wave
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class Recording(NamedTuple):
    """A recording.

    Attributes:
        samples: float32 of shape ``(samples,)``, −1 … 1; the mean of all channels.
        rate: samples a second, in Hz.
    """

    samples: NDArray[np.float32]
    rate: int


def read_wav(content: bytes, name: str) -> Recording:
    """Decode a WAV file of 8, 16, 24 or 32 bits a sample (PCM) and any number of channels.

    Args:
        content: the file as bytes.
        name: the file's name, for messages.

    Raises:
        ValueError: if it is no such file, or ends before its header says; the message names the file.

    Example:
        >>> file = io.BytesIO()
        >>> with wave.open(file, "wb") as writer:
        ...     writer.setparams((1, 2, 16_000, 0, "NONE", ""))
        ...     writer.writeframes(np.array([0, 16384, -32768], dtype="<i2").tobytes())
        >>> read_wav(file.getvalue(), "example.wav")
        Recording(samples=array([ 0. ,  0.5, -1. ], dtype=float32), rate=16000)
    """
    expected = f"{name} must be a WAV file of 8, 16, 24 or 32-bit PCM"
    try:
        with wave.open(io.BytesIO(content), "rb") as file:
            channels, width, rate, frames = file.getparams()[:4]
            data = file.readframes(frames)
    except (wave.Error, EOFError) as error:
        reason = str(error) or "it is cut off"
        raise ValueError(f"{expected} and cannot be read: {reason}. Restore it, or convert it to 16-bit PCM") from error
    if width not in (1, 2, 3, 4) or rate < 1:
        raise ValueError(f"{expected}, got {8 * width} bits a sample at {rate} Hz: convert it to 16-bit PCM")
    if frames == 0 or len(data) != frames * channels * width:
        raise ValueError(
            f"{expected}; its header tells of {frames} samples, but it holds {len(data) // (channels * width)}: it is "
            "empty or cut off, restore it"
        )
    samples = _decode(data, width).reshape(frames, channels).mean(axis=1, dtype=np.float64)
    return Recording(samples.astype(np.float32), rate)


def _decode(data: bytes, width: int) -> NDArray[np.float64]:
    """Samples −1 … 1 from little-endian integers of ``width`` bytes; single bytes are without a sign."""
    if width == 1:
        return (np.frombuffer(data, np.uint8).astype(np.float64) - 128) / 128
    whole = np.zeros((len(data) // width, 4), np.uint8)
    whole[:, 4 - width :] = np.frombuffer(data, np.uint8).reshape(-1, width)  # the last has the sign
    return whole.view("<i4")[:, 0] / 2**31
