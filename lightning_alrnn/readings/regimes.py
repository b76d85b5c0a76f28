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
from lightning_alrnn.plotting.raster import plot_regime_raster
from lightning_alrnn.plotting.regimes import (
    plot_group_regimes,
    plot_phases,
    plot_regime_sharing,
    plot_regimes,
    plot_units,
)
from lightning_alrnn.readings.base import Chart, Key, Reading
from lightning_alrnn.readings.evidence import Evidence
from lightning_alrnn.readings.text import MOST_ROWS, code_text, first_of, group_labels, number

if TYPE_CHECKING:
    from lightning_alrnn.report import Report

_MOST_COLUMNS = 8


class RegimeUse(NamedTuple):
    """Which regimes were in use.

    Attributes:
        counts: Visits and transitions.
        summary: Number of regimes, entropy and switches.
        groups: Regimes of each group of trials; ``None`` where there are no groups.
        sharing: How far groups share regimes; ``None`` where there are no groups.
        names: Name of each group.
    """

    counts: RegimeCounts
    summary: RegimeSummary
    groups: GroupOccupancy | None
    sharing: RegimeSharing | None
    names: list[str]


class Regimes(Reading):
    """Which linear regimes the states are in, how often, and how far groups of trials share them."""

    title = "regimes"
    keys = (
        Key(
            "regime/visited",
            "regimes",
            "regimes with at least one step",
            "One step counts as much as a thousand; more validation data can only raise it. A lower bound where "
            "there are too many to list",
        ),
        Key("regime/possible_log2", "bits", "P: there are 2^P regimes", "Some of them may hold no reachable state"),
        Key("regime/entropy", "bits", "entropy of the shares of steps"),
        Key(
            "regime/effective",
            "regimes",
            "2^entropy: as many equally frequent ones would have this entropy",
            "Not how many the task needs; ablation and the verdict look at that",
        ),
        Key(
            "regime/switch_rate",
            "per step",
            "share of steps from one state to the next that change the regime",
            "A high rate may be one unit that flickers about zero",
        ),
        Key(
            "regime/top_occupancy",
            "share",
            "share of steps in the most frequent regime",
            "Near 1 the network is nearly linear on these data, unless the rest of the steps is what counts",
        ),
        Key(
            "regime/sharing_jaccard",
            "0 … 1",
            "regimes that two groups both visit, of those that either does, the mean over pairs; only with groups",
            "Rare regimes count as much as frequent ones",
        ),
        Key(
            "regime/sharing_js",
            "bits, 0 … 1",
            "Jensen–Shannon divergence of two groups' shares of steps, the mean over pairs: 0 the same, 1 none "
            "in common; only with groups",
            "Groups with other inputs or lengths differ for that reason too",
        ),
    )
    charts = (
        Chart("number", (r"regime/visited$", r"regime/effective$")),
        Chart("switches a step, share of the most frequent", (r"regime/switch_rate$", r"regime/top_occupancy$")),
        Chart("shared by groups", (r"regime/sharing_jaccard$", r"regime/sharing_js$")),
    )
    needs = ("regimes",)
    by_size = ("regime/visited", "regime/effective")

    def measure(self, evidence: Evidence) -> RegimeUse:
        counts = evidence.regimes()
        # after the counts of all processes are put together, so that each decides alike whether there are groups
        groups = evidence.groups()
        sharing = None if groups is None else regime_sharing(groups)
        names = evidence.group_names or []
        labels = (
            []
            if groups is None
            else [names[index] if index < len(names) else str(index) for index in groups.groups.tolist()]
        )
        return RegimeUse(counts, summarize_regimes(counts), groups, sharing, labels)

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


def switching(study: Study) -> str:
    """How many units switch, and how many regimes there are, in a sentence or two."""
    summary, units = study.summary, study.units
    if summary.possible_log2 == 0:
        return "The network is linear (P = 0): there is one regime."
    text = (
        f"{units.active} of {summary.possible_log2} nonlinear units switch ({units.always_on} always on, "
        f"{units.always_off} always off). The network visits {summary.visited} of 2^{summary.possible_log2} regimes, "
        f"effectively {summary.effective:.1f}; the most frequent holds {summary.top_occupancy:.0%} of the steps"
    )
    if summary.switch_rate > 0:
        text += f", and the regime changes every {1 / summary.switch_rate:.1f} steps"
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
        rows.append(
            (
                str(index + 1),
                code_text(code),
                f"{share:.1%}",
                str(int(study.dwell.visits[index])),
                number(float(study.dwell.mean[index])),
                str(int(study.dwell.longest[index])),
            )
        )
    page.table(
        ("rank", "regime", "share of steps", "stretches", "mean dwell time (steps)", "longest (steps)"),
        rows,
        "The most visited regimes. Of a stretch that begins or ends with its sequence the dwell time is not known: the "
        "mean is that of the others.",
    )
    report.figure(
        "units",
        plot_units(study.units),
        "How often each nonlinear unit is on, and how often it switches.",
    )
    report.figure(
        "regimes",
        plot_regimes(study.regimes),
        "Occupancy of the regimes, and transitions between them.",
    )
    group = None if study.by_group is None else sequences.group
    by_class = group is None and not sequences.targets.is_floating_point()
    caption = "The regime at each step" + (
        ", by true class." if by_class else ", by condition." if group is not None else "."
    )
    raster = plot_regime_raster(
        sequences.states,
        study.summary.possible_log2,
        sequences.lengths,
        sequences.targets if by_class else group,
        performance.class_names if by_class else performance.group_names,
    )
    report.figure("regime_raster", raster, caption)
    if study.by_group is not None and study.sharing is not None:
        names = group_labels(study.by_group.groups, performance.group_names)
        report.figure(
            "regimes_by_condition",
            plot_group_regimes(study.by_group, names),
            "Where each condition spends its steps.",
        )
        report.figure(
            "regime_sharing",
            plot_regime_sharing(study.sharing, names),
            "How far conditions share regimes.",
        )


def _phases(report: Report) -> None:
    page, study, found = report.page, report.study, report.study.phases
    if found is None:
        return
    page.subsection("By phase of the trial")
    names = group_labels(found.occupancy.groups, report.performance.phase_names, "phase")
    if study.summary.possible_log2 and not math.isnan(found.sharing.mean_js):
        page.text(
            f"The phases' occupancy of the regimes differs by {found.sharing.mean_js:.3f} bits, the mean over pairs of "
            "phases: 0 if all use the same regimes as often, 1 if no two have a regime in common."
        )
    counts, steps = found.occupancy.counts, found.occupancy.steps
    # those that differ most between the phases
    order = (found.on.amax(dim=0) - found.on.amin(dim=0)).argsort(descending=True, stable=True)
    units, channels = order[:_MOST_COLUMNS].sort().values.tolist(), study.memory_channels.tolist()
    rows = [
        (
            name,
            f"{float(steps[row] / steps.sum()):.1%}",
            str(int((counts[row] > 0).sum())),
            f"{code_text(found.occupancy.codes[counts[row].argmax()])} ({float(counts[row].max() / steps[row]):.0%})",
            number(float(found.switches[row])),
            *(f"{float(found.on[row, unit]):.0%}" for unit in units),
            *(f"{float(found.gain[row, channel]):.3g}" for channel in channels),
        )
        for row, name in enumerate(names[:MOST_ROWS])
    ]
    page.table(
        (
            "phase",
            "share of steps",
            "regimes",
            "most visited regime",
            "switches per step",
            *(f"unit {unit} on" for unit in units),
            *(f"|∂y/∂s|, input {channel}" for channel in channels),
        ),
        rows,
        f"What the network does in each phase{first_of(len(names))}. Steps without a phase are left out. A switch "
        "belongs to the phase of the step that it leads to. The units are those that differ most between phases. "
        "|∂y/∂s|: mean over the steps of the phase.",
    )
    report.figure(
        "phases",
        plot_phases(found, names),
        "Regimes, units and what inputs count for the answer, in each phase.",
    )
