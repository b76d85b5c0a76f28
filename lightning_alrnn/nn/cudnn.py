r"""The recurrence as torch's own ReLU RNN, which cuDNN computes on CUDA devices in fused kernels.

A ReLU RNN has no linear units, but z = p − n + κ with p = relu(z − κ), n = relu(κ − z) for any κ. So 2M units carry
the states and P more, r = relu(z_N), the rectified ones of the nonlinear units N. With B = A + W with the columns of N
set to zero,

.. math:: z' = B (p - n) + W_N r + C s + h + B κ

and r, p and n follow from z' in the same step: their weights are those of z', once for N, once as they are and once
with the sign changed.

κ is not zero because a ReLU passes no gradient at its kink: with κ = 0 a unit that is exactly zero (all are, where
sequences start from zero and h is zero) would lose the gradient of its linear part. No state is κ for a reason,
but one that comes within rounding of it by chance does lose that step's gradient.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.utils.rnn import PackedSequence, pack_padded_sequence, pad_packed_sequence

KINK = 0.0123456789
"""κ: of the size of small states, so that z − κ rounds no worse than z, and no number that data come to exactly."""


def cudnn_forward(
    inputs: Tensor,
    z0: Tensor,
    a: Tensor,
    W: Tensor,
    C: Tensor | None,
    h: Tensor,
    P: int,
    lengths: Tensor | None = None,
) -> tuple[Tensor, Tensor]:
    """Run the recurrence; autograd differentiates it, once.

    Args:
        inputs: s_1 … s_T, shape ``(B, T, K)``; ``(B, T, M)`` where ``C`` is ``None``.
        z0: shape ``(B, M)``.
        a: diagonal, shape ``(M,)``.
        W: coupling, shape ``(M, M)``.
        C: input weights, shape ``(M, K)``, or ``None`` for the identity.
        h: bias, shape ``(M,)``.
        P: number of rectified units.
        lengths: valid steps of each sequence, 1 … T, shape ``(B,)``; ``None`` where all have T. They are needed on the
            CPU: those on another device are copied, which waits for it.

    Returns:
        z_1 … z_T, shape ``(B, T, M)``, zero past a sequence's length, and the state at each sequence's own last step,
        shape ``(B, M)``.
    """
    hidden, linear = len(a), len(a) - P

    def threefold(z: Tensor) -> Tensor:
        return torch.cat((z[linear:], z, -z))

    coupling = torch.diag(a) + torch.cat((W[:, :linear], W.new_zeros(hidden, P)), dim=1)  # B
    bias = h + KINK * coupling.sum(dim=1)
    kinks = threefold(torch.full_like(h, KINK))
    kinks[:P] = 0.0
    weights = (
        threefold(torch.eye(hidden, dtype=W.dtype, device=W.device) if C is None else C),
        threefold(torch.cat((W[:, linear:], coupling, -coupling), dim=1)),
        threefold(bias) - kinks,
        torch.zeros_like(kinks),
    )
    start = (torch.cat((z0[:, linear:], z0, -z0), dim=1) - kinks).relu().unsqueeze(0)

    def states_of(units: Tensor) -> Tensor:
        return units[..., P : P + hidden] - units[..., P + hidden :] + KINK

    options = (True, 1, 0.0, torch.is_grad_enabled(), False)  # biases, layers, dropout, train, bidirectional
    if lengths is None:
        units, last = torch.rnn_relu(inputs, start, weights, *options, True)
        return states_of(units), states_of(last[0])
    packed = pack_padded_sequence(inputs, lengths.cpu(), batch_first=True, enforce_sorted=False)
    order, back = packed.sorted_indices, packed.unsorted_indices
    data, last = torch.rnn_relu(packed.data, packed.batch_sizes, start[:, order], weights, *options)
    states = PackedSequence(states_of(data), packed.batch_sizes, order, back)
    return (
        pad_packed_sequence(states, batch_first=True, total_length=inputs.shape[1])[0],
        states_of(last[0])[back],
    )
