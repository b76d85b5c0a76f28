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

from lightning_alrnn.callbacks.base import names_of
from lightning_alrnn.files import write_file

_OF_BATCH = ("targets", "group", "mask")
_NAMES = ("class_names", "group_names", "input_names", "output_names")


class PredictionWriter(BasePredictionWriter):
    """Writes the predictions of a LightningModule to ``predictions.npz``, for NumPy.

    The file holds one row per sequence: its ``index`` in the data, the fields of the prediction, such as those of
    :class:`SequencePrediction`, and the ``targets``, ``group`` and ``mask`` of the batch, if it has them. Sequences are
    padded with zeros to a common number of steps. The file also holds the ``class_names``, ``group_names``,
    ``input_names`` and ``output_names`` that the DataModule knows. With several processes, each writes its sequences
    to ``predictions-rank=<rank>.npz``.

    Args:
        directory: Directory of the file; ``None`` for the Trainer's log directory.
    """

    def __init__(self, directory: str | None = None) -> None:
        super().__init__(write_interval="epoch")
        self.directory = directory
        self._truth: list[dict[str, Tensor]] = []

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_predict_start(trainer, pl_module)
        self._truth = []

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        super().on_predict_batch_end(trainer, pl_module, outputs, batch, batch_idx, dataloader_idx)
        fields = {name: getattr(batch, name, None) for name in _OF_BATCH}
        self._truth.append({name: field.cpu() for name, field in fields.items() if isinstance(field, Tensor)})

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
        for name in self._truth[0]:
            arrays.setdefault(name, _stack([batch[name] for batch in self._truth]))
        known = {kind: names_of(trainer, pl_module, kind) for kind in _NAMES}
        arrays |= {kind: np.array(names) for kind, names in known.items() if names is not None}
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
