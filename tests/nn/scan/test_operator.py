"""The operator under the transforms of PyTorch: each gives what the plain loop gives, or says that it cannot."""

from __future__ import annotations

import io

import pytest
import torch
from torch.autograd import forward_ad
from torch.export import Dim, export
from torch.func import functional_call, jvp, vmap
from transforms import TRANSFORMS, outcome, refusal

from lightning_alrnn.nn import ALRNN, Recurrence, available_backends, run_recurrence, stack_networks

INPUTS = torch.randn(4, 5, 3, generator=torch.Generator().manual_seed(0))
LENGTHS = torch.tensor([5, 2, 3, 1])


def layer(backend: str) -> ALRNN:
    torch.manual_seed(0)
    return ALRNN(3, 6, 3, backend=backend, init="near_identity")  # type: ignore[arg-type]


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own jvp calls it
@pytest.mark.filterwarnings("ignore:Attempted to insert a get_attr Node:UserWarning")  # torch.s own linearize
@pytest.mark.parametrize("transform", TRANSFORMS)
@pytest.mark.parametrize("backend", ["auto", *available_backends()])
def test_a_transform_is_right_in_float64_or_refused(backend: str, transform: str) -> None:
    done = outcome(backend, transform, torch.device("cpu"))
    assert done == ("right" if refusal(backend, transform) is None else "refused")


def test_lengths_are_checked_under_a_transform() -> None:
    rnn = layer("auto")
    with pytest.raises(ValueError, match=r"lengths\[2, 0\] is 6"):
        vmap(lambda s, n: rnn(s.unsqueeze(0), lengths=n).last)(INPUTS, torch.tensor([[5], [1], [6], [1]]))


WRONG: dict[str, tuple[dict[str, object], str]] = {
    "bias": ({"h": torch.zeros(1)}, r"h must have shape \(6,\), got \(1,\): "),
    "weights": ({"W": torch.zeros(6, 5)}, r"W must have shape \(6, 6\), got \(6, 5\): "),
    "no C": ({"C": None}, r"inputs must have shape \(4, 5, 6\), got \(4, 5, 3\): "),
    "one dimension less": (
        {"inputs": INPUTS[0]},
        r"inputs must have shape \(…, batch, time, channels\), got \(5, 3\): add",
    ),
    "no step": ({"inputs": INPUTS[:, :0]}, "there must be at least one step, got none: only the batch may be empty"),
    "no channel": ({"inputs": INPUTS[:, :, :0], "C": torch.zeros(6, 0)}, "at least one channel, got none: only the"),
    "dtype": (
        {"state": torch.zeros(4, 6).double()},
        "state must have the dtype of W, torch.float32, got torch.float64: ",
    ),
    "device": ({"h": torch.zeros(6, device="meta")}, "h must be on the device of W, cpu, got meta: move one of them"),
    "P, stacked": ({"P": torch.tensor([1, 2])}, r"P must have shape \(\), got \(2,\): "),
    "P, float": ({"P": torch.tensor(2.5)}, "P must be int64, got torch.float32: "),
    "P, too many": ({"P": torch.tensor(7)}, "P must lie between 0 and M=6, the number of units, got 7: correct it"),
    "P, negative": ({"P": torch.tensor(-1)}, "P must lie between 0 and M=6, the number of units, got -1: correct it"),
    "lengths, some": ({"lengths": torch.ones(2, dtype=torch.int64)}, r"lengths must have shape \(4,\), got \(2,\): "),
    "lengths, float": ({"lengths": LENGTHS.double()}, "lengths must be int64, got torch.float64: "),
    "lengths, too long": ({"lengths": LENGTHS + 1}, "lengths must lie between 0 and 5, the number of steps, got 6: "),
    "lengths, negative": ({"lengths": LENGTHS - 2}, "lengths must lie between 0 and 5, the number of steps, got -1: "),
}


@pytest.mark.parametrize("wrong", WRONG)
def test_every_backend_and_the_operator_itself_refuse_what_is_wrong_in_the_same_words(wrong: str) -> None:
    changes, message = WRONG[wrong]
    good = layer("auto").recurrence()
    fields = {"inputs": INPUTS, "state": torch.zeros(4, 6), **good._asdict(), "lengths": None} | changes
    inputs, state, *parameters, lengths = fields.values()
    for backend in available_backends():
        with pytest.raises((ValueError, TypeError), match=message):
            run_recurrence(Recurrence(*parameters), inputs, state, lengths, backend)  # type: ignore[arg-type]
        if backend not in ("eager", "cudnn"):
            with pytest.raises((ValueError, TypeError), match=message):
                torch.ops.lightning_alrnn.scan.default(*fields.values(), backend)


def test_wrong_numbers_are_refused_before_they_are_converted() -> None:
    good = layer("auto").recurrence()
    arguments = INPUTS, torch.zeros(4, 6)
    for backend in available_backends():
        for P, message in ((7, "P must lie between 0 and M=6"), (-1, "got -1"), (2.0, "P must be int64, got 2.0")):
            with pytest.raises(ValueError, match=message):
                run_recurrence(good._replace(P=P), *arguments, None, backend)  # type: ignore[arg-type]
        for lengths in (LENGTHS.bool(), LENGTHS.double()):
            with pytest.raises(ValueError, match=f"lengths must be int64, got {lengths.dtype}: pass whole numbers"):
                run_recurrence(good, *arguments, lengths, backend)
    with pytest.raises(NotImplementedError, match="meta tensor"):
        run_recurrence(good, *arguments, LENGTHS.to("meta"))
    for device in ("cpu", "meta"):
        tensors = [None if value is None else value.to(device) for value in (*arguments, *good, None)]
        with pytest.raises(ValueError, match=r"^backend must be one of 'fused', .*, got 'eager': use one of these$"):
            torch.ops.lightning_alrnn.scan.default(*tensors, "eager")


@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated:DeprecationWarning")  # torch's own jvp calls it
@pytest.mark.parametrize("backend", [name for name in available_backends() if name not in ("eager", "cudnn")])
def test_the_operator_itself_refuses_tangents(backend: str) -> None:
    """They were dropped, which made derivatives zero."""
    arguments = [INPUTS, torch.zeros(4, 6), *(value.detach() for value in layer("auto").recurrence()), None, backend]
    scan = torch.ops.lightning_alrnn.scan.default
    states, _ = scan(*arguments)
    backward = torch.ops.lightning_alrnn.scan_backward.default
    after = None, states, *arguments[:-1], True, True, backend
    for operator, first, others in ((scan, INPUTS, arguments[1:]), (backward, states, after)):
        with pytest.raises(NotImplementedError, match="no derivative in forward mode"):
            jvp(lambda x: operator(x, *others)[0], (first,), (first,))  # noqa: B023
        with pytest.raises(NotImplementedError, match="no derivative in forward mode"), forward_ad.dual_level():
            operator(forward_ad.make_dual(first, first), *others)


@pytest.mark.parametrize("padded", [False, True])
@pytest.mark.parametrize("backend", available_backends())
def test_an_empty_batch_has_gradients_of_zero(backend: str, padded: bool) -> None:
    rnn = layer(backend)
    for stack in ((), (2,)):
        *parameters, P = (each.detach().expand((*stack, *each.shape)) for each in rnn.recurrence())  # type: ignore
        leaves = [field.clone().requires_grad_() for field in parameters]
        inputs, state = torch.zeros(*stack, 0, 5, 3, requires_grad=True), torch.zeros(*stack, 0, 6, requires_grad=True)
        lengths = torch.zeros(*stack, 0, dtype=torch.int64) if padded else None
        output = run_recurrence(Recurrence(*leaves, P), inputs, state, lengths, backend)
        assert output.states.shape == (*stack, 0, 5, 6)
        gradients = torch.autograd.grad(output.states.sum() + output.last.sum(), [inputs, state, *leaves])
        for leaf, gradient in zip([inputs, state, *leaves], gradients, strict=True):
            assert gradient.equal(torch.zeros_like(leaf))


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


@pytest.mark.parametrize("backend", ["auto", *available_backends()])
def test_shapes_are_inferred_without_memory_or_refused(backend: str) -> None:
    with torch.device("meta"):
        rnn, inputs = ALRNN(3, 6, 3, backend=backend), torch.randn(4, 5, 3)  # type: ignore[arg-type]
        lengths = torch.ones(4, dtype=torch.int64)
    if backend in ("native", "triton"):
        with pytest.raises(TypeError, match=r"computes in float32 on .*, got torch.float32 on meta: use 'auto'"):
            rnn(inputs)
        return
    for arguments in ({}, {"lengths": lengths}):
        output = rnn(inputs, **arguments)
        assert (output.states.shape, output.last.shape) == ((4, 5, 6), (4, 6))
        assert output.last.is_meta
        output.states.sum().backward()
        assert all(parameter.grad.is_meta for parameter in rnn.parameters())


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
