"""Layers: plain PyTorch, no Lightning."""

from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.encoders import ImageEncoder, SpeechEncoder, TextEncoder
from lightning_alrnn.nn.readout import LinearReadout
from lightning_alrnn.nn.regularization import manifold_attractor_penalty
from lightning_alrnn.nn.scan import ScanOutput, available_backends, scan
from lightning_alrnn.nn.seq2seq import Seq2Seq, Seq2SeqOutput

__all__ = [
    "ALRNN",
    "ImageEncoder",
    "LinearReadout",
    "ScanOutput",
    "Seq2Seq",
    "Seq2SeqOutput",
    "SpeechEncoder",
    "TextEncoder",
    "available_backends",
    "manifold_attractor_penalty",
    "scan",
]
