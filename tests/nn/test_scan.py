"""Backends against each other, in values and in all gradients."""

from __future__ import annotations

import importlib

import pytest
import torch
from torch import Tensor

from lightning_alrnn.nn import ALRNN, scan
from lightning_alrnn.nn.scan import available_backends, rectify

NAMES = ("inputs", "state", "diagonal", "W", "C", "h")


def draw(batch: int, time: int, hidden: int, nonlinear: int, *, inputs: int | None = 3) -> dict[str, Tensor | None]:
    generator = torch.Generator().manual_seed(1000 * batch + 100 * time + 10 * hidden + nonlinear)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, dtype=torch.float64, generator=generator)

    return {
        "inputs": normal(batch, time, hidden if inputs is None else inputs),
        "state": normal(batch, hidden),
        "diagonal": 0.5 * normal(hidden),
        "W": (0.6 / hidden**0.5 * normal(hidden, hidden)).t(),  # not contiguous, as a user's weight may be
        "C": None if inputs is None else normal(hidden, inputs),
        "h": 0.1 * normal(hidden),
    }


def run(
    values: dict[str, Tensor | None], nonlinear: int, backend: str, lengths: Tensor | None, use: str
) -> tuple[list[Tensor], list[Tensor]]:
    """Outputs, and the gradients of a random linear function of the outputs named by ``use``."""
    leaves = {
        name: None if value is None else value.detach().clone().requires_grad_() for name, value in values.items()
    }
    output = scan(**leaves, nonlinear_units=nonlinear, lengths=lengths, backend=backend)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(7)
    loss = torch.zeros((), dtype=torch.float64)
    for name, value in output._asdict().items():
        weight = torch.randn(value.shape, dtype=value.dtype, generator=generator)
        if use in (name, "both"):
            loss = loss + (value * weight).sum()
    loss.backward()
    grads = [torch.zeros_like(leaf) if leaf.grad is None else leaf.grad for leaf in leaves.values() if leaf is not None]
    return [value.detach() for value in output], grads


@pytest.mark.parametrize("use", ["states", "last", "both"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("nonlinear", [0, 1, 7])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (1, 5), (5, 1), (5, 12)])
def test_fused_equals_eager(batch: int, time: int, nonlinear: int, padded: bool, use: str) -> None:
    values = draw(batch, time, 7, nonlinear)
    lengths = torch.arange(batch) % time + 1 if padded else None
    outputs, grads = run(values, nonlinear, "fused", lengths, use)
    expected_outputs, expected_grads = run(values, nonlinear, "eager", lengths, use)
    torch.testing.assert_close(outputs, expected_outputs, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(grads, expected_grads, rtol=1e-12, atol=1e-12)


def test_fused_equals_eager_where_inputs_are_added() -> None:
    values = draw(3, 4, 5, 2, inputs=None)
    for got, expected in zip(run(values, 2, "fused", None, "both"), run(values, 2, "eager", None, "both"), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-12, atol=1e-12)


@pytest.mark.parametrize("backend", ["eager", "fused"])
@pytest.mark.parametrize("nonlinear", [0, 2, 4])
@pytest.mark.parametrize("padded", [False, True])
def test_gradcheck(backend: str, nonlinear: int, padded: bool) -> None:
    values = draw(2, 4, 4, nonlinear)
    lengths = torch.tensor([2, 4]) if padded else None

    def function(*leaves: Tensor) -> tuple[Tensor, Tensor]:
        named = dict(zip(NAMES, leaves, strict=True))
        return scan(**named, nonlinear_units=nonlinear, lengths=lengths, backend=backend)  # type: ignore[arg-type]

    leaves = [value.detach().clone().requires_grad_() for value in values.values() if value is not None]
    assert torch.autograd.gradcheck(function, leaves)


def test_eager_can_be_differentiated_twice() -> None:
    values = draw(2, 3, 3, 1)
    leaves = [value.detach().clone().requires_grad_() for value in values.values() if value is not None]

    def function(*leaves: Tensor) -> Tensor:
        named = dict(zip(NAMES, leaves, strict=True))
        return scan(**named, nonlinear_units=1, backend="eager").states  # type: ignore[arg-type]

    assert torch.autograd.gradgradcheck(function, leaves)


def test_fused_says_that_it_cannot_be_differentiated_twice() -> None:
    values = draw(2, 3, 3, 1)
    W = values["W"]
    assert W is not None
    W.requires_grad_()
    states = scan(**values, nonlinear_units=1, backend="fused").states  # type: ignore[arg-type]
    (grad,) = torch.autograd.grad(states.square().sum(), W, create_graph=True)
    with pytest.raises(RuntimeError, match="once_differentiable"):
        grad.sum().backward()


def test_writing_into_an_output_does_not_corrupt_gradients() -> None:
    values = draw(2, 3, 3, 1)
    W = values["W"]
    assert W is not None
    W.requires_grad_()

    def gradient(spoil: bool) -> Tensor:
        states, last = scan(**values, nonlinear_units=1, backend="fused")  # type: ignore[arg-type]
        loss = states.sum()
        if spoil:
            last.detach().zero_()
        return torch.autograd.grad(loss, W)[0]

    assert torch.equal(gradient(True), gradient(False))


def test_gradient_on_a_switching_boundary_is_that_of_the_unit_off() -> None:
    values = draw(1, 1, 2, 2)
    values["state"] = torch.zeros(1, 2, dtype=torch.float64)
    for backend in ("eager", "fused"):
        _, grads = run(values, 2, backend, None, "states")
        diagonal = values["diagonal"]
        assert diagonal is not None
        generator = torch.Generator().manual_seed(7)
        weight = torch.randn(1, 1, 2, dtype=torch.float64, generator=generator)
        torch.testing.assert_close(grads[1], weight[:, 0] * diagonal, rtol=0, atol=1e-14)


def test_nan_reaches_the_output() -> None:
    values = draw(2, 3, 3, 3)
    values["state"] = torch.full((2, 3), torch.nan, dtype=torch.float64)
    for backend in ("eager", "fused"):
        outputs, _ = run(values, 3, backend, None, "states")
        assert bool(outputs[0].isnan().all())


def test_rectify_with_no_nonlinear_units_is_the_identity() -> None:
    z = torch.tensor([[-1.0, 2.0, -3.0]])
    assert torch.equal(rectify(z, 0), z)
    assert torch.equal(rectify(z, 1), torch.tensor([[-1.0, 2.0, 0.0]]))
    assert torch.equal(rectify(z, 3), torch.tensor([[0.0, 2.0, 0.0]]))


def test_backends() -> None:
    assert set(available_backends()) >= {"eager", "fused"}
    with pytest.raises(ValueError, match="backend must be one of"):
        scan(**draw(1, 1, 1, 0), nonlinear_units=0, backend="gpu")  # type: ignore[arg-type]


NATIVE = pytest.mark.skipif("native" not in available_backends(), reason="the kernel is not compiled here")


@NATIVE
@pytest.mark.parametrize("use", ["states", "last", "both"])
@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("nonlinear", [0, 1, 7])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (5, 12), (64, 100)])
def test_native_equals_eager(batch: int, time: int, nonlinear: int, padded: bool, use: str) -> None:
    values = {name: None if v is None else v.float() for name, v in draw(batch, time, 7, nonlinear).items()}
    lengths = torch.arange(batch) % time + 1 if padded else None
    outputs, grads = run(values, nonlinear, "native", lengths, use)
    expected_outputs, expected_grads = run(values, nonlinear, "eager", lengths, use)
    for got, expected in zip(outputs + grads, expected_outputs + expected_grads, strict=True):
        scale = float(expected.abs().max()) if expected.numel() else 0.0
        torch.testing.assert_close(got, expected, rtol=0, atol=2e-5 * scale + 1e-30)


@NATIVE
def test_native_equals_eager_where_inputs_are_added() -> None:
    values = {name: None if v is None else v.float() for name, v in draw(3, 4, 5, 2, inputs=None).items()}
    for got, expected in zip(
        run(values, 2, "native", None, "both"), run(values, 2, "eager", None, "both"), strict=True
    ):
        torch.testing.assert_close(got, expected, rtol=1e-5, atol=1e-5)


@NATIVE
def test_auto_takes_the_kernel_for_float32_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[torch.dtype] = []
    module = importlib.import_module("lightning_alrnn.nn.scan")
    forward = module._native.native_forward

    def spy(inputs: Tensor, *rest: object) -> object:
        calls.append(inputs.dtype)
        return forward(inputs, *rest)

    monkeypatch.setattr(module._native, "native_forward", spy)
    values = draw(2, 3, 3, 1)
    scan(**values, nonlinear_units=1)  # type: ignore[arg-type]
    assert calls == []
    scan(**{name: None if v is None else v.float() for name, v in values.items()}, nonlinear_units=1)  # type: ignore[arg-type]
    assert calls == [torch.float32]
    with pytest.raises(TypeError, match=r"computes in float32 on the CPU, got torch.float64 on cpu"):
        scan(**values, nonlinear_units=1, backend="native")  # type: ignore[arg-type]


def test_without_the_kernel_everything_runs_on_fused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.import_module("lightning_alrnn.nn.scan"), "_kernel", None)
    assert available_backends() == ("eager", "fused")
    values = {name: None if v is None else v.float() for name, v in draw(2, 3, 3, 1).items()}
    assert torch.equal(run(values, 1, "auto", None, "both")[0][0], run(values, 1, "fused", None, "both")[0][0])
    with pytest.raises(ValueError, match="backend must be one of 'auto', 'eager', 'fused', got 'native'"):
        scan(**values, nonlinear_units=1, backend="native")  # type: ignore[arg-type]


@NATIVE
def test_training_with_the_kernel_follows_eager() -> None:
    losses: dict[str, list[float]] = {}
    for backend in ("eager", "native"):
        torch.manual_seed(0)
        rnn = ALRNN(2, 20, 5, backend=backend, init="near_identity")  # type: ignore[arg-type]
        readout = torch.nn.Linear(20, 1)
        optimizer = torch.optim.Adam([*rnn.parameters(), *readout.parameters()], lr=1e-3)
        inputs = torch.rand(32, 20, 2)
        targets = inputs[:, :5, 0].sum(dim=1, keepdim=True)
        losses[backend] = []
        for _ in range(50):
            loss = (readout(rnn(inputs).last) - targets).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses[backend].append(float(loss.detach()))
    assert losses["native"] == pytest.approx(losses["eager"], rel=1e-4)
    assert losses["eager"][-1] < 0.5 * losses["eager"][0]
