"""Almost-Linear RNNs in PyTorch Lightning.

How many nonlinear units does a task need, and what do they do? Layers are in :mod:`lightning_alrnn.nn`, the
LightningModule in :mod:`lightning_alrnn.modules`, tasks in :mod:`lightning_alrnn.datamodules`, callbacks in
:mod:`lightning_alrnn.callbacks`, and functions that read a network in :mod:`lightning_alrnn.analysis`.
"""

from typing import TYPE_CHECKING

from lightning_alrnn.lazy import import_on_use

if TYPE_CHECKING:
    from lightning_alrnn.analysis import count_regimes, fixed_points, unit_activity
    from lightning_alrnn.batch import NeuralBatch, SequenceBatch
    from lightning_alrnn.callbacks import (
        ActiveUnits,
        Dashboard,
        FixedPoints,
        LatentTrajectories,
        LengthAccuracy,
        NeuralFit,
        PredictionWriter,
        RegimeOccupancy,
        Spectrum,
        UnitAblation,
    )
    from lightning_alrnn.commands import analyze_checkpoint, sweep_units
    from lightning_alrnn.datamodules import (
        SCAN,
        Addition,
        Arrays,
        ContextualIntegration,
        Copy,
        IMDb,
        MultiTask,
        SequenceDataModule,
        SequentialDigits,
        SequentialMNIST,
        SpeechCommands,
        StimulusSelection,
    )
    from lightning_alrnn.modules import ALRNNModule, ALRNNNeural, ALRNNSeq2Seq, NeuralPrediction, SequencePrediction
    from lightning_alrnn.nn import (
        ALRNN,
        ImageEncoder,
        Seq2Seq,
        SpeechEncoder,
        TextEncoder,
        available_backends,
        manifold_attractor_penalty,
    )

__version__ = "0.1.0"

__all__ = [
    "ALRNN",
    "SCAN",
    "ALRNNModule",
    "ALRNNNeural",
    "ALRNNSeq2Seq",
    "ActiveUnits",
    "Addition",
    "Arrays",
    "ContextualIntegration",
    "Copy",
    "Dashboard",
    "FixedPoints",
    "IMDb",
    "ImageEncoder",
    "LatentTrajectories",
    "LengthAccuracy",
    "MultiTask",
    "NeuralBatch",
    "NeuralFit",
    "NeuralPrediction",
    "PredictionWriter",
    "RegimeOccupancy",
    "Seq2Seq",
    "SequenceBatch",
    "SequenceDataModule",
    "SequencePrediction",
    "SequentialDigits",
    "SequentialMNIST",
    "Spectrum",
    "SpeechCommands",
    "SpeechEncoder",
    "StimulusSelection",
    "TextEncoder",
    "UnitAblation",
    "analyze_checkpoint",
    "available_backends",
    "count_regimes",
    "fixed_points",
    "manifold_attractor_penalty",
    "sweep_units",
    "unit_activity",
]

if not TYPE_CHECKING:
    __getattr__, __dir__ = import_on_use(
        __name__,
        ["analysis", "batch", "callbacks", "commands", "datamodules", "metrics", "modules", "nn", "plotting", "sweep"],
        __all__,
    )
