"""Slow modes against modes that were built in, principal components against scikit-learn, angles in closed form."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from networks import build, linear, rotation
from scipy.linalg import block_diag, subspace_angles
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


def planted(*blocks: object) -> tuple[ALRNN, Tensor]:
    """A linear network with these blocks in a basis of random directions, not orthogonal, and that basis in columns."""
    matrix = block_diag(*blocks)
    basis = np.random.default_rng(0).normal(size=matrix.shape)
    return linear(basis @ matrix @ np.linalg.inv(basis)), torch.from_numpy(basis)


@pytest.mark.parametrize(
    ("values", "slowest"),
    [
        ((0.5, 0.97, -0.2), 1),
        ((-0.98, 0.5, 0.1), 0),
        ((0.9, 1.05, 0.3), 1),  # |ln 1.05| < |ln 0.9|: it grows more slowly than the other decays
        ((0.97, 1.3, 0.0), 0),  # the largest is not the slowest
        ((1.0, 0.99, 1.01), 0),
        ((-0.5,), 0),
    ],
)
def test_a_planted_mode_is_found(values: tuple[float, ...], slowest: int) -> None:
    rnn, basis = planted(*values)
    mode = slowest_mode(rnn, torch.zeros(0))
    assert mode.eigenvalue == pytest.approx(values[slowest], abs=1e-9)
    assert 1 / mode.timescale == pytest.approx(-math.log(abs(values[slowest])), rel=1e-6, abs=1e-9)
    assert mode.directions.shape == (1, len(values))
    assert principal_angle(basis[:, slowest], mode.directions) == pytest.approx(0, abs=1e-4)


def test_a_planted_rotation_spans_its_plane() -> None:
    rnn, basis = planted(0.9, rotation(0.99, 0.3), -0.8)
    mode = slowest_mode(rnn, torch.zeros(0))
    assert mode.eigenvalue == pytest.approx(complex(0.99 * math.cos(0.3), 0.99 * math.sin(0.3)), abs=1e-6)
    assert mode.timescale == pytest.approx(-1 / math.log(0.99), rel=1e-4)
    torch.testing.assert_close(mode.directions @ mode.directions.T, torch.eye(2, dtype=torch.float64))
    assert subspace_angles(mode.directions.T.numpy(), basis[:, 1:3].numpy()).max() < 1e-6


def test_the_regime_decides_which_units_count() -> None:
    rnn = build([0.0, 0.0], np.diag([0.5, 0.9, 0.7]), np.zeros(3), 2)
    for code, expected in (((1, 1), 0.9), ((0, 1), 0.7), ((0, 0), 0.5)):
        assert slowest_mode(rnn, torch.tensor(code)).eigenvalue == pytest.approx(expected)
    with torch.no_grad():
        rnn.A.copy_(torch.tensor([0.0, 0.25]))  # A counts for units that are off, too
    assert slowest_mode(rnn, torch.tensor([False, True])).eigenvalue == pytest.approx(0.95)
    assert slowest_mode(linear(np.zeros((2, 2))), torch.zeros(0)).timescale == 0


@pytest.mark.parametrize(("hidden", "nonlinear"), [(6, 0), (6, 3), (6, 6), (1, 1), (40, 30)])
def test_the_most_visited_regimes(hidden: int, nonlinear: int) -> None:
    torch.manual_seed(0)
    rnn = ALRNN(2, hidden, nonlinear, init="near_identity")
    regimes = count_regimes(rnn(3 * torch.randn(9, 12, 2)).states.detach(), nonlinear)
    result = regime_spectrum(rnn, regimes, top=5)
    assert len(result.codes) == min(5, len(regimes.codes))
    for row, code in enumerate(regimes.codes[:5]):
        assert torch.equal(result.codes[row], code)
        assert result.occupancy[row] == pytest.approx(int(regimes.counts[row]) / (9 * 12))
        matrix = rnn.double().regime_matrix(code).detach().numpy()
        expected = np.sort_complex(np.linalg.eigvals(matrix))
        np.testing.assert_allclose(np.sort_complex(result.eigenvalues[row].numpy()), expected, atol=1e-9)
        modulus = result.eigenvalues[row].abs()
        assert bool((modulus.diff() <= 1e-12).all())
        torch.testing.assert_close(result.timescales[row], -1 / modulus.log())
    nearest = result.eigenvalues[0].abs().log().abs().min()
    assert abs(math.log(abs(result.slowest.eigenvalue))) == pytest.approx(float(nearest))


def test_refusals() -> None:
    rnn = ALRNN(None, 3, 2)
    with pytest.raises(ValueError, match=r"code must have shape \(P,\) = \(2,\), got \(3,\)"):
        slowest_mode(rnn, torch.zeros(3))
    with pytest.raises(ValueError, match="at least one regime"):
        regime_spectrum(rnn, count_regimes(torch.zeros(0, 4, 3), 2))
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
    result = principal_components(states, lengths)
    valid = np.concatenate([sequence[:length] for sequence, length in zip(states.numpy(), lengths, strict=True)])
    pca = PCA(svd_solver="full").fit(valid)
    rank = int((pca.explained_variance_ > 1e-9).sum())  # beyond the number of states there is no variance
    np.testing.assert_allclose(result.mean, pca.mean_, rtol=1e-10)
    unbiased = result.variance * len(valid) / max(len(valid) - 1, 1)
    np.testing.assert_allclose(unbiased[:rank], pca.explained_variance_[:rank], rtol=1e-7)
    np.testing.assert_allclose(result.share[:rank], pca.explained_variance_ratio_[:rank], rtol=1e-7)
    assert bool((result.variance[rank:] < 1e-7).all())
    overlap = np.abs((result.directions[:rank].numpy() * pca.components_[:rank]).sum(axis=1))
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
    result = principal_components(torch.full((7, 31, 3), value))
    assert result.variance.tolist() == [0.0] * 3
    assert bool(result.share.isnan().all())


def test_sums_that_are_not_finite_or_empty() -> None:
    for result in (
        principal_components(torch.tensor([[[math.inf, 1.0], [0.0, 1.0]]])),
        components_of_moments(0, torch.zeros(2, dtype=torch.float64), torch.zeros(2, 2, dtype=torch.float64)),
    ):
        assert bool(torch.cat((result.variance, result.share, result.directions[0])).isnan().all())


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
