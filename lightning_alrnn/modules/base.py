"""Base class of the LightningModules."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self, cast

import numpy as np
import torch
from lightning_fabric.utilities.exceptions import MisconfigurationException
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import Callback, LightningDataModule, LightningModule, Trainer
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
from lightning_alrnn.errors import check_not_negative
from lightning_alrnn.extensions.checkpoint_classes import check_checkpoint_file
from lightning_alrnn.extensions.checkpoints import WholeCheckpointIO
from lightning_alrnn.extensions.divergence_guard import REMEDY, DivergenceGuard
from lightning_alrnn.extensions.exact_resume import ExactResume
from lightning_alrnn.extensions.signals_at_step_end import SignalsAtStepEnd
from lightning_alrnn.files import remove_leftovers
from lightning_alrnn.metrics.mean import WeightedMean
from lightning_alrnn.modules.optimizers import Settings, describe, describe_optimizer, restore
from lightning_alrnn.modules.resumption import RUN_OPTIONS, resume_with
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.options import ALRNN_DEFAULTS, ALRNNOptions
from lightning_alrnn.nn.regularization import manifold_attractor_penalty

SET_BY_DATA = ("input_size", "output_size", "objective", "target_step", "criterion", "group_names", "num_units")
"""Arguments of the modules that a DataModule sets, on the command line and in :meth:`SequenceModule.for_data`."""

if TYPE_CHECKING:
    from builtins import classmethod as _class_only
else:  # Lightning's, which refuses a call on an instance: it would not change that instance
    _class_only = type(vars(LightningModule)["load_from_checkpoint"])

_CHECKPOINT_STEPS = 1000
_PROGRESS_BAR = ("task_loss", "accuracy", "sequence_accuracy")
_PROGRESS_STEPS = 50


class SequenceModule(LightningModule):
    """Base class of the LightningModules.

    A subclass implements ``_step`` and sets ``train_metrics``, ``val_metrics`` and ``test_metrics``, which are
    ``ModuleDict`` objects with the metrics of :meth:`configure_losses`.

    Args:
        optimizer: Function that makes the optimizer from the parameters.
        lr_scheduler: Function that makes the scheduler from the optimizer. The scheduler steps once per epoch; a
            ``ReduceLROnPlateau`` monitors ``val/task_loss``.

    Raises:
        MisconfigurationException: In ``setup``, if the strategy is FSDP.
    """

    mar_strength: float
    mar_units: int

    def __init__(self, optimizer: OptimizerCallable, lr_scheduler: LRSchedulerCallable | None) -> None:
        super().__init__()
        self._optimizer = optimizer
        self._lr_scheduler = lr_scheduler
        self._made_optimizer: Settings | None = None
        self.run_options: dict[str, Any] = {}  # of the command line, which a checkpoint keeps
        here = torch.Generator().set_state(torch.get_rng_state())
        self._seed = int(torch.randint(2**62, (), generator=here, device="cpu"))

    @classmethod
    def for_data(cls, data: LightningDataModule, **arguments: Any) -> Self:
        """Make a module with the sizes, the kind of task and the groups of a DataModule.

        Args:
            data: DataModule with the attributes of a :class:`SequenceDataModule`.
            **arguments: Other arguments of the module, such as ``nonlinear_units``. They take precedence over the data.

        Returns:
            The module.

        Raises:
            TypeError: If the data do not say their sizes.
            ValueError: If the inputs are tokens and the module has no encoder for them.

        Example:
            >>> from lightning_alrnn import Addition, ALRNNModule
            >>> model = ALRNNModule.for_data(Addition(), hidden_size=20, nonlinear_units=5)
            >>> model.objective, model.readout.out_features, model.target_step
            ('regression', 1, 'last')
        """
        names = cls._option_names()
        values = {name: getattr(data, name) for name in SET_BY_DATA if name in names and hasattr(data, name)}
        values |= arguments
        missing = [name for name in ("input_size", "output_size") if name not in values]
        if missing:
            raise TypeError(
                f"{type(data).__name__} has no {' and no '.join(missing)}: set them in its constructor, or pass "
                f"{', '.join(f'{name}=…' for name in missing)}"
            )
        vocab_size = getattr(data, "vocab_size", None)
        if vocab_size is not None and "encoder" in names and values.get("encoder") is None:
            raise ValueError(
                f"the inputs of {type(data).__name__} are tokens, got no encoder: pass "
                f"encoder=TextEncoder(vocab_size={vocab_size})"
            )
        return cls(**values)

    @_class_only
    def load_from_checkpoint(
        cls,  # noqa: N805
        checkpoint_path: Any,
        map_location: Any = None,
        hparams_file: Any = None,
        strict: bool | None = None,
        weights_only: bool | None = None,
        **kwargs: Any,
    ) -> Self:
        """Load a module from a checkpoint, with the optimizer and the scheduler that it was trained with.

        Those of ``torch.optim`` are restored. If there was another one, training the loaded module raises an error
        that says so.

        Args:
            checkpoint_path: Path of the checkpoint.
            map_location: Device to load to; ``None`` for that of the checkpoint.
            hparams_file: Path of a file with the arguments, which checkpoints of this package do not need.
            strict: Whether all weights must be in the checkpoint; ``None`` for yes.
            weights_only: Whether only tensors and plain values are loaded.
            **kwargs: Arguments of the module that replace those of the checkpoint, such as ``optimizer``.

        Returns:
            The module.

        Raises:
            ValueError: If the checkpoint names a class that is no layer, optimizer or scheduler in a module that is
                imported.
        """
        check_checkpoint_file(cls, checkpoint_path, map_location, weights_only, kwargs)
        module: Self = super().load_from_checkpoint(
            checkpoint_path, map_location, hparams_file, strict, weights_only, **kwargs
        )
        for name in {"optimizer", "lr_scheduler"} & kwargs.keys():
            setattr(module, f"_{name}", kwargs[name])
        return module

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint.update(self._settings())

    def _settings(self) -> dict[str, Any]:
        """What a checkpoint says of the run beside the hyperparameters."""
        optimizer = describe(self._optimizer)
        if "unknown" in optimizer and self._made_optimizer is not None:
            optimizer = self._made_optimizer
        scheduler = None if self._lr_scheduler is None else describe(self._lr_scheduler)
        # not among the hyperparameters: jsonargparse would import whatever a checkpoint names there
        settings = {"optimizer_settings": {"optimizer": optimizer, "lr_scheduler": scheduler}}
        return settings | ({RUN_OPTIONS: self.run_options} if self.run_options else {})

    def compare_options(self, checkpoint: Mapping[str, Any], data: Any, max_epochs: int | None) -> list[str]:
        """Compare the options of a run that resumes with those of its checkpoint.

        Args:
            checkpoint: Content of the checkpoint.
            data: DataModule of the run, if it has one.
            max_epochs: Number of epochs after which training ends; ``None`` or -1 for no limit.

        Returns:
            A line for each option that is another one from here on.

        Raises:
            ValueError: If an option cannot take effect, or the checkpoint has more than ``max_epochs`` epochs.
        """
        hparams = {"hyper_parameters": self.hparams, "datamodule_hyper_parameters": getattr(data, "hparams", {})}
        return resume_with(checkpoint, hparams | self._settings(), max_epochs)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        trainer = self._trainer
        if trainer is not None:  # a run that resumes has the optimizer that its module was made with
            if trainer.state.fn == TrainerFn.FITTING:
                for line in self.compare_options(checkpoint, getattr(trainer, "datamodule", None), trainer.max_epochs):
                    rank_zero_info(line)
            return
        settings = checkpoint.get("optimizer_settings")
        if settings is None:
            reason = "an earlier version of this package wrote it"
            settings = {"optimizer": {"unknown": reason}, "lr_scheduler": None}
        self._optimizer = restore("optimizer", settings["optimizer"])
        self._lr_scheduler = restore("lr_scheduler", settings["lr_scheduler"])

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
        # P never changes, but DDP would send it in every step
        constant = [f"{path}.P" for path, module in self.named_modules() if isinstance(module, ALRNN)]
        DistributedDataParallel._set_params_and_buffers_to_ignore_for_model(self, constant)  # type: ignore[no-untyped-call]

    def on_fit_start(self) -> None:
        # DDP seeds its processes again, which one process does not do; what a training draws must not depend on that
        torch.manual_seed(self._seed + self.global_step)

    @abstractmethod
    def _step(self, stage: Split, batch: Any) -> dict[str, Any]:
        """Return the loss of a batch and the values for the callbacks."""

    def regularization(self) -> Tensor:
        """Return τ times the manifold-attractor penalties of the AL-RNNs, a scalar."""
        networks = self._alrnns()
        if self.mar_strength == 0 or not networks:
            return torch.zeros((), device=self.device)
        first, *others = (manifold_attractor_penalty(network, self.mar_units) for network in networks)
        return self.mar_strength * sum(others, start=first)

    def _alrnns(self) -> list[ALRNN]:
        """Return the AL-RNNs that are regularised."""
        core = getattr(self, "core", None)
        return [core] if isinstance(core, ALRNN) else []

    def _set_regularization(self, mar_strength: float, mar_units: int | None, hidden_size: int) -> None:
        check_not_negative(**{"mar_strength (τ)": mar_strength})
        if mar_units is not None and not 0 <= mar_units <= hidden_size:
            raise ValueError(f"mar_units (M_reg) must lie between 0 and hidden_size (M={hidden_size}), got {mar_units}")
        self.mar_strength = mar_strength
        self.mar_units = hidden_size // 2 if mar_units is None else mar_units

    def configure_losses(self) -> dict[str, Metric]:
        """Return the running means of the loss and its parts, which every stage logs."""
        return {name: WeightedMean() for name in ("loss", "task_loss", "regularization")}

    def training_step(self, batch: AnyBatch, batch_idx: int) -> dict[str, Any]:
        return self._step("train", batch)

    def validation_step(self, batch: AnyBatch, batch_idx: int) -> dict[str, Any]:
        return self._step("val", batch)

    def test_step(self, batch: AnyBatch, batch_idx: int) -> dict[str, Any]:
        return self._step("test", batch)

    def predict_step(self, batch: AnyBatch, batch_idx: int) -> Any:
        return self(batch.inputs, batch.lengths)

    def parameter_groups(self) -> Any:
        """Return the argument of the optimizer: parameters, or dicts of parameters and their options."""
        return self.parameters()

    def configure_optimizers(self) -> Any:
        # PyTorch writes into dicts of parameters
        groups = [dict(group) if isinstance(group, dict) else group for group in self.parameter_groups()]
        optimizer = self._optimizer([dict(group) if isinstance(group, dict) else group for group in groups])
        for group in optimizer.param_groups:  # with NumPy's numbers, its state would not load with weights_only=True
            group.update({name: value.item() for name, value in group.items() if isinstance(value, np.generic)})
        self._made_optimizer = describe_optimizer(optimizer, groups)
        if self._lr_scheduler is None:
            return optimizer
        scheduler = self._lr_scheduler(optimizer)
        return {
            "optimizer": optimizer,
            "lr_scheduler": {"scheduler": scheduler, "monitor": getattr(scheduler, "monitor", "val/task_loss")},
        }

    def configure_callbacks(self) -> Sequence[Callback]:
        """Save the best and the last checkpoint, resume exactly, and stop on divergence.

        These checkpoints replace the default one of the Trainer. ``last.ckpt`` is written at the end of each epoch,
        every 1,000 steps and when SIGTERM stops the run.
        """
        callbacks = absent_callbacks(self.trainer, ExactResume, DivergenceGuard, SignalsAtStepEnd)
        checkpoints = self.trainer.checkpoint_callbacks
        if len(checkpoints) != 1 or not _is_lightnings_default(checkpoints[0]):
            return callbacks
        # Lightning would remove it, too, and print a line about that
        self.trainer.callbacks.remove(checkpoints[0])  # type: ignore[attr-defined]
        # a single ModelCheckpoint with save_last=True would write last.ckpt only after an improvement
        callbacks += [StepCheckpoint(), ModelCheckpoint(filename="last", enable_version_counter=False)]
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.enable_validation:
            return callbacks
        return [ModelCheckpoint(monitor="val/task_loss", filename="best-{epoch:03d}"), *callbacks]

    def on_train_batch_end(self, outputs: Any, batch: AnyBatch, batch_idx: int) -> None:
        if (batch_idx + 1) % _PROGRESS_STEPS == 0:
            # Lightning reads the value of the progress bar at every step; on the CPU this does not halt the device
            mean = self._metrics("train")["task_loss"].compute().cpu()
            self.log("train/task_loss", mean, on_step=True, on_epoch=False, prog_bar=True, logger=False)

    def on_validation_epoch_start(self) -> None:
        self._reset_metrics("val")

    def on_test_epoch_start(self) -> None:
        self._reset_metrics("test")

    def on_validation_epoch_end(self) -> None:
        self._log_epoch("val")
        # the last update may have broken the weights after the last training loss; no checkpoint may hold them
        if self.trainer.state.fn == TrainerFn.FITTING and not self.trainer.sanity_checking:
            value = self._metrics("val")["task_loss"].compute()
            if not bool(torch.isfinite(value)):
                raise FloatingPointError(f"val/task_loss is not finite in epoch {self.trainer.current_epoch}: {REMEDY}")

    def on_test_epoch_end(self) -> None:
        self._log_epoch("test")

    def _epoch_metrics(self, stage: Split) -> list[Metric]:
        """Return the metrics that compute several values, which are logged at the end of an epoch."""
        return []

    def _log_epoch(self, stage: Split) -> None:
        for metric in self._epoch_metrics(stage):
            for name, value in metric.compute().items():
                if name not in self._metrics(stage):  # a subclass may have a metric of this name
                    # the value is the same on all processes; sync_dist tells each of them about the key
                    self.log(f"{stage}/{name}", value, prog_bar=name == "accuracy", sync_dist=True)

    def _keep_own_hyperparameters(self) -> None:
        """Drop hyperparameters that LightningCLI linked from the data and that the constructor does not take."""
        for name in self.hparams.keys() - {*self._option_names(), "_class_path", "_instantiator"}:
            del self.hparams[name]

    def _complete(self, options: ALRNNOptions) -> ALRNNOptions:
        """Add the defaults of the options, so that all of them become hyperparameters."""
        names = self._option_names()
        completed: dict[str, Any] = {**ALRNN_DEFAULTS, **options}
        if completed.get("num_units", 0) is None:
            del completed["num_units"]  # in older checkpoints of ALRNNModule, for data without spikes
        unknown = completed.keys() - names
        if unknown:
            raise TypeError(
                f"{type(self).__name__} has no option {', '.join(sorted(unknown))}; its options are {', '.join(names)}"
            )
        return cast(ALRNNOptions, completed)

    @classmethod
    def _option_names(cls) -> list[str]:
        """Return the names of the arguments of the constructors, with the options of :class:`ALRNN` last."""
        classes = (each for each in cls.__mro__ if issubclass(each, SequenceModule))
        parameters = (parameter for each in classes for parameter in signature(each).parameters.values())
        named = (each.name for each in parameters if each.kind not in (each.VAR_POSITIONAL, each.VAR_KEYWORD))
        return [*dict.fromkeys(named), *ALRNN_DEFAULTS]

    def _losses(self, elements: Tensor, weight: Tensor) -> dict[str, Tensor]:
        """Return the loss of a batch and its parts from the losses of single elements and their weights."""
        total = weight.sum()
        # the loss of a batch with an empty mask is 0, not 0/0
        task_loss = (elements * weight).sum() / torch.where(total > 0, total, 1.0)
        regularization = self.regularization()
        return {"loss": task_loss + regularization, "task_loss": task_loss, "regularization": regularization}

    def _update_losses(self, stage: Split, losses: dict[str, Tensor], weight: Tensor) -> None:
        metrics, total = self._metrics(stage), weight.sum()
        for name, value in losses.items():
            metrics[name].update(value.detach(), total)

    def _log_metrics(self, stage: Split, batch_size: int) -> None:
        """Log the metrics of a stage after an update."""
        # Lightning computes and resets a logged metric at the end of the epoch: one call of 0.2 ms per epoch is enough
        for name, metric in self._metrics(stage).items():
            if metric.update_count == 1:
                shown = name in _PROGRESS_BAR
                self.log(f"{stage}/{name}", metric, on_step=False, on_epoch=True, prog_bar=shown, batch_size=batch_size)

    def _reset_metrics(self, stage: Split) -> None:
        """Reset all metrics of a stage."""
        for name, child in self.named_children():
            if name.startswith(f"{stage}_"):
                for metric in child.modules():
                    if isinstance(metric, Metric) and metric.update_called:
                        metric.reset()

    def _metrics(self, stage: Split) -> dict[str, Metric]:
        return dict(getattr(self, f"{stage}_metrics").items())


class StepCheckpoint(ModelCheckpoint):
    """Writes ``last.ckpt`` every 1,000 steps and on SIGTERM, but not on an error, which may break the weights."""

    # nor after the last step of an epoch: Lightning would resume from there without the validation

    def __init__(self, dirpath: Path | None = None) -> None:
        super().__init__(
            dirpath,
            filename="last",
            enable_version_counter=False,
            every_n_train_steps=_CHECKPOINT_STEPS,
            save_on_exception=True,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        super().setup(trainer, pl_module, stage)
        if trainer.is_global_zero and self.dirpath is not None:
            folder = Path(self.dirpath)
            remove_leftovers(folder, folder.parent, folder.parent / "figures")

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        if not trainer.is_last_batch:
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Do nothing, because Lightning would copy all metrics first."""

    def on_exception(self, trainer: Trainer, pl_module: LightningModule, exception: BaseException) -> None:
        if isinstance(exception, SIGTERMException) and not trainer.is_last_batch:
            super().on_exception(trainer, pl_module, exception)


def absent_callbacks(trainer: Trainer, *kinds: type[Callback]) -> list[Callback]:
    """New callbacks of the kinds that a Trainer does not have, from its user or an earlier call."""
    callbacks: list[Callback] = trainer.callbacks  # type: ignore[attr-defined]
    return [kind() for kind in kinds if not any(isinstance(callback, kind) for callback in callbacks)]


def check_is_batch(batch: object) -> None:
    """Raise ``TypeError`` unless a batch is a :class:`SequenceBatch`."""
    if not isinstance(batch, SequenceBatch):
        advice = "return one from the collate_fn of the DataLoader, or use the Arrays DataModule"
        if isinstance(batch, NeuralBatch):
            advice = "spikes need ALRNNNeural, or use a DataModule without spikes"
        raise TypeError(
            "a batch must be a lightning_alrnn.SequenceBatch(inputs, targets, lengths), "
            f"got {type(batch).__name__}: {advice}"
        )


def _is_lightnings_default(checkpoint: Callback) -> bool:
    """Whether a checkpoint callback has the options of the one that the Trainer adds by default."""
    options = ("state_key", "dirpath", "filename", "save_last", "save_top_k", "save_weights_only", "verbose")
    default = ModelCheckpoint()
    return type(checkpoint) is ModelCheckpoint and all(
        getattr(checkpoint, name) == getattr(default, name) for name in (*options, "auto_insert_metric_name")
    )
