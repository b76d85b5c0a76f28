"""What docstrings say is there, and is so: arguments, shapes, results, errors, and examples that run."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
from docstring_rules import Documented, exported_objects, missing
from numpy.typing import NDArray
from torch import Tensor, nn

import lightning_alrnn
from lightning_alrnn.nn import available_backends

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(lightning_alrnn.__path__, "lightning_alrnn.")
    if not info.name.endswith("__main__")
    if info.name != "lightning_alrnn.nn.scan.native" or "native" in available_backends()
)
EXPORTED = [
    found for name in ["lightning_alrnn", *MODULES] for found in exported_objects(importlib.import_module(name))
]
OBJECTS = list({(found.value, found.owner): found for found in EXPORTED}.values())


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


@pytest.mark.parametrize("documented", OBJECTS, ids=[found.name for found in OBJECTS])
def test_docstring_is_complete(documented: Documented) -> None:
    problems = missing(documented.value, documented.owner)
    assert not problems, f"the docstring of {documented.name} lacks {', '.join(problems)}"


def test_all_kinds_of_objects_are_looked_at() -> None:
    names = {found.name.removeprefix("lightning_alrnn.") for found in OBJECTS}
    assert {
        "analysis.fixed_points",  # a function
        "analysis.FixedPointSet",  # a named tuple
        "nn.ALRNN.forward",  # its forward, whose arguments torch does not know,
        "nn.ALRNN.linear_units",  # a property
        "metrics.RegimeCounter.update",
        "callbacks.StatesCallback.compute",  # abstract
    } <= names
    assert "callbacks.StatesCallback.setup" not in names  # Lightning's


def test_no_module_has_the_name_of_what_it_holds() -> None:
    for name in MODULES:
        module = importlib.import_module(name)
        assert getattr(getattr(module, name.rpartition(".")[2], None), "__module__", None) != name, name
        for part in pkgutil.iter_modules(getattr(module, "__path__", ())):
            assert isinstance(getattr(module, part.name, module), type(module)), f"{name}.{part.name}"


def complete(x: Tensor, names: list[str] | None = None, *scales: float) -> Tensor:
    """Do something.

    Args:
        x: the states,
            shape ``(batch, M)``.
        names: of the units: two.
        *scales: factors.

    Returns:
        Of the same shape.

    Raises:
        ValueError: if there are too few names.
        TypeError: if they are no texts.
    """
    if not names:
        raise ValueError("names must not be empty")
    _check_texts(names)
    return x


def _check_texts(names: list[str]) -> None:
    if not all(isinstance(name, str) for name in names):
        raise TypeError("names must be texts")


def incomplete(x: Tensor, names: list[str], *scales: float, arrays: list[tuple[NDArray[np.float64], ...]]) -> Tensor:  # noqa: D417
    """Do something.

    Args:
        x: the states.
        arrays: of them.
    """
    try:
        raise KeyError
    except LookupError as error:
        raise RuntimeError from error
    finally:
        _check_texts(names)


class Pair(NamedTuple):
    """Two arrays.

    Attributes:
        first: scalar.
    """

    first: Tensor
    second: Tensor


class Base(nn.Module):
    """A layer.

    Args:
        size: number of units.
    """

    def __init__(self, size: int, bias: bool) -> None:
        super().__init__()
        if not bias:
            self._check(size)

    def _check(self, size: int) -> None:
        raise ValueError(size)

    def forward(self, x: Tensor) -> Tensor:
        """Do it."""
        return x

    @property
    def size(self) -> int:
        """Number of units."""
        raise RuntimeError


@pytest.mark.parametrize(
    ("value", "owner", "problems"),
    [
        (complete, None, []),
        (
            incomplete,
            None,
            [
                *("the shape of x", "names under Args", "scales under Args", "the shape of arrays"),
                *("Returns", "RuntimeError under Raises", "TypeError under Raises"),
            ],
        ),
        (_check_texts, None, ["a docstring"]),
        (Pair, None, ["second under Attributes"]),
        (Base, None, ["bias under Args", "ValueError under Raises"]),
        (Base.forward, Base, ["x under Args", "the shape of what it returns"]),
        (Base.__dict__["size"].fget, Base, ["RuntimeError under Raises"]),
    ],
)
def test_rules(value: Any, owner: type | None, problems: list[str]) -> None:
    assert missing(value, owner) == problems
