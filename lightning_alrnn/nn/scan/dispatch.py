"""Which backend runs the recurrence, and the one function that runs it."""

from __future__ import annotations

import functools
import os
from collections.abc import Callable
from typing import Literal, NamedTuple, cast

import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only, rank_zero_warn
from torch import Tensor
from torch.autograd import forward_ad
from torch.func import debug_unwrap
from torch.utils import _pytree as pytree

from lightning_alrnn.nn.recurrence import Recurrence
from lightning_alrnn.nn.scan import operator
from lightning_alrnn.nn.scan.cudnn import cudnn_forward
from lightning_alrnn.nn.scan.eager import eager_forward

Backend = Literal["auto", "eager", "fused", "native", "triton", "cudnn"]
"""Implementation of the recurrence; ``auto`` chooses the fastest one that fits."""

BACKEND_VARIABLE = "ALRNN_BACKEND"
"""Environment variable with the name of the backend that ``auto`` chooses."""


_TRITON_UNITS = 128  # W of more would not stay on the chip
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # the kernels then run on a CPU


class ScanOutput(NamedTuple):
    """States of the recurrence.

    Attributes:
        states: States z_1 … z_T, shape ``(batch, time, M)``; zero after the end of a sequence.
        last: State at the last step of each sequence, shape ``(batch, M)``.
    """

    states: Tensor
    last: Tensor


# without a name for it, torch.export.save refuses a program that returns one
pytree._register_namedtuple(ScanOutput, serialized_type_name="lightning_alrnn.nn.ScanOutput")


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that this installation can run."""
    native = () if operator.kernel is None else ("native",)
    triton = ("triton",) if operator.triton_is_installed else ()
    return ("eager", "fused", *native, *triton, "cudnn")


def check_backend(backend: str, source: str = "backend") -> None:
    """Raise unless there is such a backend here.

    Args:
        backend: "auto" or one of :func:`available_backends`.
        source: what the message calls it.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    if backend not in ("auto", *available_backends()):
        choices = ", ".join(repr(name) for name in ("auto", *available_backends()))
        raise ValueError(f"{source} must be one of {choices}, got {backend!r}")


def run_recurrence(
    recurrence: Recurrence,
    inputs: Tensor,
    state: Tensor,
    lengths: Tensor | None = None,
    backend: str = "auto",
) -> ScanOutput:
    """Run one AL-RNN over time, or E of them at once.

    For E networks, the fields of ``recurrence`` (P as an int64 tensor), the other tensors and the results have a
    leading dimension E. ``torch.vmap`` over this function, or over a module with an
    :class:`~lightning_alrnn.nn.ALRNN`, makes such a call.

    Args:
        recurrence: Parameters of the network.
        inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``, or ``(batch, time, M)`` if C is ``None``.
        state: Initial state z_0, shape ``(batch, M)``.
        lengths: Number of valid steps of each sequence (0 … time), int64 of shape ``(batch,)``; ``None`` if all steps
            are valid. The state does not change after the last valid step.
        backend: Name of the backend, "auto", "eager", "fused", "native", "triton" or "cudnn".

    Returns:
        The states and the last state of each sequence.

    Raises:
        ValueError: If this installation lacks the backend, or shapes or devices do not fit.
        TypeError: If "native" gets other tensors than float32 on the CPU, or "triton" other than float32 on a CUDA
            device.
        NotImplementedError: If the backend does not support forward-mode derivatives, transforms of ``torch.func`` or
            the export for any number of steps, and the call needs it.

    Example:
        >>> recurrence = Recurrence(torch.zeros(2), torch.eye(2), None, torch.zeros(2), P=1)
        >>> run_recurrence(recurrence, torch.ones(1, 3, 2), torch.zeros(1, 2)).last.tolist()
        [[3.0, 3.0]]
    """
    A, W, C, h, P = recurrence
    forward_mode = any(map(_has_tangent, (inputs, state, A, W, C, h)))
    backend = _choose(backend, recurrence, inputs, forward_mode)
    if backend != "native":  # which does so itself
        _check_shapes(recurrence, inputs, state)
    if isinstance(P, int) and (inputs.ndim == 4 or backend not in ("eager", "cudnn")):
        P = torch.full(inputs.shape[:-3], P, device=W.device)  # torch.tensor would halt a GPU
    elif not isinstance(P, int):
        P = P.to(W.device, torch.int64)
    if lengths is not None:
        if lengths.shape != inputs.shape[:-2] or lengths.is_floating_point():
            shape = tuple(inputs.shape[:-2])
            raise ValueError(
                f"lengths must be int64 of shape {shape}, got {lengths.dtype} of shape {tuple(lengths.shape)}"
            )
        lengths = lengths.to(W.device, torch.int64)
    if backend in ("eager", "cudnn"):
        forward = eager_forward if backend == "eager" else cudnn_forward
        recurrence = recurrence._replace(P=P)
        if inputs.ndim == 4:
            return _run_each(forward, recurrence, inputs, state, lengths)
        return ScanOutput(*forward(recurrence, inputs, state, lengths))
    return ScanOutput(*operator.scan(inputs, state, A, W, C, h, cast(Tensor, P), lengths, backend))


def _check_shapes(recurrence: Recurrence, inputs: Tensor, state: Tensor) -> None:
    """Raise ``ValueError`` unless shapes and devices fit."""
    A, W, C, h, P = recurrence
    if inputs.ndim not in (3, 4):
        raise ValueError(f"inputs must have shape (…, batch, time, channels), got {tuple(inputs.shape)}")
    *stack, batch, time, channels = inputs.shape
    size = A.shape[-1] if A.ndim else 0
    expected = [
        ("state", state, (*stack, batch, size)),
        ("A", A, (*stack, size)),
        ("W", W, (*stack, size, size)),
        ("h", h, (*stack, size)),
        ("inputs", inputs, (*stack, batch, time, size if C is None else channels)),
    ]
    if C is not None:
        expected.append(("C", C, (*stack, size, channels)))
    for name, tensor, shape in expected:
        if tensor.shape != shape:
            raise ValueError(f"{name} must have shape {tuple(shape)}, got {tuple(tensor.shape)}")
        if tensor.device != W.device:
            raise ValueError(f"{name} must be on the device of W, {W.device}, got {tensor.device}")
    if isinstance(P, int) and not 0 <= P <= size:
        raise ValueError(f"P must lie between 0 and M={size}, got {P}")
    if isinstance(P, Tensor) and P.shape != tuple(stack):
        raise ValueError(f"P must have shape {tuple(stack)}, got {tuple(P.shape)}")


def _has_tangent(tensor: Tensor | None) -> bool:
    """Whether a derivative in forward mode is asked for."""
    if tensor is None:
        return False
    try:
        return forward_ad.unpack_dual(tensor).tangent is not None  # type: ignore[no-untyped-call]
    except RuntimeError:  # vmap has no rule for it
        return _has_tangent(debug_unwrap(tensor, recurse=False))


def _run_each(
    forward: Callable[..., tuple[Tensor, Tensor]],
    recurrence: Recurrence,
    inputs: Tensor,
    state: Tensor,
    lengths: Tensor | None,
) -> ScanOutput:
    """Run E networks one after the other."""
    outputs = []
    for e in range(len(inputs)):
        network = Recurrence(*(None if field is None else field[e] for field in recurrence))  # type: ignore[index, arg-type]
        outputs.append(forward(network, inputs[e], state[e], None if lengths is None else lengths[e]))
    states, last = zip(*outputs, strict=True)
    return ScanOutput(torch.stack(states), torch.stack(last))


def _choose(backend: str, recurrence: Recurrence, inputs: Tensor, forward_mode: bool) -> str:
    """The name of the backend that runs; announced at its first use."""
    source, W = "backend", recurrence.W
    if backend == "auto":
        backend, source = os.environ.get(BACKEND_VARIABLE) or "auto", BACKEND_VARIABLE
    check_backend(backend, source)
    device = W.device.type if inputs.device == W.device and inputs.dtype == W.dtype == torch.float32 else ""
    fits = {"native": device == "cpu", "triton": device == "cuda" or (device == "cpu" and _INTERPRETED)}
    if backend == "auto":
        backend = "eager" if forward_mode else _fastest(device, recurrence, inputs)
    if not fits.get(backend, True):
        place = "the CPU" if backend == "native" else "a CUDA device"
        raise TypeError(f"{source}={backend!r} computes in float32 on {place}, got {W.dtype} on {W.device}: use 'auto'")
    if backend == "triton" and W.shape[-1] > _TRITON_UNITS:
        raise ValueError(f"{source}='triton' takes at most M={_TRITON_UNITS} units, got {W.shape[-1]}: use 'auto'")
    if forward_mode and backend != "eager":
        raise NotImplementedError(
            f"{source}={backend!r} has no derivative in forward mode (torch.func.jvp, jacfwd): use 'eager' or 'auto'"
        )
    if backend in ("eager", "cudnn") and torch.compiler.is_exporting() and isinstance(inputs.shape[-2], torch.SymInt):
        raise NotImplementedError(f"{source}={backend!r} cannot be exported for any number of steps: use 'fused'")
    if not torch.compiler.is_compiling():
        if backend == "cudnn" and operator.transforms_are_active():
            raise NotImplementedError(f"{source}='cudnn' does not run under transforms of torch.func: use 'auto'")
        _announce(backend, inputs.device.type, str(inputs.dtype).removeprefix("torch."))
    return backend


def _fastest(device: str, recurrence: Recurrence, inputs: Tensor) -> str:
    """What ``auto`` takes for float32 tensors on this kind of device; "" for any other tensors."""
    units = recurrence.W.shape[-1]
    if device == "cpu" and operator.kernel is not None:
        return "native"
    if device == "cuda" and units <= _TRITON_UNITS and operator.triton_is_installed and _runs_triton(inputs.device):
        return "triton"
    # to read P from the device, as the form for cuDNN must where it is a tensor, would halt it
    single = inputs.ndim == 3 and isinstance(recurrence.P, int)
    traced = torch.compiler.is_compiling() or operator.transforms_are_active()
    if device == "cuda" and units > _TRITON_UNITS and single and not traced and torch.version.cuda is not None:
        return "cudnn"
    return "fused"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _runs_triton(device: torch.device) -> bool:
    """Whether the kernels fit a device: one of NVIDIA's since Ampere, with 99 KB of shared memory and more."""
    fits = torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0)
    return fits and _triton_starts()


@functools.cache
def _triton_starts() -> bool:
    """Whether Triton can launch a kernel here: it compiles its launcher with the C compiler, for Python's headers."""
    from triton.runtime import driver

    try:
        driver.active.utils  # noqa: B018  # made at the first look
    except Exception as error:
        rank_zero_warn(f"Triton does not start here, so that the recurrence runs without its kernels: {error}")
        return False
    return True


@functools.cache
def _announce(backend: str, device: str, dtype: str) -> None:
    reason = ""
    if backend == "native" and operator.kernel is not None:
        reason = f" ({operator.kernel.simd_level()})"
    elif device == "cpu" and dtype == "float32" and operator.kernel is None:
        reason = " (the C kernel was not compiled when the package was installed)"
    if hasattr(rank_zero_only, "rank"):  # Lightning sets it; where only layers are imported, nobody would see the line
        rank_zero_info(f"AL-RNN recurrence in {dtype} on {device}: backend {backend!r}{reason}")
