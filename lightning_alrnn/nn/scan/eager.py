"""The recurrence as a plain loop in PyTorch: any device and floating dtype, differentiable twice and in forward mode.

The other backends are tested against it.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_alrnn.nn.recurrence import Recurrence


def eager_forward(
    recurrence: Recurrence, inputs: Tensor, state: Tensor, lengths: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Run one network.

    ``inputs`` s_1 … s_T have shape ``(B, T, K)``, or ``(B, T, M)`` where C is ``None``; ``state`` z_0 has ``(B, M)``.
    Returned are z_1 … z_T, shape ``(B, T, M)``, zero past a sequence's length, and the state at each sequence's own
    last step, shape ``(B, M)``.
    """
    valid = None
    if lengths is not None:
        valid = torch.arange(inputs.shape[1], device=inputs.device) < lengths.unsqueeze(-1)
        inputs = torch.where(valid.unsqueeze(-1), inputs, 0.0)  # padding may hold anything, NaN too
    step, states, z = recurrence.stepper(), [], state
    for t, s in enumerate(inputs.unbind(1)):
        # the input term is computed step by step (not in one product before the loop) so that a sequence run in
        # chunks gives the same bits as the sequence run whole
        following = step(z, recurrence.drive(s.contiguous()))
        if valid is None:
            z = following
            states.append(z)
        else:
            z = torch.where(valid[:, t, None], following, z)
            states.append(torch.where(valid[:, t, None], z, 0.0))
    return torch.stack(states, dim=1), z
