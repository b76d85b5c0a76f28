"""Many networks that are trained in one step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, cast

import torch
from lightning_utilities.core.rank_zero import rank_zero_info
from pytorch_lightning import Callback, LightningModule
from pytorch_lightning.plugins.io import TorchCheckpointIO
from pytorch_lightning.trainer.states import TrainerFn
from torch import Tensor, nn
from torch.func import functional_call
from torch.optim import NAdam, Optimizer, RAdam
from torch.optim.lr_scheduler import ReduceLROnPlateau

from lightning_alrnn.batch import SequenceBatch, Split
from lightning_alrnn.extensions.checkpoints import WholeCheckpointIO
from lightning_alrnn.extensions.exact_resume import ExactResume
from lightning_alrnn.extensions.signals_at_step_end import SignalsAtStepEnd
from lightning_alrnn.metrics.mean import WeightedMean
from lightning_alrnn.metrics.threshold import LearningWatch, StopWhen
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

    Every member is trained as if it were alone: with its own data, loss, gradient clipping
    (``Trainer(gradient_clip_val=…)`` applies to each member), learning rate and schedule. Members may differ in P,
    initial weights, ``mar_strength`` and learning rate. If the loss, the gradient or the states of a member are not
    finite (or exceed the limits of :class:`DivergenceGuard`), it keeps its last weights, and no bit of the other
    members changes.

    All members run in one call (:func:`torch.vmap`) if that is faster. Networks with a convolution or with a core other
    than the ALRNN, or that ``vmap`` does not support, run one after the other. A line in the log says which.

    The module logs the medians ``train/loss`` and ``val/task_loss`` over the members that have not diverged, and their
    number, ``population/alive``. :attr:`scores` has the values of each member. The callback
    :class:`~lightning_alrnn.callbacks.MemberCallbacks` logs the regimes, units and fixed points of the members.

    Args:
        members: Networks on the CPU. They are trained in place.
        stop_when: Rule that ends the training of a member before that of the others, "solved" or "plateau", see
            :class:`~lightning_alrnn.metrics.LearningWatch`; ``None`` for no rule. A stopped member costs no more time.
            Training ends once all members have stopped or diverged.
        cuda_graph: Whether to replay the forward and backward pass of a training step from a CUDA graph, which saves
            time on the host if networks are few and small. It needs a GPU; ``make gpu`` says whether it is faster.
            Steps run without the graph if the Trainer accumulates gradients.

    Attributes:
        scores: Values of each member in its last epoch by key, ``train/…``, ``val/…`` and ``test/…``.
        diverged: Epoch in which each member diverged, or ``None``.
        best_epoch: Epoch with the lowest ``val/task_loss`` of each member, ``None`` before the first validation.
        best_step: Number of training steps of each member up to the end of its best epoch.
        epochs: Number of epochs that each member was trained for.
        steps: Number of training steps of each member up to the end of these epochs.
        watches: :class:`~lightning_alrnn.metrics.LearningWatch` of each member, with its ``epochs_to_threshold``.

    Raises:
        ValueError: If there is no member, members differ in other options, or ``stop_when`` is unknown. In ``setup``,
            if there are several processes, or no GPU for ``cuda_graph``.

    Example:
        >>> options = {"input_size": 2, "output_size": 1, "objective": "regression", "hidden_size": 10}
        >>> members = [ALRNNModule(nonlinear_units=P, **options) for P in (0, 1, 10)]
        >>> population = PopulationModule(members)
        >>> [member.core.nonlinear_units for member in population.members()]
        [0, 1, 10]
    """

    _alive: Tensor
    _stopped: Tensor
    _strength: Tensor
    _best_loss: Tensor

    def __init__(
        self, members: Sequence[ALRNNModule], stop_when: StopWhen | None = None, cuda_graph: bool = False
    ) -> None:
        super().__init__()
        _check_alike(members)
        self.networks = list(members)  # no submodules: each step and epoch would go through all that they hold
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
        self.register_buffer("_stopped", torch.zeros(len(members), dtype=torch.bool))
        # of the members that go on, where some have stopped; the numbers also on the CPU, so that no step reads them
        self._rows: Tensor | None = None
        self._numbers = list(range(len(members)))
        for split in ("train", "val", "test"):
            self.add_module(f"{split}_metrics", nn.ModuleDict({name: WeightedMean(len(members)) for name in _LOSSES}))
        self.register_buffer("_best_loss", torch.full((len(members),), torch.inf))
        self.vectorised = _pays(members[0])
        self._announced = False
        self.scores: list[dict[str, float]] = [{} for _ in members]
        self.diverged: list[int | None] = [None] * len(members)
        self.best_epoch: list[int | None] = [None] * len(members)
        self.best_step = [0] * len(members)
        self.epochs = [0] * len(members)
        self.steps = [0] * len(members)
        self.stop_when = stop_when
        self.cuda_graph = cuda_graph
        self._graph: tuple[list[torch.Size], Callable[..., tuple[Tensor, ...]]] | None = None
        self.watches = [LearningWatch(None, stop_when) for _ in members]
        self._optimizers: list[Optimizer] = []
        self._schedulers: list[Any] = []
        self._rates: dict[int, tuple[list[float], Tensor]] = {}

    @property
    def alive(self) -> list[bool]:
        """Whether each member has not diverged."""
        return self._alive.tolist()

    @property
    def stopped(self) -> list[bool]:
        """Whether the training of each member has ended early."""
        return self._stopped.tolist()

    @classmethod
    def from_options(
        cls,
        differences: Sequence[Mapping[str, Any]],
        stop_when: StopWhen | None = None,
        cuda_graph: bool = False,
        **options: Any,
    ) -> PopulationModule:
        """Make a population of networks that share most options.

        Args:
            differences: Options of each member, such as ``nonlinear_units`` and ``mar_strength``, and the ``seed`` of
                its initial weights (default 0).
            stop_when: Rule that ends the training of a member, see the constructor.
            cuda_graph: Whether to use a CUDA graph, see the constructor.
            **options: Options of :class:`ALRNNModule` for all members. An ``encoder`` is copied with its weights.

        Returns:
            The population.

        Raises:
            ValueError: If members differ in other options than they may.

        Example:
            >>> differences = [{"nonlinear_units": P, "seed": seed} for P in (0, 5) for seed in range(3)]
            >>> population = PopulationModule.from_options(
            ...     differences, input_size=2, output_size=1, objective="regression", hidden_size=10
            ... )
            >>> len(population.members())
            6
        """
        members = []
        with torch.random.fork_rng(devices=()):
            for difference in differences:
                member_options = {**options, **difference}
                torch.manual_seed(member_options.pop("seed", 0))
                members.append(
                    ALRNNModule(**(member_options | {"encoder": copy.deepcopy(member_options.get("encoder"))}))
                )
        return cls(members, stop_when, cuda_graph)

    def members(self, weights: str = "last") -> list[ALRNNModule]:
        """Return the networks as ordinary modules.

        Args:
            weights: Epoch of the weights: "last", or "best" for the epoch with the lowest ``val/task_loss``.

        Returns:
            The modules that the population was made from, with these weights.

        Raises:
            ValueError: If ``weights`` is neither "last" nor "best".
        """
        if weights not in ("last", "best"):
            raise ValueError(f"weights must be 'last' or 'best', got {weights!r}")
        best = weights == "best"
        values = [getattr(self, f"_best_{i}") if best else value for i, value in enumerate(self.stack)]
        with torch.no_grad():
            for k, network in enumerate(self.networks):
                parameters = dict(network.named_parameters())
                for name, value in zip(self._names, values, strict=True):
                    parameters[name].copy_(_unpadded(value[k], parameters[name]))
                for i, name in enumerate(self._buffer_names):
                    network.get_buffer(name).copy_(getattr(self, f"_buffer_{i}")[k])
        return list(self.networks)

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PopulationModule:
        """Move the members, too: what ``to``, ``double`` and Lightning call, often where there is nothing to move."""
        before = self._best_loss.device, self._best_loss.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if before != (self._best_loss.device, self._best_loss.dtype):
            for network in self.networks:
                network._apply(fn, recurse)  # type: ignore[no-untyped-call]
                network.to(self._best_loss.device)  # moves nothing more: a LightningModule notes its device there
        return self

    @torch.no_grad()
    def load_best(self) -> None:
        """Load the best weights of each member, for ``trainer.validate`` and ``trainer.test`` after a fit."""
        for i, value in enumerate(self.stack):
            value.copy_(getattr(self, f"_best_{i}"))

    def optimizer_of(self, member: int) -> Optimizer:
        """Return the optimizer with the learning rates of a member, during or after a fit.

        Args:
            member: Index of the member.

        Returns:
            The optimizer, which takes no steps and has no state.
        """
        return self._optimizers[member]

    def optimizer_states(self, member: int) -> dict[str, list[dict[str, Any]]]:
        """Return the states of the optimizer and the scheduler of a member, during or after a fit.

        Args:
            member: Index of the member.

        Returns:
            ``optimizer_states`` and ``lr_schedulers``, as in the checkpoint of a single network.
        """
        state = self.trainer.optimizers[0].state
        network, optimizer = self.networks[member], self._optimizers[member]
        names = {id(value): name for name, value in network.named_parameters()}
        stacked = dict(zip(self._names, self.stack, strict=True))
        member_state: dict[int, dict[str, Any]] = {}
        parameters = [value for group in optimizer.param_groups for value in group["params"]]
        for index, parameter in enumerate(parameters):
            of_all = state.get(stacked[names[id(parameter)]], {})
            member_state[index] = {
                key: _unpadded(value[member], parameter).clone() if isinstance(value, Tensor) and value.ndim else value
                for key, value in of_all.items()
            }
        scheduler = self._schedulers[member]
        return {
            "optimizer_states": [{"state": member_state, "param_groups": optimizer.state_dict()["param_groups"]}],
            "lr_schedulers": [] if scheduler is None else [scheduler.state_dict()],
        }

    # ------------------------------------------------------------------------------------------------------- the step

    def _run(self, batch: SequenceBatch, rows: Tensor | None) -> _Outputs:
        """All networks, or those of some rows, on a batch of theirs."""
        if len(batch.inputs) != len(self.networks):
            raise ValueError(
                f"a batch must have a leading dimension of {len(self.networks)} members, got inputs of shape "
                f"{tuple(batch.inputs.shape)}: use a PopulationDataModule with the DataModule of each member"
            )
        fields = {name: value for name, value in batch._asdict().items() if value is not None}
        state: dict[str, Tensor] = {
            f"network.{name}": value for name, value in zip(self._names, self.stack, strict=True)
        }
        state |= {f"network.{name}": getattr(self, f"_buffer_{i}") for i, name in enumerate(self._buffer_names)}
        if rows is not None:
            fields, state = ({name: value[rows] for name, value in each.items()} for each in (fields, state))
        network = self._pass[0]
        if network.training != self.training:
            network.train(self.training)

        def one(state: dict[str, Tensor], fields: dict[str, Tensor]) -> _Outputs:
            return functional_call(network, state, (fields,))  # type: ignore[no-any-return]

        reason = "convolutions and other cores than the ALRNN are no faster together"
        if self.vectorised:
            try:
                together = torch.vmap(one, randomness="different")
                graphed = self.cuda_graph and self.training and rows is None and torch.is_grad_enabled()
                # a graph writes each gradient where the last one is, which must not have to be added to
                if graphed and self.trainer.accumulate_grad_batches == 1:
                    outputs = self._replay(together, state, fields)
                else:
                    outputs = together(state, fields)
                self._announce("in one call")
                return _Outputs(*outputs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # what vmap refuses; an error of the network itself comes again below
                self.vectorised = False
                reason = str(error).partition("\n")[0]
        single = [
            one({name: value[k] for name, value in state.items()}, {name: value[k] for name, value in fields.items()})
            for k in range(len(fields["inputs"]))
        ]
        self._announce(f"one after the other ({reason})")
        return _Outputs(*map(torch.stack, zip(*single, strict=True)))

    def _replay(
        self,
        together: Callable[[dict[str, Tensor], dict[str, Tensor]], _Outputs],
        state: dict[str, Tensor],
        fields: dict[str, Tensor],
    ) -> _Outputs:
        """The pass of all networks from a CUDA graph, which is captured at the first batch of a fit.

        Batches of another shape, as the last of an epoch may be, run without it. Gradients reach the losses alone.
        What cannot be captured is an error: it must not be taken for what vmap refuses.
        """

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            values = iter(tensors)
            outputs = together({name: next(values) for name in state}, {name: next(values) for name in fields})
            unused = {name: getattr(outputs, name).detach() for name in ("outputs", "states", "lengths")}
            return tuple(outputs._replace(**unused))

        tensors = (*state.values(), *fields.values())
        shapes = [value.shape for value in tensors]
        if self._graph is None:
            # parameters and buffers stay where they are; a batch is copied to where the first one was. The parameters
            # themselves would add up their gradients in the stream of the capture from then on
            shared = (value.detach().requires_grad_(value.requires_grad) for value in state.values())
            samples = (*shared, *(value.clone() for value in fields.values()))
            try:
                graphed: Any = torch.cuda.make_graphed_callables(run, samples, allow_unused_input=True)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]
                raise ValueError(f"cuda_graph=True: the pass cannot be captured ({reason}): leave it out") from error
            self._graph = shapes, graphed
        captured, graphed = self._graph
        return _Outputs(*graphed(*tensors)) if shapes == captured else together(state, fields)

    def _announce(self, how: str) -> None:
        if not self._announced:
            self._announced = True
            rank_zero_info(f"A population of {len(self.networks)} networks runs {how}")

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        rows = self._rows
        result = self._run(batch, rows)
        losses = result.losses(_of(self._strength, rows))
        with torch.no_grad():
            self._update_losses("train", losses, result.weight, rows)
            well = torch.isfinite(losses["loss"])
            if batch_idx % _LOOK_AT_STATES == 0:
                well &= result.states.detach().abs().flatten(1).amax(dim=1) <= _MAX_STATE
            self._alive &= self._of_all(well, rows, True)
        return torch.where(_of(self._alive, rows), losses["loss"], 0.0).sum()

    def _update_losses(self, split: Split, losses: Mapping[str, Tensor], weight: Tensor, rows: Tensor | None) -> None:
        totals = self._of_all(weight.flatten(1).sum(dim=1), rows)
        for name, metric in self._losses(split).items():
            metric.update(self._of_all(losses[name], rows), totals)

    def _of_all(self, values: Tensor, rows: Tensor | None, fill: Any = 0) -> Tensor:
        """Values of some members among those of all, shape ``(E,)``."""
        return values if rows is None else values.new_full((len(self.networks),), fill).index_copy(0, rows, values)

    def configure_gradient_clipping(
        self,
        optimizer: Optimizer,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clip the gradient of each member separately."""
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
        """Step with the learning rate of each member, without the members that have diverged or stopped.

        The optimizer steps with a rate of 1, and the step of each member is then multiplied by its rate. A member is
        therefore independent of the rates of the others.
        """
        before = {id(value): value.detach().clone() for value in self.stack}
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        moves = self._alive & ~self._stopped
        with torch.no_grad():
            for number, group in enumerate(optimizer.param_groups):
                rates = self._rates_of(number)
                for value in group["params"]:
                    old, rate = before[id(value)], _along(rates, value)
                    value.copy_(torch.where(_along(moves, value), old + rate * (value - old), old))

    def _rates_of(self, group: int) -> Tensor:
        """The members' learning rates of a parameter group; they are copied to the device when one has changed."""
        rates = [float(each.param_groups[group]["lr"]) for each in self._optimizers]
        if group not in self._rates or self._rates[group][0] != rates:
            self._rates[group] = rates, self.stack[0].new_tensor(rates)
        return self._rates[group][1]

    def configure_optimizers(self) -> Optimizer:
        """Make one optimizer over all members, and one for each member that only stores its learning rates."""
        networks = self.members()
        self._optimizers = [network._optimizer(network.parameter_groups()) for network in networks]
        self._rates = {}
        first = self._optimizers[0]
        if not isinstance(first, ELEMENTWISE):
            names = ", ".join(kind.__name__ for kind in ELEMENTWISE)
            raise ValueError(f"a population needs one of the optimizers {names}, got {type(first).__name__}")
        for k, other in enumerate(self._optimizers):
            if type(other) is not type(first) or _settings(other) != _settings(first):
                raise ValueError(f"members must have the same optimizer except for lr, but those of 0 and {k} differ")
        self._schedulers = []
        for network, optimizer in zip(networks, self._optimizers, strict=True):
            self._schedulers.append(None if network._lr_scheduler is None else network._lr_scheduler(optimizer))
            optimizer.step()  # without gradients this does nothing; a scheduler warns unless there was a step
        names_by_parameter = {id(value): name for name, value in networks[0].named_parameters()}
        stacked = dict(zip(self._names, self.stack, strict=True))
        groups = []
        for group in first.param_groups:
            parameters = [stacked[names_by_parameter[id(value)]] for value in group["params"]]
            options = {**group, "params": parameters, "lr": 1.0}
            # on a CPU torch goes from tensor to tensor where nothing is said; the other way is exact to 1e-7 alone
            fits = all(value.dtype == torch.float32 for value in parameters)
            if isinstance(first, torch.optim.Adagrad):  # PyTorch has no such kernel for GPUs in all versions
                fits &= self.device.type == "cpu"
            if fits and group.get("fused", False) is None:
                options |= {"fused": not group["foreach"]}
            groups.append(options)
        self._go_on()
        return networks[0]._optimizer(groups)

    def _go_on(self) -> None:
        """Take up learning rates, schedules and who has stopped where a checkpoint was loaded.

        When training starts would be too late: from the checkpoint of its end it does not start.
        """
        restored = self.__dict__.pop("_restored", None)
        if restored is None:
            return
        self._find_rows()
        for optimizer, rates in zip(self._optimizers, restored["rates"], strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        for scheduler, state in zip(self._schedulers, restored["schedulers"], strict=True):
            if scheduler is not None:
                scheduler.load_state_dict(state)

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the callbacks that resume exactly and handle signals between two steps."""
        return [ExactResume(), SignalsAtStepEnd()]

    # ------------------------------------------------------------------------------------------------------- epochs

    def on_fit_end(self) -> None:
        self._graph = None  # which holds the memory of a pass

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1:
            raise ValueError(
                f"a population trains on one device, got {self.trainer.world_size} processes: train one population on "
                "each device"
            )
        if self.cuda_graph and self.trainer.strategy.root_device.type != "cuda":
            raise ValueError(f"cuda_graph=True needs a GPU, got {self.trainer.strategy.root_device}")
        self._graph = None
        if type(self.trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            self.trainer.strategy.checkpoint_io = WholeCheckpointIO()
        if stage == "fit":
            self.watches = [LearningWatch(self.trainer.max_epochs, self.stop_when) for _ in self.networks]
            self._may_end: dict[int, bool] = {}

    def on_train_epoch_start(self) -> None:
        for group in range(len(self._optimizers[0].param_groups)):
            self._rates_of(group)  # so that no step has to copy what the schedulers have changed

    def on_train_epoch_end(self) -> None:
        self._record("train", self._numbers)
        stopped = self.stopped
        for k, alive in enumerate(self.alive):
            if not alive and self.diverged[k] is None:
                self.diverged[k] = self.current_epoch
            if alive and not stopped[k]:
                self.epochs[k], self.steps[k] = self.current_epoch + 1, self.global_step
        for k, scheduler in enumerate(self._schedulers):
            if stopped[k]:
                continue
            if isinstance(scheduler, ReduceLROnPlateau):
                scheduler.step(self.scores[k][getattr(scheduler, "monitor", "val/task_loss")])
            elif scheduler is not None:
                scheduler.step()
        self._log_medians("train/loss")
        self.log("population/alive", self._alive.float().sum())
        self._stop()

    def _stop(self) -> None:
        """Let those members end whose validations say so, and training once nobody is left."""
        ended = [k for k in self._numbers if self._may_end.get(k, False) and self.diverged[k] is None]
        if ended:
            self._stopped[ended] = True
        self._find_rows()

    def _find_rows(self) -> None:
        """Which members go on; where none does, training ends, also that which goes on from a checkpoint."""
        alive = self.alive
        self._numbers = [k for k, stopped in enumerate(self.stopped) if not stopped]
        everyone = len(self._numbers) == len(self.networks)
        self._rows = None if everyone else torch.tensor(self._numbers, dtype=torch.int64, device=self._stopped.device)
        if not any(alive[k] for k in self._numbers):
            self.trainer.should_stop = True

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        return self._evaluate("val", batch)

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        return self._evaluate("test", batch)

    def _evaluate(self, split: Split, batch: SequenceBatch) -> dict[str, Any]:
        """Update the members' metrics; under "members", by number, what callbacks look at."""
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        rows = self._rows if fitting else None
        result = self._run(batch, rows)
        losses = result.losses(_of(self._strength, rows))
        self._update_losses(split, losses, result.weight, rows)
        outputs = {}
        for i, k in enumerate(self._numbers if fitting else range(len(self.networks))):
            network = self.networks[k]
            member_batch = SequenceBatch(*(None if field is None else field[k] for field in batch))  # type: ignore[arg-type]
            prediction = SequencePrediction(result.outputs[i], result.states[i], result.lengths[i], None)
            network.update_scores(split, member_batch, prediction, result.weight[i])
            outputs[k] = network.step_output(member_batch, prediction, losses["loss"][i])
        return {"members": outputs}

    def on_validation_epoch_end(self) -> None:
        if self.trainer.sanity_checking:
            self._reset("val")
            return
        fitting = self.trainer.state.fn == TrainerFn.FITTING
        self._record("val", self._numbers if fitting else range(len(self.networks)))
        if not fitting:
            return
        self._may_end = {k: self.watches[k].update(self.current_epoch + 1, self.scores[k]) for k in self._numbers}
        loss = torch.tensor([scores["val/task_loss"] for scores in self.scores]).to(self._best_loss)
        self._alive &= torch.isfinite(loss)  # the last update may have broken the weights after the last training loss
        better = (loss < self._best_loss) & self._alive
        self._best_loss = torch.where(better, loss, self._best_loss)
        for i, value in enumerate(self.stack):
            best = getattr(self, f"_best_{i}")
            best.copy_(torch.where(_along(better, value), value.detach(), best))
        for k in better.nonzero().flatten().tolist():
            self.best_epoch[k], self.best_step[k] = self.current_epoch, self.global_step
        self._log_medians("val/task_loss")

    def on_test_epoch_end(self) -> None:
        self._record("test", range(len(self.networks)))
        self._log_medians("test/task_loss")

    def _losses(self, split: Split) -> dict[str, WeightedMean]:
        return {name: cast(WeightedMean, metric) for name, metric in getattr(self, f"{split}_metrics").items()}

    def _record(self, split: Split, members: Sequence[int]) -> None:
        """Note the scores of an epoch, which are read all at once, and forget its batches."""
        # a metric of one value gives it without its dimension
        losses = {name: metric.compute().reshape(-1) for name, metric in self._losses(split).items()}
        values = []
        for k in members:
            scores = {name: column[k] for name, column in losses.items()}
            values.append(scores | (self.networks[k].read_scores(split) if split != "train" else {}))
        numbers = iter(torch.stack([value for scores in values for value in scores.values()]).tolist())
        for k, scores in zip(members, values, strict=True):
            self.scores[k].update({f"{split}/{name}": next(numbers) for name in scores})
        self._reset(split)

    def _reset(self, split: Split) -> None:
        for metric in self._losses(split).values():
            metric.reset()
        for network in self.networks if split != "train" else ():
            network._reset_metrics(split)

    def _log_medians(self, key: str) -> None:
        values = torch.tensor([scores[key] for scores in self.scores])[self._alive.cpu()]
        self.log(key, values.median() if len(values) else torch.tensor(torch.nan), prog_bar=True)

    # -------------------------------------------------------------------------------------------------- checkpoints

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["population"] = {
            "scores": [dict(scores) for scores in self.scores],
            "diverged": list(self.diverged),
            "best_epoch": list(self.best_epoch),
            "best_step": list(self.best_step),
            "epochs": list(self.epochs),
            "steps": list(self.steps),
            "watches": [watch.state_dict() for watch in self.watches],
            "rates": [[group["lr"] for group in optimizer.param_groups] for optimizer in self._optimizers],
            "schedulers": [None if each is None else each.state_dict() for each in self._schedulers],
        }

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        population = checkpoint["population"]
        self.scores = [dict(scores) for scores in population["scores"]]
        self.diverged, self.best_epoch = list(population["diverged"]), list(population["best_epoch"])
        self.best_step, self.epochs = list(population["best_step"]), list(population["epochs"])
        self.steps = list(population["steps"])
        for watch, state in zip(self.watches, population["watches"], strict=True):
            watch.load_state_dict(state)
        self._restored = population


def _check_alike(members: Sequence[ALRNNModule]) -> None:
    """Raise ``ValueError`` unless members differ in nothing but P, weights, regularisation strength and rates."""
    if not members:
        raise ValueError("a population needs at least one member, got none")
    free = {"nonlinear_units", "mar_strength"}
    first = {name: value for name, value in members[0].hparams.items() if name not in free}
    for k, member in enumerate(members):
        if type(member) is not type(members[0]):
            classes = " and ".join(type(each).__name__ for each in (members[0], member))
            raise ValueError(f"members must have the same class, but those of 0 and {k} are {classes}")
        options = {name: value for name, value in member.hparams.items() if name not in free}
        different = [name for name in first.keys() | options.keys() if first.get(name) != options.get(name)]
        if different:
            raise ValueError(
                f"members may differ in P, seed, mar_strength and learning rate, but 0 and {k} differ in "
                f"{', '.join(sorted(different))}: train them in separate populations"
            )


def _pays(member: ALRNNModule) -> bool:
    """Whether one call for all members is faster than one after the other."""
    convolutions = any(isinstance(module, nn.modules.conv._ConvNd) for module in member.modules())
    return isinstance(member.core, ALRNN) and not convolutions


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """The options of an optimizer's groups but the learning rate."""
    left_out = ("params", "lr", "initial_lr")
    return [{key: value for key, value in group.items() if key not in left_out} for group in optimizer.param_groups]


def _of(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]


def _unpadded(value: Tensor, parameter: Tensor) -> Tensor:
    """What a stacked value holds of a member's parameter: A is as wide as that of the widest."""
    return value[value.shape[0] - parameter.shape[0] :] if value.ndim else value


def _along(values: Tensor, like: Tensor) -> Tensor:
    """A value of each member, to be combined with a tensor ``(E, …)``."""
    return values.view(-1, *[1] * (like.ndim - 1))
