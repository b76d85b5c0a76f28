"""The figure of a pruned network."""

from __future__ import annotations

import math
import textwrap
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

from matplotlib.figure import Figure

from lightning_alrnn.plotting.style import GREEN, GREY, RED, new_figure, tidy
from lightning_alrnn.plotting.sweep import Column, draw_scores

if TYPE_CHECKING:  # the package of sweeps draws with this one
    from lightning_alrnn.analysis import Removal
    from lightning_alrnn.sweep import Pruning

_UPRIGHT = 9


def plot_pruning(pruning: Pruning) -> Figure:
    """Draw the test score against the remaining nonlinear units, like a sweep over P.

    Args:
        pruning: Scores of the network as trained, and after each removal.

    Returns:
        Figure with the answer in its title. Below each number of units stands the last removal.
    """
    rules, points = pruning.rules, pruning.points[::-1]
    columns = []
    for place, (point, gap) in enumerate(zip(points, pruning.gaps[::-1], strict=True)):
        score = point.test[rules.score]
        diverged = not math.isfinite(score)
        run: Any = SimpleNamespace(scores={} if diverged else {0: score}, other_scores=(), tried=1, diverged=diverged)
        run.typical, run.gap, run.compared = math.nan if diverged else score, gap, True
        status, colour = ("enough", GREEN) if gap <= rules.margin else ("not enough", RED)
        columns.append(Column(run, "", place, 0.0, colour, GREY, status))
    upright = len(columns) > _UPRIGHT
    labels = [_label(point.nonlinear_units, point.removal, upright) for point in points]
    width = min(max(7.2, 1.2 + 0.2 * len(columns)), 16.0)
    title = textwrap.fill(pruning.answer, round(104 * width / 7.2))
    figure = new_figure(width, 3.6 + 0.15 * title.count("\n") + 0.7 * upright)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    axes = tidy(figure.add_subplot())
    draw_scores(axes, rules, columns, labels)
    axes.set_xticks(range(len(labels)), labels, rotation=90 * upright, fontsize=8 if len(labels) < 60 else 6)
    axes.set_xlabel("nonlinear units left", fontsize=9)
    return figure


def _label(units: int, removal: Removal | None, upright: bool) -> str:
    how = ("as", "trained") if removal is None else (f"unit {removal.unit}", f"{removal.kind}d")
    return f"{' '.join(how)}: {units}" if upright else "\n".join((str(units), *how))
