"""The recurrence in C (``_kernel.c``) for float32 on the CPU, without autograd."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_alrnn.nn.scan import _kernel
from lightning_alrnn.nn.scan._kernel import simd_level as simd_level
from lightning_alrnn.nn.scan._kernel import simd_levels as simd_levels
from lightning_alrnn.nn.scan.fused import Arguments, Gradients

WORK_PER_THREAD = 2_000_000
"""Number of multiply-adds that make a thread worth starting (20 to 50 µs)."""


def native_forward(arguments: Arguments, threads: int | None = None, level: str = "") -> tuple[Tensor, Tensor]:
    """Return contiguous states and last states; ``level`` is one of :func:`simd_levels`, or "" for the best."""
    # an address is valid only as long as a name is bound to its tensor
    arguments, sizes = _checked(arguments)
    networks, batch, time, units, channels = sizes
    stack = arguments.A.shape[:-1]
    states = torch.empty((*stack, batch, time, units), dtype=torch.float32)
    last = torch.empty((*stack, batch, units), dtype=torch.float32)
    _kernel.forward(
        sizes,
        _worthwhile(threads, networks * batch * time * units * (units + channels)),
        level,
        states.data_ptr(),
        last.data_ptr(),
        *_places(arguments),
    )
    return states, last


def native_backward(
    grad_states: Tensor | None,
    grad_last: Tensor | None,
    states: Tensor,
    arguments: Arguments,
    needs_inputs: bool = True,
    needs_state: bool = True,
    threads: int | None = None,
    level: str = "",
) -> Gradients:
    """Return the gradients of :func:`native_forward`; the same bits for the same number of networks and threads."""
    arguments, sizes = _checked(arguments)
    networks, batch, time, units, channels = sizes
    stack = arguments.A.shape[:-1]
    _expect("states", states, (*stack, batch, time, units))
    states = _rows(states)
    if grad_states is not None:
        _expect("grad_states", grad_states, (*stack, batch, time, units))
        grad_states = _rows(grad_states)
    if grad_last is not None:
        _expect("grad_last", grad_last, (*stack, batch, units))
        grad_last = grad_last.contiguous()

    def new(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32)

    gradients = Gradients(
        inputs=new(*arguments.inputs.shape) if needs_inputs else None,
        state=new(*stack, batch, units) if needs_state else None,
        A=new(*stack, units),
        W=new(*stack, units, units),
        C=None if arguments.C is None else new(*stack, units, channels),
        h=new(*stack, units),
    )
    inputs, state, A, W, C, h = (0 if each is None else each.data_ptr() for each in gradients)
    _kernel.backward(
        sizes,
        _worthwhile(threads, 2 * networks * batch * time * units * (units + channels)),
        level,
        *(A, W, C, h, state, inputs),
        _place(grad_states, 3),
        _place(grad_last, 2)[:2],
        _place(states, 3),
        *_places(arguments),
    )
    return gradients


def _checked(arguments: Arguments) -> tuple[Arguments, tuple[int, int, int, int, int]]:
    """Check all shapes; return the arguments as the kernel takes them and its sizes E, B, T, M and K."""
    shapes = arguments.shapes()
    *stack, batch, time, channels = shapes["inputs"]
    for name, shape in shapes.items():
        _expect(name, getattr(arguments, name), shape, torch.int64 if name in ("P", "lengths") else torch.float32)
    inputs, state, A, W, C, h, P, lengths = arguments
    if C is not None and channels == 0:
        raise ValueError("inputs must have at least one channel")
    sizes = (stack[0] if stack else 1, batch, time, A.shape[-1], 0 if C is None else channels)
    return Arguments(
        _rows(inputs), _rows(state), _rows(A), W, C, _rows(h), P, None if lengths is None else _rows(lengths)
    ), sizes


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    if tensor.dtype != dtype or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense {dtype} tensor on the CPU, got {tensor.dtype} on {tensor.device}")
    if tensor.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")


def _worthwhile(threads: int | None, work: int) -> int:
    threads = torch.get_num_threads() if threads is None else threads
    return min(threads, max(1, work // max(1, WORK_PER_THREAD)))


def _rows(tensor: Tensor) -> Tensor:
    """Return the tensor, copied if its rows are not contiguous. The kernel takes any stride of other dimensions."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _places(arguments: Arguments) -> tuple[tuple[int, ...], ...]:
    """Return address and strides of each argument; the stride from one network to the next is 0 for one network."""
    counts = (3, 2, 1, 3, 3, 1, 1, 1)
    fields = zip(arguments._asdict().items(), counts, strict=True)
    return tuple(_place(tensor, count, rows=name not in ("W", "C", "P")) for (name, tensor), count in fields)


def _place(tensor: Tensor | None, count: int, rows: bool = True) -> tuple[int, ...]:
    """Return the address and the last ``count`` strides, without that of the elements of a row if ``rows``."""
    if tensor is None:
        return (0,) * (count + 1)
    strides = (0, *tensor.stride())
    return (tensor.data_ptr(), *(strides[-count - 1 : -1] if rows else strides[-count:]))
