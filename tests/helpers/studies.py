"""A small network that was looked at, for the tests of what is written about it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from lightning_alrnn.analysis.network_study import Sequences, study
from lightning_alrnn.nn import ALRNN
from lightning_alrnn.report import Performance, Source, Traces, write_report


def written(
    folder: Path,
    units: int = 3,
    *,
    hidden: int = 6,
    batch: int = 20,
    classes: int = 0,
    group: list[int] | None = None,
    phase: list[int] | None = None,
    metrics: dict[str, float] | None = None,
    baselines: dict[str, dict[str, float]] | None = None,
    input_names: list[str] | None = None,
    traces: Traces | None = None,
) -> dict[str, Any]:
    """Write the report of a random network into a folder."""
    torch.manual_seed(0)
    rnn = ALRNN(2, hidden, units)
    with torch.no_grad():
        rnn.W.normal_(std=0.8 / hidden**0.5)
        rnn.h.normal_(std=0.3)
        assert rnn.C is not None
        rnn.C.normal_()
        inputs, lengths = torch.randn(batch, 8, 2), torch.full((batch,), 8)
        states, last = rnn(inputs)
    weight = torch.randn(classes or 1, hidden)
    targets = torch.randint(classes, (batch,)) if classes else torch.randn(batch, 1)
    groups = None if group is None else torch.tensor(group)
    steps = None if phase is None else torch.tensor([phase] * batch)
    data = Sequences(inputs, states, lengths, last @ weight.T, targets, groups, steps)
    names = [f"<rule> & {index}" for index in range(max(group or [0]) + 1)]
    found = study(rnn, data, weight, names, time_limit=1.0)
    objective = "classification" if classes else "regression"
    performance = Performance(
        metrics or {"test/mse": 0.25},
        objective,
        None,
        None if group is None else names,
        baselines=baselines,
        input_names=input_names,
    )
    source = Source("run/best.ckpt", None, "Addition", 3)
    return write_report(folder, found, data, performance, source, rnn, traces=traces)
