"""The recurrence as two persistent GPU kernels in Triton, forward and backward, for float32 without autograd.

A program runs all steps of 16 sequences of one network, so E networks with batches of B are E·⌈B/16⌉ programs of one
launch. W and the states of the 16 sequences stay on the chip. Large matrix products before and after the kernels
compute the drive C s + h and the gradients of W, C and the inputs. Products are those of float32, not of TF32, and
nothing is added atomically: the same launch gives the same bits.

In Triton's interpreter (``TRITON_INTERPRET=1`` before the first import of Triton) the same code runs on a CPU, slowly.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from lightning_alrnn.batch import valid_steps
from lightning_alrnn.nn.scan.fused import Arguments, Gradients

ROWS = 16
"""Number of sequences of a program, the fewest that Triton's matrix product takes."""

WARPS = {16: 4, 32: 4, 64: 4, 128: 8}
"""Number of warps of a program by the width of its block, chosen so that almost no register is spilled."""


@triton.jit(do_not_specialize=["batch", "time", "tiles"])
def forward_kernel(
    states,  # holds the drive, and then z_1 … z_T
    start,
    A,
    W,
    P,
    lengths,
    last,
    batch,
    time,
    tiles,
    UNITS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    PADDED: tl.constexpr,
):
    """Run 16 sequences of a network over all steps."""
    network = (tl.program_id(0) // tiles).to(tl.int64)
    first = (tl.program_id(0) % tiles) * ROWS
    row = tl.arange(0, ROWS)
    unit = tl.arange(0, BLOCK)
    inside = unit < UNITS
    mask = (first + row < batch)[:, None] & inside[None, :]
    sequence = network * batch + first  # the first of this program among those of all networks
    small = row[:, None] * UNITS + unit[None, :]
    large = row[:, None].to(tl.int64) * time * UNITS + unit[None, :]
    steps = tl.full((ROWS, 1), 0, tl.int32) + time  # the interpreter cannot combine a mask with a scalar condition

    W += network * UNITS * UNITS
    transposed = tl.load(W + unit[None, :] * UNITS + unit[:, None], mask=inside[:, None] & inside[None, :], other=0.0)
    diagonal = tl.load(A + network * UNITS + unit, mask=inside, other=0.0)[None, :]
    rectified = (unit >= UNITS - tl.load(P + network))[None, :]
    if PADDED:
        length = tl.load(lengths + sequence + row, mask=first + row < batch, other=0)[:, None]
    z = tl.load(start + sequence * UNITS + small, mask=mask, other=0.0)
    step = states + sequence * time * UNITS
    drive = tl.load(step + large, mask=mask & (steps > 0), other=0.0)
    for t in range(time):
        # read one step ahead, or each step would wait for the memory
        next_drive = tl.load(step + UNITS + large, mask=mask & (steps > t + 1), other=0.0)
        phi = tl.where(rectified & (z < 0), 0.0, z)
        following = tl.dot(phi, transposed, acc=diagonal * z + drive, input_precision="ieee")
        if PADDED:
            z = tl.where(t < length, following, z)
            following = tl.where(t < length, following, 0.0)
        else:
            z = following
        tl.store(step + large, following, mask=mask)
        step += UNITS
        drive = next_drive
    tl.store(last + sequence * UNITS + small, z, mask=mask)


@triton.jit(do_not_specialize=["batch", "time", "tiles"])
def backward_kernel(
    grad_states,
    grad_last,
    states,
    start,
    A,
    W,
    P,
    lengths,
    grads,  # gets the gradients of the sums A z + W φ*(z) + C s + h
    phis,  # gets φ*(z_0) … φ*(z_{T-1})
    grad_start,
    totals,  # gets the sums of grads · z, and of grads, over the program's sequences and steps
    batch,
    time,
    tiles,
    UNITS: tl.constexpr,
    BLOCK: tl.constexpr,
    ROWS: tl.constexpr,
    PADDED: tl.constexpr,
    FROM_STATES: tl.constexpr,
    FROM_LAST: tl.constexpr,
):
    """Go back over all steps of 16 sequences of a network."""
    network = (tl.program_id(0) // tiles).to(tl.int64)
    first = (tl.program_id(0) % tiles) * ROWS
    row = tl.arange(0, ROWS)
    unit = tl.arange(0, BLOCK)
    inside = unit < UNITS
    mask = (first + row < batch)[:, None] & inside[None, :]
    sequence = network * batch + first
    small = row[:, None] * UNITS + unit[None, :]
    large = row[:, None].to(tl.int64) * time * UNITS + unit[None, :]
    steps = tl.full((ROWS, 1), 0, tl.int32) + time  # the interpreter cannot combine a mask with a scalar condition

    W += network * UNITS * UNITS
    coupling = tl.load(W + unit[:, None] * UNITS + unit[None, :], mask=inside[:, None] & inside[None, :], other=0.0)
    diagonal = tl.load(A + network * UNITS + unit, mask=inside, other=0.0)[None, :]
    rectified = (unit >= UNITS - tl.load(P + network))[None, :]
    if PADDED:
        length = tl.load(lengths + sequence + row, mask=first + row < batch, other=0)[:, None]
    carry = tl.zeros((ROWS, BLOCK), tl.float32)
    if FROM_LAST:
        carry = tl.load(grad_last + sequence * UNITS + small, mask=mask, other=0.0)
    total_A = tl.zeros((ROWS, BLOCK), tl.float32)
    total_h = tl.zeros((ROWS, BLOCK), tl.float32)
    z_0 = tl.load(start + sequence * UNITS + small, mask=mask, other=0.0)
    step = (sequence * time + time - 1) * UNITS
    previous = tl.load(states + step - UNITS + large, mask=mask & (steps > 1), other=0.0)
    if FROM_STATES:
        grad_state = tl.load(grad_states + step + large, mask=mask & (steps > 0), other=0.0)
    for back in range(time):
        t = time - 1 - back
        before = tl.load(states + step - 2 * UNITS + large, mask=mask & (steps > back + 2), other=0.0)
        z = tl.where(steps > back + 1, previous, z_0)
        grad = carry
        if FROM_STATES:
            grad += grad_state
            grad_state = tl.load(grad_states + step - UNITS + large, mask=mask & (steps > back + 1), other=0.0)
        if PADDED:
            held = tl.where(t < length, 0.0, carry)
            grad = tl.where(t < length, grad, 0.0)
        through = tl.dot(grad, coupling, input_precision="ieee")
        tl.store(grads + step + large, grad, mask=mask)
        tl.store(phis + step + large, tl.where(rectified & (z < 0), 0.0, z), mask=mask)
        total_A += grad * z
        total_h += grad
        carry = diagonal * grad + tl.where(rectified & (z <= 0), 0.0, through)
        if PADDED:
            carry += held
        previous = before
        step -= UNITS
    tl.store(grad_start + sequence * UNITS + small, carry, mask=mask)
    program = tl.program_id(0).to(tl.int64)
    tl.store(totals + program * UNITS + unit, tl.sum(total_A, axis=0), mask=inside)
    tl.store(totals + (tl.num_programs(0) + program) * UNITS + unit, tl.sum(total_h, axis=0), mask=inside)


def triton_forward(arguments: Arguments) -> tuple[Tensor, Tensor]:
    """Return states and last states as :func:`fused_forward` does, but contiguous and for at most 128 units."""
    inputs, state, A, W, C, h, P, lengths = arguments
    networks, batch, time, _ = inputs.shape
    states = inputs.new_empty(networks, batch, time, A.shape[1])
    if C is None:
        torch.add(inputs, h[:, None, None], out=states)
    elif networks == 1:  # a batch of one product would copy the bias to all rows first
        torch.addmm(h[0], inputs[0].flatten(0, 1), C[0].T, out=states.view(-1, A.shape[1]))
    else:
        torch.baddbmm(h.unsqueeze(1), inputs.flatten(1, 2), C.mT, out=states.view(networks, -1, A.shape[1]))
    last = torch.empty_like(state, memory_format=torch.contiguous_format)
    _launch(forward_kernel, (states, state, A, W, P, lengths, last), states, lengths)
    return states, last


def triton_backward(
    grad_states: Tensor | None,
    grad_last: Tensor | None,
    states: Tensor,
    arguments: Arguments,
    needs_inputs: bool = True,
    needs_state: bool = True,
) -> Gradients:
    """Return the gradients of :func:`triton_forward`; the same launch on the same device gives the same bits."""
    inputs, state, A, W, C, _, P, lengths = arguments
    networks, batch, time, units = states.shape
    states = states.contiguous()
    grads, phis = torch.empty_like(states), torch.empty_like(states)
    grad_state = torch.empty_like(state, memory_format=torch.contiguous_format)
    totals = states.new_empty(2, networks, -(-batch // ROWS), units)
    _launch(
        backward_kernel,
        (grad_states, grad_last, states, state, A, W, P, lengths, grads, phis, grad_state, totals),
        states,
        lengths,
        FROM_STATES=grad_states is not None,
        FROM_LAST=grad_last is not None,
    )
    flat = grads.flatten(1, 2)
    grad_inputs = grad_C = None
    if needs_inputs:
        grad_inputs = grads if C is None else (flat @ C).view(inputs.shape)
    if C is not None:
        if lengths is not None:  # padding may hold anything, NaN too
            inputs = torch.where(valid_steps(lengths, time).unsqueeze(-1), inputs, 0.0)
        grad_C = flat.mT @ inputs.flatten(1, 2)
    return Gradients(
        inputs=grad_inputs,
        state=grad_state if needs_state else None,
        A=totals[0].sum(dim=1),
        W=flat.mT @ phis.flatten(1, 2),
        C=grad_C,
        h=totals[1].sum(dim=1),
    )


def _launch(
    kernel: Any, arguments: tuple[Tensor | None, ...], states: Tensor, lengths: Tensor | None, **flags: bool
) -> None:
    """Run a kernel on the device of the states with one program for 16 sequences of a network."""
    networks, batch, time, units = states.shape
    tiles = -(-batch // ROWS)
    if networks * tiles == 0:
        return
    block = max(16, triton.next_power_of_2(units))
    with torch.cuda.device_of(states):  # type: ignore[no-untyped-call]
        kernel[(networks * tiles,)](
            *(None if tensor is None else tensor.contiguous() for tensor in arguments),
            batch,
            time,
            tiles,
            UNITS=units,
            BLOCK=block,
            ROWS=ROWS,
            PADDED=lengths is not None,
            num_warps=WARPS[block],
            enable_fp_fusion=True,
            **flags,
        )
