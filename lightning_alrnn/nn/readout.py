"""Readout of states."""

from __future__ import annotations

from torch import nn


class LinearReadout(nn.Linear):
    """Linear readout y = D z + b, with D drawn from 0.1·N(0,1) and b = 0 as in the reference code.

    Args:
        hidden_size: Width M of the states.
        output_size: Number of outputs or classes.
    """

    def __init__(self, hidden_size: int, output_size: int) -> None:
        super().__init__(hidden_size, output_size)

    def reset_parameters(self) -> None:
        nn.init.normal_(self.weight, std=0.1)
        nn.init.zeros_(self.bias)
