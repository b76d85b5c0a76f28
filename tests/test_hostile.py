"""Hostile and awkward input at the command line: one clear line and an exit code, or the right result."""

from __future__ import annotations

import io
import itertools
import re
import time
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from command_runs import ADDITION
from damage import damaged
from disks import mounted_disk
from hypothesis import given, settings
from hypothesis import strategies as st
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from undrawn import undrawn

from lightning_alrnn import ALRNN, ALRNNModule, SequenceBatch
from lightning_alrnn.cli import run_cli
from lightning_alrnn.commands.entry import main
from lightning_alrnn.configs import shipped_configs
from lightning_alrnn.datamodules import Arrays
from lightning_alrnn.datamodules.stimulus_archive import read_archive
from lightning_alrnn.errors import message_of
from lightning_alrnn.sweep.plan import read_config

DATA = [*ADDITION, "--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false"]
FIT = ["fit", *DATA, "--trainer.max_epochs=1", "--model.hidden_size=6"]
REGIMES = "--trainer.callbacks=RegimeOccupancy"  # instead of all callbacks
CHECKPOINT = Path("runs/Addition/version_0/checkpoints/last.ckpt")


def refused(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Error output of a command, which ends with exit code 2 and without a traceback."""
    capsys.readouterr()
    with pytest.raises(SystemExit) as error:
        main(arguments)
    assert error.value.code == 2
    printed = capsys.readouterr().err
    assert "Traceback" not in printed
    return printed


@undrawn()
def test_checkpoints_that_are_none(capsys: pytest.CaptureFixture[str]) -> None:
    main([*FIT, REGIMES])
    complete, content = CHECKPOINT.read_bytes(), torch.load(CHECKPOINT, weights_only=True)
    Path("cut.ckpt").write_bytes(complete[: len(complete) // 2])
    Path("text.ckpt").write_text("hello")
    torch.save(content["state_dict"], "weights.ckpt")
    torch.save({**content, "hyper_parameters": {**content["hyper_parameters"], "hidden_size": 9}}, "size.ckpt")
    cases = {"cut": "is not a complete checkpoint", "text": "not a complete checkpoint", "weights": "lacks state_dict"}
    Path("folder.ckpt").mkdir()
    cases |= {
        "absent": "no such file",
        "folder": "folder.ckpt is a folder without checkpoints",
        "size": "is of another network: core.W has the shape [6, 6]",
    }
    test, analyze, resume = ["test", *DATA], ["analyze", *DATA], [*FIT, "--trainer.max_epochs=2"]
    pairs = [
        *((["test"], name) for name in cases if name != "size"),
        (test, "weights"),
        (test, "size"),
        (analyze, "cut"),
        (analyze, "folder"),
        (analyze, "size"),
        (resume, "text"),
        (resume, "size"),
    ]
    for command, name in pairs:
        printed = refused([*command, f"--ckpt_path={name}.ckpt"], capsys)
        assert "alrnn: error: " in printed
        message = "model.hidden_size is 9 there and 6 here" if (command, name) == (resume, "size") else cases[name]
        assert message in printed
    printed = refused(["test", *DATA, "--model=ALRNNSeq2Seq", f"--ckpt_path={CHECKPOINT}"], capsys)
    assert "is a checkpoint of ALRNNModule, but --model is ALRNNSeq2Seq" in printed


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("model:\n  init_args:\n    hiden_size: 3\n", "hiden_size"),
        ("model:\n  init_args:\n    hidden_size: many\n", "many"),
        ("model: [\n", "alrnn: error: --config mine.yaml: it is not valid YAML in line 2, column 1: "),
        (
            "model: &m {init_args: *m}\n",
            "--config mine.yaml: it is not valid YAML in line 1, column 23: the value &m con",
        ),
        ("model: !!int many\n", "--config mine.yaml: it is not valid YAML (ValueError: invalid literal for int() with"),
        ("model: {init_args: {hidden_size: '!!int many'}}\n", "invalid literal for int() with base 10: 'many'"),
        ("seed_everything: 99999999999\n", "--seed_everything must lie between 0 and 4294967295, got 99999999999"),
        ("- 1\n- 2\n", "Unexpected config"),
        ("", "Unexpected config"),
        ("data:\n  class_path: os.system\n", "not correspond to a subclass of LightningDataModule"),
        ("trainer:\n  callbacks:\n    - class_path: NoSuch\n", "NoSuch"),
        ("model: !!python/object/apply:os.system ['touch code-ran']\n", "could not determine a constructor"),
        (b"\x00\xff\xfe", "is not UTF-8 text"),
    ],
)
def test_configurations_that_are_none(content: str | bytes, message: str, capsys: pytest.CaptureFixture[str]) -> None:
    Path("mine.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    printed = refused([*FIT, "--config=mine.yaml"], capsys)
    assert message in printed.splitlines()[-1]
    assert not Path("code-ran").exists()
    assert not Path("runs").exists()


def damage_configurations(count: int) -> int:
    """Damage shipped configurations; return how often one was read or refused in one line."""
    rng = np.random.default_rng(0)
    contents = [path.read_bytes() for path in shipped_configs().values()]
    right = 0
    for number in range(count):
        Path("mine.yaml").write_bytes(damaged(contents[int(rng.integers(len(contents)))], rng))
        try:
            read_config(["--config=mine.yaml"])
        except Exception as error:
            message = message_of(error) or f"a traceback\n{error!r}"
        else:
            message = ""
        assert "\n" not in message, f"{number}: {message}"
        right += 1
    return right


def test_damaged_configurations_are_read_or_refused_in_a_line() -> None:
    assert damage_configurations(12) == 12


@pytest.mark.slow
def test_300_damaged_configurations() -> None:
    assert damage_configurations(300) == 300


def test_an_output_directory_that_cannot_be_written_to(capsys: pytest.CaptureFixture[str]) -> None:
    Path("taken").write_text("a file where the folder should be")
    for option in (["--trainer.logger.save_dir=taken"], ["--trainer.default_root_dir=taken", "--trainer.logger=false"]):
        printed = refused([*FIT, *option], capsys)
        assert "alrnn: error: " in printed
        assert "taken" in printed.splitlines()[-1]


def test_too_little_memory_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    printed = refused([*FIT, "--data.sequence_length=99999999999999"], capsys)
    assert printed.splitlines()[-1].startswith("alrnn: error: Unable to allocate")


def test_divergence_is_said_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    printed = refused([*FIT, "--model.optimizer=SGD", "--model.optimizer.lr=1e30", "--trainer.max_epochs=5"], capsys)
    assert "training has diverged" in printed.splitlines()[-1]


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty:UserWarning")
@undrawn()
def test_two_runs_in_one_folder() -> None:
    """The later one's checkpoints and configuration are whole; TensorBoard has a file of each."""
    one = [*FIT, "--trainer.logger.version=0", REGIMES]
    main(one)
    main([*one, "--model.nonlinear_units=2", "--trainer.max_epochs=2"])
    content = torch.load(CHECKPOINT, weights_only=True)
    assert (content["epoch"], content["hyper_parameters"]["nonlinear_units"]) == (1, 2)
    assert "nonlinear_units: 2" in Path("runs/Addition/version_0/config.yaml").read_text()
    assert len(list(Path("runs/Addition/version_0").glob("events*"))) >= 2


@settings(max_examples=200, deadline=None)
@given(seed=st.integers(0, 2**32 - 1))
def test_arrays_of_any_kind_are_refused_or_come_out_right(seed: int) -> None:
    """NaN, infinity, objects, negative strides, no rows, one class, lengths of 0 and T + 1: some, or none."""
    rng = np.random.default_rng(seed)  # hypothesis's own draws are mostly of what is refused at first sight
    count, steps, width = (int(rng.choice(sizes)) for sizes in ([0, 1, 6, 9, 12, 12], [0, 1, 3, 5, 5], [0, 1, 2, 3, 3]))
    kind = str(rng.choice([*("f4", "f8", "i8", "?") * 4, "O", "U3", "c8", "M8[s]"]))
    if kind in ("O", "U3", "c8", "M8[s]"):
        inputs = np.zeros((count, steps, width), kind)
    else:
        inputs = (10 * rng.normal(size=(count, steps, width))).astype(kind)
    if inputs.size and inputs.dtype.kind == "f" and rng.random() < 0.3:
        inputs.flat[rng.integers(inputs.size)] = rng.choice([np.nan, np.inf, -np.inf])
    if rng.random() < 0.5:
        inputs = inputs[::-1, :, ::-1]
    targets = rng.integers(-1 if rng.random() < 0.1 else 0, rng.choice([1, 2, 3, 3]), size=count)
    lengths = None
    if rng.random() < 0.6:
        least, most = [(1, steps), (0, steps), (1, steps + 1)][rng.choice([0, 0, 1, 2])]
        lengths = rng.integers(min(least, most), most + 1, size=count)
    try:
        data = Arrays(inputs, targets, lengths, val_fraction=0.3, test_fraction=0.3)
        batches = [data.build(split) for split in ("train", "val", "test")]
        assert all(": " in mistake for mistake in data.likely_mistakes())  # each has a remedy
    except (ValueError, TypeError):
        return
    assert kind in ("f4", "f8", "i8", "?")
    assert sum(len(batch.inputs) for batch in batches) == count
    for batch in batches:
        assert batch.inputs.dtype == torch.float32
        assert bool(torch.isfinite(batch.inputs).all())
        assert bool(((batch.lengths >= 1) & (batch.lengths <= steps)).all())
        assert bool(((batch.targets >= 0) & (batch.targets < data.output_size)).all())


def saved(array: np.ndarray) -> bytes:
    content = io.BytesIO()
    np.save(content, array)
    return content.getvalue()


def archive(members: Mapping[str, bytes], compression: int) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", compression) as file:
        for name, member in members.items():
            file.writestr(f"{name}.npy", member)
    return content.getvalue()


def read_all(path: Path, targets: np.ndarray | None, trials: bool) -> None:
    """Read a file of arrays as a run would."""
    if trials:
        read_archive(path)
        return
    data = Arrays(path, targets)
    data.describe()
    data.likely_mistakes()
    for split in ("train", "val", "test"):
        data.build(split)


def damage_arrays(count: int) -> int:
    """Damage a .npz or .npy; return how often it was read or refused in one line."""
    rng = np.random.default_rng(0)
    classes, lengths = np.arange(12) % 3, np.full(12, 4)
    inputs = {"inputs": rng.normal(size=(12, 5, 3)).astype("f")}
    kinds: list[dict[str, np.ndarray]] = [
        {**inputs, "targets": classes, "lengths": lengths, "group": np.array(["a", "bc"] * 6)},
        {**inputs, "targets": np.ones((12, 5)), "mask": np.ones((12, 5)), "phase": np.ones((12, 5), int)},
        {"inputs": np.ones((60, 4))},
        {"spikes": np.ones((48, 3), int), "inputs": np.ones((48, 2)), "lengths": lengths, "labels": classes},
    ]
    right = 0
    for number in range(count):
        kind = int(rng.integers(4))
        members = {name: saved(array) for name, array in kinds[kind].items()}
        compression = int(rng.choice([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED]))
        if number % 4 == 0 and kind < 3:
            path, targets = Path("mine.npy"), None if kind == 2 else classes
            path.write_bytes(damaged(members["inputs"], rng))
        else:
            path, targets = Path("mine.npz"), None
            if number % 4 == 1:  # the checksums of the archive are right
                name = str(rng.choice(list(members)))
                members[name] = damaged(members[name], rng)
                path.write_bytes(archive(members, compression))
            else:
                path.write_bytes(damaged(archive(members, compression), rng))
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # NumPy's about the syntax of a header
            try:
                read_all(path, targets, trials=kind == 3)
            except Exception as error:
                message = message_of(error) or f"a traceback: {error!r}"
            else:
                message = "mine.npz is fine"
        said = "\n" not in message and re.search(r"mine\.np|^(inputs|targets|lengths|mask|group|phase)\b", message)
        assert said, f"{number}: {message}"
        right += 1
    return right


def test_damaged_arrays_are_refused_in_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    """The line names the file, or the array with a value that cannot be; the message is no NumPy's or zip's."""
    assert damage_arrays(200) == 200
    np.savez("mine.npz", inputs=np.ones((12, 5, 3)), targets=np.arange(12) % 3)
    content = Path("mine.npz").read_bytes()
    Path("mine.npz").write_bytes(content.replace(b"(12, 5, 3)", b"(12, 5, 3*"))
    printed = refused(["fit", "--data=Arrays", "--data.inputs=mine.npz"], capsys)
    assert "inputs in mine.npz cannot be read (" in printed.splitlines()[-1]


def test_mistakes_in_arrays_of_ones_own_are_said_in_a_line_with_the_remedy(capsys: pytest.CaptureFixture[str]) -> None:
    inputs, classes, ragged, gap = np.ones((12, 5, 3)), np.arange(12) % 2, np.empty(12, dtype=object), np.ones((90, 3))
    ragged[:] = [np.ones((steps, 3)) for steps in range(1, 13)]
    gap[40] = np.nan
    cases: list[tuple[dict[str, np.ndarray], str]] = [
        (
            {"inputs": ragged, "targets": classes},
            "pad sequences of different lengths into one array (N, T, K) and add ",
        ),
        ({"inputs": inputs, "targets": np.eye(2, dtype=int)[classes]}, "look one-hot, pass targets.argmax(1)"),
        ({"inputs": inputs, "targets": classes, "groups": classes}, "unknown key groups; did you mean group?"),
        ({"inputs": gap}, "index [40, 0] (nan). Interpolate it, or cut the recording into parts without gaps"),
    ]
    for content, remedy in cases:
        np.savez("mine.npz", **content)  # type: ignore[arg-type]
        printed = refused(["fit", "--data=Arrays", "--data.inputs=mine.npz", "--trainer.max_epochs=1"], capsys)
        assert printed.splitlines()[-1].startswith("alrnn: error: ")
        assert remedy in printed.splitlines()[-1]


@pytest.mark.slow
def test_4500_damaged_arrays() -> None:
    assert damage_arrays(4500) == 4500


@pytest.mark.parametrize("targets", [np.arange(12) * 2**40, np.arange(12) * 2**21])
def test_classes_beyond_number_are_refused(targets: np.ndarray) -> None:
    """Weights for them would fill the memory."""
    with pytest.raises(ValueError, match=r"targets must be less than 16,777,216, got .*: number the classes from 0"):
        Arrays(np.ones((12, 5, 3)), targets)
    with pytest.raises(ValueError, match="inputs of tokens must be less than 16,777,216"):
        Arrays(targets[:, None], np.arange(12) % 2)


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
def test_a_sequence_of_50_000_steps() -> None:
    module = ALRNNModule(1, 2, 4, 2, init="near_identity", mar_strength=0.0)
    inputs = torch.randn(2, 50_000, 1, generator=torch.Generator().manual_seed(0))
    output = module.training_step(SequenceBatch(inputs, torch.arange(2), torch.full((2,), 50_000)), 0)
    output["loss"].backward()
    assert all(bool(torch.isfinite(parameter.grad).all()) for parameter in module.parameters() if parameter.numel())
    # the last 1,000 steps say all there is to say of the last state, as modes decay
    tail = module(inputs[:, -1000:]).states
    torch.testing.assert_close(tail[:, -1], output["states"][:, -1], rtol=1e-4, atol=1e-5)


@undrawn()
def test_a_clock_that_jumps_back(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = run_cli([*FIT, "--trainer.max_epochs=3"]).trainer.callback_metrics
    now, jumps = time.time(), itertools.count()
    monkeypatch.setattr(time, "time", lambda: now - 3600.0 * next(jumps))
    cli = run_cli([*FIT, "--trainer.max_epochs=3"])
    assert {key: float(value) for key, value in cli.trainer.callback_metrics.items()} == pytest.approx(
        {key: float(value) for key, value in plain.items()}, nan_ok=True
    )
    events = EventAccumulator(str(cli.trainer.log_dir))
    events.Reload()
    assert [event.step for event in events.Scalars("val/loss")] == [1, 3, 5]


def test_a_read_only_disk(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with mounted_disk(tmp_path / "read-only", "ro,size=1m") as folder:  # not even root can write there
        said = refused([*FIT, f"--trainer.logger.save_dir={folder}"], capsys)
    assert said.splitlines()[-1].startswith("alrnn: error: [Errno 30] Read-only file system: ")


def batch_of(steps: int, size: int = 2) -> SequenceBatch:
    generator = torch.Generator().manual_seed(0)
    inputs = torch.randn(size, steps, 1, generator=generator)
    return SequenceBatch(inputs, torch.arange(size) % 2, torch.full((size,), steps))


@pytest.mark.filterwarnings("ignore:You are trying to `self.log:UserWarning")
@pytest.mark.parametrize(("hidden", "nonlinear"), [(1, 0), (1, 1), (4, 2)])
@pytest.mark.parametrize("steps", [1, 2])
def test_the_smallest_networks_and_sequences(hidden: int, nonlinear: int, steps: int) -> None:
    module = ALRNNModule(1, 2, hidden, nonlinear, init="near_identity")
    batch = batch_of(steps)
    module.training_step(batch, 0)["loss"].backward()
    assert isinstance(module.core, ALRNN)
    z = torch.zeros(2, hidden)
    for t in range(steps):
        z = module.core.step(z, batch.inputs[:, t])
    torch.testing.assert_close(module(batch.inputs, batch.lengths).states[:, -1], z)
    assert all(bool(torch.isfinite(p.grad).all()) for p in module.parameters() if p.grad is not None)
