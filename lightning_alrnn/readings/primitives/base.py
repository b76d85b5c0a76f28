"""What the four computational primitives have in common in a report."""

from __future__ import annotations

import math

from lightning_alrnn.analysis.primitives import Gating, Integration, Routing, Transients
from lightning_alrnn.plotting.page import Page
from lightning_alrnn.readings.text import MOST_ROWS


def write_verdict(page: Page, found: Gating | Integration | Routing | Transients, words: str) -> None:
    """Whether a primitive was found, with the three numbers that it hangs on."""
    if found.found is None:
        page.text(f"Not looked for: {found.reason}.")
        return
    effect = round(found.effect, 2) + 0.0  # no negative zero
    numbers = f"effect {effect:.2f}, p = {found.p:.3f}"
    if not math.isnan(found.intervention):
        numbers += f", intervention {found.intervention:.0%}"
    page.text(
        f"Found ({numbers}). {words}"
        if found.found
        else f"Not found ({numbers}). What failed is the {found.reason}. {words}",
        answer=found.found,
    )


def carriers_text(found: Gating | Routing) -> str:
    """Which units carry it, and what is left without them."""
    if found.carriers is None or not found.carriers.units:
        return ""
    units, kind = found.carriers.units, {"silence": "silenced", "linearise": "made linear"}[found.carriers.kind]
    return (
        f"With unit{'s' if len(units) > 1 else ''} {', '.join(map(str, units[:MOST_ROWS]))} {kind}, "
        f"{found.carriers.removed:.0%} of it is gone, and {found.carriers.change:.0%} of what the input makes of the "
        "answer has changed."
    )
