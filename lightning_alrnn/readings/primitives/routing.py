"""Do inputs count otherwise in other conditions?"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from lightning_alrnn.plotting.primitives import plot_routing
from lightning_alrnn.readings.base import Reading
from lightning_alrnn.readings.primitives.base import carriers_text, write_verdict
from lightning_alrnn.readings.text import MOST_ROWS, group_labels, number

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class RoutingReading(Reading):
    """Do inputs count otherwise in other conditions? It is looked for in the report alone."""

    title = "routing"

    def section(self, report: Report) -> None:
        page, found = report.page, report.study.routing
        page.subsection("Rule-dependent routing")
        if found.found is None:
            write_verdict(page, found, "")
            return
        names = group_labels(found.groups, report.performance.group_names)
        effect = ", ".join(f"{name} {float(found.gain[row, found.channel]):.3g}" for row, name in enumerate(names[:8]))
        way = f", through the nonlinear units {', '.join(map(str, found.path))}," if found.path else ""
        write_verdict(
            page,
            found,
            f"Input {found.channel} counts for the answer{way} otherwise by condition; as a whole: {effect}. "
            f"{carriers_text(found)} The conditions' occupancy of the regimes differs by "
            f"{found.occupancy_js:.3f} bits.",
        )
        order = np.argsort(-found.effects.nan_to_num(0.0).numpy(), kind="stable")[:MOST_ROWS]
        page.table(
            ("input", *names[:8], "effect"),
            [
                (
                    f"input {index}",
                    *(f"{float(value):.3g}" for value in found.gain[:8, index]),
                    number(float(found.effects[index])),
                )
                for index in order.tolist()
            ],
            "Mean ∂y/∂s of each input in each condition, and how much it differs: 0 not at all, 1 where the input that "
            "counts most counts as much against as for the answer.",
        )
        report.figure(
            "routing",
            plot_routing(found, names),
            "What each input counts for the answer in each condition.",
        )
