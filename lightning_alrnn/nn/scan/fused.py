"""The recurrence of E networks in a few tensor operations per step, with hand-written gradients.

The buffers are time-major, so that a step works on contiguous memory. After its end a sequence holds its state: the
last step then has the last state of every sequence, and padding cannot overflow.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.func import debug_unwrap


class Arguments(NamedTuple):
    """Arguments of the recurrence of E networks. The C kernel also takes one network without the dimension E."""

    inputs: Tensor  # shape ``(E, B, T, K)``; ``(E, B, T, M)`` if ``C`` is ``None``
    state: Tensor  # shape ``(E, B, M)``
    A: Tensor  # diagonals, shape ``(E, M)``
    W: Tensor  # shape ``(E, M, M)``
    C: Tensor | None  # shape ``(E, M, K)``
    h: Tensor  # shape ``(E, M)``
    P: Tensor  # number of rectified units, int64 of shape ``(E,)``
    lengths: Tensor | None  # int64 of shape ``(E, B)``; ``None`` if all sequences have T steps

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape that each tensor must have for the shapes of ``inputs``, ``A`` and ``C``."""
        if self.inputs.ndim not in (3, 4):
            raise ValueError(
                f"inputs must have shape (…, batch, time, channels), got {tuple(self.inputs.shape)}: add the missing "
                "dimension, as in inputs.unsqueeze(0)"
            )
        *stack, batch, time, channels = self.inputs.shape
        units = self.A.shape[-1] if self.A.ndim else 0
        expected = {
            "state": (*stack, batch, units),
            "A": (*stack, units),
            "W": (*stack, units, units),
            "h": (*stack, units),
            "P": tuple(stack),
            "inputs": (*stack, batch, time, units if self.C is None else channels),
        }
        if self.C is not None:
            expected["C"] = (*stack, units, channels)
        if self.lengths is not None:
            expected["lengths"] = (*stack, batch)
        return expected

    def check(self) -> None:
        """Raise ``ValueError`` unless all arguments fit together; values on other devices than the CPU are not read."""
        device = self.W.device
        shapes = self.shapes()
        for name, shape in shapes.items():
            tensor = getattr(self, name)
            if isinstance(tensor, int):
                continue
            if tensor.shape != shape:
                raise ValueError(
                    f"{name} must have shape {shape}, got {tuple(tensor.shape)}: the shapes of inputs, A and C "
                    "determine the others"
                )
            if tensor.device != device:
                raise ValueError(f"{name} must be on the device of W, {device}, got {tensor.device}: move one of them")
            if name in ("P", "lengths"):
                if tensor.dtype != torch.int64:
                    raise ValueError(f"{name} must be int64, got {tensor.dtype}: convert it, as in {name}.long()")
            elif tensor.dtype != self.W.dtype:
                raise TypeError(
                    f"{name} must have the dtype of W, {self.W.dtype}, got {tensor.dtype}: convert one of them"
                )
        *stack, _, time, channels = shapes["inputs"]
        units = shapes["W"][-1]
        for noun, size in (("network", min(stack, default=1)), ("step", time), ("channel", channels), ("unit", units)):
            if size < 1:
                raise ValueError(f"there must be at least one {noun}, got none: only the batch may be empty")
        check_range("P", self.P, units)
        if self.lengths is not None:
            check_range("lengths", self.lengths, time)


_LIMITS = {"P": "M={}, the number of units", "lengths": "{}, the number of steps"}


def check_range(name: str, values: int | Tensor, most: int) -> None:
    """Raise ``ValueError`` unless P or lengths lie between 0 and ``most``, if reading them does not halt a device."""
    least = greatest = values
    if isinstance(values, Tensor):
        values = debug_unwrap(values)  # under torch.func, the values of all networks
        traced = torch.compiler.is_compiling() or torch._C._len_torch_dispatch_stack() > 0
        if traced or type(values) is not Tensor or values.device.type != "cpu" or not values.numel():
            return
        least, greatest = (int(bound) for bound in values.aminmax())
    if least < 0 or greatest > most:
        got = least if least < 0 else greatest
        raise ValueError(f"{name} must lie between 0 and {_LIMITS[name].format(most)}, got {got}: correct it")


class Gradients(NamedTuple):
    """Gradients of one call; ``None`` if there is no such argument or its gradient is not needed."""

    inputs: Tensor | None
    state: Tensor | None
    A: Tensor
    W: Tensor
    C: Tensor | None
    h: Tensor


def fused_forward(arguments: Arguments) -> tuple[Tensor, Tensor]:
    """Return the states ``(E, B, T, M)``, zero after the end of a sequence, and the last states ``(E, B, M)``."""
    inputs, state, A, W, C, h, P, lengths = arguments
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
    arguments: Arguments,
    needs_inputs: bool = True,
    needs_state: bool = True,
) -> Gradients:
    """Return the gradients of :func:`fused_forward`, whose first result is ``states``."""
    inputs, state, A, W, C, _, P, lengths = arguments
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
    return Gradients(grad_inputs, carry if needs_state else None, grad_A, grad_W, grad_C, by_network.sum(1))


def _add_product(total: Tensor, states: Tensor, matrices: Tensor) -> None:
    """Add states · matrices to ``total`` in place. One network is not a batch, because that is slower."""
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
    """Return the floor of φ*(z) = max(z, floor): 0 for rectified units, −∞ for others, shape ``(E, 1, M)``."""
    size = A.shape[1]
    linear = torch.arange(size, device=A.device) < size - P.unsqueeze(1)
    return torch.zeros_like(A).masked_fill_(linear, -torch.inf).unsqueeze(1)


def _valid(lengths: Tensor | None, time: int) -> Tensor | None:
    """Return a mask of the valid steps, shape ``(T, E, B, 1)``."""
    if lengths is None:
        return None
    steps = torch.arange(time, device=lengths.device)
    return (steps.view(-1, 1, 1) < lengths).unsqueeze(-1)
