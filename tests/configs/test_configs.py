"""Every shipped configuration runs: fit, validate, test, predict."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from inspect import signature
from pathlib import Path

import numpy as np
import pytest
import yaml
from official_files import idx_bytes, wav_bytes, write_tar

from lightning_alrnn import datamodules
from lightning_alrnn.cli import run_cli
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
        (folder / f"{part}-images-idx3-ubyte").write_bytes(idx_bytes(images))
        (folder / f"{part}-labels-idx1-ubyte").write_bytes(idx_bytes(np.arange(size, dtype=np.uint8) % 10))


def write_imdb() -> None:
    """A few reviews of each class in an archive of the official layout."""
    reviews = [
        (f"aclImdb/{part}/{name}/{number}_{stars}.txt", text)
        for part, number in itertools.product(("train", "test"), range(10))
        for name, stars, text in (("neg", 1, b"Not a good film."), ("pos", 10, b"A good film!<br />"))
    ]
    write_tar(Path("data/aclImdb_v1.tar.gz"), reviews)


def write_speech_commands() -> None:
    """Noise of each of the ten words in an archive of the official layout."""
    rng = np.random.default_rng(0)
    clips = {f"{word}/{speaker}_nohash_0.wav": speaker for word in TEN_WORDS for speaker in ("train", "val", "test")}
    lists = {"validation_list.txt": "val", "testing_list.txt": "test"}
    files = {name: "\n".join(clip for clip in clips if clips[clip] == part).encode() for name, part in lists.items()}
    files |= {clip: wav_bytes(rng.integers(-9_999, 9_999, 16_000)) for clip in clips}
    write_tar(Path("data/speech_commands_v0.02.tar.gz"), ((f"./{name}", content) for name, content in files.items()))


# what a task reads, by the beginning of its configurations' names
FILES: dict[str, Callable[[], None]] = {
    "imdb": write_imdb,
    "smnist": write_mnist,
    "speech_commands": write_speech_commands,
}


ONE_BATCH = ["--trainer.fast_dev_run=true", "--trainer.accelerator=cpu"]


@pytest.mark.parametrize("name", sorted(shipped_configs()))
@pytest.mark.filterwarnings("ignore:.*of the official:UserWarning")
def test_config_runs(name: str) -> None:
    for beginning, write in FILES.items():
        if name.startswith(beginning):
            write()
    task = yaml.safe_load(shipped_configs()[name].read_text(encoding="utf-8"))["data"]["class_path"].rpartition(".")[2]
    options = signature(getattr(datamodules, task)).parameters  # a batch is all that is taken: a few trials will do
    sizes = [f"--data.{size}=300" for size in ("train_size", "val_size", "test_size") if size in options]
    cli = run_cli(["fit", "--config", name, *sizes, *ONE_BATCH])
    for function in (cli.trainer.validate, cli.trainer.test, cli.trainer.predict):
        function(cli.model, cli.datamodule)


@pytest.mark.parametrize("command", ["validate", "test", "predict"])
def test_the_other_commands_take_a_config_too(command: str) -> None:
    main([command, "--config", "addition_quick", *ONE_BATCH])


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_config_opens_with_its_description_and_is_for_all_commands(name: str) -> None:
    text = shipped_configs()[name].read_text(encoding="utf-8")
    assert yaml.safe_load(text).keys() <= {"seed_everything", "model", "data", "trainer"}
    first = text.splitlines()[0]
    assert first.startswith("# ")
    assert len(first) > 20


ENCODER = "{class_path: TextEncoder, init_args: {vocab_size: null, embedding_size: 2}}"


@pytest.mark.filterwarnings("ignore:.*of the official:UserWarning")
@pytest.mark.parametrize(
    "options",
    [
        ["--data.glove_path=vectors.txt", f"--model.encoder={ENCODER}"],
        ["--model.core=torch.nn.GRU", "--model.input_matrix=learned"],
    ],
)
def test_imdb_with_other_vectors_and_another_core(options: list[str]) -> None:
    write_imdb()
    Path("vectors.txt").write_text("good 1.0 -1.0\nnot 0.5 2.0\n")
    main(["fit", "--config", "imdb_quick", *ONE_BATCH, *options])
