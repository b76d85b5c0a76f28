"""Layers: plain PyTorch, no Lightning."""

from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.readout import LinearReadout
from lightning_alrnn.nn.regularization import manifold_attractor_penalty
from lightning_alrnn.nn.scan import ScanOutput, available_backends, scan

__all__ = ["ALRNN", "LinearReadout", "ScanOutput", "available_backends", "manifold_attractor_penalty", "scan"]
