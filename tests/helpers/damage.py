"""Damaged files: bits that flipped, parts that are gone or doubled, and numbers that nobody wrote."""

from __future__ import annotations

import re

import numpy as np

_NUMBERS = (b"-1", b"0", b"1e999", b"99999999999", b"9" * 19, b"9" * 40, b"NaN")


def damaged(content: bytes, rng: np.random.Generator) -> bytes:
    """The content after one to three kinds of damage."""
    for _ in range(rng.integers(1, 4)):
        content = _damage(bytearray(content), rng)
    return content


def _damage(content: bytearray, rng: np.random.Generator) -> bytes:
    begin = int(rng.integers(len(content) + 1))
    end = min(begin + int(rng.choice([1, 2, 4, 16, 200])), len(content))
    match int(rng.integers(8)):
        case 0:
            for bit in rng.integers(8 * len(content), size=int(rng.integers(1, 9))) if content else ():
                content[bit // 8] ^= 1 << int(bit % 8)
        case 1:
            del content[begin:]
        case 2:
            del content[begin:end]
        case 3:
            content[begin:begin] = content[begin:end]
        case 4:
            content[begin:end] = rng.bytes(end - begin)
        case 5:
            content[begin:end] = bytes([int(rng.choice([0, 255]))]) * (end - begin)
        case _:
            found = [*re.finditer(rb"-?\d+(\.\d+)?", content)]
            if found:
                one = found[int(rng.integers(len(found)))]
                content[one.start() : one.end()] = _NUMBERS[int(rng.integers(len(_NUMBERS)))]
    return bytes(content)
