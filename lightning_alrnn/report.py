"""What ``alrnn analyze`` writes: report.html, report.json, and the figures as PNG and SVG."""

from __future__ import annotations

import math
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from matplotlib.figure import Figure
from scipy.special import betaincinv
from torch import Tensor

from lightning_alrnn.analysis.ablation import AblationScores
from lightning_alrnn.analysis.fixed_point_search import FixedPointSet
from lightning_alrnn.analysis.lyapunov import LargestExponent
from lightning_alrnn.analysis.network_study import Sequences, Study
from lightning_alrnn.analysis.primitives import (
    ALPHA,
    DRAWS,
    LEAST_AGREEMENT,
    Gating,
    Integration,
    Routing,
    Transients,
)
from lightning_alrnn.analysis.regime_statistics import bitcode
from lightning_alrnn.files import to_json, write_file, write_json
from lightning_alrnn.plotting.ablation import plot_ablation
from lightning_alrnn.plotting.fixed_points import plot_eigenvalues, plot_state_space
from lightning_alrnn.plotting.modes import plot_memory, plot_slow_modes
from lightning_alrnn.plotting.page import Page
from lightning_alrnn.plotting.performance import plot_confusion, plot_values
from lightning_alrnn.plotting.primitives import plot_gating, plot_integration, plot_routing
from lightning_alrnn.plotting.raster import plot_regime_raster
from lightning_alrnn.plotting.regimes import (
    plot_group_regimes,
    plot_phases,
    plot_regime_sharing,
    plot_regimes,
    plot_units,
)
from lightning_alrnn.plotting.spectrum import plot_spectrum

_MOST_ROWS = 20
_MOST_COLUMNS = 8
_IMPORTANT = 0.1
_LONGEST_CODE = 24
_TRAJECTORIES = 64


class Performance(NamedTuple):
    """How well the network does.

    Attributes:
        metrics: what the test logged, by key.
        objective: "classification" or "regression".
        class_names: names of the classes, or ``None``.
        group_names: names of the conditions, or ``None``.
        without: how well it does without each nonlinear unit, or ``None`` where that was not tried.
        phase_names: names of the phases of the trial, or ``None``.
    """

    metrics: dict[str, float]
    objective: str
    class_names: list[str] | None
    group_names: list[str] | None
    without: AblationScores | None = None
    phase_names: list[str] | None = None


class Source(NamedTuple):
    """What was looked at.

    Attributes:
        checkpoint: path.
        config: path of the configuration, or ``None``.
        data: name of the DataModule.
        epoch: in which the checkpoint was written, counted from 0; −1 if it does not say.
    """

    checkpoint: str
    config: str | None
    data: str
    epoch: int


def write_report(
    folder: Path, study: Study, sequences: Sequences, performance: Performance, source: Source
) -> dict[str, Any]:
    """Write report.html, report.json and the folder ``figures``.

    Args:
        folder: where to.
        study: what was found.
        sequences: on what.
        performance: how well the network does.
        source: which network it is.

    Returns:
        What report.json holds.
    """
    page = Page(
        f"What the network does: {source.data}",
        f"M = {sequences.states.shape[2]} units, P = {study.summary.possible_log2} of them nonlinear, "
        f"{sequences.inputs.shape[2]} inputs; {source.checkpoint}",
    )
    writer = _Writer(page, folder / "figures")
    answer = _answer(study)
    page.text(answer, answer=True)
    page.text(_switching(study))
    _performance(writer, sequences, performance)
    _regimes(writer, study, sequences, performance)
    _phases(writer, study, performance)
    _attractors(writer, study, sequences)
    _modes(writer, study, sequences)
    _units(writer, study, performance)
    _method(page, study, sequences, source)
    report: dict[str, Any] = to_json(
        {
            "answer": answer,
            "source": source,
            "versions": _versions(),
            "performance": performance,
            "sequences": len(sequences.states),
            "primitives": {name: found.found for name, found in study.primitives.items()},
            "evidence": {
                name: {field: getattr(found, field) for field in ("effect", "p", "intervention", "reason")}
                for name, found in study.primitives.items()
            },
            "study": study,
        }
    )
    write_json(folder / "report.json", report)
    write_file(folder / "report.html", page.html())
    return report


class _Writer:
    """A page, and the figures that go both into it and into files."""

    def __init__(self, page: Page, folder: Path) -> None:
        self.page = page
        self._folder = folder

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        self.page.figure(figure, caption, self._folder / name)


def _answer(study: Study) -> str:
    looked = {name: one.found for name, one in study.primitives.items()}
    found, absent = ([name for name, value in looked.items() if value is wanted] for wanted in (True, False))
    words = f"Found: {', '.join(found)}." if found else "No computational primitive was found."
    if absent:
        words += f" Looked for and not found: {', '.join(absent)}."
    return words


def _performance(writer: _Writer, sequences: Sequences, performance: Performance) -> None:
    page = writer.page
    page.section("How well does it do?")
    targets, outputs = sequences.targets, sequences.outputs
    if performance.objective == "classification":
        counts = torch.bincount(targets, minlength=outputs.shape[1])
        page.text(
            f"{_headline(performance.metrics)} Always giving the most frequent answer would be right in "
            f"{float(counts.max()) / len(targets):.1%} of the {len(targets)} sequences that are looked at here.",
            answer=True,
        )
        names = performance.class_names or [str(index) for index in range(outputs.shape[1])]
        figure = plot_confusion(outputs.argmax(dim=1), targets, names)
        writer.figure("performance", figure, "What each class was taken for, at the last step of the sequences.")
    else:
        spread = float(targets.double().var(dim=0, correction=0).mean())
        page.text(
            f"{_headline(performance.metrics)} Always giving the mean of the targets would have a mean squared error "
            f"of {spread:.3g} on the {len(targets)} sequences that are looked at here.",
            answer=True,
        )
        first = int(targets.double().var(dim=0, correction=0).argmax())
        caption = "Answer and target at the last step of each sequence"
        if targets.shape[1] > 1:
            caption += f", for output {first}, whose target varies most"
        writer.figure("performance", plot_values(outputs[:, first], targets[:, first]), f"{caption}.")
    rows = [(name, _number(value)) for name, value in performance.metrics.items()]
    page.table(("metric", "value"), rows, "All metrics of the test, over the whole test split.")


def _regimes(writer: _Writer, study: Study, sequences: Sequences, performance: Performance) -> None:
    page = writer.page
    page.section("Which units switch, and which regimes?")
    page.text(_switching(study), answer=True)
    if study.summary.possible_log2 == 0:
        return
    rows = []
    for index, code in enumerate(study.regimes.codes[:_MOST_ROWS]):
        share = float(study.regimes.counts[index]) / max(study.regimes.steps, 1)
        rows.append(
            (
                str(index + 1),
                _code(code),
                f"{share:.1%}",
                str(int(study.dwell.visits[index])),
                _number(float(study.dwell.mean[index])),
                str(int(study.dwell.longest[index])),
            )
        )
    page.table(
        ("rank", "regime", "share of steps", "stretches", "mean dwell time (steps)", "longest (steps)"),
        rows,
        "The most visited regimes. Of a stretch that begins or ends with its sequence the dwell time is not known: the "
        "mean is that of the others.",
    )
    writer.figure("units", plot_units(study.units), "How often each nonlinear unit is on, and how often it switches.")
    writer.figure("regimes", plot_regimes(study.regimes), "Occupancy of the regimes, and transitions between them.")
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
    writer.figure("regime_raster", raster, caption)
    if study.by_group is not None and study.sharing is not None:
        names = _group_names(study.by_group.groups, performance.group_names)
        writer.figure(
            "regimes_by_condition", plot_group_regimes(study.by_group, names), "Where each condition spends its steps."
        )
        writer.figure("regime_sharing", plot_regime_sharing(study.sharing, names), "How far conditions share regimes.")


def _phases(writer: _Writer, study: Study, performance: Performance) -> None:
    page, found = writer.page, study.phases
    if found is None:
        return
    page.subsection("By phase of the trial")
    names = _group_names(found.occupancy.groups, performance.phase_names, "phase")
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
            f"{_code(found.occupancy.codes[counts[row].argmax()])} ({float(counts[row].max() / steps[row]):.0%})",
            _number(float(found.switches[row])),
            *(f"{float(found.on[row, unit]):.0%}" for unit in units),
            *(f"{float(found.gain[row, channel]):.3g}" for channel in channels),
        )
        for row, name in enumerate(names[:_MOST_ROWS])
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
        f"What the network does in each phase{_of(len(names))}. Steps without a phase are left out. A switch belongs "
        "to the phase of the step that it leads to. The units are those that differ most between phases. |∂y/∂s|: mean "
        "over the steps of the phase.",
    )
    writer.figure(
        "phases", plot_phases(found, names), "Regimes, units and what inputs count for the answer, in each phase."
    )


def _attractors(writer: _Writer, study: Study, sequences: Sequences) -> None:
    page = writer.page
    page.section("What are the attractors?")
    rest = study.fixed_points.get("zero")
    if rest is None:
        page.text(
            f"Fixed points could not be listed: {study.refused.get('fixed points under the input zero')}", answer=True
        )
        return
    stable = rest.stability.count("stable")
    page.text(
        f"With the input held at zero there {_are(len(rest.z) + len(rest.continua), 'fixed point')}, {stable} of them "
        f"stable. {_claim(rest)}",
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
            [_point(rest, index) for index in range(min(len(rest.z), _MOST_ROWS))],
            f"Fixed points under the input zero{_of(len(rest.z))}.",
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
    writer.figure(
        "fixed_points",
        plot_eigenvalues(rest, study.spectrum.codes, study.spectrum.eigenvalues),
        "Eigenvalues of the fixed points and of the most visited regimes: a mode decays inside the unit circle.",
    )
    states, lengths = sequences.states[:_TRAJECTORIES], sequences.lengths[:_TRAJECTORIES]
    writer.figure(
        "state_space",
        plot_state_space(states, lengths, rest),
        "Trajectories, and the fixed points under the input zero, in the plane of the leading principal components.",
    )


def _modes(writer: _Writer, study: Study, sequences: Sequences) -> None:
    page = writer.page
    page.section("What are the slow modes?")
    slowest = study.spectrum.slowest
    share = float(study.components.share[0])
    text = (
        f"The slowest mode of the most visited regime has λ = {_complex(slowest.eigenvalue)}, and "
        f"{_timescale(slowest.timescale)}."
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
                _code(code),
                f"{float(occupancy[index]):.1%}",
                _number(float(study.line.timescale[index])),
                "decays or holds" if bool(study.line.decays[index]) else "grows",
                _number(float(study.line.ratio[index])),
                _number(float(study.line.variance[index])),
                _number(float(study.nonnormality.henrici[index])),
                _number(float(study.nonnormality.max_growth[index])),
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
        "A line attractor has one slow mode (a large ratio), along which the states vary. Henrici's number says how "
        "far the modes are from orthogonal, 0 to 1; max ‖Jⁿ‖ how much a perturbation can grow within the longest "
        "stretch for which the regime was held.",
    )
    writer.figure(
        "slow_modes",
        plot_slow_modes(study.modes, occupancy, steps),
        "Timescales of the slowest modes, how well inputs reach them, and how well the readout sees them.",
    )
    writer.figure(
        "spectrum",
        plot_spectrum(study.spectrum, study.components),
        "Eigenvalues of the visited regimes, and the states' principal components beside the slowest mode.",
    )
    writer.figure(
        "input_memory",
        plot_memory(
            study.memory,
            study.nonnormality,
            study.modes.codes,
            [f"input {index}" for index in study.memory_channels.tolist()],
        ),
        "How much an input counts some steps later, and how much perturbations can grow while a regime is held.",
    )


def _units(writer: _Writer, study: Study, performance: Performance) -> None:
    page = writer.page
    page.section("What do the units do?")
    _without(writer, performance)
    page.text(
        "Four computational primitives are looked for. Each is found where three things hold: its effect is large "
        f"enough, chance does not do as much (p ≤ {ALPHA}; p is the share of {DRAWS} draws that reach the effect, "
        "itself counted among them, or of fewer draws where the effect is too small), and an intervention that takes "
        "the mechanism away changes the answer. It is about the answers that the network gives, right or wrong."
    )
    if study.agreement < LEAST_AGREEMENT:
        page.text(
            f"The answers tell {_percent(max(study.agreement, 0.0))} of what the targets are, less than "
            f"{LEAST_AGREEMENT:.0%}: the network has not learned the task, and larger effects are asked for."
        )
    _gating(writer, study)
    _integration(writer, study)
    _routing(writer, study, performance)
    _transients(page, study)


def _without(writer: _Writer, performance: Performance) -> None:
    page, found = writer.page, performance.without
    if found is None or not len(found.linearise):
        return
    important = found.important(_IMPORTANT)
    count = int(important.sum())
    page.text(
        f"{count} of {len(important)} nonlinear units {'matters' if count == 1 else 'matter'}: without the unit, or "
        f"without its nonlinearity, the task loss of {found.loss:.3g} grows by more than {_IMPORTANT:.0%}.",
        answer=True,
    )
    judged = not math.isnan(found.accuracy)
    order = torch.argsort(torch.maximum(found.linearise, found.silence), descending=True, stable=True)[:_MOST_ROWS]
    page.table(
        ("unit", "linearised", "silenced", *(("accuracy lost, linearised", "silenced") if judged else ())),
        [
            (
                str(unit),
                f"+{_number(float(found.linearise[unit]))}",
                f"+{_number(float(found.silence[unit]))}",
                *(
                    (f"{float(found.linearise_accuracy[unit]):.1%}", f"{float(found.silence_accuracy[unit]):.1%}")
                    if judged
                    else ()
                ),
            )
            for unit in order.tolist()
        ],
        "Increase of the task loss where a unit passes on z itself instead of max(0, z), and where it is held at zero, "
        f"the units that matter most first{_of(len(important))}. Nothing is trained anew.",
    )
    writer.figure("ablation", plot_ablation(found, _IMPORTANT), "What it costs to take each nonlinear unit away.")


def _verdict(page: Page, found: Gating | Integration | Routing | Transients, words: str) -> None:
    """Whether a primitive was found, with the three numbers that it hangs on."""
    if found.found is None:
        page.text(f"Not looked for: {found.reason}.")
        return
    effect = round(found.effect, 2) + 0.0  # no negative zero
    numbers = f"effect {effect:.2f}, p = {found.p:.3f}"
    if not math.isnan(found.intervention):
        numbers += f", intervention {found.intervention:.0%}"
    page.text(
        f"Found ({numbers}). {words}"
        if found.found
        else f"Not found ({numbers}). What failed is the {found.reason}. {words}",
        answer=found.found,
    )


def _carriers(found: Gating | Routing) -> str:
    if found.carriers is None or not found.carriers.units:
        return ""
    units, kind = found.carriers.units, {"silence": "silenced", "linearise": "made linear"}[found.carriers.kind]
    return (
        f"With unit{'s' if len(units) > 1 else ''} {', '.join(map(str, units[:_MOST_ROWS]))} {kind}, "
        f"{found.carriers.removed:.0%} of it is gone, and {found.carriers.change:.0%} of what the input makes of the "
        "answer has changed."
    )


def _gating(writer: _Writer, study: Study) -> None:
    found = study.gating
    writer.page.subsection("Gating")
    low, high = found.gain
    _verdict(
        writer.page,
        found,
        f"Input {found.gated} counts {low:.3g} for the answer where input {found.control} is low {found.when}, and "
        f"{high:.3g} where it is high. {_carriers(found)}",
    )
    if found.found is not None:
        writer.figure("gating", plot_gating(found), "How much the gain of each input depends on each other one.")


def _integration(writer: _Writer, study: Study) -> None:
    found = study.integration
    writer.page.subsection("Integration")
    words = f"A sum of the evidence tells {_percent(found.effect)} of the answer's variance within a condition."
    if not math.isnan(found.intervention):
        slowest = f"{'grows' if found.timescale < 0 else 'decays'} e-fold in {abs(found.timescale):.3g} steps"
        words += (
            f" Where half of the evidence has come, {found.slow:.3g} modes are slow (the slowest "
            f"{slowest}). Without them what has come loses {found.intervention:.0%} of its "
            f"effect, without all others {found.lost_otherwise:.0%}."
        )
    _verdict(writer.page, found, words)
    if len(found.channels):
        writer.figure("integration", plot_integration(found), "What early and late evidence counts for the answer.")


def _routing(writer: _Writer, study: Study, performance: Performance) -> None:
    page, found = writer.page, study.routing
    page.subsection("Rule-dependent routing")
    if found.found is None:
        _verdict(page, found, "")
        return
    names = _group_names(found.groups, performance.group_names)
    effect = ", ".join(f"{name} {float(found.gain[row, found.channel]):.3g}" for row, name in enumerate(names[:8]))
    way = f", through the nonlinear units {', '.join(map(str, found.path))}," if found.path else ""
    _verdict(
        page,
        found,
        f"Input {found.channel} counts for the answer{way} otherwise by condition; as a whole: {effect}. "
        f"{_carriers(found)} The conditions' occupancy of the regimes differs by {found.occupancy_js:.3f} bits.",
    )
    order = np.argsort(-found.effects.nan_to_num(0.0).numpy(), kind="stable")[:_MOST_ROWS]
    page.table(
        ("input", *names[:8], "effect"),
        [
            (
                f"input {index}",
                *(f"{float(value):.3g}" for value in found.gain[:8, index]),
                _number(float(found.effects[index])),
            )
            for index in order.tolist()
        ],
        "Mean ∂y/∂s of each input in each condition, and how much it differs: 0 not at all, 1 where the input that "
        "counts most counts as much against as for the answer.",
    )
    writer.figure("routing", plot_routing(found, names), "What each input counts for the answer in each condition.")


def _transients(page: Page, study: Study) -> None:
    found = study.transients
    page.subsection("Memory-dependent transients")
    words = (
        f"The answer tells {_percent(found.answer)} of what the target is, the present input alone "
        f"{_percent(max(found.present, 0.0))}; where the network is held at the present input {found.steps} steps "
        f"before the response, until it has settled, {_percent(max(found.settled, 0.0))}."
    )
    if found.without:
        kind = {"silence": "silenced", "linearise": "made linear", "freeze": "frozen"}[found.without]
        words += f" With the nonlinear units {kind} from there, {found.intervention:.0%} of it is gone."
    _verdict(page, found, words)


def _method(page: Page, study: Study, sequences: Sequences, source: Source) -> None:
    page.section("How this was measured")
    page.text(
        f"{len(sequences.states)} sequences of the test split of {source.data}, spread evenly over it; the metrics are "
        "those of all. Analysis is in float64. The answer y is the direction of the outputs that varies most, at each "
        "sequence's last step."
    )
    for name, reason in study.refused.items():
        page.text(f"Not computed: {name}. {reason}")
    lines = [f"checkpoint  {source.checkpoint} (epoch {source.epoch})", f"config      {source.config}"]
    page.code("\n".join([*lines, *(f"{name:<20}{value}" for name, value in _versions().items())]))


def _switching(study: Study) -> str:
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


def _settling(study: Study) -> str:
    assert study.settling is not None
    found = study.settling
    batch = len(found.period)
    parts = []
    for index in torch.unique(found.at_point[found.at_point >= 0]).tolist():
        code = study.fixed_points["zero"].code[index]
        where = f" in regime {_code(code)}" if len(code) else ""
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
        _code(found.code[index]),
        found.stability[index]
        + (f", {int(found.unstable_dimensions[index])} unstable" if found.stability[index] == "saddle" else ""),
        _number(float(decaying.max())) if len(decaying) else "–",
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


def _headline(metrics: dict[str, float]) -> str:
    for key, text in (
        ("test/sequence_accuracy", "{:.1%} of the sequences are right at every step."),
        ("test/accuracy", "{:.1%} are right."),
        ("test/mse", "The mean squared error is {:.3g}."),
    ):
        if key in metrics and math.isfinite(metrics[key]):
            return text.format(metrics[key])
    return "The test logged no score."


def _group_names(groups: Tensor, names: list[str] | None, kind: str = "condition") -> list[str]:
    return [names[index] if names else f"{kind} {index}" for index in groups.tolist()]


def _code(code: Tensor) -> str:
    text = bitcode(code) or "linear"
    return text if len(text) <= _LONGEST_CODE else f"{text[: _LONGEST_CODE - 1]}… ({int(code.sum())} of {len(text)} on)"


def _number(value: float) -> str:
    if math.isnan(value):
        return "–"
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{share:.0%}"


def _complex(value: complex) -> str:
    return f"{value.real:.4f}" + (f" ± {abs(value.imag):.4f}i" if value.imag else "")


def _timescale(steps: float) -> str:
    if math.isinf(steps):
        return "holds its value"
    return f"{'grows' if steps < 0 else 'decays'} within {_number(abs(steps))} steps"


def _random_angle(size: int, dimensions: int) -> float:
    """Median angle in degrees between a random direction and a subspace: cos² is Beta(k/2, (M−k)/2) distributed."""
    if dimensions >= size:
        return 0.0
    return math.degrees(math.acos(math.sqrt(float(betaincinv(dimensions / 2, (size - dimensions) / 2, 0.5)))))


def _are(count: int, noun: str) -> str:
    return f"is 1 {noun}" if count == 1 else f"are {count} {noun}s"


def _of(count: int) -> str:
    return f": the first {_MOST_ROWS} of {count}" if count > _MOST_ROWS else ""


def _versions() -> dict[str, str]:
    packages = ("lightning-alrnn", "torch", "pytorch-lightning", "numpy", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
