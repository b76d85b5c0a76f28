"""The choice of a backend, and the function that runs the recurrence."""

from __future__ import annotations

import functools
import os
import warnings
from typing import Literal, NamedTuple

import torch
from lightning_utilities.core.rank_zero import rank_zero_info, rank_zero_only
from torch import Tensor
from torch.utils import _pytree as pytree

from lightning_alrnn.nn.recurrence import Recurrence
from lightning_alrnn.nn.scan import operator
from lightning_alrnn.nn.scan.cudnn import cudnn_forward
from lightning_alrnn.nn.scan.eager import eager_forward
from lightning_alrnn.nn.scan.fused import Arguments, check_range

Backend = Literal["auto", "eager", "fused", "native", "triton", "cudnn"]
"""Implementation of the recurrence; "auto" chooses the fastest one that fits."""

BACKEND_VARIABLE = "ALRNN_BACKEND"
"""Environment variable with the name of the backend that ``auto`` chooses."""


_TRITON_UNITS = 128  # a larger W does not fit on the chip
_INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"  # the kernels run on a CPU


class ScanOutput(NamedTuple):
    """States of the recurrence.

    Attributes:
        states: States z_1 … z_T, shape ``(batch, time, M)``; zero after the end of a sequence.
        last: State at the last step of each sequence, shape ``(batch, M)``.
    """

    states: Tensor
    last: Tensor


# torch.export.save needs a name for the type
pytree._register_namedtuple(ScanOutput, serialized_type_name="lightning_alrnn.nn.ScanOutput")


def available_backends() -> tuple[str, ...]:
    """Return the names of the backends that this installation can run."""
    return ("eager", "fused", *operator.optional_backends(), "cudnn")


def check_backend(backend: str, source: str = "backend") -> None:
    """Check the name of a backend.

    Args:
        backend: "auto" or one of :func:`available_backends`.
        source: Name of the option in the message.

    Raises:
        ValueError: If this installation does not have the backend.
    """
    operator.check_backend(backend, ("auto", *available_backends()), source)


def run_recurrence(
    recurrence: Recurrence,
    inputs: Tensor,
    state: Tensor,
    lengths: Tensor | None = None,
    backend: str = "auto",
) -> ScanOutput:
    """Run one AL-RNN over time, or E of them at once.

    For E networks, the fields of ``recurrence`` (P as an int64 tensor), the other tensors and the results have a
    leading dimension E. ``torch.vmap`` over this function makes such a call.

    Args:
        recurrence: Parameters of the network.
        inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``, or ``(batch, time, M)`` if C is ``None``.
        state: Initial state z_0, shape ``(batch, M)``.
        lengths: Number of valid steps (0 … time), int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        backend: Name of the backend, "auto", "eager", "fused", "native", "triton" or "cudnn".

    Raises:
        ValueError: If this installation lacks the backend, or shapes or devices do not fit.
        TypeError: If the backend does not take tensors of this dtype on this device.
        NotImplementedError: If the backend does not support the derivative, transform or export of this call.

    Example:
        >>> recurrence = Recurrence(torch.zeros(2), torch.eye(2), None, torch.zeros(2), P=1)
        >>> run_recurrence(recurrence, torch.ones(1, 3, 2), torch.zeros(1, 2)).last.tolist()
        [[3.0, 3.0]]
    """
    A, W, C, h, P = recurrence
    forward_mode = any(map(operator.has_tangent, (inputs, state, A, W, C, h)))
    backend = _choose(backend, recurrence, inputs, forward_mode)
    if isinstance(P, int):
        check_range("P", P, W.shape[-1])
        if inputs.ndim == 4 or backend not in ("eager", "cudnn"):
            P = torch.full(inputs.shape[:-3], P, device=W.device)  # torch.tensor would halt a GPU
    else:
        P = _as_int64("P", P, W.device)
    if lengths is not None:
        lengths = _as_int64("lengths", lengths, W.device)
    fields = Arguments(inputs, state, A, W, C, h, P, lengths)  # type: ignore[arg-type]
    if backend not in ("eager", "cudnn"):
        return ScanOutput(*operator.scan(*fields, backend))
    fields.check()
    forward = eager_forward if backend == "eager" else cudnn_forward
    if inputs.ndim == 3:
        return ScanOutput(*forward(recurrence._replace(P=P), inputs, state, lengths))
    outputs = []
    for e in range(len(inputs)):
        s, z, *parameters, n = (None if field is None else field[e] for field in fields)
        outputs.append(forward(Recurrence(*parameters), s, z, n))  # type: ignore[arg-type]
    return ScanOutput(*map(torch.stack, zip(*outputs, strict=True)))


def _as_int64(name: str, numbers: Tensor, device: torch.device) -> Tensor:
    """Return whole numbers as int64 on the device of the network."""
    if not isinstance(numbers, Tensor) or numbers.dtype.is_floating_point or numbers.dtype == torch.bool:
        got = numbers.dtype if isinstance(numbers, Tensor) else repr(numbers)
        raise ValueError(f"{name} must be int64, got {got}: pass whole numbers")
    return numbers.to(device, torch.int64)


def _choose(backend: str, recurrence: Recurrence, inputs: Tensor, forward_mode: bool) -> str:
    """Return the name of the backend to run, and announce it at its first use."""
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
    """Return the choice of "auto" for float32 tensors on this kind of device; ``device`` is "" for other tensors."""
    units = recurrence.W.shape[-1]
    if device == "cpu" and operator.kernel is not None:
        return "native"
    if device == "cuda" and units <= _TRITON_UNITS and operator.triton_is_installed and _runs_triton(inputs.device):
        return "triton"
    # if P is a tensor, the layout for cuDNN would have to read it, which halts the device
    single = inputs.ndim == 3 and isinstance(recurrence.P, int)
    traced = torch.compiler.is_compiling() or operator.transforms_are_active()
    if device == "cuda" and units > _TRITON_UNITS and single and not traced and torch.version.cuda is not None:
        return "cudnn"
    return "fused"


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _runs_triton(device: torch.device) -> bool:
    """Whether the kernels fit a device: NVIDIA since Ampere, which has at least 99 KB of shared memory."""
    fits = torch.version.cuda is not None and torch.cuda.get_device_capability(device) >= (8, 0)
    return fits and _triton_starts()


@functools.cache
def _triton_starts() -> bool:
    """Whether Triton can launch a kernel, for which it needs a C compiler and Python's headers."""
    from triton.runtime import driver

    try:
        driver.active.utils  # noqa: B018  # compiled at its first use
    except Exception as error:
        # rank_zero_warn needs Lightning, which may not be imported
        warnings.warn(f"Triton does not start, so the recurrence runs without its kernels: {error}", stacklevel=2)
        return False
    return True


@functools.cache
def _announce(backend: str, device: str, dtype: str) -> None:
    reason = ""
    if backend == "native" and operator.kernel is not None:
        reason = f" ({operator.kernel.simd_level()})"
    elif device == "cpu" and dtype == "float32" and operator.kernel is None:
        reason = " (the C kernel was not compiled when the package was installed)"
    if hasattr(rank_zero_only, "rank"):  # set by Lightning, whose logging shows the line
        rank_zero_info(f"AL-RNN recurrence in {dtype} on {device}: backend {backend!r}{reason}")
