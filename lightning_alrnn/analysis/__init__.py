"""What a network does, as pure functions on tensors with NamedTuple results."""

from lightning_alrnn.analysis.fixed_points import FixedPointSet, fixed_points
from lightning_alrnn.analysis.regimes import (
    RegimeCounts,
    RegimeSummary,
    bitcode,
    count_regimes,
    summarize_regimes,
    transition_matrix,
)
from lightning_alrnn.analysis.units import UnitStatistics, unit_activity

__all__ = [
    "FixedPointSet",
    "RegimeCounts",
    "RegimeSummary",
    "UnitStatistics",
    "bitcode",
    "count_regimes",
    "fixed_points",
    "summarize_regimes",
    "transition_matrix",
    "unit_activity",
]
