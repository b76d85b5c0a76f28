"""What each nonlinear unit is worth: the task loss without its nonlinearity, and without it.

A unit that is linearised or silenced for good leaves another AL-RNN, which runs as fast as any. So all units are gone
through in a moment, in the network's own precision; :func:`~lightning_alrnn.analysis.interventions.intervene` takes the
same interventions, and others that come and go, in float64 and step by step.
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
        loss: task loss of the network as it is; NaN where nothing was counted.
        linearise: increase of it where a unit is made linear, float64 of shape ``(P,)``. Infinite where the network
            without it diverges.
        silence: increase where a unit is held at zero, of the same shape.
        accuracy: share of right predictions of the network as it is; NaN where predictions are not right or wrong.
        linearise_accuracy: what is lost of it, float64 of shape ``(P,)``.
        silence_accuracy: the same for silencing.
    """

    loss: float
    linearise: Tensor
    silence: Tensor
    accuracy: float
    linearise_accuracy: Tensor
    silence_accuracy: Tensor

    def important(self, share: float) -> Tensor:
        """Which units cost more than a share of the loss to linearise or to silence.

        Args:
            share: of ``loss``, at least 0.

        Returns:
            bool of shape ``(P,)``.
        """
        return torch.maximum(self.linearise, self.silence) > share * self.loss


@torch.no_grad()
def ablated_states(
    rnn: ALRNN, inputs: Tensor, intervention: Intervention | None = None, lengths: Tensor | None = None
) -> ScanOutput:
    """Run a network with units linearised or silenced throughout, by its own recurrence.

    Args:
        rnn: the network.
        inputs: s_1 … s_T, shape ``(batch, time, K)``.
        intervention: made by :func:`linearise` or :func:`silence`; ``None`` for the network as it is.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.

    Returns:
        States ``(batch, time, M)`` and those at each sequence's own last step ``(batch, M)``, as of the network itself.

    Raises:
        ValueError: if the intervention is of another kind, a unit is not one of 0 … P−1, or a shape does not fit.

    Example:
        >>> from lightning_alrnn.nn import ALRNN
        >>> rnn = ALRNN(input_size=1, hidden_size=1, nonlinear_units=1)
        >>> with torch.no_grad():
        ...     _ = rnn.A.zero_(), rnn.W.fill_(1.0), rnn.C.fill_(1.0), rnn.h.zero_()
        >>> inputs = torch.tensor([[[1.0], [-3.0], [0.5]]])
        >>> ablated_states(rnn, inputs).states.flatten().tolist()
        [1.0, -2.0, 0.5]
        >>> ablated_states(rnn, inputs, linearise(0)).states.flatten().tolist()
        [1.0, -2.0, -1.5]
        >>> ablated_states(rnn, inputs, silence(0)).last.tolist()
        [[0.0]]
    """
    rnn.check_inputs(inputs, None, lengths)
    kind, units = ("silence", ()) if intervention is None else (intervention.kind, intervention.units)
    if kind not in ("linearise", "silence"):
        raise ValueError(f"intervention must be linearise(…) or silence(…), which last throughout, got {kind!r}")
    recurrence = rnn.recurrence()
    known = recurrence._replace(P=rnn.nonlinear_units)  # to read P would wait for the device
    changed = known.silenced(units) if kind == "silence" else known.linearised(units)
    changed = changed._replace(P=recurrence.P - (0 if kind == "silence" else len(set(units))))
    with full_precision(inputs.device):
        changed = changed.to(torch.promote_types(rnn.W.dtype, torch.float32))
        dtype = changed.W.dtype
        start = rnn.start(len(inputs)).to(dtype)
        if kind == "silence":
            start = start * known.active(units)
            output = run_recurrence(changed, inputs.to(dtype), start, lengths, rnn.backend)
        else:
            order = known.linearised_order(units)
            output = run_recurrence(changed, inputs.to(dtype), start[:, order], lengths, rnn.backend)
            output = ScanOutput(*(values[..., order.argsort()] for values in output))
    return ScanOutput(*(values.to(rnn.W.dtype) for values in output))


def ablation_sums(
    rnn: ALRNN, inputs: Tensor, score: Callable[[ScanOutput], Tensor], lengths: Tensor | None = None
) -> Tensor:
    """Score a batch without each nonlinear unit. What comes out adds up over batches and processes.

    Args:
        rnn: the network.
        inputs: s_1 … s_T, shape ``(batch, time, K)``.
        score: given the states, four sums over the batch: of losses times weights, of weights, of right predictions,
            and of predictions that count.
        lengths: valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` where all are valid.

    Returns:
        float64 of shape ``(1 + 2 P, 4)``: the network as it is, each unit linearised, each unit silenced.
    """
    units = range(rnn.nonlinear_units)
    interventions: list[Intervention | None] = [None, *map(linearise, units), *map(silence, units)]
    return torch.stack([score(ablated_states(rnn, inputs, one, lengths)).double() for one in interventions])


def ablation_scores(sums: Tensor) -> AblationScores:
    """What each unit is worth, from the sums of all batches.

    Args:
        sums: as :func:`ablation_sums` gives them, float64 of shape ``(1+2P, 4)`` on the CPU.

    Example:
        Without the one unit, the mean loss of four predictions is 1 instead of 0.5, and it is of no use to silence it.

        >>> scores = ablation_scores(torch.tensor([[2.0, 4, 3, 4], [4.0, 4, 2, 4], [2.0, 4, 3, 4]]).double())
        >>> scores.loss, scores.linearise.tolist(), scores.silence.tolist(), scores.linearise_accuracy.tolist()
        (0.5, [0.5], [0.0], [0.25])
        >>> scores.important(share=0.1).tolist()
        [True]
    """
    loss, accuracy = sums[:, 0] / sums[:, 1], sums[:, 2] / sums[:, 3]
    change = loss[1:] - loss[0]
    if math.isfinite(float(loss[0])):
        change = change.nan_to_num(nan=math.inf, posinf=math.inf)
    linear, silent = change.chunk(2) if len(change) else (change, change)
    lost = accuracy[0] - accuracy[1:]
    linear_lost, silent_lost = lost.chunk(2) if len(lost) else (lost, lost)
    return AblationScores(float(loss[0]), linear, silent, float(accuracy[0]), linear_lost, silent_lost)
