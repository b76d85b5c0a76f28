"""IMDb against a naive reading of small archives in the official layout; damaged files; word vectors."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from official_files import write_files, write_tar

import lightning_alrnn.datamodules.imdb as module
from lightning_alrnn.datamodules import IMDb, files
from lightning_alrnn.datamodules.imdb import FOLDER, encode_reviews, read_vectors, split_words

pytestmark = pytest.mark.filterwarnings("ignore:.*of the official 50,000 reviews:UserWarning")

ARCHIVE = IMDb.archive
PLACES = [(part, name) for part in ("train", "test") for name in ("neg", "pos")]

Reviews = dict[tuple[str, str], list[bytes]]


def draw_reviews(size: int = 10, seed: int = 0) -> Reviews:
    """Words of letters a to t, the frequent ones first; the class shows in two words, and one review is empty."""
    rng = np.random.default_rng(seed)
    reviews: Reviews = {}
    for place in PLACES:
        texts = []
        for index in range(size):
            words = [chr(97 + min(int(letter), 19)) * 2 for letter in rng.exponential(4, rng.integers(1, 12))]
            texts.append(" ".join([*words, "Bad," if place[1] == "neg" else "GOOD!"]))
            if index == 3:
                texts[-1] = " ... <>\n"
        reviews[place] = [text.encode() for text in texts]
    return reviews


def members(reviews: Reviews) -> dict[str, bytes]:
    """All that an archive holds, by name; in an order that is none."""
    files = {
        f"{FOLDER}/{part}/{name}/{index}_{9 if name == 'pos' else 2}.txt": content
        for (part, name), texts in reviews.items()
        for index, content in reversed(list(enumerate(texts)))
    }
    extra = {"README": b"about", "train/unsup/0_0.txt": b"nobody knows", "train/pos/._0_9.txt": b"\xff\x00 a Mac's"}
    return files | {f"{FOLDER}/{name}": content for name, content in extra.items()}


def write_archive(reviews: Reviews, folder: Path = Path("data")) -> Path:
    return write_tar(folder / ARCHIVE, members(reviews).items())


def write_folder(reviews: Reviews, folder: Path = Path("data")) -> Path:
    write_files(folder, members(reviews))
    return folder / FOLDER


def imdb(**options: Any) -> IMDb:
    return IMDb(**{"cache_dir": "cache", "sequence_length": 8, "vocab_size": 12, **options})


def naive_words(text: str) -> list[str]:
    cleaned = "".join(c if c in "abcdefghijklmnopqrstuvwxyz0123456789" or c.isspace() else "" for c in text.lower())
    return cleaned.split()


def naive_tokens(reviews: Reviews, length: int, size: int) -> tuple[list[str], dict[str, list[list[int]]]]:
    """The vocabulary and the tokens of each part, padded, in the order of class and file name."""
    counts = Counter(
        word
        for (part, _), texts in reviews.items()
        for t in texts
        if part == "train"
        for word in naive_words(t.decode())
    )
    vocabulary = sorted(sorted(counts), key=lambda word: -counts[word])[: size - 2]
    tokens: dict[str, list[list[int]]] = {"train": [], "test": []}
    for (part, _), texts in reviews.items():
        for index in sorted(range(len(texts)), key=lambda index: f"{index}_"):
            words = naive_words(texts[index].decode())[:length]
            row = [vocabulary.index(word) + 2 if word in vocabulary else 1 for word in words] or [1]
            tokens[part].append(row + [0] * (length - len(row)))
    return vocabulary, tokens


@given(st.text(max_size=60))
def test_words_are_what_white_space_separates(text: str) -> None:
    assert split_words(text) == naive_words(text)


def test_archive_and_folder_give_the_same() -> None:
    reviews = draw_reviews(12)  # 10_9 comes before 2_9 by name
    packed = encode_reviews(write_archive(reviews), 8, 12)
    unpacked = encode_reviews(write_folder(reviews), 8, 12)
    vocabulary, tokens = naive_tokens(reviews, 8, 12)
    assert packed.keys() == unpacked.keys()
    for key, values in packed.items():
        assert np.array_equal(values, unpacked[key]), key
        assert values.dtype == unpacked[key].dtype
    assert packed["test_tokens"].tolist() == tokens["test"]
    data = imdb()
    with pytest.warns(UserWarning, match=r"aclImdb has 48 of the official 50,000 reviews"):
        data.prepare_data()
    assert data.vocabulary == ["<pad>", "<unknown>", *vocabulary]


def test_words_of_equal_frequency_are_in_alphabetical_order() -> None:
    arrays = encode_reviews(write_archive({place: [b"b a d c"] for place in PLACES}), 3, 5)
    assert arrays["words"].astype(str).tolist() == ["a", "b", "c"]
    assert arrays["train_tokens"].tolist() == [[3, 2, 1]] * 2


@pytest.mark.parametrize(("size", "dtype"), [(100, np.int8), (20_000, np.int16), (40_000, np.int32)])
def test_tokens_are_held_compactly_and_given_as_int64(size: int, dtype: type) -> None:
    write_archive(draw_reviews())
    data = imdb(vocab_size=size)
    dataset = data.dataset("test")
    assert dataset.data.inputs.numpy().dtype == dtype  # type: ignore[union-attr]
    batch = next(iter(data.test_dataloader()))
    assert batch.inputs.dtype == batch.targets.dtype == batch.lengths.dtype == torch.int64
    assert data.input_size == data.vocab_size == size


def test_batches() -> None:
    reviews = draw_reviews()
    write_archive(reviews)
    data = imdb(batch_size=7)
    _, tokens = naive_tokens(reviews, 8, 12)
    test = data.build("test")
    assert test.lengths.tolist() == [sum(token > 0 for token in row) for row in tokens["test"]]
    assert tokens["test"][3] == test.inputs[3].tolist() == [1, 0, 0, 0, 0, 0, 0, 0]  # a review without words
    loaded = list(data.test_dataloader())
    assert [len(batch.inputs) for batch in loaded] == [7, 7, 6]
    assert torch.equal(torch.cat([batch.inputs for batch in loaded]), test.inputs)
    assert (data.output_size, data.objective, data.target_step) == (2, "classification", "last")
    assert data.class_names == ["negative", "positive"]


def test_validation_has_a_seeded_share_of_the_training_reviews() -> None:
    reviews = draw_reviews(20)
    write_archive(reviews)
    data = imdb(val_fraction=0.25)
    rows = [tuple(row) for row in naive_tokens(reviews, 8, 12)[1]["train"]]
    parts = {split: [tuple(row) for row in data.build(split).inputs.tolist()] for split in ("train", "val")}
    assert (len(parts["train"]), len(parts["val"])) == (30, 10)
    assert Counter(parts["train"]) + Counter(parts["val"]) == Counter(rows)
    assert torch.equal(imdb(val_fraction=0.25).build("val").inputs, data.build("val").inputs)
    assert not torch.equal(imdb(val_fraction=0.25, seed=1).build("val").inputs, data.build("val").inputs)
    assert torch.equal(imdb(val_fraction=0.25, seed=1).build("test").inputs, data.build("test").inputs)


def spy_on(monkeypatch: pytest.MonkeyPatch, function: Callable[..., Any]) -> list[tuple[Any, ...]]:
    """The arguments of each call of a function of the module."""
    calls: list[tuple[Any, ...]] = []

    def spy(*arguments: Any, **options: Any) -> Any:
        calls.append((*arguments, options))
        return function(*arguments, **options)

    monkeypatch.setattr(module, function.__name__, spy)
    return calls


def test_a_second_start_reads_the_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy_on(monkeypatch, encode_reviews)
    path = write_archive(draw_reviews())
    first = imdb()
    first.prepare_data()
    assert calls == [(path, {"sequence_length": 8, "vocab_size": 12})]
    second = imdb()
    second.setup("fit")
    assert torch.equal(second.build("train").inputs, first.build("train").inputs)
    assert second.vocabulary == first.vocabulary
    assert len(calls) == 1
    imdb(sequence_length=9).setup("test")
    imdb(vocab_size=13).setup("test")
    assert len(calls) == 3
    imdb(seed=5, val_fraction=0.5).setup("fit")
    assert len(calls) == 3  # neither the seed nor the split matters
    write_archive(draw_reviews(11))
    assert len(imdb().build("test").inputs) == 22
    assert len(calls) == 4
    folder = write_folder(draw_reviews(13))
    assert len(imdb().build("test").inputs) == 26  # where both are, the folder counts
    (folder / "test" / "neg" / "99_1.txt").write_text("one more")
    assert len(imdb().build("test").inputs) == 27
    assert [path.suffix for path in Path("cache").iterdir()] == [".npz"] * 6


def nothing_left() -> bool:
    """No cache, and in the data's folder nothing but the data."""
    files_in_data = {path.name for path in Path("data").iterdir()} if Path("data").exists() else set()
    return not list(Path("cache").glob("*")) and files_in_data <= {ARCHIVE, FOLDER}


def test_where_files_are_expected() -> None:
    with pytest.raises(FileNotFoundError, match=r"no file of word vectors /.*/none.txt: put one there, such as glove"):
        imdb(glove_path="none.txt")
    for data in (imdb(), imdb(data_dir="elsewhere")):
        with pytest.raises(FileNotFoundError, match=r"/.* has neither aclImdb_v1.tar.gz nor the folder .*\(aclImdb\)"):
            data.prepare_data()
    folder = write_folder(draw_reviews())
    with pytest.raises(FileNotFoundError, match=r"set data_dir to the folder with one of them, or download=True"):
        imdb(data_dir=folder).setup("fit")  # one folder too deep
    (folder / "test" / "pos").rename(folder / "test" / "positive")
    with pytest.raises(FileNotFoundError, match=r"no folder /.*/data/aclImdb/test/pos, .* unpack aclImdb_v1"):
        imdb().setup("test")
    assert nothing_left()


@pytest.mark.parametrize("write", [write_archive, write_folder])
@pytest.mark.parametrize(
    ("place", "texts", "message"),
    [
        *((place, [], rf"data/aclImdb.* has no reviews {place[0]}/{place[1]}/.*: remove it and") for place in PLACES),
        (PLACES[3], [b"fine", b"caf\xe9"], r"test/pos/1_9.txt in data/aclImdb.* is not UTF-8 text .*0xe9.*: remove it"),
    ],
)
def test_reviews_that_cannot_be_used(
    write: Callable[[Reviews], Path], place: tuple[str, str], texts: list[bytes], message: str
) -> None:
    source = write({**draw_reviews(), place: texts})
    if write is write_folder:
        (source / place[0] / place[1]).mkdir(exist_ok=True)
    with pytest.raises(ValueError, match=message):
        imdb().prepare_data()
    assert nothing_left()


def test_download(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[Any] = []

    def fake(url: str, path: Path, *, md5: str) -> None:
        calls.append((url, path, md5))
        write_archive(draw_reviews())

    monkeypatch.setattr(files, "fetch", fake)
    for _ in range(2):
        imdb(download=True).prepare_data()
    assert calls == [(IMDb.url, Path("data") / ARCHIVE, IMDb.md5)]
    (Path("data") / ARCHIVE).unlink()
    write_folder(draw_reviews())
    imdb(download=True).prepare_data()
    assert len(calls) == 1


def write_vectors(words: dict[str, list[float]], path: Path = Path("vectors.txt")) -> Path:
    path.write_text("".join(f"{word} {' '.join(map(repr, values))}\n" for word, values in words.items()))
    return path


def test_words_with_spaces_and_words_that_repeat() -> None:
    path = write_vectors({"the": [1.0, 2.0], "at the end": [7.0, 7.0], ". .": [8.0, 8.0], "at": [3.0, 4.0]})
    with path.open("a") as file:
        file.write("the 5.0 6.0 ")  # with a space behind, and without an end of line
    assert read_vectors(path, ["at", "the"])["vectors"].tolist() == [[3, 4], [1, 2]]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a 1 2\nthe 1\n", r"vectors.txt, line 2: expected a word and 2 numbers, as in line 1, got b'the 1' with 2"),
        ("a 1 2\nthe 1 2 3\n", "vectors.txt, line 2: .* with 4 fields"),
        ("a 1 2\nthe 1 x\n", "vectors.txt, line 2: .*got b'the 1 x'"),
        ("a 1 2\nb 0 0\nthe 1 nan\n", "vectors.txt, line 3"),
        ("a 1 2\nother 1", "vectors.txt, line 2: .*may be truncated"),  # also of a word that is not asked for
        ("a 1 2\n\nthe 1 2\n", "vectors.txt, line 2: .* with 0 fields"),
        ("400000 100\nthe 1 2\n", "vectors.txt, line 1: .*without a header line"),
        ("", "vectors.txt, line 1: expected"),
        ("some 1 2\n", "has none of the 1 words"),
    ],
)
def test_a_file_that_holds_something_else(text: str, message: str) -> None:
    path = Path("vectors.txt")
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_vectors(path, ["the"])


def test_vectors_of_a_batch() -> None:
    write_archive(draw_reviews())
    word_vectors = {"good": [1.0, 0.0, 0.0], "aa": [0.0, 2.0, 0.0], "zz": [9.0, 9.0, 9.0]}
    options = {"glove_path": write_vectors(word_vectors), "vocab_size": 200}
    data, tokens = imdb(**options), imdb(vocab_size=200)
    assert (data.input_size, data.vocab_size) == (3, None)
    batch, plain = data.build("test"), tokens.build("test")
    assert batch.inputs.dtype == torch.float32
    assert batch.inputs.shape == (20, 8, 3)
    assert torch.equal(batch.lengths, plain.lengths)
    drawn: dict[str, Any] = {}
    for vector, token in zip(batch.inputs.flatten(0, 1).tolist(), plain.inputs.flatten().tolist(), strict=True):
        word = tokens.vocabulary[token]
        if word in word_vectors:
            assert vector == word_vectors[word]
        elif word == "<pad>":
            assert vector == [0.0] * 3
        else:
            assert drawn.setdefault(word, vector) == vector
    assert "<unknown>" in drawn
    assert torch.equal(imdb(**options).build("test").inputs, batch.inputs)
    assert not torch.equal(imdb(**options, seed=1).build("test").inputs, batch.inputs)
    assert data.dataset("train").vectors is data.dataset("val").vectors  # type: ignore[union-attr]


def test_vectors_of_unknown_words_have_the_spread_of_the_reference() -> None:
    write_archive(draw_reviews())
    write_vectors({"good": [0.0] * 300})
    vectors = imdb(vocab_size=200, glove_path="vectors.txt").dataset("test").vectors  # type: ignore[union-attr]
    assert vectors.shape == (200, 300)
    assert float(vectors[1:].std()) == pytest.approx(0.6, rel=0.02)
    assert abs(float(vectors[1:].mean())) < 0.02


def test_vectors_are_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = spy_on(monkeypatch, read_vectors)
    write_archive(draw_reviews())
    options = {"glove_path": write_vectors({"good": [1.0, 2.0]})}
    for _ in range(2):
        imdb(**options).prepare_data()
    assert len(calls) == 1
    imdb(**options, seed=3).setup("fit")
    assert len(calls) == 1
    write_vectors({"good": [1.0, 2.0], "bad": [3.0, 4.0]})
    imdb(**options).prepare_data()
    assert len(calls) == 2
