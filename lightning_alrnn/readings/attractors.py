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
from lightning_alrnn.nn.recurrence import Recurrence
from lightning_alrnn.plotting.fixed_points import plot_eigenvalues, plot_state_space
from lightning_alrnn.readings.base import Chart, Key, Reading
from lightning_alrnn.readings.evidence import Evidence
from lightning_alrnn.readings.text import MOST_ROWS, code_text, count_of, first_of, number

if TYPE_CHECKING:
    from lightning_alrnn.report import Report

_REGIMES = 16
_RESTARTS = 64
_TRAJECTORIES = 64


class Attractors(NamedTuple):
    """The fixed points under a constant input, and what their figures show beside them.

    Attributes:
        points: Fixed points.
        recurrence: Parameters of the network when they were found.
        visited: Most visited regimes, bool of shape ``(regimes, P)``.
        trajectories: Some states ``(batch, time, M)`` and their lengths, or ``None``.
    """

    points: FixedPointSet
    recurrence: Recurrence
    visited: Tensor
    trajectories: tuple[Tensor, Tensor] | None


class FixedPointsOfInput(Reading):
    """The fixed points under a constant input, by stability.

    Args:
        inputs: Constant input, one number a channel; ``None`` for zeros.
        exhaustive_max_nonlinear_units: Largest P for which all 2^P regimes are searched.
        max_visited: Above that P, how many of the visited regimes the search starts from.
        time_budget: Seconds for a search.
    """

    title = "fixed points"
    keys = (
        Key(
            "fixed_points/total",
            "points",
            "how many there are; a continuum counts once",
            "Under another input there are others. Cycles and chaos are attractors without one",
        ),
        Key(
            "fixed_points/stable",
            "points",
            "all eigenvalues within the unit circle",
            "That trajectories of the task ever come near",
        ),
        Key("fixed_points/saddle", "points", "some within, some outside"),
        Key("fixed_points/unstable", "points", "none within"),
        Key("fixed_points/marginal", "points", "at least one on it, within 1e-6"),
        Key(
            "fixed_points/complete",
            "0 or 1",
            "1: all 2^P regimes were searched and decided, for which `time_budget` (0.05 s) is enough up to about P=14",
            "0 is no error: there may be points besides these",
        ),
        Key(
            "fixed_points/max_modulus",
            "1",
            "the largest |λ| of all of them; NaN where there is none",
            "Above 1 the network need not diverge: other regimes may bend trajectories back",
        ),
        Key(
            "fixed_points/slowest_timescale",
            "steps",
            "the longest −1/ln|λ| of a decaying mode; infinite where one is marginal, NaN where none decays",
            "The time near that point, not that of the task",
        ),
        Key(
            "fixed_points/born",
            "points",
            "not there at the last evaluation",
            "With `fixed_points/complete` 0 it may have been missed before",
        ),
        Key(
            "fixed_points/died",
            "points",
            "there at the last evaluation, and gone",
            "A point that jumped far counts as gone and born",
        ),
        Key("fixed_points/changed_stability", "points", "still there, of another stability"),
        Key(
            "fixed_points/bifurcation",
            "0 or 1",
            "1 where the number of points of some stability changed, or a point changed its own. A text of the "
            "same name says what happened (TensorBoard)",
            "Between two evaluations more may have come and gone",
        ),
    )
    charts = (
        Chart("number", tuple(rf"fixed_points/{kind}$" for kind in ("stable", "saddle", "unstable", "marginal"))),
        Chart("born and died", (r"fixed_points/born$", r"fixed_points/died$", r"fixed_points/bifurcation$")),
        Chart("slowest timescale (steps)", (r"fixed_points/slowest_timescale$",)),
        Chart("largest |λ|", (r"fixed_points/max_modulus$",)),
    )
    needs = ("regimes", "trajectories")

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
        """Search for them; ``None`` where a parameter is not finite: stopping is up to the LightningModule."""
        rnn, visited = evidence.rnn, evidence.regimes().codes
        if not all(bool(torch.isfinite(parameter).all()) for parameter in rnn.parameters()):
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
        # for the figures, which may be drawn when the weights have moved on
        recurrence = copy.deepcopy(read_recurrence(rnn))
        return Attractors(cast(FixedPointSet, points), recurrence, visited[:_REGIMES], evidence.trajectories())

    def values(self, result: Attractors | None) -> dict[str, float]:
        """The numbers of one epoch; those that compare two epochs are the callback's."""
        names = [key.name for key in self.keys[:-CHANGES]]
        if result is None:
            return dict.fromkeys(names, math.nan)
        points = result.points
        continua = len(points.continua)
        kinds = {name: points.stability.count(name) for name in ("stable", "saddle", "unstable", "marginal")}
        kinds["marginal"] += continua
        decaying = points.timescales[points.timescales >= 0]
        values = (
            len(points.z) + continua,
            *kinds.values(),
            float(points.complete),
            float(points.eigenvalues.abs().max()) if len(points.z) else math.nan,
            float(decaying.max()) if len(decaying) else math.nan,
        )
        return dict(zip(names, values, strict=True))

    def figures(self, result: Attractors | None) -> dict[str, Figure]:
        if result is None:
            return {}
        regimes = eigenvalues_of_regimes(result.recurrence, result.visited)
        figures = {"fixed_points/eigenvalues": plot_eigenvalues(result.points, result.visited, regimes)}
        if result.trajectories is not None:
            figures["fixed_points/state_space"] = plot_state_space(*result.trajectories, result.points)
        return figures

    def section(self, report: Report) -> None:
        page, study, sequences = report.page, report.study, report.sequences
        page.section("What are the attractors?")
        rest = study.fixed_points.get("zero")
        if rest is None:
            page.text(
                f"Fixed points could not be listed: {study.refused.get('fixed points under the input zero')}",
                answer=True,
            )
            return
        stable = rest.stability.count("stable")
        page.text(
            f"With the input held at zero there {count_of(len(rest.z) + len(rest.continua), 'fixed point')}, {stable} "
            f"of them stable. {_claim(rest)}",
            answer=True,
        )
        if study.settling is not None:
            page.text(_settling(study))
        rows = [
            (
                name,
                str(len(found.z)),
                *(str(found.stability.count(kind)) for kind in ("stable", "saddle", "unstable", "marginal")),
                str(len(found.continua)),
                str(found.index_sum),
                found.certificate,
            )
            for name, found in study.fixed_points.items()
        ]
        page.table(
            ("input", "points", "stable", "saddle", "unstable", "marginal", "continua", "index sum", "how sure"),
            rows,
            "Fixed points under inputs that are held constant. The index sum is 1 for a complete list where all "
            "trajectories stay bounded.",
        )
        if len(rest.z):
            page.table(
                ("regime", "stability", "slowest decay (steps)", "max |λ|", "visited", "on a border", "readout"),
                [_point(rest, index) for index in range(min(len(rest.z), MOST_ROWS))],
                f"Fixed points under the input zero{first_of(len(rest.z))}.",
            )
        if study.cycles:
            page.table(
                ("period", "cycles", "stable", "how sure"),
                [
                    (str(period), str(len(found.z)), str(found.stability.count("stable")), found.certificate)
                    for period, found in study.cycles.items()
                ],
                "Cycles under the input zero.",
            )
        report.figure(
            "fixed_points",
            plot_eigenvalues(rest, study.spectrum.codes, study.spectrum.eigenvalues),
            "Eigenvalues of the fixed points and of the most visited regimes: a mode decays inside the unit circle.",
        )
        states, lengths = sequences.states[:_TRAJECTORIES], sequences.lengths[:_TRAJECTORIES]
        report.figure(
            "state_space",
            plot_state_space(states, lengths, rest),
            "Trajectories, and the fixed points under the input zero, in the plane of the leading principal "
            "components.",
        )


CHANGES = 4
"""How many of the keys compare two epochs of a training run: the last ones."""


def _settling(study: Study) -> str:
    assert study.settling is not None
    found = study.settling
    batch = len(found.period)
    parts = []
    for index in torch.unique(found.at_point[found.at_point >= 0]).tolist():
        code = study.fixed_points["zero"].code[index]
        where = f" in regime {code_text(code)}" if len(code) else ""
        parts.append(f"{int((found.at_point == index).sum())} at the fixed point{where}")
    unlisted = int(((found.period == 1) & (found.at_point < 0)).sum())
    if unlisted:
        parts.append(f"{unlisted} at rest elsewhere, such as on a continuum of fixed points")
    for period in torch.unique(found.period[found.period > 1]).tolist():
        parts.append(f"{int((found.period == period).sum())} on a cycle of period {period}")
    if bool(found.diverged.any()):
        parts.append(f"{int(found.diverged.sum())} have grown beyond all bounds")
    moving = int(((found.period == 0) & ~found.diverged).sum())
    if moving:
        parts.append(f"{moving} are still moving without a period of up to 64 steps")
    text = (
        f"Of {batch} trajectories that run on from their last state with the input at zero, after {found.steps} steps: "
    )
    text += "; ".join(parts) + "."
    if study.lyapunov is not None:
        return f"{text} {_lyapunov(study.lyapunov)}"
    if "Lyapunov exponent" in study.refused:
        text += " Later all of them grow beyond all bounds: they have no Lyapunov exponent."
    return text


def _lyapunov(found: LargestExponent) -> str:
    text = f"The largest Lyapunov exponent of their attractors is {found.exponent:.3g}"
    if found.error > 0 and math.isfinite(found.error):
        text += f" ± {found.error:.1g}"
    followed = int((~found.exponents.isnan()).sum())
    text += f" nats a step ({found.trajectories} of {followed} trajectories)"
    if math.isinf(found.error):
        return f"{text}; not settled: after {found.steps} steps they have not come to an attractor."
    if not found.settled:
        return f"{text}; not settled after {found.steps} steps."
    if 0 < abs(found.exponent) <= 2 * found.error:
        return f"{text}; it cannot be told from 0."
    return f"{text}."


def _point(found: FixedPointSet, index: int) -> tuple[str, ...]:
    decaying = found.timescales[index][found.timescales[index] >= 0]
    values = [] if found.readout is None else found.readout[index].flatten().tolist()
    return (
        code_text(found.code[index]),
        found.stability[index]
        + (f", {int(found.unstable_dimensions[index])} unstable" if found.stability[index] == "saddle" else ""),
        number(float(decaying.max())) if len(decaying) else "–",
        f"{float(found.eigenvalues[index].abs().max()):.4f}",
        "yes" if bool(found.visited[index]) else "no",
        "yes" if bool(found.on_border[index]) else "no",
        ", ".join(f"{value:.2f}" for value in values[:4]) + (" …" if len(values) > 4 else ""),
    )


def _claim(found: FixedPointSet) -> str:
    if found.complete and found.code.shape[1] == 0:
        return "A linear network has no others."
    if found.complete:
        return f"All {found.regimes_searched} regimes were searched: there are no others."
    if found.box is not None:
        return f"The list is complete within |z| ≤ {found.box:.3g} of the nonlinear units."
    return "The search started from visited and random regimes: there may be others."
