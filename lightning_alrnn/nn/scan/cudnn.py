r"""The recurrence as PyTorch's ReLU RNN, which cuDNN computes on CUDA devices in fused kernels.

A ReLU RNN has no linear units, but z = p − n + κ with p = relu(z − κ), n = relu(κ − z) for any κ. So 2M units carry
the states, and P units carry r = relu(z_N) of the nonlinear units N. With B = A + W with the columns of N set to zero,

.. math:: z' = B (p - n) + W_N r + C s + h + B κ

and r, p and n follow from z' in the same step.

κ is not zero because a ReLU passes no gradient at its kink: with κ = 0 a unit that is exactly zero, such as in a zero
initial state, would lose the gradient of its linear part. A state within rounding of κ loses the gradient of its step.

Sequences of several lengths are padded because packed ones would not run on cuDNN's fastest kernels. One more input
channel is 1 on padded steps and holds every unit at zero, so padding neither overflows nor passes a gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.batch import valid_steps
from lightning_alrnn.nn.recurrence import Recurrence

KINK = 0.0123456789
"""κ: as small as small states, so that z − κ rounds no worse than z, and no value that data have exactly."""

_SHUT = -1e30
"""Weight of the channel that marks padding, larger than any finite state."""


def cudnn_forward(
    recurrence: Recurrence, inputs: Tensor, state: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run one network with the shapes of :func:`eager_forward`; autograd differentiates it once."""
    A, W, _, h, _ = recurrence
    P = int(recurrence.P)
    hidden, linear = len(h), len(h) - P

    def threefold(z: Tensor) -> Tensor:
        return torch.cat((z[linear:], z, -z))

    coupling = torch.diag(A) + torch.cat((W[:, :linear], W.new_zeros(hidden, P)), dim=1)  # B
    bias = h + KINK * coupling.sum(dim=1)
    kinks = threefold(torch.full_like(h, KINK))
    kinks[:P] = 0.0
    input_weights = threefold(recurrence.input_weights)
    if lengths is not None:
        valid = valid_steps(lengths, inputs.shape[1]).unsqueeze(-1)
        inputs = torch.cat((torch.where(valid, inputs, 0.0), (~valid).to(inputs)), dim=-1)
        input_weights = functional.pad(input_weights, (0, 1), value=_SHUT)
    weights = (
        input_weights,
        threefold(torch.cat((W[:, linear:], coupling, -coupling), dim=1)),
        threefold(bias) - kinks,
        torch.zeros_like(kinks),
    )
    start = (torch.cat((state[:, linear:], state, -state), dim=1) - kinks).relu().unsqueeze(0)
    options = (True, 1, 0.0, torch.is_grad_enabled(), False)  # biases, layers, dropout, train, bidirectional
    units, final = torch.rnn_relu(inputs, start, weights, *options, True)

    def states_of(units: Tensor) -> Tensor:
        return units[..., P : P + hidden] - units[..., P + hidden :] + KINK

    states = states_of(units)
    if lengths is None:
        return states, states_of(final[0])
    last = states[torch.arange(len(states), device=states.device), lengths - 1]
    return torch.where(valid, states, 0.0), torch.where(lengths.unsqueeze(-1) > 0, last, state)
