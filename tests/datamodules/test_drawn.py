"""What all DataModules that draw their trials have in common."""

from __future__ import annotations

from inspect import signature
from typing import Any

import pytest
import torch

from lightning_alrnn.datamodules import (
    Addition,
    ContextualIntegration,
    Copy,
    MultiTask,
    SequenceDataModule,
    StimulusSelection,
)
from lightning_alrnn.datamodules.base import SPLITS

of_each = pytest.mark.parametrize(
    ("kind", "options"),
    [
        (Addition, {"sequence_length": 4}),
        (ContextualIntegration, {}),
        (ContextualIntegration, {"noise": 0.0, "sequence_length": 6}),
        (ContextualIntegration, {"variant": "mante"}),
        *((Copy, {"variant": name}) for name in ("reference", "variable_delay", "arjovsky", "delayed_recall")),
        (MultiTask, {}),
        (MultiTask, {"suite": "yang19"}),
        (StimulusSelection, {}),
        (StimulusSelection, {"neural": True, "units": 3}),
    ],
)


@of_each
def test_first_trials_are_the_same_whatever_the_size(kind: type[SequenceDataModule], options: dict[str, Any]) -> None:
    many = kind(**options, test_size=1100, seed=2**40).build("test")
    for size in (1, 1023, 1025):
        few = kind(**options, test_size=size, seed=2**40).build("test")
        for some, all_ in zip(few, many, strict=True):
            assert (some is None and all_ is None) or torch.equal(some, all_[:size])


@of_each
def test_splits_and_seeds_differ(kind: type[SequenceDataModule], options: dict[str, Any]) -> None:
    sizes = {"train_size": 5, "val_size": 5, "test_size": 5}
    batches = [kind(**options, **sizes).build(split) for split in SPLITS]
    batches.append(kind(**options, **sizes, seed=1).build("train"))
    assert len({batch.inputs.numpy().tobytes() for batch in batches}) == 4


@of_each
def test_every_option_is_a_hyperparameter_and_sizes_are_checked(
    kind: type[SequenceDataModule], options: dict[str, Any]
) -> None:
    defaults = {name: parameter.default for name, parameter in signature(kind).parameters.items()}
    assert kind(**options, seed=3).hparams == {**defaults, **options, "seed": 3}
    for name in ("train_size", "val_size", "test_size"):
        with pytest.raises(ValueError, match=f"{name} must be at least 1, got 0"):
            kind(**options, **{name: 0})


@of_each
def test_every_channel_has_a_name_of_its_own(kind: type[SequenceDataModule], options: dict[str, Any]) -> None:
    data = kind(**options, train_size=1100)
    batch = data.build("train")
    assert data.input_names is not None
    assert len(set(data.input_names)) == data.input_size
    if data.objective == "regression":
        assert data.output_names is not None
        assert len(data.output_names) == data.output_size
    # a channel with the name of a group is on in trials of that group only, and on in all of them if it is its cue
    for channel, name in enumerate(data.input_names):
        if isinstance(data, MultiTask) and data.group_names is not None and name in data.group_names:
            on = batch.inputs[..., channel].amax(dim=1) > 0.5
            assert torch.equal(on, batch.group == data.group_names.index(name))
        if isinstance(data, Copy) and name.startswith("symbol"):
            symbol, first = int(name.split()[1]) - 1, int(data.variant == "arjovsky")
            recalled = ((batch.targets == symbol + first) & (batch.mask == 1)).any(dim=1)
            assert (batch.inputs[..., channel] > 0).any(dim=1)[recalled].all()
