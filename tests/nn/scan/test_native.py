"""The kernel against tensor operations in float64, on every instruction set that this processor has."""

from __future__ import annotations

import itertools
import os
import signal
import threading
import time
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_alrnn.nn import Recurrence, run_recurrence
from lightning_alrnn.nn.scan.fused import fused_backward, fused_forward

native = pytest.importorskip(
    "lightning_alrnn.nn.scan.native", reason="the kernel is not compiled here", exc_type=ImportError
)
Problem, Gradients = native.Arguments, native.Gradients
native_backward, native_forward = native.native_backward, native.native_forward
LEVELS = native.simd_levels()
TOLERANCE = 1e-5  # of the largest entry of the reference
TINY = 1e-30  # far below, the flushing of denormal numbers shows in gradients that have decayed


def single(p: Any) -> Any:
    return Problem(*(None if x is None else x.float() for x in p[:6]), p.P, p.lengths)


def problem(B: int, T: int, M: int, P: int, K: int | None, padded: bool = False, seed: int = 0) -> Any:
    """A random one in float64, a contraction (as errors would grow in any other), with values that float32 holds."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator).double()

    W = normal(M, M)
    return Problem(
        inputs=normal(B, T, M if K is None else K),
        state=normal(B, M),
        A=(0.4 * normal(M).tanh()).float().double(),
        W=(0.5 * W / torch.linalg.matrix_norm(W, 2)).float().double(),
        C=None if K is None else normal(M, K),
        h=normal(M),
        P=torch.tensor(P),
        lengths=torch.randint(0, T + 1, (B,), generator=generator) if padded else None,
    )


def exact(p: Any, *grads: Tensor | None) -> Any:
    """What test_dispatch.py holds against an eager loop."""
    stack = Problem(*(None if x is None else x.unsqueeze(0) for x in p))
    states, last = fused_forward(stack)
    gradients = fused_backward(*(None if x is None else x.double().unsqueeze(0) for x in grads), states, stack)
    return states[0], last[0], Gradients(*(None if x is None else x[0] for x in gradients))


def assert_near(name: str, actual: Tensor, expected: Tensor, scale: float | None = None) -> None:
    if scale is None:
        scale = expected.abs().max().item() if expected.numel() else 0.0
    assert actual.shape == expected.shape, name
    if expected.numel():
        error = (actual - expected).abs().max().item()
        assert error <= TOLERANCE * scale + TINY, f"{name}: {error} of {scale}"


def assert_gradients_near(actual: Gradients, expected: Gradients) -> None:
    # a parameter's gradient is a sum over batch and time that can nearly cancel (M=1 has but one entry), so the scale
    # of its rounding errors is taken from all of them
    scale = max(x.abs().max().item() for x in (expected.A, expected.W, expected.C, expected.h) if x is not None)
    for name, x, y in zip(Gradients._fields, actual, expected, strict=True):
        if y is None:
            assert x is None, name
        elif x is not None:
            assert_near(name, x, y, None if name in ("inputs", "state") else scale)


def run(
    p: Any, grad_states: Tensor | None, grad_last: Tensor | None, threads: int = 1, level: str = ""
) -> tuple[Tensor, Tensor, Gradients]:
    states, last = native_forward(p, threads, level)
    return states, last, native_backward(grad_states, grad_last, states, p, True, True, threads, level)


def assert_same(one: tuple[Tensor, Tensor, Any], other: tuple[Tensor, Tensor, Any]) -> None:
    for x, y in zip((*one[:2], *one[2]), (*other[:2], *other[2]), strict=True):
        assert torch.equal(x, y)


@pytest.fixture(autouse=True)
def every_thread_is_worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start as many threads as asked for, however small the problem."""
    monkeypatch.setattr(native, "WORK_PER_THREAD", 1)


@pytest.mark.parametrize("padded", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("K", [None, 3, 40])
@pytest.mark.parametrize("M", [1, 2, 17, 32, 50, 100, 200])
def test_values_and_gradients(M: int, K: int | None, padded: bool) -> None:
    turn = 0
    for B, T, P in itertools.product((1, 5, 6, 7, 64), (1, 2, 40), sorted({0, 1, M})):
        if K == 40 and T == 40 and B == 64:
            continue  # most of the time, for nothing that the others do not cover
        double = problem(B, T, M, P, K, padded, seed=T)
        generator = torch.Generator().manual_seed(1)
        grad_states, grad_last = (torch.randn(shape, generator=generator) for shape in ((B, T, M), (B, M)))
        modes = [(grad_states, None), (None, grad_last), (grad_states, grad_last)]
        cases = [(incoming, *exact(double, *incoming)) for incoming in modes]
        p = single(double)
        for level in LEVELS:
            turn += 1
            # all of them where that is cheap, else in turn
            for incoming, states, last, expected in cases if B * T * M < 20_000 else [cases[turn % 3]]:
                actual, actual_last, gradients = run(p, *incoming, 1 + turn % 2, level)
                assert_near("states", actual, states)
                assert_near("last", actual_last, last)
                if padded:
                    assert not actual[states == 0].any()
                # where rounding takes a state across 0, its gradients are rightly others
                crossed = (actual[:, :, M - P :] > 0) != (states[:, :, M - P :] > 0)
                if crossed.any():
                    assert crossed.sum() <= 2
                    assert states[:, :, M - P :][crossed].abs().max() < 1e-5
                else:
                    assert_gradients_near(gradients, expected)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("K", [None, 3])
def test_threads_tiles_and_chunks_do_not_change_a_bit(level: str, K: int | None) -> None:
    p = single(problem(13, 20, 50, 5, K, seed=3))
    states, last = native_forward(p, 1, level)
    for threads in (2, 3):
        assert all(map(torch.equal, (states, last), native_forward(p, threads, level)))
    alone, _ = native_forward(p._replace(inputs=p.inputs[4:5], state=p.state[4:5]), 1, level)
    assert torch.equal(alone, states[4:5])
    _, middle = native_forward(p._replace(inputs=p.inputs[:, :7]), 1, level)
    rest, _ = native_forward(p._replace(inputs=p.inputs[:, 7:], state=middle), 1, level)
    assert torch.equal(rest, states[:, 7:])


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("K", [None, 3])
@pytest.mark.parametrize("shared", [False, True], ids=["own", "shared"])
def test_a_stack_is_its_networks_one_by_one(level: str, K: int | None, shared: bool) -> None:
    """With 1 to 7 threads: whole networks to each, and networks that the threads share."""
    networks = [single(problem(5, 12, 17, P, K, True, seed)) for seed, P in enumerate((0, 3, 17, 1, 2))]
    if shared:  # one tensor for all, of stride 0
        networks = [one._replace(inputs=networks[0].inputs, W=networks[0].W) for one in networks]
    stack = Problem(*(None if field[0] is None else torch.stack(field) for field in zip(*networks, strict=True)))
    if shared:
        stack = stack._replace(inputs=networks[0].inputs.expand(5, -1, -1, -1), W=networks[0].W.expand(5, -1, -1))
    grad, grad_last = torch.randn(5, 5, 12, 17), torch.randn(5, 5, 17)
    alone = [run(one, grad[e], grad_last[e], 1, level) for e, one in enumerate(networks)]
    for threads in (1, 2, 3, 5, 7):
        states, last, gradients = run(stack, grad, grad_last, threads, level)
        for e, expected in enumerate(alone):
            assert torch.equal(states[e], expected[0])
            assert torch.equal(last[e], expected[1])
            for name, got, want in zip(Gradients._fields, gradients, expected[2], strict=True):
                if want is None:
                    assert got is None
                elif threads in (1, 5) or name in ("inputs", "state"):
                    assert torch.equal(got[e], want), (name, threads)
                else:
                    assert_near(name, got[e], want)


@pytest.mark.parametrize("level", LEVELS)
def test_strides(level: str) -> None:
    p = single(problem(7, 9, 17, 5, 4, padded=True))
    grad, grad_last = torch.randn(7, 9, 17), torch.randn(7, 17)
    expected = run(p, grad, grad_last, 1, level)
    every_second = torch.stack((p.lengths, p.lengths), dim=1)[:, 0]
    wide = torch.randn(7, 9, 8)
    wide[..., ::2] = p.inputs
    for inputs in (p.inputs.transpose(0, 1).contiguous().transpose(0, 1), wide[..., ::2]):
        state, W, C = (x.t().contiguous().t() for x in (p.state, p.W, p.C))
        A, h = (torch.stack((x, x), dim=1)[:, 0] for x in (p.A, p.h))
        strided = Problem(inputs, state, A, W, C, h, p.P, every_second)
        assert not any(x.is_contiguous() for x in strided if x is not None and x.ndim)
        turned = grad.transpose(0, 1).contiguous().transpose(0, 1), grad_last.t().contiguous().t()
        assert_same(run(strided, *turned, 1, level), expected)
    expanded = p._replace(state=p.state[:1].expand(7, 17), inputs=p.inputs[:1].expand(7, 9, 4))
    dense = p._replace(state=expanded.state.contiguous(), inputs=expanded.inputs.contiguous())
    one = torch.ones(()).expand(7, 9, 17)
    assert_same(run(expanded, one, None, 1, level), run(dense, one.contiguous(), None, 1, level))


def test_what_is_not_needed_is_not_made() -> None:
    p = single(problem(7, 9, 17, 5, 4))
    grad = torch.randn(7, 9, 17)
    states, _, everything = run(p, grad, None)
    some = native_backward(grad, None, states, p, False, False)
    assert some.inputs is some.state is None
    assert torch.equal(some.W, everything.W)
    _, _, none = run(p, None, None)
    assert not any(x.any() for x in none if x is not None)


def test_empty() -> None:
    p = single(problem(0, 9, 17, 5, 4))
    states, last, gradients = run(p, torch.randn(0, 9, 17), None)
    assert (states.shape, last.shape) == ((0, 9, 17), (0, 17))
    assert not gradients.W.any()
    p = single(problem(3, 0, 17, 5, 4))
    grad_last = torch.randn(3, 17)
    _, last, gradients = run(p, None, grad_last)
    assert torch.equal(last, p.state)
    assert torch.equal(gradients.state, grad_last)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("K", [None, 3])
@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
def test_nan_and_infinity_propagate(bad: float, K: int | None, level: str) -> None:
    p = problem(7, 12, 17, 5, K, seed=2)
    p.inputs[2, 4, 1] = bad
    p.state[5, 16] = bad
    names, grad = ("inputs", "W", "A"), torch.randn(7, 12, 17)
    leaves = [getattr(p, name).requires_grad_() for name in names]
    states, _ = run_recurrence(Recurrence(p.A, p.W, p.C, p.h, p.P), p.inputs, p.state, None, "eager")
    expected = dict(zip(names, torch.autograd.grad(states, leaves, grad.double()), strict=True))
    actual, _, gradients = run(single(p), grad, None, 1, level)
    torch.testing.assert_close(actual.double(), states, equal_nan=True, rtol=1e-4, atol=1e-4)
    actual_gradients = {name: getattr(gradients, name).double() for name in names}
    torch.testing.assert_close(actual_gradients, expected, equal_nan=True, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("level", LEVELS)
def test_slope_at_zero_is_zero(level: str) -> None:
    zero = torch.zeros(1, 2)
    p = Problem(torch.zeros(1, 1, 2), zero, zero[0], torch.ones(2, 2), None, zero[0], torch.tensor(1), None)
    _, _, gradients = run(p, torch.ones(1, 1, 2), None, 1, level)
    assert gradients.state.tolist() == [[2.0, 0.0]]


def makes_denormals() -> bool:
    return bool(np.multiply(np.float32(1e-30), np.float32(1e-10)) != 0)


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("flush", [False, True])
def test_denormals_are_flushed_inside_only(flush: bool, level: str) -> None:
    if not torch.set_flush_denormal(flush):
        pytest.skip("no such mode here")
    try:
        assert makes_denormals() is not flush
        zero = torch.zeros(9)
        inputs, state, W = torch.zeros(8, 60, 9), torch.ones(8, 9), torch.zeros(9, 9)
        p = Problem(inputs, state, zero + 0.1, W, None, zero, torch.tensor(3), None)
        states, _, _ = run(p, torch.ones(8, 60, 9), None, 2, level)
        assert makes_denormals() is not flush
        assert states[0, 36, 0] > 0
        assert (states[:, 41] == 0).all()  # 1e-42
    finally:
        torch.set_flush_denormal(False)


def test_concurrent_callers() -> None:
    problems = [single(problem(32, 40, 50, 5, 3, padded=True, seed=i)) for i in range(2)]
    grad = torch.randn(32, 40, 50)
    expected = [run(p, grad, None, 2) for p in problems]
    wrong: list[int] = []

    def repeat(i: int) -> None:
        for _ in range(40):
            states, _, gradients = run(problems[i], grad, None, 2)
            if not torch.equal(states, expected[i][0]) or not torch.equal(gradients.W, expected[i][2].W):
                wrong.append(i)

    callers = [threading.Thread(target=repeat, args=(i,)) for i in range(2)]
    for caller in callers:
        caller.start()
    for caller in callers:
        caller.join()
    assert not wrong


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_after_fork() -> None:
    p = single(problem(32, 40, 50, 5, 3))
    grad = torch.randn(32, 40, 50)
    states, _, gradients = run(p, grad, None, 2)
    expected = states.numpy().tobytes(), gradients.W.numpy().tobytes()
    child = os.fork()
    if not child:
        try:
            # no torch operation here: torch's own OpenMP threads do not survive a fork, and torch.equal would hang
            states, _, gradients = run(p, grad, None, 2)
            os._exit(0 if (states.numpy().tobytes(), gradients.W.numpy().tobytes()) == expected else 1)
        finally:
            os._exit(2)
    deadline = time.monotonic() + 20
    while not (ended := os.waitpid(child, os.WNOHANG))[0] and time.monotonic() < deadline:
        time.sleep(0.01)
    if not ended[0]:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert ended == (child, 0)


def test_errors() -> None:
    p = single(problem(3, 5, 4, 1, 2))
    for error, name, changes in (
        (TypeError, "W", {"W": p.W.double()}),
        (TypeError, "lengths", {"lengths": torch.ones(3, dtype=torch.int32)}),
        (ValueError, "state", {"state": p.state[:2]}),
        (ValueError, "inputs", {"C": None}),
        (ValueError, "P", {"P": torch.tensor(5)}),
        (ValueError, "lengths", {"lengths": torch.tensor([1, -1, 2])}),
        (ValueError, "lengths", {"lengths": torch.tensor([1, 6, 2])}),
    ):
        with pytest.raises(error, match=name):
            native_forward(p._replace(**changes))
    with pytest.raises(ValueError, match="instruction set"):
        native_forward(p, 1, "no such level")
    with pytest.raises(ValueError, match="range"):
        native_forward(p, 0)
