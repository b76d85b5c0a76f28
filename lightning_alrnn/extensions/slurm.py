"""Where a run under SLURM logs, and what it goes on from when its job was requeued."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

FOLDER_LOGGERS = ("TensorBoardLogger", "CSVLogger")
"""Loggers that write into a folder of the run, ``save_dir/name/version``."""


@contextmanager
def slurm_folders(config: Any, command: str | None) -> Iterator[None]:
    """Let a run under SLURM have a folder of its own, the same one after a requeue, and go on from there.

    Lightning numbers the folders of its loggers, so that a requeued job would begin another curve. It keeps the
    checkpoints for requeueing in the current directory, where one job would find those of another. Within the context
    the logger's version, the Trainer's ``default_root_dir`` and ``ckpt_path`` are set where the user has not set them;
    behind it they are as the user had them.
    """
    logger = config.trainer.get("logger")
    known = hasattr(logger, "class_path") and logger.class_path.rpartition(".")[2] in FOLDER_LOGGERS
    if "SLURM_NTASKS" not in os.environ or not known:  # that variable is what Lightning knows SLURM by
        yield
        return
    given = (logger.init_args.get("version"), config.trainer.get("default_root_dir"), config.get("ckpt_path"))
    version = step_name() if given[0] is None else given[0]
    if version is not None:
        options = logger.init_args
        options.version = version
        log_dir = Path(options.save_dir, options.get("name") or "", str(version))
        if not isinstance(version, str):
            log_dir = log_dir.with_name(f"version_{version}")
        if given[1] is None:
            config.trainer.default_root_dir = str(log_dir)
        requeued = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        if command == "fit" and requeued and given[2] is None:
            newest = newest_checkpoint(log_dir, Path(config.trainer.default_root_dir))
            config.ckpt_path = None if newest is None else str(newest)
    try:
        yield
    finally:
        logger.init_args.version, config.trainer.default_root_dir = given[:2]
        if command == "fit":
            config.ckpt_path = given[2]


def step_name() -> str | None:
    """Name of the job step that this process belongs to, as a folder's: the same after a requeue.

    ``job_17``, or ``job_17_3`` in an array; ``job_17.1`` for the second ``srun`` of a batch script, and so on. ``None``
    in an interactive job, and where the process was not started by ``srun``: one job may then do many things.
    """
    step = os.environ.get("SLURM_STEP_ID", "")
    job = SLURMEnvironment.job_id()
    if job is None or not step.isdigit():
        return None
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"job_{job}" if array is None else f"job_{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return name if step == "0" else f"{name}.{step}"


def newest_checkpoint(log_dir: Path, root_dir: Path) -> Path | None:
    """The newer of ``last.ckpt`` and what Lightning wrote before it requeued the job; ``None`` if there is neither."""
    found = [*root_dir.glob("hpc_ckpt_*.ckpt"), *log_dir.glob("checkpoints/last.ckpt")]
    return max(found, key=lambda path: path.stat().st_mtime, default=None)
