"""Options whose default depends on the variant of a task, or that only some variants have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def variant_options(
    variant: str, defaults: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Any], noun: str = "variant"
) -> dict[str, Any]:
    """The options of a variant: the chosen values, and defaults for those that are ``None``."""
    options = dict(defaults[variant])
    for name, value in chosen.items():
        if value is None:
            continue
        if name not in options:
            owners = ", ".join(repr(other) for other in defaults if name in defaults[other])
            raise ValueError(
                f"{name} is an option of {noun} {owners}, got {name}={value!r} with {noun}={variant!r}: "
                f"leave it out, or change the {noun}; {variant!r} has {', '.join(options)}"
            )
        options[name] = value
    return options
