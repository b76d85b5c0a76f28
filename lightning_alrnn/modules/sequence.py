"""The LightningModule for sequence tasks."""

from __future__ import annotations

import importlib
from collections.abc import Callable
from inspect import signature
from typing import Any, Literal, NamedTuple, get_args

import torch
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional
from torchmetrics import Metric

from lightning_alrnn.batch import Objective, SequenceBatch, Split, TargetStep, valid_steps
from lightning_alrnn.metrics.constant import ConstantMSE, MaskedMSE
from lightning_alrnn.metrics.criteria import find_criterion
from lightning_alrnn.metrics.mean import WeightedMean
from lightning_alrnn.metrics.trials import TrialAccuracy
from lightning_alrnn.modules.base import SequenceModule, check_is_batch, check_regularization
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.options import ALRNNOptions, Unpack
from lightning_alrnn.nn.readout import LinearReadout
from lightning_alrnn.nn.regularization import manifold_attractor_penalty

InputMatrix = Literal["learned", "identity"]


_ALRNN_NAMES = ("ALRNN", "lightning_alrnn.ALRNN", "lightning_alrnn.nn.ALRNN", "lightning_alrnn.nn.alrnn.ALRNN")


class SequencePrediction(NamedTuple):
    """What the network makes of a batch.

    Attributes:
        outputs: Readout (class scores or values), shape ``(batch, outputs)`` at each sequence's last step or
            ``(batch, time, outputs)`` at every step.
        states: z_1 … z_T, shape ``(batch, time, M)``; zero past a sequence's length.
        lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``.
        classes: The most likely class, int64 of the shape of ``outputs`` without its last dimension; ``None`` under
            regression.
    """

    outputs: Tensor
    states: Tensor
    lengths: Tensor
    classes: Tensor | None


class ALRNNModule(SequenceModule):
    r"""Encoder → recurrent core → linear readout, trained on a sequence task.

    The loss is the task's own, cross-entropy or mean squared error, plus the manifold-attractor regularisation (MAR)
    τ · Σ_{i<M_reg} [(A_ii + W_ii − 1)² + Σ_{j≠i} W_ij² + h_i²] where the core is an :class:`ALRNN`.

    Logged, each as the exact mean over an epoch and all processes: ``train/loss``, ``train/task_loss`` and
    ``train/regularization``, the same under ``val/`` and ``test/``; further, in validation and test (here ``val/``):

    - ``val/accuracy``: share of right predictions under classification; under regression with a ``criterion``, share of
      correct trials. It is the mean over trials, which is the mean over groups where these are of equal size;
    - ``val/accuracy/<group>``: the same for each of ``group_names``; NaN for a group without a trial;
    - ``val/sequence_accuracy``: share of sequences with every counted step right, under classification at every step;
    - ``val/mse``: mean squared error, under regression, and ``val/constant_mse``, that of the best constant prediction.

    For callbacks, a step returns a dict with ``"loss"``, ``"states"`` and ``"lengths"``, with groups ``"group"``, and
    under classification at the last step ``"targets"``, the classes.

    Without a ``ModelCheckpoint`` of your own, the weights of the best epoch (lowest ``val/task_loss``) and those of the
    last one (``last.ckpt``) are kept.

    Args:
        input_size: Number K of input channels.
        output_size: Number of outputs, or of classes.
        hidden_size: Number M of units.
        nonlinear_units: P, how many of them are rectified (0 ≤ P ≤ M); an ``ALRNN`` core alone has it.
        core: "ALRNN"; "RNN", "GRU" or "LSTM" for torch's layers; the path of a class such as "torch.nn.GRU"; or a
            callable ``core(input_size, hidden_size)``; or a module. It must be batch-first and return ``(states, …)``.
            A checkpoint keeps names and classes; any other callable or a module is given to ``load_from_checkpoint``
            again.
        encoder: Module between the inputs and the core, such as :class:`ImageEncoder` or ``torch.nn.Embedding``; its
            width is taken from its ``output_size``, ``out_features`` or ``embedding_dim``. If its ``forward`` takes
            ``lengths`` it is given them, to keep padded steps out of valid ones. One that changes the number of steps
            has a method ``output_lengths(lengths)``.
        input_matrix: C of the ALRNN: "learned", or "identity", which adds what comes out of the encoder to the units
            directly, one channel a unit; its width is then M. Other cores have input weights of their own.
        objective: "classification" or "regression".
        target_step: "last" (the output counts at each sequence's own last step) or "every" step, weighted by the
            batch's mask.
        criterion: Name of the rule by which a regression trial counts as correct, judged at each sequence's own last
            step: one of :data:`lightning_alrnn.metrics.CRITERIA`; ``None`` for no accuracy under regression.
        group_names: Names of the groups in ``SequenceBatch.group``, for their accuracies; ``None`` for none.
        mar_strength: τ, the strength of the regularisation; 0 for none.
        mar_units: M_reg, how many of the first units it acts on; ``None`` for M/2.
        optimizer: Called with the parameters.
        lr_scheduler: Called with the optimizer, once an epoch; a ``ReduceLROnPlateau`` watches ``val/task_loss``.
        **options: Those of an ``ALRNN`` core, see :class:`ALRNN`.

    Raises:
        TypeError: If there is no option of a name.
        ValueError: If a size or an option is out of range.

    Example:
        >>> model = ALRNNModule(input_size=2, output_size=1, objective="regression", nonlinear_units=5)
        >>> model(torch.randn(4, 10, 2)).outputs.shape
        torch.Size([4, 1])

    Reference:
        Brenner & Koppe, TMLR 2026 (arXiv:2506.07919).
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        hidden_size: int = 50,
        nonlinear_units: int = 5,
        core: str | Callable[[int, int], nn.Module] | nn.Module = "ALRNN",
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
        if output_size < (2 if objective == "classification" else 1):
            raise ValueError(
                f"output_size must be at least {'2 (classes)' if objective == 'classification' else 1}, "
                f"got {output_size}"
            )
        for name, value, choices in (
            ("objective", objective, Objective),
            ("target_step", target_step, TargetStep),
            ("input_matrix", input_matrix, InputMatrix),
        ):
            if value not in get_args(choices):
                raise ValueError(f"{name} must be one of {', '.join(map(repr, get_args(choices)))}, got {value!r}")
        if criterion is not None:
            find_criterion(criterion)
            if objective == "classification":
                raise ValueError(
                    f"criterion={criterion!r} is for regression, got objective='classification': leave it out, as "
                    "classes are right or wrong without one"
                )
        check_regularization(mar_strength, mar_units, hidden_size)

        self.objective = objective
        self.target_step = target_step
        self.criterion = criterion
        group_names = None if group_names is None else [str(name) for name in group_names]  # plain, for checkpoints
        self.group_names = group_names
        self.mar_strength = mar_strength
        self.mar_units = hidden_size // 2 if mar_units is None else mar_units

        core = _name_of(core)
        self.encoder = encoder
        self._encoder_takes_lengths = encoder is not None and "lengths" in signature(encoder.forward).parameters
        width = input_size if encoder is None else _output_width(encoder)
        if input_matrix == "identity":
            _check_identity(core, encoder, width, hidden_size)
        if core == "ALRNN":
            self.core: nn.Module = ALRNN(
                None if input_matrix == "identity" else width,
                hidden_size,
                nonlinear_units,
                **options,
            )
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
        """Metrics of validation and test beyond the loss and the accuracies.

        Args:
            output_size: Number of outputs or classes.

        Returns:
            Metrics by key, without the stage. They are updated with the outputs and targets that count; those of your
            own wait for the device where there is a target at every step.
        """
        if self.objective == "classification":
            return {}
        return {"mse": MaskedMSE(), "constant_mse": ConstantMSE(output_size)}

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> SequencePrediction:
        """Run the network.

        Args:
            inputs: Tensor of shape ``(batch, time, K)``, or what the encoder takes.
            lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are
                valid.

        Returns:
            States and lengths are those after the encoder, which may have fewer steps.

        Raises:
            ValueError: If the encoder changes the number of steps and there is a target at every one of them, or it
                does not say what becomes of the lengths.
        """
        encoded, lengths = self.encode(inputs, lengths)
        if isinstance(self.core, ALRNN):
            states, last = self.core(encoded, lengths=lengths)
        else:
            states = self.core(encoded)[0]
            if lengths is None:
                last = states[:, -1]
            else:
                last = states[torch.arange(len(states), device=states.device), lengths - 1]
                states = states * valid_steps(lengths, states.shape[1]).unsqueeze(-1)
        outputs = self.read_out(states, last)
        if lengths is None:
            lengths = torch.full((len(states),), states.shape[1], dtype=torch.int64, device=states.device)
        classes = outputs.argmax(dim=-1) if self.objective == "classification" else None
        return SequencePrediction(outputs, states, lengths, classes)

    def encode(self, inputs: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """What the core takes, and the lengths that it has.

        Args:
            inputs: Tensor of shape ``(batch, time, K)``, or what the encoder takes.
            lengths: Number of valid steps of each sequence, int64 of shape ``(batch,)``; ``None`` if all steps are
                valid.

        Returns:
            Tensor of shape ``(batch, steps, width)``, and lengths within it; the inputs themselves where there is no
            encoder.

        Raises:
            ValueError: As :meth:`forward`.
        """
        if self.encoder is None:
            return inputs, lengths
        encoded = self.encoder(inputs, lengths=lengths) if self._encoder_takes_lengths else self.encoder(inputs)
        before, after = inputs.shape[1], encoded.shape[1]
        name = type(self.encoder).__name__
        if before != after and self.target_step == "every":
            raise ValueError(
                f"targets at every step need an encoder that keeps the number of steps, but {name} makes {after} of "
                f"{before}: use another encoder, or targets at the last step"
            )
        output_lengths: Callable[[Tensor], Tensor] | None = getattr(self.encoder, "output_lengths", None)
        if lengths is not None and output_lengths is not None:
            lengths = output_lengths(lengths)
        elif lengths is not None and before != after:
            raise ValueError(
                f"encoder {name} makes {after} steps of {before}: give it a method output_lengths(lengths) that says "
                "how many of them are valid"
            )
        return encoded, lengths

    def read_out(self, states: Tensor, last: Tensor) -> Tensor:
        """The outputs, from the states that ``target_step`` names.

        Args:
            states: z_1 … z_T, shape ``(batch, time, M)``.
            last: The state at each sequence's own last step, shape ``(batch, M)``.

        Returns:
            Tensor of shape ``(batch, outputs)`` under "last", ``(batch, time, outputs)`` under "every".
        """
        outputs: Tensor = self.readout(last if self.target_step == "last" else states)
        return outputs

    def task_loss(self, outputs: Tensor, batch: SequenceBatch) -> tuple[Tensor, Tensor]:
        """The task's own loss.

        Args:
            outputs: Readout, ``(batch, outputs)`` or ``(batch, time, outputs)``.
            batch: The batch.

        Returns:
            The loss of each sequence ``(batch,)`` or step ``(batch, time)``, and its weight in the mean, of the same
            shape. Where the outputs have weights of their own, a step's loss is their weighted mean and its weight
            the mean of theirs.
        """
        mask = batch.mask if self.target_step == "every" else None
        if self.objective == "classification":
            loss = functional.cross_entropy(outputs.flatten(0, -2), batch.targets.flatten(), reduction="none")
            loss = loss.view(outputs.shape[:-1])
        else:
            loss = (outputs - batch.targets).square()
            if mask is not None and mask.ndim == 3:
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
        """How many predictions of each sequence are right, and how many count.

        Under classification these are the steps with a weight, under regression it is the last step by the criterion.

        Args:
            outputs: Readout, ``(batch, outputs)`` or ``(batch, time, outputs)``.
            batch: The batch.
            weight: As :meth:`task_loss` returns it, ``(batch,)`` or ``(batch, time)``.

        Returns:
            Two int64 tensors of shape ``(batch,)``.
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

    def regularization(self) -> Tensor:
        """τ times the manifold-attractor penalty, a scalar; 0 for a core that is no ALRNN."""
        if isinstance(self.core, ALRNN) and self.mar_strength > 0:
            return self.mar_strength * manifold_attractor_penalty(self.core, self.mar_units)
        return torch.zeros((), device=self.device)

    def predict_step(self, batch: SequenceBatch, batch_idx: int) -> SequencePrediction:
        return self(batch.inputs, batch.lengths)  # type: ignore[no-any-return]

    def on_validation_epoch_end(self) -> None:
        self._log_trials("val")
        super().on_validation_epoch_end()

    def on_test_epoch_end(self) -> None:
        self._log_trials("test")

    def _step(self, stage: Split, batch: SequenceBatch) -> dict[str, Tensor]:
        _check_batch(batch, self.objective, self.target_step, self.readout.out_features)
        prediction = self(batch.inputs, batch.lengths)
        elements, weight = self.task_loss(prediction.outputs, batch)
        losses = self._losses(stage, elements, weight)
        self._log(stage, batch, prediction, losses, weight)
        return self.step_output(batch, prediction, losses["loss"])

    def step_output(self, batch: SequenceBatch, prediction: SequencePrediction, loss: Tensor) -> dict[str, Tensor]:
        """What a step returns.

        Args:
            batch: The batch.
            prediction: What the network makes of it.
            loss: Of the batch, a scalar.

        Returns:
            The loss and what callbacks look at, by name.
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
        metrics, total = self._metrics(stage), weight.sum()
        for name, value in losses.items():
            metrics[name].update(value.detach(), total)
        if stage != "train":
            self.update_scores(stage, batch, prediction, weight)
        self._log_metrics(stage, len(batch.inputs))

    @torch.no_grad()
    def update_scores(self, stage: Split, batch: SequenceBatch, prediction: SequencePrediction, weight: Tensor) -> None:
        """Add a batch to the metrics of a stage beyond the losses.

        Args:
            stage: "val" or "test".
            batch: The batch.
            prediction: What the network makes of it.
            weight: As :meth:`task_loss` returns it, ``(batch,)`` or ``(batch, time)``.
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
        """The metrics of a stage beyond the losses over the batches that were added, which are forgotten.

        Args:
            stage: "val" or "test".

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
        """Whether predictions are right or wrong, see :meth:`count_right`."""
        return self.objective == "classification" or self.criterion is not None

    def _log_trials(self, stage: Split) -> None:
        if not self.judges_trials:
            return
        accuracy = self._trials(stage)
        for name, value in accuracy.compute().items():
            if name not in self._metrics(stage):  # a subclass may have a metric of that name
                # equal on all processes already; sync_dist makes the keys known to every one of them
                self.log(f"{stage}/{name}", value, prog_bar=name == "accuracy", sync_dist=True)
        accuracy.reset()

    def _trials(self, stage: Split) -> TrialAccuracy:
        return self.val_trials if stage == "val" else self.test_trials


def build_core(core: str | Callable[[int, int], nn.Module] | nn.Module, input_size: int, hidden_size: int) -> nn.Module:
    """A recurrent layer other than the ALRNN, from its name or from a callable.

    Args:
        core: "RNN", "GRU", "LSTM", the path of a class, a callable ``core(input_size, hidden_size)``, or a module.
        input_size: number of input channels.
        hidden_size: number of units.

    Returns:
        The layer; a module that is given is returned as it is.

    Raises:
        ValueError: if the name cannot be found, or a module of torch's is not batch-first.
        TypeError: if ``core`` does not give a module.
    """
    if isinstance(core, nn.Module):
        if isinstance(core, nn.RNNBase) and not core.batch_first:
            raise ValueError(f"core must be batch-first, got {core}: build it with batch_first=True")
        return core
    factory: Any = core
    if isinstance(core, str):
        path, _, name = core.rpartition(".")
        try:
            factory = getattr(importlib.import_module(path or "torch.nn"), name)
        except (ImportError, AttributeError) as error:
            raise ValueError(
                "core must be 'ALRNN', 'RNN', 'GRU', 'LSTM' or the path of a class such as 'torch.nn.GRU', "
                f"got {core!r}"
            ) from error
    if isinstance(factory, type) and issubclass(factory, nn.RNNBase):
        return factory(input_size, hidden_size, batch_first=True)  # type: ignore[call-arg,arg-type]
    built = factory(input_size, hidden_size) if callable(factory) else factory
    if not isinstance(built, nn.Module):
        raise TypeError(f"core must give a torch.nn.Module when called with (input_size, hidden_size), got {built!r}")
    return built


def _name_of(
    core: str | Callable[[int, int], nn.Module] | nn.Module,
) -> str | Callable[[int, int], nn.Module] | nn.Module:
    """The name of a core that has one by which it can be found again."""
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
        f"encoder must have an attribute output_size (its width), {type(encoder).__name__} has none: "
        "set encoder.output_size"
    )


def _check_identity(core: object, encoder: nn.Module | None, width: int, hidden_size: int) -> None:
    """Raise ``ValueError`` unless the inputs of the core can be added to its units as they are."""
    if core != "ALRNN":
        raise ValueError(
            f"input_matrix='identity' is for core='ALRNN', got core={core!r}, which has input weights of its own: set "
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
    shape: tuple[int, ...] = tuple(batch.inputs.shape[: 1 if target_step == "last" else 2])
    integers = not batch.targets.is_floating_point()
    if objective == "regression":
        shape = (*shape, outputs)
    if tuple(batch.targets.shape) != shape or integers != (objective == "classification"):
        kind = "int64 classes" if objective == "classification" else "float values"
        raise ValueError(
            f"targets for {objective} at {target_step} step must be {kind} of shape {shape}, "
            f"got {batch.targets.dtype} of shape {tuple(batch.targets.shape)}"
        )
