"""Figures that are made and not drawn, for tests of what makes or names them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from matplotlib.figure import Figure


@contextmanager
def undrawn() -> Iterator[None]:
    """Figures are a black pixel each, also as a decorator of a test: drawing them takes most of the time of a run."""
    with pytest.MonkeyPatch.context() as patch:
        for place in ("callbacks.figures", "plotting.page"):
            patch.setattr(f"lightning_alrnn.{place}.render", lambda figure, dpi=0: np.zeros((1, 1, 3), np.uint8))
        patch.setattr(Figure, "savefig", lambda *arguments, **options: None)
        yield
