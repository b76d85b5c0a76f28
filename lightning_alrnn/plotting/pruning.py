"""The figure of a pruned network."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from lightning_alrnn.plotting.style import GREEN, GREY, RED, new_figure, tidy
from lightning_alrnn.plotting.sweep import Column, draw_scores
from lightning_alrnn.sweep.pruning import Pruning, describe
from lightning_alrnn.sweep.rules import Run
from lightning_alrnn.sweep.verdict import judge

_UPRIGHT = 9


def plot_pruning(pruning: Pruning) -> Figure:
    """Score in the test against the nonlinear units that are left, drawn as a sweep over P.

    Args:
        pruning: The network as trained, and after each removal.

    Returns:
        Figure with the answer in its title. Below each number of units stands the unit that was taken away last, and
        how.
    """
    runs = [Run("ALRNN", point.nonlinear_units, 0, {}, point.test) for point in pruning.points]
    verdict = judge(runs, score=pruning.rules.score, tolerance=pruning.rules.tolerance)
    columns = []
    for place, (one, gap) in enumerate(zip(verdict.estimates, pruning.gaps[::-1], strict=True)):
        shown, colour = ("enough", GREEN) if gap <= pruning.rules.margin else ("not enough", RED)
        columns.append(Column(one, 0, place, 0.0, colour, GREY, shown))
    upright = len(columns) > _UPRIGHT
    labels = [
        f"{said}: {point.nonlinear_units}" if upright else "\n".join((str(point.nonlinear_units), *said.rsplit(" ", 1)))
        for point in pruning.points[::-1]
        for said in (describe(point.removal),)
    ]
    width = min(max(7.2, 1.2 + 0.2 * len(columns)), 16.0)
    title = textwrap.fill(pruning.answer, round(104 * width / 7.2))
    figure = new_figure(width, 3.6 + 0.15 * title.count("\n") + 0.7 * upright)
    figure.suptitle(title, fontsize=9, x=0.01, ha="left")
    axes = tidy(figure.add_subplot())
    draw_scores(axes, verdict, columns, labels)
    axes.set_xticks(range(len(labels)), labels, rotation=90 * upright, fontsize=8 if len(labels) < 60 else 6)
    axes.set_xlabel("nonlinear units left", fontsize=9)
    return figure
