"""Criteria: rules that say whether a trial of a regression is correct.

A criterion is a function of the outputs and targets at the last step of each trial, both ``(batch, outputs)``. It
returns bool of shape ``(batch,)``. NaN is never correct.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

RING_UNITS = 32  # of the outputs of `ring`

_DIRECTION_ERROR = math.pi / 6
_RING_ERROR = 0.2 * math.pi


def direction(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether a response has the right direction, for the outputs fixation, cos θ and sin θ.

    The angle between output and target is below 30°; (0, 0) has no direction and is wrong. A no-go trial, whose target
    is (1, 0, 0), is correct if the fixation output is above 0.5.
    """
    _check_width("direction", outputs, 3, "fixation, cos and sin")
    go = (targets[:, 1:] != 0).any(dim=1)
    return torch.where(go, _within(_DIRECTION_ERROR, outputs[:, 1:], targets[:, 1:]), outputs[:, 0] > 0.5)


def direction_lenient(outputs: Tensor, targets: Tensor) -> Tensor:
    """As :func:`direction`, but (0, 0) has the angle 0, as with atan2, and a no-go trial is correct within 30° of 0.

    It is for the comparison with results that were counted this way: a response at 0 passes every no-go trial.
    """
    _check_width("direction_lenient", outputs, 3, "fixation, cos and sin")
    return _within(_DIRECTION_ERROR, _angle_zero_if_none(outputs[:, 1:]), _angle_zero_if_none(targets[:, 1:]))


def ring(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether a response is at the right place of a ring, for fixation and 32 units with preferred directions 2πi/32.

    If the target fixates (above 0.5), the output fixates too. Otherwise it does not, and the angle between the
    population vectors of output and target is below 0.2π.

    Reference:
        Yang, Joglekar, Song, Newsome & Wang, Nature Neuroscience 2019.
    """
    _check_width("ring", outputs, 1 + RING_UNITS, f"fixation and {RING_UNITS} units of a ring")
    fixating, should_fixate = outputs[:, 0] > 0.5, targets[:, 0] > 0.5
    there = _within(_RING_ERROR, population_vector(outputs[:, 1:]), population_vector(targets[:, 1:]))
    return torch.where(should_fixate, fixating, there & (outputs[:, 0] <= 0.5))


def sign(outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether every output has the sign of its target; 0 has its own sign."""
    return (outputs.sign() == targets.sign()).all(dim=1)


def population_vector(activity: Tensor) -> Tensor:
    """Σ_i r_i (cos φ_i, sin φ_i) with φ_i = 2πi/n (Georgopoulos, Schwartz & Kettner, Science 233:1416, 1986)."""
    angle = 2 * math.pi / activity.shape[1] * torch.arange(activity.shape[1], device=activity.device)
    return torch.stack([(activity * angle.cos()).sum(dim=1), (activity * angle.sin()).sum(dim=1)], dim=1)


Criterion = Callable[[Tensor, Tensor], Tensor]

CRITERIA: dict[str, Criterion] = {
    "direction": direction,
    "direction_lenient": direction_lenient,
    "ring": ring,
    "sign": sign,
}
"""Criteria by name. Add your own criterion to this dict to use it by its name."""


def find_criterion(name: str) -> Criterion:
    """Return the criterion with a name.

    Args:
        name: Name of the criterion, one of :data:`CRITERIA`.

    Returns:
        Function from outputs and targets to bool of shape ``(batch,)``, which says whether each trial is correct.

    Raises:
        ValueError: If there is no such criterion; the message lists the names.

    Example:
        >>> find_criterion("sign")(torch.tensor([[0.3]]), torch.tensor([[1.0]]))
        tensor([True])
    """
    if name not in CRITERIA:
        raise ValueError(f"criterion must be one of {', '.join(map(repr, CRITERIA))}, got {name!r}")
    return CRITERIA[name]


def _within(angle: float, outputs: Tensor, targets: Tensor) -> Tensor:
    """Whether the angle between vectors ``(batch, 2)`` is below ``angle``; never, where one of them is 0."""
    lengths = torch.hypot(outputs[:, 0], outputs[:, 1]) * torch.hypot(targets[:, 0], targets[:, 1])
    return (outputs * targets).sum(dim=1) > math.cos(angle) * lengths


def _angle_zero_if_none(vectors: Tensor) -> Tensor:
    """Vectors ``(batch, 2)``, with (1, 0) for (0, 0)."""
    none = (vectors == 0).all(dim=1)
    return torch.stack([torch.where(none, 1.0, vectors[:, 0]), vectors[:, 1]], dim=1)


def _check_width(name: str, outputs: Tensor, width: int, meaning: str) -> None:
    if outputs.shape[1] != width:
        raise ValueError(
            f"criterion {name!r} is for {width} outputs ({meaning}), got {outputs.shape[1]}: "
            f"set criterion to None or another one of {', '.join(map(repr, CRITERIA))}"
        )
