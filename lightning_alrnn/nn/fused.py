"""The recurrence in a few tensor operations a step, with its gradients by hand: any device, any floating dtype.

The buffers are time-major, so that a step works on contiguous memory. Past its length a sequence *holds* its state,
z_t = z_{t-1}: the last step then has every sequence's own last state, and padding cannot blow up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional


class Gradients(NamedTuple):
    """Gradients of one call; ``None`` where there is no such argument or it was not asked for.

    Attributes:
        inputs: shape ``(B, T, K)``; ``(B, T, M)`` where ``C`` is ``None``.
        z0: shape ``(B, M)``.
        a: shape ``(M,)``.
        W: shape ``(M, M)``.
        C: shape ``(M, K)``.
        h: shape ``(M,)``.
    """

    inputs: Tensor | None
    z0: Tensor | None
    a: Tensor
    W: Tensor
    C: Tensor | None
    h: Tensor


def fused_forward(
    inputs: Tensor,
    z0: Tensor,
    a: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: int,
    lengths: Tensor | None = None,
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
        lengths: valid steps of each sequence, shape ``(B,)``; ``None`` where all have T.

    Returns:
        z_1 … z_T, shape ``(B, T, M)``, zero past a sequence's length, and the state at each sequence's own last step,
        shape ``(B, M)``. The memory of the former is time-major.
    """
    batch, time, _ = inputs.shape
    coupling, slopes = _coupling(a, W, P)
    transposed, linear = coupling.t(), len(a) - P
    held = _held(lengths, time, inputs.device)
    z = inputs.new_empty(time, batch, len(a))
    z.copy_((inputs + h if C is None else functional.linear(inputs, C, h)).transpose(0, 1))
    phi, previous = torch.empty_like(z0, memory_format=torch.contiguous_format), z0
    for t in range(time):
        following = z[t]
        phi.copy_(previous)
        if P:
            phi[:, linear:].clamp_(min=0)
            following[:, linear:].addcmul_(previous[:, linear:], slopes)
        following.addmm_(phi, transposed)
        if held is not None:
            torch.where(held[t], following, previous, out=following)
        previous = following
    last = previous.clone(memory_format=torch.contiguous_format)
    if held is not None:
        z.masked_fill_(~held, 0.0)
    return z.transpose(0, 1), last


def fused_backward(
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
) -> Gradients:
    """Gradients of what :func:`fused_forward` computed.

    Args:
        grad_states: gradient of z_1 … z_T, shape ``(B, T, M)``, or ``None`` for zero; what it holds past a
            sequence's length does not count.
        grad_last: gradient of the last states, shape ``(B, M)``, or ``None`` for zero.
        states: z_1 … z_T as returned by :func:`fused_forward`, shape ``(B, T, M)``.
        inputs: s_1 … s_T, shape ``(B, T, K)``; ``(B, T, M)`` where ``C`` is ``None``.
        z0: shape ``(B, M)``.
        a: diagonal, shape ``(M,)``.
        W: coupling, shape ``(M, M)``.
        C: input weights, shape ``(M, K)``, or ``None`` for the identity.
        P: number of rectified units.
        lengths: valid steps of each sequence, shape ``(B,)``; ``None`` where all have T.
        needs_inputs: whether the gradient of ``inputs`` is wanted.
        needs_z0: whether the gradient of ``z0`` is wanted.

    Returns:
        The gradients. The memory of that of ``inputs`` is time-major.
    """
    batch, time, hidden = states.shape
    coupling, slopes = _coupling(a, W, P)
    linear = hidden - P
    held = _held(lengths, time, states.device)
    previous = torch.cat((z0.unsqueeze(0), states.transpose(0, 1)[:-1]))  # z_0 … z_{T-1}
    positive = previous[..., linear:] > 0

    if grad_states is None:
        grads = torch.zeros_like(previous)
    else:
        grads = grad_states.transpose(0, 1).clone(memory_format=torch.contiguous_format)
        if held is not None:
            grads.masked_fill_(~held, 0.0)
    if grad_last is not None:
        grads[-1] += grad_last
    carry = torch.empty_like(grads[0])
    for t in range(time - 1, -1, -1):
        grad = grads[t]
        if held is not None:
            passed = torch.where(held[t], 0.0, grad)
            grad.masked_fill_(~held[t], 0.0)
        torch.mm(grad, coupling, out=carry)
        if P:
            carry[:, linear:] *= positive[t]
            carry[:, linear:].addcmul_(grad[:, linear:], slopes)
        if held is not None:
            carry += passed
        if t:
            grads[t - 1] += carry

    flat = grads.view(time * batch, hidden)
    grad_slopes = (grads[..., linear:] * previous[..., linear:]).sum(dim=(0, 1))
    previous[..., linear:].clamp_(min=0)  # from here on φ*(z_0) … φ*(z_{T-1})
    grad_W = flat.t() @ previous.view(time * batch, hidden)
    grad_inputs = grad_C = None
    if needs_inputs:
        grad_inputs = (grads if C is None else grads @ C).transpose(0, 1)
    if C is not None:
        grad_C = flat.t() @ inputs.transpose(0, 1).reshape(time * batch, -1)
    return Gradients(
        inputs=grad_inputs,
        z0=carry if needs_z0 else None,
        a=torch.cat((grad_W.diagonal()[:linear], grad_slopes)),
        W=grad_W,
        C=grad_C,
        h=flat.sum(0),
    )


def _coupling(a: Tensor, W: Tensor, P: int) -> tuple[Tensor, Tensor]:
    """W with the diagonal of the linear units added, as A_ii acts like W_ii on them, and that of the others."""
    coupling = W.clone(memory_format=torch.contiguous_format)
    linear = len(a) - P
    coupling.diagonal()[:linear] += a[:linear]
    return coupling, a[linear:]


def _held(lengths: Tensor | None, time: int, device: torch.device) -> Tensor | None:
    """Which steps are valid, shape ``(time, batch, 1)``."""
    if lengths is None:
        return None
    return (torch.arange(time, device=device).unsqueeze(-1) < lengths.to(device)).unsqueeze(-1)
