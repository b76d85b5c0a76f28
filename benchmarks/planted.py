"""Networks built by hand, whose mechanism is known, for ``mechanisms.py``.

Each kind of network is drawn anew for each seed: its length, its inputs, up to 40 stable linear units without effect
and a random rotation of all linear units, so that nothing lies along an axis.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lightning_alrnn.nn import Recurrence

TRIALS = 300
HIDDEN = (0, 5, 10, 40)
"""Numbers of linear units that networks are hidden among, in turn."""

Generator = np.random.Generator
Truth = tuple[bool | None, bool | None, bool | None, bool | None]
"""Whether a network has gating, integration, routing and transients; ``None`` where the definitions leave it open."""


class Case(NamedTuple):
    """A network, its readout, trials and targets; ``None`` as targets stands for the answers themselves."""

    rnn: Recurrence
    weight: Tensor  # of the readout, (outputs, M)
    inputs: Tensor
    targets: Tensor | None = None
    group: Tensor | None = None
    lengths: Tensor | None = None


class Wiring:
    """Named units and the weights between them; "s0", "s1", … are the inputs."""

    def __init__(self, rng: Generator, channels: int) -> None:
        self._rng, self._channels = rng, channels
        self._units: dict[str, tuple[bool, float]] = {}  # rectified, bias
        self._weights: dict[tuple[str, str], float] = {}

    def unit(self, name: str, *, rectified: bool = False, bias: float = 0.0, **weights: float) -> Wiring:
        """Add a unit; ``s0=1.0`` is the weight of input 0, ``a=1.0`` that of unit a."""
        self._units[name] = rectified, bias
        return self.connect(name, **weights)

    def connect(self, target: str, **weights: float) -> Wiring:
        """Add weights to a unit."""
        self._weights |= {(target, source): weight for source, weight in weights.items()}
        return self

    def pair(
        self, name: str, to: str, weight: float = 1.0, *, bias: float = 0.0, gate: dict[str, float], **signal: float
    ) -> Wiring:
        """Add two rectified units that pass a signal of either sign on to a unit, while the gate is at zero."""
        for suffix, sign in (("+", 1.0), ("-", -1.0)):
            both = {**{source: sign * value for source, value in signal.items()}, **gate}
            self.unit(name + suffix, rectified=True, bias=bias, **both)
            self.connect(to, **{name + suffix: sign * weight})
        return self

    def line(self, name: str, count: int, *, rectified: bool = False, bias: float = 0.0, **source: float) -> str:
        """Add units each of which passes on the last value of the one before it; returns the name of the last one."""
        for step in range(count):
            weights = {f"{name}{step - 1}": 1.0} if step else source
            self.unit(f"{name}{step}", rectified=rectified, bias=0.0 if step else bias, **weights)
        return f"{name}{count - 1}"

    def inert(self, count: int, *random: str, **weights: float) -> Wiring:
        """Add rectified units that pass nothing on, some of their weights random."""
        for index in range(count):
            drawn = {source: float(self._rng.normal()) for source in random}
            self.unit(f"inert{index}", rectified=True, **drawn, **weights)
        return self

    def hide(self, hidden: int, **readout: float) -> tuple[Recurrence, Tensor]:
        """The network among ``hidden`` linear units of no effect, all linear units rotated at random; its readout."""
        linear = [name for name, (rectified, _) in self._units.items() if not rectified]
        linear += [f"hidden {index}" for index in range(hidden)]
        names = linear + [name for name, (rectified, _) in self._units.items() if rectified]
        sources = {name: place for place, name in enumerate([*names, *(f"s{k}" for k in range(self._channels))])}
        size = len(names)
        weights, D = np.zeros((size, len(sources))), np.zeros((1, size))
        for (target, source), weight in self._weights.items():
            weights[sources[target], sources[source]] = weight
        for place in range(len(linear) - hidden, len(linear)):
            weights[place, place] = self._rng.uniform(-0.6, 0.6)
            weights[place, size:] = self._rng.normal(0, 0.5, self._channels)
        h = np.array([self._units.get(name, (False, 0.0))[1] for name in names])
        for name, weight in readout.items():
            D[0, sources[name]] = weight
        Q = np.eye(size)
        if len(linear) > 1:
            Q[: len(linear), : len(linear)] = np.linalg.qr(self._rng.normal(size=(len(linear), len(linear))))[0]
        W, C = weights[:, :size], weights[:, size:]
        A, W, C, h = map(torch.from_numpy, (np.zeros(size), Q @ W @ Q.T, Q @ C, Q @ h))
        return Recurrence(A, W, C, h, size - len(linear)), torch.from_numpy(D @ Q.T)


def steps(rng: Generator, least: int = 12, most: int = 100) -> int:
    """Length of the trials."""
    return int(rng.integers(least, most))


def noise(rng: Generator, time: int, channels: int) -> Tensor:
    """White noise."""
    return torch.from_numpy(rng.normal(size=(TRIALS, time, channels)))


def marks(rng: Generator, time: int, rate: float) -> Tensor:
    """1 in some steps, 0 elsewhere."""
    return torch.from_numpy((rng.random((TRIALS, time)) < rate).astype(float))


def marked(rng: Generator, time: int, rate: float, channels: int = 2) -> Tensor:
    """Noise within ±2, and marks in channel 1."""
    inputs = noise(rng, time, channels).clamp(-2, 2)
    inputs[:, :, 1] = marks(rng, time, rate)
    return inputs


def signed(group: Tensor) -> Tensor:
    """±1 for each of two conditions, at every step."""
    return (2.0 * group - 1).unsqueeze(1)


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
    signal = {wiring.line("wait", wait, s0=1.0) if wait else "s0": 1.0}
    gate, bias = ({"s1": -5.0}, 0.0) if closes else ({"s1": 5.0}, -5.0)
    wiring.pair("gate", "sum", bias=bias, gate=gate, **signal)
    inputs = marked(rng, time, rate)
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
    """A mark opens the gate some steps later, which are few of the trial's: the values before them never count."""
    time, wiring, lag = steps(rng, 30), Wiring(rng, 2), int(rng.integers(1, 5))
    wiring.unit("sum", sum=1.0).pair("gate", "sum", bias=-5.0, gate={wiring.line("late", lag, s1=1.0): 5.0}, s0=1.0)
    inputs = marked(rng, time, 0.3)
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


def gate_beside_another_input(rng: Generator, hidden: int, size: float) -> Case:
    """A gated input beside one of another size that is never gated."""
    time, wiring = steps(rng), Wiring(rng, 3)
    wiring.unit("sum", sum=1.0, s2=1.0).pair("gate", "sum", bias=-5.0, gate={"s1": 5.0}, s0=1.0)
    inputs = marked(rng, time, 0.5, 3)
    inputs[:, :, 2] *= size
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


def gate_by_two_marks(rng: Generator, hidden: int) -> Case:
    """A value counts where two inputs are both on."""
    time, wiring = steps(rng), Wiring(rng, 3)
    wiring.unit("sum", sum=1.0).pair("gate", "sum", bias=-10.0, gate={"s1": 5.0, "s2": 5.0}, s0=1.0)
    inputs = marked(rng, time, 0.6, 3)
    inputs[:, :, 2] = marks(rng, time, 0.6)
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


def gate_by_noisy_marks(rng: Generator, hidden: int) -> Case:
    """Marks with noise, and two inputs without effect."""
    time, wiring = steps(rng), Wiring(rng, 4)
    wiring.unit("sum", sum=1.0).pair("gate", "sum", bias=-5.0, gate={"s1": 5.0}, s0=1.0)
    inputs = noise(rng, time, 4).clamp(-2, 2)
    inputs[:, :, 1] = marks(rng, time, 0.4) + 0.1 * inputs[:, :, 1]
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


def gate_between_pulses(rng: Generator, hidden: int) -> Case:
    """One pulse opens a gate and a later one shuts it."""
    time, wiring = steps(rng, 20), Wiring(rng, 3)
    wiring.unit("sum", sum=1.0).unit("latch", latch=1.0, s1=1.0, s2=-1.0)
    wiring.pair("gate", "sum", bias=-6.0, gate={"latch": 6.0}, s0=1.0)
    inputs = noise(rng, time, 3).clamp(-2, 2)
    inputs[:, :, 1:] = 0.0
    first = torch.from_numpy(rng.integers(1, time // 2, TRIALS))
    inputs[torch.arange(TRIALS), first, 1] = 1.0
    inputs[torch.arange(TRIALS), first + torch.from_numpy(rng.integers(time // 4, time // 2, TRIALS)), 2] = 1.0
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


def rectified_gated_sum(rng: Generator, hidden: int) -> Case:
    """Positive values are added up where they are marked; all units are rectified, and none is hidden."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("gate", rectified=True, bias=-2.0, s0=1.0, s1=2.0).unit("sum", rectified=True, sum=1.0, gate=1.0)
    inputs = torch.from_numpy(rng.random((TRIALS, time, 2)))
    inputs[:, :, 1] = marks(rng, time, 0.3)
    return Case(*wiring.hide(0, sum=1.0), inputs)


def classified_gated_sum(rng: Generator, hidden: int) -> Case:
    """A gated sum, asked for as whether it is above 0."""
    case = gated_sum(rng, hidden, rate=0.4)
    kept = case.inputs[:, :-1, 0] * case.inputs[:, :-1, 1]
    return case._replace(targets=(kept.sum(dim=1) > 0).long())


def sign_gate(rng: Generator, hidden: int) -> Case:
    """A mark turns an input round: one pair of units passes it on, another its opposite."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("sum", sum=1.0)
    wiring.pair("as it is", "sum", 1.0, bias=-5.0, gate={"s1": 5.0}, s0=1.0)
    wiring.pair("turned", "sum", -1.0, gate={"s1": -5.0}, s0=1.0)
    inputs = marked(rng, time, 0.5)
    return Case(*wiring.hide(hidden, sum=1.0), inputs)


# --- integration ---


def leaky_sum(rng: Generator, hidden: int, *, trials: float | None = None, channels: int = 1, inert: int = 0) -> Case:
    """A sum that fades with a time constant of so many trials; ``None`` keeps all. Inert units look on."""
    time, wiring = steps(rng), Wiring(rng, channels)
    keep = 1.0 if trials is None else float(np.exp(-1 / (trials * time)))
    wiring.unit("sum", sum=keep, **{f"s{channel}": float(rng.uniform(0.5, 1.5)) for channel in range(channels)})
    wiring.inert(inert, "s0", "sum")
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


def rectified_sum(rng: Generator, hidden: int) -> Case:
    """A rectified unit adds up evidence that is positive on average."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("sum", rectified=True, bias=1.0, sum=1.0, s0=1.0)
    return Case(*wiring.hide(hidden, sum=1.0), noise(rng, time, 2))


def bounded_sum(rng: Generator, hidden: int, bound: float) -> Case:
    """A sum that is set back to a bound on either side, ``bound`` standard deviations of the whole sum away."""
    time, wiring = steps(rng), Wiring(rng, 1)
    wiring.unit("sum", sum=1.0, s0=1.0)
    for name, sign in (("above", 1.0), ("below", -1.0)):
        wiring.unit(name, rectified=True, bias=-bound * time**0.5, s0=sign, sum=sign).connect("sum", **{name: -sign})
    return Case(*wiring.hide(hidden, sum=1.0), noise(rng, time, 1))


def sum_of_coherence(rng: Generator, hidden: int) -> Case:
    """Evidence of a mean of its own in each trial, beside units without effect."""
    case = leaky_sum(rng, hidden, inert=3)
    return case._replace(inputs=case.inputs + torch.from_numpy(rng.normal(0, 0.3, (TRIALS, 1, 1))))


def sum_before_delay(rng: Generator, hidden: int) -> Case:
    """Evidence in the first half of the trial, kept to its end."""
    case = leaky_sum(rng, hidden, inert=2)
    inputs = case.inputs.clone()
    inputs[:, inputs.shape[1] // 2 :] = 0.0
    return case._replace(inputs=inputs)


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
    inputs[:, :, 1] = signed(group)
    return Case(*wiring.hide(hidden, sum=1.0), inputs, group=group)


# --- transients ---


def chains(wiring: Wiring, count: int, *, channel: int = 0, name: str = "", **gate: float) -> None:
    """Add a line of rectified units for positive and one for negative values, from a gate to the unit ``answer``."""
    for sign, suffix in ((1.0, "up"), (-1.0, "down")):
        source = {f"s{channel}": sign, **gate}
        end = wiring.line(name + suffix, count, rectified=True, bias=-sum(gate.values()), **source)
        wiring.connect("answer", **{end: sign})


def rectified_chain(rng: Generator, hidden: int) -> Case:
    """A cue travels along rectified units until the response."""
    time, wiring = steps(rng, 8, 20), Wiring(rng, 2)
    chains(wiring.unit("answer"), time - 1)
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
    chains(wiring.unit("answer").unit("sum", sum=1.0, s1=time**-0.5), time - 1)
    inputs, target = cue(rng, time)
    return Case(*wiring.hide(hidden, answer=1.0, sum=1.0), inputs, target)


def chain_by_mark(rng: Generator, hidden: int) -> Case:
    """A mark at the first step decides whether a value travels along rectified units."""
    time, wiring = steps(rng, 10, 20), Wiring(rng, 2)
    chains(wiring.unit("answer"), time - 1, s1=4.0)
    inputs = noise(rng, time, 2).clamp(-3, 3)
    inputs[:, 1:] = 0.0
    inputs[:, :1, 1] = marks(rng, 1, 0.5)
    return Case(*wiring.hide(hidden, answer=1.0), inputs)


def chain_by_rule(rng: Generator, hidden: int) -> Case:
    """Each condition lets one of two values at the first step travel along rectified units."""
    time, wiring = steps(rng, 12, 20), Wiring(rng, 4)
    wiring.unit("answer")
    for stream in range(2):
        chains(wiring, time - 1, channel=stream, name=f"stream{stream}", **{f"s{2 + stream}": 6.0})
    group = halves(rng)
    inputs = noise(rng, time, 4).clamp(-3, 3)
    inputs[:, 1:, :2] = 0.0
    inputs[:, :, 2:] = 0.0
    inputs[torch.arange(TRIALS), :, 2 + group] = 1.0
    return Case(*wiring.hide(hidden, answer=1.0), inputs, group=group)


def rectified_delay(rng: Generator, hidden: int) -> Case:
    """The answer is what came some steps ago, along rectified units."""
    time, wiring = steps(rng, 12, 30), Wiring(rng, 1)
    chains(wiring.unit("answer"), time // 2)
    return Case(*wiring.hide(hidden, answer=1.0), noise(rng, time, 1))


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
    wiring.inert(3, "s0", "s1", memory=1.0)
    inputs, target = cue(rng, time)
    return Case(*wiring.hide(hidden, memory=1.0), inputs, target)


def linear_chain(rng: Generator, hidden: int) -> Case:
    """A cue travels along linear units; rectified units look on."""
    time, wiring = steps(rng, 10, 25), Wiring(rng, 2)
    end = wiring.line("chain", time, s0=1.0)
    wiring.inert(2, "s0", **{f"chain{time // 2}": 1.0})
    inputs, target = cue(rng, time)
    return Case(*wiring.hide(hidden, **{end: 1.0}), inputs, target)


def linear_delay(rng: Generator, hidden: int) -> Case:
    """The answer is what came some steps ago, along linear units; rectified units look on."""
    time, wiring = steps(rng, 12, 30), Wiring(rng, 1)
    end = wiring.line("chain", time // 2, s0=1.0)
    wiring.inert(3, "s0", **{f"chain{time // 4}": 1.0})
    return Case(*wiring.hide(hidden, **{end: 1.0}), noise(rng, time, 1))


def rotation(rng: Generator, hidden: int) -> Case:
    """A cue turns round in a plane, which is read at the angle of the response; rectified units look on."""
    time, wiring, angle = steps(rng), Wiring(rng, 2), float(rng.uniform(0.2, 1.0))
    cosine, sine = float(np.cos(angle)), float(np.sin(angle))
    wiring.unit("x", x=cosine, y=-sine, s0=1.0).unit("y", x=sine, y=cosine)
    wiring.inert(2, "x", s1=1.0)
    inputs, target = cue(rng, time)
    end = angle * (time - 1)
    return Case(*wiring.hide(hidden, x=float(np.cos(end)), y=float(np.sin(end))), inputs, target)


def flip_flop(rng: Generator, hidden: int) -> Case:
    """Two units of which one wins hold the sign of the last pulse."""
    case = attractor(rng, hidden)
    time = case.inputs.shape[1]
    pulses = rng.choice([-1.0, 1.0], (TRIALS, time)) * (rng.random((TRIALS, time)) < 0.1)
    pulses[:, 0] = rng.choice([-1.0, 1.0], TRIALS)
    last = time - 1 - (pulses[:, ::-1] != 0).argmax(axis=1)
    inputs = case.inputs.clone()
    inputs[:, :, 0] = torch.from_numpy(pulses)
    return case._replace(inputs=inputs, targets=torch.from_numpy(pulses[np.arange(TRIALS), last] > 0).long())


def reflex(rng: Generator, hidden: int) -> Case:
    """The answer is the present input, through a pair of rectified units."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("up", rectified=True, s0=1.0).unit("down", rectified=True, s0=-1.0)
    return Case(*wiring.hide(hidden, up=1.0, down=-1.0), noise(rng, time, 2))


def busy_onlookers(rng: Generator, hidden: int) -> Case:
    """Twelve rectified units at random, strongly driven, that pass nothing on; two linear units do the rest."""
    time, wiring = steps(rng), Wiring(rng, 3)
    wiring.unit("one", one=0.5, s0=1.0).unit("two", two=-0.3, one=0.5, s1=1.0)
    for index in range(12):
        weights = {f"s{channel}": float(rng.normal(0, 3)) for channel in range(3)}
        weights |= {f"inert{other}": float(rng.normal(0, 0.25)) for other in range(index)}
        wiring.unit(f"inert{index}", rectified=True, one=float(rng.normal()), **weights)
    group = halves(rng)
    inputs = noise(rng, time, 3)
    inputs[:, :, 2] = signed(group)
    return Case(*wiring.hide(hidden, two=1.0), inputs, group=group)


def louder_condition(rng: Generator, hidden: int) -> Case:
    """One condition's input varies three times as much as the other's, before the same sum."""
    case, group = leaky_sum(rng, hidden, inert=3), halves(rng)
    return case._replace(inputs=case.inputs * (0.5 + group).reshape(-1, 1, 1), group=group)


def offset_by_condition(rng: Generator, hidden: int, *, keep: float = 0.8, shift: float = 0.05) -> Case:
    """The condition decides which units are on, and shifts the answer; no input counts otherwise."""
    time, wiring = steps(rng), Wiring(rng, 2)
    wiring.unit("answer", answer=keep, s0=1.0)
    for name, sign in (("one", 4.0), ("two", -4.0)):
        wiring.unit(name, rectified=True, s1=sign).connect("answer", **{name: shift * sign})
    group = halves(rng)
    inputs = noise(rng, time, 2)
    inputs[:, :, 1] = signed(group)
    return Case(*wiring.hide(hidden, answer=1.0), inputs, group=group)


def named_at_random(rng: Generator, hidden: int) -> Case:
    """A gated sum whose conditions have nothing to do with anything."""
    return gated_sum(rng, hidden)._replace(group=halves(rng))


def rule_without_conditions(rng: Generator, hidden: int) -> Case:
    """A stream is turned round by a rule, with which the conditions have nothing to do."""
    return two_ways(rng, hidden, -1.0)._replace(group=halves(rng))


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
    "gate beside a weaker input": ((YES, YES, OPEN, NO), lambda r, n: gate_beside_another_input(r, n, 0.5)),
    "gate beside an input as strong": ((YES, YES, OPEN, NO), lambda r, n: gate_beside_another_input(r, n, 1.0)),
    "gate beside an input five times as strong": (
        (NO, YES, OPEN, NO),
        lambda r, n: gate_beside_another_input(r, n, 5.0),
    ),
    "gate that two marks open": ((YES, YES, OPEN, NO), gate_by_two_marks),
    "gate that noisy marks open": ((YES, YES, OPEN, NO), gate_by_noisy_marks),
    "gate that one pulse opens and one shuts": ((YES, OPEN, OPEN, NO), gate_between_pulses),
    "gated sum in rectified units alone": ((YES, YES, OPEN, NO), rectified_gated_sum),
    "gated sum in two classes": ((YES, YES, OPEN, NO), classified_gated_sum),
    "gate that turns an input round": ((YES, YES, OPEN, NO), sign_gate),
    "sum": ((NO, YES, OPEN, NO), leaky_sum),
    "sum of three inputs": ((NO, YES, OPEN, NO), lambda r, n: leaky_sum(r, n, channels=3)),
    "sum of five inputs": ((NO, YES, OPEN, NO), lambda r, n: leaky_sum(r, n, channels=5, inert=2)),
    "sum in a rectified unit": ((NO, YES, OPEN, NO), rectified_sum),
    "sum within bounds that are seldom reached": ((NO, YES, OPEN, NO), lambda r, n: bounded_sum(r, n, 2.5)),
    "sum within bounds": ((OPEN, OPEN, OPEN, NO), lambda r, n: bounded_sum(r, n, 1.0)),
    "sum of coherence and noise": ((NO, YES, OPEN, NO), sum_of_coherence),
    "sum before a delay": ((NO, YES, OPEN, NO), sum_before_delay),
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
    "chain that a rule chooses": ((YES, OPEN, YES, YES), chain_by_rule),
    "chain that a mark opens": ((YES, OPEN, OPEN, YES), chain_by_mark),
    "input some steps ago along rectified units": ((NO, NO, OPEN, YES), rectified_delay),
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
    "cue in a rotation": ((NO, OPEN, OPEN, NO), rotation),
    "input some steps ago along linear units": ((NO, NO, OPEN, NO), linear_delay),
    "last pulse in an attractor": ((OPEN, NO, OPEN, NO), flip_flop),
    "present input": ((NO, NO, OPEN, NO), reflex),
    "busy units without effect": ((NO, NO, NO, NO), busy_onlookers),
    "sum that fades in a third of a trial": ((NO, NO, OPEN, NO), lambda r, n: leaky_sum(r, n, trials=0.33, inert=2)),
    "sum that fades in a tenth of a trial": ((NO, NO, OPEN, NO), lambda r, n: leaky_sum(r, n, trials=0.1, inert=2)),
    "regimes by condition without effect": ((NO, NO, NO, NO), offset_by_condition),
    "sum that conditions shift": (
        (NO, YES, NO, NO),
        lambda r, n: offset_by_condition(r, n, keep=1.0, shift=0.002),
    ),
    "sum of a louder condition": ((NO, YES, NO, NO), louder_condition),
    "conditions named at random": ((YES, YES, NO, NO), named_at_random),
    "rule that is none of the conditions": ((YES, YES, NO, NO), rule_without_conditions),
}
"""Networks by what they do, and the primitives that they have."""
