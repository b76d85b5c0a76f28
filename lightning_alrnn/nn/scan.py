"""The AL-RNN recurrence over time, as pure functions of tensors.

.. math:: z_t = A z_{t-1} + W φ*(z_{t-1}) + C s_t + h

with φ* the identity on the first M−P units and a ReLU on the last P. Three backends compute it:

- ``eager``: the equation written as a loop. It takes any floating dtype and can be differentiated twice. The other
  backends are tested against it.
- ``fused``: one autograd function with a hand-written backward pass, a few tensor operations a step.
- ``native``: a C kernel, forward and backward, for float32 on the CPU; there where a compiler was at hand when the
  package was installed.

``auto`` takes ``native`` where it can and ``fused`` elsewhere.
"""

from __future__ import annotations

from types import ModuleType
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional

try:
    from lightning_alrnn.nn import native as _native
except ImportError:  # not compiled
    _kernel: ModuleType | None = None
else:
    _kernel = _native

Backend = Literal["auto", "eager", "fused", "native"]
"""How to compute the recurrence; ``auto`` takes the fastest that fits."""


class ScanOutput(NamedTuple):
    """States of the recurrence.

    Attributes:
        states: z_1 … z_T, shape ``(batch, time, M)``; zero on the steps past a sequence's own length.
        last: the state at each sequence's own last step, shape ``(batch, M)``.
    """

    states: Tensor
    last: Tensor


def available_backends() -> tuple[str, ...]:
    """Names of the backends that this installation can run, slowest first."""
    return ("eager", "fused") if _kernel is None else ("eager", "fused", "native")


def check_backend(backend: str) -> None:
    """Raise ``ValueError`` unless ``backend`` is "auto" or one of :func:`available_backends`."""
    if backend not in ("auto", *available_backends()):
        choices = ", ".join(repr(name) for name in ("auto", *available_backends()))
        raise ValueError(f"backend must be one of {choices}, got {backend!r}")


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
        backend: "auto", "eager", "fused" or "native".

    Returns:
        The states and each sequence's last one.

    Raises:
        ValueError: if there is no such backend here.
        TypeError: if "native" is asked for anything but float32 on the CPU.
    """
    check_backend(backend)
    fits = inputs.device.type == "cpu" and W.device.type == "cpu" and inputs.dtype == W.dtype == torch.float32
    if backend == "native" and not fits:
        raise TypeError(f"backend='native' computes in float32 on the CPU, got {W.dtype} on {W.device}: use 'auto'")
    if backend == "native" or (backend == "auto" and fits and _kernel is not None):
        if lengths is not None:
            lengths = lengths.to("cpu", torch.int64)
        output: ScanOutput = _scan_native(inputs, state, diagonal, W, C, h, nonlinear_units, lengths)
        return output
    active = None
    if lengths is not None:
        active = torch.arange(inputs.shape[1], device=inputs.device) < lengths.to(inputs.device).unsqueeze(-1)
    if backend == "eager":
        return _scan_eager(inputs, state, diagonal, W, C, h, nonlinear_units, active)
    drive = inputs + h if C is None else functional.linear(inputs, C, h)
    return ScanOutput(*_FusedScan.apply(drive, state, diagonal, W, nonlinear_units, active))  # type: ignore[no-untyped-call]


def _scan_eager(
    inputs: Tensor,
    state: Tensor,
    diagonal: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    nonlinear_units: int,
    active: Tensor | None,
) -> ScanOutput:
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


class _FusedScan(torch.autograd.Function):
    """The loop as one node of the autograd graph, on time-major buffers.

    Past its length a sequence *holds* its state: z_t = z_{t-1}. So the last column is every sequence's own last
    state, and padding cannot blow up and leak NaN into the gradients.
    """

    @staticmethod
    def forward(
        ctx: Any, drive: Tensor, state: Tensor, diagonal: Tensor, W: Tensor, nonlinear_units: int, active: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        batch, time, hidden = drive.shape
        linear = hidden - nonlinear_units
        # a linear unit's A_ii acts like W_ii, so one product carries both
        coupling = W.clone(memory_format=torch.contiguous_format)
        coupling.diagonal()[:linear] += diagonal[:linear]
        transposed, slopes = coupling.t(), diagonal[linear:]
        held = None if active is None else active.t().unsqueeze(-1).contiguous()

        z = torch.empty(time + 1, batch, hidden, dtype=drive.dtype, device=drive.device)  # z_0 … z_T
        rectified = torch.empty(time, batch, hidden, dtype=drive.dtype, device=drive.device)  # φ*(z_0) … φ*(z_{T-1})
        z[0] = state
        z[1:] = drive.transpose(0, 1)
        for t in range(time):
            previous, following, phi = z[t], z[t + 1], rectified[t]
            phi.copy_(previous)
            if nonlinear_units:
                phi[:, linear:].clamp_(min=0)
                following[:, linear:].addcmul_(previous[:, linear:], slopes)
            following.addmm_(phi, transposed)
            if held is not None:
                torch.where(held[t], following, previous, out=following)

        ctx.nonlinear_units = nonlinear_units
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(coupling, slopes, z, rectified, held)
        states = z[1:]
        if held is not None:
            states = states * held
        # views of a saved buffer: a copy of the last column, so that writing into it cannot harm the other output
        return states.transpose(0, 1), z[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
        coupling, slopes, z, rectified, held = ctx.saved_tensors
        time, batch, hidden = rectified.shape
        linear = hidden - ctx.nonlinear_units

        if grad_states is None:
            grads = torch.zeros_like(rectified)
        else:
            grads = grad_states.transpose(0, 1).clone(memory_format=torch.contiguous_format)
            if held is not None:
                grads *= held
        if grad_last is not None:
            grads[-1] += grad_last
        positive = z[:-1, :, linear:] > 0
        carry = torch.empty_like(z[0])
        for t in range(time - 1, -1, -1):
            grad = grads[t]
            if held is not None:
                passed = torch.where(held[t], 0.0, grad)
                grad *= held[t]
            torch.mm(grad, coupling, out=carry)
            if ctx.nonlinear_units:
                carry[:, linear:] *= positive[t]
                carry[:, linear:].addcmul_(grad[:, linear:], slopes)
            if held is not None:
                carry += passed
            if t:
                grads[t - 1] += carry

        flat = grads.reshape(time * batch, hidden)
        grad_W = flat.t() @ rectified.reshape(time * batch, hidden)
        grad_diagonal = torch.cat(
            (grad_W.diagonal()[:linear], (grads[..., linear:] * z[:-1, :, linear:]).sum(dim=(0, 1)))
        )
        return grads.transpose(0, 1), carry, grad_diagonal, grad_W, None, None


@torch.compiler.disable  # type: ignore[untyped-decorator]
def _scan_native(*arguments: Any) -> ScanOutput:
    # torch.compile cannot look into the kernel: it calls it as it is
    return ScanOutput(*_NativeScan.apply(*arguments))  # type: ignore[no-untyped-call]


class _NativeScan(torch.autograd.Function):
    """The C kernel as one node of the autograd graph."""

    @staticmethod
    def forward(
        ctx: Any,
        inputs: Tensor,
        state: Tensor,
        diagonal: Tensor,
        W: Tensor,
        C: Tensor | None,
        h: Tensor,
        nonlinear_units: int,
        lengths: Tensor | None,
    ) -> tuple[Tensor, Tensor]:
        threads = torch.get_num_threads()
        states, last = _native.native_forward(inputs, state, diagonal, W, C, h, nonlinear_units, lengths, threads)
        ctx.nonlinear_units = nonlinear_units
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(states, inputs, diagonal, W, C, lengths)
        return states[:, 1:], last

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_states: Tensor | None, grad_last: Tensor | None) -> tuple[Tensor | None, ...]:
        states, inputs, diagonal, W, C, lengths = ctx.saved_tensors
        needs_inputs, needs_state = ctx.needs_input_grad[:2]
        gradients = _native.native_backward(
            grad_states,
            grad_last,
            states,
            inputs,
            diagonal,
            W,
            C,
            ctx.nonlinear_units,
            lengths,
            needs_inputs,
            needs_state,
            torch.get_num_threads(),
        )
        return (*gradients, None, None)
