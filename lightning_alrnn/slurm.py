"""Where a run under SLURM logs, and what it goes on from when its job was requeued."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning_fabric.plugins.environments import SLURMEnvironment

_LOGGERS = ("TensorBoardLogger", "CSVLogger")


def follow_slurm(config: Any, command: str | None) -> None:
    """Let a run under SLURM have a folder of its own, the same one after a requeue, and go on from there.

    Lightning numbers the folders of its loggers, so that a requeued job would begin another curve. It keeps the
    checkpoints for requeueing in the current directory, where one job would find those of another.

    Args:
        config: of the command, changed in place: the logger's version, the Trainer's ``default_root_dir`` and
            ``ckpt_path``, each where the user has not set it.
        command: of LightningCLI.
    """
    logger = config.trainer.get("logger")
    if "SLURM_NTASKS" not in os.environ or not hasattr(logger, "class_path"):
        return  # that variable is what Lightning knows SLURM by
    if logger.class_path.rpartition(".")[2] not in _LOGGERS:
        return
    options = logger.init_args
    if options.get("version") is None:
        options.version = step_name()
    if options.version is None:
        return
    version = options.version if isinstance(options.version, str) else f"version_{options.version}"
    folder = Path(options.save_dir, options.get("name") or "", version)
    if config.trainer.get("default_root_dir") is None:
        config.trainer.default_root_dir = str(folder)
    requeued = int(os.environ.get("SLURM_RESTART_COUNT", "0")) > 0
    if command == "fit" and requeued and config.get("ckpt_path") is None:
        newest = newest_checkpoint(folder, Path(config.trainer.default_root_dir))
        config.ckpt_path = None if newest is None else str(newest)


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
