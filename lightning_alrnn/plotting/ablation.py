"""The figure of what each nonlinear unit contributes."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lightning_alrnn.analysis.ablation import AblationScores
from lightning_alrnn.plotting.style import BLUE, GREY, ORANGE, legend_beside, new_figure, tidy, write_in_middle


def plot_ablation(found: AblationScores, threshold: float = 0.1) -> Figure:
    """Draw the increase of the loss, and the loss of accuracy, without each nonlinear unit.

    Args:
        found: Scores of the network without each unit.
        threshold: Share of the task loss from which a unit counts as important, drawn as a dashed line.

    Returns:
        Figure with two bars for each unit, linearised and silenced: the increase of the loss (top; logarithmic where
        increases differ a hundredfold; a marker at the top for infinite ones) and, for a task with an accuracy, the
        accuracy lost (bottom).
    """
    units = len(found.linearise)
    has_accuracy = bool(np.isfinite(found.accuracy))
    figure = new_figure(min(max(6.5, 2.5 + 0.34 * units), 14.0), 4.6 if has_accuracy else 3.4)
    panels = figure.subplots(2 if has_accuracy else 1, 1, sharex=True, squeeze=False)[:, 0]
    important = int(found.important(threshold).sum())
    title = f"{important} of {units} nonlinear units cost more than {threshold:.0%} of the task loss, {found.loss:.3g}"
    panels[0].set_title(title, fontsize=10)
    for axes in panels:
        tidy(axes)
    panels[-1].set_xlabel("nonlinear unit")
    panels[0].set_ylabel("increase of the loss")
    if units == 0:
        panels[-1].set_xticks([])
        write_in_middle(panels[0], "P = 0: no nonlinear units")
        return figure
    position = np.arange(units)
    kinds = (
        ("linearised", -0.2, BLUE, found.linearise.numpy(), found.linearise_accuracy),
        ("silenced", 0.2, ORANGE, found.silence.numpy(), found.silence_accuracy),
    )
    increases = np.abs(np.concatenate([increase for *_, increase, _ in kinds]))
    line = threshold * found.loss
    top = max(increases[np.isfinite(increases)].max(initial=0.0), line) if np.isfinite(line) else 1.0
    top = top if top > 0 else 1.0
    for name, offset, colour, increase, lost in kinds:
        height = np.nan_to_num(increase, nan=0.0, posinf=2 * top)
        panels[0].bar(position + offset, height, 0.4, color=colour, label=name)
        infinite = np.isposinf(increase)
        if infinite.any():
            panels[0].plot(position[infinite] + offset, height[infinite], "^", color=colour, clip_on=False)
        if has_accuracy:
            panels[1].bar(position + offset, lost.numpy(), 0.4, color=colour)
    if np.isfinite(line):
        panels[0].axhline(line, color=GREY, linewidth=0.8, linestyle="--")
        if line > 0 and top > 100 * line:
            panels[0].set_yscale("symlog", linthresh=line)
    for axes in panels:
        axes.axhline(0, color="black", linewidth=0.6)
    legend_beside(panels[0])
    panels[-1].set_xticks(position[:: max(1, units // 25)])
    if has_accuracy:
        panels[1].set_ylabel(f"accuracy lost\n(of {found.accuracy:.1%})")
    return figure
