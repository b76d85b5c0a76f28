"""Metrics that accumulate over batches and across processes (:class:`torchmetrics.Metric`), and criteria."""

from typing import TYPE_CHECKING

from lightning_alrnn.lazy import import_on_use

if TYPE_CHECKING:
    from lightning_alrnn.metrics.ablation import AblationSums
    from lightning_alrnn.metrics.constant import ConstantMSE, MaskedMSE
    from lightning_alrnn.metrics.criteria import CRITERIA, find_criterion
    from lightning_alrnn.metrics.length import LengthCounter
    from lightning_alrnn.metrics.mean import WeightedMean, WeightedSum
    from lightning_alrnn.metrics.moments import StateMoments
    from lightning_alrnn.metrics.neural import ConditionAverages, SpikeAgreement
    from lightning_alrnn.metrics.regimes import RegimeCounter
    from lightning_alrnn.metrics.threshold import LearningWatch, reaches_threshold
    from lightning_alrnn.metrics.trials import TrialAccuracy
    from lightning_alrnn.metrics.units import UnitActivity

__all__ = [
    "CRITERIA",
    "AblationSums",
    "ConditionAverages",
    "ConstantMSE",
    "LearningWatch",
    "LengthCounter",
    "MaskedMSE",
    "RegimeCounter",
    "SpikeAgreement",
    "StateMoments",
    "TrialAccuracy",
    "UnitActivity",
    "WeightedMean",
    "WeightedSum",
    "find_criterion",
    "reaches_threshold",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = import_on_use(
        __name__,
        [
            "ablation",
            "constant",
            "criteria",
            "length",
            "mean",
            "moments",
            "neural",
            "regimes",
            "threshold",
            "trials",
            "units",
        ],
        __all__,
    )
