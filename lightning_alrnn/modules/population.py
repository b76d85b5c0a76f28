"""Many networks that are trained in one step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import Callback, LightningModule
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import NAdam, Optimizer, RAdam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.callbacks.exact_resume import ExactResume
from lightning_alrnn.callbacks.signals_at_step_end import SignalsAtStepEnd
from lightning_alrnn.metrics.mean import WeightedMean
from lightning_alrnn.modules.sequence import ALRNNModule, SequencePrediction
from lightning_alrnn.nn.alrnn import ALRNN
from lightning_alrnn.nn.stack import stack_networks

ELEMENTWISE = (
    torch.optim.Adadelta,
    torch.optim.Adagrad,
    torch.optim.Adam,
    torch.optim.Adamax,
    NAdam,
    RAdam,
    torch.optim.RMSprop,
    torch.optim.SGD,
)
"""Optimizers that treat each number by itself and whose step is proportional to the learning rate."""

_LOSSES = ("loss", "task_loss", "regularization")
_MAX_GRADIENT_NORM = 1e8
_MAX_STATE = 1e8
_LOOK_AT_STATES = 50  # steps


class _Outputs(NamedTuple):
    """What E networks make of a batch: every tensor has a leading dimension E."""

    outputs: Tensor
    states: Tensor
    lengths: Tensor
    elements: Tensor
    weight: Tensor
    regularization: Tensor

    def losses(self, strength: Tensor) -> dict[str, Tensor]:
        """The loss of each network and its parts, shape ``(E,)``."""
        weight = self.weight.flatten(1)
        total = weight.sum(dim=1)
        task_loss = (self.elements.flatten(1) * weight).sum(dim=1) / torch.where(total > 0, total, 1.0)
        regularization = strength.to(task_loss) * self.regularization
        return {"loss": task_loss + regularization, "task_loss": task_loss, "regularization": regularization}


class _Pass(nn.Module):
    """A network's forward pass with its losses, as ``functional_call`` wants it."""

    def __init__(self, network: ALRNNModule) -> None:
        super().__init__()
        self.network = network

    def forward(self, fields: dict[str, Tensor]) -> _Outputs:
        batch = SequenceBatch(**fields)
        prediction = self.network(batch.inputs, batch.lengths)
        elements, weight = self.network.task_loss(prediction.outputs, batch)
        regularization = self.network.regularization()
        return _Outputs(prediction.outputs, prediction.states, prediction.lengths, elements, weight, regularization)


class PopulationModule(LightningModule):
    """Train several networks of one architecture in one step.

    Every member is trained as it would be alone: by its own loss on its own data, with its own gradient clipping
    (``Trainer(gradient_clip_val=…)`` is applied to each), learning rate and schedule. Members may differ in P, in
    their initial weights, in ``mar_strength`` and in the learning rate. A member whose loss, gradient or states are no
    longer finite (or exceed the limits of :class:`DivergenceGuard`) keeps the weights that it had, and no other member
    changes by a bit.

    All members run in one call (:func:`torch.vmap`) where that is faster, and one after the other where there is a
    convolution or a core other than the ALRNN, or where ``vmap`` refuses; which of them is said once.

    Logged are the medians over the members that have not diverged, ``train/loss`` and ``val/task_loss``, and their
    number, ``population/alive``. The values of each member are in :attr:`scores`.

    Args:
        members: networks as they would be trained alone, on the CPU. They are trained in place.

    Attributes:
        scores: the values of each member's last epoch by key, ``train/…``, ``val/…`` and ``test/…``.
        diverged: epoch in which each member diverged, ``None`` where it has not.
        best_epoch: epoch of each member's lowest ``val/task_loss``, ``None`` before the first validation.

    Raises:
        ValueError: if there is no member, or members differ in what they cannot.

    Example:
        >>> options = {"input_size": 2, "output_size": 1, "objective": "regression", "hidden_size": 10}
        >>> members = [ALRNNModule(nonlinear_units=P, **options) for P in (0, 1, 10)]
        >>> population = PopulationModule(members)
        >>> [member.core.nonlinear_units for member in population.members()]
        [0, 1, 10]
    """

    _alive: Tensor
    _strength: Tensor
    _best_loss: Tensor

    def __init__(self, members: Sequence[ALRNNModule]) -> None:
        super().__init__()
        _check_alike(members)
        self.networks = nn.ModuleList(members)
        parameters, buffers = stack_networks(members)
        self._names = tuple(parameters)
        self._buffer_names = tuple(buffers)
        self.stack = nn.ParameterList(
            nn.Parameter(value.detach(), requires_grad=value.requires_grad) for value in parameters.values()
        )
        for index, buffer in enumerate(buffers.values()):
            self.register_buffer(f"_buffer_{index}", buffer)
        for index, value in enumerate(parameters.values()):
            self.register_buffer(f"_best_{index}", value.detach().clone())
        strengths = torch.tensor([float(member.mar_strength) for member in members], dtype=torch.float64)
        # the regularisation is proportional to its strength: that of one member tells all
        strongest = int(strengths.argmax())
        self._pass = [_Pass(members[strongest])]  # in a list, as it is no part of the state
        self.register_buffer("_strength", strengths / strengths[strongest].clamp(min=1e-300), persistent=False)
        self.register_buffer("_alive", torch.ones(len(members), dtype=torch.bool))
        self.train_metrics = nn.ModuleDict({name: WeightedMean(len(members)) for name in _LOSSES})
        self.register_buffer("_best_loss", torch.full((len(members),), torch.inf))
        self.vectorised = _pays(members[0])
        self._announced = False
        self.scores: list[dict[str, float]] = [{} for _ in members]
        self.diverged: list[int | None] = [None] * len(members)
        self.best_epoch: list[int | None] = [None] * len(members)
        self._optimizers: list[Optimizer] = []
        self._schedulers: list[Any] = []

    def members(self, weights: str = "last") -> list[ALRNNModule]:
        """The networks as ordinary modules.

        Args:
            weights: "last", or "best" for those of the epoch with the lowest ``val/task_loss``.

        Returns:
            The modules that the population was made of, with these weights.

        Raises:
            ValueError: if ``weights`` is another word.
        """
        if weights not in ("last", "best"):
            raise ValueError(f"weights must be 'last' or 'best', got {weights!r}")
        best = weights == "best"
        rows = [getattr(self, f"_best_{i}") if best else value for i, value in enumerate(self.stack)]
        networks = [network for network in self.networks if isinstance(network, ALRNNModule)]
        with torch.no_grad():
            for k, network in enumerate(networks):
                own = dict(network.named_parameters())
                for name, value in zip(self._names, rows, strict=True):
                    flat = value[k]
                    own[name].copy_(flat[flat.shape[0] - own[name].shape[0] :] if flat.ndim else flat)
                for i, name in enumerate(self._buffer_names):
                    network.get_buffer(name).copy_(getattr(self, f"_buffer_{i}")[k])
        return networks

    # ------------------------------------------------------------------------------------------------------- the step

    def _run(self, batch: SequenceBatch) -> _Outputs:
        """All networks on a batch of theirs."""
        if len(batch.inputs) != len(self.networks):
            raise ValueError(
                f"a batch must have a leading dimension of {len(self.networks)} members, got inputs of shape "
                f"{tuple(batch.inputs.shape)}: give a PopulationDataModule with the DataModule of each member"
            )
        fields = {name: value for name, value in batch._asdict().items() if value is not None}
        state = {f"network.{name}": value for name, value in zip(self._names, self.stack, strict=True)}
        state |= {f"network.{name}": getattr(self, f"_buffer_{i}") for i, name in enumerate(self._buffer_names)}
        network = self._pass[0]
        network.train(self.training)

        def one(state: dict[str, Tensor], fields: dict[str, Tensor]) -> _Outputs:
            return functional_call(network, state, (fields,))  # type: ignore[no-any-return]

        reason = "convolutions and other cores than the ALRNN are no faster together"
        if self.vectorised:
            try:
                outputs = torch.vmap(one, randomness="different")(state, fields)
                self._announce("in one call")
                return _Outputs(*outputs)
            except RuntimeError as error:  # what vmap refuses; an error of the network itself comes again below
                self.vectorised = False
                reason = str(error).partition("\n")[0]
        single = [
            one({name: value[k] for name, value in state.items()}, {name: value[k] for name, value in fields.items()})
            for k in range(len(self.networks))
        ]
        self._announce(f"one after the other ({reason})")
        return _Outputs(*map(torch.stack, zip(*single, strict=True)))

    def _announce(self, how: str) -> None:
        if not self._announced:
            self._announced = True
            rank_zero_info(f"A population of {len(self.networks)} networks runs {how}")

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        result = self._run(batch)
        losses = result.losses(self._strength)
        with torch.no_grad():
            weight = result.weight.flatten(1).sum(dim=1)
            for name, metric in self._train_means().items():
                metric.update(losses[name], weight)
            self._alive &= torch.isfinite(losses["loss"])
            if batch_idx % _LOOK_AT_STATES == 0:
                self._alive &= result.states.detach().abs().flatten(1).amax(dim=1) <= _MAX_STATE
        return torch.where(self._alive, losses["loss"], 0.0).sum()

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of each member by itself."""
        gradients = [value.grad for value in self.stack if value.grad is not None]
        norms = torch.stack([gradient.flatten(1).square().sum(dim=1) for gradient in gradients]).sum(dim=0).sqrt()
        self._alive &= torch.isfinite(norms) if gradient_clip_val else norms <= _MAX_GRADIENT_NORM
        if not gradient_clip_val:
            return
        if gradient_clip_algorithm == "value":
            for gradient in gradients:
                gradient.clamp_(-gradient_clip_val, gradient_clip_val)
            return
        factor = (gradient_clip_val / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            gradient.mul_(_along(factor, gradient))

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Step with each member's own learning rate; those that have diverged stay where they are.

        The optimizer steps with a rate of 1, and each member goes its rate's share of the way: what it does depends on
        no other member's rate.
        """
        before = {id(value): value.detach().clone() for value in self.stack}
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        with torch.no_grad():
            for number, group in enumerate(optimizer.param_groups):
                rates = [each.param_groups[number]["lr"] for each in self._optimizers]
                for value in group["params"]:
                    old, rate = before[id(value)], _along(value.new_tensor(rates), value)
                    value.copy_(torch.where(_along(self._alive, value), old + rate * (value - old), old))

    def configure_optimizers(self) -> Optimizer:
        """One optimizer over all members; an idle one of each member holds its learning rates for its scheduler."""
        networks = self.members()
        self._optimizers = [network._optimizer(network.parameter_groups()) for network in networks]
        first = self._optimizers[0]
        if not isinstance(first, ELEMENTWISE):
            names = ", ".join(kind.__name__ for kind in ELEMENTWISE)
            raise ValueError(f"a population needs one of the optimizers {names}, got {type(first).__name__}")
        for k, other in enumerate(self._optimizers):
            if type(other) is not type(first) or _settings(other) != _settings(first):
                raise ValueError(f"members must have the same optimizer but for lr, but those of 0 and {k} differ")
        self._schedulers = []
        for network, optimizer in zip(networks, self._optimizers, strict=True):
            self._schedulers.append(None if network._lr_scheduler is None else network._lr_scheduler(optimizer))
            optimizer.step()  # without gradients this does nothing; a scheduler warns unless there was a step
        names_by_parameter = {id(value): name for name, value in networks[0].named_parameters()}
        stacked = dict(zip(self._names, self.stack, strict=True))
        return networks[0]._optimizer(
            [
                {**group, "params": [stacked[names_by_parameter[id(value)]] for value in group["params"]], "lr": 1.0}
                for group in first.param_groups
            ]
        )

    def configure_callbacks(self) -> Sequence[Callback]:
        """Resume exactly, and stop on signals between two steps."""
        return [ExactResume(), SignalsAtStepEnd()]

    # ------------------------------------------------------------------------------------------------------- epochs

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1:
            raise ValueError(
                f"a population trains on one device, got {self.trainer.world_size} processes: train one population on "
                "each device"
            )

    def on_train_epoch_end(self) -> None:
        metrics = self._train_means()
        means = {name: metric.compute().flatten().tolist() for name, metric in metrics.items()}
        self._record("train", [dict(zip(means, column, strict=True)) for column in zip(*means.values(), strict=True)])
        for metric in metrics.values():
            metric.reset()
        for k, alive in enumerate(self._alive.tolist()):
            if not alive and self.diverged[k] is None:
                self.diverged[k] = self.current_epoch
        for k, scheduler in enumerate(self._schedulers):
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(self.scores[k][getattr(scheduler, "monitor", "val/task_loss")])
            elif scheduler is not None:
                scheduler.step()
        self._log_medians("train/loss")
        self.log("population/alive", self._alive.float().sum())

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        self._evaluate("val", batch)

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> None:
        self._evaluate("test", batch)

    def _evaluate(self, split: Split, batch: SequenceBatch) -> None:
        result = self._run(batch)
        losses = result.losses(self._strength)
        for k, network in enumerate(self.networks):
            own = SequenceBatch(*(None if field is None else field[k] for field in batch))  # type: ignore[arg-type]
            prediction = SequencePrediction(result.outputs[k], result.states[k], result.lengths[k], None)
            network.update_metrics(  # type: ignore[operator]
                split, own, prediction, {name: value[k] for name, value in losses.items()}, result.weight[k]
            )

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            self._read_metrics("val")
            return
        self._record("val", self._read_metrics("val"))
        loss = torch.tensor([scores["val/task_loss"] for scores in self.scores]).to(self._best_loss)
        better = (loss < self._best_loss) & self._alive
        self._best_loss = torch.where(better, loss, self._best_loss)
        for i, value in enumerate(self.stack):
            best = getattr(self, f"_best_{i}")
            best.copy_(torch.where(_along(better, value), value.detach(), best))
        for k in better.nonzero().flatten().tolist():
            self.best_epoch[k] = self.current_epoch
        self._log_medians("val/task_loss")

    def on_test_epoch_end(self) -> None:
        self._record("test", self._read_metrics("test"))
        self._log_medians("test/task_loss")

    def _read_metrics(self, split: Split) -> list[dict[str, float]]:
        return [
            {name: float(value) for name, value in network.read_metrics(split).items()}  # type: ignore[operator]
            for network in self.networks
        ]

    def _train_means(self) -> dict[str, WeightedMean]:
        return {name: cast(WeightedMean, metric) for name, metric in self.train_metrics.items()}

    def _record(self, split: Split, values: list[dict[str, float]]) -> None:
        for scores, own in zip(self.scores, values, strict=True):
            scores.update({f"{split}/{name}": value for name, value in own.items()})

    def _log_medians(self, key: str) -> None:
        values = torch.tensor([scores[key] for scores in self.scores])[self._alive.cpu()]
        self.log(key, values.median() if len(values) else torch.tensor(torch.nan), prog_bar=True)

    # -------------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["population"] = {
            "scores": [dict(scores) for scores in self.scores],
            "diverged": list(self.diverged),
            "best_epoch": list(self.best_epoch),
            "rates": [[group["lr"] for group in optimizer.param_groups] for optimizer in self._optimizers],
            "schedulers": [None if each is None else each.state_dict() for each in self._schedulers],
        }

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        population = checkpoint["population"]
        self.scores = [dict(scores) for scores in population["scores"]]
        self.diverged, self.best_epoch = list(population["diverged"]), list(population["best_epoch"])
        self._restored = population

    def on_train_start(self) -> None:
        # optimizers and schedulers are made after a checkpoint was loaded
        restored = self.__dict__.pop("_restored", None)
        if restored is None:
            return
        for optimizer, rates in zip(self._optimizers, restored["rates"], strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        for scheduler, state in zip(self._schedulers, restored["schedulers"], strict=True):
            if scheduler is not None:
                scheduler.load_state_dict(state)


def _check_alike(members: Sequence[ALRNNModule]) -> None:
    """Raise ``ValueError`` unless members differ in nothing but P, weights, regularisation strength and rates."""
    if not members:
        raise ValueError("a population needs at least one member, got none")
    free = {"nonlinear_units", "mar_strength"}
    first = {name: value for name, value in members[0].hparams.items() if name not in free}
    for k, member in enumerate(members):
        if type(member) is not type(members[0]):
            classes = " and ".join(type(each).__name__ for each in (members[0], member))
            raise ValueError(f"members must be of one class, but 0 and {k} are of {classes}")
        own = {name: value for name, value in member.hparams.items() if name not in free}
        different = [name for name in first.keys() | own.keys() if first.get(name) != own.get(name)]
        if different:
            raise ValueError(
                f"members may differ in P, seed, mar_strength and learning rate, but 0 and {k} differ in "
                f"{', '.join(sorted(different))}: train them in populations of their own"
            )


def _pays(member: ALRNNModule) -> bool:
    """Whether one call for all members is faster than one after the other."""
    convolutions = any(isinstance(module, nn.modules.conv._ConvNd) for module in member.modules())
    return isinstance(member.core, ALRNN) and not convolutions


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The options of an optimizer's groups but the learning rate."""
    left_out = ("params", "lr", "initial_lr")
    return [{key: value for key, value in group.items() if key not in left_out} for group in optimizer.param_groups]


def _along(values: Tensor, like: Tensor) -> Tensor:
    """A value of each member, to be combined with a tensor ``(E, …)``."""
    return values.view(-1, *[1] * (like.ndim - 1))
