"""What a network does, as pure functions on tensors with NamedTuple results."""

from lightning_alrnn.analysis.fixed_points import FixedPointSet, fixed_points
from lightning_alrnn.analysis.neural import SpikeStatistics, pearson
from lightning_alrnn.analysis.regimes import (
    GroupOccupancy,
    RegimeCounts,
    RegimeSharing,
    RegimeSummary,
    bitcode,
    count_regimes,
    count_regimes_by_group,
    regime_sharing,
    summarize_regimes,
    transition_matrix,
)
from lightning_alrnn.analysis.units import UnitStatistics, unit_activity

__all__ = [
    "FixedPointSet",
    "GroupOccupancy",
    "RegimeCounts",
    "RegimeSharing",
    "RegimeSummary",
    "SpikeStatistics",
    "UnitStatistics",
    "bitcode",
    "count_regimes",
    "count_regimes_by_group",
    "fixed_points",
    "pearson",
    "regime_sharing",
    "summarize_regimes",
    "transition_matrix",
    "unit_activity",
]
