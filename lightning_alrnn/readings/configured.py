"""The readings of a user's own that a run was configured with."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import Any

import yaml

from lightning_alrnn.readings.base import Reading

_CALLBACK = "ReadingCallback"


def configured_callbacks(config: Path) -> list[dict[str, Any]]:
    """The entries of a configuration that log a reading of the user's own.

    Args:
        config: Configuration of a run, as ``config.yaml`` in its log directory.

    Returns:
        Class path and arguments of each ``ReadingCallback``.
    """
    content = yaml.safe_load(config.read_text(encoding="utf-8")) or {}
    callbacks = (content.get("trainer") or {}).get("callbacks") or []
    entries = callbacks if isinstance(callbacks, list) else [callbacks]
    return [entry for entry in entries if str(entry.get("class_path", "")).rpartition(".")[2] == _CALLBACK]


def configured_readings(config: Path) -> list[type[Reading]]:
    """The classes of these readings.

    Args:
        config: Configuration of a run, as ``config.yaml`` in its log directory.

    Returns:
        Subclasses of :class:`Reading`.

    Raises:
        ValueError: If one of them cannot be imported.
    """
    classes = []
    for entry in configured_callbacks(config):
        reading = entry["init_args"]["reading"]
        name = reading["class_path"] if isinstance(reading, dict) else reading
        try:
            classes.append(resolve_name(name))
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"{config} has the reading {name}, which cannot be imported ({error}): set PYTHONPATH to the folder "
                "of its file"
            ) from error
    return classes
