"""Checks of figures."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lightning_alrnn.plotting.style import render

LONG = [f"{index}: a name that is far too long for $an axis" for index in range(64)]


def check_drawn(*figures: Figure, least: float = 5) -> None:
    """Each figure shows something, and is not too large."""
    for figure in figures:
        image = render(figure)
        assert max(image.shape) < 2200
        assert image.std() > least


def y_of(line: Any) -> Any:
    """Heights of a line's points."""
    return np.asarray(line.get_ydata()).tolist()


def heights(axes: Axes) -> list[float]:
    """Heights of bars."""
    return [bar.get_height() for bar in axes.patches]  # type: ignore[attr-defined]


def texts(artists: Any) -> list[str]:
    """Texts of tick labels, or of the entries of a legend."""
    return [text.get_text() for text in (artists.get_texts() if hasattr(artists, "get_texts") else artists)]
