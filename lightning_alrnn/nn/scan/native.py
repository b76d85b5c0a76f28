"""The recurrence in C (``_kernel.c``) on torch tensors, as pure functions: CPU, float32, no autograd.

They take a stack of E networks, or one network without the leading dimension E, which saves making views of it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_alrnn.nn.scan import _kernel
from lightning_alrnn.nn.scan.fused import Gradients

WORK_PER_THREAD = 2_000_000
"""Multiply-adds that make a thread worth starting (20 to 50 µs)."""


def simd_level() -> str:
    """Name of the instruction set that the kernel uses on this processor."""
    return _kernel.simd_level()


def simd_levels() -> list[str]:
    """Names of all instruction sets that ``level`` can ask for on this processor."""
    return _kernel.simd_levels()


def native_forward(
    inputs: Tensor,
    state: Tensor,
    A: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: Tensor,
    lengths: Tensor | None = None,
    threads: int = 1,
    level: str = "",
) -> tuple[Tensor, Tensor]:
    """Run the recurrence; arguments and results as for :func:`fused_forward`, but contiguous and float32 on the CPU.

    ``threads`` is the most to use, ``level`` one of :func:`simd_levels`, or "" for the best. Types, shapes and ranges
    are checked by the kernel.
    """
    sizes, stack = _check(inputs, state, A, W, C, P, lengths)
    networks, batch, time, units, channels = sizes
    _expect("h", h, (*stack, units))
    # bound to names until the call is over: an address outlives neither its tensor nor a temporary copy of it
    inputs, state, A, h, lengths = _rows(inputs), _rows(state), _rows(A), _rows(h), _optional_rows(lengths)
    states = torch.empty((*stack, batch, time, units), dtype=torch.float32)
    last = torch.empty((*stack, batch, units), dtype=torch.float32)
    _kernel.forward(
        sizes,
        _worthwhile(threads, networks * batch * time * units * (units + channels)),
        level,
        states.data_ptr(),
        last.data_ptr(),
        *_places(inputs, state, A, W, C, h, P, lengths),
    )
    return states, last


def native_backward(
    grad_states: Tensor | None,
    grad_last: Tensor | None,
    states: Tensor,
    inputs: Tensor,
    state: Tensor,
    A: Tensor,
    W: Tensor,
    C: Tensor | None,
    P: Tensor,
    lengths: Tensor | None = None,
    needs_inputs: bool = True,
    needs_state: bool = True,
    threads: int = 1,
    level: str = "",
) -> Gradients:
    """Gradients of what :func:`native_forward` computed; arguments as for :func:`fused_backward`.

    They are contiguous, and the same bits for the same number of networks and threads.
    """
    sizes, stack = _check(inputs, state, A, W, C, P, lengths)
    networks, batch, time, units, channels = sizes
    _expect("states", states, (*stack, batch, time, units))
    if grad_states is not None:
        _expect("grad_states", grad_states, (*stack, batch, time, units))
        grad_states = _rows(grad_states)
    if grad_last is not None:
        _expect("grad_last", grad_last, (*stack, batch, units))
        grad_last = grad_last.contiguous()
    states, inputs, state, A, lengths = _rows(states), _rows(inputs), _rows(state), _rows(A), _optional_rows(lengths)

    def new(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32)

    gradients = Gradients(
        inputs=new(*inputs.shape) if needs_inputs else None,
        state=new(*stack, batch, units) if needs_state else None,
        A=new(*stack, units),
        W=new(*stack, units, units),
        C=None if C is None else new(*stack, units, channels),
        h=new(*stack, units),
    )
    _kernel.backward(
        sizes,
        _worthwhile(threads, 2 * networks * batch * time * units * (units + channels)),
        level,
        gradients.A.data_ptr(),
        gradients.W.data_ptr(),
        _address(gradients.C),
        gradients.h.data_ptr(),
        _address(gradients.state),
        _address(gradients.inputs),
        (0, 0, 0, 0) if grad_states is None else (grad_states.data_ptr(), *(0, *grad_states.stride())[-4:-1]),
        (0, 0) if grad_last is None else (grad_last.data_ptr(), (0, *grad_last.stride())[-3]),
        (states.data_ptr(), *(0, *states.stride())[-4:-1]),
        *_places(inputs, state, A, W, C, None, P, lengths),
    )
    return gradients


def _check(
    inputs: Tensor, state: Tensor, A: Tensor, W: Tensor, C: Tensor | None, P: Tensor, lengths: Tensor | None
) -> tuple[tuple[int, int, int, int, int], tuple[int, ...]]:
    """E, B, T, M and K as the kernel wants them (K=0 without C), and the leading shape; raise unless all shapes fit."""
    if inputs.ndim not in (3, 4):
        raise ValueError(f"inputs must have shape (…, batch, time, channels), got {tuple(inputs.shape)}")
    *leading, batch, time, channels = inputs.shape
    stack, units = tuple(leading), A.shape[-1] if A.ndim else 0
    _expect("state", state, (*stack, batch, units))
    _expect("A", A, (*stack, units))
    _expect("W", W, (*stack, units, units))
    _expect("P", P, stack, torch.int64)
    if C is None:
        _expect("inputs", inputs, (*stack, batch, time, units))
        channels = 0
    else:
        _expect("C", C, (*stack, units, channels))
        _expect("inputs", inputs, (*stack, batch, time, channels))
        if channels == 0:
            raise ValueError("inputs must have at least one channel")
    if lengths is not None:
        _expect("lengths", lengths, (*stack, batch), torch.int64)
    return (stack[0] if stack else 1, batch, time, units, channels), stack


def _expect(name: str, tensor: Tensor, shape: tuple[int, ...], dtype: torch.dtype = torch.float32) -> None:
    if tensor.dtype != dtype or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        raise TypeError(f"{name} must be a dense {dtype} tensor on the CPU, got {tensor.dtype} on {tensor.device}")
    if tensor.shape != shape:
        raise ValueError(f"{name} must have shape {shape}, got {tuple(tensor.shape)}")


def _worthwhile(threads: int, work: int) -> int:
    return min(threads, max(1, work // max(1, WORK_PER_THREAD)))


def _rows(tensor: Tensor) -> Tensor:
    """The tensor, copied if its rows are not contiguous; the kernel takes any stride of the other dimensions."""
    return tensor if tensor.stride(-1) == 1 else tensor.contiguous()


def _optional_rows(tensor: Tensor | None) -> Tensor | None:
    return None if tensor is None else _rows(tensor)


def _places(
    inputs: Tensor,
    state: Tensor,
    A: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor | None,
    P: Tensor,
    lengths: Tensor | None,
) -> tuple[tuple[int, ...], ...]:
    """Address and strides of each, first that from one network to the next: 0 for a single one, which has none."""
    return (
        (inputs.data_ptr(), *(0, *inputs.stride())[-4:-1]),
        (state.data_ptr(), *(0, *state.stride())[-3:-1]),
        (A.data_ptr(), (0, *A.stride())[-2]),
        (W.data_ptr(), *(0, *W.stride())[-3:]),
        (0, 0, 0, 0) if C is None else (C.data_ptr(), *(0, *C.stride())[-3:]),
        (0, 0) if h is None else (h.data_ptr(), (0, *h.stride())[-2]),
        (P.data_ptr(), (0, *P.stride())[-1]),
        (0, 0) if lengths is None else (lengths.data_ptr(), (0, *lengths.stride())[-2]),
    )


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()
