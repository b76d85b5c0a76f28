"""Base class of the LightningModules: steps, losses as exact means, optimizers, checkpoints, a stop on divergence."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from inspect import signature
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from pytorch_lightning import Callback, LightningModule, Trainer
from pytorch_lightning.callbacks import ModelCheckpoint
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.strategies import FSDPStrategy
from pytorch_lightning.trainer.states import TrainerFn
from pytorch_lightning.utilities.exceptions import SIGTERMException
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel
from torchmetrics import Metric

from lightning_alrnn.batch import AnyBatch, NeuralBatch, SequenceBatch, Split
from lightning_alrnn.extensions.checkpoints import WholeCheckpointIO
from lightning_alrnn.extensions.divergence_guard import REMEDY, DivergenceGuard
from lightning_alrnn.extensions.exact_resume import ExactResume
from lightning_alrnn.extensions.signals_at_step_end import SignalsAtStepEnd
from lightning_alrnn.metrics.mean import WeightedMean
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.options import ALRNN_DEFAULTS, ALRNNOptions

_CHECKPOINT_STEPS = 1000
_PROGRESS_BAR = ("loss", "accuracy", "sequence_accuracy")
_PROGRESS_STEPS = 50


class SequenceModule(LightningModule):
    """Base class of the LightningModules.

    A subclass implements :meth:`_step` and :meth:`regularization` and sets ``train_metrics``, ``val_metrics`` and
    ``test_metrics``. Each is a ``ModuleDict`` of metrics that includes those of :meth:`configure_losses`.

    Args:
        optimizer: Function that makes the optimizer from the parameters.
        lr_scheduler: Function that makes the scheduler from the optimizer. The scheduler steps once per epoch; a
            ``ReduceLROnPlateau`` monitors ``val/task_loss``.

    Raises:
        MisconfigurationException: In ``setup``, if the strategy is FSDP.
    """

    def __init__(self, optimizer: OptimizerCallable, lr_scheduler: LRSchedulerCallable | None) -> None:
        super().__init__()
        self._optimizer = optimizer
        self._lr_scheduler = lr_scheduler

    def setup(self, stage: str) -> None:
        strategy = self.trainer.strategy
        if isinstance(strategy, FSDPStrategy):
            raise MisconfigurationException(
                f"{type(self).__name__} does not run under FSDP: each process would have a slice of A, W and h, but "
                "the callbacks and the divergence guard need the whole matrices. These networks fit on any device: use "
                "strategy='ddp'"
            )
        if type(strategy.checkpoint_io) is TorchCheckpointIO:
            strategy.checkpoint_io = WholeCheckpointIO()
        # DDP would send P, which never changes, to every process in every step
        constant = [f"{path}.P" for path, module in self.named_modules() if isinstance(module, ALRNN)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, constant)  # type: ignore[no-untyped-call]

    @abstractmethod
    def regularization(self) -> Tensor:
        """Return the term that is added to the loss of the task, a scalar."""

    @abstractmethod
    def _step(self, stage: Split, batch: Any) -> dict[str, Any]:
        """Return the loss of a batch and the values for the callbacks."""

    def configure_losses(self) -> dict[str, Metric]:
        """Return the running means of the loss and its parts, which every stage logs."""
        return {name: WeightedMean() for name in ("loss", "task_loss", "regularization")}

    def training_step(self, batch: AnyBatch, batch_idx: int) -> dict[str, Any]:
        return self._step("train", batch)

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> dict[str, Any]:
        return self._step("val", batch)

    def test_step(self, batch: AnyBatch, batch_idx: int) -> dict[str, Any]:
        return self._step("test", batch)

    def parameter_groups(self) -> Any:
        """Return the argument of the optimizer: parameters, or dicts of parameters and their options."""
        return self.parameters()

    def configure_optimizers(self) -> Any:
        optimizer = self._optimizer(self.parameter_groups())
        if self._lr_scheduler is None:
            return optimizer
        scheduler = self._lr_scheduler(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": getattr(scheduler, "monitor", "val/task_loss")},
        }

    def configure_callbacks(self) -> Sequence[Callback]:
        """Save the best and the last checkpoint, resume exactly, and stop on divergence.

        The checkpoints replace the default one of the Trainer. ``last.ckpt`` is written at the end of each epoch, every
        1,000 steps and when SIGTERM stops the run.
        """
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        checkpoints = self.trainer.checkpoint_callbacks
        # what an earlier call of the same Trainer has added stays
        added: list[Callback] = [
            callback
            for callback in (ExactResume(), DivergenceGuard(), SignalsAtStepEnd())
            if not any(isinstance(other, type(callback)) for other in callbacks)
        ]
        if len(checkpoints) != 1 or not _is_lightnings_default(checkpoints[0]):
            return added
        callbacks.remove(checkpoints[0])  # Lightning would remove it too, and print a line about that
        # one with save_last=True writes last.ckpt only when it writes another best one
        added += [StepCheckpoint(), ModelCheckpoint(filename="last", enable_version_counter=False)]
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.enable_validation:
            return added
        return [ModelCheckpoint(monitor="val/task_loss", filename="best-{epoch:03d}"), *added]

    def on_train_batch_end(self, outputs: Any, batch: AnyBatch, batch_idx: int) -> None:
        if (batch_idx + 1) % _PROGRESS_STEPS == 0:
            # Lightning reads what the progress bar shows at every step: on the CPU that does not halt the device
            mean = self._metrics("train")["loss"].compute().cpu()
            self.log("train/loss", mean, on_step=True, on_epoch=False, prog_bar=True, logger=False)

    def on_validation_epoch_start(self) -> None:
        self._reset_metrics("val")

    def on_test_epoch_start(self) -> None:
        self._reset_metrics("test")

    def on_validation_epoch_end(self) -> None:
        # the last update may have broken the weights after the last training loss; no checkpoint may hold them
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            value = self._metrics("val")["task_loss"].compute()
            if not bool(torch.isfinite(value)):
                raise FloatingPointError(f"val/task_loss is not finite in epoch {self.trainer.current_epoch}: {REMEDY}")

    def _keep_own_hyperparameters(self) -> None:
        """Forget what LightningCLI linked from the data and a checkpoint could not hand to this class."""
        for name in self.hparams.keys() - {*self._option_names(), "_class_path", "_instantiator"}:
            del self.hparams[name]

    def _complete(self, options: ALRNNOptions) -> ALRNNOptions:
        """Add the defaults: assigned to the constructor's ``options``, all of them become hyperparameters."""
        names = self._option_names()
        completed: dict[str, Any] = {**ALRNN_DEFAULTS, **options}
        if completed.get("num_units", 0) is None:
            del completed["num_units"]  # older checkpoints of ALRNNModule hold it, linked from data without spikes
        unknown = completed.keys() - names
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no option {', '.join(sorted(unknown))}; its options are {', '.join(names)}"
            )
        return cast(ALRNNOptions, completed)

    def _option_names(self) -> list[str]:
        """Names of what the constructors take, those of :class:`ALRNN` last."""
        classes = (cls for cls in type(self).__mro__ if issubclass(cls, SequenceModule))
        parameters = (parameter for cls in classes for parameter in signature(cls).parameters.values())
        named = (each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD))
        return [*dict.fromkeys(named), *ALRNN_DEFAULTS]

    def _losses(self, stage: Split, elements: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """The loss of a batch and its parts, from the losses of single elements and their weights."""
        total = weight.sum()
        # a batch whose mask is empty has the loss 0, not 0/0
        task_loss = (elements * weight).sum() / torch.where(total > 0, total, 1.0)
        regularization = self.regularization()
        loss = task_loss + regularization
        return {"loss": loss, "task_loss": task_loss, "regularization": regularization}

    def _log_metrics(self, stage: Split, batch_size: int) -> None:
        """Log the metrics of a stage, after they were updated with a batch.

        Lightning keeps a metric that is logged, and computes and resets it at the end of the epoch. The first batch of
        an epoch, or of what is left of a resumed one, is enough: each call takes some 0.2 ms.
        """
        for name, metric in self._metrics(stage).items():
            if metric.update_count == 1:
                shown = name in _PROGRESS_BAR
                self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True, prog_bar=shown, batch_size=batch_size)

    def _reset_metrics(self, stage: Split) -> None:
        """Forget the batches of an evaluation that was interrupted."""
        for name, child in self.named_children():
            if name.startswith(f"{stage}_"):
                for metric in child.modules():
                    if isinstance(metric, Metric) and metric.update_called:
                        metric.reset()

    def _metrics(self, stage: Split) -> dict[str, Metric]:
        return dict(getattr(self, f"{stage}_metrics").items())


class StepCheckpoint(ModelCheckpoint):
    """Writes ``last.ckpt`` every 1,000 steps, and between two on SIGTERM; not on an error, which may break the weights.

    Nor between the last step of an epoch and its end, from where Lightning would resume without its validation.

    Args:
        dirpath: folder of the checkpoint; ``None`` for that of the log.
    """

    def __init__(self, dirpath: Path | None = None) -> None:
        super().__init__(
            dirpath,
            filename="last",
            enable_version_counter=False,
            every_n_train_steps=_CHECKPOINT_STEPS,
            save_on_exception=True,
        )

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing is due: Lightning would copy all metrics before it sees that."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException) and not trainer.is_last_batch:
            super().on_exception(trainer, pl_module, exception)


def check_regularization(mar_strength: float, mar_units: int | None, hidden_size: int) -> None:
    """Raise unless τ ≥ 0 and M_reg, if stated, is from 0 to M."""
    if not mar_strength >= 0:
        raise ValueError(f"mar_strength (τ) must not be negative, got {mar_strength}")
    if mar_units is not None and not 0 <= mar_units <= hidden_size:
        raise ValueError(f"mar_units (M_reg) must lie between 0 and hidden_size (M={hidden_size}), got {mar_units}")


def check_is_batch(batch: object) -> None:
    """Raise unless a batch is a :class:`SequenceBatch`."""
    if isinstance(batch, NeuralBatch):
        raise TypeError(
            "a batch must be a lightning_alrnn.SequenceBatch(inputs, targets, lengths), got a NeuralBatch, which has "
            "spikes: use ALRNNNeural, or a DataModule without spikes"
        )
    if not isinstance(batch, SequenceBatch):
        raise TypeError(
            f"a batch must be a lightning_alrnn.SequenceBatch(inputs, targets, lengths), got {type(batch).__name__}: "
            "return one from the collate_fn of the DataLoader, or use the Arrays DataModule"
        )


def _is_lightnings_default(checkpoint: Callback) -> bool:
    """Whether a checkpoint callback is the one that the Trainer adds by itself: nothing about it was chosen."""
    return (
        type(checkpoint) is ModelCheckpoint
        and checkpoint.state_key == ModelCheckpoint().state_key
        and checkpoint.dirpath is None
        and checkpoint.filename is None
        and checkpoint.save_last is None
        and checkpoint.save_top_k == 1
        and not checkpoint.save_weights_only
        and not checkpoint.verbose
        and checkpoint.auto_insert_metric_name
    )
