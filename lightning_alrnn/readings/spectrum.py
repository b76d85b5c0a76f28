"""What are the slow modes, along which directions do the states vary, and do they follow the slowest mode?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure
from scipy.special import betaincinv

from lightning_alrnn.analysis.spectrum import (
    PrincipalComponents,
    RegimeSpectrum,
    latent_dimensions,
    principal_angle,
    regime_spectrum,
)
from lightning_alrnn.plotting.modes import plot_memory, plot_slow_modes
from lightning_alrnn.plotting.spectrum import plot_spectrum
from lightning_alrnn.readings.base import Chart, Reading, key_table
from lightning_alrnn.readings.evidence import Evidence
from lightning_alrnn.readings.text import code_text, number

if TYPE_CHECKING:
    from lightning_alrnn.report import Report

_REGIMES = 16


class Modes(NamedTuple):
    """The modes of the most visited regimes, and the principal components of the states."""

    spectrum: RegimeSpectrum | None  # None if a parameter is not finite
    components: PrincipalComponents


class SlowestMode(Reading):
    """The slowest mode of the dynamics, and the angle between it and the states' leading principal component."""

    title = "spectrum"
    keys = key_table(
        """
        spectrum/max_modulus | 1 | the largest |λ| in the 16 most visited regimes | Above 1 the network need not
            diverge: it may leave the regime in time
        spectrum/slowest_timescale | steps | −1/ln|λ| of the slowest mode of the most visited regime, whose |λ| is
            nearest to 1; negative if the mode grows, infinite at 1 | The network need not use this mode: see the angle
        spectrum/slowest_eigenvalue_real | 1 | real part of this mode's λ
        spectrum/slowest_eigenvalue_imag | 1 | imaginary part of this mode's λ; the positive one of a pair
        spectrum/pc1_angle | degrees | angle between the states' leading principal component and this mode, 0 to 90; NaN
            if states do not vary | Two random directions in 100 dimensions have an angle of about 84°: a large angle
            occurs by chance
        spectrum/pc1_variance | share | share of the states' variance along the leading principal component; NaN if
            states do not vary
        """
    )
    charts = (
        Chart("slowest timescale (steps)", (r"spectrum/slowest_timescale$",)),
        Chart("largest |λ|", (r"spectrum/max_modulus$",)),
        Chart("angle of PC 1 to the slowest mode (degrees)", (r"spectrum/pc1_angle$",)),
    )
    needs = ("regimes", "moments")
    place = 5
    callback = "Spectrum"

    def measure(self, evidence: Evidence) -> Modes:
        regimes, components = evidence.regimes(), evidence.components()
        if not evidence.is_finite():  # the LightningModule decides whether to stop
            return Modes(None, components)
        return Modes(regime_spectrum(evidence.rnn, regimes, _REGIMES), components)

    def values(self, result: Modes) -> dict[str, float]:
        spectrum, components = result
        if spectrum is None:
            return {key.name: math.nan for key in self.keys}
        slowest, share = spectrum.slowest, float(components.share[0])
        angle = math.nan if math.isnan(share) else principal_angle(components.directions[0], slowest.directions)
        return {
            "spectrum/max_modulus": float(spectrum.eigenvalues.abs().max()),
            "spectrum/slowest_timescale": slowest.timescale,
            "spectrum/slowest_eigenvalue_real": slowest.eigenvalue.real,
            "spectrum/slowest_eigenvalue_imag": slowest.eigenvalue.imag,
            "spectrum/pc1_angle": angle,
            "spectrum/pc1_variance": share,
        }

    def figures(self, result: Modes) -> dict[str, Figure]:
        if result.spectrum is None:
            return {}
        return {"spectrum/slowest_mode": plot_spectrum(result.spectrum, result.components)}

    def section(self, report: Report) -> None:
        page, study, sequences = report.page, report.study, report.sequences
        page.section("What are the slow modes?")
        slowest, value = study.spectrum.slowest, study.spectrum.slowest.eigenvalue
        share = float(study.components.share[0])
        trend = f"{'grows' if slowest.timescale < 0 else 'decays'} within {number(abs(slowest.timescale))} steps"
        text = (
            f"The slowest mode of the most visited regime has λ = {value.real:.4f}"
            f"{f' ± {abs(value.imag):.4f}i' if value.imag else ''}, and "
            f"{'holds its value' if math.isinf(slowest.timescale) else trend}."
        )
        if share > 0:
            by_chance = _random_angle(sequences.states.shape[2], len(slowest.directions))
            text += (
                f" The leading principal component holds {share:.0%} of the states' variance and lies "
                f"{study.slow_angle:.0f}° from it (a random direction: {by_chance:.0f}°)."
            )
        page.text(text, answer=True)
        steps = float(sequences.lengths.double().median())
        occupancy = study.regimes.counts[: len(study.line.codes)].double() / max(study.regimes.steps, 1)
        line, growth = study.line, study.nonnormality
        columns = (line.timescale, line.ratio, line.variance, growth.henrici, growth.max_growth)
        rows = []
        for index, code in enumerate(study.line.codes):
            timescale, *others = (number(float(column[index])) for column in columns)
            trend = "decays or holds" if bool(study.line.decays[index]) else "grows"
            rows.append((code_text(code), f"{float(occupancy[index]):.1%}", timescale, trend, *others))
        heads = ("regime", "share of steps", "|τ₁| (steps)", "slowest mode", "|τ₁|/|τ₂|", "variance along it")
        page.table(
            (*heads, "Henrici", "max ‖Jⁿ‖"),
            rows,
            "A line attractor has one slow mode (a large ratio), along which the states vary. Henrici's number, from 0 "
            "to 1, is larger the less orthogonal the modes are; max ‖Jⁿ‖ is the largest growth of a perturbation "
            "within the longest stretch in the regime.",
        )
        caption = "Timescales of the slowest modes, how well inputs reach them, and how well the readout sees them."
        report.figure("slow_modes", plot_slow_modes(study.modes, occupancy, steps), caption)
        caption = "Eigenvalues of the visited regimes, and the states' principal components beside the slowest mode."
        report.figure("spectrum", plot_spectrum(study.spectrum, study.components), caption)
        caption = "Effect of an input some steps later, and the largest growth of a perturbation while a regime lasts."
        channels = [report.inputs[index] for index in study.memory_channels.tolist()]
        report.figure("input_memory", plot_memory(study.memory, growth, study.modes.codes, channels), caption)


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


def _random_angle(size: int, dimensions: int) -> float:
    """Median angle in degrees between a random direction and a subspace: cos² is Beta(k/2, (M−k)/2) distributed."""
    if dimensions >= size:
        return 0.0
    return math.degrees(math.acos(math.sqrt(float(betaincinv(dimensions / 2, (size - dimensions) / 2, 0.5)))))
