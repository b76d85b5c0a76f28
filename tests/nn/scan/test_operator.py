"""The operator under the transforms of PyTorch: each gives what the plain loop gives, or says that it cannot."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.export import Dim, export
from torch.func import functional_call, grad, hessian, jacfwd, jacrev, jvp, vjp, vmap

from lightning_alrnn.nn import ALRNN, Recurrence, available_backends, run_recurrence, stack_networks

BACKENDS = [name for name in ("auto", "native", "fused", "triton", "cudnn") if name in ("auto", *available_backends())]
INPUTS = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([5, 2, 3, 1])


def layer(backend: str) -> ALRNN:
    torch.manual_seed(0)
    return ALRNN(3, 6, 3, backend=backend, init="near_identity")  # type: ignore[arg-type]


def loss(rnn: ALRNN, parameters: dict[str, Tensor], inputs: Tensor, lengths: Tensor | None = None) -> Tensor:
    output = functional_call(rnn, parameters, (inputs,), {"lengths": lengths})
    return output.states.square().sum() + output.last.sum()  # type: ignore[no-any-return]


def one_loss(rnn: ALRNN, parameters: dict[str, Tensor], inputs: Tensor, length: Tensor) -> Tensor:
    return loss(rnn, parameters, inputs.unsqueeze(0), length.unsqueeze(0))


def last(rnn: ALRNN, parameters: dict[str, Tensor]) -> Tensor:
    return functional_call(rnn, parameters, (INPUTS,)).last  # type: ignore[no-any-return]


def tangent(rnn: ALRNN) -> Tensor:
    with forward_ad.dual_level():
        return forward_ad.unpack_dual(rnn(forward_ad.make_dual(INPUTS, torch.ones_like(INPUTS))).states).tangent


TRANSFORMS: dict[str, Callable[[ALRNN, dict[str, Tensor]], object]] = {
    "grad": lambda rnn, p: grad(lambda p: loss(rnn, p, INPUTS))(p),
    "grad, padded": lambda rnn, p: grad(lambda p: loss(rnn, p, INPUTS, LENGTHS))(p),
    "per sample": lambda rnn, p: vmap(grad(lambda p, s, n: one_loss(rnn, p, s, n)), in_dims=(None, 0, 0))(
        p, INPUTS, LENGTHS
    ),
    "vjp": lambda rnn, p: vjp(lambda p: last(rnn, p), p)[1](torch.ones(4, 6))[0],
    "jacrev": lambda rnn, p: jacrev(lambda p: last(rnn, p))(p),
    "nested vmap": lambda rnn, p: vmap(vmap(lambda s: rnn(s.unsqueeze(0)).states[0]))(INPUTS.expand(2, -1, -1, -1)),
    "batched gradients": lambda rnn, p: torch.autograd.grad(
        rnn(INPUTS).last, rnn.W, torch.eye(24).view(24, 4, 6), is_grads_batched=True
    )[0],
    "what stays constant": lambda rnn, p: grad(lambda w: (rnn(INPUTS).last @ w).sum())(torch.ones(6)),
    "jvp": lambda rnn, p: jvp(lambda p: last(rnn, p), (p,), (p,))[1],
    "jacfwd": lambda rnn, p: jacfwd(lambda p: last(rnn, p))(p),
    "forward AD": lambda rnn, p: tangent(rnn),
    "jvp of vmap": lambda rnn, p: jvp(
        lambda s: vmap(lambda one: rnn(one.unsqueeze(0)).last)(s), (INPUTS,), (torch.ones_like(INPUTS),)
    )[1],
    "hessian": lambda rnn, p: hessian(lambda h: loss(rnn, {**p, "h": h}, INPUTS))(p["h"]),
    "second derivative": lambda rnn, p: jacrev(jacrev(lambda h: loss(rnn, {**p, "h": h}, INPUTS)))(p["h"]),
}
FORWARD = ("jvp", "jvp of vmap", "jacfwd", "forward AD")
REFUSALS = {
    **dict.fromkeys(FORWARD, "no derivative in forward mode"),
    "hessian": "no derivative in forward mode, nor one of their gradient",
    "second derivative": "can be differentiated once, not twice",
}


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own jvp calls it
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_transform_is_right_or_refused(backend: str, transform: str) -> None:
    reference, rnn = layer("eager"), layer(backend)
    run = TRANSFORMS[transform]
    refusal = REFUSALS.get(transform)
    if backend == "auto" and transform in FORWARD:
        refusal = None  # takes eager
    elif backend == "cudnn" and transform not in FORWARD:
        refusal = None if transform == "batched gradients" else "does not run under transforms of torch.func"
    if refusal is not None:
        with pytest.raises((NotImplementedError, RuntimeError), match=refusal):
            run(rnn, dict(rnn.named_parameters()))
    else:
        got, expected = (run(one, dict(one.named_parameters())) for one in (rnn, reference))
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5)


def test_lengths_are_checked_under_a_transform() -> None:
    rnn = layer("auto")
    with pytest.raises(ValueError, match=r"lengths\[2, 0\] is 6"):
        vmap(lambda s, n: rnn(s.unsqueeze(0), lengths=n).last)(INPUTS, torch.tensor([[5], [1], [6], [1]]))


def test_what_does_not_fit_together() -> None:
    rnn = layer("auto")
    with pytest.raises(ValueError, match="inputs must be on the device of W, cpu, got meta"):
        rnn(INPUTS.to("meta"))
    with pytest.raises(NotImplementedError, match="meta tensor"):
        rnn(INPUTS, lengths=LENGTHS.to("meta"))
    good = rnn.recurrence()
    state = torch.zeros(4, 6)
    for recurrence, message in (
        (good._replace(h=torch.zeros(1)), r"h must have shape \(6,\), got \(1,\)"),
        (good._replace(W=torch.zeros(6, 5)), r"W must have shape \(6, 6\), got \(6, 5\)"),
        (good._replace(P=7), "P must lie between 0 and M=6, got 7"),
        (good._replace(C=None), r"inputs must have shape \(4, 5, 6\), got \(4, 5, 3\)"),
        (good._replace(P=torch.tensor([1, 2])), r"P must have shape \(\), got \(2,\)"),
    ):
        for backend in available_backends():
            with pytest.raises(ValueError, match=message):
                run_recurrence(recurrence, INPUTS, state, None, backend)
    with pytest.raises(ValueError, match="lengths must be int64"):
        run_recurrence(good, INPUTS, state, LENGTHS.double())
    with pytest.raises(ValueError, match="must be 'fused', 'native' or 'triton', got 'eager'"):
        torch.ops.lightning_alrnn.scan.default(INPUTS, state, *good, None, "eager")


@pytest.mark.parametrize("backend", available_backends())
def test_padding_may_hold_anything_and_a_sequence_may_have_no_step(backend: str) -> None:
    rnn = layer(backend)
    inputs, lengths = INPUTS.clone(), torch.tensor([5, 0, 3, 1])
    state = torch.randn(4, 6, requires_grad=True)
    expected = run_recurrence(layer("eager").recurrence(), inputs, state, lengths, "eager")
    inputs[torch.arange(5) >= lengths.unsqueeze(1)] = torch.nan
    output = run_recurrence(rnn.recurrence(), inputs, state, lengths, backend)
    torch.testing.assert_close(output, expected)
    assert output.last[1].equal(state[1])
    gradients = torch.autograd.grad(output.states.sum() + output.last.sum(), [*rnn.parameters(), state])
    assert all(gradient.isfinite().all() for gradient in gradients)


def test_one_number_for_a_stack() -> None:
    one = layer("eager").recurrence()
    stack = Recurrence(*(torch.stack([field, field]) for field in one[:4]), 3)  # type: ignore[arg-type]
    for backend in available_backends():
        states = run_recurrence(stack, torch.stack([INPUTS, INPUTS]), torch.zeros(2, 4, 6), None, backend).states
        torch.testing.assert_close(states[1], run_recurrence(one, INPUTS, torch.zeros(4, 6), None, "eager").states)


def test_a_network_that_gets_its_weights_later() -> None:
    complete = layer("auto")
    for empty in (False, True):
        with torch.device("meta"):
            rnn = ALRNN(3, 6, 3)
        if empty:
            rnn.to_empty(device="cpu")
        rnn.load_state_dict(complete.state_dict(), assign=not empty)
        assert rnn(INPUTS).states.equal(complete(INPUTS).states)


@pytest.mark.parametrize("backend", available_backends())
def test_a_network_in_place_of_another(backend: str) -> None:
    networks = [ALRNN(3, 6, P, backend=backend, init="near_identity") for P in (0, 6, 2)]  # type: ignore[arg-type]
    parameters, buffers = stack_networks(networks)
    for k, network in enumerate(networks):
        state = {name: value[k] for name, value in (parameters | buffers).items()}
        torch.testing.assert_close(functional_call(networks[0], state, (INPUTS,)), network(INPUTS))
    networks[0].forward = networks[0].regime  # type: ignore[assignment]
    with pytest.raises(ValueError, match="networks that differ in P have regimes of different widths"):
        functional_call(networks[0], state, (torch.zeros(1, 6),))


def test_a_network_without_memory() -> None:
    with torch.device("meta"):
        rnn, inputs = ALRNN(3, 6, 3), torch.randn(4, 5, 3)
    for backend in ("auto", "eager", "cudnn"):
        rnn.backend = backend  # type: ignore[assignment]
        output = rnn(inputs, lengths=torch.ones(4, dtype=torch.int64, device="meta"))
        assert (output.states.shape, output.last.shape) == ((4, 5, 6), (4, 6))
        assert output.last.is_meta


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("strict", [False, True])
def test_export_for_any_batch_and_number_of_steps(strict: bool, padded: bool) -> None:
    rnn = layer("auto")
    batch, time = Dim("batch", min=1, max=64), Dim("time", min=1, max=1000)
    arguments = {"inputs": INPUTS, **({"lengths": LENGTHS} if padded else {})}
    shapes = {"inputs": {0: batch, 1: time}, **({"lengths": {0: batch}} if padded else {})}
    program = export(rnn, (), arguments, dynamic_shapes=shapes, strict=strict)
    file = io.BytesIO()
    torch.export.save(program, file)
    file.seek(0)
    others = {"inputs": torch.randn(2, 11, 3), **({"lengths": torch.tensor([11, 4])} if padded else {})}
    got, expected = torch.export.load(file).module()(**others), rnn(**others)
    assert type(got) is type(expected)
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("backend", ["eager", "cudnn"])
def test_export_of_a_loop(backend: str) -> None:
    with pytest.raises(NotImplementedError, match=f"backend='{backend}' cannot be exported for any number of steps"):
        export(layer(backend), (INPUTS,), dynamic_shapes={"inputs": {1: Dim("time", min=1, max=1000)}})
