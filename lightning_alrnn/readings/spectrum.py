"""What are the slow modes, and do the states follow the slowest one?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from matplotlib.figure import Figure
from scipy.special import betaincinv

from lightning_alrnn.analysis.spectrum import PrincipalComponents, RegimeSpectrum, principal_angle, regime_spectrum
from lightning_alrnn.plotting.modes import plot_memory, plot_slow_modes
from lightning_alrnn.plotting.spectrum import plot_spectrum
from lightning_alrnn.readings.base import Chart, Key, Reading
from lightning_alrnn.readings.evidence import Evidence
from lightning_alrnn.readings.text import code_text, complex_text, number, timescale_text

if TYPE_CHECKING:
    from lightning_alrnn.report import Report

_REGIMES = 16


class Modes(NamedTuple):
    """The modes of the most visited regimes.

    Attributes:
        spectrum: Eigenvalues and the slowest mode; ``None`` where a parameter is not finite.
        components: Principal components of the states.
    """

    spectrum: RegimeSpectrum | None
    components: PrincipalComponents


class SlowestMode(Reading):
    """The slowest mode of the dynamics, and the angle between it and the states' leading principal component."""

    title = "spectrum"
    keys = (
        Key(
            "spectrum/max_modulus",
            "1",
            "the largest |λ| in the 16 most visited regimes",
            "Above 1 the network need not diverge: it may leave the regime in time",
        ),
        Key(
            "spectrum/slowest_timescale",
            "steps",
            "−1/ln|λ| of the mode of the most visited regime with |λ| nearest to 1; negative where it grows, "
            "infinite at 1",
            "That the network uses that mode: see the angle",
        ),
        Key("spectrum/slowest_eigenvalue_real", "1", "that mode's λ, real part"),
        Key("spectrum/slowest_eigenvalue_imag", "1", "imaginary part; of a pair the positive one"),
        Key(
            "spectrum/pc1_angle",
            "degrees",
            "0 to 90, between the states' leading principal component and that mode",
            "Two random directions in 100 dimensions lie at about 84°: a large angle is what chance gives",
        ),
        Key("spectrum/pc1_variance", "share", "of the states' variance along that component"),
    )
    charts = (
        Chart("slowest timescale (steps)", (r"spectrum/slowest_timescale$",)),
        Chart("largest |λ|", (r"spectrum/max_modulus$",)),
        Chart("angle of PC 1 to the slowest mode (degrees)", (r"spectrum/pc1_angle$",)),
    )
    needs = ("regimes", "moments")

    def measure(self, evidence: Evidence) -> Modes:
        regimes, components = evidence.regimes(), evidence.components()
        if not all(bool(torch.isfinite(parameter).all()) for parameter in evidence.rnn.parameters()):
            return Modes(None, components)  # stopping a network that has diverged is up to the LightningModule
        return Modes(regime_spectrum(evidence.rnn, regimes, _REGIMES), components)

    def values(self, result: Modes) -> dict[str, float]:
        spectrum, components = result
        if spectrum is None:
            return {key.name: math.nan for key in self.keys}
        slowest, share = spectrum.slowest, float(components.share[0])
        values = (
            float(spectrum.eigenvalues.abs().max()),
            slowest.timescale,
            slowest.eigenvalue.real,
            slowest.eigenvalue.imag,
            math.nan if math.isnan(share) else principal_angle(components.directions[0], slowest.directions),
            share,
        )
        return {key.name: value for key, value in zip(self.keys, values, strict=True)}

    def figures(self, result: Modes) -> dict[str, Figure]:
        if result.spectrum is None:
            return {}
        return {"spectrum/slowest_mode": plot_spectrum(result.spectrum, result.components)}

    def section(self, report: Report) -> None:
        page, study, sequences = report.page, report.study, report.sequences
        page.section("What are the slow modes?")
        slowest = study.spectrum.slowest
        share = float(study.components.share[0])
        text = (
            f"The slowest mode of the most visited regime has λ = {complex_text(slowest.eigenvalue)}, and "
            f"{timescale_text(slowest.timescale)}."
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
        rows = []
        for index, code in enumerate(study.line.codes):
            rows.append(
                (
                    code_text(code),
                    f"{float(occupancy[index]):.1%}",
                    number(float(study.line.timescale[index])),
                    "decays or holds" if bool(study.line.decays[index]) else "grows",
                    number(float(study.line.ratio[index])),
                    number(float(study.line.variance[index])),
                    number(float(study.nonnormality.henrici[index])),
                    number(float(study.nonnormality.max_growth[index])),
                )
            )
        page.table(
            (
                "regime",
                "share of steps",
                "|τ₁| (steps)",
                "slowest mode",
                "|τ₁|/|τ₂|",
                "variance along it",
                "Henrici",
                "max ‖Jⁿ‖",
            ),
            rows,
            "A line attractor has one slow mode (a large ratio), along which the states vary. Henrici's number says "
            "how far the modes are from orthogonal, 0 to 1; max ‖Jⁿ‖ how much a perturbation can grow within the "
            "longest stretch for which the regime was held.",
        )
        report.figure(
            "slow_modes",
            plot_slow_modes(study.modes, occupancy, steps),
            "Timescales of the slowest modes, how well inputs reach them, and how well the readout sees them.",
        )
        report.figure(
            "spectrum",
            plot_spectrum(study.spectrum, study.components),
            "Eigenvalues of the visited regimes, and the states' principal components beside the slowest mode.",
        )
        report.figure(
            "input_memory",
            plot_memory(
                study.memory,
                study.nonnormality,
                study.modes.codes,
                [f"input {index}" for index in study.memory_channels.tolist()],
            ),
            "How much an input counts some steps later, and how much perturbations can grow while a regime is held.",
        )


def _random_angle(size: int, dimensions: int) -> float:
    """Median angle in degrees between a random direction and a subspace: cos² is Beta(k/2, (M−k)/2) distributed."""
    if dimensions >= size:
        return 0.0
    return math.degrees(math.acos(math.sqrt(float(betaincinv(dimensions / 2, (size - dimensions) / 2, 0.5)))))
