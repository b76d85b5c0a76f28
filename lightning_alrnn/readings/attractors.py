"""What are the attractors and other fixed points?"""

from __future__ import annotations

import copy
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple, cast

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lightning_alrnn.analysis.fixed_point_search import MOST_UNITS, FixedPointSet, eigenvalues_of_regimes, fixed_points
from lightning_alrnn.analysis.lyapunov import LargestExponent
from lightning_alrnn.analysis.network_study import Study
from lightning_alrnn.analysis.system import read_recurrence
from lightning_alrnn.analysis.tracking import STABILITIES
from lightning_alrnn.nn.recurrence import Recurrence
from lightning_alrnn.plotting.fixed_points import plot_eigenvalues, plot_state_space
from lightning_alrnn.readings.base import Chart, Reading, key_table
from lightning_alrnn.readings.evidence import Evidence
from lightning_alrnn.readings.text import MOST_ROWS, code_text, first_of, number

if TYPE_CHECKING:
    from lightning_alrnn.report import Report

_REGIMES = 16
_RESTARTS = 64
_READ_OUT = 4  # outputs of a fixed point in the table

CHANGES = tuple(f"fixed_points/{name}" for name in ("born", "died", "changed_stability", "bifurcation"))
"""Keys that compare two epochs of a training run."""


class Attractors(NamedTuple):
    """The fixed points under a constant input, and the data of their figures."""

    points: FixedPointSet
    recurrence: Recurrence  # parameters of the network at the time of the search
    visited: Tensor  # the most visited regimes, (regimes, P)
    trajectories: tuple[Tensor, Tensor] | None  # some states, (batch, time, M), and their lengths
    conditions: tuple[Tensor | None, list[str] | None] = (None, None)  # condition of each trajectory, and their names


class FixedPointsOfInput(Reading):
    """The fixed points under a constant input, by stability.

    Args:
        inputs: Constant input, one number per channel; ``None`` for zeros.
        exhaustive_max_nonlinear_units: Largest P for which all 2^P regimes are searched.
        max_visited: Number of visited regimes from which the search starts for a larger P.
        time_budget: Time limit of a search in seconds.
    """

    title = "fixed points"
    keys = key_table(
        """
        fixed_points/total | points | number of fixed points; a continuum counts once | Another input has other fixed
            points. Cycles and chaos are attractors without a fixed point
        fixed_points/stable | points | points with all eigenvalues inside the unit circle | Trajectories of the task may
            never come near them
        fixed_points/saddle | points | points with some eigenvalues inside and some outside
        fixed_points/unstable | points | points with no eigenvalue inside
        fixed_points/marginal | points | points with at least one eigenvalue on it, within 1e-6
        fixed_points/complete | 0 or 1 | 1 if all 2^P regimes were searched and decided; the default `time_budget` of
            0.05 s is enough up to about P=14 | 0 is no error: there may be further points
        fixed_points/max_modulus | 1 | the largest |λ| of all points; NaN without a point | Above 1 the network need not
            diverge: other regimes may turn trajectories back
        fixed_points/slowest_timescale | steps | the longest −1/ln|λ| of a decaying mode; infinite if a mode is
            marginal, NaN if none decays | A time near that point, not in the task
        fixed_points/born | points | points that did not exist at the last evaluation | If `fixed_points/complete` is 0,
            the point may have been missed before
        fixed_points/died | points | points of the last evaluation that no longer exist | A point that jumped far counts
            as died and born
        fixed_points/changed_stability | points | points that still exist but with another stability
        fixed_points/bifurcation | 0 or 1 | 1 if the number of points of some stability changed, or a point changed its
            stability. A text of the same name describes the change (TensorBoard) | Further points may have come and
            gone between two evaluations
        """
    )
    charts = (
        Chart("number", tuple(rf"fixed_points/{kind}$" for kind in STABILITIES)),
        Chart("born and died", (r"fixed_points/born$", r"fixed_points/died$", r"fixed_points/bifurcation$")),
        Chart("slowest timescale (steps)", (r"fixed_points/slowest_timescale$",)),
        Chart("largest |λ|", (r"fixed_points/max_modulus$",)),
    )
    needs = ("regimes", "trajectories")
    place = 4
    callback = "FixedPoints"
    by_default = True

    def __init__(
        self,
        inputs: Sequence[float] | None = None,
        exhaustive_max_nonlinear_units: int = MOST_UNITS,
        max_visited: int = 1000,
        time_budget: float = 0.05,
    ) -> None:
        self.inputs = None if inputs is None else list(inputs)
        self.exhaustive_max_nonlinear_units = exhaustive_max_nonlinear_units
        self.max_visited = max_visited
        self.time_budget = time_budget

    def measure(self, evidence: Evidence) -> Attractors | None:
        """Search for the fixed points; ``None`` if a parameter is not finite, as the LightningModule may stop then."""
        rnn, visited = evidence.rnn, evidence.regimes().codes
        if not evidence.is_finite():
            return None
        if rnn.nonlinear_units > self.exhaustive_max_nonlinear_units:
            visited = visited[: self.max_visited]
        points = fixed_points(
            rnn,
            None if self.inputs is None else torch.tensor(self.inputs),
            visited=visited,
            max_exhaustive_units=self.exhaustive_max_nonlinear_units,
            restarts=_RESTARTS,
            time_limit=self.time_budget,
            max_ghosts=0,
        )
        # a copy, as the weights may have changed by the time that the figures are drawn
        recurrence = copy.deepcopy(read_recurrence(rnn))
        return Attractors(
            cast(FixedPointSet, points), recurrence, visited[:_REGIMES], evidence.trajectories(), evidence.conditions()
        )

    def values(self, result: Attractors | None) -> dict[str, float]:
        """Return the numbers of one epoch. The callback adds those that compare two epochs, :data:`CHANGES`."""
        if result is None:
            return {key.name: math.nan for key in self.keys if key.name not in CHANGES}
        points = result.points
        continua = len(points.continua)
        decaying = points.timescales[points.timescales >= 0]
        numbers = {
            "total": len(points.z) + continua,
            **{kind: points.stability.count(kind) + continua * (kind == "marginal") for kind in STABILITIES},
            "complete": points.complete,
            "max_modulus": points.eigenvalues.abs().max() if len(points.z) else math.nan,
            "slowest_timescale": decaying.max() if len(decaying) else math.nan,
        }
        return {f"fixed_points/{name}": float(value) for name, value in numbers.items()}

    def figures(self, result: Attractors | None) -> dict[str, Figure]:
        if result is None:
            return {}
        regimes = eigenvalues_of_regimes(result.recurrence, result.visited)
        figures = {"fixed_points/eigenvalues": plot_eigenvalues(result.points, result.visited, regimes)}
        if result.trajectories is not None:
            figures["fixed_points/state_space"] = plot_state_space(
                *result.trajectories, result.points, *result.conditions
            )
        return figures

    def section(self, report: Report) -> None:
        page, study = report.page, report.study
        page.section("What are the attractors?")
        rest = study.fixed_points.get("zero")
        if rest is None:
            reason = study.refused.get("fixed points under the input zero")
            page.text(f"Fixed points could not be listed: {reason}", answer=True)
            return
        count = len(rest.z) + len(rest.continua)
        page.text(
            f"With the input held at zero there {'is 1 fixed point' if count == 1 else f'are {count} fixed points'}, "
            f"{rest.stability.count('stable')} of them stable. {_claim(rest)}",
            answer=True,
        )
        if study.settling is not None:
            page.text(_settling(study))
        rows = []
        for name, points in study.fixed_points.items():
            counts = (len(points.z), *map(points.stability.count, STABILITIES), len(points.continua), points.index_sum)
            rows.append((name, *map(str, counts), points.certificate))
        page.table(
            ("input", "points", *STABILITIES, "continua", "index sum", "how sure"),
            rows,
            "Fixed points under constant inputs. The index sum is 1 for a complete list if all trajectories stay "
            "bounded.",
        )
        if len(rest.z):
            names = report.performance.output_names or report.performance.class_names
            readout = f"readout ({', '.join(names[:_READ_OUT])})" if names else "readout"
            page.table(
                ("regime", "stability", "slowest decay (steps)", "max |λ|", "visited", "on a border", readout),
                [_point(rest, index) for index in range(min(len(rest.z), MOST_ROWS))],
                f"Fixed points under the input zero{first_of(len(rest.z))}.",
            )
        if study.cycles:
            rows = []
            for period, cycles in study.cycles.items():
                counts = (period, len(cycles.z), cycles.stability.count("stable"))
                rows.append((*map(str, counts), cycles.certificate))
            page.table(("period", "cycles", "stable", "how sure"), rows, "Cycles under the input zero.")
        caption = "Eigenvalues of the fixed points and of visited regimes: a mode decays inside the unit circle."
        eigenvalues = plot_eigenvalues(rest, study.spectrum.codes, study.spectrum.eigenvalues)
        report.figure("fixed_points", eigenvalues, caption)
        trajectories = report.evidence.trajectories()
        assert trajectories is not None
        labels, names, kind = report.conditions or (None, None, "sequence")
        if labels is not None:
            labels = labels[: len(trajectories[0])]
        of_each = "six sequences" if labels is None else f"means of the sequences of each {kind} (thick), three of them"
        caption = f"Trajectories, {of_each}, and the fixed points under the input zero, in the plane of the components."
        report.figure("state_space", plot_state_space(*trajectories, rest, labels, names), caption)


def _settling(study: Study) -> str:
    settling = study.settling
    assert settling is not None
    outcomes = []
    for index in torch.unique(settling.at_point[settling.at_point >= 0]).tolist():
        code = study.fixed_points["zero"].code[index]
        regime = f" in regime {code_text(code)}" if len(code) else ""
        outcomes.append((settling.at_point == index, f"at the fixed point{regime}"))
    at_rest = (settling.period == 1) & (settling.at_point < 0)
    outcomes.append((at_rest, "at rest elsewhere, such as on a continuum of fixed points"))
    for period in torch.unique(settling.period[settling.period > 1]).tolist():
        outcomes.append((settling.period == period, f"on a cycle of period {period}"))
    outcomes.append((settling.diverged, "have grown without bound"))
    moving = (settling.period == 0) & ~settling.diverged
    outcomes.append((moving, "are still moving without a period of up to 64 steps"))
    parts = [f"{int(mask.sum())} {outcome}" for mask, outcome in outcomes if bool(mask.any())]
    text = (
        f"Of {len(settling.period)} trajectories that run on from their last state with the input at zero, after "
        f"{settling.steps} steps: {'; '.join(parts)}."
    )
    if study.lyapunov is not None:
        return f"{text} {_lyapunov(study.lyapunov)}"
    if "Lyapunov exponent" in study.refused:
        text += " Later all of them grow without bound: they have no Lyapunov exponent."
    return text


def _lyapunov(largest: LargestExponent) -> str:
    text = f"The largest Lyapunov exponent of their attractors is {largest.exponent:.3g}"
    if largest.error > 0 and math.isfinite(largest.error):
        text += f" ± {largest.error:.1g}"
    followed = int((~largest.exponents.isnan()).sum())
    text += f" nats a step ({largest.trajectories} of {followed} trajectories)"
    if math.isinf(largest.error):
        return f"{text}; not settled: after {largest.steps} steps they have not reached an attractor."
    if not largest.settled:
        return f"{text}; not settled after {largest.steps} steps."
    if 0 < abs(largest.exponent) <= 2 * largest.error:
        return f"{text}; it cannot be distinguished from 0."
    return f"{text}."


def _point(points: FixedPointSet, index: int) -> tuple[str, ...]:
    decaying = points.timescales[index][points.timescales[index] >= 0]
    values = [] if points.readout is None else points.readout[index].flatten().tolist()
    stability = points.stability[index]
    if stability == "saddle":
        stability += f", {int(points.unstable_dimensions[index])} unstable"
    return (
        code_text(points.code[index]),
        stability,
        number(float(decaying.max())) if len(decaying) else "–",
        f"{float(points.eigenvalues[index].abs().max()):.4f}",
        "yes" if bool(points.visited[index]) else "no",
        "yes" if bool(points.on_border[index]) else "no",
        ", ".join(f"{value:.2f}" for value in values[:_READ_OUT]) + (" …" if len(values) > _READ_OUT else ""),
    )


def _claim(points: FixedPointSet) -> str:
    if points.complete and points.code.shape[1] == 0:
        return "A linear network has no others."
    if points.complete:
        return f"All {points.regimes_searched} regimes were searched: there are no others."
    if points.box is not None:
        return f"The list is complete within |z| ≤ {points.box:.3g} of the nonlinear units."
    return "The search started from visited and random regimes: there may be others."
