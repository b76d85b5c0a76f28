"""What the docstring of an exported object must say: arguments, what comes back, errors, and the shapes of arrays.

For all else a sentence is enough, which ruff asks for.
"""

from __future__ import annotations

import ast
import dataclasses
import functools
import inspect
import itertools
import re
import sys
import textwrap
from collections.abc import Callable, Iterator, Mapping
from types import ModuleType
from typing import Any, NamedTuple, NoReturn, get_args, get_origin

import numpy as np
import torch

from lightning_alrnn.nn import Recurrence

PACKAGE = "lightning_alrnn"

_HEADING = re.compile(r"^([A-Z][a-z]+):$")
_SHAPE = re.compile(  # such as ``(batch, time, M)``
    r"``\([^`]*\)``|\bscalars?\b|\b(?:same|that|its|their|whose) shapes?\b|\bshapes? (?:of|as) ", re.IGNORECASE
)
_UNDECLARED = ("forward", "update")  # what these take, torch and torchmetrics leave to the class

Raised = type[BaseException]
Sections = dict[str, dict[str, str]]
"""Entries of each section by name. The text of a section, and that before all sections, has the name ""."""


class Documented(NamedTuple):
    """A function or class of the package; ``owner`` is the class that a method belongs to."""

    name: str
    value: Any
    owner: type | None = None


def exported_objects(package: ModuleType) -> Iterator[Documented]:
    """The functions and classes that a package exports, and their methods that no base outside the package has."""
    for name in getattr(package, "__all__", ()):
        value = getattr(package, name)
        value = value if inspect.isclass(value) else _function(value)
        if value is None:
            continue
        path = f"{package.__name__}.{name}"
        yield Documented(path, value)
        if inspect.isclass(value):
            for method, function in _functions(value).items():
                if not method.startswith("_") and not _declared_outside(value, method):
                    yield Documented(f"{path}.{method}", function, value)


def missing(value: Any, owner: type | None = None) -> list[str]:
    """What the docstring of a function, method or class does not say."""
    sections = _sections(value.__doc__) if inspect.isclass(value) else _described(value, owner)
    if not sections:
        return ["a docstring"]
    if not inspect.isclass(value):
        arguments = _missing_arguments(value, sections)
        return [*arguments, *_missing_returns(value, sections), *_missing_raises(_raised(value, owner), sections)]
    makers = [function for name, function in _functions(value).items() if name in ("__init__", "__post_init__")]
    raised = {kind for maker in makers for kind in _raised(maker, value)}
    if hasattr(value, "_fields") or dataclasses.is_dataclass(value):
        described = sections.get("Attributes", sections.get("Args", {}))
        fields = {name: kind for name, kind in inspect.get_annotations(value).items() if not name.startswith("_")}
        entries = [
            _missing_entry(name, _evaluated(kind, value), described, "Attributes") for name, kind in fields.items()
        ]
    else:
        entries = [_missing_arguments(maker, sections) for maker in makers]
    return [*itertools.chain(*entries), *_missing_raises(raised, sections)]


def _missing_arguments(function: Callable[..., Any], sections: Sections) -> list[str]:
    return [
        problem
        for name, parameter in inspect.signature(function).parameters.items()
        if name not in ("self", "cls") and not name.startswith("_")
        for problem in _missing_entry(
            name, _evaluated(parameter.annotation, function), sections.get("Args", {}), "Args"
        )
    ]


def _missing_entry(name: str, annotation: Any, described: dict[str, str], section: str) -> list[str]:
    if name not in described:
        return [f"{name} under {section}"]
    return [f"the shape of {name}"] if _holds_arrays(annotation) and not _SHAPE.search(described[name]) else []


def _missing_returns(function: Callable[..., Any], sections: Sections) -> list[str]:
    annotation = _evaluated(inspect.signature(function).return_annotation, function)
    if annotation in (None, NoReturn) or get_args(annotation) == (None,):  # Iterator[None], of a context manager
        return []
    texts = [sections[name][""] for name in ("Returns", "Yields") if name in sections]
    if not texts and "Args" in sections and not _describes_itself(annotation):
        return ["Returns"]
    said = " ".join(texts) or sections[""][""]
    return ["the shape of what it returns"] if _holds_arrays(annotation) and not _SHAPE.search(said) else []


def _missing_raises(raised: set[Raised], sections: Sections) -> list[str]:
    named = {name for entry in sections.get("Raises", {}) for name in re.findall(r"\w+", entry)}
    return [f"{name} under Raises" for name in sorted({kind.__name__ for kind in raised} - named)]


def _describes_itself(annotation: Any) -> bool:
    """Whether a result is a tuple or dataclass of the package, whose attributes are described there."""
    fields = hasattr(annotation, "_fields") or dataclasses.is_dataclass(annotation)
    return fields and annotation.__module__.startswith(PACKAGE) and "Attributes" in _sections(annotation.__doc__)


def _holds_arrays(annotation: Any) -> bool:
    """Whether an annotation is an array, or a tuple, list or union with arrays; not a mapping or function of arrays."""
    if annotation is Recurrence:  # says its shapes itself
        return False
    kind = get_origin(annotation) or annotation
    if inspect.isclass(kind) and issubclass(kind, (Callable, Mapping)):
        return False
    if inspect.isclass(kind) and issubclass(kind, (torch.Tensor, np.ndarray)):
        return True
    return any(_holds_arrays(part) for part in get_args(annotation))


def _evaluated(annotation: Any, where: Callable[..., Any]) -> Any:
    names = vars(sys.modules[where.__module__])
    try:
        return eval(annotation, names) if isinstance(annotation, str) else annotation
    except NameError:  # imported where types are checked alone
        return annotation


def _described(function: Callable[..., Any], owner: type | None) -> Sections:
    """A method need not say again what the method of the package that it overrides says."""
    found: Sections = {}
    for base in reversed(owner.__mro__ if owner is not None else ()):
        if base is not owner and base.__module__.startswith(PACKAGE):
            found |= _sections(getattr(_functions(base).get(function.__name__), "__doc__", None))
    return found | _sections(function.__doc__)


def _sections(docstring: str | None) -> Sections:
    found: Sections = {"": {"": ""}} if docstring else {}
    section = entry = ""
    for line in inspect.cleandoc(docstring or "").split("\n"):
        if heading := _HEADING.match(line):
            section, entry = heading[1], ""
            found[section] = {"": ""}
            continue
        if line and not line.startswith(" "):
            section = entry = ""
        if section in ("Args", "Attributes", "Raises") and re.match(r"    \S", line):
            entry = line.strip().partition(":")[0].lstrip("*")
        if docstring:
            found[section][entry] = f"{found[section].get(entry, '')} {line.strip()}".strip()
    return found


def _functions(cls: type) -> dict[str, Callable[..., Any]]:
    """Functions that the class itself defines, not those that a dataclass or protocol is given."""
    functions = ((name, _function(value)) for name, value in vars(cls).items())
    return {name: each for name, each in functions if each and each.__module__ == cls.__module__ and _tree(each)}


def _function(value: Any) -> Callable[..., Any] | None:
    """The function behind a method, a property or a decorator."""
    for attribute in ("__func__", "fget", "func"):
        if not inspect.isfunction(value):
            value = getattr(value, attribute, value)
    value = inspect.unwrap(value) if callable(value) else value
    return value if inspect.isfunction(value) else None


def _declared_outside(cls: type, name: str) -> bool:
    bases = (base for base in cls.__mro__[1:] if not base.__module__.startswith(PACKAGE))
    return name not in _UNDECLARED and any(name in vars(base) for base in bases)


def _raised(function: Callable[..., Any], owner: type | None, seen: frozenset[Any] = frozenset()) -> set[Raised]:
    """Exceptions that a function raises itself, or through helpers that are private or there to check."""
    tree, names = _tree(function), vars(sys.modules[function.__module__])
    found: set[Raised] = set()
    for node, handlers in () if tree is None or function in seen else _raises_and_calls(tree, ()):
        if isinstance(node, ast.Raise):
            raised = _exceptions(node.exc.func if isinstance(node.exc, ast.Call) else node.exc, names)
            raised -= {NotImplementedError}  # left to subclasses
        else:
            helper = _helper(node.func, function, owner)
            raised = set() if helper is None else _raised(helper, owner, seen | {function})
        caught = {kind for handler in handlers for kind in _exceptions(handler, names)}
        found |= {kind for kind in raised if not issubclass(kind, tuple(caught))}
    return found


def _exceptions(named: ast.expr | None, names: dict[str, Any]) -> set[Raised]:
    """The exceptions that an expression names; none where it is a variable of the function."""
    try:
        value = eval(ast.unparse(named), names) if named is not None else ()
    except NameError:
        return set()
    kinds = value if isinstance(value, tuple) else (value,)
    return {kind for kind in kinds if inspect.isclass(kind) and issubclass(kind, BaseException)}


def _helper(called: ast.expr, caller: Callable[..., Any], owner: type | None) -> Callable[..., Any] | None:
    """The function that a call names, if it is private or there to check."""
    match called:
        case ast.Name(id=name):
            helper = _function(vars(sys.modules[caller.__module__]).get(name))
        case ast.Attribute(value=ast.Name(id="self" | "cls"), attr=name) if owner is not None:
            helper = _function(inspect.getattr_static(owner, name, None))
        case _:
            return None
    within = helper is not None and helper.__module__.startswith((PACKAGE, caller.__module__))
    return helper if within and name.startswith(("_", "check_")) else None


def _raises_and_calls(
    tree: ast.AST, handlers: tuple[ast.expr, ...]
) -> Iterator[tuple[ast.Raise | ast.Call, tuple[ast.expr, ...]]]:
    """Those of a function's own body, each with what is caught around it."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
            continue
        around = handlers
        if isinstance(tree, ast.Try) and node in tree.body:
            around += tuple(handler.type for handler in tree.handlers if handler.type is not None)
        if isinstance(node, (ast.Raise, ast.Call)):
            yield node, around
        yield from _raises_and_calls(node, around)


@functools.cache
def _tree(function: Callable[..., Any]) -> ast.FunctionDef | None:
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    except (OSError, SyntaxError):  # made by a decorator, or a lambda
        return None
    return tree if isinstance(tree, ast.FunctionDef) else None
