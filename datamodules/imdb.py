"""Film reviews from IMDb, to be told apart by sentiment."""

from __future__ import annotations

import hashlib
import os
import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only, rank_zero_warn
from numpy.typing import NDArray
from torch import Tensor
from tqdm import tqdm

from lightning_alrnn.batch import AnyBatch, SequenceBatch, Split
from lightning_alrnn.datamodules.base import (
    SPLITS,
    EpochDataset,
    SequenceDataModule,
    SequenceDataset,
    check_size,
)
from lightning_alrnn.datamodules.files import cached, default_cache_dir, fetch, read_members
from lightning_alrnn.datamodules.glove import read_vectors, vector_size

ARCHIVE = "aclImdb_v1.tar.gz"
FOLDER = "aclImdb"
URL = f"https://ai.stanford.edu/~amaas/data/sentiment/{ARCHIVE}"
MD5 = "7c2ac02c03563afcf9b574c7e56c153a"

SPECIAL = ("<pad>", "<unknown>")
"""Tokens 0 and 1. The words of the vocabulary follow."""

CLASSES = ("neg", "pos")
"""Folders of the classes, in the order of their numbers."""

_PAD, _UNKNOWN = range(len(SPECIAL))
_PARTS = ("train", "test")
_OFFICIAL = 12_500  # reviews of each class in either part
_UNKNOWN_STD = 0.6  # of the vectors of words that are not in the file
_REMOVED = re.compile(r"[^a-z0-9\s]+")
_MEMBER = re.compile(rf"{FOLDER}/({'|'.join(_PARTS)})/({'|'.join(CLASSES)})/([^/.][^/]*\.txt)")


class IMDb(SequenceDataModule):
    """50,000 film reviews, read word by word and classified as negative or positive.

    The data are the official archive ``aclImdb_v1.tar.gz`` or the folder ``aclImdb`` that it unpacks to. See
    docs/tasks/imdb.md for the vocabulary and the literature. With ``glove_path`` the inputs are word vectors, and the
    encoder of the model must be ``TextEncoder(vocab_size=None)``.

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
        inputs ``(batch, T)`` int64, or ``(batch, T, K)`` float32 with ``glove_path``, where K is the size of the
        vectors; targets ``(batch,)``, 0 for negative and 1 for positive; lengths ``(batch,)``; classification at the
        last step.

    Example:
        >>> data = IMDb(sequence_length=200)
        >>> data.input_size, data.output_size, data.class_names
        (20000, 2, ['negative', 'positive'])
        >>> data.prepare_data()  # doctest: +SKIP
    """

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
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=seed)
        check_size("sequence_length", sequence_length)
        check_size("vocab_size", vocab_size, len(SPECIAL) + 1)
        if not 0 < val_fraction < 1:
            raise ValueError(f"val_fraction must lie between 0 and 1, got {val_fraction}")
        data_dir = os.fspath(data_dir)
        glove_path, cache_dir = (None if path is None else os.fspath(path) for path in (glove_path, cache_dir))
        self.data_dir = Path(data_dir)
        self.sequence_length = sequence_length
        self._size = vocab_size
        self.glove_path = None if glove_path is None else Path(glove_path)
        self.download = download
        self.val_fraction = val_fraction
        self.cache_dir = default_cache_dir() if cache_dir is None else Path(cache_dir)
        self.class_names = ["negative", "positive"]
        self.vocab_size = vocab_size if self.glove_path is None else None
        self.input_size = vocab_size if self.glove_path is None else vector_size(self.glove_path)
        self._loaded: dict[str, NDArray[Any]] | None = None
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
        if self.download and _find(self.data_dir) is None:
            fetch(URL, self.data_dir / ARCHIVE, md5=MD5)
        self._load()
        self._load_vectors()

    def build(self, split: Split) -> AnyBatch:
        """Build a batch of all reviews of a split; with ``glove_path`` a review takes about 50 kB."""
        dataset = self.dataset(split)
        return dataset.__getitems__(range(len(dataset)))

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
                order = np.random.default_rng((self.seed, SPLITS.index("val"))).permutation(len(tokens))
                size = round(len(tokens) * self.val_fraction)
                index = np.sort(order[:size] if split == "val" else order[size:])
                tokens, targets = tokens[index], targets[index]
            lengths = (tokens != _PAD).sum(axis=1)
            reviews = SequenceBatch(*map(torch.from_numpy, (tokens, targets, lengths)))
            self._datasets[split] = ReviewDataset(self._checked(split, reviews), self._load_vectors())
        return self._datasets[split]

    def _load(self) -> dict[str, NDArray[Any]]:
        """What :func:`encode_reviews` gives, made on first use or taken from the cache."""
        if self._loaded is None:
            source = _find(self.data_dir)
            if source is None:
                raise FileNotFoundError(
                    f"there are no IMDb reviews in {self.data_dir.absolute()}: expected {ARCHIVE} there, or the folder "
                    f"{FOLDER} that the archive unpacks to. Set data_dir to the folder with one of them, or "
                    f"download=True to fetch the archive (84 MB) from {URL}"
                )
            # of a folder, those of the classes, whose times tell of files that come and go
            sources = [source] if source.is_file() else _class_folders(source)
            settings = {"sequence_length": self.sequence_length, "vocab_size": self._size}
            self._loaded = cached(
                self.cache_dir, "imdb", settings, sources, partial(encode_reviews, source, **settings)
            )
            reviews = sum(len(self._loaded[f"{part}_targets"]) for part in _PARTS)
            official = _OFFICIAL * len(CLASSES) * len(_PARTS)
            if reviews < official:
                rank_zero_warn(
                    f"{source} has {reviews:,} of the official {official:,} reviews: the results are not comparable "
                    "with those of the whole data set"
                )
        return self._loaded

    def _load_vectors(self) -> Tensor | None:
        """The vector of each token, ``(vocab_size, K)``; ``None`` without ``glove_path``."""
        if self.glove_path is not None and self._vectors is None:
            words = self._load()["words"]
            stored = cached(
                self.cache_dir,
                "imdb-vectors",
                {"words": hashlib.sha256(b" ".join(words.tolist())).hexdigest()},
                [self.glove_path],
                partial(_read_known, self.glove_path, words.astype(str).tolist()),
            )
            # a stream of its own, beside those of the split and of the order of training
            rng = np.random.default_rng((self.seed, len(SPLITS) + 1))
            vectors = rng.normal(0, _UNKNOWN_STD, (self._size, self.input_size)).astype(np.float32)
            vectors[_PAD] = 0
            of_words = vectors[len(SPECIAL) : len(SPECIAL) + len(words)]
            of_words[stored["found"]] = stored["vectors"][stored["found"]]
            rank_zero_info(f"{stored['found'].sum():,} of {len(words):,} words have a vector in {self.glove_path}")
            self._vectors = torch.from_numpy(vectors)
        return self._vectors


class ReviewDataset(SequenceDataset):
    """Reviews held as small integers, given as int64 tokens or as these tokens' rows of ``vectors``."""

    def __init__(self, data: AnyBatch, vectors: Tensor | None = None) -> None:
        super().__init__(data)
        self.vectors = vectors

    def __getitems__(self, indices: Sequence[int]) -> AnyBatch:
        batch = super().__getitems__(indices)
        tokens = batch.inputs.long()
        return batch._replace(inputs=tokens if self.vectors is None else self.vectors[tokens])


class _Review(NamedTuple):
    """Where a review is: its part, its class and its file; and what it says."""

    part: str
    folder: str
    name: str
    content: bytes


def split_words(text: str) -> list[str]:
    """The words of a text in their order: lower case, a–z and 0–9.

    Example:
        >>> split_words("It's <b>NOT</b> bad, 8/10.")
        ['its', 'bnotb', 'bad', '810']
    """
    return _REMOVED.sub("", text.lower()).split()


def encode_reviews(source: Path, sequence_length: int, vocab_size: int) -> dict[str, NDArray[Any]]:
    """Read all reviews and number their words, as ``{"words", "<part>_tokens", "<part>_targets"}``.

    ``words`` is the vocabulary from token 2 on, the most frequent first, as bytes. Tokens have shape ``(reviews, T)``
    and as small an integer type as holds them, targets ``(reviews,)``. Reviews are in the order of class and file name,
    so that archive and folder give the same.
    """
    advice = "remove it and fetch it again" if source.is_file() else "remove it and unpack the archive again"
    counts: Counter[str] = Counter()
    # numbers in order of appearance, until the vocabulary is known
    seen: defaultdict[str, int] = defaultdict()
    seen.default_factory = seen.__len__
    parts: dict[str, list[tuple[int, str, NDArray[np.int32]]]] = {part: [] for part in _PARTS}
    for review in _read_archive(source) if source.is_file() else _read_folder(source):
        try:
            words = split_words(review.content.decode("utf-8"))
        except UnicodeDecodeError as error:
            where = f"{review.part}/{review.folder}/{review.name}"
            raise ValueError(f"{where} in {source} is not UTF-8 text ({error}): it is damaged; {advice}") from None
        if review.part == "train":
            counts.update(words)
        first = np.fromiter(map(seen.__getitem__, words[:sequence_length]), np.int32)
        parts[review.part].append((CLASSES.index(review.folder), review.name, first))

    for part in _PARTS:
        held = {label for label, *_ in parts[part]}
        for label, name in enumerate(CLASSES):
            if label not in held:
                raise ValueError(f"{source} has no reviews {part}/{name}/<number>_<stars>.txt: {advice}")
    # words of equal frequency in alphabetical order, whatever the order of the files
    vocabulary = sorted(counts, key=lambda word: (-counts[word], word))[: vocab_size - len(SPECIAL)]
    tokens = np.full(len(seen), _UNKNOWN, np.min_scalar_type(-vocab_size))
    for number, word in enumerate(vocabulary, start=len(SPECIAL)):
        if word in seen:  # and not behind the first words of each review
            tokens[seen[word]] = number
    arrays: dict[str, NDArray[Any]] = {"words": np.array(vocabulary, dtype=np.bytes_)}
    for part, reviews in parts.items():
        reviews.sort(key=lambda review: review[:2])
        rows = np.full((len(reviews), sequence_length), _PAD, tokens.dtype)
        rows[:, 0] = _UNKNOWN  # all that there is of a review without a word
        for row, (_, _, first) in zip(rows, reviews, strict=True):
            row[: len(first)] = tokens[first]
        arrays[f"{part}_tokens"] = rows
        arrays[f"{part}_targets"] = np.array([label for label, *_ in reviews], np.int64)
    return arrays


def _find(data_dir: Path) -> Path | None:
    """The folder of the data, or the archive, or nothing."""
    folder, archive = data_dir / FOLDER, data_dir / ARCHIVE
    if folder.is_dir():
        return folder
    return archive if archive.is_file() else None


def _class_folders(source: Path) -> list[Path]:
    folders = [source / part / name for part in _PARTS for name in CLASSES]
    for folder in folders:
        if not folder.is_dir():
            raise FileNotFoundError(
                f"there is no folder {folder.absolute()}, which is part of the official archive: remove {source} and "
                f"unpack {ARCHIVE} again, or put the archive next to it instead"
            )
    return folders


def _read_archive(archive: Path) -> Iterator[_Review]:
    for name, content in read_members(archive, lambda name: _MEMBER.fullmatch(name) is not None):
        _, part, folder, file = name.split("/")
        yield _Review(part, folder, file, content)


def _read_folder(source: Path) -> Iterator[_Review]:
    paths = [path for folder in _class_folders(source) for path in folder.glob("*.txt") if path.name[0] != "."]
    disable = True if getattr(rank_zero_only, "rank", 0) else None
    for path in tqdm(paths, desc=f"reading {source.name}", unit="review", leave=False, disable=disable):
        yield _Review(path.parent.parent.name, path.parent.name, path.name, path.read_bytes())


def _read_known(path: Path, words: Sequence[str]) -> dict[str, NDArray[Any]]:
    vectors, has_vector = read_vectors(path, words)
    return {"vectors": vectors, "found": has_vector}
