"""All readings of the package."""

from importlib import import_module
from pkgutil import iter_modules

from lightning_alrnn import readings
from lightning_alrnn.readings.base import Reading

for _module in iter_modules(readings.__path__):
    import_module(f"{readings.__name__}.{_module.name}")

READINGS: tuple[Reading, ...] = tuple(sorted((kind() for kind in Reading.__subclasses__()), key=lambda one: one.place))
"""Readings of all modules of this package, in the order in which a report and TensorBoard show them."""
