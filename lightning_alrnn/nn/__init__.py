"""Layers: plain PyTorch, no Lightning."""

from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.encoders import ImageEncoder, SpeechEncoder, SpikeEncoder, TextEncoder
from lightning_alrnn.nn.forcing import generalized_teacher_forcing
from lightning_alrnn.nn.observation import (
    GeneralizedPoissonObservation,
    NegativeBinomialObservation,
    Observation,
    PoissonObservation,
)
from lightning_alrnn.nn.readout import LinearReadout
from lightning_alrnn.nn.recurrence import Recurrence
from lightning_alrnn.nn.regularization import manifold_attractor_penalty
from lightning_alrnn.nn.scan import ScanOutput, available_backends, run_recurrence
from lightning_alrnn.nn.seq2seq import Seq2Seq, Seq2SeqOutput
from lightning_alrnn.nn.stack import stack_networks

__all__ = [
    "ALRNN",
    "GeneralizedPoissonObservation",
    "ImageEncoder",
    "LinearReadout",
    "NegativeBinomialObservation",
    "Observation",
    "PoissonObservation",
    "Recurrence",
    "ScanOutput",
    "Seq2Seq",
    "Seq2SeqOutput",
    "SpeechEncoder",
    "SpikeEncoder",
    "TextEncoder",
    "available_backends",
    "generalized_teacher_forcing",
    "manifold_attractor_penalty",
    "run_recurrence",
    "stack_networks",
]
