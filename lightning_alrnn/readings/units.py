"""How many of the nonlinear units are used as such?"""

from __future__ import annotations

from typing import TYPE_CHECKING

from matplotlib.figure import Figure

from lightning_alrnn.analysis.units import UnitStatistics
from lightning_alrnn.plotting.regimes import plot_units
from lightning_alrnn.readings.base import Chart, Key, Reading
from lightning_alrnn.readings.evidence import Evidence

if TYPE_CHECKING:
    from lightning_alrnn.report import Report


class Units(Reading):
    """How many nonlinear units switch, and how many are always on or always off.

    Args:
        threshold: Share of steps in which a unit must switch to be active.
    """

    title = "units"
    keys = (
        Key(
            "units/active",
            "units",
            "nonlinear units that switch in at least a share `threshold` (0.001) of the steps",
            "A unit that switches need not matter to the task: see `UnitAblation`",
        ),
        Key("units/always_on", "units", "units with z > 0 in every step, which are linear in effect"),
        Key(
            "units/always_off",
            "units",
            "units with z > 0 in no step, which pass nothing on",
            "A unit that is neither always on nor always off need not be active",
        ),
        Key(
            "units/mean_duty",
            "share",
            "share of steps in which a unit is on, the mean over units; 0 where P=0",
            "One half may mean that all units switch, or that half of them are always on",
        ),
    )
    charts = (
        Chart("number", (r"units/active$", r"units/always_on$", r"units/always_off$")),
        Chart("duty cycle", (r"units/mean_duty$",)),
    )
    needs = ("units",)
    by_size = ("units/active",)
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
