"""Integration is found where slow modes hold a sum, and not where evidence fades, is kept, or travels."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from mechanisms import Planted, cue, leaky
from networks import build

from lightning_alrnn.analysis.primitives import integration


@pytest.mark.parametrize(("decay", "expected"), [(1.0, True), (0.99, True), (0.8, False), (0.5, False)])
def test_an_integrator_and_networks_that_forget(decay: float, expected: bool) -> None:
    found = integration(leaky(decay).trials())
    assert found.found is expected
    assert float(found.flatness[0]) == pytest.approx(decay**22.5, abs=0.05)  # three quarters of 30 steps apart
    if expected:
        assert found.effect > 0.95
        assert found.slow == 1.0
        assert found.intervention == pytest.approx(1.0, abs=0.01)
        assert abs(found.lost_otherwise) < 0.01
    else:
        assert found.reason.startswith("effect: no kernel is flat")


def test_all_modes_integrate() -> None:
    rnn = build(np.zeros(0), np.eye(4), np.zeros(4), 0, C=np.eye(4)[:, :2])
    inputs = torch.randn(100, 20, 2, generator=torch.Generator().manual_seed(0))
    found = integration(Planted(rnn, inputs, torch.tensor([1.0, -1.0, 0.0, 0.0])).trials())
    assert (found.found, found.slow) == (True, 4.0)


def test_conditions_turn_the_sum_round() -> None:
    planted = leaky(1.0)
    group = torch.arange(150) % 2
    (trials,) = planted.trials()
    sign = (1.0 - 2 * group).double()
    turned = trials._replace(gains=trials.gains * sign[:, None, None], answer=trials.answer * sign)
    found = integration([turned], group)
    assert found.effect > 0.95
    assert found.p < 0.05


def test_a_sum_in_a_chain_is_not_held_by_slow_modes() -> None:
    """Ten units pass on what came in, and all of them are read: the kernel is flat, but no mode is slow."""
    size = 10
    W = np.diag(np.ones(size - 1), -1)
    rnn = build(np.zeros(0), W, np.zeros(size), 0, C=np.eye(size)[:, :1])
    inputs = torch.randn(100, size, 1, generator=torch.Generator().manual_seed(0))
    found = integration(Planted(rnn, inputs, torch.ones(size)).trials())
    assert found.found is False
    assert found.effect > 0.95
    assert found.reason.startswith("intervention")


def test_what_is_no_evidence() -> None:
    for inputs in (cue(100, 30)[0], torch.ones(20, 12, 1)):  # kept of one moment, or never varying
        found = integration(leaky(1.0)._replace(inputs=inputs).trials())
        assert found.found is None
        assert "a quarter of the steps" in found.reason


def test_a_slow_mode_that_is_not_read() -> None:
    assert integration(leaky(1.0)._replace(row=torch.eye(6)[1]).trials()).found is False


def test_more_is_asked_of_a_network_that_has_not_learned() -> None:
    assert integration(leaky(0.98).trials(1.0)).found
    assert integration(leaky(0.98).trials(0.0)).found is False
    assert integration(leaky(1.0).trials(0.0)).found


def test_padded_sequences() -> None:
    lengths = torch.randint(20, 31, (150,), generator=torch.Generator().manual_seed(0))
    found = integration(leaky(1.0)._replace(lengths=lengths).trials())
    assert found.found
    assert float(found.flatness[0]) == pytest.approx(1.0)
