"""Networks that leave Python: torch.export for any number of trials and steps, and ONNX."""

from __future__ import annotations

import io
from pathlib import Path

import pytest
import torch
from onnx.reference import ReferenceEvaluator
from torch.export import Dim, export

from lightning_alrnn.modules import ALRNNModule, ALRNNNeural

INPUTS, LENGTHS, OTHERS = torch.randn(4, 10, 2), torch.tensor([10, 1, 5, 7]), torch.randn(3, 17, 2)


@pytest.mark.parametrize("module", [ALRNNModule(2, 3, 8, 3, init="near_identity"), ALRNNNeural(2, 3, 5)])
@pytest.mark.parametrize("lengths", [None, LENGTHS])
def test_an_exported_network_does_the_same_for_other_trials(
    module: ALRNNModule | ALRNNNeural, lengths: torch.Tensor | None
) -> None:
    module.eval()
    batch, time = Dim("batch"), Dim("time")
    arguments = {"inputs": INPUTS} | ({} if lengths is None else {"lengths": lengths})
    shapes = {"inputs": {0: batch, 1: time}, **({} if lengths is None else {"lengths": {0: batch}})}
    file = io.BytesIO()
    torch.export.save(export(module, (), arguments, dynamic_shapes=shapes), file)
    file.seek(0)
    others = {"inputs": OTHERS} | ({} if lengths is None else {"lengths": torch.tensor([4, 17, 9])})
    prediction, expected = torch.export.load(file).module()(**others), module(**others)
    assert type(prediction) is type(expected)
    torch.testing.assert_close(prediction, expected)


@pytest.mark.filterwarnings("ignore")  # of the exporter
def test_onnx_for_a_fixed_number_of_steps(tmp_path: Path) -> None:
    model = ALRNNModule(2, 3, 8, 3, backend="eager").eval()
    program = torch.onnx.export(
        model, (INPUTS[:, :3],), dynamo=True, dynamic_shapes=({0: Dim("batch")},), verbose=False
    )
    assert program is not None
    program.save(tmp_path / "network.onnx")
    outputs, states, *_ = ReferenceEvaluator(str(tmp_path / "network.onnx")).run(
        None, {"inputs": OTHERS[:, :3].numpy()}
    )
    expected = model(OTHERS[:, :3])
    torch.testing.assert_close(torch.from_numpy(outputs), expected.outputs)
    torch.testing.assert_close(torch.from_numpy(states), expected.states)
