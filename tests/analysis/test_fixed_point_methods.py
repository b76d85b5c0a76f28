"""Methods of the search for fixed points: what each finds and claims, and all further fields of the result."""

from __future__ import annotations

import math
import time
from collections import Counter
from unittest.mock import Mock

import networks
import numpy as np
import pytest
import torch
from torch import nn

from lightning_alrnn.analysis import pivots
from lightning_alrnn.analysis.cycle_search import cycles
from lightning_alrnn.analysis.fixed_point_search import (
    FixedPointSet,
    eigenvalues_of_regimes,
    fixed_points,
    frequencies,
    stability_of,
    virtual_fixed_points,
)
from lightning_alrnn.nn import ALRNN, Recurrence


def codes_of(points: FixedPointSet) -> set[tuple[bool, ...]]:
    return {tuple(code) for code in points.code.tolist()}


def test_three_bit_flip_flop() -> None:
    """27 fixed points, 8 of them stable: x = −2, 0 or 2 in each bit."""
    rnn = networks.flip_flop(3)
    points = fixed_points(rnn)
    assert len(points.z) == 27
    assert Counter(points.stability)["stable"] == 8
    assert points.index_sum == 1
    assert points.complete
    assert {tuple(z) for z in points.z[:, :3].round(decimals=9).tolist()} == {
        (a, b, c) for a in (-2.0, 0.0, 2.0) for b in (-2.0, 0.0, 2.0) for c in (-2.0, 0.0, 2.0)
    }
    assert Counter(points.unstable_dimensions.tolist()) == {0: 8, 1: 12, 2: 6, 3: 1}
    for method in ("heuristic", "certified"):
        others = fixed_points(rnn, method=method, box=5.0 if method == "certified" else None)  # type: ignore[arg-type]
        assert codes_of(others) == codes_of(points)
        assert others.index_sum == 1


# --- heuristic ---


def test_the_seeded_search_finds_most_points_and_no_others() -> None:
    total = hits = 0
    for seed in range(40):
        rnn = networks.random_map(14, 10, 2.0, seed)
        everything, heuristic = fixed_points(rnn), fixed_points(rnn, method="heuristic", restarts=200)
        assert codes_of(heuristic) <= codes_of(everything)
        assert not heuristic.complete
        assert (heuristic.certificate, heuristic.box, heuristic.method) == ("not certified", None, "heuristic")
        total, hits = total + len(everything.z), hits + len(heuristic.z)
    assert total > 20
    assert hits > 0.7 * total


def test_seeds_lead_to_all_points() -> None:
    """From the regime of a fixed point the search stays; so do states that lie near it."""
    for seed in range(20):
        rnn = networks.random_map(14, 10, 2.0, seed)
        everything = fixed_points(rnn)
        for seeds in ({"visited": everything.code}, {"seed_states": everything.z}):
            points = fixed_points(rnn, method="heuristic", restarts=0, **seeds)
            assert codes_of(points) == codes_of(everything)
            assert bool(points.visited.all())


def test_the_same_seed_gives_the_same_search() -> None:
    rnn = networks.random_map(50, 40, 1.0, 0)
    start = time.process_time()
    first, second = (fixed_points(rnn, seed=3) for _ in range(2))
    assert time.process_time() - start < 4.0
    assert torch.equal(first.z, second.z)
    assert first.regimes_searched == second.regimes_searched


@pytest.mark.parametrize("units", [64, 130])
def test_many_units_neither_hang_nor_claim_too_much(units: int) -> None:
    rnn = networks.random_map(units, units, 1.2, units)
    for method in ("auto", "certified"):
        start = time.monotonic()
        points = fixed_points(rnn, method=method, restarts=20, time_limit=1.0)  # type: ignore[arg-type]
        assert time.monotonic() - start < 10.0
        assert not points.complete
        assert points.certificate.startswith(("not certified", "complete within |z| ≤ "))
    with pytest.raises(ValueError, match=f"up to 20 nonlinear units, got {units}: use 'heuristic'"):
        fixed_points(rnn, method="exhaustive")


def test_integrators_by_the_seeded_search() -> None:
    """All regimes are singular; the visited ones are looked at."""
    W = np.array([[1.0, -0.5, 0.5], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    rnn = networks.build(np.zeros(3), W, [0.0, -1.0, -1.0], 2)
    points = fixed_points(rnn, method="heuristic", seed_states=torch.tensor([[0.5, -0.5, -1.5]]), restarts=0)
    (piece,) = points.continua
    assert piece.code.tolist() == [False, False]
    assert not points.complete


def test_neighbours_of_points_are_searched() -> None:
    rnn = networks.uncoupled(3)
    everything = fixed_points(rnn)
    visited = torch.cat((everything.code[:1], everything.code[:1], ~everything.code[:1]))
    points = fixed_points(rnn, visited=visited, max_exhaustive_units=2, restarts=0)
    torch.testing.assert_close(points.z, everything.z)
    assert points.visited.tolist() == [code in visited.tolist() for code in everything.code.tolist()]
    nothing = fixed_points(rnn, max_exhaustive_units=2, restarts=0)
    assert (nothing.complete, nothing.regimes_searched) == (False, 0)
    assert (nothing.z.shape, nothing.code.shape, nothing.eigenvalues.shape) == ((0, 3), (0, 3), (0, 3))


def test_more_units_than_a_word_has_bits() -> None:
    visited = torch.rand(40, 150, generator=torch.Generator().manual_seed(0)) > 0.5
    visited[:, :130] = visited[0, :130]
    points = fixed_points(networks.uncoupled(150), visited=visited, restarts=300)
    assert len(points.z) == 340  # one in every regime; there are too many to follow all their neighbours
    codes = {tuple(code) for code in points.code[points.visited].tolist()}
    assert codes == {tuple(code) for code in visited.tolist()}
    keys = [code[::-1] for code in points.code.tolist()]
    assert keys == sorted(keys)


def test_more_points_than_can_be_listed_are_refused() -> None:
    with pytest.raises(ValueError, match="131072 regimes may hold a fixed point, but at most 65536"):
        fixed_points(networks.uncoupled(17), method="exhaustive")
    points = fixed_points(networks.uncoupled(17), restarts=50)
    assert not points.complete
    assert len(points.z) >= 50


# --- certificates ---


def test_certificates_are_right() -> None:
    """Against the exhaustive search: inside the box nothing is missing, and a point outside is no contradiction."""
    outside = 0
    for seed in range(30):
        rnn = networks.random_map(12, 1 + seed % 8, 2.0, seed)
        radius = (3.0, 30.0)[seed % 2]
        everything = fixed_points(rnn)
        points = fixed_points(rnn, method="certified", box=radius, restarts=seed % 3)
        assert not points.complete
        assert points.box == radius
        assert points.certificate == f"complete within |z| ≤ {radius:g}"
        inside = everything.z[:, rnn.linear_units :].abs().amax(dim=1) <= radius
        assert {tuple(code) for code in everything.code[inside].tolist()} <= codes_of(points) <= codes_of(everything)
        outside += int((~inside).sum())
    assert outside > 0


def test_certificates_of_rescaled_networks() -> None:
    """Whatever box is proven to hold no other point holds none."""
    proven = 0
    for seed in range(15):
        rng = np.random.default_rng(seed)
        size, units = int(rng.integers(4, 7)), int(rng.integers(1, 5))
        scale = 10.0 ** rng.uniform(-3.0, 3.0, size)
        A, h = rng.uniform(0.0, 0.9, size), rng.normal(size=size) * scale
        W = 1.5 * rng.normal(size=(size, size)) / np.sqrt(size) * scale[:, None] / scale
        rnn = Recurrence(torch.tensor(A), torch.tensor(W), None, torch.tensor(h), units)
        everything = fixed_points(rnn)
        radius = 10.0 ** rng.uniform(0.0, 4.0)
        points = fixed_points(rnn, method="certified", box=radius, restarts=0)
        inside = everything.z[:, len(h) - units :].abs().amax(dim=1) <= radius
        if points.box is not None:
            proven += 1
            assert {tuple(code) for code in everything.code[inside].tolist()} <= codes_of(points)
        assert codes_of(points) <= codes_of(everything)
    assert proven > 10


def test_the_default_box_follows_the_points() -> None:
    rnn = networks.mutual_inhibition()
    points = fixed_points(rnn, method="certified")
    assert points.box == pytest.approx(20.0)
    wider = fixed_points(rnn, method="certified", seed_states=torch.tensor([[0.0, 7.0]]))
    assert wider.box == pytest.approx(70.0)


def test_border_points_and_certificates() -> None:
    """A point on a border solves several regimes: each is cut off in turn."""
    rnn = networks.build(np.full(4, 0.5), np.zeros((4, 4)), np.zeros(4), 3)
    points = fixed_points(rnn, method="certified", box=1.0, restarts=0)
    assert len(points.z) == 1
    assert points.border.tolist() == [[True] * 3]
    assert points.certificate == "complete within |z| ≤ 1"


# --- choice of the method ---


def test_a_linear_network_is_complete_by_any_method() -> None:
    rnn = networks.build([], [[0.5]], [1.0], 0)
    for method in ("auto", "exhaustive", "heuristic", "certified"):
        points = fixed_points(rnn, method=method)  # type: ignore[arg-type]
        assert points.complete
        assert points.z.tolist() == [[2.0]]


def test_all_regimes_are_searched_where_the_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    rnn = networks.random_map(24, 15, 1.0, 0)
    everything = fixed_points(rnn)
    assert (everything.method, everything.complete, everything.regimes_searched) == ("exhaustive", True, 2**15)
    for options, method in (({}, "heuristic"), ({"box": 10.0}, "certified")):
        hurried = fixed_points(rnn, time_limit=0.0, **options)  # type: ignore[arg-type]
        assert (hurried.method, hurried.complete, hurried.box) == (method, False, None)
    assert fixed_points(rnn, method="exhaustive", time_limit=0.0).complete  # asked for

    screen = Mock(side_effect=pivots._screen_leaves)
    monkeypatch.setattr(pivots, "_screen_leaves", screen)
    assert cycles(networks.random_map(6, 5, 1.0, 0), 3, time_limit=0.0).method == "heuristic"
    assert screen.call_count == 1  # 2^12 of the 2^15 tell


def test_twenty_units_in_time() -> None:
    rnn = networks.random_map(50, 20, 1.0, 0)
    start = time.process_time()
    points = fixed_points(rnn)
    assert points.complete
    assert time.process_time() - start < 10.0  # measured: less than 2 s


# --- further fields ---


def test_several_inputs_give_a_list() -> None:
    rng = np.random.default_rng(0)
    rnn = networks.build(np.full(5, 0.5), rng.normal(size=(5, 5)), rng.normal(size=5), 3, C=rng.normal(size=(5, 2)))
    inputs = torch.from_numpy(rng.normal(size=(4, 2)))
    points = fixed_points(rnn, inputs)
    for one, several in zip(inputs, points, strict=True):
        assert torch.equal(fixed_points(rnn, one).z, several.z)
        torch.testing.assert_close(rnn.step(several.z, one), several.z)
    assert fixed_points(rnn, inputs[:0]) == []


def test_parameters_in_place_of_a_layer() -> None:
    rnn = networks.random_network(9)
    recurrence = rnn.recurrence()
    for parameters in (recurrence, recurrence._replace(C=None)):
        torch.testing.assert_close(fixed_points(parameters).z, fixed_points(rnn).z)


def test_readout_of_the_points() -> None:
    rnn = networks.mutual_inhibition()
    layer = nn.Linear(2, 3)
    points = fixed_points(rnn, readout=layer)
    torch.testing.assert_close(points.readout, layer(points.z.float()).detach())
    assert not points.readout.requires_grad
    assert fixed_points(rnn, readout=lambda z: z.sum(dim=1)).readout.tolist() == pytest.approx([0.0, 0.0, 4 / 3])
    assert fixed_points(rnn).readout is None


def test_visited_regimes_mark_points() -> None:
    rnn = networks.mutual_inhibition()
    points = fixed_points(rnn, visited=torch.tensor([[0, 0], [0, 1], [1, 1]]))
    assert points.visited.tolist() == [False, True, True]
    assert fixed_points(rnn).visited.tolist() == [False] * 3
    on_border = networks.build([0.0], [[0.5]], [0.0], 1)
    assert fixed_points(on_border, visited=torch.ones(1, 1)).visited.tolist() == [True]  # on the other side only


def test_ghosts() -> None:
    """Both off: z = 2 h − … = (2, 2), which is where both are on."""
    rnn = networks.mutual_inhibition()
    states = torch.tensor([[[-1.0, -1.0], [1.0, -1.0], [1.0, -1.0]]])
    points = fixed_points(rnn, seed_states=states)
    assert points.ghosts.code.tolist() == [[False, False]]
    assert points.ghosts.z.tolist() == [[2.0, 2.0]]
    assert points.ghosts.outside.tolist() == [2.0]
    assert points.ghosts.eigenvalues.tolist() == [[0.5, 0.5]]
    assert points.ghosts.stability == ["stable"]
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
    ghosts = virtual_fixed_points(rnn, torch.tensor([[False], [True]]))
    assert ghosts.code.tolist() == [[False]]
    assert ghosts.z.tolist() == [[1.0]]


def test_eigenvectors_and_frequencies() -> None:
    for seed in range(12):
        rnn = networks.random_network(seed)
        points = fixed_points(rnn)
        for z, values, vectors in zip(points.z, points.eigenvalues, points.eigenvectors, strict=True):
            J = rnn.jacobian(z).detach().to(vectors.dtype)
            torch.testing.assert_close(J @ vectors, vectors * values, rtol=1e-7, atol=1e-7)
            torch.testing.assert_close(vectors.norm(dim=0), torch.ones(len(values), dtype=torch.float64))
        torch.testing.assert_close(points.frequencies, points.eigenvalues.angle().abs() / (2 * math.pi))
        growing = (points.eigenvalues.abs() > 1).sum(dim=1)
        assert torch.equal(points.unstable_dimensions, growing)
    assert frequencies(torch.tensor([-2.0, 3.0, 1j])).tolist() == pytest.approx([0.5, 0.0, 0.25])
    assert stability_of(torch.zeros(0, 3)) == []


def test_both_jacobians_at_a_border() -> None:
    """z' = 2 φ(z) at 0: slope 0 on one side, 2 on the other."""
    points = fixed_points(networks.build([0.0], [[2.0]], [0.0], 1))
    assert points.border.tolist() == [[True]]
    assert points.eigenvalues.tolist() == [[0.0]]
    assert points.eigenvalues_across.tolist() == [[2.0]]
    plain = fixed_points(networks.mutual_inhibition())
    assert torch.equal(plain.eigenvalues, plain.eigenvalues_across)
    assert not bool(plain.border.any())


def test_many_integrators_neither_hang_nor_fail() -> None:
    """Two linear integrators without a drive: planes of fixed points in many of the 1024 regimes."""
    rnn = networks.random_map(20, 10, 1.0, 0)
    with torch.no_grad():
        rnn.A[:2], rnn.W[:2], rnn.h[:2] = 0.0, torch.eye(20)[:2], 0.0
    points = fixed_points(rnn)
    assert points.complete
    assert len(points.continua) > 10
    for piece in points.continua:
        torch.testing.assert_close(rnn.step(piece.z), piece.z, rtol=1e-7, atol=1e-7)
        assert torch.equal(rnn.regime(piece.z), piece.code)


def test_the_network_is_left_alone() -> None:
    rnn = networks.random_network(7).float().requires_grad_(True)
    before = {name: value.clone() for name, value in rnn.state_dict().items()}
    defaults = torch.get_default_dtype(), torch.get_num_threads()
    points, again = fixed_points(rnn), fixed_points(rnn)
    assert not points.z.requires_grad
    assert all(torch.equal(value, before[name]) for name, value in rnn.state_dict().items())
    assert (torch.get_default_dtype(), torch.get_num_threads()) == defaults
    assert torch.equal(points.z, again.z)
    assert torch.equal(points.eigenvalues, again.eigenvalues)


# --- refusals ---


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "all"}, "method must be one of 'auto', 'exhaustive', 'heuristic', 'certified', got 'all'"),
        ({"box": 0, "method": "certified"}, "box must be positive and finite, got 0"),
        ({"box": 1.0, "method": "heuristic"}, "box requires method='certified'"),
        ({"restarts": -1}, "restarts must not be negative, got -1"),
        ({"time_limit": math.nan}, "time_limit must not be negative, got nan"),
        ({"max_ghosts": -1}, "max_ghosts must not be negative, got -1"),
        ({"max_exhaustive_units": 21}, "max_exhaustive_units must lie between 0 and 20, got 21"),
        ({"border_tolerance": -1.0}, "border_tolerance must lie between 0 and 1e-09, got -1"),
        ({"marginal_tolerance": 0.1}, "marginal_tolerance must lie between 0 and 0.001, got 0.1"),
        ({"seed_states": torch.zeros(3)}, r"seed_states must have shape \(…, M=2\), got \(3,\)"),
        ({"seed_states": torch.full((2,), math.nan)}, "seed_states must be finite"),
        ({"visited": torch.zeros(2, 3)}, r"regimes must have shape \(n, P=2\), got \(2, 3\)"),
        ({"inputs": torch.zeros(1, 1, 1)}, r"inputs must have shape \(input_size,\) = \(1,\)"),
        ({"inputs": torch.full((1,), math.inf)}, "inputs must be finite"),
    ],
)
def test_options_are_checked(options: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fixed_points(networks.mutual_inhibition(), **options)  # type: ignore[arg-type]


def test_networks_are_checked() -> None:
    recurrence = networks.mutual_inhibition().recurrence()
    for name in "AWCh":
        broken = recurrence._replace(**{name: getattr(recurrence, name) * math.nan})
        for method in ("exhaustive", "heuristic", "certified"):
            with pytest.raises(ValueError, match=f"parameter {name} must be finite"):
                fixed_points(broken, method=method)  # type: ignore[arg-type]
    for network in (tuple(recurrence), nn.Linear(2, 2)):
        with pytest.raises(
            TypeError, match=r"an ALRNN or a Recurrence\(A, W, C, h, P\), got " + type(network).__name__
        ):
            fixed_points(network)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="parameter W must have shape"):
        fixed_points(recurrence._replace(W=recurrence.W[:-1]))
    with pytest.raises(ValueError, match="P must lie between 0 and M"):
        fixed_points(recurrence._replace(P=3))
    with pytest.raises(ValueError, match=r"inputs must have shape \(hidden_size,\) = \(3,\)"):
        fixed_points(ALRNN(None, 3, 1), torch.zeros(2))


def test_regimes_are_checked() -> None:
    rnn = networks.mutual_inhibition()
    with pytest.raises(ValueError, match="regimes must have shape"):
        eigenvalues_of_regimes(rnn, torch.zeros(2))
    assert eigenvalues_of_regimes(rnn, torch.zeros(0, 2)).shape == (0, 2)
