"""Measure what E networks cost in one call of the recurrence and in one training step, beside one by one.

A step draws a batch for each network, then come the forward pass, the loss, the regularisation, the backward pass, the
clipping of each network's gradient and Adam (fused). The networks differ in P; their sizes are those of the configs
addition_quick, contextual_quick and digits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from common import arguments, cell, measure, save
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn import functional

from lightning_alrnn.nn import ALRNN, manifold_attractor_penalty, run_recurrence, stack_networks

COUNTS = (1, 8, 32)
SAMPLES = 1000  # sequences that a batch is drawn from


class Case(NamedTuple):
    """Sizes of a task; a single output stands for a regression."""

    batch: int
    time: int
    hidden: int
    inputs: int
    outputs: int


CASES = {
    "addition": Case(128, 50, 50, 2, 1),
    "contextual": Case(64, 100, 10, 4, 2),
    "digits": Case(64, 8, 50, 8, 10),
}


class Network(nn.Module):
    """A layer with its readout, and the loss of a batch."""

    def __init__(self, case: Case, nonlinear_units: int) -> None:
        super().__init__()
        self.rnn = ALRNN(case.inputs, case.hidden, nonlinear_units, init="near_identity")
        self.readout = nn.Linear(case.hidden, case.outputs)

    def forward(self, inputs: Tensor, targets: Tensor) -> Tensor:
        """The loss of a batch."""
        outputs = self.readout(self.rnn(inputs).last)
        regression = outputs.shape[-1] == 1
        loss = (outputs[:, 0] - targets).square().mean() if regression else functional.cross_entropy(outputs, targets)
        return loss + 0.1 * manifold_attractor_penalty(self.rnn, self.rnn.hidden_size // 2)


def networks_of(case: Case, count: int) -> list[Network]:
    """Networks whose P goes from 0 to M."""
    torch.manual_seed(0)
    return [Network(case, round(case.hidden * e / max(count - 1, 1))) for e in range(count)]


def data_of(case: Case, count: int) -> tuple[Tensor, Tensor]:
    """Random sequences and targets of each network."""
    targets = torch.randn(count, SAMPLES) if case.outputs == 1 else torch.randint(case.outputs, (count, SAMPLES))
    return torch.randn(count, SAMPLES, case.time, case.inputs), targets


def single_steps(case: Case, count: int) -> Callable[[], object]:
    """A training step of each network after the other."""
    networks, (inputs, targets) = networks_of(case, count), data_of(case, count)
    optimizers = [torch.optim.Adam(network.parameters(), lr=1e-3, fused=True) for network in networks]

    def step() -> None:
        for e, (network, optimizer) in enumerate(zip(networks, optimizers, strict=True)):
            index = torch.randint(SAMPLES, (case.batch,))
            loss = network(inputs[e, index], targets[e, index])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()

    return step


def stacked_step(case: Case, count: int) -> Callable[[], object]:
    """A training step of all networks at once."""
    networks, (inputs, targets) = networks_of(case, count), data_of(case, count)
    parameters, buffers = stack_networks(networks)
    leaves = list(parameters.values())
    optimizer = torch.optim.Adam(leaves, lr=1e-3, fused=True)
    losses = torch.vmap(lambda state, s, y: functional_call(networks[0], state, (s, y)))
    rows = torch.arange(count).unsqueeze(1)

    def step() -> None:
        index = torch.randint(SAMPLES, (count, case.batch))
        loss = losses((parameters, buffers), inputs[rows, index], targets[rows, index]).sum()
        optimizer.zero_grad()
        loss.backward()
        clip_each(leaves, 1.0)
        optimizer.step()

    return step


def clip_each(parameters: Sequence[Tensor], norm: float) -> None:
    """Scale the gradient of each network of a stack down to a norm."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    squares = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients])
    factor = (norm / (squares.sum(dim=0).sqrt() + 1e-6)).clamp(max=1.0)
    for gradient in gradients:
        gradient.mul_(factor.view(-1, *[1] * (gradient.ndim - 1)))


def operator_passes(case: Case, count: int) -> Callable[[], object]:
    """Forward and backward of the recurrence alone, with a gradient on every state."""
    parameters, buffers = stack_networks([network.rnn for network in networks_of(case, count)])
    recurrence = networks_of(case, 1)[0].rnn.recurrence()._replace(**{name: parameters[name] for name in "AWCh"})
    recurrence = recurrence._replace(P=buffers["P"])
    inputs, state = torch.randn(count, case.batch, case.time, case.inputs), torch.zeros(count, case.batch, case.hidden)
    weight = torch.randn(count, case.batch, case.time, case.hidden)
    leaves = list(parameters.values())
    return lambda: torch.autograd.grad(run_recurrence(recurrence, inputs, state).states, leaves, weight)


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, repeats=40, threads=(1, 2))
    data, rows = [], []
    for threads in options.threads:
        torch.set_num_threads(threads)
        for name, case in CASES.items():
            for count in COUNTS:
                runs = {
                    "operator": operator_passes(case, count),
                    "one by one": single_steps(case, count),
                    "at once": stacked_step(case, count),
                }
                times = measure(runs, max(5, options.repeats // count))
                each = {run: {key: value / count for key, value in time.items()} for run, time in times.items()}
                ratio = each["at once"]["min"] / each["one by one"]["min"]
                row = {"threads": threads, "name": name, **case._asdict(), "E": count}
                data.append(row | {"milliseconds": each, "ratio": ratio})
                sizes = f"{case.batch}, {case.time}, {case.hidden}, {case.inputs} ({name})"
                cells = [cell(each[run], 3) for run in runs]
                rows.append([str(threads), sizes, str(count), *cells, f"{ratio:.2f}"])
                print(*rows[-1], sep=" | ", flush=True)
    text = (
        "E networks that differ in P, milliseconds a network: minimum (median) of interleaved repeats; forward and "
        "backward of the recurrence in one call, a training step of one network after the other, one of all at once."
    )
    columns = ["threads", "B, T, M, K", "E", "recurrence", "steps, one by one", "step, at once", "ratio"]
    save("networks", text, columns, rows, data)


if __name__ == "__main__":
    main()
