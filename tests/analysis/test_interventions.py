"""Interventions against networks rewritten by hand."""

from __future__ import annotations

import math
from collections.abc import Callable

import networks
import numpy as np
import pytest
import torch
from torch import Tensor

from lightning_alrnn.analysis.interventions import (
    Intervention,
    clamp_regime,
    fixed_points_under,
    freeze_switching,
    intervene,
    intervention_effect,
    linearise,
    silence,
)
from lightning_alrnn.nn.alrnn import ALRNN


def driven(seed: int = 0) -> tuple[ALRNN, Tensor]:
    """M=6, P=4, K=2 with random weights, and inputs of 9 steps."""
    rng = np.random.default_rng(seed)
    W, C = rng.normal(size=(6, 6)) * 0.5, rng.normal(size=(6, 2))
    rnn = networks.build(rng.uniform(0, 0.9, 6), W, rng.normal(size=6), 4, C=C)
    return rnn, torch.from_numpy(rng.normal(size=(5, 9, 2)))


def by_hand(rnn: ALRNN, inputs: Tensor, kind: Intervention | None) -> tuple[Tensor, Tensor]:
    """States and regimes in effect, one sequence, one step, one unit at a time."""
    A, W, h = networks.plain(rnn)
    C = rnn.C.detach().numpy()
    first = rnn.linear_units
    states, codes = [], []
    for sequence in inputs.numpy():
        z, frozen = np.zeros(len(h)), None
        for step, s in enumerate(sequence):
            on = [bool(value > 0) for value in z[first:]]
            if kind is not None:
                active = kind.start <= step and (kind.stop is None or step < kind.stop)
                if kind.kind == "linearise":
                    on = [bit or unit in kind.units for unit, bit in enumerate(on)]
                elif kind.kind == "clamp" and active:
                    on = list(kind.code)
                elif kind.kind == "freeze" and active:
                    on = frozen = on if frozen is None else frozen
            rectified = [value if i < first or on[i - first] else 0.0 for i, value in enumerate(z)]
            z = A @ z + W @ np.array(rectified) + C @ s + h
            if kind is not None and kind.kind == "silence":
                z[[first + unit for unit in kind.units]] = 0.0
            states.append(z)
            codes.append(on)
    shape = *inputs.shape[:2], -1
    return torch.from_numpy(np.array(states)).reshape(shape), torch.tensor(codes).reshape(shape)


@pytest.mark.parametrize(
    "kind",
    [
        None,
        linearise(0, 3),
        silence(0, 1),
        clamp_regime([True, False, True, False], 2, 5),
        clamp_regime(torch.tensor([False, False, True, True])),
        freeze_switching(0),
        freeze_switching(4),
        freeze_switching(8),
    ],
)
def test_runs_are_those_by_hand(kind: Intervention | None) -> None:
    for seed in range(3):
        rnn, inputs = driven(seed)
        found = intervene(rnn, inputs, kind)
        states, codes = by_hand(rnn, inputs, kind)
        torch.testing.assert_close(found.states, states)
        assert torch.equal(found.codes, codes)
        if kind is None:
            torch.testing.assert_close(found.states, rnn(inputs).states.detach())


def test_starts_and_lengths() -> None:
    rnn, inputs = driven()
    state = torch.randn(5, 6, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    lengths = torch.tensor([9, 1, 4, 9, 2])
    found = intervene(rnn, inputs, state=state, lengths=lengths)
    torch.testing.assert_close(found.states, rnn(inputs, state, lengths).states.detach())
    learned = ALRNN(2, 3, 1, initial_state="learned")
    learned.z0.data.fill_(1.0)
    states = intervene(learned, inputs.float()).states.float()
    torch.testing.assert_close(states, learned(inputs.float()).states.detach())


# --- fixed points ---


def test_fixed_points_of_linearised_and_silenced_networks() -> None:
    """Each is a fixed point of the run under the intervention, with a constant input."""
    total = 0
    for seed in range(10):
        rnn = networks.random_map(6, 4, 2.0, seed)
        for kind in (linearise(1), linearise(0, 2), silence(3), silence(1, 2), clamp_regime([True, False, True, True])):
            found = fixed_points_under(rnn, kind)
            assert found.complete
            assert not bool(found.on_border.any())
            for z, code in zip(found.z, found.code, strict=True):
                run = intervene(rnn, torch.zeros(1, 1, 1), kind, state=z[None])
                torch.testing.assert_close(run.states[0, 0], z, rtol=1e-7, atol=1e-7)
                assert torch.equal(run.codes[0, 0], code)
            total += len(found.z)
    assert total > 30


def test_eigenvectors_in_terms_of_all_units() -> None:
    rnn = networks.random_map(5, 3, 2.0, 3)
    found = fixed_points_under(rnn, linearise(2))
    for code, values, vectors in zip(found.code, found.eigenvalues, found.eigenvectors, strict=True):
        J = rnn.regime_matrix(code).detach().to(vectors.dtype)
        torch.testing.assert_close(J @ vectors, vectors * values, rtol=1e-7, atol=1e-7)
    silent = fixed_points_under(rnn, silence(2))
    assert not silent.eigenvectors[:, 4].any()
    assert not silent.z[:, 4].any()
    assert silent.eigenvalues.shape[1] == 4


@pytest.mark.parametrize("inputs", [None, torch.ones(2)])
def test_a_network_without_any_unit_stays_at_zero(inputs: Tensor | None) -> None:
    rnn = ALRNN(2 if inputs is None else None, 2, 2)
    found = fixed_points_under(rnn, silence(0, 1), inputs)
    assert (found.z.tolist(), found.code.tolist(), found.stability) == ([[0, 0]], [[False, False]], ["stable"])
    assert found.eigenvalues.tolist() == [[0.0]]
    assert (found.complete, found.on_border.tolist()) == (True, [False])


def test_fixed_points_of_a_clamped_regime() -> None:
    """Held in one regime, the virtual fixed point is a real one."""
    rnn = networks.mutual_inhibition()
    found = fixed_points_under(rnn, clamp_regime([False, False]))
    assert (found.z.tolist(), found.code.tolist()) == ([[2.0, 2.0]], [[False, False]])
    assert (found.stability, found.regimes_searched) == (["stable"], 1)


def test_ghosts_borders_and_continua_under_an_intervention() -> None:
    W = np.array([[1.0, -0.5, 0.5], [1.0, 0.0, 0.0], [-1.0, 0.0, 0.0]])
    segment = networks.build(np.zeros(3), W, [0.0, -1.0, -1.0], 2)  # a segment of fixed points, |z_1| ≤ 1
    half = fixed_points_under(segment, silence(1))
    (piece,) = half.continua
    assert piece.code.tolist() == [False, False]
    assert piece.z.shape == (3,)
    assert piece.directions[0, 2] == 0
    assert piece.extent.isinf().tolist() == [[True, False]]
    border = networks.build(np.full(3, 0.5), np.zeros((3, 3)), np.zeros(3), 2)
    assert fixed_points_under(border, linearise(0)).border.tolist() == [[False, True]]
    assert fixed_points_under(border, silence(1)).border.tolist() == [[True, False]]


# --- effects ---


def test_effects_of_making_the_winner_linear() -> None:
    rnn = networks.mutual_inhibition()
    inputs = torch.zeros(2, 40, 1)
    state = torch.tensor([[1.0, 0.5], [0.5, 1.0]])

    def settled(states: Tensor) -> Tensor:
        """Share of sequences that end at a stable point of the network as it is."""
        ends = torch.tensor([[2.0, -2.0], [-2.0, 2.0]], dtype=torch.float64)
        return (states[:, -1, None] - ends).norm(dim=-1).amin(dim=1).lt(0.1).double().mean()

    none = intervention_effect(rnn, inputs, clamp_regime([True, True], 0, 1), settled, state=state)
    assert (none.baseline, none.score, none.change) == (1.0, 1.0, 0.0)
    assert none.occupancy_shift == pytest.approx(0.0)
    both = intervention_effect(rnn, inputs, linearise(0, 1), settled, state=state)
    assert (both.baseline, both.score, both.change) == (1.0, 0.0, -1.0)
    assert (both.baseline_visited, both.visited) == (3, 1)
    assert both.occupancy_shift > 0.5
    assert both.baseline_fixed_points.stability == ["stable", "stable", "saddle"]
    assert both.fixed_points.stability == ["saddle"]


def test_effect_of_freezing() -> None:
    rnn = networks.mutual_inhibition()
    state = torch.tensor([[1.0, -0.5], [1.0, -0.4], [-1.0, -1.0]])
    inputs = torch.zeros(3, 5, 1)
    found = intervention_effect(rnn, inputs, freeze_switching(0), lambda states: states[2, -1, 0], state=state)
    assert found.fixed_points.code.tolist() == [[True, False]]  # what most are frozen in
    assert found.fixed_points.z.tolist() == [[2.0, -2.0]]
    assert found.visited == 2
    assert found.score == pytest.approx(2.0 - 3.0 / 2**5)  # towards (2, 2) without inhibition


def test_effects_count_valid_steps_only() -> None:
    rnn, inputs = driven()
    one = intervention_effect(rnn, inputs, silence(0), lambda _: 0.0, lengths=torch.ones(5, dtype=torch.int64))
    assert one.visited == one.baseline_visited == 1
    assert one.occupancy_shift == 0.0  # at z_0 = 0 all are off with and without it


def test_errors_say_what_is_wrong() -> None:
    rnn, inputs = driven()
    wide = ALRNN(None, 3, 2)
    calls: list[tuple[Callable[[], object], str]] = [
        (lambda: intervene(rnn, inputs, silence(4)), "units must be nonlinear units, 0 … P−1 with P=4, got 4"),
        (linearise, "at least one nonlinear unit"),
        (lambda: intervene(rnn, inputs, clamp_regime([True, False])), "code must have P=4 bits, got 2"),
        (lambda: clamp_regime([True] * 4, 3, 3), "0 ≤ start < stop, got 3 and 3"),
        (lambda: freeze_switching(-1), "start must not be negative"),
        (lambda: intervene(rnn, inputs, freeze_switching(9)), "start must lie before the last of the 9 steps, got 9"),
        (lambda: intervene(rnn, inputs[0]), r"inputs must have shape \(batch, time, input_size=2\)"),
        (lambda: intervene(rnn, inputs, state=torch.zeros(6)), r"state must have shape \(batch, M\) = \(5, 6\)"),
        (lambda: intervene(rnn, inputs, lengths=torch.full((5,), 10)), "lengths must lie between 1"),
        (lambda: intervene(rnn, torch.full_like(inputs, math.nan)), "inputs must be finite"),
        (lambda: fixed_points_under(rnn, freeze_switching(0)), "a frozen regime depends on the run"),
        (lambda: fixed_points_under(wide, silence(0), torch.zeros(2)), r"inputs must have shape \(hidden_size,\)"),
    ]
    for call, message in calls:
        with pytest.raises(ValueError, match=message):
            call()
    assert len(fixed_points_under(wide, silence(0), torch.ones(3)).z) == 1
