"""Figures of what each nonlinear unit is worth."""

from __future__ import annotations

import numpy as np
from matplotlib.figure import Figure

from lightning_alrnn.analysis.ablation import AblationScores
from lightning_alrnn.plotting.style import BLUE, GREY, ORANGE, new_figure, tidy


def plot_ablation(found: AblationScores, threshold: float = 0.1) -> Figure:
    """Increase of the task loss, and loss of accuracy, without each nonlinear unit.

    Args:
        found: the scores.
        threshold: share of the task loss from which a unit counts as important, a dashed line.

    Returns:
        Figure with two bars a unit, linearised and silenced: the increase of the loss (top; logarithmic where increases
        differ a hundredfold, infinite ones reach the top and have a mark) and, where predictions are right or wrong,
        the accuracy lost (bottom).
    """
    units = len(found.linearise)
    judged = bool(np.isfinite(found.accuracy))
    figure = new_figure(min(max(6.5, 2.5 + 0.34 * units), 14.0), 4.6 if judged else 3.4)
    panels = figure.subplots(2 if judged else 1, 1, sharex=True, squeeze=False)[:, 0]
    count = int(found.important(threshold).sum())
    panels[0].set_title(
        f"{count} of {units} nonlinear units cost more than {threshold:.0%} of the task loss, {found.loss:.3g}",
        fontsize=10,
    )
    for axes in panels:
        tidy(axes)
    panels[-1].set_xlabel("nonlinear unit")
    panels[0].set_ylabel("increase of the loss")
    if units == 0:
        panels[-1].set_xticks([])
        panels[0].text(0.5, 0.5, "P = 0: no nonlinear units", ha="center", transform=panels[0].transAxes, color=GREY)
        return figure
    position = np.arange(units)
    kinds = (("linearised", -0.2, BLUE, found.linearise), ("silenced", 0.2, ORANGE, found.silence))
    values = np.concatenate([increase.numpy() for *_, increase in kinds])
    finite = np.abs(values[np.isfinite(values)])
    line = threshold * found.loss
    top = max(finite.max(initial=0.0), line) if np.isfinite(line) else 1.0
    top = top if top > 0 else 1.0
    for name, offset, colour, increase in kinds:
        height = np.nan_to_num(increase.numpy(), nan=0.0, posinf=2 * top)
        panels[0].bar(position + offset, height, 0.4, color=colour, label=name)
        endless = np.isposinf(increase.numpy())
        if endless.any():
            panels[0].plot(
                position[endless] + offset, np.full(endless.sum(), 2 * top), "^", color=colour, clip_on=False
            )
    if np.isfinite(line):
        panels[0].axhline(line, color=GREY, linewidth=0.8, linestyle="--")
        if line > 0 and top > 100 * line:
            panels[0].set_yscale("symlog", linthresh=line)
    panels[0].axhline(0, color="black", linewidth=0.6)
    panels[0].legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.0, 1.0))
    panels[-1].set_xticks(position[:: max(1, units // 25)])
    if judged:
        losses = (found.linearise_accuracy, found.silence_accuracy)
        for (_, offset, colour, _), lost in zip(kinds, losses, strict=True):
            panels[1].bar(position + offset, lost.numpy(), 0.4, color=colour)
        panels[1].axhline(0, color="black", linewidth=0.6)
        panels[1].set_ylabel(f"accuracy lost\n(of {found.accuracy:.1%})")
    return figure
