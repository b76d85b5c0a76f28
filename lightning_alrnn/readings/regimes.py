"""Which units switch, and which linear regimes are in use?"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

from matplotlib.figure import Figure

from lightning_alrnn.analysis.network_study import Study
from lightning_alrnn.analysis.regime_statistics import (
    GroupOccupancy,
    RegimeCounts,
    RegimeSharing,
    RegimeSummary,
    regime_sharing,
    summarize_regimes,
)
from lightning_alrnn.analysis.units import UnitStatistics
from lightning_alrnn.plotting.raster import plot_regime_raster
from lightning_alrnn.plotting.regimes import (
    plot_group_regimes,
    plot_phases,
    plot_regime_sharing,
    plot_regimes,
    plot_units,
)
from lightning_alrnn.readings.base import Chart, Reading, key_table
from lightning_alrnn.readings.evidence import Evidence
from lightning_alrnn.readings.text import MOST_ROWS, code_text, first_of, group_labels, number
from lightning_alrnn.scores import REGIMES_BY_SIZE, UNITS_BY_SIZE

if TYPE_CHECKING:
    from lightning_alrnn.report import Report

_MOST_COLUMNS = 8


class RegimeUse(NamedTuple):
    """The regimes in use, and those of each group of trials; ``None`` without groups."""

    counts: RegimeCounts
    summary: RegimeSummary
    groups: GroupOccupancy | None
    sharing: RegimeSharing | None
    names: list[str]


class Regimes(Reading):
    """The visited linear regimes, how often they are visited, and how far groups of trials share them."""

    title = "regimes"
    keys = key_table(
        """
        regime/visited | regimes | regimes with at least one step | One step counts as much as a thousand; more
            validation data can only raise it. It is a lower bound if there are too many regimes to list
        regime/possible_log2 | bits | P: there are 2^P regimes | Some regimes may hold no reachable state
        regime/entropy | bits | entropy of the shares of steps
        regime/effective | regimes | 2^entropy, the number of equally frequent regimes with this entropy | The task may
            need fewer or more regimes; see ablation and the verdict
        regime/switch_rate | per step | share of steps from one state to the next that change the regime | A high rate
            may be due to one unit that changes its sign often
        regime/top_occupancy | share | share of steps in the most frequent regime | Near 1 the network is nearly linear
            on these data, unless the other steps are the important ones
        regime/sharing_jaccard | 0 … 1 | regimes that two groups both visit, among those that either visits, as the mean
            over pairs; only with groups | Rare regimes count as much as frequent ones
        regime/sharing_js | bits, 0 … 1 | Jensen–Shannon divergence of two groups' shares of steps, as the mean over
            pairs: 0 if they are equal, 1 if no regime is shared; only with groups | Groups with different inputs or
            lengths also differ for this reason
        """
    )
    charts = (
        Chart("number", (r"regime/visited$", r"regime/effective$")),
        Chart("switches a step, share of the most frequent", (r"regime/switch_rate$", r"regime/top_occupancy$")),
        Chart("shared by groups", (r"regime/sharing_jaccard$", r"regime/sharing_js$")),
    )
    needs = ("regimes",)
    by_size = REGIMES_BY_SIZE
    place = 2
    callback = "RegimeOccupancy"
    by_default = True

    def measure(self, evidence: Evidence) -> RegimeUse:
        counts = evidence.regimes()
        # the counts are those of all processes, so that each process decides alike whether there are groups
        groups = evidence.groups()
        if groups is None:
            return RegimeUse(counts, summarize_regimes(counts), None, None, [])
        names = dict(enumerate(evidence.group_names or []))
        labels = [names.get(index, str(index)) for index in groups.groups.tolist()]
        return RegimeUse(counts, summarize_regimes(counts), groups, regime_sharing(groups), labels)

    def values(self, result: RegimeUse) -> dict[str, float]:
        values = {f"regime/{name}": value for name, value in result.summary._asdict().items()}
        if result.sharing is not None:
            values["regime/sharing_jaccard"] = result.sharing.mean_jaccard
            values["regime/sharing_js"] = result.sharing.mean_js
        return values

    def figures(self, result: RegimeUse) -> dict[str, Figure]:
        figures = {"regime/occupancy": plot_regimes(result.counts)}
        if result.groups is not None and result.sharing is not None:
            figures["regime/groups"] = plot_group_regimes(result.groups, result.names)
            figures["regime/sharing"] = plot_regime_sharing(result.sharing, result.names)
        return figures

    def section(self, report: Report) -> None:
        _regimes(report)
        _phases(report)


class Units(Reading):
    """How many nonlinear units switch, and how many are always on or always off.

    Args:
        threshold: Share of steps in which a unit must switch to be active.
    """

    title = "units"
    keys = key_table(
        """
        units/active | units | nonlinear units that switch in at least a share `threshold` (0.001) of the steps | A unit
            that switches need not matter to the task: see `UnitAblation`
        units/always_on | units | units with z > 0 in every step, which are linear in effect
        units/always_off | units | units with z > 0 in no step, which pass nothing on | A unit that is neither always on
            nor always off need not be active
        units/mean_duty | share | share of steps in which a unit is on, the mean over units; 0 where P=0 | One half may
            mean that all units switch, or that half of them are always on
        """
    )
    charts = (
        Chart("number", (r"units/active$", r"units/always_on$", r"units/always_off$")),
        Chart("duty cycle", (r"units/mean_duty$",)),
    )
    needs = ("units",)
    by_size = UNITS_BY_SIZE
    place = 3
    callback = "ActiveUnits"
    by_default = True

    def __init__(self, threshold: float = 1e-3) -> None:
        self.threshold = threshold

    def measure(self, evidence: Evidence) -> UnitStatistics:
        return evidence.units(self.threshold)

    def values(self, result: UnitStatistics) -> dict[str, float]:
        return {key.name: getattr(result, key.name.rpartition("/")[2]) for key in self.keys}

    def figures(self, result: UnitStatistics) -> dict[str, Figure]:
        return {"units/duty_cycle": plot_units(result)}

    def section(self, report: Report) -> None:
        """Write nothing: the section of the regimes shows the units."""


def switching(study: Study) -> str:
    """The numbers of switching units and visited regimes, in one or two sentences."""
    summary, units = study.summary, study.units
    if summary.possible_log2 == 0:
        return "The network is linear (P = 0): there is one regime."
    text = (
        f"{units.active} of {summary.possible_log2} nonlinear units switch ({units.always_on} always on, "
        f"{units.always_off} always off). The network visits {summary.visited} of 2^{summary.possible_log2} regimes, "
        f"effectively {summary.effective:.1f}; the most frequent holds {summary.top_occupancy:.0%} of the steps"
    )
    if summary.switch_rate > 0:
        text += f", and the regime changes once in {1 / summary.switch_rate:.1f} steps"
    return f"{text}."


def _regimes(report: Report) -> None:
    page, study, sequences, performance = report.page, report.study, report.sequences, report.performance
    page.section("Which units switch, and which regimes?")
    page.text(switching(study), answer=True)
    if study.summary.possible_log2 == 0:
        return
    rows = []
    for index, code in enumerate(study.regimes.codes[:MOST_ROWS]):
        share = float(study.regimes.counts[index]) / max(study.regimes.steps, 1)
        visits, longest = str(int(study.dwell.visits[index])), str(int(study.dwell.longest[index]))
        mean = number(float(study.dwell.mean[index]))
        rows.append((str(index + 1), code_text(code), f"{share:.1%}", visits, mean, longest))
    page.table(
        ("rank", "regime", "share of steps", "stretches", "mean dwell time (steps)", "longest (steps)"),
        rows,
        "The most visited regimes. The mean dwell time is the number of steps in the regime that another step follows, "
        "divided by the number of times that the network leaves it; it may exceed the length of the sequences. A dash "
        "stands where it is never left.",
    )
    caption = "Shares of steps in which each nonlinear unit is on, and in which it switches."
    report.figure("units", plot_units(study.units), caption)
    report.figure("regimes", plot_regimes(study.regimes), "Occupancy of the regimes, and transitions between them.")
    labels, labelled, kind = report.conditions or (None, None, "")
    units = study.summary.possible_log2
    raster = plot_regime_raster(sequences.states, units, sequences.lengths, labels, labelled)
    order = f", by {'true class' if kind == 'class' else kind}" if kind else ""
    report.figure("regime_raster", raster, f"The regime at each step{order}.")
    if study.by_group is not None and study.sharing is not None:
        names = group_labels(study.by_group.groups, performance.group_names)
        caption = "Regimes in which each condition spends its steps."
        report.figure("regimes_by_condition", plot_group_regimes(study.by_group, names), caption)
        report.figure("regime_sharing", plot_regime_sharing(study.sharing, names), "How far conditions share regimes.")


def _phases(report: Report) -> None:
    page, study, phases = report.page, report.study, report.study.phases
    if phases is None:
        return
    page.subsection("By phase of the trial")
    names = group_labels(phases.occupancy.groups, report.performance.phase_names, "phase")
    if study.summary.possible_log2 and not math.isnan(phases.sharing.mean_js):
        page.text(
            f"The phases' occupancy of the regimes differs by {phases.sharing.mean_js:.3f} bits, the mean over pairs "
            "of phases: 0 if all use the same regimes equally often, 1 if no two have a regime in common."
        )
    codes, counts, steps = phases.occupancy.codes, phases.occupancy.counts, phases.occupancy.steps
    # those that differ most between the phases
    order = (phases.on.amax(dim=0) - phases.on.amin(dim=0)).argsort(descending=True, stable=True)
    units, channels = order[:_MOST_COLUMNS].sort().values.tolist(), study.memory_channels.tolist()
    rows = [
        (
            name,
            f"{float(steps[row] / steps.sum()):.1%}",
            str(int((counts[row] > 0).sum())),
            f"{code_text(codes[counts[row].argmax()])} ({float(counts[row].max() / steps[row]):.0%})",
            number(float(phases.switches[row])),
            *(f"{float(phases.on[row, unit]):.0%}" for unit in units),
            *(f"{float(phases.gain[row, channel]):.3g}" for channel in channels),
        )
        for row, name in enumerate(names[:MOST_ROWS])
    ]
    heads = ("phase", "share of steps", "regimes", "most visited regime", "switches per step")
    page.table(
        (
            *heads,
            *(f"unit {unit} on" for unit in units),
            *(f"|∂y/∂s|, {report.inputs[channel]}" for channel in channels),
        ),
        rows,
        f"Activity in each phase{first_of(len(names))}. Steps without a phase are left out. A switch belongs to the "
        "phase of the step after it. The units are those that differ most between phases. |∂y/∂s| is the mean over "
        "the steps of the phase.",
    )
    caption = "Regimes, units and the effect of inputs on the answer, in each phase."
    report.figure("phases", plot_phases(phases, names), caption)
