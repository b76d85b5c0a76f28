"""What predictions.npz holds beside the predictions."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from observed import QUIET
from pytorch_lightning import Trainer

from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import PredictionWriter
from lightning_alrnn.datamodules import Addition, Arrays

LENGTHS = [3, 5, 4, 2, 6, 3]


@pytest.mark.parametrize("at_every_step", [False, True])
def test_the_data_and_their_names_are_written(tmp_path: Path, at_every_step: bool) -> None:
    rng = np.random.default_rng(0)
    inputs = [rng.normal(size=(length, 2)).astype("f") for length in LENGTHS * 2]
    names = ["left", "right"]
    if at_every_step:
        targets = [rng.normal(size=(length, 3)).astype("f") for length in LENGTHS * 2]
        mask = [(rng.random(length) < 0.7).astype("f") for length in LENGTHS * 2]
        for row in mask:
            row[-1] = 2
        split = {"train_index": range(4), "val_index": [4, 5], "test_index": range(6, 12)}
        data = Arrays(inputs, targets, mask=mask, group=names * 6, batch_size=4, **split)  # type: ignore[arg-type]
        model = ALRNNModule(2, 3, 4, 2, objective="regression", target_step="every")
    else:
        data = Arrays(inputs, names * 6, batch_size=4)
        model = ALRNNModule(2, 2, 4, 2)
    for name, value in (("input_names", ["tone", "reward"]), ("output_names", None)):
        setattr(data, name, value)
    writer = PredictionWriter(str(tmp_path))
    trainer = Trainer(logger=False, callbacks=[writer], **QUIET)
    trainer.predict(model, data, return_predictions=False)
    trainer.predict(model, data, return_predictions=False)  # nothing is left of the first time

    with np.load(tmp_path / "predictions.npz") as content:
        written = dict(content)
    test = data.build("test")
    np.testing.assert_array_equal(written["targets"], test.targets.numpy())
    assert written["input_names"].tolist() == ["tone", "reward"]
    named = "group" if at_every_step else "class"
    assert written[f"{named}_names"].tolist() == names
    if at_every_step:
        assert test.mask is not None
        np.testing.assert_array_equal(written["mask"], test.mask.numpy())
        np.testing.assert_array_equal(written["group"], [0, 1] * 3)
    fields = {"index", "outputs", "states", "lengths", "targets", "input_names", f"{named}_names"}
    assert set(written) == fields | ({"mask", "group"} if at_every_step else {"classes"})


class Odd(NamedTuple):
    """A prediction whose steps and types differ from batch to batch, with a field that is left out."""

    steps: torch.Tensor
    scores: torch.Tensor
    nothing: torch.Tensor | None = None


def test_batches_are_joined_as_if_all_were_in_memory(tmp_path: Path) -> None:
    """A later batch may have more steps, and another type, than the first."""
    rng = np.random.default_rng(0)
    batches = [
        Odd(torch.from_numpy(rng.normal(size=(size, steps, 2))), torch.arange(size, dtype=kind))
        for size, steps, kind in ((4, 3, torch.int32), (4, 7, torch.float32), (2, 1, torch.int32))
    ]
    data = Addition(sequence_length=5, train_size=10, val_size=4, test_size=10, batch_size=4)
    module = ALRNNModule(2, 1, 4, 2, objective="regression", target_step="last")
    module.predict_step = lambda batch, batch_idx: batches[batch_idx]  # type: ignore[method-assign, assignment]
    Trainer(logger=False, callbacks=[PredictionWriter(str(tmp_path))], **QUIET).predict(module, data)
    with np.load(tmp_path / "predictions.npz") as content:
        written = dict(content)
    expected = np.zeros((10, 7, 2))
    for start, batch in zip((0, 4, 8), batches, strict=True):
        expected[start : start + len(batch.steps), : batch.steps.shape[1]] = batch.steps.numpy()
    np.testing.assert_array_equal(written["steps"], expected)
    np.testing.assert_array_equal(written["scores"], [0, 1, 2, 3, 0, 1, 2, 3, 0, 1])
    assert written["scores"].dtype == np.float64  # which holds all int32 and float32
    np.testing.assert_array_equal(written["index"], np.arange(10))
    assert set(written) == {"steps", "scores", "index", "targets", "input_names", "output_names"}
    assert [*tmp_path.iterdir()] == [tmp_path / "predictions.npz"]


def test_a_prediction_that_fails_leaves_no_file(tmp_path: Path) -> None:
    data = Addition(sequence_length=5, train_size=10, val_size=4, test_size=10, batch_size=4)
    module = ALRNNModule(2, 1, 4, 2, objective="regression", target_step="last")
    once = module.predict_step

    def fail(batch: object, batch_idx: int) -> object:
        if batch_idx == 2:
            raise RuntimeError("out of luck")
        return once(batch, batch_idx)  # type: ignore[arg-type]

    module.predict_step = fail  # type: ignore[method-assign, assignment]
    writer = PredictionWriter(str(tmp_path))
    with pytest.raises(RuntimeError, match="out of luck"):
        Trainer(logger=False, callbacks=[writer], **QUIET).predict(module, data)
    assert ([*tmp_path.iterdir()], writer._columns, writer._index) == ([], {}, [])
    with pytest.raises(TypeError, match=r"to return a NamedTuple of tensors, .* got Tensor"):
        writer.write_on_batch_end(Trainer(logger=False, **QUIET), module, torch.zeros(2), [0], None, 0, 0)


GROWTH = """
import resource, sys
from pathlib import Path
import torch
from pytorch_lightning import Trainer
from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import PredictionWriter
from lightning_alrnn.datamodules import Addition

data = Addition(sequence_length=200, train_size=2, val_size=2, test_size=int(sys.argv[1]), batch_size=100)
module = ALRNNModule(2, 1, 64, 4, objective="regression", target_step="last")
quiet = {"enable_progress_bar": False, "enable_model_summary": False, "logger": False}
trainer = Trainer(accelerator="cpu", callbacks=[PredictionWriter(".")], **quiet)
trainer.predict(module, data, return_predictions=False)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, Path("predictions.npz").stat().st_size / 2**20)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_number_of_batches(tmp_path: Path) -> None:
    peaks, sizes = [], []
    for size in (400, 8_000):
        command = [sys.executable, "-c", GROWTH, str(size)]
        peak, written = map(float, subprocess.check_output(command, cwd=tmp_path).split()[-2:])
        peaks.append(peak)
        sizes.append(written)
    data = 7_600 * 200 * 2 * 4 / 2**20  # the inputs, which are in memory
    assert sizes[1] - sizes[0] > 350  # MiB
    assert peaks[1] - peaks[0] < 3 * data + 30
