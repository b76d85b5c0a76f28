"""The log directory of a run under SLURM, and the checkpoint that a requeued job resumes from."""

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
    """Give a run under SLURM a log directory of its own, the same one after a requeue, and let it resume there.

    Options that the user has not set are set within this context, and restored afterwards.
    """
    # Lightning numbers log directories, and keeps the checkpoints for requeueing in the current directory
    logger = config.trainer.get("logger")
    has_version = hasattr(logger, "class_path") and logger.class_path.rpartition(".")[2] in FOLDER_LOGGERS
    if "SLURM_NTASKS" not in os.environ or not has_version:  # Lightning recognises SLURM by this variable
        yield
        return
    options = logger.init_args
    user_version, user_root, user_checkpoint = options.get("version"), config.trainer.get("default_root_dir"), None
    if command == "fit":
        user_checkpoint = config.get("ckpt_path")
    version = step_name() if user_version is None else user_version
    if version is not None:
        options.version = version
        folder = version if isinstance(version, str) else f"version_{version}"
        log_dir = Path(options.save_dir, options.get("name") or "", folder)
        if user_root is None:
            config.trainer.default_root_dir = str(log_dir)
        requeued = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
        if command == "fit" and requeued and user_checkpoint is None:
            newest = newest_checkpoint(log_dir, Path(config.trainer.default_root_dir))
            config.ckpt_path = None if newest is None else str(newest)
    try:
        yield
    finally:
        options.version, config.trainer.default_root_dir = user_version, user_root
        if command == "fit":
            config.ckpt_path = user_checkpoint


def step_name() -> str | None:
    """Return a directory name for the job step, such as job_17, job_17_3 (array) or job_17.1 (second ``srun``).

    ``None`` in an interactive job or without ``srun``, because one job may then run several commands.
    """
    step = os.environ.get("SLURM_STEP_ID", "")
    job = SLURMEnvironment.job_id()
    if job is None or not step.isdigit():
        return None
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    name = f"job_{job}" if array is None else f"job_{array}_{os.environ['SLURM_ARRAY_TASK_ID']}"
    return name if step == "0" else f"{name}.{step}"


def newest_checkpoint(log_dir: Path, root_dir: Path) -> Path | None:
    """Return the newest of ``last.ckpt`` and the checkpoints that Lightning writes before a requeue, or ``None``."""
    paths = [*root_dir.glob("hpc_ckpt_*.ckpt"), *log_dir.glob("checkpoints/last.ckpt")]
    return max(paths, key=lambda path: path.stat().st_mtime, default=None)
