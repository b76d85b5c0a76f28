"""When a trial counts as correct, against the rules stated one trial at a time."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from lightning_alrnn.metrics import CRITERIA, find_criterion
from lightning_alrnn.metrics.criteria import direction, direction_lenient, ring, sign

NAN = math.nan
angles = st.floats(-math.pi, math.pi)


def between(a: float, b: float) -> float:
    """The angle between two angles, in 0 … π."""
    return abs((a - b + math.pi) % (2 * math.pi) - math.pi)


def bump(angle: float) -> list[float]:
    """Activity of 32 units around an angle."""
    return [0.05 + 0.8 * math.exp(-0.5 * (between(angle, i * math.pi / 16) / (math.pi / 8)) ** 2) for i in range(32)]


def close_to(angle: float, limit: float) -> bool:
    return abs(angle - limit) < 1e-4


@given(theta=angles, answer=angles, size=st.floats(1e-3, 10), fixation=st.floats(-1, 2), amplitude=st.floats(0.1, 2))
def test_direction_of_a_go_trial(theta: float, answer: float, size: float, fixation: float, amplitude: float) -> None:
    error = between(theta, answer)
    if close_to(error, math.pi / 6):
        return
    target = torch.tensor([[0.0, amplitude * math.cos(theta), amplitude * math.sin(theta)]])
    output = torch.tensor([[fixation, size * math.cos(answer), size * math.sin(answer)]])
    for criterion in (direction, direction_lenient):
        assert criterion(output, target).tolist() == [math.degrees(error) < 30]


@given(answer=angles, size=st.floats(1e-3, 10), fixation=st.floats(-1, 2))
def test_direction_of_a_no_go_trial(answer: float, size: float, fixation: float) -> None:
    target = torch.tensor([[1.0, 0.0, 0.0]])
    output = torch.tensor([[fixation, size * math.cos(answer), size * math.sin(answer)]])
    assert direction(output, target).tolist() == [float(output[0, 0]) > 0.5]
    if not close_to(abs(answer), math.pi / 6):
        assert direction_lenient(output, target).tolist() == [abs(math.degrees(answer)) < 30]


@given(theta=angles, answer=angles, fixation=st.floats(-1, 2), should_fixate=st.booleans())
def test_ring(theta: float, answer: float, fixation: float, should_fixate: bool) -> None:
    error = between(theta, answer)
    if close_to(error, 0.2 * math.pi):
        return
    target = torch.tensor([[0.8 if should_fixate else 0.05, *(bump(theta) if not should_fixate else [0.05] * 32)]])
    output = torch.tensor([[fixation, *bump(answer)]])
    fixates = float(output[0, 0]) > 0.5
    expected = fixates if should_fixate else (not fixates and error < 0.2 * math.pi)
    assert ring(output, target).tolist() == [expected]


@pytest.mark.parametrize("theta", [0.0, 1.0, 3.0, -2.0])
@pytest.mark.parametrize("side", [-1, 1])
def test_limits_are_30_degrees_of_direction_and_36_of_the_ring(theta: float, side: int) -> None:
    for less in (0.1, -0.1):
        target, answer = ((math.cos(a), math.sin(a)) for a in (theta, theta + side * math.radians(30 - less)))
        for criterion in (direction, direction_lenient):
            assert criterion(torch.tensor([[0.0, *answer]]), torch.tensor([[0.0, *target]])).tolist() == [less > 0]
        target, answer = (torch.tensor([[0.05, *bump(a)]]) for a in (theta, theta + side * math.radians(36 - less)))
        assert ring(answer, target).tolist() == [less > 0]


@given(st.lists(st.tuples(st.floats(-2, 2), st.sampled_from([-1.0, 0.0, 1.0])), min_size=1, max_size=4))
def test_sign(pairs: list[tuple[float, float]]) -> None:
    outputs, targets = (torch.tensor([values], dtype=torch.float64) for values in zip(*pairs, strict=True))
    expected = all((o > 0) == (t > 0) and (o < 0) == (t < 0) for o, t in pairs)
    assert sign(outputs, targets).tolist() == [expected]


def test_an_answer_without_a_direction_is_wrong() -> None:
    nothing = torch.tensor([[0.0, 0.0, 0.0]])
    for theta in (0.0, 1.0, math.pi):
        go = torch.tensor([[0.0, math.cos(theta), math.sin(theta)]])
        assert not direction(nothing, go)
        assert bool(direction_lenient(nothing, go)) == (math.atan2(0.0, 0.0) == theta)
    assert not ring(torch.zeros(1, 33), torch.tensor([[0.05, *bump(0.0)]]))


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("direction", [0.0, 1.0, 0.0]),
        ("direction", [1.0, 0.0, 0.0]),
        ("direction_lenient", [1.0, 0.0, 0.0]),
        ("ring", [0.8, *[0.05] * 32]),
        ("ring", [0.05, *bump(1.0)]),
        ("sign", [1.0]),
    ],
)
def test_nan_is_wrong_and_half_precision_will_do(name: str, target: list[float]) -> None:
    targets = torch.tensor([target])
    assert find_criterion(name)(torch.full_like(targets, NAN), targets).tolist() == [False]
    assert find_criterion(name)(targets.bfloat16(), targets).tolist() == [True]  # as autocast has it


@pytest.mark.parametrize(("name", "width"), [("direction", 3), ("direction_lenient", 3), ("ring", 33), ("sign", 2)])
def test_no_criterion_waits_for_the_device(name: str, width: int) -> None:
    """A tensor on the meta device has no values: whatever asks for one raises."""
    values: Tensor = torch.empty(4, width, device="meta")
    found = find_criterion(name)(values, values)
    assert (found.shape, found.dtype, found.device.type) == ((4,), torch.bool, "meta")


@pytest.mark.parametrize(("name", "width"), [("direction", 2), ("direction_lenient", 33), ("ring", 3)])
def test_wrong_number_of_outputs_and_wrong_name(name: str, width: int) -> None:
    with pytest.raises(ValueError, match=rf"criterion '{name}' is for \d+ outputs \(.*\), got {width}: .*'sign'"):
        find_criterion(name)(torch.zeros(1, width), torch.zeros(1, width))
    with pytest.raises(ValueError, match=f"must be one of {', '.join(map(repr, CRITERIA))}, got '{name}g'"):
        find_criterion(f"{name}g")
