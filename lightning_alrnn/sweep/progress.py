"""How far runs have come: noted by the process that trains them, read by the one that shows it."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from pytorch_lightning import Callback, LightningModule, Trainer

from lightning_alrnn.files import write_file
from lightning_alrnn.metrics.threshold import LearningWatch, StopWhen
from lightning_alrnn.scores import SCORES

_SECONDS = 0.5
_KEY = "learning_watch"


class RunState(NamedTuple):
    """How far a run has come."""

    status: Literal["waiting", "running", "done", "diverged", "failed", "stopped"]
    epochs: int = 0  # that it has been trained for, also while it waits to go on from a checkpoint
    max_epochs: int = 0  # that it is to be trained for; 0 where it is not known
    score: float | None = None  # of the last validation, or of the test of a run that is done


class ProgressFile:
    """Says in a file of a run's or population's folder how far runs have come, twice a second at most."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / "progress.json"
        self._written = -math.inf

    def write(self, runs: Mapping[str, RunState]) -> None:
        """Say it, unless that was done just now."""
        if time.monotonic() - self._written >= _SECONDS:
            self._written = time.monotonic()
            write_file(self._path, json.dumps(runs), durable=False)

    def written_after(self, moment: float) -> bool:
        """Whether something was said after a moment, in seconds as ``time.time()`` has them."""
        try:
            return self._path.stat().st_mtime >= moment
        except FileNotFoundError:
            return False

    def read(self) -> dict[str, RunState]:
        """What was said last, by the name of the run; nothing before that."""
        try:
            return {name: RunState(*values) for name, values in json.loads(self._path.read_text()).items()}
        except (FileNotFoundError, ValueError, TypeError, AttributeError):  # it is shown, and nothing else
            return {}


def shown_score(scores: Mapping[str, Any]) -> float | None:
    """The score that tells how well a network does: the first there is, if it is finite."""
    values = [float(scores[f"val/{name}"]) for name in SCORES if f"val/{name}" in scores]
    return values[0] if values and math.isfinite(values[0]) else None


class RunProgress(Callback):
    """Notes how far a run by itself has come and when it reached the threshold, and ends it early by ``stop_when``."""

    def __init__(self, name: str, folder: Path, stop_when: StopWhen | None) -> None:
        super().__init__()
        self._name = name
        self._file = ProgressFile(folder)
        self._stop_when = stop_when
        self._may_end = False
        self._ended = False  # at the end of the epoch in which it may
        self.watch = LearningWatch(None)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        if stage == "fit":
            self.watch = LearningWatch(trainer.max_epochs, self._stop_when)

    # not by state_dict: whoever goes on from the checkpoint without a sweep would be warned that this is missing
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
