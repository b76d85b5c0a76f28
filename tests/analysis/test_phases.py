"""What a network does by phase of the trial, against counting step by step."""

from __future__ import annotations

import math
from collections import Counter

import pytest
import torch

from lightning_alrnn.analysis.phases import phase_activity
from lightning_alrnn.analysis.regime_statistics import regime_sharing


@pytest.mark.parametrize(
    ("batch", "time", "hidden", "units", "inputs"),
    [(7, 9, 5, 3, 2), (7, 9, 5, 0, 2), (4, 9, 3, 3, 1), (1, 1, 2, 1, 3), (6, 1, 2, 2, 1), (1, 12, 80, 70, 2)],
)
def test_against_counting_step_by_step(batch: int, time: int, hidden: int, units: int, inputs: int) -> None:
    generator = torch.Generator().manual_seed(0)
    states = torch.randn(batch, time, hidden, generator=generator)
    gains = torch.randn(batch, time, inputs, generator=generator, dtype=torch.float64)
    lengths = torch.randint(1, time + 1, (batch,), generator=generator)
    lengths[0] = time
    phase = torch.randint(0, 5, (batch, time), generator=generator) - 1  # any of none and four
    phase[phase == 2] = 9
    phase[0, 0] = 3
    result = phase_activity(states, units, phase, gains, lengths)

    regimes: dict[int, Counter[tuple[bool, ...]]] = {}
    moves: Counter[int] = Counter()
    switches: Counter[int] = Counter()
    on: dict[int, list[list[bool]]] = {}
    sizes: dict[int, list[list[float]]] = {}
    for row in range(batch):
        before = None
        for step in range(int(lengths[row])):
            code = (states[row, step, hidden - units :] > 0).tolist()
            index = int(phase[row, step])
            if index >= 0:
                regimes.setdefault(index, Counter())[tuple(code)] += 1
                on.setdefault(index, []).append(code)
                sizes.setdefault(index, []).append(gains[row, step].abs().tolist())
                if before is not None:
                    moves[index] += 1
                    switches[index] += code != before
            before = code
    assert result.occupancy.groups.tolist() == sorted(regimes)
    codes = [tuple(code) for code in result.occupancy.codes.tolist()]
    for row, index in enumerate(sorted(regimes)):
        counted = dict(zip(codes, result.occupancy.counts[row].tolist(), strict=True))
        assert {code: count for code, count in counted.items() if count} == regimes[index]
        assert int(result.occupancy.steps[row]) == len(on[index])
        expected = switches[index] / moves[index] if moves[index] else math.nan
        assert float(result.switches[row]) == pytest.approx(expected, nan_ok=True)
        torch.testing.assert_close(result.on[row], torch.tensor(on[index]).double().mean(dim=0))
        torch.testing.assert_close(result.gain[row], torch.tensor(sizes[index], dtype=torch.float64).mean(dim=0))
    sharing = regime_sharing(result.occupancy)
    assert torch.equal(result.sharing.js.nan_to_num(-1), sharing.js.nan_to_num(-1))


def test_no_step_has_a_phase() -> None:
    result = phase_activity(torch.randn(2, 3, 4), 2, torch.full((2, 3), -1), torch.zeros(2, 3, 5))
    assert len(result.occupancy.groups) == len(result.switches) == 0
    assert (result.on.shape, result.gain.shape) == ((0, 2), (0, 5))


def test_shapes_that_do_not_fit() -> None:
    for phase, gains, message in (
        ((2, 4), (2, 3, 1), r"phase must have one entry for each of the \(2, 3\) states \(batch, time\), got \(2, 4\)"),
        ((2,), (2, 3, 1), r"phase must have one entry for each .* got \(2,\)"),
        ((2, 3), (3, 2, 1), r"gains must have one entry for each .* got \(3, 2, 1\)"),
    ):
        with pytest.raises(ValueError, match=message):
            phase_activity(torch.zeros(2, 3, 4), 2, torch.zeros(phase, dtype=torch.int64), torch.zeros(gains))
