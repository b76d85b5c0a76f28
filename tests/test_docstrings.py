"""Every example in a docstring runs and gives what it says."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest
import torch

import lightning_alrnn
from lightning_alrnn.nn import available_backends

MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(lightning_alrnn.__path__, "lightning_alrnn.")
    if not info.name.endswith("__main__")
    if info.name != "lightning_alrnn.nn.native" or "native" in available_backends()
)


@pytest.mark.parametrize("name", MODULES)
def test_examples(name: str) -> None:
    torch.manual_seed(0)
    result = doctest.testmod(importlib.import_module(name), optionflags=doctest.NORMALIZE_WHITESPACE)
    assert result.failed == 0


def test_public_names_exist() -> None:
    for name in lightning_alrnn.__all__:
        assert getattr(lightning_alrnn, name).__doc__
