"""All four primitives of a network, in one call."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.analysis.primitives.gates import Gating, gating
from lightning_alrnn.analysis.primitives.integrals import Integration, integration
from lightning_alrnn.analysis.primitives.routes import Routing, routing
from lightning_alrnn.analysis.primitives.transient_memory import Transients, transients
from lightning_alrnn.analysis.primitives.trials import ALPHA, DRAWS, agreement, read_trials
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.recurrence import Recurrence

_MOST_DIRECTIONS = 3
_LEAST_DIRECTION = 0.1


class Primitives(NamedTuple):
    """Computational primitives of a network.

    Attributes:
        agreement: Share of the targets' variance that the outputs explain, linearly and held out.
        directions: Directions of the outputs that are analysed, float64 of shape ``(n, outputs)``: at most three, in
            which the outputs vary at least a tenth as much as in the first.
        gating: Whether one input determines the gain of another one.
        integration: Whether the answer is a sum over time that slow modes hold.
        routing: Whether the gain or the path of an input depends on the condition.
        transients: Whether the answer depends on states that the present input would not hold.
    """

    agreement: float
    directions: Tensor
    gating: Gating
    integration: Integration
    routing: Routing
    transients: Transients


def find_primitives(
    rnn: ALRNN | Recurrence,
    inputs: Tensor,
    states: Tensor,
    readout_weight: Tensor,
    targets: Tensor,
    lengths: Tensor | None = None,
    group: Tensor | None = None,
    *,
    draws: int = DRAWS,
    alpha: float = ALPHA,
    seed: int = 0,
) -> Primitives:
    """Test a network for gating, integration, rule-dependent routing and memory-dependent transients.

    Args:
        rnn: Network or its parameters.
        inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``.
        states: States z_1 … z_T, shape ``(batch, time, M)``.
        readout_weight: Matrix D of the outputs y = D z_T + b, shape ``(outputs, M)``.
        targets: Targets of the last step: classes, int64 of shape ``(batch,)``, or values ``(batch, outputs)``.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.
        group: Condition of each sequence, int64 of shape ``(batch,)``, negative for none; ``None`` without conditions.
        draws: Number of chance draws.
        alpha: Significance level of each test.
        seed: Seed of the draws.

    Raises:
        ValueError: If a parameter or a state is not finite or a shape does not fit.

    Example:
        >>> inputs = torch.randn(100, 12, 1, generator=torch.Generator().manual_seed(0))
        >>> rnn = Recurrence(torch.zeros(1), torch.ones(1, 1), torch.ones(1, 1), torch.zeros(1), P=0)
        >>> states = inputs.cumsum(dim=1)
        >>> primitives = find_primitives(rnn, inputs, states, torch.ones(1, 1), states[:, -1])
        >>> primitives.integration.found, primitives.gating.found
        (True, None)
    """
    z, weight = states.detach().cpu().double(), readout_weight.detach().cpu().double()
    weight = class_contrasts(weight, targets, dim=0)
    last = torch.full((len(z),), z.shape[1]) if lengths is None else lengths.cpu()
    outputs = z[torch.arange(len(z)), last - 1] @ weight.T
    directions = leading_outputs(outputs)[:_MOST_DIRECTIONS]
    explained = agreement(outputs, targets)
    trials = [read_trials(rnn, inputs, z, row, last, explained) for row in directions @ weight]
    group = None if group is None else group.cpu()
    return Primitives(
        agreement=explained,
        directions=directions,
        gating=gating(trials, draws=draws, alpha=alpha, seed=seed),
        integration=integration(trials, group, draws=draws, alpha=alpha, seed=seed),
        routing=routing(trials, group, draws=draws, alpha=alpha, seed=seed),
        transients=transients(trials[0], weight, targets, draws=draws, alpha=alpha, seed=seed),
    )


def class_contrasts(outputs: Tensor, targets: Tensor, dim: int = -1) -> Tensor:
    """Subtract the mean over the classes from outputs, on which no probability depends.

    Args:
        outputs: Outputs, shape ``(…, outputs)``, or the matrix D that gives them, ``(outputs, M)`` with ``dim=0``.
        targets: Classes, int64 of shape ``(batch,)``. Nothing is subtracted for values in floating point, or if there
            is not an output for each class.
        dim: Dimension of the outputs.

    Returns:
        The differences, of the shape of ``outputs``.

    Example:
        >>> class_contrasts(torch.tensor([3.0, 1.0]), torch.tensor([0])).tolist()
        [1.0, -1.0]
    """
    if targets.is_floating_point() or outputs.shape[dim] <= int(targets.max()):
        return outputs
    return outputs - outputs.mean(dim=dim, keepdim=True)


def leading_outputs(outputs: Tensor) -> Tensor:
    """Find the directions in which outputs vary most.

    Args:
        outputs: Outputs, shape ``(…, outputs)``.

    Returns:
        Unit vectors, float64 of shape ``(n, outputs)``, along which they vary at least a tenth as much as the first.

    Example:
        >>> leading_outputs(torch.tensor([[1.0, 0.0], [-1.0, 0.0]])).tolist()
        [[1.0, 0.0]]
    """
    values = outputs.detach().cpu().double().reshape(-1, outputs.shape[-1])
    _, sizes, directions = torch.linalg.svd(values - values.mean(dim=0), full_matrices=False)
    large = sizes >= _LEAST_DIRECTION * sizes[0]
    large[0] = True
    directions = directions[large]
    largest = directions.gather(1, directions.abs().argmax(dim=1, keepdim=True))
    signed: Tensor = directions * torch.where(largest > 0, 1.0, -1.0)
    return signed
