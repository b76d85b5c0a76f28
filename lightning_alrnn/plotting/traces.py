"""Figures of single trials: outputs beside targets over time, and the choice of trials that a figure shows."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import numpy as np
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from lightning_alrnn.plotting.style import SERIES_COLOURS, new_figure, shorten, tidy

_COLUMNS = 3
_MOST_CONDITIONS = 5
_MOST_OUTPUTS = 3
_WRITTEN_CLASSES = 8
_MOST_CHARACTERS = 24


def plot_traces(
    outputs: Tensor,
    targets: Tensor,
    counted: Tensor,
    labels: Tensor | None = None,
    names: Sequence[str] | None = None,
    channels: Sequence[str] | None = None,
) -> Figure:
    """Outputs and targets over time, for three trials of each condition.

    Args:
        outputs: Values, or scores of the classes, at every step, shape ``(batch, time, outputs)``.
        targets: Float of shape ``(batch, time, outputs)``, or int64 classes of shape ``(batch, time)``.
        counted: Steps whose target counts, bool of shape ``(batch, time)``; the others have no target in the figure,
            and the time after the last one is left out.
        labels: Condition of each trial, int64 of shape ``(batch,)``, below 0 for none; ``None`` without conditions.
        names: Names of the conditions; ``None`` for their indices.
        channels: Names of the outputs, or of the classes; ``None`` for their indices.

    Returns:
        Figure with a row for each of up to five conditions and a panel for each trial. Targets are thick and pale,
        outputs thin. Of the outputs, the three whose targets vary most are shown. Of classes, it shows the class with
        the largest score.
    """
    rows = choose_trials(len(outputs), labels, _COLUMNS, _MOST_CONDITIONS) if labels is not None else {}
    if not rows:
        trials = list(range(min(len(outputs), 2 * _COLUMNS)))
        rows = {-begin - 1: trials[begin : begin + _COLUMNS] for begin in range(0, len(trials), _COLUMNS)}
    classes = not targets.is_floating_point()
    wanted = targets.double().cpu().unsqueeze(-1) if classes else targets.double().cpu()
    given = outputs.argmax(dim=-1, keepdim=True) if classes else outputs
    valid = counted.cpu().numpy()
    flat = wanted[counted.cpu()]
    spread = flat.var(dim=0, correction=0) if len(flat) else torch.zeros(wanted.shape[-1])
    shown = sorted(spread.argsort(descending=True, stable=True)[:_MOST_OUTPUTS].tolist())
    figure = new_figure(9.0, 0.9 + 1.5 * len(rows))
    grid = figure.subplots(len(rows), _COLUMNS, sharex=True, sharey=True, squeeze=False)
    for panels, (label, trials) in zip(grid, rows.items(), strict=True):
        for axes in panels[len(trials) :]:
            axes.set_axis_off()
        for axes, trial in zip(panels, trials, strict=False):
            _draw_trial(tidy(axes), given[trial].double().cpu().numpy(), wanted[trial].numpy(), valid[trial], shown)
            axes.set_title(f"trial {trial}", fontsize=8, color="0.4", pad=2)
        if label >= 0:
            panels[0].set_ylabel(condition_name(label, names), fontsize=9)
    for axes in grid[-1]:
        axes.set_xlabel("step")
    corner: Axes = grid[0][0]
    corner.xaxis.set_major_locator(MaxNLocator(5, integer=True))
    if classes:
        count = outputs.shape[-1]
        corner.set_ylim(-0.5, count - 0.5)
        corner.yaxis.set_major_locator(MaxNLocator(5, integer=True))
        if count <= _WRITTEN_CLASSES and channels is not None:
            corner.set_yticks(range(count), [condition_name(index, channels) for index in range(count)], fontsize=8)
    grey = "0.3" if classes or len(shown) > 1 else SERIES_COLOURS[0]
    handles = [
        Line2D([], [], color=grey, linewidth=4, alpha=0.35, label="target"),
        Line2D([], [], color=grey, linewidth=1.2, label="class with the largest score" if classes else "output"),
    ]
    if not classes and (len(shown) > 1 or channels is not None):
        labelled = [condition_name(index, channels, "output ") for index in shown]
        handles += [Line2D([], [], color=SERIES_COLOURS[k], label=name) for k, name in enumerate(labelled)]
    figure.legend(handles=handles, frameon=False, fontsize=8, loc="outside upper center", ncols=len(handles))
    return figure


def choose_trials(count: int, labels: Tensor | None, per_condition: int, most_conditions: int) -> dict[int, list[int]]:
    """Choose the first trials of each of the most frequent conditions, in the order of the conditions.

    Args:
        count: Number of trials.
        labels: Condition of each trial, int64 of shape ``(count,)``, below 0 for none; ``None`` if each trial is a
            condition of its own.
        per_condition: Largest number of trials of a condition.
        most_conditions: Largest number of conditions.

    Returns:
        Indices of trials by condition.
    """
    conditions = list(range(count)) if labels is None else labels.tolist()
    frequent = Counter(label for label in conditions if label >= 0).most_common(most_conditions)
    return {
        label: [trial for trial, other in enumerate(conditions) if other == label][:per_condition]
        for label, _ in sorted(frequent)
    }


def condition_name(index: int, names: Sequence[str] | None, kind: str = "") -> str:
    """Return the name of a condition, short enough for a figure, or its number."""
    name = f"{kind}{index}" if names is None or index >= len(names) else " ".join(str(names[index]).split())
    return shorten(name, _MOST_CHARACTERS)


def _draw_trial(axes: Axes, given: np.ndarray, wanted: np.ndarray, counted: np.ndarray, shown: Sequence[int]) -> None:
    steps = int(np.flatnonzero(counted)[-1]) + 1 if counted.any() else len(given)
    time, counted = np.arange(1, steps + 1), counted[:steps]
    around = np.pad(counted, 1)
    alone = counted & ~around[:-2] & ~around[2:]  # a line does not show a step whose neighbours do not count
    for output, colour in zip(shown, SERIES_COLOURS, strict=False):
        target = np.where(counted, wanted[:steps, output], np.nan)
        axes.plot(time, target, color=colour, linewidth=4, alpha=0.35, solid_capstyle="round")
        axes.plot(time[alone], target[alone], "o", color=colour, markersize=4, alpha=0.35, markeredgewidth=0)
        axes.plot(time, given[:steps, output], color=colour, linewidth=1.2)
