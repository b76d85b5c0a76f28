"""Manifold-attractor regularisation."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.nn.alrnn import ALRNN


def manifold_attractor_penalty(rnn: ALRNN, units: int) -> Tensor:
    r"""Compute how far the first M_reg units are from keeping their values forever.

    .. math:: \sum_{i<M_{reg}} \Big[(A_{ii} + W_{ii} - 1)^2 + \sum_{j \ne i} W_{ij}^2 + h_i^2\Big]

    The penalty is 0 if each of these units is a perfect integrator of its input. A_ii is 0 for units without an entry
    in A. See Schmidt et al., ICLR 2021 (arXiv:1910.03471).

    Args:
        rnn: AL-RNN layer.
        units: Number M_reg of the first units that are regularised, 0 ≤ M_reg ≤ M.

    Returns:
        Penalty, a scalar.

    Raises:
        ValueError: If ``units`` is not within 0 … M.
    """
    if not 0 <= units <= rnn.hidden_size:
        raise ValueError(f"units must lie between 0 and hidden_size (M={rnn.hidden_size}), got {units}")
    # Σ_j (A + W − I)_ij² over the first rows; the off-diagonal of A and I is zero
    self_deviation = torch.diag(rnn.diagonal()[:units] - 1.0)
    deviation = rnn.W[:units] + functional.pad(self_deviation, (0, rnn.hidden_size - units))
    return deviation.square().sum() + rnn.h[:units].square().sum()
