"""Film reviews from IMDb, to be told apart by sentiment."""

from __future__ import annotations

import hashlib
import math
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from numpy.typing import NDArray
from torch import Tensor

from lightning_alrnn.batch import AnyBatch, SequenceBatch, Split
from lightning_alrnn.datamodules.base import (
    SPLITS,
    EpochDataset,
    SequenceDataset,
    check_fraction,
    check_size,
    random_parts,
)
from lightning_alrnn.datamodules.files import (
    ArchiveDataModule,
    cached,
    progress,
    read_file,
    read_members,
    warn_if_fewer,
)

FOLDER = "aclImdb"

SPECIAL = ("<pad>", "<unknown>")  # tokens 0 and 1; the words of the vocabulary follow
CLASSES = ("neg", "pos")  # folders of the classes, in the order of their numbers
_PAD, _UNKNOWN = range(len(SPECIAL))
_PARTS = ("train", "test")
_OFFICIAL = 50_000
_LONGEST_LINE = 1 << 20  # bytes of a file of vectors
_UNKNOWN_STD = 0.6  # standard deviation of the vectors of words that are not in the file
_REMOVED = re.compile(r"[^a-z0-9\s]+")
_MEMBER = re.compile(rf"{FOLDER}/({'|'.join(_PARTS)})/({'|'.join(CLASSES)})/([^/.][^/]*\.txt)")


class IMDb(ArchiveDataModule):
    """50,000 film reviews, read word by word and classified as negative or positive.

    The data are the official archive ``aclImdb_v1.tar.gz`` or the folder ``aclImdb`` that it unpacks to; see
    docs/tasks/imdb.md. With ``glove_path`` the encoder of the model must be ``TextEncoder(vocab_size=None)``.

    Args:
        data_dir: Folder with the archive or the unpacked folder.
        sequence_length: Number T of words of a review that are used.
        vocab_size: Number of different tokens, including those for padding and for unknown words.
        glove_path: Text file of word vectors such as ``glove.6B.100d.txt``; ``None`` gives tokens.
        download: Whether to fetch the archive (84 MB) if ``data_dir`` has neither the archive nor the folder.
        val_fraction: Share of the training reviews that is held out for validation at random.
        cache_dir: Folder for the tokens and vectors; ``None`` for the cache of the user.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the validation share and of the vectors of unknown words.

    Raises:
        ValueError: If an argument is out of range or ``glove_path`` is not a file of vectors. On the first use of the
            data, if the archive or a review is damaged, or a class has no reviews.
        FileNotFoundError: If there is no file ``glove_path``. On the first use of the data, if ``data_dir`` lacks them.
        ConnectionError: By :meth:`prepare_data`, if the archive cannot be fetched.

    Shapes:
        inputs ``(batch, T)`` int64, or ``(batch, T, K)`` float32 with ``glove_path``; targets ``(batch,)``, 0 for
        negative and 1 for positive; lengths ``(batch,)``; classification at the last step.

    Example:
        >>> data = IMDb(sequence_length=200)
        >>> data.input_size, data.output_size, data.class_names
        (20000, 2, ['negative', 'positive'])
    """

    archive = "aclImdb_v1.tar.gz"
    url = f"https://ai.stanford.edu/~amaas/data/sentiment/{archive}"
    md5 = "7c2ac02c03563afcf9b574c7e56c153a"
    archive_size = "84 MB"
    contents = FOLDER
    output_size = 2
    objective = "classification"
    target_step = "last"

    def __init__(
        self,
        data_dir: str | os.PathLike[str] = "data",
        sequence_length: int = 128,
        vocab_size: int = 20_000,
        glove_path: str | os.PathLike[str] | None = None,
        download: bool = False,
        val_fraction: float = 0.1,
        cache_dir: str | os.PathLike[str] | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        data_dir = os.fspath(data_dir)
        glove_path, cache_dir = (None if path is None else os.fspath(path) for path in (glove_path, cache_dir))
        super().__init__(data_dir, download, cache_dir, batch_size, num_workers, seed)
        check_size("sequence_length", sequence_length)
        check_size("vocab_size", vocab_size, len(SPECIAL) + 1)
        check_fraction("val_fraction", val_fraction)
        self.sequence_length = sequence_length
        self._size = vocab_size
        self.glove_path = None if glove_path is None else Path(glove_path)
        self.val_fraction = val_fraction
        self.class_names = ["negative", "positive"]
        self.vocab_size = vocab_size if self.glove_path is None else None
        self.input_size = vocab_size if self.glove_path is None else vector_size(self.glove_path)
        self._vectors: Tensor | None = None
        self.save_hyperparameters()

    @property
    def vocabulary(self) -> list[str]:
        """The words of the tokens, in the order of their numbers.

        Raises:
            FileNotFoundError: If ``data_dir`` lacks the data.
        """
        return [*SPECIAL, *self._load()["words"].astype(str).tolist()]

    def prepare_data(self) -> None:
        """Fetch the archive if necessary and allowed, and fill the cache."""
        super().prepare_data()
        self._load_vectors()

    def dataset(self, split: Split) -> SequenceDataset | EpochDataset:
        """Return the reviews of a split, which are read on first use.

        Raises:
            FileNotFoundError: If ``data_dir`` lacks the data.
            ValueError: If the archive or a review is damaged, or a class has no reviews.
        """
        if split not in self._datasets:
            part = "test" if split == "test" else "train"
            tokens, targets = (self._load()[f"{part}_{name}"] for name in ("tokens", "targets"))
            if split != "test":
                size = round(len(tokens) * self.val_fraction)
                val, train = random_parts(size, len(tokens), seed=self.seed, split="val")
                index = val if split == "val" else train
                tokens, targets = tokens[index], targets[index]
            lengths = (tokens != _PAD).sum(axis=1)
            reviews = SequenceBatch(*map(torch.from_numpy, (tokens, targets, lengths)))
            self._datasets[split] = ReviewDataset(self._checked(split, reviews), self._load_vectors())
        return self._datasets[split]

    def _find_folder(self) -> Path | None:
        folder = self.data_dir / FOLDER
        return folder if folder.is_dir() else None

    def _read(self, source: Path) -> dict[str, NDArray[Any]]:
        # the times of the class folders change with their files
        sources = [source] if source.is_file() else self._class_folders(source)
        settings = {"sequence_length": self.sequence_length, "vocab_size": self._size}
        arrays = cached(self.cache_dir, "imdb", settings, sources, partial(encode_reviews, source, **settings))
        warn_if_fewer(source, sum(len(arrays[f"{part}_targets"]) for part in _PARTS), _OFFICIAL, "reviews")
        return arrays

    def _class_folders(self, source: Path) -> list[Path]:
        folders = [source / part / name for part in _PARTS for name in CLASSES]
        for folder in folders:
            if not folder.is_dir():
                raise FileNotFoundError(
                    f"there is no folder {folder.absolute()}, which is part of the official archive: remove {source} "
                    f"and unpack {self.archive} again, or put the archive next to it instead"
                )
        return folders

    def _load_vectors(self) -> Tensor | None:
        """The vector of each token, shape ``(vocab_size, K)``, or ``None`` without ``glove_path``."""
        if self.glove_path is not None and self._vectors is None:
            words = self._load()["words"]
            settings = {"words": hashlib.sha256(b" ".join(words.tolist())).hexdigest()}
            build = partial(read_vectors, self.glove_path, words.astype(str).tolist())
            stored = cached(self.cache_dir, "imdb-vectors", settings, [self.glove_path], build)
            # not the streams of the split and of the order of training
            rng = np.random.default_rng((self.seed, len(SPLITS) + 1))
            vectors = rng.normal(0, _UNKNOWN_STD, (self._size, self.input_size)).astype(np.float32)
            vectors[_PAD] = 0
            of_words = vectors[len(SPECIAL) : len(SPECIAL) + len(words)]
            of_words[stored["found"]] = stored["vectors"][stored["found"]]
            rank_zero_info(f"{stored['found'].sum():,} of {len(words):,} words have a vector in {self.glove_path}")
            self._vectors = torch.from_numpy(vectors)
        return self._vectors


class ReviewDataset(SequenceDataset):
    """Reviews stored as small integers; batches have int64 tokens or their rows of ``vectors``."""

    def __init__(self, data: AnyBatch, vectors: Tensor | None = None) -> None:
        super().__init__(data)
        self.vectors = vectors

    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        batch = super().__getitems__(indices)
        tokens = batch.inputs.long()
        return batch._replace(inputs=tokens if self.vectors is None else self.vectors[tokens])


def split_words(text: str) -> list[str]:
    """The words of a text: lower case, a–z and 0–9."""
    return _REMOVED.sub("", text.lower()).split()


def encode_reviews(source: Path, sequence_length: int, vocab_size: int) -> dict[str, NDArray[Any]]:
    """Read all reviews, in order of class and file name: vocabulary from token 2 on, and tokens and targets by part."""
    advice = "remove it and fetch it again" if source.is_file() else "remove it and unpack the archive again"
    counts: Counter[str] = Counter()
    # numbers in order of appearance, until the vocabulary is complete
    numbers: defaultdict[str, int] = defaultdict()
    numbers.default_factory = numbers.__len__
    parts: dict[str, list[tuple[int, str, NDArray[np.int32]]]] = {part: [] for part in _PARTS}
    for part, folder, name, content in _read_archive(source) if source.is_file() else _read_folder(source):
        try:
            words = split_words(content.decode("utf-8"))
        except UnicodeDecodeError as error:
            raise ValueError(f"{part}/{folder}/{name} in {source} is not UTF-8 text ({error}): {advice}") from None
        if part == "train":
            counts.update(words)
        first = np.fromiter(map(numbers.__getitem__, words[:sequence_length]), np.int32)
        parts[part].append((CLASSES.index(folder), name, first))

    for part in _PARTS:
        labels = {label for label, *_ in parts[part]}
        for label, name in enumerate(CLASSES):
            if label not in labels:
                raise ValueError(f"{source} has no reviews {part}/{name}/<number>_<stars>.txt: {advice}")
    # words of equal frequency in alphabetical order, whatever the order of the files
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))[: vocab_size - len(SPECIAL)]
    tokens = np.full(len(numbers), _UNKNOWN, np.min_scalar_type(-vocab_size))
    for token, word in enumerate(vocabulary, start=len(SPECIAL)):
        if word in numbers:  # else it only occurs after the first words of each review
            tokens[numbers[word]] = token
    arrays: dict[str, NDArray[Any]] = {"words": np.array(vocabulary, dtype=np.bytes_)}
    for part, reviews in parts.items():
        reviews.sort(key=lambda review: review[:2])
        rows = np.full((len(reviews), sequence_length), _PAD, tokens.dtype)
        rows[:, 0] = _UNKNOWN  # a review without words is one unknown word
        for row, (_, _, first) in zip(rows, reviews, strict=True):
            row[: len(first)] = tokens[first]
        arrays[f"{part}_tokens"] = rows
        arrays[f"{part}_targets"] = np.array([label for label, *_ in reviews], np.int64)
    return arrays


def _read_archive(archive: Path) -> Iterator[tuple[str, str, str, bytes]]:
    for name, content in read_members(archive, lambda name: _MEMBER.fullmatch(name) is not None):
        _, part, folder, file = name.split("/")
        yield part, folder, file, content


def _read_folder(source: Path) -> Iterator[tuple[str, str, str, bytes]]:
    folders = [source / part / name for part in _PARTS for name in CLASSES]
    paths = [path for folder in folders for path in folder.glob("*.txt") if path.name[0] != "."]
    for path in progress(paths, f"reading {source.name}", unit="review"):
        yield path.parent.parent.name, path.parent.name, path.name, read_file(path)


def vector_size(path: Path) -> int:
    """The number of dimensions of the vectors, from the first line of a file."""
    if not path.is_file():
        advice = "such as glove.6B.100d.txt from https://nlp.stanford.edu/projects/glove"
        raise FileNotFoundError(f"there is no file of word vectors {path.absolute()}: put one there, {advice}")
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
