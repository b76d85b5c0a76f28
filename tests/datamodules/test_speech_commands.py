"""Speech Commands from small archives and folders of the official layout."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from official_files import wav_bytes, write_files, write_tar

from lightning_alrnn.batch import Split
from lightning_alrnn.datamodules import SpeechCommands, speech_commands
from lightning_alrnn.datamodules.base import SPLITS
from lightning_alrnn.datamodules.speech_commands import OFFICIAL_CLIPS, TEN_WORDS, ClipDataset, divide_speakers
from lightning_alrnn.datamodules.speech_features import mfcc

pytestmark = pytest.mark.filterwarnings("ignore:.*of the official:UserWarning")

ARCHIVE = SpeechCommands.archive
SPEAKERS: dict[str, Split] = {"0a": "train", "1b": "val", "2c": "test", "3d": "train"}
WORDS = (*TEN_WORDS, "bed", "zero")
SETTINGS: dict[str, Any] = {"hop_length": 2_000, "n_mfcc": 5, "n_mels": 8, "cache_dir": "cache"}

Clips = dict[str, NDArray[np.int16]]


def make_clips() -> Clips:
    """A clip of each word by each speaker."""
    rng = np.random.default_rng(0)
    names = [f"{word}/{speaker}_nohash_0.wav" for word in WORDS for speaker in SPEAKERS]
    return {name: (3_000 * rng.normal(size=16_000)).astype(np.int16) for name in names}


def make_files(clips: Clips) -> dict[str, bytes]:
    """All files by name, with what is to be passed over among them."""
    files = {name: wav_bytes(samples) for name, samples in clips.items()}
    for name, split in (("validation_list.txt", "val"), ("testing_list.txt", "test")):
        lines = [clip for clip in clips if SPEAKERS[clip.partition("/")[2][:2]] == split]
        files[name] = "".join(f"{line}\n" for line in lines).encode()
    noise = {
        "_background_noise_/pink.wav": wav_bytes(np.ones(9)),
        "README.md": b"",
        "go/._0a_nohash_0.wav": b"a Mac's own",
    }
    return {**files, **noise}


def write_archive(files: dict[str, bytes], folder: Path = Path("data")) -> Path:
    return write_tar(folder / ARCHIVE, ((f"./{name}", content) for name, content in files.items()))


@pytest.fixture
def files() -> dict[str, bytes]:
    return make_files(make_clips())


def listing(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")} if folder.exists() else set()


def names_of(split: Split, words: tuple[str, ...] = TEN_WORDS) -> list[str]:
    """The clips of a split, in the order of their names."""
    names = [f"{word}/{speaker}_nohash_0.wav" for word in words for speaker, part in SPEAKERS.items() if part == split]
    return sorted(names)


@pytest.mark.parametrize("words", [TEN_WORDS, ("bed", "zero")])
def test_features_splits_and_classes(files: dict[str, bytes], words: tuple[str, ...]) -> None:
    write_archive(files)
    data = SpeechCommands(words="ten" if words == TEN_WORDS else ["zero", "bed"], **SETTINGS)
    assert (data.input_size, data.output_size, data.class_names) == (5, len(words), sorted(words))
    assert (data.objective, data.target_step) == ("classification", "last")
    data.prepare_data()
    waveforms = {name: torch.from_numpy(samples / 32_768).float() for name, samples in make_clips().items()}
    raw = {name: mfcc(waveform, 16_000, 5, 8, 400, 2_000).double() for name, waveform in waveforms.items()}
    train = torch.stack([raw[name] for name in names_of("train", words)]).flatten(0, 1)
    mean = train.mean(dim=0)
    std = (train - mean).square().mean().sqrt()
    for split in SPLITS:
        batch = data.build(split)
        assert len(batch.inputs) == len(data.dataset(split)) == len(words) * (2 if split == "train" else 1)
        expected = torch.stack([(raw[name] - mean) / std for name in names_of(split, words)])
        assert batch.inputs.dtype == torch.float32
        # stored as float16: eleven bits of numbers around 400
        assert torch.allclose(batch.inputs.double() * std, expected * std, atol=0.3)
        named = [name.partition("/")[0] for name in names_of(split, words)]
        assert [sorted(words)[target] for target in batch.targets] == named
        assert batch.lengths.tolist() == [9] * len(batch.inputs)
    inputs = data.build("train").inputs.flatten(0, 1)
    assert inputs.mean(dim=0).abs().max() < 1e-5
    assert float(inputs.square().mean()) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize("below", ["", "speech_commands_v0.02", "SpeechCommands/speech_commands_v0.02"])
def test_archive_and_folder_are_the_same(files: dict[str, bytes], below: str) -> None:
    # in an archive the lists may come last, and the clips in any order
    write_archive(dict(sorted(files.items(), reverse=True)), Path("archive"))
    write_files(Path("folder") / below, files)
    first = SpeechCommands(data_dir="archive", **SETTINGS)
    second = SpeechCommands(data_dir=Path("folder"), **SETTINGS)
    for split in SPLITS:
        for one, other in zip(first.build(split)[:3], second.build(split)[:3], strict=True):
            assert torch.equal(one, other)  # type: ignore[arg-type]


def one_clip(samples: NDArray[Any], rate: int = 16_000, **settings: Any) -> torch.Tensor:
    """The features, as stored, of a clip beside others."""
    files = make_files({name: np.zeros(16_000, np.int16) for name in make_clips()})
    files["go/0a_nohash_0.wav"] = wav_bytes(samples, rate=rate)
    write_archive(files)
    data = SpeechCommands(**({**settings, "cache_dir": "cache"} if settings else SETTINGS))
    dataset = data.dataset("train")
    row = names_of("train").index("go/0a_nohash_0.wav")
    assert isinstance(dataset, ClipDataset)
    return dataset[row].inputs[0] * dataset._std + dataset._mean


@pytest.mark.parametrize("length", [1, 9_000, 15_999, 16_000, 16_001, 40_000])
def test_clips_are_padded_behind_or_cut(length: int) -> None:
    samples = (3_000 * np.random.default_rng(1).normal(size=length)).astype(np.int16)
    padded = np.zeros(16_000, np.int16)
    padded[: min(length, 16_000)] = samples[:16_000]
    expected = mfcc(torch.from_numpy(padded / 32_768).float(), 16_000, 5, 8, 400, 2_000)
    assert torch.allclose(one_clip(samples), expected, atol=0.5)


def tone(frequency: float, rate: int) -> NDArray[np.float64]:
    return 10_000 * np.sin(2 * np.pi * frequency * np.arange(rate) / rate)


@pytest.mark.parametrize("rate", [8_000, 22_050, 48_000])
def test_other_rates_are_converted_with_one_warning(rate: int) -> None:
    message = f"1 clips in .*{ARCHIVE} were converted to 16000 Hz, the first is go/0a_nohash_0.wav .{rate} Hz"
    with pytest.warns(UserWarning, match=message) as warned:
        converted = one_clip(tone(440, rate), rate, features="raw", decimation=1)[:, 0]
    assert sum("converted" in str(warning.message) for warning in warned) == 1
    inside = slice(200, -200)  # a tone does not end smoothly
    assert np.allclose(converted[inside] * 32_768, tone(440, 16_000)[inside], atol=100)


@pytest.mark.parametrize(("decimation", "steps"), [(1, 16_000), (4, 4_000), (7, 2_286)])
def test_raw(decimation: int, steps: int) -> None:
    data = SpeechCommands(features="raw", decimation=decimation)
    assert data.input_size == 1
    low = one_clip(tone(500, 16_000), features="raw", decimation=decimation)
    assert low.shape == (steps, 1)
    inside = slice(200, -200)
    assert np.allclose(low[inside, 0] * 32_768, tone(500, 16_000)[::decimation][inside], atol=100)


def test_what_decimation_cannot_carry_is_filtered_out() -> None:
    high = one_clip(tone(3_500, 16_000), features="raw", decimation=4)  # would be heard at 500 Hz
    assert high[200:-200].abs().max() * 32_768 < 50


def test_the_second_start_computes_nothing(files: dict[str, bytes], monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(files)
    first = SpeechCommands(**SETTINGS)
    first.prepare_data()
    assert len(listing(Path("cache"))) == 1
    with monkeypatch.context() as patch:
        patch.setattr(speech_commands, "read_members", lambda *_: pytest.fail("reads the archive again"))
        second = SpeechCommands(**SETTINGS)
        second.prepare_data()
        second.setup("fit")
        assert torch.equal(second.build("train").inputs, first.build("train").inputs)
    for other in ({"hop_length": 1_000}, {"n_mfcc": 4}, {"words": ["go", "no"]}, {"features": "raw"}):
        before = len(listing(Path("cache")))
        SpeechCommands(**{**SETTINGS, **other}).prepare_data()
        assert len(listing(Path("cache"))) == before + 1


def test_speakers_are_drawn_by_the_seed(files: dict[str, bytes]) -> None:
    write_archive(files)
    tests = set()
    for seed in range(8):
        data = SpeechCommands(speakers="drawn", seed=seed, **SETTINGS)
        assert [len(data.dataset(split)) for split in SPLITS] == [20, 10, 10]  # of four speakers with ten clips each
        assert all(data.build(split).targets.unique(return_counts=True)[1].unique().numel() == 1 for split in SPLITS)
        inputs = data.build("train").inputs.flatten(0, 1)
        assert inputs.mean(dim=0).abs().max() < 1e-5  # standardised over the speakers of this division
        tests.add(data.build("test").inputs.numpy().tobytes())
    assert len(tests) >= 4
    assert len(list(Path("cache").iterdir())) == 1  # features do not depend on the division


def test_no_speaker_is_in_two_splits() -> None:
    rng = np.random.default_rng(0)
    speaker = rng.choice(60, 3_000, p=rng.dirichlet(np.ones(60)))
    for seed in range(20):
        split = divide_speakers(speaker, seed)
        speakers = [set(speaker[split == part]) for part in range(3)]
        assert sum(map(len, speakers)) == len(set(speaker))
        assert 300 <= (split == 1).sum() < 900 > (split == 2).sum() >= 300
    with pytest.raises(ValueError, match="of 2 speakers, too few"):
        divide_speakers(np.array([0, 1, 1]), 0)


def test_a_folder_that_changes_is_read_again(files: dict[str, bytes]) -> None:
    write_files(Path("data"), files)
    assert len(SpeechCommands(**SETTINGS).dataset("train")) == 20
    write_files(Path("data"), {"go/4e_nohash_0.wav": files["go/0a_nohash_0.wav"]})
    assert len(SpeechCommands(**SETTINGS).dataset("train")) == 21


def test_features_are_mapped_and_not_pickled(files: dict[str, bytes]) -> None:
    write_archive(files)
    data = SpeechCommands(**{**SETTINGS, "hop_length": 10})
    dataset = data.dataset("train")
    assert isinstance(dataset, ClipDataset)
    assert isinstance(dataset._array, np.memmap)
    assert dataset._array.dtype == np.float16
    assert dataset._array.nbytes > 500_000
    for original in (dataset, data):
        assert len(pickle.dumps(original)) < 20_000
    again = pickle.loads(pickle.dumps(dataset))
    assert torch.equal(again[3].inputs, dataset[3].inputs)
    assert torch.equal(pickle.loads(pickle.dumps(data)).build("val").inputs, data.build("val").inputs)
    in_memory = ClipDataset(np.array(dataset._array), dataset._rows, np.zeros(20, int), *(np.zeros(40),) * 2)
    assert len(pickle.loads(pickle.dumps(in_memory))) == 20


def test_without_a_cache(files: dict[str, bytes]) -> None:
    write_archive(files)
    Path("cache").write_text("a file where the folder should be")
    data = SpeechCommands(**SETTINGS)
    with (
        pytest.warns(UserWarning, match="speech_commands could not be cached in cache"),
        pytest.warns(UserWarning, match="has 40 of the official 38,546 clips of these words"),
    ):
        data.prepare_data()
    for split in SPLITS:
        assert torch.isfinite(data.build(split).inputs).all()


def test_silence() -> None:
    silence = {name: np.zeros(16_000, np.int16) for name in make_clips()}
    write_archive(make_files(silence))
    assert (SpeechCommands(**SETTINGS).build("test").inputs == 0).all()


def test_the_words() -> None:
    assert SpeechCommands().class_names == list(TEN_WORDS)
    assert SpeechCommands(words="all").class_names == sorted(OFFICIAL_CLIPS)
    # Warden 2018, table 1
    assert (len(OFFICIAL_CLIPS), sum(OFFICIAL_CLIPS.values())) == (35, 105_829)
    assert SpeechCommands.url == "http://download.tensorflow.org/data/speech_commands_v0.02.tar.gz"
    assert SpeechCommands.md5 == "6b74f3901214cb2c2934e98196829835"


def test_what_a_checkpoint_keeps_is_plain() -> None:
    data = SpeechCommands(words=["go", "no"], data_dir=Path("somewhere"), cache_dir=Path("else"))
    assert data.hparams["data_dir"] == "somewhere"
    assert data.hparams["cache_dir"] == "else"
    for value in data.hparams.values():
        assert isinstance(value, (str, int, list, bool, type(None)))


def edit_list(files: dict[str, bytes], name: str, edit: str) -> dict[str, bytes]:
    return {**files, name: files[name] + edit.encode()}


def without(files: dict[str, bytes], pattern: str) -> dict[str, bytes]:
    return {name: content for name, content in files.items() if not re.match(pattern, name)}


VAL, TEST = "validation_list.txt", "testing_list.txt"
MISSING = "go/5f_nohash_1.wav\nno/5f_nohash_1.wav\n"
CUT = "no/3d_nohash_0.wav"
DAMAGE = {
    "a list is missing": (lambda f: without(f, VAL), f"has no {VAL}, which names the clips of the val split"),
    "the other list is missing": (lambda f: without(f, TEST), f"has no {TEST}"),
    "a word has no clips": (lambda f: without(f, "go/"), "has no clips of the word 'go', expected go/<speaker>"),
    "a word has none to train on": (lambda f: without(f, "go/(0a|3d)"), "no clips of the word 'go' for training"),
    "a list names what is not there": (
        lambda f: edit_list(f, TEST, MISSING),
        f"{TEST} names 2 clips that are not in .*, the first is go/5f_nohash_1.wav: .*remove these lines",
    ),
    "a clip is in both lists": (
        lambda f: edit_list(f, TEST, "go/1b_nohash_0.wav\n"),
        f"go/1b_nohash_0.wav is in both lists of .*, {VAL} and {TEST}",
    ),
    "a list is empty": (lambda f: {**f, VAL: b"\n"}, f"{VAL} in .* names no clip of these words"),
    "a list is something else": (lambda f: {**f, VAL: b"<html>\xff</html>"}, f"{VAL} in .* names no clip"),
    "a clip is cut off": (lambda f: {**f, CUT: f[CUT][:-9]}, f"{CUT} in .* only has 31991 of 32000 bytes"),
    "a clip is something else": (lambda f: {**f, CUT: b"hello"}, f"{CUT} in .* must be a WAV file"),
}


@pytest.mark.parametrize("archive", [True, False])
@pytest.mark.parametrize("damage", DAMAGE)
def test_what_is_wrong_is_named(files: dict[str, bytes], damage: str, archive: bool) -> None:
    break_, message = DAMAGE[damage]
    files = break_(files)  # type: ignore[no-untyped-call]
    if archive:
        write_archive(files)
    else:
        write_files(Path("data"), files)
    with pytest.raises((ValueError, FileNotFoundError), match=message) as error:
        SpeechCommands(**SETTINGS).prepare_data()
    assert f"data/{ARCHIVE}" in str(error.value) if archive else "data" in str(error.value)
    assert listing(Path("cache")) == set()


def test_a_clip_twice(files: dict[str, bytes]) -> None:
    write_tar(Path("data") / ARCHIVE, [*files.items()] * 2)
    with pytest.raises(ValueError, match="has a clip twice"):
        SpeechCommands(**SETTINGS).prepare_data()


def test_an_unpacking_that_broke_off_is_not_taken_for_the_whole(files: dict[str, bytes]) -> None:
    write_archive(files)
    write_files(Path("data/speech_commands_v0.02"), dict(list(files.items())[:20]))
    with pytest.raises(FileNotFoundError, match=r"data/speech_commands_v0\.02 has no"):
        SpeechCommands(**SETTINGS).prepare_data()
