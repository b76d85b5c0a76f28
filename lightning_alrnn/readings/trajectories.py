"""How many dimensions do the states fill?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from lightning_alrnn.analysis.spectrum import PrincipalComponents, latent_dimensions
from lightning_alrnn.readings.base import Chart, Reading, key_table
from lightning_alrnn.readings.evidence import Evidence

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class LatentDimensions(Reading):
    """How much of the states' variance lies along their leading principal components."""

    title = "trajectories"
    keys = key_table(
        """
        latent/pc1_variance | share | share of the states' variance along the leading principal component; NaN if states
            do not vary | Variance is not importance: the answer may lie along a small component
        latent/pc3_variance | share | share along the leading three components
        latent/participation_ratio | dimensions | (Σ λ)² / Σ λ² of the variances along the components, 1 to M | Curved
            trajectories fill more of these than they have degrees of freedom
        """
    )
    charts = (Chart("share of the variance", (r"latent/pc1_variance$", r"latent/pc3_variance$")),)
    needs = ("moments",)
    place = 6
    callback = "LatentTrajectories"

    def measure(self, evidence: Evidence) -> PrincipalComponents:
        return evidence.components()

    def values(self, result: PrincipalComponents) -> dict[str, float]:
        return {f"latent/{name}": value for name, value in latent_dimensions(result)._asdict().items()}

    def section(self, report: Report) -> None:
        """Write nothing: the sections of attractors and modes show trajectories and components."""
