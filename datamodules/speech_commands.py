"""Spoken words: Google's Speech Commands, as MFCC or as waveforms."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from itertools import islice
from pathlib import Path
from tempfile import TemporaryFile
from typing import IO, Any, Literal

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from numpy.typing import NDArray
from scipy.signal import resample_poly

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.datamodules.base import (
    SPLITS,
    ArrayDataset,
    EpochDataset,
    SequenceDataset,
    check_choice,
    check_size,
    full_lengths,
)
from lightning_alrnn.datamodules.files import (
    ArchiveDataModule,
    cached,
    progress,
    read_file,
    read_members,
    warn_if_fewer,
)
from lightning_alrnn.datamodules.speech_features import mfcc
from lightning_alrnn.datamodules.wav import read_wav

Features = Literal["mfcc", "raw"]
Speakers = Literal["official", "drawn"]

TEN_WORDS = ("down", "go", "left", "no", "off", "on", "right", "stop", "up", "yes")  # the default

OFFICIAL_CLIPS = {
    "backward": 1664, "bed": 2014, "bird": 2064, "cat": 2031, "dog": 2128, "down": 3917, "eight": 3787,
    "five": 4052, "follow": 1579, "forward": 1557, "four": 3728, "go": 3880, "happy": 2054, "house": 2113,
    "learn": 1575, "left": 3801, "marvin": 2100, "nine": 3934, "no": 3941, "off": 3745, "on": 3845,
    "one": 3890, "right": 3778, "seven": 3998, "sheila": 2022, "six": 3860, "stop": 3872, "three": 3727,
    "tree": 1759, "two": 3880, "up": 3723, "visual": 1592, "wow": 2123, "yes": 4044, "zero": 4052,
}  # fmt: skip
"""All 35 words, with the number of clips of each in version 0.02."""

SAMPLE_RATE = 16_000  # Hz
CLIP = SAMPLE_RATE  # samples; all but a few clips last one second

_LISTS: dict[str, Split] = {"validation_list.txt": "val", "testing_list.txt": "test"}
_FOLDERS = ("", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02")
_BATCH = 64  # clips whose features are computed at once


class SpeechCommands(ArchiveDataModule):
    """Spoken words of one second: Google's Speech Commands, version 0.02.

    The data are the official archive ``speech_commands_v0.02.tar.gz`` or the folder that it unpacks to. The features
    are standardised over the training clips and cached on disk; see docs/tasks/speech_commands.md.

    Args:
        words: Words that are the classes: "ten" (see :data:`TEN_WORDS`), "all" (35), or a list of some of the 35.
        data_dir: Folder with the archive or the unpacked folder.
        download: Whether to fetch the archive (2.3 GB) if ``data_dir`` has neither the archive nor the folder.
        features: Features of a clip: "mfcc" or "raw", the waveform.
        hop_length: Number of samples (of 16,000 per second) from one step of the MFCC to the next.
        n_fft: Number of samples in a frame of the MFCC.
        n_mels: Number of mel filters.
        n_mfcc: Number of coefficients.
        speakers: Division of the speakers: "official", by the lists of the archive, or "drawn" by ``seed``, with a
            tenth of the clips or more for validation and for testing.
        decimation: Factor by which "raw" reduces the sampling rate, after a low-pass filter.
        cache_dir: Folder for the features; ``None`` for the cache of the user.
        batch_size: Number of sequences in a step of one process.
        num_workers: Number of worker processes of each DataLoader.
        seed: Seed of the order of the training data, and of the division of the speakers if it is drawn.

    Raises:
        ValueError: If an argument is out of range. On the first use of the data, if the archive or a clip is damaged, a
            list names clips that do not exist, or a word has no clips.
        FileNotFoundError: On the first use of the data, if ``data_dir`` lacks them.

    Shapes:
        inputs ``(batch, T, K)`` float32 with T = 1 + 16000 // hop_length and K = n_mfcc, or T = ⌈16000 / decimation⌉
        and K = 1 for "raw"; targets ``(batch,)`` int64; classification at the last step.

    Example:
        >>> data = SpeechCommands(hop_length=160)
        >>> data.input_size, data.output_size
        (40, 10)
    """

    archive = "speech_commands_v0.02.tar.gz"
    url = f"http://download.tensorflow.org/data/{archive}"
    md5 = "6b74f3901214cb2c2934e98196829835"
    archive_size = "2.3 GB"
    contents = f"{', '.join(_LISTS)} and <word>/<speaker>_nohash_<n>.wav, also in {_FOLDERS[1]} below data_dir"
    class_names: list[str]
    objective = "classification"
    target_step = "last"

    def __init__(
        self,
        words: list[str] | str = "ten",
        data_dir: str | os.PathLike[str] = "data",
        download: bool = False,
        features: Features = "mfcc",
        hop_length: int = 40,
        n_fft: int = 400,
        n_mels: int = 64,
        n_mfcc: int = 40,
        decimation: int = 4,
        speakers: Speakers = "official",
        cache_dir: str | os.PathLike[str] | None = None,
        batch_size: int = 64,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        data_dir, cache_dir = os.fspath(data_dir), None if cache_dir is None else os.fspath(cache_dir)
        super().__init__(data_dir, download, cache_dir, batch_size, num_workers, seed)
        check_choice("features", features, Features)
        check_choice("speakers", speakers, Speakers)
        self.class_names = _class_names(words)
        self.input_size = n_mfcc if features == "mfcc" else 1
        self.input_names = [f"coefficient {k}" for k in range(n_mfcc)] if features == "mfcc" else ["waveform"]
        self.output_size = len(self.class_names)
        self.features = features
        self.speakers = speakers
        if features == "mfcc":
            self._settings = {"hop_length": hop_length, "n_fft": n_fft, "n_mels": n_mels, "n_mfcc": n_mfcc}
        else:
            check_size("decimation", decimation)
            self._settings = {"decimation": decimation}
        # a setting out of range shows now, not after the download
        self._shape = self._transform(np.zeros((1, CLIP), np.float32)).shape[1:]
        self.save_hyperparameters()

    def dataset(self, split: Split) -> SequenceDataset | EpochDataset:
        """Return the clips of a split, which are read on first use.

        Raises:
            FileNotFoundError: If ``data_dir`` lacks the data.
        """
        if split not in self._datasets:
            clips = self._load()
            division = clips["split"] if self.speakers == "official" else divide_speakers(clips["speaker"], self.seed)
            rows = np.flatnonzero(division == SPLITS.index(split))
            mean, square = clips["moments"][division == SPLITS.index("train")].mean(axis=0)
            variance = (square - np.square(mean)).mean()
            std = np.array(np.sqrt(variance) if variance > 0 else 1, np.float32)  # silence stays 0
            self._datasets[split] = ClipDataset(
                clips["features"], clips["row"][rows], clips["targets"][rows], mean.astype(np.float32), std
            )
        return self._datasets[split]

    def _find_folder(self) -> Path | None:
        for folder in map(self.data_dir.joinpath, _FOLDERS):
            if any((folder / name).exists() for name in (*_LISTS, *OFFICIAL_CLIPS)):
                return folder
        return None

    def _read(self, source: Path) -> dict[str, NDArray[Any]]:
        # the times of the folders of the words change with their files
        parts = [source] if source.is_file() else [source / name for name in (*_LISTS, *self.class_names)]
        parts = [part for part in parts if part.exists()]
        settings = {"words": self.class_names, "features": self.features, **self._settings}
        build = partial(self._compute, source)
        arrays = cached(self.cache_dir, "speech_commands", settings, parts, build, mapped=["features"])
        official = sum(OFFICIAL_CLIPS[word] for word in self.class_names)
        warn_if_fewer(source, len(arrays["row"]), official, "clips of these words")
        return arrays

    def _transform(self, waveforms: NDArray[np.float32]) -> NDArray[np.float16]:
        """Features ``(batch, T, K)`` of clips ``(batch, samples)``."""
        if self.features == "mfcc":
            features = mfcc(torch.from_numpy(waveforms), SAMPLE_RATE, **self._settings).numpy()
        else:
            features = resample_poly(waveforms, 1, self._settings["decimation"], axis=1)[..., None]
        return features.astype(np.float16)

    def _compute(self, source: Path) -> dict[str, NDArray[Any]]:
        # the features are in the order of reading; all other arrays are in the order of the names
        names: list[str] = []
        moments: list[NDArray[np.float64]] = []  # of each clip: the lists of the splits may come last
        lists: dict[str, bytes] = {}
        with _scratch_file(self.cache_dir) as file:
            clips = _read_clips(source, self.class_names, lists)
            while batch := list(islice(clips, _BATCH)):
                names.extend(name for name, _ in batch)
                features = self._transform(np.stack([waveform for _, waveform in batch]))
                features.tofile(file)
                wide = features.astype(np.float64)
                moments.extend(np.stack((wide, np.square(wide)), axis=1).mean(axis=2))
            split = assign_splits(names, lists, source, self.class_names)
            file.flush()
            mapped = np.memmap(file, np.float16, "r", shape=(len(names), *self._shape))
        row = np.argsort(names)
        targets = np.array([self.class_names.index(name.partition("/")[0]) for name in names])
        speakers = np.unique([name.partition("/")[2].partition("_")[0] for name in names], return_inverse=True)[1]
        return {
            "features": mapped,
            "row": row,
            "split": split[row],
            "speaker": speakers[row],
            "targets": targets[row],
            "moments": np.stack(moments)[row],
        }

    def __getstate__(self) -> dict[str, Any]:
        # a spawned process opens the file again: a pickled memory map would send all that it maps
        return {**self.__dict__, "_loaded": None}


class ClipDataset(ArrayDataset):
    """Some rows of float16 features ``(clips, T, K)`` that are mapped from a file; batches are standardised."""

    def __init__(
        self, features: NDArray[Any], rows: NDArray[Any], targets: NDArray[Any], mean: NDArray[Any], std: NDArray[Any]
    ) -> None:
        super().__init__(features)
        self._rows = rows
        self._targets = torch.from_numpy(targets)
        self._mean = torch.from_numpy(mean)
        self._std = torch.from_numpy(std)

    def __len__(self) -> int:
        return len(self._rows)

    def __getitems__(self, indices: Sequence[int]) -> SequenceBatch:
        index = np.asarray(indices)
        features = torch.from_numpy(self._array[self._rows[index]])
        inputs = (features.float() - self._mean) / self._std
        return SequenceBatch(inputs, self._targets[index], full_lengths(inputs))


def _class_names(words: Sequence[str] | str) -> list[str]:
    presets = {"ten": list(TEN_WORDS), "all": list(OFFICIAL_CLIPS)}
    names = presets.get(words, []) if isinstance(words, str) else sorted(words)
    unknown = [name for name in names if name not in OFFICIAL_CLIPS]
    if unknown or len(set(names)) < max(2, len(names)):
        options = f"'ten', 'all' or two or more different words out of {', '.join(OFFICIAL_CLIPS)}"
        raise ValueError(f"words must be {options}; got {words!r}")
    return names


def _scratch_file(folder: Path) -> IO[bytes]:
    """A temporary file, on the disk of the cache if that can be written to."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        return TemporaryFile(dir=folder)
    except OSError:
        return TemporaryFile()


def _read_clips(
    source: Path, words: Sequence[str], lists: dict[str, bytes]
) -> Iterator[tuple[str, NDArray[np.float32]]]:
    """Name and waveform ``(CLIP,)`` of each clip; the contents of the two lists go into ``lists``."""
    resampled: list[str] = []
    clip = re.compile(rf"({'|'.join(words)})/[^./][^/]*\.wav")
    members = read_members(source, lambda name: name in _LISTS or clip.fullmatch(name) is not None)
    for name, content in members if source.is_file() else _read_folder(source, words):
        if name in _LISTS:
            lists[name] = content
            continue
        samples, rate = read_wav(content, f"{name} in {source}")
        if rate != SAMPLE_RATE:
            resampled.append(f"{name} ({rate} Hz)")
            common = math.gcd(rate, SAMPLE_RATE)
            # a clip is one second, and no filter reaches over another
            samples = resample_poly(samples[: 2 * rate], SAMPLE_RATE // common, rate // common)
        waveform = np.zeros(CLIP, np.float32)
        waveform[: len(samples)] = samples[:CLIP]
        yield name, waveform
    if resampled:
        rank_zero_warn(
            f"{len(resampled)} clips in {source} were converted to {SAMPLE_RATE} Hz, the first is {resampled[0]}"
        )


def _read_folder(folder: Path, words: Sequence[str]) -> Iterator[tuple[str, bytes]]:
    lists = {name: read_file(folder / name) for name in _LISTS if (folder / name).is_file()}
    clips = [
        f"{word}/{path.name}" for word in words for path in sorted((folder / word).glob("*.wav")) if path.name[0] != "."
    ]
    assign_splits(clips, lists, folder, words)  # reports missing files before the work
    yield from lists.items()
    for name in progress(clips, f"reading {folder.name}", unit="clip"):
        yield name, read_file(folder / name)


def divide_speakers(speaker: NDArray[np.int64], seed: int) -> NDArray[np.int64]:
    """The split of each clip, an index into SPLITS, if speakers are drawn: a tenth of the clips each, or a bit more."""
    counts = np.bincount(speaker)
    order = np.random.default_rng((seed, len(SPLITS) + 1)).permutation(len(counts))
    before = np.cumsum(counts[order]) - counts[order]  # clips of the speakers before this one in the order
    share = np.ceil(len(speaker) / 10)
    test = np.argmax(before >= share)
    val = np.argmax(before >= before[test] + share)
    if not 0 < test < val:
        raise ValueError(
            f"the clips are of {np.count_nonzero(counts)} speakers, too few to draw some for each split: use "
            "speakers='official'"
        )
    place = np.argsort(order)[speaker]
    parts = [SPLITS.index("test"), SPLITS.index("val")]
    return np.select([place < test, place < val], parts, SPLITS.index("train"))


def assign_splits(
    clips: Sequence[str], lists: Mapping[str, bytes], source: Path, words: Sequence[str]
) -> NDArray[np.int64]:
    """The split of each clip, an index into SPLITS: that of the list with its name, or else training."""
    again = "fetch the archive again" if source.is_file() else "unpack the archive again"
    split = dict.fromkeys(clips, SPLITS.index("train"))
    if len(split) < len(clips):
        raise ValueError(f"{source} has a clip twice: {again}")
    for word in words:
        if not any(name.startswith(f"{word}/") for name in split):
            expected = f"{word}/<speaker>_nohash_<n>.wav"
            raise FileNotFoundError(f"{source} has no clips of the word {word!r}, expected {expected}: {again}")
    for name, part in _LISTS.items():
        if name not in lists:
            raise FileNotFoundError(f"{source} has no {name}, which names the clips of the {part} split: {again}")
        lines = lists[name].decode("utf-8", "replace").split()
        named = [line for line in dict.fromkeys(lines) if line.partition("/")[0] in words]
        missing = [line for line in named if line not in split]
        if missing:
            absent = f"{len(missing)} clips that are not in {source}, the first is {missing[0]}"
            raise FileNotFoundError(f"{name} names {absent}: {again}, or remove these lines")
        if not named:
            raise ValueError(f"{name} in {source} names no clip of these words, so the {part} split is empty: {again}")
        for line in named:
            if split[line] != SPLITS.index("train"):
                raise ValueError(f"{line} is in both lists of {source}, {' and '.join(_LISTS)}: {again}")
            split[line] = SPLITS.index(part)
    trained = {name.partition("/")[0] for name, part in split.items() if SPLITS[part] == "train"}
    for word in words:
        if word not in trained:
            raise ValueError(f"{source} has no clips of the word {word!r} for training: all are in its lists")
    return np.fromiter(split.values(), np.int64)
