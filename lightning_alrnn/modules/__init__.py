"""LightningModules: layers, objective and metrics put together."""

from lightning_alrnn.modules.sequence import ALRNNModule, SequencePrediction

__all__ = ["ALRNNModule", "SequencePrediction"]
