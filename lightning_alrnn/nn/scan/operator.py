"""The recurrence as one operator of PyTorch, ``torch.ops.lightning_alrnn.scan``, with its derivative.

The operator takes one network, or a stack of E networks whose tensors all have a leading dimension E. Callers use
:func:`scan`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from importlib.util import find_spec
from typing import Any, NoReturn

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import debug_unwrap

from lightning_alrnn.nn.scan.fused import Arguments, Gradients, fused_backward, fused_forward

kernel: Any
"""The backend ``native``; ``None`` if it is not compiled."""
try:
    from lightning_alrnn.nn.scan import native as kernel
except ImportError:
    kernel = None

triton_is_installed = find_spec("triton") is not None
"""Whether the backend ``triton`` is available. Its import takes a second and waits for the first use."""

_ARGUMENTS = "Tensor inputs, Tensor state, Tensor A, Tensor W, Tensor? C, Tensor h, Tensor P, Tensor? lengths"
_PLACE_OF_P = Arguments._fields.index("P")  # scan_backward has three tensors before the arguments

_library: Any = torch.library.Library("lightning_alrnn", "FRAGMENT")  # type: ignore[no-untyped-call]
torch.library.define("lightning_alrnn::scan", f"({_ARGUMENTS}, str backend) -> (Tensor, Tensor)")
# a gradient that is not needed is empty because an operator cannot return None
torch.library.define(
    "lightning_alrnn::scan_backward",
    f"(Tensor? grad_states, Tensor? grad_last, Tensor states, {_ARGUMENTS}, bool needs_inputs, bool needs_state, "
    "str backend) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


def scan(*arguments: Any) -> tuple[Tensor, Tensor]:
    """Run the operator so that autograd, ``torch.func`` and ``torch.compile`` can differentiate it."""
    if transforms_are_active() and not torch.compiler.is_compiling():
        return _Scan.apply(*arguments)  # type: ignore[no-any-return]
    return torch.ops.lightning_alrnn.scan.default(*arguments)  # type: ignore[no-any-return]


def has_tangent(value: Any) -> bool:
    """Whether an argument is a tensor with a tangent for a forward-mode derivative."""
    if not isinstance(value, Tensor):
        return False
    try:
        return forward_ad.unpack_dual(value).tangent is not None  # type: ignore[no-untyped-call]
    except RuntimeError:  # vmap has no rule for it
        return has_tangent(debug_unwrap(value, recurse=False))


def transforms_are_active() -> bool:
    """Whether a transform of ``torch.func`` is active, for which PyTorch has no public function."""
    active: bool = torch._C._are_functorch_transforms_active()
    return active


@torch.library.impl("lightning_alrnn::scan", "default")
def _forward(*values: Any) -> tuple[Tensor, Tensor]:
    *tensors, backend = values
    forward, _ = _functions(backend)
    arguments = Arguments(*tensors)
    arguments.check()
    if backend == "native" or arguments.inputs.ndim == 4:
        return forward(arguments)
    states, last = forward(Arguments(*_stack_of_one(arguments)))
    return states[0], last[0]


@torch.library.impl("lightning_alrnn::scan_backward", "default")
def _backward(*values: Any) -> tuple[Tensor, ...]:
    *tensors, needs_inputs, needs_state, backend = values
    _, backward = _functions(backend)
    h = tensors[3 + Arguments._fields.index("h")]
    single = backend != "native" and h.ndim == 1
    if single:
        tensors = _stack_of_one(tensors)
    gradients: Any = backward(*tensors[:3], Arguments(*tensors[3:]), needs_inputs, needs_state)
    if single:
        gradients = [None if gradient is None else gradient[0] for gradient in gradients]
    return tuple(h.new_empty(0) if gradient is None else gradient for gradient in gradients)


def check_backend(backend: str, names: Sequence[str], source: str = "backend") -> None:
    """Raise ``ValueError`` unless the name of a backend is one of the names of those that this installation has."""
    if backend not in names:
        raise ValueError(f"{source} must be one of {', '.join(map(repr, names))}, got {backend!r}: use one of these")


def optional_backends() -> list[str]:
    """Return the names of the backends that this installation has and another one may lack."""
    return [name for name, has in (("native", kernel is not None), ("triton", triton_is_installed)) if has]


def _functions(backend: str) -> tuple[Callable[..., tuple[Tensor, Tensor]], Callable[..., Gradients]]:
    """Return the forward and the backward pass of a backend. Only those of ``native`` take a single network."""
    check_backend(backend, ("fused", *optional_backends()))
    if backend == "native":
        return kernel.native_forward, kernel.native_backward
    if backend == "triton":
        from lightning_alrnn.nn.scan.triton import triton_backward, triton_forward

        return triton_forward, triton_backward
    return fused_forward, fused_backward


def _stack_of_one(tensors: Sequence[Tensor | None]) -> list[Any]:
    return [None if tensor is None else tensor.unsqueeze(0) for tensor in tensors]


def _forward_shapes(*values: Any) -> tuple[Tensor, Tensor]:
    *tensors, backend = values
    _functions(backend)
    arguments = Arguments(*tensors)
    arguments.check()
    inputs, state, A, *_ = arguments
    return _empty(inputs, (*inputs.shape[:-1], A.shape[-1]), backend), state.new_empty(state.shape)


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
        gradients = Gradients(*_ScanBackward.apply(*arguments))
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


def _refuse_forward_mode(*_: Any) -> NoReturn:
    raise NotImplementedError(
        "backend 'fused', 'native' and 'triton' have no derivative in forward mode, nor one of their gradient "
        "(torch.func.jvp, jacfwd, hessian): use backend='eager'"
    )


def _stacked(
    operator: Callable[..., tuple[Tensor, ...]], place_of_P: int, info: Any, in_dims: tuple[Any, ...], *arguments: Any
) -> tuple[tuple[Tensor, ...], tuple[int, ...]]:
    """Run an operator under ``vmap`` as one call for a stack of networks."""
    size = info.batch_size

    def stack(value: Any, dim: int | None) -> Any:
        if not isinstance(value, Tensor):
            return value
        return value.expand(size, *value.shape) if dim is None else value.movedim(dim, 0)

    stacked = [stack(value, dim) for value, dim in zip(arguments, in_dims, strict=True)]
    P = stacked[place_of_P]
    nested = P.ndim == 2  # a stack of stacks, which runs as one stack
    if nested:
        stacked = [value.flatten(0, 1) if isinstance(value, Tensor) else value for value in stacked]

    def unstack(output: Tensor) -> Tensor:
        if output.ndim == 1:
            return output.new_empty(size, 0)
        return output.view(*P.shape, *output.shape[1:]) if nested else output

    outputs = tuple(unstack(output) for output in operator(*stacked))
    return outputs, (0,) * len(outputs)


def _register(name: str, place_of_P: int, setup_context: Callable[..., None], backward: Callable[..., Any]) -> Any:
    """Register the derivatives of an operator; return it as a function for ``torch.func``, which ignores these."""
    operator = getattr(torch.ops.lightning_alrnn, name)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(*arguments: Any) -> Any:
            return operator.default(*arguments)

        @staticmethod
        def vmap(info: Any, in_dims: tuple[Any, ...], *arguments: Any) -> Any:
            return _stacked(Function.apply, place_of_P, info, in_dims, *arguments)

    Function.setup_context = staticmethod(setup_context)  # type: ignore[method-assign]
    Function.backward = staticmethod(backward)  # type: ignore[method-assign]
    Function.jvp = staticmethod(_refuse_forward_mode)  # type: ignore[method-assign, assignment]
    _library.impl(name, _autograd(operator.default, setup_context, backward), "Autograd", with_keyset=True)
    torch.library.register_vmap(f"lightning_alrnn::{name}", partial(_stacked, operator, place_of_P))
    for device in ("cpu", "cuda"):
        torch.library.register_autocast(f"lightning_alrnn::{name}", device, torch.float32)
    return Function


def _autograd(operator: Any, setup_context: Callable[..., None], backward: Callable[..., Any]) -> Callable[..., Any]:
    """Return what ``torch.library.register_autograd`` would register, which would drop tangents without an error."""

    def run(arguments: Sequence[Any], keys: Any) -> Any:
        with torch._C._AutoDispatchBelowAutograd():
            return operator.redispatch(keys & torch._C._after_autograd_keyset, *arguments)

    class Function(torch.autograd.Function):
        @staticmethod
        def forward(ctx: Any, *values: Any) -> Any:
            *arguments, keys = values
            outputs = run(arguments, keys)
            setup_context(ctx, arguments, outputs)
            return outputs

        @staticmethod
        def backward(ctx: Any, *grads: Tensor | None) -> Any:
            return (*backward(ctx, *grads), None)

    def kernel(keys: Any, *arguments: Any) -> Any:
        if any(map(has_tangent, arguments)):
            _refuse_forward_mode()
        recorded = torch.is_grad_enabled() and any(
            isinstance(each, Tensor) and each.requires_grad for each in arguments
        )
        apply: Any = Function.apply
        return apply(*arguments, keys) if recorded else run(arguments, keys)

    return kernel


torch.library.register_fake("lightning_alrnn::scan", _forward_shapes)
torch.library.register_fake("lightning_alrnn::scan_backward", _backward_shapes)
_Scan = _register("scan", _PLACE_OF_P, _save, _differentiate)
_ScanBackward = _register("scan_backward", 3 + _PLACE_OF_P, lambda ctx, inputs, output: None, _differentiate_twice)
