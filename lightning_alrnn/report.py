"""What ``alrnn analyze`` writes: report.html, report.json, and the figures as PNG and SVG."""

from __future__ import annotations

import platform
from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from matplotlib.figure import Figure
from torch import Tensor

from lightning_alrnn.analysis.ablation import AblationScores
from lightning_alrnn.analysis.network_study import Sequences, Study
from lightning_alrnn.files import to_json, write_file, write_json
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.plotting.page import Page
from lightning_alrnn.readings import READINGS, Evidence, Reading
from lightning_alrnn.readings.regimes import switching
from lightning_alrnn.readings.text import channel_labels
from lightning_alrnn.readings.yardstick import Comparison, compare


class Performance(NamedTuple):
    """How well the network does, and the names of its classes, conditions, phases and channels."""

    metrics: dict[str, float]  # of the test
    objective: str  # "classification" or "regression"
    class_names: list[str] | None
    group_names: list[str] | None
    without: AblationScores | None = None  # scores without each nonlinear unit
    phase_names: list[str] | None = None
    baselines: dict[str, dict[str, float]] | None = None  # scores of predictors without a network
    input_names: list[str] | None = None
    output_names: list[str] | None = None


class Traces(NamedTuple):
    """What the sequences have at every step, if there are targets at every step.

    Attributes:
        outputs: Values, or scores of the classes, shape ``(batch, time, outputs)``.
        targets: Float of shape ``(batch, time, outputs)``, or int64 classes of shape ``(batch, time)``.
        counted: Steps whose target counts, bool of shape ``(batch, time)``.
    """

    outputs: Tensor
    targets: Tensor
    counted: Tensor


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
        traces: Outputs and targets at every step, or ``None``.
        readings: Numbers of the readings with a default section, by title and key.
    """

    page: Page
    folder: Path
    study: Study
    sequences: Sequences
    performance: Performance
    evidence: Evidence
    traces: Traces | None = None
    readings: dict[str, dict[str, float]] = field(default_factory=dict)

    @property
    def comparison(self) -> Comparison | None:
        """The score of the network beside those of the baselines, or of the mean alone; ``None`` without either."""
        performance = self.performance
        baselines = performance.baselines or {}
        if not baselines and "test/constant_mse" in performance.metrics:
            baselines = {"mean": {"mse": performance.metrics["test/constant_mse"]}}
        return compare(performance.metrics, baselines, "test")

    @property
    def inputs(self) -> list[str]:
        """What the input channels are called."""
        return channel_labels(self.performance.input_names, self.sequences.inputs.shape[2], "input")

    @property
    def conditions(self) -> tuple[Tensor, list[str] | None, str] | None:
        """The condition of each sequence, the names of the conditions and what they are; ``None`` without conditions.

        Conditions are the groups of the data, or else the classes.
        """
        group, targets = self.sequences.group, self.sequences.targets
        if group is not None and bool((group >= 0).any()):
            return group, self.performance.group_names, "condition"
        if not targets.is_floating_point():
            return targets, self.performance.class_names, "class"
        return None

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
    traces: Traces | None = None,
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
    report = Report(page, folder / "figures", study, sequences, performance, evidence, traces)
    found, absent = (
        [name for name, primitive in study.primitives.items() if primitive.found is wanted] for wanted in (True, False)
    )
    answer = f"Found: {', '.join(found)}." if found else "No computational primitive was found."
    answer += f" Looked for and not found: {', '.join(absent)}." if absent else ""
    comparison = report.comparison
    if comparison is not None:
        page.text(comparison.warning or comparison.sentence(), answer=True)
    page.text(answer, answer=True)
    answer = f"{comparison.warning} {answer}" if comparison is not None and comparison.warning else answer
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
        "float64; the metrics use the whole split. The answer y is the outputs at the last step of each sequence "
        "along the direction in which they vary most; of classes, only the differences between outputs count."
    )
    for name, reason in study.refused.items():
        page.text(f"Not computed: {name}. {reason}")
    lines = [f"checkpoint  {source.checkpoint} (epoch {source.epoch})", f"config      {source.config}"]
    page.code("\n".join([*lines, *(f"{name:<20}{value}" for name, value in _versions().items())]))


def _versions() -> dict[str, str]:
    packages = ("lightning-alrnn", "torch", "pytorch-lightning", "numpy", "scipy")
    return {"python": platform.python_version(), **{name: version(name) for name in packages}}
