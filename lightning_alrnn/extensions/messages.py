"""What Lightning prints that no user of the ``alrnn`` command can act on."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager

from lightning_utilities.core import rank_zero

_ADVERTISEMENTS = ("💡 Tip:", "TPU available: False")
_WARNINGS = (
    r"`isinstance\(treespec, LeafSpec\)` is deprecated",  # Lightning calls what newer torch deprecates
    "The dirpath has changed from",  # a run that starts from a checkpoint has its own folder
    "The number of training batches",  # is less than log_every_n_steps, which counts for nothing: epochs are logged
)


@contextmanager
def without_advertisements(*further: str) -> Iterator[None]:
    """Drop Lightning's advertisements, warnings about Lightning's own code, and further ones by how they begin."""
    rank_zero.log.addFilter(_is_no_advertisement)
    try:
        with warnings.catch_warnings():
            for message in (*_WARNINGS, *further):
                warnings.filterwarnings("ignore", message)
            yield
    finally:
        rank_zero.log.removeFilter(_is_no_advertisement)


def _is_no_advertisement(record: logging.LogRecord) -> bool:
    return not record.getMessage().startswith(_ADVERTISEMENTS)
