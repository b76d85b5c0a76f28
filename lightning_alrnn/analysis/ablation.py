"""The task loss after the nonlinearity of a unit, or the whole unit, is removed.

Each run is as fast as the network itself and in its own precision.
:func:`~lightning_alrnn.analysis.interventions.intervene` also takes temporary interventions, in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.analysis.interventions import Intervention, linearise, silence
from lightning_alrnn.nn.alrnn import ALRNN, full_precision
from lightning_alrnn.nn.scan import ScanOutput, run_recurrence


class AblationScores(NamedTuple):
    """Scores without each nonlinear unit.

    Attributes:
        loss: Task loss of the intact network; NaN if nothing was counted.
        linearise: Increase of the loss if a unit is made linear, float64 of shape ``(P,)``; infinite if it diverges.
        silence: Increase of the loss if a unit is held at zero, of the same shape.
        accuracy: Share of right predictions of the intact network; NaN if predictions cannot be right or wrong.
        linearise_accuracy: Decrease of the accuracy if a unit is made linear, float64 of shape ``(P,)``.
        silence_accuracy: Decrease of the accuracy if a unit is held at zero, of the same shape.
    """

    loss: float
    linearise: Tensor
    silence: Tensor
    accuracy: float
    linearise_accuracy: Tensor
    silence_accuracy: Tensor

    def important(self, share: float) -> Tensor:
        """Select the units that cost more than a share of the loss to linearise or to silence.

        Args:
            share: Share of ``loss``, at least 0.

        Returns:
            bool of shape ``(P,)``.
        """
        return torch.maximum(self.linearise, self.silence) > share * self.loss


@torch.no_grad()
def ablated_states(
    rnn: ALRNN, inputs: Tensor, intervention: Intervention | None = None, lengths: Tensor | None = None
) -> ScanOutput:
    """Run a network with some units linearised or silenced throughout.

    Args:
        rnn: Network.
        inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``.
        intervention: Result of :func:`linearise` or :func:`silence`; ``None`` for the intact network.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

    Returns:
        States ``(batch, time, M)`` and the state at the last valid step of each sequence ``(batch, M)``.

    Raises:
        ValueError: If the intervention is of another kind, a unit is not one of 0 … P−1, or a shape does not fit.

    Example:
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.zero_(), rnn.W.fill_(1.0), rnn.C.fill_(1.0), rnn.h.zero_()
        >>> ablated_states(rnn, torch.tensor([[[1.0], [-3.0], [0.5]]]), linearise(0)).states.flatten().tolist()
        [1.0, -2.0, -1.5]
    """
    rnn.check_inputs(inputs, None, lengths)
    kind, units = ("silence", ()) if intervention is None else (intervention.kind, intervention.units)
    if kind not in ("linearise", "silence"):
        raise ValueError(f"intervention must be linearise(…) or silence(…), which last throughout, got {kind!r}")
    recurrence = rnn.recurrence()
    sized = recurrence._replace(P=rnn.nonlinear_units)  # to read P would wait for the device
    changed = sized.silenced(units) if kind == "silence" else sized.linearised(units)
    changed = changed._replace(P=recurrence.P - (0 if kind == "silence" else len(set(units))))
    order = None if kind == "silence" else sized.linearised_order(units)
    with full_precision(inputs.device):
        dtype = torch.promote_types(rnn.W.dtype, torch.float32)
        start = rnn.start(len(inputs)).to(dtype)
        start = start * sized.active(units) if order is None else start[:, order]
        output = run_recurrence(changed.to(dtype), inputs.to(dtype), start, lengths, rnn.backend)
        if order is not None:
            output = ScanOutput(*(values[..., order.argsort()] for values in output))
    return ScanOutput(*(values.to(rnn.W.dtype) for values in output))


def ablation_sums(
    rnn: ALRNN, inputs: Tensor, score: Callable[[ScanOutput], Tensor], lengths: Tensor | None = None
) -> Tensor:
    """Score a batch without each nonlinear unit. The results add up over batches and processes.

    Args:
        rnn: Network.
        inputs: Inputs s_1 … s_T, shape ``(batch, time, K)``.
        score: Function of the states that returns four sums over the batch: of losses times weights, of weights, of
            right predictions, and of all predictions.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

    Returns:
        float64 of shape ``(1 + 2 P, 4)``: the intact network, each unit linearised, each unit silenced.
    """
    units = range(rnn.nonlinear_units)
    interventions: list[Intervention | None] = [None, *map(linearise, units), *map(silence, units)]
    return torch.stack([score(ablated_states(rnn, inputs, one, lengths)).double() for one in interventions])


def ablation_scores(sums: Tensor) -> AblationScores:
    """Compute the scores of each unit from the sums over all batches.

    Args:
        sums: Sums by :func:`ablation_sums`, float64 of shape ``(1 + 2 P, 4)`` on the CPU.

    Example:
        >>> scores = ablation_scores(torch.tensor([[2.0, 4, 3, 4], [4.0, 4, 2, 4], [2.0, 4, 3, 4]]).double())
        >>> scores.loss, scores.linearise.tolist(), scores.silence.tolist(), scores.linearise_accuracy.tolist()
        (0.5, [0.5], [0.0], [0.25])
    """
    loss, accuracy = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]
    increase, decrease = loss[1:] - loss[0], accuracy[0] - accuracy[1:]
    if math.isfinite(float(loss[0])):
        increase = increase.nan_to_num(nan=math.inf, posinf=math.inf)
    units = len(increase) // 2
    return AblationScores(
        loss=float(loss[0]),
        linearise=increase[:units],
        silence=increase[units:],
        accuracy=float(accuracy[0]),
        linearise_accuracy=decrease[:units],
        silence_accuracy=decrease[units:],
    )
