"""Predictions in a file."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor
from torch.nn import functional

from lightning_alrnn.files import write_file


class PredictionWriter(BasePredictionWriter):
    """Writes the predictions of a LightningModule to ``predictions.npz``, for NumPy.

    The file holds one row per sequence: its ``index`` in the data, and the fields of the prediction, such as those of
    :class:`SequencePrediction`. Sequences are padded with zeros to a common number of steps. With several processes,
    each writes its sequences to ``predictions-rank=<rank>.npz``.

    Args:
        directory: Directory of the file; ``None`` for the Trainer's log directory.
    """

    def __init__(self, directory: str | None = None) -> None:
        super().__init__(write_interval="epoch")
        self.directory = directory

    def write_on_epoch_end(
        self, trainer: Trainer, pl_module: LightningModule, predictions: Sequence[Any], batch_indices: Sequence[Any]
    ) -> None:
        directory = self.directory or trainer.log_dir or trainer.default_root_dir
        if not predictions or trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        fields = getattr(predictions[0], "_fields", None)
        if fields is None:
            raise TypeError(
                f"PredictionWriter needs predict_step to return a NamedTuple of tensors, such as a SequencePrediction, "
                f"got {type(predictions[0]).__name__}: return one, or leave this callback out"
            )
        arrays = {
            name: _stack(parts)
            for name, parts in zip(fields, zip(*predictions, strict=True), strict=True)
            if parts[0] is not None
        }
        index = np.concatenate([np.asarray(batch) for batch in batch_indices[0]])
        rank = f"-rank={trainer.global_rank}" if trainer.world_size > 1 else ""
        path = Path(directory) / f"predictions{rank}.npz"
        content = BytesIO()
        np.savez(content, index=index, **arrays)  # type: ignore[arg-type]
        write_file(path, content.getbuffer())
        rank_zero_info(f"Predictions of {len(index)} sequences: {path}")


def _stack(parts: Sequence[Tensor]) -> np.ndarray:
    """Batches as one array, padded along the second axis."""
    steps = max(part.shape[1] if part.ndim > 1 else 0 for part in parts)
    padded = [
        functional.pad(part, (0, 0) * (part.ndim - 2) + (0, steps - part.shape[1])) if part.ndim > 1 else part
        for part in parts
    ]
    return torch.cat(padded).cpu().numpy()
