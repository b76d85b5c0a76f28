"""The history of each fixed point over the epochs, small enough for a checkpoint."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

from lightning_alrnn.analysis.spectrum import PrincipalComponents
from lightning_alrnn.analysis.tracking import STABILITIES, FixedPointPlaces, TrackedFixedPoints, match_fixed_points

MOST_TRACKED = 256  # fixed points of an evaluation
_MOST_NUMBERS = 20_000  # entries of a history: a few hundred kB of a checkpoint
_MOST_EVENTS = 1000
_DIGITS = {name: str(index) for index, name in enumerate(STABILITIES)}


class Changes(NamedTuple):
    """Numbers of tracked points that changed since the last evaluation; counts of all points by ``STABILITIES``."""

    born: int
    died: int
    changed_stability: int
    bifurcation: bool  # the number of points of some stability changed, or a tracked point changed its own
    before: list[int] | None
    now: list[int]

    def __str__(self) -> str:
        changes = f"born: {self.born}, died: {self.died}, changed stability: {self.changed_stability}"
        return f"{_listed(self.before)} → {_listed(self.now)} ({changes})"


class FixedPointHistory:
    """Gives each fixed point an identity that it keeps from evaluation to evaluation.

    Attributes:
        evaluations: The evaluations. If they hold more than 20,000 numbers, every second one is dropped, and from then
            on only every second one is stored, in addition to the last.
        bifurcations: Epochs of the last 1000 bifurcations.
    """

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Forget all evaluations."""
        self.evaluations: list[TrackedFixedPoints] = []
        self.bifurcations: list[int] = []
        self._last: FixedPointPlaces | None = None
        self._next = 0
        self._count = 0  # evaluations; multiples of the stride are stored, and the last
        self._stride = 1
        self._direction: Tensor | None = None

    def add(
        self, epoch: int, step: int, points: FixedPointPlaces, counts: list[int], components: PrincipalComponents
    ) -> Changes:
        """Add an evaluation. A step that is not later than the last one begins another run, and clears the history."""
        if self.evaluations and step <= self.evaluations[-1].step:
            self.clear()
        identities, changes = self._identify(points, counts, float(components.variance.sum().sqrt()))
        if self._count > 0 and (self._count - 1) % self._stride:
            self.evaluations.pop()  # it was stored only as the last one
        self._count += 1
        direction = components.directions[0]
        if self._direction is not None and float(direction @ self._direction) < 0:
            direction = -direction  # the sign of a component is arbitrary
        coordinates = ((points.z - components.mean) @ direction).tolist()
        tracked = (identities, list(points.stability), coordinates, counts, changes.bifurcation)
        self.evaluations.append(TrackedFixedPoints(epoch, step, *tracked))
        if changes.bifurcation:
            self.bifurcations = [*self.bifurcations, epoch][-_MOST_EVENTS:]
        self._last, self._direction = points, direction
        while len(self.evaluations) > 2 and sum(6 + 2 * len(one[2]) for one in self.evaluations) > _MOST_NUMBERS:
            self._stride *= 2
            *earlier, last = self.evaluations
            self.evaluations = [*earlier[::2], last]
        return changes

    def state_dict(self) -> dict[str, Any]:
        """The history as numbers, strings and lists."""
        last = self._last
        return {
            "evaluations": [
                [
                    *one[:3],
                    "".join(_DIGITS[name] for name in one.stability),
                    one.coordinates,
                    one.counts,
                    int(one.bifurcation),
                ]
                for one in self.evaluations
            ],
            "bifurcations": list(self.bifurcations),
            "next": self._next,
            "count": self._count,
            "stride": self._stride,
            "direction": None if self._direction is None else self._direction.tolist(),
            "z": None if last is None else last.z.tolist(),
            "code": None if last is None else ["".join("01"[bit] for bit in row) for row in last.code.int().tolist()],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Load the result of :meth:`state_dict`."""
        self.clear()
        self.evaluations = [
            TrackedFixedPoints(epoch, step, identities, [STABILITIES[int(d)] for d in digits], z, counts, bool(changed))
            for epoch, step, identities, digits, z, counts, changed in state["evaluations"]
        ]
        self.bifurcations, self._next = list(state["bifurcations"]), state["next"]
        self._count, self._stride = state["count"], state["stride"]
        if state["direction"] is not None:
            self._direction = torch.tensor(state["direction"], dtype=torch.float64)
            bits = [[letter == "1" for letter in row] for row in state["code"]]
            width = len(bits[0]) if bits else 0
            self._last = FixedPointPlaces(
                torch.tensor(state["z"], dtype=torch.float64).view(-1, len(self._direction)),
                torch.tensor(bits, dtype=torch.bool).view(len(bits), width),
                self.evaluations[-1].stability,
            )

    def _identify(self, points: FixedPointPlaces, counts: list[int], scale: float) -> tuple[list[int], Changes]:
        """The identity of each point, with new identities for new points."""
        before = self._last
        if before is None or len(before.z) == 0 or len(points.z) == 0:
            died, born, changed = (0, 0, 0) if before is None else (len(before.z), len(points.z), 0)
            identities = list(range(self._next, self._next + len(points.z)))
        else:
            match = match_fixed_points(before, points, scale=scale)
            identities = [-1] * len(points.z)
            for old, new in match.pairs.tolist():
                identities[new] = self.evaluations[-1].identities[old]
            for offset, new in enumerate(match.born.tolist()):
                identities[new] = self._next + offset
            died, born, changed = len(match.died), len(match.born), int(match.changed_stability.sum())
        self._next = max([self._next - 1, *identities]) + 1
        last = self.evaluations[-1].counts if self.evaluations else None
        bifurcation = last is not None and (last != counts or changed > 0)
        return identities, Changes(born, died, changed, bifurcation, last, counts)


def _listed(counts: list[int] | None) -> str:
    named = [f"{count} {name}" for count, name in zip(counts or (), STABILITIES, strict=False) if count]
    return ", ".join(named) or "none"
