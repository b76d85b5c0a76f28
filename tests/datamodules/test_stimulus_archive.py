"""Recorded trials in archives of plain arrays."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lightning_alrnn.batch import NeuralBatch, SequenceBatch
from lightning_alrnn.datamodules import StimulusSelection, save_trials
from lightning_alrnn.datamodules.base import SPLITS
from lightning_alrnn.datamodules.stimulus_archive import read_archive

COUNT, N, K = 12, 3, 2


def trials(lengths: list[int], high: int = 4) -> tuple[list[np.ndarray], list[np.ndarray]]:
    rng = np.random.default_rng(0)
    return [rng.integers(0, high, (t, N)) for t in lengths], [rng.normal(size=(t, K)).astype("f") for t in lengths]


def arrays(**changes: Any) -> dict[str, Any]:
    """The arrays of a sound archive, some of them replaced; ``None`` leaves one out."""
    lengths = np.arange(COUNT) % 4 + 1
    spikes, inputs = trials(lengths.tolist())
    sound = {
        "spikes": np.concatenate(spikes),
        "inputs": np.concatenate(inputs),
        "lengths": lengths,
        "labels": np.arange(COUNT) % 3,
    }
    return {name: array for name, array in (sound | changes).items() if array is not None}


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    lengths=st.lists(st.integers(1, 6), min_size=3, max_size=20),
    high=st.sampled_from([2, 256, 257, 70_000]),
    as_float=st.booleans(),
    text=st.booleans(),
)
def test_what_is_saved_is_what_is_read(
    tmp_path: Path, lengths: list[int], high: int, as_float: bool, text: bool
) -> None:
    spikes, inputs = trials(lengths, high)
    spikes[0][0, 0] = high - 1
    names = np.array(["left", "right"])
    labels = np.arange(len(lengths)) % 2
    given_spikes = [trial.astype(float) for trial in spikes] if as_float else spikes
    save_trials(tmp_path / "a.npz", given_spikes, inputs, names[labels] if text else labels, group=labels + 1)
    data = StimulusSelection(tmp_path / "a.npz", neural=True)
    assert (data.input_size, data.num_units, data.output_size) == (K, N, 2)
    assert data.class_names == (["left", "right"] if text else None)
    assert not data.simulated
    assert data.channel_names is None
    seen = []
    for split in SPLITS:
        batch = data.build(split)
        assert isinstance(batch, NeuralBatch)
        assert batch.inputs.dtype == torch.float32
        assert batch.spikes.dtype == (torch.uint8 if high <= 256 else torch.int32)
        for row in range(len(batch.inputs)):
            trial = int(data._rows[split][row])
            length = int(batch.lengths[row])
            assert length == lengths[trial]
            for field, expected in ((batch.spikes, spikes), (batch.inputs, inputs)):
                assert np.array_equal(field[row, :length], expected[trial])
                assert not field[row, length:].any()
            assert batch.targets[row] == labels[trial]
            assert batch.group[row] == labels[trial] + 1
            seen.append(trial)
        data.dataset(split)  # finite and named
    assert sorted(seen) == list(range(len(lengths)))


def test_blocks_are_not_divided(tmp_path: Path) -> None:
    block = np.array(list("ccccaaaabbbb"))
    labels = np.arange(COUNT) % 2
    np.savez(tmp_path / "a.npz", **arrays(block=block, labels=labels, group=block))
    data = StimulusSelection(str(tmp_path / "a.npz"))
    assert (data.num_units, data.group_names) == (None, ["a", "b", "c"])
    assert isinstance(data.build("train"), SequenceBatch)
    groups = [data.build(split).group for split in SPLITS]
    assert sorted(tuple(group.tolist()) for group in groups) == [(0,) * 4, (1,) * 4, (2,) * 4]  # type: ignore[union-attr]


def ragged() -> np.ndarray:
    array = np.empty(2, dtype=object)
    array[:] = [np.zeros((2, N)), np.zeros((3, N))]
    return array


class Harmful:
    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (Path("touched"),)


@pytest.mark.parametrize("array", [ragged(), np.array([Harmful()] * 3, dtype=object)])
@pytest.mark.parametrize("name", ["spikes", "labels"])
def test_pickles_are_refused(tmp_path: Path, name: str, array: np.ndarray) -> None:
    np.savez(tmp_path / "a.npz", allow_pickle=True, **arrays(**{name: array}))
    with pytest.raises(
        TypeError, match=rf"{name} in .*a\.npz is a pickle of Python objects, which is never loaded: .*save_trials"
    ):
        StimulusSelection(tmp_path / "a.npz")
    assert not Path("touched").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"labels": None}, r"has no labels\. An archive must have spikes, .*, labels and may have group, block$"),
        ({"choices": np.zeros(COUNT)}, r"must have spikes"),
        ({"spikes": np.zeros((29, N))}, r"spikes must be \(30, N units\), .* got \(29, 3\)"),
        ({"inputs": np.zeros((30, 0))}, r"inputs must be \(30, K channels\), .* got \(30, 0\)"),
        ({"inputs": np.zeros(30)}, r"inputs must be \(30, K channels\)"),
        ({"inputs": np.full((30, 2), "x")}, r"inputs must hold numbers, got <U1"),
        ({"spikes": np.full((30, N), 0.5)}, r"spikes must be whole numbers from 0, got 0\.5 at index \[0, 0\]"),
        ({"spikes": np.full((30, N), -1)}, r"spikes must be whole numbers from 0, got -1 at index \[0, 0\]"),
        ({"spikes": np.full((30, N), np.nan)}, r"spikes must be whole numbers from 0, got nan"),
        ({"spikes": np.full((30, N), 2.0**40)}, r"spikes must be whole numbers from 0"),
        ({"lengths": np.arange(COUNT) % 4}, r"lengths must be whole numbers from 1, got 0 at index 0"),
        ({"lengths": np.array(["1"])}, r"lengths must be whole numbers, got <U1"),
        ({"lengths": np.zeros(0, int), "spikes": np.zeros((0, N))}, r"lengths is empty"),
        ({"labels": np.arange(5)}, r"labels must have shape \(12,\), one for each trial, got \(5,\)"),
        ({"labels": np.zeros(COUNT, int)}, r"labels have only one choice"),
        ({"labels": np.full(COUNT, "left")}, r"a\.npz"),
        ({"group": np.zeros((COUNT, 1))}, r"group must have shape \(12,\)"),
        ({"group": -np.ones(COUNT)}, r"group must be whole numbers from 0, got -1\.0 at index 0"),
    ],
)
def test_an_error_names_file_and_array(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    np.savez(tmp_path / "a.npz", **arrays(**changes))
    with pytest.raises(ValueError, match=message) as error:
        read_archive(tmp_path / "a.npz")
    assert str(tmp_path / "a.npz") in str(error.value)


def test_a_damaged_archive(tmp_path: Path) -> None:
    np.savez(tmp_path / "b.npz", **arrays())
    content = bytearray((tmp_path / "b.npz").read_bytes())
    start = content.index(b"NUMPY")
    content[start + 200] ^= 0xFF  # within the first array: its checksum fails
    (tmp_path / "b.npz").write_bytes(content)
    with pytest.raises(ValueError, match=r"spikes in .*b\.npz cannot be read"):
        StimulusSelection(tmp_path / "b.npz")


def test_spikes_and_inputs_of_different_lengths_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"of each trial must have the same number of bins, got \[2\] … and \[3\] …"):
        save_trials(tmp_path / "a.npz", [np.zeros((2, N))], [np.zeros((3, K))], [0])
    assert not (tmp_path / "a.npz").exists()


def test_objects_are_not_saved(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="allow_pickle=False"):
        save_trials(tmp_path / "a.npz", [np.zeros((2, N))], [np.zeros((2, K))], [None])
