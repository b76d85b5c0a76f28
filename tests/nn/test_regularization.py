"""Manifold-attractor regularisation against its formula."""

from __future__ import annotations

import pytest
import torch

from lightning_alrnn.nn import ALRNN, manifold_attractor_penalty


@torch.no_grad()
@pytest.mark.parametrize("self_connections", ["nonlinear", "all"])
@pytest.mark.parametrize("nonlinear", [0, 2, 5])
@pytest.mark.parametrize("units", [0, 1, 3, 5])
def test_penalty_equals_its_formula(units: int, nonlinear: int, self_connections: str) -> None:
    rnn = ALRNN(2, 5, nonlinear, self_connections=self_connections).double()  # type: ignore[arg-type]
    A = [0.0] * (5 - len(rnn.A)) + rnn.A.normal_().tolist()
    W, h = rnn.W.normal_().tolist(), rnn.h.normal_().tolist()
    expected = 0.0
    for i in range(units):
        expected += (A[i] + W[i][i] - 1) ** 2 + h[i] ** 2 + sum(W[i][j] ** 2 for j in range(5) if j != i)
    assert float(manifold_attractor_penalty(rnn, units)) == pytest.approx(expected, abs=1e-12)


def test_units_out_of_range() -> None:
    with pytest.raises(ValueError, match=r"units must lie between 0 and hidden_size \(M=4\), got 5"):
        manifold_attractor_penalty(ALRNN(2, 4, 1), 5)
