"""The LightningModule for spike trains with choices."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, NamedTuple, TypeAlias

import torch
from pytorch_lightning import Callback
from pytorch_lightning.cli import LRSchedulerCallable, OptimizerCallable
from torch import Tensor, nn
from torch.nn import functional
from torch.utils import _pytree as pytree
from torchmetrics import Metric

from lightning_alrnn.batch import NeuralBatch, Split, valid_steps
from lightning_alrnn.callbacks.neural_fit import NeuralFit
from lightning_alrnn.errors import check_at_least, check_choice, check_not_negative, check_tensor
from lightning_alrnn.metrics.mean import WeightedMean, WeightedSum
from lightning_alrnn.metrics.neural import SpikeAgreement
from lightning_alrnn.metrics.trials import TrialAccuracy
from lightning_alrnn.modules.base import SequenceModule, absent_callbacks
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.encoders import SpikeEncoder
from lightning_alrnn.nn.forcing import generalized_teacher_forcing
from lightning_alrnn.nn.observation import (
    GeneralizedPoissonObservation,
    NegativeBinomialObservation,
    Observation,
    PoissonObservation,
)
from lightning_alrnn.nn.options import ALRNNOptions, Unpack
from lightning_alrnn.nn.readout import LinearReadout

ObservationName = Literal["poisson", "negative_binomial", "generalized_poisson"]
"""Distribution of the spike counts around their mean."""

_OBSERVATIONS: dict[str, type[Observation]] = {
    "poisson": PoissonObservation,
    "negative_binomial": NegativeBinomialObservation,
    "generalized_poisson": GeneralizedPoissonObservation,
}
_TERMS = ("prediction", "encoder", "consistency", "choice")
_FREE_TERMS = ("prediction", "choice")
Terms: TypeAlias = dict[str, tuple[Tensor, Tensor]]
"""Terms of the loss by name, each with its weight in the mean."""


class NeuralPrediction(NamedTuple):
    """Output of a freely running :class:`ALRNNNeural` for a batch.

    Attributes:
        outputs: Scores of the choices at the last bin of each trial, shape ``(batch, choices)``.
        classes: Most likely choice, int64 of shape ``(batch,)``.
        rates: Mean spike counts per bin, shape ``(batch, time, N)``; zero after the end of a trial.
        states: States z_1 … z_T, shape ``(batch, time, M)``; zero after the end of a trial.
        lengths: Number of valid bins of each trial, int64 of shape ``(batch,)``.
    """

    outputs: Tensor
    classes: Tensor
    rates: Tensor
    states: Tensor
    lengths: Tensor


# torch.export.save needs a name for the type
pytree._register_namedtuple(NeuralPrediction, serialized_type_name="lightning_alrnn.modules.NeuralPrediction")


class ALRNNNeural(SequenceModule):
    r"""AL-RNN that models the spikes and the choices of recorded trials, driven by the inputs of the task.

    An encoder maps the recorded spikes to states ẑ. In training, the states z of the network are moved towards them
    (:func:`generalized_teacher_forcing`). The loss is

    .. math:: 0.15\, L_{prediction} + 0.15\, L_{encoder} + 10^{-5} L_{consistency} + 6\, L_{choice}

    - prediction: mean of −log p(spikes | z) over valid bins, summed over units, in nats per bin;
    - encoder: the same for ẑ instead of z;
    - consistency: mean of ‖z − ẑ‖² over valid bins;
    - choice: cross-entropy of the choice, read from z at the last bin of each trial.

    The manifold-attractor regularisation is added (see :class:`ALRNNModule`). In validation, test and prediction, the
    network runs freely and sees no spikes, except for ``accuracy_forced``; the loss is then 0.15 prediction + 6 choice.
    See Brenner & Koppe, TMLR 2026 (arXiv:2506.07919).

    The module logs ``train/loss``, ``train/task_loss``, ``train/regularization``, the four terms ``train/prediction``,
    ``train/encoder``, ``train/consistency`` and ``train/choice``, and ``train/alpha``. Validation and test log (here
    with ``val/``):

    - ``val/loss``, ``val/task_loss``, ``val/regularization``, ``val/prediction``, ``val/choice``;
    - ``val/accuracy``: share of correct choices, and ``val/accuracy/<group>`` for each of ``group_names``; NaN for a
      group without a trial;
    - ``val/accuracy_forced``: share of correct choices with teacher forcing;
    - ``val/rate_correlation``, ``val/tuning_correlation`` (with groups), ``val/cv_correlation``,
      ``val/fano_correlation``: Pearson's r between data and model, see :class:`SpikeAgreement`.

    The module adds the callback :class:`NeuralFit`, unless the Trainer has one.

    Args:
        input_size: Number K of input channels.
        output_size: Number of choices.
        num_units: Number N of recorded units.
        hidden_size: Number M of units of the network, at least 2.
        nonlinear_units: Number P of rectified units (0 ≤ P ≤ M).
        observation: Distribution of the spike counts, "poisson", "negative_binomial" or "generalized_poisson".
        alpha: Strength α of teacher forcing, from 0 (none) to 1.
        alpha_end: Value of α at the end of the annealing; ``None`` keeps α constant.
        alpha_epochs: Number of epochs in which α changes linearly from ``alpha`` to ``alpha_end``.
        interval: Number of bins from one forced state to the next.
        prediction_weight: Weight of the prediction term.
        encoder_weight: Weight of the encoder term.
        consistency_weight: Weight of the consistency term.
        choice_weight: Weight of the choice term.
        mar_strength: Strength τ of the regularisation; 0 for none.
        mar_units: Number M_reg of the first units that are regularised; ``None`` for M/2.
        group_names: Names of the conditions in ``NeuralBatch.group``; ``None`` for no conditions.
        optimizer: Function that makes the optimizer from the parameters.
        encoder_lr: Learning rate of all parameters but those of the ALRNN; ``None`` for that of the ``optimizer``.
        lr_scheduler: Function that makes the scheduler. It steps once per epoch, on plateaus of ``val/task_loss``.
        **options: Options of the :class:`ALRNN`.

    Raises:
        TypeError: If an option is unknown.
        ValueError: If a size or an option is out of range.

    Example:
        >>> model = ALRNNNeural(input_size=8, output_size=2, num_units=29)
        >>> model(torch.randn(4, 40, 8)).rates.shape
        torch.Size([4, 40, 29])
    """

    def __init__(
        self,
        input_size: int,
        output_size: int,
        num_units: int,
        hidden_size: int = 6,
        nonlinear_units: int = 1,
        observation: ObservationName = "poisson",
        alpha: float = 0.5,
        alpha_end: float | None = None,
        alpha_epochs: int | None = None,
        interval: int = 1,
        prediction_weight: float = 0.15,
        encoder_weight: float = 0.15,
        consistency_weight: float = 1e-5,
        choice_weight: float = 6.0,
        mar_strength: float = 0.0,
        mar_units: int | None = None,
        group_names: list[str] | None = None,
        optimizer: OptimizerCallable = torch.optim.Adam,
        encoder_lr: float | None = None,
        lr_scheduler: LRSchedulerCallable | None = None,
        **options: Unpack[ALRNNOptions],
    ) -> None:
        super().__init__(optimizer, lr_scheduler)
        options = self._complete(options)
        check_at_least(2, **{"output_size (choices)": output_size})
        check_choice("observation", observation, ObservationName)
        for name, value in (("alpha", alpha), ("alpha_end", alpha if alpha_end is None else alpha_end)):
            if not 0 <= value <= 1:
                raise ValueError(f"{name} must lie between 0 (free running) and 1, got {value}")
        if (alpha_end is None) != (alpha_epochs is None) or (alpha_epochs is not None and alpha_epochs < 1):
            raise ValueError(
                "annealing needs both alpha_end and alpha_epochs (at least 1), and a constant alpha needs neither; "
                f"got alpha_end={alpha_end}, alpha_epochs={alpha_epochs}"
            )
        check_at_least(1, interval=interval)
        weights = {
            "prediction": prediction_weight,
            "encoder": encoder_weight,
            "consistency": consistency_weight,
            "choice": choice_weight,
        }
        check_not_negative(**{f"{name}_weight": weight for name, weight in weights.items()})
        if encoder_lr is not None:
            check_not_negative(encoder_lr=encoder_lr)
        self._set_regularization(mar_strength, mar_units, hidden_size)
        self.weights = weights
        self.alpha = alpha
        self.alpha_end = alpha if alpha_end is None else alpha_end
        self.alpha_epochs = 1 if alpha_epochs is None else alpha_epochs
        self.interval = interval
        self.group_names = group_names
        self.encoder_lr = encoder_lr

        self.core = ALRNN(input_size, hidden_size, nonlinear_units, **options)
        self.encoder = SpikeEncoder(num_units, hidden_size)
        self.observation = _OBSERVATIONS[observation](hidden_size, num_units)
        self.readout = LinearReadout(hidden_size, output_size)

        # checkpoints hold plain values only, so that they load with weights_only=True
        self.save_hyperparameters(ignore=["optimizer", "lr_scheduler"])
        self._keep_own_hyperparameters()

        names = group_names or []
        self.train_metrics = nn.ModuleDict(self.configure_losses())
        for stage in ("val", "test"):
            metrics = self.configure_losses(_FREE_TERMS) | self.configure_metrics()
            self.add_module(f"{stage}_metrics", nn.ModuleDict(metrics))
            self.add_module(f"{stage}_trials", TrialAccuracy(names))
            self.add_module(f"{stage}_spikes", SpikeAgreement(num_units, len(names)))

    def configure_losses(self, terms: Sequence[str] = _TERMS) -> dict[str, Metric]:
        """Return the metrics of the loss and its parts.

        Args:
            terms: Names of the terms of the loss.

        Returns:
            Metrics by key.
        """
        weights = [self.weights[term] for term in terms]
        return {
            "loss": WeightedSum([*weights, 1.0]),
            "task_loss": WeightedSum(weights),
            "regularization": WeightedMean(),
            **{term: WeightedMean() for term in terms},
        }

    def configure_metrics(self) -> dict[str, Metric]:
        """Return the metrics of validation and test by name, except losses and metrics over trials and spikes."""
        return {"accuracy_forced": WeightedMean()}

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the callbacks of :class:`SequenceModule` and :class:`NeuralFit`."""
        return [*super().configure_callbacks(), *absent_callbacks(self.trainer, NeuralFit)]

    def parameter_groups(self) -> list[dict[str, Any]]:
        """Return the parameters of the AL-RNN, and all other parameters with ``encoder_lr``."""
        core = set(self.core.parameters())
        rest: dict[str, Any] = {"params": [parameter for parameter in self.parameters() if parameter not in core]}
        if self.encoder_lr is not None:
            rest["lr"] = self.encoder_lr
        return [{"params": list(self.core.parameters())}, rest]

    def forward(self, inputs: Tensor, lengths: Tensor | None = None) -> NeuralPrediction:
        """Run the network freely.

        Args:
            inputs: Inputs, shape ``(batch, time, K)``.
            lengths: Number of valid bins of each trial, int64 of shape ``(batch,)``; ``None`` if all bins are valid.
        """
        states, last = self.core(inputs, lengths=lengths)
        outputs = self.readout(last)
        if lengths is None:
            lengths = torch.full((states.shape[0],), states.shape[1], dtype=torch.int64, device=states.device)
        valid = valid_steps(lengths, states.shape[1]).unsqueeze(-1)
        rates = torch.where(valid, self.observation.mean(states), 0.0)
        return NeuralPrediction(outputs, outputs.argmax(dim=-1), rates, states, lengths)

    def alpha_at(self, epoch: int) -> float:
        """Return the strength of teacher forcing in an epoch.

        Args:
            epoch: Number of the epoch, from 0.

        Returns:
            Strength α.
        """
        return self.alpha + (self.alpha_end - self.alpha) * min(epoch / self.alpha_epochs, 1.0)

    def on_train_epoch_start(self) -> None:
        self.log("train/alpha", self.alpha_at(self.current_epoch), sync_dist=True)

    def _epoch_metrics(self, stage: Split) -> list[Metric]:
        return [getattr(self, f"{stage}_trials"), getattr(self, f"{stage}_spikes")]

    def _step(self, stage: Split, batch: NeuralBatch) -> dict[str, Any]:
        _check_batch(batch, self.observation.readout.out_features)
        terms, states = self._forced_terms(batch) if stage == "train" else self._free_terms(stage, batch)
        regularization = self.regularization()
        loss = sum((self.weights[name] * value for name, (value, _) in terms.items()), start=regularization)
        self._log(stage, batch, terms, regularization)
        group = {} if batch.group is None else {"group": batch.group}
        return {"loss": loss, "states": states.detach(), "lengths": batch.lengths, "targets": batch.targets, **group}

    def _forced_terms(self, batch: NeuralBatch) -> tuple[Terms, Tensor]:
        """Return the terms of the loss in training and the states."""
        encoded, states, last = self._forced(batch, self.alpha_at(self.current_epoch))
        bins = valid_steps(batch.lengths, states.shape[1])
        trials = torch.full((), float(len(last)), device=last.device)
        terms = {
            "prediction": _mean(-self.observation.log_prob(batch.spikes, states), bins),
            "encoder": _mean(-self.observation.log_prob(batch.spikes, encoded), bins),
            "consistency": _mean((states - encoded).square(), bins),
            "choice": (functional.cross_entropy(self.readout(last), batch.targets), trials),
        }
        return terms, states

    def _free_terms(self, stage: Split, batch: NeuralBatch) -> tuple[Terms, Tensor]:
        """Return the terms and the states of the freely running network, and update the metrics of an evaluation."""
        outputs, classes, rates, states, lengths = self(batch.inputs, batch.lengths)
        bins = valid_steps(lengths, states.shape[1])
        trials = torch.full((), float(len(outputs)), device=outputs.device)
        terms = {
            "prediction": _mean(-self.observation.log_prob(batch.spikes, states), bins),
            "choice": (functional.cross_entropy(outputs, batch.targets), trials),
        }
        right = (classes == batch.targets).long()
        forced = self.readout(self._forced(batch, self.alpha)[2]).argmax(dim=-1)
        accuracy, spikes = self._epoch_metrics(stage)
        accuracy.update(right, torch.ones_like(right), batch.group)
        spikes.update(batch.spikes, rates, self.observation.variance(states), lengths, batch.group)
        self._metrics(stage)["accuracy_forced"].update((forced == batch.targets).float().mean(), trials)
        return terms, states

    def _forced(self, batch: NeuralBatch, alpha: float) -> tuple[Tensor, Tensor, Tensor]:
        """Return ẑ, z and z at the last bin of each trial under teacher forcing."""
        encoded = self.encoder(batch.spikes, batch.lengths)
        states, last = generalized_teacher_forcing(
            self.core, batch.inputs, encoded, alpha=alpha, interval=self.interval, lengths=batch.lengths
        )
        return encoded, states, last

    @torch.compiler.disable  # type: ignore[untyped-decorator]  # Lightning inspects the hook, which a graph cannot
    @torch.no_grad()
    def _log(self, stage: Split, batch: NeuralBatch, terms: Terms, regularization: Tensor) -> None:
        metrics = self._metrics(stage)
        values, weights = (torch.stack(column) for column in zip(*terms.values(), strict=True))
        trials = terms["choice"][1]
        metrics["task_loss"].update(values, weights)
        metrics["loss"].update(torch.stack((*values, regularization)), torch.stack((*weights, trials)))
        metrics["regularization"].update(regularization, trials)
        for name, (value, weight) in terms.items():
            metrics[name].update(value, weight)
        self._log_metrics(stage, len(batch.inputs))


def _mean(values: Tensor, bins: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean over valid bins of the sum over the last dimension, and the number of these bins."""
    weight = bins.sum().to(values.dtype)
    return torch.where(bins, values.sum(dim=-1), 0.0).sum() / weight, weight.float()


def _check_batch(batch: object, num_units: int) -> None:
    if not isinstance(batch, NeuralBatch):
        raise TypeError(
            "a batch must be a lightning_alrnn.NeuralBatch(inputs, spikes, targets, lengths), got "
            f"{type(batch).__name__}: use a DataModule with spikes, such as StimulusSelection(neural=True), or return "
            "one from the collate_fn of the DataLoader"
        )
    expected = (*batch.inputs.shape[:2], num_units)
    check_tensor("spikes", batch.spikes, "float counts", expected, floating=True)
    check_tensor("targets", batch.targets, "int64 choices", expected[:1], floating=False)
