"""Networks whose mechanism is known by construction, and inputs for them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from networks import build
from torch import Tensor

from lightning_alrnn.analysis.primitives import Trials, read_trials
from lightning_alrnn.nn import ALRNN

ADDED = torch.tensor([1.0, 0.0])


class Planted(NamedTuple):
    """A network, inputs, and the readout of its answer."""

    rnn: ALRNN
    inputs: Tensor
    row: Tensor
    lengths: Tensor | None = None

    @property
    def states(self) -> Tensor:
        with torch.no_grad():
            return self.rnn(self.inputs.double(), lengths=self.lengths).states

    def trials(self, agreement: float = 1.0) -> list[Trials]:
        return [read_trials(self.rnn, self.inputs.double(), self.states, self.row, self.lengths, agreement)]


def gating_adder(units: int = 1) -> ALRNN:
    """z_0 += φ(s_0 + s_1 − 1), one step later; P=0 leaves the gate open for good."""
    C = np.array([[0.0, 0.0], [1.0, 1.0]])
    return build([0.0] * units, [[1.0, 1.0], [0.0, 0.0]], [0.0, -1.0], units, C=C)


def marked(batch: int, time: int, seed: int = 0) -> Tensor:
    """Values within 0 … 1, and marks of three steps in ten."""
    generator = torch.Generator().manual_seed(seed)
    values = torch.rand(batch, time, generator=generator)
    return torch.stack((values, (torch.rand(batch, time, generator=generator) < 0.3).float()), dim=-1)


def late_gate() -> ALRNN:
    """As :func:`gating_adder`, but values wait two steps for their mark: z_0 += φ(value two steps ago + mark − 1)."""
    W = np.zeros((4, 4))
    W[0, 0], W[0, 3], W[2, 1], W[3, 2] = 1.0, 1.0, 1.0, 1.0  # value → unit 1 → unit 2 → the gate
    return build([0.0], W, [0.0, 0.0, 0.0, -1.0], 1, C=np.array([[0, 0], [1, 0], [0, 0], [0, 1.0]]))


def leaky(decay: float, size: int = 6) -> Planted:
    """The first unit keeps a share of what it has, the others half; noise comes in."""
    rnn = build(np.zeros(0), np.diag([decay] + [0.5] * (size - 1)), np.zeros(size), 0, C=np.ones((size, 1)))
    inputs = torch.randn(150, 30, 1, generator=torch.Generator().manual_seed(0))
    return Planted(rnn, inputs, torch.eye(size)[0])


def ruled(batch: int = 150, time: int = 12) -> tuple[Planted, Tensor]:
    """Unit 1 passes s_0 + r on to an adder, unit 2 passes −s_0 − r: r = ±9 is the rule.."""
    C = np.array([[0.0, 0.0], [1.0, 1.0], [-1.0, -1.0]])
    W = np.array([[1.0, 1.0, 1.0], [0, 0, 0], [0, 0, 0]])
    group = torch.arange(batch) % 2
    values = torch.randn(batch, time, generator=torch.Generator().manual_seed(0))
    inputs = torch.stack((values, (18.0 * group - 9).unsqueeze(1).expand(batch, time)), dim=-1)
    return Planted(build([0.0, 0.0], W, np.zeros(3), 2, C=C), inputs, torch.tensor([1.0, 0.0, 0.0])), group


def cue(batch: int, time: int) -> tuple[Tensor, Tensor]:
    """±1 at the first step, and which of the two it is."""
    target = torch.arange(batch) % 2
    inputs = torch.zeros(batch, time, 1)
    inputs[:, 0, 0] = 2.0 * target - 1
    return inputs, target


def chains(time: int) -> Planted:
    """Two chains of rectified units along which a positive or a negative cue travels until the response."""
    size = 2 * time
    W, C = np.zeros((size, size)), np.zeros((size, 1))
    for first, sign in ((0, 1.0), (time, -1.0)):
        C[first] = sign
        W[range(first + 1, first + time), range(first, first + time - 1)] = 1.0
    row = torch.zeros(size)
    row[time - 1], row[-1] = 1.0, -1.0
    return Planted(build(np.zeros(size), W, np.zeros(size), size, C=C), cue(120, time)[0], row)
