"""Predictions in a file."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

import numpy as np
from lightning_utilities.core.rank_zero import rank_zero_info
from numpy.typing import NDArray
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import BasePredictionWriter
from torch import Tensor

from lightning_alrnn.callbacks.base import names_of
from lightning_alrnn.files import replacing

_OF_BATCH = ("targets", "group", "mask")
_NAMES = ("class_names", "group_names", "input_names", "output_names")


class PredictionWriter(BasePredictionWriter):
    """Writes the predictions of a LightningModule to ``predictions.npz``, for NumPy.

    The file holds one row per sequence: its ``index`` in the data, the fields of the prediction, such as those of
    :class:`SequencePrediction`, and the ``targets``, ``group`` and ``mask`` of the batch, if it has them. Sequences are
    padded with zeros to a common number of steps. The file also holds the ``class_names``, ``group_names``,
    ``input_names`` and ``output_names`` that the DataModule knows. With several processes, each writes its sequences
    to ``predictions-rank=<rank>.npz``.

    Each batch is written to the disk when it is done. Pass ``return_predictions=False`` to ``trainer.predict``, as
    ``alrnn predict`` does, or the Trainer holds all predictions in memory.

    Args:
        directory: Directory of the file; ``None`` for the Trainer's log directory.
    """

    def __init__(self, directory: str | None = None) -> None:
        super().__init__(write_interval="batch")
        self.directory = directory
        self._columns: dict[str, _Column] = {}
        self._index: list[int] = []
        self._path = Path()

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_predict_start(trainer, pl_module)
        self._clear()
        # once, because the processes ask each other for the directory, and one of them may have a batch more
        rank = f"-rank={trainer.global_rank}" if trainer.world_size > 1 else ""
        directory = self.directory or trainer.log_dir or trainer.default_root_dir
        self._path = Path(directory) / f"predictions{rank}.npz"

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        self._clear()

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Any,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        if not hasattr(prediction, "_asdict"):
            raise TypeError(
                f"PredictionWriter needs predict_step to return a NamedTuple of tensors, such as a SequencePrediction, "
                f"got {type(prediction).__name__}: return one, or leave this callback out"
            )
        self._path.parent.mkdir(parents=True, exist_ok=True)
        fields = {name: getattr(batch, name, None) for name in _OF_BATCH}
        fields |= {name: field for name, field in prediction._asdict().items() if field is not None}
        for name, field in fields.items():
            if isinstance(field, Tensor):
                if name not in self._columns:
                    self._columns[name] = _Column(self._path)
                self._columns[name].append(field.cpu().numpy())
        self._index.extend(batch_indices or ())

    def on_predict_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        super().on_predict_epoch_end(trainer, pl_module)
        if not self._columns:
            return
        known = {kind: names_of(trainer, pl_module, kind) for kind in _NAMES}
        arrays = {kind: np.array(names) for kind, names in known.items() if names is not None}
        arrays["index"] = np.array(self._index)
        with replacing(self._path) as file, zipfile.ZipFile(file, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w") as member:
                    np.lib.format.write_array(member, array, allow_pickle=False)
            for name, column in self._columns.items():
                column.write(archive, f"{name}.npy")
        rank_zero_info(f"Predictions of {len(self._index)} sequences: {self._path}")
        self._clear()

    def _clear(self) -> None:
        for column in self._columns.values():
            column.close()
        self._columns, self._index = {}, []


class _Column:
    """The batches of an array in a temporary file beside ``path``, because their largest number of steps comes last."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._parts: list[tuple[np.dtype[Any], tuple[int, ...]]] = []
        self._file = TemporaryFile(dir=path.parent)  # noqa: SIM115  # held until all batches are there
        self.close = self._file.close

    def append(self, part: NDArray[Any]) -> None:
        self._parts.append((part.dtype, part.shape))
        try:
            self._file.write(part.tobytes())
        except OSError as error:
            error.filename = str(self._path)  # the error of a full disk has no file name
            raise

    def write(self, archive: zipfile.ZipFile, name: str) -> None:
        """Write one array, padded along the second axis, into an archive, a batch at a time."""
        dtype = np.result_type(*(dtype for dtype, _ in self._parts))
        shapes = [shape for _, shape in self._parts]
        steps = (max(shape[1] for shape in shapes),) if len(shapes[0]) > 1 else ()
        padded = (*steps, *shapes[0][2:])
        header = {
            "descr": np.lib.format.dtype_to_descr(dtype),
            "fortran_order": False,
            "shape": (sum(shape[0] for shape in shapes), *padded),
        }
        self._file.seek(0)
        with archive.open(name, "w", force_zip64=True) as member:
            np.lib.format.write_array_header_1_0(member, header)
            for kind, shape in self._parts:
                content = self._file.read(math.prod(shape) * kind.itemsize)
                rows = np.zeros((shape[0], *padded), dtype)
                rows[tuple(map(slice, shape))] = np.frombuffer(content, kind).reshape(shape)
                member.write(rows.tobytes())
