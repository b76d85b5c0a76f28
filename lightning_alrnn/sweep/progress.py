"""The progress of runs, written by the process that trains them and read by the process that shows it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple, cast

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_alrnn.files import write_file
from lightning_alrnn.metrics.threshold import LearningWatch, StopWhen
from lightning_alrnn.parsing import read_json
from lightning_alrnn.scores import SCORES

_SECONDS = 0.5
_KEY = "learning_watch"


class RunState(NamedTuple):
    """The progress of a run."""

    status: Literal["waiting", "running", "done", "diverged", "failed", "stopped"]
    epochs: int = 0  # number of finished epochs, also while it waits to resume from a checkpoint
    max_epochs: int = 0  # number of planned epochs; 0 if it is unknown
    score: float | None = None  # score in the last validation, or in the test of a finished run


class ProgressFile:
    """The file progress.json of a run or population, written at most twice a second."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.json"
        self._written = -math.inf

    def write(self, runs: Mapping[str, RunState]) -> None:
        """Write the progress, unless it was just written."""
        if time.monotonic() - self._written >= _SECONDS:
            self._written = time.monotonic()
            write_file(self._path, json.dumps(runs), durable=False)

    def written_after(self, moment: float) -> bool:
        """Whether the file was written after a moment of ``time.time()``."""
        try:
            return self._path.stat().st_mtime >= moment
        except FileNotFoundError:
            return False

    def read(self) -> dict[str, RunState]:
        """The progress by the name of the run; empty if there is no file, or if it is damaged."""
        try:
            return cast(dict[str, RunState], read_json(self._path, dict[str, RunState]))
        except (FileNotFoundError, ValueError):
            return {}


def shown_score(scores: Mapping[str, Any]) -> float | None:
    """The first of the validation scores that there is, if it is finite."""
    value = next((float(scores[f"val/{name}"]) for name in SCORES if f"val/{name}" in scores), math.nan)
    return value if math.isfinite(value) else None


class RunProgress(Callback):
    """Writes the progress of a run, notes when it reaches the threshold, and ends it early by ``stop_when``.

    The run has no figures, as the members of a population, because nobody looks at those of every run.
    """

    without_figures = True

    def __init__(self, name: str, folder: Path, stop_when: StopWhen | None) -> None:
        super().__init__()
        self._name = name
        self._file = ProgressFile(folder)
        self._stop_when = stop_when
        self._may_end = False
        self._ended = False  # set at the end of the epoch
        self.watch = LearningWatch(None)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self.watch = LearningWatch(trainer.max_epochs, self._stop_when)

    # not in state_dict, because resuming from the checkpoint without a sweep would warn of a missing callback
    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        checkpoint[_KEY] = {**self.watch.state_dict(), "ended": self._ended}

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        noted = dict(checkpoint.get(_KEY, {}))
        self._ended = noted.pop("ended", False)
        self.watch.load_state_dict(noted)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        trainer.should_stop = trainer.should_stop or self._ended

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            scores = {key: float(value) for key, value in trainer.callback_metrics.items()}
            self._may_end = self.watch.update(trainer.current_epoch + 1, scores)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._ended = self._may_end
        trainer.should_stop = trainer.should_stop or self._ended
        if trainer.is_global_zero:
            score = shown_score(trainer.callback_metrics)
            limit = max(trainer.max_epochs or 0, 0)
            self._file.write({self._name: RunState("running", trainer.current_epoch + 1, limit, score)})
