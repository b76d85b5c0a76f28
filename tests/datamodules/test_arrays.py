"""The user's own arrays."""

import copy
import pickle
import subprocess
import sys
from inspect import signature
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from tiny_runs import QUIET

from lightning_alrnn.batch import SequenceBatch, Split, valid_steps
from lightning_alrnn.datamodules import Arrays, PopulationDataModule, arrays
from lightning_alrnn.datamodules.base import SPLITS, ArrayDataset, SequenceDataset

N, T, K = 6, 5, 3
INDEX = {"train_index": [0, 1, 2, 3], "val_index": [4], "test_index": [5]}
EVERY = (("regression", "every", 1), (N, T, 1))


def inputs(count: int = N, steps: int = T, channels: int = K) -> np.ndarray:
    return np.random.default_rng(0).normal(size=(count, steps, channels))


def everything(data: Arrays) -> SequenceBatch:
    """The sequences of all splits in their original order."""
    batches = [data.build(split) for split in SPLITS]
    order = np.argsort(np.concatenate([data._data.rows[split] for split in SPLITS]))
    return SequenceBatch(*(None if f[0] is None else torch.cat(f)[order] for f in zip(*batches, strict=True)))


def meaning(data: Arrays) -> tuple:
    return data.objective, data.target_step, data.output_size


class TestMeaning:
    @pytest.mark.parametrize(
        ("targets", "arguments", "expected", "shape"),
        [
            (np.arange(N) % 3, {}, ("classification", "last", 3), (N,)),
            (np.arange(N, dtype=np.uint8) % 3, {"num_classes": 7}, ("classification", "last", 7), (N,)),
            (np.arange(N) % 3, {"objective": "regression"}, ("regression", "last", 1), (N, 1)),
            (np.zeros(N, bool), {}, ("classification", "last", 2), (N,)),
            ((np.arange(N) % 3).astype(float), {"objective": "classification"}, ("classification", "last", 3), (N,)),
            (torch.arange(N * T).reshape(N, T) % 4, {}, ("classification", "every", 4), (N, T)),
            (np.ones((N, T), bool), {}, ("classification", "every", 2), (N, T)),
            (np.ones((N, T), int), {"objective": "regression", "target_step": "every"}, *EVERY),
            (np.ones(N), {}, ("regression", "last", 1), (N, 1)),
            (np.ones((N, 2), np.float16), {}, ("regression", "last", 2), (N, 2)),
            (torch.ones(N, 2, dtype=torch.bfloat16), {}, ("regression", "last", 2), (N, 2)),
            (np.ones((N, T, 4)), {}, ("regression", "every", 4), (N, T, 4)),
            (np.ones((N, T)), {"target_step": "every"}, *EVERY),
            (np.ones((N, T)), {"target_step": "last"}, ("regression", "last", T), (N, T)),
            ([np.ones(2)] * N, {}, ("regression", "last", 2), (N, 2)),
        ],
    )
    def test_is_read_off_type_and_shape(self, targets, arguments, expected, shape) -> None:
        data = Arrays(inputs(), targets, **arguments)
        assert meaning(data) == expected
        assert (data.input_size, data.class_names, data.group_names, data.vocab_size) == (K, None, None, None)
        batch = everything(data)
        assert batch.targets.shape == shape
        assert batch.targets.dtype == (torch.int64 if expected[0] == "classification" else torch.float32)
        given_values = torch.as_tensor(np.array(targets) if isinstance(targets, list) else targets)
        assert torch.equal(batch.targets.flatten().double(), given_values.flatten().double())

    def test_texts_are_classes_and_groups_with_names(self) -> None:
        # as pandas has texts
        data = Arrays(inputs(), np.array(["right", "left", "no-go"] * 2, dtype=object), group=np.array(["b", "a"] * 3))
        assert meaning(data) == ("classification", "last", 3)
        assert data.class_names == ["left", "no-go", "right"]
        assert data.group_names == ["a", "b"]
        batch = everything(data)
        assert batch.targets.tolist() == [2, 0, 1, 2, 0, 1]
        assert batch.group.tolist() == [1, 0, 1, 0, 1, 0]

    def test_tokens(self) -> None:
        tokens = np.array([[3, 1, 0], [2, 9, -7], [5, 4, 1]], dtype=np.int32)
        data = Arrays(tokens, [0, 1, 1], lengths=[3, 1, 3])
        assert data.vocab_size == data.input_size == 6  # 9 and -7 are past the second sequence's end
        batch = everything(data)
        assert batch.inputs.dtype == torch.int64
        assert batch.inputs.tolist() == [[3, 1, 0], [2, 0, 0], [5, 4, 1]]
        assert batch.lengths.tolist() == [3, 1, 3]


class TestPhases:
    LENGTHS = (5, 1, 2, 3, 4, 5)

    @pytest.mark.parametrize("dtype", [np.int64, np.uint8, float, np.int32])
    def test_numbers(self, dtype) -> None:
        numbers = np.arange(N * T).reshape(N, T) % 3
        phase = numbers.astype(dtype)
        phase[np.arange(T) >= np.array(self.LENGTHS)[:, None]] = np.nan if dtype is float else 99  # not looked at
        data = Arrays(inputs(), np.zeros(N), lengths=self.LENGTHS, phase=phase)
        batch = everything(data)
        assert data.phase_names is None
        assert batch.phase.dtype == torch.int64
        for row, length in enumerate(self.LENGTHS):
            assert batch.phase[row].tolist() == numbers[row, :length].tolist() + [-1] * (T - length)

    def test_names_by_alphabet_and_none(self) -> None:
        texts = np.array([["stimulus", "", "delay", "delay", "unused"]] * N)
        data = Arrays(inputs(), np.zeros(N), lengths=[4] * N, phase=texts)
        assert data.phase_names == ["delay", "stimulus"]  # values past the length do not count
        assert everything(data).phase.tolist() == [[1, -1, 0, 0, -1]] * N
        nowhere = Arrays(inputs(), np.zeros(N), phase=np.full((N, T), ""))
        assert nowhere.phase_names == []
        assert (everything(nowhere).phase == -1).all()

    @pytest.mark.parametrize("names", [True, False])
    def test_a_list_goes_with_sequences_of_different_lengths(self, names: bool) -> None:
        series = [np.ones((length, 2)) for length in self.LENGTHS]
        phases = [(["a", "b", "c", "d", "e"] if names else [0, 1, 2, 3, 4])[:length] for length in self.LENGTHS]
        data = Arrays(series, np.zeros(N), phase=[np.array(phase) for phase in phases])
        expected = [[*range(length)] + [-1] * (T - length) for length in self.LENGTHS]
        assert everything(data).phase.tolist() == expected
        assert data.phase_names == (["a", "b", "c", "d", "e"] if names else None)

    def test_one_step_and_tokens(self) -> None:
        batch = everything(Arrays(np.ones((3, 1), int), [0, 1, 1], phase=[[2], [0], [-1]]))
        assert batch.phase.tolist() == [[2], [0], [-1]]


class TestPadding:
    @pytest.mark.parametrize("classes", [True, False])
    @pytest.mark.parametrize("every", [True, False])
    @pytest.mark.parametrize(("extra", "rubbish"), [(0, np.nan), (3, np.inf), (1, -1e300)])
    def test_lists_equal_padded_arrays(self, classes: bool, every: bool, extra: int, rubbish: float) -> None:
        rng = np.random.default_rng(0)
        lengths = [3, 1, 5, 2, 5]
        series = [rng.normal(size=(steps, 2)) for steps in lengths]
        shapes = [(steps,) if classes else (steps, 2) for steps in lengths] if every else [() if classes else (10,)] * 5
        targets = [rng.integers(0, 4, shape) if classes else rng.normal(size=shape) for shape in shapes]
        padded, padded_targets = np.full((5, 5 + extra, 2), rubbish), np.array(targets) if not every else None
        if padded_targets is None:
            filler = -100 if classes else rubbish
            padded_targets = np.full((5, 5 + extra, *shapes[0][1:]), filler, targets[0].dtype)
        for row, length in enumerate(lengths):
            padded[row, :length] = series[row]
            if every:
                padded_targets[row, :length] = targets[row]
        arguments = {"num_classes": 4} if classes else {}
        by_list = everything(Arrays(series, targets, **arguments))
        by_array = everything(Arrays(padded, padded_targets, lengths=lengths, **arguments))
        assert by_list.inputs.shape == (5, 5, 2)
        assert by_array.inputs.shape == padded.shape
        for batch in (by_list, by_array):
            assert batch.lengths.tolist() == lengths
            for row, length in enumerate(lengths):
                fields = [(batch.inputs, series), (batch.targets, targets)]
                for values, expected in fields if every else fields[:1]:
                    assert torch.equal(values[row, :length], torch.as_tensor(expected[row]).to(values.dtype))
                    assert not values[row, length:].any()
            assert every or torch.equal(batch.targets, torch.as_tensor(np.array(targets)).to(batch.targets.dtype))

    def test_masked_targets_are_ignored(self) -> None:
        mask = np.ones((N, T), bool)
        mask[2, 1] = mask[3, 4] = False
        floats, classes = np.ones((N, T, 2)), np.ones((N, T), int)
        floats[~mask], classes[~mask] = np.nan, -100
        for targets in (floats, classes):
            batch = everything(Arrays(inputs(), targets, mask=mask))
            assert not batch.targets[torch.as_tensor(~mask)].any()
            assert (batch.targets[torch.as_tensor(mask)] == 1).all()
            assert torch.equal(batch.mask, torch.as_tensor(mask).float())

    @pytest.mark.parametrize("writeable", [True, False])
    def test_user_arrays_are_left_alone(self, writeable: bool) -> None:
        # of the very types that batches have, so that nothing need be copied to convert it
        shapes = {"inputs": (N, T, K), "targets": (N, T, 1), "mask": (N, T)}
        arrays = {name: np.ones(shape, np.float32) for name, shape in shapes.items()}
        arrays |= {"lengths": np.array([1, 2, 3, 4, 5, 1]), "group": np.arange(N), "phase": np.arange(30).reshape(N, T)}
        before = copy.deepcopy(arrays)
        for array in arrays.values():
            array.flags.writeable = writeable
        data = Arrays(**arrays)
        for split in SPLITS:
            for field in data.build(split):
                field.zero_()
        for name, array in arrays.items():
            np.testing.assert_array_equal(array, before[name])
        recording = np.ones((20, 2), np.float32)
        for field in Arrays(recording).build("train")[:2]:
            field.zero_()
        assert (recording == 1).all()

    def test_masks_and_targets_of_a_list_go_with_padded_inputs(self) -> None:
        lengths = [1, 2, 3, 4, 1, 2]
        data = Arrays(
            inputs(),
            [np.arange(steps, dtype=float) for steps in lengths],
            lengths=lengths,
            mask=[np.full(steps, 2.0) for steps in lengths],
        )
        # targets of as many steps as each sequence can only be meant for every step
        assert meaning(data) == ("regression", "every", 1)
        batch = everything(data)
        assert batch.targets[3, :, 0].tolist() == [0, 1, 2, 3, 0]
        assert batch.mask.sum(1).tolist() == [2 * steps for steps in lengths]

    def test_all_lengths_one(self) -> None:
        batch = everything(Arrays([np.ones((1, 2))] * 3, [0, 1, 0]))
        assert batch.inputs.shape == (3, 1, 2)
        assert batch.lengths.tolist() == [1, 1, 1]
        # every step is then the last step
        assert meaning(Arrays(inputs(steps=1), np.ones((N, 1)))) == ("regression", "last", 1)

    def test_many_different_types_in_a_list(self) -> None:
        series = [np.ones((2, 1), np.float32), torch.ones(3, 1, dtype=torch.int32), [[1.0]]] * 40
        assert everything(Arrays(series, np.ones(120))).inputs.sum() == 240


class TestSplits:
    @settings(max_examples=60, deadline=None)
    @given(count=st.integers(3, 60), val=st.floats(0.01, 0.4), test=st.floats(0.01, 0.4), seed=st.integers(0, 2**40))
    def test_fractions_partition_in_order(self, count: int, val: float, test: float, seed: int) -> None:
        number = np.arange(count)
        data = Arrays(number[:, None, None], number.astype(float), val_fraction=val, test_fraction=test, seed=seed)
        rows_of = {split: data.build(split).targets[:, 0].int().tolist() for split in SPLITS}
        assert sorted(chain.from_iterable(rows_of.values())) == number.tolist()
        assert all(rows == sorted(rows) for rows in rows_of.values())
        assert len(rows_of["val"]) == max(1, round(count * val))
        assert len(rows_of["test"]) == max(1, round(count * test))
        again = Arrays(number[:, None, None], number.astype(float), val_fraction=val, test_fraction=test, seed=seed)
        assert again.build("val").targets[:, 0].int().tolist() == rows_of["val"]

    def test_seeds_differ(self) -> None:
        number = np.arange(100.0)
        first, other = (Arrays(number[:, None, None], number, seed=seed).build("val").targets for seed in (0, 1))
        assert not torch.equal(first, other)

    def test_fields_stay_together(self) -> None:
        number = np.arange(30)
        data = Arrays(
            np.repeat(number[:, None, None], 31, axis=1),
            np.repeat(number[:, None], 31, axis=1),
            lengths=number + 1,
            mask=np.repeat(number[:, None] + 1, 31, axis=1),
            group=number,
        )
        for split in SPLITS:
            batch = data.build(split)
            for field in (batch.inputs[:, 0, 0], batch.targets[:, 0], batch.lengths - 1, batch.mask[:, 0] - 1):
                assert field.tolist() == batch.group.tolist()
            assert torch.equal(batch.mask > 0, valid_steps(batch.lengths, 31))

    def test_indices_in_the_order_given(self) -> None:
        number = np.arange(6.0)
        index = {"train_index": [2, 0], "val_index": np.array([5.0]), "test_index": torch.tensor([4, 3])}
        data = Arrays(number[:, None, None], number, **index)
        values = [data.build(split).targets[:, 0].tolist() for split in SPLITS]
        assert values == [[2, 0], [5], [4, 3]]  # and sequence 1 is left out


class TestRecording:
    @settings(max_examples=80, deadline=None)
    @given(steps=st.integers(20, 200), window=st.integers(1, 60), val=st.floats(0.15, 0.4), test=st.floats(0.15, 0.4))
    def test_every_transition_within_a_part_once_and_none_across(
        self, steps: int, window: int, val: float, test: float
    ) -> None:
        time = np.arange(1.0, steps + 1)
        data = Arrays(np.stack([time, -time], axis=1), window=window, val_fraction=val, test_fraction=test)
        assert meaning(data) == ("regression", "every", 2)
        assert data.input_size == 2
        ends = np.cumsum([steps - round(steps * val) - round(steps * test), round(steps * val), round(steps * test)])
        for split, start, end in zip(SPLITS, (0, *ends), ends, strict=False):
            batch = data.build(split)
            assert batch.inputs.shape == batch.targets.shape
            assert batch.inputs.shape[1] == min(window, end - start - 1)
            assert (batch.lengths[:-1] == batch.inputs.shape[1]).all()
            assert (batch.inputs[..., 1] == -batch.inputs[..., 0]).all()
            transitions = []
            for values, targets, length in zip(batch.inputs[..., 0], batch.targets[..., 0], batch.lengths, strict=True):
                transitions += list(zip(values[:length].tolist(), targets[:length].tolist(), strict=True))
                assert not values[length:].any()
                assert not targets[length:].any()
            assert transitions == [(t + 1.0, t + 2.0) for t in range(start, end - 1)]

    def test_nan_is_named_by_its_place_in_time(self) -> None:
        values = np.ones((100, 3))
        values[90, 2] = np.nan
        data = Arrays(values)
        data.setup("fit")
        remedy = r"Interpolate it, or cut the recording into parts .* inputs=\[part\[:-1\] .*targets=\[part\[1:\] for"
        with pytest.raises(ValueError, match=rf"inputs must be finite; .* at index \[90, 2\] \(nan\)\. {remedy}"):
            data.setup("test")
        with pytest.raises(ValueError, match=remedy):
            Arrays(values[85:], standardize=True, val_fraction=0.2).likely_mistakes() or Arrays(values[85:]).setup(
                "fit"
            )
        parts = [values[:90], values[91:]]
        cut = Arrays([part[:-1] for part in parts] * 3, [part[1:] for part in parts] * 3)
        assert meaning(cut) == ("regression", "every", 3)
        assert torch.equal(everything(cut).inputs[0, :89], torch.as_tensor(values[:89]).float())

    @pytest.mark.parametrize(
        ("shape", "arguments", "message"),
        [
            ((9, 2), {}, "the val split of a recording needs at least 2 steps.* got 1 of 9"),
            ((9, 2), {"val_fraction": 0.49, "test_fraction": 0.49}, "the train split of a recording.* got 1 of 9"),
            ((0, 2), {}, "the train split of a recording needs at least 2 steps"),
            ((50, 0), {}, r"at least one channel, got \(50, 0\) float64"),
            ((50, 2), {"group": [0]}, "one recording, which has no group"),
            ((50, 2), {"train_index": [0], "mask": [1]}, "has no mask, train_index"),
            ((50, 2), {"objective": "classification"}, "leave objective and target_step out, or pass targets"),
            ((50, 2), {"target_step": "last"}, "leave objective and target_step out, or pass targets"),
            ((50, 2), {"num_classes": 3}, "num_classes is for classification, but a recording is for regression"),
            ((50, 2), {"window": 0}, "window must be at least 1, got 0"),
        ],
    )
    def test_bad_arguments(self, shape, arguments, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Arrays(np.zeros(shape), **arguments)


class TestFiles:
    def test_archive_with_everything(self, tmp_path: Path) -> None:
        arrays = {
            "inputs": inputs(),
            "targets": np.array(list("abcabc")),
            "lengths": np.array([5, 4, 3, 2, 1, 5]),
            "group": np.array([0, 1, 0, 1, 0, 1]),
            "phase": np.array([["fixation", "stimulus", "delay", "delay", "response"]] * N),
            **{name: np.array(index) for name, index in INDEX.items()},
        }
        path = tmp_path / "data.npz"
        np.savez(path, **arrays)
        from_file, from_memory = Arrays(str(path)), Arrays(**arrays)
        assert from_file.class_names == from_memory.class_names == ["a", "b", "c"]
        assert from_file.phase_names == from_memory.phase_names == ["delay", "fixation", "response", "stimulus"]
        for split in SPLITS:
            for one, other in zip(from_file.build(split), from_memory.build(split), strict=True):
                assert (one is None and other is None) or torch.equal(one, other)

    def test_arguments_take_precedence_over_the_archive(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "data.npz", inputs=inputs(), targets=np.ones(N))
        assert meaning(Arrays(tmp_path / "data.npz", targets=np.arange(N))) == ("classification", "last", N)

    def test_separate_files(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", inputs())
        np.save(tmp_path / "y.npy", np.arange(N))
        np.save(tmp_path / "lengths.npy", np.full(N, 2))
        data = Arrays(str(tmp_path / "x.npy"), targets=tmp_path / "y.npy", lengths=str(tmp_path / "lengths.npy"))
        assert meaning(data) == ("classification", "last", N)
        batch = everything(data)
        assert torch.equal(batch.inputs[:, :2], torch.as_tensor(inputs()[:, :2]).float())
        assert not batch.inputs[:, 2:].any()

    @pytest.mark.parametrize("dtype", [">f8", "<f4", ">i2", "f2", "u2"])
    @pytest.mark.parametrize("order", ["C", "F"])
    def test_byte_orders_and_memory_layouts(self, tmp_path: Path, dtype: str, order: str) -> None:
        values = np.arange(N * T * K).reshape(N, T, K)
        np.save(tmp_path / "x.npy", np.asarray(values, dtype=dtype, order=order))
        batch = everything(Arrays(tmp_path / "x.npy", np.ones(N)))
        assert torch.equal(batch.inputs, torch.as_tensor(values).float())

    def test_files_are_mapped_not_read_and_not_pickled(self, tmp_path: Path) -> None:
        np.save(tmp_path / "x.npy", np.zeros((4000, 50), np.float32))
        data = Arrays(str(tmp_path / "x.npy"))
        assert isinstance(data._data._values, np.memmap)
        pickled = pickle.dumps(data)
        assert len(pickled) < 5000  # the file has 800,000 bytes
        assert torch.equal(pickle.loads(pickled).build("val").inputs, data.build("val").inputs)

    def test_arrays_are_pickled(self) -> None:
        data = Arrays(inputs(), np.arange(N))
        data.setup("fit")
        again = pickle.loads(pickle.dumps(data))
        assert meaning(again) == meaning(data)
        assert torch.equal(again.build("train").inputs, data.build("train").inputs)
        assert torch.equal(copy.deepcopy(data).build("test").inputs, data.build("test").inputs)

    @pytest.mark.parametrize(
        ("arguments", "error", "message"),
        [
            ({"inputs": "gone.npy"}, FileNotFoundError, "inputs: there is no file .*gone.npy"),
            ({"inputs": "gone.npz"}, FileNotFoundError, "inputs: there is no file .*gone.npz"),
            ({"lengths": "gone.npy"}, FileNotFoundError, "lengths: there is no file"),
            ({"inputs": Path("x.mat")}, ValueError, r"inputs must be a \.npz or \.npy file, got x\.mat: load the file"),
            ({"targets": "y.npz"}, ValueError, r"targets must be a \.npy file, got y\.npz"),
        ],
    )
    def test_paths(self, arguments, error: type[Exception], message: str) -> None:
        with pytest.raises(error, match=message):
            Arrays(**{"inputs": inputs(), "targets": np.ones(N), **arguments})

    @pytest.mark.parametrize("suffix", ["npy", "npz"])
    @pytest.mark.parametrize("content", [b"", b"hello", b"\x93NUMPY", b"PK\x03\x04"])
    def test_broken_file(self, tmp_path: Path, suffix: str, content: bytes) -> None:
        path = tmp_path / f"x.{suffix}"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=rf".*x\.{suffix} is not a \.{suffix} .*save the arrays? with np\.save"):
            Arrays(path)

    def test_confused_suffixes(self, tmp_path: Path) -> None:
        np.savez(tmp_path / "x.npz", inputs=inputs())
        (tmp_path / "x.npz").rename(tmp_path / "x.npy")
        with pytest.raises(ValueError, match=r"or rename an archive to \.npz"):
            Arrays(tmp_path / "x.npy")
        np.save(tmp_path / "y.npy", inputs())
        (tmp_path / "y.npy").rename(tmp_path / "y.npz")
        with pytest.raises(ValueError, match=r"is a single array, not an archive: .* a single array goes into a \.npy"):
            Arrays(tmp_path / "y.npz")

    def test_pickled_objects_are_refused(self, tmp_path: Path) -> None:
        ragged = np.array([np.zeros((2, 1)), np.zeros((3, 1))], dtype=object)
        np.save(tmp_path / "x.npy", ragged)
        padded = (
            r"pad sequences of different lengths into one array \(N, T, K\) and add lengths, or pass a list of arrays"
        )
        with pytest.raises(TypeError, match=rf"inputs in .*x.npy is a pickle of .* never loaded: {padded} in Python$"):
            Arrays(tmp_path / "x.npy")
        names = np.array(["left", "right"] * 3, dtype=object)
        for content, message in (
            ({"inputs": ragged, "targets": np.arange(2)}, rf"inputs in x\.npz is a pickle .*: {padded} in Python$"),
            (
                {"inputs": inputs(), "targets": names},
                r"targets in x\.npz .*: save texts as targets\.astype\(str\); pad",
            ),
            (
                {"inputs": inputs(), "targets": np.ones(N), "group": names},
                r"loaded: save texts as group\.astype\(str\)$",
            ),
            ({"inputs": inputs(), "targets": np.ones(N), "input_names": names[:3]}, r"as input_names\.astype\(str\)$"),
        ):
            np.savez("x.npz", **content)
            with pytest.raises(TypeError, match=message):
                Arrays("x.npz")

    @pytest.mark.parametrize(
        ("changes", "message"),
        [
            (
                {"groups": 1},
                r"has the unknown key groups; did you mean group\? An archive must have inputs and may have",
            ),
            (
                {"targets": None, "target": 1, "length": 1},
                "unknown keys target, length; did you mean targets, lengths?",
            ),
            ({"inputs": None, "targets": None, "X": 1, "y": 1}, "unknown keys X, y; did you mean inputs, targets?"),
            ({"targets": None, "Labels": 1}, "unknown key Labels; did you mean targets?"),
            ({"target": 1}, r"unknown key target\. An archive must"),  # beside targets
            (
                {"weather": 1},
                r"unknown key weather\. An archive must .* may have targets, lengths, mask, group, phase, ",
            ),
            ({"inputs": None}, r"x\.npz has no inputs\. An archive must have inputs and may have targets"),
        ],
    )
    def test_unknown_names_of_an_archive(self, changes, message: str) -> None:
        content = {"inputs": inputs(), "targets": np.ones(N), **changes}
        np.savez("x.npz", **{name: array for name, array in content.items() if array is not None})
        with pytest.raises(
            ValueError, match=message.replace("lengths?", r"lengths\?").replace("targets?", r"targets\?")
        ):
            Arrays("x.npz")


def nan_at(shape, *index: int) -> np.ndarray:
    values = np.zeros(shape)
    values[index] = np.nan
    return values


def labels(low: int, kind: type = int) -> np.ndarray:
    return (np.arange(90) % 3 + low).astype(kind)


def padded(rng: np.random.Generator) -> np.ndarray:
    """Sequences of different lengths, padded with zeros; some begin with silence or have channels that are often 0."""
    count, steps, channels = int(rng.integers(30, 200)), int(rng.integers(10, 60)), int(rng.integers(1, 5))
    x = rng.normal(size=(count, steps, channels)) * (rng.random((count, steps, channels)) < rng.choice([1.0, 0.9]))
    x[:, : int(rng.integers(0, steps // 8 + 1))] = 0
    lengths = rng.integers(steps // 3, steps + 1, size=count)
    x[np.arange(steps) >= lengths[:, None]] = 0
    return x


def unpadded(rng: np.random.Generator) -> np.ndarray:
    """Sequences with zeros that are data: pulses, one pulse, a stimulus before a delay, or counts."""
    count, steps, channels = int(rng.integers(30, 200)), int(rng.integers(10, 60)), int(rng.integers(1, 5))
    x, kind = np.zeros((count, steps, channels)), int(rng.integers(5))
    if kind == 0:
        x = (rng.random(x.shape) < rng.choice([0.01, 0.1, 0.3])).astype(float)
    elif kind == 1:
        x[np.arange(count), rng.integers(0, steps, count), rng.integers(0, channels, count)] = 1
    elif kind == 2:
        x[:, : steps // 2] = rng.normal(size=(count, steps // 2, channels))
    elif kind == 3:
        onset = rng.integers(0, steps // 2, count)[:, None]
        x[(np.arange(steps) >= onset) & (np.arange(steps) < onset + steps // 2)] = 1
    else:
        x = rng.poisson(rng.choice([0.1, 1.0]), x.shape).astype(float)
    return x


class TestMistakes:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"targets": labels(1)},
                "class 0 of 4 never occurs in any target: number the classes from 0 without gaps, or set num_classes=4",
            ),
            (
                {"targets": labels(0)[:, None].repeat(5, 1) + 6, "mask": np.eye(5)[[1] * 90], "target_step": "every"},
                "classes 0, 1, 2, 3, 4, … of 9 never occur in any target: number the classes from 0",
            ),
            (
                {
                    "targets": np.array(["a", "b"] * 40 + ["c"] * 10),
                    **{name: range(10 * k, 10 * k + 10, 1 + (k == 0)) for k, name in enumerate(INDEX)},
                },
                "classes b, c of 3 never occur in the training targets, only in the other splits: choose another seed",
            ),
            (
                {"targets": labels(1, float)},
                "targets are floats, which makes this a regression, but their values are only 1, 2, 3: if these are "
                "classes, pass objective='classification' and targets of shape (N,); if not, objective='regression'",
            ),
            (
                {"targets": labels(0, float)[:, None, None].repeat(5, 1), "lengths": [4] * 90},
                "their values are only 0, 1, 2: if these are classes, pass objective='classification' and targets of "
                "shape (N, T)",
            ),
            (
                {"inputs": 1000 * inputs(90) + 5000, "input_names": ["a", "b", "reward"]},
                "of the inputs has the mean 5,",
            ),
            (
                {"inputs": inputs(90) * [1.0, 1.0, 0.01]},
                "channel 2 of the inputs has the mean ",
            ),
            (
                {"inputs": inputs(90, 3, 9)},
                "inputs (90, 3, 9) are sequences of 3 steps with 9 channels: if the axes of time and channels are "
                "swapped, pass inputs.transpose(0, 2, 1)",
            ),
            ({"inputs": list(inputs(90, 3, 9))}, "swapped, pass [x.T for x in inputs]"),
            (
                {"targets": np.eye(3)[labels(0)]},
                "targets are floats, which makes this a regression with 3 outputs, but each row is one-hot (one 1, "
                "else 0): if these are classes, pass targets.argmax(1); if not, objective='regression'",
            ),
            (
                {
                    "targets": np.append(np.eye(3)[labels(0)[:, None].repeat(4, 1)], np.full((90, 1, 3), 7.0), axis=1),
                    "lengths": [4] * 90,
                },
                "pass targets.argmax(2)",
            ),
            (
                {"inputs": inputs(90, 40) * (np.arange(40) < np.linspace(20, 40, 90)[:, None])[..., None]},
                "62 training sequences end in 1-20 steps of zeros in all channels: if these are padding, pass lengths, "
                "the number of steps of each sequence before it; if they are data, lengths=np.full(len(inputs), 40)",
            ),
            (
                {"inputs": np.arange(1, 3601).reshape(90, 40) * (np.arange(40) < np.linspace(20, 40, 90)[:, None])},
                "steps of zeros in all channels: if these are padding, pass lengths",
            ),
            (
                {"inputs": inputs(40), "targets": np.linspace(0, 1, 40), "val_fraction": 0.25},
                "only 10 sequences for validation and 6 for testing, of which a score says little: record more, or "
                "raise val_fraction and test_fraction until both have at least 10",
            ),
            (
                {"inputs": inputs(1, 90, 300)[0], "targets": None},
                "inputs (90, 300) are one recording of 90 steps with 300 channels: if the axes of time and channels "
                "are swapped, pass inputs.T",
            ),
        ],
    )
    def test_have_a_remedy(self, arguments, message: str) -> None:
        defaults = {"inputs": inputs(90), "targets": np.linspace(0, 1, 90)}
        assert Arrays(**defaults).likely_mistakes() == []
        (mistake,) = Arrays(**{**defaults, **arguments}).likely_mistakes()
        assert message in mistake

    @pytest.mark.parametrize(
        "arguments",
        [
            {"targets": labels(1), "num_classes": 4},
            {"targets": labels(1, float), "objective": "regression"},
            {"targets": labels(-1, float)},  # signs
            {"targets": labels(0, float)[:, None].repeat(2, 1)},  # two outputs
            {"targets": np.eye(3)[labels(0)], "objective": "regression"},
            {"targets": np.eye(3)[labels(0)] * (labels(0) > 0)[:, None]},  # two outputs that are mostly 0
            {"inputs": np.where(np.arange(5)[:, None] < 3, inputs(90), 0)},  # a delay
            {
                "inputs": inputs(90, 40) * (np.arange(40) < np.linspace(9, 40, 90)[:, None])[..., None],
                "lengths": [40] * 90,
            },
            {"inputs": 1000 * inputs(90) + 5000, "standardize": True},
            {"inputs": np.zeros((90, 5, 3))},
            {"inputs": np.eye(450, 3).reshape(90, 5, 3)},  # pulses
            {"targets": np.zeros(90)},
            {"inputs": np.arange(450).reshape(90, 5)},  # tokens
        ],
    )
    def test_are_none_after_the_remedy(self, arguments) -> None:
        data = Arrays(**{"inputs": inputs(90), "targets": np.linspace(0, 1, 90), **arguments})
        assert data.likely_mistakes() == []

    @pytest.mark.parametrize("make", [padded, unpadded])
    def test_padding_without_lengths_is_told_from_zeros_that_are_data(self, make) -> None:
        """Sequences that are silent as often before their ends as after them can be taken for the other kind."""
        rng = np.random.default_rng(0)
        wrong = 0
        for _ in range(60):
            x = make(rng)
            mistakes = Arrays(x, np.arange(len(x)) % 2, num_classes=2).likely_mistakes()
            wrong += any("lengths are missing" in mistake for mistake in mistakes) != (make is padded)
        assert wrong <= 1

    def test_the_worst_channel_is_named(self) -> None:
        x = inputs(90) * [1, 10, 1000] + [0, 0, 5000]
        (mistake,) = Arrays(x, labels(0), input_names=["a", "b", "reward"]).likely_mistakes()
        mean = x[Arrays(x, labels(0))._data.rows["train"], :, 2].mean()
        assert mistake.startswith(
            f"channel 2 (reward) of the inputs has the mean {mean:,.0f} and the standard deviation "
        )
        assert mistake.endswith(", far from 0 and 1 (so are those of 1 other channel): pass standardize=True")

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"lengths": [2] * 8 + [7, 9]},
                r"^lengths must lie between 1 and T=3, got 9 at index 9: the axes of inputs \(10, 3, 9\) look swapped, "
                r"pass inputs\.transpose\(0, 2, 1\)$",
            ),
            (
                {"targets": np.ones((10, 9, 2))},
                r"^targets \(10, 9, 2\) do not fit inputs \(10, 3, 9\), whose axes of time and channels look swapped, "
                r"pass inputs\.transpose\(0, 2, 1\)$",
            ),
            ({"targets": np.ones((10, 9), int)}, r"^targets \(10, 9\) do not fit .* look swapped"),
            ({"targets": torch.ones(10, 9), "target_step": "every"}, r"^targets \(10, 9\) do not fit .* look swapped"),
            ({"mask": np.ones((10, 9))}, r"^mask \(10, 9\) do not fit .* look swapped"),
            ({"inputs": list(inputs(10, 3, 9)), "phase": np.ones((10, 9))}, r"swapped, pass \[x\.T for x in inputs\]$"),
            (
                {"inputs": inputs(3, 10, 9)},
                r"^targets are of 10 sequences, but inputs \(3, 10, 9\) have 3: the axes of sequences and time look "
                r"swapped, pass inputs\.transpose\(1, 0, 2\)$",
            ),
            (
                {"inputs": [np.ones((3, length)) for length in range(5, 15)]},
                r"got \(3, 5\) float64 at index 0 and \(3, 6\) float64 at index 1: the axes look swapped, pass "
                r"\[x\.T for x in inputs\]$",
            ),
            (
                {"inputs": inputs(1, 8, 2000)[0], "targets": None},
                r"got 1 of 8: the axes of inputs \(8, 2000\) look swapped, pass inputs\.T$",
            ),
        ],
    )
    def test_swapped_axes_are_said_to_be_so(self, arguments, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Arrays(**{"inputs": inputs(10, 3, 9), "targets": np.linspace(0, 1, 10), **arguments})

    def test_outputs_as_many_as_channels_are_no_mistake(self) -> None:
        assert meaning(Arrays(inputs(10, 3, 9), np.ones((10, 9)))) == ("regression", "last", 9)
        integers = Arrays(inputs(10, 3, 9), np.ones((10, 9), int), objective="regression")
        assert meaning(integers) == ("regression", "last", 9)

    def test_sizes_in_common_are_no_mistake(self) -> None:
        assert meaning(Arrays(inputs(5, 5, 5), np.zeros(5), lengths=[5] * 5)) == ("regression", "last", 1)
        with pytest.raises(ValueError, match=r"T=3, got 11 at index 0: leave empty sequences out$"):
            Arrays(inputs(4, 3, 9), np.zeros(4), lengths=[11, 1, 1, 1])


class TestDescription:
    def test_of_sequences(self) -> None:
        lengths = [30, 80] * 50
        x = inputs(100, 80, 2) * [2.0, 500.0]
        data = Arrays(x, np.zeros((100, 80, 5)), lengths, group=np.array(["a", "b"] * 50))
        sd = [
            x[data._data.rows["train"]][np.arange(80) < np.array(lengths)[data._data.rows["train"], None]].std(axis=0)
        ]
        between = f"{sd[0][0]:.2g}-{sd[0][1]:.0f}"
        line = (
            "100 sequences of 30-80 steps with 2 channels; regression at every step, 5 outputs, 2 groups; 70 / 15 / 15 "
            "for training / validation / test; "
        )
        assert data.describe() == f"{line}sd of the inputs {between}"
        standardized = Arrays(x, np.zeros((100, 80, 5)), lengths, group=np.array(["a", "b"] * 50), standardize=True)
        assert standardized.describe() == f"{line}inputs standardised (sd {between} before)"

    def test_of_tokens_and_classes(self) -> None:
        assert Arrays(np.ones((10, 4), int), ["no", "yes"] * 5).describe() == (
            "10 sequences of 4 steps of tokens from a vocabulary of 2; classification at the last step, 2 classes (no, "
            "yes); 6 / 2 / 2 for training / validation / test"
        )

    def test_of_a_recording(self) -> None:
        wave = np.where(np.arange(1000) % 2, 1.0, -1.0)[:, None]
        assert Arrays(wave, window=50).describe() == (
            "one recording of 1,000 steps with 1 channel, in 20 windows of at most 50 steps; prediction of the next "
            "step (regression at every step, 1 output); 14 / 3 / 3 windows for training / validation / test; sd of the "
            "inputs 1"
        )


class TestStandardize:
    LENGTHS = np.array([5, 1, 2, 3, 4, 5])

    @pytest.mark.parametrize("offset", [0.0, 1.7e12])  # float32 has no differences of 1 at the second
    def test_by_the_valid_steps_of_the_training_split(self, offset: float) -> None:
        x = np.random.default_rng(0).integers(-9, 9, (N, T, K)) + offset
        x[..., 2] = 7.1  # constant
        valid = np.arange(T) < self.LENGTHS[:, None]
        data = Arrays(np.where(valid[..., None], x, np.nan), np.zeros(N), self.LENGTHS, **INDEX, standardize=True)
        train = np.concatenate([x[k, : self.LENGTHS[k]] for k in INDEX["train_index"]])
        std = [*train.std(axis=0)[:2], 1.0]
        expected = np.where(valid[..., None], (x - train.mean(axis=0)) / std, 0)
        np.testing.assert_allclose(everything(data).inputs, expected, atol=1e-6)
        np.testing.assert_allclose(data.statistics.mean, train.mean(axis=0))
        assert Arrays(x, np.zeros(N)).statistics is None

    def test_a_recording_with_its_targets(self) -> None:
        x = np.random.default_rng(0).normal(3, 8, size=(100, 2))
        data = Arrays(x, window=30, standardize=True)
        scaled = (x - x[:70].mean(axis=0)) / x[:70].std(axis=0)
        test = data.build("test")
        np.testing.assert_allclose(test.inputs[0], scaled[85:99], rtol=1e-5)
        np.testing.assert_allclose(test.targets[0], scaled[86:100], rtol=1e-5)
        train = data.build("train")
        np.testing.assert_allclose(train.targets[0], scaled[1:31], rtol=1e-5)

    def test_in_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        x = inputs(40) + 2
        whole = [Arrays(x, np.zeros(40), standardize=True), Arrays(x[:, 0], standardize=True)]
        batches = [data.build("val").inputs for data in whole]
        monkeypatch.setattr("lightning_alrnn.datamodules.arrays._CHUNK", 50)
        for data, expected in zip(
            [Arrays(x, np.zeros(40), standardize=True), Arrays(x[:, 0], standardize=True)], batches, strict=True
        ):
            torch.testing.assert_close(data.build("val").inputs, expected)

    def test_what_is_not_finite_is_named_first(self) -> None:
        with pytest.raises(ValueError, match=r"^inputs must be finite; the first of 1 .* at index \[3, 2, 1\]"):
            Arrays(nan_at((N, T, K), 3, 2, 1), np.zeros(N), **INDEX, standardize=True).build("val")
        with pytest.raises(ValueError, match=r"^inputs must be finite; the first of 1 .* at index \[60, 1\]"):
            Arrays(nan_at((100, 2), 60, 1), standardize=True).build("val")

    def test_tokens_have_no_scale(self) -> None:
        with pytest.raises(ValueError, match="standardize is for channels of numbers, but inputs are tokens"):
            Arrays(np.ones((N, T), int), np.zeros(N), standardize=True)


class TestNames:
    def test_from_arguments_and_archives(self, tmp_path: Path) -> None:
        path = tmp_path / "data.npz"
        np.savez(path, inputs=inputs(), targets=np.ones((N, 2)), input_names=list("abc"), output_names=["x", "y"])
        data = Arrays(path)
        assert (data.input_names, data.output_names) == (["a", "b", "c"], ["x", "y"])
        data = Arrays(path, input_names=np.array(["1", "2", "3"]))
        assert (data.input_names, data.output_names) == (["1", "2", "3"], ["x", "y"])
        assert all(type(name) is str for name in data.hparams["input_names"])

    def test_of_a_recording_and_of_classes(self) -> None:
        recording = Arrays(inputs(1, 50)[0], input_names=["a", "b", "c"])
        assert recording.input_names == recording.output_names == ["a", "b", "c"]
        classes = Arrays(inputs(), [0, 1] * 3, output_names=["left", "right"])
        assert (classes.class_names, classes.output_names) == (["left", "right"], None)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (
                {"input_names": ["a", "b"]},
                r"input_names must be 3 different names, one for each channel, got \['a', 'b'\]",
            ),
            ({"input_names": ["a", "b", "a"]}, "input_names must be 3 different names"),
            ({"output_names": "mean"}, r"output_names must be 2 different names, one for each output, got \['mean'\]"),
            (
                {"targets": [0, 1] * 3, "output_names": ["a", "b", "c"]},
                "output_names must be 2 different names, one for each class, .* set num_classes if some do not occur",
            ),
            ({"targets": ["a", "b"] * 3, "output_names": ["x", "y"]}, "texts already name the classes: leave output_n"),
            ({"inputs": np.ones((N, T), int), "input_names": ["a"]}, "but inputs are tokens: leave input_names out"),
        ],
    )
    def test_that_do_not_fit(self, arguments, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Arrays(**{"inputs": inputs(), "targets": np.zeros((N, 2)), **arguments})


class TestErrors:
    @pytest.mark.parametrize(
        ("x", "message"),
        [
            (np.zeros((N, T)), r"must be \(N, T, K\).* got \(6, 5\) float64; add the axis of channels"),
            (np.zeros((N, T), bool), r"must be \(N, T, K\) numbers or \(N, T\) integer tokens, got \(6, 5\) bool"),
            (np.zeros(N), r"got \(6,\) float64; a list of arrays needs one array \(T_i, K\)"),
            (np.zeros((0, T, K)), r"at least one sequence, got \(0, 5, 3\)"),
            (np.zeros((N, 0, K)), r"at least one step, got \(6, 0, 3\)"),
            (np.zeros((N, T, 0)), r"at least one channel, got \(6, 5, 0\)"),
            ([np.zeros((2, 1)), np.zeros((3, 2))], r"first axis \(time\) only, got \(2, 1\).*\(3, 2\).* at index 1"),
            ([np.zeros((2, 1)), np.zeros(3)], r"first axis \(time\) only.* at index 1"),
            ([np.zeros((2, 1)), np.zeros((0, 1)), np.ones((1, 1))], "between 1 and T=2, got 0 at index 1: leave empty"),
            ([[0, 1], [-2], [3]], r"tokens must not be negative, got -2 at index \[1, 0\]"),
        ],
    )
    def test_inputs(self, x, message: str) -> None:
        with pytest.raises(ValueError, match=f"inputs.*{message}|{message}"):
            Arrays(x, np.zeros(len(x), int), num_classes=2)

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("inputs", np.array([np.zeros(2), np.zeros(3)], dtype=object), "Python objects .*list of arrays"),
            (
                "inputs",
                np.array([np.zeros(2), np.zeros(3)], dtype=object),
                r"pass list\(inputs\), a list of arrays, or pad",
            ),
            (
                "targets",
                np.arange(N).astype(object),
                r"\(int at index 0\): convert them, as in targets\.astype\(float\)",
            ),
            (
                "targets",
                np.array(["a"] * 5 + [np.nan], object),
                r"\(float at index 5\) beside texts: fill in what is mis",
            ),
            ("inputs", np.full((N, T, K), "a", object), r"\(str at index 0\): convert them"),
            ("inputs", [None, None], "Python objects"),
            ("inputs", [[[1.0], [1.0, 2.0]]], "Python objects"),
            ("inputs", np.zeros((N, T, K), complex), "must hold numbers, got dtype complex128"),
            ("inputs", [["a"]] * N, "must hold numbers, got dtype <U1"),
            ("targets", np.zeros(N, "M8[s]"), r"must hold numbers, got dtype datetime64\[s\]"),
            ("lengths", ["1"] * N, "must hold numbers, got dtype <U1"),
        ],
    )
    def test_types(self, name: str, value, message: str) -> None:
        with pytest.raises(TypeError, match=f"^{name}.* {message}"):
            Arrays(**{"inputs": inputs(), "targets": np.zeros(N), name: value})

    @pytest.mark.parametrize(
        ("targets", "arguments", "message"),
        [
            (None, {}, r"targets are missing: inputs \(6, 5, 3\) float64 need them.*inputs\[:, :-1\]"),
            (np.zeros((N, T)), {}, "1 output at every step or 5 at the last step: set target_step"),
            (np.zeros(N + 1), {}, r"^7 targets for 6 sequences: .* a row for each sequence, got \(7,\) float64"),
            (list("abca"), {}, "^4 targets for 6 sequences"),
            (
                np.zeros((N, 1, 1, 1)),
                {},
                r"regression must have shape \(6,\) or \(6, O\) or .*got \(6, 1, 1, 1\) float64",
            ),
            (np.eye(3, dtype=int)[[0, 1, 2] * 2], {}, r"\(6, 3\) int64: they look one-hot, pass targets\.argmax\(1\)$"),
            (np.eye(3, dtype=bool)[[0, 1, 2] * 2], {}, r"\(6, 3\) bool: they look one-hot, pass targets\.argmax\(1\)$"),
            (np.eye(3, dtype=int)[np.ones((N, T), int)], {}, r": they look one-hot, pass targets\.argmax\(2\)$"),
            (np.eye(3)[[0, 1, 2] * 2], {"objective": "classification"}, r"one-hot, pass targets\.argmax\(1\)$"),
            (np.ones((N, 4), int), {}, r"int64: integers are classes, pass objective='regression' if they are quantit"),
            (np.ones((N, T, 1), int), {}, r"got \(6, 5, 1\) int64: pass targets\[\.\.\., 0\]$"),
            (np.full((N, 1), "a"), {}, r"text targets must be .*, got \(6, 1\) <U1: pass targets\[:, 0\]$"),
            (np.zeros((N, 0)), {}, r"got \(6, 0\)"),
            (np.zeros((N, T + 1, 2)), {}, r"\(6, 5, O\) \(6 sequences of 5 steps\), got \(6, 6, 2\)"),
            (np.zeros(N), {"target_step": "every"}, r"at every step must have shape \(6, 5\) or \(6, 5, O\)"),
            (np.zeros((N, T, 1)), {"target_step": "last"}, r"at the last step must have shape \(6,\) or \(6, O\)"),
            (np.zeros((N, 1), int), {}, r"shape \(6,\) or \(6, 5\).*got \(6, 1\) int64: pass targets\[:, 0\]$"),
            (np.zeros(N, int), {}, "targets have only one class"),
            ([0, 1, 2, 3, 4, 5], {"num_classes": 5}, r"from 0 to 4 \(5 classes\), got 5 at index 5"),
            ([0, 1, 2, -1, 4, 5], {}, r"got -1 at index 3: number the classes from 0$"),
            (np.full((N, T), -1), {}, r"got -1 at index \[0, 0\].*mask to 0 at steps"),
            ([0, 1, 2, 3, 4, 0.5], {"objective": "classification"}, r"whole numbers, got 0.5 at index 5"),
            ([0, 1, 2, 3, 4, 1e300], {"objective": "classification"}, r"whole numbers, got 1e\+300 at index 5"),
            (nan_at(N, 2), {"objective": "classification"}, r"targets must be finite; .* at index \[2\]"),
            (nan_at((N, T, 2), 3, 1, 0), {}, r"targets must be finite; .* at index \[3, 1, 0\]"),
            (np.full(N, 1e300), {}, r"targets must be finite; .* at index \[0, 0\] \(inf\)"),
            (np.zeros(N), {"num_classes": 3}, "num_classes=3 is for classification, but targets are for regression"),
            (np.zeros(N), {"num_classes": 1}, "num_classes must be at least 2, got 1"),
            (list("abcabc"), {"num_classes": 4}, r"num_classes=4, but .* 3 different texts: \['a', 'b', 'c'\]"),
            (list("abcabc"), {"objective": "regression"}, r"text targets must be one class for each sequence"),
            (np.full((N, T), "a"), {}, r"text targets must be one class for each sequence \(N,\), got \(6, 5\)"),
            ([np.zeros(s) for s in (1, 2, 3, 4, 5, 4)], {}, "as the inputs, got 1 instead of 5 at index 0"),
            ([np.zeros(2), np.zeros(3)], {}, "targets must have one array for each of 6 sequences, got 2"),
            (np.zeros(N), {"objective": "ranking"}, "objective must be one of 'classification', 'regression', got"),
            (np.zeros(N), {"target_step": "first"}, "target_step must be one of 'last', 'every', got 'first'"),
        ],
    )
    def test_targets(self, targets, arguments, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Arrays(inputs(), targets, **arguments)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"lengths": [5, 5, 0, 5, 5, 5]}, "lengths must lie between 1 and T=5, got 0 at index 2"),
            ({"lengths": [5, 5]}, r"lengths must have shape \(6,\), one for each sequence, got \(2,\)"),
            ({"lengths": [1.5] * N}, r"lengths must be whole numbers, got 1.5 at index 0"),
            ({"mask": np.ones(N)}, r"mask must have shape \(6, 5\), one value for each step, got \(6,\)"),
            ({"mask": nan_at((N, T), 1, 2)}, r"mask must be finite; .* at index \[1, 2\]"),
            ({"mask": -np.eye(N, T)}, r"mask must not be negative, got -1.0 at index \[0, 0\]"),
            ({"mask": np.eye(N, T)}, "mask must not be 0 at all steps, as in sequence 5: leave it out"),
            ({"mask": [np.ones(s) for s in (5, 5, 4, 5, 5, 5)]}, "mask must have as many steps .* got 4 instead of 5"),
            ({"mask": np.ones((N, T)), "targets": np.zeros(N)}, "at the last step: leave mask out"),
            ({"group": [0, 1]}, r"group must have shape \(6,\), one for each sequence, got \(2,\)"),
            ({"group": [0, 1, 2, 3, -4, 0]}, "group must not be negative, got -4 at index 4"),
            ({"phase": np.zeros(T, int)}, r"phase must have shape \(6, 5\), one value for each step, got \(5,\) int64"),
            (
                {"phase": np.zeros((N, T, 1))},
                r"phase must have shape \(6, 5\), one value for each step, got \(6, 5,",
            ),
            ({"phase": nan_at((N, T), 1, 2)}, r"phase must be finite; .* at index \[1, 2\]"),
            ({"inputs": list(inputs()), "lengths": [5] * N}, "leave lengths out, or cut the arrays"),
            ({"val_fraction": 0.0}, "val_fraction must lie between 0 and 1"),
            ({"val_fraction": 0.5, "test_fraction": 0.5}, "must be less than 1"),
            ({"val_fraction": 0.5, "test_fraction": 0.45}, "train split is empty: of 6 sequences 3 .* 3 for testing"),
            ({"train_index": [0], "test_index": [1]}, "or none of them: val_index is missing"),
            ({**INDEX, "val_index": []}, "val_index is empty: the val split needs at least one sequence"),
            ({**INDEX, "val_index": [6]}, r"val_index must lie between 0 and 5 \(6 sequences\), got 6"),
            ({**INDEX, "val_index": [3]}, "val_index has sequence 3, which is also in train_index"),
            ({**INDEX, "test_index": [5, 5]}, "test_index has sequence 5, which is also in test_index"),
            ({**INDEX, "test_index": np.arange(N) == 5}, r"1-D positions, got \(6,\) bool; np.flatnonzero"),
            ({**INDEX, "test_index": [[5]]}, r"1-D positions, got \(1, 1\)"),
            ({"criterion": "angle"}, "criterion must be one of 'direction', .* got 'angle'"),
            ({"criterion": "sign", "targets": [0, 1] * 3}, "'sign' is for regression, but targets are classes"),
        ],
    )
    def test_other_arguments(self, arguments, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            Arrays(**{"inputs": inputs(), "targets": np.zeros((N, T, 1)), **arguments})

    @pytest.mark.parametrize("value", [np.nan, -np.inf, 1e300])
    def test_inputs_that_are_not_finite_are_named_by_their_own_index(self, value: float) -> None:
        x = inputs()
        x[4, 2, 1] = value
        data = Arrays(x, np.zeros(N), **INDEX)
        data.dataset("train")
        with pytest.raises(ValueError, match=r"^inputs must be finite; the first of 1 .* at index \[4, 2, 1\]"):
            data.dataset("val")


class Clashing(LightningModule):
    """Its hyper-parameters bear the names of the data's, with other values."""

    def __init__(self, objective: str = "regression", seed: int = 12, window: int = 1) -> None:
        super().__init__()
        self.save_hyperparameters()
        self.layer = torch.nn.Linear(3, 3)

    def training_step(self, batch: SequenceBatch) -> torch.Tensor:
        return torch.nn.functional.mse_loss(self.layer(batch.inputs), batch.targets)

    def validation_step(self, batch: SequenceBatch) -> None:
        self.log("val/loss", self.training_step(batch), batch_size=len(batch.inputs))

    test_step = validation_step

    def predict_step(self, batch: SequenceBatch) -> torch.Tensor:
        return self.layer(batch.inputs)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


class TestLightning:
    @pytest.mark.parametrize("as_path", [True, False])
    def test_clashing_names_and_the_checkpoint(self, tmp_path: Path, as_path: bool) -> None:
        recording = np.random.default_rng(0).normal(size=(200, 3))
        np.save(tmp_path / "x.npy", recording)
        source = tmp_path / "x.npy" if as_path else recording
        data = Arrays(source, window=np.int64(10).item(), batch_size=4)
        trainer = Trainer(max_epochs=1, logger=CSVLogger(tmp_path), **QUIET)
        trainer.fit(Clashing(), data)
        trainer.test(datamodule=data, ckpt_path="best", verbose=False)
        path = trainer.checkpoint_callback.best_model_path
        stored = torch.load(path, weights_only=True)["datamodule_hyper_parameters"]
        assert stored.pop("inputs", None) == (str(source) if as_path else None)
        options = {name: option.default for name, option in signature(Arrays).parameters.items()}
        assert stored == {name: options[name] for name in stored} | {"window": 10, "batch_size": 4}
        assert not {"targets", "lengths", "mask", "group", "phase", "train_index"} & stored.keys()
        arguments = {} if as_path else {"inputs": recording}
        again = Arrays.load_from_checkpoint(path, weights_only=True, **arguments)
        assert torch.equal(again.build("val").inputs, data.build("val").inputs)

    def test_a_network_is_tested_with_the_statistics_that_it_was_trained_with(self, tmp_path: Path) -> None:
        x = np.random.default_rng(0).normal(5000, 1000, size=(200, 3))
        trainer = Trainer(max_epochs=1, logger=CSVLogger(tmp_path), **QUIET)
        data = Arrays(x, window=10, standardize=True)
        trainer.fit(Clashing(), data)
        path = trainer.checkpoint_callback.best_model_path
        other = Arrays(x[:100] + 700, window=10, standardize=True)
        own = other.build("test")
        trainer.test(Clashing(), other, path, verbose=False, weights_only=True)
        seen = next(iter(other.test_dataloader()))
        mean, std = data.statistics
        np.testing.assert_allclose(seen.inputs[0, 0], (x[85] + 700 - mean) / std, rtol=1e-4)
        assert not torch.allclose(seen.inputs, own.inputs, atol=0.1)
        again = Arrays.load_from_checkpoint(path, weights_only=True, inputs=x[:100] + 700)
        assert torch.equal(again.build("test").inputs, seen.inputs)

        raw = Arrays(x, window=10)
        assert raw.build("test").inputs[0].min() > 1000
        with pytest.warns(UserWarning, match="standardize is False, but .* was trained on standardised inputs"):
            raw.load_state_dict(data.state_dict())
        assert torch.equal(raw.build("test").inputs, data.build("test").inputs)
        with pytest.warns(UserWarning, match="standardize is True, but .* was trained on raw inputs"):
            raw.load_state_dict(Arrays(x).state_dict())
        assert raw.build("test").inputs[0].min() > 1000
        with pytest.raises(ValueError, match="has the mean of 3 input channels, but the data have 2"):
            Arrays(x[:, :2]).load_state_dict(data.state_dict())

    def test_a_training_says_what_the_data_are(self, caplog: pytest.LogCaptureFixture) -> None:
        data = Arrays(1000 + np.random.default_rng(0).normal(size=(200, 3)), window=50)
        trainer = Trainer(fast_dev_run=1, **(QUIET | {"enable_checkpointing": False}))
        with caplog.at_level("INFO"), pytest.warns(UserWarning, match="pass standardize=True"):
            trainer.fit(Clashing(), data)
        assert caplog.text.count(data.describe()) == 1
        caplog.clear()
        trainer.test(Clashing(), data, verbose=False)
        Arrays(1000 + np.zeros((200, 3))).setup("fit")  # without a training
        assert "recording" not in caplog.text

    @pytest.mark.parametrize("recording", [True, False])
    @pytest.mark.parametrize("standardize", [True, False])
    def test_other_data_are_described_and_compared_with_those_of_the_training(
        self, tmp_path: Path, caplog: pytest.LogCaptureFixture, standardize: bool, recording: bool
    ) -> None:
        x = np.random.default_rng(0).normal(size=(100, 20, 3))

        def make(x: np.ndarray, **options) -> Arrays:
            x = x.reshape(-1, 3) if recording else x
            return Arrays(x, None if recording else x, standardize=standardize, window=20, **options)

        trainer = Trainer(max_epochs=1, logger=CSVLogger(tmp_path), **QUIET)
        trainer.fit(Clashing(), make(x))
        path = trainer.checkpoint_callback.best_model_path
        for run, scale in ((trainer.validate, "val"), (trainer.test, "test"), (trainer.predict, "test")):
            options = {} if run == trainer.predict else {"verbose": False}
            same, other = make(x + 1), make(x * [1, 1, 50] + [0, 0, 200], input_names=["a", "b", "reward"])
            caplog.clear()
            with caplog.at_level("INFO"):
                run(Clashing(), same, ckpt_path=path, weights_only=True, **options)  # without a warning
            assert caplog.text.count(same.describe()) == 1
            assert "train" not in same._datasets  # which may have NaN
            mean, std = (each[2] for each in other._data.scale_of(scale).statistics)
            said = rf"^channel 2 \(reward\) of the inputs has the mean {mean:.0f} and the standard deviation {std:.2g}"
            said += ", but had -?0.0.* and (1|0.99) in the data that the network was trained on: give the data the same"
            with pytest.warns(UserWarning, match=said):
                run(Clashing(), other, ckpt_path=path, weights_only=True, **options)
        smaller = make(x / 1000)
        with pytest.warns(UserWarning, match=r"and so for 2 further channels: give the data the same units"):
            trainer.test(Clashing(), smaller, path, weights_only=True, verbose=False)

    def test_the_scale_of_constant_channels_and_old_checkpoints(self) -> None:
        x = inputs(90) * [1, 0, 0] + [0, 1, 0]
        data = Arrays(x, np.linspace(0, 1, 90))
        trained_on = data.state_dict()
        data.trainer = Trainer(logger=False, **(QUIET | {"enable_checkpointing": False}))
        data.load_state_dict({"statistics": None})
        data.load_state_dict(trained_on)
        pulses = Arrays(inputs(90) * [1, 0, 0] + [0, 1, 1], np.linspace(0, 1, 90))
        pulses.trainer = data.trainer
        pulses.load_state_dict(trained_on)  # a signal where there was none is no other unit
        assert Arrays(np.ones((N, T), int), np.zeros(N)).state_dict() == {"statistics": None, "trained_on": None}

    def test_numpy_number_of_classes_keeps_the_checkpoint_plain(self) -> None:
        data = Arrays(inputs(), np.arange(N), num_classes=np.arange(N).max() + 1)
        assert type(data.hparams["num_classes"]) is int


def save(path: Path, **arrays: np.ndarray) -> dict[str, str]:
    """Arrays as files, by the arguments that they are for."""
    for name, array in arrays.items():
        np.save(path / f"{name}.npy", array)
    return {name: str(path / f"{name}.npy") for name in arrays}


def same(one: SequenceBatch, other: SequenceBatch) -> bool:
    return all(a is b or torch.equal(a, b) for a, b in zip(one, other, strict=True))


class TestLargeFiles:
    """The rows of a large ``.npy`` are read when a batch needs them."""

    @pytest.fixture(autouse=True)
    def _every_file_is_large(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(arrays, "_HELD", 0)
        monkeypatch.setattr(arrays, "_CHUNK", 40)  # several pieces of each split

    @pytest.mark.parametrize("kind", ["sequences", "fortran", "tokens", "recording"])
    @pytest.mark.parametrize("standardize", [False, True])
    def test_batches_are_those_of_arrays_in_memory(self, tmp_path: Path, kind: str, standardize: bool) -> None:
        rng = np.random.default_rng(0)
        given, options = {"inputs": 5 + rng.normal(size=(40, 7, 3))}, {"standardize": standardize, "window": 4}
        if kind == "fortran":
            given["inputs"] = np.asfortranarray(given["inputs"])
        if kind == "tokens":
            given["inputs"] = rng.integers(0, 9, (40, 7), dtype=np.int16)
            options["standardize"] = False
        if kind == "recording":
            given["inputs"] = given["inputs"].reshape(-1, 3)
        else:
            given |= {"targets": rng.normal(size=(40, 7, 2)), "lengths": rng.integers(1, 8, 40)}
            given |= {"mask": rng.random((40, 7)) + 0.1, "group": rng.integers(0, 2, 40)}
        mapped, held = Arrays(**save(tmp_path, **given), **options), Arrays(**given, **options)
        assert mapped._data.meaning == held._data.meaning
        for split in SPLITS:
            dataset, expected = mapped.dataset(split), held.dataset(split)
            assert isinstance(dataset, ArrayDataset)
            assert isinstance(dataset._array, np.memmap)
            assert type(expected) is SequenceDataset
            assert len(dataset) == len(expected)
            rows = rng.permutation(len(dataset)).tolist()
            assert same(dataset.__getitems__(rows), expected.__getitems__(rows))
            assert same(mapped.build(split), expected.data)
        assert mapped.describe() == held.describe()
        assert mapped.baselines() == held.baselines()

    def test_a_wrong_value_is_named_by_its_place_in_the_file(self, tmp_path: Path) -> None:
        values = inputs(40)
        values[33, 2, 1] = np.nan
        data = Arrays(**save(tmp_path, inputs=values, targets=np.arange(40) % 2), standardize=False)
        with pytest.raises(ValueError, match=r"first of 1 NaN or infinite values is at index \[33, 2, 1\]"):
            [data.dataset(split) for split in SPLITS]
        recording = Arrays(**save(tmp_path, inputs=values[:, 0].cumsum(0) + values[:, 2]))
        with pytest.raises(ValueError, match=r"values is at index \[33, 1\]"):
            [recording.dataset(split) for split in SPLITS]
        tokens = np.ones((40, 7), np.int8)
        tokens[21, 3] = -1
        with pytest.raises(ValueError, match=r"inputs of tokens must not be negative, got -1 at index \[21, 3\]"):
            Arrays(**save(tmp_path, inputs=tokens, targets=np.arange(40) % 2))

    def test_other_processes_map_the_file_again(self, tmp_path: Path) -> None:
        large = np.random.default_rng(0).normal(size=(60, 50, 40))
        data = Arrays(**save(tmp_path, inputs=large, targets=np.arange(60) % 2), num_workers=2, batch_size=16)
        dataset = data.dataset("test")
        sent = pickle.dumps(dataset)
        assert len(sent) < 5_000 < large.nbytes
        again = pickle.loads(sent)
        assert isinstance(again._array, np.memmap)
        assert same(again.__getitems__([3, 1]), dataset.__getitems__([3, 1]))
        assert same(copy.deepcopy(data).dataset("test").__getitems__([3, 1]), dataset.__getitems__([3, 1]))
        read = [*data.test_dataloader()]  # of forked workers
        assert torch.equal(torch.cat([batch.inputs for batch in read]), data.build("test").inputs)

    def test_networks_that_share_a_step_share_the_file(self, tmp_path: Path) -> None:
        files = save(tmp_path, inputs=inputs(40), targets=np.arange(40) % 2)
        members = [Arrays(**files, batch_size=8, seed=0) for _ in range(3)]
        population = PopulationDataModule(members)
        population.setup("fit")
        assert len({id(member.dataset("train")) for member in members}) == 1
        batch = next(iter(population.train_dataloader()))
        alone = next(iter(members[0].train_dataloader()))
        assert torch.equal(batch.inputs[1], alone.inputs)

    def test_only_whole_files_are_read_by_rows(self, tmp_path: Path) -> None:
        """A part of a map does not know its place, and a subclass may change what it builds."""
        path, targets = save(tmp_path, inputs=inputs(40))["inputs"], np.arange(30) % 2
        whole = np.load(path, mmap_mode="r")
        assert isinstance(Arrays(whole, np.arange(40) % 2).dataset("val"), ArrayDataset)
        part = Arrays(whole[5:35], targets)
        assert type(part.dataset("val")) is SequenceDataset
        assert same(part.build("val"), Arrays(np.array(whole[5:35]), targets).build("val"))

        class Doubled(Arrays):
            def build(self, split: Split) -> SequenceBatch:
                batch = super().build(split)
                return batch._replace(inputs=2 * batch.inputs)

        doubled = Doubled(path, np.arange(40) % 2)
        assert torch.equal(
            doubled.dataset("val")[0].inputs, 2 * Arrays(path, np.arange(40) % 2).dataset("val")[0].inputs
        )


PEAK = """
import threading, time
from pathlib import Path
from pytorch_lightning import Trainer
from lightning_alrnn import ALRNNModule
from lightning_alrnn.datamodules import Arrays

most = 0

def watch():  # memory that is no page of a file, in MiB
    global most
    while True:
        lines = Path("/proc/self/status").read_text().splitlines()
        most = max(most, next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) / 1024)
        time.sleep(0.002)

threading.Thread(target=watch, daemon=True).start()
targets = "targets.npy" if Path("targets.npy").exists() else None
data = Arrays("inputs.npy", targets, window=100, standardize=True)
quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False, "enable_checkpointing": False}
trainer = Trainer(accelerator="cpu", max_epochs=1, limit_train_batches=20, limit_val_batches=5, **quiet)
trainer.fit(ALRNNModule.for_data(data, hidden_size=4, nonlinear_units=2), data)
data.likely_mistakes(), data.baselines()
print(most)
"""


@pytest.mark.slow
@pytest.mark.parametrize("recording", [False, True])
def test_memory_does_not_grow_with_the_size_of_a_file(tmp_path: Path, recording: bool) -> None:
    """Files of 200 and 400 MB are described, standardised and trained on; a split of half of them would be 70 MB."""
    peaks = []
    for count in (5_000, 10_000):
        shape = (100 * count, 50) if recording else (count, 100, 50)
        large = np.lib.format.open_memmap(tmp_path / "inputs.npy", mode="w+", dtype=np.float64, shape=shape)
        rng = np.random.default_rng(0)
        for piece in np.array_split(large, 20):
            piece[:] = rng.normal(size=piece.shape)
        del large, piece
        if not recording:
            np.save(tmp_path / "targets.npy", np.arange(count) % 2)
        peaks.append(float(subprocess.check_output([sys.executable, "-c", PEAK], cwd=tmp_path).split()[-1]))
    assert peaks[1] - peaks[0] < 25
