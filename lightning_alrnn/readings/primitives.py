"""Which of the four computational primitives of the paper does the network use?"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from lightning_alrnn.analysis.primitives import ALPHA, DRAWS, LEAST_AGREEMENT, Gating, Integration, Routing, Transients
from lightning_alrnn.plotting.page import Page
from lightning_alrnn.plotting.primitives import plot_gating, plot_integration, plot_routing
from lightning_alrnn.readings.base import Reading
from lightning_alrnn.readings.text import MOST_ROWS, channel_labels, group_labels, number, percent

if TYPE_CHECKING:
    from lightning_alrnn.report import Report

_MOST_CONDITIONS = 8
_MOST_OUTPUTS = 6
_LEAST_WEIGHT = 0.1


class Primitives(Reading):
    """Gating, integration, rule-dependent routing and memory-dependent transients. Only the report has them."""

    title = "primitives"
    place = 8
    callback = ""

    def section(self, report: Report) -> None:
        page, study = report.page, report.study
        page.text(
            "Four computational primitives are looked for. A primitive is found if three things hold: its effect is "
            f"large enough, chance does not reach it (p ≤ {ALPHA}; p is the share of up to {DRAWS} draws that reach "
            "the effect, which itself counts as a draw), and an intervention that removes the mechanism changes the "
            "answer. The analysis is about the answers of the network, right or wrong."
        )
        if study.agreement < LEAST_AGREEMENT:
            page.text(
                f"The answers explain {percent(max(study.agreement, 0.0))} of the variance of the targets, less than "
                f"{LEAST_AGREEMENT:.0%}: the network has not learned the task, and larger effects are required."
            )
        page.text(_answers(report))
        for write in (_gating, _integration, _routing, _transients):
            write(report)


def _answers(report: Report) -> str:
    """The directions of the outputs that are answers."""
    answers = report.study.answers
    named = report.performance.class_names or report.performance.output_names
    names = channel_labels(named, answers.shape[1], "output")
    listed = [_combination(row, names) for row in answers.tolist()]
    if len(listed) == 1:
        return f"The answer y is {listed[0]} at the last step."
    numbered = "; ".join(f"({number}) {text}" for number, text in enumerate(listed, start=1))
    return f"The answer y at the last step is one of the directions in which the outputs vary: {numbered}."


def _combination(weights: Sequence[float], names: Sequence[str]) -> str:
    """A weighted sum of outputs, such as "0.71 left − 0.71 right", without what hardly counts."""
    if len(weights) == 1:
        return names[0]
    shown = sorted(range(len(weights)), key=lambda k: -abs(weights[k]))[:_MOST_OUTPUTS]
    shown = [k for k in sorted(shown) if abs(weights[k]) >= _LEAST_WEIGHT]
    text = "".join(f" {'−' if weights[k] < 0 else '+'} {abs(weights[k]):.2f} {names[k]}" for k in shown)
    return text.removeprefix(" + ").removeprefix(" ") + (" + …" if len(shown) < len(weights) else "")


def _of_answer(report: Report, primitive: Gating | Integration | Routing) -> str:
    return f"answer ({primitive.output + 1})" if len(report.study.answers) > 1 else "answer"


def _gating(report: Report) -> None:
    gating = report.study.gating
    report.page.subsection("Gating")
    low, high = gating.gain
    gated, control = report.inputs[gating.gated], report.inputs[gating.control]
    _write_verdict(
        report.page,
        gating,
        f"The gain of {gated} on the {_of_answer(report, gating)} is {low:.3g} if {control} is low {gating.when}, and "
        f"{high:.3g} if it is high. {_carriers(gating)}",
    )
    if gating.found is not None:
        report.figure(
            "gating", plot_gating(gating, report.inputs), "How much the gain of each input depends on each other one."
        )


def _integration(report: Report) -> None:
    integration = report.study.integration
    report.page.subsection("Integration")
    words = (
        f"A sum of the evidence explains {percent(integration.effect)} of the variance of the "
        f"{_of_answer(report, integration)} within a condition."
    )
    if not math.isnan(integration.intervention):
        trend = "grows" if integration.timescale < 0 else "decays"
        words += (
            f" After half of the evidence, {integration.slow:.3g} modes are slow (the slowest {trend} e-fold in "
            f"{abs(integration.timescale):.3g} steps). Without them the earlier evidence loses "
            f"{integration.intervention:.0%} of its effect, without all others {integration.lost_otherwise:.0%}."
        )
    _write_verdict(report.page, integration, words)
    if len(integration.channels):
        caption = "Effect of early and late evidence on the answer."
        report.figure("integration", plot_integration(integration, report.inputs), caption)


def _routing(report: Report) -> None:
    page, routing = report.page, report.study.routing
    page.subsection("Rule-dependent routing")
    if routing.found is None:
        _write_verdict(page, routing, "")
        return
    names = group_labels(routing.groups, report.performance.group_names)
    shown = names[:_MOST_CONDITIONS]
    gains = ", ".join(f"{name} {float(routing.gain[row, routing.channel]):.3g}" for row, name in enumerate(shown))
    path = f", through the nonlinear units {', '.join(map(str, routing.path))}," if routing.path else ""
    channel = report.inputs[routing.channel]
    _write_verdict(
        page,
        routing,
        f"The gain of {channel} on the {_of_answer(report, routing)}{path} differs between conditions; in total: "
        f"{gains}. {_carriers(routing)} The conditions' occupancy of the regimes differs by "
        f"{routing.occupancy_js:.3f} bits.",
    )
    order = np.argsort(-routing.effects.nan_to_num(0.0).numpy(), kind="stable")[:MOST_ROWS]
    rows = [
        (
            report.inputs[index],
            *(f"{float(value):.3g}" for value in routing.gain[:_MOST_CONDITIONS, index]),
            number(float(routing.effects[index])),
        )
        for index in order.tolist()
    ]
    page.table(
        ("input", *shown, "effect"),
        rows,
        "Mean ∂y/∂s of each input in each condition, and how much it differs: 0 not at all, 1 if the input with the "
        "largest gain counts as much against the answer as for it.",
    )
    report.figure(
        "routing", plot_routing(routing, names, report.inputs), "Gain of each input on the answer in each condition."
    )


def _transients(report: Report) -> None:
    transients = report.study.transients
    report.page.subsection("Memory-dependent transients")
    words = (
        f"The answer explains {percent(transients.answer)} of the target, the present input alone "
        f"{percent(max(transients.present, 0.0))}; if the network settles at the present input "
        f"{transients.steps} steps before the response, {percent(max(transients.settled, 0.0))}."
    )
    if transients.without:
        kind = {"silence": "silenced", "linearise": "made linear", "freeze": "frozen"}[transients.without]
        words += f" With the nonlinear units {kind} from there, {transients.intervention:.0%} of it is lost."
    _write_verdict(report.page, transients, words)


def _write_verdict(page: Page, primitive: Gating | Integration | Routing | Transients, words: str) -> None:
    """Write whether a primitive was found, with the three numbers that decide it."""
    if primitive.found is None:
        page.text(f"Not looked for: {primitive.reason}.")
        return
    effect = round(primitive.effect, 2) + 0.0  # no negative zero
    numbers = f"effect {effect:.2f}, p = {primitive.p:.3f}"
    if not math.isnan(primitive.intervention):
        numbers += f", intervention {primitive.intervention:.0%}"
    verdict = "Found" if primitive.found else "Not found"
    failed = "" if primitive.found else f" What failed is the {primitive.reason}."
    page.text(f"{verdict} ({numbers}).{failed} {words}", answer=primitive.found)


def _carriers(primitive: Gating | Routing) -> str:
    """The units that carry a primitive, and how much is lost without them."""
    carriers = primitive.carriers
    if carriers is None or not carriers.units:
        return ""
    kind = {"silence": "silenced", "linearise": "made linear"}[carriers.kind]
    return (
        f"With unit{'s' if len(carriers.units) > 1 else ''} {', '.join(map(str, carriers.units[:MOST_ROWS]))} {kind}, "
        f"{carriers.removed:.0%} of the effect is lost, and {carriers.change:.0%} of the input's effect on the answer "
        "has changed."
    )
