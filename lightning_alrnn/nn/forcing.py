"""Generalised teacher forcing."""

from __future__ import annotations

import torch
from torch import Tensor

from lightning_alrnn.batch import valid_steps
from lightning_alrnn.errors import check_at_least
from lightning_alrnn.nn.alrnn import ALRNN, full_precision
from lightning_alrnn.nn.scan import ScanOutput, run_recurrence


def generalized_teacher_forcing(
    rnn: ALRNN,
    inputs: Tensor,
    targets: Tensor,
    *,
    alpha: float,
    interval: int = 1,
    state: Tensor | None = None,
    lengths: Tensor | None = None,
) -> ScanOutput:
    r"""Run an AL-RNN whose state is moved towards a target state at every ``interval``-th step.

    .. math::
        z_t = F(\tilde z_{t-1}, s_t), \qquad
        \tilde z_t = (1 - α) z_t + α \hat z_t \text{ if } t \text{ is a multiple of the interval, else } z_t

    F is one step of the recurrence and z̃_0 = z_0. The function returns z, the states before they are moved, so z_t
    depends only on the targets ẑ of earlier steps. See Hess et al., ICML 2023 (arXiv:2306.04406).

    Args:
        rnn: AL-RNN layer.
        inputs: Inputs s_1 … s_T of the layer, shape ``(batch, time, K)``.
        targets: Target states ẑ_1 … ẑ_T, shape ``(batch, time, M)``.
        alpha: Strength α of the forcing, from 0 to 1.
        interval: Number of steps from one forced state to the next, at least 1.
        state: Initial state z_0, shape ``(batch, M)``; ``None`` uses ``initial_state`` of the layer.
        lengths: Number of valid steps, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

    Raises:
        ValueError: If α or the interval is out of range, or a shape does not fit.
        TypeError: If inputs and parameters differ in dtype.

    Example:
        >>> rnn = ALRNN(input_size=2, hidden_size=4, nonlinear_units=1)
        >>> inputs, targets = torch.randn(3, 10, 2), torch.randn(3, 10, 4)
        >>> generalized_teacher_forcing(rnn, inputs, targets, alpha=0.3, interval=5).states.shape
        torch.Size([3, 10, 4])
    """
    if not 0 <= alpha <= 1:
        raise ValueError(f"alpha must lie between 0 (free running) and 1, got {alpha}")
    check_at_least(1, interval=interval)
    rnn.check_inputs(inputs, state, lengths)
    batch, time = inputs.shape[:2]
    if targets.shape != (batch, time, rnn.hidden_size):
        raise ValueError(
            f"targets must have shape (batch, time, hidden_size) = {(batch, time, rnn.hidden_size)}, "
            f"got {tuple(targets.shape)}"
        )
    if alpha == 0 or interval >= time:  # nothing follows z_T
        return rnn(inputs, state, lengths)  # type: ignore[no-any-return]

    # the recurrence runs at least in float32, as in ALRNN.forward
    with full_precision(inputs.device):
        recurrence = rnn.recurrence().to(torch.promote_types(rnn.W.dtype, torch.float32))
        dtype = recurrence.W.dtype
        inputs, targets = inputs.to(dtype), targets.to(dtype)
        drive = recurrence.drive(inputs)
        start = (rnn.start(batch) if state is None else state).to(dtype)
        driven = recurrence._replace(C=None, h=torch.zeros_like(recurrence.h))  # takes the drive as inputs
        if lengths is not None:
            lengths = lengths.to(inputs.device)
        if interval == 1:
            # z̃ follows an AL-RNN with (1−α)A, (1−α)W and the drive (1−α)(C s + h) + α ẑ
            keep = 1 - alpha
            forced = run_recurrence(
                driven._replace(A=keep * driven.A, W=keep * driven.W),
                torch.lerp(drive[:, :-1], targets[:, :-1], alpha),
                start,
                None if lengths is None else (lengths - 1).clamp(min=1),
                rnn.backend,
            ).states
            before = torch.cat((start.unsqueeze(1), forced), dim=1)
            states = recurrence.advance(before, drive)
        else:
            parts = []
            for first in range(0, time, interval):
                part = run_recurrence(
                    driven,
                    drive[:, first : first + interval],
                    start,
                    # at least 1, which every backend takes; states after the end of a sequence are dropped below
                    None if lengths is None else (lengths - first).clamp(1, min(interval, time - first)),
                    rnn.backend,
                ).states
                parts.append(part)
                start = torch.lerp(part[:, -1], targets[:, first + part.shape[1] - 1], alpha)
            states = torch.cat(parts, dim=1)
        if lengths is None:
            last = states[:, -1]
        else:
            last = states[torch.arange(batch, device=states.device), lengths - 1]
            states = torch.where(valid_steps(lengths, time).unsqueeze(-1), states, 0.0)
        return ScanOutput(states.to(rnn.W.dtype), last.to(rnn.W.dtype))
