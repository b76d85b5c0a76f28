"""Does one input decide how much another one counts?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_alrnn.plotting.primitives import plot_gating
from lightning_alrnn.readings.base import Reading
from lightning_alrnn.readings.primitives.base import carriers_text, write_verdict

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class GatingReading(Reading):
    """Does one input decide how much another one counts? It is looked for in the report alone."""

    title = "gating"

    def section(self, report: Report) -> None:
        found = report.study.gating
        report.page.subsection("Gating")
        low, high = found.gain
        write_verdict(
            report.page,
            found,
            f"Input {found.gated} counts {low:.3g} for the answer where input {found.control} is low {found.when}, and "
            f"{high:.3g} where it is high. {carriers_text(found)}",
        )
        if found.found is not None:
            report.figure(
                "gating",
                plot_gating(found),
                "How much the gain of each input depends on each other one.",
            )
