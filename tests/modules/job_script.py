"""A job of one or more processes, for test_processes.py: job_script.py FOLDER PROCESSES [FAILING_RANK].

Every module is trained, validated, tested and predicts. Each process writes what it saw to FOLDER/seen-RANK.json. At
its end, the last of several processes meets an error in training. With FAILING_RANK, the job is such an error alone.
"""

from __future__ import annotations

import json
import sys
import warnings
from collections import Counter
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.loggers import CSVLogger
from pytorch_lightning.strategies import DDPStrategy
from tiny_runs import MODULES, QUIET, Sequences, build

from lightning_alrnn.callbacks import (
    ActiveUnits,
    FixedPoints,
    LatentTrajectories,
    LengthAccuracy,
    NeuralFit,
    PredictionWriter,
    RegimeOccupancy,
    Spectrum,
    UnitAblation,
)

LOOK = (RegimeOccupancy, ActiveUnits, FixedPoints, Spectrum, LatentTrajectories)


class Count(Callback):
    """How often each hook was called, and how many sequences it was given."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self.sequences: Counter[str] = Counter()

    def count_batch(self, stage: str, trainer: Trainer, pl_module: Any, outputs: Any, batch: Any, *_: Any) -> None:
        self.calls[f"{stage}_batch"] += 1
        self.sequences[stage] += len(batch.inputs)

    def count_epoch(self, stage: str, *_: Any) -> None:
        self.calls[f"{stage}_epoch"] += 1


for _name, _stage in {"train": "train", "validation": "val", "test": "test", "predict": "predict"}.items():
    setattr(Count, f"on_{_name}_batch_end", lambda self, *args, stage=_stage: self.count_batch(stage, *args))
    setattr(Count, f"on_{_name}_epoch_end", lambda self, *args, stage=_stage: self.count_epoch(stage))


class Fail(Callback):
    """An error on one process alone."""

    def __init__(self, rank: int) -> None:
        self.rank = rank

    def on_train_batch_start(self, trainer: Trainer, *_: Any) -> None:
        if trainer.global_rank == self.rank and trainer.global_step == 2:
            raise RuntimeError(f"only process {self.rank} fails")


def watching(kind: str) -> list[Callback]:
    """All callbacks that fit a module."""
    networks: tuple[str | None, ...] = ("encoder", "decoder") if kind == "seq2seq" else (None,)
    callbacks: list[Callback] = [look(figure_every_n_epochs=0, module=network) for network in networks for look in LOOK]
    if kind == "neural":
        callbacks.append(NeuralFit(figure_every_n_epochs=0))
    elif kind == "seq2seq":
        callbacks.append(LengthAccuracy(figure_every_n_epochs=0))
    else:
        callbacks.append(UnitAblation(every_n_epochs=1, figure_every_n_epochs=0))
    return [*callbacks, PredictionWriter()]


def trainer_for(folder: Path, name: str, processes: int, callbacks: list[Callback], **options: Any) -> Trainer:
    # a collective that nobody joins ends after this time, not after gloo's half hour
    several = DDPStrategy(process_group_backend="gloo", timeout=timedelta(seconds=60))
    return Trainer(
        devices=processes,
        strategy=several if processes > 1 else "auto",
        max_epochs=2,
        num_sanity_val_steps=0,
        logger=CSVLogger(folder, name, 0),
        callbacks=callbacks,
        **QUIET,
        **options,
    )


def weights(module: LightningModule) -> list[float]:
    numbers: list[float] = torch.cat([value.flatten() for value in module.state_dict().values()]).tolist()
    return numbers


def run(folder: Path, processes: int) -> None:
    """Train, validate, test and predict with each module."""
    seen: dict[str, Any] = {}
    rank = 0
    for kind in MODULES:
        count = Count()
        trainer = trainer_for(folder, kind, processes, [*watching(kind), count])
        module, data = build(kind, initial_state="uniform"), Sequences(kind, (24, 7, 7), 6 // processes)
        report = seen[kind] = {"metrics": {}}
        for stage in ("fit", "validate", "test"):
            getattr(trainer, stage)(module, data, **({} if stage == "fit" else {"verbose": False}))
            report["metrics"][stage] = {key: float(value) for key, value in trainer.callback_metrics.items()}
            report.setdefault("steps", trainer.global_step)
        trainer.predict(module, data)
        rank = trainer.global_rank
        report |= {"calls": dict(count.calls), "sequences": dict(count.sequences)}
        report["weights"] = weights(module)
        for state in ("zeros", "learned"):
            other, bare = build(kind, initial_state=state), {"limit_val_batches": 0, "enable_checkpointing": False}
            trainer_for(folder, f"{kind}-{state}", processes, [], **bare).fit(other, data)
            report[state] = weights(other)
    # 25 sequences do not divide by two or three; the first process draws a figure
    odd = trainer_for(folder, "odd", processes, [RegimeOccupancy()])
    odd.fit(build("sequence"), Sequences("sequence", (25, 7, 7), 6 // processes))
    seen["odd_steps"] = odd.global_step
    (folder / f"seen-{rank}.json").write_text(json.dumps(seen))


def fail(folder: Path, processes: int, rank: int) -> None:
    """Train until one process meets an error."""
    trainer = trainer_for(folder, "failing", processes, [Fail(rank)])
    trainer.fit(build("sequence"), Sequences("sequence", (16, 7, 5), 2))


if __name__ == "__main__":
    warnings.filterwarnings("ignore")
    folder, processes = Path(sys.argv[1]), int(sys.argv[2])
    if len(sys.argv) == 3:
        run(folder, processes)
    fail(folder, processes, int(sys.argv[3]) if len(sys.argv) > 3 else processes - 1)
