"""Training that diverges is stopped, or goes back to where it was well."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Literal, get_args

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lightning_alrnn.analysis.fixed_point_search import eigenvalues_of_regimes
from lightning_alrnn.analysis.regime_statistics import count_regimes
from lightning_alrnn.nn.alrnn import ALRNN

Action = Literal["stop", "restore"]

_REGIMES = 16


REMEDY = (
    "training has diverged. Usual causes: the learning rate is too high (lower the optimizer's lr), gradients explode "
    "(set the Trainer's gradient_clip_val, e.g. 1.0), or the start is unstable (init='near_identity', or a smaller "
    "hidden_size). Checkpoints of earlier epochs are kept."
)


class DivergenceGuard(Callback):
    """Stops training that diverges, with the reason, or restores the weights and halves the learning rate.

    Watched are the loss and the norm of the gradient (before clipping), at every step, and the magnitude of the states.
    Training has diverged where one of them is not finite or exceeds its limit. Where the Trainer clips gradients their
    norm has no limit: a step along a large one is then as long as any other. On a CPU with one process that is seen
    before the step is taken, so that no weight is ever broken. Elsewhere the values stay on the device, and all
    processes look at them together every ``every_n_steps`` and at the end of each epoch: reading them at every step
    would halt the device.

    The LightningModules of this package add a guard by themselves unless the Trainer has one.

    Args:
        action: "stop" raises ``FloatingPointError``. "restore" goes back to the weights and the state of the optimizer
            at the last good end of an epoch (or the start of training), halves the learning rate and goes on with the
            next batch.
        max_gradient_norm: limit of the gradient's norm, where the Trainer does not clip it.
        max_state: limit of a state's absolute value.
        every_n_steps: steps between two looks at the states, and at all values where they are on a device.
        max_restores: after so many, training stops all the same.

    Attributes:
        restores: how often weights have been restored.

    Raises:
        FloatingPointError: when training has diverged. The message gives step, norm and the spectral radius of the
            visited regimes, and what to do.
        ValueError: if an argument is out of range.

    Example:
        >>> from pytorch_lightning import Trainer
        >>> trainer = Trainer(callbacks=[DivergenceGuard("restore")], logger=False, enable_checkpointing=False)
    """

    def __init__(
        self,
        action: Action = "stop",
        max_gradient_norm: float = 1e8,
        max_state: float = 1e8,
        every_n_steps: int = 50,
        max_restores: int = 5,
    ) -> None:
        super().__init__()
        if action not in get_args(Action):
            raise ValueError(f"action must be one of {', '.join(map(repr, get_args(Action)))}, got {action!r}")
        for name, value in (("max_gradient_norm", max_gradient_norm), ("max_state", max_state)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        if every_n_steps < 1:
            raise ValueError(f"every_n_steps must be at least 1, got {every_n_steps}")
        if max_restores < 0:
            raise ValueError(f"max_restores must not be negative, got {max_restores}")
        self.action = action
        self.max_gradient_norm = max_gradient_norm
        self.max_state = max_state
        self.every_n_steps = every_n_steps
        self.max_restores = max_restores
        self.restores = 0
        self._worst: dict[str, Tensor] = {}
        self._states: Any = None
        self._good: dict[str, Any] | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"restores": self.restores}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.restores = state_dict["restores"]

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(trainer, pl_module)  # a run that is resumed within an epoch does not begin one

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._keep(trainer, pl_module)  # what this epoch starts from has been looked at

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._note("train/loss", loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        # the optimizer has its parameters at hand, a module has to walk its submodules
        parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            self._note("the gradient's norm", torch.nn.utils.get_total_norm(gradients))
        if _seen_at_once(trainer) and self._look(trainer, pl_module):
            # nothing is left of the step: an optimizer leaves parameters without a gradient alone
            optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._states = outputs.get("states") if isinstance(outputs, Mapping) else None
        if trainer.global_step % self.every_n_steps == 0:
            for states in _tensors(self._states):
                self._note("the largest state", states.abs().amax())
            self._look(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._look(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._look(trainer, pl_module)
        self._states = None

    def _keep(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if self.action == "restore":
            optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
            self._good = copy.deepcopy({"weights": pl_module.state_dict(), "optimizers": optimizers})

    def _note(self, name: str, value: Tensor) -> None:
        """Keep the worst of each: NaN is worse than any number, as ``maximum`` has it."""
        value = value.abs().float().squeeze()
        self._worst[name] = torch.maximum(self._worst[name], value) if name in self._worst else value

    def _look(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Act where training has diverged; whether it has. All processes call it at the same step."""
        limits = {"the largest state": self.max_state}
        if not trainer.gradient_clip_val:
            limits["the gradient's norm"] = self.max_gradient_norm
        values = torch.stack([*self._worst.values()]).tolist() if self._worst else []  # one wait for the device
        worst, self._worst = dict(zip(self._worst, values, strict=True)), {}
        wrong = {
            name: value
            for name, value in worst.items()
            if not math.isfinite(value) or value > limits.get(name, math.inf)
        }
        if not trainer.strategy.reduce_boolean_decision(bool(wrong), all=False):
            return False
        message = self._message(trainer, pl_module, wrong, worst)
        if self._good is None or self.restores >= self.max_restores:
            raise FloatingPointError(message)
        self.restores += 1
        pl_module.load_state_dict(self._good["weights"])
        rates = []
        for optimizer, state in zip(trainer.optimizers, self._good["optimizers"], strict=True):
            # "initial_lr" is what schedulers go by
            names = ("lr", "initial_lr")
            now = [{name: group[name] for name in names if name in group} for group in optimizer.param_groups]
            optimizer.load_state_dict(copy.deepcopy(state))
            for group, before in zip(optimizer.param_groups, now, strict=True):
                group.update({name: rate / 2 for name, rate in before.items()})
                rates.append(group["lr"])
        for config in trainer.lr_scheduler_configs:
            scheduler: Any = config.scheduler
            if hasattr(scheduler, "base_lrs"):
                scheduler.base_lrs = [rate / 2 for rate in scheduler.base_lrs]
        rank_zero_warn(
            f"{message} Restored the weights of the start of this epoch; the learning rate is now "
            f"{', '.join(f'{rate:.3g}' for rate in rates)} (restore {self.restores} of {self.max_restores})"
        )
        return True

    def _message(
        self, trainer: Trainer, pl_module: LightningModule, wrong: dict[str, float], worst: dict[str, float]
    ) -> str:
        name, value = next(iter(wrong.items()), ("a value of another process", math.nan))
        what = f"{name} is {value:.3g}" if math.isfinite(value) else f"{name} is not finite"
        norm = worst.get("the gradient's norm", math.nan)
        return (
            f"{what} in epoch {trainer.current_epoch}, step {trainer.global_step} (norm of the gradient {norm:.3g}, "
            f"{self._radius(pl_module)}): {REMEDY}"
        )

    def _radius(self, pl_module: LightningModule) -> str:
        """The spectral radius of the regimes that the last batch visited."""
        networks = {path: module for path, module in pl_module.named_modules() if isinstance(module, ALRNN)}
        found = []
        for path, rnn in networks.items():
            if not all(bool(torch.isfinite(parameter).all()) for parameter in rnn.parameters()):
                found.append(math.inf)
                continue
            codes = torch.ones(1, rnn.nonlinear_units, dtype=torch.bool)
            own = self._states
            if isinstance(own, Mapping):
                own = next((value for key, value in own.items() if path == key or path.endswith(f".{key}")), None)
            if isinstance(own, Tensor) and own.shape[-1] == rnn.hidden_size:
                codes = count_regimes(own.detach().nan_to_num().cpu(), rnn.nonlinear_units).codes[:_REGIMES]
            found.append(float(eigenvalues_of_regimes(rnn, codes).abs().max()))
        if not found:
            return "no ALRNN"
        if math.isinf(max(found)):
            return "weights are not finite"
        return f"spectral radius of the visited regimes {max(found):.3g}"


def _seen_at_once(trainer: Trainer) -> bool:
    """Whether reading a value costs nothing: there is no device to halt and no process to wait for."""
    return trainer.world_size == 1 and trainer.strategy.root_device.type == "cpu"


def _tensors(states: Any) -> Iterator[Tensor]:
    if isinstance(states, Tensor):
        yield states
    elif isinstance(states, Mapping):
        for value in states.values():
            yield from _tensors(value)
