"""The recurrence as a loop in PyTorch, against which the other backends are tested."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_alrnn.batch import valid_steps
from lightning_alrnn.nn.recurrence import Recurrence


def eager_forward(
    recurrence: Recurrence, inputs: Tensor, state: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run one network on ``inputs`` ``(B, T, K)`` from ``state`` ``(B, M)``; return states and last states."""
    valid = None
    if lengths is not None:
        valid = valid_steps(lengths, inputs.shape[1])
        inputs = torch.where(valid.unsqueeze(-1), inputs, 0.0)  # padding may hold anything, NaN too
    step, states, z = recurrence.stepper(), [], state
    for t, s in enumerate(inputs.unbind(1)):
        # the drive is computed step by step, so that a sequence in chunks gives the same bits as the whole sequence
        following = step(z, recurrence.drive(s.contiguous()))
        if valid is None:
            z = following
            states.append(z)
        else:
            z = torch.where(valid[:, t, None], following, z)
            states.append(torch.where(valid[:, t, None], z, 0.0))
    return torch.stack(states, dim=1), z
