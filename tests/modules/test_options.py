"""The options of an ALRNN in each module: from Python, from the command line, and from older checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any, get_type_hints

import jsonargparse
import pytest
import torch

from lightning_alrnn import ALRNN
from lightning_alrnn.modules import ALRNNModule, ALRNNNeural, ALRNNSeq2Seq, SequenceModule
from lightning_alrnn.nn.options import ALRNN_DEFAULTS, ALRNNOptions

OLD_CHECKPOINTS = Path(__file__).with_name("old_checkpoints")
MODULES = {ALRNNModule: (2, 3), ALRNNNeural: (2, 3, 4), ALRNNSeq2Seq: (4, 3)}
of_modules = pytest.mark.parametrize("cls", MODULES, ids=lambda cls: cls.__name__)


def make(cls: type[SequenceModule], **options: Any) -> SequenceModule:
    return cls(*MODULES[cls], **options)  # type: ignore[arg-type]


def rnns(model: SequenceModule) -> list[ALRNN]:
    return [module for module in model.modules() if isinstance(module, ALRNN)]


def test_types_are_those_of_the_layer() -> None:
    hints = get_type_hints(ALRNN.__init__)
    assert get_type_hints(ALRNNOptions) == {name: hints[name] for name in ALRNN_DEFAULTS}


@of_modules
def test_the_command_line_has_them_with_defaults_and_texts(cls: type[SequenceModule]) -> None:
    layer, module = jsonargparse.ArgumentParser(), jsonargparse.ArgumentParser()
    layer.add_class_arguments(ALRNN, "model")
    module.add_class_arguments(cls, "model", fail_untyped=False)
    described = {action.dest: (action.help, action._typehint) for action in layer._actions if "." in action.dest}
    taken = {action.dest: action for action in module._actions}
    defaults = module.get_defaults().model
    for name, default in ALRNN_DEFAULTS.items():
        action = taken[f"model.{name}"]
        assert defaults[name] == default
        assert (action.help, action._typehint) == described[f"model.{name}"]
        assert action.help


@of_modules
def test_hyperparameters_hold_them_all(cls: type[SequenceModule]) -> None:
    model = make(cls, init="near_identity", initial_radius=0.5, initial_state="uniform")
    expected = {**ALRNN_DEFAULTS, "init": "near_identity", "initial_radius": 0.5, "initial_state": "uniform"}
    assert expected.items() <= model.hparams.items()
    assert {"hidden_size", "nonlinear_units"} < model.hparams.keys()
    encoder, *decoder = rnns(model)
    assert {name: getattr(encoder, name) for name in expected} == expected
    for rnn in decoder:  # it starts from the encoder's last state
        assert {name: getattr(rnn, name) for name in expected} == {**expected, "initial_state": "zeros"}


@of_modules
def test_an_unknown_option_is_refused_with_those_that_there_are(cls: type[SequenceModule]) -> None:
    with pytest.raises(TypeError, match=rf"{cls.__name__} has no option inti; .*hidden_size,.*mar_units,.* init,"):
        make(cls, inti="gaussian")


def test_an_unknown_option_is_refused_for_another_core() -> None:
    with pytest.raises(TypeError, match="ALRNNModule has no option inti;"):
        ALRNNModule(2, 3, core="GRU", inti="gaussian")  # type: ignore[call-arg]


@of_modules
def test_checkpoints_of_before_load(cls: type[SequenceModule]) -> None:
    """``alrnn fit`` at the commit efcf84b wrote them; each has its network's inputs and outputs beside it."""
    path = OLD_CHECKPOINTS / f"{cls.__name__}.ckpt"
    written = torch.load(path, weights_only=True)["hyper_parameters"]
    assert "initial_radius" not in written
    model = cls.load_from_checkpoint(path, map_location="cpu", weights_only=True).eval()
    expected = {**ALRNN_DEFAULTS, **{name: written[name] for name in ALRNN_DEFAULTS.keys() & written.keys()}}
    assert expected.items() <= model.hparams.items()
    assert ("num_units" in model.hparams) == (cls is ALRNNNeural)
    example = torch.load(path.with_suffix(".pt"), weights_only=True)
    with torch.no_grad():
        prediction = model(example["inputs"], example["lengths"])
    torch.testing.assert_close(prediction.outputs, example["outputs"])
    torch.testing.assert_close(prediction.states, example["states"])
