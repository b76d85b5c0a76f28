"""The recurrence in a few tensor operations a step, with its gradients by hand: any device, any floating dtype.

Every argument has a leading dimension of E networks. The buffers are time-major, so that a step works on contiguous
memory. Past its length a sequence *holds* its state, z_t = z_{t-1}: the last step then has every sequence's own last
state, and padding cannot blow up.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor


class Gradients(NamedTuple):
    """Gradients of one call; ``None`` where there is no such argument or it was not asked for."""

    inputs: Tensor | None  # shape ``(E, B, T, K)``; ``(E, B, T, M)`` where ``C`` is ``None``
    state: Tensor | None  # shape ``(E, B, M)``
    A: Tensor  # shape ``(E, M)``
    W: Tensor  # shape ``(E, M, M)``
    C: Tensor | None  # shape ``(E, M, K)``
    h: Tensor  # shape ``(E, M)``


def fused_forward(
    inputs: Tensor,
    state: Tensor,
    A: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: Tensor,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence of E networks.

    Shapes: ``inputs`` ``(E, B, T, K)``, or ``(E, B, T, M)`` where ``C`` is ``None`` (the identity); ``state`` ``(E, B,
    M)``; ``A`` (a diagonal) and ``h`` ``(E, M)``; ``W`` ``(E, M, M)``; ``C`` ``(E, M, K)``; ``P``, the number of
    rectified units, int64 of ``(E,)``; ``lengths`` int64 of ``(E, B)``, ``None`` where all have T. Returned are z_1 …
    z_T, shape ``(E, B, T, M)``, zero past a sequence's length and time-major in memory, and the state at each
    sequence's own last step, shape ``(E, B, M)``.
    """
    networks, batch, time, _ = inputs.shape
    floor = _floor(A, P)
    transposed, diagonal = W.mT.contiguous(), A.unsqueeze(1)
    valid = _valid(lengths, time)
    z = inputs.new_empty(time, networks, batch, A.shape[1])
    flat = inputs.flatten(1, 2)
    drive = flat + h.unsqueeze(1) if C is None else torch.baddbmm(h.unsqueeze(1), flat, C.mT)
    z.copy_(drive.view(networks, batch, time, A.shape[1]).movedim(2, 0))
    phi, previous = torch.empty_like(state, memory_format=torch.contiguous_format), state
    for t in range(time):
        following = z[t]
        torch.maximum(previous, floor, out=phi)
        following.addcmul_(previous, diagonal)
        _add_product(following, phi, transposed)
        if valid is not None:
            torch.where(valid[t], following, previous, out=following)
        previous = following
    last = previous.clone(memory_format=torch.contiguous_format)
    if valid is not None:
        z.masked_fill_(~valid, 0.0)
    return z.movedim(0, 2), last


def fused_backward(
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
) -> Gradients:
    """Gradients of what :func:`fused_forward` computed; that of ``inputs`` is time-major in memory.

    ``grad_states`` and ``grad_last`` have the shapes of its results, ``states`` is the first of them. ``None`` is a
    gradient of zero. What ``grad_states`` holds past a sequence's length does not count.
    """
    time = states.shape[2]
    floor, diagonal, W = _floor(A, P), A.unsqueeze(1), W.contiguous()
    valid = _valid(lengths, time)
    previous = torch.cat((state.unsqueeze(0), states.movedim(2, 0)[:-1]))  # z_0 … z_{T-1}
    passes = previous > floor  # D

    if grad_states is None:
        grads = torch.zeros_like(previous)
    else:
        grads = grad_states.movedim(2, 0).clone(memory_format=torch.contiguous_format)
        if valid is not None:
            grads.masked_fill_(~valid, 0.0)
    if grad_last is not None:
        grads[-1] += grad_last
    carry = torch.empty_like(grads[0])
    for t in range(time - 1, -1, -1):
        grad = grads[t]
        if valid is not None:
            held = torch.where(valid[t], 0.0, grad)
            grad.masked_fill_(~valid[t], 0.0)
        _write_product(carry, grad, W)
        carry *= passes[t]
        carry.addcmul_(grad, diagonal)
        if valid is not None:
            carry += held
        if t:
            grads[t - 1] += carry

    grad_A = (grads * previous).sum(dim=(0, 2))
    phi = previous.clamp_(min=floor)
    by_network = grads.movedim(1, 0).flatten(1, 2)  # (E, T B, M)
    grad_W = by_network.mT @ phi.movedim(1, 0).flatten(1, 2)
    grad_inputs = grad_C = None
    if needs_inputs:
        grad_inputs = (grads if C is None else grads @ C).movedim(0, 2)
    if C is not None:
        if valid is not None:
            inputs = torch.where(valid.movedim(0, 2), inputs, 0.0)  # padding may hold anything, NaN too
        grad_C = by_network.mT @ inputs.movedim(2, 1).flatten(1, 2)
    return Gradients(
        inputs=grad_inputs,
        state=carry if needs_state else None,
        A=grad_A,
        W=grad_W,
        C=grad_C,
        h=by_network.sum(1),
    )


def _add_product(total: Tensor, states: Tensor, matrices: Tensor) -> None:
    """Add states · matrices to ``total`` in place. One network is no batch, as that is slower."""
    if len(states) == 1:
        total[0].addmm_(states[0], matrices[0])
    else:
        total.baddbmm_(states, matrices)


def _write_product(product: Tensor, states: Tensor, matrices: Tensor) -> None:
    """Write states · matrices to ``product``."""
    if len(states) == 1:
        torch.mm(states[0], matrices[0], out=product[0])
    else:
        torch.bmm(states, matrices, out=product)


def _floor(A: Tensor, P: Tensor) -> Tensor:
    """φ*(z) = max(z, floor): 0 for rectified units, −∞ for the others, shape ``(E, 1, M)``."""
    size = A.shape[1]
    linear = torch.arange(size, device=A.device) < size - P.unsqueeze(1)
    return torch.zeros_like(A).masked_fill_(linear, -torch.inf).unsqueeze(1)


def _valid(lengths: Tensor | None, time: int) -> Tensor | None:
    """Which steps are valid, shape ``(T, E, B, 1)``."""
    if lengths is None:
        return None
    steps = torch.arange(time, device=lengths.device)
    return (steps.view(-1, 1, 1) < lengths).unsqueeze(-1)
