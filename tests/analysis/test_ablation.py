"""Ablated networks, against the same interventions step by step in float64."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from lightning_alrnn.analysis import clamp_regime, intervene, linearise, silence
from lightning_alrnn.analysis.ablation import ablated_states, ablation_scores, ablation_sums
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.nn.scan import ScanOutput


def network(hidden: int, nonlinear: int, **options: Any) -> ALRNN:
    torch.manual_seed(0)
    rnn = ALRNN(options.pop("input_size", 2), hidden, nonlinear, **options).eval()
    for value in rnn.state_dict().values():
        value.normal_(std=0.4)
    return rnn


@pytest.mark.parametrize(
    ("hidden", "nonlinear", "options"),
    [
        (6, 3, {}),
        (4, 4, {"initial_state": "learned"}),
        (1, 1, {}),
        (5, 0, {}),
        (7, 3, {"self_connections": "all", "initial_state": "uniform"}),
        (6, 4, {"input_size": None}),
    ],
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_states_equal_the_interventions(hidden: int, nonlinear: int, options: Any, dtype: torch.dtype) -> None:
    rnn = network(hidden, nonlinear, **options).to(dtype)
    inputs = torch.randn(3, 5, 2 if "input_size" not in options else hidden, dtype=dtype)
    lengths = torch.tensor([5, 1, 3])
    interventions: list[Any] = [None, *map(linearise, range(nonlinear)), *map(silence, range(nonlinear))]
    if nonlinear > 2:
        interventions += [linearise(0, 2), silence(1, 2), linearise(*range(nonlinear))]
    for intervention in interventions:
        found = ablated_states(rnn, inputs, intervention, lengths)
        expected = intervene(rnn, inputs, intervention, lengths=lengths).states
        torch.testing.assert_close(found.states.double(), expected, rtol=1e-5, atol=1e-5)
        torch.testing.assert_close(found.last.double(), expected[torch.arange(3), lengths - 1], rtol=1e-5, atol=1e-5)
        assert found.states.dtype == dtype


def test_sums_of_all_units_add_up_over_batches() -> None:
    rnn, inputs = network(5, 3), torch.randn(6, 4, 2)

    def score(run: ScanOutput) -> Tensor:
        loss = run.last.square().mean(dim=1)
        return torch.stack([loss.sum(), loss.new_tensor(len(loss)), (loss < 0.5).sum(), loss.new_tensor(len(loss))])

    sums = ablation_sums(rnn, inputs, score)
    assert sums.shape == (7, 4)
    torch.testing.assert_close(sums, ablation_sums(rnn, inputs[:4], score) + ablation_sums(rnn, inputs[4:], score))
    scores = ablation_scores(sums)
    for unit in range(3):
        for kind in (linearise, silence):
            loss = intervene(rnn, inputs, kind(unit)).states[:, -1].square().mean(dim=1)
            increase, decrease = getattr(scores, kind.__name__), getattr(scores, f"{kind.__name__}_accuracy")
            assert float(increase[unit]) == pytest.approx(float(loss.mean()) - scores.loss, abs=1e-5)
            right = float((loss < 0.5).double().mean())
            assert float(decrease[unit]) == pytest.approx(scores.accuracy - right, abs=1e-6)


def test_scores_at_the_edges() -> None:
    inf, nan = math.inf, math.nan
    one = ablation_scores(torch.tensor([[1.0, 2, 0, 0], [inf, 2, 0, 0], [nan, 2, 0, 0]]).double())
    assert (one.linearise.tolist(), one.silence.tolist()) == ([inf], [inf])  # without it the network diverges
    assert math.isnan(one.accuracy)
    assert one.important(0.1).tolist() == [True]
    none = ablation_scores(torch.tensor([[1.0, 2.0, 1.0, 2.0]]).double())
    assert (none.loss, none.accuracy, none.linearise.shape, none.silence_accuracy.shape) == (0.5, 0.5, (0,), (0,))
    broken = ablation_scores(torch.tensor([[nan, 2, 0, 0], [1, 2, 0, 0], [nan, 2, 0, 0]]).double())
    assert math.isnan(broken.loss)
    assert torch.cat((broken.linearise, broken.silence)).isnan().all()
    small = ablation_scores(torch.tensor([[1.0, 1, 0, 0], [1.05, 1, 0, 0], [1.0, 1, 0, 0]]).double())
    assert [small.important(share).tolist() for share in (0.04, 0.06)] == [[True], [False]]


def test_wrong_arguments() -> None:
    rnn, inputs = network(4, 2), torch.randn(1, 3, 2)
    with pytest.raises(ValueError, match=r"must be linearise\(…\) or silence\(…\), .* got 'clamp'"):
        ablated_states(rnn, inputs, clamp_regime([True, False]))
    with pytest.raises(ValueError, match=r"0 … P−1 with P=2, got 2"):
        ablated_states(rnn, inputs, linearise(2))
    with pytest.raises(ValueError, match="inputs must have shape"):
        ablated_states(rnn, inputs[0], linearise(1))
