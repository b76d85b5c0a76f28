"""WAV files, against the samples that were written."""

from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import scipy.io.wavfile
from hypothesis import given, settings
from hypothesis import strategies as st
from official_files import wav_bytes

from lightning_alrnn.datamodules.wav import read_wav


@settings(deadline=None)
@given(
    width=st.sampled_from([1, 2, 3, 4]),
    channels=st.integers(1, 3),
    frames=st.integers(1, 5),
    rate=st.integers(1_000, 384_000),
    data=st.data(),
)
def test_every_width(width: int, channels: int, frames: int, rate: int, data: st.DataObject) -> None:
    half = 2 ** (8 * width - 1)
    count = channels * frames
    samples = data.draw(st.lists(st.integers(-half, half - 1), min_size=count, max_size=count))
    shift = 128 if width == 1 else 0  # single bytes are stored without a sign
    content = b"".join((sample + shift).to_bytes(width, "little", signed=width > 1) for sample in samples)
    recording = read_wav(wav_bytes(content, width, channels, rate), "a.wav")
    assert recording.samples.dtype == np.float32
    expected = [sum(samples[i : i + channels]) / channels / half for i in range(0, count, channels)]
    np.testing.assert_allclose(recording.samples, expected, rtol=1e-6, atol=1e-7)


def test_other_chunks_are_passed_over() -> None:
    content = wav_bytes(b"\0\x40" * 3)
    note = b"LIST" + struct.pack("<I", 5) + b"hello\0"  # padded to an even size
    at = content.index(b"data")
    size = struct.unpack("<I", content[4:8])[0] + len(note)
    content = content[:4] + struct.pack("<I", size) + content[8:at] + note + content[at:]
    assert read_wav(content, "a.wav").samples.tolist() == [0.5] * 3


def test_the_extensible_header() -> None:
    header = struct.pack("<HHIIHHHHIH", 0xFFFE, 1, 8_000, 24_000, 3, 24, 22, 24, 4, 1) + bytes(14)
    body = b"WAVEfmt " + struct.pack("<I", len(header)) + header + b"data" + struct.pack("<I", 3) + b"\0\0\x80"
    recording = read_wav(b"RIFF" + struct.pack("<I", len(body)) + body, "a.wav")
    assert (recording.samples.tolist(), recording.rate) == ([-1.0], 8_000)


FLOATS = io.BytesIO()
scipy.io.wavfile.write(FLOATS, 16_000, np.zeros(4, np.float32))
GOOD = wav_bytes(bytes(200))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "has another beginning"),
        (b"<html>not found</html>", "has another beginning"),
        (GOOD[:30], "has no samples: get the original"),
        (GOOD.replace(b"fmt ", b"fact"), "has no header: get the original"),
        (GOOD[:16] + struct.pack("<I", 10) + GOOD[20:30] + GOOD[36:], "has no header"),
        (GOOD[:22] + bytes(2) + GOOD[24:], ", 0 channels"),
        (GOOD[:-50], "only has 150 of 200 bytes: get the original"),
        (wav_bytes(b""), "only has 0 of 0 bytes"),
        (FLOATS.getvalue(), "got format 3, 32 bits, 1 channels, 16000 Hz: convert it to 16-bit PCM"),
        (GOOD[:34] + struct.pack("<H", 64) + GOOD[36:], "got format 1, 64 bits"),
    ],
)
def test_what_cannot_be_read_is_named(content: bytes, message: str) -> None:
    with pytest.raises(ValueError, match=f"^go/one.wav must be a WAV file of 8, 16, 24 or 32-bit PCM.*{message}"):
        read_wav(content, "go/one.wav")


@pytest.mark.parametrize("rate", [0, 1, 999, 384_001, 2**32 - 1])
def test_a_rate_whose_conversion_would_fill_the_memory_is_refused(rate: int) -> None:
    with pytest.raises(ValueError, match=f"^a.wav must have from 1,000 to 384,000 Hz, got {rate:,} Hz: get the orig"):
        read_wav(GOOD[:24] + struct.pack("<I", rate) + GOOD[28:], "a.wav")
