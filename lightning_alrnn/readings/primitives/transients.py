"""Does the answer hang on states that the present input would not hold?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_alrnn.readings.base import Reading
from lightning_alrnn.readings.primitives.base import write_verdict
from lightning_alrnn.readings.text import percent

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class TransientsReading(Reading):
    """Does the answer hang on states that the present input would not hold? It is looked for in the report alone."""

    title = "transients"

    def section(self, report: Report) -> None:
        page, found = report.page, report.study.transients
        page.subsection("Memory-dependent transients")
        words = (
            f"The answer tells {percent(found.answer)} of what the target is, the present input alone "
            f"{percent(max(found.present, 0.0))}; where the network is held at the present input {found.steps} steps "
            f"before the response, until it has settled, {percent(max(found.settled, 0.0))}."
        )
        if found.without:
            kind = {"silence": "silenced", "linearise": "made linear", "freeze": "frozen"}[found.without]
            words += f" With the nonlinear units {kind} from there, {found.intervention:.0%} of it is gone."
        write_verdict(page, found, words)
