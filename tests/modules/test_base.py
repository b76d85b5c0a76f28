"""What a module takes from a DataModule in Python, and what the command line takes from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command_runs import ONE_EPOCH
from pytorch_lightning import LightningDataModule
from tiny_runs import Sequences

from lightning_alrnn.cli import run_cli
from lightning_alrnn.datamodules import Arrays
from lightning_alrnn.modules import ALRNNModule, ALRNNNeural, ALRNNSeq2Seq
from lightning_alrnn.nn import TextEncoder


class Stub(LightningDataModule):
    """Data with some of the attributes."""

    def __init__(self, **attributes: Any) -> None:
        super().__init__()
        vars(self).update(attributes)


def test_the_command_line_and_python_take_the_same_from_the_data(tmp_path: Path) -> None:
    inputs = np.random.default_rng(0).normal(size=(40, 5, 2))
    arrays = {"inputs": inputs, "targets": inputs.sum(axis=1), "group": np.repeat(["left", "right"], 20)}
    np.savez(tmp_path / "mine.npz", **arrays)
    options = [f"--data.inputs={tmp_path / 'mine.npz'}", "--data.criterion=sign", "--trainer.fast_dev_run=true"]
    cli = run_cli(["fit", "--data=Arrays", *options, *ONE_EPOCH])
    model = ALRNNModule.for_data(Arrays(**arrays, criterion="sign"))
    assert (model.criterion, model.group_names) == ("sign", ["left", "right"])
    assert dict(model.hparams) == {key: value for key, value in cli.model.hparams.items() if not key.startswith("_")}


def test_each_module_takes_what_it_has_arguments_for() -> None:
    stub = Stub(input_size=2, output_size=3, num_units=4, objective="regression", group_names=["a"], class_names=["b"])
    assert ALRNNNeural.for_data(stub).hparams["num_units"] == 4
    seq2seq = ALRNNSeq2Seq.for_data(Stub(input_size=5, output_size=3, vocab_size=5), nonlinear_units=2)
    assert (seq2seq.network.encoder.nonlinear_units, seq2seq.hparams["output_size"]) == (2, 3)
    mine = ALRNNModule.for_data(Sequences("sequence", (4, 4, 4), 4), group_names=["a", "b"], core="GRU")
    assert (mine.group_names, mine.hparams["core"]) == (["a", "b"], "GRU")


def test_data_that_do_not_say_enough() -> None:
    with pytest.raises(TypeError, match="Stub has no output_size: set them in its constructor, or pass output_size="):
        ALRNNModule.for_data(Stub(input_size=2))
    assert ALRNNModule.for_data(Stub(input_size=2), output_size=3).readout.out_features == 3
    tokens = Arrays(np.arange(60).reshape(20, 3) % 7, targets=np.arange(20) % 2)
    with pytest.raises(ValueError, match=r"the inputs of Arrays are tokens.*TextEncoder\(vocab_size=7\)"):
        ALRNNModule.for_data(tokens)
    assert ALRNNModule.for_data(tokens, encoder=TextEncoder(7, output_size=9)).core.input_size == 9
