"""Why a primitive was not found, in words."""

from __future__ import annotations

from lightning_alrnn.analysis.primitives.trials import LEAST_CHANGE, LEAST_REMOVED, Carriers


def why_not(effect: float, least: float, untrained: bool, p: float, alpha: float, carriers: Carriers | None) -> str:
    """Which of effect, chance and intervention failed."""
    reason = too_small(effect, least, untrained) or by_chance(p, alpha)
    if reason or carriers is None:
        return reason
    if carriers.removed < LEAST_REMOVED:
        return f"intervention: no nonlinear units were found that carry it (at most {max(carriers.removed, 0.0):.0%})"
    if carriers.change < LEAST_CHANGE:
        return f"intervention: without it the input counts as before (what it makes changes by {carriers.change:.0%})"
    return ""


def too_small(effect: float, least: float, untrained: bool) -> str:
    """That the effect is too small."""
    if effect >= least:
        return ""
    why = ", as the answers tell little of the targets" if untrained else ""
    return f"effect: {effect:.2g} is below {least:.2g}{why}"


def by_chance(p: float, alpha: float) -> str:
    """That chance does as much."""
    return f"chance: p = {p:.3f} is above {alpha:.2g}" if p > alpha else ""
