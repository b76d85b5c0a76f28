"""What ``alrnn analyze`` writes: report.html, report.json, and the figures as PNG and SVG."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure

from lightning_alrnn.analysis.ablation import AblationScores
from lightning_alrnn.analysis.network_study import Sequences, Study
from lightning_alrnn.files import to_json, write_file, write_json
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.page import Page
from lightning_alrnn.readings import READINGS, Evidence, Reading
from lightning_alrnn.readings.regimes import switching


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


class Report:
    """A report that is being written, and what its sections are about.

    Args:
        page: Page that sections are added to.
        folder: Folder of its figures.
        study: What was found in the network.
        sequences: Sequences that it was found on.
        performance: How well the network does.
        evidence: The same network and states as readings look at them.
    """

    def __init__(
        self,
        page: Page,
        folder: Path,
        study: Study,
        sequences: Sequences,
        performance: Performance,
        evidence: Evidence,
    ) -> None:
        self.page = page
        self.study = study
        self.sequences = sequences
        self.performance = performance
        self.evidence = evidence
        self.readings: dict[str, dict[str, float]] = {}
        self._folder = folder

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Add a figure to the page, and to the folder of figures.

        Args:
            name: Name of its files.
            figure: The figure.
            caption: Sentence below it.
        """
        self.page.figure(figure, caption, self._folder / name)


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
    folder: Path,
    study: Study,
    sequences: Sequences,
    performance: Performance,
    source: Source,
    rnn: ALRNN,
    further: Iterable[Reading] = (),
) -> dict[str, Any]:
    """Write report.html, report.json and the folder ``figures``.

    Args:
        folder: where to.
        study: what was found.
        sequences: on what.
        performance: how well the network does.
        source: which network it is.
        rnn: The network.
        further: Readings of the user's own, which follow those of the package.

    Returns:
        What report.json holds.
    """
    page = Page(
        f"What the network does: {source.data}",
        f"M = {sequences.states.shape[2]} units, P = {study.summary.possible_log2} of them nonlinear, "
        f"{sequences.inputs.shape[2]} inputs; {source.checkpoint}",
    )
    report = Report(
        page, folder / "figures", study, sequences, performance, _evidence(rnn, sequences, performance.group_names)
    )
    answer = _answer(study)
    page.text(answer, answer=True)
    page.text(switching(study))
    for reading in (*READINGS, *further):
        reading.section(report)
    _method(page, study, sequences, source)
    content: dict[str, Any] = to_json(
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
            **({"readings": report.readings} if report.readings else {}),
        }
    )
    write_json(folder / "report.json", content)
    write_file(folder / "report.html", page.html())
    return content


def _evidence(rnn: ALRNN, sequences: Sequences, group_names: list[str] | None) -> Evidence:
    """The network and its states as readings look at them."""
    evidence = Evidence(rnn, sequences.states.device, group_names)
    evidence.need("regimes", "moments", "units", "trajectories")
    evidence.update((0, 0), sequences.states, sequences.lengths, sequences.group)
    return evidence


def _answer(study: Study) -> str:
    looked = {name: one.found for name, one in study.primitives.items()}
    found, absent = ([name for name, value in looked.items() if value is wanted] for wanted in (True, False))
    words = f"Found: {', '.join(found)}." if found else "No computational primitive was found."
    if absent:
        words += f" Looked for and not found: {', '.join(absent)}."
    return words


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


def _versions() -> dict[str, str]:
    packages = ("lightning-alrnn", "torch", "pytorch-lightning", "numpy", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
