"""The classes that the arguments in a checkpoint name: it must not be able to import or call anything else."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from os import PathLike
from pathlib import Path
from types import ModuleType, NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from lightning_fabric.utilities.cloud_io import _load
from pytorch_lightning import LightningDataModule
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

_SUITABLE = (nn.Module, Optimizer, LRScheduler, LightningDataModule)
_ARGUMENTS = ("hyper_parameters", "hparams", "module_arguments")
_DATA_ARGUMENTS = ("datamodule_hyper_parameters",)
"""Where Lightning of this and of earlier versions keeps arguments in a checkpoint."""
_TEXT = {str, int, float, bool, complex, NoneType, Path, PathLike, list, tuple, dict, set, frozenset, ..., Any, object}
"""Types of which a text, or a text in a list of them, never names a class."""


def find_class(path: str) -> type | None:
    """Return the class with a path such as ``torch.nn.GRU``, or ``None`` if no module that is imported has it.

    Nothing is imported, except that the public names of this package are found before their first use.
    """
    names, module, length = path.split("."), None, 0
    for length in range(len(names) - 1, 0, -1):
        module = sys.modules.get(".".join(names[:length]))
        if module is not None:
            break
    if not issubclass(type(module), ModuleType):
        return None
    # not getattr, by which modules that import their parts at first use would do so
    namespace: Mapping[str, Any] = object.__getattribute__(module, "__dict__")
    found: Any = namespace.get(names[length])
    if found is None and names[0] == "lightning_alrnn" and names[length] in namespace.get("__all__", ()):
        found = getattr(module, names[length])
    for name in names[length + 1 :]:
        found = vars(found).get(name) if _is_class(found) else None
    return found if _is_class(found) else None


def _is_class(value: Any) -> bool:
    """Whether a value is a class; unlike ``isinstance``, this does not ask the value itself."""
    return issubclass(type(value), type)


def check_checkpoint_file(
    owner: type, path: Any, map_location: Any, weights_only: bool | None, passed: Mapping[str, Any]
) -> None:
    """Check a checkpoint that ``owner.load_from_checkpoint`` is about to read, with the arguments that it takes."""
    place = None if isinstance(path, (str, PathLike)) else path.tell()
    content = _load(path, map_location, weights_only)
    if place is not None:
        path.seek(place)
    check_classes(content, owner, passed)


def check_classes(content: Mapping[str, Any], owner: type, passed: Mapping[str, Any] | None = None) -> None:
    """Raise ``ValueError`` if the arguments in a checkpoint name a class that it may not name.

    It may name layers, optimizers, schedulers and DataModules in modules that are imported. The arguments are those of
    ``owner``, unless the checkpoint names a class. ``passed`` has the arguments that replace those of the checkpoint.
    """
    for key in _DATA_ARGUMENTS if issubclass(owner, LightningDataModule) else _ARGUMENTS:
        arguments = content.get(key) or {}
        if not isinstance(arguments, Mapping):
            raise ValueError(f"the {key} of a checkpoint must be a dict, got {type(arguments).__name__}")
        cls = _suitable("_class_path", arguments["_class_path"]) if "_class_path" in arguments else owner
        _check_arguments(cls, {name: arguments[name] for name in arguments.keys() - (passed or {}).keys()})


def _check_arguments(owner: type | None, arguments: Mapping[str, Any]) -> None:
    """Check the arguments of a class; ``None`` if it is not known."""
    types = {} if owner is None else _types(owner)
    for name, value in arguments.items():
        if name not in ("_class_path", "_instantiator"):  # Lightning itself allows a single instantiator
            _check_value(str(name), value, name not in types or not set(_parts(types[name])) <= _TEXT)


def _check_value(name: str, value: Any, may_name_class: bool) -> None:
    """Check a value. Unless text in it may name a class, it may be any text, but no description of a class."""
    if isinstance(value, Mapping):
        described = any("class_path" in str(key) for key in value)
        owner = _suitable(name, value["class_path"]) if "class_path" in value else None
        for key, part in value.items():
            if key in ("init_args", "dict_kwargs") and isinstance(part, Mapping):
                _check_arguments(owner, part)
            elif key != "class_path":
                _check_value(name, part, may_name_class or described)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for part in value:
            _check_value(name, part, may_name_class)
    elif isinstance(value, str):
        # text may be read as YAML, or as the path of a configuration
        free = value.isidentifier() and not Path(value).is_file() if may_name_class else "class_path" not in value
        if not free:
            _suitable(name, value)


def _suitable(name: str, path: Any) -> type:
    """Return the class that a checkpoint names; raise ``ValueError`` if it may not."""
    found = find_class(path) if isinstance(path, str) else None
    if found is None or not issubclass(found, _SUITABLE):
        raise _refusal(name, path)
    return found


def _refusal(name: str, value: Any) -> ValueError:
    shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:80]}…"
    return ValueError(
        f"the checkpoint has {name}={shown}, which is no layer, optimizer, scheduler or DataModule in a module that is "
        f"imported; nothing else is imported or called for a checkpoint: import its module, or name it yourself, by "
        f"--model.{name} or load_from_checkpoint(path, {name}=…)"
    )


def _types(owner: type) -> dict[str, Any]:
    """The types of the arguments of a class and of its bases; those that cannot be evaluated are left out."""
    types: dict[str, Any] = {}
    for cls in reversed(owner.__mro__):
        init = vars(cls).get("__init__")
        if inspect.isfunction(init):
            try:
                types |= get_type_hints(init)
            except (NameError, TypeError, AttributeError):  # a name for type checkers only
                types = {name: value for name, value in types.items() if name not in init.__annotations__}
    return types


def _parts(hint: Any) -> Iterator[Any]:
    """The types that a type is made of."""
    origin = get_origin(hint)
    if origin is Literal:
        yield str
    elif origin in (Union, UnionType) or origin in _TEXT:
        for part in get_args(hint):
            yield from _parts(part)
    else:
        yield origin or hint
