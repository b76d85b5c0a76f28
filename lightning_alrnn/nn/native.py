"""The recurrence in C (``_scan.c``) on torch tensors, as pure functions: CPU, float32, no autograd.

.. math:: z_t = a z_{t-1} + W φ(z_{t-1}) + C s_t + h

φ is the identity on the first M−P units and a ReLU on the last P.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_alrnn.nn import _scan
from lightning_alrnn.nn.fused import Gradients

WORK_PER_THREAD = 2_000_000
"""Multiply-adds that make a thread worth starting (20 to 50 µs)."""


def simd_level() -> str:
    """Name of the instruction set that the kernel uses on this processor."""
    return _scan.simd_level()


def simd_levels() -> list[str]:
    """Names of all instruction sets that ``level`` can ask for on this processor."""
    return _scan.simd_levels()


def native_forward(
    inputs: Tensor,
    z0: Tensor,
    a: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: int,
    lengths: Tensor | None = None,
    threads: int = 1,
    level: str = "",
) -> tuple[Tensor, Tensor]:
    """Run the recurrence.

    Args:
        inputs: s_1 … s_T, shape ``(B, T, K)``; ``(B, T, M)`` where ``C`` is ``None``.
        z0: shape ``(B, M)``.
        a: diagonal, shape ``(M,)``.
        W: coupling, shape ``(M, M)``.
        C: input weights, shape ``(M, K)``, or ``None`` for the identity.
        h: bias, shape ``(M,)``.
        P: number of rectified units.
        lengths: valid steps of each sequence, 0 … T, int64, shape ``(B,)``; ``None`` where all have T.
        threads: how many threads to use, at most.
        level: one of :func:`simd_levels`, or "" for the best.

    Returns:
        z_1 … z_T, shape ``(B, T, M)``, zero past a sequence's length, and the state at each sequence's own last step,
        shape ``(B, M)``. Both are contiguous.

    Raises:
        TypeError: if a tensor is not float32 (lengths: int64) on the CPU.
        ValueError: if a shape does not fit, P or a length is out of range, or there is no such level.
        MemoryError: if the kernel gets no memory for its work.
    """
    batch, time, units, channels = _check(inputs, a, W, C, P, lengths)
    _expect("z0", z0, (batch, units))
    _expect("h", h, (units,))
    # bound to names until the call is over: an address outlives neither its tensor nor a temporary copy of it
    inputs, z0, a, h = _rows(inputs), _rows(z0), a.contiguous(), h.contiguous()
    lengths = None if lengths is None else lengths.contiguous()
    states = torch.empty((batch, time, units), dtype=torch.float32)
    last = torch.empty((batch, units), dtype=torch.float32)
    _scan.forward(
        (batch, time, units, channels, P),
        _worthwhile(threads, batch * time * units * (units + channels)),
        level,
        states.data_ptr(),
        last.data_ptr(),
        (inputs.data_ptr(), inputs.stride(0), inputs.stride(1)),
        (z0.data_ptr(), z0.stride(0)),
        a.data_ptr(),
        _matrix(W),
        _matrix(C),
        h.data_ptr(),
        _address(lengths),
    )
    return states, last


def native_backward(
    grad_states: Tensor | None,
    grad_last: Tensor | None,
    states: Tensor,
    inputs: Tensor,
    z0: Tensor,
    a: Tensor,
    W: Tensor,
    C: Tensor | None,
    P: int,
    lengths: Tensor | None = None,
    needs_inputs: bool = True,
    needs_z0: bool = True,
    threads: int = 1,
    level: str = "",
) -> Gradients:
    """Gradients of what :func:`native_forward` computed.

    Args:
        grad_states: gradient of z_1 … z_T, shape ``(B, T, M)``, or ``None`` for zero; what it holds past a
            sequence's length does not count.
        grad_last: gradient of the last states, shape ``(B, M)``, or ``None`` for zero.
        states: z_1 … z_T as returned by :func:`native_forward`, shape ``(B, T, M)``.
        inputs: s_1 … s_T, shape ``(B, T, K)``; ``(B, T, M)`` where ``C`` is ``None``.
        z0: shape ``(B, M)``.
        a: diagonal, shape ``(M,)``.
        W: coupling, shape ``(M, M)``.
        C: input weights, shape ``(M, K)``, or ``None`` for the identity.
        P: number of rectified units.
        lengths: valid steps of each sequence, shape ``(B,)``; ``None`` where all have T.
        needs_inputs: whether the gradient of ``inputs`` is wanted.
        needs_z0: whether the gradient of ``z0`` is wanted.
        threads: as in :func:`native_forward`.
        level: as in :func:`native_forward`.

    Returns:
        The gradients, contiguous; the same bits for the same number of threads.

    Raises:
        TypeError, ValueError, MemoryError: as in :func:`native_forward`.
    """
    batch, time, units, channels = _check(inputs, a, W, C, P, lengths)
    _expect("states", states, (batch, time, units))
    _expect("z0", z0, (batch, units))
    if grad_states is not None:
        _expect("grad_states", grad_states, (batch, time, units))
        grad_states = _rows(grad_states)
    if grad_last is not None:
        _expect("grad_last", grad_last, (batch, units))
        grad_last = grad_last.contiguous()
    states, inputs, z0, a = _rows(states), _rows(inputs), _rows(z0), a.contiguous()
    lengths = None if lengths is None else lengths.contiguous()

    def new(*shape: int) -> Tensor:
        return torch.empty(shape, dtype=torch.float32)

    gradients = Gradients(
        inputs=new(*inputs.shape) if needs_inputs else None,
        z0=new(batch, units) if needs_z0 else None,
        a=new(units),
        W=new(units, units),
        C=None if C is None else new(units, channels),
        h=new(units),
    )
    _scan.backward(
        (batch, time, units, channels, P),
        _worthwhile(threads, 2 * batch * time * units * (units + channels)),
        level,
        gradients.a.data_ptr(),
        gradients.W.data_ptr(),
        _address(gradients.C),
        gradients.h.data_ptr(),
        _address(gradients.z0),
        _address(gradients.inputs),
        (0, 0, 0) if grad_states is None else (grad_states.data_ptr(), grad_states.stride(0), grad_states.stride(1)),
        _address(grad_last),
        (states.data_ptr(), states.stride(0), states.stride(1)),
        (inputs.data_ptr(), inputs.stride(0), inputs.stride(1)),
        (z0.data_ptr(), z0.stride(0)),
        a.data_ptr(),
        _matrix(W),
        _matrix(C),
        _address(lengths),
    )
    return gradients


def _check(
    inputs: Tensor, a: Tensor, W: Tensor, C: Tensor | None, P: int, lengths: Tensor | None
) -> tuple[int, int, int, int]:
    """B, T, M and K as the kernel wants them (K=0 without C); raise unless all shapes fit."""
    if inputs.ndim != 3:
        raise ValueError(f"inputs must have shape (batch, time, channels), got {tuple(inputs.shape)}")
    batch, time, channels = inputs.shape
    units = a.shape[0] if a.ndim else 0
    if not 0 <= P <= units:
        raise ValueError(f"P must lie between 0 and M={units}, got {P}")
    _expect("a", a, (units,))
    _expect("W", W, (units, units))
    if C is None:
        _expect("inputs", inputs, (batch, time, units))
        kernel_channels = 0
    else:
        _expect("C", C, (units, channels))
        _expect("inputs", inputs, (batch, time, channels))
        if channels == 0:
            raise ValueError("inputs must have at least one channel")
        kernel_channels = channels
    if lengths is not None:
        _expect("lengths", lengths, (batch,), torch.int64)
    return batch, time, units, kernel_channels


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


def _address(tensor: Tensor | None) -> int:
    return 0 if tensor is None else tensor.data_ptr()


def _matrix(tensor: Tensor | None) -> tuple[int, int, int]:
    return (0, 0, 0) if tensor is None else (tensor.data_ptr(), tensor.stride(0), tensor.stride(1))
