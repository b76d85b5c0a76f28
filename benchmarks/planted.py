"""Networks built by hand, whose mechanism is known: what ``mechanisms.py`` looks for primitives in.

Each kind of network is drawn anew for each seed: its length, its inputs and how it is hidden, by up to 40 stable linear
units beside its own and a random rotation of all linear units, so that nothing lies along an axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

TRIALS = 300
HIDDEN = (0, 5, 10, 40)
"""Linear units that a network is hidden among, by turns."""

Generator = np.random.Generator
Truth = tuple[bool | None, bool | None, bool | None, bool | None]
"""Whether a network has gating, integration, routing and transients; ``None`` where the definitions leave it open."""


class Case(NamedTuple):
    """A network, its readout, trials and what its answers should be.

    Attributes:
        rnn: Parameters (A, W, C, h, P).
        weight: Readout, shape ``(outputs, M)``.
        inputs: Shape ``(batch, time, K)``.
        targets: Classes of shape ``(batch,)``, or ``None`` for the answers themselves.
        group: Conditions of shape ``(batch,)``, or ``None``.
        lengths: Valid steps of shape ``(batch,)``, or ``None``.
    """

    rnn: tuple[Tensor, Tensor, Tensor, Tensor, int]
    weight: Tensor
    inputs: Tensor
    targets: Tensor | None = None
    group: Tensor | None = None
    lengths: Tensor | None = None


class Wiring:
    """Units by name, and what they pass on to one another.

    Args:
        rng: Of the network.
        channels: K.
    """

    def __init__(self, rng: Generator, channels: int) -> None:
        self._rng, self._channels = rng, channels
        self._linear: list[str] = []
        self._rectified: list[str] = []
        self._weights: dict[tuple[str, str], float] = {}
        self._inputs: dict[tuple[str, int], float] = {}
        self._bias: dict[str, float] = {}

    def unit(self, name: str, *, rectified: bool = False, bias: float = 0.0, **weights: float) -> Wiring:
        """Add a unit; ``s0=1.0`` is the weight of input 0, ``a=1.0`` that of unit a."""
        (self._rectified if rectified else self._linear).append(name)
        self._bias[name] = bias
        for source, weight in weights.items():
            if source.startswith("s") and source[1:].isdigit():
                self._inputs[name, int(source[1:])] = weight
            else:
                self._weights[name, source] = weight
        return self

    def connect(self, target: str, **weights: float) -> Wiring:
        """Add weights to a unit."""
        for source, weight in weights.items():
            self._weights[target, source] = weight
        return self

    def pair(
        self, name: str, to: str, weight: float = 1.0, *, bias: float = 0.0, gate: dict[str, float], **signal: float
    ) -> Wiring:
        """Two rectified units that together pass a signal of either sign on to a unit, while the gate is at zero.

        Args:
            name: Of both.
            to: Where to.
            weight: Of the signal there.
            bias: Of both units, such as minus what the gate is when it is open.
            gate: What opens it, as in :meth:`unit`.
            **signal: What is passed on, as in :meth:`unit`.
        """
        for suffix, sign in (("+", 1.0), ("-", -1.0)):
            both = {**{source: sign * value for source, value in signal.items()}, **gate}
            self.unit(name + suffix, rectified=True, bias=bias, **both)
            self._weights[to, name + suffix] = sign * weight
        return self

    def hide(self, hidden: int, **readout: float) -> tuple[tuple[Tensor, Tensor, Tensor, Tensor, int], Tensor]:
        """The network among ``hidden`` linear units of no effect, all linear units rotated at random; its readout."""
        names = [*self._linear, *(f"hidden {index}" for index in range(hidden)), *self._rectified]
        place = {name: index for index, name in enumerate(names)}
        size, linear = len(names), len(names) - len(self._rectified)
        W, C, h = np.zeros((size, size)), np.zeros((size, self._channels)), np.zeros(size)
        for (target, source), weight in self._weights.items():
            W[place[target], place[source]] = weight
        for (target, channel), weight in self._inputs.items():
            C[place[target], channel] = weight
        for name, bias in self._bias.items():
            h[place[name]] = bias
        for index in range(hidden):
            at = place[f"hidden {index}"]
            W[at, at] = self._rng.uniform(-0.6, 0.6)
            C[at] = self._rng.normal(0, 0.5, self._channels)
        D = np.zeros((1, size))
        for name, weight in readout.items():
            D[0, place[name]] = weight
        Q = np.eye(size)
        if linear > 1:
            Q[:linear, :linear] = np.linalg.qr(self._rng.normal(size=(linear, linear)))[0]
        parameters = [torch.from_numpy(value) for value in (np.zeros(size - linear), Q @ W @ Q.T, Q @ C, Q @ h)]
        return (*parameters, size - linear), torch.from_numpy(D @ Q.T)  # type: ignore[return-value]


def steps(rng: Generator, least: int = 15, most: int = 60) -> int:
    """How long the trials are."""
    return int(rng.integers(least, most))


def noise(rng: Generator, time: int, channels: int) -> Tensor:
    """White noise."""
    return torch.from_numpy(rng.normal(size=(TRIALS, time, channels)))


def marks(rng: Generator, time: int, rate: float) -> Tensor:
    """1 in some steps, 0 elsewhere."""
    return torch.from_numpy((rng.random((TRIALS, time)) < rate).astype(float))


def halves(rng: Generator) -> Tensor:
    """One of two conditions, or classes."""
    return torch.from_numpy(rng.integers(0, 2, TRIALS))


def cue(rng: Generator, time: int, channels: int = 2) -> tuple[Tensor, Tensor]:
    """±1 in channel 0 at the first step, noise in the others; and which of the two."""
    inputs, target = noise(rng, time, channels), halves(rng)
    inputs[:, :, 0] = 0.0
    inputs[:, 0, 0] = 2.0 * target - 1
    return inputs, target


# --- gates ---


def gated_sum(
    rng: Generator, hidden: int, *, rate: float = 0.3, wait: int = 0, keep: float = 1.0, closes: bool = False
) -> Case:
    """What is marked is added up; the values may wait some steps for their mark, or the mark may shut them out."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("sum", sum=keep)
    signal = {"s0": 1.0}
    for step in range(wait):
        wiring.unit(f"wait{step}", **signal)
        signal = {f"wait{step}": 1.0}
    gate, bias = ({"s1": -5.0}, 0.0) if closes else ({"s1": 5.0}, -5.0)
    wiring.pair("gate", "sum", bias=bias, gate=gate, **signal)
    inputs = noise(rng, time, 2).clamp(-2, 2)
    inputs[:, :, 1] = marks(rng, time, rate)
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


def latched_gate(rng: Generator, hidden: int, *, closes: bool = False) -> Case:
    """A pulse opens a gate, or shuts it, for the rest of the trial."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("sum", sum=1.0).unit("latch", latch=1.0, s1=1.0)
    gate, bias = ({"latch": -6.0}, 0.0) if closes else ({"latch": 6.0}, -6.0)
    wiring.pair("gate", "sum", bias=bias, gate=gate, s0=1.0)
    inputs = noise(rng, time, 2).clamp(-2, 2)
    inputs[:, :, 1] = 0.0
    inputs[torch.arange(TRIALS), torch.from_numpy(rng.integers(1, time - 2, TRIALS)), 1] = 1.0
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


def later_gate(rng: Generator, hidden: int) -> Case:
    """A mark opens the gate some steps later."""
    time, wiring, lag = steps(rng), Wiring(rng, 2), int(rng.integers(1, 5))
    wiring.unit("sum", sum=1.0)
    source = {"s1": 1.0}
    for step in range(lag):
        wiring.unit(f"late{step}", **source)
        source = {f"late{step}": 1.0}
    wiring.pair("gate", "sum", bias=-5.0, gate={f"late{lag - 1}": 5.0}, s0=1.0)
    inputs = noise(rng, time, 2).clamp(-2, 2)
    inputs[:, :, 1] = marks(rng, time, 0.3)
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


def gate_beside_another_input(rng: Generator, hidden: int) -> Case:
    """A gated input beside one that counts as much whatever happens."""
    time, wiring = steps(rng), Wiring(rng, 3)
    wiring.unit("sum", sum=1.0, s2=1.0).pair("gate", "sum", bias=-5.0, gate={"s1": 5.0}, s0=1.0)
    inputs = noise(rng, time, 3).clamp(-2, 2)
    inputs[:, :, 1] = marks(rng, time, 0.3)
    inputs[:, :, 2] *= 0.5
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


def sign_gate(rng: Generator, hidden: int) -> Case:
    """A mark turns an input round: one pair of units passes it on, another its opposite."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("sum", sum=1.0)
    wiring.pair("as it is", "sum", 1.0, bias=-5.0, gate={"s1": 5.0}, s0=1.0)
    wiring.pair("turned", "sum", -1.0, gate={"s1": -5.0}, s0=1.0)
    inputs = noise(rng, time, 2).clamp(-2, 2)
    inputs[:, :, 1] = marks(rng, time, 0.5)
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


# --- integration ---


def leaky_sum(rng: Generator, hidden: int, *, trials: float | None = None, channels: int = 1, inert: int = 0) -> Case:
    """A sum that fades with a time constant of so many trials; ``None`` keeps all. Inert units look on."""
    time, wiring = steps(rng), Wiring(rng, channels)
    keep = 1.0 if trials is None else float(np.exp(-1 / (trials * time)))
    wiring.unit("sum", sum=keep, **{f"s{channel}": float(rng.uniform(0.5, 1.5)) for channel in range(channels)})
    for index in range(inert):
        wiring.unit(f"inert{index}", rectified=True, s0=float(rng.normal()), sum=float(rng.normal()))
    return Case(*wiring.hide(hidden, sum=1.0), noise(rng, time, channels))


def all_integrate(rng: Generator, hidden: int) -> Case:
    """All modes keep all they are given, and all are read."""
    time, wiring = steps(rng), Wiring(rng, 3)
    for index in range(5):
        weights = {f"s{index % 3}": float(rng.uniform(0.5, 1.5)), f"unit{index}": 1.0}
        wiring.unit(f"unit{index}", **weights)
    return Case(*wiring.hide(0, **{f"unit{index}": 1.0 for index in range(5)}), noise(rng, time, 3))


def sum_of_unequal_lengths(rng: Generator, hidden: int) -> Case:
    """A perfect sum in sequences of unequal length."""
    case = leaky_sum(rng, hidden)
    time = case.inputs.shape[1]
    return case._replace(lengths=torch.from_numpy(rng.integers(time // 2, time + 1, TRIALS)))


# --- routes ---


def router(rng: Generator, hidden: int, *, pulse: bool = False, keep: float = 1.0, conditions: int = 2) -> Case:
    """Each condition lets one of the streams through, by a context that is on all the time or for one step."""
    time, wiring = steps(rng), Wiring(rng, 2 * conditions)
    wiring.unit("sum", sum=keep)
    for stream in range(conditions):
        context = f"s{conditions + stream}"
        if pulse:
            wiring.unit(f"rule{stream}", **{f"rule{stream}": 1.0, context: 1.0})
            context = f"rule{stream}"
        wiring.pair(f"stream{stream}", "sum", bias=-6.0, gate={context: 6.0}, **{f"s{stream}": 1.0})
    group = torch.from_numpy(rng.integers(0, conditions, TRIALS))
    inputs = noise(rng, time, 2 * conditions).clamp(-3, 3)
    inputs[:, :, conditions:] = 0.0
    inputs[torch.arange(TRIALS), : 1 if pulse else time, conditions + group] = 1.0
    if pulse:
        inputs[:, 0, :conditions] = 0.0
    return Case(*wiring.hide(hidden, sum=1.0), inputs, group=group)


def two_ways(rng: Generator, hidden: int, turned: float) -> Case:
    """A rule sends one stream through one pair of units or another, which passes ``turned`` of it on."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("sum", sum=1.0)
    wiring.pair("one way", "sum", 1.0, bias=-6.0, gate={"s1": 6.0}, s0=1.0)
    wiring.pair("another", "sum", turned, bias=-6.0, gate={"s1": -6.0}, s0=1.0)
    group = halves(rng)
    inputs = noise(rng, time, 2).clamp(-3, 3)
    inputs[:, :, 1] = (2.0 * group - 1).unsqueeze(1)
    return Case(*wiring.hide(hidden, sum=1.0), inputs, group=group)


# --- transients ---


def rectified_chain(rng: Generator, hidden: int) -> Case:
    """A cue travels along rectified units until the response."""
    time, wiring = steps(rng, 8, 20), Wiring(rng, 2)
    for sign, name in ((1.0, "up"), (-1.0, "down")):
        for step in range(time - 1):
            wiring.unit(f"{name}{step}", rectified=True, **({f"{name}{step - 1}": 1.0} if step else {"s0": sign}))
    wiring.unit("answer", **{f"up{time - 2}": 1.0, f"down{time - 2}": -1.0})
    inputs, target = cue(rng, time)
    return Case(*wiring.hide(hidden, answer=1.0), inputs, target)


def timer(rng: Generator, hidden: int) -> Case:
    """A cue sets how long a unit counts down; the answer is whether it still does at the response."""
    time, wiring = steps(rng, 15, 40), Wiring(rng, 1)
    wiring.unit("clock", rectified=True, bias=-1.0, clock=1.0, s0=1.0).unit("answer", clock=1.0)
    target = halves(rng)
    inputs = torch.zeros(TRIALS, time, 1, dtype=torch.float64)
    long, short = time + rng.uniform(1, 3, TRIALS), time - rng.uniform(4, 8, TRIALS)
    inputs[:, 0, 0] = torch.from_numpy(np.where(target.numpy() == 1, long, short))
    return Case(*wiring.hide(hidden, answer=1.0), inputs, target)


def chain_and_sum(rng: Generator, hidden: int) -> Case:
    """A cue travels along rectified units beside a sum of another input; the answer is both."""
    time, wiring = steps(rng, 12, 20), Wiring(rng, 2)
    for sign, name in ((1.0, "up"), (-1.0, "down")):
        for step in range(time - 1):
            wiring.unit(f"{name}{step}", rectified=True, **({f"{name}{step - 1}": 1.0} if step else {"s0": sign}))
    weights = {f"up{time - 2}": 1.0, f"down{time - 2}": -1.0}
    wiring.unit("answer", **weights).unit("sum", sum=1.0, s1=time**-0.5)
    inputs, target = cue(rng, time)
    return Case(*wiring.hide(hidden, answer=1.0, sum=1.0), inputs, target)


# --- decoys ---


def clock_only(rng: Generator, hidden: int) -> Case:
    """Units that are on late in each trial, whatever comes in."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("answer", answer=0.5, s1=1.0).unit("count", count=1.0, bias=1.0)
    wiring.pair("late", "answer", bias=-10.0, gate={"count": 20 / time}, s0=1.0)
    return Case(*wiring.hide(hidden, answer=1.0), noise(rng, time, 2))


def strong_input(rng: Generator, hidden: int) -> Case:
    """A strong input that nothing gates, and a weak rectified one."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("answer", answer=0.9, s0=5.0, s1=1.0, rectifier=0.3).unit("rectifier", rectified=True, s1=1.0)
    return Case(*wiring.hide(hidden, answer=1.0), noise(rng, time, 2))


def rectified_input(rng: Generator, hidden: int) -> Case:
    """An input counts where it is positive, which no other input decides."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("answer", answer=0.5, rectifier=1.0).unit("rectifier", rectified=True, s0=1.0)
    return Case(*wiring.hide(hidden, answer=1.0), noise(rng, time, 2))


def attractor(rng: Generator, hidden: int) -> Case:
    """Two units of which one wins, as the cue says, and stays."""
    time, wiring = steps(rng), Wiring(rng, 2)
    for name, other, sign in (("one", "two", 3.0), ("two", "one", -3.0)):
        wiring.unit(name, rectified=True, bias=1.0, s0=sign, **{name: 0.5, other: -1.0})
    inputs, target = cue(rng, time)
    return Case(*wiring.hide(hidden, one=1.0, two=-1.0), inputs, target)


def kept_cue(rng: Generator, hidden: int, *, trials: float) -> Case:
    """A linear unit keeps the cue with a time constant of so many trials; rectified units look on."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("memory", memory=float(np.exp(-1 / (trials * time))), s0=1.0)
    for index in range(3):
        wiring.unit(f"inert{index}", rectified=True, s0=float(rng.normal()), s1=float(rng.normal()), memory=1.0)
    inputs, target = cue(rng, time)
    return Case(*wiring.hide(hidden, memory=1.0), inputs, target)


def linear_chain(rng: Generator, hidden: int) -> Case:
    """A cue travels along linear units; rectified units look on."""
    time, wiring = steps(rng, 10, 25), Wiring(rng, 2)
    for step in range(time):
        wiring.unit(f"chain{step}", **({f"chain{step - 1}": 1.0} if step else {"s0": 1.0}))
    for index in range(2):
        wiring.unit(f"inert{index}", rectified=True, s0=float(rng.normal()), **{f"chain{time // 2}": 1.0})
    inputs, target = cue(rng, time)
    return Case(*wiring.hide(hidden, **{f"chain{time - 1}": 1.0}), inputs, target)


def offset_by_condition(rng: Generator, hidden: int) -> Case:
    """The condition decides which units are on, and shifts the answer; no input counts otherwise."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("answer", answer=0.8, s0=1.0)
    for name, sign in (("one", 4.0), ("two", -4.0)):
        wiring.unit(name, rectified=True, s1=sign).connect("answer", **{name: 0.05 * sign})
    group = halves(rng)
    inputs = noise(rng, time, 2)
    inputs[:, :, 1] = (2.0 * group - 1).unsqueeze(1)
    return Case(*wiring.hide(hidden, answer=1.0), inputs, group=group)


def named_at_random(rng: Generator, hidden: int) -> Case:
    """A gated sum whose conditions have nothing to do with anything."""
    return gated_sum(rng, hidden)._replace(group=halves(rng))


Kind = Callable[[Generator, int], Case]
YES, NO, OPEN = True, False, None

KINDS: dict[str, tuple[Truth, Kind]] = {
    "gated sum": ((YES, YES, OPEN, NO), gated_sum),
    "gated sum, one step in ten": ((YES, YES, OPEN, NO), lambda r, n: gated_sum(r, n, rate=0.1)),
    "gated sum, seven steps in ten": ((YES, YES, OPEN, NO), lambda r, n: gated_sum(r, n, rate=0.7)),
    "gated sum, marks that shut out": ((YES, YES, OPEN, NO), lambda r, n: gated_sum(r, n, rate=0.6, closes=True)),
    "gate without a sum": ((YES, NO, OPEN, NO), lambda r, n: gated_sum(r, n, rate=0.5, keep=0.4)),
    "gate whose values wait for the mark": ((YES, YES, OPEN, NO), lambda r, n: gated_sum(r, n, wait=3)),
    "gate that opens steps after its mark": ((YES, YES, OPEN, NO), later_gate),
    "gate that a pulse opens for good": ((YES, OPEN, OPEN, NO), latched_gate),
    "gate that a pulse shuts for good": ((YES, OPEN, OPEN, NO), lambda r, n: latched_gate(r, n, closes=True)),
    "gate beside a strong input": ((YES, YES, OPEN, NO), gate_beside_another_input),
    "gate that turns an input round": ((YES, YES, OPEN, NO), sign_gate),
    "sum": ((NO, YES, OPEN, NO), leaky_sum),
    "sum of three inputs": ((NO, YES, OPEN, NO), lambda r, n: leaky_sum(r, n, channels=3)),
    "sum that fades in two trials": ((NO, YES, OPEN, NO), lambda r, n: leaky_sum(r, n, trials=2.0)),
    "sum beside units without effect": ((NO, YES, OPEN, NO), lambda r, n: leaky_sum(r, n, inert=3)),
    "sum by all modes": ((NO, YES, OPEN, NO), all_integrate),
    "sum over unequal lengths": ((NO, YES, OPEN, NO), sum_of_unequal_lengths),
    "router and sum": ((YES, YES, YES, NO), router),
    "router and sum, context of one step": ((YES, YES, YES, NO), lambda r, n: router(r, n, pulse=True)),
    "router of three streams": ((YES, YES, YES, NO), lambda r, n: router(r, n, conditions=3)),
    "router without a sum": ((YES, NO, YES, NO), lambda r, n: router(r, n, keep=0.3)),
    "rule that turns a stream round": ((YES, YES, YES, NO), lambda r, n: two_ways(r, n, -1.0)),
    "rule that takes another way": ((OPEN, YES, YES, NO), lambda r, n: two_ways(r, n, 1.0)),
    "cue along rectified units": ((NO, OPEN, OPEN, YES), rectified_chain),
    "cue along rectified units beside a sum": ((NO, OPEN, OPEN, YES), chain_and_sum),
    "count-down": ((OPEN, OPEN, OPEN, YES), timer),
    "clock": ((NO, NO, OPEN, NO), clock_only),
    "strong input without a gate": ((NO, NO, OPEN, NO), strong_input),
    "rectified input": ((NO, NO, OPEN, NO), rectified_input),
    "cue in an attractor": ((NO, OPEN, OPEN, NO), attractor),
    "cue in a slow mode": ((NO, OPEN, OPEN, NO), lambda r, n: kept_cue(r, n, trials=3.0)),
    "cue in a fast mode": ((NO, OPEN, OPEN, NO), lambda r, n: kept_cue(r, n, trials=0.15)),
    "cue along linear units": ((NO, OPEN, OPEN, NO), linear_chain),
    "sum that fades in a third of a trial": ((NO, NO, OPEN, NO), lambda r, n: leaky_sum(r, n, trials=0.33, inert=2)),
    "sum that fades in a tenth of a trial": ((NO, NO, OPEN, NO), lambda r, n: leaky_sum(r, n, trials=0.1, inert=2)),
    "regimes by condition without effect": ((NO, NO, NO, NO), offset_by_condition),
    "conditions named at random": ((YES, YES, NO, NO), named_at_random),
}
"""Networks by what they do, and the primitives that they have."""
