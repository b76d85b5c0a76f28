"""What a reading of a network is: a question, the numbers that answer it, its figures, and its part of the report."""

from __future__ import annotations

import re
from collections.abc import Iterable
from textwrap import dedent
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
        unit: Unit of the number.
        text: Description of the number.
        caution: Conclusion that the number does not allow.
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

    A subclass in a file of your own is logged by :class:`~lightning_alrnn.callbacks.ReadingCallback`, shown in
    TensorBoard and in the report of ``alrnn analyze``, and judged in the verdict of a sweep. A subclass in a file of
    this package needs no further entry anywhere.

    Attributes:
        title: Heading of its charts and of its section in the report.
        keys: Numbers that it logs.
        charts: Charts of its keys.
        needs: Parts of the evidence that it reads: "regimes", "moments", "units" and "trajectories".
        by_size: Keys whose medians for each number of nonlinear units are shown in the verdict of a sweep.
        place: Position among the readings of the package in a report and in TensorBoard; the smallest comes first.
        callback: Name of the callback that logs it; empty if a LightningModule logs it.
        by_default: Whether ``alrnn fit`` logs it by default.

    Example:
        A whole reading is in ``examples/own_reading.py``.

        >>> class Spread(Reading):
        ...     needs = ("moments",)
        ...
        ...     def measure(self, evidence):
        ...         return evidence.components().share
    """

    title: ClassVar[str] = ""
    keys: tuple[Key, ...] = ()
    charts: ClassVar[tuple[Chart, ...]] = ()
    needs: ClassVar[tuple[str, ...]] = ()
    by_size: ClassVar[tuple[str, ...]] = ()
    place: ClassVar[float] = 100
    callback: ClassVar[str] = "ReadingCallback"
    by_default: ClassVar[bool] = False

    def measure(self, evidence: Evidence) -> Any:
        """Find the answer. With several processes, each of them calls this method.

        Args:
            evidence: The network and the states that it went through.

        Returns:
            Argument of :meth:`values` and :meth:`figures`.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say how it is measured: define measure(evidence)")

    def values(self, result: Any) -> dict[str, float]:
        """Return the numbers that are logged, with the same keys for every network.

        Args:
            result: Result of :meth:`measure`.

        Returns:
            Numbers by key.
        """
        raise NotImplementedError(f"{type(self).__name__} does not say what it logs: define values(result)")

    def figures(self, result: Any) -> dict[str, Figure]:
        """Return the figures of the answer; by default none.

        Args:
            result: Result of :meth:`measure`.

        Returns:
            Figures by name, such as "regime/occupancy".
        """
        return {}

    def section(self, report: Report) -> None:
        """Write the section of the report.

        By default, it has a table of the numbers and the figures; a reading without :meth:`measure` has no section.

        Args:
            report: The report, up to this section.
        """
        if type(self).measure is Reading.measure:
            return
        result = self.measure(report.evidence)
        values = self.values(result)
        report.page.section(self.title)
        report.readings[self.title] = values
        rows = [(key.name, number(values[key.name]), key.unit, key.text, key.caution) for key in self.keys]
        report.page.table(("key", "value", "unit", "what it is", "what it does not mean"), rows, f"{self.title}.")
        for name, figure in self.figures(result).items():
            report.figure(name.replace("/", "_"), figure, f"{self.title}: {name}.")


def key_table(table: str) -> tuple[Key, ...]:
    """Keys from lines of name, unit, text and caution; an indented line continues the line before it."""
    lines = re.sub(r"\n +", " ", dedent(table).strip()).split("\n")
    rows = (line.split(" | ") for line in lines)
    return tuple(Key(name, *row) for names, *row in rows for name in names.split(", "))


def chart_layout(readings: Iterable[Reading], keys: Iterable[str]) -> dict[str, dict[str, list[Any]]]:
    """Return the charts that have a curve, in the form of ``SummaryWriter.add_custom_scalars``.

    Args:
        readings: Readings, in the order of their groups.
        keys: Keys that are logged.

    Returns:
        Kind of chart and regular expressions of keys, by group and title.
    """
    logged = list(keys)
    layout: dict[str, dict[str, list[Any]]] = {}
    for reading in readings:
        for title, patterns in reading.charts:
            if any(re.search(pattern, key) for pattern in patterns for key in logged):
                layout.setdefault(reading.title, {})[title] = ["Multiline", list(patterns)]
    return layout
