"""The LightningModule of the encoder-decoder: losses, accuracies, teacher forcing, what its steps return."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from pytorch_lightning import Trainer
from tiny_runs import QUIET, loader
from torch import Tensor
from torch.nn import functional
from torch.utils.data import DataLoader

from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.modules import ALRNNSeq2Seq
from lightning_alrnn.nn import Seq2SeqOutput, manifold_attractor_penalty

LOSSES = {"loss", "task_loss", "regularization"}
ACCURACIES = {"token_accuracy", "sequence_accuracy"}
LENGTHS = {f"accuracy_length_{name}" for name in ("1_6", "7_12", "13_22", "23_28", "29_36", "37_up")}
END = 3


def model(**options: Any) -> ALRNNSeq2Seq:
    torch.manual_seed(0)
    made = ALRNNSeq2Seq(5, 4, 8, 3, 4, embedding_size=6, **options)
    with torch.no_grad():
        for rnn in (made.network.encoder, made.network.decoder):
            rnn.W.normal_(std=0.4)
            rnn.h.normal_(std=0.3)
            rnn.C.normal_(std=0.6)
        made.network.readout.weight.normal_(std=0.6)
    return made


def batch_of(size: int = 10, steps: int = 5, *, mask: Tensor | None = None) -> SequenceBatch:
    """Targets of 0 to ``steps`` − 1 tokens and their ``<end>``."""
    generator = torch.Generator().manual_seed(1)
    targets = torch.randint(0, END, (size, steps), generator=generator)
    for row in range(size):
        targets[row, row % steps :] = END
    return SequenceBatch(
        torch.randint(0, 5, (size, 7), generator=generator),
        targets,
        torch.randint(1, 8, (size,), generator=generator),
        mask,
    )


def with_targets_that_it_gets_right(made: ALRNNSeq2Seq, batch: SequenceBatch, rows: range) -> SequenceBatch:
    """Replace some targets by what the network says, cut at the width of the targets."""
    targets = batch.targets.clone()
    with torch.no_grad():
        chosen = made.network(batch.inputs, batch.lengths, torch.zeros_like(targets)).tokens
    for row in rows:
        tokens = chosen[row].tolist()
        steps = tokens.index(END) if END in tokens else targets.shape[1] - 1
        targets[row] = torch.tensor(tokens[:steps] + [END] * (targets.shape[1] - steps))
    return batch._replace(targets=targets)


def validate(made: ALRNNSeq2Seq, batch: SequenceBatch) -> Any:
    return Trainer(logger=False, **QUIET).validate(made, loader(batch), verbose=False)[0]


def by_hand(made: ALRNNSeq2Seq, batch: SequenceBatch, truncate: bool) -> dict[str, float]:
    """Loss and accuracies from single sequences and steps."""
    loss = weight = 0.0
    tokens: list[bool] = []
    sequences: list[bool] = []
    longer: list[bool] = []  # with at least one token beside <end>
    for row, target in enumerate(batch.targets):
        inputs = batch.inputs[row : row + 1, : int(batch.lengths[row])]
        with torch.no_grad():
            output = made.network(inputs, None, batch.targets[row : row + 1])
        chosen = output.tokens[0].tolist()
        stop = chosen.index(END) if END in chosen and not truncate else len(chosen)
        verdicts = []
        for t in range(target.tolist().index(END) + (not truncate)):
            w = 1.0 if batch.mask is None else float(batch.mask[row, t])
            loss += w * float(functional.cross_entropy(output.outputs[0, t], target[t]))
            weight += w
            if w > 0:
                verdicts.append(chosen[t] == int(target[t]) and t <= stop)
        tokens += verdicts
        if verdicts:
            sequences.append(all(verdicts))
            longer += [all(verdicts)] * int(target[0] != END)
    means = {"accuracy_length_1_6": longer, "token_accuracy": tokens, "sequence_accuracy": sequences}
    return {"task_loss": loss / weight, **{name: sum(values) / len(values) for name, values in means.items()}}


@pytest.mark.parametrize("truncate", [False, True])
@pytest.mark.parametrize("masked", [False, True])
def test_loss_and_accuracies_by_hand(truncate: bool, masked: bool) -> None:
    made = model(truncate_to_target=truncate)
    batch = with_targets_that_it_gets_right(made, batch_of(), range(2, 6))
    if masked:
        mask = torch.rand(10, 5, generator=torch.Generator().manual_seed(2)).round(decimals=1)
        mask[:, 1] = 0.0
        mask[4] = 0.0
        batch = batch._replace(mask=mask)
    expected = by_hand(made, batch, truncate)
    assert 0 < expected["sequence_accuracy"] < 1
    assert expected["sequence_accuracy"] != expected["token_accuracy"]
    for stage in ("validate", "test"):
        trainer = Trainer(logger=False, **QUIET)
        (logged,) = getattr(trainer, stage)(made, loader(batch), verbose=False)
        prefix = {"validate": "val", "test": "test"}[stage]
        for name, value in expected.items():
            assert logged[f"{prefix}/{name}"] == pytest.approx(value, rel=1e-5), name
        assert set(logged) == {f"{prefix}/{name}" for name in LOSSES | ACCURACIES | LENGTHS}


def test_a_sequence_is_right_only_if_it_ends_where_the_target_does() -> None:
    made = model()
    batch = with_targets_that_it_gets_right(made, batch_of(), range(10))
    longer = [row for row in range(10) if batch.targets[row].tolist().index(END) > 1]
    assert len(longer) > 2
    shortened = batch.targets.clone()
    for row in longer:  # the network goes on for a step more than the target
        steps = shortened[row].tolist().index(END)
        shortened[row, steps - 1] = END
    for truncate, accuracy in ((False, 1 - len(longer) / 10), (True, 1.0)):
        made.truncate_to_target = truncate
        logged = validate(made, batch._replace(targets=shortened))
        assert logged["val/sequence_accuracy"] == pytest.approx(accuracy)
        assert (logged["val/token_accuracy"] == 1.0) == truncate


@pytest.mark.parametrize("truncate", [False, True])
def test_nothing_counts_after_the_decoder_has_stopped(truncate: bool) -> None:
    made = model(truncate_to_target=truncate)
    with torch.no_grad():
        made.network.readout.weight.zero_()
        made.network.readout.bias.copy_(torch.tensor([0.0, 0.0, 0.0, 1.0]))  # <end> at once, and for ever
    targets = torch.tensor([[END, END, END, END], [1, 1, END, END], [2, 1, 0, END], [END, END, END, END]])
    batch = SequenceBatch(torch.zeros(4, 2).long(), targets, torch.full((4,), 2))
    logged = validate(made, batch)
    assert logged["val/token_accuracy"] == (0.0 if truncate else pytest.approx(2 / (1 + 3 + 4 + 1)))
    assert logged["val/sequence_accuracy"] == (0.0 if truncate else 0.5)


def test_regularization_is_that_of_both_networks() -> None:
    made = model(mar_strength=0.3, mar_units=5)
    penalties = [manifold_attractor_penalty(rnn, 5) for rnn in (made.network.encoder, made.network.decoder)]
    torch.testing.assert_close(made.regularization(), 0.3 * (penalties[0] + penalties[1]))
    assert model().mar_units == 4
    assert float(model(mar_strength=0.0).regularization()) == 0.0


def test_step_outputs_carry_the_states_of_both_networks() -> None:
    made = model()
    made.log = lambda *args, **options: None  # type: ignore[method-assign]
    batch = with_targets_that_it_gets_right(made, batch_of(), range(2, 6))
    expected = made.network(batch.inputs, batch.lengths, batch.targets)
    for seen in (made.training_step(batch, 0), made.validation_step(batch, 0)):
        assert seen["states"].keys() == seen["lengths"].keys() == {"encoder", "decoder"}
        assert not any(states.requires_grad for states in seen["states"].values())
    torch.testing.assert_close(seen["states"], {"encoder": expected.encoder_states, "decoder": expected.states})
    assert seen["lengths"]["encoder"].tolist() == batch.lengths.tolist()
    for row in range(10):
        target, chosen = batch.targets[row].tolist(), expected.tokens[row].tolist()
        steps = target.index(END) + 1
        assert int(seen["lengths"]["decoder"][row]) == min(
            steps, chosen.index(END) + 1 if END in chosen else len(chosen)
        )
        assert int(seen["target_lengths"][row]) == steps - 1
        assert bool(seen["correct"][row]) == (chosen[:steps] == target[:steps])
    assert seen["correct"].any()


def test_evaluation_is_never_forced() -> None:
    free, forced = (validate(model(teacher_forcing=forcing), batch_of()) for forcing in (0.0, 1.0))
    assert free == pytest.approx(forced, nan_ok=True)


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        ({}, [0.0] * 5),
        ({"teacher_forcing": 1.0}, [1.0] * 5),
        ({"teacher_forcing": 0.8, "teacher_forcing_epochs": 4}, [0.8, 0.6, 0.4, 0.2, 0.0]),
        ({"teacher_forcing": 0.5, "teacher_forcing_epochs": 1}, [0.5, 0.0, 0.0, 0.0, 0.0]),
    ],
)
def test_teacher_forcing_falls_linearly(options: dict[str, Any], expected: list[float]) -> None:
    made = model(**options)
    assert [made.teacher_forcing_at(epoch) for epoch in range(5)] == pytest.approx(expected)
    seen: list[float] = []

    def spy(module: Any, args: Any, options: dict[str, Any]) -> None:
        seen.append(options["teacher_forcing"])

    made.network.register_forward_pre_hook(spy, with_kwargs=True)
    Trainer(max_epochs=5, logger=False, enable_checkpointing=False, **QUIET).fit(made, loader(batch_of(), 10))
    assert seen == pytest.approx(expected)


def test_predictions_need_no_targets() -> None:
    made = model(max_steps=6)
    batch = batch_of()
    wrong = batch._replace(targets=torch.zeros_like(batch.targets))
    (prediction,) = Trainer(logger=False, **QUIET).predict(made, loader(wrong, 10))
    assert isinstance(prediction, Seq2SeqOutput)
    with torch.no_grad():
        torch.testing.assert_close(prediction, made.network(batch.inputs, batch.lengths, max_steps=6))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"teacher_forcing": 1.1}, "teacher_forcing must be a probability between 0 and 1, got 1.1"),
        ({"teacher_forcing": math.nan}, "teacher_forcing must be a probability"),
        ({"teacher_forcing_epochs": 0}, "teacher_forcing_epochs must be at least 1, or None .* got 0"),
        ({"max_steps": 0}, "max_steps must be at least 1, got 0"),
    ],
)
def test_wrong_arguments(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model(**options)


def test_wrong_batches() -> None:
    batch = batch_of()
    for wrong, message in (
        (batch._replace(inputs=torch.randn(10, 7, 2)), r"inputs must be int64 tokens of shape \(batch, time\)"),
        (batch._replace(targets=torch.randn(10, 5)), r"targets must be int64 tokens of shape \(batch=4, time\)"),
        (batch._replace(mask=torch.ones(10, 7)), r"mask must have the shape of the targets, \(4, 5\), got \(4, 7\)"),
    ):
        with pytest.raises(ValueError, match=message):
            validate(model(), wrong)
    pairs = DataLoader([(torch.zeros(5).long(), 1)] * 4)  # type: ignore[arg-type,var-annotated]
    with pytest.raises(TypeError, match=r"must be a lightning_alrnn.SequenceBatch.*got list"):
        Trainer(logger=False, **QUIET).validate(model(), pairs, verbose=False)
