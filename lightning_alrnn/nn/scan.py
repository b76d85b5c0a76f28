"""The AL-RNN recurrence over time, as pure functions of tensors.

.. math:: z_t = A z_{t-1} + W φ*(z_{t-1}) + C s_t + h

with φ* the identity on the first M−P units and a ReLU on the last P. Four backends compute it:

- ``eager``: the equation written as a loop. It takes any floating dtype and can be differentiated twice. The other
  backends are tested against it.
- ``fused``: a few tensor operations a step and a hand-written backward pass.
- ``native``: a C kernel, forward and backward, for float32 on the CPU; there where a compiler was at hand when the
  package was installed.
- ``cudnn``: torch's own ReLU RNN with 2M+P units, which cuDNN runs on CUDA devices. It has not been timed there. With
  ``torch.backends.cudnn.allow_tf32`` at its default, cuDNN rounds products to TF32.

``auto`` takes ``native`` where it can and ``fused`` elsewhere, or what the environment variable ``ALRNN_BACKEND``
names.

``fused`` and ``native`` are one operator, ``torch.ops.lightning_alrnn.scan``, which ``torch.compile`` takes as it is.
"""

from __future__ import annotations

import functools
import os
from types import ModuleType
from typing import Any, Literal, NamedTuple

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.nn.cudnn import cudnn_forward
from lightning_alrnn.nn.fused import Gradients, fused_backward, fused_forward

try:
    from lightning_alrnn.nn import native as _native
except ImportError:  # not compiled
    _kernel: ModuleType | None = None
else:
    _kernel = _native

Backend = Literal["auto", "eager", "fused", "native", "cudnn"]
"""How to compute the recurrence; ``auto`` takes the fastest that fits."""

BACKEND_VARIABLE = "ALRNN_BACKEND"
"""Environment variable that names the backend wherever ``auto`` is asked for."""


class ScanOutput(NamedTuple):
    """States of the recurrence.

    Attributes:
        states: z_1 … z_T, shape ``(batch, time, M)``; zero on the steps past a sequence's own length.
        last: the state at each sequence's own last step, shape ``(batch, M)``.
    """

    states: Tensor
    last: Tensor


def available_backends() -> tuple[str, ...]:
    """Names of the backends that this installation can run."""
    return ("eager", "fused", "cudnn") if _kernel is None else ("eager", "fused", "native", "cudnn")


def check_backend(backend: str) -> None:
    """Raise unless there is such a backend here.

    Args:
        backend: "auto" or one of :func:`available_backends`.

    Raises:
        ValueError: if there is none; the message lists those there are.
    """
    _check_name("backend", backend)


def rectify(z: Tensor, nonlinear_units: int) -> Tensor:
    """φ*: identity on the first M−P units, ReLU on the last P.

    Args:
        z: states, shape ``(…, M)``.
        nonlinear_units: P, the number of units that are rectified (0 leaves ``z`` as it is).

    Returns:
        Tensor of the shape of ``z``.
    """
    # z[..., -0:] would be all units, so the split is counted from the front
    linear, nonlinear = z.tensor_split((z.shape[-1] - nonlinear_units,), dim=-1)
    return torch.cat((linear, nonlinear.relu()), dim=-1)


def step(z: Tensor, drive: Tensor, diagonal: Tensor, W: Tensor, nonlinear_units: int) -> Tensor:
    """One step of the recurrence, z' = A z + W φ*(z) + drive.

    Args:
        z: states, shape ``(…, M)``.
        drive: C s + h, broadcastable to the shape of ``z``.
        diagonal: the diagonal of A over all units, shape ``(M,)``.
        W: coupling, shape ``(M, M)``.
        nonlinear_units: P.

    Returns:
        The next states, shape ``(…, M)``.
    """
    return diagonal * z + functional.linear(rectify(z, nonlinear_units), W) + drive


def scan(
    inputs: Tensor,
    state: Tensor,
    *,
    diagonal: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    nonlinear_units: int,
    lengths: Tensor | None = None,
    backend: str = "auto",
) -> ScanOutput:
    """Run the recurrence over time.

    Args:
        inputs: s_1 … s_T, shape ``(batch, time, K)``; ``(batch, time, M)`` where ``C`` is ``None``.
        state: z_0, shape ``(batch, M)``.
        diagonal: the diagonal of A over all units, shape ``(M,)``.
        W: coupling, shape ``(M, M)``.
        C: input weights, shape ``(M, K)``, or ``None`` for the identity.
        h: bias, shape ``(M,)``.
        nonlinear_units: P.
        lengths: number of valid steps of each sequence, shape ``(batch,)``, or ``None`` where all are ``time`` long.
            The state is not advanced past it.
        backend: "auto", "eager", "fused", "native" or "cudnn".

    Returns:
        The states and each sequence's last one.

    Raises:
        ValueError: if there is no such backend here.
        TypeError: if "native" is asked for anything but float32 on the CPU.
    """
    backend = _choose(backend, inputs, W)
    arguments = inputs, state, diagonal, W, C, h, nonlinear_units, lengths
    if backend == "eager":
        return _scan_eager(*arguments)
    if backend == "cudnn":
        return ScanOutput(*cudnn_forward(*arguments))
    return ScanOutput(*torch.ops.lightning_alrnn.scan.default(*arguments, backend))


def _choose(backend: str, inputs: Tensor, W: Tensor) -> str:
    """The name of the backend that runs; announced at its first use."""
    source = "backend"
    if backend == "auto":
        backend, source = os.environ.get(BACKEND_VARIABLE) or "auto", BACKEND_VARIABLE
    _check_name(source, backend)
    fits = inputs.device.type == "cpu" and W.device.type == "cpu" and inputs.dtype == W.dtype == torch.float32
    if backend == "auto":
        backend = "native" if fits and _kernel is not None else "fused"
    if backend == "native" and not fits:
        raise TypeError(f"{source}={backend!r} computes in float32 on the CPU, got {W.dtype} on {W.device}: use 'auto'")
    if not torch.compiler.is_compiling():
        _announce(backend, inputs.device.type, str(inputs.dtype).removeprefix("torch."))
    return backend


def _check_name(source: str, backend: str) -> None:
    if backend not in ("auto", *available_backends()):
        choices = ", ".join(repr(name) for name in ("auto", *available_backends()))
        raise ValueError(f"{source} must be one of {choices}, got {backend!r}")


@functools.cache
def _announce(backend: str, device: str, dtype: str) -> None:
    reason = ""
    if backend == "native":
        reason = f" ({_native.simd_level()})"
    elif device == "cpu" and dtype == "float32" and _kernel is None:
        reason = " (the C kernel was not compiled when the package was installed)"
    rank_zero_info(f"AL-RNN recurrence in {dtype} on {device}: backend {backend!r}{reason}")


def _scan_eager(
    inputs: Tensor,
    state: Tensor,
    diagonal: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    nonlinear_units: int,
    lengths: Tensor | None,
) -> ScanOutput:
    active = None
    if lengths is not None:
        active = torch.arange(inputs.shape[1], device=inputs.device) < lengths.to(inputs.device).unsqueeze(-1)
    states, z = [], state
    for t, s in enumerate(inputs.unbind(1)):
        # the input term is computed step by step (not in one product before the loop) so that a sequence run in
        # chunks gives the same bits as the sequence run whole
        drive = s + h if C is None else functional.linear(s.contiguous(), C, h)
        z_next = step(z, drive, diagonal, W, nonlinear_units)
        if active is None:
            z = z_next
            states.append(z)
        else:
            valid = active[:, t, None]
            z = torch.where(valid, z_next, z)
            states.append(torch.where(valid, z, 0.0))
    return ScanOutput(torch.stack(states, dim=1), z)


# ------------------------------------------------------------------------------------------------------ the operator

_ARGUMENTS = "Tensor inputs, Tensor state, Tensor diagonal, Tensor W, Tensor? C, Tensor h, int P, Tensor? lengths"

torch.library.define("lightning_alrnn::scan", f"({_ARGUMENTS}, str backend) -> (Tensor, Tensor)")
# what is not needed comes back empty: an operator returns no None
torch.library.define(
    "lightning_alrnn::scan_backward",
    f"(Tensor? grad_states, Tensor? grad_last, Tensor states, {_ARGUMENTS}, bool needs_inputs, bool needs_state, "
    "str backend) -> (Tensor, Tensor, Tensor, Tensor, Tensor, Tensor)",
)


@torch.library.impl("lightning_alrnn::scan", "default")
def _forward(
    inputs: Tensor,
    state: Tensor,
    diagonal: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: int,
    lengths: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    if backend == "fused":
        return fused_forward(inputs, state, diagonal, W, C, h, P, lengths)
    threads = torch.get_num_threads()
    return _native.native_forward(inputs, state, diagonal, W, C, h, P, _on_cpu(lengths), threads)


@torch.library.impl("lightning_alrnn::scan_backward", "default")
def _backward(
    grad_states: Tensor | None,
    grad_last: Tensor | None,
    states: Tensor,
    inputs: Tensor,
    state: Tensor,
    diagonal: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: int,
    lengths: Tensor | None,
    needs_inputs: bool,
    needs_state: bool,
    backend: str,
) -> tuple[Tensor, ...]:
    known = grad_states, grad_last, states, inputs, state, diagonal, W, C, P
    if backend == "fused":
        found = fused_backward(*known, lengths, needs_inputs, needs_state)
    else:
        threads = torch.get_num_threads()
        found = _native.native_backward(*known, _on_cpu(lengths), needs_inputs, needs_state, threads)
    return tuple(h.new_empty(0) if gradient is None else gradient for gradient in found)


def _on_cpu(lengths: Tensor | None) -> Tensor | None:
    return None if lengths is None else lengths.to("cpu", torch.int64)


def _forward_shapes(
    inputs: Tensor,
    state: Tensor,
    diagonal: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: int,
    lengths: Tensor | None,
    backend: str,
) -> tuple[Tensor, Tensor]:
    batch, time, _ = inputs.shape
    return _empty(inputs, (batch, time, len(diagonal)), backend), inputs.new_empty(batch, len(diagonal))


def _backward_shapes(
    grad_states: Tensor | None,
    grad_last: Tensor | None,
    states: Tensor,
    inputs: Tensor,
    state: Tensor,
    diagonal: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: int,
    lengths: Tensor | None,
    needs_inputs: bool,
    needs_state: bool,
    backend: str,
) -> tuple[Tensor, ...]:
    return (
        _empty(inputs, tuple(inputs.shape), backend) if needs_inputs else h.new_empty(0),
        state.new_empty(state.shape) if needs_state else h.new_empty(0),
        diagonal.new_empty(diagonal.shape),
        W.new_empty(W.shape),
        h.new_empty(0) if C is None else C.new_empty(C.shape),
        h.new_empty(h.shape),
    )


def _empty(like: Tensor, shape: tuple[int, ...], backend: str) -> Tensor:
    batch, time, width = shape
    if backend == "fused":
        return like.new_empty(time, batch, width).transpose(0, 1)
    return like.new_empty(batch, time, width)


def _save(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, Tensor]) -> None:
    *tensors, P, lengths, backend = inputs
    ctx.P, ctx.backend = P, backend
    ctx.set_materialize_grads(False)
    ctx.save_for_backward(output[0], *tensors, lengths)


def _differentiate(ctx: Any, grad_states: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
    states, inputs, state, diagonal, W, C, h, lengths = ctx.saved_tensors
    needs_inputs, needs_state = ctx.needs_input_grad[:2]
    found = Gradients(
        *torch.ops.lightning_alrnn.scan_backward.default(
            grad_states,
            grad_last,
            states,
            inputs,
            state,
            diagonal,
            W,
            C,
            h,
            ctx.P,
            lengths,
            needs_inputs,
            needs_state,
            ctx.backend,
        )
    )
    found = found._replace(
        inputs=found.inputs if needs_inputs else None,
        z0=found.z0 if needs_state else None,
        C=None if C is None else found.C,
    )
    return (*found, None, None, None)


def _differentiate_twice(ctx: Any, *grads: Tensor) -> None:
    raise RuntimeError(
        "backend 'fused' and 'native' can be differentiated once, not twice: use backend='eager' for second derivatives"
    )


torch.library.register_fake("lightning_alrnn::scan", _forward_shapes)
torch.library.register_fake("lightning_alrnn::scan_backward", _backward_shapes)
torch.library.register_autograd("lightning_alrnn::scan", _differentiate, setup_context=_save)
torch.library.register_autograd("lightning_alrnn::scan_backward", _differentiate_twice)
for _device in ("cpu", "cuda"):
    torch.library.register_autocast("lightning_alrnn::scan", _device, torch.float32)
