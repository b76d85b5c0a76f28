"""Slow modes and line-attractor scores of matrices with known modes."""

from __future__ import annotations

import math

import networks
import numpy as np
import pytest
import torch

from lightning_alrnn.analysis.modes import line_attractor_score, slow_modes

NONE = torch.zeros(1, 0)


def with_modes(values: list[float], seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """A matrix with these eigenvalues, and its unit eigenvectors as rows."""
    basis = np.random.default_rng(seed).normal(size=(len(values), len(values)))
    basis /= np.linalg.norm(basis, axis=0)
    return torch.from_numpy(basis @ np.diag(values) @ np.linalg.inv(basis)), torch.from_numpy(basis.T)


def test_modes_come_slowest_first() -> None:
    values = [0.5, -0.97, 1.01, 0.0]
    W, vectors = with_modes(values)
    modes = slow_modes(networks.linear(W), NONE)
    order = [2, 1, 0, 3]  # |ln 1.01| < |ln 0.97| < |ln 0.5| < ∞
    assert modes.eigenvalues.real[0].tolist() == pytest.approx([values[index] for index in order], abs=1e-9)
    assert modes.timescales[0, :3].tolist() == pytest.approx([-1 / math.log(value) for value in (1.01, 0.97, 0.5)])
    assert modes.frequencies[0, :3].tolist() == [0.0, 0.5, 0.0]
    overlap = (modes.right[0].real * vectors[order]).sum(dim=1).abs()
    torch.testing.assert_close(overlap, torch.ones(4).double())
    few = slow_modes(networks.linear(W), NONE, count=2)
    torch.testing.assert_close(few.eigenvalues, modes.eigenvalues[:, :2])
    assert few.left.shape == few.right.shape == (1, 2, 4)


def test_left_and_right_modes() -> None:
    rnn = networks.random_map(6, 3, 1.5, 1)
    codes = torch.tensor([[0, 0, 0], [1, 0, 1]])
    modes = slow_modes(rnn, codes)
    for row, code in enumerate(codes):
        J = rnn.regime_matrix(code).detach().to(torch.complex128)
        values, right, left = modes.eigenvalues[row], modes.right[row], modes.left[row]
        torch.testing.assert_close(J @ right.T, right.T * values)
        torch.testing.assert_close(left.conj() @ J, values[:, None] * left.conj())
        torch.testing.assert_close(left.conj() @ right.T, torch.eye(6).to(J), atol=1e-9, rtol=0)
        torch.testing.assert_close(right.norm(dim=1), torch.ones(6).double())


def test_overlap_with_input_and_readout() -> None:
    W = np.diag([0.9, 0.5, 0.2])
    C = np.array([[0.0, 0.0], [3.0, 0.0], [0.0, 1.0]])
    D = torch.tensor([[2.0, 0.0, 0.0], [0.0, 1.0, 1.0]])
    modes = slow_modes(networks.build([], W, np.zeros(3), 0, C=C), NONE, readout_weight=D)
    assert modes.input_overlap[0].tolist() == pytest.approx([0.0, 1.0, 1.0])
    assert modes.readout_overlap is not None
    assert modes.readout_overlap[0].tolist() == pytest.approx([1.0, math.sqrt(0.5), math.sqrt(0.5)])
    without = slow_modes(networks.linear(W), NONE)  # C = 0
    assert without.readout_overlap is None
    assert without.input_overlap[0].tolist() == [0.0, 0.0, 0.0]


def test_defective_matrices_have_no_left_modes() -> None:
    modes = slow_modes(networks.linear([[0.5, 1.0], [0.0, 0.5]]), NONE)
    assert modes.eigenvalues.real.tolist() == [[0.5, 0.5]]
    assert bool(modes.left.isnan().all())
    assert bool(modes.input_overlap.isnan().all())


def test_scores_of_a_line_attractor() -> None:
    values = [0.999, 0.5, 0.3]
    W, vectors = with_modes(values)
    line = networks.linear(W)
    generator = torch.Generator().manual_seed(0)
    along = torch.randn(500, 1, generator=generator, dtype=torch.float64) * vectors[0]
    around = 0.1 * torch.randn(500, 3, generator=generator, dtype=torch.float64)
    score = line_attractor_score(line, NONE, along)
    assert float(score.timescale) == pytest.approx(-1 / math.log(0.999))
    assert float(score.ratio) == pytest.approx(math.log(0.5) / math.log(0.999))
    assert float(score.variance) == pytest.approx(1.0)
    assert (score.states.tolist(), score.decays.tolist()) == ([500], [True])
    spread = along + around
    centred = spread - spread.mean(dim=0)
    expected = (centred @ vectors[0]).square().sum() / centred.square().sum()
    torch.testing.assert_close(line_attractor_score(line, NONE, spread).variance[0], expected)


def test_scores_of_what_is_not_a_line() -> None:
    def score(W: object) -> list[float]:
        modes = line_attractor_score(networks.linear(W), NONE)
        assert bool(modes.variance.isnan().all())
        return [float(modes.timescale), float(modes.ratio), float(modes.decays)]

    tau = -1 / math.log(0.9)
    assert score([[0.0, -0.9], [0.9, 0.0]]) == pytest.approx([tau, 1.0, 1.0])  # a rotation
    assert score(np.eye(2)) == [math.inf, 1.0, 1.0]  # a plane
    assert score(np.diag([1.0, 0.5])) == [math.inf, math.inf, 1.0]  # a perfect line
    assert score(np.diag([0.9, 0.0])) == [pytest.approx(tau), math.inf, 1.0]
    assert score(np.diag([1.1, 0.5]))[2] == 0.0
    one = line_attractor_score(networks.linear([[0.9]]), NONE)
    assert float(one.ratio) == math.inf


def test_variance_counts_the_regime_s_own_states() -> None:
    rnn = networks.build([0.0, 0.0], [[0.9, 0.0], [0.0, 0.5]], [0.0, 0.0], 1)
    states = torch.tensor([[1.0, 1.0], [2.0, 1.0], [0.0, -1.0], [0.0, -5.0], [3.0, 1.0]])
    modes = line_attractor_score(rnn, torch.tensor([[True], [False]]), states)
    assert modes.states.tolist() == [3, 2]
    assert modes.variance.tolist() == pytest.approx([1.0, 0.0])
    still = line_attractor_score(rnn, torch.tensor([[True]]), torch.ones(4, 2))
    assert bool(still.variance.isnan())
    rotation = networks.linear([[0.0, -0.9], [0.9, 0.0]])
    assert float(line_attractor_score(rotation, NONE, states).variance) == pytest.approx(1.0)


def test_errors_say_what_is_wrong() -> None:
    rnn = networks.random_map(3, 1, 1.0, 0)
    code = torch.zeros(1, 1)
    for function, arguments, message in (
        (slow_modes, (code, 4), "count must lie between 1 and M=3, got 4"),
        (slow_modes, (torch.zeros(1, 2),), "regimes must have shape"),
        (slow_modes, (code, 1, torch.zeros(3)), r"readout_weight must have shape \(outputs, M=3\)"),
        (line_attractor_score, (code, torch.zeros(5, 2)), "states must have shape"),
    ):
        with pytest.raises(ValueError, match=message):
            function(rnn, *arguments)
    assert slow_modes(rnn, code[:0]).eigenvalues.shape == (0, 3)
    assert line_attractor_score(rnn, code[:0]).ratio.shape == (0,)
