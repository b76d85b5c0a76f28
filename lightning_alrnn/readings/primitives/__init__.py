"""The four computational primitives of the paper: what a network does with its nonlinear units."""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_alrnn.analysis.primitives import ALPHA, DRAWS, LEAST_AGREEMENT
from lightning_alrnn.readings.base import Reading
from lightning_alrnn.readings.primitives.gating import GatingReading
from lightning_alrnn.readings.primitives.integration import IntegrationReading
from lightning_alrnn.readings.primitives.routing import RoutingReading
from lightning_alrnn.readings.primitives.transients import TransientsReading
from lightning_alrnn.readings.text import percent

if TYPE_CHECKING:
    from lightning_alrnn.report import Report

PRIMITIVES: tuple[Reading, ...] = (GatingReading(), IntegrationReading(), RoutingReading(), TransientsReading())


class Primitives(Reading):
    """Gating, integration, rule-dependent routing and memory-dependent transients, one after the other."""

    title = "primitives"

    def section(self, report: Report) -> None:
        page, study = report.page, report.study
        page.text(
            "Four computational primitives are looked for. Each is found where three things hold: its effect is large "
            f"enough, chance does not do as much (p ≤ {ALPHA}; p is the share of {DRAWS} draws that reach the effect, "
            "itself counted among them, or of fewer draws where the effect is too small), and an intervention that "
            "takes the mechanism away changes the answer. It is about the answers that the network gives, "
            "right or wrong."
        )
        if study.agreement < LEAST_AGREEMENT:
            page.text(
                f"The answers tell {percent(max(study.agreement, 0.0))} of what the targets are, less than "
                f"{LEAST_AGREEMENT:.0%}: the network has not learned the task, and larger effects are asked for."
            )
        for reading in PRIMITIVES:
            reading.section(report)
