"""The recurrence as one operator of PyTorch, ``torch.ops.lightning_alrnn.scan``, with its derivative.

The operator takes one network, or a stack of E networks whose tensors all have a leading dimension E. ``torch.library``
wants a flat list of tensors, which only this file spells out. :func:`scan` is what others call.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from lightning_alrnn.nn.scan.fused import Gradients, fused_backward, fused_forward

kernel: Any
"""The backend ``native``, ``None`` where it was not compiled."""
try:
    from lightning_alrnn.nn.scan import native as kernel
except ImportError:
    kernel = None

triton_is_installed = find_spec("triton") is not None
"""Whether there is the backend ``triton``; it is imported at its first use, as that takes a second."""

_ARGUMENTS = "Tensor inputs, Tensor state, Tensor A, Tensor W, Tensor? C, Tensor h, Tensor P, Tensor? lengths"
_PLACE_OF_P = 6  # among these; scan_backward has three before them

torch.library.define("lightning_alrnn::scan", f"({_ARGUMENTS}, str backend) -> (Tensor, Tensor)")
# what is not needed comes back empty: an operator returns no None
torch.library.define(
    "lightning_alrnn::scan_backward",
    f"(Tensor? grad_states, Tensor? grad_last, Tensor states, {_ARGUMENTS}, bool needs_inputs, bool needs_state, "
    "str backend) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Run ``torch.ops.lightning_alrnn.scan`` so that autograd, ``torch.func`` and ``torch.compile`` differentiate it.

    The states have shape ``(…, batch, time, M)``, the last ones ``(…, batch, M)``.
    """
    if transforms_are_active() and not torch.compiler.is_compiling():
        return _Scan.apply(*arguments)  # type: ignore[no-any-return, no-untyped-call]
    return torch.ops.lightning_alrnn.scan.default(*arguments)  # type: ignore[no-any-return]


def transforms_are_active() -> bool:
    """Whether a transform of ``torch.func`` runs. ``torch.autograd.Function`` asks the same; there is no public way."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


@torch.library.impl("lightning_alrnn::scan", "default")
def _forward(
    inputs: Tensor,
    state: Tensor,
    A: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: Tensor,
    lengths: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    if backend == "native":
        return kernel.native_forward(  # type: ignore[no-any-return]
            inputs, state, A, W, C, h, P, lengths, torch.get_num_threads()
        )
    forward, _ = _functions(backend)
    if inputs.ndim == 4:
        return forward(inputs, state, A, W, C, h, P, lengths)
    states, last = forward(*_stack_of_one(inputs, state, A, W, C, h, P, lengths))
    return states[0], last[0]


@torch.library.impl("lightning_alrnn::scan_backward", "default")
def _backward(*arguments: Any) -> tuple[Tensor, ...]:
    *tensors, h, P, lengths, needs_inputs, needs_state, backend = arguments
    needs = needs_inputs, needs_state
    gradients: Sequence[Tensor | None]
    if backend == "native":
        gradients = kernel.native_backward(*tensors, P, lengths, *needs, torch.get_num_threads())
    else:
        _, backward = _functions(backend)
        single = h.ndim == 1
        stack: Any = _stack_of_one(*tensors, P, lengths) if single else (*tensors, P, lengths)
        gradients = backward(*stack, *needs)
        if single:
            gradients = [None if gradient is None else gradient[0] for gradient in gradients]
    return tuple(h.new_empty(0) if gradient is None else gradient for gradient in gradients)


def _functions(backend: str) -> tuple[Callable[..., tuple[Tensor, Tensor]], Callable[..., Gradients]]:
    """Forward and backward of a backend that takes stacks only."""
    if backend == "triton":
        from lightning_alrnn.nn.scan.triton import triton_backward, triton_forward

        return triton_forward, triton_backward
    if backend != "fused":
        raise ValueError(f"the operator's backend must be 'fused', 'native' or 'triton', got {backend!r}")
    return fused_forward, fused_backward


def _stack_of_one(*tensors: Tensor | None) -> Any:
    return tuple(None if tensor is None else tensor.unsqueeze(0) for tensor in tensors)


def _forward_shapes(inputs: Tensor, state: Tensor, A: Tensor, *others: Any) -> tuple[Tensor, Tensor]:
    return _empty(inputs, (*inputs.shape[:-1], A.shape[-1]), others[-1]), state.new_empty(state.shape)


def _backward_shapes(grad_states: Tensor | None, grad_last: Tensor | None, *others: Any) -> tuple[Tensor, ...]:
    _, inputs, state, A, W, C, h, _, _, needs_inputs, needs_state, backend = others
    return (
        _empty(inputs, tuple(inputs.shape), backend) if needs_inputs else h.new_empty(0),
        state.new_empty(state.shape) if needs_state else h.new_empty(0),
        *(h.new_empty(0) if value is None else value.new_empty(value.shape) for value in (A, W, C, h)),
    )


def _empty(like: Tensor, shape: tuple[int, ...], backend: str) -> Tensor:
    if backend == "fused":
        *networks, batch, time, width = shape
        return like.new_empty(time, *networks, batch, width).movedim(0, -2)
    return like.new_empty(shape)


# ----------------------------------------------------------------------------------------------------------- autograd


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, backend = inputs
    ctx.backend = backend
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[0], *tensors)


def _differentiate(ctx: Any, grad_states: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
    states, *tensors = ctx.saved_tensors
    needs_inputs, needs_state = ctx.needs_input_grad[:2]
    arguments = grad_states, grad_last, states, *tensors, needs_inputs, needs_state, ctx.backend
    if transforms_are_active():
        gradients = Gradients(*_ScanBackward.apply(*arguments))  # type: ignore[no-untyped-call]
    else:
        gradients = Gradients(*torch.ops.lightning_alrnn.scan_backward.default(*arguments))
    gradients = gradients._replace(
        inputs=gradients.inputs if needs_inputs else None,
        state=gradients.state if needs_state else None,
        C=None if tensors[4] is None else gradients.C,
    )
    return (*gradients, None, None, None)


def _differentiate_twice(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "backend 'fused', 'native' and 'triton' can be differentiated once, not twice: use backend='eager' for second "
        "derivatives"
    )


def _differentiate_forward(ctx: Any, *tangents: Tensor | None) -> None:
    raise NotImplementedError(
        "backend 'fused', 'native' and 'triton' have no derivative in forward mode, nor one of their gradient "
        "(torch.func.jvp, jacfwd, hessian): use backend='eager'"
    )


def _save_nothing(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    pass


def _stacked(
    operator: Callable[..., tuple[Tensor, ...]], place_of_P: int, info: Any, in_dims: tuple[Any, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """What ``vmap`` over an operator does: one call for a stack of networks."""
    size = info.batch_size
    tensors: list[Any] = []
    for value, dim in zip(arguments, in_dims, strict=True):
        if not isinstance(value, Tensor):
            tensors.append(value)
        elif dim is None:
            tensors.append(value.expand(size, *value.shape))
        else:
            tensors.append(value.movedim(dim, 0))
    nested = tensors[place_of_P].ndim == 2  # P is one number for each network: a stack of stacks, which is run as one
    inner = tensors[place_of_P].shape[-1]
    if nested:
        tensors = [value.flatten(0, 1) if isinstance(value, Tensor) else value for value in tensors]
    outputs = tuple(
        output.new_empty(size, 0)
        if output.ndim == 1
        else output.view(size, inner, *output.shape[1:])
        if nested
        else output
        for output in operator(*tensors)
    )
    return outputs, (0,) * len(outputs)


class _Scan(torch.autograd.Function):
    """The operator for ``torch.func``, which does not take the derivative that ``torch.library`` registers."""

    setup_context = staticmethod(_save)
    backward = staticmethod(_differentiate)
    jvp = staticmethod(_differentiate_forward)

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, Tensor]:
        return torch.ops.lightning_alrnn.scan.default(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return _stacked(_Scan.apply, _PLACE_OF_P, info, in_dims, *arguments)


class _ScanBackward(torch.autograd.Function):
    """The same for its derivative."""

    setup_context = staticmethod(_save_nothing)
    backward = staticmethod(_differentiate_twice)
    jvp = staticmethod(_differentiate_forward)

    @staticmethod
    def forward(*arguments: Any) -> tuple[Tensor, ...]:
        return torch.ops.lightning_alrnn.scan_backward.default(*arguments)  # type: ignore[no-any-return]

    @staticmethod
    def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
        return _stacked(_ScanBackward.apply, 3 + _PLACE_OF_P, info, in_dims, *arguments)


torch.library.register_fake("lightning_alrnn::scan", _forward_shapes)
torch.library.register_fake("lightning_alrnn::scan_backward", _backward_shapes)
torch.library.register_autograd("lightning_alrnn::scan", _differentiate, setup_context=_save)
torch.library.register_autograd("lightning_alrnn::scan_backward", _differentiate_twice)
for _name, _place in (("scan", _PLACE_OF_P), ("scan_backward", 3 + _PLACE_OF_P)):
    _operator = getattr(torch.ops.lightning_alrnn, _name)
    torch.library.register_vmap(f"lightning_alrnn::{_name}", partial(_stacked, _operator, _place))
    for _device in ("cpu", "cuda"):
        torch.library.register_autocast(f"lightning_alrnn::{_name}", _device, torch.float32)
