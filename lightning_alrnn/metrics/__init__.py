"""Metrics that accumulate over batches and across processes (:class:`torchmetrics.Metric`)."""

from lightning_alrnn.metrics.length import LengthCounter
from lightning_alrnn.metrics.mean import WeightedMean
from lightning_alrnn.metrics.regimes import RegimeCounter
from lightning_alrnn.metrics.units import UnitActivity

__all__ = ["LengthCounter", "RegimeCounter", "UnitActivity", "WeightedMean"]
