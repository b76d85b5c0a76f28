"""Colours and helpers that the figures share."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

# Okabe & Ito's palette: distinct for colour-blind readers
BLUE, ORANGE, GREEN, RED, PURPLE = "#0072B2", "#E69F00", "#009E73", "#D55E00", "#CC79A7"
SKY, YELLOW, GREY = "#56B4E9", "#F0E442", "#7F7F7F"

SERIES_COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, YELLOW)
"""Colours of a few series; for regimes see :func:`lightning_alrnn.plotting.palette.regime_colours`."""

STABILITY_STYLE = {  # colour and marker, so that the classes can also be told in grey
    "stable": (GREEN, "o"),
    "saddle": (ORANGE, "D"),
    "unstable": (RED, "^"),
    "marginal": (PURPLE, "s"),
}


def new_figure(width: float, height: float) -> Figure:
    """An empty figure of a size in inches, with a canvas that no window shows."""
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> Axes:
    """Hide the top and right spines; returns the same axes."""
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def legend_beside(axes: Axes, **options: Any) -> None:
    """Draw the legend to the right of the axes."""
    axes.legend(frameon=False, fontsize=8, title_fontsize=8, loc="upper left", bbox_to_anchor=(1, 1), **options)


def write_in_middle(axes: Axes, text: str) -> None:
    """Write why there is nothing to draw."""
    axes.text(0.5, 0.5, text, ha="center", transform=axes.transAxes, color=GREY)


def plain(text: str) -> str:
    """Text that matplotlib does not read as a formula."""
    return text.replace("$", r"\$")


def shorten(text: str, most: int) -> str:
    """Plain text of at most so many characters."""
    return plain(text if len(text) <= most else text[: most - 1] + "…")


def counted(count: int, noun: str) -> str:
    """A number of things, such as "1 fixed point" or "2 fixed points"."""
    return f"{count} {noun}{'' if count == 1 else 's'}"


def draw_unit_circle(axes: Axes) -> None:
    """Draw the unit circle of the complex plane: a mode decays inside it and grows outside."""
    angle = np.linspace(0, 2 * np.pi, 361)
    axes.plot(np.cos(angle), np.sin(angle), color=GREY, linewidth=0.8)
    axes.axhline(0, color=GREY, linewidth=0.4)
    axes.axvline(0, color=GREY, linewidth=0.4)
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel("Re λ")
    tidy(axes)


def render(figure: Figure, dpi: int = 110) -> NDArray[np.uint8]:
    """Draw a figure as RGB values from 0 to 255, shape ``(height, width, 3)`` in pixels."""
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()  # type: ignore[no-untyped-call]
    image: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return image[..., :3].copy()


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """Encode an image of shape ``(height, width, 3)`` as a PNG file."""
    buffer = BytesIO()
    imsave(buffer, image, format="png")
    return buffer.getvalue()
