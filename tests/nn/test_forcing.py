"""Generalised teacher forcing against a plain Python loop."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.nn import ALRNN, available_backends, generalized_teacher_forcing

B, T, K, M = 5, 11, 3, 6


def made(nonlinear: int, dtype: torch.dtype = torch.float64, width: int | None = K, **options: object) -> ALRNN:
    torch.manual_seed(nonlinear)
    rnn = ALRNN(width, M, nonlinear, **options)  # type: ignore[arg-type]
    with torch.no_grad():
        rnn.W.normal_(std=0.7 / M**0.5)
        rnn.h.normal_(std=0.5)
        rnn.A.normal_(std=0.5)
        if rnn.C is not None:
            rnn.C.normal_()
    return rnn.to(dtype)


def drawn(dtype: torch.dtype = torch.float64, time: int = T, width: int = K) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(1)
    shapes = (B, time, width), (B, time, M), (B, M)
    inputs, targets, state = (torch.randn(shape, generator=generator, dtype=dtype) for shape in shapes)
    return inputs, targets, state, torch.tensor([time, 1, max(time - 3, 1), max(time // 2, 1), time])


def loop(
    rnn: ALRNN, inputs: Tensor, targets: Tensor, alpha: float, interval: int, state: Tensor, lengths: Tensor
) -> tuple[Tensor, Tensor]:
    """One trial and one step at a time, as the equations stand."""
    rows, last = [], []
    for b, length in enumerate(lengths.tolist()):
        z, row = state[b], []
        for t in range(1, length + 1):
            row.append(rnn.step(z, inputs[b, t - 1]))
            z = (1 - alpha) * row[-1] + alpha * targets[b, t - 1] if t % interval == 0 else row[-1]
        last.append(row[-1])
        rows.append(functional.pad(torch.stack(row), (0, 0, 0, targets.shape[1] - length)))
    return torch.stack(rows), torch.stack(last)


@pytest.mark.parametrize("nonlinear", [0, 2, M])
@pytest.mark.parametrize("padded", [False, True])
def test_equals_the_loop(nonlinear: int, padded: bool) -> None:
    rnn = made(nonlinear)
    inputs, targets, state, lengths = drawn()
    if not padded:
        lengths = torch.full((B,), T)
    weights = torch.randn(B, T, M, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
    leaves = [tensor.requires_grad_() for tensor in (inputs, targets, state)]
    for alpha, interval in product((0.0, 0.3, 1.0), (1, 2, 3, 10, 11, 40)):
        options: dict[str, Any] = {"alpha": alpha, "interval": interval, "lengths": lengths if padded else None}
        results = []
        for states, last in (
            generalized_teacher_forcing(rnn, inputs, targets, state=state, **options),
            loop(rnn, inputs, targets, alpha, interval, state, lengths),
        ):
            loss = (states * weights).sum() + last.square().sum()
            grads = torch.autograd.grad(loss, [*leaves, *rnn.parameters()], materialize_grads=True)
            results.append([states, last, *grads])
        torch.testing.assert_close(*results, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", available_backends())
@pytest.mark.parametrize("interval", [1, 4])
def test_every_backend(backend: str, interval: int) -> None:
    rnn = made(2, torch.float32, backend=backend)
    inputs, targets, state, lengths = drawn(torch.float32)
    output = generalized_teacher_forcing(
        rnn, inputs, targets, alpha=0.4, interval=interval, state=state, lengths=lengths
    )
    expected = loop(rnn, inputs, targets, 0.4, interval, state, lengths)
    torch.testing.assert_close(tuple(output), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("interval", [1, 3])
def test_inputs_that_are_added_directly_and_a_learned_start(interval: int) -> None:
    rnn = made(2, width=None, initial_state="learned")
    with torch.no_grad():
        rnn.z0.normal_()
    inputs, targets, _, lengths = drawn(width=M)
    output = generalized_teacher_forcing(rnn, inputs, targets, alpha=0.4, interval=interval, lengths=lengths)
    expected = loop(rnn, inputs, targets, 0.4, interval, rnn.z0.expand(B, -1), lengths)
    torch.testing.assert_close(output.states, expected[0], rtol=1e-12, atol=1e-12)
    output.last.sum().backward()
    assert float(rnn.z0.grad.abs().sum()) > 0


@pytest.mark.parametrize("interval", [1, 3])
def test_what_stands_in_the_padding_does_not_matter(interval: int) -> None:
    rnn = made(2)
    with torch.no_grad():
        rnn.W.mul_(50)  # states that are run on would overflow
    inputs, targets, state, lengths = drawn(time=300)
    lengths = lengths.clamp(max=3)
    results = []
    for filling in (0.0, 1e3):
        filled = torch.where(torch.arange(300) < lengths[:, None], 0.0, filling)[..., None]
        rnn.zero_grad()
        output = generalized_teacher_forcing(
            rnn, inputs + filled, targets + filled, alpha=0.1, interval=interval, state=state, lengths=lengths
        )
        output.states.square().sum().backward()
        results.append((output.states.detach(), rnn.W.grad))
    assert all(bool(torch.isfinite(value).all()) for value in results[0])
    torch.testing.assert_close(*results, rtol=0, atol=0)


def test_half_precision_runs_the_recurrence_in_float32() -> None:
    rnn = made(2, torch.float32)
    inputs, targets, state, _ = drawn(torch.float32)
    for interval in (1, 3):
        options: dict[str, Any] = {"alpha": 0.4, "interval": interval, "state": state}
        expected = generalized_teacher_forcing(rnn, inputs, targets, **options)
        with torch.autocast("cpu", torch.bfloat16):
            assert generalized_teacher_forcing(rnn, inputs, targets, **options).states.equal(expected.states)


@pytest.mark.parametrize(
    ("wrong", "error", "message"),
    [
        *(({"alpha": alpha}, ValueError, "alpha must lie between 0") for alpha in (-0.1, 1.1, float("nan"))),
        ({"interval": 0}, ValueError, "interval must be at least 1, got 0"),
        ({"targets": torch.zeros(B, T - 1, M)}, ValueError, r"targets .* = \(5, 11, 6\), got \(5, 10, 6\)"),
        ({"lengths": torch.zeros(B).long()}, ValueError, "lengths must lie between 1"),
        ({"state": torch.zeros(1, M)}, ValueError, "state must have shape"),
        ({"inputs": torch.zeros(B, T, K)}, TypeError, "inputs must have the dtype"),
    ],
)
def test_wrong_arguments(wrong: dict[str, Any], error: type[Exception], message: str) -> None:
    inputs, targets, _, _ = drawn()
    with pytest.raises(error, match=message):
        generalized_teacher_forcing(made(2), **({"inputs": inputs, "targets": targets, "alpha": 0.5} | wrong))
