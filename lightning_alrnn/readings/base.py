"""What a reading of a network is: a question, the numbers that answer it, figures, and its part of the report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from matplotlib.figure import Figure

from lightning_alrnn.readings.evidence import Evidence
from lightning_alrnn.readings.text import number

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class Key(NamedTuple):
    """A number that is logged.

    Attributes:
        name: Name under which it is logged, such as "regime/visited".
        unit: Its unit.
        text: What it is.
        caution: What it does not mean.
    """

    name: str
    unit: str
    text: str
    caution: str = ""


class Chart(NamedTuple):
    """A chart of TensorBoard's *Custom Scalars*.

    Attributes:
        title: Title of the chart.
        keys: Regular expressions of the keys that it shows.
    """

    title: str
    keys: tuple[str, ...]


class Reading:
    """A question about a network, and everything that answers it.

    Subclass it in a file of your own, and give an instance to
    :class:`~lightning_alrnn.callbacks.ReadingCallback`: its keys are then logged in every epoch of validation, it has
    its group of charts in TensorBoard, its section in the report of ``alrnn analyze`` and its medians in the verdict of
    a sweep, and the members of a population have it, too.

    Attributes:
        title: Heading of its charts and of its section in the report.
        keys: Numbers that it logs.
        charts: Charts of its keys.
        needs: What it reads from the evidence of an epoch: "regimes", "moments", "units" and "trajectories".
        by_size: Keys of which the verdict of a sweep shows the median for each number of nonlinear units.

    Example:
        >>> class Spread(Reading):
        ...     title = "spread"
        ...     keys = (Key("spread/pc1", "share", "share of the states' variance along their first component"),)
        ...     charts = (Chart("first component", ("spread/pc1",)),)
        ...     needs = ("moments",)
        ...
        ...     def measure(self, evidence):
        ...         return float(evidence.components().share[0])
        ...
        ...     def values(self, result):
        ...         return {"spread/pc1": result}
        >>> Spread().values(0.5)
        {'spread/pc1': 0.5}
    """

    title: ClassVar[str] = ""
    keys: ClassVar[tuple[Key, ...]] = ()
    charts: ClassVar[tuple[Chart, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    by_size: ClassVar[tuple[str, ...]] = ()

    def measure(self, evidence: Evidence) -> Any:
        """Find the answer. In a training run on several processes each of them calls it.

        Args:
            evidence: What is known of the network and of the states that it went through.

        Returns:
            What :meth:`values` and :meth:`figures` take.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it is measured: define measure(evidence)")

    def values(self, result: Any) -> dict[str, float]:
        """The numbers that are logged: the same keys for every network.

        Args:
            result: What :meth:`measure` returned.

        Returns:
            Numbers by their keys.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it logs: define values(result)")

    def figures(self, result: Any) -> dict[str, Figure]:
        """The figures of the answer; none unless a subclass says so.

        Args:
            result: What :meth:`measure` returned.

        Returns:
            Figures by name, such as "regime/occupancy".
        """
        return {}

    def section(self, report: Report) -> None:
        """Write the section of the report: by default a table of the numbers and what they are, and the figures.

        Args:
            report: The report, up to this section.
        """
        result = self.measure(report.evidence)
        values = self.values(result)
        report.page.section(self.title)
        report.readings[self.title] = values
        rows = [(key.name, number(values[key.name]), key.unit, key.text, key.caution) for key in self.keys]
        report.page.table(("key", "value", "unit", "what it is", "what it does not mean"), rows, f"{self.title}.")
        for name, figure in self.figures(result).items():
            report.figure(name.replace("/", "_"), figure, f"{self.title}: {name}.")


def chart_layout(readings: Iterable[Reading], keys: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """The charts that have something to show, as ``SummaryWriter.add_custom_scalars`` takes them.

    Args:
        readings: Readings, in the order of their groups.
        keys: Keys that are logged.

    Returns:
        By group and title, the kind of chart and regular expressions of keys.
    """
    known = list(keys)
    layout: dict[str, dict[str, list[Any]]] = {}
    for reading in readings:
        for title, patterns in reading.charts:
            if any(re.search(pattern, key) for pattern in patterns for key in known):
                layout.setdefault(reading.title, {})[title] = ["Multiline", list(patterns)]
    return layout
