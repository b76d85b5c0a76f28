"""Which nonlinear units matter to the task?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure

from lightning_alrnn.analysis.ablation import AblationScores
from lightning_alrnn.plotting.ablation import plot_ablation
from lightning_alrnn.readings.base import Chart, Key, Reading
from lightning_alrnn.readings.text import MOST_ROWS, first_of, signed

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class Ablation(Reading):
    """What it costs to take away each nonlinear unit, or its nonlinearity. :class:`UnitAblation` measures it.

    Args:
        threshold: Share of the task loss from which a unit counts as important.
    """

    title = "units"
    keys = (
        Key(
            "ablation/linearise_max",
            "that of the task loss",
            "its increase without the nonlinearity of a unit, the largest over units; infinite where the network "
            "then diverges",
            "Nothing is trained anew: a network trained without the unit may do as well",
        ),
        Key(
            "ablation/linearise_mean",
            "that of the task loss",
            "the same, the mean over units",
            "Units can stand in for each other: none may matter by itself, and all together",
        ),
        Key(
            "ablation/silence_max",
            "that of the task loss",
            "its increase where a unit is held at zero, the largest over units",
            "Includes what the unit does as a linear one",
        ),
        Key("ablation/silence_mean", "that of the task loss", "the same, the mean over units"),
        Key(
            "ablation/important_units",
            "units",
            "units of which either increase is more than a tenth (`threshold`) of the task loss",
            "With a loss near zero small increases are large shares of it",
        ),
    )
    charts = (Chart("loss without a unit", (r"ablation/(linearise|silence)_(max|mean)$",)),)

    def __init__(self, threshold: float = 0.1) -> None:
        self.threshold = threshold

    def values(self, result: AblationScores) -> dict[str, float]:
        values = []
        for increase in (result.linearise, result.silence):
            nothing = math.nan if math.isnan(result.loss) else 0.0
            values += [float(increase.max()), float(increase.mean())] if len(increase) else [nothing, nothing]
        values.append(math.nan if math.isnan(result.loss) else float(result.important(self.threshold).sum()))
        return {key.name: value for key, value in zip(self.keys, values, strict=True)}

    def figures(self, result: AblationScores) -> dict[str, Figure]:
        return {"ablation/units": plot_ablation(result, self.threshold)}

    def section(self, report: Report) -> None:
        report.page.section("What do the units do?")
        page, found = report.page, report.performance.without
        if found is None or not len(found.linearise):
            return
        important = found.important(self.threshold)
        count = int(important.sum())
        page.text(
            f"{count} of {len(important)} nonlinear units {'matters' if count == 1 else 'matter'}: without the unit, "
            f"or without its nonlinearity, the task loss of {found.loss:.3g} grows by more than {self.threshold:.0%}.",
            answer=True,
        )
        judged = not math.isnan(found.accuracy)
        order = torch.argsort(torch.maximum(found.linearise, found.silence), descending=True, stable=True)[:MOST_ROWS]
        page.table(
            ("unit", "linearised", "silenced", *(("accuracy lost, linearised", "silenced") if judged else ())),
            [
                (
                    str(unit),
                    signed(float(found.linearise[unit])),
                    signed(float(found.silence[unit])),
                    *(
                        (f"{float(found.linearise_accuracy[unit]):.1%}", f"{float(found.silence_accuracy[unit]):.1%}")
                        if judged
                        else ()
                    ),
                )
                for unit in order.tolist()
            ],
            "Increase of the task loss where a unit passes on z itself instead of max(0, z), and where it is held at "
            f"zero, the units that matter most first{first_of(len(important))}. Nothing is trained anew.",
        )
        report.figure(
            "ablation",
            plot_ablation(found, self.threshold),
            "What it costs to take each nonlinear unit away.",
        )
