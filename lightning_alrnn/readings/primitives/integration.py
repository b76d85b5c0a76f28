"""Is the answer a sum over time that slow modes hold?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from lightning_alrnn.plotting.primitives import plot_integration
from lightning_alrnn.readings.base import Reading
from lightning_alrnn.readings.primitives.base import write_verdict
from lightning_alrnn.readings.text import percent

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class IntegrationReading(Reading):
    """Is the answer a sum over time that slow modes hold? It is looked for in the report alone."""

    title = "integration"

    def section(self, report: Report) -> None:
        found = report.study.integration
        report.page.subsection("Integration")
        words = f"A sum of the evidence tells {percent(found.effect)} of the answer's variance within a condition."
        if not math.isnan(found.intervention):
            slowest = f"{'grows' if found.timescale < 0 else 'decays'} e-fold in {abs(found.timescale):.3g} steps"
            words += (
                f" Where half of the evidence has come, {found.slow:.3g} modes are slow (the slowest "
                f"{slowest}). Without them what has come loses {found.intervention:.0%} of its "
                f"effect, without all others {found.lost_otherwise:.0%}."
            )
        write_verdict(report.page, found, words)
        if len(found.channels):
            report.figure(
                "integration",
                plot_integration(found),
                "What early and late evidence counts for the answer.",
            )
