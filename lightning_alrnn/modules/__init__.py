"""LightningModules: layers, objective and metrics put together."""

from lightning_alrnn.modules.base import SequenceModule
from lightning_alrnn.modules.neural import ALRNNNeural, NeuralPrediction
from lightning_alrnn.modules.population import PopulationModule
from lightning_alrnn.modules.seq2seq import ALRNNSeq2Seq
from lightning_alrnn.modules.sequence import ALRNNModule, SequencePrediction

__all__ = [
    "ALRNNModule",
    "ALRNNNeural",
    "ALRNNSeq2Seq",
    "NeuralPrediction",
    "PopulationModule",
    "SequenceModule",
    "SequencePrediction",
]
