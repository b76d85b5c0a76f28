"""Accuracies that ALRNNModule logs: by a criterion, of whole sequences, and of groups, against single sequences."""

from __future__ import annotations

import math
from collections.abc import Iterable
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from pytorch_lightning.loggers import CSVLogger
from tiny_runs import QUIET
from torch import Tensor
from torchmetrics import MeanAbsoluteError

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.datamodules import SequenceDataModule
from lightning_alrnn.metrics import CRITERIA
from lightning_alrnn.modules import ALRNNModule

GROUPS = ["DelayPro", "CtxInt.1 / a", "rare", "never"]
SIZE, TIME, OUTPUTS = 24, 6, 3


class Trials(SequenceDataModule):
    """The same random trials in every split, of four groups: one has a single trial, one has none."""

    input_size = 2
    output_size = OUTPUTS
    group_names = GROUPS

    def __init__(self, objective: Any, target_step: Any, *, masked: bool = False, criterion: str | None = None) -> None:
        super().__init__(batch_size=5, num_workers=0, seed=0)
        self.objective = objective
        self.target_step = target_step
        self.criterion = criterion
        self.masked = masked

    def build(self, split: str) -> SequenceBatch:
        generator = torch.Generator().manual_seed(0)
        shape = (SIZE,) if self.target_step == "last" else (SIZE, TIME)
        if self.objective == "classification":
            targets = torch.randint(0, 2, shape, generator=generator)
        else:
            angle = 6 * torch.rand(shape, generator=generator)
            targets = torch.stack([torch.zeros(shape), angle.cos(), angle.sin()], dim=-1)
            targets[:8] = torch.tensor([1.0, 0.0, 0.0])  # no-go
        mask = (torch.rand(SIZE, TIME, generator=generator) > 0.6).float() if self.masked else None
        group = torch.arange(SIZE) % 2
        group[9] = 2
        inputs = torch.randn(SIZE, TIME, 2, generator=generator)
        return SequenceBatch(inputs, targets, torch.arange(SIZE) % TIME + 1, mask, group)


def model_for(data: SequenceDataModule, **options: Any) -> ALRNNModule:
    torch.manual_seed(0)
    task = {name: getattr(data, name) for name in ("objective", "target_step", "criterion", "group_names")}
    model = ALRNNModule(data.input_size, data.output_size, 8, 3, **task, **options)
    with torch.no_grad():
        model.core.W.normal_(std=0.5)  # type: ignore[operator,union-attr]
        model.core.h.normal_()  # type: ignore[operator,union-attr]
        model.readout.weight.normal_()
    return model


def accuracies_by_hand(model: ALRNNModule, data: Trials) -> dict[str, float]:
    """Each sequence run by itself, without padding, and each of its steps looked at by itself."""
    batch = data.build("val")
    right: list[list[bool]] = []
    for index, length in enumerate(batch.lengths.tolist()):
        states, _ = model.core(batch.inputs[index : index + 1, :length])
        outputs = model.readout(states[0]).detach()
        target = batch.targets[index]
        if data.criterion is not None:
            wanted = target if data.target_step == "last" else target[length - 1]
            right.append([bool(CRITERIA[data.criterion](outputs[-1:], wanted[None]))])
        elif data.target_step == "last":
            right.append([int(outputs[-1].argmax()) == int(target)])
        else:
            steps = [t for t in range(length) if batch.mask is None or float(batch.mask[index, t]) > 0]
            right.append([int(outputs[t].argmax()) == int(target[t]) for t in steps])

    def share(of: Iterable[bool]) -> float:
        verdicts = list(of)
        return sum(verdicts) / len(verdicts) if verdicts else math.nan

    owners = batch.group.tolist()
    values = {"accuracy": share(chain.from_iterable(right))}
    for index, name in enumerate(GROUPS):
        of_group = [steps for steps, owner in zip(right, owners, strict=True) if owner == index]
        values[f"accuracy/{name}"] = share(chain.from_iterable(of_group))
    if data.objective == "classification" and data.target_step == "every":
        values["sequence_accuracy"] = share([all(steps) for steps in right if steps])
    return values


CASES = [
    ("classification", "last", False, None),
    ("classification", "every", False, None),
    ("classification", "every", True, None),
    ("regression", "last", False, "direction"),
    ("regression", "every", False, "direction"),
    ("regression", "every", True, "direction_lenient"),
]


@pytest.mark.parametrize(("objective", "target_step", "masked", "criterion"), CASES)
def test_accuracies_equal_those_of_single_sequences(
    objective: str, target_step: str, masked: bool, criterion: str | None
) -> None:
    data = Trials(objective, target_step, masked=masked, criterion=criterion)
    model = model_for(data)
    expected = accuracies_by_hand(model, data)
    assert 0 < expected["accuracy"] < 1
    trainer = Trainer(logger=False, **QUIET)
    for stage, evaluate in (("val", trainer.validate), ("test", trainer.test)):
        (logged,) = evaluate(model, data, verbose=False)
        mean_squared_error = {f"{stage}/mse", f"{stage}/constant_mse"} if objective == "regression" else set()
        losses = {f"{stage}/{name}" for name in ("loss", "task_loss", "regularization")}
        assert set(logged) == losses | mean_squared_error | {f"{stage}/{name}" for name in expected}
        for name, value in expected.items():
            assert logged[f"{stage}/{name}"] == pytest.approx(value, nan_ok=True), name
        assert math.isnan(logged[f"{stage}/accuracy/never"])


def test_every_epoch_counts_by_itself_and_the_sanity_check_not_at_all() -> None:
    data = Trials("regression", "last", criterion="direction")
    model = model_for(data, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0))
    expected = accuracies_by_hand(model, data)
    trainer = Trainer(max_epochs=3, num_sanity_val_steps=2, logger=CSVLogger("logs", name=None), **QUIET)
    trainer.fit(model, data)
    header, *rows = (line.split(",") for line in (Path(trainer.log_dir or "") / "metrics.csv").read_text().splitlines())
    for name, value in expected.items():
        column = header.index(f"val/{name}")
        assert [float(row[column]) for row in rows if row[column]] == pytest.approx([value] * 3, nan_ok=True), name


def validated(model: ALRNNModule, data: Any) -> Any:
    return Trainer(logger=False, **QUIET).validate(model, data, verbose=False)[0]


def test_regression_without_a_criterion_has_no_accuracy() -> None:
    data = Trials("regression", "last")
    assert not [name for name in validated(model_for(data), data) if "accuracy" in name]


def test_names_without_groups_and_groups_without_names() -> None:
    class NoGroups(Trials):
        def build(self, split: str) -> SequenceBatch:
            return super().build(split)._replace(group=None)

    data: Trials = NoGroups("classification", "last")
    logged = validated(model_for(data), data)
    assert all(math.isnan(logged[f"val/accuracy/{name}"]) for name in GROUPS)
    data = Trials("classification", "last")
    data.group_names = None
    assert [name for name in validated(model_for(data), data) if "accuracy" in name] == ["val/accuracy"]


def test_a_metric_of_ones_own_under_the_same_name_is_the_one_logged() -> None:
    class Mine(ALRNNModule):
        def configure_metrics(self, output_size: int) -> dict[str, Any]:
            return {"accuracy": MeanAbsoluteError()}

    data = Trials("regression", "last", criterion="direction")
    torch.manual_seed(0)
    model = Mine(2, 3, objective="regression", criterion="direction")
    batch = data.build("val")
    logged = validated(model, data)
    outputs: Tensor = model(batch.inputs, batch.lengths).outputs.detach()
    assert logged["val/accuracy"] == pytest.approx(float((outputs - batch.targets).abs().mean()), rel=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"objective": "regression", "criterion": "angle"}, "criterion must be one of 'direction', .*, got 'angle'"),
        ({"criterion": "sign"}, "criterion='sign' is for regression, got objective='classification': remove criterion"),
        ({"group_names": ["a", "a"]}, r"group_names must differ from each other, got \['a', 'a'\]"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ALRNNModule(2, 3, **options)
