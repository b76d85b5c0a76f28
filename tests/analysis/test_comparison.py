"""Distances between networks: what they must not depend on, and what they must tell apart."""

from __future__ import annotations

import math
from itertools import permutations

import numpy as np
import pytest
import torch
from networks import build
from scipy.linalg import block_diag
from scipy.stats import entropy
from torch import Tensor

from lightning_alrnn.analysis.comparison import (
    MEASURES,
    Portrait,
    compare_portraits,
    dynamics_distance,
    gain_distance,
    graph_distance,
    group_by,
    output_directions,
    portrait,
    spectrum_distance,
    switching_distance,
)
from lightning_alrnn.nn.alrnn import ALRNN

EMPTY = torch.zeros(0)


def network(seed: int, size: int, units: int) -> tuple[ALRNN, Tensor]:
    """A random network and the readout of two outputs."""
    rng = np.random.default_rng(seed)
    W = rng.normal(size=(size, size)) * 0.9 / math.sqrt(size)
    rnn = build(rng.uniform(-0.3, 0.3, units), W, 0.3 * rng.normal(size=size), units, C=rng.normal(size=(size, 2)))
    return rnn, torch.from_numpy(rng.normal(size=(2, size)))


def in_other_coordinates(rnn: ALRNN, readout: Tensor, seed: int) -> tuple[ALRNN, Tensor]:
    """The same network with linear units mixed, and nonlinear ones permuted and scaled."""
    rng = np.random.default_rng(seed)
    units, linear = rnn.nonlinear_units, rnn.linear_units
    order = rng.permutation(units)
    mix = rng.normal(size=(linear, linear)) + 3 * np.eye(linear)
    change = block_diag(mix, np.diag(10 ** rng.uniform(-1, 1, units))[order] if units else np.zeros((0, 0)))
    back = np.linalg.inv(change)
    assert rnn.C is not None
    A, W, h, C = (value.detach().numpy() for value in (rnn.A, rnn.W, rnn.h, rnn.C))
    moved = build(A[order], change @ W @ back, change @ h, units, C=change @ C)
    return moved, readout @ torch.from_numpy(back)


def look(rnn: ALRNN, readout: Tensor, batch: int = 20, time: int = 12) -> Portrait:
    inputs = torch.randn(batch, time, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    lengths = torch.randint(1, time + 1, (batch,), generator=torch.Generator().manual_seed(1))
    states = rnn(inputs, lengths=lengths)[0].detach()
    return portrait(rnn, inputs, states, readout, lengths)


def labelled(*rows: list[int]) -> Portrait:
    """A network of which the regimes alone are known."""
    return Portrait(torch.tensor(rows), EMPTY, EMPTY, EMPTY)


@pytest.mark.parametrize(("size", "units"), [(6, 0), (6, 2), (5, 5), (1, 1), (1, 0)])
@pytest.mark.parametrize(("batch", "time"), [(20, 12), (1, 12), (20, 1), (1, 1)])
def test_coordinates_do_not_count(size: int, units: int, batch: int, time: int) -> None:
    for seed in range(5):
        rnn, readout = network(seed, size, units)
        moved, moved_readout = in_other_coordinates(rnn, readout, seed)
        one, other = look(rnn, readout, batch, time), look(moved, moved_readout, batch, time)
        assert torch.equal(one.labels, other.labels)
        assert gain_distance(one, other) < 1e-8
        assert switching_distance(one, other) < 1e-8
        assert graph_distance(one, other) == 0
        assert dynamics_distance(one, other) < 1e-6


def test_gains_have_a_sign_and_no_unit() -> None:
    gains = torch.randn(1, 4, 5, 2, dtype=torch.float64)
    one, larger, opposite, none = (Portrait(EMPTY, EMPTY, EMPTY, gains * factor) for factor in (1, 7, -1, 0))
    assert gain_distance(one, larger) < 1e-8
    assert gain_distance(one, opposite) == pytest.approx(math.sqrt(2))
    assert gain_distance(one, none) == gain_distance(none, one) == 1
    assert gain_distance(none, none) == 0


def test_switching_is_one_minus_information_over_entropy() -> None:
    rng = np.random.default_rng(0)
    first = rng.integers(0, 3, 40)
    second = np.where(rng.random(40) < 0.6, first, rng.integers(0, 4, 40))
    joint, one, other = (
        entropy(np.unique(values, return_counts=True)[1]) for values in (4 * first + second, first, second)
    )
    found = switching_distance(labelled(first.tolist()), labelled(second.tolist()))
    assert found == pytest.approx(1 - (one + other - joint) / joint)
    assert switching_distance(labelled([0, 0, -1]), labelled([0, 0, -1])) == 0  # one regime


def test_graphs_up_to_names_and_delays() -> None:
    one = labelled([0, 0, 1, 1, 2, 2, 0, 0], [2, 2, 1, 1, 0, 0, -1, -1])
    renamed = labelled([2, 2, 0, 0, 1, 1, 2, 2], [1, 1, 0, 0, 2, 2, -1, -1])
    later = labelled([0, 0, 0, 1, 1, 2, 2, 0], [2, 2, 2, 1, 1, 0, -1, -1])
    assert graph_distance(one, renamed) == graph_distance(one, later) == 0
    # 0→1 twice and 1→0 once, beside 0→1 once
    assert graph_distance(labelled([0, 1, 0, 1]), labelled([0, 0, 0, 1])) == pytest.approx((1 + 1) / 4)
    assert graph_distance(labelled([0, 1, 0, 1]), labelled([0, 0, 0, 0])) == 1
    assert graph_distance(labelled([0, 0, 0, 0]), labelled([0, 0, 0, 0])) == 0
    # a step from one sequence to the next is no switch
    assert graph_distance(labelled([0, 0], [1, 1]), labelled([1, 1], [0, 0])) == 0
    assert graph_distance(labelled([0, 0], [1, 1]), labelled([0, 1], [1, 1])) == 1


def test_spectra_are_matched_in_the_best_way() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        one, other = (torch.from_numpy(rng.normal(size=4) + 1j * rng.normal(size=4)) for _ in range(2))
        least = min(float((one - other[list(order)]).abs().square().sum()) for order in permutations(range(4)))
        total = float(one.abs().square().sum() + other.abs().square().sum())
        assert spectrum_distance(one, other) == pytest.approx(math.sqrt(least / total))
    nothing = torch.zeros(3, dtype=torch.complex128)
    assert spectrum_distance(one, nothing) == 1
    assert spectrum_distance(nothing, nothing[:1]) == 0


def test_dynamics_are_matched_in_the_best_way() -> None:
    """With equal shares the best transport is a permutation."""
    rng = np.random.default_rng(0)
    share = torch.full((4,), 0.25, dtype=torch.float64)
    for _ in range(5):
        one, other = (Portrait(EMPTY, share, torch.from_numpy(rng.normal(size=(4, 3))), EMPTY) for _ in range(2))
        cost = [[spectrum_distance(left, right) for right in other.spectra] for left in one.spectra]
        least = min(sum(cost[row][column] for row, column in enumerate(order)) / 4 for order in permutations(range(4)))
        assert dynamics_distance(one, other) == pytest.approx(least)


def test_a_portrait_says_what_the_network_did() -> None:
    rnn, readout = network(0, 4, 2)
    inputs, lengths = torch.randn(7, 9, 2, dtype=torch.float64), torch.tensor([9, 8, 7, 6, 5, 4, 3])
    states = rnn(inputs, lengths=lengths)[0].detach()
    found = portrait(rnn, inputs, states, readout, lengths)
    valid = torch.arange(9) < lengths[:, None]
    assert torch.equal(found.labels >= 0, valid)
    codes = (states[valid][:, 2:] > 0).int()
    pairs = torch.cat((codes, found.labels[valid].unsqueeze(1)), dim=1)  # one label for each code
    assert len(pairs.unique(dim=0)) == len(codes.unique(dim=0)) == len(found.labels[valid].unique())
    counts = found.labels[valid].bincount()
    assert torch.equal(counts, counts.sort(descending=True).values)
    assert float(found.occupancy.sum()) == pytest.approx(1)
    expected = torch.linalg.eigvals(rnn.regime_matrix(codes[found.labels[valid] == 0][0]).detach())
    assert spectrum_distance(found.spectra[0], expected) < 1e-8
    assert found.gains.shape == (2, 7, 9, 2)
    assert not found.gains[:, 6, 3:].any()
    later = torch.where(valid[..., None], inputs, 1e6)  # padding
    torch.testing.assert_close(portrait(rnn, later, states, readout, lengths).gains, found.gains)
    wider = portrait(rnn, inputs * torch.tensor([1.0, 3.0]), states, readout, lengths)
    torch.testing.assert_close(wider.gains, found.gains * torch.tensor([1.0, 3.0]))


def test_outputs_are_looked_at_along_common_directions() -> None:
    rng = torch.Generator().manual_seed(0)
    values = torch.randn(50, 1, generator=rng) @ torch.tensor([[3.0, 4.0, 0.0]]) / 5
    found = output_directions([values, 1000 * values + 7])
    torch.testing.assert_close(found.abs(), torch.tensor([[0.6, 0.8, 0.0]], dtype=torch.float64))
    assert output_directions([torch.randn(50, 9, generator=rng)]).shape == (4, 9)
    assert output_directions([torch.zeros(5, 2)]).shape == (1, 2)  # a network that always says the same


def test_groups_and_their_order() -> None:
    """Three copies of a network in other coordinates, and two of another one."""
    kinds = [network(seed, 5, 2) for seed in range(2)]
    copies = [look(*in_other_coordinates(*kinds[kind], seed)) for seed, kind in enumerate((1, 0, 1, 0, 1))]
    found = compare_portraits(copies, [look(*network(seed, 5, 2)) for seed in range(10, 15)])
    assert set(found.measures) == set(found.untrained) == set(MEASURES)
    assert found.groups.tolist() == [0, 1, 0, 1, 0]
    assert found.groups[found.order].tolist() in ([0, 0, 0, 1, 1], [1, 1, 0, 0, 0])
    assert found.unchanged == pytest.approx((0, float(found.distance.max())), abs=1e-6)
    assert torch.equal(found.distance, torch.stack(list(found.measures.values())).amax(dim=0))
    places = torch.tensor([0.0, 0.4, 0.8, 3.0])  # a chain: any two of a group are near
    assert group_by((places[:, None] - places).abs()).tolist() == [0, 0, 1, 2]


def test_one_network_and_none_that_switches() -> None:
    one = look(*network(0, 3, 0))
    found = compare_portraits([one], [look(*network(1, 3, 0))])
    assert found.groups.tolist() == found.order.tolist() == [0]
    assert set(found.measures) == {"gains", "dynamics"}  # there is one regime
    assert found.unchanged == (0.0, math.inf)
    assert set(compare_portraits([one, one], [one, one], ["dynamics"]).measures) == set()
