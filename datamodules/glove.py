"""Pretrained word vectors from a text file, as GloVe gives them."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lightning_alrnn.datamodules.files import progress

_LONGEST_LINE = 1 << 20  # bytes


def vector_size(path: Path) -> int:
    """The number of dimensions of the vectors, from the first line of a file."""
    if not path.is_file():
        raise FileNotFoundError(
            f"there is no file of word vectors {path.absolute()}: put one there, such as glove.6B.100d.txt (from "
            "glove.6B.zip, https://nlp.stanford.edu/projects/glove)"
        )
    with path.open("rb") as file:
        fields = file.readline(_LONGEST_LINE).split()
    size = len(fields) - 1
    # a first line "400000 100" gives numbers of words and dimensions, which other tools write
    if size < 2 or not all(map(_is_number, fields[1:])):
        raise ValueError(
            f'{path}, line 1: expected "<word> <number> <number> …", got {b" ".join(fields)[:60]!r}: give a text file '
            "such as glove.6B.100d.txt, unpacked and without a header line"
        )
    return size


def read_vectors(path: Path, words: Sequence[str]) -> dict[str, NDArray[Any]]:
    """``vectors`` of words, shape ``(words, size)``, zero for words that are not in the file, and ``found``, a mask."""
    size = vector_size(path)
    rows = {word.encode(): row for row, word in enumerate(words)}
    vectors = np.zeros((len(rows), size), np.float32)
    has_vector = np.zeros(len(rows), np.bool_)
    with path.open("rb") as file:
        for number, line in enumerate(progress(file, f"reading {path.name}", unit="line"), start=1):
            if line.count(b" ") < size:
                raise _malformed(path, number, size, line)
            row = rows.get(line.partition(b" ")[0])
            if row is None or has_vector[row]:  # the first of equal words counts
                continue
            fields = line.split()
            if len(fields) > size + 1 and not _is_number(fields[1]):
                continue  # a word with spaces, and only its beginning is in the vocabulary
            if len(fields) != size + 1 or not all(map(_is_number, fields[1:])):
                raise _malformed(path, number, size, line)
            vectors[row] = [float(field) for field in fields[1:]]
            has_vector[row] = True
    if not has_vector.any():
        raise ValueError(f"{path} has none of the {len(rows):,} words of the vocabulary, which are in lower case")
    return {"vectors": vectors, "found": has_vector}


def _is_number(field: bytes) -> bool:
    try:
        return math.isfinite(float(field))
    except ValueError:
        return False


def _malformed(path: Path, number: int, size: int, line: bytes) -> ValueError:
    return ValueError(
        f"{path}, line {number}: expected a word and {size} numbers, as in line 1, got {line.rstrip()[:60]!r} with "
        f"{len(line.split())} fields: the file may be truncated; fetch it again"
    )
