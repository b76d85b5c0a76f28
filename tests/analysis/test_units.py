"""Unit activity against loops over single states."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch

from lightning_alrnn.analysis.units import unit_activity


@pytest.mark.parametrize("nonlinear", [0, 1, 5])
@pytest.mark.parametrize(("batch", "time"), [(1, 1), (6, 9)])
def test_activity_equals_brute_force(by_hand: Callable[..., Any], nonlinear: int, batch: int, time: int) -> None:
    torch.manual_seed(nonlinear)
    states, lengths = torch.randn(batch, time, 5), torch.randint(1, time + 1, (batch,))
    found = unit_activity(states, nonlinear, lengths)
    expected = by_hand(states, lengths, nonlinear)
    assert found.duty.tolist() == pytest.approx([n / expected.steps for n in expected.on])
    assert found.switching.tolist() == pytest.approx([n / max(expected.moves, 1) for n in expected.switches])
    assert found.mean_duty == pytest.approx(sum(found.duty.tolist()) / max(nonlinear, 1))


def test_active_always_on_and_always_off() -> None:
    # over 2000 moves: unit 0 switches once (below the share of 0.001), unit 1 four times, 2 never on, 3 never off
    states = torch.ones(1, 2001, 4)
    states[0, 1000:, 0] = -1
    states[0, [10, 20], 1] = -1
    states[..., 2] = -1
    found = unit_activity(states, 4)
    assert (found.active, found.always_on, found.always_off) == (1, 1, 1)
    assert unit_activity(states, 4, threshold=1 / 2000).active == 2
    assert unit_activity(states, 4, threshold=0.0).active == 2  # a unit that never switches is not active
