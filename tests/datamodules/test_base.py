"""What all DataModules share."""

import pickle
import threading
import weakref
from itertools import chain
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.demos.boring_classes import BoringModel

from lightning_alrnn.batch import NeuralBatch, SequenceBatch, Split
from lightning_alrnn.datamodules import SCAN, SequenceDataModule, SequenceDataset, base
from lightning_alrnn.datamodules.base import SPLITS, EpochDataset, EpochSampler, draw_trials, full_lengths


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


class Renewed(Numbered):
    """Sequence i of epoch e holds 100·e + i."""

    def build_epoch(self, epoch: int) -> SequenceBatch:
        batch = self.build("train")
        return batch._replace(targets=batch.targets + 100 * epoch)


class Recorded(Numbered):
    """Trial i holds i spikes of each of two units in each bin, as small whole numbers."""

    group_names: list[str] | None = None

    def build(self, split: Split) -> NeuralBatch:
        batch = super().build(split)
        spikes = batch.inputs.to(torch.uint8).expand(-1, -1, 2)
        return NeuralBatch(batch.inputs, spikes, batch.group, batch.lengths, batch.group)


class Seen(BoringModel):
    """Notes the training sequences of each epoch."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.epochs: dict[int, list[int]] = {}

    def training_step(self, batch: SequenceBatch) -> torch.Tensor:
        self.epochs.setdefault(self.current_epoch, []).extend(batch.targets[:, 0].int().tolist())
        loss: torch.Tensor = self.layer(batch.inputs).square().mean()
        return loss

    def validation_step(self, batch: SequenceBatch) -> None:
        self.layer(batch.inputs)


def train(data: SequenceDataModule, epochs: int = 4, resume: Path | None = None, **options) -> dict[int, list[int]]:
    """The sequences of each epoch, as Lightning trains on them."""
    defaults = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False, "accelerator": "cpu"}
    module = Seen()
    trainer = Trainer(max_epochs=epochs, enable_model_summary=False, **(defaults | options))
    trainer.fit(module, data, ckpt_path=resume, weights_only=resume and True)
    return module.epochs


def numbers(loader) -> list[list[int]]:
    return [batch.targets[:, 0].int().tolist() for batch in loader]


def flat(lists: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(lists))


class TestDataset:
    def test_batch_holds_the_sequences_asked_for(self) -> None:
        dataset = SequenceDataset(Numbered().build("train"))
        batch = dataset.__getitems__([4, 0, 4])
        assert batch.targets[:, 0].tolist() == [4, 0, 4]
        assert batch.inputs.shape == (3, 4, 1)
        assert batch.inputs[:, 0, 0].tolist() == [4, 0, 4]
        assert batch.lengths.tolist() == [4, 4, 4]
        assert batch.group.tolist() == [4, 0, 4]
        assert batch.mask is None
        assert len(dataset) == 7
        assert (dataset[3].inputs.shape, dataset[3].targets.tolist()) == ((1, 4, 1), [[3.0]])

    def test_a_recorded_batch_stays_one_and_its_counts_become_floats(self) -> None:
        data = Recorded(num_workers=1)
        batches = list(data.val_dataloader())
        assert all(type(batch) is NeuralBatch for batch in batches)
        assert [batch.spikes.dtype for batch in batches] == [torch.float32] * 3
        assert [batch.spikes.unique().tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
        assert [batch.targets.tolist() for batch in batches] == [[0, 1], [2, 3], [4]]
        assert data.dataset("val").__getitems__([3, 1]).group.tolist() == [3, 1]  # type: ignore[union-attr]


class TestBaselines:
    def test_of_a_split_once(self) -> None:
        data = Numbered()
        scores = data.baselines()
        assert scores["mean"]["mse"] == pytest.approx(3.0)  # of 0 to 4, for the mean 3 of 0 to 6
        assert scores["linear model"]["mse"] == pytest.approx(0.0, abs=1e-6)
        scores.clear()
        assert data.baselines()
        assert data.built == ["train", "val"]
        assert data.baselines("test")["mean"]["mse"] == pytest.approx(14 / 3)
        assert Renewed().baselines() == data.baselines()  # the first epoch's

    def test_only_where_targets_are_those_of_the_inputs(self) -> None:
        assert Recorded().baselines() == {}
        assert SCAN(split="length").baselines() == {}
        longer = SequenceBatch(torch.zeros(3, 4), torch.zeros(3, 4), torch.ones(3), torch.ones(3, 4))
        assert base._is_translation(longer, "every")  # of as many steps, but after the end of the inputs
        assert not base._is_translation(longer._replace(mask=None), "every")


class TestDescription:
    def test_of_each_kind_of_data(self) -> None:
        data = Renewed()
        data.setup("fit")
        assert data.describe() == (
            "12 sequences of 4 steps with 1 channel; regression at the last step, 1 output; 7 / 5 for training / "
            "validation, the training data new in each epoch; sd of the inputs 2"
        )
        assert Recorded().describe().startswith("7 sequences of 4 steps with 1 channel and spikes of 2 units; ")
        assert SCAN(split="length").describe() == (
            "15,291 sequences of 1-9 steps of tokens from a vocabulary of 14; classification at every step of an output "
            "sequence, 7 classes; 15,291 for training"
        )
        pictures = Numbered()
        pictures.build = lambda split: SequenceBatch(  # type: ignore[method-assign]
            torch.ones(2, 3, 4, 5), torch.zeros(2, 1), torch.tensor([1, 3])
        )
        assert pictures.describe().startswith("2 sequences of 1-3 steps with 20 channels; ")

    def test_is_printed_once_before_a_training(self, caplog: pytest.LogCaptureFixture) -> None:
        data = Numbered()
        data.likely_mistakes = lambda: ["the inputs are wrong: correct them"]  # type: ignore[method-assign]
        with caplog.at_level("INFO"), pytest.warns(UserWarning, match="^the inputs are wrong: correct them$"):
            train(data, epochs=2)
        assert caplog.text.count(data.describe()) == 1
        caplog.clear()
        Numbered().setup("fit")
        assert caplog.text == ""


class TestLoaders:
    @pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
    def test_val_and_test_in_order_with_a_smaller_last_batch(self, batch_size: int) -> None:
        data = Numbered(batch_size=batch_size)
        expected = [list(range(start, min(start + batch_size, 5))) for start in range(0, 5, batch_size)]
        assert numbers(data.val_dataloader()) == expected
        assert flat(numbers(data.test_dataloader())) == [0, 1, 2]
        assert numbers(data.predict_dataloader()) == numbers(data.test_dataloader())

    @pytest.mark.parametrize("world_size", [2, 3, 5])
    @pytest.mark.parametrize("split", ["val", "test", "predict"])
    def test_processes_partition_the_evaluation(self, world_size: int, split: str) -> None:
        seen = []
        for rank in range(world_size):
            data = Numbered(sizes=(1, 5, 5))
            data.trainer = SimpleNamespace(world_size=world_size, global_rank=rank)  # type: ignore[assignment]
            seen += flat(numbers(getattr(data, f"{split}_dataloader")()))
        assert sorted(seen) == list(range(5))

    def test_more_processes_than_sequences(self) -> None:
        data = Numbered(sizes=(1, 1, 1))
        data.trainer = SimpleNamespace(world_size=2, global_rank=1)  # type: ignore[assignment]
        # a process without a batch would hang the others: Lightning's own sampler must take over and repeat
        assert not isinstance(data.val_dataloader().sampler, torch.utils.data.DistributedSampler)


class TestEpochSampler:
    def test_a_pass_without_set_epoch_is_the_next_epoch(self) -> None:
        data = Renewed()
        loader = data.train_dataloader()
        passes = [flat(numbers(loader)) for _ in range(3)]
        for epoch in (2, 0, 1):
            loader.sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            assert flat(numbers(loader)) == passes[epoch]

    def test_order_depends_on_seed_and_epoch_alone(self) -> None:
        dataset = SequenceDataset(Numbered(sizes=(50, 1, 1)).build("train"))
        orders = {}
        for seed in range(3):
            for epoch in range(3):
                torch.manual_seed(seed)
                np.random.seed(epoch)  # noqa: NPY002
                sampler = EpochSampler(dataset, 1, 0, seed)
                sampler.set_epoch(epoch)
                orders[seed, epoch] = tuple(sampler)
        torch.manual_seed(100)
        assert tuple(EpochSampler(dataset, 1, 0, 1)) == orders[1, 0]
        assert len(set(orders.values())) == 9  # seed 0, epoch 1 is another order than seed 1, epoch 0

    @settings(max_examples=50, deadline=None)
    @given(size=st.integers(1, 40), processes=st.integers(1, 6), batch=st.integers(1, 5), epoch=st.integers(0, 9))
    def test_processes_share_out_the_steps_of_one_process(
        self, size: int, processes: int, batch: int, epoch: int
    ) -> None:
        dataset = SequenceDataset(Numbered(sizes=(size, 1, 1)).build("train"))
        shares = []
        for rank in range(processes):
            sampler = EpochSampler(dataset, processes, rank, seed=3)
            sampler.set_epoch(epoch)
            shares.append(list(sampler))
            assert len(shares[-1]) == len(sampler) == -(-size // processes)
        alone = EpochSampler(dataset, 1, 0, seed=3)
        alone.set_epoch(epoch)
        order = list(alone)
        assert sorted(order) == list(range(size))
        padded = (order * processes)[: processes * len(shares[0])]
        for start in range(0, len(shares[0]), batch):
            together = flat([share[start : start + batch] for share in shares])
            assert sorted(together) == sorted(padded[start * processes : (start + batch) * processes])

    def test_every_training_loader_has_it(self) -> None:
        for data in (Numbered(), Renewed()):
            for trainer, expected in ((None, (1, 0)), (SimpleNamespace(world_size=3, global_rank=2), (3, 2))):
                data.trainer = trainer  # type: ignore[assignment]
                sampler = data.train_dataloader().sampler
                assert isinstance(sampler, EpochSampler)
                assert (sampler.num_replicas, sampler.rank, sampler.seed) == (*expected, data.seed)


class TestEpochDataset:
    def test_indices_count_on_from_epoch_to_epoch(self) -> None:
        dataset = Renewed().dataset("train")
        assert len(dataset) == 7
        for epoch in (0, 3, 3, 1, 0):
            batch = dataset.__getitems__([7 * epoch + i for i in (4, 0, 6)])
            assert batch.targets[:, 0].tolist() == [100 * epoch + i for i in (4, 0, 6)]
            assert dataset[7 * epoch + 2].targets.tolist() == [[100 * epoch + 2]]

    def test_holds_one_epoch(self) -> None:
        alive: list[weakref.ref] = []
        most = []

        def build(epoch: int) -> SequenceBatch:
            most.append(sum(reference() is not None for reference in alive))
            data = Numbered().build("train")
            alive.append(weakref.ref(data.inputs))
            return data

        dataset = EpochDataset(build)
        for epoch in (0, 0, 1, 1, 2, 5, 2):
            dataset.__getitems__([7 * epoch])
        assert most == [0] * 5  # built when asked for another epoch, each time with none left in memory

    def test_batch_across_epochs_is_refused(self) -> None:
        dataset = Renewed().dataset("train")
        for indices in ([6, 7], [7, 6]):
            with pytest.raises(ValueError, match="must be of one epoch of 7 sequences, got 6 and 7"):
                dataset.__getitems__(indices)

    def test_epochs_are_checked(self) -> None:
        class Growing(Renewed):
            def build_epoch(self, epoch: int) -> SequenceBatch:
                batch = super().build_epoch(epoch)
                return batch if epoch < 2 else SequenceBatch(*(field[:5] for field in batch if field is not None))

        class Broken(Renewed):
            def build_epoch(self, epoch: int) -> SequenceBatch:
                batch = super().build_epoch(epoch)
                batch.targets[2] = torch.nan if epoch else 0.0
                return batch

        growing, broken = Growing().dataset("train"), Broken().dataset("train")
        growing[7], broken[0]
        with pytest.raises(ValueError, match="same number of sequences in each epoch, got 5 for epoch 2 and 7 for"):
            growing[14]
        assert growing[7].targets.tolist() == [[100]]  # usable as before
        with pytest.raises(ValueError, match=r"train targets must be finite.* at index \[2, 0\] \(nan\)"):
            broken[7]

    def test_pickles_without_the_trainer(self) -> None:
        data = Renewed()
        data.trainer = SimpleNamespace(world_size=1, global_rank=0, lock=threading.Lock())  # type: ignore[assignment]
        with pytest.raises(TypeError, match="pickle"):
            pickle.dumps(data)
        dataset = pickle.loads(pickle.dumps(data.dataset("train")))
        assert dataset[7 * 3 + 1].targets.tolist() == [[301]]
        assert data.trainer is not None


class TestTraining:
    @pytest.mark.parametrize("workers", [0, 2])
    def test_lightning_trains_on_the_epochs_in_turn(self, workers: int) -> None:
        seen = train(Renewed(num_workers=workers))
        assert {epoch: sorted(values) for epoch, values in seen.items()} == {
            epoch: list(range(100 * epoch, 100 * epoch + 7)) for epoch in range(4)
        }
        sampler = Renewed().train_dataloader().sampler
        for epoch, values in seen.items():
            sampler.set_epoch(epoch)  # type: ignore[attr-defined]
            assert [7 * epoch + value - 100 * epoch for value in values] == list(sampler)

    @pytest.mark.parametrize("workers", [0, 2])
    @pytest.mark.parametrize("after_training", [True, False], ids=["after training", "after validation"])
    @pytest.mark.parametrize("kind", [Numbered, Renewed])
    def test_resumed_training_goes_on_where_it_stopped(
        self, kind: type[Numbered], after_training: bool, workers: int, tmp_path: Path
    ) -> None:
        uninterrupted = train(kind())
        for epoch in (0, 2):
            first, second = (
                ModelCheckpoint(tmp_path / f"{run} {epoch}", save_on_train_epoch_end=after_training) for run in "ab"
            )
            train(kind(), epoch + 1, callbacks=[first], enable_checkpointing=True)
            data, checkpoint = kind(num_workers=workers), Path(first.best_model_path)
            rest = train(data, resume=checkpoint, callbacks=[second], enable_checkpointing=True)
            assert rest == {later: uninterrupted[later] for later in range(epoch + 1, 4)}

    def test_reloaded_loaders(self) -> None:
        assert train(Renewed(num_workers=2), reload_dataloaders_every_n_epochs=1) == train(Renewed())

    @pytest.mark.filterwarnings("ignore:You requested to overfit")
    def test_overfitting_keeps_to_one_batch(self) -> None:
        assert train(Renewed(), epochs=3, overfit_batches=2) == {epoch: [0, 1, 2, 3] for epoch in range(3)}


@pytest.mark.parametrize(
    ("stage", "splits"),
    [("fit", ["train", "val"]), ("validate", ["val"]), ("test", ["test"]), ("predict", ["test"])],
)
def test_setup_builds_what_the_stage_needs_once(stage: str, splits: list[str]) -> None:
    data = Numbered()
    data.setup(stage)
    data.setup(stage)
    assert data.built == splits


@pytest.mark.parametrize(
    ("kind", "field", "values", "message"),
    [
        (Numbered, "targets", torch.tensor([[0], [1], [torch.nan]]), r"targets .* finite.*1 NaN.* \[2, 0\] \(nan\)"),
        (Numbered, "group", torch.tensor([0, 0, 2]), r"groups .* from 0 to 1 \(2 group_names\), got 2 at index 2"),
        (Numbered, "group", torch.tensor([-1, 0, 0]), r"groups .* from 0 to 1 \(2 group_names\), got -1 at index 0"),
        (Recorded, "group", torch.tensor([0, 1, 2]), r"groups .* from 0 to 1 .* got 2 at index 2"),
        (Recorded, "spikes", torch.ones(3, 4, 2) / torch.tensor([1, 1, 0])[:, None, None],
         r"spikes must be finite.*8 NaN or infinite .* \[2, 0, 0\] \(inf\)"),
        (Numbered, "phase", torch.tensor([[0, 1, 0, 1]]), r"phases .* int64 of shape \(3, 4\), .* \(1, 4\): use"),
        (Numbered, "phase", torch.tensor([[0, 1]] * 3), r"got int64 of shape \(3, 2\)"),
        (Numbered, "phase", torch.arange(3), r"got int64 of shape \(3,\)"),
        (Numbered, "phase", torch.ones(3, 4), r"got float32 of shape \(3, 4\): use -1 for no phase"),
        (Numbered, "phase", torch.tensor([[-1, 1, 0, 2]] * 3), r"from 0 to 1 \(2 phase_names\), .* got 2 .*\[0, 3\]"),
    ],
)  # fmt: skip
def test_a_split_is_checked_and_named(kind: type[Numbered], field: str, values: torch.Tensor, message: str) -> None:
    class Changed(kind):  # type: ignore[misc,valid-type]
        group_names, phase_names = ["a", "b"], ["stimulus", "delay"]

        def build(self, split: Split) -> SequenceBatch:
            return super().build(split)._replace(**{"group": torch.zeros(3, dtype=torch.int64), field: values})

    with pytest.raises(ValueError, match=f"^val .*{message}"):
        Changed(sizes=(1, 3, 1)).dataset("val")


@pytest.mark.parametrize("sizes", [(0, 1, 1), (1, 0, 1)])
def test_an_empty_split_is_named(sizes: tuple[int, int, int]) -> None:
    split = "train" if sizes[0] == 0 else "val"
    with pytest.raises(ValueError, match=f"the {split} split of Renewed is empty: it needs at least one sequence"):
        Renewed(sizes=sizes).setup("fit")


def test_phases_below_zero_and_after_the_end_need_no_name() -> None:
    class Phased(Numbered):
        def __init__(self) -> None:
            super().__init__(sizes=(1, 1, 1))
            self.phase_names = ["stimulus"]

        def build(self, split: Split) -> SequenceBatch:
            phase = torch.tensor([[0, -1, -7, 9]])
            return super().build(split)._replace(phase=phase, lengths=torch.tensor([3]))

    Phased().setup("fit")


class TestDrawTrials:
    @staticmethod
    def draw(rng: np.random.Generator, size: int):
        return rng.random((size, 3), dtype=np.float32), rng.integers(0, 9, size)

    def test_chunks_splits_seeds_and_epochs_differ(self) -> None:
        cases = [(seed, "train", epoch) for seed in (0, 1, 2**40) for epoch in range(3)] + [(0, "test", 0)]
        drawn = [draw_trials(2048, self.draw, seed=a, split=b, epoch=c)[0] for a, b, c in cases]  # type: ignore[arg-type]
        rows = np.concatenate(drawn)
        assert len(np.unique(rows, axis=0)) == len(rows)

    @pytest.mark.parametrize("seed", [5, 2**40])
    def test_each_chunk_has_a_seed_of_its_own(self, seed: int) -> None:
        drawn, _ = draw_trials(2000, self.draw, seed=seed, split="val")
        expected = [np.random.default_rng((seed, 1, chunk)).random((1024, 3), dtype=np.float32) for chunk in range(2)]
        assert np.array_equal(drawn, np.concatenate(expected)[:2000])
