"""Readings of a network: one question in each file, with everything that is logged, drawn and written about it.

A reading declares its keys, how it is measured, its figures, its charts and its section of the report. A callback logs
it. The charts of TensorBoard, the report of ``alrnn analyze``, the medians of a verdict, the default callbacks and the
tables of the documentation follow from :data:`READINGS` and from the readings in the configuration of a run.
"""

from pkgutil import iter_modules
from typing import TYPE_CHECKING

from lightning_alrnn.lazy import import_on_use

if TYPE_CHECKING:
    from lightning_alrnn.readings.ablation import Ablation
    from lightning_alrnn.readings.attractors import FixedPointsOfInput
    from lightning_alrnn.readings.base import Chart, Key, Reading, chart_layout
    from lightning_alrnn.readings.catalogue import READINGS
    from lightning_alrnn.readings.configured import configured_callbacks, configured_readings
    from lightning_alrnn.readings.evidence import Evidence, share_evidence
    from lightning_alrnn.readings.neural_fit import NeuralScores, SpikeFit
    from lightning_alrnn.readings.performance import Performance
    from lightning_alrnn.readings.primitives import Primitives
    from lightning_alrnn.readings.regimes import Regimes, Units
    from lightning_alrnn.readings.spectrum import LatentDimensions, SlowestMode

__all__ = [
    "READINGS",
    "Ablation",
    "Chart",
    "Evidence",
    "FixedPointsOfInput",
    "Key",
    "LatentDimensions",
    "NeuralScores",
    "Performance",
    "Primitives",
    "Reading",
    "Regimes",
    "SlowestMode",
    "SpikeFit",
    "Units",
    "chart_layout",
    "configured_callbacks",
    "configured_readings",
    "share_evidence",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = import_on_use(__name__, [module.name for module in iter_modules(__path__)], __all__)
