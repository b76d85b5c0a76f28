"""What predictions.npz holds beside the predictions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from observed import QUIET
from pytorch_lightning import Trainer

from lightning_alrnn import ALRNNModule
from lightning_alrnn.callbacks import PredictionWriter
from lightning_alrnn.datamodules import Arrays

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
