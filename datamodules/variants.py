"""Options whose default depends on the variant of a task, or that only some variants have."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def variant_options(
    variant: str, defaults: Mapping[str, Mapping[str, Any]], chosen: Mapping[str, Any], what: str = "variant"
) -> dict[str, Any]:
    """Return the options of a variant: the chosen values, and defaults for the others.

    Example:
        >>> defaults = {"fixed": {"delay": 100}, "random": {"delay": 50, "extra": 50}}
        >>> variant_options("random", defaults, {"delay": None, "extra": 5})
        {'delay': 50, 'extra': 5}
    """
    options = dict(defaults[variant])
    for name, value in chosen.items():
        if value is None:
            continue
        if name not in options:
            having = ", ".join(repr(other) for other in defaults if name in defaults[other])
            raise ValueError(
                f"{name} is an option of {what} {having}, got {name}={value!r} with {what}={variant!r}: "
                f"leave it out, or change the {what}; {variant!r} has {', '.join(options)}"
            )
        options[name] = value
    return options
