"""The readings that a run logs: those of its configuration, and the defaults."""

from __future__ import annotations

from pathlib import Path
from pkgutil import resolve_name
from typing import TYPE_CHECKING, Any

from lightning_alrnn import readings
from lightning_alrnn.parsing import read_yaml

if TYPE_CHECKING:
    from lightning_alrnn.readings.base import Reading

_CALLBACK = "ReadingCallback"


def default_callbacks() -> list[dict[str, Any]]:
    """Configuration of the callbacks that log the readings of the package by default."""
    entries: list[dict[str, Any]] = []
    for kind in (type(reading) for reading in readings.READINGS if reading.by_default):
        entries.append({"class_path": f"lightning_alrnn.callbacks.{kind.callback}"})
        if kind.callback == _CALLBACK:
            entries[-1]["init_args"] = {"reading": {"class_path": f"{kind.__module__}.{kind.__qualname__}"}}
    return entries


def configured_callbacks(config: Path) -> list[dict[str, Any]]:
    """Return the entries of a configuration that log a reading of the user.

    Args:
        config: Configuration of a run, such as ``config.yaml`` in its log directory.

    Returns:
        Class path and arguments of each ``ReadingCallback``.

    Raises:
        ValueError: If the file is no such configuration, or a ``ReadingCallback`` in it has no reading.
    """
    content = read_yaml(config)
    trainer = content.get("trainer")
    callbacks = trainer.get("callbacks") if isinstance(trainer, dict) else None
    entries = callbacks if isinstance(callbacks, list) else [callbacks]
    found = [entry for entry in entries if isinstance(entry, dict)]
    found = [entry for entry in found if str(entry.get("class_path", "")).rpartition(".")[2] == _CALLBACK]
    for entry in found:
        reading = entry["init_args"].get("reading") if isinstance(entry.get("init_args"), dict) else None
        if not isinstance(reading, str) and not (isinstance(reading, dict) and "class_path" in reading):
            raise ValueError(f"{config}: {_CALLBACK} needs init_args with a reading, got {entry}")
    return found


def configured_readings(config: Path) -> list[type[Reading]]:
    """Return the classes of the user's own readings in a configuration.

    Args:
        config: Configuration of a run, such as ``config.yaml`` in its log directory.

    Returns:
        Subclasses of :class:`Reading`.

    Raises:
        ValueError: If a reading cannot be imported.
    """
    classes = []
    for entry in configured_callbacks(config):
        reading = entry["init_args"]["reading"]
        name = reading["class_path"] if isinstance(reading, dict) else reading
        if name.startswith("lightning_alrnn."):
            continue
        try:
            classes.append(resolve_name(name))
        except (ImportError, AttributeError) as error:
            raise ValueError(
                f"{config} has the reading {name}, which cannot be imported ({error}): set PYTHONPATH to the folder "
                "of its file"
            ) from error
    return classes
