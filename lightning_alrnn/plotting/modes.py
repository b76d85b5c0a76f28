"""Figures of slow modes, and of how long inputs are remembered."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from torch import Tensor

from lightning_alrnn.analysis.modes import SlowModes
from lightning_alrnn.analysis.perturbations import InputMemory, Nonnormality
from lightning_alrnn.analysis.regime_statistics import bitcode
from lightning_alrnn.plotting.palette import OTHERS, regime_colours, regime_label
from lightning_alrnn.plotting.style import (
    BLUE,
    GREY,
    ORANGE,
    RED,
    SERIES_COLOURS,
    legend_beside,
    new_figure,
    plain,
    tidy,
)

_MOST_CHANNELS = 6
_LABEL_BITS = 12


def plot_slow_modes(found: SlowModes, occupancy: Tensor, steps: float) -> Figure:
    """Timescales of the slowest modes of each regime, and how well inputs reach them and the readout sees them."""
    figure = new_figure(9.4, 4.0)
    left, right = figure.subplots(1, 2)
    count, modes = found.timescales.shape
    rank = np.repeat(np.arange(count), modes)
    tau = found.timescales.numpy().ravel()
    ceiling = 1e3 * max(steps, 1.0)
    shown = np.clip(np.abs(tau), 1e-2, ceiling)
    for grows, face, label in ((False, BLUE, "decays"), (True, "none", "grows")):
        chosen = (tau < 0) == grows
        if chosen.any():
            style: dict[str, Any] = {"color": RED if grows else BLUE, "markerfacecolor": face, "markersize": 5}
            tidy(left).plot(rank[chosen], shown[chosen], "o", label=label, **style)
    left.axhline(steps, color=GREY, linewidth=0.9, linestyle="--")
    left.text(1.0, steps, " length of\n a sequence", transform=left.get_yaxis_transform(), fontsize=8, va="center")
    left.set(yscale="log", ylabel="timescale |τ| (steps)")
    left.set_title(f"the {modes} slowest modes of each regime", fontsize=10)
    left.legend(frameon=False, fontsize=8)
    overlaps = [(found.input_overlap, "o", ORANGE, 5, "inputs reach it")]
    if found.readout_overlap is not None:
        overlaps.append((found.readout_overlap, "D", BLUE, 4, "the readout sees it"))
    for overlap, marker, colour, size, label in overlaps:
        tidy(right).plot(rank, overlap.numpy().ravel(), marker, color=colour, markersize=size, label=label)
    right.set(ylim=(-0.03, 1.03), ylabel="cosine")
    legend_beside(right)
    labels = [
        f"{bitcode(code) if 0 < len(code) <= _LABEL_BITS else index + 1}\n{float(share):.0%}"
        for index, (code, share) in enumerate(zip(found.codes, occupancy, strict=True))
    ]
    turned = 90 if max(map(len, labels), default=0) > 9 else 0
    for axes in (left, right):
        axes.set_xticks(range(count), labels, fontsize=7, rotation=turned)
        axes.set(xlim=(-0.5, count - 0.5), xlabel="regime, share of steps")
    return figure


def plot_memory(
    found: InputMemory, modes: Nonnormality, codes: Tensor, channels: Sequence[str] | None = None
) -> Figure:
    """How much inputs count some steps later (left), and how much perturbations grow in the visited regimes (right)."""
    figure = new_figure(9.4, 3.8)
    left, right = figure.subplots(1, 2)
    values = (found.states if found.outputs is None else found.outputs).numpy()
    order = np.argsort(-np.nan_to_num(values).sum(axis=0))[:_MOST_CHANNELS]
    for place, channel in enumerate(sorted(order)):
        name = f"input {channel}" if channels is None else plain(channels[channel])
        tidy(left).plot(found.lags.numpy(), values[:, channel], color=SERIES_COLOURS[place], label=name)
    left.set(xlabel="lag (steps)", ylabel="r.m.s. of ∂z/∂s" if found.outputs is None else "r.m.s. of ∂y/∂s")
    left.set_ylim(bottom=0)
    left.set_title("how much an input counts later", fontsize=10)
    left.legend(frameon=False, fontsize=8)
    growth = modes.growth.numpy()
    finite = np.where(np.isfinite(growth), growth, np.nan)
    for rank, (code, colour) in enumerate(zip(codes, regime_colours(codes), strict=True)):
        if colour != OTHERS:
            label = regime_label(code, rank + 1)
            tidy(right).plot(modes.powers.numpy(), finite[rank], color=colour, linewidth=1.4, label=label)
    right.axhline(1.0, color=GREY, linewidth=0.8)
    right.set(yscale="log", xlabel="n (steps that the regime was held for)", ylabel="‖Jⁿ‖")
    right.set_title("largest growth of a perturbation", fontsize=10)
    legend_beside(right, title="regime")
    return figure
