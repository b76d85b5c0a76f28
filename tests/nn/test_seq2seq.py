"""The encoder-decoder: against a plain differentiable loop, one sequence at a time, and at its edges."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.nn import ALRNN, Seq2Seq

WORDS, OUTPUTS, END, START = 5, 4, 3, 4


def network(**options: Any) -> Seq2Seq:
    """Small, with weights large enough that its tokens differ from step to step."""
    torch.manual_seed(options.pop("seed", 0))
    made = Seq2Seq(WORDS, OUTPUTS, 8, options.pop("p", 3), options.pop("p_decoder", 4), embedding_size=6, **options)
    with torch.no_grad():
        for rnn in (made.encoder, made.decoder):
            rnn.W.normal_(std=0.4)
            rnn.A.normal_(std=0.4)
            rnn.h.normal_(std=0.3)
            rnn.C.normal_(std=0.5)
        made.readout.weight.normal_(std=1.0)
        made.readout.bias.normal_(std=0.1)
    return made


def example(batch: int = 7, steps: int = 9) -> tuple[Tensor, Tensor, Tensor]:
    """Inputs, their lengths, and targets that end at all kinds of steps."""
    generator = torch.Generator().manual_seed(3)
    inputs = torch.randint(0, WORDS, (batch, 6), generator=generator)
    lengths = torch.randint(1, 7, (batch,), generator=generator)
    targets = torch.randint(0, OUTPUTS - 1, (batch, steps), generator=generator)
    for row, end in enumerate(torch.randint(0, steps, (batch,), generator=generator).tolist()):
        targets[row, end:] = END
    return inputs, lengths, targets


def one_step(rnn: ALRNN, z: Tensor, token: Tensor) -> Tensor:
    """The equation, unit by unit."""
    phi = torch.stack([z[i].relu() if i >= rnn.linear_units else z[i] for i in range(len(z))])
    return torch.cat((z.new_zeros(len(z) - len(rnn.A)), rnn.A)) * z + rnn.W @ phi + rnn.C @ token + rnn.h


def plain_loop(
    made: Seq2Seq, inputs: Tensor, lengths: Tensor, targets: Tensor, forced: Tensor
) -> tuple[list[Tensor], list[list[int]]]:
    """Scores and tokens of each sequence up to its target's end, by a loop that autograd follows throughout."""
    scores, tokens = [], []
    for row, length in enumerate(lengths.tolist()):
        z = torch.zeros(made.encoder.hidden_size, dtype=made.readout.weight.dtype)
        for word in inputs[row, :length]:
            z = one_step(made.encoder, z, made.embedding.weight[word])
        fed, own_scores, chosen = START, [], []
        for t, target in enumerate(targets[row].tolist()):
            z = one_step(made.decoder, z, made.decoder_embedding.weight[fed])
            own_scores.append(made.readout.weight @ z + made.readout.bias)
            chosen.append(int(own_scores[-1].argmax()))
            fed = target if forced[row, t] else chosen[-1]
            if target == END:
                break
        scores.append(torch.stack(own_scores))
        tokens.append(chosen)
    return scores, tokens


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("teacher_forcing", [0.0, 0.4, 1.0])
@pytest.mark.parametrize(
    "options",
    [{}, {"p": 0, "p_decoder": 8}, {"p": 8, "p_decoder": 0, "self_connections": "all"}],
    ids=["some", "linear encoder", "linear decoder"],
)
def test_values_and_gradients_are_those_of_a_differentiable_loop(
    backend: Any, teacher_forcing: float, options: dict[str, Any]
) -> None:
    made = network(backend=backend, **options).double()
    inputs, lengths, targets = example()
    torch.manual_seed(5)
    output = made(inputs, lengths, targets, teacher_forcing=teacher_forcing)
    torch.manual_seed(5)
    forced = torch.rand(targets.shape) < teacher_forcing
    scores, tokens = plain_loop(made, inputs, lengths, targets, forced)
    assert len({token for row in tokens for token in row}) > 2
    assert output.lengths.tolist() == [len(row) for row in tokens]
    for row, chosen in enumerate(tokens):
        torch.testing.assert_close(output.outputs[row, : len(chosen)], scores[row], rtol=1e-9, atol=1e-9)
        assert output.tokens[row].tolist() == chosen + [END] * (targets.shape[1] - len(chosen))
        assert not output.states[row, len(chosen) :].any()

    wanted = torch.cat([targets[row, : len(chosen)] for row, chosen in enumerate(tokens)])
    outputs = [output.outputs[row, : len(chosen)] for row, chosen in enumerate(tokens)]
    names, parameters = zip(*made.named_parameters(), strict=True)
    gradients, expected = (
        torch.autograd.grad(functional.cross_entropy(torch.cat(rows), wanted, reduction="sum"), parameters)
        for rows in (outputs, scores)
    )
    for name, a, b in zip(names, gradients, expected, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-7, atol=1e-9, msg=name)
        if a.numel():
            assert b.any(), name


@pytest.mark.parametrize("seed", range(4))
def test_without_targets_each_sequence_runs_to_its_own_end(seed: int) -> None:
    made = network(seed=seed).double()
    inputs, lengths, _ = example(batch=30)
    output = made(inputs, lengths, max_steps=12)
    never = torch.zeros(30, 12, dtype=torch.int64)
    _, tokens = plain_loop(made, inputs, lengths, never, torch.zeros_like(never, dtype=torch.bool))
    cut = [row[: row.index(END) + 1] if END in row else row for row in tokens]
    assert output.lengths.tolist() == [len(row) for row in cut]
    steps = max(map(len, cut))
    assert output.tokens.tolist() == [row + [END] * (steps - len(row)) for row in cut]
    assert (output.outputs.shape, output.states.shape) == ((30, steps, OUTPUTS), (30, steps, 8))


@pytest.mark.parametrize(("token", "steps"), [(END, 1), (1, 20)], ids=["at once", "never"])
def test_decoding_stops_with_the_last_sequence(token: int, steps: int) -> None:
    made = network()
    made.readout.weight.data.zero_()
    made.readout.bias.data = functional.one_hot(torch.tensor(token), OUTPUTS).float()
    output = made(example()[0], max_steps=20)
    assert output.tokens.tolist() == [[token] * steps] * 7
    assert output.lengths.tolist() == [steps] * 7


def test_padding_of_the_inputs_is_not_read() -> None:
    made = network()
    inputs, lengths, targets = example()
    padded = torch.where(torch.arange(6) < lengths[:, None], inputs, (inputs + 1) % WORDS)
    assert not torch.equal(inputs, padded)
    a, b = (made(tokens, lengths, targets) for tokens in (inputs, padded))
    assert all(map(torch.equal, a, b))
    assert torch.equal(a.encoder_lengths, lengths)
    unpadded = made(inputs)
    assert unpadded.encoder_lengths.tolist() == [6] * 7
    assert torch.equal(unpadded.encoder_states, made(inputs, torch.full((7,), 6)).encoder_states)


@pytest.mark.parametrize("core", ["RNN", "GRU", "LSTM"])
def test_other_cores_are_the_layers_of_torch(core: Any) -> None:
    torch.manual_seed(7)
    made = Seq2Seq(WORDS, OUTPUTS, 8, 99, 99, core=core, embedding_size=6).double()  # no P that would be too large
    for parameter in made.parameters():
        parameter.data.normal_()  # its tokens differ from step to step
    inputs, lengths, targets = example(steps=12)
    for teacher_forcing in (0.0, 1.0):
        output = made(inputs, lengths, targets, teacher_forcing=teacher_forcing)
        scores = []
        for row, length in enumerate(lengths.tolist()):
            states, state = made.encoder.layer(made.embedding(inputs[row, :length]))
            torch.testing.assert_close(output.encoder_states[row, :length], states)
            assert not output.encoder_states[row, length:].any()
            steps = targets[row].tolist().index(END) + 1
            fed = START
            for t in range(steps):
                states, state = made.decoder.layer(made.decoder_embedding.weight[fed : fed + 1], state)
                scores.append(made.readout(states[0]))
                torch.testing.assert_close(output.outputs[row, t], scores[-1])
                assert int(output.tokens[row, t]) == int(scores[-1].argmax())
                fed = int(targets[row, t] if teacher_forcing else output.tokens[row, t])
        counted = output.outputs[torch.arange(12) < output.lengths[:, None]]
        gradients, expected = (
            torch.autograd.grad(values.square().sum(), [*made.parameters()])
            for values in (counted, torch.stack(scores))
        )
        torch.testing.assert_close(gradients, expected)
        assert len(output.tokens.unique()) > 2
    untargeted = made(inputs, lengths, max_steps=12)  # to the end that each sequence chooses
    torch.testing.assert_close(untargeted.outputs[:, 0], output.outputs[:, 0])


def test_half_precision_and_autocast_run() -> None:
    made = network()
    inputs, lengths, targets = example()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = made(inputs, lengths, targets)
        output.outputs.float().sum().backward()
    assert torch.equal(output.tokens, made(inputs, lengths, targets).tokens)  # chosen in float32 all the same
    assert made.bfloat16()(inputs, lengths, targets).outputs.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_size": 0}, "input_size must be at least 1, got 0"),
        ({"output_size": 1}, "output_size must be at least 2, got 1"),
        ({"core": "gru"}, "core must be one of 'ALRNN', 'RNN', 'GRU', 'LSTM', got 'gru'"),
        ({"embedding_size": 0}, "embedding_size must be at least 1, got 0"),
        ({"nonlinear_units": 9}, r"nonlinear_units \(P\) must lie between 0 and hidden_size \(M=8\), got 9"),
        ({"decoder_nonlinear_units": 9}, r"decoder_nonlinear_units \(P\) must lie .* \(M=8\), got 9"),
        ({"decoder_nonlinear_units": -1}, r"decoder_nonlinear_units \(P\) must lie .* got -1"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str) -> None:
    sizes = {"input_size": 3, "output_size": 3, "hidden_size": 8, "nonlinear_units": 4, "decoder_nonlinear_units": 4}
    with pytest.raises(ValueError, match=message):
        Seq2Seq(**(sizes | options))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"inputs": torch.zeros(2, 3)}, r"inputs must be int64 tokens of shape \(batch, time\).*got torch.float32"),
        ({"inputs": torch.zeros(2, 3, 1).long()}, r"inputs must be int64 .* shape \(2, 3, 1\)"),
        ({"inputs": torch.zeros(2, 0).long()}, r"with at least one step, got .* \(2, 0\)"),
        ({"inputs": torch.full((2, 3), 5)}, "inputs must be tokens from 0 to 4, got 5"),
        ({"inputs": torch.full((2, 3), -1)}, "inputs must be tokens from 0 to 4, got -1"),
        ({"targets": torch.zeros(3, 2).long()}, r"targets must be int64 tokens of shape \(batch=2, time\)"),
        ({"targets": torch.full((2, 2), 4)}, "targets must be tokens from 0 to 3, got 4"),
        ({"lengths": torch.tensor([0, 3])}, "lengths must lie between 1 and the number of steps, 3"),
        ({"teacher_forcing": 0.5}, "teacher_forcing=0.5 needs targets"),
        ({"teacher_forcing": 1.5, "targets": torch.zeros(2, 2).long()}, "must be a probability between 0 and 1"),
        ({"max_steps": 0}, "number of steps to decode must be at least 1, got 0"),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        network()(**({"inputs": torch.zeros(2, 3).long()} | arguments))
