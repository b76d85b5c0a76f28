"""Train several runs of a sweep in one step, as a population, and evaluate their best weights."""

from __future__ import annotations

import errno
import gc
import os
import sys
import time
import traceback
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import torch
from lightning_fabric.utilities.seed import seed_everything
from pytorch_lightning import Trainer
from pytorch_lightning.callbacks import ModelCheckpoint

from lightning_alrnn.callbacks.base import StatesCallback
from lightning_alrnn.callbacks.member_callbacks import MemberCallbacks
from lightning_alrnn.datamodules.base import SequenceDataModule
from lightning_alrnn.datamodules.population import PopulationDataModule
from lightning_alrnn.extensions.divergence_guard import REMEDY
from lightning_alrnn.extensions.messages import without_advertisements
from lightning_alrnn.files import sync_files, write_file
from lightning_alrnn.modules.base import StepCheckpoint
from lightning_alrnn.modules.population import PopulationModule
from lightning_alrnn.modules.sequence import ALRNNModule
from lightning_alrnn.sweep.baselines import write_baselines
from lightning_alrnn.sweep.grouping import CHECKPOINT, HALVED, REFUSED, Work, allow_files, make_work, why_alone
from lightning_alrnn.sweep.members import Member, MemberFactory, MemberFolders
from lightning_alrnn.sweep.progress import ProgressFile
from lightning_alrnn.sweep.run import (
    Surroundings,
    Task,
    begin,
    configured,
    do_run,
    last_whole,
    log_best,
    now,
    was_interrupted,
)
from lightning_alrnn.sweep.store import RECORD, Claim, Record, run_folder, write_record


def do_work(surroundings: Surroundings, work: Work, task: Task | None = None) -> None:
    """Train and record a population, or else its halves (if the GPU memory is too small) or its runs one by one."""
    if not work.population:
        do_run(surroundings, work.specs[0], task)
        return
    folder = surroundings.folder
    halved = work.folder(folder) / HALVED  # also for a job that SLURM requeues, which begins with the whole population
    if not halved.is_file() and _do_together(surroundings, work):
        return
    size = -(-len(work.specs) // 2) if halved.is_file() else 1
    errors = []
    for first in range(0, len(work.specs), size):
        gc.collect()  # Lightning's objects refer to each other, and CUDA keeps freed memory
        torch.cuda.empty_cache()  # does nothing before CUDA is used
        try:
            do_work(surroundings, make_work(folder, work.specs[first : first + size]))
        except Exception as error:  # if the folder of one run cannot be written to, those of the others may
            traceback.print_exc()
            errors.append(error)
    if errors:
        raise errors[0]


def _do_together(surroundings: Surroundings, work: Work) -> bool:
    """Train a population in one step; ``False`` if that fails and its runs have to be trained otherwise."""
    folder = surroundings.folder
    checkpoint = work.folder(folder) / CHECKPOINT
    allow_files(len(work.specs))
    with ExitStack() as claims:
        try:
            for spec in sorted(work.specs, key=lambda spec: spec.name):  # so that one of two sweeps gets all claims
                claim = Claim(folder, spec.name)
                claims.callback(claim.release)
                if not claim.take():
                    return True
            if work.is_done(folder):
                return True
            _train(surroundings, work, checkpoint)
            checkpoint.unlink(missing_ok=True)
            return True
        except BaseException as error:  # a failure of one run shows again when that run is trained alone
            if was_interrupted(error):
                raise KeyboardInterrupt(f"population {work.population} was interrupted") from None
            if isinstance(error, OSError) and error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise  # its runs could not write either, and with its checkpoint it can go on
            traceback.print_exc()
            too_large = isinstance(error, torch.OutOfMemoryError)
            reason = f"{type(error).__name__}: {str(error).partition(chr(10))[0]}"
        checkpoint.unlink(missing_ok=True)
        if too_large:
            (work.folder(folder) / HALVED).touch()
        else:
            write_file(work.folder(folder) / REFUSED, reason)
    instead = "halves are trained one after the other" if too_large else "runs are trained one by one"
    sys.stderr.write(f"population {work.population} cannot be trained in one step: its {instead}\n")
    return False


def _train(surroundings: Surroundings, work: Work, checkpoint: Path) -> None:
    """Train, evaluate and record a population."""
    start = time.perf_counter()
    resumed = last_whole([checkpoint], f"population {work.population}") is not None
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
    callbacks = [[one for one in member.callbacks if isinstance(one, StatesCallback)] for member in members]
    looks = MemberCallbacks(callbacks)
    folders = MemberFolders(members, looks, ProgressFile(checkpoint.parent))
    seed_everything(members[0].spec.seed, workers=True, verbose=False)
    # at the end of each epoch, also of an epoch without a validation
    last = ModelCheckpoint(
        checkpoint.parent, filename="last", enable_version_counter=False, save_on_train_epoch_end=True
    )
    with without_advertisements("Checkpoint directory .* exists and is not empty"):
        replaced = {"callbacks": [looks, folders, StepCheckpoint(checkpoint.parent), last], "logger": False}
        trainer = Trainer(**(members[0].trainer | replaced))
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
        write_baselines(surroundings.folder, member.spec.seed, member.spec.settings, member.data)
    sync_files(run_folder(surroundings.folder, member.spec.name) / RECORD for member in members)


def _record(
    surroundings: Surroundings,
    member: Member,
    record: Record,
    population: PopulationModule,
    k: int,
    path: Path,
) -> None:
    """Record the result of a member."""
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
