"""Which nonlinear units matter to the task?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import torch
from matplotlib.figure import Figure

from lightning_alrnn.analysis.ablation import AblationScores
from lightning_alrnn.plotting.ablation import plot_ablation
from lightning_alrnn.readings.base import Chart, Reading, key_table
from lightning_alrnn.readings.text import MOST_ROWS, first_of, signed

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class Ablation(Reading):
    """Increase of the task loss without each nonlinear unit, or without its nonlinearity.

    Args:
        threshold: Share of the task loss; a unit with a larger increase is important.
    """

    title = "units"
    keys = key_table(
        """
        ablation/linearise_max | that of the task loss | increase of the loss without the nonlinearity of a unit, the
            largest over units; infinite if the network then diverges | Nothing is trained again: a network trained
            without the unit may do as well
        ablation/linearise_mean | that of the task loss | the same, the mean over units | Units can replace each other:
            each may be unimportant alone, and all important together
        ablation/silence_max | that of the task loss | increase of the loss if a unit is held at zero, the largest over
            units | Includes what the unit does as a linear unit
        ablation/silence_mean | that of the task loss | the same, the mean over units
        ablation/important_units | units | units for which one of these increases is more than a tenth (`threshold`) of
            the task loss | If the loss is near zero, small increases are a large share of it
        """
    )
    charts = (Chart("loss without a unit", (r"ablation/(linearise|silence)_(max|mean)$",)),)
    place = 7
    callback = "UnitAblation"

    def __init__(self, threshold: float = 0.1) -> None:
        self.threshold = threshold

    def values(self, result: AblationScores) -> dict[str, float]:
        nothing = math.nan if math.isnan(result.loss) else 0.0
        values = {}
        for name, increase in (("linearise", result.linearise), ("silence", result.silence)):
            values[f"ablation/{name}_max"] = float(increase.max()) if len(increase) else nothing
            values[f"ablation/{name}_mean"] = float(increase.mean()) if len(increase) else nothing
        important = float(result.important(self.threshold).sum())
        return values | {"ablation/important_units": nothing + important}

    def figures(self, result: AblationScores) -> dict[str, Figure]:
        return {"ablation/units": plot_ablation(result, self.threshold)}

    def section(self, report: Report) -> None:
        page, scores = report.page, report.performance.without
        page.section("What do the units do?")
        if scores is None or not len(scores.linearise):
            return
        important = scores.important(self.threshold)
        count = int(important.sum())
        page.text(
            f"{count} of {len(important)} nonlinear units {'matters' if count == 1 else 'matter'}: without the unit, "
            f"or without its nonlinearity, the task loss of {scores.loss:.3g} grows by more than {self.threshold:.0%}.",
            answer=True,
        )
        has_accuracy = not math.isnan(scores.accuracy)
        order = torch.argsort(torch.maximum(scores.linearise, scores.silence), descending=True, stable=True)
        rows = []
        for unit in order[:MOST_ROWS].tolist():
            accuracies = (scores.linearise_accuracy[unit], scores.silence_accuracy[unit]) if has_accuracy else ()
            increases = (signed(float(scores.linearise[unit])), signed(float(scores.silence[unit])))
            rows.append((str(unit), *increases, *(f"{float(lost):.1%}" for lost in accuracies)))
        page.table(
            ("unit", "linearised", "silenced", *(("accuracy lost, linearised", "silenced") if has_accuracy else ())),
            rows,
            "Increase of the task loss if a unit passes on z itself instead of max(0, z), and if it is held at zero; "
            f"the most important units come first{first_of(len(important))}. Nothing is trained again.",
        )
        caption = "Increase of the task loss without each nonlinear unit."
        report.figure("ablation", plot_ablation(scores, self.threshold), caption)
