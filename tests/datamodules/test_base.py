"""What all DataModules share."""

import importlib.util
import json
import os
import subprocess
import sys
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch

import lightning_alrnn.datamodules
from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.datamodules import SequenceDataModule, SequenceDataset
from lightning_alrnn.datamodules.base import (
    SPLITS,
    Split,
    check_choice,
    check_classes,
    check_finite,
    check_fractions,
    check_size,
    collate,
    draw_trials,
    full_lengths,
)


class Numbered(SequenceDataModule):
    """Sequence i holds i at every step; `built` counts how often each split was built."""

    input_size = 1
    output_size = 1
    objective = "regression"
    target_step = "last"

    def __init__(self, sizes: tuple[int, int, int] = (7, 5, 3), batch_size: int = 2, num_workers: int = 0) -> None:
        super().__init__(batch_size=batch_size, num_workers=num_workers, seed=0)
        self.sizes = dict(zip(SPLITS, sizes, strict=True))
        self.built: list[Split] = []

    def build(self, split: Split) -> SequenceBatch:
        self.built.append(split)
        number = torch.arange(self.sizes[split], dtype=torch.float32)
        inputs = number[:, None, None].repeat(1, 4, 1)
        return SequenceBatch(inputs, number[:, None], full_lengths(inputs), group=number.long())


def numbers(loader) -> list[list[int]]:
    return [batch.targets[:, 0].int().tolist() for batch in loader]


def flat(lists: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


def test_short_name_is_refused() -> None:
    path = Path(lightning_alrnn.datamodules.__file__)
    spec = importlib.util.spec_from_file_location("datamodules", path)
    assert spec is not None
    assert spec.loader is not None
    with pytest.raises(ImportError, match=r"import it as lightning_alrnn\.datamodules, not as datamodules"):
        spec.loader.exec_module(importlib.util.module_from_spec(spec))


def test_everything_exported_exists() -> None:
    assert sorted(lightning_alrnn.datamodules.__all__) == lightning_alrnn.datamodules.__all__
    for name in lightning_alrnn.datamodules.__all__:
        assert getattr(lightning_alrnn.datamodules, name).__name__ == name


class TestDataset:
    def test_batch_holds_the_sequences_asked_for(self) -> None:
        dataset = SequenceDataset(Numbered().build("train"))
        batch = dataset.__getitems__([4, 0, 4])
        assert batch.targets[:, 0].tolist() == [4, 0, 4]
        assert batch.inputs.shape == (3, 4, 1)
        assert batch.inputs[:, 0, 0].tolist() == [4, 0, 4]
        assert batch.lengths.tolist() == [4, 4, 4]
        assert batch.group is not None
        assert batch.group.tolist() == [4, 0, 4]
        assert batch.mask is None

    def test_one_sequence_is_a_batch_of_one(self) -> None:
        dataset = SequenceDataset(Numbered().build("train"))
        assert len(dataset) == 7
        assert dataset[3].inputs.shape == (1, 4, 1)
        assert dataset[3].targets.tolist() == [[3.0]]

    def test_collate_passes_the_batch_through(self) -> None:
        batch = Numbered().build("val")
        assert collate(batch) is batch


class TestLoaders:
    @pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
    def test_val_and_test_in_order_with_a_smaller_last_batch(self, batch_size: int) -> None:
        data = Numbered(batch_size=batch_size)
        expected = [list(range(start, min(start + batch_size, 5))) for start in range(0, 5, batch_size)]
        assert numbers(data.val_dataloader()) == expected
        assert flat(numbers(data.test_dataloader())) == [0, 1, 2]
        assert numbers(data.predict_dataloader()) == numbers(data.test_dataloader())

    def test_train_is_shuffled_anew_each_epoch_and_complete(self) -> None:
        loader = Numbered(sizes=(50, 1, 1), batch_size=8).train_dataloader()
        epochs = [flat(numbers(loader)) for _ in range(2)]
        assert epochs[0] != epochs[1]
        assert sorted(epochs[0]) == sorted(epochs[1]) == list(range(50))

    def test_workers_change_nothing(self) -> None:
        loaders = [Numbered(num_workers=workers).val_dataloader() for workers in (0, 2)]
        for alone, by_worker in zip(*loaders, strict=True):
            for field, other in zip(alone, by_worker, strict=True):
                assert (field is None and other is None) or torch.equal(field, other)

    @pytest.mark.parametrize("world_size", [2, 3, 5])
    @pytest.mark.parametrize("split", ["val", "test", "predict"])
    def test_processes_partition_the_evaluation(self, world_size: int, split: str) -> None:
        seen = []
        for rank in range(world_size):
            data = Numbered(sizes=(1, 5, 5))
            data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank)  # type: ignore[assignment]
            seen += flat(numbers(getattr(data, f"{split}_dataloader")()))
        assert sorted(seen) == list(range(5))

    def test_training_is_left_to_lightnings_sampler(self) -> None:
        data = Numbered()
        data.trainer = SimpleNamespace(world_size=2, global_rank=0)  # type: ignore[assignment]
        assert not isinstance(data.train_dataloader().sampler, torch.utils.data.DistributedSampler)

    def test_more_processes_than_sequences(self) -> None:
        data = Numbered(sizes=(1, 1, 1))
        data.trainer = SimpleNamespace(world_size=2, global_rank=1)  # type: ignore[assignment]
        # a process without a batch would hang the others: Lightning's own sampler must take over and repeat
        assert not isinstance(data.val_dataloader().sampler, torch.utils.data.DistributedSampler)


@pytest.mark.parametrize(
    ("stage", "splits"),
    [("fit", ["train", "val"]), ("validate", ["val"]), ("test", ["test"]), ("predict", ["test"])],
)
def test_setup_builds_what_the_stage_needs_once(stage: str, splits: list[str]) -> None:
    data = Numbered()
    data.setup(stage)
    data.setup(stage)
    assert data.built == splits


def test_empty_split_is_named() -> None:
    with pytest.raises(ValueError, match="the val split of Numbered is empty: it needs at least one sequence"):
        Numbered(sizes=(1, 0, 1)).setup("fit")


def test_split_with_nan_is_named() -> None:
    class Broken(Numbered):
        def build(self, split: Split) -> SequenceBatch:
            batch = super().build(split)
            batch.targets[2] = torch.nan
            return batch

    with pytest.raises(ValueError, match=r"train targets must be finite.*1 NaN.* at index \[2, 0\] \(nan\)"):
        Broken().dataset("train")


@pytest.mark.parametrize(("group", "index"), [(2, 4), (-1, 0)])
def test_split_with_a_group_that_has_no_name_is_named(group: int, index: int) -> None:
    class Grouped(Numbered):
        group_names = ["a", "b"]  # noqa: RUF012  # as a DataModule sets it

        def build(self, split: Split) -> SequenceBatch:
            groups = torch.zeros(self.sizes[split], dtype=torch.int64)
            groups[index] = group
            return super().build(split)._replace(group=groups)

    message = rf"train groups must be indices from 0 to 1 \(2 group_names\), got {group} at index {index}"
    with pytest.raises(ValueError, match=message):
        Grouped().dataset("train")


def test_build_must_be_implemented() -> None:
    with pytest.raises(NotImplementedError, match=r"SequenceDataModule must implement build\(split\)"):
        SequenceDataModule(batch_size=1, num_workers=0, seed=0).build("train")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1, got 0"),
        ({"num_workers": -1}, "num_workers must not be negative, got -1"),
        ({"seed": -3}, "seed must not be negative, got -3"),
    ],
)
def test_bad_arguments(arguments: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        SequenceDataModule(**{"batch_size": 1, "num_workers": 0, "seed": 0, **arguments})


class TestDrawTrials:
    @staticmethod
    def draw(rng: np.random.Generator, size: int):
        return rng.random((size, 3), dtype=np.float32), rng.integers(0, 9, size)

    @pytest.mark.parametrize("size", [1, 3, 1023, 1024, 1025])
    def test_first_trials_are_the_same_whatever_the_size(self, size: int) -> None:
        few = draw_trials(size, self.draw, seed=5, split="val")
        many = draw_trials(3000, self.draw, seed=5, split="val")
        for some, all_ in zip(few, many, strict=True):
            assert len(some) == size
            assert torch.equal(some, all_[:size])

    def test_chunks_splits_and_seeds_differ(self) -> None:
        (first, _), (second, _), (third, _) = (
            draw_trials(2048, self.draw, seed=seed, split=split)
            for seed, split in ((0, "train"), (0, "test"), (1, "train"))
        )
        rows = torch.cat([first, second, third]).numpy()
        assert len(np.unique(rows, axis=0)) == len(rows)


class TestChecks:
    def test_finite(self) -> None:
        values = torch.zeros(3, 2)
        check_finite("x", values)
        check_finite("x", torch.tensor([1]))
        values[1, 1] = torch.inf
        values[2, 0] = torch.nan
        with pytest.raises(ValueError, match=r"x must be finite; the first of 2 .* at index \[1, 1\] \(inf\)"):
            check_finite("x", values)
        with pytest.raises(ValueError, match=r"at index \[20, 1\] \(inf\)"):
            check_finite("x", values, rows=np.array([10, 20, 30]))

    def test_classes_within_the_lengths(self) -> None:
        targets = torch.tensor([[0, 2, 9], [1, 0, 2]])
        check_classes("y", targets, 3, torch.tensor([2, 3]))
        with pytest.raises(ValueError, match=r"from 0 to 2 \(3 classes\), got 9 at index \[0, 2\].*mask to 0"):
            check_classes("y", targets, 3, torch.tensor([3, 3]))

    def test_classes_of_the_last_step(self) -> None:
        check_classes("y", torch.tensor([0, 1]), 2, torch.tensor([1, 1]))
        with pytest.raises(ValueError, match=r"got -1 at index \[1\]: number the classes from 0$"):
            check_classes("y", torch.tensor([0, -1]), 2, torch.tensor([1, 1]))

    def test_size(self) -> None:
        check_size("n", 2, 2)
        with pytest.raises(ValueError, match="n must be at least 2, got 1"):
            check_size("n", 1, 2)

    def test_choice(self) -> None:
        check_choice("split", "val", Split)
        with pytest.raises(ValueError, match="split must be one of 'train', 'val', 'test', got 'dev'"):
            check_choice("split", "dev", Split)

    @pytest.mark.parametrize(
        ("val", "test", "message"),
        [
            (0.0, 0.1, "val_fraction must lie between 0 and 1, got 0.0"),
            (0.1, 1.0, "test_fraction must lie between 0 and 1, got 1.0"),
            (0.5, 0.5, "must leave data to train on, got 0.5 \\+ 0.5"),
        ],
    )
    def test_fractions(self, val: float, test: float, message: str) -> None:
        with pytest.raises(ValueError, match=message):
            check_fractions(val, test)


def test_two_processes_partition_validation_and_test(tmp_path: Path) -> None:
    """Trained, validated and tested by Lightning on two gloo processes."""
    np.save(tmp_path / "inputs.npy", np.zeros((36, 3, 1)))
    package = Path(next(iter(lightning_alrnn.__path__)))
    processes = []
    for rank in range(2):
        environment = {
            **os.environ,
            "PYTHONPATH": os.pathsep.join([str(package.parent), os.environ.get("PYTHONPATH", "")]),
            "LOCAL_RANK": str(rank),  # tells Lightning that the processes are started for it
            "OMP_NUM_THREADS": "1",
        }
        script = [sys.executable, str(Path(__file__).with_name("two_processes.py")), str(tmp_path)]
        processes.append(subprocess.Popen(script, env=environment, stderr=subprocess.PIPE, text=True))
    try:
        errors = [process.communicate(timeout=120)[1] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert [process.returncode for process in processes] == [0, 0], "\n".join(errors)[-3000:]
    ranks = [json.loads((tmp_path / f"seen-{rank}.json").read_text()) for rank in range(2)]
    seen = {split: [rank[split] for rank in ranks] for split in SPLITS}
    # 11 sequences for validation and 5 for testing do not divide by two: nobody may see one twice
    assert sorted(flat(seen["val"])) == list(range(20, 31))
    assert sorted(flat(seen["test"])) == list(range(31, 36))
    assert all(seen["val"])
    assert all(seen["test"])
    assert set(flat(seen["train"])) == set(range(20))
    assert not set(seen["train"][0]) & set(seen["train"][1])
