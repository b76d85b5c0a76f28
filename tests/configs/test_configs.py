"""Every shipped configuration runs: fit, validate, test, predict."""

from __future__ import annotations

import io
import struct
import tarfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from scipy.io import wavfile

from lightning_alrnn.commands.entry import main
from lightning_alrnn.configs import shipped_configs
from lightning_alrnn.datamodules.speech_commands import TEN_WORDS


def write_mnist() -> None:
    """Noise in the official format, a few images of each digit."""
    folder = Path("data/MNIST/raw")
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for part, size in (("train", 60), ("t10k", 10)):
        images = rng.integers(0, 256, (size, 28, 28), dtype=np.uint8)
        head = struct.pack(">4I", 0x803, size, 28, 28)
        (folder / f"{part}-images-idx3-ubyte").write_bytes(head + images.tobytes())
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(
            struct.pack(">2I", 0x801, size) + bytes(range(10)) * (size // 10)
        )


def write_imdb() -> None:
    """A few reviews of each class in an archive of the official layout."""
    Path("data").mkdir()
    with tarfile.open("data/aclImdb_v1.tar.gz", "w:gz") as tar:
        for part in ("train", "test"):
            for name, stars, text in (("neg", 1, b"Not a good film."), ("pos", 10, b"A good film!<br />")):
                for number in range(10):
                    info = tarfile.TarInfo(f"aclImdb/{part}/{name}/{number}_{stars}.txt")
                    info.size = len(text)
                    tar.addfile(info, io.BytesIO(text))


def write_speech_commands() -> None:
    """Noise of each of the ten words in an archive of the official layout."""
    Path("data").mkdir()
    rng = np.random.default_rng(0)
    clips = {f"{word}/{speaker}_nohash_0.wav": speaker for word in TEN_WORDS for speaker in ("train", "val", "test")}
    files = {
        "validation_list.txt": "\n".join(clip for clip, speaker in clips.items() if speaker == "val").encode(),
        "testing_list.txt": "\n".join(clip for clip, speaker in clips.items() if speaker == "test").encode(),
    }
    for clip in clips:
        file = io.BytesIO()
        wavfile.write(file, 16_000, rng.integers(-9_999, 9_999, 16_000, dtype=np.int16))
        files[clip] = file.getvalue()
    with tarfile.open("data/speech_commands_v0.02.tar.gz", "w:gz", compresslevel=1) as tar:
        for name, content in files.items():
            info = tarfile.TarInfo(f"./{name}")
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))


# what a task reads, by the beginning of its configurations' names
FILES: dict[str, Callable[[], None]] = {
    "imdb": write_imdb,
    "smnist": write_mnist,
    "speech_commands": write_speech_commands,
}


@pytest.mark.parametrize("name", sorted(shipped_configs()))
@pytest.mark.filterwarnings("ignore:.*of the official:UserWarning")
def test_config_runs(name: str) -> None:
    for beginning, write in FILES.items():
        if name.startswith(beginning):
            write()
    for command in ("fit", "validate", "test", "predict"):
        main([command, "--config", name, "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"])


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_config_opens_with_its_description(name: str) -> None:
    first = shipped_configs()[name].read_text(encoding="utf-8").splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20


@pytest.mark.filterwarnings("ignore:.*of the official:UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        [
            "--data.glove_path=vectors.txt",
            "--model.encoder={class_path: TextEncoder, init_args: {vocab_size: null, embedding_size: 2}}",
        ],
        ["--model.core=torch.nn.GRU", "--model.input_matrix=learned"],
    ],
)
def test_imdb_with_other_vectors_and_another_core(options: list[str]) -> None:
    write_imdb()
    Path("vectors.txt").write_text("good 1.0 -1.0\nnot 0.5 2.0\n")
    main(["fit", "--config", "imdb_quick", "--trainer.fast_dev_run=true", "--trainer.accelerator=cpu", *options])
