"""Which regime each sequence is in, step by step."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lightning_alrnn.analysis.regime_statistics import regimes
from lightning_alrnn.plotting.palette import OTHERS, regime_colours, regime_label
from lightning_alrnn.plotting.style import legend_beside, new_figure, plain

_MOST_ROWS = 200


def plot_regime_raster(
    states: Tensor,
    nonlinear_units: int,
    lengths: Tensor | None = None,
    group: Tensor | None = None,
    names: Sequence[str] | None = None,
) -> Figure:
    """Regime of each of up to 200 sequences at each step, sorted by condition.

    The most visited regimes have a colour each, the others are grey, and steps past the end of a sequence are white.
    A negative ``group`` is no condition.
    """
    rows = torch.arange(len(states))
    if group is not None:
        order = torch.argsort(group.cpu(), stable=True)
        rows = order[torch.linspace(0, len(order) - 1, min(len(order), _MOST_ROWS)).round().long()]
    rows = rows[:_MOST_ROWS]
    valid = None if lengths is None else lengths.cpu()
    found = regimes(states.cpu(), nonlinear_units, valid)
    colours = regime_colours(found.codes)
    coloured = [rank for rank, colour in enumerate(colours) if colour != OTHERS]
    labels = found.labels[rows].clone()
    past = labels < 0
    if valid is not None:
        past = torch.arange(labels.shape[1]) >= valid[rows].unsqueeze(1)
    place = torch.full((len(colours) + 1,), len(coloured))  # the last for those that are not listed, labelled -1
    place[coloured] = torch.arange(len(coloured))
    labels = place[labels]
    labels[past] = len(coloured) + 1

    figure = new_figure(8.4, min(2.2 + 0.025 * len(rows), 6.0))
    axes = figure.subplots()
    palette = ListedColormap([*(colours[rank] for rank in coloured), OTHERS, "white"])
    axes.imshow(labels.numpy(), cmap=palette, vmin=-0.5, vmax=palette.N - 0.5, aspect="auto", interpolation="nearest")
    axes.xaxis.set_major_locator(MaxNLocator(10, integer=True))
    axes.set(xlabel="step", ylabel="sequence")
    if group is not None:
        owners = group.cpu()[rows].numpy()
        bounds = np.flatnonzero(np.diff(owners)) + 0.5
        for bound in bounds:
            axes.axhline(bound, color="black", linewidth=1.0)
        edges = np.concatenate(([-0.5], bounds, [len(rows) - 0.5]))
        middles = (edges[:-1] + edges[1:]) / 2
        present = owners[np.clip(middles.round().astype(int), 0, len(owners) - 1)]
        texts = ["none" if index < 0 else str(index) if names is None else names[index] for index in present]
        axes.set_yticks(middles, [plain(text[:24]) for text in texts], fontsize=8)
        axes.set_ylabel("")
    handles = []
    for rank in coloured:
        name = regime_label(found.codes[rank], rank + 1)
        handles.append(Patch(color=colours[rank], label=f"{name}  {float(found.occupancy[rank]):.0%}"))
    if found.visited > len(coloured):
        rest = 1 - float(found.occupancy[coloured].sum())
        handles.append(Patch(color=OTHERS, label=f"{found.visited - len(coloured)} others  {rest:.0%}"))
    legend_beside(axes, handles=handles, title="regime, share of steps")
    return figure
