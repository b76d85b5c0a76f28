"""What a network does, as pure functions on tensors with NamedTuple results."""

from lightning_alrnn.analysis.fixed_points import FixedPointSet, fixed_points
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
from lightning_alrnn.analysis.spectrum import (
    PrincipalComponents,
    RegimeSpectrum,
    SlowMode,
    principal_angle,
    principal_components,
    regime_spectrum,
    slowest_mode,
)
from lightning_alrnn.analysis.units import UnitStatistics, unit_activity

__all__ = [
    "FixedPointSet",
    "GroupOccupancy",
    "PrincipalComponents",
    "RegimeCounts",
    "RegimeSharing",
    "RegimeSpectrum",
    "RegimeSummary",
    "SlowMode",
    "UnitStatistics",
    "bitcode",
    "count_regimes",
    "count_regimes_by_group",
    "fixed_points",
    "principal_angle",
    "principal_components",
    "regime_sharing",
    "regime_spectrum",
    "slowest_mode",
    "summarize_regimes",
    "transition_matrix",
    "unit_activity",
]
