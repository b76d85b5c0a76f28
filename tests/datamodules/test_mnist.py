"""MNIST as sequences, from small files in the official format."""

from __future__ import annotations

import gzip
import hashlib
import struct
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from official_files import idx_bytes

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.datamodules import SequentialMNIST, files, mnist
from lightning_alrnn.datamodules.base import SPLITS
from lightning_alrnn.datamodules.mnist import FILES, MIRRORS

pytestmark = pytest.mark.filterwarnings("ignore:.*of the official:UserWarning")

TRAIN, TEST = 50, 20


def digits() -> dict[str, NDArray[np.uint8]]:
    rng = np.random.default_rng(0)
    arrays = {}
    for part, size in (("train", TRAIN), ("t10k", TEST)):
        arrays[f"{part}-images-idx3-ubyte"] = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        arrays[f"{part}-labels-idx1-ubyte"] = np.arange(size, dtype=np.uint8) % 10
    return arrays


DIGITS = digits()


@pytest.fixture
def raw() -> Path:
    """The folder of the files, in the default data_dir."""
    folder = Path("data/MNIST/raw")
    folder.mkdir(parents=True)
    for number, (name, values) in enumerate(DIGITS.items()):
        content = idx_bytes(values)
        if number % 2:  # both forms may stand side by side
            (folder / name).write_bytes(content)
        else:
            (folder / f"{name}.gz").write_bytes(gzip.compress(content))
    return folder


def write(raw: Path, name: str, content: bytes) -> Path:
    """Put ``content`` in place of an official file, and its ``.gz`` form out of the way."""
    (raw / f"{name}.gz").unlink(missing_ok=True)
    (raw / name).write_bytes(content)
    return raw / name


def labelled(batch: SequenceBatch) -> Counter[tuple[bytes, int]]:
    images = (batch.inputs * 255).round().to(torch.uint8).reshape(len(batch.inputs), -1).numpy()
    return Counter((image.tobytes(), int(label)) for image, label in zip(images, batch.targets, strict=True))


def of_files(part: str) -> Counter[tuple[bytes, int]]:
    images, labels = DIGITS[f"{part}-images-idx3-ubyte"], DIGITS[f"{part}-labels-idx1-ubyte"]
    return Counter((image.tobytes(), int(label)) for image, label in zip(images, labels, strict=True))


@pytest.mark.usefixtures("raw")
def test_splits_hold_each_image_once_with_its_label() -> None:
    data = SequentialMNIST(order="row")
    batches = {split: data.build(split) for split in SPLITS}
    batch = next(iter(data.train_dataloader()))
    assert (data.input_size, batch.inputs.shape[1:], batch.inputs.dtype) == (28, (28, 28), torch.float32)
    assert (batch.targets.dtype, float(batch.inputs.max())) == (torch.int64, 1.0)
    assert (batch.lengths == 28).all()
    assert [len(batches[split].targets) for split in SPLITS] == [45, 5, 20]
    assert labelled(batches["train"]) + labelled(batches["val"]) == of_files("train")
    assert labelled(batches["test"]) == of_files("t10k")
    # the test digits keep their order, so that predictions can be compared
    assert batches["test"].targets.tolist() == DIGITS["t10k-labels-idx1-ubyte"].tolist()
    for seed, same in ((0, True), (1, False)):
        assert (labelled(SequentialMNIST(order="row", seed=seed).build("val")) == labelled(batches["val"])) == same


@pytest.mark.usefixtures("raw")
def test_images_are_held_as_bytes() -> None:
    data = SequentialMNIST()
    data.setup("fit")
    data.setup("test")
    for split in SPLITS:
        dataset = data.dataset(split)
        assert dataset.data.inputs.dtype == torch.uint8
        assert dataset is data.dataset(split)
        assert torch.equal(dataset[3].inputs, data.build(split).inputs[3:4])


def test_files_elsewhere(raw: Path, tmp_path: Path) -> None:
    (tmp_path / "data").rename(tmp_path / "other")
    assert len(SequentialMNIST(data_dir=tmp_path / "other").build("test").targets) == TEST
    assert len(SequentialMNIST(data_dir=str(tmp_path / "other")).build("test").targets) == TEST
    data = SequentialMNIST()
    data.prepare_data()  # fetches nothing unless told to
    with pytest.raises(FileNotFoundError) as error:
        data.setup("fit")
    for part in (*FILES, str(tmp_path / "data/MNIST/raw"), ".gz", "download=True", "data_dir"):
        assert part in str(error.value)


@pytest.mark.filterwarnings("default:.*of the official:UserWarning")
@pytest.mark.usefixtures("raw")
def test_fewer_images_than_there_should_be_give_a_warning() -> None:
    with pytest.warns(UserWarning, match="train-images-idx3-ubyte.gz has 50 of the official 60,000 images"):
        SequentialMNIST().build("train")


IMAGES, LABELS = "train-images-idx3-ubyte", "train-labels-idx1-ubyte"


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        (IMAGES, b"", "begins with 00000803, but begins with nothing"),
        (IMAGES, idx_bytes(DIGITS[LABELS]), "begins with 00000803, but begins with 00000801"),
        (IMAGES, b"<html>", "begins with 00000803, but begins with 3c68746d"),
        (IMAGES, idx_bytes(DIGITS[IMAGES])[:9], r"must have \d+ bytes"),
        (IMAGES, idx_bytes(DIGITS[IMAGES])[:-1], r"of shape \(50, 28, 28\) must have 39216 bytes, got 39215"),
        (IMAGES, idx_bytes(DIGITS[IMAGES]) + b"1", "must have 39216 bytes, got more"),
        (IMAGES, struct.pack(">4I", 0x803, *[2**32 - 1] * 3), "at most 1,073,741,824 are read"),
        (IMAGES, idx_bytes(DIGITS[IMAGES][:, :8]), r"must hold images of 28×28 pixels, got \(8, 28\)"),
        (IMAGES, idx_bytes(DIGITS[IMAGES][:0]), "has no images"),
        (IMAGES, idx_bytes(DIGITS[IMAGES][:49]), "has 49 images, but there are 50 labels"),
        (LABELS, idx_bytes(DIGITS[LABELS])[:-3], r"of shape \(50,\) must have 58 bytes, got 55"),
        (LABELS, idx_bytes(DIGITS[LABELS] + 1), "must hold labels from 0 to 9, got 10 at index 9"),
    ],
)
def test_damaged_files(raw: Path, name: str, content: bytes, message: str) -> None:
    write(raw, name, content)
    with pytest.raises(ValueError, match=message) as error:
        SequentialMNIST().build("train")
    assert name in str(error.value)
    assert "fetch" in str(error.value)


@pytest.mark.parametrize("damage", ["truncated", "changed", "no gzip"])
def test_damaged_gzip_files(raw: Path, damage: str) -> None:
    path = raw / f"{IMAGES}.gz"
    content = bytearray(path.read_bytes())
    if damage == "changed":
        content[len(content) // 2] ^= 1
    path.write_bytes({"truncated": content[:-100], "no gzip": b"something", "changed": content}[damage])
    with pytest.raises(ValueError, match=f"{path} is not a complete gzip file .*: remove {path} and fetch it again"):
        SequentialMNIST().build("train")


def test_what_follows_in_a_gzip_file_is_not_unpacked(raw: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[int] = []
    one = gzip.GzipFile.read
    monkeypatch.setattr(gzip.GzipFile, "read", lambda file, size=-1: read.append(size) or one(file, size))
    (raw / LABELS).unlink(missing_ok=True)
    (raw / f"{LABELS}.gz").write_bytes(gzip.compress(idx_bytes(DIGITS[LABELS]) + bytes(1 << 22)))
    with pytest.raises(ValueError, match="must have 58 bytes, got more"):
        SequentialMNIST().build("train")
    assert read[-3:] == [8, TRAIN, 1]


class Web:
    """Stands in for :func:`fetch`'s network: addresses and what they give."""

    def __init__(self, pages: dict[str, bytes]) -> None:
        self.pages = pages
        self.asked: list[str] = []

    def download(self, url: str, part: Path, path: Path) -> None:
        self.asked.append(url)
        if url not in self.pages:
            raise ConnectionError(f"no {url}, put it at {path}")
        part.write_bytes(self.pages[url])


@pytest.fixture
def web(monkeypatch: pytest.MonkeyPatch) -> Web:
    """Both mirrors, with the small files in place of the official ones."""
    contents = {name: idx_bytes(values) for name, values in DIGITS.items()}
    pages = {f"{mirror}{name}.gz": gzip.compress(content) for mirror in MIRRORS for name, content in contents.items()}
    web = Web(pages)
    monkeypatch.setattr(files, "_download", web.download)
    monkeypatch.setattr(mnist, "FILES", {name: hashlib.md5(content).hexdigest() for name, content in contents.items()})
    return web


def test_download_fetches_what_is_missing(web: Web) -> None:
    data = SequentialMNIST(download=True)
    data.prepare_data()
    assert web.asked == [f"{MIRRORS[0]}{name}.gz" for name in FILES]
    assert labelled(data.build("test")) == of_files("t10k")
    folder = Path("data/MNIST/raw")
    assert {path.name for path in folder.iterdir()} == {f"{name}.gz" for name in FILES}
    (folder / f"{IMAGES}.gz").unlink()
    data.prepare_data()
    assert web.asked[4:] == [f"{MIRRORS[0]}{IMAGES}.gz"]
    write(folder, LABELS, idx_bytes(DIGITS[LABELS]))  # a decompressed file does as well
    data.prepare_data()
    assert len(web.asked) == 5


def test_the_second_mirror_stands_in(web: Web) -> None:
    for name in FILES:
        del web.pages[f"{MIRRORS[0]}{name}.gz"]
    web.pages[f"{MIRRORS[0]}{IMAGES}.gz"] = b"<html>sign in first</html>"
    data = SequentialMNIST(download=True)
    data.prepare_data()
    assert labelled(data.build("test")) == of_files("t10k")
    assert len(web.asked) == 8


def test_a_download_that_fails_says_what_to_do(web: Web, tmp_path: Path) -> None:
    web.pages = {f"{MIRRORS[1]}{IMAGES}.gz": gzip.compress(b"another file")}
    with pytest.raises(ConnectionError) as error:
        SequentialMNIST(download=True).prepare_data()
    for part in (*MIRRORS, f"put it at data/MNIST/raw/{IMAGES}.gz", "its md5 must be"):
        assert part in str(error.value)
    assert not [path for path in Path("data/MNIST/raw").iterdir() if path.suffix in (".gz", ".part")]
