"""What the figures share."""

from __future__ import annotations

from io import BytesIO

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.image import imsave
from numpy.typing import NDArray

# Okabe & Ito's palette: distinct for colour-blind readers
BLUE, ORANGE, GREEN, RED, PURPLE, SKY, GREY = (
    "#0072B2",
    "#E69F00",
    "#009E73",
    "#D55E00",
    "#CC79A7",
    "#56B4E9",
    "#7F7F7F",
)

SERIES_COLOURS = (BLUE, ORANGE, GREEN, RED, PURPLE, SKY, "#F0E442")
"""Of series of a few; a regime has a colour of its own, see :mod:`lightning_alrnn.plotting.regime_colours`."""

STABILITY_STYLE = {  # colour and marker, so that the classes can also be told in grey
    "stable": (GREEN, "o"),
    "saddle": (ORANGE, "D"),
    "unstable": (RED, "^"),
    "marginal": (PURPLE, "s"),
}


def new_figure(width: float, height: float) -> Figure:
    """A figure with a canvas of its own, which no window shows.

    Args:
        width: inches.
        height: inches.

    Returns:
        Empty.
    """
    figure = Figure(figsize=(width, height), layout="constrained")
    FigureCanvasAgg(figure)
    return figure


def tidy(axes: Axes) -> Axes:
    """Leave the two axes lines that carry ticks.

    Args:
        axes: of a plot.

    Returns:
        The same axes.
    """
    axes.spines[["top", "right"]].set_visible(False)
    return axes


def draw_unit_circle(axes: Axes) -> None:
    """Draw the unit circle of the complex plane, and its axes: a mode decays inside it and grows outside.

    Args:
        axes: of a plot.
    """
    angle = np.linspace(0, 2 * np.pi, 361)
    axes.plot(np.cos(angle), np.sin(angle), color=GREY, linewidth=0.8)
    axes.axhline(0, color=GREY, linewidth=0.4)
    axes.axvline(0, color=GREY, linewidth=0.4)
    axes.set_aspect("equal", adjustable="box")
    axes.set_xlabel("Re λ")
    tidy(axes)


def render(figure: Figure, dpi: int = 110) -> NDArray[np.uint8]:
    """Draw a figure.

    Args:
        figure: the figure.
        dpi: pixels per inch.

    Returns:
        RGB from 0 to 255, shape ``(height, width, 3)`` in pixels.
    """
    canvas = FigureCanvasAgg(figure)
    figure.set_dpi(dpi)
    canvas.draw()  # type: ignore[no-untyped-call]
    image: NDArray[np.uint8] = np.asarray(canvas.buffer_rgba())  # type: ignore[no-untyped-call]
    return image[..., :3].copy()


def encode_png(image: NDArray[np.uint8]) -> bytes:
    """An image as a PNG file.

    Args:
        image: RGB from 0 to 255, shape ``(height, width, 3)``.

    Returns:
        The file's bytes.
    """
    buffer = BytesIO()
    imsave(buffer, image, format="png")
    return buffer.getvalue()
