"""Slow modes against modes that were built in, principal components against scikit-learn, angles in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from scipy.linalg import subspace_angles
from sklearn.decomposition import PCA
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import count_regimes
from lightning_alrnn.analysis.spectrum import (
    components_of_moments,
    principal_angle,
    principal_components,
    regime_spectrum,
    slowest_mode,
)
from lightning_alrnn.nn import ALRNN


def network_of(matrix: Tensor, nonlinear: int = 0) -> ALRNN:
    """A network whose regime with every unit on has this matrix."""
    rnn = ALRNN(None, len(matrix), nonlinear).to(matrix.dtype)
    with torch.no_grad():
        rnn.A.zero_()
        rnn.W.copy_(matrix)
        rnn.h.zero_()
    return rnn


def planted(blocks: list[Tensor], seed: int = 0) -> tuple[Tensor, Tensor]:
    """A matrix with these blocks in a basis of random directions, not orthogonal, and that basis in columns."""
    size = sum(len(block) for block in blocks)
    basis = torch.randn(size, size, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    return basis @ torch.block_diag(*blocks).double() @ torch.linalg.inv(basis), basis


def rotation(radius: float, angle: float) -> Tensor:
    return radius * torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])


@pytest.mark.parametrize(
    ("values", "slowest"),
    [
        ((0.5, 0.97, -0.2), 1),
        ((-0.98, 0.5, 0.1), 0),
        ((0.9, 1.05, 0.3), 1),  # |ln 1.05| < |ln 0.9|: it grows more slowly than the other decays
        ((0.97, 1.3, 0.0), 0),  # the largest is not the slowest
        ((1.0, 0.99, 1.01), 0),
    ],
)
def test_a_planted_mode_is_found(values: tuple[float, ...], slowest: int) -> None:
    matrix, basis = planted([torch.tensor([[value]], dtype=torch.float64) for value in values])
    mode = slowest_mode(network_of(matrix), torch.zeros(0))
    assert mode.eigenvalue == pytest.approx(values[slowest], abs=1e-9)
    if values[slowest] != 1:
        assert mode.timescale == pytest.approx(-1 / math.log(abs(values[slowest])), rel=1e-6)
        assert (mode.timescale < 0) == (abs(values[slowest]) > 1)
    else:
        assert abs(mode.timescale) > 1e9
    assert mode.directions.shape == (1, 3)
    direction = basis[:, slowest] / basis[:, slowest].norm()
    assert abs(float(mode.directions[0] @ direction)) == pytest.approx(1)


def test_a_planted_rotation_spans_its_plane() -> None:
    blocks = [torch.tensor([[0.9]]), rotation(0.99, 0.3), torch.tensor([[-0.8]])]
    matrix, basis = planted(blocks)
    mode = slowest_mode(network_of(matrix), torch.zeros(0))
    assert mode.eigenvalue == pytest.approx(complex(0.99 * math.cos(0.3), 0.99 * math.sin(0.3)), abs=1e-6)
    assert mode.timescale == pytest.approx(-1 / math.log(0.99), rel=1e-4)
    torch.testing.assert_close(mode.directions @ mode.directions.T, torch.eye(2, dtype=torch.float64))
    assert subspace_angles(mode.directions.T.numpy(), basis[:, 1:3].numpy()).max() < 1e-6
    for column in basis[:, 1:3].T:
        assert principal_angle(column, mode.directions) == pytest.approx(0, abs=1e-5)


def test_the_regime_decides_which_units_count() -> None:
    rnn = network_of(torch.diag(torch.tensor([0.5, 0.9, 0.7])), nonlinear=2)
    for code, expected in (((1, 1), 0.9), ((0, 1), 0.7), ((0, 0), 0.5)):
        assert slowest_mode(rnn, torch.tensor(code)).eigenvalue == pytest.approx(expected)
    with torch.no_grad():
        rnn.A.copy_(torch.tensor([0.0, 0.25]))  # A counts for units that are off, too
    assert slowest_mode(rnn, torch.tensor([False, True])).eigenvalue == pytest.approx(0.95)


def test_one_unit() -> None:
    mode = slowest_mode(network_of(torch.tensor([[-0.5]])), torch.zeros(0))
    assert (mode.eigenvalue, mode.directions.abs().tolist()) == (-0.5, [[1.0]])
    assert slowest_mode(network_of(torch.zeros(2, 2)), torch.zeros(0)).timescale == 0


@pytest.mark.parametrize(("hidden", "nonlinear"), [(6, 0), (6, 3), (6, 6), (1, 1), (40, 30)])
def test_the_most_visited_regimes(hidden: int, nonlinear: int) -> None:
    torch.manual_seed(0)
    rnn = ALRNN(2, hidden, nonlinear, init="near_identity")
    regimes = count_regimes(rnn(3 * torch.randn(9, 12, 2)).states.detach(), nonlinear)
    found = regime_spectrum(rnn, regimes, top=5)
    assert len(found.codes) == min(5, len(regimes.codes))
    for row, code in enumerate(regimes.codes[:5]):
        assert torch.equal(found.codes[row], code)
        assert found.occupancy[row] == pytest.approx(int(regimes.counts[row]) / (9 * 12))
        matrix = rnn.double().regime_matrix(code).detach().numpy()
        expected = np.sort_complex(np.linalg.eigvals(matrix))
        np.testing.assert_allclose(np.sort_complex(found.eigenvalues[row].numpy()), expected, atol=1e-9)
        modulus = found.eigenvalues[row].abs()
        assert bool((modulus.diff() <= 1e-12).all())
        torch.testing.assert_close(found.timescales[row], -1 / modulus.log())
    nearest = found.eigenvalues[0].abs().log().abs().min()
    assert abs(math.log(abs(found.slowest.eigenvalue))) == pytest.approx(float(nearest))
    torch.testing.assert_close(
        found.slowest.directions @ found.slowest.directions.T,
        torch.eye(len(found.slowest.directions), dtype=torch.float64),
    )


def test_what_cannot_be_looked_at() -> None:
    rnn = ALRNN(None, 3, 2)
    with pytest.raises(ValueError, match=r"code must have shape \(P,\) = \(2,\), got \(3,\)"):
        slowest_mode(rnn, torch.zeros(3))
    none = count_regimes(torch.zeros(0, 4, 3), 2)
    with pytest.raises(ValueError, match="at least one regime"):
        regime_spectrum(rnn, none)
    with torch.no_grad():
        rnn.W[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"parameter W .* finite"):
        slowest_mode(rnn, torch.zeros(2))


@pytest.mark.parametrize(("batch", "time", "size"), [(20, 15, 6), (3, 4, 20), (2, 1, 1)])
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_components_are_those_of_scikit_learn(batch: int, time: int, size: int, offset: float) -> None:
    torch.manual_seed(0)
    states = offset + torch.randn(batch, time, size, dtype=torch.float64) * torch.arange(1, size + 1)
    lengths = torch.randint(1, time + 1, (batch,))
    found = principal_components(states, lengths)
    valid = np.concatenate([sequence[:length] for sequence, length in zip(states.numpy(), lengths, strict=True)])
    pca = PCA(svd_solver="full").fit(valid)
    kept = int((pca.explained_variance_ > 1e-9).sum())  # beyond the number of states there is no variance
    np.testing.assert_allclose(found.mean, pca.mean_, rtol=1e-10)
    unbiased = found.variance * len(valid) / max(len(valid) - 1, 1)
    np.testing.assert_allclose(unbiased[:kept], pca.explained_variance_[:kept], rtol=1e-7)
    np.testing.assert_allclose(found.share[:kept], pca.explained_variance_ratio_[:kept], rtol=1e-7)
    assert bool((found.variance[kept:] < 1e-7).all())
    overlap = np.abs((found.directions[:kept].numpy() * pca.components_[:kept]).sum(axis=1))
    np.testing.assert_allclose(overlap, 1, rtol=1e-6)


def test_states_past_the_length_do_not_count() -> None:
    states = torch.randn(2, 5, 3)
    padded = states.clone()
    padded[0, 2:] = math.nan
    expected = principal_components(torch.cat((states[0, :2], states[1]))[None])
    for got, wanted in zip(principal_components(padded, torch.tensor([2, 5])), expected, strict=True):
        torch.testing.assert_close(got.abs(), wanted.abs())


@pytest.mark.parametrize("value", [0.0, 1.0, 12345.678])
def test_states_that_do_not_vary_have_no_share(value: float) -> None:
    found = principal_components(torch.full((7, 31, 3), value))
    assert found.variance.tolist() == [0.0] * 3
    assert bool(found.share.isnan().all())


def test_sums_that_are_not_finite_or_empty() -> None:
    for found in (
        principal_components(torch.tensor([[[math.inf, 1.0], [0.0, 1.0]]])),
        components_of_moments(0, torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)),
    ):
        assert bool(torch.cat((found.variance, found.share, found.directions[0])).isnan().all())


@pytest.mark.parametrize("degrees", [0.0, 1e-5, 30.0, 89.999, 90.0])
def test_angles_in_closed_form(degrees: float) -> None:
    radians = math.radians(degrees)
    direction = 3 * torch.tensor([math.cos(radians), 0.0, math.sin(radians)], dtype=torch.float64)
    line = torch.tensor([[-1.0, 0.0, 0.0]], dtype=torch.float64)
    assert principal_angle(direction, line) == pytest.approx(degrees, rel=1e-6, abs=1e-12)
    plane = torch.tensor([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]], dtype=torch.float64)
    assert principal_angle(direction + torch.tensor([0.0, 5.0, 0.0]), plane) == pytest.approx(
        math.degrees(math.atan2(3 * math.sin(radians), math.hypot(3 * math.cos(radians), 5))), rel=1e-6, abs=1e-12
    )


def test_states_that_integrate_lie_along_the_slow_mode() -> None:
    matrix, basis = planted([torch.tensor([[value]]) for value in (0.999, 0.3, 0.2, 0.1)], seed=3)
    rnn = network_of(matrix)
    drive = torch.randn(50, 200, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    components = principal_components(rnn(drive).states.detach())
    mode = slowest_mode(rnn, torch.zeros(0))
    assert components.share[0] > 0.9
    assert principal_angle(components.directions[0], mode.directions) < 5
    assert principal_angle(components.directions[0], (basis[:, 1] / basis[:, 1].norm())[None]) > 20
