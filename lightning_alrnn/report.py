"""What ``alrnn analyze`` writes: report.html, report.json, and the figures as PNG and SVG."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
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
    """How well the network does, and the names of its classes, conditions and phases."""

    metrics: dict[str, float]  # of the test
    objective: str  # "classification" or "regression"
    class_names: list[str] | None
    group_names: list[str] | None
    without: AblationScores | None = None  # scores without each nonlinear unit
    phase_names: list[str] | None = None


class Source(NamedTuple):
    """Paths of the checkpoint and of the configuration, name of the DataModule, and epoch of the checkpoint or -1."""

    checkpoint: str
    config: str | None
    data: str
    epoch: int


@dataclass
class Report:
    """A report that is being written.

    Attributes:
        page: Page that sections are added to.
        folder: Directory of its figures.
        study: Results of the analysis.
        sequences: Sequences that the network was run on.
        performance: How well the network does.
        evidence: The network and its states, as readings get them.
        readings: Numbers of the readings with a default section, by title and key.
    """

    page: Page
    folder: Path
    study: Study
    sequences: Sequences
    performance: Performance
    evidence: Evidence
    readings: dict[str, dict[str, float]] = field(default_factory=dict)

    def figure(self, name: str, figure: Figure, caption: str) -> None:
        """Add a figure with a caption to the page, and save it under a name in the directory of figures."""
        self.page.figure(figure, caption, self.folder / name)


def write_report(
    folder: Path,
    study: Study,
    sequences: Sequences,
    performance: Performance,
    source: Source,
    rnn: ALRNN,
    further: Iterable[Reading] = (),
) -> dict[str, Any]:
    """Write report.html, report.json and the directory ``figures``, and return the content of report.json."""
    page = Page(
        f"What the network does: {source.data}",
        f"M = {sequences.states.shape[2]} units, P = {study.summary.possible_log2} of them nonlinear, "
        f"{sequences.inputs.shape[2]} inputs; {source.checkpoint}",
    )
    evidence = Evidence(rnn, sequences.states.device, performance.group_names)
    evidence.need("regimes", "moments", "units", "trajectories")
    evidence.update((0, 0), sequences.states, sequences.lengths, sequences.group)
    report = Report(page, folder / "figures", study, sequences, performance, evidence)
    found, absent = (
        [name for name, primitive in study.primitives.items() if primitive.found is wanted] for wanted in (True, False)
    )
    answer = f"Found: {', '.join(found)}." if found else "No computational primitive was found."
    answer += f" Looked for and not found: {', '.join(absent)}." if absent else ""
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
            "primitives": {name: primitive.found for name, primitive in study.primitives.items()},
            "evidence": {
                name: {part: getattr(primitive, part) for part in ("effect", "p", "intervention", "reason")}
                for name, primitive in study.primitives.items()
            },
            "study": study,
            **({"readings": report.readings} if report.readings else {}),
        }
    )
    write_json(folder / "report.json", content)
    write_file(folder / "report.html", page.html())
    return content


def _method(page: Page, study: Study, sequences: Sequences, source: Source) -> None:
    page.section("How this was measured")
    page.text(
        f"The analysis uses {len(sequences.states)} sequences, spread evenly over the test split of {source.data}, and "
        "float64; the metrics use the whole split. The answer y is the direction of the outputs that varies most, at "
        "the last step of each sequence."
    )
    for name, reason in study.refused.items():
        page.text(f"Not computed: {name}. {reason}")
    lines = [f"checkpoint  {source.checkpoint} (epoch {source.epoch})", f"config      {source.config}"]
    page.code("\n".join([*lines, *(f"{name:<20}{value}" for name, value in _versions().items())]))


def _versions() -> dict[str, str]:
    packages = ("lightning-alrnn", "torch", "pytorch-lightning", "numpy", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
