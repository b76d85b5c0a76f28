"""Almost-Linear RNNs in PyTorch Lightning.

How many nonlinear units does a task need, and what do they do? Layers are in :mod:`lightning_alrnn.nn`, the
LightningModule in :mod:`lightning_alrnn.modules`, tasks in :mod:`lightning_alrnn.datamodules`, callbacks in
:mod:`lightning_alrnn.callbacks`, and functions that read a network in :mod:`lightning_alrnn.analysis`.
"""

from lightning_alrnn.analysis import count_regimes, fixed_points, unit_activity
from lightning_alrnn.batch import SequenceBatch
from lightning_alrnn.callbacks import ActiveUnits, FixedPoints, PredictionWriter, RegimeOccupancy
from lightning_alrnn.datamodules import Addition, Arrays, SequenceDataModule, SequentialDigits
from lightning_alrnn.modules import ALRNNModule, SequencePrediction
from lightning_alrnn.nn import ALRNN, available_backends, manifold_attractor_penalty

__version__ = "0.1.0"

__all__ = [
    "ALRNN",
    "ALRNNModule",
    "ActiveUnits",
    "Addition",
    "Arrays",
    "FixedPoints",
    "PredictionWriter",
    "RegimeOccupancy",
    "SequenceBatch",
    "SequenceDataModule",
    "SequencePrediction",
    "SequentialDigits",
    "available_backends",
    "count_regimes",
    "fixed_points",
    "manifold_attractor_penalty",
    "unit_activity",
]
