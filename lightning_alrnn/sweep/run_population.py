"""Several runs of a sweep in one process and one step: a population, then validation and test of its best weights."""

from __future__ import annotations

import gc
import os
import sys
import time
import traceback
import warnings
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch
from lightning_fabric.utilities.seed import seed_everything
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from submitit.core.utils import UncompletedJobError

from lightning_alrnn.callbacks.base import StatesCallback
from lightning_alrnn.callbacks.member_callbacks import MemberCallbacks
from lightning_alrnn.datamodules.base import SequenceDataModule
from lightning_alrnn.datamodules.population import PopulationDataModule
from lightning_alrnn.extensions.divergence_guard import REMEDY
from lightning_alrnn.files import sync_files
from lightning_alrnn.modules.base import StepCheckpoint
from lightning_alrnn.modules.population import PopulationModule
from lightning_alrnn.modules.sequence import ALRNNModule
from lightning_alrnn.sweep.folders import MemberFolders
from lightning_alrnn.sweep.members import Member, MemberFactory
from lightning_alrnn.sweep.populations import Work, allow_files, checkpoint_of, halved_mark, make_work, why_alone
from lightning_alrnn.sweep.progress import ProgressFile
from lightning_alrnn.sweep.run import Interrupted, Surroundings, Task, begin, configured, do_run, log_best, now
from lightning_alrnn.sweep.store import RECORD, Claim, Record, is_done, run_folder, write_record


def do_work(surroundings: Surroundings, work: Work, task: Task | None = None) -> None:
    """Do a work: train a population, or do a run by itself."""
    if work.population:
        do_population(surroundings, work)
    else:
        do_run(surroundings, work.specs[0], task)


def do_population(surroundings: Surroundings, work: Work) -> None:
    """Train the networks of a population, unless another process is at one of them, and record what became of each.

    Where a GPU's memory is too small for it, its halves are done, one after the other: each is a population of its own.
    Where it fails otherwise, the runs are done one by one, and each records its own error. Where the record of a run
    cannot be written, the others are done before that is raised.
    """
    folder = surroundings.folder
    halved = halved_mark(folder, work.population)
    if not halved.is_file() and _do_together(surroundings, work):
        return
    size = -(-len(work.specs) // 2) if halved.is_file() else 1
    errors = []
    for first in range(0, len(work.specs), size):
        _free_memory()
        try:
            do_work(surroundings, make_work(folder, work.specs[first : first + size]))
        except Exception as error:  # its folder cannot be written to, perhaps, but those of the others can
            traceback.print_exc()
            errors.append(error)
    if errors:
        raise errors[0]


def _do_together(surroundings: Surroundings, work: Work) -> bool:
    """Train a population in one step, or say why not and how else; whether there is nothing left to do."""
    folder = surroundings.folder
    checkpoint = checkpoint_of(folder, work.population)
    allow_files(len(work.specs))
    too_large = False
    with ExitStack() as claims:
        try:
            for spec in sorted(work.specs, key=lambda spec: spec.name):  # so that one of two sweeps gets all it needs
                claim = Claim(folder, spec.name)
                claims.callback(claim.release)
                if not claim.take():
                    return True
            if all(is_done(folder, spec.name) for spec in work.specs):
                return True
            _train(surroundings, work, checkpoint)
            checkpoint.unlink(missing_ok=True)
            return True
        except (KeyboardInterrupt, UncompletedJobError):
            raise Interrupted(f"population {work.population} was interrupted") from None
        except SystemExit as stopped:
            if stopped.code != 2:
                raise Interrupted(f"population {work.population} was interrupted") from None
            traceback.print_exc()
        except Exception as error:  # of one of them, perhaps, and that one will tell
            too_large = isinstance(error, torch.OutOfMemoryError)
            traceback.print_exc()
        checkpoint.unlink(missing_ok=True)
        if too_large:
            halved_mark(folder, work.population).touch()
    instead = "halves are trained one after the other" if too_large else "runs are done one by one"
    sys.stderr.write(f"population {work.population} cannot be trained in one step: its {instead}\n")
    return False


def _free_memory() -> None:
    """Give back what a population held: Lightning's objects refer to each other, and CUDA keeps what was freed."""
    gc.collect()
    torch.cuda.empty_cache()  # does nothing where CUDA has not been used


def _train(surroundings: Surroundings, work: Work, checkpoint: Path) -> None:
    """Train, evaluate and record a population."""
    start = time.perf_counter()
    resumed = checkpoint.is_file()
    records = {spec.name: begin(surroundings, spec, work.population, resumed) for spec in work.specs}
    factory = MemberFactory(surroundings.folder)
    members = [factory.make(spec) for spec in work.specs]
    for member in members:
        if reason := why_alone(member):
            raise ValueError(f"{member.spec.name} cannot be a member of a population: {reason}")
        record = records[member.spec.name]
        if record is not None:
            records[member.spec.name] = configured(surroundings, member.spec, record, member.config)
    population = PopulationModule([cast(ALRNNModule, member.module) for member in members], surroundings.stop_when)
    data = PopulationDataModule([cast(SequenceDataModule, member.data) for member in members])
    looks = MemberCallbacks([_state_callbacks(member) for member in members])
    folders = MemberFolders(members, looks, ProgressFile(checkpoint.parent))
    seed_everything(members[0].spec.seed, workers=True, verbose=False)
    # at the end of each epoch, also where not all of them have a validation
    last = ModelCheckpoint(
        checkpoint.parent, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Checkpoint directory .* exists and is not empty")
        callbacks = [looks, folders, StepCheckpoint(checkpoint.parent), last]
        trainer = Trainer(**{**members[0].trainer, "callbacks": callbacks, "logger": False})
        trainer.fit(population, datamodule=data, ckpt_path=checkpoint if resumed else None)
    paths = folders.write_checkpoints(population)
    population.load_best()
    for scores in population.scores:
        scores.clear()
    trainer.validate(population, datamodule=data, verbose=False)
    trainer.test(population, datamodule=data, verbose=False)
    folders.close()
    seconds = (time.perf_counter() - start) / len(members)
    for k, (member, path) in enumerate(zip(members, paths, strict=True)):
        record = records[member.spec.name]
        if record is not None:
            record = record._replace(seconds=seconds)
            _record(surroundings, member, record, population, k, path)
    sync_files(run_folder(surroundings.folder, member.spec.name) / RECORD for member in members)


def _record(
    surroundings: Surroundings,
    member: Member,
    record: Record,
    population: PopulationModule,
    k: int,
    path: Path,
) -> None:
    """Record what became of a member."""
    epoch, metrics = population.diverged[k], population.scores[k]
    if epoch is not None:
        error = f"FloatingPointError: the loss, the gradient or a state is not finite in epoch {epoch}: {REMEDY}"
        run = record.run._replace(diverged=True)
        record = record._replace(run=run, tracebacks=(*record.tracebacks, error))
    else:
        log_dir = Path(surroundings.folder, record.log_dir)
        log_best(str(log_dir), population.steps[k], member.spec, metrics)
        reached = population.watches[k].epochs_to_threshold
        names = sorted(metrics, key=lambda name: (name.startswith("test/"), not name.startswith("val/")))
        record = record._replace(
            run=record.run._replace(metrics={name: metrics[name] for name in names}, epochs_to_threshold=reached),
            epochs=population.epochs[k],
            checkpoint=os.path.relpath(path, surroundings.folder),
        )
    write_record(surroundings.folder, record._replace(status="done", finished=now()), durable=False)


def _state_callbacks(member: Member) -> Sequence[StatesCallback]:
    return [callback for callback in member.callbacks if isinstance(callback, StatesCallback)]
