"""Methods of the search for fixed points: what each finds, and what each claims."""

from __future__ import annotations

import math
import time
from collections import Counter

import networks
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from lightning_alrnn.analysis.fixed_point_search import (
    FixedPointSet,
    fixed_points,
    frequencies,
    stability_of,
    virtual_fixed_points,
)
from lightning_alrnn.nn.alrnn import ALRNN


def codes_of(found: FixedPointSet) -> set[tuple[bool, ...]]:
    return {tuple(code) for code in found.code.tolist()}


# --- known networks ---


def test_three_bit_flip_flop() -> None:
    """27 fixed points, 8 of them stable: x = −2, 0 or 2 in each bit."""
    rnn = networks.flip_flop(3)
    found = fixed_points(rnn)
    assert len(found.z) == 27
    assert Counter(found.stability)["stable"] == 8
    assert found.index_sum == 1
    assert found.complete
    assert {tuple(z) for z in found.z[:, :3].round(decimals=9).tolist()} == {
        (a, b, c) for a in (-2.0, 0.0, 2.0) for b in (-2.0, 0.0, 2.0) for c in (-2.0, 0.0, 2.0)
    }
    assert Counter(found.unstable_dimensions.tolist()) == {0: 8, 1: 12, 2: 6, 3: 1}
    for method in ("heuristic", "certified"):
        sought = fixed_points(rnn, method=method, box=5.0 if method == "certified" else None)  # type: ignore[arg-type]
        assert codes_of(sought) == codes_of(found)
        assert sought.index_sum == 1


def test_a_flip_flop_of_eight_bits_is_found_from_where_it_goes() -> None:
    """P=16, 2^8 stable states, seeded with those that a run visits; nothing is said to be complete."""
    rnn = networks.flip_flop(8)
    generator = torch.Generator().manual_seed(0)
    inputs = (torch.rand(16, 200, 8, generator=generator) < 0.1).double() * 8.0
    inputs *= torch.where(torch.rand(16, 200, 8, generator=generator) < 0.5, 1.0, -1.0)
    states = rnn(inputs).states.detach()
    found = fixed_points(rnn, seed_states=states, method="heuristic", restarts=0)
    assert found.certificate == "not certified"
    # a bit p = x + 1, n = x − 1 is (1, 1) at x = 2 and (0, 0) at x = −2
    settled = {tuple(code) for code in rnn.regime(states).flatten(0, 1).tolist() if code[:8] == code[8:]}
    assert len(settled) > 200
    stable = {tuple(code) for code, kind in zip(found.code.tolist(), found.stability, strict=True) if kind == "stable"}
    assert settled <= stable
    assert len(stable) <= 256


# --- heuristic ---


def test_what_the_seeded_search_finds_is_right_and_most_of_all() -> None:
    total = hits = 0
    for seed in range(40):
        rnn = networks.random_map(14, 10, 2.0, seed)
        everything, sought = fixed_points(rnn), fixed_points(rnn, method="heuristic", restarts=200)
        assert codes_of(sought) <= codes_of(everything)
        assert not sought.complete
        assert (sought.certificate, sought.box, sought.method) == ("not certified", None, "heuristic")
        total, hits = total + len(everything.z), hits + len(sought.z)
    assert total > 20
    assert hits > 0.7 * total


def test_seeds_find_what_is_there() -> None:
    """From the regime of a fixed point the search stays; so do states that lie near it."""
    for seed in range(20):
        rnn = networks.random_map(14, 10, 2.0, seed)
        everything = fixed_points(rnn)
        for seeds in ({"visited": everything.code}, {"seed_states": everything.z}):
            found = fixed_points(rnn, method="heuristic", restarts=0, **seeds)
            assert codes_of(found) == codes_of(everything)
            assert bool(found.visited.all())


def test_the_same_seed_gives_the_same_search() -> None:
    rnn = networks.random_map(50, 40, 1.0, 0)
    first, second = (fixed_points(rnn, seed=3) for _ in range(2))
    assert torch.equal(first.z, second.z)
    assert first.regimes_searched == second.regimes_searched


def test_forty_units_in_time() -> None:
    rnn = networks.random_map(50, 40, 1.5, 1)
    start = time.process_time()
    found = fixed_points(rnn)
    assert time.process_time() - start < 2.0
    assert found.method == "heuristic"
    assert found.certificate == "not certified"
    assert not found.complete


@pytest.mark.parametrize("units", [64, 130, 200])
def test_many_units_neither_hang_nor_claim_too_much(units: int) -> None:
    rnn = networks.random_map(units, units, 1.2, units)
    for method in ("auto", "certified"):
        start = time.monotonic()
        found = fixed_points(rnn, method=method, restarts=20, time_limit=1.0)  # type: ignore[arg-type]
        assert time.monotonic() - start < 10.0
        assert not found.complete
        assert found.certificate.startswith(("not certified", "complete within |z| ≤ "))
    with pytest.raises(ValueError, match=f"up to 20 nonlinear units, here are {units}: use 'heuristic'"):
        fixed_points(rnn, method="exhaustive")


def test_integrators_by_the_seeded_search() -> None:
    """All regimes are singular; the visited ones are looked at."""
    W = np.array([[1.0, -0.5, 0.5], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    rnn = networks.build(np.zeros(3), W, [0.0, -1.0, -1.0], 2)
    found = fixed_points(rnn, method="heuristic", seed_states=torch.tensor([[0.5, -0.5, -1.5]]), restarts=0)
    (piece,) = found.continua
    assert piece.code.tolist() == [False, False]
    assert not found.complete


# --- certificates ---


def test_certificates_hold_what_they_say() -> None:
    """Against the exhaustive search: inside the box nothing is missing, and a point outside is no contradiction."""
    outside = 0
    for seed in range(30):
        rnn = networks.random_map(12, 1 + seed % 8, 2.0, seed)
        radius = (3.0, 30.0)[seed % 2]
        everything = fixed_points(rnn)
        found = fixed_points(rnn, method="certified", box=radius, restarts=seed % 3)
        assert not found.complete
        assert found.box == radius
        assert found.certificate == f"complete within |z| ≤ {radius:g}"
        inside = everything.z[:, rnn.linear_units :].abs().amax(dim=1) <= radius
        assert {tuple(code) for code in everything.code[inside].tolist()} <= codes_of(found) <= codes_of(everything)
        outside += int((~inside).sum())
    assert outside > 0


def test_integer_programs_find_what_the_search_does_not() -> None:
    """Without a start, everything comes from them."""
    for seed in range(10):
        rnn = networks.random_map(10, 6, 2.0, seed)
        everything = fixed_points(rnn)
        found = fixed_points(rnn, method="certified", box=1e4, restarts=0)
        assert codes_of(found) == codes_of(everything)
        torch.testing.assert_close(found.z, everything.z)


def test_the_default_box_follows_the_points() -> None:
    rnn = networks.mutual_inhibition()
    found = fixed_points(rnn, method="certified")
    assert found.box == pytest.approx(20.0)
    wider = fixed_points(rnn, method="certified", seed_states=torch.tensor([[0.0, 7.0]]))
    assert wider.box == pytest.approx(70.0)


def test_border_points_and_certificates() -> None:
    """A point on a border solves several regimes: each is cut off in turn."""
    rnn = networks.build(np.full(4, 0.5), np.zeros((4, 4)), np.zeros(4), 3)
    found = fixed_points(rnn, method="certified", box=1.0, restarts=0)
    assert len(found.z) == 1
    assert found.border.tolist() == [[True] * 3]
    assert found.certificate == "complete within |z| ≤ 1"


def test_no_time_is_no_certificate() -> None:
    rnn = networks.random_map(30, 16, 2.0, 0)
    found = fixed_points(rnn, method="certified", box=10.0, time_limit=0.0)
    assert found.certificate == "not certified"
    assert found.box is None


def test_a_linear_network_is_complete_by_any_method() -> None:
    rnn = networks.build([], [[0.5]], [1.0], 0)
    for method in ("auto", "exhaustive", "heuristic", "certified"):
        found = fixed_points(rnn, method=method)  # type: ignore[arg-type]
        assert found.complete
        assert found.z.tolist() == [[2.0]]


def test_automatic_choice() -> None:
    rnn = networks.random_map(6, 5, 1.0, 0)
    assert fixed_points(rnn).method == "exhaustive"
    assert fixed_points(rnn, max_exhaustive_units=4).method == "heuristic"
    assert fixed_points(rnn, max_exhaustive_units=4, box=9.0).method == "certified"


# --- several inputs, readout, ghosts, and the rest of the fields ---


def test_several_inputs_give_a_list() -> None:
    rng = np.random.default_rng(0)
    rnn = networks.build(np.full(5, 0.5), rng.normal(size=(5, 5)), rng.normal(size=5), 3, C=rng.normal(size=(5, 2)))
    inputs = torch.from_numpy(rng.normal(size=(4, 2)))
    found = fixed_points(rnn, inputs)
    assert isinstance(found, list)
    assert len(found) == 4
    for one, several in zip(inputs, found, strict=True):
        single = fixed_points(rnn, one)
        assert isinstance(single, FixedPointSet)
        assert torch.equal(single.z, several.z)
        torch.testing.assert_close(rnn.step(several.z, one), several.z)
    assert fixed_points(rnn, inputs[:0]) == []


def test_parameters_in_place_of_a_layer() -> None:
    rnn = networks.random_network(9)
    recurrence = rnn.recurrence()
    torch.testing.assert_close(fixed_points(recurrence).z, fixed_points(rnn).z)
    torch.testing.assert_close(fixed_points(recurrence._replace(C=None)).z, fixed_points(rnn).z)
    with pytest.raises(TypeError, match=r"an ALRNN or a Recurrence\(A, W, C, h, P\), got tuple"):
        fixed_points(tuple(recurrence))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"an ALRNN or a Recurrence\(A, W, C, h, P\), got Linear"):
        fixed_points(nn.Linear(2, 2))  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parameter W must have shape"):
        fixed_points(recurrence._replace(W=rnn.W[:-1]))
    with pytest.raises(ValueError, match="P must lie between 0 and M"):
        fixed_points(recurrence._replace(P=len(rnn.h) + 1))


def test_readout_of_the_points() -> None:
    rnn = networks.mutual_inhibition()
    layer = nn.Linear(2, 3)
    found = fixed_points(rnn, readout=layer)
    assert found.readout is not None
    torch.testing.assert_close(found.readout, layer(found.z.float()).detach())
    assert not found.readout.requires_grad
    assert fixed_points(rnn, readout=lambda z: z.sum(dim=1)).readout.tolist() == pytest.approx([0.0, 0.0, 4 / 3])
    assert fixed_points(rnn).readout is None


def test_ghosts() -> None:
    """Both off: z = 2 h − … = (2, 2), which is where both are on."""
    rnn = networks.mutual_inhibition()
    states = torch.tensor([[[-1.0, -1.0], [1.0, -1.0], [1.0, -1.0]]])
    found = fixed_points(rnn, seed_states=states)
    assert found.ghosts.code.tolist() == [[False, False]]
    assert found.ghosts.z.tolist() == [[2.0, 2.0]]
    assert found.ghosts.outside.tolist() == [2.0]
    assert found.ghosts.eigenvalues.tolist() == [[0.5, 0.5]]
    assert found.ghosts.stability == ["stable"]
    assert len(fixed_points(rnn, seed_states=states, max_ghosts=0).ghosts.z) == 0
    assert len(fixed_points(rnn).ghosts.z) == 0
    most_visited = fixed_points(rnn, seed_states=states, max_ghosts=1)  # that one is real
    assert len(most_visited.ghosts.z) == 0


def test_every_regime_has_a_real_or_a_virtual_point() -> None:
    for seed in range(20):
        rnn = networks.random_network(6 * seed)
        units = rnn.nonlinear_units
        codes = (torch.arange(2**units)[:, None] >> torch.arange(units)) & 1
        virtual, real = virtual_fixed_points(rnn, codes), fixed_points(rnn)
        assert len(virtual.z) + len(real.z) == 2**units
        for z, code in zip(virtual.z, virtual.code, strict=True):
            J = rnn.regime_matrix(code).detach()
            torch.testing.assert_close(J @ z + rnn.h.detach(), z, rtol=1e-7, atol=1e-7)
        assert bool((virtual.outside > 0).all())
        assert bool((rnn.regime(virtual.z) != virtual.code).any(dim=1).all())


def test_singular_regimes_have_no_ghost() -> None:
    rnn = networks.build([0.0], [[1.0]], [1.0], 1)  # z' = φ(z) + 1
    found = virtual_fixed_points(rnn, torch.tensor([[False], [True]]))
    assert found.code.tolist() == [[False]]
    assert found.z.tolist() == [[1.0]]


def test_eigenvectors_and_frequencies() -> None:
    for seed in range(12):
        rnn = networks.random_network(seed)
        found = fixed_points(rnn)
        for z, values, vectors in zip(found.z, found.eigenvalues, found.eigenvectors, strict=True):
            J = rnn.jacobian(z).detach().to(vectors.dtype)
            torch.testing.assert_close(J @ vectors, vectors * values, rtol=1e-7, atol=1e-7)
            torch.testing.assert_close(vectors.norm(dim=0), torch.ones(len(values), dtype=torch.float64))
        torch.testing.assert_close(found.frequencies, found.eigenvalues.angle().abs() / (2 * math.pi))
        growing = (found.eigenvalues.abs() > 1).sum(dim=1)
        assert torch.equal(found.unstable_dimensions, growing)
    assert frequencies(torch.tensor([-2.0, 3.0, 1j])).tolist() == pytest.approx([0.5, 0.0, 0.25])
    assert stability_of(torch.zeros(0, 3)) == []


def test_both_jacobians_at_a_border() -> None:
    """z' = 2 φ(z) at 0: slope 0 on one side, 2 on the other."""
    found = fixed_points(networks.build([0.0], [[2.0]], [0.0], 1))
    assert found.on_border.tolist() == [True]
    assert found.border.tolist() == [[True]]
    assert found.eigenvalues.tolist() == [[0.0]]
    assert found.eigenvalues_across.tolist() == [[2.0]]
    plain = fixed_points(networks.mutual_inhibition())
    assert torch.equal(plain.eigenvalues, plain.eigenvalues_across)
    assert not bool(plain.border.any())


# --- degenerate and broken networks ---


def uncoupled(units: int) -> ALRNN:
    """z = 3 φ(z) − 1 in each unit: a fixed point in each regime."""
    return networks.build(np.zeros(units), 3.0 * np.eye(units), -np.ones(units), units)


def test_more_points_than_can_be_listed_are_refused() -> None:
    with pytest.raises(ValueError, match="131072 regimes may hold a fixed point, more than the 65536"):
        fixed_points(uncoupled(17), method="exhaustive")
    found = fixed_points(uncoupled(17), restarts=50)
    assert not found.complete
    assert len(found.z) >= 50


def test_unstable_networks_are_searched_all_the_same() -> None:
    rnn = networks.random_map(8, 6, 1e6, 0)
    found = fixed_points(rnn)
    assert found.complete
    assert "stable" not in found.stability


def test_many_integrators_neither_hang_nor_fail() -> None:
    """Two linear integrators without a drive: planes of fixed points in many regimes, of which P=10 has 1024."""
    rnn = networks.random_map(20, 10, 1.0, 0)
    with torch.no_grad():
        rnn.A[:2] = 0.0
        rnn.W[:2] = torch.eye(20)[:2]
        rnn.h[:2] = 0.0
    found = fixed_points(rnn)
    assert found.complete
    assert len(found.continua) > 10
    for piece in found.continua:
        torch.testing.assert_close(rnn.step(piece.z), piece.z, rtol=1e-7, atol=1e-7)
        assert torch.equal(rnn.regime(piece.z), piece.code)
    # a point of the plane is in the regime that the plane says: from any (x, y) the others settle, or not at all
    generator = torch.Generator().manual_seed(0)
    for _ in range(100):
        x = 10.0 * torch.randn(2, generator=generator, dtype=torch.float64)
        others = rnn.recurrence().permuted(range(2, rnn.hidden_size))
        reduced = fixed_points(others._replace(h=others.h + rnn.W[2:, :2] @ x))
        assert codes_of(reduced) <= {tuple(piece.code.tolist()) for piece in found.continua}


def test_options_are_checked() -> None:
    rnn = networks.mutual_inhibition()

    def refused(message: str, **options: object) -> None:
        with pytest.raises(ValueError, match=message):
            fixed_points(rnn, **options)  # type: ignore[arg-type]

    refused("method must be one of 'auto', 'exhaustive', 'heuristic', 'certified', got 'all'", method="all")
    refused("box must be positive and finite, got 0", box=0, method="certified")
    refused("box belongs to method='certified'", box=1.0, method="heuristic")
    refused("restarts must not be negative, got -1", restarts=-1)
    refused("time_limit must not be negative, got nan", time_limit=math.nan)
    refused("max_ghosts must not be negative, got -1", max_ghosts=-1)
    refused(r"seed_states must have shape \(…, M=2\), got \(3,\)", seed_states=torch.zeros(3))
    refused("seed_states must be finite", seed_states=torch.full((2,), math.nan))
    broken: Tensor = rnn.W.detach().clone()
    broken[0, 0] = math.nan
    for method in ("exhaustive", "heuristic", "certified"):
        with pytest.raises(ValueError, match="parameter W must be finite"):
            fixed_points(rnn.recurrence()._replace(W=broken), method=method)  # type: ignore[arg-type]
