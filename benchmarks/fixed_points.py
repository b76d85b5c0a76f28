"""Measure what it costs to find fixed points, beside one M×M solve for each of the 2^P regimes.

The benchmark stops if brute force and the exhaustive search find other regimes, or if the result for one of 1,000
networks with rescaled units (``rescaled.py``) claims to be complete and is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import rescaled
import torch
from common import arguments, cell, measure, save, summary

from lightning_alrnn.analysis import FixedPointSet, cycles, fixed_points
from lightning_alrnn.datamodules import Addition
from lightning_alrnn.modules import ALRNNModule
from lightning_alrnn.nn import ALRNN

HIDDEN = 50
EXHAUSTIVE = (5, 8, 10, 12, 14, 16, 18, 20)
BRUTE_FORCE = 16  # the largest P; each unit more doubles the seconds
RESCALED = 500  # networks for each range of scales


def network(nonlinear: int, integrators: int = 0, hidden: int = HIDDEN) -> ALRNN:
    """A network with random weights; its first linear units may be integrators without a drive."""
    rng = np.random.default_rng(nonlinear)
    rnn = ALRNN(2, hidden, nonlinear, self_connections="all").double()
    with torch.no_grad():
        rnn.A.copy_(torch.from_numpy(rng.uniform(0.3, 0.95, hidden)))
        rnn.W.copy_(torch.from_numpy(rng.normal(size=(hidden, hidden)) * 0.8 / np.sqrt(hidden)))
        rnn.h.copy_(torch.from_numpy(rng.normal(size=hidden)))
        rnn.A[:integrators] = 0.0
        rnn.W[:integrators] = torch.eye(hidden)[:integrators]
        rnn.h[:integrators] = 0.0
    return rnn


def trained(nonlinear: int, steps: int = 300) -> ALRNN:
    """A network after some steps of the addition task."""
    torch.manual_seed(0)
    model = ALRNNModule(2, 1, HIDDEN, nonlinear, objective="regression", init="near_identity")
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch = Addition(sequence_length=50, train_size=128).build("train")
    for _ in range(steps):
        elements, weight = model.task_loss(model(batch.inputs, batch.lengths).outputs, batch)
        loss = (elements * weight).sum() / weight.sum() + model.regularization()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
    return next(module for module in model.modules() if isinstance(module, ALRNN))


def brute_force(rnn: ALRNN) -> set[int]:
    """Codes of the regimes that contain their fixed point, by batched M×M solves."""
    A, W, h = (value.detach().numpy() for value in (rnn.diagonal(), rnn.W, rnn.h))
    units, linear = rnn.nonlinear_units, rnn.linear_units
    regimes: set[int] = set()
    for numbers in np.array_split(np.arange(2**units), max(1, 2**units // 512)):
        codes = numbers[:, None] >> np.arange(units) & 1
        slopes = np.hstack((np.ones((len(codes), linear)), codes))
        matrices = np.eye(len(h)) - np.diag(A) - W * slopes[:, None, :]
        z = np.linalg.solve(matrices, np.broadcast_to(h, (len(codes), len(h)))[..., None])[..., 0]
        regimes.update(numbers[((z[:, linear:] > 0) == codes).all(axis=1)].tolist())
    return regimes


def check(rnn: ALRNN) -> None:
    """Raise unless both ways find the same regimes."""
    result = fixed_points(rnn, method="exhaustive")
    assert isinstance(result, FixedPointSet)
    codes = set((result.code.long() << torch.arange(rnn.nonlinear_units)).sum(dim=1).tolist())
    if codes != brute_force(rnn):
        raise RuntimeError(f"P={rnn.nonlinear_units}: the exhaustive search and brute force differ")


def check_rescaled(decades: int) -> tuple[int, int, list[float]]:
    """Fixed points and continua of all networks, how many results claim to be complete, and milliseconds of each."""
    count, complete, times = 0, 0, []
    for system in rescaled.systems(RESCALED, decades):
        start = time.perf_counter()
        result = rescaled.search(system)
        times.append(1e3 * (time.perf_counter() - start))
        wrong = rescaled.differences(system, result, rescaled.brute_force(system))
        if result.complete and wrong:
            raise RuntimeError(f"M={len(system.h)}, P={system.units}, {system.kind}: {', '.join(wrong)}")
        count += len(result.z) + len(result.continua)
        complete += result.complete
    return count, complete, times


def main() -> None:
    """Measure, print, write."""
    options = arguments(__doc__, repeats=3)
    torch.set_num_threads(1)
    cases: list[tuple[str, ALRNN, dict[str, Callable[[], object]]]] = []
    for units in EXHAUSTIVE:
        rnn = network(units)
        runs: dict[str, Callable[[], object]] = {"search": partial(fixed_points, rnn, method="exhaustive")}
        if units <= BRUTE_FORCE:
            check(rnn)
            runs["brute force"] = partial(brute_force, rnn)
        cases.append(("all regimes", rnn, runs))
    two = network(12, integrators=2)
    cases.append(("all regimes, two integrators", two, {"search": partial(fixed_points, two)}))
    for units in (40, 100):
        rnn = network(units, hidden=max(HIDDEN, units))
        cases.append(("seeded search", rnn, {"search": partial(fixed_points, rnn)}))
    for name, rnn in (("certificate, trained on addition", trained(10)), ("certificate", network(20))):
        cases.append((name, rnn, {"search": partial(fixed_points, rnn, method="certified")}))
    seven = network(7)
    cases.append(("cycles of period 2, all sequences", seven, {"search": partial(cycles, seven, 2)}))

    data, rows = [], []
    for name, rnn, runs in cases:
        result: Any = runs["search"]()
        count, claim = len(result.z), result.certificate
        measured = measure(runs, options.repeats)
        size = {"M": rnn.hidden_size, "P": rnn.nonlinear_units}
        data.append({"name": name, **size, "found": count, "certificate": claim, "milliseconds": measured})
        brute = cell(measured["brute force"]) if "brute force" in measured else ""
        sizes = [str(rnn.hidden_size), str(rnn.nonlinear_units), str(count)]
        rows.append([name, *sizes, claim.replace("|", "\\|"), cell(measured["search"]), brute])  # | within a table
        print(*rows[-1], sep=" | ", flush=True)
    for decades in (3, 5):
        count, complete, times = check_rescaled(decades)
        name, claim = f"{RESCALED} networks, units rescaled by 10^±{decades}", f"complete in {complete}, none wrong"
        data.append({"name": name, "found": count, "complete": complete, "milliseconds": summary(times)})
        rows.append([name, "2–20", "1–10", str(count), claim, cell(summary(times)), ""])
        print(*rows[-1], sep=" | ", flush=True)
    text = f"Finding fixed points on one core, in milliseconds: minimum (median) of {options.repeats} repeats."
    save("fixed_points", text, ["what", "M", "P", "found", "claim", "search", "brute force"], rows, data)


if __name__ == "__main__":
    main()
