"""The LightningModule for sequence tasks."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from inspect import signature
from pkgutil import resolve_name
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree
from torchmetrics import Metric

from lightning_alrnn.batch import Objective, SequenceBatch, Split, TargetStep, valid_steps
from lightning_alrnn.errors import check_at_least, check_choice, check_tensor
from lightning_alrnn.extensions.checkpoint_classes import find_class
from lightning_alrnn.metrics.constant import ConstantMSE, MaskedMSE
from lightning_alrnn.metrics.criteria import find_criterion
from lightning_alrnn.metrics.mean import WeightedMean
from lightning_alrnn.metrics.trials import TrialAccuracy
from lightning_alrnn.modules.base import SequenceModule, check_is_batch
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.options import ALRNNOptions, Unpack
from lightning_alrnn.nn.readout import LinearReadout

Core: TypeAlias = str | Callable[[int, int], nn.Module] | nn.Module
InputMatrix = Literal["learned", "identity"]

_ALRNN_NAMES = ("ALRNN", "lightning_alrnn.ALRNN", "lightning_alrnn.nn.ALRNN", "lightning_alrnn.nn.alrnn.ALRNN")


class SequencePrediction(NamedTuple):
    """Output of :class:`ALRNNModule` for a batch.

    Attributes:
        outputs: Class scores or values, shape ``(batch, outputs)`` at the last step of each sequence or ``(batch, time,
            outputs)`` at every step.
        states: States z_1 … z_T, shape ``(batch, time, M)``; zero after the end of a sequence.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
        classes: Most likely classes, int64 of the shape of ``outputs`` without its last dimension, or ``None``.
    """

    outputs: Tensor
    states: Tensor
    lengths: Tensor
    classes: Tensor | None


# torch.export.save needs a name for the type
pytree._register_namedtuple(SequencePrediction, serialized_type_name="lightning_alrnn.modules.SequencePrediction")


class ALRNNModule(SequenceModule):
    r"""Encoder, recurrent core and linear readout, trained on a sequence task.

    The loss is the cross-entropy or the mean squared error. With an :class:`ALRNN` as core, the manifold-attractor
    regularisation τ · Σ_{i<M_reg} [(A_ii + W_ii − 1)² + Σ_{j≠i} W_ij² + h_i²] is added. See Brenner & Koppe, TMLR 2026
    (arXiv:2506.07919).

    The module logs ``train/loss``, ``train/task_loss`` and ``train/regularization`` as exact means over an epoch and
    all processes, and the same keys with ``val/`` and ``test/``. Validation and test also log (here with ``val/``):

    - ``val/accuracy``: share of correct predictions (classification), or of correct trials by the ``criterion``
      (regression);
    - ``val/accuracy/<group>``: the same for each of ``group_names``; NaN for a group without a trial;
    - ``val/sequence_accuracy``: share of sequences that are correct at every step (classification at every step);
    - ``val/mse``: mean squared error (regression), and ``val/constant_mse``, the error of the best constant prediction.

    Unless the Trainer has a ``ModelCheckpoint``, the weights of the best epoch (lowest ``val/task_loss``) and of the
    last epoch (``last.ckpt``) are saved.

    Args:
        input_size: Number K of input channels.
        output_size: Number of outputs or classes.
        hidden_size: Number M of units.
        nonlinear_units: Number P of rectified units (0 ≤ P ≤ M), for an ``ALRNN`` core only.
        core: Recurrent layer: "ALRNN", "RNN", "GRU" or "LSTM"; the path of a class such as "torch.nn.GRU"; a callable
            ``core(input_size, hidden_size)``; or a module. It must be batch-first and return ``(states, …)``. Pass
            callables and modules to ``load_from_checkpoint`` again.
        encoder: Module between the inputs and the core, such as :class:`ImageEncoder` or ``torch.nn.Embedding``, with
            its width as attribute ``output_size``, ``out_features`` or ``embedding_dim``. If its ``forward`` takes
            ``lengths``, it gets them. If it changes the number of steps, it needs a method ``output_lengths(lengths)``.
        input_matrix: Input weights C of the ALRNN: "learned", or "identity" to add inputs of width M to the units.
        objective: Kind of task, "classification" or "regression".
        target_step: Steps whose output counts, "last" or "every" (weighted by the mask of the batch).
        criterion: Rule by which the last step of a regression is correct, a name in
            :data:`lightning_alrnn.metrics.CRITERIA`; ``None`` for no accuracy.
        group_names: Names of the groups in ``SequenceBatch.group``; ``None`` for no groups.
        mar_strength: Strength τ of the regularisation; 0 for none.
        mar_units: Number M_reg of the first units that are regularised; ``None`` for M/2.
        optimizer: Function that makes the optimizer from the parameters.
        lr_scheduler: Function that makes the scheduler. It steps once per epoch, on plateaus of ``val/task_loss``.
        **options: Options of an ``ALRNN`` core, see :class:`ALRNN`.

    Raises:
        TypeError: If an option is unknown.
        ValueError: If a size or an option is out of range.

    Example:
        >>> model = ALRNNModule(input_size=2, output_size=1, objective="regression", nonlinear_units=5)
        >>> model(torch.randn(4, 10, 2)).outputs.shape
        torch.Size([4, 1])
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 50,
        nonlinear_units: int = 5,
        core: Core = "ALRNN",
        encoder: nn.Module | None = None,
        input_matrix: InputMatrix = "learned",
        objective: Objective = "classification",
        target_step: TargetStep = "last",
        criterion: str | None = None,
        group_names: list[str] | None = None,
        mar_strength: float = 0.1,
        mar_units: int | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        lr_scheduler: LRSchedulerCallable | None = None,
        **options: Unpack[ALRNNOptions],
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        options = self._complete(options)
        least, name = (2, "output_size (classes)") if objective == "classification" else (1, "output_size")
        check_at_least(least, **{name: output_size})
        check_choice("objective", objective, Objective)
        check_choice("target_step", target_step, TargetStep)
        check_choice("input_matrix", input_matrix, InputMatrix)
        if criterion is not None:
            find_criterion(criterion)
            if objective == "classification":
                raise ValueError(
                    f"criterion={criterion!r} is for regression, got objective='classification': remove criterion, "
                    "because a class is correct or wrong without one"
                )
        self._set_regularization(mar_strength, mar_units, hidden_size)
        self.objective = objective
        self.target_step = target_step
        self.criterion = criterion
        group_names = None if group_names is None else [str(name) for name in group_names]  # plain, for checkpoints
        self.group_names = group_names

        core = _name_of(core)
        self.encoder = encoder
        self._encoder_takes_lengths = encoder is not None and "lengths" in signature(encoder.forward).parameters
        width = input_size if encoder is None else _output_width(encoder)
        if input_matrix == "identity":
            _check_identity(core, encoder, width, hidden_size)
        if core == "ALRNN":
            input_width = None if input_matrix == "identity" else width
            self.core: nn.Module = ALRNN(input_width, hidden_size, nonlinear_units, **options)
        else:
            self.core = build_core(core, width, hidden_size)
        self.readout = LinearReadout(hidden_size, output_size)

        # checkpoints hold plain values only, so that they load with weights_only=True
        self.save_hyperparameters(ignore=["core", "encoder", "optimizer", "lr_scheduler"])
        if isinstance(core, str):
            self.save_hyperparameters({"core": core})
        self._keep_own_hyperparameters()

        self.train_metrics = nn.ModuleDict(self.configure_losses())
        self.val_metrics = nn.ModuleDict(self.configure_losses() | self.configure_metrics(output_size))
        self.test_metrics = nn.ModuleDict(self.configure_losses() | self.configure_metrics(output_size))
        whole_sequences = objective == "classification" and target_step == "every"
        self.val_trials = TrialAccuracy(group_names or (), whole_sequences)
        self.test_trials = TrialAccuracy(group_names or (), whole_sequences)

    def configure_metrics(self, output_size: int) -> dict[str, Metric]:
        """Return the metrics of validation and test in addition to the loss and the accuracies.

        Args:
            output_size: Number of outputs or classes.

        Returns:
            Metrics by key, without the stage. They are updated with the outputs and targets that count.
        """
        if self.objective == "classification":
            return {}
        return {"mse": MaskedMSE(), "constant_mse": ConstantMSE(output_size)}

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> SequencePrediction:
        """Run the network.

        Args:
            inputs: Inputs, shape ``(batch, time, K)``, or the inputs of the encoder.
            lengths: Number of valid steps, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

        Returns:
            Prediction, with the states and lengths after the encoder.
        """
        encoded, lengths = self.encode(inputs, lengths)
        if isinstance(self.core, ALRNN):
            states, last = self.core(encoded, lengths=lengths)
        else:
            states = self.core(encoded)[0]
            if lengths is None:
                last = states[:, -1]
            else:
                last = states[torch.arange(states.shape[0], device=states.device), lengths - 1]
                states = states * valid_steps(lengths, states.shape[1]).unsqueeze(-1)
        outputs = self.read_out(states, last)
        if lengths is None:
            # len() would export a constant
            lengths = torch.full((states.shape[0],), states.shape[1], dtype=torch.int64, device=states.device)
        classes = outputs.argmax(dim=-1) if self.objective == "classification" else None
        return SequencePrediction(outputs, states, lengths, classes)

    def encode(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """Return the inputs of the core and their lengths.

        Args:
            inputs: Inputs, shape ``(batch, time, K)``, or the inputs of the encoder.
            lengths: Number of valid steps, int64 of shape ``(batch,)``; ``None`` if all steps are valid.

        Returns:
            Inputs of the core, shape ``(batch, steps, width)``, and their lengths.

        Raises:
            ValueError: If the encoder changes the number of steps and there is a target at every step, or if it lacks
                ``output_lengths``.
        """
        if self.encoder is None:
            return inputs, lengths
        encoded = self.encoder(inputs, lengths=lengths) if self._encoder_takes_lengths else self.encoder(inputs)
        before, after = inputs.shape[1], encoded.shape[1]
        name = type(self.encoder).__name__
        if before != after and self.target_step == "every":
            raise ValueError(
                f"targets at every step need an encoder that keeps the number of steps, but {name} makes {after} of "
                f"{before} steps: use another encoder, or targets at the last step"
            )
        output_lengths: Callable[[Tensor], Tensor] | None = getattr(self.encoder, "output_lengths", None)
        if lengths is not None and output_lengths is not None:
            lengths = output_lengths(lengths)
        elif lengths is not None and before != after:
            raise ValueError(
                f"encoder {name} makes {after} of {before} steps: add a method output_lengths(lengths) that returns "
                "the number of valid steps"
            )
        return encoded, lengths

    def read_out(self, states: Tensor, last: Tensor) -> Tensor:
        """Compute the outputs from the states at the steps of ``target_step``.

        Args:
            states: States, shape ``(batch, time, M)``.
            last: State at the last step of each sequence, shape ``(batch, M)``.

        Returns:
            Outputs, shape ``(batch, outputs)`` for "last" and ``(batch, time, outputs)`` for "every".
        """
        outputs: Tensor = self.readout(last if self.target_step == "last" else states)
        return outputs

    def task_loss(self, outputs: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """Compute the loss of the task.

        Args:
            outputs: Outputs, shape ``(batch, outputs)`` or ``(batch, time, outputs)``.
            batch: Batch with the targets.

        Returns:
            Loss of each sequence ``(batch,)`` or step ``(batch, time)``, and its weight in the mean, of the same shape.
        """
        mask = batch.mask if self.target_step == "every" else None
        if self.objective == "classification":
            loss = functional.cross_entropy(outputs.flatten(0, -2), batch.targets.flatten(), reduction="none")
            loss = loss.view(outputs.shape[:-1])
        else:
            loss = (outputs - batch.targets).square()
            if mask is not None and mask.ndim == 3:
                # the weighted mean over the outputs of a step, whose weight is the mean of their weights
                total = mask.sum(dim=-1, keepdim=True)
                loss = (loss * mask / torch.where(total > 0, total, 1.0)).sum(dim=-1)
                mask = mask.mean(dim=-1)
            else:
                loss = loss.mean(dim=-1)
        if self.target_step == "last":
            return loss, torch.ones_like(loss)
        weight = valid_steps(batch.lengths, outputs.shape[1]).to(loss.dtype)
        return loss, weight if mask is None else weight * mask

    def count_right(self, outputs: Tensor, batch: SequenceBatch, weight: Tensor) -> tuple[Tensor, Tensor]:
        """Count the correct and all predictions of each sequence: those with a weight, or the last one for a criterion.

        Args:
            outputs: Outputs, shape ``(batch, outputs)`` or ``(batch, time, outputs)``.
            batch: Batch with the targets.
            weight: Weights that :meth:`task_loss` returns, shape ``(batch,)`` or ``(batch, time)``.

        Returns:
            Numbers of correct and of all predictions, two int64 tensors of shape ``(batch,)``.
        """
        if self.criterion is None:
            counted = (weight > 0).view(len(outputs), -1)
            right = (outputs.argmax(dim=-1) == batch.targets).view(len(outputs), -1) & counted
            return right.sum(dim=1), counted.sum(dim=1)
        targets = batch.targets
        if self.target_step == "every":
            last = torch.arange(len(outputs), device=outputs.device), batch.lengths - 1
            outputs, targets = outputs[last], targets[last]
        correct = find_criterion(self.criterion)(outputs, targets).long()
        return correct, torch.ones_like(correct)

    def _epoch_metrics(self, stage: Split) -> list[Metric]:
        return [self._trials(stage)] if self.judges_trials else []

    def _step(self, stage: Split, batch: SequenceBatch) -> dict[str, Tensor]:
        _check_batch(batch, self.objective, self.target_step, self.readout.out_features)
        prediction = self(batch.inputs, batch.lengths)
        elements, weight = self.task_loss(prediction.outputs, batch)
        losses = self._losses(elements, weight)
        self._log(stage, batch, prediction, losses, weight)
        return self.step_output(batch, prediction, losses["loss"])

    def step_output(self, batch: SequenceBatch, prediction: SequencePrediction, loss: Tensor) -> dict[str, Tensor]:
        """Return the output of a step.

        Args:
            batch: Batch of the step.
            prediction: Prediction for the batch.
            loss: Loss of the batch, a scalar.

        Returns:
            Loss, states, lengths, and groups and classes if there are any, by name.
        """
        output = {"loss": loss, "states": prediction.states.detach(), "lengths": prediction.lengths}
        if batch.group is not None:
            output["group"] = batch.group
        if self.objective == "classification" and self.target_step == "last":
            output["targets"] = batch.targets
        return output

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # Lightning inspects the hook, which a graph cannot
    def _log(
        self,
        stage: Split,
        batch: SequenceBatch,
        prediction: SequencePrediction,
        losses: dict[str, Tensor],
        weight: Tensor,
    ) -> None:
        self._update_losses(stage, losses, weight)
        if stage != "train":
            self.update_scores(stage, batch, prediction, weight)
        self._log_metrics(stage, len(batch.inputs))

    @torch.no_grad()
    def update_scores(self, stage: Split, batch: SequenceBatch, prediction: SequencePrediction, weight: Tensor) -> None:
        """Update the metrics of a stage, except the losses, with a batch.

        Args:
            stage: Name of the stage, "val" or "test".
            batch: Batch of the step.
            prediction: Prediction for the batch.
            weight: Weights that :meth:`task_loss` returns, shape ``(batch,)`` or ``(batch, time)``.
        """
        outputs, targets, counted = prediction.outputs, batch.targets, weight > 0
        for metric in self._scores(stage).values():
            if isinstance(metric, (MaskedMSE, ConstantMSE)):
                metric.update(outputs, targets, counted)
            elif self.target_step == "every":
                metric.update(outputs[counted], targets[counted])
            else:
                metric.update(outputs, targets)
        if self.judges_trials:
            self._trials(stage).update(*self.count_right(prediction.outputs, batch, weight), batch.group)

    def read_scores(self, stage: Split) -> dict[str, Tensor]:
        """Compute the metrics of a stage, except the losses, and reset them.

        Args:
            stage: Name of the stage, "val" or "test".

        Returns:
            Scalars by key, without the stage.
        """
        values = {name: metric.compute() for name, metric in self._scores(stage).items()}
        if self.judges_trials:
            values = self._trials(stage).compute() | values
        self._reset_metrics(stage)
        return values

    def _scores(self, stage: Split) -> dict[str, Metric]:
        return {name: metric for name, metric in self._metrics(stage).items() if not isinstance(metric, WeightedMean)}

    @property
    def judges_trials(self) -> bool:
        """Whether predictions are counted as correct or wrong, see :meth:`count_right`."""
        return self.objective == "classification" or self.criterion is not None

    def _trials(self, stage: Split) -> TrialAccuracy:
        return self.val_trials if stage == "val" else self.test_trials


def build_core(core: Core, input_size: int, hidden_size: int) -> nn.Module:
    """Make a recurrent layer from a name, the path of a class, a callable or a module."""
    if isinstance(core, nn.Module):
        if isinstance(core, nn.RNNBase) and not core.batch_first:
            raise ValueError(f"core must be batch-first, got {core}: build it with batch_first=True")
        return core
    factory: Any = find_core(core) if isinstance(core, str) else core
    if isinstance(factory, type) and issubclass(factory, nn.RNNBase):
        return factory(input_size, hidden_size, batch_first=True)  # type: ignore[call-arg,arg-type]
    built = factory(input_size, hidden_size) if callable(factory) else factory
    if not isinstance(built, nn.Module):
        raise TypeError(f"core(input_size, hidden_size) must return a torch.nn.Module, got {built!r}")
    return built


def find_core(name: str) -> type[nn.Module]:
    """Return the class of layers with a name or a path; its module is imported if it is not."""
    found: Any = find_class(name if "." in name else f"torch.nn.{name}")
    if found is None and "." in name:
        with suppress(ImportError, AttributeError, ValueError):
            found = resolve_name(name)
    if not (isinstance(found, type) and issubclass(found, nn.Module)):
        raise ValueError(
            "core must be 'ALRNN', 'RNN', 'GRU', 'LSTM' or the path of a subclass of torch.nn.Module such as "
            f"'torch.nn.GRU', got {name!r}"
        )
    return found


def _name_of(core: Core) -> Core:
    """Return the path of a class that can be imported by it, "ALRNN" for that class, and other cores as they are."""
    if isinstance(core, type) and "<locals>" not in core.__qualname__:
        core = f"{core.__module__}.{core.__qualname__}"
    if isinstance(core, str) and core in _ALRNN_NAMES:
        return "ALRNN"
    return core


def _output_width(encoder: nn.Module) -> int:
    for name in ("output_size", "out_features", "embedding_dim"):
        width = getattr(encoder, name, None)
        if isinstance(width, int):
            return width
    raise ValueError(
        f"encoder must have an attribute output_size (its width), but {type(encoder).__name__} has none: "
        "set encoder.output_size"
    )


def _check_identity(core: object, encoder: nn.Module | None, width: int, hidden_size: int) -> None:
    """Raise ``ValueError`` unless the inputs of the core can be added to its units directly."""
    if core != "ALRNN":
        raise ValueError(
            f"input_matrix='identity' is for core='ALRNN', got core={core!r}, which has its own input weights: set "
            "input_matrix='learned'"
        )
    if width != hidden_size:
        source = "input_size" if encoder is None else f"output_size of {type(encoder).__name__}"
        raise ValueError(
            f"input_matrix='identity' adds one channel to each unit, so {source} must be hidden_size "
            f"(M={hidden_size}), got {width}: make them equal, or set input_matrix='learned'"
        )


def _check_batch(batch: SequenceBatch, objective: str, target_step: str, outputs: int) -> None:
    check_is_batch(batch)
    kind, shape = "int64 classes", tuple(batch.inputs.shape[: 1 if target_step == "last" else 2])
    if objective == "regression":
        kind, shape = "float values", (*shape, outputs)
    name = f"targets for {objective} at {target_step} step"
    check_tensor(name, batch.targets, kind, shape, objective == "regression")
