"""The LightningModule that trains several networks in one step."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
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
from lightning_alrnn.modules.base import absent_callbacks
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
"""Optimizers that act on each number separately, with steps proportional to the learning rate."""

_LOSSES = ("loss", "task_loss", "regularization")
_MAX_GRADIENT_NORM = 1e8
_MAX_STATE = 1e8
_STATES_EVERY_N_STEPS = 50
_SAVED = ("scores", "diverged", "best_epoch", "best_step", "epochs", "steps")


class _Outputs(NamedTuple):
    """Outputs of E networks for a batch; every tensor has a leading dimension E."""

    outputs: Tensor
    states: Tensor
    lengths: Tensor
    elements: Tensor
    weight: Tensor
    regularization: Tensor

    def losses(self, strength: Tensor) -> dict[str, Tensor]:
        """Return the loss of each network and its parts, shape ``(E,)``."""
        weight = self.weight.flatten(1)
        total = weight.sum(dim=1)
        task_loss = (self.elements.flatten(1) * weight).sum(dim=1) / torch.where(total > 0, total, 1.0)
        regularization = strength.to(task_loss) * self.regularization
        return {"loss": task_loss + regularization, "task_loss": task_loss, "regularization": regularization}


class _Pass(nn.Module):
    """The forward pass of a network with its losses, for ``functional_call``."""

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

    Every member is trained as if it were alone, with its own data, loss, gradient clipping, learning rate and schedule.
    Members may differ in P, initial weights, ``mar_strength`` and learning rate. A member that exceeds the limits of
    :class:`DivergenceGuard` keeps its last weights. All members run in one call (:func:`torch.vmap`) or, with a
    convolution, another core than the ALRNN or anything that ``vmap`` does not support, one after the other.

    The module logs the medians ``train/loss`` and ``val/task_loss`` over the members that have not diverged, and their
    number, ``population/alive``.

    Args:
        members: Networks on the CPU. They are trained in place.
        stop_when: Rule that ends the training of a member before that of the others, "solved" or "plateau", see
            :class:`~lightning_alrnn.metrics.LearningWatch`; ``None`` for no rule.
        cuda_graph: Whether to replay training steps from a CUDA graph, which is faster for small networks on a GPU.

    Attributes:
        scores: Values of each member in its last epoch by logged key.
        diverged: Epoch in which each member diverged, or ``None``.
        best_epoch: Epoch with the lowest ``val/task_loss`` of each member, ``None`` before the first validation.
        best_step: Number of training steps of each member up to the end of its best epoch.
        epochs: Number of epochs that each member was trained for.
        steps: Number of training steps of each member up to the end of these epochs.
        watches: :class:`~lightning_alrnn.metrics.LearningWatch` of each member, with its ``epochs_to_threshold``.

    Raises:
        ValueError: If there is no member, members differ in other options, or ``stop_when`` is unknown.

    Example:
        >>> population = PopulationModule([ALRNNModule(2, 3, nonlinear_units=P) for P in (0, 1, 10)])
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
        self.networks = list(members)  # not submodules, which Lightning would walk in each step and epoch
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
        # the regularisation is proportional to its strength, so one member computes it for all
        strongest = int(strengths.argmax())
        self._pass = [_Pass(members[strongest])]  # in a list, because it is not part of the state
        self.register_buffer("_strength", strengths / strengths[strongest].clamp(min=1e-300), persistent=False)
        self.register_buffer("_alive", torch.ones(len(members), dtype=torch.bool))
        self.register_buffer("_stopped", torch.zeros(len(members), dtype=torch.bool))
        self._rows: Tensor | None = None  # indices of the members that go on if some have stopped
        self._everyone = range(len(members))
        self._numbers: Sequence[int] = self._everyone  # rows on the CPU, so that no step reads the device
        for split in ("train", "val", "test"):
            self.add_module(f"{split}_metrics", nn.ModuleDict({name: WeightedMean(len(members)) for name in _LOSSES}))
        self.register_buffer("_best_loss", torch.full((len(members),), torch.inf))
        convolutions = any(isinstance(module, nn.modules.conv._ConvNd) for module in members[0].modules())
        self.vectorised = isinstance(members[0].core, ALRNN) and not convolutions
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
            Population.

        Example:
            >>> differences = [{"nonlinear_units": P, "seed": seed} for P in (0, 5) for seed in range(3)]
            >>> len(PopulationModule.from_options(differences, input_size=2, output_size=2).members())
            6
        """
        members = []
        with torch.random.fork_rng(devices=()):
            for difference in differences:
                member_options = {"seed": 0, "encoder": None, **options, **difference}
                torch.manual_seed(member_options.pop("seed"))
                encoder = copy.deepcopy(member_options.pop("encoder"))
                members.append(ALRNNModule(encoder=encoder, **member_options))
        return cls(members, stop_when, cuda_graph)

    def members(self, weights: str = "last") -> list[ALRNNModule]:
        """Return the networks as ordinary modules.

        Args:
            weights: Epoch of the weights: "last", or "best" for the epoch with the lowest ``val/task_loss``.

        Returns:
            Modules that the population was made from, with these weights.

        Raises:
            ValueError: If ``weights`` is neither.
        """
        if weights not in ("last", "best"):
            raise ValueError(f"weights must be 'last' or 'best', got {weights!r}")
        values = self._named(self._best_weights() if weights == "best" else self.stack)
        with torch.no_grad():
            for k, network in enumerate(self.networks):
                for name, parameter in network.named_parameters():
                    parameter.copy_(_unpadded(values[name][k], parameter))
                for name, buffer in self._stacked_buffers().items():
                    network.get_buffer(name).copy_(buffer[k])
        return list(self.networks)

    def _best_weights(self) -> list[Tensor]:
        return [getattr(self, f"_best_{i}") for i in range(len(self.stack))]

    def _named(self, values: Iterable[Tensor]) -> dict[str, Tensor]:
        return dict(zip(self._names, values, strict=True))

    def _stacked_buffers(self) -> dict[str, Tensor]:
        return {name: getattr(self, f"_buffer_{i}") for i, name in enumerate(self._buffer_names)}

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> PopulationModule:
        """Move the members, too, if there is something to move."""
        before = self._best_loss.device, self._best_loss.dtype
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        if before != (self._best_loss.device, self._best_loss.dtype):
            for network in self.networks:
                network._apply(fn, recurse)  # type: ignore[no-untyped-call]
                network.to(self._best_loss.device)  # in which a LightningModule notes its device
        return self

    @torch.no_grad()
    def load_best(self) -> None:
        """Load the best weights of each member, for ``trainer.validate`` and ``trainer.test`` after a fit."""
        for value, best in zip(self.stack, self._best_weights(), strict=True):
            value.copy_(best)

    def optimizer_of(self, member: int) -> Optimizer:
        """Return the optimizer that has the learning rates of a member, but no state.

        Args:
            member: Index of the member.

        Returns:
            Optimizer.
        """
        return self._optimizers[member]

    def optimizer_states(self, member: int) -> dict[str, list[dict[str, Any]]]:
        """Return the states of the optimizer and the scheduler of a member.

        Args:
            member: Index of the member.

        Returns:
            ``optimizer_states`` and ``lr_schedulers``, as in the checkpoint of a single network.
        """
        states = self.trainer.optimizers[0].state
        optimizer, scheduler = self._optimizers[member], self._schedulers[member]
        stacked = self._stacked_by_parameter(member)
        member_state: dict[int, dict[str, Any]] = {}
        parameters = [value for group in optimizer.param_groups for value in group["params"]]
        for index, parameter in enumerate(parameters):
            member_state[index] = {
                key: _unpadded(value[member], parameter).clone() if isinstance(value, Tensor) and value.ndim else value
                for key, value in states.get(stacked[id(parameter)], {}).items()
            }
        return {
            "optimizer_states": [{"state": member_state, "param_groups": optimizer.state_dict()["param_groups"]}],
            "lr_schedulers": [] if scheduler is None else [scheduler.state_dict()],
        }

    def _stacked_by_parameter(self, member: int) -> dict[int, Tensor]:
        """Return the stacked parameter of each parameter of a member by its id."""
        stacked = self._named(self.stack)
        return {id(value): stacked[name] for name, value in self.networks[member].named_parameters()}

    def _run(self, batch: SequenceBatch, rows: Tensor | None) -> _Outputs:
        """Run all networks, or those of some rows, on their batch."""
        if len(batch.inputs) != len(self.networks):
            raise ValueError(
                f"a batch must have a leading dimension of {len(self.networks)} members, got inputs of shape "
                f"{tuple(batch.inputs.shape)}: use a PopulationDataModule with the DataModule of each member"
            )
        fields = {name: value for name, value in batch._asdict().items() if value is not None}
        values = self._named(self.stack) | self._stacked_buffers()
        state = {f"network.{name}": value for name, value in values.items()}
        if rows is not None:
            fields, state = ({name: value[rows] for name, value in each.items()} for each in (fields, state))
        network = self._pass[0]
        if network.training != self.training:
            network.train(self.training)

        def one(state: dict[str, Tensor], fields: dict[str, Tensor]) -> _Outputs:
            return functional_call(network, state, (fields,))  # type: ignore[no-any-return]

        reason = "one call is no faster for convolutions and other cores than the ALRNN"
        if self.vectorised:
            try:
                together = torch.vmap(one, randomness="different")
                graphed = self.cuda_graph and self.training and rows is None and torch.is_grad_enabled()
                # a graph overwrites gradients, so they cannot be accumulated
                if graphed and self.trainer.accumulate_grad_batches == 1:
                    outputs = self._replay(together, state, fields)
                else:
                    outputs = together(state, fields)
                self._announce("in one call")
                return _Outputs(*outputs)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:  # vmap refuses something; an error of the network is raised again below
                self.vectorised = False
                reason = str(error).partition("\n")[0]
        outputs_of_members = [
            one(*({name: value[k] for name, value in each.items()} for each in (state, fields)))
            for k in range(len(fields["inputs"]))
        ]
        self._announce(f"one after the other ({reason})")
        return _Outputs(*map(torch.stack, zip(*outputs_of_members, strict=True)))

    def _replay(
        self,
        together: Callable[[dict[str, Tensor], dict[str, Tensor]], _Outputs],
        state: dict[str, Tensor],
        fields: dict[str, Tensor],
    ) -> _Outputs:
        """Replay the pass from a CUDA graph, which is captured at the first batch; other shapes run without it."""

        def run(*tensors: Tensor) -> tuple[Tensor, ...]:
            values = iter(tensors)
            outputs = together({name: next(values) for name in state}, {name: next(values) for name in fields})
            unused = {name: getattr(outputs, name).detach() for name in ("outputs", "states", "lengths")}
            return tuple(outputs._replace(**unused))

        tensors = (*state.values(), *fields.values())
        shapes = [value.shape for value in tensors]
        if self._graph is None:
            # the graph reads parameters and buffers in place and batches from copies. The parameters are detached
            # because they would otherwise accumulate gradients in the stream of the capture
            shared = (value.detach().requires_grad_(value.requires_grad) for value in state.values())
            samples = (*shared, *(value.clone() for value in fields.values()))
            try:
                graphed: Any = torch.cuda.make_graphed_callables(run, samples, allow_unused_input=True)
            except torch.OutOfMemoryError:
                raise
            except RuntimeError as error:
                reason = str(error).partition("\n")[0]  # a RuntimeError would look like a refusal of vmap
                raise ValueError(f"cuda_graph=True: the pass cannot be captured ({reason}): leave it out") from error
            self._graph = shapes, graphed
        captured, graphed = self._graph
        return _Outputs(*graphed(*tensors)) if shapes == captured else together(state, fields)

    def _announce(self, mode: str) -> None:
        if not self._announced:
            self._announced = True
            rank_zero_info(f"A population of {len(self.networks)} networks runs {mode}")

    def training_step(self, batch: SequenceBatch, batch_idx: int) -> Tensor:
        rows = self._rows
        result = self._run(batch, rows)
        losses = result.losses(_of(self._strength, rows))
        with torch.no_grad():
            self._update_losses("train", losses, result.weight, rows)
            finite = torch.isfinite(losses["loss"])
            if batch_idx % _STATES_EVERY_N_STEPS == 0:
                finite &= result.states.detach().abs().flatten(1).amax(dim=1) <= _MAX_STATE
            self._alive &= self._of_all(finite, rows, True)
        return torch.where(_of(self._alive, rows), losses["loss"], 0.0).sum()

    def _update_losses(self, split: Split, losses: Mapping[str, Tensor], weight: Tensor, rows: Tensor | None) -> None:
        totals = self._of_all(weight.flatten(1).sum(dim=1), rows)
        for name, metric in self._losses(split).items():
            metric.update(self._of_all(losses[name], rows), totals)

    def _of_all(self, values: Tensor, rows: Tensor | None, fill: Any = 0) -> Tensor:
        """Return the values of some members among those of all, shape ``(E,)``."""
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
        factor = (gradient_clip_val / (norms + 1e-6)).clamp(max=1.0)
        for gradient in gradients:
            if gradient_clip_algorithm == "value":
                gradient.clamp_(-gradient_clip_val, gradient_clip_val)
            else:
                gradient.mul_(_along(factor, gradient))

    def optimizer_step(
        self, epoch: int, batch_idx: int, optimizer: Any, optimizer_closure: Callable[[], Any] | None = None
    ) -> None:
        """Step with a rate of 1, and scale the step of each member by its rate, or by 0 after divergence or a stop."""
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
        """Return the learning rates of a parameter group, which are copied to the device after a change."""
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
            optimizer.step()  # does nothing without gradients, but prevents a warning of the scheduler
        stacked = self._stacked_by_parameter(0)
        groups = []
        for group in first.param_groups:
            parameters = [stacked[id(value)] for value in group["params"]]
            options = {**group, "params": parameters, "lr": 1.0}
            # unless told otherwise, PyTorch loops over the tensors on a CPU; the fused step is as exact in float32
            fits = all(value.dtype == torch.float32 for value in parameters)
            if isinstance(first, torch.optim.Adagrad):  # not all versions of PyTorch have a kernel for GPUs
                fits &= self.device.type == "cpu"
            if fits and group.get("fused", False) is None:
                options |= {"fused": not group["foreach"]}
            groups.append(options)
        restored = self.__dict__.pop("_restored", None)
        if restored is not None:
            self._restore(restored)
        return networks[0]._optimizer(groups)

    def _restore(self, restored: Mapping[str, Any]) -> None:
        """Restore learning rates, schedules and stopped members from a checkpoint, before a fit that may not start."""
        self._find_rows()
        for optimizer, rates in zip(self._optimizers, restored["rates"], strict=True):
            for group, rate in zip(optimizer.param_groups, rates, strict=True):
                group["lr"] = rate
        for scheduler, state in zip(self._schedulers, restored["schedulers"], strict=True):
            if scheduler is not None:
                scheduler.load_state_dict(state)

    def configure_callbacks(self) -> Sequence[Callback]:
        """Return the callbacks that resume exactly and handle signals between two steps."""
        return absent_callbacks(self.trainer, ExactResume, SignalsAtStepEnd)

    def on_fit_end(self) -> None:
        self._graph = None  # frees the memory of a pass

    def setup(self, stage: str) -> None:
        if self.trainer.world_size > 1:
            processes = f"{self.trainer.world_size} processes"
            raise ValueError(f"a population trains on one device, got {processes}: train one population on each device")
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
            self._rates_of(group)  # so that no step has to copy rates to the device

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
        for k in self._numbers:
            if self._may_end.get(k, False) and self.diverged[k] is None:
                self._stopped[k] = True
        self._find_rows()

    def _find_rows(self) -> None:
        """Find the members that go on, and end training if there is none."""
        alive = self.alive
        self._numbers = [k for k, stopped in enumerate(self.stopped) if not stopped]
        rows = torch.tensor(self._numbers, dtype=torch.int64, device=self._stopped.device)
        self._rows = None if len(rows) == len(self.networks) else rows
        if not any(alive[k] for k in self._numbers):
            self.trainer.should_stop = True

    def validation_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        return self._evaluate("val", batch)

    def test_step(self, batch: SequenceBatch, batch_idx: int) -> dict[str, Any]:
        return self._evaluate("test", batch)

    def _evaluate(self, split: Split, batch: SequenceBatch) -> dict[str, Any]:
        """Update the metrics of the members; return the values for the callbacks by index under "members"."""
        rows, numbers = (self._rows, self._numbers) if self._is_fitting() else (None, self._everyone)
        result = self._run(batch, rows)
        losses = result.losses(_of(self._strength, rows))
        self._update_losses(split, losses, result.weight, rows)
        outputs = {}
        for i, k in enumerate(numbers):
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
        self._record("val", self._numbers if self._is_fitting() else self._everyone)
        if not self._is_fitting():
            return
        self._may_end = {k: self.watches[k].update(self.current_epoch + 1, self.scores[k]) for k in self._numbers}
        loss = torch.tensor([scores["val/task_loss"] for scores in self.scores]).to(self._best_loss)
        self._alive &= torch.isfinite(loss)  # the last update may have broken the weights after the last training loss
        better = (loss < self._best_loss) & self._alive
        self._best_loss = torch.where(better, loss, self._best_loss)
        for value, best in zip(self.stack, self._best_weights(), strict=True):
            best.copy_(torch.where(_along(better, value), value.detach(), best))
        for k in better.nonzero().flatten().tolist():
            self.best_epoch[k], self.best_step[k] = self.current_epoch, self.global_step
        self._log_medians("val/task_loss")

    def on_test_epoch_end(self) -> None:
        self._record("test", self._everyone)
        self._log_medians("test/task_loss")

    def _is_fitting(self) -> bool:
        return self.trainer.state.fn == TrainerFn.FITTING

    def _losses(self, split: Split) -> dict[str, WeightedMean]:
        return {name: cast(WeightedMean, metric) for name, metric in getattr(self, f"{split}_metrics").items()}

    def _record(self, split: Split, members: Sequence[int]) -> None:
        """Record the scores of an epoch, which are read at once, and reset the metrics."""
        # a metric of one value has no dimension
        losses = {name: metric.compute().reshape(-1) for name, metric in self._losses(split).items()}
        values = [{name: column[k] for name, column in losses.items()} for k in members]
        if split != "train":
            for k, scores in zip(members, values, strict=True):
                scores.update(self.networks[k].read_scores(split))
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

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        checkpoint["population"] = {
            **{name: copy.deepcopy(getattr(self, name)) for name in _SAVED},
            "watches": [watch.state_dict() for watch in self.watches],
            "rates": [[group["lr"] for group in optimizer.param_groups] for optimizer in self._optimizers],
            "schedulers": [None if each is None else each.state_dict() for each in self._schedulers],
        }

    def on_load_checkpoint(self, checkpoint: Mapping[str, Any]) -> None:
        self._restored = checkpoint["population"]
        for name in _SAVED:
            setattr(self, name, copy.deepcopy(self._restored[name]))
        for watch, state in zip(self.watches, self._restored["watches"], strict=True):
            watch.load_state_dict(state)


def _check_alike(members: Sequence[ALRNNModule]) -> None:
    """Raise ``ValueError`` if members differ in more than P, weights, regularisation strength and rates."""
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


def _settings(optimizer: Optimizer) -> list[dict[str, Any]]:
    """Return the options of the groups of an optimizer except for the learning rate."""
    excluded = ("params", "lr", "initial_lr")
    return [{key: value for key, value in group.items() if key not in excluded} for group in optimizer.param_groups]


def _of(values: Tensor, rows: Tensor | None) -> Tensor:
    return values if rows is None else values[rows]


def _unpadded(value: Tensor, parameter: Tensor) -> Tensor:
    """Return a value in the shape of a parameter; the stacked A has entries for all units."""
    return value[value.shape[0] - parameter.shape[0] :] if value.ndim else value


def _along(values: Tensor, like: Tensor) -> Tensor:
    """Return values ``(E,)`` in a shape that broadcasts with a tensor ``(E, …)``."""
    return values.view(-1, *[1] * (like.ndim - 1))
