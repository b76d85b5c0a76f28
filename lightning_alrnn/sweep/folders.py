"""The files of each member of a population, which are those of a run that is trained alone."""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal, cast

import torch
import yaml
from pytorch_lightning import LightningModule, Trainer
from pytorch_lightning.callbacks import Checkpoint
from pytorch_lightning.loggers import TensorBoardLogger
from tensorboard.compat.proto.summary_pb2 import Summary

from lightning_alrnn.callbacks.base import further_readings
from lightning_alrnn.callbacks.dashboard import Dashboard, model_card
from lightning_alrnn.callbacks.member_callbacks import MemberCallbacks
from lightning_alrnn.extensions.exact_resume import ExactResume, drop_later_steps, resume_state
from lightning_alrnn.files import sync_files, write_file
from lightning_alrnn.modules.population import PopulationModule
from lightning_alrnn.modules.sequence import ALRNNModule
from lightning_alrnn.readings import READINGS, chart_layout
from lightning_alrnn.sweep.members import DUMPER, Member
from lightning_alrnn.sweep.progress import ProgressFile, RunState, shown_score

_TRAINING = ("epoch", "pytorch-lightning_version", "loops")


class MemberFolders(Checkpoint):
    """Logs each member to TensorBoard during training, and writes its checkpoints after training.

    It is a checkpoint callback, because Lightning calls these last, when all values of an epoch are known.
    """

    def __init__(self, members: Sequence[Member], looks: MemberCallbacks, progress: ProgressFile) -> None:
        super().__init__()
        self._members = members
        self._looks = looks
        self._progress = progress
        self._training: dict[str, Any] = {}
        self._validated = False
        self._charts = False

    def on_load_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._training = {key: checkpoint[key] for key in _TRAINING}

    def on_save_checkpoint(self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]) -> None:
        self._training = {key: checkpoint[key] for key in _TRAINING}
        population = cast(PopulationModule, pl_module)
        ended = [k for k, stopped in enumerate(population.stopped) if stopped and self._is_trained(population, k)]
        if ended:  # in this epoch; later the state of their optimizers changes with that of the others
            modules = population.members()
            for k in ended:
                self._write(population, k, modules[k], best=False)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        population = cast(PopulationModule, pl_module)
        for k, member in enumerate(self._members):
            logger = self._logger(member)
            folder = Path(logger.log_dir)
            write_file(folder / "config.yaml", member.text, durable=False)
            options = {**member.module.hparams_initial, **member.data.hparams_initial}
            del options["_class_path"]  # as Lightning does
            write_file(folder / "hparams.yaml", yaml.dump(options, Dumper=DUMPER), durable=False)
            if trainer.global_step > 0:
                drop_later_steps(logger, trainer.global_step)
            elif any(isinstance(callback, Dashboard) for callback in member.callbacks):
                command = ["alrnn", "fit", *member.spec.arguments]
                card = model_card(member.module, member.data, [population.optimizer_of(k)], trainer, command)
                logger.experiment.add_text("model card", card, 0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        population = cast(PopulationModule, pl_module)
        prefixes = ("train/", "val/") if self._validated else ("train/",)
        epoch, step = trainer.current_epoch, trainer.global_step - 1  # as Lightning counts what it logs
        progress = {}
        for k, member in enumerate(self._members):
            scores = population.scores[k]
            limit = max(trainer.max_epochs or 0, 0)
            status: Literal["running", "diverged"] = "running" if population.diverged[k] is None else "diverged"
            progress[member.spec.name] = RunState(status, population.epochs[k], limit, shown_score(scores))
            if population.epochs[k] <= epoch:  # it has stopped or diverged
                continue
            values = {key: value for key, value in scores.items() if key.startswith(prefixes)}
            values |= self._looks.values.get(k, {}) if self._validated else {}
            writer: Any = self._logger(member).experiment
            if not self._charts and any(isinstance(callback, Dashboard) for callback in member.callbacks):
                writer.add_custom_scalars(chart_layout([*READINGS, *further_readings(member.callbacks)], values))
            # one event for all values takes a fifth of the time of an event for each
            summary = Summary(value=[Summary.Value(tag=key, simple_value=value) for key, value in values.items()])
            summary.value.add(tag="epoch", simple_value=epoch)
            writer.file_writer.add_summary(summary, step)
        self._charts = self._charts or self._validated
        self._validated = False
        self._progress.write(progress)

    def close(self) -> None:
        """Close TensorBoard's files."""
        for member in self._members:
            self._logger(member).experiment.close()

    def write_checkpoints(self, population: PopulationModule) -> list[Path]:
        """Write the last and the best checkpoint of each member; the paths of the best ones, or else of the last."""
        stopped = population.stopped
        last = [
            self._write(population, k, module, best=False)
            for k, module in enumerate(population.members("last"))
            if not stopped[k] or self._is_trained(population, k)
        ]
        best = [self._write(population, k, module, best=True) for k, module in enumerate(population.members("best"))]
        sync_files([*last, *best])
        return best

    def _is_trained(self, population: PopulationModule, k: int) -> bool:
        """Whether the member was trained in the last epoch."""
        return population.epochs[k] > int(self._training["epoch"])

    def _write(self, population: PopulationModule, k: int, module: ALRNNModule, best: bool) -> Path:
        member = self._members[k]
        folder = Path(self._logger(member).log_dir) / "checkpoints"
        epoch = population.best_epoch[k]
        if best and epoch is None:
            return folder / "last.ckpt"
        checkpoint: dict[str, Any] = {
            "epoch": epoch if best else population.epochs[k] - 1,
            "global_step": population.best_step[k] if best else population.steps[k],
            "pytorch-lightning_version": self._training["pytorch-lightning_version"],
            "state_dict": module.state_dict(),
            "loops": self._training["loops"],
            "hparams_name": module._hparams_name,
            "hyper_parameters": dict(module.hparams),
            "datamodule_hparams_name": member.data._hparams_name,
            "datamodule_hyper_parameters": dict(member.data.hparams),
        }
        if not best and self._is_trained(population, k):  # training can resume from it
            states = {callback.state_key: callback.state_dict() for callback in self._looks.callbacks[k]}
            states[ExactResume().state_key] = resume_state(module)
            checkpoint |= {"callbacks": states, **population.optimizer_states(k)}
        path = folder / (f"best-epoch={epoch:03d}.ckpt" if best else "last.ckpt")
        content = io.BytesIO()
        torch.save(checkpoint, content)
        write_file(path, content.getbuffer(), durable=False)
        return path

    def _logger(self, member: Member) -> TensorBoardLogger:
        return cast(TensorBoardLogger, member.logger)
