"""Optimizers and learning-rate schedulers in a checkpoint: the path of a class of PyTorch and its arguments."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from inspect import signature
from numbers import Integral, Real
from typing import Any, TypeAlias

import pytorch_lightning.cli
import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

Settings: TypeAlias = dict[str, Any]
"""``{"class_path": …, "init_args": {…}}``, or ``{"unknown": reason}``."""

# a checkpoint must not be able to import or call anything else
_MODULES = {
    "torch.optim": torch.optim,
    "torch.optim.lr_scheduler": torch.optim.lr_scheduler,
    "pytorch_lightning.cli": pytorch_lightning.cli,  # for its ReduceLROnPlateau, which has a monitor
}


class NotRestored:
    """Stands for an optimizer or a scheduler that a checkpoint could not keep, and raises when it is needed.

    Args:
        name: Name of the argument, "optimizer" or "lr_scheduler".
        reason: Why it could not be kept.
    """

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason

    def __call__(self, *arguments: Any) -> Any:
        raise ValueError(
            f"the checkpoint does not say which {self.name} the network was trained with ({self.reason}): pass "
            f"{self.name}=… to load_from_checkpoint"
        )


def describe(factory: Callable[..., Any]) -> Settings:
    """Return the settings of a class of PyTorch, or of a ``functools.partial`` of one."""
    if isinstance(factory, NotRestored):
        return {"unknown": factory.reason}
    cls: Any = factory
    arguments: dict[str, Any] = {}
    if isinstance(factory, partial):
        cls, arguments = factory.func, factory.keywords
        if cls.__module__.startswith("jsonargparse"):  # that of the command line: its function, then the class
            cls = next((value for value in factory.args if isinstance(value, type)), None)
    return _settings(cls, arguments) or {
        "unknown": f"{factory} is neither a class of torch.optim nor a functools.partial of one with plain values"
    }


def describe_optimizer(optimizer: Optimizer, groups: Sequence[Any]) -> Settings | None:
    """Return the settings of an optimizer that any function has made of ``groups``, its parameters or dicts of them.

    ``None`` if a class of PyTorch would make another optimizer of the same groups.
    """
    if not any(isinstance(group, dict) for group in groups):
        groups = [{"params": groups}]
    if not isinstance(optimizer, Optimizer) or len(groups) != len(optimizer.param_groups):
        return None
    for before, group in zip(groups, optimizer.param_groups, strict=True):
        parameters = [before["params"]] if isinstance(before["params"], Tensor) else before["params"]
        if [id(value) for value in parameters] != [id(value) for value in group["params"]]:
            return None
        expected = {**optimizer.defaults, **before}
        if any(expected[name] != group[name] for name in expected.keys() - {"params"}):
            return None
    names = signature(type(optimizer)).parameters
    return _settings(type(optimizer), {name: value for name, value in optimizer.defaults.items() if name in names})


def restore(name: str, settings: Settings | None) -> Any:
    """Make the optimizer or the scheduler, as ``name`` says, that the settings describe; ``None`` for no settings."""
    if settings is None:
        return None
    if "unknown" in settings:
        return NotRestored(name, settings["unknown"])
    path = str(settings.get("class_path"))
    module, _, class_name = path.rpartition(".")
    cls: Any = getattr(_MODULES.get(module), class_name, None)
    if _path_of(cls) != path:
        return NotRestored(name, f"{path!r} is no class of torch.optim here, and no other is built from a checkpoint")
    return partial(cls, **settings["init_args"])


def _settings(cls: Any, arguments: dict[str, Any]) -> Settings | None:
    path = _path_of(cls)
    try:
        init_args = {name: _plain(value) for name, value in arguments.items()}
    except TypeError:
        return None
    return None if path is None else {"class_path": path, "init_args": init_args}


def _path_of(cls: Any) -> str | None:
    """Return the path of an optimizer or a scheduler of PyTorch, or ``None``."""
    if not (isinstance(cls, type) and issubclass(cls, (Optimizer, LRScheduler))):
        return None
    names = (name for name, module in _MODULES.items() if getattr(module, cls.__name__, None) is cls)
    return next((f"{name}.{cls.__name__}" for name in names), None)


def _plain(value: Any) -> Any:
    """Return a value as a type that loads with ``weights_only=True``: NumPy's numbers do not."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return float(value)
    if isinstance(value, (list, tuple)):
        return type(value)(_plain(each) for each in value)
    raise TypeError
