"""A callback that stops training that diverges, or restores earlier weights."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping
from itertools import chain
from typing import Any, Literal

import torch
from lightning_utilities.core.rank_zero import rank_zero_warn
from pytorch_lightning import Callback, LightningModule, Trainer
from torch import Tensor
from torch.optim import Optimizer

from lightning_alrnn.analysis.fixed_point_search import eigenvalues_of_regimes
from lightning_alrnn.analysis.regime_statistics import count_regimes
from lightning_alrnn.errors import check_at_least, check_choice, check_not_negative
from lightning_alrnn.nn.alrnn import ALRNN

Action = Literal["stop", "restore"]

_REGIMES = 16

REMEDY = (
    "training has diverged. Usual causes: the learning rate is too high (lower the optimizer's lr), gradients explode "
    "(set the Trainer's gradient_clip_val, e.g. 1.0), or the start is unstable (init='near_identity', or a smaller "
    "hidden_size). Checkpoints of earlier epochs are kept."
)


class DivergenceGuard(Callback):
    """Stops training that diverges, or restores the weights and halves the learning rate.

    Training has diverged if the loss, the norm of the gradient (before clipping) or the largest state is not finite or
    exceeds its limit. On a CPU with one process, the guard checks loss and norm before each step, so no weight is ever
    broken; otherwise every ``every_n_steps`` and at the end of each epoch. The LightningModules of this package add a
    guard unless the Trainer has one.

    Args:
        action: Response to divergence: "stop" raises ``FloatingPointError``; "restore" restores the weights and the
            optimizer of the start of the epoch, halves the learning rate and goes on with the next batch.
        max_gradient_norm: Limit of the norm of the gradient if the Trainer does not clip it.
        max_state: Limit of the absolute value of a state.
        every_n_steps: Number of steps between two checks of the states, and of all values on a device.
        max_restores: Number of restores after which divergence stops training.

    Attributes:
        restores: Number of restores so far.

    Raises:
        FloatingPointError: If training has diverged. The message says where and what to do.
        ValueError: If an argument is out of range.

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
        check_choice("action", action, Action)
        for name, value in (("max_gradient_norm", max_gradient_norm), ("max_state", max_state)):
            if not value > 0:
                raise ValueError(f"{name} must be positive, got {value}")
        check_at_least(1, every_n_steps=every_n_steps)
        check_not_negative(max_restores=max_restores)
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
        # a run that is resumed within an epoch does not start one
        if self.action == "restore":
            optimizers = [optimizer.state_dict() for optimizer in trainer.optimizers]
            self._good = copy.deepcopy({"weights": pl_module.state_dict(), "optimizers": optimizers})

    on_train_epoch_start = on_train_start  # the weights were checked at the end of the last epoch

    def on_before_backward(self, trainer: Trainer, pl_module: LightningModule, loss: Tensor) -> None:
        self._note("train/loss", loss.detach())

    def on_before_optimizer_step(self, trainer: Trainer, pl_module: LightningModule, optimizer: Optimizer) -> None:
        # walking the submodules of the module would take longer
        parameters = chain.from_iterable(group["params"] for group in optimizer.param_groups)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        if gradients:
            self._note("the gradient's norm", torch.nn.utils.get_total_norm(gradients))
        if _reads_cost_nothing(trainer) and self._check(trainer, pl_module):
            # an optimizer does not change parameters without a gradient
            optimizer.zero_grad(set_to_none=True)

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self._states = outputs.get("states") if isinstance(outputs, Mapping) else None
        if trainer.global_step % self.every_n_steps == 0:
            for states in _tensors(self._states):
                self._note("the largest state", states.abs().amax())
            self._check(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._check(trainer, pl_module)

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self._check(trainer, pl_module)
        self._states = None

    def _note(self, name: str, value: Tensor) -> None:
        """Keep the largest value; ``maximum`` returns NaN if one of the values is NaN."""
        value = value.abs().float().squeeze()
        self._worst[name] = torch.maximum(self._worst[name], value) if name in self._worst else value

    def _check(self, trainer: Trainer, pl_module: LightningModule) -> bool:
        """Return whether training has diverged, after the action. All processes call it at the same step."""
        limits = {"the largest state": self.max_state}
        if not trainer.gradient_clip_val:
            limits["the gradient's norm"] = self.max_gradient_norm
        values = torch.stack([*self._worst.values()]).tolist() if self._worst else []  # a single wait for the device
        worst, self._worst = dict(zip(self._worst, values, strict=True)), {}
        exceeded = [
            name for name, value in worst.items() if not (math.isfinite(value) and value <= limits.get(name, math.inf))
        ]
        if not trainer.strategy.reduce_boolean_decision(bool(exceeded), all=False):
            return False
        message = self._message(trainer, pl_module, exceeded[0] if exceeded else "a value of another process", worst)
        if self._good is None or self.restores >= self.max_restores:
            raise FloatingPointError(message)
        self.restores += 1
        pl_module.load_state_dict(self._good["weights"])
        rates = []
        for optimizer, state in zip(trainer.optimizers, self._good["optimizers"], strict=True):
            # schedulers use "initial_lr"
            names = ("lr", "initial_lr")
            halved = [{name: group[name] / 2 for name in names if name in group} for group in optimizer.param_groups]
            optimizer.load_state_dict(copy.deepcopy(state))
            for group, group_rates in zip(optimizer.param_groups, halved, strict=True):
                group.update(group_rates)
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

    def _message(self, trainer: Trainer, pl_module: LightningModule, name: str, worst: dict[str, float]) -> str:
        value, norm = (worst.get(key, math.nan) for key in (name, "the gradient's norm"))
        state = f"{value:.3g}" if math.isfinite(value) else "not finite"
        return (
            f"{name} is {state} in epoch {trainer.current_epoch}, step {trainer.global_step} (norm of the gradient "
            f"{norm:.3g}, {self._radius(pl_module)}): {REMEDY}"
        )

    def _radius(self, pl_module: LightningModule) -> str:
        """Return a text with the spectral radius of the regimes that the last batch visited."""
        radii = []
        for path, module in pl_module.named_modules():
            if not isinstance(module, ALRNN):
                continue
            if not all(bool(torch.isfinite(parameter).all()) for parameter in module.parameters()):
                return "weights are not finite"
            states = self._states
            if isinstance(states, Mapping):
                states = next((value for key, value in states.items() if f".{path}".endswith(f".{key}")), None)
            codes = torch.ones(1, module.nonlinear_units, dtype=torch.bool)
            if isinstance(states, Tensor) and states.shape[-1] == module.hidden_size:
                codes = count_regimes(states.detach().nan_to_num().cpu(), module.nonlinear_units).codes[:_REGIMES]
            radii.append(float(eigenvalues_of_regimes(module, codes).abs().max()))
        return f"spectral radius of the visited regimes {max(radii):.3g}" if radii else "no ALRNN"


def _reads_cost_nothing(trainer: Trainer) -> bool:
    """Whether there is no device to halt and no process to wait for."""
    return trainer.world_size == 1 and trainer.strategy.root_device.type == "cpu"


def _tensors(states: Any) -> Iterator[Tensor]:
    if isinstance(states, Tensor):
        yield states
    elif isinstance(states, Mapping):
        for value in states.values():
            yield from _tensors(value)
